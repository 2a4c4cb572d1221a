//! `lake maintain`: fewer files, and none that nobody needs, without a row that changes or a model that is built again.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::care::seen;
use crate::materialize::{items, rows};
use crate::reader::{assert_agree, python};
use crate::sandbox::Sandbox;

const ITEMS: &str = "{{ config(materialized='incremental', auto_optimize=false) }} \
                     select id, value from {{ source('raw', 'items') }}";
const PARTED: &str = "{{ config(materialized='incremental', unique_key='id', partition_by='value', auto_optimize=false) }} \
                      select id, value from {{ source('raw', 'items') }}";
const TOTAL: &str = "{{ config(materialized='table') }} select count(*) as n from {{ ref('items') }}";

/// Two tables after so many deliveries, and one that reads them.
fn delivered(deliveries: usize) -> Sandbox {
    let sandbox = items(&[
        ("models/silver/items.sql", ITEMS),
        ("models/silver/parted.sql", PARTED),
        ("models/gold/total.sql", TOTAL),
    ]);
    sandbox.ok(&["build"]);
    for file in 2..=deliveries {
        sandbox.write(&format!("in/items/{file}.csv"), format!("id,value\n{file}0,a\n{file}1,b\n1,a\n"));
        sandbox.ok(&["build"]);
    }
    sandbox
}

#[track_caller]
fn maintained<'a>(report: &'a Value, name: &str) -> &'a Value {
    let all = report.as_array().unwrap_or_else(|| panic!("{report}"));
    all.iter().find(|table| table["name"] == name).unwrap_or_else(|| panic!("no {name}: {report}"))
}

/// Every node of a build is skipped.
#[track_caller]
fn assert_nothing_to_build(sandbox: &Sandbox) {
    let report = sandbox.json(&["build"]);
    let nodes = report["nodes"].as_array().unwrap_or_else(|| panic!("{report}"));
    assert!(nodes.iter().all(|node| node["status"] == "skipped"), "{report}");
}

fn data_files(sandbox: &Sandbox, table: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let hidden = entry.file_name().unwrap().to_string_lossy().starts_with('_');
            if entry.is_dir() && !hidden {
                walk(&entry, found);
            } else if entry.extension().is_some_and(|extension| extension == "parquet") {
                found.push(entry);
            }
        }
    }
    let mut found = Vec::new();
    walk(&sandbox.path("lake").join(table.replace('.', "/")), &mut found);
    found
}

/// Days ago: a file was written, or a version has replaced one.
fn age(path: &Path, days: u64) {
    let then = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
    std::fs::File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
}

fn age_log(sandbox: &Sandbox, table: &str, days: u64) {
    let then = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
    let then = then.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let folder = sandbox.path("lake").join(table.replace('.', "/")).join("_delta_log");
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.extension().is_some_and(|extension| extension == "json") {
            let text = std::fs::read_to_string(&entry).unwrap();
            let lines = text.lines().map(|line| {
                let mut action: Value = serde_json::from_str(line).unwrap();
                if let Some(removed) = action.get_mut("remove") {
                    removed["deletionTimestamp"] = json!(then);
                }
                action.to_string()
            });
            std::fs::write(&entry, lines.collect::<Vec<_>>().join("\n") + "\n").unwrap();
            age(&entry, days);
        }
    }
}

#[test]
fn small_files_are_packed_and_nothing_is_built_again() {
    let Some(python) = python() else { return };
    let sandbox = delivered(6);
    let (before, parted) = (rows(&sandbox, "items"), rows(&sandbox, "parted"));
    let report = sandbox.json(&["maintain", "--dry-run"]);
    assert_eq!(maintained(&report, "silver.items")["packed"]["files"], 6, "{report}");
    assert_eq!(seen(&python, &sandbox, "silver.items")["version"], 5);

    let report = sandbox.json(&["maintain"]);
    let table = maintained(&report, "silver.items");
    assert_eq!(
        (&table["packed"]["files"], &table["packed"]["into"], &table["version"]),
        (&json!(6), &json!(1), &json!(6))
    );
    assert_eq!(seen(&python, &sandbox, "silver.items")["files"].as_array().unwrap().len(), 1);
    assert_eq!(seen(&python, &sandbox, "silver.parted")["files"].as_array().unwrap().len(), 2);
    assert_nothing_to_build(&sandbox);
    assert_eq!((rows(&sandbox, "items"), rows(&sandbox, "parted")), (before, parted));
    for model in ["silver.items", "silver.parted", "gold.total"] {
        assert_agree(&python, &sandbox, "lake", model);
    }
    // Nothing is left to do, and files are still known.
    let report = sandbox.json(&["maintain"]);
    let own = |table: &&serde_json::Value| !table["name"].as_str().unwrap().starts_with("_lake.");
    assert!(report.as_array().unwrap().iter().filter(own).all(|table| table["packed"]["files"] == 0), "{report}");
    sandbox.write("in/items/new.csv", "id,value\n99,z\n");
    let report = sandbox.json(&["build"]);
    assert_eq!(crate::sandbox::node(&report, "silver.items")["rows"], 1, "{report}");
    assert_eq!(crate::sandbox::node(&report, "gold.total")["status"], "success", "{report}");
    assert_eq!(rows(&sandbox, "items").iter().filter(|row| *row == "99 z").count(), 1);
}

#[test]
fn deletes_that_count_are_remembered_and_what_was_refused_long_ago_is_not() {
    let latest = "{{ config(materialized='incremental', unique_key='id', sequence_by='seq', delete_when=\"value = 'gone'\") }} \
                  select id, value, length(value) as seq from {{ source('raw', 'items') }}";
    let sandbox = items(&[
        ("models/silver/items.sql", latest),
        (
            "models/silver/items.yml",
            "models:\n  - name: items\n    columns: [{ name: value, data_tests: [not_null] }]\n",
        ),
    ]);
    sandbox.ok(&["build"]);
    sandbox.write("in/items/2.csv", "id,value\n2,gone\n");
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items"), ["1 a 1"]);
    // A killed run has left a set of its own.
    let own = sandbox.path("lake/silver/items/_lake");
    let sets = std::fs::read_dir(own.join("tombstones"))
        .unwrap()
        .flat_map(|set| std::fs::read_dir(set.unwrap().path()).unwrap());
    let file = sets
        .map(|file| file.unwrap().path())
        .find(|file| file.extension().is_some_and(|ending| ending == "parquet"))
        .unwrap();
    sandbox.write("in/items/3.csv", "id,value\n3,\n");
    sandbox.lake(&["build"]).assert_failed(1, "not_null_items_value");
    std::fs::remove_file(sandbox.path("in/items/3.csv")).unwrap();
    let crashed = own.join("tombstones/77/x.parquet");
    std::fs::create_dir_all(crashed.parent().unwrap()).unwrap();
    std::fs::copy(&file, &crashed).unwrap();
    let record = std::fs::read_dir(own.join("staged")).unwrap().next().unwrap().unwrap().path();
    age_log(&sandbox, "silver.items", 8);
    [&file, &crashed, &record].into_iter().for_each(|path| age(path, 8));
    let report = sandbox.json(&["maintain"]);
    assert_eq!(maintained(&report, "silver.items")["leftovers"]["files"], 2, "{report}");
    assert!(file.exists() && !crashed.exists() && !record.exists());
    sandbox.write("in/items/4.csv", "id,value\n2,b\n4,d\n");
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items"), ["1 a 1", "4 d 1"]);
}

#[test]
fn old_files_go_and_young_ones_stay() {
    let Some(python) = python() else { return };
    let sandbox = delivered(4);
    sandbox.ok(&["maintain"]);
    // What a crashed run may have left, and what somebody else keeps there.
    let table = sandbox.path("lake/silver/items");
    for name in [
        "part-crashed.parquet",
        "_lake/manifest/raw.items/0000000000000000007.json",
        "_lake/write-probe-x",
        "_lake/other.json",
    ] {
        std::fs::write(table.join(name), "{\"id\":7,\"previous\":null,\"base\":true,\"folder\":\"x\"}\n").unwrap();
    }
    let all = data_files(&sandbox, "silver.items");
    assert_eq!(all.len(), 6);
    let report = sandbox.json(&["maintain"]);
    assert_eq!(maintained(&report, "silver.items")["removed"]["files"], 0, "{report}");
    assert_eq!(maintained(&report, "silver.items")["leftovers"]["files"], 0, "{report}");

    age_log(&sandbox, "silver.items", 8);
    for name in [
        "part-crashed.parquet",
        "_lake/manifest/raw.items/0000000000000000007.json",
        "_lake/write-probe-x",
        "_lake/other.json",
    ] {
        age(&table.join(name), 8);
    }
    for file in std::fs::read_dir(table.join("_lake/manifest/raw.items")).unwrap() {
        age(&file.unwrap().path(), 8);
    }
    let batches = || std::fs::read_dir(table.join("_lake/manifest/raw.items")).unwrap().count();
    assert_eq!(batches(), 5);
    let report = sandbox.json(&["maintain", "--dry-run"]);
    let counts = |report: &Value| {
        let table = maintained(report, "silver.items");
        (table["removed"]["files"].clone(), table["leftovers"]["files"].clone())
    };
    assert_eq!(counts(&report), (json!(5), json!(2)), "{report}");
    assert_eq!(data_files(&sandbox, "silver.items").len(), 6);
    let report = sandbox.json(&["maintain"]);
    assert_eq!(counts(&report), (json!(5), json!(2)), "{report}");
    assert_eq!((data_files(&sandbox, "silver.items").len(), batches()), (1, 4));
    assert!(!table.join("_lake/write-probe-x").exists() && table.join("_lake/other.json").exists());
    assert_nothing_to_build(&sandbox);
    assert_agree(&python, &sandbox, "lake", "silver.items");
    sandbox.write("in/items/new.csv", "id,value\n99,z\n");
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items").len(), 2 + 3 * 3 + 1);
}

#[test]
fn a_longer_retention_keeps_more() {
    let model =
        ITEMS.replace("auto_optimize=false", "auto_optimize=false, maintain={'vacuum': {'retention': '30 days'}}");
    let promised = ITEMS.replace(
        "auto_optimize=false",
        "auto_optimize=false, tblproperties={'delta.deletedFileRetentionDuration': 'interval 30 days'}",
    );
    for sql in [model, promised] {
        let sandbox = items(&[("models/silver/items.sql", &sql)]);
        sandbox.ok(&["build", "--full-refresh"]);
        sandbox.write("in/items/2.csv", "id,value\n3,c\n");
        sandbox.ok(&["build", "--full-refresh"]);
        age_log(&sandbox, "silver.items", 20);
        sandbox.ok(&["maintain"]);
        assert_eq!(data_files(&sandbox, "silver.items").len(), 2, "{sql}");
        age_log(&sandbox, "silver.items", 40);
        sandbox.ok(&["maintain"]);
        assert_eq!(data_files(&sandbox, "silver.items").len(), 1, "{sql}");
    }
}

#[test]
fn checkpoints_stand_for_a_log_that_is_too_old() {
    let Some(python) = python() else { return };
    let sandbox = delivered(10);
    let log = sandbox.path("lake/silver/items/_delta_log");
    let entries = || {
        let names = std::fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let (json, other): (Vec<String>, Vec<String>) = names.partition(|name| name.ends_with(".json"));
        (json.len(), other.iter().any(|name| name.contains("checkpoint.parquet")))
    };
    let report = sandbox.json(&["maintain"]);
    assert_eq!(maintained(&report, "silver.items")["checkpoint"], true, "{report}");
    assert_eq!(entries(), (11, true));
    assert_eq!(maintained(&sandbox.json(&["maintain"]), "silver.items")["checkpoint"], false);
    age_log(&sandbox, "silver.items", 31);
    let report = sandbox.json(&["maintain"]);
    assert_eq!(maintained(&report, "silver.items")["log_entries"], 10, "{report}");
    assert_eq!(entries(), (1, true));
    // Rows, manifest and the skip have outlived it.
    assert_nothing_to_build(&sandbox);
    assert_agree(&python, &sandbox, "lake", "silver.items");
    sandbox.write("in/items/new.csv", "id,value\n99,z\n");
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items").len(), 2 + 9 * 3 + 1);
}

#[test]
fn rows_that_may_be_taken_out_again_are_not_packed() {
    let Some(python) = python() else { return };
    let sandbox = items(&[("models/silver/items.sql", ITEMS)]);
    let sources = std::fs::read_to_string(sandbox.path("sources.yml")).unwrap();
    sandbox.write("sources.yml", sources.replace("format: csv\n", "format: csv\n        on_changed_file: replace\n"));
    for file in 2..6 {
        sandbox.write(&format!("in/items/{file}.csv"), format!("id,value\n{file},a\n"));
        sandbox.ok(&["build"]);
    }
    let report = sandbox.json(&["maintain"]);
    assert_eq!(maintained(&report, "silver.items")["packed"]["files"], 0, "{report}");
    sandbox.write("in/items/3.csv", "id,value\n33,changed\n");
    let report = sandbox.json(&["build"]);
    assert_eq!(crate::sandbox::node(&report, "silver.items")["action"], "update", "{report}");
    assert_eq!(rows(&sandbox, "items"), ["1 a", "2 a", "2 b", "33 changed", "4 a", "5 a"]);
    assert_agree(&python, &sandbox, "lake", "silver.items");
}

#[test]
fn rows_are_put_in_z_order_once() {
    let Some(python) = python() else { return };
    let sandbox = items(&[(
        "models/silver/items.sql",
        &ITEMS.replace("auto_optimize", "zorder_by=['id', 'value'], auto_optimize"),
    )]);
    sandbox.ok(&["build"]);
    let packed =
        |sandbox: &Sandbox| maintained(&sandbox.json(&["maintain"]), "silver.items")["packed"]["files"].clone();
    assert_eq!((packed(&sandbox), packed(&sandbox)), (json!(1), json!(0)));
    sandbox.write("in/items/2.csv", "id,value\n5,e\n4,d\n");
    sandbox.ok(&["build"]);
    assert_eq!((packed(&sandbox), packed(&sandbox)), (json!(2), json!(0)));
    assert_nothing_to_build(&sandbox);
    assert_agree(&python, &sandbox, "lake", "silver.items");
    // Another order is for all files.
    sandbox.write("models/silver/items.sql", ITEMS.replace("auto_optimize", "zorder_by='value', auto_optimize"));
    assert_eq!((packed(&sandbox), packed(&sandbox)), (json!(1), json!(0)));
}

#[test]
fn a_policy_says_what_is_done() {
    let sandbox = delivered(4);
    let policy = |text: &str| {
        sandbox.write("project.yml", format!("name: sandbox\ntargets:\n  dev: {{ root: lake }}\n{text}"));
    };
    policy("maintain: false\n");
    let text = sandbox.ok(&["maintain"]);
    assert!(text.contains("skip  silver.items") && text.contains("its `maintain` is false"), "{text}");
    policy("maintain: false\nmodels:\n  silver:\n    maintain: { optimize: true }\n");
    let text = sandbox.ok(&["maintain", "--select", "silver.items", "--dry-run"]);
    assert!(text.contains("ok    silver.items  packed 4 files into 1"), "{text}");
    policy("maintain: { optimize: false }\nmodels:\n  silver:\n    maintain: { vacuum: false }\n");
    let text = sandbox.ok(&["maintain"]);
    assert_eq!(text.matches("nothing to do").count(), 6, "{text}");
    policy("");
    let text = sandbox.ok(&["maintain", "--select", "gold"]);
    assert!(!text.contains("silver"), "{text}");
}

#[test]
fn maintenance_that_dies_anywhere_has_changed_no_row() {
    let Some(python) = python() else { return };
    let sandbox = delivered(11);
    for table in ["silver.items", "silver.parted", "gold.total"] {
        age_log(&sandbox, table, 8);
        data_files(&sandbox, table).iter().for_each(|file| age(file, 8));
    }
    let held = || (rows(&sandbox, "items"), rows(&sandbox, "parted"), rows(&sandbox, "total"));
    let before = held();
    // Each goes on where the one before has died.
    for point in ["packed", "optimized", "checkpointed", "removed", "removed:2"] {
        let died = sandbox.command(&["maintain"]).env("LAKE_FAIL_POINT", point).output().unwrap();
        assert!(!died.status.success(), "{point} was not reached");
        assert_eq!(held(), before, "{point}");
    }
    assert_nothing_to_build(&sandbox);
    sandbox.ok(&["maintain"]);
    assert_nothing_to_build(&sandbox);
    assert_eq!(held(), before);
    assert_agree(&python, &sandbox, "lake", "silver.items");
    assert_agree(&python, &sandbox, "lake", "silver.parted");
}

#[test]
fn builds_and_maintenance_at_the_same_time_lose_nothing() {
    let sandbox = delivered(3);
    std::thread::scope(|scope| {
        let keeper = scope.spawn(|| (0..3).for_each(|_| drop(sandbox.lake(&["maintain"]))));
        for file in 20..24 {
            sandbox.write(&format!("in/items/{file}.csv"), format!("id,value\n{file}0,a\n"));
            sandbox.ok(&["build"]);
        }
        keeper.join().unwrap();
    });
    sandbox.ok(&["build"]);
    sandbox.ok(&["maintain"]);
    assert_nothing_to_build(&sandbox);
    assert_eq!(rows(&sandbox, "items").len(), 2 + 2 * 3 + 4);
    assert_eq!(rows(&sandbox, "parted").len(), 2 + 2 * 2 + 4);
}
