//! Running a schedule: nodes in parallel as their parents finish.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::after_load::archive;
use super::audit::audit;
use super::inputs::Inputs;
use super::materialize::materialize;
use super::report::{NodeResult, RunReport, Status};
use super::schedule::{Schedule, Step};
use crate::compile::CompiledTest;
use crate::names::TableName;

/// What happens while a run goes on.
#[derive(Debug, Clone)]
pub enum Event {
    /// A node starts.
    Started(TableName),
    /// A node has ended.
    Finished(Box<NodeResult>),
}

/// Runs a schedule to its end, or until `stop` is notified: then nothing new starts, what runs is dropped, and
/// every table is at its last published version.
pub async fn execute(
    inputs: Arc<Inputs>,
    schedule: &Schedule,
    stop: Arc<Notify>,
    on_event: impl Fn(Event),
) -> RunReport {
    let start = Instant::now();
    let options = inputs.runtime().options.clone();
    let mut report = RunReport {
        invocation_id: options.invocation_id,
        started_at: options.started_at,
        seconds: 0.0,
        nodes: Vec::new(),
        tests: Vec::new(),
        cancelled: false,
        archived: Vec::new(),
    };
    let mut board = Board::new(schedule);
    let mut running: JoinSet<(usize, NodeResult)> = JoinSet::new();
    loop {
        for (index, blocker) in board.take_blocked() {
            let result = not_run(&inputs, &schedule.steps[index], Status::Blocked, &format!("`{blocker}` failed"));
            on_event(Event::Finished(Box::new(result.clone())));
            report.nodes.push(result);
        }
        while running.len() < options.threads
            && let Some(index) = board.take_ready()
        {
            let (inputs, step) = (Arc::clone(&inputs), schedule.steps[index].clone());
            on_event(Event::Started(step.name.clone()));
            running.spawn(async move { (index, materialize(&inputs, &step).await) });
        }
        if running.is_empty() {
            break;
        }
        tokio::select! {
            () = stop.notified() => {
                running.shutdown().await;
                report.cancelled = true;
                break;
            }
            Some(finished) = running.join_next() => match finished {
                Ok((index, result)) => {
                    board.finish(index, &result);
                    on_event(Event::Finished(Box::new(result.clone())));
                    report.nodes.push(result);
                }
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => {}
            },
        }
    }
    if report.cancelled {
        let done: BTreeSet<TableName> = report.nodes.iter().map(|node| node.name.clone()).collect();
        for step in schedule.steps.iter().filter(|step| !done.contains(&step.name)) {
            report.nodes.push(not_run(&inputs, step, Status::Cancelled, "the run was stopped"));
        }
    } else {
        let tests: Vec<&CompiledTest> =
            schedule.loose_tests.iter().map(|index| &inputs.runtime().compiled.tests[*index]).collect();
        report.tests = audit(&inputs, &tests, None).await;
        report.archived = archive(&inputs, schedule).await;
    }
    report.seconds = start.elapsed().as_secs_f64();
    report
}

fn not_run(inputs: &Inputs, step: &Step, status: Status, reason: &str) -> NodeResult {
    NodeResult {
        name: step.name.clone(),
        materialized: inputs.runtime().project.models[&step.name].config.materialized.name(),
        status,
        action: "",
        reason: reason.to_owned(),
        rows: None,
        rows_quarantined: 0,
        bytes: None,
        files_read: 0,
        version: None,
        started_at: chrono::Utc::now(),
        seconds: 0.0,
        failed_file: None,
        tests: Vec::new(),
    }
}

/// Which steps wait, and for what.
struct Board<'a> {
    schedule: &'a Schedule,
    waiting: BTreeSet<usize>,
    done: BTreeSet<usize>,
    /// Steps that failed or were blocked, with the one at the root of it.
    failed: Vec<(usize, TableName)>,
}

impl<'a> Board<'a> {
    fn new(schedule: &'a Schedule) -> Self {
        Self { schedule, waiting: (0..schedule.steps.len()).collect(), done: BTreeSet::new(), failed: Vec::new() }
    }

    fn take_ready(&mut self) -> Option<usize> {
        let is_ready =
            |index: &usize| self.schedule.steps[*index].after.iter().all(|parent| self.done.contains(parent));
        let ready = self.waiting.iter().copied().find(|index| is_ready(index))?;
        self.waiting.remove(&ready);
        Some(ready)
    }

    /// Steps below a failed one, each with what failed.
    fn take_blocked(&mut self) -> Vec<(usize, TableName)> {
        let mut blocked = Vec::new();
        for index in self.waiting.clone() {
            let after = &self.schedule.steps[index].after;
            if let Some((_, root)) = self.failed.iter().find(|(failed, _)| after.contains(failed)) {
                let root = root.clone();
                self.waiting.remove(&index);
                self.failed.push((index, root.clone()));
                blocked.push((index, root));
            }
        }
        blocked
    }

    fn finish(&mut self, index: usize, result: &NodeResult) {
        match result.status {
            Status::Success | Status::Skipped => {
                self.done.insert(index);
            }
            Status::Error | Status::Blocked | Status::Cancelled => self.failed.push((index, result.name.clone())),
        }
    }
}
