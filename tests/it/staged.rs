//! What tests refuse to publish: kept for a look, shown as the table would have been, and taken away again.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::materialize::{items, rows};
use crate::sandbox::{Sandbox, node};

const TESTED: &str = "models:\n  - name: items\n    columns:\n      - name: value\n        data_tests: [not_null]\n";

/// `silver.items` with these settings and a test, built once; then a file without a value comes.
fn refused(config: &str) -> Sandbox {
    let sql = format!("{{{{ config({config}) }}}} select id, value from {{{{ source('raw', 'items') }}}}");
    let sandbox = items(&[("models/silver/items.sql", &sql), ("models/silver/items.yml", TESTED)]);
    sandbox.ok(&["build"]);
    sandbox.write("in/items/2.csv", "id,value\n2,\n3,c\n");
    sandbox
}

fn staged(sandbox: &Sandbox) -> Value {
    let mut rows = sandbox.json(&["show", "--staged", "items"]);
    rows.as_array_mut().unwrap_or_else(|| panic!("no rows")).sort_by_key(ToString::to_string);
    rows
}

/// Data files that no commit names, and those that the one record of refused files names.
fn unpublished(sandbox: &Sandbox) -> [BTreeSet<String>; 2] {
    let log: String = std::fs::read_dir(sandbox.path("lake/silver/items/_delta_log"))
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    let names = std::fs::read_dir(sandbox.path("lake/silver/items")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let strays = names.filter(|name| name.ends_with(".parquet") && !log.contains(name.as_str()));
    let records: Vec<_> = std::fs::read_dir(sandbox.path("lake/silver/items/_lake/staged")).unwrap().collect();
    assert_eq!(records.len(), 1);
    let record = std::fs::read(records[0].as_ref().unwrap().path()).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    let adds = record["adds"].as_array().unwrap().iter().map(|add| add["path"].as_str().unwrap().to_owned());
    [strays.collect(), adds.collect()]
}

/// Data files of the table, published or not.
fn data_files(sandbox: &Sandbox) -> usize {
    let files = std::fs::read_dir(sandbox.path("lake/silver/items")).unwrap();
    files.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|e| e == "parquet")).count()
}

#[test]
fn the_table_is_shown_as_its_tests_refused_it() {
    let expected = [
        (
            "materialized='table'",
            json!([{"id": 1, "value": "a"}, {"id": 2, "value": "b"}, {"id": 2}, {"id": 3, "value": "c"}]),
        ),
        (
            "materialized='incremental'",
            json!([{"id": 1, "value": "a"}, {"id": 2, "value": "b"}, {"id": 2}, {"id": 3, "value": "c"}]),
        ),
        (
            "materialized='incremental', unique_key='id'",
            json!([{"id": 1, "value": "a"}, {"id": 2}, {"id": 3, "value": "c"}]),
        ),
    ];
    for (config, expected) in expected {
        let sandbox = refused(config);
        let before = rows(&sandbox, "items");
        let run = sandbox.lake(&["build"]);
        run.assert_failed(1, "not_null_items_value");
        assert!(run.stderr.contains("lake show --staged silver.items"), "{}", run.stderr);
        assert_eq!(staged(&sandbox), expected, "{config}");
        assert_eq!(rows(&sandbox, "items"), before, "nothing of it is visible");
        let shown = sandbox.lake(&["show", "--staged", "silver.items", "--limit", "1"]);
        assert!(shown.stderr.contains("over version 0") && shown.stderr.contains("not_null_items_value  1 row fails"));
        // The next staging takes its place, and a publish leaves nothing of it.
        let [strays, kept] = unpublished(&sandbox);
        assert_eq!(strays, kept, "{config}");
        sandbox.lake(&["build"]).assert_failed(1, "not_null_items_value");
        let [strays, again] = unpublished(&sandbox);
        assert!(strays == again && again.is_disjoint(&kept), "{config}: {kept:?} {again:?} {strays:?}");
        sandbox.write("in/items/2.csv", "id,value\n3,c\n");
        sandbox.ok(&["build"]);
        assert_eq!(rows(&sandbox, "items"), ["1 a", "2 b", "3 c"]);
        sandbox.lake(&["show", "--staged", "items"]).assert_failed(2, "nothing of `silver.items` is staged");
        assert_eq!(std::fs::read_dir(sandbox.path("lake/silver/items/_lake/staged")).unwrap().count(), 0);
    }
}

#[test]
fn a_first_build_that_is_refused_can_be_looked_at() {
    let sandbox = items(&[
        (
            "models/silver/items.sql",
            "{{ config(materialized='table', partition_by='id') }} select * from {{ source('raw', 'items') }}",
        ),
        ("models/silver/items.yml", TESTED),
        ("in/items/2.csv", "id,value\n2,\n"),
    ]);
    sandbox.lake(&["build"]).assert_failed(1, "not_null_items_value");
    assert_eq!(staged(&sandbox), json!([{"id": 1, "value": "a"}, {"id": 2, "value": "b"}, {"id": 2}]));
    assert_eq!(rows(&sandbox, "items"), [""; 0]);
    sandbox.ok(&["clean", "--staged"]);
    sandbox.lake(&["show", "--staged", "items"]).assert_failed(2, "nothing of `silver.items` is staged");
    assert!(sandbox.path(".lake/manifest.json").is_file(), "nothing else is cleaned");
    sandbox.write("in/items/2.csv", "id,value\n2,c\n");
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items"), ["1 a", "2 b", "2 c"]);
}

#[test]
fn staged_files_that_are_gone_are_told() {
    let sandbox = refused("materialized='incremental'");
    let known = data_files(&sandbox);
    sandbox.lake(&["build"]).assert_failed(1, "nothing was published");
    let log = std::fs::read_to_string(sandbox.path("lake/silver/items/_delta_log/00000000000000000000.json")).unwrap();
    for entry in std::fs::read_dir(sandbox.path("lake/silver/items")).unwrap().map(|entry| entry.unwrap()) {
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with(".parquet") && !log.contains(&name) {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    assert_eq!(data_files(&sandbox), known);
    sandbox.lake(&["show", "--staged", "items"]).assert_failed(2, "is no longer there: build the model again");
    sandbox.lake(&["show", "--staged", "raw.items"]).assert_failed(2, "is a source, and no model");
    sandbox.write("models/gold/v.sql", "select * from {{ ref('items') }}");
    sandbox.lake(&["show", "--staged", "v"]).assert_failed(2, "it has no table of its own");
}

#[test]
fn without_an_audit_tests_only_report() {
    let sandbox = refused("materialized='incremental', audit='off'");
    sandbox
        .write("models/gold/g.sql", "{{ config(materialized='table') }} select count(*) as n from {{ ref('items') }}");
    let run = sandbox.json(&["build"]);
    let items = node(&run, "silver.items");
    assert_eq!((&items["status"], &items["tests"][0]["status"]), (&json!("success"), &json!("fail")), "{run}");
    assert_eq!(node(&run, "gold.g")["status"], "success");
    assert_eq!(sandbox.lake(&["build"]).code, 1, "a test that failed is told until it passes");
    assert_eq!(rows(&sandbox, "items"), ["1 a", "2", "2 b", "3 c"]);
    // What passed after the publish is known, and not looked at again.
    sandbox.write("in/items/2.csv", "id,value\n3,c\n");
    sandbox.ok(&["build", "--full-refresh"]);
    let again = sandbox.json(&["build"]);
    assert_eq!(node(&again, "silver.items")["status"], "skipped");
    assert_eq!(node(&again, "silver.items")["tests"], json!([]));
}

#[test]
fn a_contract_gates_without_an_audit_too() {
    let sandbox = refused("materialized='table', audit=false");
    sandbox.write(
        "models/silver/items.yml",
        "models:\n  - name: items\n    config: { contract: { enforced: true } }\n    columns:
      - { name: id, data_type: bigint }\n      - { name: value, data_type: varchar, constraints: [{ type: not_null }] }\n",
    );
    sandbox.lake(&["build"]).assert_failed(1, "nothing was published");
    assert_eq!(rows(&sandbox, "items"), ["1 a", "2 b"]);
}
