//! Running a schedule: nodes in parallel as their parents finish.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::Instrument;

use super::after_load::archive;
use super::audit::audit;
use super::board::{Board, SetEnd};
use super::exports::ExportResult;
use super::inputs::Inputs;
use super::materialize::{HOOKS_ALONE, hooks_alone, materialize};
use super::report::{NodeResult, RunReport, Status, TestResult};
use super::schedule::{ExportStep, Schedule, Step};
use super::{RunOptions, Runtime};
use crate::compile::CompiledTest;
use crate::memo::{Key, KeyMaker};
use crate::names::TableName;
use crate::project::{OnError, OwnedHooks};
use crate::stores;

/// What happens while a run goes on.
#[derive(Debug, Clone)]
pub enum Event {
    /// A node starts.
    Started(TableName),
    /// A node has ended.
    Finished(Box<NodeResult>),
    /// An export has ended.
    Exported(Box<ExportResult>),
    /// Tables that belong together were published.
    Together(Vec<TableName>),
    /// Staged tables will not be published, and why.
    Withdrawn(Vec<TableName>, String),
}

/// Runs a schedule to its end, or until `stop` is notified: then nothing new starts, what runs is dropped, and
/// every table is at its last published version.
#[tracing::instrument(name = "run", skip_all, fields(target = %inputs.runtime().project.target.name))]
pub async fn execute(
    inputs: Arc<Inputs>,
    schedule: &Schedule,
    stop: Arc<Notify>,
    on_event: impl Fn(Event),
) -> RunReport {
    let start = Instant::now();
    let mut report = RunReport::begun(&inputs.runtime().options);
    report.unit_tests.clone_from(&schedule.unit_tests);
    let why = match run_level(&inputs, schedule, "on-run-start", &mut report).await {
        Ok(()) => Box::pin(run_steps(&inputs, schedule, &stop, &on_event, &mut report)).await,
        Err(failure) => Some(failure),
    };
    let done: BTreeSet<TableName> = report.nodes.iter().map(|node| node.name.clone()).collect();
    for step in schedule.steps.iter().filter(|step| !done.contains(&step.name)) {
        let why = why.as_deref().unwrap_or("the run was stopped");
        report.nodes.push(not_run(inputs.runtime(), step, Status::Cancelled, why));
    }
    let ended = exports_not_run(inputs.runtime(), schedule, &report, why.as_deref().unwrap_or("the run was stopped"));
    report.exports.extend(ended);
    if why.is_none() && !report.cancelled {
        let tests: Vec<&CompiledTest> =
            schedule.loose_tests.iter().map(|index| &inputs.runtime().compiled.tests[*index]).collect();
        report.tests = audit(&inputs, &tests, None).await;
        report.archived = archive(&inputs, schedule).await;
    }
    if !report.cancelled {
        // What it says stands in the report.
        let _ = run_level(&inputs, schedule, "on-run-end", &mut report).await;
    }
    remember_durations(inputs.runtime(), &report);
    stores::settled().await;
    report.seconds = start.elapsed().as_secs_f64();
    report
}

/// Runs the steps; says why some did not run, if they did not.
async fn run_steps(
    inputs: &Arc<Inputs>,
    schedule: &Schedule,
    stop: &Notify,
    on_event: &impl Fn(Event),
    report: &mut RunReport,
) -> Option<String> {
    let runtime = inputs.runtime();
    inputs.look_ahead(schedule.tables(&runtime.project, &runtime.compiled)).await;
    let together = schedule.steps.iter().filter(|step| step.together.is_some());
    inputs.set_together(together.map(|step| step.name.clone()).collect());
    let mut board = Board::new(schedule, &durations(inputs.runtime()));
    let why = work(inputs, schedule, &mut board, stop, on_event, report).await;
    // What is staged for others that did not come to their end is not published.
    let names = names_of(schedule, &board.unpublished());
    withdraw(inputs, &names, why.as_deref().unwrap_or("the run was stopped"), on_event, report).await;
    why
}

async fn work(
    inputs: &Arc<Inputs>,
    schedule: &Schedule,
    board: &mut Board<'_>,
    stop: &Notify,
    on_event: &impl Fn(Event),
    report: &mut RunReport,
) -> Option<String> {
    let options = &inputs.runtime().options;
    let mut running: JoinSet<Ended> = JoinSet::new();
    loop {
        for (index, blocker) in board.take_blocked() {
            let reason = format!("`{blocker}` failed");
            let result = not_run(inputs.runtime(), &schedule.steps[index], Status::Blocked, &reason);
            on_event(Event::Finished(Box::new(result.clone())));
            report.nodes.push(result);
        }
        if let Some(end) = board.take_set() {
            end_set(inputs, schedule, board, end, on_event, report).await;
            continue;
        }
        while running.len() < options.nodes_at_once
            && let Some(name) = board.take_export()
        {
            let inputs = Arc::clone(inputs);
            let export = async move { Ended::Export(Box::new(inputs.export(&name).await)) };
            running.spawn(Box::pin(export.in_current_span()));
        }
        while running.len() < options.nodes_at_once
            && let Some(index) = board.take_ready()
        {
            let (inputs, step) = (Arc::clone(inputs), schedule.steps[index].clone());
            on_event(Event::Started(step.name.clone()));
            // Rows of a query that does not do what it should are not worth making.
            let refused = schedule.refusal(&step.name);
            // What a node does is deep enough to be laid out by itself.
            let node = Box::pin(async move {
                let result = match refused {
                    Some(why) => not_run(inputs.runtime(), &step, Status::Error, &why),
                    None => materialize(&inputs, &step).await,
                };
                Ended::Node(index, Box::new(result))
            });
            running.spawn(node.in_current_span());
        }
        if running.is_empty() {
            return None;
        }
        tokio::select! {
            () = stop.notified() => {
                running.shutdown().await;
                report.cancelled = true;
                return None;
            }
            Some(finished) = running.join_next() => match finished {
                Ok(ended) => {
                    let (name, failed) = end(inputs, board, ended, on_event, report).await;
                    if failed && options.fail_fast {
                        running.shutdown().await;
                        return Some(format!("`{name}` failed, and --fail-fast ends the run"));
                    }
                }
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => {}
            },
        }
    }
}

/// What ended: a step, or an export.
enum Ended {
    Node(usize, Box<NodeResult>),
    Export(Box<ExportResult>),
}

/// Tells what ended, and returns its name and whether it failed.
async fn end(
    inputs: &Inputs,
    board: &mut Board<'_>,
    ended: Ended,
    on_event: &impl Fn(Event),
    report: &mut RunReport,
) -> (TableName, bool) {
    match ended {
        Ended::Node(index, mut result) => {
            result.stale = board.stale_parents(index);
            settle(inputs, board, index, &mut result).await;
            let failed = result.status == Status::Error || result.tests.iter().any(TestResult::blocks);
            let name = result.name.clone();
            on_event(Event::Finished(result.clone()));
            report.nodes.push(*result);
            (name, failed)
        }
        Ended::Export(result) => {
            let (name, failed) = (result.name.clone(), result.status == Status::Error);
            on_event(Event::Exported(result.clone()));
            report.exports.push(*result);
            (name, failed)
        }
    }
}

/// The exports that did not run: their models were not published, or the run ended before.
fn exports_not_run(runtime: &Runtime, schedule: &Schedule, report: &RunReport, why: &str) -> Vec<ExportResult> {
    let done: BTreeSet<&TableName> = report.exports.iter().map(|export| &export.name).collect();
    let left = schedule.exports.iter().filter(|export| !done.contains(&export.name));
    let result = |step: &ExportStep| {
        let export = &runtime.project.exports[&step.name];
        let status = report.nodes.iter().find(|node| node.name == *export.model()).map(|node| node.status);
        match status {
            Some(Status::Error | Status::Blocked) => {
                ExportResult::new(export, Status::Blocked, format!("`{}` failed", export.model()))
            }
            _ => ExportResult::new(export, Status::Cancelled, why.to_owned()),
        }
    };
    left.map(result).collect()
}

/// What the end of a step means for those below it.
async fn settle(inputs: &Inputs, board: &mut Board<'_>, index: usize, result: &mut NodeResult) {
    if matches!(result.status, Status::Success | Status::Skipped) {
        return board.succeed(index);
    }
    let model = &inputs.runtime().project.models[&result.name];
    // Of what is published together either all of it is seen or nothing.
    let together = inputs.is_together(&result.name);
    if model.config.on_error == OnError::SkipChildren || result.status != Status::Error || together {
        return board.fail(index);
    }
    // What never was published has no last good version: those below would read nothing, and publish that.
    inputs.forget(&result.name);
    let readable = !model.is_stored() || matches!(inputs.published(&result.name).await, Ok(Some(_)));
    if readable {
        board.pass_over(index);
    } else {
        result.reason.push_str("; it has no earlier version for `on_error: continue` to go on with");
        board.fail(index);
    }
}

fn names_of(schedule: &Schedule, steps: &[usize]) -> Vec<TableName> {
    steps.iter().map(|index| schedule.steps[*index].name.clone()).collect()
}

/// Publishes a set of steps, or takes away what is staged of it.
async fn end_set(
    inputs: &Inputs,
    schedule: &Schedule,
    board: &mut Board<'_>,
    end: SetEnd,
    on_event: &impl Fn(Event),
    report: &mut RunReport,
) {
    let members = match end {
        SetEnd::Complete(members) => members,
        SetEnd::Spoiled(members, root) => {
            let why = format!("`{root}` failed, and they are published together");
            return withdraw(inputs, &names_of(schedule, &members), &why, on_event, report).await;
        }
    };
    let names = names_of(schedule, &members);
    let staged: Vec<TableName> = names.iter().filter(|name| inputs.held(name).is_some()).cloned().collect();
    let failed = match inputs.publish_held(&staged).await {
        Ok(failed) => failed,
        Err(failure) => {
            members.iter().for_each(|index| board.fail(*index));
            let why = inputs.runtime().in_words(&failure, &staged);
            if !staged.iter().any(|name| inputs.held(name).is_some()) {
                on_event(Event::Withdrawn(staged, why.clone()));
            }
            return withdraw(inputs, &names, &why, on_event, report).await;
        }
    };
    if !staged.is_empty() {
        on_event(Event::Together(staged.iter().filter(|name| !failed.contains_key(name)).cloned().collect()));
    }
    let mut results: BTreeMap<TableName, &mut NodeResult> =
        report.nodes.iter_mut().map(|result| (result.name.clone(), result)).collect();
    for (index, name) in members.iter().zip(&names) {
        let Some(result) = results.get_mut(name) else { continue };
        if let Some(why) = failed.get(name) {
            (result.status, result.reason) = (Status::Error, why.clone());
            on_event(Event::Withdrawn(Vec::new(), format!("{name}: {why}")));
        } else {
            let model = &inputs.runtime().project.models[name];
            match inputs.end(model, result.status, &mut result.hooks).await {
                Err(failure) => {
                    result.status = Status::Error;
                    result.reason = format!("{failure}; what it built is published");
                    on_event(Event::Withdrawn(Vec::new(), result.reason.clone()));
                }
                Ok(true) if result.status == Status::Skipped => {
                    (result.status, result.action) = (Status::Success, HOOKS_ALONE);
                    result.reason = hooks_alone(&result.reason);
                }
                Ok(_) => {}
            }
        }
        match result.status {
            Status::Success | Status::Skipped => board.publish(*index),
            _ => board.fail(*index),
        }
    }
}

/// Takes away what is staged of these, and says so in the report.
async fn withdraw(inputs: &Inputs, names: &[TableName], why: &str, on_event: &impl Fn(Event), report: &mut RunReport) {
    let staged: Vec<TableName> = names.iter().filter(|name| inputs.held(name).is_some()).cloned().collect();
    inputs.drop_held(&staged).await;
    let names: BTreeSet<&TableName> = names.iter().collect();
    for result in report.nodes.iter_mut().filter(|result| names.contains(&result.name)) {
        if result.status == Status::Success && result.action != "view" {
            (result.status, result.version) = (Status::Blocked, None);
            result.reason = format!("not published: {why}");
        }
    }
    if !staged.is_empty() {
        on_event(Event::Withdrawn(staged, why.to_owned()));
    }
}

/// Runs the hooks of a whole run. Says why one failed.
async fn run_level(
    inputs: &Inputs,
    schedule: &Schedule,
    key: &'static str,
    report: &mut RunReport,
) -> Result<(), String> {
    let project = &inputs.runtime().project;
    let is_start = key == "on-run-start";
    let hooks = if is_start { &project.on_run_start } else { &project.on_run_end };
    if schedule.steps.is_empty() {
        return Ok(());
    }
    let status = (!is_start).then(|| if report.succeeded() { "success" } else { "error" });
    let owner = OwnedHooks { model: None, key, hooks };
    inputs.run_hooks(&owner, status, &mut report.hooks).await.map_err(|failure| failure.to_string())
}

/// The report of a run as long as it has not ended: what a killed one leaves behind.
pub fn unfinished(runtime: &Runtime, schedule: &Schedule) -> RunReport {
    let step = |step| not_run(runtime, step, Status::Cancelled, "the run did not come to its end");
    RunReport {
        nodes: schedule.steps.iter().map(step).collect(),
        exports: exports_not_run(
            runtime,
            schedule,
            &RunReport::begun(&runtime.options),
            "the run did not come to its end",
        ),
        unit_tests: schedule.unit_tests.clone(),
        cancelled: true,
        ..RunReport::begun(&runtime.options)
    }
}

fn not_run(runtime: &Runtime, step: &Step, status: Status, reason: &str) -> NodeResult {
    NodeResult::new(&runtime.project.models[&step.name], status, "", reason.to_owned())
}

fn durations_key(runtime: &Runtime) -> Key {
    KeyMaker::new("durations").text(&runtime.project.target.name).finish()
}

/// How long each model took when it was last built.
fn durations(runtime: &Runtime) -> BTreeMap<TableName, f64> {
    runtime.memo.get(durations_key(runtime)).unwrap_or_default()
}

fn remember_durations(runtime: &Runtime, report: &RunReport) {
    let built = report.nodes.iter().filter(|node| node.status == Status::Success && node.action != "view");
    // Small ones do not decide an order, and would be written again after every run.
    let built: Vec<_> = built.map(|node| (node.name.clone(), node.seconds.round())).collect();
    let mut known = durations(runtime);
    let before = known.clone();
    for (name, seconds) in built {
        if seconds >= 1.0 {
            known.insert(name, seconds)
        } else {
            known.remove(&name)
        };
    }
    if known != before {
        runtime.memo.put(durations_key(runtime), &known);
    }
}

impl RunReport {
    /// Of a run that has done nothing yet.
    pub fn begun(options: &RunOptions) -> Self {
        Self {
            invocation_id: options.invocation_id.clone(),
            started_at: options.started_at,
            seconds: 0.0,
            nodes: Vec::new(),
            tests: Vec::new(),
            unit_tests: Vec::new(),
            exports: Vec::new(),
            hooks: Vec::new(),
            cancelled: false,
            archived: Vec::new(),
        }
    }
}
