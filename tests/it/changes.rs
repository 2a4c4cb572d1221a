//! Models that read what changed in another one.

use serde_json::{Value, json};

use crate::materialize::SOURCES;
use crate::sandbox::{Random, Sandbox, node};

const APPENDED: &str = "{{ config(materialized='incremental') }} select id, value from {{ source('raw', 'items') }}";
const MERGED: &str =
    "{{ config(materialized='incremental', unique_key='id') }} select id, value from {{ source('raw', 'items') }}";
const LOG: &str = "{{ config(materialized='incremental') }}
select id, value, _change_type as change, _commit_version as version, _commit_timestamp as at
from {{ ref('items', changes=true) }}";

fn project(items: &str) -> Sandbox {
    Sandbox::new(&[("sources.yml", SOURCES), ("models/silver/items.sql", items), ("models/gold/log.sql", LOG)])
}

fn deliver(sandbox: &Sandbox, lines: &str) {
    let files = std::fs::read_dir(sandbox.path("in/items")).map_or(0, Iterator::count);
    sandbox.write(&format!("in/items/{files}.csv"), format!("id,value\n{lines}"));
}

/// All that was read so far: `1 a insert`.
fn log(sandbox: &Sandbox) -> Vec<String> {
    let rows = sandbox.query("select id, value, change from gold.log order by version, id, change desc, value");
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    rows.iter().map(|row| format!("{} {} {}", text(&row["id"]), text(&row["value"]), text(&row["change"]))).collect()
}

fn build(sandbox: &Sandbox, args: &[&str]) -> Value {
    node(&sandbox.json(&[&["build"], args].concat()), "gold.log").clone()
}

#[test]
fn rows_that_are_appended_are_read_once() {
    let sandbox = project(APPENDED);
    deliver(&sandbox, "1,a\n2,b\n");
    let first = build(&sandbox, &[]);
    assert_eq!((&first["action"], &first["rows"]), (&json!("create"), &json!(2)), "{first}");
    let again = build(&sandbox, &[]);
    assert_eq!(again["status"], "skipped", "{again}");
    // Two versions at once: each row has the version that it came with.
    for lines in ["3,c\n", "4,d\n4,d\n"] {
        deliver(&sandbox, lines);
        sandbox.ok(&["build", "--select", "items"]);
    }
    let second = build(&sandbox, &[]);
    assert_eq!(second["reason"], "changes of silver.items: version 0 -> 2", "{second}");
    assert_eq!(second["action"], "append");
    assert_eq!(log(&sandbox), ["1 a insert", "2 b insert", "3 c insert", "4 d insert", "4 d insert"]);
    let versions =
        sandbox.query("select distinct id, version, at > timestamp '2026-01-01' as timed from gold.log order by id");
    let expected =
        [(1, 0), (2, 0), (3, 1), (4, 2)].map(|(id, version)| json!({"id": id, "version": version, "timed": true}));
    assert_eq!(versions, expected);
    assert_eq!(build(&sandbox, &[])["status"], "skipped");
    let refreshed = build(&sandbox, &["--full-refresh", "--select", "log"]);
    assert_eq!((&refreshed["action"], &refreshed["rows"]), (&json!("replace"), &json!(5)));
    assert_eq!(build(&sandbox, &[])["status"], "skipped");
}

#[test]
fn a_merge_gives_what_it_changed_and_nothing_that_it_wrote_again() {
    let sandbox = project(MERGED);
    deliver(&sandbox, "1,a\n2,b\n3,c\n");
    build(&sandbox, &[]);
    deliver(&sandbox, "2,B\n3,c\n4,d\n,n\n");
    let run = build(&sandbox, &[]);
    assert_eq!(run["rows"], 4, "{run}");
    let first = ["1 a insert", "2 b insert", "3 c insert"];
    let second = ["2 b update_preimage", "2 B update_postimage", "4 d insert", "null n insert"];
    assert_eq!(log(&sandbox), [&first[..], &second[..]].concat());
    // A table that is built again is compared as a whole.
    std::fs::remove_file(sandbox.path("in/items/0.csv")).unwrap();
    sandbox.ok(&["build", "--full-refresh", "--select", "items"]);
    let run = build(&sandbox, &[]);
    assert_eq!(run["reason"], "changes of silver.items: version 1 -> 2");
    assert_eq!(log(&sandbox)[7..], ["1 a delete"]);
}

#[test]
fn a_version_without_a_change_gives_no_row() {
    let sandbox = project(&MERGED.replace("unique_key='id'", "unique_key='id', incremental_strategy='delete+insert'"));
    deliver(&sandbox, "1,a\n1,a\n2,b\n");
    build(&sandbox, &[]);
    deliver(&sandbox, "1,a\n1,a\n");
    let run = build(&sandbox, &[]);
    assert_eq!((&run["status"], &run["rows"]), (&json!("success"), &json!(0)), "{run}");
    assert_eq!(build(&sandbox, &[])["status"], "skipped");
    // Equal rows are counted.
    deliver(&sandbox, "1,a\n");
    build(&sandbox, &[]);
    assert_eq!(log(&sandbox), ["1 a insert", "1 a insert", "2 b insert", "1 a delete"]);
}

#[test]
fn what_cannot_be_told_any_more_is_an_error() {
    let sandbox = project(MERGED);
    deliver(&sandbox, "1,a\n");
    build(&sandbox, &[]);
    let old = data_files(&sandbox);
    deliver(&sandbox, "1,b\n");
    sandbox.ok(&["build", "--select", "items"]);
    old.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let run = build(&sandbox, &["--select", "log"]);
    let reason = run["reason"].as_str().unwrap();
    assert!(
        reason.contains("since its version 0") && reason.contains("vacuumed") && reason.contains("--full-refresh"),
        "{run}"
    );
    assert_eq!(log(&sandbox), ["1 a insert"]);
    build(&sandbox, &["--select", "log", "--full-refresh"]);
    assert_eq!(log(&sandbox), ["1 b insert"]);
    // Another table in the place of the first.
    std::fs::remove_dir_all(sandbox.path("lake/silver/items")).unwrap();
    std::fs::remove_file(sandbox.path("in/items/0.csv")).unwrap();
    let run = build(&sandbox, &[]);
    assert!(run["reason"].as_str().unwrap().contains("is another table than the one"), "{run}");
    build(&sandbox, &["--full-refresh"]);
    assert_eq!(build(&sandbox, &[])["status"], "skipped");
}

fn data_files(sandbox: &Sandbox) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(sandbox.path("lake/silver/items")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|ending| ending == "parquet")).collect()
}

#[test]
fn a_model_that_read_all_rows_before_is_rebuilt_when_somebody_says_so() {
    let sandbox = project(APPENDED);
    let whole = "{{ config(materialized='incremental') }} select id, value, '' as change, cast(0 as bigint) as version, now() as at from {{ ref('items') }}";
    sandbox.write("models/gold/log.sql", whole);
    deliver(&sandbox, "1,a\n");
    build(&sandbox, &[]);
    sandbox.write("models/gold/log.sql", LOG);
    let run = build(&sandbox, &[]);
    assert!(run["reason"].as_str().unwrap().contains("is to read its changes now"), "{run}");
    build(&sandbox, &["--full-refresh", "--select", "log"]);
    assert_eq!(log(&sandbox), ["1 a insert"]);
}

#[test]
fn a_run_that_dies_reads_no_change_twice() {
    for point in ["staged:1", "published:1"] {
        let sandbox = project(MERGED);
        deliver(&sandbox, "1,a\n2,b\n");
        build(&sandbox, &[]);
        deliver(&sandbox, "2,c\n");
        sandbox.ok(&["build", "--select", "items"]);
        let died = sandbox.command(&["build", "--select", "log"]).env("LAKE_FAIL_POINT", point).output().unwrap();
        assert!(!died.status.success(), "{point}");
        build(&sandbox, &[]);
        let expected = ["1 a insert", "2 b insert", "2 b update_preimage", "2 c update_postimage"];
        assert_eq!(log(&sandbox), expected, "{point}");
    }
}

#[test]
fn runs_at_the_same_time_read_each_change_once() {
    let sandbox = project(APPENDED);
    for round in 0..4 {
        deliver(&sandbox, &format!("{round},x\n"));
        sandbox.ok(&["build", "--select", "items"]);
        std::thread::scope(|scope| {
            let runs: Vec<_> = (0..3).map(|_| scope.spawn(|| sandbox.lake(&["build", "--select", "log"]))).collect();
            for run in runs {
                let run = run.join().unwrap();
                assert_eq!(run.code, 0, "{run:#?}");
            }
        });
    }
    assert_eq!(log(&sandbox), (0..4).map(|id| format!("{id} x insert")).collect::<Vec<_>>());
}

/// What is left of `silver.items` if each row of `gold.log` comes or goes once.
fn copy(sandbox: &Sandbox) -> Vec<Value> {
    let sum = "sum(case when change in ('insert', 'update_postimage') then 1 else -1 end)";
    sandbox.query(&format!(
        "select id, value, {sum} as n from gold.log group by id, value having {sum} <> 0 order by id, value"
    ))
}

fn table(sandbox: &Sandbox) -> Vec<Value> {
    sandbox.query("select id, value, count(*) as n from silver.items group by id, value order by id, value")
}

#[test]
fn tables_of_every_kind_tell_what_changed() {
    let from = "from {{ source('raw', 'items') }}";
    let incremental =
        |more: &str| format!("{{{{ config(materialized='incremental', {more}) }}}} select id, value {from}");
    let begin = (chrono::Utc::now() - chrono::TimeDelta::days(2)).date_naive();
    let ways = [
        ("a table", format!("{{{{ config(materialized='table') }}}} select id, value {from}")),
        ("delete+insert", incremental("unique_key='id', incremental_strategy='delete+insert'")),
        ("partitions", incremental("incremental_strategy='insert_overwrite', partition_by='id'")),
        (
            "a history",
            format!(
                "{{{{ config(materialized='scd2', unique_key='id', strategy='check', check_cols='all') }}}} select id, value {from}"
            ),
        ),
        (
            "batches",
            incremental(&format!(
                "incremental_strategy='microbatch', event_time='at', batch_size='day', begin='{begin}'"
            ))
            .replace("select id, value", "select id, value, now() as at"),
        ),
    ];
    for (way, sql) in ways {
        let sandbox = project(&sql);
        for (round, lines) in ["1,a\n2,b\n3,c\n", "2,B\n3,c\n4,d\n", "", "1,A\n,n\n"].into_iter().enumerate() {
            if !lines.is_empty() {
                deliver(&sandbox, lines);
            }
            let run = build(&sandbox, &[]);
            assert!(run["status"] == "success" || lines.is_empty(), "{way}: {run}");
            assert_eq!(copy(&sandbox), table(&sandbox), "{way}, round {round}");
        }
        assert!(table(&sandbox).len() > 3, "{way}");
    }
}

#[test]
fn changes_applied_to_a_copy_make_the_table() {
    let rounds: u64 = std::env::var("LAKE_SOAK_ROUNDS").map_or(10, |count| count.parse().unwrap());
    let partitioned = MERGED.replace("unique_key='id'", "unique_key='id', partition_by='value'");
    for (seed, items) in [(0xc4a, APPENDED), (0x9e5, MERGED), (0x9a7, &partitioned)] {
        let (sandbox, mut random) = (project(items), Random(seed));
        for round in 0..rounds {
            let mut ids: Vec<u64> = (0..1 + random.below(4)).map(|_| random.below(12)).collect();
            ids.sort_unstable();
            ids.dedup();
            let line = |id: &u64, random: &mut Random| match id {
                11 => format!(",v {}%\n", random.below(3)),
                id => format!("{id},v {}%\n", random.below(3)),
            };
            let lines: String = ids.iter().map(|id| line(id, &mut random)).collect();
            deliver(&sandbox, &lines);
            if random.below(5) == 0 {
                // Built again from the newest file alone.
                for file in 0..round {
                    sandbox.write(&format!("in/items/{file}.csv"), "id,value\n");
                }
                sandbox.ok(&["build", "--select", "items", "--full-refresh"]);
            } else {
                sandbox.ok(&["build", "--select", "items"]);
            }
            if random.below(2) == 0 && round + 1 < rounds {
                continue;
            }
            sandbox.ok(&["build", "--select", "log"]);
            // Each row as often as it came, less as often as it went.
            assert_eq!(copy(&sandbox), table(&sandbox), "round {round}");
        }
        let updates = sandbox.value("select count(*) from gold.log where change like 'update%'");
        assert_eq!(updates == 0, items == APPENDED, "{updates}");
    }
}
