//! Models that keep a history: `materialized: scd2`.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use crate::reader;
use crate::sandbox::{Sandbox, node};

/// A source of people with these rules, and one model `silver.people` over it.
pub fn people(config: &str, rules: &[&str]) -> Sandbox {
    let rules: String = rules.iter().map(|rule| format!("        {rule}\n")).collect();
    let sources = format!(
        "sources:\n  - name: raw\n    root: in\n    tables:\n      - name: people\n        path: people/\n        format: csv\n\
         \x20       columns:\n          - {{ name: Id, data_type: bigint }}\n          - {{ name: name, data_type: varchar }}\n\
         \x20         - {{ name: at, data_type: timestamp }}\n{rules}"
    );
    let sql = format!(
        "{{{{ config(materialized='scd2', unique_key='Id', {config}) }}}}\nselect * from {{{{ source('raw', 'people') }}}}\n"
    );
    Sandbox::new(&[("sources.yml", &sources), ("models/silver/people.sql", &sql)])
}

/// A delivery of people: lines of `id,name,day of January 2026`; an empty part is NULL.
fn deliver(sandbox: &Sandbox, file: &str, lines: &[&str]) {
    let rows: String = lines
        .iter()
        .map(|line| {
            let parts: Vec<&str> = line.split(',').collect();
            let at = parts.get(2).filter(|day| !day.is_empty());
            let at = at.map(|day| format!("2026-01-{day:0>2} 00:00:00")).unwrap_or_default();
            format!("{},{},{at}\n", parts[0], parts[1])
        })
        .collect();
    sandbox.write(&format!("in/people/{file}"), format!("Id,name,at\n{rows}"));
}

/// Sets the modification time of a file: so many days after the first of January 2026.
fn touch(sandbox: &Sandbox, file: &str, days: u64) {
    let time = UNIX_EPOCH + Duration::from_secs(1_767_225_600 + days * 86_400);
    let path = sandbox.path(&format!("in/people/{file}"));
    std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

/// The versions of `silver.people`: `id name from..to`, times as days of January, `*` after the current one, `x` after one
/// that says deleted.
#[track_caller]
pub fn versions(sandbox: &Sandbox) -> Vec<String> {
    let rows = sandbox.query("select * from {{ ref('people') }} order by \"Id\" nulls first, valid_from");
    rows.iter().map(line).collect()
}

fn line(row: &Value) -> String {
    let text =
        |key: &str| row.get(key).filter(|value| !value.is_null()).map(|value| value.to_string().replace('"', ""));
    let day = |key: &str| text(key).map(|time| day(&time)).unwrap_or_default();
    let flag =
        |key: &str, mark: &str| if row.get(key) == Some(&Value::Bool(true)) { mark.to_owned() } else { String::new() };
    format!(
        "{} {} {}..{}{}{}",
        text("Id").unwrap_or_else(|| "-".to_owned()),
        text("name").unwrap_or_else(|| "-".to_owned()),
        day("valid_from"),
        day("valid_to"),
        flag("is_current", "*"),
        flag("is_deleted", "x")
    )
}

/// `2026-01-05T00:00:00` -> `5`; another time as it is.
fn day(time: &str) -> String {
    let known = time.strip_prefix("2026-01-").and_then(|rest| {
        let (day, clock) = rest.split_at_checked(2)?;
        let clock = clock.trim_start_matches(['T', ' ']).trim_end_matches('Z');
        (clock.trim_start_matches("00:00:00").trim_matches(['.', '0']).is_empty())
            .then(|| day.trim_start_matches('0').to_owned())
    });
    known.unwrap_or_else(|| time.to_owned())
}

/// What a build did to the model.
#[track_caller]
fn built(sandbox: &Sandbox) -> (String, String) {
    let report = sandbox.json(&["build"]);
    let found = node(&report, "silver.people");
    assert!(found["status"] == "success" || found["status"] == "skipped", "{found}");
    (found["action"].as_str().unwrap().to_owned(), found["reason"].as_str().unwrap().to_owned())
}

fn commits(sandbox: &Sandbox) -> usize {
    let log = std::fs::read_dir(sandbox.path("lake/silver/people/_delta_log")).unwrap();
    log.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|ending| ending == "json")).count()
}

fn assert_read_by_others(sandbox: &Sandbox) {
    if let Some(python) = reader::python() {
        reader::assert_agree(&python, sandbox, "lake", "silver.people");
    }
}

const BY_TIME: &str = "strategy='timestamp', updated_at='at'";

#[test]
fn versions_stand_in_the_order_of_their_times() {
    let sandbox = people(BY_TIME, &[]);
    deliver(&sandbox, "1.csv", &["1,a,2", "1,b,4", "2,x,2", ",nobody,2"]);
    assert_eq!(built(&sandbox).0, "create");
    let first = ["- nobody 2..*", "1 a 2..4", "1 b 4..*", "2 x 2..*"];
    assert_eq!(versions(&sandbox), first);
    // Known rows, one of them twice: nothing is new.
    deliver(&sandbox, "2.csv", &["1,b,4", "1,b,4", ",nobody,2"]);
    assert_eq!(built(&sandbox).0, "history");
    assert_eq!(versions(&sandbox), first);
    // A row that is late, one that is later than all, one of a key that is NULL, and a new key.
    deliver(&sandbox, "3.csv", &["1,late,3", "1,first,1", "2,y,5", "2,z,6", ",somebody,3", "3,new,9"]);
    assert_eq!(built(&sandbox).0, "history");
    let all = [
        "- nobody 2..3",
        "- somebody 3..*",
        "1 first 1..2",
        "1 a 2..3",
        "1 late 3..4",
        "1 b 4..*",
        "2 x 2..5",
        "2 y 5..6",
        "2 z 6..*",
        "3 new 9..*",
    ];
    assert_eq!(versions(&sandbox), all);
    assert_eq!(built(&sandbox), (String::new(), "no new files in raw.people".to_owned()));
    assert_eq!(commits(&sandbox), 3);
    assert_read_by_others(&sandbox);
}

#[test]
fn the_order_of_deliveries_does_not_matter_by_timestamp() {
    let lines = ["1,a,2", "1,b,4", "1,c,6", "2,x,3", "1,b,4"];
    let at_once = people(BY_TIME, &[]);
    deliver(&at_once, "1.csv", &lines);
    at_once.ok(&["build"]);
    let one_by_one = people(BY_TIME, &[]);
    for (at, line) in lines.iter().rev().enumerate() {
        deliver(&one_by_one, &format!("{at}.csv"), &[line]);
        one_by_one.ok(&["build"]);
    }
    assert_eq!(versions(&at_once), versions(&one_by_one));
}

#[test]
fn rows_that_cannot_be_ordered_are_refused_by_name() {
    for (config, lines, message) in [
        (BY_TIME, ["1,a,2", "1,b,2", "2,x,3"], "have one unique key and one `at`: (Id=1)"),
        (BY_TIME, ["1,a,", "1,b,2", "2,x,3"], "`at` is NULL in new rows of (Id=1)"),
        ("strategy='check', check_cols='all'", ["1,a,2", ",b,2", ",x,3"], "have one unique key: (Id=NULL)"),
        ("strategy='check', check_cols=['Id']", ["1,a,2", ",b,2", ",x,3"], "have one unique key: (Id=NULL)"),
    ] {
        let sandbox = people(config, &[]);
        deliver(&sandbox, "1.csv", &["1,a,1", ",b,1"]);
        sandbox.ok(&["build"]);
        let before = versions(&sandbox);
        deliver(&sandbox, "2.csv", &lines);
        sandbox.lake(&["build"]).assert_failed(1, message);
        assert_eq!(versions(&sandbox), before);
        // The same row twice is one row.
        deliver(&sandbox, "2.csv", &["3,new,2", "3,new,2", "1,a,1"]);
        sandbox.ok(&["build"]);
        assert_eq!(versions(&sandbox).len(), before.len() + 1, "{config}");
    }
}

/// Three dumps; the second one lacks a key, which the third one has again.
fn dumps(config: &str) -> Sandbox {
    let sandbox = people(config, &["snapshot: true"]);
    deliver(&sandbox, "2026-01-02.csv", &["1,a,2", "2,x,2", ",n,2"]);
    deliver(&sandbox, "2026-01-04.csv", &["1,b,4", ",n,2"]);
    deliver(&sandbox, "2026-01-06.csv", &["1,b,4", "2,x,2", ",m,6"]);
    sandbox
}

#[test]
fn every_waiting_dump_is_a_step_of_the_history() {
    let keeps = ["- n 2..6", "- m 6..*", "1 a 2..4", "1 b 4..*", "2 x 2..*"];
    let ends = ["- n 2..6", "- m 6..*", "1 a 2..4", "1 b 4..*", "2 x 2..4", "2 x 6..*"];
    let tells = ["- n 2..6", "- m 6..*", "1 a 2..4", "1 b 4..*", "2 x 2..4", "2 x 4..6x", "2 x 6..*"];
    for strategy in [BY_TIME, "strategy='check', check_cols=['name']", "strategy='check', check_cols='all'"] {
        for (deletes, expected) in [("ignore", &keeps[..]), ("invalidate", &ends), ("new_record", &tells)] {
            let config = format!("{strategy}, hard_deletes='{deletes}'");
            let sandbox = dumps(&config);
            let (action, reason) = built(&sandbox);
            assert_eq!((action.as_str(), reason.as_str()), ("create", "first build; in 3 batches"));
            assert_eq!(versions(&sandbox), expected, "{config}");
            assert_eq!(commits(&sandbox), 3, "{config}");
            assert_eq!(built(&sandbox).1, "no new files in raw.people");
            let one_by_one = dumps(&config);
            for later in ["2026-01-04.csv", "2026-01-06.csv"] {
                let from = one_by_one.path(&format!("in/people/{later}"));
                std::fs::rename(from, one_by_one.path(later)).unwrap();
            }
            one_by_one.ok(&["build"]);
            for later in ["2026-01-04.csv", "2026-01-06.csv"] {
                std::fs::rename(one_by_one.path(later), one_by_one.path(&format!("in/people/{later}"))).unwrap();
                assert_eq!(built(&one_by_one).1, "new: 1 file in raw.people");
            }
            assert_eq!(versions(&one_by_one), expected, "{config}");
            if strategy == BY_TIME {
                assert_read_by_others(&one_by_one);
            }
        }
    }
}

#[test]
fn a_history_goes_back_and_grows_again_from_the_same_dumps() {
    for config in ["strategy='check', check_cols='all', hard_deletes='invalidate'", BY_TIME] {
        let sandbox = dumps(config);
        sandbox.ok(&["build"]);
        let after = versions(&sandbox);
        for to in [1, 0] {
            let back = sandbox.json(&["rollback", "people", "--to", &to.to_string()]);
            assert_eq!(back["tables"][0]["restored"], to, "{back}");
            assert!(versions(&sandbox).len() < after.len(), "{config}: {:?}", versions(&sandbox));
            assert_read_by_others(&sandbox);
            let waiting = if to == 1 { "new: 1 file in raw.people" } else { "new: 1 file in raw.people; in 2 batches" };
            assert_eq!(built(&sandbox).1, waiting, "{config}");
            assert_eq!(versions(&sandbox), after, "{config}");
            assert_eq!(built(&sandbox).1, "no new files in raw.people");
        }
    }
}

#[test]
fn a_key_that_stays_away_ends_once() {
    let sandbox = dumps("strategy='check', check_cols='all', hard_deletes='new_record'");
    sandbox.ok(&["build"]);
    deliver(&sandbox, "2026-01-08.csv", &["1,b,4"]);
    deliver(&sandbox, "2026-01-09.csv", &["1,b,4"]);
    sandbox.ok(&["build"]);
    let of_two = |sandbox: &Sandbox| versions(sandbox).into_iter().filter(|v| v.starts_with('2')).collect::<Vec<_>>();
    let gone = ["2 x 2..4", "2 x 4..6x", "2 x 6..8", "2 x 8..*x"];
    assert_eq!(of_two(&sandbox), gone);
    deliver(&sandbox, "2026-01-10.csv", &["1,b,4", "2,back,10"]);
    sandbox.ok(&["build"]);
    assert_eq!(of_two(&sandbox), [&gone[..3], &["2 x 8..10x", "2 back 10..*"]].concat());
    // What is older than the history knows is not put into it.
    deliver(&sandbox, "2026-01-07.csv", &["1,old,1"]);
    sandbox
        .lake(&["build"])
        .assert_failed(1, "`2026-01-07.csv` of `raw.people` is older than what `silver.people` knows");
    sandbox.lake(&["build", "--since", "2026-01-07"]).assert_failed(1, "build it without --files, --since and --until");
}

#[test]
fn files_of_a_dump_are_one_delivery_and_a_dump_that_is_overwritten_is_another() {
    let config = "strategy='check', check_cols=['name'], hard_deletes='invalidate'";
    let sandbox = people(config, &["snapshot: true"]);
    deliver(&sandbox, "day=2026-01-02/a.csv", &["1,a,1"]);
    deliver(&sandbox, "day=2026-01-02/b.csv", &["2,b,1"]);
    deliver(&sandbox, "day=2026-01-03/a.csv", &["1,a,1"]);
    deliver(&sandbox, "day=2026-01-03/b.csv", &["2,c,1"]);
    sandbox.ok(&["build"]);
    assert_eq!(versions(&sandbox), ["1 a 2..*", "2 b 2..3", "2 c 3..*"]);

    let sandbox = people(config, &["snapshot: true"]);
    for (day, lines) in [(1, ["1,a,1", "2,x,1"]), (3, ["1,b,1", "2,x,1"]), (5, ["1,b,1", "3,y,1"])] {
        deliver(&sandbox, "all.csv", &lines);
        touch(&sandbox, "all.csv", day - 1);
        sandbox.ok(&["build"]);
    }
    assert_eq!(versions(&sandbox), ["1 a 1..3", "1 b 3..*", "2 x 1..5", "3 y 5..*"]);
}

#[test]
fn files_of_changes_are_compared_in_the_order_of_their_times() {
    let sandbox = people("strategy='check', check_cols=['name']", &[]);
    for (file, lines, days) in [("c.csv", "1,a,1", 0), ("a.csv", "1,b,1", 2), ("b.csv", "1,a,1", 4)] {
        deliver(&sandbox, file, &[lines]);
        touch(&sandbox, file, days);
    }
    sandbox.ok(&["build"]);
    assert_eq!(versions(&sandbox), ["1 a 1..3", "1 b 3..5", "1 a 5..*"]);
    // A checked row that says when it changed begins then.
    let sandbox = people("strategy='check', check_cols=['name'], updated_at='at'", &[]);
    deliver(&sandbox, "1.csv", &["1,a,1"]);
    sandbox.ok(&["build"]);
    deliver(&sandbox, "2.csv", &["1,b,7"]);
    sandbox.ok(&["build"]);
    assert_eq!(versions(&sandbox), ["1 a 1..7", "1 b 7..*"]);
}

/// `silver.people` keeps the history of a table that is built from all files in every run.
fn of_a_table(config: &str) -> Sandbox {
    let sandbox = people(config, &[]);
    let sql = std::fs::read_to_string(sandbox.path("models/silver/people.sql")).unwrap();
    sandbox.write("models/silver/people.sql", sql.replace("source('raw', 'people')", "ref('now')"));
    let now = "{{ config(materialized='table') }} select * from {{ source('raw', 'people') }}";
    sandbox.write("models/silver/now.sql", now);
    sandbox.write("models/gold/later.sql", "{{ config(materialized='table') }}\nselect \"Id\", name from {{ ref('people') }} where is_current and valid_to is null");
    sandbox
}

#[test]
fn the_history_of_a_table_begins_at_the_run_that_saw_it() {
    let sandbox = of_a_table("strategy='check', check_cols=['name'], hard_deletes='invalidate'");
    deliver(&sandbox, "1.csv", &["1,a,1", "2,b,1", "3,c,1"]);
    sandbox.ok(&["build"]);
    touch(&sandbox, "1.csv", 1);
    let report = sandbox.json(&["build"]);
    assert_eq!(node(&report, "silver.now")["action"], "unchanged");
    assert!(node(&report, "silver.people")["reason"].as_str().unwrap().starts_with("unchanged"), "{report}");
    // The table is another one, and what is checked of its rows is as it was.
    deliver(&sandbox, "1.csv", &["1,a,2", "2,b,1", "3,c,1"]);
    let report = sandbox.json(&["build"]);
    assert_eq!(node(&report, "silver.now")["action"], "replace");
    let reason = node(&report, "silver.people")["reason"].as_str().unwrap();
    assert!(reason.starts_with("no row changed: silver.now changed"), "{report}");
    assert_eq!(node(&report, "gold.later")["status"], "skipped", "{report}");
    assert_eq!(commits(&sandbox), 1);
    deliver(&sandbox, "1.csv", &["1,a,1", "2,B,1"]);
    let report = sandbox.json(&["build"]);
    assert_eq!(node(&report, "silver.people")["action"], "history", "{report}");
    let found = sandbox.query(
        "select \"Id\" as id, name, valid_to is null as open, is_current as now, \
         coalesce(lead(valid_from) over (partition by \"Id\" order by valid_from) = valid_to, false) as meets, \
         valid_from < coalesce(valid_to, now()) as lasts from {{ ref('people') }} order by 1, valid_from",
    );
    let lines: Vec<String> = found
        .iter()
        .map(|row| row.as_object().unwrap().values().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        lines,
        [
            r#"1 "a" true true false true"#,
            r#"2 "b" false false true true"#,
            r#"2 "B" true true false true"#,
            r#"3 "c" false false false true"#,
        ]
    );
    assert_eq!(sandbox.query("select name from {{ ref('later') }} order by name").len(), 2);
    // A table that lost its files has not lost its people.
    std::fs::remove_dir_all(sandbox.path("lake/silver/now")).unwrap();
    let run = sandbox.lake(&["build", "--select", "people"]);
    run.assert_failed(1, "`silver.now` has no table, and `hard_deletes` would end every current version");
}

#[test]
fn a_history_is_not_built_again() {
    let sandbox = people("strategy='check', check_cols='all', updated_at='at'", &[]);
    deliver(&sandbox, "1.csv", &["1,a,1"]);
    sandbox.ok(&["build"]);
    deliver(&sandbox, "2.csv", &["1,b,2"]);
    let report = sandbox.json(&["build", "--full-refresh"]);
    let found = node(&report, "silver.people");
    assert_eq!(found["action"], "history", "{found}");
    assert!(found["reason"].as_str().unwrap().ends_with("--full-refresh leaves a history as it is"), "{found}");
    let kept = ["1 a 1..2", "1 b 2..*"];
    assert_eq!(versions(&sandbox), kept);
    // Neither by a slip of the pen.
    let sql = std::fs::read_to_string(sandbox.path("models/silver/people.sql")).unwrap();
    sandbox.write(
        "models/silver/people.sql",
        "{{ config(materialized='table') }} select * from {{ source('raw', 'people') }}",
    );
    sandbox.lake(&["build"]).assert_failed(1, "`silver.people` holds a history, and would lose it as `table`");
    sandbox.write("models/silver/people.sql", sql.replace("select *", "select \"Id\", name, at, 1 as n"));
    let why = "no new files in raw.people; its definition changed, and counts from the next delivery on";
    assert_eq!(built(&sandbox).1, why);
    deliver(&sandbox, "new.csv", &["2,x,2"]);
    sandbox.ok(&["build"]);
    sandbox.write("models/silver/people.sql", sql.replace("select *", "select \"Id\", name, at, 'x' as n"));
    deliver(&sandbox, "3.csv", &["1,c,3"]);
    sandbox.lake(&["build"]).assert_failed(1, "column `n` was `bigint` and is now `varchar`");
    sandbox.write("models/silver/people.sql", sql.replace("unique_key='Id'", "unique_key='Id', partition_by='name'"));
    sandbox
        .lake(&["build"])
        .assert_failed(1, "it is partitioned by () and the model by (name); set it back, or begin another");
    assert_eq!(versions(&sandbox), [&kept[..], &["2 x 2..*"]].concat());
}

#[test]
fn a_new_column_alone_makes_no_version() {
    for config in [BY_TIME, "strategy='check', check_cols='all'"] {
        let sandbox = people(config, &["snapshot: true"]);
        deliver(&sandbox, "2026-01-02.csv", &["1,a,2", "2,x,2"]);
        deliver(&sandbox, "2026-01-03.csv", &["1,b,3", "2,x,2"]);
        sandbox.ok(&["build"]);
        let sql = std::fs::read_to_string(sandbox.path("models/silver/people.sql")).unwrap();
        let more = sql.replace("select *", "select *, case when \"Id\" = 2 then 'blue' end as colour");
        sandbox.write("models/silver/people.sql", &more);
        deliver(&sandbox, "2026-01-04.csv", &["1,b,3", "2,x,2"]);
        sandbox.ok(&["build"]);
        let known = ["1 a 2..3", "1 b 3..*", "2 x 2..*"];
        assert_eq!(versions(&sandbox), known, "{config}");
        let colours = "select count(*) as n, max(colour) as colour, max(\"Id\") filter (where colour is not null) as id from {{ ref('people') }}";
        assert_eq!(sandbox.query(colours), [serde_json::json!({"n": 3, "colour": "blue", "id": 2})]);
        // From now on it is a column like any other.
        sandbox.write(
            "models/silver/people.sql",
            more.replace("'blue'", "'red'")
                .replace("*,", "\"Id\", name, case when \"Id\" = 2 then timestamp '2026-01-05' else at end as at,"),
        );
        deliver(&sandbox, "2026-01-05.csv", &["1,b,3", "2,x,2"]);
        sandbox.ok(&["build"]);
        assert_eq!(versions(&sandbox), ["1 a 2..3", "1 b 3..*", "2 x 2..5", "2 x 5..*"], "{config}");
        // A column that is gone stays, and is NULL in new versions.
        sandbox.write("models/silver/people.sql", &sql);
        deliver(&sandbox, "2026-01-06.csv", &["1,b,3", "2,y,6"]);
        sandbox.ok(&["build"]);
        assert_eq!(versions(&sandbox).last().unwrap(), "2 y 6..*");
        assert_eq!(sandbox.value("select count(*) from {{ ref('people') }} where colour = 'red'"), 1);
    }
}

#[test]
fn what_could_not_be_read_is_not_gone() {
    let config = "strategy='check', check_cols=['name'], hard_deletes='invalidate'";
    let sandbox = people(config, &["snapshot: true", "on_bad_row: quarantine"]);
    deliver(&sandbox, "2026-01-02.csv", &["1,a,2", "2,b,2"]);
    sandbox.ok(&["build"]);
    deliver(&sandbox, "2026-01-03.csv", &["1,A,3", "two,b,2"]);
    let report = sandbox.json(&["build"]);
    assert_eq!(node(&report, "silver.people")["rows_quarantined"], 1, "{report}");
    assert_eq!(versions(&sandbox), ["1 a 2..3", "1 A 3..*", "2 b 2..*"]);
    deliver(&sandbox, "2026-01-04.csv", &["1,A,3"]);
    sandbox.ok(&["build"]);
    assert_eq!(versions(&sandbox), ["1 a 2..3", "1 A 3..*", "2 b 2..4"]);
}

#[test]
fn only_files_that_hold_a_touched_key_are_written_again() {
    let sandbox = people(&format!("{BY_TIME}, partition_by='name'"), &[]);
    deliver(&sandbox, "1.csv", &["1,a,1", "2,a,1", "3,b c,1", "4,d,1", "5,,1"]);
    sandbox.ok(&["build"]);
    deliver(&sandbox, "2.csv", &["3,d,2", "5,,1"]);
    sandbox.ok(&["build"]);
    assert_eq!(versions(&sandbox), ["1 a 1..*", "2 a 1..*", "3 b c 1..2", "3 d 2..*", "4 d 1..*", "5 - 1..*"]);
    let log = std::fs::read_to_string(sandbox.path("lake/silver/people/_delta_log/00000000000000000001.json")).unwrap();
    let actions = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let removed: BTreeSet<String> = actions.filter_map(|a| Some(a["remove"]["path"].as_str()?.to_owned())).collect();
    assert!(removed.len() == 1 && removed.iter().all(|path| path.starts_with("name=b")), "{removed:?}");
    assert_read_by_others(&sandbox);
}

#[test]
fn several_key_columns_of_any_case_and_other_names_for_the_times() {
    let sandbox = people(
        "strategy='check', check_cols=['at'], updated_at='at', snapshot_meta_column_names={'dbt_valid_from': 'Since', 'valid_to': 'until', 'is_current': 'is now'}",
        &[],
    );
    let sql = std::fs::read_to_string(sandbox.path("models/silver/people.sql")).unwrap();
    sandbox.write("models/silver/people.sql", sql.replace("unique_key='Id'", "unique_key=['Id', 'name']"));
    deliver(&sandbox, "1.csv", &["1,a,1", "1,b,1", ",,1", "1,,1"]);
    sandbox.ok(&["build"]);
    deliver(&sandbox, "2.csv", &["1,a,3", ",,2", "1,,1"]);
    sandbox.ok(&["build"]);
    let found = sandbox.query("select count(*) as n, count(distinct \"Since\") as since, count(until) as ended, count(*) filter (where \"is now\") as now from {{ ref('people') }}");
    assert_eq!(found, [serde_json::json!({"n": 6, "since": 3, "ended": 2, "now": 4})]);
}

#[test]
fn tests_see_the_history_as_it_will_be() {
    let sandbox = people(BY_TIME, &[]);
    let yaml = "models:\n  - name: people\n    config: { contract: { enforced: true } }\n    columns:\n      - { name: Id, data_type: bigint }\n      - { name: name, data_type: varchar, data_tests: [not_null] }\n      - { name: at, data_type: timestamp }\n      - { name: valid_from, data_type: timestamp }\n      - { name: valid_to, data_type: timestamp }\n      - { name: is_current, data_type: boolean }\n    data_tests:\n      - unique_combination_of_columns: { arguments: { combination_of_columns: [Id, valid_from] } }\n";
    sandbox.write("models/silver/people.yml", yaml);
    deliver(&sandbox, "1.csv", &["1,a,1"]);
    sandbox.ok(&["build"]);
    deliver(&sandbox, "2.csv", &["1,,2"]);
    sandbox.lake(&["build"]).assert_failed(1, "not_null_people_name");
    assert_eq!(versions(&sandbox), ["1 a 1..*"]);
    let lineage = sandbox.lake(&["docs", "lineage", "people.valid_from"]);
    assert!(lineage.code != 101, "{}", lineage.stderr);
}

#[test]
fn a_build_that_dies_loses_and_doubles_no_version() {
    for config in [
        "strategy='check', check_cols='all', hard_deletes='new_record'".to_owned(),
        format!("{BY_TIME}, hard_deletes='invalidate'"),
    ] {
        let undisturbed = dumps(&config);
        undisturbed.ok(&["build"]);
        let expected = versions(&undisturbed);
        for point in ["staged", "staged:2", "manifest-written:2", "published", "published:2", "published:3"] {
            let sandbox = dumps(&config);
            let run = sandbox.command(&["build"]).env("LAKE_FAIL_POINT", point).output().unwrap();
            assert_eq!(run.status.signal(), Some(6), "{point} was not reached");
            sandbox.ok(&["build"]);
            assert_eq!(versions(&sandbox), expected, "{config} {point}");
        }
        // Killed at any moment, and two builds at the same time.
        let sandbox = dumps(&config);
        for millis in [5, 20, 40, 80, 120, 160, 240] {
            let mut build = sandbox.start(&["build"]);
            std::thread::sleep(Duration::from_millis(millis));
            build.kill().unwrap();
            build.wait().unwrap();
        }
        let runs: Vec<_> = std::thread::scope(|scope| {
            let builds: Vec<_> = (0..2).map(|_| scope.spawn(|| sandbox.lake(&["build"]))).collect();
            builds.into_iter().map(|build| build.join().unwrap()).collect()
        });
        assert!(runs.iter().all(|run| run.code == 0), "{runs:#?}");
        assert_eq!(versions(&sandbox), expected, "{config}");
    }
}

#[test]
fn settings_that_do_not_fit_say_what_to_do() {
    let cases: &[(&str, &[&str])] = &[
        ("", &[]),
        ("strategy='timestamp'", &[]),
        ("strategy='timestam', updated_at='at'", &[]),
        ("strategy='timestamp', updated_at='name'", &[]),
        ("strategy='timestamp', updated_at='att', check_cols=['nmae']", &[]),
        ("strategy='check'", &[]),
        ("strategy='check', check_cols='name'", &[]),
        ("strategy='check', check_cols=['nmae']", &[]),
        ("strategy='check', check_cols='all', hard_deletes='invalidate'", &[]),
        ("strategy='check', check_cols='all', hard_deletes='delete'", &[]),
        ("strategy='check', check_cols='all', full_refresh=true", &[]),
        ("strategy='check', check_cols='all', on_schema_change='sync_all_columns'", &[]),
        ("strategy='check', check_cols='all', snapshot_meta_column_names={'valid_from': 'AT'}", &[]),
        ("strategy='check', check_cols='all', snapshot_meta_column_names={'dbt_scd_id': 'id'}", &[]),
        ("strategy='check', check_cols='all', invalidate_hard_deletes=true", &[]),
        ("strategy='check', check_cols='all'", &["on_changed_file: replace"]),
    ];
    let mut shown: Vec<String> = cases
        .iter()
        .map(|(config, rules)| {
            let sandbox = people(config, rules);
            deliver(&sandbox, "1.csv", &["1,a,1"]);
            let run = sandbox.lake(&["compile"]);
            assert_eq!(run.code, 2, "{config}");
            format!("-- {config} {}\n{}", rules.join(", "), run.stderr)
        })
        .collect();
    let with = |name: &str, path: &str, text: &str| {
        let sandbox = people("strategy='check', check_cols='all'", &[]);
        deliver(&sandbox, "1.csv", &["1,a,1"]);
        sandbox.write(path, text);
        let run = sandbox.lake(&["compile"]);
        assert_eq!(run.code, 2, "{name}: {}", run.stderr);
        format!("-- {name}\n{}", run.stderr)
    };
    shown.push(with(
        "no key",
        "models/silver/other.sql",
        "{{ config(materialized='scd2', strategy='check', check_cols='all') }}\nselect 1 as a",
    ));
    shown.push(with(
        "not a history",
        "models/silver/other.sql",
        "{{ config(materialized='table', strategy='check') }}\nselect 1 as a",
    ));
    shown.push(with("dbt's word", "models/silver/other.sql", "{{ config(materialized='snapshot') }}\nselect 1 as a"));
    let yaml = "snapshots:\n  - name: orders_snapshot\n    relation: source('raw', 'people')\n    config: { unique_key: Id, strategy: check, check_cols: all }\n";
    shown.push(with("dbt's YAML", "models/silver/other.yml", yaml));
    shown.push(with("dbt's YAML in its folder", "snapshots/orders.yml", yaml));
    let block = "{% snapshot orders_snapshot %}\n{{ config(unique_key='id', strategy='timestamp', updated_at='updated_at') }}\nselect * from {{ source('raw', 'people') }}\n{% endsnapshot %}\n";
    shown.push(with("dbt's block", "snapshots/orders.sql", block));
    shown.push(with("dbt's block among the models", "models/silver/orders.sql", block));
    crate::sandbox::snapshots().bind(|| insta::assert_snapshot!("scd2@settings", shown.join("\n")));
}
