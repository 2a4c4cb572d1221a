//! Types on their way through SQL, and the contracts that hold them.

use crate::sandbox::{Run, Sandbox, node};

const SOURCES: &str = "\
sources:
  - name: bronze
    tables:
      - name: orders
        path: bronze/orders/
        format: json
        columns:
          - { name: id, data_type: bigint }
          - { name: amount, data_type: 'decimal(10, 2)' }
          - { name: at, data_type: timestamp with time zone }
          - { name: day, data_type: date }
          - { name: tags, data_type: 'varchar[]' }
          - { name: address, data_type: 'struct<city varchar, zip int>' }
";

/// The columns of `gold.g` with their types, as the manifest tells them.
#[track_caller]
fn types(sql: &str) -> Vec<(String, String)> {
    let sandbox = Sandbox::new(&[("sources.yml", SOURCES), ("models/gold/g.sql", sql)]);
    let report = sandbox.json(&["compile", "--select", "g"]);
    let columns = report["nodes"][0]["columns"].as_array().unwrap_or_else(|| panic!("{report:#}")).clone();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    columns.iter().map(|column| (text(&column["name"]), text(&column["data_type"]))).collect()
}

#[track_caller]
fn assert_types(sql: &str, expected: &[(&str, &str)]) {
    let found = types(sql);
    let found: Vec<(&str, &str)> = found.iter().map(|(name, its)| (name.as_str(), its.as_str())).collect();
    assert_eq!(found, expected, "{sql}");
}

#[test]
fn unions_find_the_type_that_holds_both_sides() {
    assert_types(
        "select cast(1 as int) as n, cast(1 as decimal(5, 1)) as d, null as t\n\
         union all select cast(2 as bigint), cast(2 as decimal(9, 3)), 'x'",
        &[("n", "bigint"), ("d", "decimal(9,3)"), ("t", "varchar")],
    );
}

#[test]
fn decimals_grow_as_they_are_computed_with() {
    assert_types(
        "select amount + 1 as plus, amount * amount as times, sum(amount) as total, avg(amount) as mean\n\
         from {{ source('bronze', 'orders') }} group by amount",
        &[("plus", "decimal(23,2)"), ("times", "decimal(21,4)"), ("total", "decimal(20,2)"), ("mean", "decimal(14,6)")],
    );
}

#[test]
fn timestamps_keep_their_zone() {
    assert_types(
        "select at, at + interval '1 day' as later, date_trunc('hour', at) as hour, cast(at as timestamp) as plain,\n\
         cast(at as date) as day from {{ source('bronze', 'orders') }}",
        &[
            ("at", "timestamp with time zone"),
            ("later", "timestamp with time zone"),
            ("hour", "timestamp with time zone"),
            ("plain", "timestamp"),
            ("day", "date"),
        ],
    );
}

#[test]
fn a_list_of_nested_structs_is_a_list() {
    let deep = "struct<id bigint, inner struct<title varchar, more struct<pages int>>>[]";
    let sources = SOURCES.replace("struct<city varchar, zip int>", deep);
    let line =
        "{\"id\": 1, \"address\": [{\"id\": 2, \"inner\": {\"title\": \"a\", \"more\": {\"pages\": 7}}}, {\"id\": 3}]}";
    let sql = "select id, unnest(address) as item from {{ source('bronze', 'orders') }}";
    let sandbox =
        Sandbox::new(&[("sources.yml", &sources), ("bronze/orders/1.json", line), ("models/gold/g.sql", sql)]);
    let rows = sandbox
        .query("select item['id'] as id, item['inner']['more']['pages'] as pages from {{ ref('g') }} order by 1");
    assert_eq!(rows, [serde_json::json!({"id": 2, "pages": 7}), serde_json::json!({"id": 3})]);
}

#[test]
fn fields_of_an_object_are_read_from_files_and_from_tables() {
    let sandbox = Sandbox::new(&[
        ("sources.yml", SOURCES),
        ("bronze/orders/1.json", "{\"id\": 1, \"address\": {\"city\": \"Ulm\", \"zip\": 7}}"),
        (
            "models/silver/cities.sql",
            "{{ config(materialized='incremental', unique_key='id') }} \
             select id, address['city'] as city, address from {{ source('bronze', 'orders') }} where address['zip'] > 6",
        ),
        (
            "models/silver/plain.sql",
            "{{ config(materialized='table') }} select address from {{ source('bronze', 'orders') }}",
        ),
        (
            "models/gold/zips.sql",
            "{{ config(materialized='table') }} select address['zip'] as zip, city from {{ ref('cities') }} \
             union all select address['zip'], address.city from {{ ref('plain') }}",
        ),
    ]);
    sandbox.ok(&["build"]);
    sandbox.write("bronze/orders/2.json", "{\"id\": 1, \"address\": {\"city\": \"Bonn\", \"zip\": 8}}");
    sandbox.ok(&["build"]);
    let rows = sandbox.query("select * from {{ ref('zips') }} order by zip, city");
    let expected = [("Ulm", 7), ("Bonn", 8), ("Bonn", 8)];
    assert_eq!(rows, expected.map(|(city, zip)| serde_json::json!({"zip": zip, "city": city})));
}

#[test]
fn lists_and_structs_are_opened() {
    assert_types(
        "select id, unnest(tags) as tag, tags[1] as first, cardinality(tags) as n, address.zip as zip,\n\
         address['city'] as city, named_struct('a', id, 'b', day) as pair, make_array(id, 2) as ids\n\
         from {{ source('bronze', 'orders') }}",
        &[
            ("id", "bigint"),
            ("tag", "varchar"),
            ("first", "varchar"),
            ("n", "bigint unsigned"),
            ("zip", "int"),
            ("city", "varchar"),
            ("pair", "struct<a bigint, b date>"),
            ("ids", "bigint[]"),
        ],
    );
}

#[test]
fn types_come_through_joins_of_models() {
    let sandbox = Sandbox::new(&[
        ("sources.yml", SOURCES),
        (
            "models/silver/totals.sql",
            "select day, sum(amount) as total from {{ source('bronze', 'orders') }} group by day",
        ),
        (
            "models/gold/g.sql",
            "select o.id, o.at, t.total, o.amount / t.total as share, o.address\n\
             from {{ source('bronze', 'orders') }} as o full join {{ ref('totals') }} as t using (day)",
        ),
    ]);
    let report = sandbox.json(&["compile", "--select", "g"]);
    let shown = |name: &str| {
        let columns = report["nodes"][0]["columns"].as_array().unwrap();
        columns.iter().find(|column| column["name"] == name).unwrap()["data_type"].as_str().unwrap().to_owned()
    };
    assert_eq!(shown("total"), "decimal(20,2)");
    assert_eq!(shown("at"), "timestamp with time zone");
    assert_eq!(shown("address"), "struct<city varchar, zip int>");
    assert!(shown("share").starts_with("decimal("));
}

#[test]
fn a_field_that_a_struct_does_not_have_is_a_mistake() {
    let sql = "select address.town from {{ source('bronze', 'orders') }}";
    let sandbox = Sandbox::new(&[("sources.yml", SOURCES), ("models/gold/g.sql", sql)]);
    let run = sandbox.lake(&["compile"]);
    run.assert_failed(2, "models/gold/g.sql:1:");
    run.assert_failed(2, "town");
}

#[test]
fn every_mistake_of_every_model_is_told_once_and_its_readers_are_named() {
    let sandbox = Sandbox::new(&[
        ("sources.yml", SOURCES),
        ("macros/m.sql", "{% macro bad() %}nothing + 1{% endmacro %}"),
        ("models/silver/a.sql", "select {{ bad() }} as x from {{ source('bronze', 'orders') }}"),
        ("models/silver/b.sql", "select {{ bad() }} as x, idd from {{ source('bronze', 'orders') }}"),
        ("models/gold/c.sql", "select x, nonsense from {{ ref('a') }}"),
        ("models/gold/d.sql", "select x from {{ ref('c') }}"),
        ("models/gold/e.sql", "select id as y from {{ source('bronze', 'orders') }}"),
    ]);
    let run = sandbox.lake(&["compile"]);
    run.assert_failed(2, "2 errors; not checked because of them: gold.c, gold.d");
    assert_eq!(run.stderr.matches("column `nothing` does not exist").count(), 1, "{}", run.stderr);
    assert!(run.stderr.contains("also reached from models/silver/b.sql:1:8"), "{}", run.stderr);
    assert!(!run.stderr.contains("nonsense"), "{}", run.stderr);
}

/// A project whose `gold.g` has a contract; `rows` are its two columns.
fn contract(materialized: &str, rows: &str, columns: &str) -> Sandbox {
    let config = format!("{{{{ config(materialized='{materialized}', contract={{'enforced': true}}) }}}}\n");
    let sandbox = Sandbox::new(&[]);
    sandbox.write("models/gold/g.sql", format!("{config}select id, name from (values {rows}) as t (id, name)"));
    sandbox.write("models/gold/g.yml", format!("models:\n  - name: g\n    columns:\n{columns}"));
    sandbox
}

const PROMISES: &str = "      - { name: name, data_type: varchar, constraints: [{ type: not_null }] }\n      - name: id\n        data_type: bigint\n        constraints:\n          - type: primary_key\n          - { type: check, expression: id > 0 }\n";

/// The report of a run that must fail because of a contract.
#[track_caller]
fn refused(sandbox: &Sandbox, command: &str) -> Run {
    let run = sandbox.lake(&[command]);
    assert_eq!(run.code, 1, "{}\n{}", run.stdout, run.stderr);
    run
}

#[test]
fn a_contract_does_not_ask_for_an_order_of_columns() {
    contract("table", "(1, 'a'), (2, 'b')", PROMISES).ok(&["build"]);
}

#[test]
fn rows_that_break_a_contract_are_not_published() {
    let sandbox = contract("table", "(1, 'a'), (2, 'b')", PROMISES);
    sandbox.ok(&["run"]);
    for (rows, broken) in [
        ("(1, 'a'), (2, null)", "contract_not_null_g_name"),
        ("(1, 'a'), (null, 'b')", "contract_not_null_g_id"),
        ("(1, 'a'), (1, 'b')", "contract_unique_g_id"),
        ("(1, 'a'), (-1, 'b')", "contract_check_g_id"),
    ] {
        let next = contract("table", rows, PROMISES);
        let text = std::fs::read_to_string(next.path("models/gold/g.sql")).unwrap();
        sandbox.write("models/gold/g.sql", text);
        // Without tests as well: a contract is no data test that one may leave out.
        let run = refused(&sandbox, "run");
        assert!(run.stderr.contains(broken) || run.stdout.contains(broken), "{}\n{}", run.stdout, run.stderr);
        assert_eq!(sandbox.value("select min(name) as n from gold.g where id = 2"), "b", "the last good rows stay");
    }
}

#[test]
fn a_contract_of_a_view_is_checked_on_its_rows() {
    let sandbox = contract("view", "(1, 'a'), (2, null)", PROMISES);
    let report = sandbox.json(&["run"]);
    assert_eq!(node(&report, "gold.g")["status"], "error", "{report:#}");
}

#[test]
fn constraints_are_conditions_over_existing_columns() {
    let columns = "      - { name: id, data_type: bigint, constraints: [{ type: check, expression: idd > 0 }] }\n      - { name: name, data_type: varchar }\n";
    let sandbox = contract("table", "(1, 'a')", columns);
    sandbox.lake(&["compile"]).assert_failed(2, "column `idd` does not exist");
}
