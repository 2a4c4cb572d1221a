//! Incremental strategies: where new rows go among those that are there.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::materialize::rows;
use crate::reader;
use crate::sandbox::{Sandbox, node};

const SOURCES: &str = "sources:
  - name: raw
    root: in
    tables:
      - name: sales
        path: sales/
        format: csv
        columns:
          - { name: day, data_type: date }
          - { name: shop, data_type: varchar }
          - { name: item, data_type: varchar }
          - { name: price, data_type: bigint }
";

const FIRST: &str = "day,shop,item,price
2026-01-01,north,tea,1
2026-01-01,north,cup,2
2026-01-01,south,tea,3
2026-01-02,south,jug,4
,north,jar,5
,,pot,6
";

/// A project whose one model `silver.sales` takes sales in with these settings, after its first build.
fn sales(config: &str) -> Sandbox {
    let sql = format!(
        "{{{{ config(materialized='incremental', {config}) }}}} select * from {{{{ source('raw', 'sales') }}}}"
    );
    let sandbox = Sandbox::new(&[
        ("sources.yml", SOURCES),
        ("models/silver/sales.sql", &sql),
        ("in/sales/1.csv", FIRST),
        (
            "models/silver/sales.yml",
            "models:\n  - name: sales\n    columns: [{ name: item, data_tests: [not_null] }]\n",
        ),
    ]);
    sandbox.ok(&["build"]);
    sandbox
}

/// Another file comes; the build does this, and another reader finds the same rows.
#[track_caller]
fn deliver(sandbox: &Sandbox, lines: &str, action: &str) {
    let files = std::fs::read_dir(sandbox.path("in/sales")).unwrap().count();
    sandbox.write(&format!("in/sales/{}.csv", files + 1), format!("day,shop,item,price\n{lines}"));
    let report = sandbox.json(&["build"]);
    assert_eq!(node(&report, "silver.sales")["action"], action, "{report}");
    if let Some(python) = reader::python() {
        reader::assert_agree(&python, sandbox, "lake", "silver.sales");
    }
}

/// The actions of the newest commit.
fn last_commit(sandbox: &Sandbox) -> Vec<Value> {
    let mut names: Vec<_> = std::fs::read_dir(sandbox.path("lake/silver/sales/_delta_log"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    names.sort();
    let text = std::fs::read_to_string(names.last().unwrap()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn removed(sandbox: &Sandbox) -> BTreeSet<String> {
    let folder = |action: &Value| Some(Path::new(action["remove"]["path"].as_str()?).parent()?.display().to_string());
    last_commit(sandbox).iter().filter_map(folder).collect()
}

#[test]
fn delete_insert_replaces_all_rows_of_a_key() {
    let sandbox = sales("incremental_strategy='delete+insert', unique_key=['day', 'shop']");
    deliver(
        &sandbox,
        "2026-01-01,north,mug,7\n2026-01-01,north,mug,8\n,,pan,9\n2026-01-03,west,new,10\n",
        "delete+insert",
    );
    let expected = [
        "2026-01-01 north mug 7",
        "2026-01-01 north mug 8",
        "2026-01-01 south tea 3",
        "2026-01-02 south jug 4",
        "2026-01-03 west new 10",
        "north jar 5",
        "pan 9",
    ];
    assert_eq!(rows(&sandbox, "sales"), expected);
    assert_eq!(node(&sandbox.json(&["build"]), "silver.sales")["status"], "skipped");
    // What fails its tests goes nowhere.
    sandbox.write("in/sales/bad.csv", "day,shop,item,price\n2026-01-01,north,,1\n");
    sandbox.lake(&["build"]).assert_failed(1, "not_null_sales_item");
    assert_eq!(rows(&sandbox, "sales"), expected);
}

#[test]
fn delete_insert_takes_keys_away_that_have_no_rows_any_more() {
    let config = "incremental_strategy='delete+insert', unique_key=['day', 'shop'], delete_when='price is null'";
    let sandbox = sales(config);
    deliver(
        &sandbox,
        "2026-01-01,north,gone,\n,,gone,\n2026-01-09,west,never there,\n2026-01-02,south,mug,8\n2026-01-02,south,gone,\n",
        "delete+insert",
    );
    assert_eq!(rows(&sandbox, "sales"), ["2026-01-01 south tea 3", "2026-01-02 south mug 8", "north jar 5"]);
    // So it is where the table is made anew: from all three files, each row that takes away is no row.
    sandbox.write("in/sales/3.csv", "day,shop,item,price\n2026-01-05,west,gone,\n2026-01-05,west,cup,2\n");
    sandbox.ok(&["build", "--full-refresh"]);
    let all = rows(&sandbox, "sales");
    assert!(
        all.contains(&"2026-01-05 west cup 2".to_owned()) && all.iter().all(|row| !row.contains("gone")),
        "{all:?}"
    );
}

#[test]
fn insert_overwrite_replaces_the_rows_that_meet_a_condition() {
    let only = "day >= '2026-01-01' and day < '2026-01-02'";
    let sandbox =
        sales(&format!("incremental_strategy='insert_overwrite', incremental_predicates=[\"{only}\", 'price > 1']"));
    deliver(&sandbox, "2026-01-01,north,mug,7\n2026-01-01,west,new,10\n", "overwrite");
    let first = rows(&sandbox, "sales");
    let after =
        ["2026-01-01 north mug 7", "2026-01-01 north tea 1", "2026-01-01 west new 10", "2026-01-02 south jug 4"];
    assert_eq!(first[..4], after);
    assert_eq!(first[4..], ["north jar 5", "pot 6"]);
    // A row that the condition does not cover would be there twice after the next run.
    sandbox.write("in/sales/bad.csv", "day,shop,item,price\n2026-01-02,south,lid,9\n2026-01-01,south,lid,9\n");
    sandbox.lake(&["build"]).assert_failed(
        1,
        &format!("1 new row does not meet `({only}) and (price > 1)`, such as (day=2026-01-02, price=9)"),
    );
    assert_eq!(rows(&sandbox, "sales"), first);
    // Files that cannot hold such a row are not touched.
    std::fs::remove_file(sandbox.path("in/sales/bad.csv")).unwrap();
    deliver(&sandbox, "2026-01-01,east,pan,12\n", "overwrite");
    assert_eq!(rows(&sandbox, "sales").len(), 5);
}

#[test]
fn insert_overwrite_replaces_the_partitions_that_have_new_rows() {
    let sandbox = sales("incremental_strategy='insert_overwrite', partition_by=['day', 'shop']");
    deliver(&sandbox, "2026-01-01,north,mug,7\n2026-01-03,west,new,10\n", "overwrite");
    let after = [
        "2026-01-01 north mug 7",
        "2026-01-01 south tea 3",
        "2026-01-02 south jug 4",
        "2026-01-03 west new 10",
        "north jar 5",
        "pot 6",
    ];
    assert_eq!(rows(&sandbox, "sales"), after);
    assert_eq!(removed(&sandbox), BTreeSet::from(["day=2026-01-01/shop=north".to_owned()]));
    sandbox.write("in/sales/bad.csv", "day,shop,item,price\n2026-01-02,south,,1\n");
    sandbox.lake(&["build"]).assert_failed(1, "not_null_sales_item");
    assert_eq!(rows(&sandbox, "sales"), after);
    std::fs::remove_file(sandbox.path("in/sales/bad.csv")).unwrap();
    // NULL is a partition like any other.
    deliver(&sandbox, ",,pan,11\n", "overwrite");
    let nulls = "__HIVE_DEFAULT_PARTITION__";
    assert_eq!(removed(&sandbox), BTreeSet::from([format!("day={nulls}/shop={nulls}")]));
    deliver(&sandbox, ",north,lid,12\n", "overwrite");
    assert_eq!(rows(&sandbox, "sales")[4..], ["north lid 12", "pan 11"]);
    let whole = sandbox.ok(&["show", "--inline", "select count(*) as n from silver.sales", "--output", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&whole).unwrap(), json!([{"n": 6}]));
}

#[test]
fn partitions_of_every_type_are_overwritten() {
    let sql = "{{ config(materialized='incremental', incremental_strategy='insert_overwrite', partition_by=['t', 'd', 'b', 'w']) }}
        select price, timestamp '2026-01-01 10:00:00.000123' as t, cast(1.50 as decimal(10, 2)) as d, price > 2 as b,
               'a b/c=d%é:' || shop as w from {{ source('raw', 'sales') }}";
    let sandbox =
        Sandbox::new(&[("sources.yml", SOURCES), ("models/silver/sales.sql", sql), ("in/sales/1.csv", FIRST)]);
    sandbox.ok(&["build"]);
    deliver(&sandbox, "2026-01-01,north,cup,9\n", "overwrite");
    assert_eq!(
        sandbox.query("select price from silver.sales order by price"),
        [1, 2, 3, 4, 6, 9].map(|n| json!({"price": n}))
    );
}

#[test]
fn merge_can_update_some_columns_only() {
    let sandbox = sales("unique_key=['item', 'shop'], merge_update_columns=['price']");
    deliver(&sandbox, "2030-01-01,north,tea,10\n2030-01-01,,pot,60\n2030-01-01,west,tea,70\n", "merge");
    let expected = [
        "2026-01-01 north cup 2",
        "2026-01-01 north tea 10",
        "2026-01-01 south tea 3",
        "2026-01-02 south jug 4",
        "2030-01-01 west tea 70",
        "north jar 5",
        "pot 60",
    ];
    assert_eq!(rows(&sandbox, "sales"), expected);
    let files: BTreeSet<String> =
        last_commit(&sandbox).iter().filter_map(|action| Some(action["add"]["path"].as_str()?.to_owned())).collect();
    assert!(!files.is_empty());
    sandbox.write("in/sales/twice.csv", "day,shop,item,price\n,north,tea,1\n,north,tea,2\n");
    sandbox.lake(&["build"]).assert_failed(1, "item=tea, shop=north");
    assert_eq!(rows(&sandbox, "sales"), expected);
    // What was staged on the way and not published is gone.
    let data = walk(&sandbox.path("lake/silver/sales")).into_iter().filter(|name| name.ends_with(".parquet"));
    assert_eq!(data.count(), 1 + files.len());
}

#[test]
fn merge_can_keep_some_columns() {
    let sandbox = sales("unique_key=['item', 'shop'], merge_exclude_columns=['day', 'price'], partition_by=['day']");
    sandbox.write(
        "models/silver/sales.sql",
        std::fs::read_to_string(sandbox.path("models/silver/sales.sql"))
            .unwrap()
            .replace("merge_exclude", "on_schema_change='append_new_columns', merge_exclude")
            .replace("select *", "select *, price * 2 as twice"),
    );
    deliver(&sandbox, "2030-01-01,north,tea,10\n2030-01-01,west,tea,70\n", "merge");
    let expected = json!([
        {"day": "2026-01-01", "shop": "north", "price": 1, "twice": 20},
        {"day": "2026-01-01", "shop": "south", "price": 3},
        {"day": "2030-01-01", "shop": "west", "price": 70, "twice": 140},
    ]);
    let found = sandbox.query("select day, shop, price, twice from silver.sales where item = 'tea' order by shop");
    assert_eq!(json!(found), expected);
}

fn walk(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path.display().to_string()) }
    }
    found
}
