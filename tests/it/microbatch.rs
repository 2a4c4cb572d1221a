//! Models that run in batches of event time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::reader;
use crate::sandbox::{Random, Sandbox, node};

pub const SOURCES: &str = "sources:
  - name: raw
    root: in
    tables:
      - name: events
        path: events/
        format: csv
        columns:
          - { name: at, data_type: timestamp }
          - { name: value, data_type: varchar }
";

pub const EVENTS: &str =
    "{{ config(materialized='incremental', event_time='at') }} select at, value from {{ source('raw', 'events') }}";

/// The day on which the test runs; no test begins a minute before midnight, or it would end on another one.
fn today() -> NaiveDate {
    static TODAY: OnceLock<NaiveDate> = OnceLock::new();
    *TODAY.get_or_init(|| {
        while (Utc::now() + TimeDelta::minutes(3)).date_naive() != Utc::now().date_naive() {
            std::thread::sleep(std::time::Duration::from_secs(5));
        }
        Utc::now().date_naive()
    })
}

/// A day before today.
fn day(ago: u64) -> String {
    today().checked_sub_days(Days::new(ago)).unwrap().to_string()
}

/// A model in batches of days that begins some days ago.
fn model(begin: u64, more: &str, sql: &str) -> String {
    format!(
        "{{{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='at', batch_size='day', \
         begin='{}'{more}) }}}}\n{sql}",
        day(begin)
    )
}

/// `silver.events`, and `gold.daily` in batches over it.
fn project(begin: u64, more: &str, sql: &str) -> Sandbox {
    Sandbox::new(&[
        ("sources.yml", SOURCES),
        ("models/silver/events.sql", EVENTS),
        ("models/gold/daily.sql", &model(begin, more, sql)),
        ("models/gold/daily.yml", "models:\n  - name: daily\n    columns: [{ name: value, data_tests: [not_null] }]\n"),
    ])
}

const COPY: &str = "select at, value from {{ ref('events') }}";

/// Another file of events: each a day and a value.
fn deliver(sandbox: &Sandbox, events: &[(u64, &str)]) {
    let folder = sandbox.path("in/events");
    let files = std::fs::read_dir(folder).map_or(0, Iterator::count);
    let lines: String = events.iter().map(|(ago, value)| format!("{} 10:00:00,{value}\n", day(*ago))).collect();
    sandbox.write(&format!("in/events/{files}.csv"), format!("at,value\n{lines}"));
}

fn values(sandbox: &Sandbox) -> Vec<String> {
    let rows = sandbox.query("select value from gold.daily order by at, value");
    rows.iter().map(|row| row["value"].as_str().unwrap_or("NULL").to_owned()).collect()
}

/// Builds, and returns what became of the model in batches.
fn build(sandbox: &Sandbox, args: &[&str]) -> Value {
    node(&sandbox.json(&[&["build"], args].concat()), "gold.daily").clone()
}

/// The actions of each commit of the model.
fn commits(sandbox: &Sandbox) -> Vec<Vec<Value>> {
    let folder = std::fs::read_dir(sandbox.path("lake/gold/daily/_delta_log")).unwrap();
    let mut paths: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    paths.sort();
    let actions = |text: String| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    paths.iter().map(|path| actions(std::fs::read_to_string(path).unwrap())).collect()
}

fn count(actions: &[Value], kind: &str) -> usize {
    actions.iter().filter(|action| action.get(kind).is_some()).count()
}

/// The intervals that the newest commit says the table has.
fn intervals(sandbox: &Sandbox) -> Value {
    let commits = commits(sandbox);
    let info = commits.last().unwrap().iter().find_map(|action| action.get("commitInfo")).unwrap();
    info["lake"]["intervals"].clone()
}

#[test]
fn each_batch_replaces_its_own_interval() {
    let sandbox = project(3, "", COPY);
    deliver(&sandbox, &[(9, "too early"), (3, "a"), (2, "b"), (1, "c"), (0, "d")]);
    let first = build(&sandbox, &[]);
    assert_eq!(first["action"], "create", "{first}");
    assert_eq!(first["reason"], format!("first build: 4 batches: {} .. {}", day(3), day(0)), "{first}");
    assert_eq!(first["rows"], 4, "{first}");
    assert_eq!(values(&sandbox), ["a", "b", "c", "d"]);
    assert_eq!(commits(&sandbox).len(), 4);
    // Four days are one range, up to the moment of the run.
    let known = intervals(&sandbox);
    assert_eq!(known.as_array().unwrap().len(), 1, "{known}");
    assert_eq!(known[0][0], format!("{}T00:00:00Z", day(3)));
    let until: DateTime<Utc> = known[0][1].as_str().unwrap().parse().unwrap();
    assert_eq!(until.date_naive(), today());
    let again = build(&sandbox, &[]);
    assert_eq!((&again["status"], &again["reason"]), (&json!("skipped"), &json!("no batch is due")));
    // Late rows: those of yesterday are looked for, those of three days ago are not, as in dbt.
    deliver(&sandbox, &[(3, "late"), (1, "later"), (0, "e")]);
    let second = build(&sandbox, &[]);
    assert_eq!(second["action"], "microbatch", "{second}");
    let expected = format!("silver.events changed: version 0 -> 1; 2 batches: {} .. {}", day(1), day(0));
    assert_eq!(second["reason"], expected);
    assert_eq!(values(&sandbox), ["a", "b", "c", "later", "d", "e"]);
    // A file of one interval goes as it is, and no other file is touched.
    let last = commits(&sandbox);
    for actions in &last[last.len() - 2..] {
        assert_eq!((count(actions, "remove"), count(actions, "add") > 0), (1, true), "{actions:?}");
    }
    let third = build(&sandbox, &["--event-time-start", &day(3), "--event-time-end", &day(2)]);
    assert_eq!(third["reason"], format!("asked for 1 batch: {}", day(3)));
    assert_eq!(values(&sandbox), ["a", "late", "b", "c", "later", "d", "e"]);
    assert_eq!(build(&sandbox, &[])["status"], "skipped");
    if let Some(python) = reader::python() {
        reader::assert_agree(&python, &sandbox, "lake", "gold.daily");
    }
}

#[test]
fn intervals_go_back_with_their_table_and_are_made_again() {
    let sandbox = project(3, "", COPY);
    deliver(&sandbox, &[(3, "a"), (2, "b"), (1, "c"), (0, "d")]);
    // One after the other, or nobody could say which days the second version has.
    sandbox.ok(&["build", "--threads", "1"]);
    let (after, known) = (values(&sandbox), intervals(&sandbox));
    sandbox.ok(&["rollback", "daily", "--to", "1"]);
    assert_eq!(values(&sandbox), ["a", "b"]);
    let back = intervals(&sandbox);
    assert_eq!((&back[0][0], &back[0][1]), (&known[0][0], &json!(format!("{}T00:00:00Z", day(1)))), "{back}");
    let run = build(&sandbox, &[]);
    assert_eq!(run["reason"], format!("2 batches: {} .. {}", day(1), day(0)), "{run}");
    assert_eq!((values(&sandbox), &intervals(&sandbox)[0][0]), (after, &known[0][0]));
    assert_eq!(build(&sandbox, &[])["status"], "skipped");
}

#[test]
fn a_failed_batch_leaves_a_gap_that_a_later_run_fills() {
    let strict = "select at, cast(cast(value as bigint) as varchar) as value from {{ ref('events') }}";
    let sandbox = project(4, "", strict);
    deliver(&sandbox, &[(4, "4"), (3, "x"), (2, "2"), (1, "1"), (0, "0")]);
    let run = build(&sandbox, &[]);
    assert_eq!(run["status"], "error", "{run}");
    let reason = run["reason"].as_str().unwrap();
    assert!(reason.starts_with(&format!("1 of 5 batches failed: {} (", day(3))), "{reason}");
    assert!(reason.contains("'x'") && reason.ends_with("; the other 4 are published"), "{reason}");
    assert_eq!(values(&sandbox), ["4", "2", "1", "0"]);
    assert_eq!(intervals(&sandbox).as_array().unwrap().len(), 2);
    // Nothing changed but the query: the gap is due, and nothing else.
    let lenient =
        "select at, coalesce(cast(try_cast(value as bigint) as varchar), '?') as value from {{ ref('events') }}";
    sandbox.write("models/gold/daily.sql", model(4, "", lenient));
    let run = build(&sandbox, &[]);
    assert_eq!(run["reason"], format!("1 batch: {}, it was missing", day(3)), "{run}");
    assert_eq!(values(&sandbox), ["4", "?", "2", "1", "0"]);
    assert_eq!(intervals(&sandbox).as_array().unwrap().len(), 1);
    let run = build(&sandbox, &[]);
    assert_eq!(run["reason"], "no batch is due", "{run}");
}

#[test]
fn a_row_of_a_whole_query_without_a_time_is_not_lost() {
    let sql = |from: &str| {
        format!("select case when value <> 'lost' then at end as at, value from {{{{ ref('events'){from} }}}}")
    };
    for from in ["", ".render()"] {
        let sandbox = project(2, "", &sql(from));
        deliver(&sandbox, &[(1, "a"), (1, "lost"), (0, "b")]);
        let run = build(&sandbox, &[]);
        assert_eq!(run["status"], "error", "{run}");
        let reason = run["reason"].as_str().unwrap();
        assert!(reason.contains("`at` outside of the batch: NULL"), "{reason}");
        sandbox.write("models/gold/daily.sql", model(2, "", &format!("{} where value <> 'lost'", sql(from))));
        build(&sandbox, &[]);
        assert_eq!(values(&sandbox), ["a", "b"]);
    }
}

#[test]
fn a_batch_whose_tests_fail_is_not_published_and_what_it_replaces_stays() {
    let sandbox = project(2, "", "select at, nullif(value, 'bad') as value from {{ ref('events') }}");
    deliver(&sandbox, &[(2, "a"), (1, "b"), (0, "c")]);
    build(&sandbox, &[]);
    deliver(&sandbox, &[(1, "bad"), (0, "d")]);
    let run = build(&sandbox, &[]);
    assert_eq!(run["status"], "error");
    let reason = run["reason"].as_str().unwrap();
    assert!(reason.contains("1 of 2 batches failed") && reason.contains("not_null_daily_value"), "{reason}");
    assert_eq!(values(&sandbox), ["a", "b", "c", "d"]);
    // The inputs are as they were, and still the batch that failed is due.
    let run = build(&sandbox, &[]);
    assert!(run["reason"].as_str().unwrap().starts_with(&format!("1 of 1 batch failed: {}", day(1))), "{run}");
    sandbox.write("models/gold/daily.sql", model(2, "", "select at, value from {{ ref('events') }}"));
    build(&sandbox, &[]);
    assert_eq!(values(&sandbox), ["a", "b", "bad", "c", "d"]);
}

#[test]
fn rows_of_another_interval_are_refused() {
    let sql = "select at + case when value = 'moved' then interval '1 day' else interval '0 days' end as at, value \
               from {{ ref('events') }}";
    let sandbox = project(2, "", sql);
    deliver(&sandbox, &[(2, "a"), (2, "moved"), (1, "b")]);
    let run = build(&sandbox, &[]);
    let expected = format!(
        "1 of 3 batches failed: {} (1 row of the query has `at` outside of the batch: {}T10:00:00); the other 2 are published",
        day(2),
        day(1)
    );
    assert_eq!(run["reason"], expected);
    assert_eq!(values(&sandbox), ["b"]);
}

#[test]
fn what_is_not_cut_by_time_is_read_whole() {
    // Every batch reads all values by `.render()`, and its own events beside them.
    let sql = "select e.at, e.value || '/' || cast((select count(*) from {{ ref('events').render() }}) as varchar) as value \
               from {{ ref('events') }} e";
    let sandbox = project(2, "", sql);
    deliver(&sandbox, &[(2, "a"), (1, "b"), (0, "c")]);
    build(&sandbox, &[]);
    assert_eq!(values(&sandbox), ["a/3", "b/3", "c/3"]);
    // Without an input that is cut, a batch keeps its own rows of all.
    sandbox.write("models/gold/daily.sql", model(2, "", "select at, value from {{ ref('events').render() }}"));
    let run = sandbox.lake(&["build", "--full-refresh"]);
    assert!(run.stderr.contains("every batch of `gold.daily` reads all of its inputs"), "{}", run.stderr);
    assert_eq!(values(&sandbox), ["a", "b", "c"]);
    assert_eq!(sandbox.value("select count(*) from gold.daily"), 3);
}

#[test]
fn a_model_that_reads_itself_runs_in_order() {
    let sql = "select at, cast(value as bigint) + {% if is_incremental() %}coalesce(m.top, 0)\
               {% else %}0{% endif %} as value from {{ ref('events') }} e\
               {% if is_incremental() %} cross join (select max(value) as top from {{ this }}) m{% endif %}";
    let sandbox = project(3, "", sql);
    deliver(&sandbox, &[(3, "1"), (2, "10"), (1, "100"), (0, "1000")]);
    let sums = |sandbox: &Sandbox| {
        let rows = sandbox.query("select value from gold.daily order by at");
        rows.iter().map(|row| row["value"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    build(&sandbox, &[]);
    assert_eq!(sums(&sandbox), [1, 11, 111, 1111]);
    build(&sandbox, &["--full-refresh"]);
    assert_eq!(sums(&sandbox), [1, 11, 111, 1111]);
    assert_eq!(commits(&sandbox).len(), 5);
}

#[test]
fn a_full_refresh_is_one_commit() {
    let sandbox = project(3, "", COPY);
    deliver(&sandbox, &[(3, "a"), (2, "b"), (0, "c")]);
    build(&sandbox, &[]);
    let before = commits(&sandbox).len();
    deliver(&sandbox, &[(3, "late")]);
    let run = build(&sandbox, &["--full-refresh"]);
    assert_eq!(run["action"], "replace", "{run}");
    assert_eq!(run["reason"], format!("full refresh: 4 batches: {} .. {}", day(3), day(0)));
    assert_eq!((values(&sandbox).len(), commits(&sandbox).len()), (4, before + 1));
    // With a range it is all that there is, as in dbt, and what is missing since `begin` is due in the next run.
    let run = build(&sandbox, &["--full-refresh", "--event-time-start", &day(2), "--event-time-end", &day(1)]);
    assert_eq!(run["reason"], format!("full refresh: 1 batch: {}", day(2)));
    assert_eq!(values(&sandbox), ["b"]);
    let run = build(&sandbox, &[]);
    assert_eq!(run["reason"], format!("3 batches: {}, {} .. {}, one was missing", day(3), day(1), day(0)), "{run}");
    assert_eq!(values(&sandbox), ["a", "late", "b", "c"]);
    // A batch that fails lets the table be.
    sandbox.write(
        "models/gold/daily.sql",
        model(3, "", "select at, cast(cast(value as int) as varchar) as value from {{ ref('events') }}"),
    );
    let run = build(&sandbox, &["--full-refresh"]);
    assert!(run["reason"].as_str().unwrap().ends_with("nothing was published"), "{run}");
    assert_eq!(values(&sandbox), ["a", "late", "b", "c"]);
}

#[test]
fn batches_of_a_burst_are_one_commit() {
    let sandbox = project(3, ", lookback=3", COPY);
    deliver(&sandbox, &[(3, "a"), (2, "b"), (1, "c"), (0, "d")]);
    let report = build(&sandbox, &["--atomic"]);
    assert_eq!((&report["action"], &report["rows"], &report["version"]), (&json!("create"), &json!(4), &json!(0)));
    deliver(&sandbox, &[(3, "late"), (0, "e")]);
    build(&sandbox, &["--atomic"]);
    assert_eq!(values(&sandbox), ["a", "late", "b", "c", "d", "e"]);
    assert_eq!((commits(&sandbox).len(), intervals(&sandbox).as_array().unwrap().len()), (2, 1));
    // Rows that are refused are kept, with those of all batches, and nothing is published.
    deliver(&sandbox, &[(1, ""), (0, "f")]);
    sandbox.lake(&["build", "--atomic"]).assert_failed(1, "not_null_daily_value");
    assert_eq!((values(&sandbox).len(), commits(&sandbox).len()), (6, 2));
    assert_eq!(sandbox.json(&["show", "--staged", "daily", "--limit", "0"]).as_array().unwrap().len(), 8);
}

#[test]
fn batches_of_a_burst_that_read_the_table_see_those_before_them() {
    let sql = format!(
        "select at, value{} from {{{{ ref('events') }}}}",
        "{% if is_incremental() %} || coalesce((select max(value) from {{ this }}), '') {% endif %} as value"
    );
    let sandbox = project(3, ", lookback=1", &sql);
    deliver(&sandbox, &[(3, "a"), (2, "b"), (1, "c")]);
    build(&sandbox, &["--atomic"]);
    assert_eq!(values(&sandbox), ["a", "ba", "cba"]);
    deliver(&sandbox, &[(1, "d"), (0, "e")]);
    build(&sandbox, &["--atomic"]);
    // Yesterday is made again and sees the table as it was; today sees the new yesterday.
    assert_eq!(values(&sandbox), ["a", "ba", "ccba", "dcba", "edcba"]);
    assert_eq!(commits(&sandbox).len(), 2);
}

#[test]
fn old_batches_have_the_columns_of_new_ones() {
    let sandbox =
        project(3, ", on_schema_change='sync_all_columns'", "select at, value, 1 as old from {{ ref('events') }}");
    deliver(&sandbox, &[(3, "a"), (1, "c")]);
    build(&sandbox, &[]);
    sandbox.write(
        "models/gold/daily.sql",
        model(3, ", on_schema_change='sync_all_columns'", "select at, value, 2.5 as new from {{ ref('events') }}"),
    );
    deliver(&sandbox, &[(1, "d")]);
    build(&sandbox, &[]);
    let rows = sandbox.query("select value, new from gold.daily order by value");
    assert_eq!(rows, [json!({"value": "a"}), json!({"value": "c", "new": 2.5}), json!({"value": "d", "new": 2.5})]);
    if let Some(python) = reader::python() {
        reader::assert_agree(&python, &sandbox, "lake", "gold.daily");
    }
}

#[test]
fn an_earlier_beginning_and_another_size_find_what_is_missing() {
    let sandbox = project(1, "", COPY);
    deliver(&sandbox, &[(40, "old"), (3, "a"), (1, "b"), (0, "c")]);
    build(&sandbox, &[]);
    assert_eq!(values(&sandbox), ["b", "c"]);
    sandbox.write("models/gold/daily.sql", model(3, "", COPY));
    let run = build(&sandbox, &[]);
    assert_eq!(run["reason"], format!("2 batches: {} .. {}, 2 were missing", day(3), day(2)), "{run}");
    assert_eq!(values(&sandbox), ["a", "b", "c"]);
    // Months that are done in part are run as a whole, and take the place of the days.
    sandbox.write("models/gold/daily.sql", model(40, "", COPY).replace("'day'", "'month'"));
    let run = build(&sandbox, &[]);
    assert_eq!(run["status"], "success", "{run}");
    assert_eq!(values(&sandbox), ["old", "a", "b", "c"]);
    // Days out of files of months: only these are written again, and their other rows stay.
    sandbox.write("models/gold/daily.sql", model(40, "", COPY));
    deliver(&sandbox, &[(1, "late"), (0, "later")]);
    build(&sandbox, &[]);
    assert_eq!(values(&sandbox), ["old", "a", "b", "late", "c", "later"]);
}

#[test]
fn times_of_all_types_and_sources_without_a_manifest() {
    let sources = SOURCES.replace("        columns:\n", "        config: { event_time: at }\n        columns:\n");
    for (kind, partition) in [("date", ", partition_by=['at']"), ("timestamp", ""), ("timestamp with time zone", "")] {
        let sql = format!("select cast(at as {kind}) as at, value as \"Value\" from {{{{ source('raw', 'events') }}}}");
        let sandbox = Sandbox::new(&[("sources.yml", &sources), ("models/gold/daily.sql", &model(2, partition, &sql))]);
        deliver(&sandbox, &[(3, "early"), (2, "a"), (1, "b"), (0, "c")]);
        sandbox.ok(&["build"]);
        let rows = |sandbox: &Sandbox| {
            let rows = sandbox.query("select \"Value\" as v from gold.daily order by at, v");
            rows.iter().map(|row| row["v"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(rows(&sandbox), ["a", "b", "c"], "{kind}");
        deliver(&sandbox, &[(1, "d")]);
        let run = build(&sandbox, &[]);
        assert_eq!(run["reason"], format!("files of raw.events changed; 2 batches: {} .. {}", day(1), day(0)));
        assert_eq!(rows(&sandbox), ["a", "b", "d", "c"], "{kind}");
        let last = commits(&sandbox);
        let removed: usize = last[last.len() - 2..].iter().map(|actions| count(actions, "remove")).sum();
        assert_eq!(removed, 2, "{kind}: {last:?}");
        assert!(!sandbox.path("lake/gold/daily/_lake/manifest").exists());
    }
}

#[test]
fn files_whose_paths_tell_the_day_are_read_by_its_batch_alone() {
    let sources = SOURCES.replace(
        "path: events/\n",
        "path: events/\n        event_time: dt\n        partition_columns: [{ name: dt, data_type: date }]\n",
    );
    let sql =
        model(2, "", "select dt as at, value || date_part('year', at) as value from {{ source('raw', 'events') }}");
    let sandbox = Sandbox::new(&[("sources.yml", &sources), ("models/gold/daily.sql", &sql)]);
    for ago in 0..4 {
        sandbox.write(&format!("in/events/dt={}/1.csv", day(ago)), format!("at,value\n2000-01-01 00:00:00,{ago}\n"));
    }
    // A file that nobody reads may be as it likes.
    sandbox.write(&format!("in/events/dt={}/2.csv", day(3)), "at,value\nnever,x\n");
    build(&sandbox, &[]);
    assert_eq!(values(&sandbox), ["22000", "12000", "02000"]);
    sandbox.write(&format!("in/events/dt={}/2.csv", day(1)), "at,value\nnever,x\n");
    let run = build(&sandbox, &[]);
    let reason = run["reason"].as_str().unwrap();
    assert!(
        reason.starts_with(&format!("1 of 2 batches failed: {} (", day(1))) && reason.contains("2.csv"),
        "{reason}"
    );
    assert_eq!(values(&sandbox), ["22000", "12000", "02000"]);
}

#[test]
fn a_run_that_dies_is_as_if_it_had_not_reached_the_batches_that_are_not_published() {
    for point in ["staged:1", "staged:3", "published:1", "published:2", "published:4"] {
        let sandbox = project(3, "", COPY);
        deliver(&sandbox, &[(3, "a"), (2, "b"), (1, "c"), (0, "d")]);
        sandbox.ok(&["build", "--select", "events"]);
        for args in [&["build", "--select", "daily"][..], &["build", "--select", "daily", "--full-refresh"]] {
            let died = sandbox.command(args).env("LAKE_FAIL_POINT", point).output().unwrap();
            if args.len() == 3 {
                assert!(!died.status.success(), "{point}");
            }
            sandbox.ok(&["build"]);
            assert_eq!(values(&sandbox), ["a", "b", "c", "d"], "{point} {args:?}");
            assert_eq!(intervals(&sandbox).as_array().unwrap().len(), 1, "{point} {args:?}");
            let run = build(&sandbox, &[]);
            assert_eq!(run["status"], "skipped", "{point} {args:?}: {run}");
        }
    }
}

#[test]
fn runs_at_the_same_time_do_not_disturb_one_another() {
    let sandbox = project(5, "", COPY);
    for round in 0..3 {
        let events: Vec<(u64, &str)> = (0..6).map(|ago| (ago, "x")).collect();
        deliver(&sandbox, &events);
        sandbox.ok(&["build", "--select", "events"]);
        let range = ["--event-time-start", &day(5), "--event-time-end", &day(2)];
        std::thread::scope(|scope| {
            let plain = || scope.spawn(|| sandbox.lake(&["build", "--select", "daily"]));
            let asked = scope.spawn(|| sandbox.lake(&[&["build", "--select", "daily"], &range[..]].concat()));
            for run in [plain(), plain(), asked] {
                let run = run.join().unwrap();
                assert_eq!(run.code, 0, "{run:#?}");
            }
        });
        // What was asked for has all rows, and so has what is looked back at; the day between is older.
        sandbox.ok(&["build", "--select", "daily", "--event-time-start", &day(2), "--event-time-end", &day(1)]);
        let rows = sandbox.query("select cast(at as date) as d, count(*) as n from gold.daily group by 1 order by 1");
        let expected: Vec<Value> = (0..6).rev().map(|ago| json!({"d": day(ago), "n": round + 1})).collect();
        assert_eq!(rows, expected);
    }
}

#[test]
fn a_commit_of_another_program_does_not_hide_what_is_known() {
    let sandbox = project(2, "", COPY);
    deliver(&sandbox, &[(2, "a"), (1, "b"), (0, "c")]);
    build(&sandbox, &[]);
    let version = commits(&sandbox).len();
    let path = format!("lake/gold/daily/_delta_log/{version:020}.json");
    sandbox.write(&path, "{\"commitInfo\":{\"timestamp\":1,\"operation\":\"OPTIMIZE\"}}\n");
    let run = build(&sandbox, &[]);
    assert_eq!(run["reason"], "no batch is due", "{run}");
    // What nobody knows is not guessed.
    for entry in std::fs::read_dir(sandbox.path("lake/gold/daily/_delta_log")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap().replace("\"lake\":{", "\"snow\":{");
        std::fs::write(&path, text).unwrap();
    }
    let run = build(&sandbox, &[]);
    assert_eq!(run["status"], "error");
    assert!(run["reason"].as_str().unwrap().contains("--full-refresh rebuilds it"), "{run}");
    build(&sandbox, &["--full-refresh"]);
    assert_eq!(values(&sandbox), ["a", "b", "c"]);
}

#[test]
fn the_flags_say_what_they_take() {
    let sandbox = project(2, "", COPY);
    sandbox.lake(&["build", "--event-time-start", "2026-01-01"]).assert_failed(2, "--event-time-end");
    let wrong = ["build", "--event-time-start", "2026-01-02", "--event-time-end", "2026-01-02"];
    sandbox
        .lake(&wrong)
        .assert_failed(2, "--event-time-start `2026-01-02` is not before --event-time-end `2026-01-02`");
    let wrong = ["build", "--event-time-start", "monday", "--event-time-end", "2026-01-02"];
    sandbox.lake(&wrong).assert_failed(2, "`monday` is not a day such as");
}

/// A table in memory that does what the documentation says.
#[derive(Default)]
struct Truth {
    /// Events by the days that they are of, as they were delivered.
    delivered: BTreeMap<u64, Vec<String>>,
    /// The table.
    table: BTreeMap<u64, Vec<String>>,
    /// Days that it has.
    done: BTreeSet<u64>,
    /// Events were delivered since the last batch was published.
    changed: bool,
}

#[test]
fn batches_are_those_of_a_table_in_memory() {
    let rounds: u64 = std::env::var("LAKE_SOAK_ROUNDS").map_or(14, |count| count.parse().unwrap());
    const DAYS: u64 = 6;
    let strict = "select at, cast(cast(value as bigint) as varchar) as value from {{ ref('events') }}";
    let lenient = "select at, value from {{ ref('events') }}";
    let (sandbox, mut random, mut truth) = (project(DAYS - 1, "", strict), Random(0x0ba7_c4e5), Truth::default());
    let (mut exists, mut failures) = (false, 0);
    for round in 0..rounds {
        if random.below(3) > 0 {
            let events: Vec<(u64, String)> = (0..1 + random.below(3))
                .map(|at| {
                    let bad = random.below(6) == 0;
                    (random.below(DAYS + 1), if bad { format!("x{round}") } else { format!("{}", round * 10 + at) })
                })
                .collect();
            deliver(&sandbox, &events.iter().map(|(ago, value)| (*ago, value.as_str())).collect::<Vec<_>>());
            for (ago, value) in events {
                truth.delivered.entry(ago).or_default().push(value);
            }
            truth.changed = true;
        }
        let is_strict = random.below(3) > 0;
        sandbox.write("models/gold/daily.sql", model(DAYS - 1, "", if is_strict { strict } else { lenient }));
        let mut args = vec!["build".to_owned()];
        let asked = (random.below(4) == 0).then(|| {
            let first = random.below(DAYS);
            (first, random.below(first + 1))
        });
        if let Some((first, last)) = asked {
            let end = today().checked_sub_days(Days::new(last)).unwrap().checked_add_days(Days::new(1)).unwrap();
            args.extend(["--event-time-start".into(), day(first), "--event-time-end".into(), end.to_string()]);
        }
        if truth.delivered.is_empty() {
            continue;
        }
        let due: Vec<u64> = (0..DAYS)
            .filter(|ago| match asked {
                Some((first, last)) => (last..=first).contains(ago),
                None => !truth.done.contains(ago) || truth.changed && *ago <= 1,
            })
            .collect();
        let is_bad =
            |ago: &u64| truth.delivered.get(ago).is_some_and(|all| all.iter().any(|value| value.starts_with('x')));
        let (failed, made): (Vec<u64>, Vec<u64>) = due.into_iter().partition(|ago| is_strict && is_bad(ago));
        for ago in &made {
            truth.table.insert(*ago, truth.delivered.get(ago).cloned().unwrap_or_default());
            truth.done.insert(*ago);
        }
        if !made.is_empty() {
            truth.done.retain(|ago| !failed.contains(ago));
            truth.changed = false;
            exists = true;
        }
        failures += failed.len();
        let run = sandbox.lake(&args.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(
            run.code,
            i32::from(!failed.is_empty()),
            "round {round}: {args:?} {failed:?}\n{}\n{}",
            run.stdout,
            run.stderr
        );
        if !exists {
            continue;
        }
        let mut expected: Vec<(String, String)> = Vec::new();
        for (ago, all) in &truth.table {
            expected.extend(all.iter().map(|value| (day(*ago), value.clone())));
        }
        expected.sort();
        let rows = sandbox.query("select cast(cast(at as date) as varchar) as d, value from gold.daily");
        let mut found: Vec<(String, String)> = rows
            .iter()
            .map(|row| (row["d"].as_str().unwrap().to_owned(), row["value"].as_str().unwrap().to_owned()))
            .collect();
        found.sort();
        assert_eq!(found, expected, "round {round}: {args:?}");
    }
    assert!(failures > 0, "no batch failed in {rounds} rounds");
}
