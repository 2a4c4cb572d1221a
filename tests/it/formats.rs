//! How files become rows: formats, their options, paths, and files that are not what they should be.

use serde_json::json;

use crate::materialize::rows;
use crate::sandbox::Sandbox;

const COLUMNS: &str = "columns: [{ name: id, data_type: bigint }, { name: name, data_type: varchar }]";

/// A project with one source `raw.data`, which a table `silver.data` copies.
pub fn source(path: &str, settings: &str, files: &[(&str, &str)]) -> Sandbox {
    let table = format!("{{ name: data, path: '{path}', {settings} }}");
    let sandbox = Sandbox::new(files);
    sandbox.write("sources.yml", format!("sources:\n  - name: raw\n    tables:\n      - {table}\n"));
    sandbox.write(
        "models/silver/data.sql",
        "{{ config(materialized='table') }} select * from {{ source('raw', 'data') }}",
    );
    sandbox
}

/// Builds, and compares the lines of `silver.data`.
#[track_caller]
pub fn assert_rows(sandbox: &Sandbox, expected: &[&str]) {
    sandbox.ok(&["build"]);
    assert_eq!(rows(sandbox, "data"), expected);
}

/// The names and types of the table's columns.
pub fn columns(sandbox: &Sandbox) -> Vec<String> {
    let report = sandbox.json(&["compile", "--select", "data"]);
    let columns = report["nodes"][0]["columns"].as_array().unwrap().iter();
    columns.map(|c| format!("{} {}", c["name"].as_str().unwrap(), c["data_type"].as_str().unwrap())).collect()
}

#[test]
fn columns_are_found_by_name_and_missing_ones_are_null() {
    let files = [
        ("in/1.csv", "id,name\n1,one\n"),
        ("in/2.csv", "name,unknown,id\ntwo,x,2\n"),
        ("in/3.csv", "id\n3\n"),
        ("in/4.csv", "name\nfour\n"),
    ];
    let sandbox = source("in", &format!("format: csv, {COLUMNS}"), &files);
    sandbox.ok(&["build"]);
    let expected =
        [json!({"id": 1, "name": "one"}), json!({"id": 2, "name": "two"}), json!({"id": 3}), json!({"name": "four"})];
    assert_eq!(sandbox.query("select * from {{ ref('data') }} order by id nulls last"), expected);
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_name() {
    let sandbox = source("in", &format!("format: csv, {COLUMNS}"), &[("in/1.csv", "\u{feff}id,name\r\n1,one\r\n")]);
    assert_rows(&sandbox, &["1 one"]);
    let inferred = source("in", "format: csv", &[("in/1.csv", "\u{feff}id,name\n1,one\n")]);
    assert_eq!(columns(&inferred), ["id bigint", "name varchar"]);
    assert_rows(&inferred, &["1 one"]);
}

#[test]
fn quotes_delimiters_escapes_and_comments_are_options() {
    let options = "options: { delimiter: ';', quote: \"'\", escape: '\\', comment: '#' }";
    let text = "id;name\n# nothing\n1;'a;b'\n2;'it\\'s'\n3;'two\nlines'\n";
    let sandbox = source("in", &format!("format: csv, {COLUMNS}, {options}"), &[("in/1.csv", text)]);
    assert_rows(&sandbox, &["1 a;b", "2 it's", "3 two\nlines"]);
}

#[test]
fn a_quote_is_a_letter_where_quotes_are_off() {
    let text = "id\tname\n1\t5\" pipe\n2\t\"half\n3\tplain\n";
    let settings = format!("format: tsv, {COLUMNS}, options: {{ quote: false }}");
    assert_rows(&source("in", &settings, &[("in/1.tsv", text)]), &["1 5\" pipe", "2 \"half", "3 plain"]);
}

#[test]
fn a_file_without_header_has_the_declared_columns() {
    let settings = format!("format: csv, {COLUMNS}, options: {{ header: false }}");
    assert_rows(&source("in", &settings, &[("in/1.csv", "1,one\n2,two\n")]), &["1 one", "2 two"]);
}

#[test]
fn empty_files_and_files_of_a_header_have_no_rows() {
    let files = [("in/1.csv", ""), ("in/2.csv", "id,name\n"), ("in/3.csv", "id,name\n3,three")];
    assert_rows(&source("in", &format!("format: csv, {COLUMNS}"), &files), &["3 three"]);
}

#[test]
fn json_lines_and_arrays_are_read_alike() {
    let lines = "{\"id\": 1, \"name\": \"one\", \"more\": true}\n{\"name\": \"two\", \"id\": 2}\n{\"id\": 3}\n";
    let ndjson = source("in", &format!("format: ndjson, {COLUMNS}"), &[("in/1.ndjson", lines)]);
    assert_rows(&ndjson, &["1 one", "2 two", "3"]);
    let array = "[{\"id\": 1, \"name\": \"one\"}, {\"name\": \"two\", \"id\": 2}, {\"id\": 3}]";
    let json = source("in", &format!("format: json, {COLUMNS}"), &[("in/1.json", array), ("in/2.json", "[]")]);
    assert_rows(&json, &["1 one", "2 two", "3"]);
}

#[test]
fn nested_json_is_appended_run_after_run() {
    let line =
        |id: u8| format!("{{\"id\": {id}, \"tags\": [\"a\", \"b\"], \"who\": {{\"name\": \"x\", \"age\": {id}}}}}\n");
    let sandbox = source("in", "format: ndjson", &[("in/1.ndjson", &line(1))]);
    let model = "{{ config(materialized='incremental') }} select id, tags, who from {{ source('raw', 'data') }}";
    sandbox.write("models/silver/data.sql", model);
    sandbox.ok(&["build"]);
    sandbox.write("in/2.ndjson", line(2));
    sandbox.ok(&["build"]);
    let rows = sandbox.query("select * from {{ ref('data') }} order by id");
    let expected = [1, 2].map(|id| json!({"id": id, "tags": ["a", "b"], "who": {"name": "x", "age": id}}));
    assert_eq!(rows, expected);
}

#[test]
fn parquet_files_are_sources_too() {
    let sandbox = source("in", &format!("format: csv, {COLUMNS}"), &[("in/1.csv", "id,name\n1,one\n2,\n")]);
    sandbox.ok(&["build"]);
    let copied = source("in", "format: parquet", &[]);
    let part = parquet_file(&sandbox);
    copied.write("in/deep/1.parquet", &part);
    assert_eq!(columns(&copied), ["id bigint", "name varchar"]);
    assert_rows(&copied, &["1 one", "2"]);
    copied.write("in/2.parquet", &part[..part.len() - 20]);
    copied.lake(&["run"]).assert_failed(2, "in/2.parquet");
    let declared = source("in", &format!("format: parquet, {COLUMNS}"), &[]);
    declared.write("in/1.parquet", &part);
    declared.write("in/2.parquet", "this is no Parquet file");
    declared.lake(&["run"]).assert_failed(1, "in/2.parquet");
}

fn parquet_file(sandbox: &Sandbox) -> Vec<u8> {
    let files = std::fs::read_dir(sandbox.path("lake/silver/data")).unwrap().map(|file| file.unwrap().path());
    let mut parts = files.filter(|path| path.extension().is_some_and(|extension| extension == "parquet"));
    std::fs::read(parts.next().unwrap()).unwrap()
}

#[test]
fn types_are_inferred_over_all_files() {
    let files = [
        ("in/1.csv", "id,share,name,day,flag\n1,2,x,2026-01-01,true\n"),
        ("in/2.csv", "id,share,name,day,flag\n2,2.5,7,2026-01-02,false\n"),
        ("in/3.csv", "id,later\n3,9\n"),
    ];
    let sandbox = source("in", "format: csv", &files);
    let expected = ["id bigint", "share double", "name varchar", "day date", "flag boolean", "later bigint"];
    assert_eq!(columns(&sandbox), expected);
    assert_rows(&sandbox, &["1 2.0 x 2026-01-01 true", "2 2.5 7 2026-01-02 false", "3 9"]);
}

#[test]
fn a_path_is_a_folder_a_file_or_a_pattern() {
    let files = [
        ("in/a_1.csv", "id,name\n1,one\n"),
        ("in/b_2.csv", "id,name\n2,two\n"),
        ("in/deep/er/a_3.csv", "id,name\n3,three\n"),
        ("in/notes.txt", "no rows\n"),
    ];
    let found = |path: &str| {
        let sandbox = source(path, &format!("format: csv, {COLUMNS}"), &files);
        sandbox.ok(&["build"]);
        rows(&sandbox, "data")
    };
    assert_eq!(found("in"), ["1 one", "2 two", "3 three"]);
    assert_eq!(found("in/a_1.csv"), ["1 one"]);
    assert_eq!(found("in/a_*.csv"), ["1 one"]);
    assert_eq!(found("in/**/a_*.csv"), ["1 one", "3 three"]);
    assert_eq!(found("in/{a_1,b_2}.csv"), ["1 one", "2 two"]);
}

#[test]
fn dots_in_a_path_are_resolved() {
    for path in ["./in", "./in/../in/", "in/./1.csv", "other/../in/*.csv"] {
        let sandbox = source(path, &format!("format: csv, {COLUMNS}"), &[("in/1.csv", "id,name\n1,one\n")]);
        let built = sandbox.lake(&["build"]);
        assert_eq!(built.code, 0, "{path}: {}{}", built.stdout, built.stderr);
        assert_eq!(rows(&sandbox, "data"), ["1 one"], "{path}");
    }
}

#[test]
fn names_of_files_and_columns_may_be_anything() {
    let text = "User ID,Größe,select,x.y\n1,2,3,4\n";
    let files = ["in/a b.csv", "in/ü#%20?.csv", "in/50%/[1]=x.csv"].map(|path| (path, text));
    let sandbox = source("in", "format: csv", &files);
    let model =
        "select \"User ID\" as id, \"Größe\" + \"select\" as sum, \"x.y\" as dot from {{ source('raw', 'data') }}";
    sandbox.write("models/silver/data.sql", format!("{{{{ config(materialized='incremental') }}}} {model}"));
    assert_rows(&sandbox, &["1 5 4"; 3]);
    assert!(sandbox.ok(&["build"]).contains("1 skipped"));
}

#[test]
fn a_row_with_too_many_fields_names_file_and_line() {
    let files = [("in/1.csv", "id,name\n1,one\n"), ("in/bad.csv", "id,name\n1,one\n2,two\n3,three,3\n")];
    let run = source("in", &format!("format: csv, {COLUMNS}"), &files).lake(&["run"]);
    run.assert_failed(1, "in/bad.csv");
    run.assert_failed(1, "line 4");
}

#[test]
fn a_value_that_does_not_fit_its_type_names_the_file() {
    for (format, good, bad) in [
        ("csv", "id,name\n1,one\n", "id,name\ntwo,two\n"),
        ("ndjson", "{\"id\": 1, \"name\": \"one\"}\n", "{\"id\": \"two\", \"name\": \"two\"}\n"),
    ] {
        let (first, second) = (format!("in/good.{format}"), format!("in/bad.{format}"));
        let sandbox = source("in", &format!("format: {format}, {COLUMNS}"), &[(&first, good), (&second, bad)]);
        sandbox.lake(&["run"]).assert_failed(1, &second);
        assert!(!sandbox.path("lake/silver/data/_delta_log").exists());
    }
}

#[test]
fn broken_json_names_the_file() {
    for (format, text) in [("ndjson", "{\"id\": 1}\n{\"id\": \n"), ("json", "[{\"id\": 1}, {\"id\"")] {
        let file = format!("in/broken.{format}");
        let sandbox = source("in", &format!("format: {format}, {COLUMNS}"), &[(&file, text)]);
        sandbox.lake(&["run"]).assert_failed(1, &file);
    }
}

#[test]
fn words_that_old_yaml_took_for_booleans_are_names_and_texts() {
    let settings = "format: csv, columns: [{ name: y, data_type: bigint }, { name: n, data_type: varchar }]";
    let sandbox = source("in", settings, &[("in/1.csv", "y,n\n1,no\n2,off\n")]);
    assert_eq!(columns(&sandbox), ["y bigint", "n varchar"]);
    let test = "accepted_values: { values: [no, off] }";
    let columns = format!("[{{ name: n, data_tests: [{{ {test} }}] }}]");
    sandbox.write("models/silver/data.yml", format!("models:\n  - {{ name: data, columns: {columns} }}\n"));
    assert_rows(&sandbox, &["1 no", "2 off"]);
    let sql = "{{ config(materialized='table') }} select {{ var('n', 1) }} as n";
    sandbox.write("models/silver/data.sql", sql);
    sandbox.ok(&["run", "--vars", "{n: 2}"]);
    assert_eq!(rows(&sandbox, "data"), ["2"]);
}
