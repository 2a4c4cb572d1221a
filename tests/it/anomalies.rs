//! Tests that judge a table beside its own history: of earlier runs, or of earlier days.

use chrono::{DateTime, Days, Utc};
use serde_json::{Value, json};

use crate::sandbox::{Run, Sandbox};

const SOURCES: &str = "sources:\n  - name: raw\n    tables:\n      - name: events\n        path: in/events/\n        format: csv\n        columns:\n\
    \x20         - { name: at, data_type: timestamp }\n          - { name: amount, data_type: double }\n\
    \x20         - { name: town, data_type: varchar, meta: { sensitive: pii } }\n";

const EVENTS: &str = "{{ config(materialized='table') }}\nselect * from {{ source('raw', 'events') }}\n";

fn events(tests: &str) -> Sandbox {
    Sandbox::new(&[
        ("sources.yml", SOURCES),
        ("models/silver/events.sql", EVENTS),
        ("models/silver/events.yml", &format!("models:\n  - name: events\n{tests}")),
    ])
}

fn rows(at: DateTime<Utc>, amounts: impl IntoIterator<Item = Option<f64>>) -> String {
    let at = at.format("%Y-%m-%dT%H:%M:%S");
    let amount = |amount: Option<f64>| amount.map(|amount| amount.to_string()).unwrap_or_default();
    amounts.into_iter().map(|value| format!("{at},{},Bonn\n", amount(value))).collect()
}

impl Sandbox {
    fn replace_events(&self, rows: &str) {
        self.write("in/events/1.csv", format!("at,amount,town\n{rows}"));
    }

    fn builds(&self) -> (Run, Value) {
        let run = self.lake(&["build", "--output", "json"]);
        let report = serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{run:#?}"));
        (run, report)
    }
}

fn tests(report: &Value) -> &Vec<Value> {
    report["nodes"][0]["tests"].as_array().unwrap()
}

#[test]
fn rows_nulls_and_spread_are_judged_beside_earlier_runs() {
    let sandbox = events(
        "    data_tests:\n      - volume_anomalies: { name: volume }\n    columns:\n      - name: amount\n        data_tests:\n\
        \x20         - null_rate_anomalies: { name: nulls }\n          - distribution_anomalies: { name: spread }\n",
    );
    let usual = |run: usize| {
        let amounts = (0..100 + run % 3).map(|at| (at > run % 2).then_some(100.0 + (at % 10) as f64));
        rows(Utc::now(), amounts)
    };
    for run in 0..7 {
        sandbox.replace_events(&usual(run));
        let (_, report) = sandbox.builds();
        for test in tests(&report) {
            assert_eq!(
                (&test["status"], &test["message"]),
                (&json!("pass"), &json!(format!("learning: {run} of 7 values")))
            );
        }
    }
    sandbox.replace_events(&usual(8));
    let (run, report) = sandbox.builds();
    assert_eq!(run.code, 0, "{report:#}");
    assert!(tests(&report).iter().all(|test| test["message"].is_null() && !test["measured"].is_null()), "{report:#}");

    // Three times as many rows, twenty times as many of them NULL, and the others a hundred times as large.
    let amounts = (0..300).map(|at| (at % 4 > 0).then_some(f64::from(at % 10) * 1000.0));
    sandbox.replace_events(&rows(Utc::now(), amounts));
    let (run, report) = sandbox.builds();
    assert_eq!(run.code, 1);
    let told = |name: &str| {
        let found = tests(&report).iter().find(|test| test["name"] == name).unwrap();
        found["message"].as_str().unwrap().to_owned()
    };
    assert!(told("volume").starts_with("rows is 300, usually 96.552 to 105.448 (score"), "{}", told("volume"));
    assert!(told("nulls").starts_with("null_percent is 25, usually"), "{}", told("nulls"));
    for measure in ["average", "standard_deviation", "median"] {
        assert!(told("spread").contains(&format!("{measure} is")), "{}", told("spread"));
    }
    assert_eq!(sandbox.value("select count(*) as n from silver.events"), json!(102), "the last good version stays");
    let shown = sandbox.ok(&["test", "--failures", "volume"]);
    assert!(shown.contains("300") && shown.contains("least_usual"), "{shown}");

    // What was refused is no history: it is still unusual the tenth time.
    for _ in 0..10 {
        assert_eq!(sandbox.builds().0.code, 1);
    }
    // Unless somebody says that this is how it is from now on.
    let from = Utc::now().format("%Y-%m-%dT%H:%M:%S%.3fZ");
    let yaml = std::fs::read_to_string(sandbox.path("models/silver/events.yml")).unwrap();
    for name in ["volume", "nulls", "spread"] {
        let yaml = std::fs::read_to_string(sandbox.path("models/silver/events.yml")).unwrap_or(yaml.clone());
        let with_start = yaml.replace(&format!("name: {name} "), &format!("name: {name}, training_start: '{from}' "));
        sandbox.write("models/silver/events.yml", with_start);
    }
    sandbox.ok(&["build"]);
    assert_eq!(sandbox.value("select count(*) as n from silver.events"), 300);
}

#[test]
fn a_version_that_is_tested_often_is_one_value() {
    let sandbox = events("    data_tests:\n      - volume_anomalies: { name: volume, min_training_set_size: 2 }\n");
    sandbox.replace_events(&rows(Utc::now(), [Some(1.0)]));
    sandbox.ok(&["build"]);
    for _ in 0..4 {
        assert!(sandbox.ok(&["test"]).contains("learning: 1 of 2 values"));
    }
    assert_eq!(sandbox.value("select count(*) as n from _lake.test_results where version = 0"), 5);
}

#[test]
fn a_table_that_grows_old_is_seen() {
    let sandbox = events(
        "    data_tests:\n      - freshness_anomalies: { name: fresh, timestamp_column: at, min_training_set_size: 3 }\n",
    );
    let hours = chrono::TimeDelta::hours;
    for run in 0..4 {
        sandbox.replace_events(&rows(Utc::now() - hours(2), (0..10 + run).map(|at| Some(f64::from(at)))));
        sandbox.ok(&["build"]);
    }
    // Fresher than ever is nothing bad.
    sandbox.replace_events(&rows(Utc::now(), [Some(1.0)]));
    sandbox.ok(&["build"]);
    sandbox.replace_events(&rows(Utc::now() - hours(72), [Some(2.0)]));
    sandbox.lake(&["build"]).assert_failed(1, "age_in_hours is 72");
}

/// Rows of each day before today: so many, by how many days ago.
fn days(count: u64, of_day: impl Fn(u64) -> Vec<Option<f64>>) -> String {
    let today = Utc::now().date_naive().and_hms_opt(12, 0, 0).unwrap().and_utc();
    (0..=count).map(|ago| rows(today - Days::new(ago), of_day(ago))).collect()
}

#[test]
fn days_are_judged_beside_earlier_days() {
    let sandbox = events(
        "    data_tests:\n      - volume_anomalies: { name: volume, timestamp_column: at }\n    columns:\n      - name: amount\n        data_tests:\n\
        \x20         - null_rate_anomalies: { name: nulls, timestamp_column: at, time_bucket: { period: day, count: 1 } }\n\
        \x20         - distribution_anomalies: { name: spread, timestamp_column: at, measures: [average, max], direction: spike }\n",
    );
    let usual = |ago: u64| (0..20 + ago % 3).map(|at| (at > 0).then_some(at as f64)).collect::<Vec<_>>();
    // Today is not over, whatever it has.
    sandbox.replace_events(&days(16, |ago| if ago == 0 { vec![None] } else { usual(ago) }));
    sandbox.ok(&["build"]);
    // A day without a row.
    sandbox.replace_events(&days(16, |ago| if ago == 2 { Vec::new() } else { usual(ago) }));
    let run = sandbox.lake(&["build"]);
    let day = (Utc::now() - Days::new(2)).format("%Y-%m-%d").to_string();
    run.assert_failed(1, &format!("1 of 3 tests failed: volume ({day}: rows is 0, usually"));
    // One of NULLs and of large values.
    let wild = (0..21).map(|at| (at % 3 > 0).then_some(f64::from(at) * 50.0)).collect::<Vec<_>>();
    sandbox.replace_events(&days(16, |ago| if ago == 1 { wild.clone() } else { usual(ago) }));
    let run = sandbox.lake(&["build"]);
    run.assert_failed(1, "2 of 3 tests failed");
    assert!(run.stdout.contains("null_percent is 33.333") && run.stdout.contains("max is 1000"), "{run:#?}");
    // So long ago that nobody asks.
    sandbox.replace_events(&days(16, |ago| if ago == 6 { wild.clone() } else { usual(ago) }));
    sandbox.ok(&["build"]);
}

#[test]
fn weekends_are_judged_beside_weekends() {
    let weekly =
        "{ name: volume, timestamp_column: at, seasonality: day_of_week, detection_period: { period: day, count: 7 } }";
    let sandbox = events(&format!("    data_tests:\n      - volume_anomalies: {weekly}\n"));
    let quiet = |ago: u64| {
        use chrono::Datelike;
        (Utc::now() - Days::new(ago)).weekday().number_from_monday() > 5
    };
    let many = |ago: u64| vec![Some(1.0); if quiet(ago) { 2 } else { 40 }];
    sandbox.replace_events(&days(80, many));
    sandbox.ok(&["build"]);
    // A quiet day within the week, a loud one at its end.
    let (monday_like, sunday_like) =
        ((1..=7).find(|ago| !quiet(*ago)).unwrap(), (1..=7).find(|ago| quiet(*ago)).unwrap());
    sandbox.replace_events(&days(80, |ago| {
        if ago == monday_like {
            vec![Some(1.0); 2]
        } else if ago == sunday_like {
            vec![Some(1.0); 40]
        } else {
            many(ago)
        }
    }));
    let run = sandbox.lake(&["build"]);
    run.assert_failed(1, "rows is 2, usually");
    assert!(run.stdout.contains("rows is 40, usually"), "{run:#?}");
}

#[test]
fn what_is_declared_wrong_is_told() {
    for (test, told) in [
        ("volume_anomalies: { time_bucket: day }", "`time_bucket` needs `timestamp_column`"),
        ("volume_anomalies: { timestamp_column: at, time_bucket: { period: day, count: 3 } }", "and not 3 days"),
        ("volume_anomalies: { timestamp_column: at, time_bucket: { period: fortnight } }", "fortnight"),
        (
            "volume_anomalies: { timestamp_column: at, training_period: { count: 3 } }",
            "such as `{ period: day, count: 14 }`",
        ),
        ("volume_anomalies: { anomaly_sensitivity: 0 }", "more than 0"),
        ("volume_anomalies: { direction: up }", "spike"),
        ("volume_anomalies: { training_start: soon }", "such as `2026-01-31`"),
        ("volume_anomalies: { timestamp_column: att }", "at"),
        ("freshness_anomalies", "needs `timestamp_column`"),
        (
            "distribution_anomalies: { column_name: amount, measures: [mode] }",
            "`mode` is not measured; known: null_percent",
        ),
        (
            "distribution_anomalies: { column_name: town, measures: [max_length] }",
            "would keep what it measures of sensitive column `town`",
        ),
    ] {
        let sandbox = events(&format!("    data_tests:\n      - {test}\n"));
        let run = sandbox.lake(&["compile"]);
        assert_eq!(run.code, 2, "{test}: {run:#?}");
        assert!(run.stderr.contains(told) && run.stderr.contains("events.yml:4"), "{test}: {}", run.stderr);
    }
    let sandbox = events("    columns:\n      - name: town\n        data_tests: [null_rate_anomalies]\n");
    sandbox.ok(&["compile"]);
}
