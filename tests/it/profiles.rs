//! Profiles: what is kept of each version of a table, what `lake profile` tells of it, and the tests that it suggests.

use serde_json::{Value, json};

use crate::sandbox::{Random, Sandbox};

const SOURCES: &str = "sources:\n  - name: raw\n    tables:\n      - name: views\n        path: in/views/\n        format: csv\n        columns:\n\
    \x20         - { name: id, data_type: bigint }\n          - { name: course, data_type: bigint }\n          - { name: channel, data_type: varchar }\n\
    \x20         - { name: minutes, data_type: double }\n          - { name: at, data_type: timestamp }\n          - { name: day, data_type: date }\n\
    \x20         - { name: email, data_type: varchar, meta: { sensitive: pii } }\n";

fn views(config: &str) -> Sandbox {
    let sql = format!("{{{{ config({config}) }}}}\nselect * from {{{{ source('raw', 'views') }}}}\n");
    let sandbox = Sandbox::new(&[("sources.yml", SOURCES), ("models/silver/views.sql", &sql)]);
    sandbox.deliver(1, 0..1000);
    sandbox
}

impl Sandbox {
    /// Rows with these ids; each tenth channel is missing.
    fn deliver(&self, file: u64, ids: std::ops::Range<u64>) {
        let mut random = Random(ids.end + 1);
        let row = |id: u64| {
            let channel = match id % 10 {
                0 => "",
                1..=6 => "web",
                7 | 8 => "app",
                _ => "tv",
            };
            let (minutes, day) = (random.below(1000) as f64 / 10.0, 1 + id % 28);
            format!(
                "{id},{},{channel},{minutes},2026-01-{day:02}T10:00:00.123,2026-02-{day:02},u{id}@example.org\n",
                id % 40
            )
        };
        let rows: String = ids.map(row).collect();
        self.write(&format!("in/views/{file}.csv"), format!("id,course,channel,minutes,at,day,email\n{rows}"));
    }

    fn profile(&self, flags: &[&str]) -> Value {
        self.json(&[["profile", "views"].as_slice(), flags].concat())
    }
}

fn column<'a>(profile: &'a Value, name: &str) -> &'a Value {
    profile["profile"]["columns"].as_array().unwrap().iter().find(|column| column["column_name"] == name).unwrap()
}

#[test]
fn statistics_of_the_files_make_a_profile_of_every_version() {
    let sandbox = views("materialized='incremental', incremental_strategy='append'");
    sandbox.ok(&["build"]);
    sandbox.deliver(2, 1000..1010);
    sandbox.ok(&["build"]);
    let kept = sandbox.query("select distinct node, version, rows from _lake.profiles order by version");
    assert_eq!(
        kept,
        [
            json!({"node": "silver.views", "version": 0, "rows": 1000}),
            json!({"node": "silver.views", "version": 1, "rows": 1010})
        ]
    );
    let told = sandbox.profile(&[]);
    assert_eq!((&told["profile"]["rows"], &told["changed"]["since_version"]), (&json!(1010), &json!(0)));
    let bounds = |name: &str| (column(&told, name)["min"].clone(), column(&told, name)["max"].clone());
    assert_eq!(bounds("id"), (json!("0"), json!("1009")));
    assert_eq!(bounds("channel"), (json!("app"), json!("web")));
    assert_eq!(bounds("day"), (json!("2026-02-01"), json!("2026-02-28")));
    assert_eq!(bounds("at"), (json!("2026-01-01T10:00:00.123"), json!("2026-01-28T10:00:00.123")));
    assert_eq!((&column(&told, "channel")["nulls"], &column(&told, "id")["nulls"]), (&json!(101), &json!(0)));
    assert_eq!((bounds("email"), &column(&told, "email")["masked"]), ((Value::Null, Value::Null), &json!(true)));
    let shown = sandbox.ok(&["profile", "views"]);
    for text in ["silver.views", "101 (10.0 %)", "rows 1,000 -> 1,010 (+10, +1.0 %)", "id: max 999 -> 1009", "***"] {
        assert!(shown.contains(text), "{shown}");
    }
    assert!(!shown.contains("example.org"), "{shown}");
    assert_eq!(sandbox.profile(&["--version", "0"])["profile"]["rows"], 1000);
    sandbox.lake(&["profile", "views", "--version", "7"]).assert_failed(2, "no profile of version 7");
    sandbox.lake(&["profile", "raw.views"]).assert_failed(2, "is a source");
}

/// What a full profile says, beside plain SQL.
fn compare(sandbox: &Sandbox, told: &Value) {
    let rows = sandbox.query(
        "select count(*) as n, count(distinct id) as ids, count(distinct course) as courses, avg(minutes) as mean, \
         median(minutes) as median, sum(case when channel = 'web' then 1 else 0 end) as web from silver.views",
    );
    let about = |found: &Value, wanted: &Value, part: f64| {
        let (found, wanted) = (found.as_f64().unwrap(), wanted.as_f64().unwrap());
        assert!((found - wanted).abs() <= wanted.abs() * part, "{found} for {wanted}: {told:#}");
    };
    assert_eq!(told["profile"]["rows"], rows[0]["n"]);
    about(&column(told, "id")["distinct_values"], &rows[0]["ids"], 0.05);
    assert_eq!(column(told, "course")["distinct_values"], rows[0]["courses"]);
    about(&column(told, "minutes")["mean"], &rows[0]["mean"], 1e-9);
    about(&column(told, "minutes")["p50"], &rows[0]["median"], 0.05);
    let common: Value = serde_json::from_str(column(told, "channel")["top_values"].as_str().unwrap()).unwrap();
    assert_eq!(common[0], json!(["web", rows[0]["web"]]));
    assert_eq!(
        (&column(told, "channel")["min_length"], &column(told, "channel")["max_length"]),
        (&json!(2), &json!(3))
    );
    let email = column(told, "email");
    assert!(
        email["top_values"].is_null() && email["min_length"].is_null() && !email["distinct_values"].is_null(),
        "{email}"
    );
}

#[test]
fn a_full_profile_knows_what_the_rows_hold() {
    for config in [
        "materialized='table', profile='full'",
        "materialized='incremental', incremental_strategy='append', profile='full'",
        "materialized='incremental', unique_key='id', profile='full'",
    ] {
        let sandbox = views(config);
        sandbox.ok(&["build"]);
        compare(&sandbox, &sandbox.profile(&[]));
        sandbox.deliver(2, 990..1500);
        sandbox.ok(&["build"]);
        let told = sandbox.profile(&[]);
        compare(&sandbox, &told);
        assert_eq!(told["changed"]["since_version"], 0, "{config}");
        let shown = sandbox.ok(&["profile", "views"]);
        assert!(shown.contains("most common") && shown.contains("web 60."), "{shown}");
        let kept = sandbox.query("select count(*) as n, count(sketch) as sketches from _lake.profiles");
        assert_eq!(kept, [json!({"n": 14, "sketches": 12})], "nothing of a sensitive column is kept");
    }
}

#[test]
fn several_batches_of_a_run_add_up() {
    let sandbox = views("materialized='incremental', incremental_strategy='append', profile='full'");
    sandbox.write(
        "sources.yml",
        SOURCES.replace("        format: csv\n", "        format: csv\n        max_files_per_batch: 1\n"),
    );
    sandbox.deliver(2, 1000..1200);
    sandbox.deliver(3, 1200..1500);
    sandbox.ok(&["build"]);
    compare(&sandbox, &sandbox.profile(&[]));
    assert_eq!(sandbox.value("select count(distinct version) as n from _lake.profiles"), 1);
}

#[test]
fn what_is_not_wanted_is_not_kept_and_can_be_asked_for() {
    let sandbox = views("materialized='table', profile='off'");
    sandbox.ok(&["build"]);
    sandbox.lake(&["show", "--inline", "select * from _lake.profiles"]).assert_failed(2, "there is no table");
    compare(&sandbox, &sandbox.profile(&["--full"]));
    sandbox.write("models/silver/views.sql", "{{ config(profile='ful') }} select 1 as a");
    sandbox.lake(&["compile"]).assert_failed(2, "did you mean `full`?");
}

#[test]
fn tests_are_suggested_that_hold() {
    let sandbox = views("materialized='table'");
    sandbox.write(
        "models/silver/courses.sql",
        "{{ config(materialized='table', unique_key='course') }}\nselect distinct course from {{ ref('views') }}\n",
    );
    sandbox.ok(&["build"]);
    let yaml = sandbox.ok(&["test", "suggest", "views"]);
    for line in [
        "- not_null  # no NULL",
        "- unique  # 1,000 different values",
        "- accepted_values: { values: [app, tv, web] }  # 3 different values in 1,000 rows",
        "- accepted_range: { min_value: 0 }  # the least value is 0",
        "- relationships: { to: ref('courses'), field: course }  # all values stand in silver.courses",
    ] {
        assert!(yaml.contains(line), "{line}\n{yaml}");
    }
    assert!(!yaml.contains("example.org"), "{yaml}");
    // As it stands it is a file of the project, and every test of it passes.
    sandbox.write("models/silver/views.yml", &yaml);
    let report = sandbox.json(&["test"]);
    let passed = report["tests"].as_array().unwrap().iter().filter(|test| test["status"] == "pass").count();
    assert_eq!(passed, yaml.matches("          - ").count(), "{report:#}");
    let run = sandbox.lake(&["test", "suggest", "views"]);
    assert!(run.stdout.is_empty() && run.stderr.contains("nothing that `silver.views` is not tested for"), "{run:#?}");
}
