//! How models are kept: materializations, strategies, settings, gates, and when a table is built again.

use serde_json::{Value, json};

use crate::sandbox::{Sandbox, node};

/// A source `raw.items`.
pub const SOURCES: &str = "sources:
  - name: raw
    root: in
    tables:
      - name: items
        path: items/
        format: csv
        columns: [{ name: id, data_type: bigint }, { name: value, data_type: varchar }]
";

/// A project with a source `raw.items` of one file and these other files.
pub fn items(files: &[(&str, &str)]) -> Sandbox {
    let sandbox = Sandbox::new(&[("sources.yml", SOURCES), ("in/items/1.csv", "id,value\n1,a\n2,b\n")]);
    files.iter().for_each(|(path, text)| sandbox.write(path, text));
    sandbox
}

/// A project whose one model `silver.items` reads the source with these settings.
fn kept(config: &str) -> Sandbox {
    let sql = format!("{{{{ config({config}) }}}} select id, value from {{{{ source('raw', 'items') }}}}");
    items(&[("models/silver/items.sql", &sql)])
}

/// What a model holds, as sorted lines of values.
pub fn rows(sandbox: &Sandbox, model: &str) -> Vec<String> {
    let found = sandbox.json(&["show", model, "--limit", "0"]);
    let line = |row: &Value| {
        let values = row.as_object().unwrap().values();
        values.map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect::<Vec<_>>().join(" ")
    };
    let mut lines: Vec<String> = found.as_array().unwrap_or_else(|| panic!("{found}")).iter().map(line).collect();
    lines.sort();
    lines
}

/// Runs a command and returns status, action and reason of one node.
#[track_caller]
fn did(sandbox: &Sandbox, args: &[&str], name: &str) -> (String, String, String) {
    let report = sandbox.json(args);
    let part = |key: &str| node(&report, name)[key].as_str().unwrap().to_owned();
    (part("status"), part("action"), part("reason"))
}

#[track_caller]
fn assert_built(sandbox: &Sandbox, args: &[&str], name: &str, expected: &str) {
    let (status, action, reason) = did(sandbox, args, name);
    assert_eq!((status.as_str(), action.as_str()), ("success", expected), "{reason}");
}

#[track_caller]
fn assert_skipped(sandbox: &Sandbox, name: &str) {
    let (status, _, reason) = did(sandbox, &["build"], name);
    assert_eq!(status, "skipped", "{reason}");
}

#[test]
fn a_table_is_replaced_as_a_whole() {
    let sandbox = kept("materialized='table'");
    assert_built(&sandbox, &["build"], "silver.items", "create");
    sandbox.write("in/items/1.csv", "id,value\n3,c\n");
    assert_built(&sandbox, &["build"], "silver.items", "replace");
    assert_eq!(rows(&sandbox, "items"), ["3 c"]);
}

#[test]
fn views_and_ephemeral_models_have_no_table_and_are_read_through() {
    let sandbox = items(&[
        ("models/silver/seen.sql", "select id, value from {{ source('raw', 'items') }}"),
        ("models/silver/passed.sql", "{{ config(materialized='ephemeral') }} select id from {{ ref('seen') }}"),
        ("models/gold/total.sql", "{{ config(materialized='table') }} select sum(id) as n from {{ ref('passed') }}"),
    ]);
    let report = sandbox.json(&["build"]);
    assert_eq!(node(&report, "silver.seen")["action"], "view");
    assert!(!report["nodes"].to_string().contains("silver.passed"), "{report}");
    assert_eq!((rows(&sandbox, "total"), rows(&sandbox, "passed").len()), (vec!["3".to_owned()], 2));
    assert!(!sandbox.path("lake/silver").exists() && sandbox.path("lake/gold/total").is_dir());
    sandbox.write(
        "models/silver/passed.sql",
        "{{ config(materialized='ephemeral') }} select id * 2 as id from {{ ref('seen') }}",
    );
    assert_built(&sandbox, &["build"], "gold.total", "replace");
    assert_eq!(rows(&sandbox, "total"), ["6"]);
}

#[test]
fn appending_takes_each_file_once() {
    let sandbox = kept("materialized='incremental'");
    sandbox.ok(&["build"]);
    sandbox.write("in/items/2.csv", "id,value\n1,a\n");
    assert_built(&sandbox, &["build"], "silver.items", "append");
    assert_skipped(&sandbox, "silver.items");
    assert_eq!(rows(&sandbox, "items"), ["1 a", "1 a", "2 b"]);
}

#[test]
fn merging_updates_by_key_and_null_is_a_key_like_any_other() {
    let sandbox = kept("materialized='incremental', unique_key=['id']");
    sandbox.write("in/items/1.csv", "id,value\n1,a\n2,b\n,none\n");
    sandbox.ok(&["build"]);
    sandbox.write("in/items/2.csv", "id,value\n2,B\n3,c\n,still none\n");
    assert_built(&sandbox, &["build"], "silver.items", "merge");
    assert_eq!(rows(&sandbox, "items"), ["1 a", "2 B", "3 c", "still none"]);
}

#[test]
fn an_incremental_run_can_look_at_its_own_table() {
    let sql = "{{ config(materialized='incremental') }} select id, value from {{ source('raw', 'items') }}
        {% if is_incremental() %} where id > (select max(id) from {{ this }}) {% endif %}";
    let sandbox = items(&[("models/silver/items.sql", sql)]);
    sandbox.ok(&["build"]);
    sandbox.write("in/items/2.csv", "id,value\n1,late\n3,c\n");
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items"), ["1 a", "2 b", "3 c"]);
    sandbox.ok(&["build", "--full-refresh"]);
    assert_eq!(rows(&sandbox, "items"), ["1 a", "1 late", "2 b", "3 c"]);
}

#[test]
fn two_new_rows_of_one_key_stop_the_merge() {
    let sandbox = kept("materialized='incremental', unique_key='id'");
    sandbox.ok(&["build"]);
    sandbox.write("in/items/2.csv", "id,value\n7,x\n7,y\n1,A\n");
    let run = sandbox.lake(&["build"]);
    run.assert_failed(1, "id=7");
    run.assert_failed(1, "sequence_by");
    assert_eq!(rows(&sandbox, "items"), ["1 a", "2 b"]);
    std::fs::remove_file(sandbox.path("in/items/2.csv")).unwrap();
    assert_skipped(&sandbox, "silver.items");
}

#[test]
fn sequence_by_says_which_new_row_counts() {
    let sandbox = kept("materialized='incremental', unique_key='id', sequence_by='value'");
    sandbox.write("in/items/1.csv", "id,value\n1,2026-01-01\n1,2026-01-03\n1,2026-01-02\n2,\n");
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items"), ["1 2026-01-03", "2"]);
    sandbox.write("in/items/2.csv", "id,value\n2,first\n2,first\n");
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items"), ["1 2026-01-03", "2 first"]);
}

#[test]
fn a_full_refresh_reads_all_files_again() {
    let sandbox = kept("materialized='incremental'");
    sandbox.ok(&["build"]);
    sandbox.write("in/items/2.csv", "id,value\n3,c\n");
    assert_built(&sandbox, &["build", "--full-refresh"], "silver.items", "replace");
    assert_eq!(rows(&sandbox, "items"), ["1 a", "2 b", "3 c"]);
    assert_skipped(&sandbox, "silver.items");
}

#[test]
fn the_nearest_setting_wins() {
    let sandbox = kept("");
    let materialized =
        |sandbox: &Sandbox| sandbox.json(&["ls", "--select", "items"])[0]["config"]["materialized"].clone();
    assert_eq!(materialized(&sandbox), "view");
    let project = "name: sandbox\ntargets:\n  dev: { root: lake }\nmodels:\n  silver: { materialized: table }\n";
    sandbox.write("project.yml", project);
    assert_eq!(materialized(&sandbox), "table");
    sandbox.write("models/silver/items.yml", "models:\n  - name: items\n    config: { materialized: incremental }\n");
    assert_eq!(materialized(&sandbox), "incremental");
    sandbox.write("models/silver/items.sql", "{{ config(materialized='ephemeral') }} select 1 as id");
    assert_eq!(materialized(&sandbox), "ephemeral");
}

#[test]
fn a_new_column_does_what_on_schema_change_says() {
    let wide = |change: &str| {
        format!(
            "{{{{ config(materialized='incremental'{change}) }}}} \
             select id, value, id * 10 as tens from {{{{ source('raw', 'items') }}}}"
        )
    };
    let sandbox = kept("materialized='incremental'");
    sandbox.ok(&["build"]);
    sandbox.write("in/items/2.csv", "id,value\n3,c\n");
    sandbox.write("models/silver/items.sql", wide(""));
    sandbox.lake(&["build"]).assert_failed(1, "column `tens` is new");
    sandbox.write("models/silver/items.sql", wide(", on_schema_change='ignore'"));
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items"), ["1 a", "2 b", "3 c"]);
    sandbox.write("in/items/3.csv", "id,value\n4,d\n");
    sandbox.write("models/silver/items.sql", wide(", on_schema_change='append_new_columns'"));
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items"), ["1 a", "2 b", "3 c", "4 d 40"]);
}

#[test]
fn partitions_are_folders_of_the_table() {
    let sandbox = kept("materialized='incremental', unique_key='id', partition_by=['value']");
    sandbox.ok(&["build"]);
    assert!(sandbox.path("lake/silver/items/value=a").is_dir() && sandbox.path("lake/silver/items/value=b").is_dir());
    sandbox.write("in/items/2.csv", "id,value\n1,b\n3,\n");
    assert_built(&sandbox, &["build"], "silver.items", "merge");
    assert_eq!(rows(&sandbox, "items"), ["1 b", "2 b", "3"]);
}

#[test]
fn a_failed_test_publishes_nothing_and_blocks_what_reads_it() {
    let sandbox = kept("materialized='table'");
    sandbox.write("models/gold/below.sql", "{{ config(materialized='table') }} select id from {{ ref('items') }}");
    sandbox.write("models/gold/last.sql", "{{ config(materialized='table') }} select id from {{ ref('below') }}");
    sandbox.write(
        "models/gold/apart.sql",
        "{{ config(materialized='table') }} select count(*) as n from {{ source('raw', 'items') }}",
    );
    let tests = "models:\n  - name: items\n    columns:\n      - { name: id, data_tests: [not_null] }\n";
    sandbox.write("models/silver/items.yml", tests);
    sandbox.ok(&["build"]);
    sandbox.write("in/items/2.csv", "id,value\n,x\n");
    let run = sandbox.lake(&["build"]);
    run.assert_failed(1, "not_null_items_id");
    let report = sandbox.json(&["build"]);
    let status = |name: &str| node(&report, name)["status"].as_str().unwrap();
    assert_eq!(status("silver.items"), "error");
    assert_eq!((status("gold.below"), status("gold.last")), ("blocked", "blocked"));
    assert!(node(&report, "gold.last")["reason"].as_str().unwrap().contains("silver.items"), "{report}");
    assert_eq!(
        (rows(&sandbox, "items"), rows(&sandbox, "apart")),
        (vec!["1 a".into(), "2 b".into()], vec!["3".to_owned()])
    );
    let (status, _, _) = did(&sandbox, &["run"], "silver.items");
    assert_eq!((status.as_str(), rows(&sandbox, "below").len()), ("success", 3));
}

#[test]
fn a_warning_is_counted_and_the_build_goes_on() {
    let sandbox = kept("materialized='table'");
    let test = "{ not_null: { config: { severity: warn } } }";
    let columns = format!("[{{ name: value, data_tests: [{test}] }}]");
    sandbox.write("models/silver/items.yml", format!("models:\n  - {{ name: items, columns: {columns} }}\n"));
    sandbox.write("in/items/2.csv", "id,value\n3,\n4,\n");
    let report = sandbox.json(&["build"]);
    let test = &node(&report, "silver.items")["tests"][0];
    assert_eq!((&test["status"], &test["failures"]), (&json!("warn"), &json!(2)));
    assert_eq!(rows(&sandbox, "items").len(), 4);
}

const EVERY_TEST: &str = "models:
  - name: items
    data_tests:
      - unique_combination_of_columns: { name: pair, combination_of_columns: [id, value] }
      - expression_is_true: { name: small, expression: id < 100 }
    columns:
      - name: id
        data_tests:
          - not_null: { name: filled }
          - unique: { name: once }
          - unique: { name: once_where, where: id > 10 }
          - expression_is_true: { name: positive, expression: '> 0' }
          - relationships: { name: known, to: ref('ids'), field: id }
      - name: value
        data_tests:
          - accepted_values: { name: letters, values: [a, b] }
";

#[test]
fn every_kind_of_test_counts_the_rows_that_are_wrong() {
    let sandbox = kept("materialized='table'");
    sandbox.write("models/silver/items.yml", EVERY_TEST);
    sandbox.write("models/silver/ids.sql", "select 1 as id union all select 2 union all select 500");
    sandbox.write("tests/no_z.sql", "select * from {{ ref('items') }} where value = 'z'");
    let counts = |report: &Value| {
        let text = |test: &Value, key: &str| test[key].as_str().unwrap().to_owned();
        let line = |test: &Value| format!("{} {} {}", text(test, "name"), text(test, "status"), test["failures"]);
        let mut lines: Vec<_> = node(report, "silver.items")["tests"].as_array().unwrap().iter().map(line).collect();
        lines.sort();
        lines
    };
    let passed = ["filled", "known", "letters", "no_z", "once", "once_where", "pair", "positive", "small"];
    assert_eq!(counts(&sandbox.json(&["build"])), passed.map(|name| format!("{name} pass 0")));
    sandbox.write("in/items/2.csv", "id,value\n,a\n2,b\n-1,z\n500,\n-1,z\n-1,y\n");
    let report = sandbox.json(&["build"]);
    let expected = [
        "filled fail 1",
        "known fail 3",
        "letters fail 3",
        "no_z fail 2",
        "once fail 2",
        "once_where pass 0",
        "pair fail 2",
        "positive fail 3",
        "small fail 1",
    ];
    assert_eq!(counts(&report), expected);
}

#[test]
fn published_rows_that_no_longer_pass_fail_the_test_command() {
    let sandbox = kept("materialized='table'");
    let tests = "models:\n  - name: items\n    columns:\n      - { name: id, data_tests: [unique] }\n";
    sandbox.write("models/silver/items.yml", tests);
    sandbox.ok(&["build"]);
    sandbox.ok(&["test"]);
    sandbox.write("in/items/2.csv", "id,value\n1,again\n");
    sandbox.ok(&["run"]);
    sandbox.lake(&["test"]).assert_failed(1, "unique_items_id");
    let (status, _, reason) = did(&sandbox, &["build"], "silver.items");
    assert_eq!(status, "error", "{reason}");
}

#[test]
fn an_empty_folder_is_fine_and_writes_nothing() {
    let sandbox = kept("materialized='incremental'");
    sandbox.write("models/gold/total.sql", "{{ config(materialized='table') }} select id from {{ ref('items') }}");
    std::fs::remove_file(sandbox.path("in/items/1.csv")).unwrap();
    sandbox.ok(&["build"]);
    assert!(!sandbox.path("lake/silver").exists() && !sandbox.path("lake/gold").exists());
    assert!(rows(&sandbox, "items").is_empty());
    sandbox.write("in/items/1.csv", "id,value\n5,e\n");
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "total"), ["5"]);
}

#[test]
fn a_missing_folder_fails_its_own_branch_only() {
    let sandbox = kept("materialized='incremental'");
    sandbox.write("models/gold/below.sql", "{{ config(materialized='table') }} select id from {{ ref('items') }}");
    sandbox.write("models/gold/apart.sql", "{{ config(materialized='table') }} select 1 as n");
    std::fs::remove_dir_all(sandbox.path("in/items")).unwrap();
    sandbox.lake(&["build"]).assert_failed(1, "in/items");
    assert_eq!(rows(&sandbox, "apart"), ["1"]);
    assert!(!sandbox.path("lake/silver").exists() && !sandbox.path("lake/gold/below").exists());
}

#[test]
fn a_changed_file_does_what_on_changed_file_says() {
    let policies = [("fail", &["1 a", "2 b"][..]), ("append", &["1 A", "1 a", "2 b"]), ("ignore", &["1 a", "2 b"])];
    for (policy, found) in policies {
        let sandbox = kept("materialized='incremental'");
        sandbox.write("sources.yml", format!("{SOURCES}        on_changed_file: {policy}\n"));
        sandbox.ok(&["build"]);
        sandbox.write("in/items/1.csv", "id,value\n1,A\n");
        let run = sandbox.lake(&["build"]);
        if policy == "fail" {
            run.assert_failed(1, "1.csv");
        } else {
            assert_eq!(run.code, 0, "{policy}: {}", run.stdout);
            assert_skipped(&sandbox, "silver.items");
        }
        assert_eq!(rows(&sandbox, "items"), found, "{policy}");
    }
}

#[test]
fn a_table_is_built_again_for_its_meaning_and_not_for_its_layout() {
    let model = |comment: &str, value: &str| {
        let head = "{{ config(materialized='table') }}";
        format!("{comment}{head}\nselect id, {value} as value\nfrom {{{{ source('raw', 'items') }}}}\n")
    };
    let sandbox = items(&[("models/silver/items.sql", &model("", "value"))]);
    sandbox.ok(&["build"]);
    sandbox.write("models/silver/items.sql", model("-- the same\n", "\n    value /* too */ "));
    assert_skipped(&sandbox, "silver.items");
    sandbox.write("models/silver/items.sql", model("", "upper(value)"));
    assert_built(&sandbox, &["build"], "silver.items", "replace");
    assert_eq!(rows(&sandbox, "items"), ["1 A", "2 B"]);
}

#[test]
fn another_variable_builds_a_table_again() {
    let sql = "{{ config(materialized='table') }} select {{ var('factor', 1) }} as n";
    let sandbox = items(&[("models/silver/one.sql", sql)]);
    sandbox.ok(&["build"]);
    assert_built(&sandbox, &["build", "--vars", "{factor: 2}"], "silver.one", "replace");
    let (status, _, _) = did(&sandbox, &["build", "--vars", "{factor: 2}"], "silver.one");
    assert_eq!((status.as_str(), rows(&sandbox, "one")), ("skipped", vec!["2".to_owned()]));
}

#[test]
fn a_table_that_asks_for_the_time_is_always_built_again() {
    let sandbox = items(&[("models/silver/clock.sql", "{{ config(materialized='table') }} select now() as at")]);
    sandbox.ok(&["build"]);
    let (status, _, reason) = did(&sandbox, &["build"], "silver.clock");
    assert!(status == "success" && reason.contains("now()"), "{status}: {reason}");
}

#[test]
fn a_model_that_becomes_incremental_takes_no_row_in_twice() {
    let model = |kind: &str| {
        format!("{{{{ config(materialized='{kind}') }}}} select id, value from {{{{ source('raw', 'items') }}}}")
    };
    let sandbox = items(&[("models/silver/items.sql", &model("table"))]);
    for kind in ["table", "incremental", "table", "incremental"] {
        sandbox.write("models/silver/items.sql", model(kind));
        sandbox.ok(&["build"]);
        assert_eq!(rows(&sandbox, "items"), ["1 a", "2 b"], "{kind}");
    }
}

#[test]
fn a_table_that_holds_what_it_held_is_not_new_for_anybody() {
    let sandbox = Sandbox::new(&[
        (
            "sources.yml",
            "sources:\n  - name: raw\n    tables:\n      - name: a\n        path: in/\n        format: csv\n        columns:\n\
            \x20         - { name: id, data_type: bigint }\n          - { name: amount, data_type: double }\n",
        ),
        ("models/silver/a.sql", "{{ config(materialized='table') }} select * from {{ source('raw', 'a') }}"),
        ("models/gold/ids.sql", "{{ config(materialized='table') }} select distinct id from {{ ref('a') }}"),
        ("models/gold/last.sql", "{{ config(materialized='table') }} select max(id) as id from {{ ref('ids') }}"),
        ("in/1.csv", "id,amount\n1,1.5\n2,\n2,\n3,7\n"),
    ]);
    sandbox.ok(&["build"]);
    let built = |what: &str| -> Vec<String> {
        let report = sandbox.json(&["build"]);
        let told = |name: &str| {
            let node = node(&report, name);
            format!("{} {}", node["status"].as_str().unwrap(), node["action"].as_str().unwrap())
        };
        let told = ["silver.a", "gold.ids", "gold.last"].map(told).to_vec();
        assert!(!told.is_empty(), "{what}");
        told
    };
    // Other amounts, in another order, of the same ids: nobody reads the amounts.
    sandbox.write("in/1.csv", "id,amount\n3,8\n2,1\n1,1.5\n2,4\n");
    assert_eq!(built("other amounts"), ["success replace", "skipped ", "skipped "]);
    assert_eq!(built("nothing"), ["skipped ", "skipped ", "skipped "]);
    // Another query for the same rows.
    sandbox
        .write("models/gold/ids.sql", "{{ config(materialized='table') }} select id from {{ ref('a') }} group by id");
    assert_eq!(built("another query"), ["skipped ", "success unchanged", "skipped "]);
    assert_eq!(built("nothing again"), ["skipped ", "skipped ", "skipped "]);
    // A row more, one row less, another type: each is something new.
    sandbox.write("in/1.csv", "id,amount\n3,8\n2,1\n1,1.5\n2,4\n4,1\n");
    assert_eq!(built("a row more"), ["success replace", "success replace", "success replace"]);
    sandbox.write("in/1.csv", "id,amount\n3,8\n2,1\n1,1.5\n4,1\n");
    assert_eq!(built("one of two equal ids less"), ["success replace", "success unchanged", "skipped "]);
    sandbox.write(
        "models/gold/ids.sql",
        "{{ config(materialized='table') }} select distinct cast(id as int) as id from {{ ref('a') }}",
    );
    assert_eq!(built("another type"), ["skipped ", "success replace", "success replace"]);
    assert_eq!(sandbox.query("select id from gold.ids order by id").len(), 4);
    // The versions that hold the same say so, and can be gone back to.
    let versions = sandbox.json(&["history", "gold.ids"]);
    let versions = versions.as_array().unwrap();
    assert_eq!(versions.len(), 5, "{versions:#?}");
    sandbox.ok(&["rollback", "gold.ids", "--to", "1"]);
    assert_eq!(sandbox.query("select id from gold.ids order by id").len(), 3);
    assert_eq!(built("after a rollback")[1], "success replace");
    assert_eq!(sandbox.query("select id from gold.ids order by id").len(), 4);
}

#[test]
fn a_name_in_letters_of_any_language_is_the_name_of_a_folder() {
    let sandbox = items(&[
        (
            "models/gold/größe.sql",
            "{{ config(materialized='table') }} select count(*) as n from {{ source('raw', 'items') }}",
        ),
        ("models/gold/größe.yml", "models: [{ name: größe, columns: [{ name: n, data_tests: [not_null] }] }]"),
    ]);
    sandbox.ok(&["build"]);
    assert!(sandbox.path("lake/gold/größe/_delta_log").is_dir());
    assert_eq!(sandbox.value("select n from gold.größe"), 2);
    assert_eq!(sandbox.json(&["build"])["nodes"][0]["status"], "skipped");
}
