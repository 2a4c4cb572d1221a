//! How files are laid out, and what the log of a table says of it beside rows. Another reader looks at both.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::materialize::{items, rows};
use crate::reader::python;
use crate::sandbox::{Sandbox, node};

/// What `deltalake` and `pyarrow` find in a table.
const SCRIPT: &str = r#"
import json, os, sys
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

table = DeltaTable(sys.argv[1])
metadata = table.metadata()
fields = json.loads(table.schema().to_json())["fields"]
files = []
for path in table.file_uris():
    parquet = pq.ParquetFile(path).metadata
    group = parquet.row_group(0)
    names = [group.column(i).path_in_schema for i in range(group.num_columns)]
    files.append({
        "rows": parquet.num_rows,
        "compression": group.column(0).compression,
        "sorting": [names[column.column_index] for column in group.sorting_columns],
        "created_by": parquet.created_by,
    })
add = pa.table(table.get_add_actions(flatten=True)).to_pylist()
print(json.dumps({
    "version": table.version(),
    "description": metadata.description,
    "configuration": metadata.configuration,
    "comments": {field["name"]: field["metadata"].get("comment") for field in fields},
    "types": {field["name"]: field["type"] for field in fields},
    "files": files,
    "adds": [{str(k): str(v) for k, v in row.items()} for row in add],
}))
sys.stdout.flush()
os._exit(0)
"#;

/// A table as another reader sees it.
#[track_caller]
pub fn seen(python: &Path, sandbox: &Sandbox, table: &str) -> Value {
    let output = Command::new(python)
        .args(["-c", SCRIPT])
        .arg(sandbox.path("lake").join(table.replace('.', "/")))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// A model over so many numbers, in an order that looks random.
fn numbers(config: &str, count: u32) -> String {
    format!(
        "{{{{ config(materialized='table', {config}) }}}} select (value * 7919) % {count} as n, value % 10 as digit, \
         'name ' || cast((value * 104729) % {count} as varchar) as \"Name\" from generate_series(0, {last}) as t(value)",
        last = count - 1
    )
}

fn number(value: &Value) -> i64 {
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_else(|| panic!("{value}"))
}

#[test]
fn files_are_sorted_cut_and_compressed_as_the_model_says() {
    let Some(python) = python() else { return };
    let config = "sort_by=['n'], target_file_size='16KB', compression='snappy', partition_by='digit'";
    let sandbox = items(&[("models/silver/numbers.sql", &numbers(config, 60_000))]);
    sandbox.ok(&["build"]);
    let table = seen(&python, &sandbox, "silver.numbers");
    let files = table["files"].as_array().unwrap();
    assert!(files.len() > 10, "{} files", files.len());
    for file in files {
        assert_eq!((&file["compression"], &file["sorting"]), (&json!("SNAPPY"), &json!(["n"])), "{file}");
    }
    // Files of one partition do not overlap: the minimum of one lies above the maximum of the one before.
    let mut ranges: Vec<(String, i64, i64)> = table["adds"].as_array().unwrap().iter().map(range).collect();
    ranges.sort();
    let apart = |pair: &[(String, i64, i64)]| pair[0].0 != pair[1].0 || pair[0].2 < pair[1].1;
    assert!(ranges.windows(2).all(apart), "{ranges:?}");
    assert_eq!(sandbox.value("select count(distinct n) as n from {{ ref('numbers') }}"), 60_000);
}

fn range(add: &Value) -> (String, i64, i64) {
    let partition = add.get("partition.digit").map_or_else(String::new, Value::to_string);
    (partition, number(&add["min.n"]), number(&add["max.n"]))
}

#[test]
fn rows_in_z_order_are_near_in_every_column() {
    let Some(python) = python() else { return };
    let sql = |config: &str| {
        format!(
            "{{{{ config(materialized='table', target_file_size='100KB', {config}) }}}} select (value * 7919) % 1000 as n, \
             cast((value * 104729) / 1000 % 1000 as double) as m, value as id from generate_series(0, 199999) as t(value)"
        )
    };
    let sandbox = items(&[
        ("models/silver/plain.sql", &sql("compression='none'")),
        ("models/silver/near.sql", &sql("compression='none', zorder_by=['n', 'm']")),
    ]);
    sandbox.ok(&["build"]);
    let width = |model: &str, column: &str| {
        let table = seen(&python, &sandbox, model);
        let adds = table["adds"].as_array().unwrap().clone();
        let float = |value: &Value| value.as_str().unwrap().parse::<f64>().unwrap();
        let width = |add: &Value| float(&add[&format!("max.{column}")]) - float(&add[&format!("min.{column}")]);
        assert!(adds.len() > 8, "{} files", adds.len());
        adds.iter().map(width).sum::<f64>() / adds.len() as f64
    };
    for column in ["n", "m"] {
        let (near, plain) = (width("silver.near", column), width("silver.plain", column));
        assert!(near < plain * 0.7, "{column}: {near} of {plain}");
    }
    let same =
        "select count(*) as n from (select * from {{ ref('near') }} except select * from {{ ref('plain') }}) as d";
    assert_eq!(sandbox.value(same), 0);
    assert_eq!(sandbox.value("select count(distinct id) as n from {{ ref('near') }}"), 200_000);
}

#[test]
fn bloom_filters_and_statistics_are_those_that_were_asked_for() {
    let Some(python) = python() else { return };
    let properties = "tblproperties={'delta.dataSkippingStatsColumns': 'n'}";
    let with = numbers(&format!("bloom_filter_columns=['Name'], {properties}"), 5_000);
    let sandbox = items(&[
        ("models/silver/numbers.sql", &with),
        ("models/silver/bare.sql", &numbers("tblproperties={'delta.dataSkippingNumIndexedCols': 0}", 5_000)),
        ("models/silver/usual.sql", &numbers("", 5_000)),
    ]);
    sandbox.ok(&["build"]);
    let adds = |model: &str| seen(&python, &sandbox, model)["adds"][0].clone();
    let has = |add: &Value, key: &str| add.get(key).is_some_and(|value| value != "None");
    let (some, none, all) = (adds("silver.numbers"), adds("silver.bare"), adds("silver.usual"));
    assert!(has(&some, "min.n") && !has(&some, "min.Name"), "{some}");
    assert!(!has(&none, "min.n") && none["num_records"] != "None", "{none}");
    assert!(has(&all, "min.n") && has(&all, "min.Name"), "{all}");
    assert!(bytes_of(&sandbox, "numbers") > bytes_of(&sandbox, "usual") + 1000);
    assert_eq!(sandbox.value("select count(*) as n from {{ ref('numbers') }} where \"Name\" = 'name 17'"), 1);
}

/// The size of the data files of a model of silver.
fn bytes_of(sandbox: &Sandbox, model: &str) -> u64 {
    let files = std::fs::read_dir(sandbox.path(&format!("lake/silver/{model}"))).unwrap().map(|entry| entry.unwrap());
    files.map(|file| file.metadata().unwrap()).filter(std::fs::Metadata::is_file).map(|file| file.len()).sum()
}

const ITEMS: &str = "{{ config(materialized='incremental') }} select id, value from {{ source('raw', 'items') }}";
const TOTAL: &str = "{{ config(materialized='table') }} select count(*) as n from {{ ref('items') }}";

#[test]
fn descriptions_stand_in_the_table_and_a_new_one_rebuilds_nothing() {
    let Some(python) = python() else { return };
    let described = |table: &str, column: &str| {
        format!(
            "models:\n  - name: items\n    description: {table}\n    columns:\n      - {{ name: id, description: {column} }}\n"
        )
    };
    let sandbox = items(&[
        ("models/silver/items.sql", ITEMS),
        ("models/silver/items.yml", &described("All items.", "Who it is.")),
        ("models/gold/total.sql", TOTAL),
    ]);
    sandbox.ok(&["build"]);
    let first = seen(&python, &sandbox, "silver.items");
    assert_eq!((&first["description"], &first["comments"]["id"]), (&json!("All items."), &json!("Who it is.")));
    assert_eq!(first["comments"]["value"], Value::Null);

    sandbox.write("models/silver/items.yml", described("Every item.", "Its number."));
    let report = sandbox.json(&["build"]);
    let items = node(&report, "silver.items");
    assert_eq!(
        (&items["status"], &items["action"], &items["version"]),
        (&json!("success"), &json!("describe"), &json!(1))
    );
    assert_eq!(items["reason"], "descriptions changed");
    assert_eq!(node(&report, "gold.total")["status"], "skipped", "{report}");
    let second = seen(&python, &sandbox, "silver.items");
    assert_eq!((&second["description"], &second["comments"]["id"]), (&json!("Every item."), &json!("Its number.")));
    assert_eq!((&second["version"], &second["adds"]), (&json!(1), &first["adds"]));

    // Nothing more to say, and what is known of files is still known.
    let report = sandbox.json(&["build"]);
    assert_eq!(node(&report, "silver.items")["status"], "skipped", "{report}");
    assert_eq!(node(&report, "gold.total")["status"], "skipped", "{report}");
    sandbox.write("in/items/2.csv", "id,value\n3,c\n");
    let report = sandbox.json(&["build"]);
    assert_eq!(node(&report, "silver.items")["rows"], 1, "{report}");
    assert_eq!(node(&report, "gold.total")["status"], "success", "{report}");
    assert_eq!(rows(&sandbox, "items"), ["1 a", "2 b", "3 c"]);
    let third = seen(&python, &sandbox, "silver.items");
    assert_eq!((&third["description"], &third["comments"]["id"]), (&json!("Every item."), &json!("Its number.")));
}

#[test]
fn descriptions_are_left_alone_if_they_are_not_to_be_persisted() {
    let Some(python) = python() else { return };
    let properties = "models:\n  - name: items\n    description: All items.\n    config: { persist_docs: { relation: false } }\n    columns:\n      - { name: id, description: Who it is. }\n";
    let sandbox = items(&[("models/silver/items.sql", ITEMS), ("models/silver/items.yml", properties)]);
    sandbox.ok(&["build"]);
    let table = seen(&python, &sandbox, "silver.items");
    assert_eq!((&table["description"], &table["comments"]["id"]), (&Value::Null, &json!("Who it is.")));
}

#[test]
fn properties_of_the_table_follow_the_model_without_a_rebuild() {
    let Some(python) = python() else { return };
    let model =
        |properties: &str| ITEMS.replace("'incremental'", &format!("'incremental', tblproperties={properties}"));
    let sandbox = items(&[
        ("models/silver/items.sql", &model("{'team': 'web', 'delta.logRetentionDuration': 'interval 60 days'}")),
        ("models/gold/total.sql", TOTAL),
    ]);
    sandbox.ok(&["build"]);
    let configuration = |sandbox: &Sandbox| seen(&python, sandbox, "silver.items")["configuration"].clone();
    let first = configuration(&sandbox);
    assert_eq!((&first["team"], &first["delta.logRetentionDuration"]), (&json!("web"), &json!("interval 60 days")));

    sandbox.write("models/silver/items.sql", model("{'team': 'data'}"));
    let report = sandbox.json(&["build"]);
    assert_eq!(node(&report, "silver.items")["reason"], "table properties changed", "{report}");
    assert_eq!(node(&report, "gold.total")["status"], "skipped", "{report}");
    let second = configuration(&sandbox);
    assert_eq!((&second["team"], second.get("delta.logRetentionDuration")), (&json!("data"), None), "{second}");

    // A property that another program has set is none of our business.
    sandbox.write("models/silver/items.sql", ITEMS);
    sandbox.ok(&["build"]);
    assert_eq!(configuration(&sandbox), json!({}));
    assert_eq!(rows(&sandbox, "items"), ["1 a", "2 b"]);
}

#[test]
fn a_change_of_the_layout_is_for_new_files_only() {
    let sandbox = items(&[("models/silver/items.sql", ITEMS)]);
    sandbox.ok(&["build"]);
    let config =
        "'incremental', sort_by='id', compression='zstd(3)', target_file_size='1MB', bloom_filter_columns='id'";
    sandbox.write("models/silver/items.sql", ITEMS.replace("'incremental'", config));
    let report = sandbox.json(&["build"]);
    assert_eq!(node(&report, "silver.items")["status"], "skipped", "{report}");
    sandbox.write("in/items/2.csv", "id,value\n9,z\n3,c\n");
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items"), ["1 a", "2 b", "3 c", "9 z"]);
}

#[test]
fn a_build_that_dies_after_a_description_has_done_it() {
    let sandbox = items(&[("models/silver/items.sql", ITEMS), ("models/gold/total.sql", TOTAL)]);
    sandbox.ok(&["build"]);
    sandbox.write("models/silver/items.yml", "models:\n  - { name: items, description: All. }\n");
    let died = sandbox.command(&["build"]).env("LAKE_FAIL_POINT", "described").output().unwrap();
    assert!(!died.status.success());
    let report = sandbox.json(&["build"]);
    assert_eq!(node(&report, "silver.items")["status"], "skipped", "{report}");
    assert_eq!(node(&report, "gold.total")["status"], "skipped", "{report}");
}

/// How many data files a table has.
fn files_of(python: &Path, sandbox: &Sandbox, model: &str) -> usize {
    seen(python, sandbox, model)["files"].as_array().unwrap().len()
}

#[test]
fn small_files_do_not_pile_up_under_appends() {
    let Some(python) = python() else { return };
    let model = |config: &str| ITEMS.replace("'incremental'", &format!("'incremental'{config}"));
    let merged = model(", unique_key='id', partition_by='value'");
    let sandbox = items(&[
        ("models/silver/items.sql", ITEMS),
        ("models/silver/parted.sql", &merged),
        ("models/silver/left.sql", &model(", auto_optimize=false")),
        ("models/gold/total.sql", TOTAL),
    ]);
    for file in 2..16 {
        sandbox.write(&format!("in/items/{file}.csv"), format!("id,value\n{file}0,a\n{file}1,b\n{file}2,\n"));
        sandbox.ok(&["build"]);
    }
    // 14 appends to one partition, and to three.
    assert_eq!(files_of(&python, &sandbox, "silver.left"), 14);
    assert!(files_of(&python, &sandbox, "silver.items") <= 8);
    assert!(
        files_of(&python, &sandbox, "silver.parted") <= 24 && files_of(&python, &sandbox, "silver.parted") < 3 * 14
    );
    let lines = |model: &str| rows(&sandbox, model);
    assert_eq!((lines("items"), lines("parted")), (lines("left"), lines("left")));
    assert_eq!(lines("items").len(), 2 + 14 * 3);
    assert_eq!(sandbox.value("select n from {{ ref('total') }}"), 2 + 14 * 3);
    crate::reader::assert_agree(&python, &sandbox, "lake", "silver.parted");
}

#[test]
fn rows_that_may_be_taken_out_again_are_never_packed() {
    let Some(python) = python() else { return };
    let sandbox = items(&[("models/silver/items.sql", ITEMS)]);
    let sources = std::fs::read_to_string(sandbox.path("sources.yml")).unwrap();
    sandbox.write("sources.yml", sources.replace("format: csv\n", "format: csv\n        on_changed_file: replace\n"));
    for file in 2..12 {
        sandbox.write(&format!("in/items/{file}.csv"), format!("id,value\n{file},a\n"));
        sandbox.ok(&["build"]);
    }
    assert_eq!(files_of(&python, &sandbox, "silver.items"), 11);
    sandbox.write("in/items/5.csv", "id,value\n55,changed\n");
    let report = sandbox.json(&["build"]);
    assert_eq!(node(&report, "silver.items")["action"], "update", "{report}");
    assert!(rows(&sandbox, "items").contains(&"55 changed".to_owned()) && rows(&sandbox, "items").len() == 12);
}
