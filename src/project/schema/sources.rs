//! Sources: files as they arrive, and how they are read.

use serde_json::{Value, json};

use super::build::{
    any, any_of, count, flag, list_of, mapping, of, one_of, reference, text, text_or_list, unless_set, words,
};
use super::{data_tests, models};
use crate::project::{bad_rows, formats, ingestion, path_columns, source_options};

/// A list of sources.
pub(super) fn list() -> Value {
    let source = mapping(
        "source",
        "Tables that come from one place",
        &["name", "tables"],
        vec![
            ("name", of(text(), "The first word of source('name', 'table')")),
            ("description", any()),
            ("root", of(text(), "What the paths of its tables are relative to")),
            ("tags", of(text_or_list(), "For selection")),
            ("freshness", of(freshness(), "When its tables count as stale")),
            ("loaded_at_field", of(text(), "An expression over the columns: when a row was loaded")),
            ("tables", of(list_of(reference("source_table")), "Its tables")),
        ],
    );
    list_of(source)
}

/// One table of a source.
pub(super) fn table() -> Value {
    let mut properties = vec![
        ("name", of(text(), "The second word of source('name', 'table')")),
        ("description", of(text(), "Markdown")),
        ("path", of(text_or_list(), "A folder, a glob, one file, or a list of these")),
        ("format", of(words(formats::FORMATS), "How its files are read; `auto` goes by the ending of each")),
        ("options", options()),
        ("columns", list_of(reference("source_column"))),
        ("data_tests", data_tests::list()),
        ("tests", data_tests::list()),
        ("tags", of(text_or_list(), "For selection")),
        ("config", mapping("`config` block", "", &[], vec![("event_time", of(text(), "As `event_time` beside it"))])),
        ("event_time", of(text(), "The column that tells when a row happened")),
        ("version", of(count(), "Of a Delta table: the version to read")),
        ("timestamp", of(text(), "Of a Delta table: read what it was at this moment")),
    ];
    properties.extend(taken_in());
    mapping("source table", "Files with one kind of rows", &["name", "path", "format"], properties)
}

/// How files are taken in.
fn taken_in() -> Vec<(&'static str, Value)> {
    let lookback = of(unless_set(count(), 1000), "How many names before the greatest one a listing begins");
    let listing = mapping("value of `incremental_listing`", "", &[], vec![("lookback", lookback)]);
    let metadata = one_of(&source_options::METADATA.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    let mut bad_rows = words(bad_rows::BAD);
    if let Some(words) = bad_rows["enum"].as_array_mut() {
        words.push(Value::Null);
    }
    vec![
        ("on_changed_file", of(unless_set(words(ingestion::CHANGED), "fail"), "A file that was taken in and changed")),
        ("on_removed_file", of(unless_set(words(ingestion::REMOVED), "keep"), "A file that was taken in and is gone")),
        ("on_new_column", of(unless_set(words(ingestion::NEW_COLUMNS), "ignore"), "Columns that are not declared")),
        ("on_bad_row", of(unless_set(bad_rows, "fail"), "A row that does not fit its columns")),
        ("max_bad_rows", of(json!({"type": ["integer", "string"]}), "A batch with more of them fails: 100, or 1%")),
        ("identity", of(unless_set(words(ingestion::IDENTITIES), "path"), "What makes a file the same file")),
        ("snapshot", of(unless_set(flag(), false), "Every delivery is the whole data set: only the newest one counts")),
        (
            "incremental_listing",
            of(unless_set(any_of(vec![flag(), listing]), false), "Names sort by time: only the last ones are listed"),
        ),
        (
            "max_files_per_batch",
            of(json!({"type": "integer", "minimum": 1}), "A backlog of more files is committed in several batches"),
        ),
        (
            "max_bytes_per_batch",
            of(json!({"type": ["integer", "string"]}), "The same by bytes: 10GB; a larger file is a batch of its own"),
        ),
        (
            "after_load",
            of(unless_set(after_load(), "keep"), "What becomes of files when all models have taken them in"),
        ),
        ("freshness", of(any_of(vec![freshness(), json!({"type": "null"})]), "When it counts as stale")),
        ("loaded_at_field", of(text(), "An expression over the columns: when a row was loaded")),
        ("metadata_columns", of(list_of(metadata), "Columns that say where a row is from")),
        ("partition_columns", of(list_of(partition_column()), "Folders such as dt=2024-08-01/")),
        ("path_pattern", of(text(), "Columns from the end of a path: views_{date:%Y%m%d}.csv")),
    ]
}

fn partition_column() -> Value {
    let column = mapping(
        "partition column",
        "",
        &["name"],
        vec![
            ("name", of(text(), "What stands before the `=` of a folder")),
            ("data_type", of(words(path_columns::TYPES), "The type of its values")),
            ("format", of(text(), "A pattern such as %Y%m%d")),
        ],
    );
    any_of(vec![json!({"type": "string"}), column])
}

fn freshness() -> Value {
    let limit = || {
        let properties = vec![("count", count()), ("period", words(ingestion::PERIODS))];
        mapping("freshness limit", "", &["count", "period"], properties)
    };
    let mut freshness = mapping(
        "freshness",
        "As in dbt",
        &[],
        vec![
            ("warn_after", of(limit(), "Warn when the newest data is older")),
            ("error_after", of(limit(), "Fail when the newest data is older")),
            ("filter", of(text(), "Only rows that match count")),
        ],
    );
    freshness["anyOf"] = json!([{"required": ["warn_after"]}, {"required": ["error_after"]}]);
    freshness
}

fn after_load() -> Value {
    let to = || of(text(), "A folder below that of the source");
    let archive = mapping("group of archive settings", "Files move there", &["to"], vec![("to", to())]);
    let size = unless_set(json!({"type": ["integer", "string"]}), "256MB");
    let compact = mapping(
        "group of compact settings",
        "Rows move into few files there, and the raw files go",
        &["to"],
        vec![
            ("to", to()),
            ("format", of(unless_set(one_of(&["parquet"]), "parquet"), "How these are written")),
            ("target_size", of(size, "Bytes after which another file begins")),
        ],
    );
    let mut one = mapping("value of `after_load`", "", &[], vec![("archive", archive), ("compact", compact)]);
    one["minProperties"] = json!(1);
    one["maxProperties"] = json!(1);
    any_of(vec![one_of(&["keep"]), one])
}

/// Options of all formats.
fn options() -> Value {
    let all = [source_options::DELIMITED_OPTIONS, source_options::JSON_OPTIONS, source_options::TEXT_OPTIONS];
    let properties = all.into_iter().flatten().map(|key| (*key, option(key))).collect();
    mapping("group of source options", "How files of its format are read", &[], properties)
}

fn option(key: &str) -> Value {
    let character = || json!({"type": ["string", "number"]});
    match key {
        "header" => of(unless_set(flag(), true), "The first line names the columns"),
        "delimiter" => of(character(), "Between fields"),
        "quote" => {
            of(any_of(vec![character(), one_of(&["none"]), json!({"enum": [false]})]), "Around fields; false for none")
        }
        "escape" => of(character(), "Before a quote inside a quoted field"),
        "comment" => of(character(), "Starts a line to pass over"),
        "skip_lines" => of(unless_set(count(), 0), "Lines before the header"),
        "truncated_rows" => of(unless_set(flag(), false), "A row may end early: its last columns are NULL"),
        "newlines_in_values" => of(unless_set(flag(), true), "A quoted field may hold line ends"),
        "record_path" => of(text_or_list(), "Where records are in a JSON document: data.items"),
        "encoding" => of(unless_set(text(), "utf-8"), "How letters are bytes: utf-8, latin1, utf-16"),
        "compression" => of(words(formats::COMPRESSIONS), "How files are compressed"),
        "null_values" => {
            let mut schema = text_or_list();
            // The word `NULL` is a text here.
            schema["items"]["type"] = json!(["string", "number", "boolean", "null"]);
            of(schema, "Texts that mean NULL")
        }
        "true_values" => of(text_or_list(), "Texts that mean true"),
        "false_values" => of(text_or_list(), "Texts that mean false"),
        "decimal_separator" => of(character(), "The decimal point of numbers"),
        "thousands_separator" => of(character(), "What parts thousands in numbers"),
        "time_zone" => of(text(), "The zone of timestamps that name none"),
        "max_line_bytes" => {
            of(unless_set(json!({"type": ["integer", "string"]}), "32MB"), "A record may not be longer")
        }
        "max_decompression_ratio" => {
            of(unless_set(count(), 1000), "A compressed file may not become this many times larger")
        }
        "max_file_bytes" => of(json!({"type": ["integer", "string"]}), "A file may not be larger, after decompression"),
        _ => any(),
    }
}

/// A column of a source: how its texts become values, beside what any column has.
pub(super) fn column() -> Value {
    let mut properties = models::column_properties();
    properties
        .push(("format", of(text_or_list(), "A pattern such as %d.%m.%Y, or epoch_s; the first of a list that fits")));
    properties.push(("time_zone", of(text(), "The zone of timestamps that name none")));
    mapping("column", "", &["name"], properties)
}
