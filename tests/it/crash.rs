//! Builds that are killed, stopped, or overtaken by files or other builds: nothing is lost, and nothing stands twice.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::materialize::{items, rows};
use crate::sandbox::{Random, Run, Sandbox};

const MODELS: [&str; 5] = ["courses", "views", "course_progress", "most_viewed_courses", "users_platforms"];

const APPENDED: &str = "{{ config(materialized='incremental') }} select id, value from {{ source('raw', 'items') }}";

/// All rows of a model in order, without the time at which they were loaded.
fn content(sandbox: &Sandbox, model: &str) -> Vec<String> {
    let mut found = sandbox.json(&["show", model, "--limit", "0"]);
    let lines = found.as_array_mut().unwrap().iter_mut().map(|row| {
        row.as_object_mut().unwrap().remove("loaded_at");
        row.to_string()
    });
    let mut lines: Vec<String> = lines.collect();
    lines.sort_unstable();
    lines
}

/// Every table is the same as if its files had been built at once, without disturbance.
#[track_caller]
fn assert_as_undisturbed(disturbed: &Sandbox, deliveries: usize) {
    disturbed.ok(&["build"]);
    let undisturbed = Sandbox::sample();
    (0..deliveries).for_each(|number| deliver(&undisturbed, number));
    undisturbed.ok(&["build"]);
    for model in MODELS {
        let (found, expected) = (content(disturbed, model), content(&undisturbed, model));
        assert!(!expected.is_empty(), "{model}");
        let [found_set, expected_set] = [&found, &expected].map(|lines| lines.iter().collect::<BTreeSet<_>>());
        let lost: Vec<_> = expected_set.difference(&found_set).take(3).collect();
        let extra: Vec<_> = found_set.difference(&expected_set).take(3).collect();
        assert!(
            found == expected,
            "{model}: {} rows of {}, lost {lost:?}, extra {extra:?}",
            found.len(),
            expected.len()
        );
    }
}

/// A new file of views: some new, and some that every delivery repeats.
fn deliver(sandbox: &Sandbox, number: usize) {
    let mut text = "timestamp,user_id,platform,course_id,chapter_id\n".to_owned();
    for row in 0..20 {
        text.push_str(&format!("2026-04-01 08:00:{row:02},k{number},web,3,1{row}\n"));
        text.push_str(&format!("2026-04-01 09:00:{row:02},,tv,,\n"));
    }
    sandbox.write(&format!("data/bronze/views/delivery_{number:04}.csv"), text);
}

/// No key stands twice in any published table.
#[track_caller]
fn assert_sound(sandbox: &Sandbox) {
    let report = sandbox.json(&["test", "--select", "test_name:unique*"]);
    let tests = report["tests"].as_array().unwrap();
    assert!(tests.len() >= 4 && tests.iter().all(|test| test["status"] == "pass"), "{report}");
}

fn timed_build(sandbox: &Sandbox) -> Duration {
    let start = Instant::now();
    sandbox.ok(&["build"]);
    start.elapsed()
}

fn interrupt(build: &Child) {
    // It fails for a build that has ended, which is not waited for yet and keeps its number.
    Command::new("kill").args(["-INT", &build.id().to_string()]).status().expect("`kill` is on the path");
}

#[test]
fn killed_builds_lose_nothing_and_repeat_nothing() {
    let kills: usize = std::env::var("LAKE_SOAK_KILLS").map_or(12, |count| count.parse().unwrap());
    let mut whole = timed_build(&Sandbox::sample());
    let (sandbox, mut random) = (Sandbox::sample(), Random(0x5eed_1a4e));
    let mut killed = 0;
    for number in 0..kills {
        deliver(&sandbox, number);
        let args: &[&str] = if number % 5 == 4 { &["build", "--full-refresh"] } else { &["build"] };
        let mut build = sandbox.start(args);
        let moment = random.moment(whole);
        std::thread::sleep(moment);
        build.kill().unwrap();
        let status = build.wait().unwrap();
        whole = if status.success() { whole.min(moment) } else { whole };
        assert!(status.signal() == Some(9) || status.success(), "{status}");
        killed += usize::from(status.signal().is_some());
        assert_sound(&sandbox);
    }
    assert!(killed > 0 || kills == 0, "no build was still running when it was killed");
    assert_as_undisturbed(&sandbox, kills);
}

#[test]
fn an_interrupted_build_stops_cleanly() {
    let mut whole = timed_build(&Sandbox::sample());
    let (sandbox, mut random) = (Sandbox::sample(), Random(0xc0_ffee));
    let mut stopped = 0;
    for number in 0..6 {
        deliver(&sandbox, number);
        let mut build = sandbox.start(&["build", "--full-refresh"]);
        let moment = random.moment(whole);
        std::thread::sleep(moment);
        interrupt(&build);
        let status = build.wait().unwrap();
        whole = if status.success() { whole.min(moment) } else { whole };
        // Before the run begins there is nothing to stop, and the signal ends the program as it ends any.
        let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap();
        assert!(code == 130 || code == 0, "{status}");
        if status.code() == Some(130) {
            let text = std::fs::read(sandbox.path(".lake/run_results.json")).unwrap();
            let results: Value = serde_json::from_slice(&text).unwrap();
            let ended = results["results"].as_array().unwrap();
            let models = ended.iter().filter(|ended| ended["unique_id"].as_str().unwrap().starts_with("model."));
            assert!(ended.iter().any(|ended| ended["status"] == "skipped"), "{results}");
            assert_eq!(models.count(), MODELS.len(), "{results}");
            stopped += 1;
        }
        assert_sound(&sandbox);
    }
    assert!(stopped > 0, "no build was stopped while it ran");
    assert_as_undisturbed(&sandbox, 6);
}

#[test]
fn files_that_arrive_while_builds_run_are_taken_in_once() {
    const FILES: u64 = 60;
    let sandbox = items(&[("models/silver/items.sql", APPENDED)]);
    let done = AtomicBool::new(false);
    let mut builds = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for file in 0..FILES {
                let rows: String = (0..5).map(|row| format!("{},x\n", 100 + file * 5 + row)).collect();
                let hidden = format!("in/items/.arriving_{file}.csv");
                sandbox.write(&hidden, format!("id,value\n{rows}"));
                std::fs::rename(sandbox.path(&hidden), sandbox.path(&format!("in/items/n{file}.csv"))).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            sandbox.ok(&["build"]);
            builds += 1;
        }
    });
    sandbox.ok(&["build"]);
    assert!(builds > 1, "the files arrived all at once");
    let ids = sandbox.query("select count(*) as n, count(distinct id) as d, max(id) as top from {{ ref('items') }}");
    let all = 2 + FILES * 5;
    assert_eq!(ids, [json!({"n": all, "d": all, "top": 99 + FILES * 5})]);
}

#[test]
fn builds_at_the_same_time_take_each_file_exactly_once() {
    let sandbox = items(&[("models/silver/items.sql", APPENDED)]);
    for round in 1..=3 {
        for file in 0..5 {
            sandbox.write(&format!("in/items/r{round}_{file}.csv"), format!("id,value\n{round}0{file},x\n"));
        }
        let runs: Vec<Run> = std::thread::scope(|scope| {
            let builds: Vec<_> = (0..3).map(|_| scope.spawn(|| sandbox.lake(&["build"]))).collect();
            builds.into_iter().map(|build| build.join().unwrap()).collect()
        });
        assert!(runs.iter().all(|run| run.code == 0), "round {round}: {runs:#?}");
    }
    let ids = sandbox.query("select count(*) as n, count(distinct id) as d from {{ ref('items') }}");
    assert_eq!(ids, [json!({"n": 17, "d": 17})]);
}

#[test]
fn a_file_that_is_still_being_written_is_not_seen() {
    let sandbox = items(&[("models/silver/items.sql", APPENDED)]);
    sandbox.write("in/items/.2.csv", "id,value\n3,ha");
    sandbox.write("in/items/_tmp/2.csv", "id,value\n3,ha");
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items"), ["1 a", "2 b"]);
    sandbox.write("in/items/.2.csv", "id,value\n3,half\n");
    std::fs::rename(sandbox.path("in/items/.2.csv"), sandbox.path("in/items/2.csv")).unwrap();
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items"), ["1 a", "2 b", "3 half"]);
}

#[test]
fn a_file_that_is_removed_takes_no_row_with_it_until_a_full_refresh() {
    let sandbox = items(&[("models/silver/items.sql", APPENDED), ("in/items/2.csv", "id,value\n3,c\n")]);
    sandbox.ok(&["build"]);
    std::fs::remove_file(sandbox.path("in/items/1.csv")).unwrap();
    sandbox.write("in/items/3.csv", "id,value\n4,d\n");
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items"), ["1 a", "2 b", "3 c", "4 d"]);
    sandbox.ok(&["build", "--full-refresh"]);
    assert_eq!(rows(&sandbox, "items"), ["3 c", "4 d"]);
}
