//! Rows that do not fit: rescued, made NULL, or quarantined.

use serde_json::json;

use crate::sandbox::Sandbox;

const APPENDS: &str = "{{ config(materialized='incremental') }} select * from {{ source('raw', 'items') }}";

/// A project with one source of this format, whose files stand in `in/`, and one model over it.
fn project(settings: &str, files: &[(&str, &str)]) -> Sandbox {
    let sources = format!(
        "sources:\n  - name: raw\n    tables:\n      - name: items\n        path: in\n        {}\n        columns:\n          \
         - {{ name: id, data_type: int }}\n          - {{ name: price, data_type: \"decimal(8,2)\" }}\n          \
         - {{ name: day, data_type: date }}\n",
        settings.replace('\n', "\n        ")
    );
    let sandbox = Sandbox::new(&[("sources.yml", &sources), ("models/silver/items.sql", APPENDS)]);
    for (path, text) in files {
        sandbox.write(path, text);
    }
    sandbox
}

const MESSY: &str = "id,price,day\n1,1.50,2024-01-01\ntwo,much,2024-01-02\n3,2.5,\n4,,someday\n";

#[test]
fn texts_that_fit_no_column_are_rescued() {
    let files = [
        ("in/a.csv", MESSY),
        ("in/b.ndjson", "{\"id\": 5, \"price\": \"1.10\"}\n{\"id\": true, \"price\": 7, \"day\": \"2024-02-30\"}\n"),
    ];
    let sandbox = project("format: auto\nmetadata_columns: [_rescued_data, _row_number, _file_name]", &files);
    sandbox.ok(&["build"]);
    let rows = sandbox.query(
        "select id, price, cast(day as varchar) as day, _rescued_data as rescued, _row_number as n \
         from {{ ref('items') }} order by _file_name, _row_number",
    );
    let rescued = |row: usize| rows[row]["rescued"].as_str().map(|text| serde_json::from_str(text).unwrap());
    let expected: Vec<Option<serde_json::Value>> = vec![
        None,
        Some(json!({"id": "two", "price": "much", "_file_path": "in/a.csv", "_row_number": 2})),
        None,
        Some(json!({"day": "someday", "_file_path": "in/a.csv", "_row_number": 4})),
        None,
        Some(json!({"id": "true", "day": "2024-02-30", "_file_path": "in/b.ndjson", "_row_number": 2})),
    ];
    assert_eq!((0..6).map(rescued).collect::<Vec<_>>(), expected);
    assert_eq!(
        (&rows[1]["id"], &rows[1]["price"], &rows[1]["day"]),
        (&json!(null), &json!(null), &json!("2024-01-02"))
    );
    assert_eq!((&rows[5]["id"], &rows[5]["price"], &rows[5]["n"]), (&json!(null), &json!(7.0), &json!(2)));
    // What is rescued does not depend on what is asked for.
    let rescued = "select count(*) from {{ source('raw', 'items') }} where _rescued_data like '%someday%'";
    assert_eq!(sandbox.value(rescued), 1);
    assert_eq!(sandbox.value("select count(id) from {{ source('raw', 'items') }}"), 4);
}
