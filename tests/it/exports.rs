//! Exports: files that are made of the rows of a model after its publish, once for each version, whole or not at all.

use std::fs::File;
use std::process::Command;
use std::time::SystemTime;

use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::{Value, json};

use crate::sandbox::{Sandbox, node};
use crate::services::{self, block_on};

const SOURCES: &str = "sources:
  - name: raw
    root: in
    tables:
      - { name: songs, path: songs/, format: csv, columns: [{ name: title, data_type: varchar }, { name: plays, data_type: bigint }, { name: day, data_type: date }] }
";

const SONGS: &str = "title,plays,day\n\"Don't, Cry\",7,2026-01-01\nÁguas,9,\n\"\"\"Heroes\"\"\",7,2026-01-03\n";

/// Songs of a source in a table, and an export of them.
fn songs(export: &str) -> Sandbox {
    let sandbox = Sandbox::new(&[
        ("sources.yml", SOURCES),
        (
            "models/gold/songs.sql",
            "{{ config(materialized='table') }} select title, plays, day from {{ source('raw', 'songs') }}",
        ),
        ("in/songs/1.csv", SONGS),
    ]);
    sandbox.write("models/gold/songs.yml", format!("exports:\n{export}"));
    sandbox
}

const CSV: &str =
    "  - { name: songs_csv, model: ref('songs'), path: out/songs.csv, format: csv, order_by: [plays desc] }\n";

fn text(sandbox: &Sandbox, path: &str) -> String {
    std::fs::read_to_string(sandbox.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn changed_at(sandbox: &Sandbox, path: &str) -> SystemTime {
    std::fs::metadata(sandbox.path(path)).unwrap().modified().unwrap()
}

/// What became of an export in a report: status and reason.
#[track_caller]
fn did(report: &Value, name: &str) -> (String, String) {
    let exports = report["exports"].as_array().unwrap_or_else(|| panic!("no exports: {report:#}"));
    let name = format!("export.{name}");
    let found = exports.iter().find(|export| export["name"] == *name).unwrap_or_else(|| panic!("{report:#}"));
    let part = |key: &str| found[key].as_str().unwrap().to_owned();
    (part("status"), part("reason"))
}

#[track_caller]
fn assert_did(report: &Value, name: &str, status: &str, reason: &str) {
    let found = did(report, name);
    assert!(found.0 == status && found.1.contains(reason), "expected {status} and `{reason}`, found {found:?}");
}

#[test]
fn a_file_is_written_when_its_rows_change_and_only_then() {
    let sandbox = songs(CSV);
    let first = sandbox.ok(&["build"]);
    assert!(first.contains("export  ok    songs_csv   3 rows to out/songs.csv, 78 bytes"), "{first}");
    assert!(first.contains("first export") && first.contains("1 exported"), "{first}");
    // Rows that tie are in the order of the columns.
    let expected = "title,plays,day\nÁguas,9,\n\"\"\"Heroes\"\"\",7,2026-01-03\n\"Don't, Cry\",7,2026-01-01\n";
    assert_eq!(text(&sandbox, "out/songs.csv"), expected);
    let written = changed_at(&sandbox, "out/songs.csv");
    let report = sandbox.json(&["build"]);
    assert_did(&report, "songs_csv", "skipped", "unchanged: gold.songs is still at version 0");
    // A model that is built again and has the rows that it had is no reason.
    let report = sandbox.json(&["run", "--force", "--select", "songs", "--exclude", "export:songs_csv"]);
    assert_eq!((&node(&report, "gold.songs")["action"], &report["exports"]), (&json!("unchanged"), &Value::Null));
    assert_did(&sandbox.json(&["run"]), "songs_csv", "skipped", "still at version 0");
    assert_eq!(changed_at(&sandbox, "out/songs.csv"), written);
    sandbox.write("in/songs/2.csv", "title,plays,day\nHalo,1,\n");
    assert_did(&sandbox.json(&["build"]), "songs_csv", "success", "gold.songs changed: version 0 -> ");
    assert_eq!(text(&sandbox, "out/songs.csv"), expected.to_owned() + "Halo,1,\n");
    // Somebody takes the file away, or writes into it.
    std::fs::remove_file(sandbox.path("out/songs.csv")).unwrap();
    assert_did(&sandbox.json(&["build"]), "songs_csv", "success", "its file is gone");
    sandbox.write("out/songs.csv", "mine");
    assert_did(&sandbox.json(&["build"]), "songs_csv", "success", "another program changed its file");
    assert_eq!(text(&sandbox, "out/songs.csv").lines().count(), 5);
    // The declaration changes.
    sandbox.write("models/gold/songs.yml", format!("exports:\n{}", CSV.replace("plays desc", "title")));
    assert_did(&sandbox.json(&["build"]), "songs_csv", "success", "its definition changed");
    assert!(text(&sandbox, "out/songs.csv").starts_with("title,plays,day\n\"\"\"Heroes"));
    assert_did(&sandbox.json(&["build", "--force"]), "songs_csv", "success", "forced");
    // A table in the place of another one.
    sandbox.ok(&["drop", "--yes"]);
    assert_did(&sandbox.json(&["build"]), "songs_csv", "success", "");
    // Nothing is left beside it.
    assert_eq!(crate::sandbox::names(&sandbox.path("out")), ["songs.csv"]);
    let noted =
        "select count(*) from _lake.node_results where node = 'export.songs_csv' and status = 'success' and rows = 4";
    assert_eq!(sandbox.value(noted), 6);
}

#[test]
fn csv_has_options() {
    let sandbox = songs(
        "  - name: packed
    model: gold.songs
    path: 'out/{{ target.name }}/songs.tsv.gz'
    format: csv
    options: { header: false, delimiter: \"\\t\", null_value: '\\N', date_format: '%d.%m.%Y' }
    columns: [day, title]
    order_by: [plays desc, title asc]
  - { name: none, model: songs, path: out/none.csv, format: csv, options: { compression: none }, order_by: title }
",
    );
    sandbox.ok(&["build"]);
    let unpacked = Command::new("gzip").arg("-dc").arg(sandbox.path("out/dev/songs.tsv.gz")).output().unwrap();
    let expected = "\\N\tÁguas\n03.01.2026\t\"\"\"Heroes\"\"\"\n01.01.2026\tDon't, Cry\n";
    assert_eq!(String::from_utf8_lossy(&unpacked.stdout), expected);
    // A table without rows has a file with a header.
    sandbox.write("in/songs/1.csv", "title,plays,day\n");
    sandbox.ok(&["build"]);
    assert_eq!(text(&sandbox, "out/none.csv"), "title,plays,day\n");
    let unpacked = Command::new("gzip").arg("-dc").arg(sandbox.path("out/dev/songs.tsv.gz")).output().unwrap();
    assert!(unpacked.status.success() && unpacked.stdout.is_empty());
}

#[test]
fn objects_are_lines_of_json_and_parquet_keeps_types() {
    let sandbox = songs(
        "  - { name: lines, model: nested, path: out/songs.ndjson, format: ndjson, order_by: [title] }
  - { name: columns, model: nested, path: out/songs.parquet, format: parquet, options: { compression: zstd(3) }, order_by: [title desc] }
",
    );
    let nested = "{{ config(materialized='table') }}
        select title, named_struct('plays', plays, 'days', make_array(day)) as what, cast(plays as decimal(9, 2)) as price
        from {{ source('raw', 'songs') }}";
    sandbox.write("models/gold/nested.sql", nested);
    sandbox.ok(&["build"]);
    let lines: Vec<Value> =
        text(&sandbox, "out/songs.ndjson").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[2], json!({"title": "Águas", "what": {"plays": 9, "days": [null]}, "price": 9.0}), "{lines:#?}");
    let file = File::open(sandbox.path("out/songs.parquet")).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 3);
    let schema = batches[0].schema();
    let types: Vec<String> = schema.fields().iter().map(|field| field.data_type().to_string()).collect();
    assert!(types[1].starts_with("Struct") && types[2] == "Decimal128(9, 2)", "{types:?}");
    // What was written is what is read.
    sandbox.write(
        "models/back.yml",
        "sources:\n  - name: back\n    root: out\n    tables: [{ name: songs, path: songs.parquet, format: parquet }]\n",
    );
    let same = "select count(*) from (select title, what['plays'] as n, price from {{ source('back', 'songs') }} \
                except select title, what['plays'], price from {{ ref('nested') }})";
    assert_eq!(sandbox.value(same), 0);
}

#[test]
fn many_rows_are_written_in_their_order() {
    let sandbox = Sandbox::new(&[
        (
            "models/gold/many.sql",
            "{{ config(materialized='table') }} select value as id, (value * 7919) % 300007 as mixed from range(300000)",
        ),
        (
            "models/gold/many.yml",
            "exports:\n  - { name: many, model: many, path: out/many.csv, format: csv, order_by: [mixed desc], columns: [mixed, id] }\n",
        ),
    ]);
    sandbox.ok(&["build", "--threads", "4"]);
    let file = text(&sandbox, "out/many.csv");
    let mut rows: Vec<(i64, i64)> = file
        .lines()
        .skip(1)
        .map(|line| line.split_once(',').map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap())).unwrap())
        .collect();
    assert_eq!(rows.len(), 300_000);
    assert!(
        rows.windows(2)
            .all(|pair| (std::cmp::Reverse(pair[0].0), pair[0].1) < (std::cmp::Reverse(pair[1].0), pair[1].1))
    );
    rows.sort_unstable_by_key(|row| row.1);
    assert!(rows.iter().zip(0..).all(|((mixed, id), at)| *id == at && *mixed == (at * 7919) % 300_007));
}

#[test]
fn views_are_exported_when_what_they_read_changes() {
    let sandbox = songs("  - { name: top, model: top, path: out/top.csv, format: csv, order_by: [title] }\n");
    sandbox.write("models/gold/top.sql", "select title from {{ ref('songs') }} where plays > 7");
    assert_did(&sandbox.json(&["build"]), "top", "success", "first export");
    assert_eq!(text(&sandbox, "out/top.csv"), "title\nÁguas\n");
    let report = sandbox.json(&["build"]);
    assert_did(&report, "top", "skipped", "unchanged: gold.songs is still at version 0, gold.top is as it was");
    sandbox.write("in/songs/2.csv", "title,plays,day\nHalo,10,\n");
    assert_did(&sandbox.json(&["build"]), "top", "success", "gold.songs changed: version 0 -> ");
    assert_eq!(text(&sandbox, "out/top.csv"), "title\nHalo\nÁguas\n");
    sandbox.write("models/gold/top.sql", "select title from {{ ref('songs') }} where plays > 9");
    assert_did(&sandbox.json(&["build"]), "top", "success", "gold.top has another definition");
    assert_eq!(text(&sandbox, "out/top.csv"), "title\nHalo\n");
    // Who can tell what a view of the clock has?
    sandbox.write("models/gold/top.sql", "select title from {{ ref('songs') }} where plays > 9 and now() is not null");
    sandbox.ok(&["build"]);
    assert_did(&sandbox.json(&["build"]), "top", "success", "its rows depend on now");
}

#[test]
fn a_table_that_keeps_its_columns_is_exported_with_them() {
    let sandbox = songs("  - { name: kept, model: kept, path: out/kept.csv, format: csv, order_by: [title] }\n");
    let model = |columns: &str| {
        let config = "{{ config(materialized='incremental', on_schema_change='ignore') }}";
        let sql = format!("{config} select {columns} from {{{{ source('raw', 'songs') }}}}");
        sandbox.write("models/gold/kept.sql", sql);
    };
    model("title");
    sandbox.ok(&["build"]);
    model("title, plays");
    sandbox.write("in/songs/2.csv", "title,plays,day\nHalo,1,\n");
    assert_did(&sandbox.json(&["build"]), "kept", "success", "gold.kept changed: version 0 -> 1");
    assert!(text(&sandbox, "out/kept.csv").starts_with("title\n"));
    sandbox.ok(&["build", "--full-refresh"]);
    assert!(text(&sandbox, "out/kept.csv").starts_with("title,plays\n"));
}

#[test]
fn a_failed_export_fails_the_run_and_not_the_table() {
    let sandbox = songs(&(CSV.to_owned() + "  - { name: other, model: songs, path: out/other.csv, format: csv }\n"));
    // A file stands where a folder has to be.
    sandbox.write("out/songs.csv/in_the_way", "x");
    let run = sandbox.lake(&["build"]);
    run.assert_failed(1, "export  FAIL  songs_csv");
    assert!(run.stdout.contains("cannot write `out/songs.csv`"), "{}", run.stdout);
    assert!(run.stdout.contains("1 built") && run.stdout.contains("1 export failed"), "{}", run.stdout);
    assert_eq!(sandbox.value("select count(*) from gold.songs"), 3);
    assert_eq!(text(&sandbox, "out/other.csv").lines().count(), 4);
    // It is due as long as it has failed.
    let plan = sandbox.json(&["build", "--dry-run"]);
    assert_eq!(
        (&plan["exports"][1]["plan"], &plan["exports"][0]["plan"]),
        (&json!("build"), &json!("skip")),
        "{plan:#}"
    );
    std::fs::remove_dir_all(sandbox.path("out/songs.csv")).unwrap();
    let retried = sandbox.ok(&["retry"]);
    assert!(retried.contains("songs_csv") && !retried.contains("other"), "{retried}");
    assert_eq!(text(&sandbox, "out/songs.csv").lines().count(), 4);
    assert!(sandbox.ok(&["retry"]).is_empty());
    // A model that fails has no export, and the file stays.
    sandbox.write("tests/none.sql", "select * from {{ ref('songs') }} where plays > 100");
    sandbox.write("in/songs/2.csv", "title,plays,day\nHalo,1000,\n");
    let report = sandbox.json(&["build"]);
    assert_did(&report, "songs_csv", "blocked", "`gold.songs` failed");
    assert_eq!(text(&sandbox, "out/songs.csv").lines().count(), 4);
}

#[test]
fn exports_come_with_their_models_and_are_selected_by_name() {
    let sandbox = songs(
        &(CSV.replace("format", "tags: [files], format")
            + "  - { name: other, model: songs, path: out/other.csv, format: csv }\n"),
    );
    sandbox.write("models/gold/apart.sql", "{{ config(materialized='table') }} select 1 as one");
    let listed = |args: &[&str]| {
        let text = sandbox.ok(&[&["ls"], args].concat());
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(listed(&["--resource-type", "export"]), ["export:other", "export:songs_csv"]);
    assert_eq!(listed(&["--select", "tag:files"]), ["export:songs_csv"]);
    assert_eq!(listed(&["--select", "songs", "--exclude", "export:o*"]), ["export:songs_csv", "gold.songs"]);
    assert_eq!(listed(&["--select", "+export:other"]).len(), 4, "the source, the model and its exports");
    let listed = sandbox.json(&["ls", "--resource-type", "export", "--select", "export:songs_csv"]);
    assert_eq!(listed[0]["depends_on"], json!(["gold.songs"]));
    sandbox.lake(&["build", "--select", "songs_csv"]).assert_failed(2, "write `export:songs_csv`");
    sandbox.lake(&["build", "--select", "export:song_csv"]).assert_failed(2, "did you mean `export:songs_csv`?");
    let report = sandbox.json(&["build", "--select", "apart"]);
    assert_eq!(report["exports"], Value::Null);
    // Before its model has a table there is nothing to write.
    let report = sandbox.json(&["build", "--select", "export:other"]);
    assert_did(&report, "other", "skipped", "gold.songs has no table yet");
    let plan = sandbox.ok(&["build", "--dry-run"]);
    assert!(
        plan.contains("songs_csv") && plan.contains("first export") && plan.contains("writes out/songs.csv"),
        "{plan}"
    );
    sandbox.ok(&["run", "--select", "songs", "--exclude", "export:other"]);
    assert!(sandbox.path("out/songs.csv").exists() && !sandbox.path("out/other.csv").exists());
    let why = sandbox.ok(&["why", "songs"]);
    assert!(why.contains("export  other to out/other.csv  would be written: first export"), "{why}");
    assert!(why.contains("export  songs_csv to out/songs.csv  skip: unchanged"), "{why}");
    let report = sandbox.json(&["build", "--select", "export:other"]);
    assert_eq!((report["nodes"].as_array().unwrap().len(), did(&report, "other").0.as_str()), (0, "success"));
    let lineage = sandbox.ok(&["docs", "--select", "songs+"]);
    assert!(lineage.contains("export.songs_csv  (export)"), "{lineage}");
}

#[test]
fn exports_follow_a_burst_and_another_target_has_its_own() {
    let sandbox = songs(
        "  - { name: a, model: songs, path: 'out/{{ target.name }}.csv', format: csv, order_by: [title] }
  - { name: b, model: copy, path: 'out/copy_{{ target.name }}.csv', format: csv, order_by: [title] }
",
    );
    sandbox.write(
        "project.yml",
        "name: sandbox\ntarget: dev\ntargets:\n  dev: { root: lake }\n  prod: { root: lake_prod }\n",
    );
    sandbox.write("models/gold/copy.sql", "{{ config(materialized='table') }} select title from {{ ref('songs') }}");
    sandbox.write("tests/none.sql", "select * from {{ ref('copy') }} where title = 'bad'");
    sandbox.ok(&["build", "--atomic"]);
    assert_eq!(
        (text(&sandbox, "out/dev.csv").lines().count(), text(&sandbox, "out/copy_dev.csv").lines().count()),
        (4, 4)
    );
    sandbox.write("in/songs/2.csv", "title,plays,day\nbad,1,\n");
    let run = sandbox.lake(&["build", "--atomic", "--output", "json"]);
    assert_eq!(run.code, 1);
    assert_eq!(text(&sandbox, "out/dev.csv").lines().count(), 4, "what was not published is not exported");
    sandbox.ok(&["build", "--target", "prod", "--select", "songs"]);
    assert_eq!(text(&sandbox, "out/prod.csv").lines().count(), 5);
    assert!(!sandbox.path("out/copy_prod.csv").exists());
}

#[test]
fn a_crash_between_the_file_and_its_note_ends_well() {
    let sandbox = songs(CSV);
    for (number, rows) in [(2, 5), (3, 6)] {
        sandbox.write(&format!("in/songs/{number}.csv"), format!("title,plays,day\nHalo {number},1,\n"));
        let died = sandbox.command(&["build"]).env("LAKE_FAIL_POINT", "exported").output().unwrap();
        assert!(!died.status.success(), "{died:?}");
        assert_eq!(text(&sandbox, "out/songs.csv").lines().count(), rows, "the file is whole");
        let report = sandbox.json(&["build"]);
        assert_eq!(
            (did(&report, "songs_csv").0, &node(&report, "gold.songs")["status"]),
            ("success".to_owned(), &json!("skipped"))
        );
        assert_did(&sandbox.json(&["build"]), "songs_csv", "skipped", "");
    }
    // While it is written, readers see the file of before.
    sandbox.write("in/songs/4.csv", "title,plays,day\nHalo 4,1,\n");
    let before = text(&sandbox, "out/songs.csv");
    let run = sandbox.command(&["build"]).env("LAKE_FAULTS", "put error out/songs.csv 9").output().unwrap();
    assert_eq!((run.status.code(), text(&sandbox, "out/songs.csv")), (Some(1), before));
    sandbox.ok(&["build"]);
    assert_eq!(text(&sandbox, "out/songs.csv").lines().count(), 7);
}

#[test]
fn a_bucket_gets_whole_files_on_condition() {
    let stub = services::gcs();
    let mut sandbox = songs(
        "  - { name: songs_csv, model: songs, path: 'gs://lake/out/songs.csv', format: csv, order_by: [title] }\n",
    );
    sandbox.environment(&stub.server.env);
    let store = stub.server.store();
    let there = || {
        let read = async { store.get(&Path::from("out/songs.csv")).await.unwrap().bytes().await.unwrap() };
        String::from_utf8(block_on(read).to_vec()).unwrap()
    };
    assert_did(&sandbox.json(&["build"]), "songs_csv", "success", "first export");
    assert_eq!(there().lines().count(), 4);
    assert_did(&sandbox.json(&["build"]), "songs_csv", "skipped", "");
    // The answer to the upload is lost: it is neither given up nor taken for somebody else's.
    sandbox.write("in/songs/2.csv", "title,plays,day\nHalo,1,\n");
    let run = sandbox.command(&["build"]).env("LAKE_FAULTS", "put lost out/songs.csv 1").output().unwrap();
    assert!(run.status.success(), "{run:?}");
    assert_eq!(there().lines().count(), 5);
    assert_did(&sandbox.json(&["build"]), "songs_csv", "skipped", "");
    // Somebody else puts a file there.
    block_on(async { store.put(&Path::from("out/songs.csv"), "x".into()).await.unwrap() });
    assert_did(&sandbox.json(&["build"]), "songs_csv", "success", "another program changed its file");
    assert_eq!(there().lines().count(), 5);
    block_on(async { store.delete(&Path::from("out/songs.csv")).await.unwrap() });
    assert_did(&sandbox.json(&["build"]), "songs_csv", "success", "its file is gone");
}

#[test]
fn what_is_wrong_with_an_export_is_told_when_it_compiles() {
    let sandbox = songs("");
    sandbox.write(
        "models/gold/nested.sql",
        "{{ config(materialized='table') }} select title, make_array(plays) as list from {{ ref('songs') }}",
    );
    sandbox
        .write("models/gold/part.sql", "{{ config(materialized='ephemeral') }} select title from {{ ref('songs') }}");
    let told = |export: &str, message: &str, help: &str| {
        sandbox.write("models/gold/songs.yml", format!("exports:\n  - {export}\n"));
        let run = sandbox.lake(&["compile"]);
        run.assert_failed(2, message);
        assert!(run.stderr.contains(help) && run.stderr.contains("models/gold/songs.yml:"), "{}", run.stderr);
    };
    let with = |more: &str| format!("{{ name: x, model: songs, path: out/x.csv, format: csv, {more} }}");
    told(
        "{ name: x, model: ref('song'), path: out/x.csv, format: csv }",
        "model `song` does not exist",
        "did you mean `songs`?",
    );
    told(
        "{ name: x, model: silver.songs, path: x.csv, format: csv }",
        "model `silver.songs` does not exist",
        "gold.songs",
    );
    told("{ name: x, model: \"source('raw', 'songs')\", path: x.csv, format: csv }", "an export is of a model", "");
    told(
        "{ name: x, model: part, path: out/x.csv, format: csv }",
        "`gold.part` is ephemeral",
        "make it a view or a table",
    );
    told("{ name: x, model: songs, path: out/, format: csv }", "`out/` is not the path of a file", "exports/songs.csv");
    told("{ name: x, model: songs, path: '{{ vars(1) }}', format: csv }", "vars", "");
    told("{ name: x, model: songs, path: out/x.csv, format: xlsx }", "`xlsx` is not a format of an export", "csv");
    told("{ name: x, model: songs, format: csv }", "this export has no `path`", "");
    told(&with("ordered_by: [plays]"), "unknown key `ordered_by` in an export", "did you mean `order_by`?");
    told(
        &with("order_by: [played]"),
        "`order_by` names `played`, which `gold.songs` does not have",
        "did you mean `plays`?",
    );
    told(
        &with("columns: [titel]"),
        "`columns` names `titel`, which `gold.songs` does not have",
        "did you mean `title`?",
    );
    told(&with("columns: [title, title]"), "column `title` stands twice", "first here");
    told(
        &with("options: { headr: true }"),
        "unknown key `headr` in a group of export options",
        "did you mean `header`?",
    );
    told(&with("options: { delimiter: '||' }"), "expected one ASCII character", "");
    told(&with("options: { compression: lz5 }"), "`lz5` is not a compression", "zstd");
    told(&with("options: { date_format: '%Q' }"), "`%Q` is not a format of times", "strftime");
    told(
        "{ name: x, model: songs, path: x.parquet, format: parquet, options: { header: true } }",
        "unknown key `header`",
        "compression",
    );
    told(
        "{ name: x, model: nested, path: out/x.csv, format: csv }",
        "column `list` is bigint[], which a CSV file cannot hold",
        "ndjson",
    );
    told(
        &format!("{}\n  - {}", with("order_by: [title]"), with("").replace("x,", "y,")),
        "exports `x` and `y` write to one file",
        "first here",
    );
    told(&format!("{}\n  - {}", with(""), with("").replace("out/", "in/")), "two exports are called `x`", "first here");
}

#[test]
fn sensitive_columns_stay_in_the_lake_unless_they_may_go() {
    let sandbox = songs(CSV);
    sandbox.write("sources.yml", SOURCES.replace("name: title, ", "name: title, meta: { sensitive: pii }, "));
    let run = sandbox.lake(&["build"]);
    run.assert_failed(2, "export `songs_csv` would write sensitive column `title` as it is");
    assert!(run.stderr.contains("raw.songs.title -> gold.songs.title"), "{}", run.stderr);
    let csv = |more: &str| format!("exports:\n{}", CSV.replace("order_by", &format!("{more}, order_by")));
    for (settings, header) in [("columns: [plays]", "plays"), ("allow_sensitive: true", "title,plays,day")] {
        sandbox.write("models/gold/songs.yml", csv(settings));
        sandbox.ok(&["build"]);
        assert_eq!(text(&sandbox, "out/songs.csv").lines().next(), Some(header));
    }
    sandbox.write("models/gold/songs.yml", csv("columns: [plays]"));
    sandbox.write(
        "models/gold/songs.sql",
        "{{ config(materialized='table') }} select mask_hash(title) as title, plays, day from {{ source('raw', 'songs') }}",
    );
    sandbox.write("models/gold/songs.yml", format!("exports:\n{CSV}"));
    sandbox.ok(&["build"]);
    assert!(!text(&sandbox, "out/songs.csv").contains("Heroes"));
}
