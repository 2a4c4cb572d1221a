//! `lake watch`: files that arrive are taken in, one run at a time, until the program is asked to end.

use std::cell::RefCell;
use std::fs::File;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use object_store::{ObjectStoreExt, PutPayload};
use serde_json::Value;

use crate::sandbox::Sandbox;
use crate::services::{self, block_on};

/// On a machine that is busy with other tests, everything takes its time.
const PATIENCE: Duration = Duration::from_secs(120);

const SOURCES: &str = "sources:
  - name: raw
    root: in
    tables:
      - { name: orders, path: orders/, format: csv, columns: [{ name: id, data_type: bigint }] }
      - { name: visits, path: visits/, format: csv, columns: [{ name: id, data_type: bigint }] }
";

fn project() -> Sandbox {
    let sandbox = Sandbox::new(&[
        ("sources.yml", SOURCES),
        (
            "models/silver/orders.sql",
            "{{ config(materialized='incremental') }} select id from {{ source('raw', 'orders') }}",
        ),
        (
            "models/silver/visits.sql",
            "{{ config(materialized='incremental') }} select id from {{ source('raw', 'visits') }}",
        ),
        (
            "models/gold/total.sql",
            "{{ config(materialized='table') }} select sum(id) as total from {{ ref('orders') }}",
        ),
    ]);
    sandbox.write("in/orders/first.csv", "id\n1\n");
    sandbox.write("in/visits/first.csv", "id\n1\n");
    sandbox
}

/// A watch that runs. It writes events, in files that can be read while it does.
struct Watch<'a> {
    sandbox: &'a Sandbox,
    child: RefCell<Child>,
}

impl<'a> Watch<'a> {
    fn start(sandbox: &'a Sandbox, args: &[&str]) -> Self {
        let mut all = vec!["watch", "--log-format", "json"];
        all.extend(args);
        if !args.contains(&"--debounce") {
            all.extend(["--debounce", "200ms"]);
        }
        let mut command = sandbox.command(&all);
        let child = command.stdout(File::create(sandbox.path("out")).unwrap()).stderr(Stdio::null()).spawn().unwrap();
        Self { sandbox, child: child.into() }
    }

    /// Events of one name that have been written until now.
    fn events(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.sandbox.path("out")).unwrap();
        // The last line may not be whole yet.
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event["info"]["name"] == name).collect()
    }

    /// What became of each run that is over: how many nodes it built, and how many it skipped.
    fn runs(&self) -> Vec<(u64, u64)> {
        let count = |event: &Value, what: &str| event["data"]["stats"][what].as_u64().unwrap_or_default();
        self.events("StatsLine").iter().map(|event| (count(event, "pass"), count(event, "no-op"))).collect()
    }

    /// Waits until so many runs are over.
    #[track_caller]
    fn wait(&self, runs: usize) {
        self.until(|| self.events("CommandCompleted").len() >= runs, &format!("{runs} runs"));
    }

    #[track_caller]
    fn until(&self, holds: impl Fn() -> bool, what: &str) {
        let started = Instant::now();
        while !holds() {
            let out = || std::fs::read_to_string(self.sandbox.path("out")).unwrap_or_default();
            let is_over = self.child.borrow_mut().try_wait().unwrap().is_some();
            assert!(!is_over && started.elapsed() < PATIENCE, "waited for {what}\n{}", out());
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    fn signal(&self, name: &str) {
        Command::new("kill")
            .args([name, &self.child.borrow().id().to_string()])
            .status()
            .expect("`kill` is on the path");
    }

    /// Asks it to end, as a service manager does.
    fn stop(&mut self) -> ExitStatus {
        self.end("-TERM")
    }

    fn end(&mut self, signal: &str) -> ExitStatus {
        self.signal(signal);
        self.child.get_mut().wait().unwrap()
    }

    fn total(&self) -> Value {
        self.sandbox.value("select total from gold.total")
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.child.get_mut().kill().ok();
        self.child.get_mut().wait().ok();
    }
}

#[test]
fn new_files_build_what_depends_on_their_source() {
    let sandbox = project();
    let mut watch = Watch::start(&sandbox, &[]);
    watch.wait(1);
    assert_eq!(watch.total(), 1, "what was there is taken in first");
    sandbox.write("in/orders/second.csv", "id\n10\n");
    watch.wait(2);
    assert_eq!(watch.total(), 11);
    assert_eq!(watch.runs(), [(3, 0), (2, 0)], "silver.visits reads another source");
    assert!(watch.stop().success());
    let names = watch.events("Note").iter().map(|event| event["info"]["msg"].to_string()).collect::<String>();
    assert!(names.contains("watching raw.orders (in/orders/), raw.visits (in/visits/) for 3 models"), "{names}");
    assert!(names.contains("raw.orders: 1 file new or changed"), "{names}");
    // Each run is one of the lake's own.
    assert_eq!(sandbox.value("select count(distinct invocation_id) from _lake.runs"), 2);
}

#[test]
fn only_what_is_selected_is_built_and_waited_for() {
    let sandbox = project();
    let mut watch = Watch::start(&sandbox, &["--select", "orders"]);
    watch.wait(1);
    sandbox.write("in/visits/second.csv", "id\n10\n");
    sandbox.write("in/orders/second.csv", "id\n10\n");
    watch.wait(2);
    // As Ctrl-C does.
    assert!(watch.end("-INT").success());
    assert_eq!(watch.runs(), [(1, 0), (1, 0)]);
    assert_eq!(sandbox.value("select count(*) from silver.orders"), 2);
    let none = sandbox.lake(&["watch", "--select", "total"]);
    none.assert_failed(2, "the selected models read no source");
}

#[test]
fn many_files_at_once_are_few_runs() {
    let sandbox = project();
    let mut watch = Watch::start(&sandbox, &["--select", "orders+", "--debounce", "1s"]);
    watch.wait(1);
    for number in 1..=50 {
        sandbox.write(&format!("in/orders/{number}.csv"), "id\n10\n");
    }
    watch.wait(2);
    watch.until(|| sandbox.value("select count(*) from silver.orders") == 51, "all files");
    assert!(watch.stop().success());
    assert!(watch.runs().len() <= 3, "{:?}", watch.runs());
}

#[test]
fn a_file_that_arrives_during_a_run_is_taken_in_by_the_next() {
    let sandbox = project();
    sandbox.write("models/gold/slow.sql", "{{ config(materialized='table', pre_hook={'command': 'while [ ! -e go ]; do sleep 0.05; done'}) }} select id from {{ ref('orders') }}");
    let mut watch = Watch::start(&sandbox, &["--select", "source:raw.orders+"]);
    watch.until(
        || watch.events("LogModelResult").iter().any(|event| event["data"]["node_info"]["node_name"] == "orders"),
        "the files that were there",
    );
    sandbox.write("in/orders/second.csv", "id\n10\n");
    sandbox.write("go", "");
    watch.wait(2);
    assert_eq!(watch.total(), 11);
    assert!(watch.stop().success());
}

#[test]
fn a_run_that_fails_does_not_end_the_watch() {
    let sandbox = project();
    let mut watch = Watch::start(&sandbox, &[]);
    watch.wait(1);
    sandbox.write("in/orders/second.csv", "id\nnot a number\n");
    watch.wait(2);
    assert_eq!(watch.total(), 1, "readers keep the last good version");
    // A file of another source: what failed is tried again with it.
    sandbox.write("in/orders/second.csv", "id\n10\n");
    watch.wait(3);
    assert_eq!(watch.total(), 11);
    let ends: Vec<Value> =
        watch.events("CommandCompleted").iter().map(|event| event["data"]["success"].clone()).collect();
    assert_eq!(ends, [true, false, true]);
    assert!(watch.stop().success());
}

#[test]
fn a_folder_that_is_made_later_is_watched_too() {
    let sandbox = project();
    std::fs::remove_dir_all(sandbox.path("in")).unwrap();
    let mut watch = Watch::start(&sandbox, &["--poll", "1h"]);
    watch.wait(1);
    sandbox.write("in/orders/deep/second.csv", "id\n10\n");
    sandbox.write("in/visits/first.csv", "id\n10\n");
    let total = || sandbox.json(&["show", "--inline", "select total from gold.total"])[0]["total"].clone();
    watch.until(|| total() == 10, "the new file");
    assert!(watch.stop().success());
}

#[test]
fn buckets_are_listed_every_now_and_then() {
    let stub = services::gcs();
    let mut sandbox = project();
    sandbox.write("sources.yml", SOURCES.replace("root: in", &format!("root: \"{}/in\"", stub.server.url)));
    sandbox.environment(&stub.server.env);
    let store = stub.server.store();
    let put = |path: &str, text: &'static str| {
        block_on(store.put(&path.into(), PutPayload::from_static(text.as_bytes()))).unwrap()
    };
    put("in/orders/first.csv", "id\n1\n");
    put("in/visits/first.csv", "id\n1\n");
    let mut watch = Watch::start(&sandbox, &["--poll", "200ms"]);
    watch.wait(1);
    put("in/orders/second.csv", "id\n10\n");
    watch.wait(2);
    assert_eq!(watch.total(), 11);
    assert!(watch.stop().success());
}

#[test]
fn a_delta_table_is_new_when_its_log_is() {
    let theirs = project();
    theirs.ok(&["build"]);
    let path = theirs.path("lake/silver/orders");
    let sources =
        format!("sources: [{{ name: their, tables: [{{ name: orders, path: {path:?}, format: delta }}] }}]\n");
    let sandbox = Sandbox::new(&[
        ("sources.yml", &sources),
        (
            "models/gold/total.sql",
            "{{ config(materialized='table') }} select sum(id) as total from {{ source('their', 'orders') }}",
        ),
    ]);
    let mut watch = Watch::start(&sandbox, &["--poll", "1h"]);
    watch.wait(1);
    theirs.write("in/orders/second.csv", "id\n10\n");
    theirs.ok(&["build"]);
    watch.wait(2);
    assert_eq!(watch.total(), 11);
    assert!(watch.stop().success());
}

#[test]
fn edits_of_the_project_are_built_where_that_is_asked_for() {
    let sandbox = project();
    let mut watch = Watch::start(&sandbox, &["--project"]);
    watch.wait(1);
    let total = |sql: &str| {
        let model =
            format!("{{{{ config(materialized='table') }}}} select {sql} as total from {{{{ ref('orders') }}}}");
        sandbox.write("models/gold/total.sql", model);
    };
    total("nope");
    watch.until(|| !watch.events("Diagnostic").is_empty(), "the mistake");
    total("sum(id) + 100");
    watch.until(|| watch.runs().len() >= 2 && watch.total() == 101, "the edit");
    assert!(watch.stop().success());
}

#[test]
fn the_end_is_clean_whatever_goes_on() {
    let sandbox = project();
    sandbox.write(
        "models/gold/slow.sql",
        "{{ config(materialized='table', pre_hook={'command': 'sleep 600'}) }} select id from {{ ref('orders') }}",
    );
    let mut watch = Watch::start(&sandbox, &[]);
    watch.until(
        || watch.events("NodeStart").iter().any(|event| event["data"]["node_info"]["node_name"] == "slow"),
        "the slow node",
    );
    assert_eq!(watch.stop().code(), Some(0));
    let end = &watch.events("EndOfRunSummary")[0];
    assert_eq!(end["data"]["keyboard_interrupt"], true, "{end}");
    // What was published before the end is there, and nothing is in the way of the next build.
    sandbox.write("models/gold/slow.sql", "{{ config(materialized='table') }} select id from {{ ref('orders') }}");
    sandbox.ok(&["build"]);
    assert_eq!(sandbox.value("select count(*) from gold.slow"), 1);
}

#[test]
fn a_build_that_is_terminated_ends_as_one_that_is_interrupted() {
    let sandbox = project();
    sandbox.write("models/gold/slow.sql", "{{ config(materialized='table', pre_hook={'command': 'touch here; sleep 600'}) }} select id from {{ ref('orders') }}");
    let mut build = sandbox.start(&["build"]);
    let started = Instant::now();
    while !sandbox.path("here").exists() {
        assert!(started.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(25));
    }
    Command::new("kill").args(["-TERM", &build.id().to_string()]).status().unwrap();
    assert_eq!(build.wait().unwrap().code(), Some(130));
    let results = std::fs::read_to_string(sandbox.path(".lake/run_results.json")).unwrap();
    assert!(results.contains("the run was stopped"), "{results}");
}

#[test]
fn wrong_lengths_of_time_are_refused() {
    let sandbox = project();
    sandbox
        .lake(&["watch", "--debounce", "soon"])
        .assert_failed(2, "`soon` is no length of time such as 500ms, 2s or 1m");
    sandbox.write("models/silver/orders.sql", "select nope from {{ source('raw', 'orders') }}");
    sandbox.write("models/silver/bad.sql", "select * from {{ ref('nobody') }}");
    sandbox.lake(&["watch"]).assert_failed(2, "nobody");
}
