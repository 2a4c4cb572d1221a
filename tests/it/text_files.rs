//! Text files as they come: types, encodings, compression, JSON of every layout, and files that mean harm.

use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use futures::TryStreamExt;
use serde_json::json;

use crate::formats::{assert_rows, columns, source};
use crate::sandbox::Sandbox;

const ID_NAME: &str = "columns: [{ name: id, data_type: bigint }, { name: name, data_type: varchar }]";

/// The rows of the source, as JSON objects, in the order of `id`.
#[track_caller]
fn found(sandbox: &Sandbox) -> Vec<serde_json::Value> {
    sandbox.ok(&["build"]);
    sandbox.query("select * from {{ ref('data') }} order by id")
}

/// What a build says when a file is bad.
#[track_caller]
fn refusal(sandbox: &Sandbox) -> String {
    let run = sandbox.lake(&["run"]);
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    assert!(!sandbox.path("lake/silver/data/_delta_log").exists(), "nothing is published");
    run.stdout
}

/// The bytes of a compressed file.
pub fn compressed(kind: FileCompressionType, text: &[u8]) -> Vec<u8> {
    let bytes = futures::stream::once(std::future::ready(Ok(text.to_vec().into())));
    let stream = kind.convert_to_compress_stream(Box::pin(bytes)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(stream.try_collect::<Vec<_>>()).unwrap().concat()
}

#[test]
fn decimals_are_read_digit_by_digit() {
    let settings = |format: &str| {
        format!(
            "format: {format}, columns: [{{ name: id, data_type: bigint }}, {{ name: d, data_type: 'decimal(38,10)' }}]"
        )
    };
    // No float has these digits.
    let exact = "1234567890123456789012345678.0123456789";
    let digits = |sandbox: &Sandbox| {
        sandbox.ok(&["build"]);
        sandbox.query("select cast(d as varchar) as d from {{ ref('data') }} order by id")
    };
    let expected = [json!({"d": exact}), json!({"d": "0.1000000000"}), json!({})];
    let csv = source("in", &settings("csv"), &[("in/1.csv", &format!("id,d\n1,{exact}\n2,0.1\n3,\n"))]);
    assert_eq!(digits(&csv), expected);
    let text = format!("{{\"id\": 1, \"d\": {exact}}}\n{{\"id\": 2, \"d\": \"0.1\"}}\n{{\"id\": 3}}\n");
    assert_eq!(digits(&source("in", &settings("ndjson"), &[("in/1.json", &text)])), expected);
}

#[test]
fn numbers_may_have_commas_and_points_of_their_land() {
    let settings = "format: csv, options: { delimiter: ';', decimal_separator: ',', thousands_separator: '.' }, \
                    columns: [{ name: id, data_type: bigint }, { name: d, data_type: 'decimal(12,2)' }]";
    let sandbox = source("in", settings, &[("in/1.csv", "id;d\n1.000;1.234.567,89\n2;-0,5\n3,0;\n")]);
    assert_rows(&sandbox, &["1000 1234567.89", "2 -0.5", "3"]);
}

#[test]
fn timestamps_of_every_zone_are_one_instant() {
    let at = [
        "2024-08-01T10:00:00Z",
        "2024-08-01T11:00:00+01:00",
        "2024-08-01 11:00:00+0100",
        "2024-08-01T12:00:00.000",
        "2024-08-01 12:00:00",
    ];
    let csv: String = at.iter().enumerate().map(|(id, at)| format!("{id},{at},{at}\n")).collect();
    let columns = "columns: [{ name: id, data_type: bigint }, \
                   { name: at, data_type: timestamp, time_zone: Europe/Berlin }, \
                   { name: utc, data_type: timestamp with time zone, time_zone: '+02:00' }]";
    let files = [("in/1.csv", format!("id,at,utc\n{csv}9,9999-12-31 01:00:00.123456,\n"))];
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let rows = found(&source("in", &format!("format: csv, {columns}"), &files));
    for row in &rows[..5] {
        assert_eq!((&row["at"], &row["utc"]), (&json!("2024-08-01T10:00:00"), &json!("2024-08-01T10:00:00Z")), "{row}");
    }
    assert_eq!(rows[5]["at"], "9999-12-31T00:00:00.123456");
}

#[test]
fn an_hour_that_comes_twice_is_the_first_one_and_one_that_never_came_is_refused() {
    let settings = "format: csv, options: { time_zone: Europe/Berlin }, \
                    columns: [{ name: id, data_type: bigint }, { name: at, data_type: timestamp }]";
    let sandbox = source("in", settings, &[("in/1.csv", "id,at\n1,2024-10-27 02:30:00\n")]);
    assert_eq!(found(&sandbox)[0]["at"], "2024-10-27T00:30:00");
    let sandbox = source("in", settings, &[("in/1.csv", "id,at\n1,2024-03-31 02:30:00\n")]);
    assert!(refusal(&sandbox).contains("`2024-03-31 02:30:00` is not a timestamp"));
}

#[test]
fn dates_have_the_declared_format() {
    let columns = "columns: [{ name: id, data_type: bigint }, { name: day, data_type: date, format: ['%d.%m.%Y', '%Y%m%d'] }, \
                   { name: at, data_type: timestamp, format: '%d/%m/%Y %H:%M:%S%.f %z' }, \
                   { name: ms, data_type: timestamp, format: epoch_ms }, { name: s, data_type: timestamp, format: epoch_s }]";
    let text =
        "id,day,at,ms,s\n1,01.08.2024,01/08/2024 12:00:00.5 +0200,1722506400123,1722506400.000001\n2,20240801,,,\n";
    let csv = source("in", &format!("format: csv, {columns}"), &[("in/1.csv", text)]);
    let first = json!({"id": 1, "day": "2024-08-01", "at": "2024-08-01T10:00:00.500", "ms": "2024-08-01T10:00:00.123",
        "s": "2024-08-01T10:00:00.000001"});
    assert_eq!(found(&csv), [first, json!({"id": 2, "day": "2024-08-01"})]);
    let text = "{\"id\": 1, \"day\": \"01.08.2024\", \"ms\": 1722506400123}\n";
    let ndjson = source("in", &format!("format: ndjson, {columns}"), &[("in/1.json", text)]);
    assert_eq!(found(&ndjson), [json!({"id": 1, "day": "2024-08-01", "ms": "2024-08-01T10:00:00.123"})]);
    let bad = source("in", &format!("format: csv, {columns}"), &[("in/1.csv", "id,day\n1,01.08.2024\n2,2024-08-01\n")]);
    let said = refusal(&bad);
    assert!(
        said.contains("`in/1.csv`: line 3 (row 2): column `day`: `2024-08-01` is not a date of the format"),
        "{said}"
    );
}

#[test]
fn words_for_null_true_and_false_are_declared() {
    let settings = |format: &str| {
        format!(
            "format: {format}, options: {{ null_values: ['NULL', '\\N', 'n/a'], true_values: [J, yes], false_values: [N] }}, \
             columns: [{{ name: id, data_type: bigint }}, {{ name: name, data_type: varchar }}, {{ name: ok, data_type: boolean }}]"
        )
    };
    let expected =
        [json!({"id": 1, "name": "x", "ok": true}), json!({"id": 2, "ok": false}), json!({"id": 3, "ok": true})];
    let csv = source("in", &settings("csv"), &[("in/1.csv", "id,name,ok\n1,x,J\n2,NULL,n\n3,\\N,YES\nn/a,,\n")]);
    assert_eq!(found(&csv)[..3], expected);
    let text = "[{\"id\":1,\"name\":\"x\",\"ok\":\"J\"},{\"id\":\"2\",\"name\":\"NULL\",\"ok\":\"N\"},{\"id\":3,\"ok\":\"yes\"}]";
    assert_eq!(found(&source("in", &settings("json"), &[("in/1.json", text)])), expected);
}

#[test]
fn lines_before_the_header_are_skipped_and_short_rows_end_in_null() {
    let text = "report of today\n\"unclosed\nid,name,more\n1,one\n2\n3,three,x\n";
    let settings = |more: &str| format!("format: csv, {ID_NAME}, options: {{ skip_lines: 2{more} }}");
    assert_rows(&source("in", &settings(", truncated_rows: true"), &[("in/1.csv", text)]), &["1 one", "2", "3 three"]);
    let said = refusal(&source("in", &settings(""), &[("in/1.csv", text)]));
    assert!(said.contains("`in/1.csv`: line 4 (row 1): expected 3 fields, found 2"), "{said}");
    let long =
        source("in", &settings(", truncated_rows: true"), &[("in/1.csv", "\n\nid,name\n1,\"one\n\"\n2,two,2\n")]);
    let said = refusal(&long);
    assert!(said.contains("line 6 (row 2): expected 2 fields, found 3"), "{said}");
}

#[test]
fn other_encodings_are_declared() {
    let settings = |encoding: &str| format!("format: csv, {ID_NAME}, options: {{ encoding: {encoding} }}");
    let latin = source("in", &settings("latin1"), &[]);
    latin.write("in/1.csv", b"id,name\n1,caf\xe9\n");
    assert_rows(&latin, &["1 café"]);
    let text = "id,name\n1,żółć 🦆\n";
    for (encoding, bom, bytes) in [
        ("utf-16le", false, text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>()),
        ("utf-16", true, text.encode_utf16().flat_map(u16::to_be_bytes).collect()),
    ] {
        let sandbox = source("in", &settings(encoding), &[]);
        sandbox.write("in/1.csv", if bom { [b"\xfe\xff", bytes.as_slice()].concat() } else { bytes });
        assert_rows(&sandbox, &["1 żółć 🦆"]);
    }
    let undeclared = source("in", &format!("format: csv, {ID_NAME}"), &[]);
    undeclared.write("in/1.csv", b"id,name\n1,one\n2,caf\xe9\n");
    let said = refusal(&undeclared);
    assert!(said.contains("`in/1.csv`: line 3 (row 2): it is not UTF-8: set `encoding`"), "{said}");
    undeclared.write("in/1.csv", b"\xff\xfei\0d\0");
    assert!(refusal(&undeclared).contains("set `encoding: utf-16`"));
}

#[test]
fn compressed_files_are_known_by_their_ending_or_by_declaration() {
    let kinds = [
        ("gz", "gzip", FileCompressionType::GZIP),
        ("bz2", "bzip2", FileCompressionType::BZIP2),
        ("xz", "xz", FileCompressionType::XZ),
        ("zst", "zstd", FileCompressionType::ZSTD),
    ];
    let all = source("in", &format!("format: csv, {ID_NAME}"), &[("in/0.csv", "id,name\n0,plain\n")]);
    for (at, (ending, name, kind)) in kinds.into_iter().enumerate() {
        let text = compressed(kind, format!("name,id\n{name},{}\n", at + 1).as_bytes());
        all.write(&format!("in/{ending}.csv.{ending}"), &text);
        let declared = source("in/*", &format!("format: csv, {ID_NAME}, options: {{ compression: {name} }}"), &[]);
        declared.write("in/data", &text);
        assert_rows(&declared, &[&format!("{} {name}", at + 1)]);
    }
    assert_rows(&all, &["0 plain", "1 gzip", "2 bzip2", "3 xz", "4 zstd"]);
    let json = source("in", "format: json", &[]);
    json.write("in/1.json.gz", compressed(FileCompressionType::GZIP, b"[{\"id\": 1}]"));
    assert_eq!(columns(&json), ["id bigint"]);
}

#[test]
fn json_may_be_an_array_an_object_or_lines_in_any_layout() {
    let files = [
        ("in/array.json", r#"[{"id":1,"name":"[one]"},{"id":2,"name":"{\"two\"}"}]"#),
        ("in/pretty.json", "[\n  {\n    \"name\": \"three\",\n    \"id\": 3\n  }\n]\n"),
        ("in/one.json", "{\"id\": 4,\n \"name\": \"four\"}"),
        ("in/lines.json", "{\"id\": 5, \"name\": \"five\"}\n{\"id\": 6, \"name\": null}\n"),
        ("in/none.json", "  []\n"),
        ("in/bom.json", "\u{feff}{\"id\": 7}"),
    ];
    let expected = ["1 [one]", "2 {\"two\"}", "3 three", "4 four", "5 five", "6", "7"];
    assert_rows(&source("in", &format!("format: json, {ID_NAME}"), &files), &expected);
    assert_rows(&source("in", "format: json", &files), &expected);
}

#[test]
fn a_record_path_leads_to_the_records() {
    let text =
        r#"{"meta": {"customers": 3, "page": 1}, "data": {"customers": [{"id": 1, "name": "a"}, {"id": 2}]}, "z": []}"#;
    let settings = |path: &str| format!("format: json, {ID_NAME}, options: {{ record_path: {path} }}");
    let pages = [("in/1.json", text), ("in/2.json", "{\"data\": {\"customers\": []}}")];
    assert_rows(&source("in", &settings("data.customers"), &pages), &["1 a", "2"]);
    let said = refusal(&source("in", &settings("data.custmers"), &pages));
    assert!(said.contains("there is nothing at `record_path: data.custmers`"), "{said}");
}

#[test]
fn nested_columns_that_differ_from_file_to_file_become_one_type() {
    let files = [
        ("in/1.json", r#"{"id": 1, "who": {"name": "a"}, "tags": ["x"]}"#),
        ("in/2.json", r#"{"id": 2, "who": {"name": "b", "home": {"city": "c", "zip": 7}}, "tags": [], "empty": {}}"#),
        ("in/3.json", r#"{"id": 3, "items": [{"sku": "s", "n": 1}, {"sku": "t", "price": 1.5}]}"#),
        ("in/4.json", r#"{"id": 4, "who": null, "code": 12345678901234567890}"#),
        ("in/5.json", r#"{"id": 5, "code": "x"}"#),
    ];
    let sandbox = source("in", "format: ndjson", &files);
    let expected = [
        json!({"id": 1, "who": {"name": "a", "home": null}, "tags": ["x"]}),
        json!({"id": 2, "who": {"name": "b", "home": {"city": "c", "zip": 7}}, "tags": []}),
        json!({"id": 3, "items": [{"sku": "s", "n": 1, "price": null}, {"sku": "t", "n": null, "price": 1.5}]}),
        json!({"id": 4, "code": "12345678901234567890"}),
        json!({"id": 5, "code": "x"}),
    ];
    let found = found(&sandbox);
    for (row, expected) in found.iter().zip(&expected) {
        let plain = |value: &serde_json::Value| without_nulls(value.clone());
        assert_eq!(plain(row), plain(expected));
    }
    assert_eq!(found.len(), expected.len());
}

fn without_nulls(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(entries) => {
            let entries = entries.into_iter().filter(|(_, value)| !value.is_null());
            serde_json::Value::Object(entries.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        serde_json::Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

#[test]
fn lists_in_a_delimited_file_are_json() {
    let settings = "format: csv, columns: [{ name: id, data_type: bigint }, { name: tags, data_type: 'bigint[]' }]";
    let sandbox = source("in", settings, &[("in/1.csv", "id,tags\n1,\"[1, 2]\"\n2,\n3,[]\n")]);
    assert_eq!(found(&sandbox), [json!({"id": 1, "tags": [1, 2]}), json!({"id": 2}), json!({"id": 3, "tags": []})]);
    let bad = source("in", settings, &[("in/1.csv", "id,tags\n1,[1]\n2,[1\n")]);
    assert!(refusal(&bad).contains("line 3 (row 2): column `tags`: `[1` is not a bigint[]"));
}

#[test]
fn bad_values_name_file_line_column_and_value() {
    let said = |format: &str, text: &str| {
        refusal(&source("in", &format!("format: {format}, {ID_NAME}"), &[(&format!("in/1.{format}"), text)]))
    };
    let csv = said("csv", "id,name\n1,\"a\nb\"\nx1,c\n");
    assert!(csv.contains("`in/1.csv`: line 4 (row 2): column `id`: `x1` is not a bigint"), "{csv}");
    let ndjson = said("ndjson", "{\"id\": 1}\n{\"id\": 1.5}\n");
    assert!(ndjson.contains("`in/1.ndjson`: line 2: column `id`: `1.5` is not a bigint"), "{ndjson}");
    let json = said("json", "[{\"id\": 1}, {\"id\": 2}, {\"name\": [3]}]");
    assert!(json.contains("`in/1.json`: record 3: whilst decoding field 'name'"), "{json}");
    let none = said("csv", "a,b\n1,2\n");
    assert!(none.contains("its header `a, b` names none of the columns of `raw.data`: id, name"), "{none}");
}

#[test]
fn large_files_without_quoted_line_ends_are_read_in_parts() {
    let mut text = String::from("name,id\n");
    let line = |id: usize| format!("{}é,{id}\n", "x".repeat(id % 97));
    (0..300_000).for_each(|id| text.push_str(&line(id)));
    let settings = |more: &str| format!("format: csv, {ID_NAME}, options: {{ newlines_in_values: false{more} }}");
    let sandbox = source("in", &settings(""), &[("in/1.csv", &text)]);
    sandbox.ok(&["run", "--threads", "4"]);
    let sums =
        "select count(*) as n, sum(id) as s, count(distinct id) as d, sum(length(name)) as l from {{ ref('data') }}";
    let letters: usize = (0..300_000).map(|id| id % 97 + 1).sum();
    let expected = json!({"n": 300_000, "s": 299_999_u64 * 150_000, "d": 300_000, "l": letters});
    assert_eq!(sandbox.query(sums), [expected]);
    // A mistake in the last part is found on its own line.
    sandbox.write("in/1.csv", format!("{text}z,bad\n"));
    sandbox.lake(&["run", "--threads", "4"]).assert_failed(1, "line 300002 (row 300001): column `id`: `bad`");
}

#[test]
fn hostile_files_end_in_an_error_that_names_the_limit() {
    let settings = |more: &str| format!("format: csv, {ID_NAME}, options: {{ {more} }}");
    let long = format!("id,name\n1,{}\n", "x".repeat(3 << 20));
    let said = refusal(&source("in", &settings("max_line_bytes: 1MB"), &[("in/1.csv", &long)]));
    assert!(said.contains("`in/1.csv`: line 2 (row 1): a record is longer than `max_line_bytes: 1048576`"), "{said}");
    let open = format!("id,name\n1,\"{}", "x\n".repeat(1 << 20));
    let said = refusal(&source("in", &settings("max_line_bytes: 1MB"), &[("in/1.csv", &open)]));
    assert!(said.contains("perhaps a quote is never closed"), "{said}");

    let zeroes = format!("{}\nid,name\n0,zero\n", "0".repeat(80 << 20));
    let bomb = compressed(FileCompressionType::ZSTD, zeroes.as_bytes());
    let sandbox = source("in", &settings("skip_lines: 1, max_decompression_ratio: 100"), &[]);
    sandbox.write("in/1.csv.zst", &bomb);
    let said = refusal(&sandbox);
    assert!(said.contains("decompresses to more than 100 times its size"), "{said}");
    let sandbox = source("in", &settings("max_file_bytes: 1MB"), &[]);
    sandbox.write("in/1.csv.zst", &bomb);
    assert!(refusal(&sandbox).contains("larger than `max_file_bytes: 1048576`"));

    let deep = source("in", "format: json, columns: [{ name: id, data_type: bigint }]", &[]);
    deep.write("in/1.json", "[".repeat(100_000));
    assert!(refusal(&deep).contains("`in/1.json`: "));
    let cut = source("in", &format!("format: csv, {ID_NAME}"), &[]);
    let gzip = compressed(FileCompressionType::GZIP, b"id,name\n1,one\n2,two\n");
    cut.write("in/1.csv.gz", &gzip[..gzip.len() - 9]);
    assert!(refusal(&cut).contains("`in/1.csv.gz`: "));
}
