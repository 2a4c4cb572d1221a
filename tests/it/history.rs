//! What runs did to tables, and taking it back: after a rollback the next build gives what an undisturbed one gives.

use serde_json::{Value, json};

use crate::materialize::{items, rows};
use crate::reader;
use crate::sandbox::{Sandbox, node};

/// `silver.items` takes files in with these settings, `gold.total` reads it; two builds of a file each.
fn built(config: &str) -> Sandbox {
    let sql = format!("{{{{ config({config}) }}}} select id, value from {{{{ source('raw', 'items') }}}}");
    let total = "{{ config(materialized='table') }} select count(*) as n, sum(id) as s from {{ ref('items') }}";
    let sandbox = items(&[
        ("models/silver/items.sql", &sql),
        ("models/gold/total.sql", total),
        ("models/silver/items.yml", "models:\n  - name: items\n    columns: [{ name: id, data_tests: [not_null] }]\n"),
    ]);
    sandbox.ok(&["build"]);
    sandbox.write("in/items/2.csv", "id,value\n2,z\n3,c\n");
    sandbox.ok(&["build"]);
    sandbox
}

fn runs(sandbox: &Sandbox) -> Vec<String> {
    let runs = sandbox.json(&["history"]);
    runs.as_array().unwrap().iter().map(|run| run["invocation_id"].as_str().unwrap().to_owned()).collect()
}

const WAYS: [&str; 4] = [
    "materialized='incremental'",
    "materialized='incremental', unique_key='id'",
    "materialized='incremental', incremental_strategy='delete+insert', unique_key='id', partition_by='id'",
    "materialized='table'",
];

#[test]
fn a_table_goes_back_and_the_next_build_takes_its_files_again() {
    for config in WAYS {
        let sandbox = built(config);
        let (items, total) = (rows(&sandbox, "items"), rows(&sandbox, "total"));
        let back = sandbox.json(&["rollback", "items", "--to", "0"]);
        assert_eq!(back["tables"], json!([{"table": "silver.items", "version": 2, "restored": 0}]), "{config}");
        assert_eq!(rows(&sandbox, "items"), ["1 a", "2 b"], "{config}");
        if let Some(python) = reader::python() {
            reader::assert_agree(&python, &sandbox, "lake", "silver.items");
        }
        let report = sandbox.json(&["build"]);
        assert_eq!(node(&report, "silver.items")["status"], "success", "{config}: {report}");
        assert_eq!((rows(&sandbox, "items"), rows(&sandbox, "total")), (items.clone(), total.clone()), "{config}");
        assert_eq!(node(&sandbox.json(&["build"]), "silver.items")["status"], "skipped", "{config}");
        // Forth again, to the version before the rollback: what it had taken in is known again.
        sandbox.ok(&["rollback", "silver.items", "--to", "1"]);
        assert_eq!(rows(&sandbox, "items"), items, "{config}");
        let report = sandbox.json(&["build", "--select", "items"]);
        assert_eq!(node(&report, "silver.items")["status"], "skipped", "{config}: {report}");
        let operations = sandbox.json(&["history", "items"]);
        let operations: Vec<&str> =
            operations.as_array().unwrap().iter().map(|version| version["operation"].as_str().unwrap()).collect();
        assert_eq!((operations[0], operations[2], operations.len()), ("restore 1", "restore 0", 5), "{config}");
    }
}

#[test]
fn a_run_is_taken_back_from_all_of_its_tables() {
    for config in WAYS {
        let sandbox = built(config);
        let after = (rows(&sandbox, "items"), rows(&sandbox, "total"));
        let ids = runs(&sandbox);
        assert_eq!(ids.len(), 2);
        sandbox.lake(&["rollback", &ids[1]]).assert_failed(2, "was published to by another run since");
        let run = sandbox.lake(&["rollback", &ids[0]]);
        assert!(run.code == 0 && run.stdout.contains("silver.items  version 2 is what version 0 was"), "{run:?}");
        assert_eq!(
            (rows(&sandbox, "items"), rows(&sandbox, "total")),
            (vec!["1 a".into(), "2 b".into()], vec!["2 3".into()])
        );
        // A rollback is a run, and can be taken back itself.
        let undone = runs(&sandbox);
        assert_eq!(undone.len(), 3);
        sandbox.ok(&["rollback", &undone[0]]);
        assert_eq!((rows(&sandbox, "items"), rows(&sandbox, "total")), after, "{config}");
        sandbox.ok(&["rollback", &runs(&sandbox)[0]]);
        sandbox.ok(&["build"]);
        assert_eq!((rows(&sandbox, "items"), rows(&sandbox, "total")), after, "{config}");
        assert_eq!(std::fs::read_dir(sandbox.path("lake/_lake/journal")).unwrap().count(), 0);
    }
}

#[test]
fn a_table_that_a_run_made_is_empty_again() {
    for config in WAYS {
        let sandbox = built(config);
        std::fs::remove_dir_all(sandbox.path("lake")).unwrap();
        sandbox.write("in/items/2.csv", "id,value\n3,c\n");
        sandbox.ok(&["build"]);
        let after = rows(&sandbox, "items");
        let run = sandbox.lake(&["rollback", &runs(&sandbox)[0]]);
        assert!(run.stdout.contains("is empty: the run made the table"), "{run:?}");
        assert_eq!(rows(&sandbox, "items"), [""; 0], "{config}");
        sandbox.ok(&["build"]);
        assert_eq!(rows(&sandbox, "items"), after, "{config}");
    }
}

#[test]
fn a_version_with_other_columns_comes_back_with_them() {
    let sandbox = built("materialized='incremental', on_schema_change='append_new_columns'");
    let sql = std::fs::read_to_string(sandbox.path("models/silver/items.sql")).unwrap();
    sandbox.write("models/silver/items.sql", sql.replace("select id", "select id * 2 as twice, id"));
    sandbox.write("in/items/3.csv", "id,value\n4,d\n");
    sandbox.ok(&["build"]);
    let after = sandbox.query("select * from silver.items order by id, value");
    sandbox.ok(&["rollback", "items", "--to", "1"]);
    let log = std::fs::read_to_string(sandbox.path("lake/silver/items/_delta_log/00000000000000000003.json")).unwrap();
    let schema = log.lines().find(|line| line.contains("metaData")).expect("the columns go back too");
    assert!(!schema.contains("twice"), "{schema}");
    sandbox.ok(&["build"]);
    assert_eq!(sandbox.query("select * from silver.items order by id, value"), after);
}

#[test]
fn history_tells_what_came_and_what_went() {
    let sandbox = built("materialized='incremental', unique_key='id'");
    let versions = sandbox.json(&["history", "items"]);
    let seen = |version: &Value| ["version", "operation", "rows", "tests"].map(|key| version[key].clone());
    assert_eq!(seen(&versions[0]), [json!(1), json!("update"), json!(3), json!(1)], "{versions}");
    assert_eq!(seen(&versions[1]), [json!(0), json!("create"), json!(2), json!(1)]);
    assert_eq!(sandbox.json(&["history", "items", "--limit", "1"]), json!([versions[0]]));
    let text = sandbox.ok(&["history", "items"]);
    assert!(text.lines().next().unwrap().starts_with("version  when (UTC)"), "{text}");
    let text = sandbox.ok(&["history"]);
    assert!(
        text.contains("    silver.items  version 1, update") && text.contains("    gold.total    version 0, create"),
        "{text}"
    );
    sandbox.lake(&["history", "itms"]).assert_failed(2, "did you mean `items`?");
}

#[test]
fn a_rollback_that_cannot_be_says_why() {
    let sandbox = built("materialized='table'");
    let fails = |args: &[&str], why: &str| sandbox.lake(&[&["rollback"], args].concat()).assert_failed(2, why);
    fails(&["items"], "lake rollback silver.items --to VERSION");
    fails(&["0123"], "`lake history` lists the runs");
    fails(&["0"], "is the beginning of 2 runs");
    fails(&["items", "--to", "1"], "is at version 1 already");
    fails(&["items", "--to", "9"], "its newest one is 1");
    fails(&["raw.items", "--to", "0"], "is a source");
    // Files of the old version are gone, as after a vacuum.
    let log = std::fs::read_to_string(sandbox.path("lake/silver/items/_delta_log/00000000000000000000.json")).unwrap();
    let add = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["add"]["path"].as_str().map(str::to_owned));
    for path in add {
        std::fs::remove_file(sandbox.path("lake/silver/items").join(path)).unwrap();
    }
    fails(&["items", "--to", "0"], "a vacuum has taken them away");
    assert_eq!(rows(&sandbox, "items").len(), 4, "nothing happened to it");
}

#[test]
fn the_quarantine_goes_back_with_its_table() {
    let sql = "{{ config(materialized='incremental') }} select id, value from {{ source('raw', 'items') }}";
    let sandbox = items(&[("models/silver/items.sql", sql), ("models/silver/more.sql", sql)]);
    let sources = std::fs::read_to_string(sandbox.path("sources.yml")).unwrap();
    sandbox.write(
        "sources.yml",
        sources.replace("format: csv", "format: csv\n        on_bad_row: quarantine\n        on_changed_file: replace"),
    );
    sandbox.write("in/items/1.csv", "id,value\n1,a\nx,b\n");
    sandbox.ok(&["build"]);
    sandbox.write("in/items/2.csv", "id,value\n2,z\ny,c\n");
    sandbox.write("in/items/1.csv", "id,value\n1,a\n7,bb\nw,d\n");
    sandbox.ok(&["build"]);
    let quarantined = || {
        let sql = "select model, file_path, row_number, raw_text, replayed_at is null as waits from quarantine.raw__items order by 1, 2, 3";
        sandbox.query(sql)
    };
    let after = (rows(&sandbox, "items"), rows(&sandbox, "more"), quarantined());
    assert_eq!(after.2.len(), 4);
    sandbox.ok(&["rollback", "items", "--to", "0"]);
    sandbox.ok(&["build"]);
    assert_eq!((rows(&sandbox, "items"), rows(&sandbox, "more"), quarantined()), after);
    // Back to before the first file, of one table of the two.
    sandbox.ok(&["rollback", "items", "--to", "0"]);
    sandbox.ok(&["rollback", "more", "--to", "0"]);
    sandbox.ok(&["build", "--select", "more"]);
    sandbox.ok(&["build"]);
    assert_eq!((rows(&sandbox, "items"), rows(&sandbox, "more"), quarantined()), after);
    std::fs::remove_dir_all(sandbox.path("lake")).unwrap();
    sandbox.ok(&["build"]);
    let after = (rows(&sandbox, "items"), quarantined());
    sandbox.ok(&["rollback", &runs(&sandbox)[0]]);
    sandbox.ok(&["build"]);
    assert_eq!((rows(&sandbox, "items"), quarantined()), after);
}

#[test]
fn a_model_that_is_wrong_can_be_taken_back_all_the_same() {
    let sandbox = built("materialized='table'");
    let runs = runs(&sandbox);
    let sql = std::fs::read_to_string(sandbox.path("models/silver/items.sql")).unwrap();
    sandbox.write("models/silver/items.sql", sql.replace("materialized=", "partition_bi='x', materialized="));
    let run = sandbox.lake(&["rollback", "silver.items", "--to", "0"]);
    assert!(run.code == 0 && run.stderr.contains("unknown config `partition_bi`"), "{run:?}");
    let versions = sandbox.json(&["history", "silver.items"]);
    assert_eq!((&versions[0]["version"], &versions[0]["rows"]), (&json!(2), &json!(2)), "{versions}");
    sandbox.lake(&["rollback", &runs[0]]).assert_failed(2, "a model may be missing while the project has mistakes");
    for odd in [".", "..", "./models/silver/x.sql", "a..", "_lake.runs"] {
        sandbox.lake(&["history", odd]).assert_failed(2, "there is no model");
    }
    sandbox.lake(&["history", "silver.nothing"]).assert_failed(2, "there is no model `silver.nothing`");
}

#[test]
fn upkeep_is_of_no_run_and_stands_in_no_way() {
    let sandbox = built("materialized='incremental'");
    sandbox.write("in/items/3.csv", "id,value\n4,d\n");
    sandbox.ok(&["build"]);
    let before = runs(&sandbox);
    sandbox.ok(&["maintain"]);
    let versions = sandbox.json(&["history", "items"]);
    assert_eq!((&versions[0]["operation"], &versions[0]["upkeep"]), (&json!("optimize"), &json!(true)), "{versions}");
    assert_eq!((&versions[0]["invocation_id"], &versions[1]["upkeep"]), (&Value::Null, &json!(false)));
    assert_eq!(runs(&sandbox), before);
    let newest = sandbox.json(&["history", "--limit", "1"]);
    assert_eq!(newest.as_array().unwrap().len(), 1);
    let items = newest[0]["tables"].as_array().unwrap().iter().find(|table| table["table"] == "silver.items").unwrap();
    assert_eq!((&items["first"], &items["last"]), (&json!(2), &json!(2)), "{newest}");
    sandbox.ok(&["rollback", &before[0]]);
    assert_eq!(rows(&sandbox, "items").len(), 4);
}
