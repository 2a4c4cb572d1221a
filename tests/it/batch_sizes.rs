//! Batches that are not days, and what their number and order do to a table.

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::microbatch::{EVENTS, SOURCES};
use crate::reader;
use crate::sandbox::{Sandbox, node};

/// `silver.events`, and `gold.copy` in batches of this size over it.
fn project(size: &str, begin: &str, more: &str) -> Sandbox {
    let copy = format!(
        "{{{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='at', batch_size='{size}', \
         begin='{begin}', lookback=0{more}) }}}}\nselect at, value from {{{{ ref('events') }}}}"
    );
    Sandbox::new(&[
        ("sources.yml", SOURCES),
        ("models/silver/events.sql", EVENTS),
        ("models/gold/copy.sql", &copy),
        ("models/gold/copy.yml", "models:\n  - name: copy\n    columns: [{ name: value, data_tests: [not_null] }]\n"),
    ])
}

fn deliver(sandbox: &Sandbox, lines: &[(String, &str)]) {
    let files = std::fs::read_dir(sandbox.path("in/events")).map_or(0, Iterator::count);
    let lines: String = lines.iter().map(|(at, value)| format!("{at},{value}\n")).collect();
    sandbox.write(&format!("in/events/{files}.csv"), format!("at,value\n{lines}"));
}

fn build(sandbox: &Sandbox, args: &[&str]) -> Value {
    node(&sandbox.json(&[&["build"], args].concat()), "gold.copy").clone()
}

fn values(sandbox: &Sandbox) -> Vec<String> {
    let rows = sandbox.query("select value from gold.copy order by at, value");
    rows.iter().map(|row| row["value"].as_str().unwrap().to_owned()).collect()
}

/// This hour; no test begins a few minutes before the next, or it would end in another one.
fn hour() -> DateTime<Utc> {
    let now = || Utc::now().timestamp() / 3600;
    while (Utc::now() + TimeDelta::minutes(3)).timestamp() / 3600 != now() {
        std::thread::sleep(std::time::Duration::from_secs(5));
    }
    DateTime::from_timestamp(now() * 3600, 0).unwrap()
}

#[test]
fn an_hour_ends_where_the_next_begins() {
    let hour = hour();
    let ago = |hours: i64| hour - TimeDelta::hours(hours);
    let name = |hours: i64| ago(hours).format("%Y-%m-%dT%H").to_string();
    let at = |hours: i64, rest: &str| format!("{}:{rest}", ago(hours).format("%Y-%m-%d %H"));
    let sandbox = project("hour", &at(3, "00:00"), "");
    deliver(
        &sandbox,
        &[
            (at(4, "59:59.999999"), "too early"),
            (at(3, "00:00"), "first of an hour"),
            (at(3, "59:59.999999"), "last of an hour"),
            (at(2, "00:00"), "first of the next"),
            (at(0, "00:00"), "now"),
        ],
    );
    let run = build(&sandbox, &[]);
    assert_eq!(run["reason"], format!("first build: 4 batches: {} .. {}", name(3), name(0)), "{run}");
    assert_eq!(values(&sandbox), ["first of an hour", "last of an hour", "first of the next", "now"]);
    // Late rows of two hours, one of which is asked for, by a moment within it.
    deliver(&sandbox, &[(at(3, "30:00"), "late"), (at(2, "30:00"), "late as well")]);
    let asked = build(&sandbox, &["--event-time-start", &at(3, "10:00"), "--event-time-end", &at(2, "00:00")]);
    assert_eq!(asked["reason"], format!("asked for 1 batch: {}", name(3)), "{asked}");
    assert_eq!(values(&sandbox), ["first of an hour", "late", "last of an hour", "first of the next", "now"]);
    if let Some(python) = reader::python() {
        reader::assert_agree(&python, &sandbox, "lake", "gold.copy");
    }
}

#[test]
fn years_of_batches_are_one_range() {
    let this_year = Utc::now().year();
    let sandbox = project("year", "2019-07-01", "");
    deliver(
        &sandbox,
        &[
            ("2018-12-31 23:59:59".to_owned(), "too early"),
            // A batch is a whole year, also the one that `begin` is in.
            ("2019-01-01 00:00:00".to_owned(), "a"),
            ("2020-02-29 12:00:00".to_owned(), "b"),
            ("2020-12-31 23:59:59.999".to_owned(), "c"),
            ("2023-06-01 00:00:00".to_owned(), "d"),
        ],
    );
    let run = build(&sandbox, &[]);
    let batches = this_year - 2018;
    assert_eq!(run["reason"], format!("first build: {batches} batches: 2019 .. {this_year}"), "{run}");
    assert_eq!(values(&sandbox), ["a", "b", "c", "d"]);
    assert_eq!(build(&sandbox, &[])["status"], "skipped");
    deliver(&sandbox, &[("2020-05-05 00:00:00".to_owned(), "late")]);
    let asked = build(&sandbox, &["--event-time-start", "2020-01-01", "--event-time-end", "2021-01-01"]);
    assert_eq!(asked["reason"], "asked for 1 batch: 2020", "{asked}");
    assert_eq!(values(&sandbox), ["a", "b", "late", "c", "d"]);
}

#[test]
fn batches_at_once_and_one_after_another_make_the_same_table() {
    let made = |more: &str, threads: &str| {
        let sandbox = project("month", "2024-01-01", more);
        let lines: Vec<(String, &str)> =
            (0..60).map(|at| (format!("{}-{:02}-15 00:00:00", 2024 + at % 2, 1 + at % 12), "x")).collect();
        deliver(&sandbox, &lines);
        let run = build(&sandbox, &["--threads", threads]);
        assert_eq!(run["status"], "success", "{run}");
        let log = sandbox.json(&["history", "copy", "--limit", "100"]);
        // Versions from the oldest to the newest: how many rows each batch had added to the table by then.
        let mut rows: Vec<i64> =
            log.as_array().unwrap().iter().rev().map(|version| version["rows"].as_i64().unwrap()).collect();
        // That months are known to have no rows is noted, too.
        rows.retain(|rows| *rows > 0);
        rows.dedup();
        assert!(rows.is_sorted() && rows.last() == Some(&60), "{rows:?}");
        let table = sandbox.query("select at, count(*) as n from gold.copy group by at order by at");
        assert_eq!(build(&sandbox, &[])["status"], "skipped");
        (rows, table)
    };
    let one_by_one = made(", concurrent_batches=false", "4");
    let at_once = made("", "4");
    assert_eq!(one_by_one.1, at_once.1);
    // Each month with rows has a commit of its own.
    assert_eq!((one_by_one.0.len(), at_once.0.len()), (12, 12));
    assert_eq!(at_once.1.len(), 12, "{}", json!(at_once.1));
}
