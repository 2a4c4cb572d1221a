//! Raw files that become few Parquet files: their rows are read from there, as if the raw files were still there.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use crate::sandbox::{Random, Sandbox};

const MODEL: &str = "{{ config(materialized='incremental') }} select * from {{ source('raw', 'items') }}";

const SOURCE: &str = "sources:\n  - name: raw\n    root: in\n    tables:\n      - name: items\n        path: items/\n        \
                      columns: [{ name: id, data_type: bigint }, { name: price, data_type: \"decimal(8,2)\" }]\n";

fn project(lines: &[&str]) -> Sandbox {
    let sandbox = Sandbox::new(&[("models/silver/items.sql", MODEL)]);
    declare(&sandbox, lines);
    sandbox
}

fn declare(sandbox: &Sandbox, lines: &[&str]) {
    let lines: String = lines.iter().map(|line| format!("        {line}\n")).collect();
    sandbox.write("sources.yml", SOURCE.to_owned() + &lines);
}

/// A file as of this second, which appears at once.
fn deliver(sandbox: &Sandbox, path: &str, text: &str, second: u64) {
    let (hidden, path) = (sandbox.path(&format!("in/items/.{second}")), sandbox.path(&format!("in/items/{path}")));
    std::fs::create_dir_all(hidden.parent().unwrap()).unwrap();
    std::fs::write(&hidden, text).unwrap();
    let time = UNIX_EPOCH + Duration::from_secs(1_700_000_000 + second);
    std::fs::File::options().write(true).open(&hidden).unwrap().set_modified(time).unwrap();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::rename(hidden, path).unwrap();
}

fn rows(sandbox: &Sandbox) -> Vec<String> {
    let mut rows: Vec<String> =
        sandbox.query("select * from {{ ref('items') }}").iter().map(ToString::to_string).collect();
    rows.sort();
    rows
}

/// Files below the folder of the source that are not hidden.
fn left(sandbox: &Sandbox) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![sandbox.path("in/items")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            match entry.path().is_dir() {
                true => folders.push(entry.path()),
                false if !hidden => found.push(entry.path()),
                false => {}
            }
        }
    }
    found.sort();
    found
}

fn ending(files: &[PathBuf], ending: &str) -> usize {
    files.iter().filter(|path| path.extension().is_some_and(|found| found == ending)).count()
}

const ALL_OF_A_FILE: [&str; 4] = [
    "partition_columns: [{ name: shop, data_type: varchar }]",
    "path_pattern: \"d{day:%Y%m%d}_{part:int}.{kind}\"",
    "metadata_columns: [_file_path, _file_name, _file_size, _file_modified_at, _row_number]",
    "on_changed_file: replace",
];

#[test]
fn a_full_refresh_over_compacted_files_gives_what_it_gave_over_raw_ones() {
    for (format, texts) in [
        ("csv", ["id,price\n1,1.10\n2,\n", "price,id\n2.20,3\n", "id\n"]),
        ("ndjson", ["{\"id\": 1, \"price\": 1.10}\n{\"id\": 2}\n", "{\"price\": \"2.20\", \"id\": 3}\n", ""]),
    ] {
        let lines = |compact: bool| {
            let mut lines = vec![format!("format: {format}")];
            lines.extend(ALL_OF_A_FILE.map(str::to_owned));
            lines.extend(compact.then(|| "after_load: { compact: { to: small/ } }".to_owned()));
            lines
        };
        let text = |compact| lines(compact).iter().map(String::as_str).collect::<Vec<_>>().join("\n        ");
        let (kept, compacted) = (project(&[&text(false)]), project(&[&text(true)]));
        for (at, text) in texts.into_iter().enumerate() {
            let ending = if format == "csv" { "csv" } else { "json" };
            for sandbox in [&kept, &compacted] {
                deliver(sandbox, &format!("shop=a b%/d2024010{}_{at}.{ending}", at + 1), text, at as u64);
            }
        }
        for sandbox in [&kept, &compacted] {
            sandbox.ok(&["build"]);
        }
        let report = left(&compacted);
        assert_eq!((report.len(), ending(&report, "parquet")), (2, 1), "{report:?}");
        let expected = rows(&kept);
        assert_eq!(expected.len(), 3);
        assert_eq!(rows(&compacted), expected);
        assert!(compacted.ok(&["build"]).contains("no new files in raw.items"));
        compacted.ok(&["build", "--full-refresh"]);
        assert_eq!(rows(&compacted), expected);
        assert_eq!(compacted.query("select * from raw.items").len(), 3);
        // What was compacted stays known without the rule.
        declare(&compacted, &[&text(false)]);
        compacted.ok(&["build", "--full-refresh"]);
        assert_eq!(rows(&compacted), expected);
    }
}

#[test]
fn a_new_file_under_the_name_of_a_compacted_one_takes_the_place_of_its_rows() {
    let rules = ["format: csv", "on_changed_file: replace", "after_load: { compact: { to: small } }"];
    let sandbox = project(&rules);
    deliver(&sandbox, "a.csv", "id,price\n1,1\n2,2\n", 1);
    deliver(&sandbox, "b.csv", "id,price\n3,3\n", 2);
    sandbox.ok(&["build"]);
    deliver(&sandbox, "a.csv", "id,price\n9,9\n", 3);
    sandbox.ok(&["build"]);
    for args in [&["build"][..], &["build", "--full-refresh"], &["build", "--files", "a.csv"]] {
        sandbox.ok(args);
        assert_eq!(rows(&sandbox), [r#"{"id":3,"price":3.0}"#, r#"{"id":9,"price":9.0}"#]);
    }
    // A part whose file has a newer self is not merged away while it holds a row that counts.
    assert_eq!(ending(&left(&sandbox), "csv"), 0);
}

#[test]
fn parts_stay_few_and_are_of_the_size_that_was_asked_for() {
    let rules = ["format: csv", "after_load: { compact: { to: small, format: parquet, target_size: 20KB } }"];
    let sandbox = project(&rules);
    let mut random = Random(7);
    for file in 0..12 {
        let lines: String =
            (0..1_000).map(|_| format!("{},{}\n", random.below(1 << 60), random.below(99_999))).collect();
        deliver(&sandbox, &format!("{file:02}.csv"), &format!("id,price\n{lines}"), file);
    }
    sandbox.ok(&["build"]);
    let before = left(&sandbox);
    let parts: Vec<u64> = before
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "parquet"))
        .map(|path| path.metadata().unwrap().len())
        .collect();
    assert!(parts.len() > 3 && parts.iter().all(|size| *size < 60 << 10), "{parts:?}");
    // Tiny files do not become as many parts.
    for file in 20..30 {
        deliver(&sandbox, &format!("{file}.csv"), &format!("id,price\n{file},1\n"), file);
        sandbox.ok(&["build"]);
    }
    let now = ending(&left(&sandbox), "parquet");
    assert!(now <= parts.len() + 4, "{now} parts after {}", parts.len());
    let expected = rows(&sandbox);
    sandbox.ok(&["build", "--full-refresh"]);
    assert_eq!(expected.len(), 12_010);
    assert!(rows(&sandbox) == expected);
}

#[test]
fn files_are_compacted_when_the_last_model_has_taken_them_in() {
    let sandbox = project(&["format: csv", "identity: content", "after_load: { compact: { to: small } }"]);
    sandbox.write("models/silver/more.sql", MODEL);
    deliver(&sandbox, "a.csv", "id,price\n1,1\n", 1);
    sandbox.ok(&["build", "--select", "items"]);
    assert_eq!(ending(&left(&sandbox), "csv"), 1);
    sandbox.ok(&["build"]);
    assert_eq!(ending(&left(&sandbox), "csv"), 0);
    // A copy of a compacted file is known by its content, and so is the file itself after a full refresh.
    deliver(&sandbox, "copy.csv", "id,price\n1,1\n", 2);
    sandbox.ok(&["build", "--full-refresh"]);
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox), [r#"{"id":1,"price":1.0}"#]);
}

#[test]
fn values_that_were_kept_are_not_passed_off_as_more_than_they_are() {
    let rules = ["format: csv", "after_load: { compact: { to: small } }"];
    let sandbox = project(&rules);
    deliver(&sandbox, "a.csv", "id,price\n007,1.5\n", 1);
    sandbox.ok(&["build"]);
    let sources = std::fs::read_to_string(sandbox.path("sources.yml")).unwrap();
    sandbox.write("sources.yml", sources.replace("bigint", "varchar"));
    let run = sandbox.lake(&["build", "--full-refresh"]);
    run.assert_failed(
        1,
        "`in/items/a.csv`: it was compacted when column `id` was `bigint`, and as `varchar` it may have said more",
    );
    sandbox.write("sources.yml", sources.replace("bigint", "double"));
    sandbox.ok(&["build", "--full-refresh"]);
    assert_eq!(rows(&sandbox), [r#"{"id":7.0,"price":1.5}"#]);
    for (rule, text) in [
        ("{ compact: { to: ../x } }", "`../x` is not a folder below the source's own"),
        ("{ compact: { to: x, format: orc } }", "`orc` is not a format of compacted files"),
        ("{ compact: { to: x, target_size: big } }", "`big` is not an amount such as `512MB`"),
        ("{ compact: { to: x }, archive: { to: y } }", "files are archived or compacted, not both"),
        ("{ compact: {} }", "this group of compact settings has no `to`"),
    ] {
        declare(&sandbox, &["format: csv", &format!("after_load: {rule}")]);
        let run = sandbox.lake(&["compile"]);
        run.assert_failed(2, text);
        run.assert_failed(2, "sources.yml:9:");
    }
}

fn die_at(sandbox: &Sandbox, point: &str) -> bool {
    let run = sandbox.command(&["build"]).env("LAKE_FAIL_POINT", point).output().unwrap();
    let died = run.status.signal() == Some(6);
    assert!(died || run.status.success(), "{point}: {}", String::from_utf8_lossy(&run.stderr));
    died
}

#[test]
fn a_build_that_dies_while_it_compacts_loses_and_doubles_nothing() {
    let rules = ["format: csv", "on_changed_file: replace", "after_load: { compact: { to: small } }"];
    let points = ["part-written", "part-known", "raw-set-aside", "raw-set-aside:2", "raw-removed", "part-forgotten"];
    for point in points {
        let sandbox = project(&rules);
        deliver(&sandbox, "a.csv", "id,price\n1,1\n", 1);
        deliver(&sandbox, "b.csv", "id,price\n2,2\n", 2);
        let died = die_at(&sandbox, point);
        assert!(died || point == "part-forgotten", "{point} was not reached");
        // The file that the build was about to remove is delivered anew.
        deliver(&sandbox, "a.csv", "id,price\n5,5\n", 3);
        sandbox.ok(&["build", "--full-refresh"]);
        let big: String = (10..4_000).map(|id| format!("{id},1\n")).collect();
        deliver(&sandbox, "c.csv", &format!("id,price\n{big}"), 4);
        deliver(&sandbox, "d.csv", "id,price\n", 5);
        assert!(die_at(&sandbox, point), "{point} was not reached again");
        for args in [&["build"][..], &["build", "--full-refresh"], &["build"]] {
            sandbox.ok(args);
            let found =
                sandbox.value("select count(*) * 100000 + count(distinct id) + sum(id) from {{ ref('items') }}");
            assert_eq!(found, 3_992 * 100_000 + 3_992 + 5 + 2 + (10..4_000).sum::<u64>(), "{point}");
        }
        let files = left(&sandbox);
        assert_eq!(ending(&files, "csv"), 0, "{point}: {files:?}");
        assert_eq!(ending(&files, "parquet"), ending(&files, "lake"), "{point}: {files:?}");
        assert!(!sandbox.path("in/items/.lake-leaving").exists(), "{point}");
    }
}

/// What each file holds: rows of an id and of those of the other columns that it has.
type Folder = BTreeMap<String, Vec<BTreeMap<&'static str, u64>>>;

fn expected(folder: &Folder, known: &[&str]) -> Vec<String> {
    let line = |(path, at, row): (&String, usize, &BTreeMap<&str, u64>)| {
        let known = known.iter().filter_map(|name| Some(format!("{name}={}", row.get(name)?)));
        format!("in/items/{path} {} {}", at + 1, known.collect::<Vec<_>>().join(" "))
    };
    let rows = folder.iter().flat_map(|(path, rows)| rows.iter().enumerate().map(move |(at, row)| (path, at, row)));
    let mut lines: Vec<String> = rows.map(line).collect();
    lines.sort();
    lines
}

fn found(sandbox: &Sandbox) -> Vec<String> {
    let rows = sandbox.query("select * from {{ ref('items') }}");
    let line = |row: &serde_json::Value| {
        let known = ["id", "b", "c", "d"].iter().filter_map(|name| Some(format!("{name}={}", row.get(name)?)));
        let known = known.collect::<Vec<_>>().join(" ");
        format!("{} {} {known}", row["_file_path"].as_str().unwrap(), row["_row_number"])
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    lines.sort();
    lines
}

#[test]
fn whatever_columns_files_have_and_wherever_they_go_the_table_holds_their_rows() {
    let rounds: u64 = std::env::var("LAKE_SOAK_ROUNDS").map_or(7, |count| count.parse().unwrap());
    for (format, after_load) in [
        ("csv", "after_load: { compact: { to: small, target_size: 2KB } }"),
        ("ndjson", "after_load: { compact: { to: small } }"),
        ("csv", "after_load: { archive: { to: done } }"),
        ("ndjson", "after_load: keep"),
    ] {
        let sandbox = Sandbox::new(&[("models/silver/items.sql", MODEL)]);
        let source = SOURCE.replace("{ name: price, data_type: \"decimal(8,2)\" }", "{ name: b, data_type: bigint }");
        let lines = format!(
            "        format: {format}\n        on_new_column: add\n        on_changed_file: replace\n        \
             metadata_columns: [_file_path, _row_number]\n        max_files_per_batch: 3\n        {after_load}\n"
        );
        sandbox.write("sources.yml", source + &lines);
        let (mut folder, mut random, mut clock) = (Folder::new(), Random(0x5eed + after_load.len() as u64), 0);
        for round in 0..rounds {
            for _ in 0..1 + random.below(5) {
                let columns: Vec<&'static str> =
                    ["b", "c", "d"].into_iter().filter(|_| random.below(2 + 4 / (round + 1)) == 0).collect();
                let rows: Vec<BTreeMap<&'static str, u64>> = (0..random.below(4))
                    .map(|_| columns.iter().chain(&["id"]).map(|name| (*name, random.below(1_000))).collect())
                    .collect();
                let text: String = match format {
                    "csv" => {
                        let names: Vec<&str> = columns.iter().copied().chain(["id"]).collect();
                        let line = |row: &BTreeMap<&str, u64>| {
                            names.iter().map(|name| row[name].to_string()).collect::<Vec<_>>().join(",") + "\n"
                        };
                        names.join(",") + "\n" + &rows.iter().map(line).collect::<String>()
                    }
                    _ => rows.iter().map(|row| serde_json::to_string(row).unwrap() + "\n").collect(),
                };
                clock += 1;
                let ending = if format == "csv" { "csv" } else { "json" };
                let path = format!("{}/{}.{ending}", ["x", "y z"][random.below(2) as usize], random.below(12));
                deliver(&sandbox, &path, &text, clock);
                folder.insert(path, rows);
            }
            if random.below(3) == 0 {
                let points = ["columns-known", "staged", "published", "part-written", "part-known", "raw-set-aside"];
                die_at(&sandbox, points[random.below(points.len() as u64) as usize]);
            }
            let args: &[&str] = if random.below(3) == 0 { &["build", "--full-refresh"] } else { &["build"] };
            sandbox.ok(args);
            assert_eq!(
                found(&sandbox),
                expected(&folder, &["id", "b", "c", "d"]),
                "{format}, {after_load}, round {round}"
            );
        }
        assert!(sandbox.ok(&["build"]).contains("no new files in raw.items"));
    }
}
