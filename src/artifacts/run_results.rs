//! Writing `run_results.json`: the last run, as dbt writes it.
//!
//! | here | there |
//! | --- | --- |
//! | a model was built | `success` |
//! | there was nothing to do | `no-op` |
//! | it failed | `error` |
//! | something that it reads failed, or the run was stopped | `skipped` |
//! | a test | `pass`, `warn`, `fail`, `error` |

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Duration, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{ArtifactError, ids, metadata, moment, write_json};
use crate::compile::CompiledTest;
use crate::project::Project;
use crate::run::{
    ExportResult, HookResult, NodeResult, RunReport, Runtime, Status, TestResult, TestStatus, UnitTestResult,
};

#[derive(Serialize)]
struct RunResults<'a> {
    metadata: Value,
    results: Vec<Ended<'a>>,
    elapsed_time: f64,
    args: &'a Value,
}

#[derive(Serialize)]
struct Ended<'a> {
    status: &'static str,
    timing: Vec<Timing>,
    thread_id: &'static str,
    execution_time: f64,
    adapter_response: Map<String, Value>,
    message: Option<&'a str>,
    failures: Option<u64>,
    unique_id: String,
    compiled: bool,
    compiled_code: Option<&'a str>,
    relation_name: Option<String>,
    batch_results: Option<()>,
}

#[derive(Serialize)]
struct Timing {
    name: &'static str,
    started_at: String,
    completed_at: String,
}

impl Timing {
    fn new(started_at: DateTime<Utc>, seconds: f64) -> Vec<Self> {
        let completed_at = started_at + Duration::microseconds((seconds * 1e6) as i64);
        vec![Self { name: "execute", started_at: moment(started_at), completed_at: moment(completed_at) }]
    }
}

/// Writes `run_results.json`; `called` says by which command and flags.
///
/// # Errors
/// When the folder cannot be written to.
pub fn write_run_results(runtime: &Runtime, report: &RunReport, called: &Value) -> Result<(), ArtifactError> {
    let tests: HashMap<&str, &CompiledTest> = match report.all_tests().next() {
        Some(_) => runtime.compiled.tests.iter().map(|test| (test.name.as_str(), test)).collect(),
        None => HashMap::new(),
    };
    let project = &runtime.project;
    let mut results: Vec<Ended<'_>> = of_hooks(project, &report.hooks).collect();
    results.extend(report.unit_tests.iter().map(|result| of_unit_test(project, result)));
    for node in &report.nodes {
        results.push(of_node(runtime, node));
        results.extend(of_tests(project, &tests, &node.tests, Some(node.started_at)));
    }
    results.extend(report.exports.iter().map(|result| of_export(project, result)));
    results.extend(of_tests(project, &tests, &report.tests, None));
    let value = RunResults {
        metadata: metadata("run-results/v6", &runtime.options),
        results,
        elapsed_time: report.seconds,
        args: called,
    };
    write_json(&runtime.folder, "run_results.json", &value)
}

/// dbt's word of how a node ended.
pub(super) fn status_word(status: Status) -> &'static str {
    match status {
        Status::Success => "success",
        Status::Skipped => "no-op",
        Status::Error => "error",
        Status::Blocked | Status::Cancelled => "skipped",
    }
}

fn of_export<'a>(project: &Project, export: &'a ExportResult) -> Ended<'a> {
    let ran = matches!(export.status, Status::Success | Status::Error);
    let mut said = Map::new();
    for (key, number) in [("rows_affected", export.rows), ("bytes_written", export.bytes)] {
        said.extend(number.map(|number| (key.to_owned(), number.into())));
    }
    said.insert("location".to_owned(), export.path.as_str().into());
    Ended {
        status: status_word(export.status),
        timing: if ran { Timing::new(export.started_at, export.seconds) } else { Vec::new() },
        thread_id: super::THREAD,
        execution_time: export.seconds,
        adapter_response: said,
        message: Some(&export.reason),
        failures: None,
        unique_id: ids::node(project, &export.name),
        compiled: false,
        compiled_code: None,
        relation_name: None,
        batch_results: None,
    }
}

fn of_node<'a>(runtime: &'a Runtime, node: &'a NodeResult) -> Ended<'a> {
    let ran = matches!(node.status, Status::Success | Status::Error);
    // What was not run is not looked at: decoding the SQL of a thousand models takes longer than skipping them.
    let model = runtime.project.models.get(&node.name).filter(|model| ran && model.seed.is_none());
    let is_whole = matches!(node.action, "create" | "replace" | "view");
    let compiled_code = model.map(|model| model.rendered(!is_whole).sql.as_str());
    Ended {
        status: status_word(node.status),
        timing: if ran { Timing::new(node.started_at, node.seconds) } else { Vec::new() },
        thread_id: super::THREAD,
        execution_time: node.seconds,
        adapter_response: response(node),
        message: Some(&node.reason),
        failures: None,
        unique_id: ids::node(&runtime.project, &node.name),
        compiled: compiled_code.is_some(),
        compiled_code,
        relation_name: Some(node.name.quoted()),
        batch_results: None,
    }
}

/// What was done, in numbers: dbt leaves to its adapters what stands here.
pub(super) fn response(node: &NodeResult) -> Map<String, Value> {
    let mut said = Map::new();
    let mut say = |key: &str, value: Value| {
        if !value.is_null() {
            said.insert(key.to_owned(), value);
        }
    };
    if !node.action.is_empty() {
        let rows = node.rows.map(|rows| format!(" {rows}")).unwrap_or_default();
        say("_message", format!("{}{rows}", node.action.to_uppercase()).into());
        say("code", node.action.into());
    }
    say("rows_affected", json!(node.rows));
    say("bytes_written", json!(node.bytes));
    say("version", json!(node.version));
    if node.files_read > 0 {
        say("files_read", node.files_read.into());
    }
    if node.rows_quarantined > 0 {
        say("rows_quarantined", node.rows_quarantined.into());
    }
    if node.refused {
        say("refused", true.into());
    }
    say("failed_file", json!(node.failed_file));
    if !node.stale.is_empty() {
        say("stale", json!(node.stale));
    }
    said
}

/// dbt's word of how a test ended.
pub(super) fn test_word(status: TestStatus) -> &'static str {
    match status {
        TestStatus::Pass => "pass",
        TestStatus::Warn => "warn",
        TestStatus::Fail => "fail",
        TestStatus::Error => "error",
    }
}

/// Tests run while their node is staged, so the node tells when.
fn of_tests<'a>(
    project: &Project,
    known: &HashMap<&str, &CompiledTest>,
    results: &'a [TestResult],
    started_at: Option<DateTime<Utc>>,
) -> impl Iterator<Item = Ended<'a>> {
    results.iter().map(move |result| of_test(project, known.get(result.name.as_str()).copied(), result, started_at))
}

fn of_test<'a>(
    project: &Project,
    test: Option<&CompiledTest>,
    result: &'a TestResult,
    started_at: Option<DateTime<Utc>>,
) -> Ended<'a> {
    let unique_id =
        test.map_or_else(|| ids::generic_test(&project.name, &result.name), |test| ids::test(project, test));
    let mut said = Map::new();
    for (key, value) in [("proved", &result.proved), ("declared", &result.declared)] {
        said.extend(value.as_ref().map(|text| (key.to_owned(), text.as_str().into())));
    }
    if !result.measured.is_empty() {
        said.insert("measured".to_owned(), json!(result.measured));
    }
    Ended {
        status: test_word(result.status),
        timing: started_at.map(|started_at| Timing::new(started_at, result.seconds)).unwrap_or_default(),
        thread_id: super::THREAD,
        execution_time: result.seconds,
        adapter_response: said,
        message: result.message.as_deref(),
        failures: result.failures,
        unique_id,
        compiled: true,
        compiled_code: Some(&result.failures_sql),
        relation_name: None,
        batch_results: None,
    }
}

fn of_unit_test<'a>(project: &Project, result: &'a UnitTestResult) -> Ended<'a> {
    let subject = match (&result.model, &result.macro_name) {
        (Some(model), _) => model.table,
        (None, name) => ids::plain_macro(name.as_deref().unwrap_or_default()),
    };
    let said = result.unchanged.then(|| ("unchanged".to_owned(), true.into()));
    Ended {
        status: test_word(result.status),
        timing: Vec::new(),
        thread_id: super::THREAD,
        execution_time: result.seconds,
        adapter_response: said.into_iter().collect(),
        message: result.message.as_deref(),
        failures: result.failures,
        unique_id: ids::unit_test_of(&project.name, subject, &result.name),
        compiled: true,
        compiled_code: None,
        relation_name: None,
        batch_results: None,
    }
}

/// Hooks of the run, in the order of `project.yml`.
fn of_hooks<'a>(project: &'a Project, hooks: &'a [HookResult]) -> impl Iterator<Item = Ended<'a>> {
    let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
    hooks.iter().map(move |hook| {
        let count = counted.entry(&hook.name).or_default();
        let index = *count;
        *count += 1;
        Ended {
            status: if hook.ok { "success" } else { "error" },
            timing: Vec::new(),
            thread_id: super::THREAD,
            execution_time: hook.seconds,
            adapter_response: Map::new(),
            message: Some(&hook.output),
            failures: None,
            unique_id: ids::hook(project, &hook.name, index),
            compiled: true,
            compiled_code: Some(&hook.statement),
            relation_name: None,
            batch_results: None,
        }
    })
}
