//! Delta tables that other engines write: deletion vectors and column mapping are read, and what cannot be read is refused in
//! words. Their commits are made here by hand, as the protocol has them (github.com/delta-io/delta, PROTOCOL.md).

use std::path::PathBuf;

use roaring::RoaringTreemap;
use serde_json::{Value, json};

use crate::sandbox::{Sandbox, node};

/// A table `one` with two files, which a project of its own has made, and a project that reads it.
fn houses() -> (Sandbox, Sandbox) {
    let other = Sandbox::new(&[
        (
            "sources.yml",
            "sources:\n  - name: raw\n    tables: [{ name: data, path: in/, format: csv, columns: [{ name: id, data_type: bigint }, { name: name, data_type: varchar }] }]\n",
        ),
        (
            "models/silver/one.sql",
            "{{ config(materialized='incremental', auto_optimize=false) }} select * from {{ source('raw', 'data') }}",
        ),
        ("in/1.csv", "id,name\n1,a\n2,b\n3,c\n"),
    ]);
    other.ok(&["build"]);
    other.write("in/2.csv", "id,name\n4,d\n5,e\n");
    other.ok(&["build"]);
    let reader = Sandbox::new(&[
        (
            "sources.yml",
            &format!(
                "sources:\n  - name: other\n    tables: [{{ name: one, path: {}, format: delta }}]\n",
                other.path("lake/silver/one").display()
            ),
        ),
        (
            "models/silver/copy.sql",
            "{{ config(materialized='table') }} select id, name from {{ source('other', 'one') }} order by id",
        ),
    ]);
    (other, reader)
}

fn log(sandbox: &Sandbox) -> PathBuf {
    sandbox.path("lake/silver/one/_delta_log")
}

/// The actions of a version.
fn actions(sandbox: &Sandbox, version: u64) -> Vec<Value> {
    let text = std::fs::read_to_string(log(sandbox).join(format!("{version:020}.json"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn action(sandbox: &Sandbox, version: u64, name: &str) -> Value {
    actions(sandbox, version).into_iter().find_map(|action| action.get(name).cloned()).unwrap()
}

fn commit(sandbox: &Sandbox, version: u64, actions: &[Value]) {
    let info = json!({"commitInfo": {"timestamp": 1_800_000_000_000_u64 + version, "operation": "DELETE", "engineInfo": "by hand"}});
    let lines: Vec<String> = std::iter::once(&info).chain(actions).map(Value::to_string).collect();
    std::fs::write(log(sandbox).join(format!("{version:020}.json")), lines.join("\n")).unwrap();
}

fn protocol(features: &[&str]) -> Value {
    json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features}})
}

/// An inline deletion vector (PROTOCOL.md, "Deletion Vector Format"): a number, and a bitmap, in Z85.
fn deletion_vector(rows: &[u64]) -> Value {
    const LETTERS: &[u8; 85] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
    let mut bytes = 1_681_511_377_u32.to_le_bytes().to_vec();
    rows.iter().copied().collect::<RoaringTreemap>().serialize_into(&mut bytes).unwrap();
    let size = bytes.len();
    bytes.resize(size.div_ceil(4) * 4, 0);
    let mut text = String::new();
    for four in bytes.chunks(4) {
        let number = u32::from_be_bytes(four.try_into().unwrap());
        for power in (0..5).rev() {
            text.push(char::from(LETTERS[(number / 85_u32.pow(power) % 85) as usize]));
        }
    }
    json!({"storageType": "i", "pathOrInlineDv": text, "sizeInBytes": size, "cardinality": rows.len()})
}

fn rows(reader: &Sandbox) -> Vec<String> {
    let rows = reader.query("select id, name from silver.copy order by id");
    rows.iter().map(|row| format!("{} {}", row["id"], row["name"].as_str().unwrap())).collect()
}

#[test]
fn rows_that_another_engine_has_deleted_are_not_read() {
    let (other, reader) = houses();
    reader.ok(&["build"]);
    assert_eq!(rows(&reader), ["1 a", "2 b", "3 c", "4 d", "5 e"]);
    let mut add = action(&other, 0, "add");
    let remove = json!({"remove": {"path": add["path"], "deletionTimestamp": 1, "dataChange": true}});
    add["deletionVector"] = deletion_vector(&[0, 2]);
    commit(&other, 2, &[protocol(&["deletionVectors"]), remove, json!({"add": add})]);
    let report = reader.json(&["build"]);
    assert_eq!(node(&report, "silver.copy")["status"], "success", "{report}");
    assert_eq!(rows(&reader), ["2 b", "4 d", "5 e"]);
    let again = reader.json(&["build"]);
    assert_eq!(node(&again, "silver.copy")["status"], "skipped", "{again}");
}

#[test]
fn columns_that_files_have_under_other_names_are_read() {
    let (other, reader) = houses();
    let mut metadata = action(&other, 0, "metaData");
    let mut schema: Value = serde_json::from_str(metadata["schemaString"].as_str().unwrap()).unwrap();
    for (at, field) in schema["fields"].as_array_mut().unwrap().iter_mut().enumerate() {
        field["metadata"] =
            json!({"delta.columnMapping.id": at + 1, "delta.columnMapping.physicalName": field["name"].clone()});
    }
    // Only the table's word for it is another one.
    schema["fields"][1]["name"] = json!("title");
    metadata["schemaString"] = json!(schema.to_string());
    metadata["configuration"] = json!({"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "2"});
    commit(&other, 2, &[protocol(&["columnMapping"]), json!({"metaData": metadata})]);
    reader.write(
        "models/silver/copy.sql",
        "{{ config(materialized='table') }} select id, title as name from {{ source('other', 'one') }} order by id",
    );
    reader.ok(&["build"]);
    assert_eq!(rows(&reader), ["1 a", "2 b", "3 c", "4 d", "5 e"]);
}

#[test]
fn a_feature_that_cannot_be_read_is_refused_by_name() {
    let (other, reader) = houses();
    commit(&other, 2, &[protocol(&["timeTravelToTomorrow"])]);
    let run = reader.lake(&["build"]);
    run.assert_failed(2, "timeTravelToTomorrow");
    assert!(run.stderr.contains("source `other.one`"), "{}", run.stderr);
}

#[test]
fn a_version_that_another_engine_wrote_is_made_anew() {
    let (other, _) = houses();
    let add = action(&other, 1, "add");
    let remove = json!({"remove": {"path": add["path"], "deletionTimestamp": 1, "dataChange": true}});
    other.write(
        "models/gold/total.sql",
        "{{ config(materialized='table') }} select count(*) as n from {{ ref('one') }}",
    );
    other.ok(&["build"]);
    assert_eq!(other.value("select n from gold.total"), 5);
    commit(&other, 2, &[remove]);
    let report = other.json(&["build", "--select", "total"]);
    assert_eq!(node(&report, "gold.total")["status"], "success", "{report}");
    assert_eq!(other.value("select n from gold.total"), 3);
}
