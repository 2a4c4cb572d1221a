//! Comparison with another compile: `state:`, `result:` and `lake diff`.

use std::collections::BTreeSet;

use crate::sandbox::Sandbox;

const SOURCES: &str = "\
sources:
  - name: raw
    root: in
    tables:
      - name: orders
        path: orders/
        format: csv
        columns:
          - { name: id, data_type: bigint }
          - { name: customer, data_type: varchar }
          - { name: amount, data_type: double }
          - { name: state, data_type: varchar }
";

const PROPERTIES: &str = "\
models:
  - name: orders
    description: One row for each order.
    columns:
      - { name: id, data_type: bigint, data_tests: [not_null] }
      - { name: customer, data_type: varchar }
      - { name: amount, data_type: double }
      - { name: state, data_type: varchar }
";

const ORDERS: &str = "select id, customer, {{ cents('amount') }} as amount, state from {{ source('raw', 'orders') }}\n";
const SUMS: &str = "select customer, sum(amount) as total, count(*) as n from {{ ref('orders') }} \
    where state = '{{ var('state', 'paid') }}' group by customer\n";

/// `raw.orders` -> `silver.orders` -> `gold.sums` -> `gold.top` -> `exposure.weekly`, compiled, with the artifacts of
/// that compile in `before/`.
fn project() -> Sandbox {
    let sandbox = Sandbox::new(&[
        (
            "project.yml",
            "name: sandbox\ntarget: dev\ntargets:\n  dev: { root: lake }\n  prod: { root: prod }\nvars: { least: 10, idle: 1 }\n",
        ),
        ("sources.yml", SOURCES),
        (
            "macros/cents.sql",
            "{% macro cents(column) %}round({{ column }}, 2){% endmacro %}\n{% macro idle() %}1{% endmacro %}\n",
        ),
        ("models/silver/orders.sql", ORDERS),
        ("models/silver/orders.yml", PROPERTIES),
        ("models/gold/sums.sql", SUMS),
        (
            "models/gold/top.sql",
            "{{ config(materialized='table') }}\nselect customer from {{ ref('sums') }} where total > {{ var('least') }}\n",
        ),
        (
            "models/gold/e.yml",
            "exposures:\n  - { name: weekly, type: dashboard, owner: { name: Ada }, depends_on: [ref('top')] }\n",
        ),
    ]);
    sandbox.ok(&["compile"]);
    std::fs::rename(sandbox.path(".lake"), sandbox.path("before")).unwrap();
    sandbox
}

/// What a selector lists against `before/`, tests with a prefix.
#[track_caller]
fn listed(sandbox: &Sandbox, selector: &str) -> BTreeSet<String> {
    let text = sandbox.ok(&["ls", "--select", selector, "--state", "before"]);
    text.lines().map(str::to_owned).collect()
}

#[track_caller]
fn assert_listed(sandbox: &Sandbox, selector: &str, expected: &str) {
    let expected: BTreeSet<String> = expected.split_whitespace().map(str::to_owned).collect();
    assert_eq!(listed(sandbox, selector), expected, "{selector}");
}

#[track_caller]
fn assert_unchanged(sandbox: &Sandbox) {
    assert_listed(sandbox, "state:modified", "");
    assert_eq!(sandbox.ok(&["diff", "--state", "before"]), "nothing changed\n");
}

#[test]
fn comments_layout_and_what_nothing_uses_are_no_change() {
    let sandbox = project();
    assert_unchanged(&sandbox);
    sandbox.write(
        "models/silver/orders.sql",
        format!("-- note\n{}", ORDERS.replace(", ", ",\n    ").replace("select", "SELECT")),
    );
    sandbox.write(
        "macros/cents.sql",
        "{# why #}\n{% macro cents(column) -%}\n  -- cents\n  round({{ column }}, 2) /* so */\n{%- endmacro %}\n{% macro idle() %}2{% endmacro %}\n",
    );
    sandbox.write("models/silver/orders.yml", PROPERTIES.replace("One row", "A row"));
    let tagged = "{{ config(materialized='table', tags=['x'], meta={'a': 1}) }}\n";
    sandbox.write(
        "models/gold/top.sql",
        format!("{tagged}select customer from {{{{ ref('sums') }}}} where total > {{{{ var('least') }}}}\n"),
    );
    assert_unchanged(&sandbox);
    assert_listed(&sandbox, "state:modified.persisted_descriptions", "silver.orders test:not_null_orders_id");
    let other_var = ["ls", "--select", "state:modified", "--state", "before", "--vars", "{idle: 7}"];
    assert_eq!(sandbox.ok(&other_var), "");
    // Another target is another place, not another project.
    assert_eq!(sandbox.ok(&["diff", "--state", "before", "--target", "prod"]), "nothing changed\n");
}

#[test]
fn each_aspect_is_a_change_of_its_own() {
    let sandbox = project();
    sandbox.write("models/gold/sums.sql", SUMS.replace("sum(", "max("));
    assert_listed(&sandbox, "state:modified", "gold.sums");
    assert_listed(&sandbox, "state:modified.body", "gold.sums");
    assert_listed(&sandbox, "state:modified.config", "");
    assert_listed(&sandbox, "state:modified+", "gold.sums gold.top exposure:weekly");
    assert_listed(&sandbox, "state:unmodified,resource_type:model", "silver.orders gold.top test:not_null_orders_id");

    let sandbox = project();
    sandbox.write("models/gold/top.sql", "select customer from {{ ref('sums') }} where total > {{ var('least') }}\n");
    assert_listed(&sandbox, "state:modified", "gold.top");
    assert_listed(&sandbox, "state:modified.config", "gold.top");
    assert_listed(&sandbox, "state:modified.configs", "gold.top");
    assert_listed(&sandbox, "state:modified.body", "");

    let sandbox = project();
    sandbox.write("macros/cents.sql", "{% macro cents(column) %}round({{ column }}, 3){% endmacro %}\n");
    assert_listed(&sandbox, "state:modified.macros", "silver.orders test:not_null_orders_id");

    let sandbox = project();
    sandbox.write(
        "models/silver/orders.yml",
        PROPERTIES.replace("- name: orders", "- name: orders\n    config: { contract: { enforced: true } }"),
    );
    assert_listed(&sandbox, "state:modified.contract", "silver.orders test:not_null_orders_id");

    let sandbox = project();
    sandbox.write("sources.yml", SOURCES.replace("amount, data_type: double", "amount, data_type: float"));
    sandbox.write(
        "models/silver/orders.yml",
        "models: [{ name: orders, columns: [{ name: id, data_tests: [not_null] }] }]",
    );
    assert_listed(&sandbox, "state:modified", "source:raw.orders");

    let sandbox = project();
    let vars = ["ls", "--select", "state:modified.vars", "--state", "before", "--vars", "{least: 11}"];
    assert_eq!(sandbox.ok(&vars), "gold.top\n");
}

#[test]
fn new_and_old_nodes_and_tests_are_told_apart() {
    let sandbox = project();
    sandbox.write("models/gold/more.sql", "select id from {{ ref('orders') }}");
    sandbox
        .write("models/silver/orders.yml", PROPERTIES.replace("[not_null]", "[unique, not_null: { severity: warn }]"));
    assert_listed(&sandbox, "state:new", "gold.more test:unique_orders_id");
    assert_listed(&sandbox, "state:modified", "gold.more test:unique_orders_id test:not_null_orders_id");
    assert_listed(&sandbox, "state:old,resource_type:exposure", "exposure:weekly");
}

#[test]
fn a_model_that_moves_to_another_layer_is_another_relation() {
    let sandbox = project();
    std::fs::create_dir(sandbox.path("models/marts")).unwrap();
    std::fs::rename(sandbox.path("models/gold/top.sql"), sandbox.path("models/marts/top.sql")).unwrap();
    assert_listed(&sandbox, "state:modified", "marts.top");
    assert_listed(&sandbox, "state:modified.relation", "marts.top");
    assert_listed(&sandbox, "state:new", "");
    assert!(sandbox.ok(&["diff", "--state", "before"]).contains("breaking  marts.top  was gold.top"));
}

#[test]
fn a_state_that_cannot_be_compared_says_what_to_do() {
    let sandbox = project();
    let modified = ["ls", "--select", "state:modified"];
    sandbox.lake(&modified).assert_failed(2, "no --state was given");
    let with = |folder| sandbox.lake(&[&modified[..], &["--state", folder]].concat());
    with("nowhere").assert_failed(2, "`nowhere/manifest.json` does not exist");
    std::fs::create_dir_all(sandbox.path("other/.lake")).unwrap();
    sandbox.write("other/.lake/manifest.json", "{}");
    with("other").assert_failed(2, "name that folder");
    with("other/.lake").assert_failed(2, "no manifest of lake, or one of an older version");
    sandbox.write("other/manifest.json", "{\"metadata\": {\"manifest_version\": 1, \"lake_version\": \"0.0\"}}");
    with("other").assert_failed(2, "has version 1 and this lake reads version 2: lake 0.0 wrote it");
    let newer = "{\"metadata\": {\"env\": {\"lake_manifest\": \"99\", \"lake_version\": \"9.9\"}}}";
    sandbox.write("other/manifest.json", newer);
    with("other").assert_failed(2, "has version 99 and this lake reads version 2: lake 9.9 wrote it");
    sandbox.write("other/manifest.json", "{\"metadata\": {\"dbt_version\": \"1.11.0\"}, \"nodes\": {}}");
    with("other").assert_failed(2, "no manifest of lake");
    sandbox.write("other/manifest.json", "not json");
    with("other").assert_failed(2, "is not what lake writes");
    sandbox.lake(&["diff"]).assert_failed(2, "no --state was given");
    sandbox.lake(&["build", "--deny", "breaking"]).assert_failed(2, "`lake diff`");
    let by_variable = sandbox.command(&modified).env("LAKE_STATE", "before").output().unwrap();
    assert!(by_variable.status.success() && by_variable.stdout.is_empty());
}

#[test]
fn results_of_an_older_run_select_what_failed() {
    let sandbox = project();
    sandbox.lake(&["ls", "--select", "result:error"]).assert_failed(2, "run_results.json` does not exist");
    sandbox.write("in/orders/a.csv", "id,customer,amount,state\n,a,20,paid\n2,b,30,paid\n");
    sandbox.write("models/silver/orders.sql", format!("{{{{ config(materialized='table') }}}}{ORDERS}"));
    assert_eq!(sandbox.lake(&["build"]).code, 1);
    let listed = |selector: &str| sandbox.ok(&["ls", "--select", selector]);
    assert_eq!(listed("result:error"), "silver.orders\ntest:not_null_orders_id\n");
    assert_eq!(listed("result:fail"), "test:not_null_orders_id\n");
    assert_eq!(
        listed("result:skipped --exclude-resource-type test".split(' ').next().unwrap()),
        "gold.sums\ngold.top\n"
    );
    assert_eq!(listed("result:success"), "");
    sandbox.write("in/orders/a.csv", "id,customer,amount,state\n1,a,20,paid\n2,b,30,paid\n");
    let report = sandbox.json(&["build", "--select", "result:error+", "result:fail"]);
    assert_eq!(report["nodes"].as_array().unwrap().len(), 3, "{report}");
    assert_eq!(
        listed("result:success,config.materialized:table"),
        "silver.orders\ngold.top\ntest:not_null_orders_id\n"
    );
    assert_eq!(listed("result:pass"), "test:not_null_orders_id\n");
}

#[test]
fn sources_with_newer_data_than_before_are_fresher() {
    let sandbox = project();
    let fresh = "        freshness: { warn_after: { count: 1, period: day } }\n";
    let table = "      - { name: TABLE, path: TABLE/, format: csv, freshness: { warn_after: { count: 1, period: day } }, columns: [{ name: id, data_type: bigint }] }\n";
    let sources = SOURCES.replace("        columns:\n", &format!("{fresh}        columns:\n"));
    let all = ["late", "still"].map(|name| table.replace("TABLE", name)).concat();
    sandbox.write("sources.yml", format!("{sources}{all}"));
    sandbox.write("models/gold/still.sql", "select id from {{ source('raw', 'still') }}");
    sandbox.write("in/orders/a.csv", "id,customer,amount,state\n1,a,20,paid\n");
    sandbox.write("in/still/a.csv", "id\n1\n");
    let listed = || sandbox.ok(&["ls", "--select", "source_status:fresher+", "--state", "before"]);
    let select = ["ls", "--select", "source_status:fresher", "--state", "before"];
    sandbox.lake(&select).assert_failed(2, "`before/sources.json` does not exist");
    sandbox.lake(&["source", "freshness", "--select", "source:raw.orders", "source:raw.still"]);
    std::fs::copy(sandbox.path(".lake/sources.json"), sandbox.path("before/sources.json")).unwrap();
    assert_eq!(listed(), "");
    sandbox.write("in/orders/b.csv", "id,customer,amount,state\n2,a,20,paid\n");
    sandbox.write("in/late/a.csv", "id\n1\n");
    assert_eq!(listed(), "", "it compares two looks, and takes none");
    sandbox.ok(&["source", "freshness"]);
    let expected = [
        "source:raw.orders",
        "silver.orders",
        "gold.sums",
        "gold.top",
        "exposure:weekly",
        "source:raw.late",
        "test:not_null_orders_id",
        "",
    ];
    assert_eq!(listed(), expected.join("\n"));
    std::fs::remove_file(sandbox.path(".lake/sources.json")).unwrap();
    sandbox.lake(&select).assert_failed(2, "`lake source freshness` writes it to .lake/");
    sandbox.write("before/sources.json", "{}");
    sandbox.lake(&select).assert_failed(2, "is not what lake writes");
}

#[test]
fn only_what_changed_is_built() {
    let sandbox = project();
    sandbox.write("in/orders/a.csv", "id,customer,amount,state\n1,a,20,paid\n");
    sandbox.ok(&["build"]);
    sandbox.write(
        "models/gold/top.sql",
        "{{ config(materialized='table') }}\nselect customer, total from {{ ref('sums') }}",
    );
    let report = sandbox.json(&["build", "--select", "state:modified+", "--state", "before"]);
    let names: Vec<&str> =
        report["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["gold.top"]);
}

/// What a person sees after these files were written.
fn diff(files: &[(&str, &str)]) -> String {
    let sandbox = project();
    files.iter().for_each(|(path, text)| sandbox.write(path, text));
    sandbox.ok(&["diff", "--state", "before"])
}

macro_rules! shows {
    ($name:ident, $($path:literal => $text:expr),+ $(,)?) => {
        #[test]
        fn $name() {
            let output = diff(&[$(($path, $text)),+]);
            crate::sandbox::snapshots().bind(|| insta::assert_snapshot!(concat!("diff@", stringify!($name)), output));
        }
    };
}

shows!(a_column_that_is_read_goes,
    "models/silver/orders.sql" => "select id, customer, round(amount, 2) as amount from {{ source('raw', 'orders') }}",
    "models/silver/orders.yml" => "models: [{ name: orders, columns: [{ name: id, data_tests: [unique] }] }]",
    "models/gold/sums.sql" => "select customer, sum(amount) as total, count(*) as n from {{ ref('orders') }} group by customer");
shows!(a_column_that_is_read_gets_another_type,
    "models/silver/orders.sql" => "select id, customer, cast(amount as bigint) as amount, state from {{ source('raw', 'orders') }}",
    "models/silver/orders.yml" => "models: [{ name: orders, columns: [{ name: id, data_tests: [not_null] }] }]");
shows!(a_column_that_nothing_reads_goes,
    "models/gold/sums.sql" => SUMS.replace(", count(*) as n", "").as_str());
shows!(columns_are_added,
    "models/gold/sums.sql" => SUMS.replace("count(*) as n", "count(*) as n, min(amount) as least").as_str());
shows!(values_change_column_by_column,
    "models/silver/orders.sql" => ORDERS.replace("customer,", "upper(customer) as customer,").as_str());
shows!(rows_change, "models/gold/sums.sql" => SUMS.replace("group by", "and id > 0 group by").as_str());
shows!(other_words_of_the_same_meaning,
    "models/gold/sums.sql" => "with o as (select * from {{ ref('orders') }} as x)\nselect o.customer, SUM(o.amount) as total, count(*) as n from o where o.state = 'paid' group by 1");
shows!(a_column_may_be_null_now,
    "models/gold/sums.sql" => SUMS.replace("count(*) as n", "nullif(count(*), 0) as n").as_str(),
    "models/gold/top.sql" => "{{ config(materialized='table') }}\nselect customer from {{ ref('sums') }} where total > {{ var('least') }} and n > 1\n");
shows!(a_source_changes,
    "sources.yml" => SOURCES.replace("- { name: state, data_type: varchar }", "- { name: state, data_type: int }\n          - { name: note, data_type: varchar }").as_str(),
    "models/silver/orders.yml" => "models: [{ name: orders, columns: [{ name: id, data_tests: [not_null] }] }]",
    "models/gold/sums.sql" => SUMS.replace("'{{ var('state', 'paid') }}'", "1").as_str());
shows!(settings_change,
    "models/gold/top.sql" => "{{ config(materialized='incremental', unique_key='customer') }}\nselect customer from {{ ref('sums') }} where total > {{ var('least') }}\n");

#[test]
fn models_that_come_and_go_are_named() {
    let sandbox = project();
    sandbox.write("models/gold/more.sql", "select id, amount from {{ ref('orders') }}");
    std::fs::remove_file(sandbox.path("models/gold/sums.sql")).unwrap();
    sandbox.write("models/gold/top.sql", "{{ config(materialized='table') }} select customer from {{ ref('orders') }}");
    let text = sandbox.ok(&["diff", "--state", "before"]);
    assert!(text.contains("new  gold.more  2 columns"), "{text}");
    assert!(text.contains("removed  gold.sums  3 columns, was read by gold.top"), "{text}");
    assert!(text.contains("customer  copied from gold.sums.customer  removed"), "{text}");
    sandbox.lake(&["diff", "--state", "before", "--deny", "breaking"]).assert_failed(1, "1 removed");
    let one = sandbox.ok(&["diff", "--state", "before", "--select", "gold.more"]);
    assert_eq!(one, "new  gold.more  2 columns\n\n1 new\n");
}

#[test]
fn a_broken_contract_breaks_and_fails_who_asks() {
    let contract = PROPERTIES.replace("- name: orders", "- name: orders\n    config: { contract: { enforced: true } }");
    let sandbox = project();
    sandbox.write("models/silver/orders.yml", &contract);
    sandbox.ok(&["compile"]);
    sandbox.write("models/silver/orders.yml", contract.replace("      - { name: customer, data_type: varchar }\n", ""));
    sandbox.write("models/silver/orders.sql", ORDERS.replace("customer, ", ""));
    sandbox.write("models/gold/sums.sql", SUMS.replace("customer", "id").replace("select id", "select id as customer"));
    let run = sandbox.lake(&["diff", "--state", ".lake", "--deny", "breaking"]);
    run.assert_failed(1, "contract  broken");
    run.assert_failed(1, "it promised customer");
    let json = sandbox.json(&["diff", "--state", ".lake"]);
    let orders = json["models"].as_array().unwrap().iter().find(|model| model["name"] == "silver.orders").unwrap();
    assert_eq!((&orders["class"], &orders["contract"]), (&"breaking".into(), &"it promised customer".into()), "{json}");
}

#[test]
fn programs_read_a_diff_as_json() {
    let sandbox = project();
    sandbox.write("models/silver/orders.sql", ORDERS.replace("state from", "upper(state) as state from"));
    let json = sandbox.json(&["diff", "--state", "before"]);
    let change = &json["models"][0];
    assert_eq!((&change["name"], &change["class"]), (&"silver.orders".into(), &"logic".into()), "{json}");
    assert_eq!(
        change["columns"],
        serde_json::json!([{"column": "state", "change": "values", "read_by": ["gold.sums"]}])
    );
    let affected = &json["downstream"][0];
    assert_eq!(affected["name"], "gold.sums");
    assert_eq!(
        (&affected["reads"][0]["use"], &affected["reads"][0]["column"]["column"]),
        (&"filter".into(), &"state".into())
    );
    let names: Vec<&str> = json["downstream"].as_array().unwrap().iter().map(|a| a["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["gold.sums", "gold.top", "exposure.weekly"]);
}
