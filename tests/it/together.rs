//! Rules of a source that meet: rows that do not fit, new columns, compacted files, and listings that begin late.

use serde_json::{Value, json};

use crate::sandbox::Sandbox;

const APPENDS: &str = "{{ config(materialized='incremental') }} select * from {{ source('raw', 'items') }}";

fn project(settings: &[&str], files: &[(&str, &str)]) -> Sandbox {
    let sandbox = Sandbox::new(&[("models/silver/items.sql", APPENDS)]);
    declare(&sandbox, "int", settings);
    for (path, text) in files {
        sandbox.write(path, text);
    }
    sandbox
}

/// The source, with `id` of this type.
fn declare(sandbox: &Sandbox, id: &str, settings: &[&str]) {
    let lines: String = settings.iter().map(|line| format!("        {line}\n")).collect();
    let columns = format!("[{{ name: id, data_type: {id} }}, {{ name: price, data_type: \"decimal(8,2)\" }}]");
    sandbox.write(
        "sources.yml",
        format!("sources:\n  - name: raw\n    tables:\n      - name: items\n        path: in\n        columns: {columns}\n{lines}"),
    );
}

fn ids(sandbox: &Sandbox) -> Value {
    let rows = sandbox.query("select id from {{ ref('items') }} order by id nulls first");
    rows.into_iter().map(|row| row["id"].clone()).collect()
}

/// Files with this ending that stand in the folder of the source.
fn left(sandbox: &Sandbox, ending: &str) -> Vec<String> {
    let entries = std::fs::read_dir(sandbox.path("in")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(ending));
    names.sort();
    names
}

const GOOD: &str = "id,price\n1,1\n2,2\n";
const LARGE: &str = "id,price\n3,3\n30000000000,4\nx,5\n";

#[test]
fn files_whose_rows_were_left_out_are_not_compacted_before_a_fix() {
    let compact = "after_load: { compact: { to: small } }";
    let settings = ["format: csv", "on_bad_row: quarantine", compact, "metadata_columns: [_row_number]"];
    let sandbox = project(&settings, &[("in/a.csv", GOOD), ("in/b.csv", LARGE), ("in/c.csv", "id,price\n7\n8,8\n")]);
    let run = sandbox.ok(&["build"]);
    assert!(run.contains("4 rows, 3 quarantined"), "{run}");
    assert_eq!(left(&sandbox, "csv"), ["b.csv", "c.csv"]);
    sandbox.ok(&["build"]);
    sandbox.ok(&["build", "--full-refresh"]);
    assert_eq!((ids(&sandbox), left(&sandbox, "csv").len()), (json!([1, 2, 3, 8]), 2));
    // A wider type: what fits now is taken again, and a file of which all fits is compacted.
    let short = "options: { truncated_rows: true }";
    declare(&sandbox, "bigint", &[&settings[..], &[short]].concat());
    sandbox.ok(&["source", "replay", "raw.items"]);
    assert_eq!(ids(&sandbox), json!([1, 2, 3, 7, 8, 30_000_000_000_u64]));
    assert_eq!(left(&sandbox, "csv"), ["b.csv"]);
    let bad = "select count(*) from quarantine.raw__items where replayed_at is null";
    assert_eq!(sandbox.value(bad), 1);
    for args in [&["source", "replay", "raw.items"][..], &["build", "--full-refresh"], &["build"]] {
        sandbox.ok(args);
        assert_eq!(ids(&sandbox), json!([1, 2, 3, 7, 8, 30_000_000_000_u64]), "{args:?}");
        let numbers = sandbox.query("select id, _row_number as n from {{ ref('items') }} where id > 3 order by id");
        let expected = [json!({"id": 7, "n": 1}), json!({"id": 8, "n": 2}), json!({"id": 30_000_000_000_u64, "n": 2})];
        assert_eq!(numbers, expected, "{args:?}");
    }
    assert_eq!(sandbox.value("select count(*) from quarantine.raw__items"), 1);
    // Quarantined rows are replayed whether their file was compacted meanwhile or not.
    let sandbox = project(&settings, &[("in/c.csv", "id,price\n7\n8,8\n")]);
    sandbox.ok(&["build"]);
    declare(&sandbox, "int", &[&settings[..], &[short]].concat());
    sandbox.ok(&["build"]);
    assert_eq!((ids(&sandbox), left(&sandbox, "csv").len()), (json!([8]), 0));
    sandbox.ok(&["source", "replay", "raw.items"]);
    assert_eq!(ids(&sandbox), json!([7, 8]));
    sandbox.ok(&["build", "--full-refresh"]);
    assert_eq!(ids(&sandbox), json!([7, 8]));
}

#[test]
fn values_that_are_null_or_rescued_are_still_in_their_files() {
    let compact = "after_load: { compact: { to: small } }";
    for rule in ["on_bad_row: null", "metadata_columns: [_rescued_data]", "on_new_column: rescue"] {
        for (format, files) in [
            ("csv", [GOOD, LARGE, "id,price,new\n9,9,n\n"]),
            (
                "ndjson",
                [
                    "{\"id\": 1, \"price\": 1}\n{\"id\": 2}\n",
                    "{\"id\": 3}\n{\"id\": 30000000000}\n{\"id\": \"x\"}\n",
                    "{\"id\": 9, \"new\": \"n\"}\n",
                ],
            ),
        ] {
            let settings = [&format!("format: {format}"), rule, compact];
            let ending = if format == "csv" { "csv" } else { "json" };
            let sandbox = project(&settings, &[]);
            for (name, text) in ["a", "b", "c"].iter().zip(files) {
                sandbox.write(&format!("in/{name}.{ending}"), text);
            }
            sandbox.ok(&["build"]);
            let names = |names: &[&str]| names.iter().map(|name| format!("{name}.{ending}")).collect::<Vec<_>>();
            let raw = if rule.contains("new_column") { names(&["b", "c"]) } else { names(&["b"]) };
            assert_eq!(left(&sandbox, ending), raw, "{rule}");
            sandbox.ok(&["build", "--full-refresh"]);
            assert_eq!(ids(&sandbox), json!([null, null, 1, 2, 3, 9]), "{rule}");
            if !rule.contains("null") {
                let rescued = "select count(_rescued_data) from {{ ref('items') }}";
                assert_eq!(sandbox.value(rescued), raw.len() + 1, "{rule}");
            }
            declare(&sandbox, "bigint", &settings);
            sandbox.ok(&["build", "--full-refresh"]);
            assert_eq!(ids(&sandbox), json!([null, 1, 2, 3, 9, 30_000_000_000_u64]), "{rule}");
        }
    }
}

#[test]
fn what_was_compacted_is_not_quarantined_for_what_is_declared_later() {
    let settings = ["format: csv", "on_bad_row: quarantine", "after_load: { compact: { to: small } }"];
    let sandbox = project(&settings, &[("in/a.csv", GOOD)]);
    sandbox.ok(&["build"]);
    assert_eq!(left(&sandbox, "csv").len(), 0);
    declare(&sandbox, "varchar", &settings);
    sandbox
        .lake(&["build", "--full-refresh"])
        .assert_failed(1, "`in/a.csv`: it was compacted when column `id` was `int`");
    declare(&sandbox, "int", &settings);
    sandbox.ok(&["build", "--full-refresh"]);
    assert_eq!(ids(&sandbox), json!([1, 2]));
}

#[test]
fn new_columns_are_found_beside_rows_and_files_that_do_not_fit() {
    let cut = "{\"id\": 5}\n{\"id\": 6, \"n";
    for rule in ["on_new_column: add", "on_new_column: fail"] {
        let settings = ["format: auto", "on_bad_row: quarantine", rule, "on_changed_file: replace"];
        let sandbox = project(&settings, &[("in/a.csv", GOOD), ("in/b.ndjson", cut)]);
        sandbox.write("in/c.csv", "id,id\n1,2\n");
        sandbox.write("in/d.parquet", "no Parquet");
        let run = sandbox.ok(&["build"]);
        assert!(run.contains("2 rows, 3 quarantined, from 1 file"), "{run}");
        // A column whose first values stand below a row that is none.
        sandbox.write("in/b.ndjson", "nonsense\n[1]\n{\"id\": 5, \"new\": 1}\n");
        sandbox.write("in/c.csv", "id,price,more\nx\n7,7,7\nx\n8,8,8.5\n");
        if rule.contains("fail") {
            let run = sandbox.lake(&["build"]);
            run.assert_failed(1, "have columns that are not declared");
            run.assert_failed(1, "{ name: new, data_type: bigint }");
            continue;
        }
        sandbox.ok(&["build"]);
        let rows = sandbox.query("select id, new, more from {{ ref('items') }} where id > 2 order by id");
        let expected = [json!({"id": 5, "new": 1}), json!({"id": 7, "more": 7.0}), json!({"id": 8, "more": 8.5})];
        assert_eq!(rows, expected);
        let bad = sandbox.value("select count(*) from quarantine.raw__items where row_number is not null");
        assert_eq!(bad, 4);
    }
}

#[test]
fn new_columns_are_rescued_of_rows_that_are_read_one_by_one() {
    let settings =
        ["format: csv", "on_bad_row: quarantine", "on_new_column: rescue", "metadata_columns: [_row_number]"];
    let sandbox = project(&settings, &[("in/a.csv", "new,id,price\nn1,1,1\nn2\n,3,3\nn4,4,4,z\nn5,5,5\n")]);
    sandbox.ok(&["build"]);
    let found = |sandbox: &Sandbox| {
        let rows = sandbox.query("select id, _rescued_data as r, _row_number as n from {{ ref('items') }} order by id");
        let rescued = |row: &Value| serde_json::from_str::<Value>(row["r"].as_str().unwrap_or("null")).unwrap();
        rows.iter().map(|row| json!([row["id"], row["n"], rescued(row)["new"]])).collect::<Vec<_>>()
    };
    assert_eq!(found(&sandbox), [json!([1, 1, "n1"]), json!([3, 3, null]), json!([5, 5, "n5"])]);
    declare(&sandbox, "int", &[&settings[..], &["options: { truncated_rows: true }"]].concat());
    sandbox.ok(&["source", "replay", "raw.items"]);
    assert_eq!(found(&sandbox)[3], json!([null, 2, "n2"]));
}

#[test]
fn an_incremental_listing_forgets_no_file_that_could_not_be_read() {
    let settings = ["format: csv", "on_bad_row: quarantine", "incremental_listing: { lookback: 1 }"];
    let sandbox = project(&settings, &[]);
    for file in 0..6 {
        sandbox.write(&format!("in/{file}.csv"), format!("id,price\n{file},1\nx{file},1\n"));
    }
    let latin: &[u8] = b"id,price\n10,1\n\xe9,1\n";
    for path in ["in/0b.csv", "in/1b.csv", "in/2b.csv"] {
        sandbox.write(path, latin);
    }
    sandbox.ok(&["build"]);
    let failed = |sandbox: &Sandbox| sandbox.json(&["source", "files", "items", "--failed"]).as_array().unwrap().len();
    assert_eq!((ids(&sandbox), failed(&sandbox)), (json!([0, 1, 2, 3, 4, 5]), 3));
    // It is there again as it should be, and its name is far below those that are listed; one is gone.
    sandbox.write("in/0b.csv", "id,price\n20,1\n");
    std::fs::remove_file(sandbox.path("in/2b.csv")).unwrap();
    sandbox.write("in/1a.csv", "id,price\n30,1\n");
    sandbox.write("in/6.csv", "id,price\n6,1\n");
    let run = sandbox.ok(&["build"]);
    assert!(run.contains("2 rows") && run.contains("from 2 files"), "{run}");
    assert_eq!(ids(&sandbox), json!([0, 1, 2, 3, 4, 5, 6, 20]));
    assert!(sandbox.ok(&["build"]).contains("no new files in raw.items"));
    // A replay looks at all names: its files and rows are known, whatever a listing begins with.
    declare(&sandbox, "varchar", &[&settings[..], &["options: { encoding: latin1 }"]].concat());
    sandbox.write("models/silver/items.sql", APPENDS.replace('*', "try_cast(id as int) as id, price"));
    sandbox.ok(&["source", "replay", "raw.items"]);
    let mut expected = vec![Value::Null; 7];
    expected.extend([0, 1, 2, 3, 4, 5, 6, 10, 20].map(Value::from));
    assert_eq!(ids(&sandbox), Value::Array(expected.clone()));
    sandbox.ok(&["source", "replay", "raw.items"]);
    sandbox.ok(&["build"]);
    assert_eq!(ids(&sandbox), Value::Array(expected));
    sandbox.ok(&["build", "--full-listing"]);
    assert_eq!(sandbox.value("select count(*) from {{ ref('items') }} where id = 30"), 1);
}
