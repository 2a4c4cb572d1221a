//! What happens to a table when the columns of its model change: `on_schema_change`.

use serde_json::{Value, json};

use crate::care::seen;
use crate::reader::{assert_agree, python};
use crate::sandbox::{Sandbox, node};

/// A model over `raw.items` with these settings and columns.
fn model(config: &str, columns: &str) -> String {
    format!(
        "{{{{ config(materialized='incremental'{config}) }}}} select {columns} from {{{{ source('raw', 'items') }}}}"
    )
}

/// A table of one file built with the first columns; then the model has others, and there is another file.
fn changed(config: &str, was: &str, is: &str) -> Sandbox {
    let sandbox = crate::materialize::items(&[("models/silver/items.sql", &model(config, was))]);
    sandbox.ok(&["build"]);
    sandbox.write("models/silver/items.sql", model(config, is));
    sandbox.write("in/items/2.csv", "id,value\n3,c\n");
    sandbox
}

#[track_caller]
fn table(sandbox: &Sandbox) -> Vec<Value> {
    if let Some(python) = python() {
        assert_agree(&python, sandbox, "lake", "silver.items");
    }
    sandbox.query("select * from {{ ref('items') }} order by id")
}

#[test]
fn columns_follow_the_model_where_all_are_synced() {
    let sandbox =
        changed(", on_schema_change='sync_all_columns'", "id, value, id * 10 as tens", "id, 'x' as \"New One\", value");
    let report = sandbox.json(&["build"]);
    assert_eq!(
        (&node(&report, "silver.items")["action"], &node(&report, "silver.items")["rows"]),
        (&json!("append"), &json!(1))
    );
    let found = table(&sandbox);
    assert_eq!(
        found,
        [
            json!({"id": 1, "value": "a"}),
            json!({"id": 2, "value": "b"}),
            json!({"id": 3, "value": "c", "New One": "x"})
        ]
    );
    // The column comes back without its old values.
    sandbox
        .write("models/silver/items.sql", model(", on_schema_change='sync_all_columns'", "id, value, id * 10 as tens"));
    sandbox.write("in/items/3.csv", "id,value\n4,d\n");
    sandbox.ok(&["build"]);
    assert_eq!(table(&sandbox)[2..], [json!({"id": 3, "value": "c"}), json!({"id": 4, "value": "d", "tens": 40})]);
    let Some(python) = python() else { return };
    let columns: Vec<String> =
        seen(&python, &sandbox, "silver.items")["types"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(columns, ["id", "value", "tens"]);
}

#[test]
fn what_is_gone_stays_as_null_where_columns_are_only_appended() {
    let sandbox =
        changed(", on_schema_change='append_new_columns'", "id, value, id * 10 as tens", "id, value, 'x' as more");
    sandbox.ok(&["build"]);
    let all = [
        json!({"id": 1, "value": "a", "tens": 10}),
        json!({"id": 2, "value": "b", "tens": 20}),
        json!({"id": 3, "value": "c", "more": "x"}),
    ];
    assert_eq!(table(&sandbox), all);
}

#[test]
fn a_change_is_refused_in_full_where_it_is_to_fail() {
    let was = "id, value, id * 10 as tens, cast(id as int) as small, cast(id as bigint) as big";
    let is = "id, value as \"Value\", 'x' as more, id as small, cast(id as varchar) as big";
    for config in ["", ", on_schema_change='fail'"] {
        let sandbox = changed(config, was, is);
        let run = sandbox.lake(&["build"]);
        for text in [
            "column `value` is now spelled `Value`",
            "column `tens` (`bigint`) is gone",
            "column `more` is new",
            "column `big` is now `varchar` and was `bigint`; cast it to what it was in the model, or rebuild \
             `silver.items` with --full-refresh",
        ] {
            run.assert_failed(1, text);
        }
        assert_eq!(
            run.stdout.contains("column `small` was `int` and is now `bigint`"),
            !config.is_empty(),
            "{}",
            run.stdout
        );
        assert_eq!(sandbox.value("select count(*) as n from {{ ref('items') }}"), 2);
        sandbox.ok(&["build", "--full-refresh"]);
        assert_eq!(sandbox.value("select max(big) as n from {{ ref('items') }}"), "3");
    }
}

#[test]
fn changes_are_left_out_where_they_are_ignored() {
    let (was, is) =
        ("id, value, named_struct('a', id) as pair", "id, 'x' as more, named_struct('b', 1, 'a', id) as pair");
    let sandbox = changed(", on_schema_change='ignore'", was, is);
    sandbox.ok(&["build"]);
    assert_eq!(
        table(&sandbox)[1..],
        [json!({"id": 2, "value": "b", "pair": {"a": 2}}), json!({"id": 3, "pair": {"a": 3}})]
    );
    sandbox.write("models/silver/items.sql", model(", on_schema_change='ignore'", "id / 2.0 as id, value"));
    sandbox.write("in/items/3.csv", "id,value\n4,d\n");
    let run = sandbox.lake(&["build"]);
    run.assert_failed(1, "column `id` ");
    run.assert_failed(1, "with --full-refresh");
}

#[test]
fn fields_of_objects_come_and_go_as_columns_do() {
    let was =
        "id, named_struct('a', id, 'b', named_struct('c', value, 'd', 1)) as pair, [named_struct('x', id)] as list";
    let is = "id, named_struct('b', named_struct('d', 2, 'e', 'new'), 'a', id) as pair, [named_struct('x', id, 'y', 1)] as list";
    let old = json!({"id": 1, "pair": {"a": 1, "b": {"c": "a", "d": 1}}, "list": [{"x": 1}]});

    let sandbox = changed(", on_schema_change='append_new_columns'", was, is);
    sandbox.ok(&["build"]);
    let found = table(&sandbox);
    assert_eq!(found[0], old);
    assert_eq!(found[2], json!({"id": 3, "pair": {"a": 3, "b": {"d": 2, "e": "new"}}, "list": [{"x": 3, "y": 1}]}));

    let sandbox = changed(", on_schema_change='sync_all_columns'", was, is);
    sandbox.ok(&["build"]);
    let found = table(&sandbox);
    assert_eq!(found[0], json!({"id": 1, "pair": {"a": 1, "b": {"d": 1}}, "list": [{"x": 1}]}));
    assert_eq!(found[2], json!({"id": 3, "pair": {"a": 3, "b": {"d": 2, "e": "new"}}, "list": [{"x": 3, "y": 1}]}));

    let sandbox = changed(", on_schema_change='fail'", was, is);
    sandbox
        .lake(&["build"])
        .assert_failed(1, "column `pair.b.c` (`varchar`) is gone, column `pair.b.e` is new, column `list.y` is new");
}

#[test]
fn a_type_widens_in_place_and_its_old_files_are_written_again() {
    let types = [
        ("cast(id as int)", "id", json!(1), json!(5_000_000_003_u64)),
        ("cast(id as float)", "cast(id as double)", json!(1.0), json!(5_000_000_003.0)),
        ("cast(id as decimal(4, 2))", "cast(id as decimal(15, 3))", json!(1.0), json!(5_000_000_003.0)),
        (
            "date '2024-01-01'",
            "timestamp '2024-01-01 10:00:00'",
            json!("2024-01-01T00:00:00"),
            json!("2024-01-01T10:00:00"),
        ),
        (
            "named_struct('n', cast(id as int))",
            "named_struct('n', id)",
            json!({"n": 1}),
            json!({"n": 5_000_000_003_u64}),
        ),
    ];
    let strategies = ["", ", unique_key='id'", ", partition_by='value'"].iter().cycle();
    for ((was, is, first, last), strategy) in types.iter().zip(strategies) {
        for rule in ["append_new_columns", "sync_all_columns"] {
            // What the table holds is no longer in any file of the source.
            let config = format!("{strategy}, on_schema_change='{rule}'");
            let sandbox = changed(&config, &format!("id, value, {was} as v"), &format!("id, value, {is} as v"));
            std::fs::remove_file(sandbox.path("in/items/1.csv")).unwrap();
            sandbox.write("in/items/2.csv", "id,value\n5000000003,c\n");
            let report = sandbox.json(&["build"]);
            assert_eq!(node(&report, "silver.items")["rows"], 1, "{report}");
            let found = table(&sandbox);
            assert_eq!((&found[0]["v"], &found[2]["v"]), (first, last), "{config} {was}");
            assert_eq!(found.len(), 3);
        }
    }
}

#[test]
fn a_table_that_widens_keeps_its_tests_and_those_who_read_it() {
    let sandbox = changed(
        ", unique_key='id', on_schema_change='sync_all_columns'",
        "id, value, cast(id as int) as v",
        "id, value, id as v",
    );
    sandbox.write("models/silver/items.yml", "models:\n  - name: items\n    columns:\n      - { name: id, data_tests: [unique, not_null] }\n      - { name: v, data_tests: [not_null] }\n");
    sandbox.write(
        "models/gold/total.sql",
        "{{ config(materialized='table') }} select sum(v) as v from {{ ref('items') }}",
    );
    sandbox.write("in/items/2.csv", "id,value\n2,B\n3,c\n");
    sandbox.ok(&["build"]);
    assert_eq!(
        table(&sandbox),
        [
            json!({"id": 1, "value": "a", "v": 1}),
            json!({"id": 2, "value": "B", "v": 2}),
            json!({"id": 3, "value": "c", "v": 3})
        ]
    );
    assert_eq!(sandbox.value("select v from {{ ref('total') }}"), 6);
    let again = sandbox.json(&["build"]);
    assert!(again["nodes"].as_array().unwrap().iter().all(|node| node["status"] == "skipped"), "{again}");
}

#[test]
fn a_failed_test_leaves_the_columns_as_they_were() {
    let sandbox = changed(", on_schema_change='sync_all_columns'", "id, value", "id, nullif(value, 'c') as other");
    sandbox.write(
        "models/silver/items.yml",
        "models:\n  - name: items\n    columns:\n      - { name: other, data_tests: [not_null] }\n",
    );
    sandbox.lake(&["build"]).assert_failed(1, "nothing was published");
    let Some(python) = python() else { return };
    let found = seen(&python, &sandbox, "silver.items");
    assert_eq!((&found["version"], &found["types"]), (&json!(0), &json!({"id": "long", "value": "string"})));
    // What was refused has the new columns, until it is cleaned up.
    let refused = sandbox.json(&["show", "--staged", "items"]);
    assert!(refused.as_array().unwrap().iter().all(|row| row.get("value").is_none()), "{refused}");
    sandbox.ok(&["clean", "--staged"]);
    let files = std::fs::read_dir(sandbox.path("lake/silver/items")).unwrap();
    let data = files.filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().ends_with(".parquet")).count();
    assert_eq!(data, 1, "what was staged is gone");
}

#[test]
fn a_build_that_dies_while_columns_change_has_changed_nothing() {
    let sandbox = changed(", on_schema_change='sync_all_columns'", "id, value, cast(id as int) as v", "id, id as v");
    for point in ["staged", "manifest-written"] {
        let died = sandbox.command(&["build"]).env("LAKE_FAIL_POINT", point).output().unwrap();
        assert!(!died.status.success());
        if let Some(python) = python() {
            assert_eq!(seen(&python, &sandbox, "silver.items")["types"]["v"], "integer");
        }
    }
    sandbox.ok(&["build"]);
    assert_eq!(table(&sandbox), [json!({"id": 1, "v": 1}), json!({"id": 2, "v": 2}), json!({"id": 3, "v": 3})]);
}
