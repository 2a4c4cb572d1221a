//! Rows that do not fit: rescued, made NULL, or quarantined.

use std::collections::BTreeMap;

use serde_json::json;

use crate::sandbox::{Random, Sandbox};

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

const RAGGED: &str =
    "id,price,day\n1,1.50,2024-01-01\ntwo,2.5,2024-01-02\n3\n4,4,2024-01-04,more,and more\n5,5,2024-01-05\n";

fn ids(sandbox: &Sandbox) -> Vec<serde_json::Value> {
    let rows = sandbox.query("select id from {{ ref('items') }} order by id nulls first");
    rows.into_iter().map(|row| row["id"].clone()).collect()
}

/// Rows of the quarantine: file, row, text, column, and whether it was replayed.
fn quarantine(sandbox: &Sandbox) -> Vec<String> {
    let rows = sandbox.query(
        "select file_path, coalesce(row_number, 0) as row, coalesce(raw_text, reason) as text, \
         coalesce(column_name, '-') as column_name, replayed_at is not null as replayed \
         from quarantine.raw__items order by file_path, row_number, model",
    );
    let cell = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    rows.iter().map(|row| row.as_object().unwrap().values().map(cell).collect::<Vec<_>>().join(" | ")).collect()
}

#[test]
fn what_does_not_fit_is_null_where_that_is_declared() {
    let sandbox = project("format: csv\non_bad_row: null", &[("in/a.csv", RAGGED)]);
    sandbox.ok(&["build"]);
    assert_eq!(json!(ids(&sandbox)), json!([null, 1, 3, 4, 5]));
    assert_eq!(sandbox.value("select count(price) from {{ ref('items') }}"), 4);
    // The same is an error otherwise.
    let sandbox = project("format: csv", &[("in/a.csv", RAGGED)]);
    sandbox.lake(&["build"]).assert_failed(1, "`in/a.csv`: line 4 (row 3): expected 3 fields, found 1");
}

#[test]
fn rows_that_do_not_fit_are_quarantined() {
    let sandbox = project("format: auto\non_bad_row: quarantine", &[("in/a.csv", RAGGED)]);
    sandbox.write(
        "in/b.ndjson",
        "{\"id\": 6}\n{\"id\": 7, \"price\": {}}\nnonsense\n\n{\"id\": 1e99}\n[8]\n{\"id\": 9}\n",
    );
    sandbox.write("in/c.json", "[{\"id\": 10}, {\"id\": \"x\",\n \"price\": 1.10}]");
    let run = sandbox.ok(&["build"]);
    assert!(run.contains("5 rows, 8 quarantined, from 3 files"), "{run}");
    assert_eq!(json!(ids(&sandbox)), json!([1, 5, 6, 9, 10]));
    let expected = [
        "in/a.csv | 2 | two,2.5,2024-01-02 | id | false",
        "in/a.csv | 3 | 3 | - | false",
        "in/a.csv | 4 | 4,4,2024-01-04,more,and more | - | false",
        "in/b.ndjson | 2 | {\"id\": 7, \"price\": {}} | price | false",
        "in/b.ndjson | 3 | nonsense | - | false",
        "in/b.ndjson | 4 | {\"id\": 1e99} | id | false",
        "in/b.ndjson | 5 | [8] | - | false",
        "in/c.json | 2 | {\"id\": \"x\",\n \"price\": 1.10} | id | false",
    ];
    assert_eq!(quarantine(&sandbox), expected);
    let row = &sandbox.query("select * from quarantine.raw__items where row_number = 4 and file_path = 'in/a.csv'")[0];
    assert_eq!((&row["source"], &row["model"], &row["line"]), (&json!("raw.items"), &json!("silver.items"), &json!(5)));
    assert_eq!((&row["reason"], &row["header"]), (&json!("expected 3 fields, found 5"), &json!("id,price,day")));
    // Nothing is told twice.
    sandbox.ok(&["build"]);
    assert_eq!(quarantine(&sandbox).len(), 8);
    sandbox.ok(&["build", "--full-refresh"]);
    assert_eq!(quarantine(&sandbox), expected);
}

const TRACED: &str = "format: auto\non_bad_row: quarantine\non_changed_file: replace\nmax_files_per_batch: 2";

#[test]
fn a_file_that_cannot_be_read_is_quarantined_whole() {
    let sandbox = project(&TRACED.replace("\nmax_files_per_batch: 2", ""), &[("in/a.csv", MESSY)]);
    let cut = "{\"id\": 6}\n{\"id\": \"x\"}\n{\"id\": 7, \"pri";
    sandbox.write("in/b.ndjson", cut);
    sandbox.write("in/c.csv", b"id,price\n8,1\n\xff\xfe,2\n");
    sandbox.write("in/d.parquet", "PAR1 and nothing else PAR1");
    sandbox.write("in/e.csv", "who,what\n1,2\n");
    sandbox.write("in/f.json", "[{\"id\": 1}, {");
    let run = sandbox.ok(&["build"]);
    assert!(run.contains("2 rows, 7 quarantined, from 1 file"), "{run}");
    assert_eq!(json!(ids(&sandbox)), json!([1, 3]));
    let found = quarantine(&sandbox);
    assert_eq!(found.len(), 7, "{found:#?}");
    assert_eq!(found[2], "in/b.ndjson | 0 | line 3: the file ends in the middle of a JSON value | - | false");
    let failed = sandbox.ok(&["source", "files", "raw.items", "--failed"]);
    assert!(failed.contains("b.ndjson") && failed.contains("the file ends in the middle"), "{failed}");
    assert_eq!(failed.lines().count(), 5, "{failed}");
    // They are not read again before they change.
    let run = sandbox.ok(&["build"]);
    assert!(run.contains("no new files in raw.items"), "{run}");
    sandbox.write("in/b.ndjson", "{\"id\": 6}\n{\"id\": \"x\"}\n{\"id\": 7}\n");
    sandbox.ok(&["build"]);
    assert_eq!(json!(ids(&sandbox)), json!([1, 3, 6, 7]));
    assert_eq!(quarantine(&sandbox)[2], "in/b.ndjson | 2 | {\"id\": \"x\"} | id | false");
    // A good file that becomes a bad one keeps its rows until there are better ones.
    sandbox.write("in/b.ndjson", cut);
    sandbox.ok(&["build"]);
    assert_eq!((json!(ids(&sandbox)), quarantine(&sandbox).len()), (json!([1, 3, 6, 7]), 8));
    sandbox.write("in/b.ndjson", "{\"id\": 9}\n");
    sandbox.ok(&["build"]);
    assert_eq!((json!(ids(&sandbox)), quarantine(&sandbox).len()), (json!([1, 3, 9]), 6));
}

#[test]
fn too_many_bad_rows_fail_a_batch() {
    let with = |limit: &str| {
        let settings = format!("format: csv\non_bad_row: quarantine\nmax_bad_rows: {limit}");
        project(&settings, &[("in/a.csv", RAGGED)])
    };
    let message = "3 of 5 rows of `raw.items` do not fit, and `max_bad_rows: 2` allows no more: `a.csv` line 3: \
                   column `id`: `two` is not a int; `a.csv` line 4: expected 3 fields, found 1";
    with("2").lake(&["build"]).assert_failed(1, message);
    with("50%").lake(&["build"]).assert_failed(1, "`max_bad_rows: 50%`");
    with("60%").ok(&["build"]);
    with("3").ok(&["build"]);
    with("many").lake(&["compile"]).assert_failed(2, "`many` is not a number of rows");
    for (settings, text) in [
        ("format: csv\nmax_bad_rows: 3", "`max_bad_rows` means nothing where the first bad row fails"),
        ("format: parquet\non_bad_row: null", "become NULL in CSV, TSV and JSON files only"),
        ("format: csv\non_bad_row: quarantined", "did you mean `quarantine`?"),
        ("format: delta\non_bad_row: quarantine", "the rows of a Delta table fit their columns"),
    ] {
        let run = project(settings, &[]).lake(&["compile"]);
        run.assert_failed(2, text);
        run.assert_failed(2, "sources.yml:");
    }
}

#[test]
fn a_build_that_dies_loses_and_doubles_no_bad_row() {
    for point in ["quarantine-noted", "manifest-written", "staged", "published", "quarantine-staged", "quarantined"] {
        for at in 1..3 {
            let point = format!("{point}:{at}");
            let sandbox = project(TRACED, &[]);
            for file in 0..4 {
                sandbox.write(&format!("in/{file}.csv"), format!("id,price\n{file},1\nx{file},2\n"));
            }
            let die = || {
                let run = sandbox.command(&["build"]).env("LAKE_FAIL_POINT", &point).output().unwrap();
                assert!(!run.status.success(), "{point} was not reached");
            };
            die();
            sandbox.ok(&["build"]);
            let bad = |files: &[&str]| -> Vec<String> {
                files.iter().map(|name| format!("in/{}.csv | 2 | x{name},2 | id | false", &name[..1])).collect()
            };
            assert_eq!(json!(ids(&sandbox)), json!([0, 1, 2, 3]), "{point}");
            assert_eq!(quarantine(&sandbox), bad(&["0", "1", "2", "3"]), "{point}");
            // One file is replaced, and two are new.
            sandbox.write("in/1.csv", "id,price\n10,1\nx1b,2\n");
            sandbox.write("in/4.csv", "id,price\n4,1\nx4,2\n");
            sandbox.write("in/5.csv", "id,price\n5,1\nx5,2\n");
            die();
            sandbox.ok(&["build"]);
            assert_eq!(json!(ids(&sandbox)), json!([0, 2, 3, 4, 5, 10]), "{point}");
            assert_eq!(quarantine(&sandbox), bad(&["0", "1b", "2", "3", "4", "5"]), "{point}");
        }
    }
}

/// A project whose rows are fixed by other declarations than its first ones.
fn fixable(model: &str) -> Sandbox {
    let settings = "format: csv\non_bad_row: quarantine\nmetadata_columns: [_row_number, _file_path]";
    let file = "day,id,price\n2024-01-01,1,1\n2024-01-02,20000000000,2\n2024-01-03,x,3\n2024-01-04,4\n";
    let sandbox = project(settings, &[("in/a.csv", file), ("in/b.csv", "id,price,day\n50000000000,5,\n6,6,\n")]);
    let columns = "cast(id as bigint) as id, price, _row_number as n, _file_path as p";
    sandbox.write("models/silver/items.sql", format!("{model} select {columns} from {{{{ source('raw', 'items') }}}}"));
    sandbox
}

fn fix(sandbox: &Sandbox, from: &str, to: &str) {
    let sources = std::fs::read_to_string(sandbox.path("sources.yml")).unwrap();
    assert!(sources.contains(from), "{sources}");
    sandbox.write("sources.yml", sources.replace(from, to));
}

const KEYED: &str = "{{ config(materialized='incremental', unique_key='id') }}";

#[test]
fn quarantined_rows_are_taken_again_after_a_fix_and_never_twice() {
    for model in [KEYED, "{{ config(materialized='incremental') }}"] {
        let sandbox = fixable(model);
        let nothing = sandbox.ok(&["source", "replay", "raw.items"]);
        assert!(nothing.contains("there is nothing to read yet"), "{nothing}");
        sandbox.ok(&["build"]);
        assert_eq!((json!(ids(&sandbox)), quarantine(&sandbox).len()), (json!([1, 6]), 4));
        // Without a fix nothing changes.
        let run = sandbox.ok(&["source", "replay", "raw.items", "--model", "items"]);
        assert!(run.contains("0 rows, 4 quarantined, from 2 files"), "{run}");
        assert!(quarantine(&sandbox).iter().all(|row| row.ends_with("false")));
        fix(&sandbox, "name: id, data_type: int", "name: id, data_type: bigint");
        sandbox.ok(&["source", "replay", "items"]);
        assert_eq!(json!(ids(&sandbox)), json!([1, 6, 20_000_000_000_u64, 50_000_000_000_u64]));
        let expected = [
            "in/a.csv | 2 | 2024-01-02,20000000000,2 | id | true",
            "in/a.csv | 3 | 2024-01-03,x,3 | id | false",
            "in/a.csv | 4 | 2024-01-04,4 | - | false",
            "in/b.csv | 1 | 50000000000,5, | id | true",
        ];
        assert_eq!(quarantine(&sandbox), expected);
        let row = &sandbox.query("select n, p from {{ ref('items') }} where id = 20000000000")[0];
        assert_eq!((&row["n"], &row["p"]), (&json!(2), &json!("in/a.csv")));
        // The file is not needed any more.
        std::fs::remove_file(sandbox.path("in/a.csv")).unwrap();
        fix(&sandbox, "format: csv", "format: csv\n        options: { truncated_rows: true }");
        sandbox.ok(&["source", "replay", "items"]);
        assert_eq!(json!(ids(&sandbox)), json!([1, 4, 6, 20_000_000_000_u64, 50_000_000_000_u64]));
        sandbox.ok(&["source", "replay", "items"]);
        sandbox.ok(&["build"]);
        assert_eq!((ids(&sandbox).len(), quarantine(&sandbox).len()), (5, 4));
    }
    let sandbox = fixable(KEYED);
    sandbox.lake(&["source", "replay", "item"]).assert_failed(2, "did you mean");
}

#[test]
fn rows_that_a_replay_added_go_with_their_file() {
    let sandbox = fixable("{{ config(materialized='incremental') }}");
    fix(&sandbox, "format: csv", "format: csv\n        on_changed_file: replace");
    sandbox.ok(&["build"]);
    fix(&sandbox, "name: id, data_type: int", "name: id, data_type: bigint");
    sandbox.ok(&["source", "replay", "items"]);
    assert_eq!(ids(&sandbox).len(), 4);
    sandbox.write("in/a.csv", "id,price,day\n7,7,\ny,1,\n");
    sandbox.ok(&["build"]);
    assert_eq!(json!(ids(&sandbox)), json!([6, 7, 50_000_000_000_u64]));
    let expected = ["in/a.csv | 2 | y,1, | id | false", "in/b.csv | 1 | 50000000000,5, | id | true"];
    assert_eq!(quarantine(&sandbox), expected);
}

#[test]
fn a_file_that_could_not_be_read_is_replayed_whole() {
    let sandbox = project("format: csv\non_bad_row: quarantine", &[("in/a.csv", "id\n1\n")]);
    sandbox.write("in/b.csv", b"id,price\n2,2\nx,\xe9\n");
    sandbox.ok(&["build"]);
    assert_eq!((json!(ids(&sandbox)), quarantine(&sandbox).len()), (json!([1]), 1));
    sandbox.ok(&["source", "replay", "items"]);
    assert_eq!((json!(ids(&sandbox)), quarantine(&sandbox).len()), (json!([1]), 1));
    fix(&sandbox, "format: csv", "format: csv\n        options: { encoding: latin1 }");
    sandbox.ok(&["source", "replay", "items"]);
    assert_eq!(json!(ids(&sandbox)), json!([1, 2]));
    assert_eq!(quarantine(&sandbox), ["in/b.csv | 2 | x,é | id | false"]);
    assert_eq!(sandbox.json(&["source", "files", "items", "--failed"]), json!([]));
}

#[test]
fn a_replay_that_dies_reads_each_row_once() {
    for point in ["quarantine-noted", "manifest-written", "staged", "published", "quarantine-staged", "quarantined"] {
        let sandbox = fixable("{{ config(materialized='incremental') }}");
        sandbox.ok(&["build"]);
        fix(&sandbox, "name: id, data_type: int", "name: id, data_type: bigint");
        let run = sandbox.command(&["source", "replay", "items"]).env("LAKE_FAIL_POINT", point).output().unwrap();
        assert!(!run.status.success(), "{point} was not reached");
        sandbox.ok(&["source", "replay", "items"]);
        assert_eq!(json!(ids(&sandbox)), json!([1, 6, 20_000_000_000_u64, 50_000_000_000_u64]), "{point}");
        let replayed = quarantine(&sandbox).iter().filter(|row| row.ends_with("true")).count();
        assert_eq!((replayed, quarantine(&sandbox).len()), (2, 4), "{point}");
    }
}

/// What a file has: rows with their ids, `None` where a row does not fit. `None` if it cannot be read.
type Content = Option<Vec<Option<u64>>>;

/// A file, as it was read last.
#[derive(Default)]
struct Known {
    good: Vec<u64>,
    bad: Vec<usize>,
    unreadable: bool,
}

/// A random file of CSV or NDJSON, and what it has.
fn random_file(json: bool, random: &mut Random, next: &mut u64) -> (Vec<u8>, Content) {
    let (mut text, mut rows) = (if json { String::new() } else { "id,price,day\n".to_owned() }, Vec::new());
    for _ in 0..random.below(30) {
        *next += 1;
        let id = *next;
        let kind = if random.below(3) == 0 { 1 + random.below(4) } else { 0 };
        text += &match (json, kind) {
            (false, 0) => format!("{id},\"1.5\",2024-01-01\n"),
            (false, 1) => format!("{id},much,\n"),
            (false, 2) => format!("{id},1\n"),
            (false, 3) => format!("{id},1,2024-01-01,\"a\nb\"\n"),
            (false, _) => format!("\n{id},\"1,\n5\",\n"),
            (true, 0) => format!("{{\"id\": {id}, \"price\": 1.5, \"more\": [1]}}\n"),
            (true, 1) => format!("{{\"id\": {id}, \"day\": \"never\"}}\n"),
            (true, 2) => format!("{{\"id\": {id}, \n"),
            (true, 3) => format!("{{\"id\": [{id}]}}\n"),
            (true, _) => format!("\n[{id}]\n"),
        };
        rows.push((kind == 0).then_some(id));
    }
    if random.below(6) == 0 {
        // Not UTF-8, and the last thing in the file.
        return ([text.as_bytes(), b"7,\xff\xfe,\n"].concat(), None);
    }
    (text.into_bytes(), Some(rows))
}

#[test]
fn whatever_is_delivered_each_row_is_in_the_table_or_in_the_quarantine() {
    let rounds = std::env::var("LAKE_SOAK_ROUNDS").map_or(5, |count| count.parse().unwrap());
    for rules in [
        "max_files_per_batch: 2",
        "max_files_per_batch: 100\non_new_column: add",
        "max_files_per_batch: 3\nafter_load: { compact: { to: small, target_size: 2KB } }",
        "after_load: { compact: { to: small } }\non_new_column: add",
    ] {
        let settings = format!("format: auto\non_bad_row: quarantine\non_changed_file: replace\n{rules}");
        let sandbox = project(&settings, &[("in/.keep", "")]);
        let (mut random, mut next, mut clock) = (Random(0xbad_0f0e), 0, 1_700_000_000);
        let mut known: BTreeMap<String, Known> = BTreeMap::new();
        for round in 0..rounds {
            // Of several deliveries under one name, a build sees the last.
            let mut delivered: BTreeMap<String, Content> = BTreeMap::new();
            for _ in 0..1 + random.below(5) {
                let (number, json) = (random.below(8), random.below(2) == 0);
                let path = format!("in/{number}.{}", if json { "ndjson" } else { "csv" });
                let (bytes, content) = random_file(json, &mut random, &mut next);
                sandbox.write(&path, bytes);
                clock += 1;
                let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(clock);
                std::fs::File::options().write(true).open(sandbox.path(&path)).unwrap().set_modified(time).unwrap();
                delivered.insert(path, content);
            }
            for (path, content) in delivered {
                let Some(rows) = content else {
                    // What was good of it stays.
                    known.entry(path).or_default().unreadable = true;
                    continue;
                };
                let place = |(at, row): (usize, &Option<u64>)| row.is_none().then_some(at + 1);
                let good = rows.iter().flatten().copied().collect();
                let bad = rows.iter().enumerate().filter_map(place).collect();
                known.insert(path, Known { good, bad, unreadable: false });
            }
            if random.below(2) == 0 {
                let points =
                    ["quarantine-noted", "manifest-written", "staged", "published", "quarantined", "part-known"];
                let point = format!("{}:{}", points[random.below(6) as usize], 1 + random.below(2));
                let _ = sandbox.command(&["build"]).env("LAKE_FAIL_POINT", point).output().unwrap();
            }
            if random.below(4) == 0 {
                sandbox.ok(&["source", "replay", "items"]);
            }
            let all = random.below(4) == 0;
            sandbox.ok(if all { &["build", "--full-refresh"] } else { &["build"] });
            for file in known.values_mut().filter(|file| all && file.unreadable) {
                // What it held before is nowhere any more.
                *file = Known { unreadable: true, ..Known::default() };
            }
            let mut good: Vec<u64> = known.values().flat_map(|file| file.good.clone()).collect();
            good.sort_unstable();
            assert_eq!(json!(ids(&sandbox)), json!(good), "{rules}, round {round}");
            let rows = sandbox.query("select file_path as f, coalesce(row_number, 0) as n from quarantine.raw__items");
            let mut found: Vec<(String, u64)> =
                rows.iter().map(|row| (row["f"].as_str().unwrap().to_owned(), row["n"].as_u64().unwrap())).collect();
            found.sort();
            let bad = |(path, file): (&String, &Known)| -> Vec<(String, u64)> {
                let whole = file.unreadable.then_some(0);
                let rows = file.bad.iter().map(|row| *row as u64);
                whole.into_iter().chain(rows).map(|row| (path.clone(), row)).collect()
            };
            let mut expected: Vec<(String, u64)> = known.iter().flat_map(bad).collect();
            expected.sort();
            assert_eq!(found, expected, "{rules}, round {round}");
        }
    }
}
