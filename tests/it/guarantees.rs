//! Promises that are easy to break: nothing twice, nothing lost, nothing untested, no skip in doubt.

use serde_json::Value;

use crate::sandbox::{Sandbox, node};

const SOURCES: &str = "\
sources:
  - name: raw
    tables:
      - name: items
        path: in/items/
        format: csv
        columns:
          - { name: id, data_type: bigint }
          - { name: value, data_type: varchar }
";

/// A project over one source with three rows.
fn project(files: &[(&str, &str)]) -> Sandbox {
    let sandbox = Sandbox::new(&[("sources.yml", SOURCES), ("in/items/1.csv", "id,value\n1,a\n2,b\n3,c\n")]);
    files.iter().for_each(|(path, text)| sandbox.write(path, text));
    sandbox
}

const ITEMS: (&str, &str) = (
    "models/silver/items.sql",
    "{{ config(materialized='incremental') }} select id, value from {{ source('raw', 'items') }}",
);

#[track_caller]
fn count(sandbox: &Sandbox, model: &str) -> serde_json::Value {
    sandbox.value(&format!("select count(*) as n from {{{{ ref('{model}') }}}}"))
}

#[test]
fn a_table_over_a_view_that_asks_for_the_time_is_built_again() {
    let sandbox = project(&[
        ITEMS,
        ("models/silver/clock.sql", "select id, now() as t from {{ ref('items') }}"),
        ("models/gold/g.sql", "{{ config(materialized='table') }} select max(t) as t from {{ ref('clock') }}"),
    ]);
    sandbox.ok(&["build"]);
    let again = sandbox.json(&["build"]);
    assert_eq!(node(&again, "gold.g")["status"], "success", "{again}");
}

#[test]
fn a_variable_of_a_template_that_shows_the_clock_still_counts() {
    let sql = "{{ config(materialized='incremental', unique_key='id') }} select id, '{{ run_started_at }}' as t, \
               {{ var('x', 1) }} as x from {{ ref('items') }}";
    let sandbox = project(&[ITEMS, ("models/gold/g.sql", sql)]);
    sandbox.ok(&["build"]);
    let report = sandbox.json(&["build", "--vars", "{x: 5}"]);
    assert_eq!(node(&report, "gold.g")["reason"], "its definition changed: variable x");
    assert_eq!(sandbox.value("select max(x) as x from {{ ref('g') }}"), 5);
}

#[test]
fn the_id_of_the_run_makes_no_model_look_changed() {
    let sql = "{{ config(materialized='incremental', unique_key='id') }} \
               select id, '{{ invocation_id }}' as run from {{ source('raw', 'items') }}";
    let sandbox = project(&[("models/silver/items.sql", sql)]);
    sandbox.ok(&["build"]);
    let report = sandbox.json(&["build"]);
    assert_eq!(node(&report, "silver.items")["reason"], "no new files in raw.items");
}

#[test]
fn an_append_over_a_table_adds_nothing_because_its_text_changed() {
    let model = |column: &str| {
        format!("{{{{ config(materialized='incremental') }}}} select {column} from {{{{ ref('items') }}}}")
    };
    let sandbox = project(&[ITEMS, ("models/gold/g.sql", &model("id"))]);
    sandbox.ok(&["build"]);
    sandbox.write("models/gold/g.sql", model("cast(id as bigint) as id"));
    let report = sandbox.json(&["build"]);
    assert_eq!(node(&report, "gold.g")["status"], "skipped");
    assert!(node(&report, "gold.g")["reason"].as_str().unwrap().contains("--full-refresh"), "{report}");
    assert_eq!(count(&sandbox, "g"), 3);
    sandbox.ok(&["build", "--full-refresh"]);
    assert_eq!(count(&sandbox, "g"), 3);
}

#[test]
fn an_append_that_reads_a_source_through_a_view_is_refused() {
    let sandbox = project(&[
        ("models/silver/staged.sql", "select id, value from {{ source('raw', 'items') }}"),
        ("models/gold/g.sql", "{{ config(materialized='incremental') }}\nselect id from {{ ref('staged') }}"),
    ]);
    let run = sandbox.lake(&["build"]);
    run.assert_failed(2, "appends, and reads all of `raw.items` through the view `silver.staged`");
    run.assert_failed(2, "models/gold/g.sql:2:23");
}

#[test]
fn a_source_that_moves_or_takes_another_name_is_not_taken_in_again() {
    let sandbox = project(&[ITEMS]);
    sandbox.ok(&["build"]);
    sandbox.write("in/all/items/1.csv", "id,value\n1,a\n2,b\n3,c\n");
    sandbox.write("sources.yml", SOURCES.replace("in/items/", "in/all/**/*.csv"));
    sandbox.lake(&["build"]).assert_failed(1, "were taken in from `in/items` and are now looked for in `in/all`");

    sandbox.write("sources.yml", SOURCES.replace("name: raw", "name: inbox"));
    sandbox.write("models/silver/items.sql", ITEMS.1.replace("'raw'", "'inbox'"));
    sandbox.lake(&["build"]).assert_failed(1, "`inbox.items` takes the place of `raw.items`");
    assert_eq!(count(&sandbox, "items"), 3);
    sandbox.ok(&["build", "--full-refresh"]);
    assert_eq!(count(&sandbox, "items"), 3);
}

#[test]
fn a_table_keeps_its_partitions_until_it_is_rebuilt() {
    let model = |partition: &str| {
        ITEMS.1.replace("materialized='incremental'", &format!("materialized='incremental'{partition}"))
    };
    let sandbox = project(&[ITEMS]);
    sandbox.ok(&["build"]);
    sandbox.write("models/silver/items.sql", model(", partition_by='value'"));
    sandbox.write("in/items/2.csv", "id,value\n4,d\n");
    sandbox.lake(&["build"]).assert_failed(1, "rebuild `silver.items` with --full-refresh");
    sandbox.ok(&["build", "--full-refresh"]);
    assert_eq!(sandbox.value("select count(value) as n from {{ ref('items') }}"), 4);
}

#[test]
fn partitions_may_have_any_value() {
    let sql = "{{ config(materialized='incremental', unique_key='id', partition_by='value') }} \
               select id, value from {{ source('raw', 'items') }}";
    let tests = "models:\n  - name: items\n    columns:\n      - name: id\n        data_tests: [unique, not_null]\n";
    let sandbox = project(&[("models/silver/items.sql", sql), ("models/silver/items.yml", tests)]);
    let odd = ["a b", "a/b", "x:y", "50%", "ü–ß", "{z}*", "it's", "\"\"q\"\"", ""];
    let file = |first: usize| {
        let rows = odd.iter().enumerate().map(|(at, value)| format!("{},\"{value}\"\n", first + at));
        "id,value\n".to_owned() + &rows.collect::<String>()
    };
    sandbox.write("in/items/1.csv", file(1));
    sandbox.ok(&["build"]);
    let values = || sandbox.query("select id, value from {{ ref('items') }} order by id");
    let first = values();
    assert_eq!((first.len(), &first[1]["value"], &first[3]["value"]), (odd.len(), &"a/b".into(), &"50%".into()));
    // The same keys again: every file is found, rewritten and read back.
    sandbox.write("in/items/2.csv", file(1));
    sandbox.ok(&["build"]);
    assert_eq!(values(), first);
    sandbox.write("in/items/3.csv", file(100));
    sandbox.ok(&["build"]);
    assert_eq!(values().len(), 2 * odd.len());
}

#[test]
fn no_test_takes_the_name_of_another() {
    let tests = "models:\n  - name: items\n    columns:\n      - name: line\n        data_tests:\n\
                 \x20         - not_null: { where: id > 0 }\n          - not_null\n      - name: line_2\n\
                 \x20       data_tests: [not_null]\n";
    let sql = "{{ config(materialized='table') }} select id, cast(null as int) as line, id as line_2 \
               from {{ source('raw', 'items') }}";
    let sandbox = project(&[("models/silver/items.sql", sql), ("models/silver/items.yml", tests)]);
    let report = sandbox.json(&["build"]);
    assert_eq!(node(&report, "silver.items")["tests"].as_array().unwrap().len(), 3);
    assert_eq!(node(&report, "silver.items")["status"], "error");
}

#[test]
fn a_test_runs_again_when_a_view_or_a_file_that_it_reads_changed() {
    let tests = "models:\n  - name: items\n    columns:\n      - name: id\n        data_tests:\n\
                 \x20         - relationships: { to: ref('known'), field: id }\n";
    let sandbox = project(&[
        ITEMS,
        ("models/silver/items.yml", tests),
        ("models/silver/known.sql", "select id from (values (1), (2), (3)) as t(id)"),
    ]);
    sandbox.ok(&["build"]);
    sandbox.write("models/silver/known.sql", "select id from (values (1), (2)) as t(id)");
    sandbox.lake(&["build"]).assert_failed(1, "1 of 1 test failed");
}

#[test]
fn excluded_tests_do_not_run() {
    let tests = "models:\n  - name: items\n    columns:\n      - name: id\n        data_tests: [unique, not_null]\n";
    let sandbox = project(&[ITEMS, ("models/silver/items.yml", tests)]);
    let names = |args: &[&str]| -> Vec<String> {
        let report = sandbox.json(args);
        let tests = report["nodes"].as_array().unwrap().iter().flat_map(|n| n["tests"].as_array().unwrap().clone());
        let loose = report["tests"].as_array().unwrap().clone();
        tests.chain(loose).map(|test| test["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&["build", "--exclude", "unique_items_id"]), ["not_null_items_id"]);
    assert_eq!(names(&["test", "--select", "items", "--exclude", "test_name:not_null"]), ["unique_items_id"]);
}

#[test]
fn a_test_of_a_model_outside_the_run_reports_and_does_not_gate() {
    let tests = "models:\n  - name: items\n    columns:\n      - name: id\n        data_tests:\n\
                 \x20         - relationships: { to: ref('known'), field: id }\n";
    let known = "{{ config(materialized='table') }} select id from (values (1), (2)) as t(id)";
    let sandbox = project(&[ITEMS, ("models/silver/items.yml", tests), ("models/silver/known.sql", known)]);
    sandbox.ok(&["run"]);
    sandbox.write("models/silver/known.sql", known.replace("(2)", "(7)"));
    let report = sandbox.json(&["build", "--select", "known"]);
    assert_eq!(node(&report, "silver.known")["status"], "success");
    assert_eq!(report["tests"][0]["status"], "fail");
}

#[test]
fn a_test_of_two_layers_waits_for_the_lower_one() {
    let sandbox = project(&[
        ITEMS,
        ("models/silver/seen.sql", "select id from {{ ref('items') }}"),
        ("models/gold/total.sql", "{{ config(materialized='table') }} select count(*) as n from {{ ref('seen') }}"),
        ("models/gold/shown.sql", "select n from {{ ref('total') }}"),
        (
            "tests/none_is_lost.sql",
            "select 1 from (select count(*) as n from {{ ref('items') }}) as a cross join {{ ref('shown') }} as b where a.n <> b.n",
        ),
        // Of what stands beside the model, there is nothing to wait for.
        ("tests/some.sql", "select 1 from (select count(*) as n from {{ ref('seen') }}) as a where a.n = 0"),
    ]);
    let tests = |run: &Value| -> Vec<String> {
        let nodes = run["nodes"].as_array().unwrap().iter().flat_map(|node| node["tests"].as_array().unwrap());
        let all = nodes.chain(run["tests"].as_array().unwrap());
        let mut names: Vec<String> = all.map(|test| test["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    // Nothing of gold is there yet, and later it is older than what is new in silver.
    for file in ["in/items/1.csv", "in/items/2.csv"] {
        sandbox.write(file, "id,value\n1,a\n");
        let text = sandbox.lake(&["build", "--select", "items", "seen"]);
        assert_eq!(text.code, 0, "{text:?}");
        let told = "test none_is_lost waits until `gold.total` is built, too: it is made of what this run builds";
        assert!(text.stderr.contains(told), "{text:?}");
        assert_eq!(tests(&sandbox.json(&["build", "--select", "+seen", "--force"])), ["some"]);
        // Whoever names it gets it. It says what is, and stops nothing.
        let named = sandbox.json(&["build", "--select", "items", "none_is_lost"]);
        assert_ne!(node(&named, "silver.items")["status"], "error", "{named}");
        assert_eq!(tests(&named), ["none_is_lost"]);
        assert_eq!(tests(&sandbox.json(&["build", "--select", "total", "shown"])), ["none_is_lost"]);
    }
}

#[test]
fn comments_at_the_end_of_sql_swallow_nothing() {
    let sql = "{{ config(materialized='incremental', unique_key='id', sequence_by='value') }} \
               select id, value from {{ source('raw', 'items') }}; -- the end";
    let sandbox = project(&[
        ("models/silver/items.sql", sql),
        ("tests/t.sql", "select * from {{ ref('items') }} where id < 0; -- none"),
    ]);
    let report = sandbox.json(&["build"]);
    assert_eq!(node(&report, "silver.items")["tests"][0]["status"], "pass", "{report}");
}

#[test]
fn sql_of_thousands_of_terms_is_planned() {
    let terms: Vec<String> = (0..1500).map(|n| format!("id = {n}")).collect();
    let sql = format!("select id from {{{{ source('raw', 'items') }}}} where {}", terms.join(" or "));
    let sandbox = project(&[("models/silver/items.sql", &sql)]);
    sandbox.ok(&["build"]);
    assert_eq!(count(&sandbox, "items"), 3);
}
