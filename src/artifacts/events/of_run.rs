//! The events of a run: one for every node, test, export and hook, as they end.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Mutex;

use chrono::Utc;
use serde_json::{Value, json};

use super::node_info::{NodeInfo, Times, after};
use super::summary::summary;
use super::{Level, LogEvent};
use crate::artifacts::run_results::{response, status_word, test_word};
use crate::artifacts::{THREAD, ids, moment};
use crate::compile::CompiledTest;
use crate::names::TableName;
use crate::run::{
    Event, ExportResult, HookResult, NodeResult, RunReport, Schedule, SharedRuntime, Status, TestResult, TestStatus,
    UnitTestResult,
};
use crate::words::plural;

/// Makes the events of one run.
pub struct RunEvents {
    pub(super) runtime: SharedRuntime,
    /// The tests that the project has, by name, as indices.
    tests: HashMap<String, usize>,
    /// Nodes that are published with others: what they came to is known when these have ended.
    together: BTreeSet<TableName>,
    /// How many results there are to be.
    pub(super) total: usize,
    pub(super) said: Mutex<Said>,
}

/// What has been told.
#[derive(Default)]
pub(super) struct Said {
    results: usize,
    nodes: HashMap<TableName, Status>,
    exports: HashSet<TableName>,
    tests: HashSet<String>,
    held: BTreeMap<TableName, NodeResult>,
}

/// What `NodeFinished` says of a result.
struct Ended<'a> {
    status: &'a str,
    message: &'a str,
    seconds: f64,
    response: Value,
    failures: Option<u64>,
}

impl RunEvents {
    /// Of a run of so many results.
    pub fn new(runtime: &SharedRuntime, total: usize) -> Self {
        let tests = runtime.compiled.tests.iter().enumerate();
        let tests = tests.map(|(index, test)| (test.name.clone(), index)).collect();
        let runtime = SharedRuntime::clone(runtime);
        Self { runtime, tests, together: BTreeSet::new(), total, said: Mutex::default() }
    }

    /// Of a schedule, and so many unit tests before it.
    pub fn of_schedule(runtime: &SharedRuntime, schedule: &Schedule, unit_tests: usize) -> Self {
        let tests: usize = schedule.steps.iter().map(|step| step.tests.len()).sum();
        let total = unit_tests + schedule.steps.len() + tests + schedule.loose_tests.len() + schedule.exports.len();
        let together = schedule.steps.iter().filter(|step| step.together.is_some());
        let together = together.map(|step| step.name.clone()).collect();
        Self { together, ..Self::new(runtime, total) }
    }

    /// What there is, and where it runs.
    pub fn begun(&self) -> Vec<LogEvent> {
        let (project, options) = (&self.runtime.project, &self.runtime.options);
        let is_seed = |seed: bool| project.models.values().filter(|model| model.seed.is_some() == seed).count();
        let counts = [
            (is_seed(false), "model"),
            (is_seed(true), "seed"),
            (project.sources.len(), "source"),
            (self.runtime.compiled.tests.len(), "data test"),
            (self.runtime.compiled.unit_tests.len(), "unit test"),
        ];
        let counts: Vec<String> = counts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, noun)| plural(count as u64, noun))
            .collect();
        let counts = counts.join(", ");
        let (threads, target) = (options.nodes_at_once, &project.target.name);
        let line = format!("Concurrency: {} (target='{target}')", plural(threads as u64, "thread"));
        vec![
            LogEvent::new(
                "FoundStats",
                "W006",
                Level::Info,
                format!("Found {counts}"),
                json!({"stat_line": counts, "lake": {"project": project.name, "lake_root": self.runtime.lake.root()}}),
            ),
            LogEvent::new(
                "ConcurrencyLine",
                "Q027",
                Level::Info,
                line,
                json!({"num_threads": threads, "target_name": target, "node_count": self.total}),
            ),
        ]
    }

    /// What an event of the run says.
    pub fn on(&self, event: &Event) -> Vec<LogEvent> {
        let mut said = self.said.lock().expect("no holder panics");
        match event {
            Event::Started(name) => self.started(name),
            Event::Finished(result) => {
                let waits = self.together.contains(&result.name) && result.action != "view";
                if waits && result.status == Status::Success {
                    said.held.insert(result.name.clone(), (**result).clone());
                    return Vec::new();
                }
                self.node(&mut said, result)
            }
            Event::Exported(result) => self.export(&mut said, result),
            Event::Together(names) => {
                let held: Vec<NodeResult> = names.iter().filter_map(|name| said.held.remove(name)).collect();
                held.iter().flat_map(|result| self.node(&mut said, result)).collect()
            }
            // The report has what became of each.
            Event::Withdrawn(names, why) => {
                names.iter().for_each(|name| drop(said.held.remove(name)));
                vec![LogEvent::note(Level::Warn, withdrawn(names, why))]
            }
        }
    }

    /// A unit test has ended.
    pub fn unit_test(&self, result: &UnitTestResult) -> Vec<LogEvent> {
        let mut said = self.said.lock().expect("no holder panics");
        let info = NodeInfo::of_unit_test(&self.runtime.project, result);
        let lake = serde_json::to_value(result).unwrap_or_default();
        let found = (result.status, result.failures, result.message.as_deref(), result.seconds);
        vec![self.test_result(&mut said, &info, found, (ended_now(result.seconds), None, lake))]
    }

    /// A test that belongs to no node of the run has ended.
    pub fn test(&self, result: &TestResult) -> Vec<LogEvent> {
        let mut said = self.said.lock().expect("no holder panics");
        self.data_test(&mut said, result, ended_now(result.seconds))
    }

    /// What has not been told, and how the run ended.
    pub fn finish(&self, report: &RunReport) -> Vec<LogEvent> {
        let mut said = self.said.lock().expect("no holder panics");
        let mut events = Vec::new();
        for node in &report.nodes {
            if said.nodes.get(&node.name) != Some(&node.status) {
                events.extend(self.node(&mut said, node));
            }
        }
        for export in &report.exports {
            if !said.exports.contains(&export.name) {
                events.extend(self.export(&mut said, export));
            }
        }
        for test in &report.tests {
            if !said.tests.contains(&test.name) {
                events.extend(self.data_test(&mut said, test, ended_now(test.seconds)));
            }
        }
        events.extend(self.hooks(&report.hooks));
        events.extend(summary(report));
        events
    }
}

impl RunEvents {
    fn started(&self, name: &TableName) -> Vec<LogEvent> {
        let Some(model) = self.runtime.project.models.get(name) else { return Vec::new() };
        let info = NodeInfo::of_model(&self.runtime.project, model);
        let data = json!({"node_info": info.json("started", Some((Utc::now(), None)))});
        vec![LogEvent::new("NodeStart", "Q024", Level::Debug, format!("Began running node {}", info.unique_id), data)]
    }

    fn node(&self, said: &mut Said, result: &NodeResult) -> Vec<LogEvent> {
        let Some(model) = self.runtime.project.models.get(&result.name) else { return Vec::new() };
        let info = NodeInfo::of_model(&self.runtime.project, model);
        let (status, index) = (status_word(result.status), said.next());
        let ran = !matches!(result.status, Status::Blocked | Status::Cancelled);
        let times = ran.then_some((result.started_at, Some(result.seconds)));
        said.nodes.insert(result.name.clone(), result.status);
        let mut data = json!({
            "node_info": info.json(status, times), "index": index, "total": self.total, "lake": facts(result),
        });
        let mut say = |key: &str, value: Value| data[key] = value;
        let (name, code) = if !ran {
            say("resource_type", info.resource_type.into());
            say("schema", result.name.schema.into());
            say("node_name", result.name.table.into());
            ("SkippingDetails", "Q034")
        } else {
            say("status", status.into());
            say("execution_time", result.seconds.into());
            if info.resource_type == "seed" {
                say("result_message", result.reason.as_str().into());
                say("schema", result.name.schema.into());
                say("relation", result.name.table.into());
                ("LogSeedResult", "Q016")
            } else {
                say("description", format!("{} model {}", result.materialized, result.name).into());
                ("LogModelResult", "Q012")
            }
        };
        let level = if result.status == Status::Error { Level::Error } else { Level::Info };
        let message = format!("{index} of {} {} {}", self.total, big(status), told(result));
        let mut events = vec![LogEvent::new(name, code, level, message, data)];
        let ended = Ended {
            status,
            message: &result.reason,
            seconds: result.seconds,
            response: Value::Object(response(result)),
            failures: None,
        };
        events.push(finished(&info, times, &ended));
        let tests = result.tests.iter().filter(|test| !said.tests.contains(&test.name)).collect::<Vec<_>>();
        for test in tests {
            events.extend(self.data_test(said, test, Some((result.started_at, Some(test.seconds)))));
        }
        events
    }

    fn data_test(&self, said: &mut Said, result: &TestResult, times: Times) -> Vec<LogEvent> {
        let project = &self.runtime.project;
        let declared: Option<&CompiledTest> =
            self.tests.get(&result.name).map(|index| &self.runtime.compiled.tests[*index]);
        let info = match declared {
            Some(test) => NodeInfo::of_test(project, test),
            None => NodeInfo::of_named_test(project, &result.name),
        };
        said.tests.insert(result.name.clone());
        let table = declared.and_then(|test| test.table.as_ref());
        let attached = table.map(|table| ids::node(project, table));
        let mut lake = serde_json::to_value(result).unwrap_or_default();
        lake["table"] = json!(table);
        let found = (result.status, result.failures, result.message.as_deref(), result.seconds);
        let ended = Ended {
            status: test_word(result.status),
            message: result.message.as_deref().unwrap_or_default(),
            seconds: result.seconds,
            response: json!({}),
            failures: result.failures,
        };
        vec![self.test_result(said, &info, found, (times, attached, lake)), finished(&info, times, &ended)]
    }

    fn test_result(
        &self,
        said: &mut Said,
        info: &NodeInfo,
        (status, failures, message, seconds): (TestStatus, Option<u64>, Option<&str>, f64),
        (times, attached, lake): (Times, Option<String>, Value),
    ) -> LogEvent {
        let (word, index) = (test_word(status), said.next());
        let level = match status {
            TestStatus::Pass => Level::Info,
            TestStatus::Warn => Level::Warn,
            TestStatus::Fail | TestStatus::Error => Level::Error,
        };
        let data = json!({
            "node_info": info.json(word, times),
            "name": info.name,
            "status": word,
            "index": index,
            "num_models": self.total,
            "execution_time": seconds,
            "num_failures": small(failures),
            "attached_node": attached.unwrap_or_default(),
            "lake": lake,
        });
        let why = message.map(|message| format!(": {message}")).unwrap_or_default();
        let message = format!("{index} of {} {} {}{why}", self.total, big(word), info.name);
        LogEvent::new("LogTestResult", "Q007", level, message, data)
    }

    fn export(&self, said: &mut Said, result: &ExportResult) -> Vec<LogEvent> {
        let info = NodeInfo::of_export(&self.runtime.project, result);
        let (status, index) = (status_word(result.status), said.next());
        said.exports.insert(result.name.clone());
        let ran = !matches!(result.status, Status::Blocked | Status::Cancelled);
        let level = if result.status == Status::Error { Level::Error } else { Level::Info };
        let data = json!({
            "node_info": info.json(status, ran.then_some((result.started_at, Some(result.seconds)))),
            "description": format!("export {} to {}", result.name.table, result.path),
            "status": status,
            "index": index,
            "total": self.total,
            "execution_time": result.seconds,
            "msg": result.reason,
            "lake": result,
        });
        let message =
            format!("{index} of {} {} export {}: {}", self.total, big(status), result.name.table, result.reason);
        vec![LogEvent::new("LogNodeResult", "Q008", level, message, data)]
    }

    /// Hooks of the run, in the order of `project.yml`.
    fn hooks(&self, hooks: &[HookResult]) -> Vec<LogEvent> {
        let one = |(at, hook): (usize, &HookResult)| {
            let before = hooks[..at].iter().filter(|earlier| earlier.name == hook.name).count();
            let info = NodeInfo::of_hook(&self.runtime.project, hook, before);
            let (status, level) = if hook.ok { ("success", Level::Info) } else { ("error", Level::Error) };
            let data = json!({
                "node_info": info.json(status, None),
                "statement": hook.statement,
                "status": status,
                "index": at + 1,
                "total": hooks.len(),
                "execution_time": hook.seconds,
                "lake": hook,
            });
            let what = if hook.ok { String::new() } else { format!(": {}", hook.output) };
            LogEvent::new("LogHookEndLine", "Q033", level, format!("{} hook {}{what}", big(status), info.name), data)
        };
        hooks.iter().enumerate().map(one).collect()
    }
}

impl Said {
    /// The number of the next result, from one.
    pub(super) fn next(&mut self) -> usize {
        self.results += 1;
        self.results
    }
}

/// The end of a node as dbt's results have it.
fn finished(info: &NodeInfo, times: Times, ended: &Ended<'_>) -> LogEvent {
    let timing = times.and_then(|(started, seconds)| {
        let ended = moment(after(started, seconds?));
        Some(json!({"name": "execute", "started_at": moment(started), "completed_at": ended}))
    });
    let data = json!({
        "node_info": info.json(ended.status, times),
        "run_result": {
            "status": ended.status,
            "message": ended.message,
            "timing_info": timing.into_iter().collect::<Vec<_>>(),
            "thread": THREAD,
            "execution_time": ended.seconds,
            "adapter_response": ended.response,
            "num_failures": small(ended.failures),
        },
    });
    LogEvent::new("NodeFinished", "Q025", Level::Debug, format!("Finished running node {}", info.unique_id), data)
}

/// What a program that reads `--output json` knows of a node; its tests have events of their own.
fn facts(result: &NodeResult) -> Value {
    let mut facts = serde_json::to_value(result).unwrap_or_default();
    if let Some(facts) = facts.as_object_mut() {
        facts.remove("tests");
    }
    facts
}

/// `silver.views: append, 120 rows, 0.10s: 3 new files`.
fn told(result: &NodeResult) -> String {
    let mut parts = Vec::new();
    if result.status == Status::Success {
        parts.push(result.action.to_owned());
        parts.extend(result.rows.map(|rows| plural(rows, "row")));
        parts.push(format!("{:.2}s", result.seconds));
    }
    let parts = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    format!("{}{parts}: {}", result.name, result.reason)
}

fn withdrawn(names: &[TableName], why: &str) -> String {
    if names.is_empty() {
        return why.to_owned();
    }
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    format!("not published: {}: {why}", names.join(", "))
}

/// Something that took so long and ends now.
pub(super) fn ended_now(seconds: f64) -> Times {
    Some((after(Utc::now(), -seconds), Some(seconds)))
}

/// dbt counts failures in 32 bits.
fn small(failures: Option<u64>) -> i32 {
    failures.map_or(0, |count| i32::try_from(count).unwrap_or(i32::MAX))
}

/// The word of a status on a line for people.
pub(super) fn big(word: &str) -> String {
    if word == "success" { "OK".to_owned() } else { word.to_uppercase() }
}
