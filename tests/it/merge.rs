//! Merging by key: changes in any order, deletes, and how little of a table is touched.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::ingest::die_at;
use crate::materialize::rows;
use crate::sandbox::{Random, Sandbox, node};

const SOURCES: &str = "sources:
  - name: raw
    root: in
    tables:
      - name: changes
        path: changes/
        format: csv
        columns:
          - { name: Id, data_type: bigint }
          - { name: at, data_type: bigint }
          - { name: op, data_type: varchar }
          - { name: name, data_type: varchar }
";

/// A project whose one model `silver.items` merges changes with these settings.
fn changes(config: &str) -> Sandbox {
    let sql = format!(
        "{{{{ config(materialized='incremental', unique_key='Id', {config}) }}}} \
         select \"Id\", at, op, name from {{{{ source('raw', 'changes') }}}}"
    );
    Sandbox::new(&[("sources.yml", SOURCES), ("models/silver/items.sql", &sql)])
}

fn deliver(sandbox: &Sandbox, lines: &str) {
    let folder = sandbox.path("in/changes");
    let files = std::fs::read_dir(folder).map_or(0, Iterator::count);
    sandbox.write(&format!("in/changes/{files:04}.csv"), format!("Id,at,op,name\n{lines}"));
}

/// Delivers, builds, and tells what the table holds.
#[track_caller]
fn after(sandbox: &Sandbox, lines: &str) -> Vec<String> {
    deliver(sandbox, lines);
    sandbox.ok(&["build"]);
    rows(sandbox, "items")
}

const FEED: &str = "sequence_by='at', delete_when=\"op = 'D'\"";

#[test]
fn a_late_older_row_does_not_replace_a_newer_one() {
    let sandbox = changes("sequence_by='at'");
    after(&sandbox, "1,10,I,one\n2,10,I,two\n,10,I,none\n");
    let now = after(&sandbox, "1,9,U,old\n2,11,U,new\n3,1,I,three\n,9,U,old\n");
    assert_eq!(now, ["1 10 I one", "10 I none", "2 11 U new", "3 1 I three"]);
    // NULL is older than anything; a row that is as new as the published one takes its place.
    let now = after(&sandbox, "1,,U,unknown\n3,1,U,again\n4,,I,four\n");
    assert_eq!(now, ["1 10 I one", "10 I none", "2 11 U new", "3 1 U again", "4 I four"]);
    assert_eq!(after(&sandbox, "4,0,U,known\n")[4], "4 0 U known");
}

#[test]
fn a_row_that_is_delivered_twice_counts_once() {
    let sandbox = changes("sequence_by='at'");
    assert_eq!(after(&sandbox, "1,10,I,one\n1,10,I,one\n1,9,I,zero\n"), ["1 10 I one"]);
    deliver(&sandbox, "1,11,U,two\n1,11,U,three\n");
    sandbox.lake(&["build"]).assert_failed(1, "(Id=1); and the same `at`, but other values");
    assert_eq!(rows(&sandbox, "items"), ["1 10 I one"]);
}

#[test]
fn deletes_take_rows_away_and_late_rows_do_not_bring_them_back() {
    let sandbox = changes(FEED);
    // A key whose first change is its delete, and one that is deleted in its first delivery.
    let now = after(&sandbox, "1,10,I,one\n2,10,I,two\n3,10,D,\n4,10,I,four\n4,11,D,\n,10,I,none\n");
    assert_eq!(now, ["1 10 I one", "10 I none", "2 10 I two"]);
    assert_eq!(after(&sandbox, "3,9,I,late\n4,10,U,late\n1,12,D,\n,12,D,\n"), ["2 10 I two"]);
    assert_eq!(after(&sandbox, "1,11,U,late\n,11,U,late\n2,9,D,\n"), ["2 10 I two"]);
    let now = after(&sandbox, "1,13,I,back\n3,12,I,back\n");
    assert_eq!(now, ["1 13 I back", "2 10 I two", "3 12 I back"]);
    // What came back can be deleted by what is newer, and not by what is older.
    assert_eq!(after(&sandbox, "1,12,D,\n3,13,D,\n4,10,I,late\n"), ["1 13 I back", "2 10 I two"]);
    assert_eq!(node(&sandbox.json(&["build"]), "silver.items")["status"], "skipped");
    // From the beginning, all at once: the same rows.
    sandbox.ok(&["build", "--full-refresh"]);
    assert_eq!(rows(&sandbox, "items"), ["1 13 I back", "2 10 I two"]);
    assert_eq!(after(&sandbox, "3,11,I,late\n,11,I,late\n"), ["1 13 I back", "2 10 I two"]);
}

#[test]
fn deletes_without_a_sequence_count_as_they_come() {
    let sandbox = changes("delete_when=\"op = 'D'\", merge_exclude_columns='name'");
    assert_eq!(after(&sandbox, "1,1,I,one\n2,1,I,two\n9,1,D,\n"), ["1 1 I one", "2 1 I two"]);
    assert_eq!(after(&sandbox, "1,0,D,\n2,2,U,other\n9,1,,nine\n"), ["2 2 U two", "9 1 nine"]);
    assert_eq!(after(&sandbox, "1,0,I,again\n"), ["1 0 I again", "2 2 U two", "9 1 nine"]);
}

/// The data files of the newest version: name, and the keys that it holds as the log tells.
fn files(sandbox: &Sandbox) -> BTreeMap<String, (i64, i64)> {
    let mut live = BTreeMap::new();
    let log = sandbox.path("lake/silver/items/_delta_log");
    let mut commits: Vec<_> = std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path()).collect();
    commits.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    commits.sort();
    for commit in commits {
        for line in std::fs::read_to_string(commit).unwrap().lines() {
            let action: Value = serde_json::from_str(line).unwrap();
            if let Some(path) = action["remove"]["path"].as_str() {
                live.remove(path);
            }
            if let Some(path) = action["add"]["path"].as_str() {
                let stats: Value = serde_json::from_str(action["add"]["stats"].as_str().unwrap()).unwrap();
                let bound = |which: &str| stats[which]["Id"].as_i64().unwrap();
                live.insert(path.to_owned(), (bound("minValues"), bound("maxValues")));
            }
        }
    }
    live
}

#[test]
fn only_files_that_can_hold_a_key_are_read_and_only_those_that_do_are_written_again() {
    let sandbox = changes("sequence_by='at'");
    for start in [0, 100, 200] {
        let lines: String = (start..start + 100).step_by(2).map(|id| format!("{id},1,I,x\n")).collect();
        after(&sandbox, &lines);
    }
    let before = files(&sandbox);
    // Files of the first and the last delivery cannot hold 101, which is new, nor 100: what is in them does not matter.
    let others: Vec<&String> =
        before.iter().filter(|(_, (_, most))| !(100..200).contains(most)).map(|(path, _)| path).collect();
    assert!(others.len() >= 2 && others.len() < before.len(), "{before:?}");
    for path in others {
        std::fs::write(sandbox.path("lake/silver/items").join(path), "not read").unwrap();
    }
    deliver(&sandbox, "101,1,I,new\n");
    sandbox.ok(&["build"]);
    let now = files(&sandbox);
    assert!(before.keys().all(|path| now.contains_key(path)), "nothing held 101");
    deliver(&sandbox, "100,2,U,new\n101,2,U,new\n300,1,I,new\n");
    sandbox.ok(&["build"]);
    let now = files(&sandbox);
    let gone: Vec<_> = before.iter().filter(|(path, _)| !now.contains_key(*path)).collect();
    assert!(matches!(gone[..], [(_, (100, _))]), "{gone:?}");
}

#[test]
fn a_merge_with_little_memory_is_slower_and_right() {
    let sandbox = changes("sequence_by='at'");
    let project = "name: sandbox\ntarget: dev\ntargets: { dev: { root: lake, memory: 24MB } }\n";
    sandbox.write("project.yml", project);
    let lines = |at: u32, from: u64| -> String {
        let mut random = Random(7);
        (from..from + 60_000).map(|id| format!("{id},{at},I,{:0>60}\n", random.below(1 << 40))).collect()
    };
    deliver(&sandbox, &lines(1, 0));
    sandbox.ok(&["build"]);
    deliver(&sandbox, &lines(2, 30_000));
    sandbox.ok(&["build"]);
    let counted = |sql: &str| sandbox.json(&["show", "--inline", sql, "--limit", "0"]).to_string();
    let found = counted(
        "select at, count(*) as n, count(distinct \"Id\") as keys from {{ ref('items') }} group by at order by at",
    );
    assert_eq!(found, r#"[{"at":1,"n":30000,"keys":30000},{"at":2,"n":60000,"keys":60000}]"#);
}

/// What the table should hold, from all changes so far: of each key the newest one, if it is no delete.
fn truth(all: &[(Option<u64>, u64)]) -> Vec<String> {
    let mut newest: BTreeMap<Option<u64>, u64> = BTreeMap::new();
    for (key, at) in all {
        let known = newest.entry(*key).or_insert(*at);
        *known = (*known).max(*at);
    }
    let mut lines: Vec<String> = newest
        .into_iter()
        .filter(|(key, at)| op(*key, *at) != "D")
        .map(|(key, at)| format!("{}{at} {} v{at}", key.map_or(String::new(), |key| format!("{key} ")), op(key, at)))
        .collect();
    lines.sort();
    lines
}

/// A third of all changes are deletes.
fn op(key: Option<u64>, at: u64) -> &'static str {
    ["D", "I", "U"][((key.unwrap_or(5) * 31 + at * 17) % 3) as usize]
}

#[test]
fn changes_in_any_order_come_to_the_newest_of_each_key() {
    let rounds = std::env::var("LAKE_SOAK_ROUNDS").map_or(12, |count| count.parse().unwrap());
    for (seed, config) in [(1, FEED.to_owned()), (2, format!("{FEED}, partition_by='op'"))] {
        let sandbox = changes(&config);
        let (mut random, mut all) = (Random(0xcdc0_0000 + seed), Vec::new());
        for round in 0..rounds {
            let mut lines = String::new();
            for _ in 0..1 + random.below(12) {
                // Late and duplicate rows, and NULL keys, come about by themselves among so few keys.
                let key = Some(random.below(9)).filter(|key| *key > 0);
                let at = random.below(20 + round);
                all.push((key, at));
                let text = key.map_or(String::new(), |key| key.to_string());
                lines.push_str(&format!("{text},{at},{},v{at}\n", op(key, at)));
            }
            deliver(&sandbox, &lines);
            if random.below(3) == 0 {
                die_at(&sandbox, ["manifest-written", "staged", "published"][random.below(3) as usize], &["build"]);
            }
            let args: &[&str] = if random.below(6) == 0 { &["build", "--full-refresh"] } else { &["build"] };
            sandbox.ok(args);
            assert_eq!(rows(&sandbox, "items"), truth(&all), "{config}, round {round}");
        }
    }
}
