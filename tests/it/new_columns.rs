//! Columns that come with later files, and columns whose types become wider.

use serde_json::json;

use crate::materialize::rows;
use crate::sandbox::{Sandbox, node};

const ALL: &str = "{{ config(materialized='incremental') }} select * from {{ source('raw', 'items') }}";

/// One model over the files of `in/items/`.
fn project(format: &str, columns: &str, rules: &str) -> Sandbox {
    let sandbox = Sandbox::new(&[("models/silver/items.sql", ALL)]);
    sandbox.write("sources.yml", sources(format, columns, rules));
    sandbox
}

fn sources(format: &str, columns: &str, rules: &str) -> String {
    format!(
        "sources:\n  - name: raw\n    root: in\n    tables:\n      - name: items\n        path: items/\n        \
         format: {format}\n        columns: [{columns}]\n        {rules}\n"
    )
}

const ID: &str = "{ name: id, data_type: bigint }";

/// Rows of the table, in order, as another reader sees them too.
#[track_caller]
fn table(sandbox: &Sandbox) -> Vec<serde_json::Value> {
    if let Some(python) = crate::reader::python() {
        crate::reader::assert_agree(&python, sandbox, "lake", "silver.items");
    }
    sandbox.query("select * from {{ ref('items') }} order by id")
}

#[test]
fn a_source_that_adds_columns_hands_them_on_in_the_same_build() {
    let sandbox = project("csv", ID, "on_new_column: add");
    sandbox.write(
        "models/gold/copy.sql",
        "{{ config(materialized='incremental', unique_key='id') }} select * from {{ ref('items') }}",
    );
    sandbox.write("in/items/1.csv", "id\n1\n");
    sandbox.ok(&["build"]);
    // The last row says that the column is no bigint.
    let many: String = (3..3_000).map(|id| format!("{id},{id},\n")).collect();
    sandbox.write("in/items/2.csv", format!("id,price,void\n2,7,\n{many}3000,2.5,\n"));
    sandbox.ok(&["build"]);
    let found = table(&sandbox);
    assert_eq!(found[..2], [json!({"id": 1}), json!({"id": 2, "price": 7.0})]);
    assert_eq!(found[2_999], json!({"id": 3_000, "price": 2.5}));
    assert_eq!(rows(&sandbox, "copy").len(), 3_000);
    // What is known of a source does not go with its files, nor with its tables.
    std::fs::remove_file(sandbox.path("in/items/2.csv")).unwrap();
    sandbox.write("in/items/3.csv", "id,price\n4000,n/a\n");
    sandbox.lake(&["build"]).assert_failed(1, "column `price`: `n/a` is not a double");
    sandbox.write("in/items/3.csv", "ID,price\n4000,8\n");
    sandbox.ok(&["build"]);
    assert_eq!(table(&sandbox)[3_000], json!({"id": 4_000, "price": 8.0}));
    sandbox.ok(&["build", "--full-refresh"]);
    assert_eq!(table(&sandbox), [json!({"id": 1}), json!({"id": 4_000, "price": 8.0})]);
    sandbox.write("in/items/3.csv", "id\n4000\n");
    sandbox.ok(&["build", "--full-refresh"]);
    assert!(sandbox.ok(&["show", "items"]).contains("price"));
}

#[test]
fn fields_of_objects_are_added_too() {
    let columns = "{ name: id, data_type: bigint }, { name: who, data_type: \"struct<name varchar>\" }";
    let sandbox = project("ndjson", columns, "on_new_column: add");
    sandbox.write("in/items/1.json", "{\"id\": 1, \"who\": {\"name\": \"a\"}}\n");
    sandbox.ok(&["build"]);
    sandbox.write(
        "in/items/2.json",
        "{\"id\": 2, \"who\": {\"name\": \"b\", \"home\": {\"zip\": 7}}, \"tags\": [{\"t\": 1}]}\n{\"id\": 3}\n",
    );
    sandbox.ok(&["build"]);
    sandbox.write("in/items/3.json", "{\"id\": 4, \"tags\": [{\"u\": \"x\"}, {\"t\": 2}]}\n");
    sandbox.ok(&["build"]);
    let found = table(&sandbox);
    assert_eq!(found[0], json!({"id": 1, "who": {"name": "a"}}));
    assert_eq!(found[1], json!({"id": 2, "who": {"name": "b", "home": {"zip": 7}}, "tags": [{"t": 1}]}));
    assert_eq!(found[3], json!({"id": 4, "tags": [{"u": "x"}, {"t": 2}]}));
}

#[test]
fn a_new_column_is_refused_before_anything_is_read_or_not_read_at_all() {
    for (format, file) in [("csv", "id,zip,note\n2,7,x\n"), ("ndjson", "{\"id\": 2, \"zip\": 7, \"note\": \"x\"}\n")] {
        let ending = if format == "csv" { "csv" } else { "json" };
        let sandbox = project(format, ID, "on_new_column: fail");
        let old = if format == "csv" { "id\n1\n" } else { "{\"id\": 1}\n" };
        sandbox.write(&format!("in/items/1.{ending}"), old);
        sandbox.ok(&["build"]);
        sandbox.write(&format!("in/items/2.{ending}"), file);
        sandbox.write(&format!("in/items/3.{ending}"), file);
        let run = sandbox.lake(&["build"]);
        run.assert_failed(1, &format!("`in/items/2.{ending}` and 1 other file have columns that are not declared"));
        run.assert_failed(1, "{ name: zip, data_type: bigint }, { name: note, data_type: varchar }");
        assert_eq!(rows(&sandbox, "items"), ["1"]);
        sandbox.write("sources.yml", sources(format, ID, ""));
        sandbox.ok(&["build"]);
        assert_eq!(rows(&sandbox, "items"), ["1", "2", "2"]);
    }
}

#[test]
fn columns_that_are_not_declared_are_rescued_as_json() {
    let sandbox = project("csv", ID, "on_new_column: rescue");
    sandbox.write("in/items/1.csv", "id\n1\n");
    sandbox.ok(&["build"]);
    sandbox.write("in/items/2.csv", "zip,ID,note\n007,2,\n,3,x\n,four,\n,5,\n");
    sandbox.ok(&["build"]);
    let found = sandbox.query("select id, _rescued_data from {{ ref('items') }} order by _rescued_data, id");
    let rescued = |row: u32, rest: &str| format!("{{{rest},\"_file_path\":\"in/items/2.csv\",\"_row_number\":{row}}}");
    let expected = [
        json!({"_rescued_data": rescued(3, "\"id\":\"four\"")}),
        json!({"id": 3, "_rescued_data": rescued(2, "\"note\":\"x\"")}),
        json!({"id": 2, "_rescued_data": rescued(1, "\"zip\":\"007\"")}),
        json!({"id": 1}),
        json!({"id": 5}),
    ];
    assert_eq!(found, expected);
    let parquet = project("parquet", ID, "on_new_column: rescue");
    parquet.lake(&["compile"]).assert_failed(2, "columns are rescued from CSV, TSV and JSON only");
}

#[test]
fn members_that_are_not_declared_are_rescued_as_json() {
    let records = [
        r#"{"id": 1, "id2": null}"#,
        r#"{"zip": "007", "id": 2, "tags": [1, {"a": "b"}]}"#,
        r#"{"id": "four", "n": 1.10}"#,
    ];
    for (format, text) in [("ndjson", records.join("\n\n")), ("json", format!("[{}]", records.join(",\n")))] {
        let sandbox = project(format, ID, "on_new_column: rescue");
        sandbox.write("in/items/1.json", text);
        sandbox.ok(&["build"]);
        let found = sandbox.query("select id, _rescued_data as r from {{ ref('items') }} order by id");
        let rescued = |row: &serde_json::Value| row["r"].as_str().map(|text| serde_json::from_str(text).unwrap());
        let place = |row: u32, mut rest: serde_json::Value| {
            (rest["_file_path"], rest["_row_number"]) = (json!("in/items/1.json"), json!(row));
            Some(rest)
        };
        let expected = [
            None,
            place(2, json!({"zip": "007", "tags": "[1, {\"a\": \"b\"}]"})),
            place(3, json!({"id": "four", "n": "1.10"})),
        ];
        assert_eq!(found.iter().map(rescued).collect::<Vec<_>>(), expected, "{format}");
        assert_eq!(found[1]["id"], 2);
        // What is asked for alone does not need each member.
        assert_eq!(sandbox.value("select sum(id) from {{ source('raw', 'items') }}"), 3);
        // A record that is none is an error as ever.
        sandbox.write("in/items/2.json", if format == "json" { "[{\"id\": 5}, [6]]" } else { "{\"id\": 5}\n[6]\n" });
        sandbox.lake(&["build"]).assert_failed(1, "it is not a JSON object");
    }
}

#[test]
fn only_columns_that_a_source_adds_are_appended_unasked() {
    let sandbox = project("csv", ID, "on_new_column: add");
    sandbox.write("in/items/1.csv", "id\n1\n");
    sandbox.ok(&["build"]);
    sandbox.write("models/silver/items.sql", ALL.replace("select *", "select *, id + 1 as next"));
    sandbox.write("in/items/2.csv", "id,more\n2,x\n");
    sandbox.lake(&["build"]).assert_failed(1, "column `next` is new; set on_schema_change");
    sandbox.write("models/silver/items.sql", ALL.replace("'incremental'", "'incremental', on_schema_change='fail'"));
    sandbox.lake(&["build"]).assert_failed(1, "column `more` is new; set on_schema_change");
    sandbox.write("models/silver/items.sql", ALL.replace("'incremental'", "'incremental', on_schema_change='ignore'"));
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items"), ["1", "2"]);
}

#[test]
fn a_column_that_widens_rebuilds_a_table_that_can_be_rebuilt() {
    let declared = |kind: &str| format!("{ID}, {{ name: v, data_type: \"{kind}\" }}");
    for (was, is, value) in [
        ("int", "bigint", "5000000000"),
        ("float", "double", "0.1"),
        ("decimal(4,2)", "decimal(9,3)", "12345.678"),
        ("date", "timestamp", "2024-01-02 03:04:05"),
    ] {
        let sandbox = project("csv", &declared(was), "");
        let old = if was == "date" { "2024-01-01" } else { "7" };
        sandbox.write("in/items/1.csv", format!("id,v\n1,{old}\n"));
        sandbox.ok(&["build"]);
        sandbox.write("sources.yml", sources("csv", &declared(is), ""));
        sandbox.write("in/items/2.csv", format!("id,v\n2,{value}\n"));
        let report = sandbox.json(&["build"]);
        let found = node(&report, "silver.items");
        assert_eq!(found["reason"], format!("column `v` was `{was}` and is now `{is}`"), "{found}");
        assert_eq!(table(&sandbox).len(), 2);
        // Back again would lose values.
        sandbox.write("sources.yml", sources("csv", &declared(was), ""));
        sandbox.write("in/items/3.csv", format!("id,v\n3,{old}\n"));
        sandbox.lake(&["build"]).assert_failed(1, &format!("column `v` is now `{was}` and was `{is}`"));
    }
}

#[test]
fn a_widening_that_would_lose_rows_writes_the_old_ones_again() {
    let source = |kind: &str, rules: &str| sources("csv", &format!("{ID}, {{ name: v, data_type: {kind} }}"), rules);
    for (rules, traced) in [("", false), ("on_changed_file: replace", true)] {
        let sandbox = project("csv", "", "");
        sandbox.write("sources.yml", source("int", rules));
        sandbox.write("in/items/1.csv", "id,v\n1,7\n");
        sandbox.ok(&["build"]);
        std::fs::remove_file(sandbox.path("in/items/1.csv")).unwrap();
        sandbox.write("sources.yml", source("bigint", rules));
        sandbox.write("in/items/2.csv", "id,v\n2,5000000000\n");
        if !traced {
            sandbox.ok(&["build"]);
            assert_eq!(table(&sandbox), [json!({"id": 1, "v": 7}), json!({"id": 2, "v": 5_000_000_000_u64})]);
            continue;
        }
        // Rows of a file that may have to go again are known by the data files that they stand in.
        let run = sandbox.lake(&["build"]);
        run.assert_failed(1, "column `v` was `int` and is now `bigint`: `silver.items` has to be rebuilt for it");
        run.assert_failed(1, "it would lose the rows of 1 file that is gone; --full-refresh does it all the same");
        sandbox.write("models/silver/items.sql", ALL.replace("select *", "select id, cast(v as int) as v"));
        sandbox.write("in/items/2.csv", "id,v\n2,5\n");
        sandbox.ok(&["build"]);
        assert_eq!(rows(&sandbox, "items"), ["1 7", "2 5"]);
    }
}

#[test]
fn mistakes_about_new_columns_are_told_with_their_place() {
    for (columns, rule, text) in [
        (ID, "on_new_column: evolve", "`evolve` is not a value of `on_new_column`"),
        ("", "on_new_column: fail", "no column is new where none is declared"),
        (
            ID,
            "on_new_column: add\n        options: { header: false }",
            "files without a header do not name their columns",
        ),
    ] {
        let sandbox = project("csv", columns, rule);
        let run = sandbox.lake(&["compile"]);
        run.assert_failed(2, text);
        run.assert_failed(2, "sources.yml:9:24");
    }
    let sandbox = project("csv", ID, "on_new_column: add");
    sandbox.write("in/items/1.csv", "id,price,Price\n1,2,3\n");
    sandbox.lake(&["compile"]).assert_failed(2, "column `Price` differs from `price` by case only");
}

#[test]
fn a_folder_that_is_missing_is_no_delivery_of_nothing() {
    for rule in ["on_new_column: add", "on_new_column: ignore"] {
        let sandbox = project("csv", ID, rule);
        sandbox.write(
            "models/silver/items.sql",
            "{{ config(materialized='table') }} select * from {{ source('raw', 'items') }}",
        );
        sandbox.write("in/items/1.csv", "id\n1\n");
        sandbox.ok(&["build"]);
        std::fs::rename(sandbox.path("in"), sandbox.path("away")).unwrap();
        sandbox.lake(&["build"]).assert_failed(1, "does not exist");
        assert_eq!(table(&sandbox), [json!({"id": 1})], "{rule}");
        std::fs::rename(sandbox.path("away"), sandbox.path("in")).unwrap();
        sandbox.ok(&["build"]);
    }
}
