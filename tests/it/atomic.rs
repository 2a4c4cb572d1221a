//! Tables that are published together: all of them or none, whatever fails and whenever the program is killed.

use serde_json::{Value, json};

use crate::materialize::{items, rows};
use crate::sandbox::{Sandbox, node};

const TABLE: &str = "{{ config(materialized='table') }} ";

/// `silver.items` and `silver.last` take files in, `gold.total` and `gold.both` are built from them; the tests of the
/// last one see whether each delivery is whole.
fn shop() -> Sandbox {
    let taken = "select id, value from {{ source('raw', 'items') }}";
    items(&[
        ("models/silver/items.sql", &format!("{{{{ config(materialized='incremental') }}}} {taken}")),
        ("models/silver/last.sql", &format!("{{{{ config(materialized='incremental', unique_key='id') }}}} {taken}")),
        ("models/gold/v.sql", "select id, value, 1 as one from {{ ref('items') }}"),
        ("models/gold/total.sql", &format!("{TABLE} select count(*) as n from {{{{ ref('v') }}}}")),
        (
            "models/gold/both.sql",
            &format!(
                "{TABLE} select n, (select count(*) from {{{{ ref('last') }}}}) as ids from {{{{ ref('total') }}}}"
            ),
        ),
        (
            "models/gold/both.yml",
            "models:\n  - name: both\n    columns:\n      - name: n\n        data_tests:\n          - accepted_values: { values: [2, 4], quote: false }\n",
        ),
    ])
}

fn all_rows(sandbox: &Sandbox) -> Vec<Vec<String>> {
    ["items", "last", "total", "both"].map(|model| rows(sandbox, model)).to_vec()
}

fn versions(sandbox: &Sandbox) -> Vec<usize> {
    let log = |table: &str| sandbox.path("lake").join(table).join("_delta_log");
    let count = |table: &str| {
        std::fs::read_dir(log(table)).map_or(0, |entries| {
            entries.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|e| e == "json")).count()
        })
    };
    ["silver/items", "silver/last", "gold/total", "gold/both"].map(count).to_vec()
}

fn journals(sandbox: &Sandbox) -> usize {
    std::fs::read_dir(sandbox.path("lake/_lake/journal")).map_or(0, Iterator::count)
}

#[test]
fn all_tables_are_published_in_one_burst() {
    let sandbox = shop();
    let run = sandbox.lake(&["build", "--atomic"]);
    assert_eq!(run.code, 0, "{run:?}");
    let burst = run.stdout.lines().find_map(|line| line.strip_prefix("published together: ")).unwrap_or_default();
    let mut names: Vec<&str> = burst.split(", ").collect();
    names.sort_unstable();
    assert_eq!(names, ["gold.both", "gold.total", "silver.items", "silver.last"], "{}", run.stdout);
    assert_eq!(all_rows(&sandbox), [vec!["1 a", "2 b"], vec!["1 a", "2 b"], vec!["2"], vec!["2 2"]]);
    assert_eq!((versions(&sandbox), journals(&sandbox)), (vec![1; 4], 0));
    // What they say of what they read is true: nothing is left to do.
    let report = sandbox.json(&["build", "--atomic"]);
    let statuses: Vec<&Value> = report["nodes"].as_array().unwrap().iter().map(|node| &node["status"]).collect();
    assert_eq!(statuses.iter().filter(|status| **status == "skipped").count(), 4, "{report}");
    assert_eq!(versions(&sandbox), [1; 4]);
}

#[test]
fn tests_that_do_not_gate_are_told_of_tables_that_are_published_together() {
    let sandbox = shop();
    let source = "\"source('raw', 'items')\"";
    sandbox.write(
        "models/silver/items.yml",
        format!(
            "models:\n  - name: items\n    data_tests:\n      - row_count_matches_source: {{ name: whole, source: {source}, audit: false }}\n\
             \x20   columns: [{{ name: id, data_tests: [{{ accepted_values: {{ name: one, values: [1], quote: false, audit: false, severity: warn }} }}] }}]\n"
        ),
    );
    let report = sandbox.json(&["build", "--atomic"]);
    let tests = node(&report, "silver.items")["tests"].as_array().unwrap();
    let of = |name: &str| tests.iter().find(|test| test["name"] == name).map(|test| test["status"].clone());
    assert_eq!((of("whole"), of("one")), (Some(json!("pass")), Some(json!("warn"))), "{report:#}");
}

#[test]
fn nothing_is_visible_if_one_of_them_fails() {
    let sandbox = shop();
    sandbox.ok(&["build", "--atomic"]);
    let before = (all_rows(&sandbox), versions(&sandbox));
    sandbox.write("in/items/2.csv", "id,value\n2,z\n");
    let run = sandbox.lake(&["build", "--atomic"]);
    run.assert_failed(1, "not published: ");
    assert!(run.stdout.contains("`gold.both` failed, and they are published together"), "{}", run.stdout);
    assert_eq!((all_rows(&sandbox), versions(&sandbox), journals(&sandbox)), (before.0, before.1, 0));
    assert_eq!(sandbox.json(&["show", "--staged", "both"]), json!([{"n": 3, "ids": 2}]));
    let results: Value =
        serde_json::from_slice(&std::fs::read(sandbox.path(".lake/run_results.json")).unwrap()).unwrap();
    let status = |id: &str| {
        let results = results["results"].as_array().unwrap();
        &results.iter().find(|result| result["unique_id"] == id).unwrap()["status"]
    };
    assert_eq!((status("model.sandbox.items"), status("model.sandbox.both")), (&json!("skipped"), &json!("error")));
    // What was staged for nothing is gone, but for what the tests refused.
    let log = std::fs::read_to_string(sandbox.path("lake/silver/items/_delta_log/00000000000000000000.json")).unwrap();
    for entry in std::fs::read_dir(sandbox.path("lake/silver/items")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.ends_with(".parquet") || log.contains(&name), "{name}");
    }
    // The retry is atomic, too; the files were not taken in.
    sandbox.write("in/items/3.csv", "id,value\n4,d\n");
    let report = sandbox.json(&["retry"]);
    assert_eq!(report["nodes"].as_array().unwrap().len(), 4, "{report}");
    assert_eq!(all_rows(&sandbox)[3], ["4 3"]);
}

#[test]
fn a_kill_at_any_moment_leaves_all_of_it_or_nothing() {
    for (point, after) in
        [("staged:4", false), ("journal", true), ("burst:1", true), ("burst:2", true), ("burst:4", true)]
    {
        for first in [true, false] {
            let sandbox = shop();
            if !first {
                sandbox.ok(&["build", "--atomic"]);
                sandbox.write("in/items/2.csv", "id,value\n2,z\n3,c\n");
            }
            let before = versions(&sandbox);
            let killed = sandbox.command(&["build", "--atomic"]).env("LAKE_FAIL_POINT", point).output().unwrap();
            assert_eq!(killed.status.code(), None, "{point}: {killed:?}");
            assert_eq!(journals(&sandbox), usize::from(after), "{point}");
            if !after {
                assert_eq!(versions(&sandbox), before, "{point}");
            }
            let run = sandbox.lake(&["build"]);
            assert_eq!(run.code, 0, "{point}: {run:?}");
            assert_eq!(run.stderr.contains("finished what run"), after, "{point}: {}", run.stderr);
            let expected: Vec<Vec<&str>> = match first {
                true => vec![vec!["1 a", "2 b"], vec!["1 a", "2 b"], vec!["2"], vec!["2 2"]],
                false => vec![vec!["1 a", "2 b", "2 z", "3 c"], vec!["1 a", "2 z", "3 c"], vec!["4"], vec!["4 3"]],
            };
            assert_eq!(all_rows(&sandbox), expected, "{point}");
            // The burst was made good, not made again.
            assert_eq!(versions(&sandbox), before.iter().map(|count| count + 1).collect::<Vec<_>>(), "{point}");
            assert_eq!(journals(&sandbox), 0, "{point}");
        }
    }
}

#[test]
fn a_writer_that_came_between_is_told_and_the_rest_is_finished() {
    let sandbox = shop();
    sandbox.ok(&["build"]);
    sandbox.write("in/items/2.csv", "id,value\n2,z\n3,c\n");
    let killed = sandbox.command(&["build", "--atomic"]).env("LAKE_FAIL_POINT", "journal").output().unwrap();
    assert_eq!(killed.status.code(), None);
    // Somebody else takes the next version of one of the tables.
    let log = sandbox.path("lake/silver/items/_delta_log");
    let other = json!({"commitInfo": {"timestamp": 1, "operation": "WRITE", "operationParameters": {}}});
    std::fs::write(log.join("00000000000000000001.json"), format!("{other}\n")).unwrap();
    let run = sandbox.lake(&["build"]);
    assert!(run.stderr.contains("another run has published to silver.items before that was finished"), "{run:?}");
    // The files that were not taken in are taken in now, once, and what had read them as taken in is built again.
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(
        all_rows(&sandbox),
        [vec!["1 a", "2 b", "2 z", "3 c"], vec!["1 a", "2 z", "3 c"], vec!["4"], vec!["4 3"]]
    );
    assert_eq!(journals(&sandbox), 0);
}

#[test]
fn a_group_is_published_together() {
    let sandbox = shop();
    sandbox.write(
        "models/groups.yml",
        "groups:\n  - name: money\n    owner: { name: us }\n    config: { publish: together }\nmodels:
  - { name: items, config: { group: money } }\n",
    );
    let total = |more: &str| {
        let config = format!("models:\n  - name: total\n    config: {{ group: money{more}");
        sandbox.write("models/gold/total.yml", config);
    };
    total(" }\n");
    // `both` waits for the burst; it fails alone.
    sandbox.write("in/items/2.csv", "id,value\n3,z\n");
    let run = sandbox.lake(&["build"]);
    run.assert_failed(1, "published together: silver.items, gold.total");
    assert_eq!((rows(&sandbox, "total"), versions(&sandbox)), (vec!["3".to_owned()], vec![1, 1, 1, 0]));
    // A member that fails keeps the others back, and what is below them.
    total(" }\n    columns: [{ name: n, data_tests: [accepted_values: { values: [3], quote: false }] }]\n");
    sandbox.write("in/items/3.csv", "id,value\n9,z\n");
    let report = sandbox.json(&["build"]);
    let status = |name| node(&report, name)["status"].as_str().unwrap().to_owned();
    assert_eq!(
        ["silver.items", "silver.last", "gold.total", "gold.both"].map(status),
        ["blocked", "success", "error", "blocked"]
    );
    assert_eq!(rows(&sandbox, "items").len(), 3);
    // One by one, if a model says so; who is left has nobody to wait for.
    total(", publish: alone }\n");
    let run = sandbox.lake(&["build"]);
    assert!(run.code == 0 && !run.stdout.contains("published together"), "{run:?}");
    assert_eq!(rows(&sandbox, "both"), ["4 4"]);
}

#[test]
fn hooks_tests_and_batches_of_a_burst() {
    let sandbox = shop();
    let sources = std::fs::read_to_string(sandbox.path("sources.yml")).unwrap();
    sandbox.write(
        "sources.yml",
        sources.replace("format: csv", "format: csv\n        max_files_per_batch: 1\n        on_bad_row: quarantine"),
    );
    sandbox.write("in/items/2.csv", "id,value\n3,z\n4,c\nx,y\n");
    let hook = "{{ config(materialized='table', audit='off', post_hook={'command': 'ls lake/silver/items/_delta_log > seen.txt'}) }} ";
    let total = std::fs::read_to_string(sandbox.path("models/gold/total.sql")).unwrap();
    sandbox.write("models/gold/total.sql", total.replace(TABLE, hook));
    sandbox.write("models/gold/total.yml", "models:\n  - name: total\n    columns: [{ name: n, data_tests: [accepted_values: { values: [9], quote: false }] }]\n");
    let run = sandbox.lake(&["build", "--atomic"]);
    run.assert_failed(1, "accepted_values_total_n");
    assert_eq!(all_rows(&sandbox)[3], ["4 4"], "{run:?}");
    assert!(
        std::fs::read_to_string(sandbox.path("seen.txt")).unwrap().contains("00000000000000000000.json"),
        "after the burst"
    );
    assert_eq!(versions(&sandbox), [1; 4], "a backlog is one commit");
    assert_eq!(sandbox.value("select count(*) from quarantine.raw__items"), 2, "one of each model");
}

#[test]
fn what_tests_leave_out_is_in_its_quarantine_when_the_burst_is_over() {
    let sandbox = Sandbox::new(&[
        ("models/silver/a.sql", "{{ config(materialized='table') }} select * from (values (1), (-2)) as t(n)"),
        ("models/silver/b.sql", "{{ config(materialized='table') }} select n from {{ ref('a') }}"),
        (
            "models/silver/all.yml",
            "models:\n  - name: a\n    columns: [{ name: n, data_tests: [{ accepted_range: { min_value: 0, on_violation: quarantine } }] }]\n",
        ),
    ]);
    sandbox.ok(&["build", "--atomic"]);
    assert_eq!(sandbox.value("select count(*) from silver.b"), 1);
    assert_eq!(sandbox.value("select count(*) from quarantine.silver__a"), 1);
}
