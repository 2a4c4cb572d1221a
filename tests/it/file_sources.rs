//! Sources beyond text: Parquet, Avro, Arrow and Delta, several formats at once, and columns that paths and files give.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::ipc::writer::{FileWriter, StreamWriter};
use datafusion_datasource_avro::arrow_avro::writer::AvroWriter;
use serde_json::json;

use crate::formats::{assert_rows, columns, source};
use crate::sandbox::{Sandbox, node};

const ID_NAME: &str = "columns: [{ name: id, data_type: bigint }, { name: name, data_type: varchar }]";

/// Rows `id, name`, and perhaps `price`.
fn batch(ids: &[i64], names: &[&str], price: Option<i128>) -> RecordBatch {
    let mut columns: Vec<(&str, ArrayRef)> =
        vec![("name", Arc::new(StringArray::from(names.to_vec()))), ("id", Arc::new(Int64Array::from(ids.to_vec())))];
    if let Some(price) = price {
        let prices = Decimal128Array::from(vec![price; ids.len()]).with_precision_and_scale(12, 2).unwrap();
        columns.push(("price", Arc::new(prices)));
    }
    RecordBatch::try_from_iter(columns).unwrap()
}

/// The bytes of an Avro file.
pub fn avro_bytes(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = AvroWriter::new(Vec::new(), batch.schema().as_ref().clone()).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    writer.into_inner()
}

/// The bytes of an Arrow file.
pub fn arrow_bytes(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

fn stream_bytes(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

/// The bytes of a Parquet file.
pub fn parquet_bytes(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = datafusion::parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn avro_files_are_sources() {
    let sandbox = source("in", "format: avro", &[]);
    sandbox.write("in/1.avro", avro_bytes(&batch(&[1, 2], &["one", "two"], Some(105))));
    sandbox.write("in/2.avro", avro_bytes(&batch(&[3], &["three"], None)));
    assert_eq!(columns(&sandbox), ["name varchar", "id bigint", "price decimal(12,2)"]);
    assert_rows(&sandbox, &["one 1 1.05", "three 3", "two 2 1.05"]);
    let declared = source("in", &format!("format: avro, {ID_NAME}"), &[]);
    declared.write("in/1.avro", avro_bytes(&batch(&[1], &["one"], Some(1))));
    assert_rows(&declared, &["1 one"]);
    declared.write("in/2.avro", "Obj\u{1}nonsense");
    declared.lake(&["run"]).assert_failed(1, "in/2.avro");
}

#[test]
fn arrow_files_and_streams_are_sources() {
    let sandbox = source("in", "format: arrow", &[]);
    sandbox.write("in/1.arrow", arrow_bytes(&batch(&[1, 2], &["one", "two"], Some(105))));
    sandbox.write("in/2.arrow", stream_bytes(&batch(&[3], &["three"], Some(7))));
    sandbox.write("in/3.feather", arrow_bytes(&batch(&[4], &["four"], None)));
    assert_eq!(columns(&sandbox), ["name varchar", "id bigint", "price decimal(12,2)"]);
    assert_rows(&sandbox, &["four 4", "one 1 1.05", "three 3 0.07", "two 2 1.05"]);
    sandbox.write("in/4.arrow", "ARROW1\0\0nonsense");
    sandbox.lake(&["run"]).assert_failed(2, "in/4.arrow");
}

#[test]
fn one_source_may_mix_formats() {
    let texts = [
        ("in/a/1.csv", "id,name\n1,csv\n"),
        ("in/a/skipped.txt", "nothing"),
        ("in/b/2.json", "[{\"id\": 2, \"name\": \"json\"}]"),
        ("in/b/deep/3.jsonl", "{\"name\": \"lines\", \"id\": 3}\n"),
        ("in/c/4.tsv", "name\tid\ntabs\t4\n"),
    ];
    let fill = |sandbox: Sandbox| {
        sandbox.write("in/b/5.avro", avro_bytes(&batch(&[5], &["avro"], None)));
        sandbox.write("in/b/6.parquet", parquet_bytes(&batch(&[6], &["parquet"], None)));
        sandbox.write("in/b/7.arrow", arrow_bytes(&batch(&[7], &["arrow"], None)));
        sandbox
    };
    let all = ["1 csv", "2 json", "3 lines", "4 tabs", "5 avro", "6 parquet", "7 arrow"];
    let declared = format!("format: auto, {ID_NAME}");
    assert_rows(&fill(source("in", &declared, &texts)), &all);
    assert_rows(&fill(source("in", "format: auto", &texts)), &all);
    let listed = fill(source("in", &declared, &texts));
    let sources = std::fs::read_to_string(listed.path("sources.yml")).unwrap();
    listed.write("sources.yml", sources.replace("path: 'in'", "path: ['in/a/*.csv', 'in/b/*.parquet', in/b/deep]"));
    assert_rows(&listed, &["1 csv", "3 lines", "6 parquet"]);
    listed.write("sources.yml", sources.replace("path: 'in'", "path: [in/c, ./in/b/deep/3.jsonl]"));
    assert_rows(&listed, &["3 lines", "4 tabs"]);
    listed.write("sources.yml", sources.replace("path: 'in'", "path: ['in/a/*', 'in/b/*.parquet']"));
    listed.lake(&["run"]).assert_failed(1, "in/a/skipped.txt`: its ending says no format");
}

#[test]
fn folders_and_names_of_files_give_typed_columns() {
    let settings = format!(
        "format: csv, {ID_NAME}, partition_columns: [{{ name: dt, data_type: date }}, shop], \
         path_pattern: 'views_{{hour:%Y%m%d%H}}_{{part:int}}.csv'"
    );
    let files = [
        ("in/dt=2024-08-01/shop=M%C3%BCnchen/views_2024080107_1.csv", "id,name\n1,one\n"),
        ("in/dt=2024-08-02/shop=__HIVE_DEFAULT_PARTITION__/views_2024080223_12.csv", "id,name\n2,two\n"),
    ];
    let sandbox = source("in", &settings, &files);
    let types = ["id bigint", "name varchar", "dt date", "shop varchar", "hour timestamp", "part int"];
    assert_eq!(columns(&sandbox), types);
    sandbox.ok(&["build"]);
    let expected = [
        json!({"id": 1, "name": "one", "dt": "2024-08-01", "shop": "München", "hour": "2024-08-01T07:00:00", "part": 1}),
        json!({"id": 2, "name": "two", "dt": "2024-08-02", "hour": "2024-08-02T23:00:00", "part": 12}),
    ];
    assert_eq!(sandbox.query("select * from {{ ref('data') }} order by id"), expected);
    assert_eq!(sandbox.value("select count(*) from {{ source('raw', 'data') }} where dt = '2024-08-02'"), 1);
    sandbox.write("in/dt=2024-08-03/views_2024080301_1.csv", "id\n3\n");
    sandbox.lake(&["run"]).assert_failed(1, "it is in no folder `shop=...`");
    std::fs::remove_dir_all(sandbox.path("in/dt=2024-08-03")).unwrap();
    sandbox.write("in/dt=yesterday/shop=a/views_2024080301_1.csv", "id\n3\n");
    sandbox.lake(&["run"]).assert_failed(1, "`dt` in its path is `yesterday`: not a date");
    std::fs::remove_dir_all(sandbox.path("in/dt=yesterday")).unwrap();
    sandbox.write("in/dt=2024-08-03/shop=a/clicks.csv", "id\n3\n");
    sandbox.lake(&["run"]).assert_failed(1, "clicks.csv`: its path does not fit `path_pattern: views_");
}

#[test]
fn metadata_columns_say_where_a_row_is_from() {
    let all = "[_file_path, _file_name, _file_size, _file_modified_at, _row_number, _batch_id, _loaded_at]";
    let sandbox = source("in", &format!("format: auto, {ID_NAME}, metadata_columns: {all}"), &[]);
    sandbox.write("in/deep/ü 1.csv", "id,name\n1,\"on\ne\"\n\n2,two\n");
    sandbox.write("in/2.json", "[{\"id\": 3}, {\"id\": 4}]");
    sandbox.write("in/3.parquet", parquet_bytes(&batch(&[5, 6], &["a", "b"], None)));
    let model = "{{ config(materialized='incremental') }} select * from {{ source('raw', 'data') }}";
    sandbox.write("models/silver/data.sql", model);
    sandbox.ok(&["build"]);
    let rows = sandbox.query("select id, _file_path as p, _file_name as f, _file_size as s, _row_number as n from {{ ref('data') }} order by id");
    let size = std::fs::metadata(sandbox.path("in/3.parquet")).unwrap().len();
    let expected = [
        json!({"id": 1, "p": "in/deep/ü 1.csv", "f": "ü 1.csv", "s": 24, "n": 1}),
        json!({"id": 2, "p": "in/deep/ü 1.csv", "f": "ü 1.csv", "s": 24, "n": 2}),
        json!({"id": 3, "p": "in/2.json", "f": "2.json", "s": 22, "n": 1}),
        json!({"id": 4, "p": "in/2.json", "f": "2.json", "s": 22, "n": 2}),
        json!({"id": 5, "p": "in/3.parquet", "f": "3.parquet", "s": size, "n": 1}),
        json!({"id": 6, "p": "in/3.parquet", "f": "3.parquet", "s": size, "n": 2}),
    ];
    assert_eq!(rows, expected);
    let modified =
        "select count(*) from {{ ref('data') }} where _file_modified_at between now() - interval '1 hour' and now()";
    assert_eq!(sandbox.value(modified), 6);
    sandbox.write("in/4.csv", "id\n7\n");
    sandbox.ok(&["build"]);
    let batches = "select count(distinct _batch_id) from {{ ref('data') }}";
    assert_eq!(sandbox.value(batches), 2);
    let taken = std::fs::read_dir(sandbox.path("lake/silver/data/_lake/manifest/raw.data")).unwrap();
    let mut taken: Vec<String> = taken.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    taken.sort();
    let last = sandbox.value("select max(_batch_id) from {{ ref('data') }}").as_i64().unwrap();
    assert_eq!(taken.last(), Some(&format!("{last:019}.json")));
    let loaded = "select count(distinct _loaded_at) from {{ ref('data') }} where _loaded_at between now() - interval '1 hour' and now()";
    assert_eq!(sandbox.value(loaded), 2);
    // No batch takes in what a query over all files reads.
    assert_eq!(sandbox.value("select count(_batch_id) from {{ source('raw', 'data') }}"), 0);
    assert_eq!(sandbox.value("select count(*) from {{ ref('data') }}"), 7);
}

/// A project that reads the Delta table of another one, which has two versions.
fn of_delta(settings: &str) -> (Sandbox, Sandbox) {
    let other = source("in", &format!("format: csv, {ID_NAME}"), &[("in/1.csv", "id,name\n1,one\n")]);
    let model =
        "{{ config(materialized='incremental', partition_by=['name']) }} select * from {{ source('raw', 'data') }}";
    other.write("models/silver/data.sql", model);
    other.ok(&["build"]);
    other.write("in/2.csv", "id,name\n2,two\n");
    other.ok(&["build"]);
    let path = other.path("lake/silver/data");
    let sandbox = source(path.to_str().unwrap(), &format!("format: delta{settings}"), &[]);
    (other, sandbox)
}

#[test]
fn a_delta_table_is_a_source_at_any_version() {
    let (_other, sandbox) = of_delta("");
    assert_eq!(columns(&sandbox), ["id bigint", "name varchar"]);
    assert_rows(&sandbox, &["1 one", "2 two"]);
    let (_other, sandbox) = of_delta(", version: 0");
    assert_rows(&sandbox, &["1 one"]);
    let (_other, sandbox) = of_delta(", timestamp: '2999-01-01 00:00:00'");
    assert_rows(&sandbox, &["1 one", "2 two"]);
    let (_other, sandbox) = of_delta(", version: 7");
    sandbox.lake(&["build"]).assert_failed(2, "source `raw.data`");
    let (_other, sandbox) = of_delta(", columns: [{ name: id, data_type: int }, { name: more, data_type: date }]");
    sandbox.write(
        "models/silver/data.sql",
        "{{ config(materialized='table') }} select id, more from {{ source('raw', 'data') }}",
    );
    assert_eq!(columns(&sandbox), ["id int", "more date"]);
    assert_rows(&sandbox, &["1", "2"]);
    let none = source("in", "format: delta", &[("in/1.csv", "id\n1\n")]);
    none.lake(&["build"]).assert_failed(2, "is not a Delta table: it has no `_delta_log`");
}

#[test]
fn a_model_of_a_delta_table_runs_when_the_table_has_a_new_version() {
    let (other, sandbox) = of_delta("");
    sandbox.ok(&["build"]);
    let report = sandbox.json(&["build"]);
    assert_eq!(node(&report, "silver.data")["status"], "skipped", "{report}");
    other.write("in/3.csv", "id,name\n3,three\n");
    other.ok(&["build"]);
    assert_rows(&sandbox, &["1 one", "2 two", "3 three"]);

    let append = "{{ config(materialized='incremental') }} select * from {{ source('raw', 'data') }}";
    sandbox.write("models/silver/data.sql", append);
    sandbox.lake(&["build"]).assert_failed(2, "appends, and reads all of the Delta table `raw.data`");
    let newer = "{% if is_incremental() %} where id > (select max(id) from {{ this }}) {% endif %}";
    sandbox.write("models/silver/data.sql", format!("{append} {newer}"));
    sandbox.ok(&["build"]);
    other.write("in/4.csv", "id,name\n4,four\n");
    other.ok(&["build"]);
    assert_rows(&sandbox, &["1 one", "2 two", "3 three", "4 four"]);
    let merge = append.replacen("')", "', unique_key='id')", 1);
    sandbox.write("models/silver/data.sql", merge);
    other.write("in/5.csv", "id,name\n5,five\n");
    other.ok(&["build"]);
    assert_rows(&sandbox, &["1 one", "2 two", "3 three", "4 four", "5 five"]);
}

#[test]
fn columns_of_paths_stay_as_they_are_when_a_file_is_archived() {
    let settings = format!(
        "format: csv, {ID_NAME}, metadata_columns: [_file_path], on_changed_file: replace, \
         after_load: {{ archive: {{ to: done }} }}"
    );
    let sandbox = source("in", &settings, &[("in/a/1.csv", "id,name\n1,one\n"), ("in/a/2.csv", "id,name\n2,two\n")]);
    let model = "{{ config(materialized='incremental') }} select * from {{ source('raw', 'data') }}";
    sandbox.write("models/silver/data.sql", model);
    let rows = || sandbox.query("select id, _file_path as p from {{ ref('data') }} order by id");
    let expected = [json!({"id": 1, "p": "in/a/1.csv"}), json!({"id": 2, "p": "in/a/2.csv"})];
    sandbox.ok(&["build"]);
    assert!(sandbox.path("in/done/a/1.csv").exists());
    assert_eq!(rows(), expected);
    sandbox.ok(&["build", "--full-refresh"]);
    assert_eq!(rows(), expected);
    // Another limit is no other table.
    let sources = std::fs::read_to_string(sandbox.path("sources.yml")).unwrap();
    sandbox.write("sources.yml", sources.replace("format: csv", "format: csv, options: { max_line_bytes: 1GB }"));
    let report = sandbox.json(&["build"]);
    assert_eq!(node(&report, "silver.data")["status"], "skipped", "{report}");
}

#[test]
fn a_delta_table_has_no_files_that_arrive() {
    let (_other, sandbox) = of_delta(", freshness: { warn_after: { count: 1, period: day } }");
    sandbox.write(
        "models/silver/data.sql",
        "{{ config(materialized='incremental', unique_key='id') }} select * from {{ source('raw', 'data') }}",
    );
    sandbox.ok(&["build"]);
    assert_eq!(sandbox.json(&["source", "files", "raw.data"]), json!([]));
    assert_eq!(sandbox.json(&["source", "freshness"])["results"][0]["status"], "pass");
    let (_other, sandbox) = of_delta(", on_changed_file: replace");
    sandbox.lake(&["compile"]).assert_failed(2, "a Delta table is read whole: no settings for files");
}

#[test]
fn files_that_are_not_plain_text_are_inferred() {
    let sandbox = Sandbox::new(&[]);
    sandbox.write("in/feathers/1.feather", arrow_bytes(&batch(&[1], &["one"], None)));
    sandbox.write("in/avros/1.avro", avro_bytes(&batch(&[1], &["one"], None)));
    for (path, format) in [("in/feathers", "arrow"), ("in/avros", "avro")] {
        let found = sandbox.json(&["source", "infer", path]);
        assert_eq!((found["format"].as_str(), found["columns"][1]["name"].as_str()), (Some(format), Some("id")));
    }
}
