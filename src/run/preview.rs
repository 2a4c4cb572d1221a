//! What a run would do, without doing it: `lake build --dry-run` and `lake why`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::decide::Action;
use super::inputs::Inputs;
use super::intake::{Intake, Progress};
use super::materialize::{Failure, Node};
use super::schedule::{Schedule, Step};
use super::world::World;
use crate::compile::{CompiledTest, Input};
use crate::names::TableName;
use crate::project::{Format, Model};

/// What becomes of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Plan {
    /// It is built.
    Build,
    /// Nothing.
    Skip,
    /// It is built if something before it changes.
    Maybe,
    /// It has no table.
    View,
    /// It cannot be built as it is.
    Fail,
}

/// What a run would do with a node.
#[derive(Debug, Clone, Serialize)]
pub struct Planned {
    /// The model.
    pub name: TableName,
    /// `table`, `incremental`, ...
    pub materialized: &'static str,
    /// What becomes of it.
    pub plan: Plan,
    /// `full` or `incremental`; empty if nothing is built.
    pub how: &'static str,
    /// Why.
    pub reason: String,
    /// What would be read for it.
    pub reads: Vec<Reads>,
    /// Nodes of the run that it waits for and that may change.
    pub after: Vec<TableName>,
    /// Tests that would stand before its publish.
    pub tests: usize,
}

/// What is read of an input.
#[derive(Debug, Clone, Serialize)]
pub struct Reads {
    /// A source or a model.
    pub name: TableName,
    /// Files, as far as they are there.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
    /// The target and version of another lake that it is read from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The paths of new, changed and repeated files of a source, the first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
}

/// Paths that are named.
const NAMED: usize = 20;

/// What a run of a schedule would do, parents first. Nothing is written.
pub async fn preview(inputs: &Arc<Inputs>, schedule: &Schedule) -> Vec<Planned> {
    let runtime = inputs.runtime();
    inputs.look_ahead(schedule.tables(&runtime.project, &runtime.compiled)).await;
    let mut planned: Vec<Planned> = Vec::new();
    let mut moving: BTreeMap<TableName, Plan> = BTreeMap::new();
    for step in &schedule.steps {
        let found = of_step(inputs, step, &moving).await;
        if matches!(found.plan, Plan::Build | Plan::Maybe) {
            moving.insert(step.name.clone(), found.plan);
        }
        planned.push(found);
    }
    planned
}

async fn of_step(inputs: &Inputs, step: &Step, moving: &BTreeMap<TableName, Plan>) -> Planned {
    let runtime = inputs.runtime();
    let model = &runtime.project.models[&step.name];
    let mut planned = Planned {
        name: step.name.clone(),
        materialized: model.config.materialized.name(),
        plan: Plan::View,
        how: "",
        reason: "inlined wherever it is read".to_owned(),
        reads: Vec::new(),
        after: Vec::new(),
        tests: step.tests.len(),
    };
    let Some(compiled) = runtime.compiled.models.get(&step.name) else {
        let reason = "it was not checked: something it reads is broken".to_owned();
        return Planned { plan: Plan::Fail, reason, ..planned };
    };
    if !model.is_stored() {
        return planned;
    }
    planned.after =
        compiled.inputs.iter().filter_map(Input::table).filter(|name| moving.contains_key(*name)).cloned().collect();
    let tests: Vec<&CompiledTest> = step.tests.iter().map(|index| &runtime.compiled.tests[*index]).collect();
    let node = Node { inputs, model, compiled, tests, intake: Intake { inputs, model } };
    match node.foresee().await {
        Ok((action, world)) => planned.follow(action, &node, &world, moving).await,
        // Before the first build of what it reads there is nothing to look at.
        Err(_) if !planned.after.is_empty() => planned.wait(),
        Err(failure) => (planned.plan, planned.reason) = (Plan::Fail, runtime.in_words(&failure, [&planned.name])),
    }
    planned
}

impl Planned {
    async fn follow(&mut self, action: Action, node: &Node<'_>, world: &World, moving: &BTreeMap<TableName, Plan>) {
        let first = !world.exists();
        (self.plan, self.how, self.reason) = match action {
            Action::Full(reason) => (Plan::Build, "full", reason),
            Action::Incremental(reason) => (Plan::Build, "incremental", reason),
            Action::Skip(_) if first && self.after.iter().any(|name| moving[name] == Plan::Build) => {
                (Plan::Build, "full", "first build".to_owned())
            }
            Action::Skip(_) if !self.after.is_empty() => return self.wait_with(node, world).await,
            Action::Skip(reason) => (Plan::Skip, "", reason),
        };
        if self.plan == Plan::Build {
            self.reads = node.would_read(world, self.how == "full").await;
        }
    }

    async fn wait_with(&mut self, node: &Node<'_>, world: &World) {
        self.wait();
        self.reads = node.would_read(world, true).await;
    }

    fn wait(&mut self) {
        let names: Vec<String> = self.after.iter().map(ToString::to_string).collect();
        let verb = if names.len() == 1 { "changes" } else { "change" };
        (self.plan, self.how, self.reason) = (Plan::Maybe, "", format!("if {} {verb}", names.join(", ")));
    }
}

impl Node<'_> {
    /// What would be done now, and what that is made of.
    async fn foresee(&self) -> Result<(Action, World), Failure> {
        if let Some((reason, world)) = self.at_a_glance().await {
            return Ok((Action::Skip(reason), world));
        }
        let mut progress = Progress::default();
        let published = self.inputs.published(&self.model.name).await?;
        let world = self.look_from(published, &mut progress).await?;
        let action = match self.model.is_microbatch() {
            true => self.foresee_batches(&world, &mut progress).await?,
            false => self.decide(&world, &progress)?,
        };
        Ok(match action {
            Action::Incremental(reason) if !self.model.is_microbatch() => match self.needs_rebuild(&world).await? {
                Some(reason) => (Action::Full(reason), world),
                None => (Action::Incremental(reason), world),
            },
            other => (other, world),
        })
    }

    /// What changed in the definition, in words.
    pub(super) fn what_changed(&self, world: &World) -> String {
        let before = world.state().filter(|state| state.definition != self.compiled.definition);
        let told = before.map(|state| self.inputs.what_changed(self.model, &state.parts)).unwrap_or_default();
        if told.is_empty() { String::new() } else { format!(": {}", told.join(", ")) }
    }

    async fn would_read(&self, world: &World, full: bool) -> Vec<Reads> {
        let runtime = self.inputs.runtime();
        let mut reads = Vec::new();
        for input in &self.compiled.inputs {
            let found = match input {
                Input::Table(name) => self.of_table(name).await,
                Input::Source(name, _) if runtime.project.sources[name].format == Format::Delta => continue,
                Input::Source(name, _) => match world.taken.get(name).filter(|_| !full || world.exists()) {
                    Some(taken) => of_files(name, taken.pending.reads.iter().map(|read| &read.file)),
                    None => match self.inputs.listing(name).await {
                        Ok(listing) => Reads { paths: Vec::new(), ..of_files(name, listing.files.iter()) },
                        Err(_) => continue,
                    },
                },
            };
            reads.push(found);
        }
        reads
    }

    async fn of_table(&self, name: &TableName) -> Reads {
        let published = self.inputs.readable(name).await.ok().flatten();
        let (files, bytes) = published.map_or((0, 0), |published| (published.file_count(), published.bytes()));
        let from = self.inputs.read_from(name).await.ok().flatten();
        Reads { name: name.clone(), files, bytes, from, paths: Vec::new() }
    }
}

fn of_files<'f>(name: &TableName, files: impl Iterator<Item = &'f crate::bronze::BronzeFile> + Clone) -> Reads {
    Reads {
        name: name.clone(),
        files: files.clone().count() as u64,
        bytes: files.clone().map(|file| file.meta.size).sum(),
        from: None,
        paths: files.take(NAMED).map(|file| file.path.clone()).collect(),
    }
}

impl Inputs {
    /// What is not as it was in the definition of a model, in words.
    fn what_changed(&self, model: &Model, before: &BTreeMap<String, String>) -> Vec<String> {
        let runtime = self.runtime();
        let now = crate::compile::parts(&runtime.project, model, &runtime.compiled.models);
        crate::compile::changed_parts(before, &now, &model.path)
    }
}
