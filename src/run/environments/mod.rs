//! Tables that go from the lake of one target to that of another: `lake clone` and `lake promote`, and `lake drop`.
//!
//! What a commit says of the tables that it has read is about one lake. So a state is translated on its way: an input becomes
//! the version that has the same rows in the other lake, and where there is none, it stays what it was, with the name of its
//! lake: then the next build finds that it is not what it reads, and builds.

mod agree;
mod drop;
mod take;
mod translate;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::chronicle::chronicle;
use super::inputs::Inputs;
use super::materialize::Failure;
use super::report::{NodeResult, RunReport, Status};
use super::schedule::{Schedule, TestMode, schedule};
use crate::graph::Selection;
use crate::names::TableName;
use crate::project::Model;
use crate::tables::{Arrived, Lake, Prepared, Published, TableError};
use crate::words::plural;

pub use drop::{Dropped, drop_tables, to_drop};

/// Another lake of the project, which tables are taken from.
#[derive(Debug, Clone)]
pub struct Other {
    /// The target.
    pub target: String,
    /// Its lake.
    pub lake: Lake,
}

/// How tables are taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taking {
    /// As they are: `lake clone`.
    Clone,
    /// If this target would make the same: `lake promote`.
    Promote,
}

impl Taking {
    /// Its command.
    pub fn command(self) -> &'static str {
        match self {
            Self::Clone => "clone",
            Self::Promote => "promote",
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// How.
    pub taking: Taking,
    /// All in one burst, or none.
    pub atomic: bool,
    /// Nothing is written.
    pub dry_run: bool,
}

/// A table that was taken over, as what reads it has to name it.
struct Taken {
    /// The version that its rows are of.
    rows: u64,
    version: u64,
    table_id: Option<String>,
}

/// The way from another lake to that of the inputs.
struct Between<'a> {
    inputs: &'a Inputs,
    other: &'a Other,
    wanted: Wanted,
    there: BTreeMap<TableName, Option<Published>>,
    taken: BTreeMap<TableName, Taken>,
    /// Models that are not taken over: nothing is promoted that reads them.
    refused: BTreeSet<TableName>,
    /// What a build of everything would do: which tests gate which model.
    schedule: Schedule,
}

/// What becomes of one table.
enum Outcome {
    /// It is as it should be.
    Same(String),
    /// It is not taken over.
    Refused(String),
    /// It would be taken over.
    Foreseen(Box<Published>),
    /// Its files are in place.
    Ready(Box<Ready>),
}

/// A table whose commit can be made.
struct Ready {
    prepared: Prepared,
    arrived: Arrived,
    source: Published,
}

/// Takes tables over from another lake, in the order of a build: what is read, also by tests, stands first. The run is noted in
/// the lake's own tables.
///
/// # Errors
/// When the lake's own tables cannot be written; the report is of what took place.
pub async fn take_over(
    inputs: &Inputs,
    other: &Other,
    names: &[TableName],
    wanted: Wanted,
) -> (RunReport, Option<Failure>) {
    let start = Instant::now();
    let (there, taken, refused) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    let schedule = whole_schedule(inputs);
    let position: BTreeMap<&TableName, usize> = schedule.steps.iter().map(|step| &step.name).zip(0..).collect();
    let mut names: Vec<&TableName> = names.iter().collect();
    names.sort_by_key(|name| position.get(name).copied().unwrap_or(usize::MAX));
    let mut between = Between { inputs, other, wanted, there, taken, refused, schedule };
    let mut report = RunReport::begun(&inputs.runtime().options);
    let mut held: Vec<(usize, Ready)> = Vec::new();
    for name in names {
        let model = &inputs.runtime().project.models[name];
        let (began, start) = (chrono::Utc::now(), Instant::now());
        let mut result = match between.prepare(model).await {
            Ok(Outcome::Same(reason)) => NodeResult::new(model, Status::Skipped, "", reason),
            Ok(Outcome::Refused(reason)) => between.refuse(model, reason),
            Ok(Outcome::Foreseen(source)) => between.foreseen(model, &source),
            Ok(Outcome::Ready(ready)) if wanted.atomic => {
                held.push((report.nodes.len(), *ready));
                NodeResult::new(model, Status::Success, wanted.taking.command(), String::new())
            }
            Ok(Outcome::Ready(ready)) => match between.publish(vec![&ready]).await {
                Ok(()) => between.told(model, &ready),
                Err(failure) => between.refuse(model, failure.to_string()),
            },
            Err(failure) => between.refuse(model, failure.to_string()),
        };
        (result.started_at, result.seconds) = (began, start.elapsed().as_secs_f64());
        report.nodes.push(result);
    }
    if !held.is_empty() {
        between.end_burst(held, &mut report).await;
    }
    report.seconds = start.elapsed().as_secs_f64();
    if wanted.dry_run {
        return (report, None);
    }
    let noted = chronicle(inputs, &report, wanted.taking.command()).await;
    (report, noted.err())
}

/// What a build of everything would do.
fn whole_schedule(inputs: &Inputs) -> Schedule {
    let runtime = inputs.runtime();
    let mut all = Selection::default();
    all.nodes.extend(runtime.project.models.keys().cloned());
    all.tests.extend(runtime.compiled.tests.iter().map(|test| test.name.clone()));
    schedule(&runtime.project, &runtime.graph, &runtime.compiled, &all, TestMode::Gate)
}

impl Between<'_> {
    /// The current version of a table of the other lake.
    async fn there(&mut self, name: &TableName) -> Result<Option<Published>, Failure> {
        if !self.there.contains_key(name) {
            let found = self.other.lake.inspect(name).await?;
            self.there.insert(name.clone(), found);
        }
        Ok(self.there[name].clone())
    }

    /// The name of the target that tables go to.
    fn here(&self) -> &str {
        &self.inputs.runtime().project.target.name
    }

    fn refuse(&mut self, model: &Model, reason: String) -> NodeResult {
        self.taken.remove(&model.name);
        self.refused.insert(model.name.clone());
        NodeResult::new(model, Status::Error, "", reason)
    }

    /// What would be done for a table.
    fn foreseen(&self, model: &Model, source: &Published) -> NodeResult {
        let files = plural(source.file_count(), "file");
        let reason = format!("version {} of {}: {files}", source.version(), self.other.target);
        let mut result = NodeResult::new(model, Status::Success, self.wanted.taking.command(), reason);
        result.rows = source.rows();
        result
    }

    /// What was done for a table.
    fn told(&self, model: &Model, ready: &Ready) -> NodeResult {
        let brought = ready.arrived.brought;
        let counts = [(brought.linked, "linked"), (brought.copied, "copied"), (brought.there, "there already")];
        let files: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, how)| format!("{} {how}", plural(*count as u64, "file")))
            .collect();
        let files = if files.is_empty() { "no files".to_owned() } else { files.join(", ") };
        let reason = format!("version {} of {}: {files}", ready.source.version(), self.other.target);
        let mut result = NodeResult::new(model, Status::Success, self.wanted.taking.command(), reason);
        (result.rows, result.bytes) = (ready.source.rows(), Some(brought.bytes));
        result.version = Some(ready.prepared.version);
        result
    }

    /// Makes the commits of tables whose files are in place.
    async fn publish(&mut self, ready: Vec<&Ready>) -> Result<(), Failure> {
        let runtime = self.inputs.runtime();
        for table in &ready {
            self.bring_quarantines(&table.source).await?;
        }
        crate::fail_points::reached("brought");
        let commits = ready.iter().map(|table| table.prepared.clone()).collect();
        let overtaken = runtime.lake.publish_together(&runtime.options.invocation_id, commits).await?;
        if let Some(table) = overtaken.first() {
            return Err(Failure::Table(TableError::Conflict { table: table.clone() }));
        }
        crate::fail_points::reached("published");
        for table in ready {
            let name = &table.source.name;
            self.inputs.forget(name);
            table.arrived.hold_on(&self.other.lake, &runtime.lake, name).await?;
        }
        Ok(())
    }

    /// Publishes what is held back, if nothing was refused.
    async fn end_burst(&mut self, held: Vec<(usize, Ready)>, report: &mut RunReport) {
        let inputs = self.inputs;
        let why = match self.refused.first() {
            Some(first) => Some(format!("not published: `{first}` is refused, and they are published together")),
            None => self.publish(held.iter().map(|(_, ready)| ready).collect()).await.err().map(|f| f.to_string()),
        };
        for (at, ready) in held {
            let model = &inputs.runtime().project.models[&ready.source.name];
            let before = &report.nodes[at];
            let (began, seconds) = (before.started_at, before.seconds);
            let mut result = match &why {
                Some(why) => NodeResult::new(model, Status::Blocked, "", why.clone()),
                None => self.told(model, &ready),
            };
            (result.started_at, result.seconds) = (began, seconds);
            report.nodes[at] = result;
        }
    }
}
