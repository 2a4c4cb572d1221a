//! Several targets of one project: reading another one's tables, cloning them, promoting what passed, dropping what is one's own.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::reader::{assert_agree, python};
use crate::sandbox::{Sandbox, node};

const PROJECT: &str =
    "name: sandbox\ntarget: dev\ntargets:\n  dev: { root: lake }\n  prod: { root: 'lake_{{ target.name }}' }\n";

const SOURCES: &str = "sources:
  - name: raw
    root: in
    tables:
      - name: orders
        path: orders/
        format: csv
        columns: [{ name: id, data_type: bigint }, { name: amount, data_type: double }]
";

const TESTS: &str = "models:
  - name: ids
    columns:
      - name: id
        data_tests: [not_null, { relationships: { to: ref('orders'), field: id } }]
  - name: total
    columns: [{ name: cents, data_tests: [not_null] }]
";

const IDS: &str = "{{ config(materialized='table') }}\nselect distinct id from {{ ref('orders') }}\n";
const TOTAL: &str =
    "{{ config(materialized='table') }}\nselect\n  sum(amount) * 100 as cents\nfrom {{ ref('paid') }}\n";

/// Orders that are added, a view of them, and two tables above it, in the targets `dev` and `prod`.
fn shop() -> Sandbox {
    Sandbox::new(&[
        ("project.yml", PROJECT),
        ("sources.yml", SOURCES),
        (
            "models/silver/orders.sql",
            "{{ config(materialized='incremental', incremental_strategy='append') }}\nselect id, amount from {{ source('raw', 'orders') }}\n",
        ),
        ("models/silver/paid.sql", "select * from {{ ref('orders') }} where amount > 0\n"),
        ("models/gold/ids.sql", IDS),
        ("models/gold/total.sql", TOTAL),
        ("models/gold/tests.yml", TESTS),
        ("in/orders/1.csv", "id,amount\n1,1.5\n2,2\n"),
    ])
}

/// What became of a node: status and reason.
#[track_caller]
fn did(report: &Value, name: &str) -> (String, String) {
    let part = |key: &str| node(report, name)[key].as_str().unwrap().to_owned();
    (part("status"), part("reason"))
}

#[track_caller]
fn assert_did(report: &Value, name: &str, status: &str, reason: &str) {
    let found = did(report, name);
    assert!(found.0 == status && found.1.contains(reason), "{name}: expected {status} and `{reason}`, found {found:?}");
}

#[track_caller]
fn assert_all_skipped(report: &Value) {
    let nodes = report["nodes"].as_array().unwrap_or_else(|| panic!("{report}"));
    let is_idle = |node: &Value| node["status"] == "skipped" || node["action"] == "view";
    assert!(nodes.iter().all(is_idle), "{report:#}");
}

/// The one value of a query in a target.
#[track_caller]
fn value(sandbox: &Sandbox, target: &str, sql: &str) -> Value {
    let rows = sandbox.json(&["show", "--inline", sql, "--limit", "0", "--target", target]);
    rows[0].as_object().unwrap_or_else(|| panic!("{rows}")).values().next().cloned().unwrap_or_default()
}

/// The data files of a table below a root.
fn data_files(root: &Path, table: &str) -> Vec<PathBuf> {
    let folder = root.join(table.replace('.', "/"));
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "parquet")).collect();
    files.sort();
    files
}

fn inodes(root: &Path, table: &str) -> Vec<u64> {
    let mut found: Vec<u64> =
        data_files(root, table).iter().map(|path| std::fs::metadata(path).unwrap().ino()).collect();
    found.sort_unstable();
    found
}

#[test]
fn a_parent_that_is_not_here_is_read_from_the_other_target() {
    let sandbox = shop();
    sandbox.ok(&["build", "--target", "prod"]);
    let build = ["build", "--select", "ids", "--defer-to", "prod"];
    let report = sandbox.json(&build);
    assert_did(&report, "gold.ids", "success", "first build; silver.orders read from prod (version 0)");
    assert_eq!(node(&report, "gold.ids")["rows"], 2);
    assert!(!sandbox.path("lake/silver").exists(), "nothing of the parent is here");
    // The same version again is nothing new; the lake may also be named in the environment.
    assert_did(&sandbox.json(&build), "gold.ids", "skipped", "silver.orders is still at version 0 of prod");
    let output = sandbox.command(&["build", "--select", "ids"]).env("LAKE_DEFER_TO", "prod").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("skip  gold.ids"), "{output:?}");
    // A newer one is.
    sandbox.write("in/orders/2.csv", "id,amount\n3,1\n");
    sandbox.ok(&["build", "--target", "prod"]);
    let report = sandbox.json(&build);
    assert_did(&report, "gold.ids", "success", "silver.orders changed: version 0 of prod -> 1 of prod");
    assert_eq!(value(&sandbox, "dev", "select count(*) from gold.ids"), 3);
    // Once there is one here, it is another table, whatever both hold.
    sandbox.ok(&["build", "--select", "orders"]);
    let report = sandbox.json(&build);
    assert_did(&report, "gold.ids", "success", "silver.orders changed: version 1 of prod -> 0");
    assert_eq!(node(&report, "gold.ids")["action"], "unchanged");
    assert_did(&sandbox.json(&build), "gold.ids", "skipped", "silver.orders is still at version 0");
    let favored = [&build[..], &["--favor-state"]].concat();
    assert_did(&sandbox.json(&favored), "gold.ids", "success", "silver.orders changed: version 0 -> 1 of prod");
    // What is selected is built here and read here.
    let report = sandbox.json(&["build", "--defer-to", "prod"]);
    assert_did(&report, "gold.ids", "success", "silver.orders changed: version 1 of prod -> 0");
}

#[test]
fn without_deferral_what_was_read_elsewhere_is_not_taken_for_what_is_here() {
    let sandbox = shop();
    sandbox.ok(&["build", "--target", "prod"]);
    sandbox.ok(&["build", "--select", "gold", "--defer-to", "prod"]);
    assert_did(&sandbox.json(&["build", "--dry-run"])["plan"].as_array().map(|plan| json!({"nodes": plan.iter().map(|p| json!({"name": p["name"], "status": p["plan"], "reason": p["reason"]})).collect::<Vec<_>>()})).unwrap(), "gold.ids", "build", "silver.orders is gone");
    // The whole project here: the parents are built, and what read others is built again.
    let report = sandbox.json(&["build"]);
    assert_did(&report, "gold.ids", "success", "silver.orders changed: version 0 of prod -> 0");
    assert_all_skipped(&sandbox.json(&["build"]));
}

#[test]
fn views_tests_and_questions_go_the_same_way() {
    let sandbox = shop();
    sandbox.ok(&["build", "--target", "prod"]);
    let report = sandbox.json(&["build", "--select", "total", "--defer-to", "prod"]);
    assert_did(&report, "gold.total", "success", "silver.orders read from prod (version 0)");
    assert_eq!(value(&sandbox, "dev", "select cents from gold.total"), 350.0);
    // A relationship looks at the parent where the model did.
    sandbox.ok(&["build", "--select", "ids", "--defer-to", "prod"]);
    let run = sandbox.lake(&["test", "--select", "ids", "--defer-to", "prod"]);
    assert!(run.code == 0 && run.stderr.contains("silver.orders read from prod (version 0)"), "{run:?}");
    sandbox.lake(&["test", "--select", "ids"]).assert_failed(1, "relationships");
    let why = sandbox.ok(&["why", "total", "--defer-to", "prod"]);
    assert!(why.contains("would be skipped: unchanged: silver.orders is still at version 0 of prod"), "{why}");
    sandbox.write("models/gold/total.sql", TOTAL.replace("100", "1000"));
    let why = sandbox.ok(&["why", "total", "--defer-to", "prod"]);
    assert!(why.contains("reads silver.orders from prod (version 0) (1 file, "), "{why}");
    let plan = sandbox.ok(&["build", "--select", "total", "--defer-to", "prod", "--dry-run"]);
    assert!(plan.contains("silver.orders read from prod (version 0)"), "{plan}");
    let shown = sandbox.lake(&["show", "paid", "--defer-to", "prod"]);
    assert!(shown.stdout.contains("1.5") && shown.stderr.contains("silver.orders read from prod"), "{shown:?}");
    assert_eq!(sandbox.json(&["show", "paid"]), json!([]));
    let compiled = sandbox.lake(&["compile", "--select", "total", "--defer-to", "prod"]);
    assert!(compiled.stderr.contains("silver.orders would be read from prod (version 0)"), "{compiled:?}");
    // A run that failed is taken up with the same lakes.
    sandbox.write(
        "models/gold/total.sql",
        TOTAL.replace("sum(amount)", "sum(1 / (amount - amount)) + max(cast('x' as int))"),
    );
    assert_eq!(sandbox.lake(&["build", "--select", "total", "--defer-to", "prod"]).code, 1);
    sandbox.write("models/gold/total.sql", TOTAL.replace("100", "10"));
    sandbox.ok(&["retry"]);
    assert_eq!(value(&sandbox, "dev", "select cents from gold.total"), 35.0);
}

#[test]
fn what_is_nowhere_and_what_is_called_wrongly_is_told() {
    let sandbox = shop();
    let report = sandbox.json(&["build", "--select", "total", "--defer-to", "prod"]);
    assert_did(
        &report,
        "gold.total",
        "skipped",
        "there is nothing to read yet; silver.orders is neither in dev nor in prod",
    );
    sandbox.lake(&["build", "--defer-to", "prd"]).assert_failed(2, "there is no target `prd`");
    sandbox.lake(&["build", "--defer-to", "prd"]).assert_failed(2, "did you mean `prod`?");
    // A target that defers to itself has nothing to defer.
    let report = sandbox.json(&["build", "--select", "total", "--defer-to", "dev"]);
    assert_did(&report, "gold.total", "skipped", "there is nothing to read yet");
    assert_eq!(sandbox.lake(&["build", "--favor-state"]).code, 2);
    sandbox.lake(&["clone", "--from", "dev"]).assert_failed(2, "--from and --to are both `dev`");
    sandbox.lake(&["clone", "--from", "staging"]).assert_failed(2, "there is no target `staging`");
    sandbox.write("project.yml", PROJECT.replace("root: 'lake_{{ target.name }}'", "root: lake"));
    sandbox.lake(&["clone", "--from", "prod"]).assert_failed(2, "have one root");
}

#[test]
fn a_clone_shares_its_files_and_leaves_nothing_to_build() {
    let sandbox = shop();
    sandbox.ok(&["build", "--target", "prod"]);
    let (dev, prod) = (sandbox.path("lake"), sandbox.path("lake_prod"));
    let run = sandbox.lake(&["clone", "--from", "prod", "--to", "dev"]);
    assert!(
        run.code == 0 && run.stdout.contains("ok  silver.orders  2 rows, version 0 of prod: 1 file linked"),
        "{run:?}"
    );
    for table in ["silver.orders", "gold.ids", "gold.total"] {
        assert_eq!(inodes(&dev, table), inodes(&prod, table), "{table}");
        assert_eq!(inodes(&dev, table).len(), 1, "{table}");
    }
    // Nothing to do, and no test to run again: not even the one that looks at another table.
    let report = sandbox.json(&["build"]);
    assert_all_skipped(&report);
    assert!(report["nodes"].as_array().unwrap().iter().all(|node| node["tests"] == json!([])), "{report:#}");
    assert_all_skipped(&sandbox.json(&["build", "--target", "prod"]));
    // A second time there is nothing to take over.
    let report = sandbox.json(&["clone", "--from", "prod", "--to", "dev"]);
    assert_did(&report, "silver.orders", "skipped", "its rows are those of version 0 of prod");
    let history = sandbox.json(&["history", "silver.orders"]);
    assert_eq!((history.as_array().unwrap().len(), &history[0]["operation"]), (1, &json!("copy of prod 0")));
    assert_eq!(value(&sandbox, "dev", "select command from _lake.runs where command = 'clone' limit 1"), "clone");
    if let Some(python) = python() {
        assert_agree(&python, &sandbox, "lake", "silver.orders");
    }
}

#[test]
fn a_clone_goes_on_where_the_other_table_was() {
    let sandbox = shop();
    sandbox.ok(&["build", "--target", "prod"]);
    sandbox.ok(&["clone", "--from", "prod", "--to", "dev"]);
    sandbox.write("in/orders/2.csv", "id,amount\n3,1\n");
    let report = sandbox.json(&["build"]);
    assert_did(&report, "silver.orders", "success", "new: 1 file in raw.orders");
    let rows = |target| value(&sandbox, target, "select count(*) from silver.orders");
    assert_eq!((rows("dev"), rows("prod")), (json!(3), json!(2)));
    sandbox.ok(&["build", "--target", "prod"]);
    assert_eq!((rows("dev"), rows("prod")), (json!(3), json!(3)));
    // What went on here is replaced in one commit by what went on there.
    sandbox.write("in/orders/3.csv", "id,amount\n4,1\n");
    sandbox.ok(&["build", "--target", "prod"]);
    let report = sandbox.json(&["clone", "--from", "prod", "--to", "dev"]);
    assert_did(&report, "silver.orders", "success", "version 2 of prod");
    assert_eq!(node(&report, "silver.orders")["version"], 2);
    assert_all_skipped(&sandbox.json(&["build"]));
    assert_eq!(value(&sandbox, "dev", "select count(*) from gold.ids"), 4);
    // A part of it: what it reads is not the same here, so it is built again.
    sandbox.write("in/orders/4.csv", "id,amount\n5,1\n");
    sandbox.ok(&["build", "--target", "prod"]);
    sandbox.ok(&["clone", "--from", "prod", "--to", "dev", "--select", "ids"]);
    let report = sandbox.json(&["build", "--select", "ids"]);
    assert_did(&report, "gold.ids", "success", "silver.orders changed: version 3 of prod -> 2");
}

#[test]
fn deletes_and_histories_are_cloned_with_what_they_remember() {
    let sources = "sources:
  - name: raw
    root: in
    tables:
      - name: changes
        path: changes/
        format: csv
        columns: [{ name: id, data_type: bigint }, { name: at, data_type: bigint }, { name: op, data_type: varchar }]
";
    let sandbox = Sandbox::new(&[
        ("project.yml", PROJECT),
        ("sources.yml", sources),
        (
            "models/silver/items.sql",
            "{{ config(materialized='incremental', unique_key='id', sequence_by='at', delete_when=\"op = 'D'\") }} select id, at, op from {{ source('raw', 'changes') }}",
        ),
        (
            "models/silver/versions.sql",
            "{{ config(materialized='scd2', unique_key='id', strategy='check', check_cols='all') }} select id, op from {{ source('raw', 'changes') }} where op <> 'D'",
        ),
        ("in/changes/1.csv", "id,at,op\n1,10,I\n2,10,I\n3,10,D\n"),
    ]);
    sandbox.ok(&["build", "--target", "prod"]);
    sandbox.ok(&["clone", "--from", "prod", "--to", "dev"]);
    assert_all_skipped(&sandbox.json(&["build"]));
    // A late row of a key that was deleted in the other lake does not come back, and the history has one more version.
    sandbox.write("in/changes/2.csv", "id,at,op\n3,9,U\n1,11,U\n");
    for target in ["dev", "prod"] {
        sandbox.ok(&["build", "--target", target]);
        let items =
            sandbox.json(&["show", "--inline", "select id, op from silver.items order by id", "--target", target]);
        assert_eq!(items, json!([{"id": 1, "op": "U"}, {"id": 2, "op": "I"}]), "{target}");
        assert_eq!(value(&sandbox, target, "select count(*) from silver.versions where id = 1"), 2, "{target}");
    }
    // Promoting goes on from what was cloned, as long as the other did not.
    let report = sandbox.json(&["promote", "--from", "dev", "--to", "prod"]);
    assert_all_skipped(&sandbox.json(&["build", "--target", "prod"]));
    assert_did(&report, "silver.items", "success", "");
}

/// Days ago: files of a table were written, and others replaced.
fn age(root: &Path, table: &str) {
    let then = SystemTime::now() - Duration::from_secs(30 * 24 * 3600);
    let log = root.join(table.replace('.', "/")).join("_delta_log");
    for entry in std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path()) {
        let millis = then.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        let text = std::fs::read_to_string(&entry).unwrap();
        let lines = text.lines().map(|line| {
            let mut action: Value = serde_json::from_str(line).unwrap();
            if let Some(removed) = action.get_mut("remove") {
                removed["deletionTimestamp"] = json!(millis);
            }
            action.to_string()
        });
        std::fs::write(&entry, lines.collect::<Vec<_>>().join("\n") + "\n").unwrap();
    }
    for file in data_files(root, table) {
        std::fs::File::options().write(true).open(file).unwrap().set_modified(then).unwrap();
    }
}

#[test]
fn what_one_side_removes_the_other_keeps() {
    let sandbox = shop();
    let (dev, prod) = (sandbox.path("lake"), sandbox.path("lake_prod"));
    sandbox.ok(&["build", "--target", "prod"]);
    sandbox.write("in/orders/2.csv", "id,amount\n3,1\n");
    sandbox.ok(&["build", "--target", "prod"]);
    sandbox.ok(&["clone", "--from", "prod", "--to", "dev"]);
    let rows = |target| value(&sandbox, target, "select sum(id) from silver.orders");
    // All of its files are packed there, and then vacuumed.
    let pack = |root: &Path, target: &str| {
        sandbox.ok(&["maintain", "--target", target]);
        age(root, "silver.orders");
        sandbox.ok(&["maintain", "--target", target]);
        assert_eq!(data_files(root, "silver.orders").len(), 1);
    };
    pack(&prod, "prod");
    assert_eq!((rows("dev"), rows("prod")), (json!(6), json!(6)));
    assert_eq!(inodes(&dev, "silver.orders").len(), 2);
    assert_all_skipped(&sandbox.json(&["build"]));
    // And the other way: what came of the next clone is vacuumed here, and then all of it dropped.
    sandbox.write("in/orders/3.csv", "id,amount\n4,1\n");
    sandbox.ok(&["build", "--target", "prod"]);
    sandbox.ok(&["clone", "--from", "prod", "--to", "dev"]);
    let before = inodes(&prod, "silver.orders");
    pack(&dev, "dev");
    assert_eq!((rows("dev"), rows("prod")), (json!(10), json!(10)));
    assert_eq!(inodes(&prod, "silver.orders"), before);
    sandbox.ok(&["drop", "--yes"]);
    assert!(!dev.join("silver").exists() && !dev.join("gold").exists());
    assert_eq!(rows("prod"), 10);
    assert_all_skipped(&sandbox.json(&["build", "--target", "prod"]));
}

/// A shop whose `prod` was built, and whose `dev` has another total, made of the tables of `prod`.
fn changed() -> Sandbox {
    let sandbox = shop();
    sandbox.ok(&["build", "--target", "prod"]);
    sandbox.write("models/gold/total.sql", TOTAL.replace("100", "1000"));
    sandbox.ok(&["build", "--select", "total", "--defer-to", "prod"]);
    sandbox
}

#[test]
fn what_passed_is_published_without_computing_it_again() {
    let sandbox = changed();
    let (dev, prod) = (sandbox.path("lake"), sandbox.path("lake_prod"));
    let promote = ["promote", "--from", "dev", "--to", "prod", "--select", "total"];
    let plan = sandbox.ok(&[&promote[..], &["--dry-run"]].concat());
    assert!(plan.contains("1 would be promoted") && value(&sandbox, "prod", "select cents from gold.total") == 350.0);
    let run = sandbox.lake(&promote);
    assert!(run.code == 0 && run.stdout.contains("ok  gold.total  1 row, version 0 of dev: 1 file linked"), "{run:?}");
    assert!(inodes(&dev, "gold.total").iter().all(|inode| inodes(&prod, "gold.total").contains(inode)));
    assert_eq!(value(&sandbox, "prod", "select cents from gold.total"), 3500.0);
    let report = sandbox.json(&["build", "--target", "prod"]);
    assert_all_skipped(&report);
    assert!(report["nodes"].as_array().unwrap().iter().all(|node| node["tests"] == json!([])), "{report:#}");
    assert_did(&sandbox.json(&promote), "gold.total", "skipped", "its rows are those of version 0 of dev");
    // It is a run like any other: told, and taken back.
    assert_eq!(
        value(&sandbox, "prod", "select status from _lake.runs where command = 'promote' and built = 1"),
        "success"
    );
    let history = sandbox.json(&["history", "total", "--target", "prod"]);
    assert_eq!((&history[0]["operation"], &history[0]["tests"]), (&json!("copy of dev 0"), &json!(1)));
    let id = history[0]["invocation_id"].as_str().unwrap().to_owned();
    sandbox.ok(&["rollback", &id, "--target", "prod"]);
    assert_eq!(value(&sandbox, "prod", "select cents from gold.total"), 350.0);
}

#[test]
fn what_this_target_would_not_make_is_refused() {
    let promote = ["promote", "--from", "dev", "--to", "prod", "--select", "total"];
    let refused = |sandbox: &Sandbox, why: &str| {
        let before = value(sandbox, "prod", "select cents from gold.total");
        sandbox.lake(&promote).assert_failed(1, why);
        assert_eq!(value(sandbox, "prod", "select cents from gold.total"), before);
    };
    let sandbox = changed();
    sandbox.write("models/gold/total.sql", TOTAL.replace("100", "1"));
    refused(&sandbox, "not the one that dev has built: models/gold/total.sql:3");
    sandbox.write("models/gold/total.sql", TOTAL.replace("100", "{{ 1 if target.name == 'prod' else 2 }}"));
    sandbox.ok(&["build", "--select", "total", "--defer-to", "prod"]);
    refused(&sandbox, "what its template reads of the target");
    sandbox.write("models/gold/total.sql", TOTAL.replace("100", "random()"));
    sandbox.ok(&["build", "--select", "total", "--defer-to", "prod"]);
    refused(&sandbox, "its rows depend on random()");
    // A test that came after the build has not passed.
    sandbox.write("models/gold/total.sql", TOTAL.replace("100", "1000"));
    sandbox.ok(&["build", "--select", "total", "--defer-to", "prod"]);
    sandbox.write(
        "models/gold/tests.yml",
        TESTS.replace("cents, data_tests: [not_null]", "cents, data_tests: [not_null, unique]"),
    );
    refused(&sandbox, "version 3 of dev has not passed test");
    // One that fails has no version at all.
    let failing = "cents, data_tests: [{ accepted_values: { values: [1], quote: false } }]";
    sandbox.write("models/gold/tests.yml", TESTS.replace("cents, data_tests: [not_null]", failing));
    sandbox.write("models/gold/total.sql", TOTAL.replace("100", "10"));
    assert_eq!(sandbox.lake(&["build", "--select", "total", "--defer-to", "prod"]).code, 1);
    refused(&sandbox, "its definition for prod is not the one that dev has built");
    sandbox.write("models/gold/tests.yml", TESTS);
    sandbox.ok(&["build", "--select", "total", "--defer-to", "prod"]);
    // The table that it was made of goes on.
    sandbox.write("in/orders/2.csv", "id,amount\n3,1\n");
    sandbox.ok(&["build", "--target", "prod", "--select", "orders"]);
    refused(&sandbox, "it has read version 0 of prod of silver.orders");
    sandbox
        .lake(&["promote", "--from", "dev", "--to", "prod", "--select", "ids"])
        .assert_failed(1, "it has no table in dev");
}

#[test]
fn parents_go_first_and_nothing_goes_below_what_is_refused() {
    let sandbox = shop();
    sandbox.ok(&["build"]);
    let promote = ["promote", "--from", "dev", "--to", "prod"];
    // Files that came since are not in dev: neither the table that takes them in nor those below it agree.
    sandbox.write("in/orders/2.csv", "id,amount\n3,1\n");
    let run = sandbox.lake(&promote);
    run.assert_failed(1, "1 file of raw.orders is not taken in by dev yet, such as `2.csv`");
    run.assert_failed(1, "`silver.orders`, which it reads, is refused");
    assert!(!sandbox.path("lake_prod/gold").exists() && !sandbox.path("lake_prod/silver").exists());
    sandbox.ok(&["build"]);
    // A part of it has nothing to stand on.
    sandbox
        .lake(&[&promote[..], &["--select", "ids"]].concat())
        .assert_failed(1, "silver.orders has other rows in prod than in dev");
    let report = sandbox.json(&[&promote[..], &["--atomic"]].concat());
    assert_did(&report, "silver.orders", "success", "version 1 of dev: 2 files linked");
    assert_all_skipped(&sandbox.json(&["build", "--target", "prod"]));
    assert_eq!(value(&sandbox, "prod", "select count(*) from gold.ids"), 3);
    // Prod goes on by itself: what dev has not seen is not thrown away.
    sandbox.write("in/orders/3.csv", "id,amount\n4,1\n");
    sandbox.ok(&["build", "--target", "prod"]);
    std::fs::remove_file(sandbox.path("in/orders/3.csv")).unwrap();
    sandbox.lake(&promote).assert_failed(1, "1 file of raw.orders is taken in by prod and not by dev, such as `3.csv`");
}

#[test]
fn a_table_that_only_a_test_reads_goes_first() {
    let model =
        |rows: &str| format!("{{{{ config(materialized='table') }}}}\nselect * from (values {rows}) as t (id)\n");
    let tests = "models:\n  - name: a\n    columns: [{ name: id, data_tests: [{ relationships: { to: ref('b'), field: id } }] }]\n";
    let sandbox = Sandbox::new(&[
        ("models/gold/a.sql", &model("(1), (2)")),
        ("models/gold/b.sql", &model("(1), (2), (3)")),
        ("models/gold/a.yml", tests),
    ]);
    sandbox.write("project.yml", "name: shop\ntargets:\n  dev: { root: lake }\n  prod: { root: lake_prod }\n");
    sandbox.ok(&["build", "--target", "dev"]);
    let report = sandbox.json(&["promote", "--from", "dev", "--to", "prod"]);
    let order: Vec<&Value> = report["nodes"].as_array().unwrap().iter().map(|node| &node["name"]).collect();
    assert_eq!(order, ["gold.b", "gold.a"], "{report:#}");
    assert_did(&report, "gold.a", "success", "version 0 of dev");
    assert_all_skipped(&sandbox.json(&["build", "--target", "prod"]));
}

#[test]
fn one_that_is_refused_keeps_a_burst_back() {
    let sandbox = shop();
    sandbox.ok(&["build"]);
    sandbox.write("models/gold/total.sql", TOTAL.replace("100", "1000"));
    let report = sandbox.json(&["promote", "--from", "dev", "--to", "prod", "--atomic"]);
    assert_did(&report, "gold.total", "error", "its definition for prod");
    assert_did(&report, "silver.orders", "blocked", "`gold.total` is refused, and they are published together");
    assert!(!sandbox.path("lake_prod/silver/orders/_delta_log").exists());
    let report = sandbox.json(&["promote", "--from", "dev", "--to", "prod"]);
    assert_did(&report, "silver.orders", "success", "1 file there already");
    assert_did(&report, "gold.total", "error", "its definition for prod");
}

#[test]
fn only_what_an_environment_made_is_dropped() {
    let sandbox = shop();
    // By mistake, both targets have one root.
    sandbox.write("project.yml", PROJECT.replace("root: 'lake_{{ target.name }}'", "root: lake"));
    sandbox.ok(&["build", "--select", "+total"]);
    sandbox.ok(&["build", "--select", "ids", "--target", "prod"]);
    let run = sandbox.lake(&["drop"]);
    run.assert_failed(2, "nothing was dropped: call it again with --yes");
    assert!(run.stdout.contains("drop   silver.orders  version 0, 2 rows, "), "{run:?}");
    assert!(
        run.stdout.contains("leave  gold.ids       its table in dev was made by target `prod` of project `sandbox`"),
        "{run:?}"
    );
    assert_eq!(sandbox.lake(&["drop", "--dry-run"]).code, 0);
    assert_eq!(value(&sandbox, "dev", "select count(*) from silver.orders"), 2);
    sandbox.ok(&["drop", "--yes"]);
    assert!(sandbox.path("lake/gold/ids").exists() && !sandbox.path("lake/gold/total").exists());
    assert!(!sandbox.path("lake/silver").exists());
    // From the beginning again, and what it was is known.
    sandbox.ok(&["build", "--select", "+total"]);
    assert_eq!(value(&sandbox, "dev", "select count(*) from silver.orders"), 2);
    assert_eq!(value(&sandbox, "dev", "select count(*) from _lake.runs where command = 'drop'"), 1);
    // A clone does not replace what another has made, either.
    sandbox.write("project.yml", PROJECT);
    sandbox.ok(&["build", "--target", "prod"]);
    let report = sandbox.json(&["clone", "--from", "prod", "--to", "dev", "--select", "ids"]);
    assert_did(&report, "gold.ids", "error", "was made by target `prod`");
}

#[test]
fn tables_without_a_model_are_dropped_by_name() {
    let sandbox = shop();
    sandbox.ok(&["build"]);
    std::fs::remove_file(sandbox.path("models/gold/total.sql")).unwrap();
    sandbox.write("models/gold/tests.yml", TESTS.split("  - name: total").next().unwrap());
    // Another program keeps a table here, too.
    if let Some(python) = python() {
        let script = "import pyarrow as pa, sys; from deltalake import write_deltalake; write_deltalake(sys.argv[1], pa.table({'x': [1]}))";
        let folder = sandbox.path("lake/gold/foreign");
        assert!(std::process::Command::new(python).args(["-c", script]).arg(&folder).status().unwrap().success());
        let told = sandbox.ok(&["drop", "--orphans", "--dry-run"]);
        assert!(told.contains("leave  gold.foreign  its table in dev does not say who made it"), "{told}");
    }
    let told = sandbox.ok(&["drop", "--orphans", "--yes"]);
    assert!(told.contains("gold.total") && told.contains("no model has it") && !told.contains("gold.ids"), "{told}");
    assert!(!sandbox.path("lake/gold/total").exists() && sandbox.path("lake/gold/ids").exists());
    assert_all_skipped(&sandbox.json(&["build"]));
}

#[test]
fn what_was_quarantined_goes_along() {
    let sandbox = shop();
    sandbox.write("sources.yml", SOURCES.to_owned() + "        on_bad_row: quarantine\n");
    sandbox.write("in/orders/2.csv", "id,amount\n3,x\n4,1\n");
    sandbox.write("in/orders/3.csv", "id,amount\ny,1\n");
    sandbox.ok(&["build", "--target", "prod"]);
    sandbox.ok(&["clone", "--from", "prod", "--to", "dev"]);
    let bad = |target| value(&sandbox, target, "select count(*) from quarantine.raw__orders");
    assert_eq!((bad("dev"), bad("prod")), (json!(2), json!(2)));
    assert_all_skipped(&sandbox.json(&["build"]));
    sandbox.write("in/orders/4.csv", "id,amount\nz,1\n");
    sandbox.ok(&["build"]);
    assert_eq!((bad("dev"), bad("prod")), (json!(3), json!(2)));
    sandbox.ok(&["drop", "--yes"]);
    assert_eq!(bad("dev"), 0);
}

#[test]
fn a_test_that_looked_at_the_other_lake_has_passed_there() {
    let sandbox = shop();
    sandbox.ok(&["build", "--target", "prod"]);
    sandbox.write("models/gold/ids.sql", IDS.replace("distinct id", "distinct id, true as known"));
    sandbox.ok(&["build", "--select", "ids", "--defer-to", "prod"]);
    sandbox.ok(&["promote", "--from", "dev", "--to", "prod", "--select", "ids"]);
    let report = sandbox.json(&["build", "--target", "prod"]);
    assert_all_skipped(&report);
    assert!(report["nodes"].as_array().unwrap().iter().all(|node| node["tests"] == json!([])), "{report:#}");
}

#[test]
fn a_clone_that_dies_shows_nothing_and_is_made_good_by_the_next() {
    for point in ["brought", "journal", "burst", "published"] {
        let sandbox = shop();
        sandbox.ok(&["build", "--target", "prod"]);
        let clone = ["clone", "--from", "prod", "--to", "dev", "--select", "orders"];
        let output = sandbox.command(&clone).env("LAKE_FAIL_POINT", point).output().unwrap();
        assert!(!output.status.success(), "{point}: {output:?}");
        let log = sandbox.path("lake/silver/orders/_delta_log");
        let is_seen = std::fs::read_dir(log).is_ok_and(|mut entries| entries.next().is_some());
        assert_eq!(is_seen, matches!(point, "burst" | "published"), "{point}");
        sandbox.ok(&["clone", "--from", "prod", "--to", "dev"]);
        assert_all_skipped(&sandbox.json(&["build"]));
        assert_eq!(value(&sandbox, "dev", "select count(*) from silver.orders"), 2, "{point}");
    }
}

#[test]
fn a_drop_that_dies_is_finished_by_the_next() {
    let sandbox = shop();
    sandbox.ok(&["build"]);
    let output = sandbox.command(&["drop", "--yes"]).env("LAKE_FAIL_POINT", "dropped").output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    sandbox.ok(&["drop", "--yes"]);
    assert!(!sandbox.path("lake/silver").exists() && !sandbox.path("lake/gold").exists());
}

#[test]
fn between_two_devices_bytes_are_copied() {
    let device = |path: &Path| std::fs::metadata(path).map(|found| found.dev()).ok();
    let sandbox = shop();
    let Ok(far) = tempfile::tempdir_in("/dev/shm") else { return };
    if device(far.path()) == device(&sandbox.path(".")) {
        return;
    }
    sandbox.write(
        "project.yml",
        PROJECT.to_owned() + &format!("  far: {{ root: {} }}\n", far.path().join("lake").display()),
    );
    sandbox.ok(&["build"]);
    let report = sandbox.json(&["clone", "--from", "dev", "--to", "far"]);
    assert_did(&report, "silver.orders", "success", "version 0 of dev: 1 file copied");
    assert_all_skipped(&sandbox.json(&["build", "--target", "far"]));
    sandbox.write("in/orders/2.csv", "id,amount\n3,1\n");
    sandbox.ok(&["build", "--target", "far"]);
    let report = sandbox.json(&["promote", "--from", "far", "--to", "dev"]);
    assert_did(&report, "silver.orders", "success", "version 1 of far: 1 file copied, 1 file there already");
    assert_all_skipped(&sandbox.json(&["build"]));
}

#[test]
fn who_reads_changes_or_runs_in_batches_goes_on_after_a_clone() {
    let sandbox = shop();
    sandbox.write(
        "models/gold/feed.sql",
        "{{ config(materialized='incremental') }} select id, _change_type from {{ ref('orders', changes=true) }}",
    );
    sandbox.write(
        "models/gold/days.sql",
        "{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='day', batch_size='year', lookback=50, begin='2026-01-01') }}
         select id, date '2026-01-05' as day from {{ ref('orders') }}",
    );
    sandbox.ok(&["build", "--target", "prod"]);
    // Prod is some versions ahead of the clone's first.
    sandbox.write("in/orders/2.csv", "id,amount\n3,1\n");
    sandbox.ok(&["build", "--target", "prod"]);
    sandbox.ok(&["clone", "--from", "prod", "--to", "dev"]);
    let report = sandbox.json(&["build"]);
    assert_did(&report, "gold.feed", "skipped", "");
    sandbox.write("in/orders/3.csv", "id,amount\n4,1\n");
    let report = sandbox.json(&["build"]);
    assert_did(&report, "gold.feed", "success", "changes of silver.orders: version 0 -> 1");
    assert_did(&report, "gold.days", "success", "silver.orders changed: version 0 -> 1");
    assert_eq!(value(&sandbox, "dev", "select count(*) from gold.feed"), 4);
    assert_eq!(value(&sandbox, "dev", "select count(*) from gold.days"), 4);
    let report = sandbox.json(&["promote", "--from", "dev", "--to", "prod", "--select", "orders", "feed"]);
    assert_did(&report, "gold.feed", "success", "");
    sandbox.write("in/orders/4.csv", "id,amount\n5,1\n");
    sandbox.ok(&["build", "--target", "prod", "--select", "orders", "feed"]);
    assert_eq!(value(&sandbox, "prod", "select count(*) from gold.feed"), 5);
}

#[test]
fn columns_that_a_source_came_to_know_are_known_in_the_clone() {
    let sandbox = shop();
    sandbox.write("sources.yml", SOURCES.to_owned() + "        on_new_column: add\n");
    sandbox.write("models/silver/orders.sql", "{{ config(materialized='incremental', incremental_strategy='append') }}\nselect * from {{ source('raw', 'orders') }}\n");
    sandbox.write("in/orders/2.csv", "id,amount,note\n3,1,x\n");
    sandbox.ok(&["build", "--target", "prod"]);
    std::fs::remove_file(sandbox.path("in/orders/2.csv")).unwrap();
    sandbox.ok(&["clone", "--from", "prod", "--to", "dev"]);
    sandbox.write("in/orders/3.csv", "id,amount\n4,1\n");
    sandbox.ok(&["build"]);
    assert_eq!(value(&sandbox, "dev", "select count(note) from silver.orders"), 1);
}

#[test]
fn rows_of_earlier_builds_are_not_replaced_by_those_of_another_past() {
    let sandbox = shop();
    sandbox.write(
        "models/gold/seen.sql",
        "{{ config(materialized='incremental') }} select count(*) as n from {{ ref('orders') }}",
    );
    for file in 2..4 {
        sandbox.ok(&["build", "--target", "prod"]);
        sandbox.write(&format!("in/orders/{file}.csv"), format!("id,amount\n{file}0,1\n"));
    }
    sandbox.ok(&["build", "--target", "prod"]);
    sandbox.ok(&["build"]);
    let promote = ["promote", "--from", "dev", "--to", "prod", "--select", "orders", "seen"];
    sandbox
        .lake(&promote)
        .assert_failed(1, "it keeps rows of earlier builds, and dev does not go on from version 2 of prod");
    // What goes on from a clone may.
    sandbox.ok(&["clone", "--from", "prod", "--to", "dev"]);
    sandbox.write("in/orders/9.csv", "id,amount\n90,1\n");
    sandbox.ok(&["build"]);
    sandbox.ok(&promote);
    assert_eq!(value(&sandbox, "prod", "select count(*) from gold.seen"), 4);
    assert_eq!(value(&sandbox, "prod", "select max(n) from gold.seen"), 5);
}

#[test]
fn a_target_is_promoted_to_again_and_again() {
    let sandbox = shop();
    // The test of a model looks at another one, which comes later by its name.
    let fact = "{{ config(materialized='table') }} select id, amount from {{ ref('orders') }}";
    sandbox.write("models/gold/a_fact.sql", fact);
    sandbox.write(
        "models/gold/z_dim.sql",
        "{{ config(materialized='table') }} select distinct id from {{ ref('orders') }}",
    );
    let merged = "{{ config(materialized='incremental', unique_key='id') }}
        select id, amount from {{ ref('orders', changes=true) }}";
    sandbox.write("models/silver/merged.sql", merged);
    sandbox.write(
        "models/gold/more.yml",
        "models:\n  - name: a_fact\n    columns:\n      - { name: id, data_tests: [{ relationships: { to: ref('z_dim'), field: id } }] }\n",
    );
    let promote = ["promote", "--from", "dev", "--to", "prod"];
    for file in 2..5 {
        sandbox.ok(&["build"]);
        let report = sandbox.json(&promote);
        assert!(report["nodes"].as_array().unwrap().iter().all(|node| node["status"] != "error"), "{report:#}");
        assert_eq!(value(&sandbox, "prod", "select count(*) from silver.merged"), file);
        assert_eq!(value(&sandbox, "prod", "select count(*) from gold.a_fact"), file);
        sandbox.write(&format!("in/orders/{file}.csv"), format!("id,amount\n{file}0,1\n"));
    }
    // What is made anew does not go on from what is there.
    sandbox.ok(&["build", "--full-refresh"]);
    sandbox.write("in/orders/9.csv", "id,amount\n90,1\n");
    sandbox.ok(&["build"]);
    let run = sandbox.lake(&[&promote[..], &["--atomic"]].concat());
    run.assert_failed(1, "it keeps rows of earlier builds, and dev does not go on from version 2 of prod");
    sandbox.ok(&["clone", "--from", "prod", "--to", "dev"]);
    sandbox.ok(&["build"]);
    sandbox.ok(&promote);
    assert_eq!(value(&sandbox, "prod", "select count(*) from silver.merged"), 6);
}
