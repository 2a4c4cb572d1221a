//! `--log-format json`: every line of standard output is an event that programs read as it comes.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::artifacts::python;
use crate::sandbox::{Run, Sandbox};

const PROJECT: &str = "name: shop
targets:
  dev: { root: lake }
on-run-start: [\"select 1\"]
on-run-end: [{ command: \"true\" }]
";

const PROPERTIES: &str = "models:
  - name: orders
    config: { meta: { cost: low } }
    columns:
      - { name: id, data_tests: [unique, not_null] }
      - { name: amount, data_tests: [{ not_null: { config: { severity: warn } } }] }
  - name: late
    columns: [{ name: id, data_tests: [{ accepted_values: { arguments: { values: [1] } } }] }]
seeds:
  - name: countries
    columns: [{ name: code, data_tests: [not_null] }]
unit_tests:
  - name: doubles
    model: orders
    given: [{ input: \"source('raw', 'orders')\", rows: [{ id: 1, amount: 2.0 }] }]
    expect: { rows: [{ id: 1, amount: 2.0 }] }
exports:
  - { name: orders_csv, model: ref('orders'), path: out/orders.csv, format: csv }
";

/// Two sources, a seed, models of which one fails its test, one below it, tests of each kind, hooks and an export.
fn shop() -> Sandbox {
    let sandbox = Sandbox::new(&[
        ("sources.yml", SOURCES),
        ("seeds/countries.csv", "code,name\nde,Germany\n"),
        (
            "models/silver/orders.sql",
            "{{ config(materialized='table') }} select id, amount from {{ source('raw', 'orders') }}",
        ),
        ("models/silver/late.sql", "{{ config(materialized='table') }} select id from {{ ref('orders') }}"),
        ("models/gold/below.sql", "{{ config(materialized='table') }} select id from {{ ref('late') }}"),
        ("models/gold/seen.sql", "select id from {{ ref('orders') }}"),
        ("models/all.yml", PROPERTIES),
        ("tests/no_big.sql", "select * from {{ ref('orders') }} where amount > 1000"),
        ("in/orders/1.csv", "id,amount\n1,1.5\n2,\n"),
    ]);
    sandbox.write("project.yml", PROJECT);
    sandbox
}

const SOURCES: &str = "sources:
  - name: raw
    root: in
    tables:
      - name: orders
        path: orders/
        format: csv
        freshness: { warn_after: { count: 1, period: day } }
        columns: [{ name: id, data_type: bigint }, { name: amount, data_type: double }]
";

fn events_of(run: &Run) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: `{line}`\n{run:?}"));
    run.stdout.lines().map(parse).collect()
}

/// The events of a command, on which nothing else may be printed.
#[track_caller]
fn events(sandbox: &Sandbox, args: &[&str]) -> (i32, Vec<Value>) {
    let mut args = args.to_vec();
    args.extend(["--log-format", "json"]);
    let run = sandbox.lake(&args);
    assert_eq!(run.stderr, "", "{args:?}");
    (run.code, events_of(&run))
}

fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["info"]["name"] == name).collect()
}

/// The status of each node of which there is an event of this name.
fn statuses(events: &[Value], name: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned();
    let info = |event: &&Value| event["data"]["node_info"].clone();
    let mut found: Vec<_> = named(events, name)
        .iter()
        .map(info)
        .map(|info| (text(&info["unique_id"]), text(&info["node_status"])))
        .collect();
    found.sort();
    found
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(id, status)| ((*id).to_owned(), (*status).to_owned())).collect()
}

fn manifest(sandbox: &Sandbox) -> Value {
    serde_json::from_slice(&std::fs::read(sandbox.path(".lake/manifest.json")).unwrap()).unwrap()
}

#[test]
fn every_node_and_test_of_a_build_is_an_event() {
    let sandbox = shop();
    let (code, events) = events(&sandbox, &["build"]);
    assert_eq!(code, 1);
    let models = [("model.shop.late", "error"), ("model.shop.orders", "success"), ("model.shop.seen", "success")];
    assert_eq!(statuses(&events, "LogModelResult"), pairs(&models));
    assert_eq!(statuses(&events, "LogSeedResult"), pairs(&[("seed.shop.countries", "success")]));
    assert_eq!(statuses(&events, "SkippingDetails"), pairs(&[("model.shop.below", "skipped")]));
    assert_eq!(statuses(&events, "LogNodeResult"), pairs(&[("export.shop.orders_csv", "success")]));
    let ended: Vec<String> = statuses(&events, "LogTestResult").into_iter().map(|(_, status)| status).collect();
    assert_eq!(ended.iter().filter(|status| *status == "pass").count(), 5, "{ended:?}");
    assert_eq!(ended.iter().filter(|status| *status == "warn").count(), 1, "{ended:?}");
    assert_eq!(ended.iter().filter(|status| *status == "fail").count(), 1, "{ended:?}");
    // Whatever is told of a node is told by the id that it has in the manifest.
    let manifest = manifest(&sandbox);
    let ids: BTreeSet<&String> = ["nodes", "sources", "exposures", "unit_tests"]
        .iter()
        .flat_map(|part| manifest[part].as_object().unwrap().keys())
        .collect();
    let told: BTreeSet<String> =
        events.iter().filter_map(|event| event["data"]["node_info"]["unique_id"].as_str().map(str::to_owned)).collect();
    assert!(told.iter().all(|id| ids.contains(id)), "{told:?}\n{ids:?}");
    let results: Value =
        serde_json::from_slice(&std::fs::read(sandbox.path(".lake/run_results.json")).unwrap()).unwrap();
    for result in results["results"].as_array().unwrap() {
        assert!(told.contains(result["unique_id"].as_str().unwrap()), "{result} is not told in {told:?}");
    }
    let finished: BTreeSet<(String, String)> = statuses(&events, "NodeFinished").into_iter().collect();
    assert!(finished.contains(&("model.shop.below".to_owned(), "skipped".to_owned())), "{finished:?}");
    let started: Vec<String> = statuses(&events, "NodeStart").into_iter().map(|(id, _)| id).collect();
    assert_eq!(started, ["model.shop.late", "model.shop.orders", "model.shop.seen", "seed.shop.countries"]);
}

#[test]
fn an_event_has_the_facts_of_lake_and_of_the_call() {
    let sandbox = shop();
    let (_, events) = events(&sandbox, &["build"]);
    let of_orders = named(&events, "LogModelResult")
        .into_iter()
        .find(|event| event["data"]["node_info"]["node_name"] == "orders")
        .unwrap();
    let data = &of_orders["data"];
    assert_eq!(data["node_info"]["node_path"], "silver/orders.sql");
    assert_eq!(data["node_info"]["materialized"], "table");
    assert_eq!(data["node_info"]["meta"]["cost"], "low");
    assert_eq!(data["node_info"]["node_relation"]["relation_name"], "\"silver\".\"orders\"");
    assert!(data["node_info"]["node_finished_at"].as_str() > data["node_info"]["node_started_at"].as_str());
    assert_eq!((&data["lake"]["rows"], &data["lake"]["version"]), (&2.into(), &0.into()), "{data}");
    assert!(data["lake"]["bytes"].as_u64() > Some(0) && data["lake"]["reason"] == "first build", "{data}");
    let failed = named(&events, "LogTestResult").into_iter().find(|event| event["data"]["status"] == "fail").unwrap();
    assert_eq!((&failed["info"]["level"], &failed["data"]["num_failures"]), (&"error".into(), &1.into()));
    assert_eq!(failed["data"]["attached_node"], "model.shop.late");
    let ids: BTreeSet<&str> = events.iter().map(|event| event["info"]["invocation_id"].as_str().unwrap()).collect();
    let results: Value =
        serde_json::from_slice(&std::fs::read(sandbox.path(".lake/run_results.json")).unwrap()).unwrap();
    assert_eq!(ids.into_iter().collect::<Vec<_>>(), [results["metadata"]["invocation_id"].as_str().unwrap()]);
    assert_eq!(events[0]["info"]["name"], "MainReportVersion");
    let end = named(&events, "EndOfRunSummary")[0];
    assert_eq!((&end["data"]["num_errors"], &end["data"]["num_warnings"]), (&2.into(), &1.into()), "{end}");
    assert!(end["data"]["lake"]["peak_memory"].as_u64() > Some(10 << 20), "{end}");
    let last = events.last().unwrap();
    assert_eq!((&last["info"]["name"], &last["data"]["success"]), (&"CommandCompleted".into(), &false.into()));
    assert_eq!(last["data"]["lake"]["exit_code"], 1);
}

#[test]
fn what_is_unchanged_is_told_as_such() {
    let sandbox = shop();
    sandbox.ok(&["run"]);
    let (code, events) = events(&sandbox, &["run"]);
    assert_eq!(code, 0);
    let statuses = statuses(&events, "LogModelResult");
    assert!(statuses.contains(&("model.shop.orders".to_owned(), "no-op".to_owned())), "{statuses:?}");
    let orders = named(&events, "LogModelResult")[0];
    assert!(orders["data"]["lake"]["reason"].as_str().unwrap().contains("unchanged"), "{orders}");
}

#[test]
fn other_commands_speak_in_events_too() {
    let sandbox = shop();
    let (code, seeded) = events(&sandbox, &["seed"]);
    assert_eq!((code, statuses(&seeded, "LogSeedResult")), (0, pairs(&[("seed.shop.countries", "success")])));
    sandbox.lake(&["build"]);
    let (code, tested) = events(&sandbox, &["test", "--select", "orders"]);
    assert_eq!(code, 0);
    assert_eq!(named(&tested, "LogTestResult").len(), 5, "{tested:#?}");
    let (_, retried) = events(&sandbox, &["retry"]);
    assert_eq!(retried.last().unwrap()["info"]["name"], "CommandCompleted");
    let (_, fresh) = events(&sandbox, &["source", "freshness"]);
    assert_eq!(statuses(&fresh, "LogFreshnessResult"), pairs(&[("source.shop.raw.orders", "pass")]));
    let (_, maintained) = events(&sandbox, &["maintain"]);
    assert!(statuses(&maintained, "LogNodeResult").iter().any(|(id, _)| id == "model.shop.orders"), "{maintained:#?}");
    let (_, compiled) = events(&sandbox, &["compile"]);
    assert_eq!(named(&compiled, "ArtifactWritten").len(), 1);
    let (_, report) = events(&sandbox, &["run", "--output", "json"]);
    assert!(named(&report, "Report")[0]["data"]["lake"]["nodes"].is_array());
}

#[test]
fn mistakes_are_events_with_their_place() {
    let sandbox = shop();
    sandbox.write("models/silver/late.sql", "select\n  nope from {{ ref('orders') }}");
    let (code, found) = events(&sandbox, &["build"]);
    assert_eq!(code, 2);
    let mistake = named(&found, "Diagnostic")[0];
    assert_eq!(mistake["info"]["level"], "error");
    assert!(mistake["info"]["code"].as_str().unwrap().starts_with('L'), "{mistake}");
    let data = &mistake["data"];
    assert_eq!(
        (&data["file"], &data["line"], &data["column"]),
        (&"models/silver/late.sql".into(), &2.into(), &3.into()),
        "{mistake}"
    );
    let (code, found) = events(&sandbox, &["build", "--select", "nothing_like_it"]);
    assert_eq!((code, named(&found, "MainEncounteredError").len()), (2, 1), "{found:#?}");
    assert_eq!(found.last().unwrap()["data"]["success"], false);
}

#[test]
fn data_stands_alone_on_standard_output() {
    let sandbox = shop();
    sandbox.lake(&["run"]);
    let shown = sandbox.lake(&["show", "orders", "--output", "json", "--log-format", "json"]);
    let rows: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!((shown.code, rows.as_array().unwrap().len()), (0, 2));
    let told: Vec<Value> = shown.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told.last().unwrap()["data"]["command"], "show");
    let listed = sandbox.lake(&["ls", "--log-format", "json"]);
    assert_eq!(listed.stdout, sandbox.ok(&["ls"]));
}

#[test]
fn the_environment_asks_for_events_and_a_flag_takes_it_back() {
    let sandbox = shop();
    for name in ["LAKE_LOG_FORMAT", "DBT_LOG_FORMAT"] {
        let output = sandbox.command(&["seed"]).env(name, "json").output().unwrap();
        assert!(output.stdout.starts_with(b"{\"info\":{\"name\":\"MainReportVersion\""), "{output:?}");
        let output = sandbox.command(&["seed", "--log-format", "text"]).env(name, "json").output().unwrap();
        assert!(!output.stdout.starts_with(b"{"), "{output:?}");
    }
}

#[test]
fn quiet_leaves_errors_and_the_end() {
    let (code, events) = events(&shop(), &["build", "--quiet"]);
    assert_eq!(code, 1);
    let mut names: Vec<&str> = events.iter().map(|event| event["info"]["name"].as_str().unwrap()).collect();
    names.dedup();
    assert_eq!(names, ["LogModelResult", "LogTestResult", "EndOfRunSummary", "CommandCompleted"], "{events:#?}");
}

#[test]
fn tables_that_are_not_published_are_not_told_as_built() {
    let sandbox = shop();
    let (code, found) = events(&sandbox, &["build", "--atomic"]);
    assert_eq!(code, 1);
    let built = statuses(&found, "LogModelResult");
    assert!(!built.iter().any(|(id, status)| id == "model.shop.orders" && status == "success"), "{built:?}");
    let left = statuses(&found, "SkippingDetails");
    assert!(left.contains(&("model.shop.orders".to_owned(), "skipped".to_owned())), "{left:?}");
    sandbox
        .write("models/silver/late.sql", "{{ config(materialized='table') }} select 1 as id from {{ ref('orders') }}");
    let (code, found) = events(&sandbox, &["build", "--atomic"]);
    assert_eq!((code, statuses(&found, "LogModelResult").len()), (0, 4), "{found:#?}");
    assert!(statuses(&found, "LogModelResult").iter().all(|(_, status)| status == "success"));
}

#[test]
fn a_reader_has_each_event_as_it_happens() {
    let sandbox = shop();
    // The hook at the end waits until the reader has seen what was built before it.
    sandbox.write("project.yml", "name: shop\ntargets:\n  dev: { root: lake }\non-run-end: [{ command: \"sh -c 'until [ -e seen ]; do sleep 0.01; done'\" }]\n");
    let mut child = sandbox
        .command(&["run", "--log-format", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let is_orders = |line: &String| line.contains("LogModelResult") && line.contains("model.shop.orders");
    let found = lines.by_ref().map(Result::unwrap).find(is_orders);
    assert!(found.is_some());
    assert!(child.try_wait().unwrap().is_none(), "it ended before its reader had seen anything");
    sandbox.write("seen", "");
    let last = lines.map(Result::unwrap).last().unwrap();
    assert!(last.contains("CommandCompleted"), "{last}");
    assert!(child.wait().unwrap().success());
}

#[test]
fn dbts_own_messages_hold_every_event() {
    let Some(python) = python() else { return };
    let sandbox = shop();
    let mut log = String::new();
    for args in [&["build"][..], &["test"], &["retry"], &["source", "freshness"], &["maintain"], &["compile"]] {
        let mut args = args.to_vec();
        args.extend(["--log-format", "json"]);
        log.push_str(&sandbox.lake(&args).stdout);
    }
    sandbox.write("models/silver/late.sql", "select nope from {{ ref('orders') }}");
    log.push_str(&sandbox.lake(&["build", "--log-format", "json"]).stdout);
    log.push_str(&sandbox.lake(&["build", "--log-format", "json", "--select", "nothing_like_it"]).stdout);
    let mut reader = Command::new(python)
        .args(["-c", include_str!("artifacts/check_log.py")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    reader.stdin.take().unwrap().write_all(log.as_bytes()).unwrap();
    let output = reader.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = String::from_utf8(output.stdout).unwrap();
    assert_eq!(read.lines().count(), log.lines().count());
    assert!(read.contains("LogTestResult unit_test.shop.orders.doubles"), "{read}");
}
