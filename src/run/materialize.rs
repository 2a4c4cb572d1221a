//! One model: decide, execute, stage, audit, publish.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use datafusion::datasource::ViewTable;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::LogicalPlan;

use super::audit::audit;
use super::decide::{Action, Facts, decide};
use super::evolve::{evolved, latest_only};
use super::inputs::{Chosen, Inputs};
use super::report::{NodeResult, Status, TestResult};
use super::schedule::Step;
use crate::bronze::{self, BronzeError, BronzeFile, Listing, Manifest, manifest};
use crate::compile::{CompiledModel, CompiledTest, Input};
use crate::names::TableName;
use crate::project::{Format, Materialization, Model, Strategy};
use crate::session;
use crate::tables::{self, Commit, Published, Staged, TableError, TableState};
use crate::template::SourceRead;

/// How often a node starts again after another run was faster.
const ATTEMPTS: usize = 4;

/// Why a node failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A source.
    #[error(transparent)]
    Bronze(#[from] BronzeError),
    /// In words.
    #[error("{0}")]
    Text(String),
}

impl Failure {
    pub(super) fn text(text: String) -> Self {
        Self::Text(text)
    }

    fn is_conflict(&self) -> bool {
        matches!(self, Self::Table(TableError::Conflict { .. }))
    }
}

impl From<DataFusionError> for Failure {
    fn from(error: DataFusionError) -> Self {
        Self::Table(TableError::Query(error))
    }
}

/// What one attempt came to.
struct Outcome {
    status: Status,
    action: &'static str,
    reason: String,
    rows: Option<u64>,
    bytes: Option<u64>,
    files_read: usize,
    version: Option<u64>,
    tests: Vec<TestResult>,
}

impl Outcome {
    fn new(status: Status, action: &'static str, reason: String) -> Self {
        Self { status, action, reason, rows: None, bytes: None, files_read: 0, version: None, tests: Vec::new() }
    }
}

/// Runs one step to its end; a failure is a result like any other.
pub(super) async fn materialize(inputs: &Inputs, step: &Step) -> NodeResult {
    let (started_at, start) = (chrono::Utc::now(), Instant::now());
    let model = &inputs.runtime().project.models[&step.name];
    let mut attempt = 1;
    let outcome = loop {
        match run(inputs, model, step).await {
            Err(failure) if failure.is_conflict() && attempt < ATTEMPTS => {
                attempt += 1;
                inputs.forget(&model.name);
            }
            Err(failure) => break Outcome::new(Status::Error, "", failure.to_string()),
            Ok(outcome) => break outcome,
        }
    };
    NodeResult {
        name: step.name.clone(),
        materialized: model.config.materialized.name(),
        status: outcome.status,
        action: outcome.action,
        reason: outcome.reason,
        rows: outcome.rows,
        bytes: outcome.bytes,
        files_read: outcome.files_read,
        version: outcome.version,
        started_at,
        seconds: start.elapsed().as_secs_f64(),
        tests: outcome.tests,
    }
}

async fn run(inputs: &Inputs, model: &Model, step: &Step) -> Result<Outcome, Failure> {
    let runtime = inputs.runtime();
    let Some(compiled) = runtime.compiled.models.get(&model.name) else {
        return Ok(Outcome::new(Status::Blocked, "", "it was not checked: something it reads is broken".to_owned()));
    };
    let tests: Vec<&CompiledTest> = step.tests.iter().map(|index| &runtime.compiled.tests[*index]).collect();
    if !model.is_stored() {
        return view(inputs, model, &tests).await;
    }
    let node = Node { inputs, model, compiled, tests };
    let world = node.look().await?;
    match node.decide(&world) {
        Action::Skip(reason) => node.skip(&world, reason).await,
        Action::Full(reason) => node.build(&world, Mode::Full, reason).await,
        Action::Incremental(reason) => node.build(&world, Mode::Incremental, reason).await,
    }
}

/// A view has nothing to build; its tests run over its query.
async fn view(inputs: &Inputs, model: &Model, tests: &[&CompiledTest]) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::new(Status::Success, "view", "inlined wherever it is read".to_owned());
    if !tests.is_empty() {
        let plan = inputs.view_plan(&model.name).await?;
        let table = Arc::new(ViewTable::new(plan, None));
        outcome.tests = audit(inputs, tests, Some((&model.name, table))).await;
        if let Some(message) = failed_tests(&outcome.tests) {
            outcome.status = Status::Error;
            outcome.reason = message;
        }
    }
    Ok(outcome)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Full,
    Incremental,
}

/// A stored model in this run.
struct Node<'a> {
    inputs: &'a Inputs,
    model: &'a Model,
    compiled: &'a CompiledModel,
    tests: Vec<&'a CompiledTest>,
}

/// What was found of its table and its inputs.
struct World {
    published: Option<Published>,
    /// Versions and file lists, by name, as the fingerprint has them.
    versions: BTreeMap<String, String>,
    /// Sources whose files it takes in, with what it took in before.
    taken: BTreeMap<TableName, TakenIn>,
    nothing_to_read: bool,
}

struct TakenIn {
    manifest: Manifest,
    pending: Vec<BronzeFile>,
    all: Vec<BronzeFile>,
    base: String,
}

impl Node<'_> {
    async fn look(&self) -> Result<World, Failure> {
        let mut world = World {
            published: self.inputs.published(&self.model.name).await?,
            versions: BTreeMap::new(),
            taken: BTreeMap::new(),
            nothing_to_read: !self.compiled.inputs.is_empty(),
        };
        for input in &self.compiled.inputs {
            match input {
                Input::Table(name) => {
                    let version = self.inputs.published(name).await?.map(|published| published.version());
                    world.nothing_to_read &= version.is_none();
                    let text = version.map_or_else(|| "absent".to_owned(), |version| format!("version {version}"));
                    world.versions.insert(name.to_string(), text);
                }
                Input::Source(name, SourceRead::Changes)
                    if self.model.config.materialized == Materialization::Incremental
                        && self.inputs.runtime().project.sources[name].format != Format::Delta =>
                {
                    let taken = self.taken_in(name, world.published.as_ref()).await?;
                    world.nothing_to_read &= taken.all.is_empty();
                    world.taken.insert(name.clone(), taken);
                }
                Input::Source(name, _) => {
                    let (state, has_rows) = self.inputs.source_state(name).await?;
                    world.nothing_to_read &= !has_rows;
                    world.versions.insert(name.to_string(), state);
                }
            }
        }
        Ok(world)
    }

    async fn taken_in(&self, source: &TableName, published: Option<&Published>) -> Result<TakenIn, Failure> {
        let runtime = self.inputs.runtime();
        let app_id = manifest::app_id(&self.model.name, source);
        let head = match published {
            Some(published) => published.transaction(&app_id).await?,
            None => None,
        };
        let store = runtime.lake.files_of(&self.model.name)?;
        let known = Manifest::read(&store, &self.model.name, source, head).await?;
        let listing = self.inputs.listing(source).await?;
        self.same_source(source, &known, &listing, published)?;
        let pending = if self.full_refresh() {
            Vec::new()
        } else {
            known.pending(&listing, source, runtime.project.sources[source].on_changed_file)?.files
        };
        Ok(TakenIn { manifest: known, pending, all: listing.files, base: listing.base })
    }

    /// Refuses a source that was moved or renamed: its files would all look new, and their rows would double.
    fn same_source(
        &self,
        source: &TableName,
        known: &Manifest,
        listing: &Listing,
        published: Option<&Published>,
    ) -> Result<(), Failure> {
        if self.full_refresh() {
            return Ok(());
        }
        if let Some(base) = known.base().filter(|base| *base != listing.base) {
            return Err(Failure::text(format!(
                "files of `{source}` were taken in from `{base}` and are now looked for in `{}`; rebuild `{}` with \
                 --full-refresh",
                listing.base, self.model.name
            )));
        }
        let before = published.and_then(|published| published.state.as_ref()).map(|state| state.sources.as_slice());
        let gone =
            before.into_iter().flatten().find(|name| !self.model.sources.iter().any(|(s, _)| s.to_string() == **name));
        match gone {
            Some(gone) if !known.has_head() => Err(Failure::text(format!(
                "`{source}` takes the place of `{gone}`, whose files `{}` has taken in; rebuild it with --full-refresh",
                self.model.name
            ))),
            _ => Ok(()),
        }
    }

    fn full_refresh(&self) -> bool {
        self.model.config.full_refresh.unwrap_or(self.inputs.runtime().options.full_refresh)
    }

    fn decide(&self, world: &World) -> Action {
        let pending = world.taken.iter().map(|(name, taken)| (name.to_string(), taken.pending.len())).collect();
        let incremental = self.model.config.materialized == Materialization::Incremental;
        decide(&Facts {
            materialized: self.model.config.materialized,
            exists: world.published.is_some(),
            full_refresh: incremental && self.full_refresh(),
            state: world.published.as_ref().and_then(|published| published.state.as_ref()),
            definition: &self.compiled.definition,
            volatile: self.compiled.volatile.as_deref(),
            inputs: &world.versions,
            pending: &pending,
            nothing_to_read: world.nothing_to_read,
            appends: self.model.appends(),
            has_manifest: world.taken.values().any(|taken| taken.manifest.has_head()),
        })
    }

    /// Nothing to build. Tests that the published version has not passed yet still run.
    async fn skip(&self, world: &World, reason: String) -> Result<Outcome, Failure> {
        let mut outcome = Outcome::new(Status::Skipped, "", reason);
        let Some(published) = &world.published else { return Ok(outcome) };
        outcome.version = Some(published.version());
        let passed = published.state.as_ref().map(|state| state.tests.clone()).unwrap_or_default();
        let mut due: Vec<&CompiledTest> = Vec::new();
        for test in &self.tests {
            if passed.get(&test.name) != Some(&self.stamp(test).await?) {
                due.push(test);
            }
        }
        if !due.is_empty() {
            outcome.tests = audit(self.inputs, &due, None).await;
            if let Some(message) = failed_tests(&outcome.tests) {
                outcome.status = Status::Error;
                outcome.reason = format!("the published version: {message}");
            }
        }
        Ok(outcome)
    }

    /// What a test's pass is worth: it holds for this test, and for the other tables that it reads as they were.
    async fn stamp(&self, test: &CompiledTest) -> Result<String, Failure> {
        let runtime = self.inputs.runtime();
        let mut stamp = test.fingerprint();
        for name in test.reads.iter().filter(|name| **name != self.model.name) {
            let view = runtime.compiled.models.get(name).filter(|_| !runtime.project.models[name].is_stored());
            let below = match view {
                Some(view) => {
                    stamp.push_str(&format!(" {name}={}", view.definition));
                    view.inputs.clone()
                }
                None if runtime.project.models.contains_key(name) => [Input::Table(name.clone())].into(),
                None => [Input::Source(name.clone(), SourceRead::All)].into(),
            };
            for input in below {
                stamp.push_str(&match input {
                    Input::Table(name) => {
                        let version = self.inputs.published(&name).await?.map(|published| published.version());
                        format!(" {name}@{version:?}")
                    }
                    Input::Source(name, _) => format!(" {name}@{}", self.inputs.source_state(&name).await?.0),
                });
            }
        }
        Ok(stamp)
    }

    async fn build(&self, world: &World, mode: Mode, reason: String) -> Result<Outcome, Failure> {
        let runtime = self.inputs.runtime();
        let chosen: Chosen = world
            .taken
            .iter()
            .map(|(name, taken)| {
                (name.clone(), if mode == Mode::Full { taken.all.clone() } else { taken.pending.clone() })
            })
            .collect();
        let published = world.published.as_ref();
        let staged = match self.stage(world, mode, &chosen).await {
            Ok(staged) => staged,
            Err(failure) => return Err(self.blame(failure, &chosen).await),
        };
        if let Some(file) = bronze::first_changed(chosen.values().flatten()).await {
            staged.discard(&runtime.lake).await;
            let file = bronze::shown(file.meta.location.as_ref(), &runtime.folder);
            return Err(Failure::text(format!(
                "`{file}` changed while it was read; nothing was published, build again"
            )));
        }
        let future = tables::future_table(published, &staged).await?;
        let tests = audit(self.inputs, &self.tests, Some((&self.model.name, future))).await;
        let mut outcome = Outcome::new(Status::Success, self.action(published, mode), reason);
        outcome.files_read = chosen.values().map(Vec::len).sum();
        outcome.tests = tests;
        if let Some(message) = failed_tests(&outcome.tests) {
            staged.discard(&runtime.lake).await;
            outcome.status = Status::Error;
            outcome.reason = format!("{message}; nothing was published");
            return Ok(outcome);
        }
        let commit = self.commit(world, mode, &chosen, &outcome.tests).await?;
        (outcome.rows, outcome.bytes) = (Some(staged.rows()), Some(staged.bytes()));
        let fresh = tables::publish(&runtime.lake, published, staged, &commit).await?;
        outcome.version = Some(fresh.version());
        self.inputs.set_published(fresh);
        Ok(outcome)
    }

    fn action(&self, published: Option<&Published>, mode: Mode) -> &'static str {
        match (published, mode, self.model.config.incremental_strategy) {
            (None, _, _) => "create",
            (Some(_), Mode::Full, _) => "replace",
            (Some(_), Mode::Incremental, Strategy::Append) => "append",
            (Some(_), Mode::Incremental, Strategy::Merge) => "merge",
        }
    }

    async fn stage(&self, world: &World, mode: Mode, chosen: &Chosen) -> Result<Staged, Failure> {
        let runtime = self.inputs.runtime();
        let plan = self.plan(world, mode, chosen).await?;
        let published = world.published.as_ref();
        let config = &self.model.config;
        let kept = published.filter(|_| mode == Mode::Incremental);
        if let Some(published) = kept
            && published.partition_columns() != config.partition_by
        {
            let was = published.partition_columns().join(", ");
            return Err(Failure::text(format!(
                "the table is partitioned by ({was}) and the model by ({}); rebuild `{}` with --full-refresh",
                config.partition_by.join(", "),
                self.model.name
            )));
        }
        let schema = match kept {
            Some(published) => evolved(self.model, &published.schema, &self.compiled.schema)?,
            None => Arc::clone(&self.compiled.schema),
        };
        let staged =
            tables::stage(&runtime.lake, &self.model.name, plan, &schema, &config.partition_by, &runtime.session)
                .await?;
        let staged = if self.model.merges() {
            tables::merge(&runtime.lake, kept, staged, &config.unique_key, &runtime.session).await?
        } else {
            staged
        };
        Ok(if mode == Mode::Full { staged.replacing_all() } else { staged })
    }

    async fn plan(&self, world: &World, mode: Mode, chosen: &Chosen) -> Result<LogicalPlan, Failure> {
        let runtime = self.inputs.runtime();
        let rendered = self.model.rendered(mode == Mode::Incremental);
        let mut tables = self.inputs.tables(&self.model.refs, &self.model.sources, chosen).await?;
        if let Some(published) = world.published.as_ref().filter(|_| mode == Mode::Incremental) {
            let own = tables::table_provider(published).await?;
            tables.insert(self.model.name.clone(), datafusion::datasource::provider_as_source(own));
        }
        let sql = match &self.model.config.sequence_by {
            Some(column) if self.model.merges() => {
                // Printed from its syntax tree: a comment at its end would swallow what is put around it.
                let sql = session::parse(&rendered.sql)?.to_string();
                latest_only(&sql, &self.model.config.unique_key, column, &self.compiled.schema)
            }
            _ => rendered.sql.clone(),
        };
        Ok(session::plan(&runtime.session, session::parse(&sql)?, &tables)?)
    }

    /// A query that failed because of a file says which file.
    async fn blame(&self, failure: Failure, chosen: &Chosen) -> Failure {
        let runtime = self.inputs.runtime();
        let Failure::Table(TableError::Query(error)) = &failure else { return failure };
        if let Some(file) = bronze::named_file(error) {
            return file.into();
        }
        for (name, read) in &self.model.sources {
            let source = &runtime.project.sources[name];
            if source.format == Format::Delta {
                continue;
            }
            let schema = &runtime.compiled.sources[name];
            let files = match (read, chosen.get(name)) {
                (SourceRead::Changes, Some(files)) => files.clone(),
                _ => match self.inputs.listing(name).await {
                    Ok(listing) => listing.files,
                    Err(_) => continue,
                },
            };
            let culprit = bronze::find_culprit(source, schema, &files, &runtime.session, &runtime.folder).await;
            if let Some(error) = culprit {
                return error.into();
            }
        }
        failure
    }

    /// Writes the manifest batches and says what the commit records.
    async fn commit(
        &self,
        world: &World,
        mode: Mode,
        chosen: &Chosen,
        tests: &[TestResult],
    ) -> Result<Commit, Failure> {
        let runtime = self.inputs.runtime();
        let mut transactions = Vec::new();
        for (source, taken) in &world.taken {
            let store = runtime.lake.files_of(&self.model.name)?;
            let files = &chosen[source];
            let manifest = if mode == Mode::Full { taken.manifest.restarted() } else { taken.manifest.clone() };
            if mode == Mode::Incremental && files.is_empty() {
                continue;
            }
            let now = chrono::Utc::now();
            let id = manifest.write(&store, &self.model.name, source, files, &taken.base, now).await?;
            transactions.push((manifest::app_id(&self.model.name, source), id));
        }
        let ran: BTreeMap<&str, bool> = tests.iter().map(|t| (t.name.as_str(), !t.blocks())).collect();
        let mut passed = BTreeMap::new();
        for test in self.tests.iter().filter(|test| ran.get(test.name.as_str()) == Some(&true)) {
            passed.insert(test.name.clone(), self.stamp(test).await?);
        }
        Ok(Commit {
            state: TableState {
                definition: self.compiled.definition.clone(),
                materialized: self.model.config.materialized.name().to_owned(),
                inputs: world.versions.clone(),
                tests: passed,
                volatile: self.compiled.volatile.is_some(),
                sources: world.taken.keys().map(ToString::to_string).collect(),
                invocation_id: runtime.options.invocation_id.clone(),
            },
            transactions,
            id: uuid::Uuid::new_v4().to_string(),
        })
    }
}

/// `2 of 5 tests failed: a, b`, if any stops the publish.
fn failed_tests(tests: &[TestResult]) -> Option<String> {
    let failed: Vec<String> = tests
        .iter()
        .filter(|test| test.blocks())
        .map(|test| format!("{} ({})", test.name, test.message.as_deref().unwrap_or("failed")))
        .collect();
    if failed.is_empty() {
        return None;
    }
    let noun = if tests.len() == 1 { "test" } else { "tests" };
    Some(format!("{} of {} {noun} failed: {}", failed.len(), tests.len(), failed.join(", ")))
}
