//! Files taken in exactly once, whatever happens to them: rewritten, removed, renamed, copied, archived, asked for again.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use crate::materialize::rows;
use crate::sandbox::{Random, Sandbox, node};

const APPENDS: &str = "{{ config(materialized='incremental') }} select id, value from {{ source('raw', 'items') }}";
const MERGES: &str = "{{ config(materialized='incremental', unique_key='id') }} \
                      select id, value from {{ source('raw', 'items') }}";

/// A project with one incremental model over the CSV files of `in/items/`, taken in by these rules.
fn project(model: &str, rules: &str) -> Sandbox {
    let sources = format!(
        "sources:\n  - name: raw\n    root: in\n    tables:\n      - name: items\n        path: items/\n        format: csv\n\
         \x20       columns: [{{ name: id, data_type: bigint }}, {{ name: value, data_type: varchar }}]\n{rules}"
    );
    Sandbox::new(&[("sources.yml", &sources), ("models/silver/items.sql", model)])
}

fn rules(lines: &[&str]) -> String {
    lines.iter().map(|line| format!("        {line}\n")).collect()
}

/// A file of one row for each id.
fn file(ids: &[u32], value: &str) -> String {
    "id,value\n".to_owned() + &ids.iter().map(|id| format!("{id},{value}\n")).collect::<String>()
}

/// What a build did to the model: its action and the reason.
#[track_caller]
fn built(sandbox: &Sandbox, args: &[&str]) -> (String, String) {
    let report = sandbox.json(args);
    let found = node(&report, "silver.items");
    let part = |key: &str| found[key].as_str().unwrap().to_owned();
    assert!(found["status"] == "success" || found["status"] == "skipped", "{found}");
    (part("action"), part("reason"))
}

fn commits(sandbox: &Sandbox) -> usize {
    let log = std::fs::read_dir(sandbox.path("lake/silver/items/_delta_log"));
    log.map_or(0, |log| log.filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|e| e == "json")).count())
}

#[test]
fn a_rewritten_file_replaces_exactly_its_rows_in_one_commit() {
    let sandbox = project(APPENDS, &rules(&["on_changed_file: replace"]));
    sandbox.write("in/items/a.csv", file(&[1, 2], "a"));
    sandbox.write("in/items/b.csv", file(&[3], "b"));
    sandbox.ok(&["build"]);
    // One row of the new self has the same values as one of the old.
    sandbox.write("in/items/a.csv", file(&[2, 4, 5], "a"));
    sandbox.write("in/items/c.csv", file(&[3], "b"));
    let (action, reason) = built(&sandbox, &["build"]);
    assert_eq!((action.as_str(), reason.as_str()), ("update", "files in raw.items: 1 new, 1 changed"));
    assert_eq!(rows(&sandbox, "items"), ["2 a", "3 b", "3 b", "4 a", "5 a"]);
    assert_eq!(commits(&sandbox), 2);
    // To nothing, and back.
    sandbox.write("in/items/a.csv", "id,value\n");
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items"), ["3 b", "3 b"]);
    sandbox.write("in/items/a.csv", file(&[9], "a"));
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items"), ["3 b", "3 b", "9 a"]);
    assert_eq!(built(&sandbox, &["build"]).1, "no new files in raw.items");
}

#[test]
fn rows_of_partitioned_and_aggregated_tables_are_replaced_too() {
    let model = "{{ config(materialized='incremental', partition_by='value') }} \
                 select count(*) as n, value from {{ source('raw', 'items') }} group by value";
    let sandbox = project(model, &rules(&["on_changed_file: replace", "on_removed_file: delete_rows"]));
    sandbox.write("in/items/a.csv", "id,value\n1,50%\n2,a/b c\n3,50%\n");
    sandbox.write("in/items/b.csv", "id,value\n1,50%\n2,ü\n");
    sandbox.ok(&["build"]);
    sandbox.write("in/items/a.csv", "id,value\n1,a/b c\n2,ü\n");
    assert_eq!(built(&sandbox, &["build"]).0, "update");
    let found = rows(&sandbox, "items");
    assert_eq!(found, ["1 50%", "1 a/b c", "1 ü", "1 ü"]);
    std::fs::remove_file(sandbox.path("in/items/b.csv")).unwrap();
    assert_eq!(built(&sandbox, &["build"]).1, "files in raw.items: 1 removed");
    assert_eq!(rows(&sandbox, "items"), ["1 a/b c", "1 ü"]);
}

#[test]
fn a_table_that_merges_is_rebuilt_when_a_file_changed() {
    let sandbox = project(MERGES, &rules(&["on_changed_file: replace", "on_removed_file: delete_rows"]));
    sandbox.write("in/items/a.csv", file(&[1, 2], "a"));
    sandbox.write("in/items/b.csv", file(&[3], "b"));
    sandbox.ok(&["build"]);
    sandbox.write("in/items/a.csv", file(&[2], "A"));
    let (action, reason) = built(&sandbox, &["build"]);
    assert_eq!(action, "replace");
    assert!(reason.contains("does not tell which rows came from which file"), "{reason}");
    assert_eq!(rows(&sandbox, "items"), ["2 A", "3 b"]);
    std::fs::remove_file(sandbox.path("in/items/b.csv")).unwrap();
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items"), ["2 A"]);
}

#[test]
fn a_rebuild_that_would_lose_rows_is_refused() {
    let sandbox = project(MERGES, &rules(&["on_changed_file: replace"]));
    sandbox.write("in/items/a.csv", file(&[1], "a"));
    sandbox.write("in/items/b.csv", file(&[3], "b"));
    sandbox.ok(&["build"]);
    std::fs::remove_file(sandbox.path("in/items/b.csv")).unwrap();
    sandbox.write("in/items/a.csv", file(&[2], "A"));
    sandbox.lake(&["build"]).assert_failed(1, "it would lose the rows of 1 file that is gone; --full-refresh");
    assert_eq!(rows(&sandbox, "items"), ["1 a", "3 b"]);
    sandbox.ok(&["build", "--full-refresh"]);
    assert_eq!(rows(&sandbox, "items"), ["2 A"]);
    sandbox.write("models/silver/items.sql", MERGES.replace("unique_key", "full_refresh=false, unique_key"));
    sandbox.write("in/items/a.csv", file(&[4], "A"));
    sandbox.lake(&["build"]).assert_failed(1, "`full_refresh: false` forbids it");
}

#[test]
fn a_table_from_before_the_rule_is_rebuilt_once() {
    let sandbox = project(APPENDS, "");
    sandbox.write("in/items/a.csv", file(&[1, 2], "a"));
    sandbox.write("in/items/b.csv", file(&[3], "b"));
    sandbox.ok(&["build"]);
    let sources = std::fs::read_to_string(sandbox.path("sources.yml")).unwrap();
    sandbox.write("sources.yml", sources + &rules(&["on_changed_file: replace"]));
    assert_eq!(built(&sandbox, &["build"]).1, "no new files in raw.items");
    sandbox.write("in/items/a.csv", file(&[7, 8, 9], "a"));
    let (action, reason) = built(&sandbox, &["build"]);
    assert!(action == "replace" && reason.contains("old rows cannot be told apart"), "{reason}");
    sandbox.write("in/items/a.csv", file(&[1], "a"));
    assert_eq!(built(&sandbox, &["build"]).0, "update");
    assert_eq!(rows(&sandbox, "items"), ["1 a", "3 b"]);
}

#[test]
fn a_removed_file_does_what_on_removed_file_says() {
    for (rule, left) in [("keep", &["1 a", "2 b"][..]), ("delete_rows", &["2 b"]), ("fail", &["1 a", "2 b"])] {
        let sandbox = project(APPENDS, &rules(&[&format!("on_removed_file: {rule}")]));
        sandbox.write("in/items/a.csv", file(&[1], "a"));
        sandbox.write("in/items/b.csv", file(&[2], "b"));
        sandbox.ok(&["build"]);
        std::fs::remove_file(sandbox.path("in/items/a.csv")).unwrap();
        let run = sandbox.lake(&["build"]);
        assert_eq!(run.code, i32::from(rule == "fail"), "{rule}: {}", run.stdout);
        if rule == "fail" {
            run.assert_failed(1, "1 file was taken in before and gone: a.csv; set `on_removed_file: keep`");
        }
        assert_eq!(rows(&sandbox, "items"), left, "{rule}");
        // A file that comes back was never known, or is still known.
        sandbox.write("in/items/a.csv", file(&[1], "a"));
        if rule == "delete_rows" {
            sandbox.ok(&["build"]);
            assert_eq!(rows(&sandbox, "items"), ["1 a", "2 b"]);
        }
    }
}

#[test]
fn renamed_copied_and_touched_files_are_known_by_their_content() {
    let lines = ["identity: content", "on_changed_file: replace", "on_removed_file: delete_rows"];
    let sandbox = project(APPENDS, &rules(&lines));
    let path = |name: &str| sandbox.path(&format!("in/items/{name}.csv"));
    sandbox.write("in/items/a.csv", file(&[1], "a"));
    sandbox.write("in/items/b.csv", file(&[2], "b"));
    sandbox.write("in/items/twin.csv", file(&[1], "a"));
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items"), ["1 a", "2 b"]);
    std::fs::rename(path("a"), path("z")).unwrap();
    std::fs::copy(path("b"), path("copy")).unwrap();
    std::fs::File::options().write(true).open(path("b")).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    assert!(built(&sandbox, &["build"]).1.ends_with(" renamed"));
    assert_eq!(built(&sandbox, &["build"]).1, "no new files in raw.items");
    // A copy that is left keeps the rows; the last one takes them with it.
    std::fs::remove_file(path("b")).unwrap();
    std::fs::remove_file(path("z")).unwrap();
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items"), ["1 a", "2 b"]);
    std::fs::remove_file(path("copy")).unwrap();
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items"), ["1 a"]);
}

#[test]
fn a_backlog_is_committed_in_batches_and_a_failure_costs_one() {
    let sandbox = project(APPENDS, &rules(&["max_files_per_batch: 2"]));
    for at in 0..5 {
        sandbox.write(&format!("in/items/{at}.csv"), file(&[at], "x"));
    }
    sandbox.write("in/items/3.csv", "id,value\nthree,x\n");
    let run = sandbox.lake(&["build"]);
    run.assert_failed(1, "3.csv");
    run.assert_failed(1, "1 batch before it is published");
    assert_eq!(rows(&sandbox, "items"), ["0 x", "1 x"]);
    sandbox.write("in/items/3.csv", file(&[3], "x"));
    let report = sandbox.json(&["build"]);
    let found = node(&report, "silver.items");
    assert_eq!(found["reason"], "new: 3 files in raw.items; in 2 batches");
    assert_eq!((&found["rows"], &found["files_read"], commits(&sandbox)), (&3.into(), &3.into(), 3));
    // A table that is there is replaced at once: no reader sees half of it.
    assert_eq!(built(&sandbox, &["build", "--full-refresh"]).1, "full refresh");
    assert_eq!(commits(&sandbox), 4);
    assert_eq!(rows(&sandbox, "items").len(), 5);
}

#[test]
fn a_slice_is_read_again_and_nothing_stands_twice() {
    let sandbox = project(APPENDS, &rules(&["on_changed_file: replace", "max_files_per_batch: 1"]));
    for day in 1..=4 {
        sandbox.write(&format!("in/items/2024-08-0{day}.csv"), file(&[day], "x"));
    }
    assert_eq!(built(&sandbox, &["build", "--files", "items/2024-08-01*", "items/2024-08-02*"]).0, "create");
    assert_eq!(rows(&sandbox, "items"), ["1 x", "2 x"]);
    sandbox.write("models/silver/items.sql", APPENDS.replace("value from", "upper(value) as value from"));
    let (_, reason) = built(&sandbox, &["build", "--since", "2024-08-02", "--until", "2024-08-03"]);
    assert_eq!(reason, "files in raw.items: 1 new, 1 again; in 2 batches");
    assert_eq!(rows(&sandbox, "items"), ["1 x", "2 X", "3 X"]);
    assert_eq!(built(&sandbox, &["build", "--files", "nothing"]).1, "no files in raw.items are asked for");
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items"), ["1 x", "2 X", "3 X", "4 X"]);
    sandbox.lake(&["build", "--since", "soon"]).assert_failed(2, "is not a day such as 2024-08-20");
    sandbox.lake(&["build", "--since", "2024-08-02", "--full-refresh"]).assert_failed(2, "cannot be used with");
}

#[test]
fn a_slice_of_an_append_that_cannot_tell_its_rows_apart_is_refused() {
    let sandbox = project(APPENDS, "");
    sandbox.write("in/items/a.csv", file(&[1], "a"));
    sandbox.ok(&["build"]);
    sandbox.lake(&["build", "--files", "a.csv"]).assert_failed(1, "to read files again would double them");
    assert_eq!(rows(&sandbox, "items"), ["1 a"]);
    // By its key a row takes the place of itself.
    sandbox.write("models/silver/items.sql", MERGES);
    assert_eq!(built(&sandbox, &["build", "--files", "a.csv"]).0, "merge");
    assert_eq!(rows(&sandbox, "items"), ["1 a"]);
}

#[test]
fn archived_files_are_known_and_found_again() {
    let sandbox =
        project(APPENDS, &rules(&["on_changed_file: replace", "after_load: { archive: { to: processed/ } }"]));
    sandbox.write("in/items/a.csv", file(&[1], "a"));
    sandbox.write("in/items/old/b.csv", file(&[2], "b"));
    let report = sandbox.json(&["build"]);
    assert_eq!(report["archived"][0]["files"], 2, "{report}");
    assert!(sandbox.path("in/items/processed/old/b.csv").exists() && !sandbox.path("in/items/a.csv").exists());
    assert_eq!(built(&sandbox, &["build"]).1, "no new files in raw.items");
    // The same name once more is the newer self of the file.
    sandbox.write("in/items/a.csv", file(&[7, 8], "A"));
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items"), ["2 b", "7 A", "8 A"]);
    sandbox.ok(&["build", "--full-refresh"]);
    assert_eq!(rows(&sandbox, "items"), ["2 b", "7 A", "8 A"]);
    assert_eq!(std::fs::read_dir(sandbox.path("in/items/processed/_replaced")).unwrap().count(), 1);
}

#[test]
fn a_file_is_archived_when_the_last_model_has_taken_it_in() {
    let sandbox = project(APPENDS, &rules(&["after_load: { archive: { to: done } }"]));
    sandbox.write("models/silver/more.sql", APPENDS);
    sandbox.write("in/items/a.csv", file(&[1], "a"));
    sandbox.ok(&["build", "--select", "items"]);
    assert!(sandbox.path("in/items/a.csv").exists());
    sandbox.ok(&["build"]);
    assert!(sandbox.path("in/items/done/a.csv").exists());
    assert_eq!((rows(&sandbox, "items"), rows(&sandbox, "more")), (vec!["1 a".into()], vec!["1 a".into()]));
}

#[test]
fn of_a_source_of_whole_dumps_the_newest_one_is_the_truth() {
    for model in [APPENDS, MERGES] {
        let sandbox = project(model, &rules(&["snapshot: true"]));
        sandbox.write(
            "models/gold/all.sql",
            "{{ config(materialized='table') }} select id from {{ source('raw', 'items') }}",
        );
        sandbox.write("in/items/2024-08-01.csv", file(&[1, 2], "a"));
        sandbox.ok(&["build"]);
        sandbox.write("in/items/2024-08-02/1.csv", file(&[2], "b"));
        sandbox.write("in/items/2024-08-02/2.csv", file(&[3], "b"));
        sandbox.ok(&["build"]);
        assert_eq!(
            (rows(&sandbox, "items"), rows(&sandbox, "all")),
            (vec!["2 b".into(), "3 b".into()], vec!["2".into(), "3".into()])
        );
        assert_eq!(built(&sandbox, &["build"]).1, "no new files in raw.items");
    }
    let sandbox = project(APPENDS, &rules(&["snapshot: true", "on_removed_file: keep"]));
    sandbox.lake(&["compile"]).assert_failed(2, "the rows of an older delivery go");
}

#[test]
fn the_files_of_a_source_are_listed_with_what_is_known_of_them() {
    let sandbox = project(APPENDS, &rules(&["on_changed_file: replace", "max_files_per_batch: 1"]));
    for name in ["a", "b", "c"] {
        sandbox.write(&format!("in/items/{name}.csv"), file(&[1], "x"));
    }
    sandbox.ok(&["build"]);
    sandbox.write("in/items/a.csv", file(&[1, 2], "x"));
    sandbox.write("in/items/d.csv", "id,value\nfour,x\n");
    sandbox.write("in/items/e.csv", file(&[5], "x"));
    std::fs::remove_file(sandbox.path("in/items/b.csv")).unwrap();
    assert_eq!(sandbox.lake(&["build"]).code, 1);
    let states = |args: &[&str]| -> Vec<String> {
        let found = sandbox.json(&[&["source", "files", "items"], args].concat());
        let line = |file: &serde_json::Value| {
            format!("{} {}", file["path"].as_str().unwrap(), file["state"].as_str().unwrap())
        };
        found.as_array().unwrap_or_else(|| panic!("{found}")).iter().map(line).collect()
    };
    assert_eq!(states(&[]), ["a.csv loaded", "b.csv removed", "c.csv loaded", "d.csv failed", "e.csv pending"]);
    assert_eq!(states(&["--failed"]), ["d.csv failed"]);
    assert_eq!(states(&["--pending"]), ["d.csv failed", "e.csv pending"]);
    assert_eq!(states(&["--loaded", "--model", "silver.items"]), ["a.csv loaded", "c.csv loaded"]);
    let text = sandbox.ok(&["source", "files", "raw.items"]);
    assert!(text.contains("Cannot cast") || text.contains("four"), "{text}");
    sandbox.lake(&["source", "files", "itens"]).assert_failed(2, "did you mean `items`?");
}

#[test]
fn a_stale_source_is_told_as_dbt_tells_it() {
    let limits = "freshness: { warn_after: { count: 1, period: hour }, error_after: { count: 1, period: day } }";
    let by_files = project(APPENDS, &rules(&[limits]));
    let checked = |sandbox: &Sandbox| {
        let found = sandbox.json(&["source", "freshness"]);
        let written: serde_json::Value =
            serde_json::from_slice(&std::fs::read(sandbox.path(".lake/sources.json")).unwrap()).unwrap();
        assert_eq!(found, written);
        let result = &found["results"][0];
        assert_eq!(result["unique_id"], "source.sandbox.raw.items", "{found}");
        let code = sandbox.lake(&["source", "freshness"]).code;
        (result["status"].as_str().unwrap().to_owned(), code)
    };
    std::fs::create_dir_all(by_files.path("in/items")).unwrap();
    assert_eq!(checked(&by_files), ("error".to_owned(), 1));
    by_files.write("in/items/a.csv", file(&[1], "x"));
    for (hours, status, code) in [(0, "pass", 0), (2, "warn", 0), (30, "error", 1)] {
        let time = std::time::SystemTime::now() - Duration::from_secs(hours * 3600);
        let path = by_files.path("in/items/a.csv");
        std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        assert_eq!(checked(&by_files), (status.to_owned(), code));
    }
    let by_rows = project(
        APPENDS,
        &rules(&[
            "freshness: { error_after: { count: 1, period: day }, filter: id < 5 }",
            "loaded_at_field: cast(value as timestamp)",
        ]),
    );
    by_rows.write("in/items/a.csv", "id,value\n1,2020-01-01 00:00:00\n9,2999-01-01 00:00:00\n");
    assert_eq!(checked(&by_rows), ("error".to_owned(), 1));
    by_rows.write("in/items/a.csv", "id,value\n1,2200-01-01 00:00:00\n");
    assert_eq!(checked(&by_rows), ("pass".to_owned(), 0));
    by_rows.write("in/items/a.csv", "id,value\n1,soon\n");
    assert_eq!(checked(&by_rows), ("runtime error".to_owned(), 1));
}

#[test]
fn an_inferred_source_builds() {
    let sandbox = Sandbox::new(&[
        ("in/shop/orders/1.csv", "id;amount;no\n1;2,5;\"a;b\"\n"),
        ("in/shop/events/1.json", "{\"id\": 1, \"at\": {\"x\": 2.5}}\n{\"id\": 2}\n"),
        ("in/shop/list/1.json", "[{\"id\": 1}]"),
        ("in/shop/bare/1.tsv", "1\tx\n2\ty\n"),
    ]);
    for (at, (path, columns)) in
        [("orders/", 3), ("events/*.json", 2), ("list", 1), ("bare/", 2)].into_iter().enumerate()
    {
        let path = format!("in/shop/{path}");
        let yaml = sandbox.ok(&["source", "infer", &path, "--name", &format!("raw.t{at}")]);
        sandbox.write("sources.yml", &yaml);
        let found = sandbox.query(&format!("select * from raw.t{at}"));
        assert_eq!(found[0].as_object().unwrap().len(), columns, "{yaml}");
    }
    let found = sandbox.json(&["source", "infer", "in/shop/orders/"]);
    assert_eq!(
        (&found["source"], &found["table"], &found["format"]),
        (&"shop".into(), &"orders".into(), &"csv".into())
    );
    sandbox.lake(&["source", "infer", "in/none/"]).assert_failed(2, "`in/none/` does not exist");
    sandbox.lake(&["source", "infer", "models.txt", "--name", "x"]).assert_failed(2, "does not exist");
}

#[test]
fn mistakes_in_the_rules_are_told_with_their_place() {
    let lines = [
        "on_changed_file: replaced",
        "on_removed_file: delete",
        "identity: name",
        "max_files_per_batch: 0",
        "max_bytes_per_batch: much",
        "after_load: { archive: { to: ../out } }",
        "freshness: { warn_after: { count: 1, period: week }, filter: id > 0 }",
    ];
    let sandbox = project(APPENDS, &rules(&lines));
    let run = sandbox.lake(&["compile"]);
    for (at, text) in [
        "`replaced` is not a value of `on_changed_file`",
        "`delete` is not a value of `on_removed_file`",
        "`name` is not a value of `identity`",
        "a batch has at least one file",
        "`much` is not an amount such as `512MB`",
        "`../out` is not a folder below the source's own",
        "`week` is not a period",
    ]
    .into_iter()
    .enumerate()
    {
        run.assert_failed(2, text);
        run.assert_failed(2, &format!("sources.yml:{}:", 9 + at));
    }
}

/// Builds until nothing is left to do, killed on the way at a named moment.
#[track_caller]
pub fn die_at(sandbox: &Sandbox, point: &str, args: &[&str]) -> bool {
    let run = sandbox.command(args).env("LAKE_FAIL_POINT", point).output().unwrap();
    let died = run.status.signal() == Some(6);
    assert!(died || run.status.success(), "{point}: {}", String::from_utf8_lossy(&run.stderr));
    died
}

#[test]
fn a_build_that_dies_at_any_point_of_the_ingest_path_loses_and_doubles_nothing() {
    let lines = [
        "on_changed_file: replace",
        "on_removed_file: delete_rows",
        "max_files_per_batch: 2",
        "after_load: { archive: { to: done } }",
    ];
    for point in
        ["manifest-written", "manifest-written:2", "staged", "staged:2", "published", "published:2", "archived:2"]
    {
        let sandbox = project(APPENDS, &rules(&lines));
        for at in 0..5 {
            sandbox.write(&format!("in/items/{at}.csv"), file(&[at], "x"));
        }
        assert!(die_at(&sandbox, point, &["build"]), "{point} was not reached");
        sandbox.ok(&["build"]);
        assert_eq!(rows(&sandbox, "items"), ["0 x", "1 x", "2 x", "3 x", "4 x"], "{point}");
        // A rewrite, a new file and a removal, and death on the way once more.
        sandbox.write("in/items/1.csv", file(&[1, 10], "y"));
        sandbox.write("in/items/5.csv", file(&[5], "x"));
        sandbox.write("in/items/6.csv", file(&[6], "x"));
        std::fs::remove_file(sandbox.path("in/items/done/3.csv")).unwrap();
        assert!(die_at(&sandbox, point, &["build"]), "{point} was not reached");
        sandbox.ok(&["build"]);
        let expected = ["0 x", "1 y", "10 y", "2 x", "4 x", "5 x", "6 x"];
        assert_eq!(rows(&sandbox, "items"), expected, "{point}");
        die_at(&sandbox, point, &["build", "--full-refresh"]);
        sandbox.ok(&["build"]);
        assert_eq!(rows(&sandbox, "items"), expected, "{point}");
        let left: Vec<_> = std::fs::read_dir(sandbox.path("in/items")).unwrap().collect();
        assert_eq!(left.len(), 1, "{point}: {left:?}");
    }
}

/// The folder of a source as it should be seen: what each file holds.
struct Model<'a> {
    sandbox: &'a Sandbox,
    files: BTreeMap<String, (Vec<u32>, u64)>,
    next_id: u32,
    clock: u64,
}

impl<'a> Model<'a> {
    fn new(sandbox: &'a Sandbox) -> Self {
        Self { sandbox, files: BTreeMap::new(), next_id: 0, clock: 1_700_000_000 }
    }

    fn deliver(&mut self, name: &str, random: &mut Random) {
        let count = random.below(4) as u32;
        let ids: Vec<u32> = (self.next_id..self.next_id + count).collect();
        self.next_id += count;
        self.clock += 1;
        // Appears at once, as a delivery should.
        let hidden = format!("in/items/.{}", name.replace('/', "_"));
        self.sandbox.write(&hidden, file(&ids, "x"));
        let path = self.sandbox.path(&format!("in/items/{name}"));
        let time = std::time::UNIX_EPOCH + Duration::from_secs(self.clock);
        std::fs::File::options().write(true).open(self.sandbox.path(&hidden)).unwrap().set_modified(time).unwrap();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::rename(self.sandbox.path(&hidden), path).unwrap();
        self.files.insert(name.to_owned(), (ids, self.clock));
    }

    fn any(&self, random: &mut Random) -> Option<String> {
        let at = random.below(self.files.len().max(1) as u64) as usize;
        self.files.keys().nth(at).cloned()
    }

    /// One thing that happens to the folder.
    fn happen(&mut self, random: &mut Random) {
        let new = format!("{}/f{}.csv", ["a", "b c", "d%"][random.below(3) as usize], random.below(40));
        let path = |name: &str| self.sandbox.path(&format!("in/items/{name}"));
        match (random.below(10), self.any(random)) {
            (0..=4, _) | (_, None) => self.deliver(&new, random),
            (5..=6, Some(known)) => self.deliver(&known, random),
            (7, Some(known)) => {
                std::fs::remove_file(path(&known)).unwrap();
                self.files.remove(&known);
            }
            (_, Some(known)) => {
                std::fs::create_dir_all(path(&new).parent().unwrap()).unwrap();
                std::fs::rename(path(&known), path(&new)).unwrap();
                let content = self.files.remove(&known).unwrap();
                self.files.insert(new, content);
            }
        }
    }

    fn expected(&self) -> Vec<String> {
        let ids: BTreeSet<&Vec<u32>> = self.files.values().map(|(ids, _)| ids).collect();
        let mut lines: Vec<String> = ids.into_iter().flatten().map(|id| format!("{id} x")).collect();
        lines.sort();
        lines
    }
}

#[test]
fn whatever_happens_to_the_files_the_table_holds_what_they_hold() {
    let rounds = std::env::var("LAKE_SOAK_ROUNDS").map_or(8, |count| count.parse().unwrap());
    for (identity, limit) in [("path", "max_files_per_batch: 3"), ("content", "max_bytes_per_batch: 40")] {
        let identity = format!("identity: {identity}");
        let lines = ["on_changed_file: replace", "on_removed_file: delete_rows", &identity, limit];
        let sandbox = project(APPENDS, &rules(&lines));
        let (mut model, mut random) = (Model::new(&sandbox), Random(0x5eed_f11e));
        for round in 0..rounds {
            (0..random.below(7)).for_each(|_| model.happen(&mut random));
            if random.below(3) == 0 {
                let point = ["manifest-written", "staged", "published"][random.below(3) as usize];
                die_at(&sandbox, &format!("{point}:{}", 1 + random.below(3)), &["build"]);
            }
            let args: &[&str] = if random.below(5) == 0 { &["build", "--full-refresh"] } else { &["build"] };
            sandbox.ok(args);
            if sandbox.path("lake/silver/items").exists() {
                assert_eq!(rows(&sandbox, "items"), model.expected(), "{identity}, round {round}");
            }
        }
        assert_eq!(built(&sandbox, &["build"]).1, "no new files in raw.items");
    }
}

#[test]
fn builds_that_are_killed_while_files_are_dropped_in_and_rewritten_lose_nothing() {
    let kills: u64 = std::env::var("LAKE_SOAK_KILLS").map_or(10, |count| count.parse().unwrap());
    let lines = ["on_changed_file: replace", "max_files_per_batch: 3", "after_load: { archive: { to: done } }"];
    let sandbox = project(APPENDS, &rules(&lines));
    let (mut model, mut random, mut killed) = (Model::new(&sandbox), Random(0xdead_beef), 0);
    for _ in 0..kills {
        let mut build = sandbox.start(&["build"]);
        // The death comes at any moment of a build, early ones included: a build may be done sooner than six deliveries.
        for _ in 0..random.below(6) {
            let name = format!("f{}.csv", random.below(30));
            model.deliver(&name, &mut random);
            std::thread::sleep(Duration::from_millis(random.below(120)));
        }
        build.kill().unwrap();
        killed += usize::from(build.wait().unwrap().signal() == Some(9));
    }
    assert!(killed > 0 || kills == 0, "no build was still running when it was killed");
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items"), model.expected());
}

#[test]
fn builds_at_the_same_time_replace_each_file_exactly_once() {
    let lines = ["on_changed_file: replace", "max_files_per_batch: 2", "after_load: { archive: { to: done } }"];
    let sandbox = project(APPENDS, &rules(&lines));
    let (mut model, mut random) = (Model::new(&sandbox), Random(0x2b));
    for round in 0..4 {
        (0..6).for_each(|at| model.deliver(&format!("f{at}.csv"), &mut random));
        let runs: Vec<_> = std::thread::scope(|scope| {
            let builds: Vec<_> = (0..2).map(|_| scope.spawn(|| sandbox.lake(&["build"]))).collect();
            builds.into_iter().map(|build| build.join().unwrap()).collect()
        });
        assert!(runs.iter().any(|run| run.code == 0), "round {round}: {runs:#?}");
        let told = |run: &crate::sandbox::Run| run.code == 0 || run.stdout.contains("at the same time");
        assert!(runs.iter().all(told), "round {round}: {runs:#?}");
        sandbox.ok(&["build"]);
        assert_eq!(rows(&sandbox, "items"), model.expected(), "round {round}");
    }
}
