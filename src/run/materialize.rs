//! One model: decide, execute, stage, audit, publish.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use datafusion::error::DataFusionError;

use super::attempts::Patience;
use super::audit::{audit_rest, failed_tests};
use super::changes;
use super::decide::{Action, Facts, decide};
use super::gate::view;
use super::inputs::{Chosen, Inputs};
use super::intake::{Intake, Progress};
use super::profiling::Sketched;
use super::proved::proved;
use super::quarantine::Readable;
use super::report::{NodeResult, Status, TestResult};
use super::schedule::Step;
use super::sieve::Sieve;
use super::world::World;
use crate::bronze::{self, BronzeError};
use crate::compile::{CompiledModel, CompiledTest};
use crate::fail_points;
use crate::project::{Format, Materialization, Model, Strategy};
use crate::tables::{Published, Staged, TableError};
use crate::template::SourceRead;

/// Why a node failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A source.
    #[error(transparent)]
    Bronze(#[from] BronzeError),
    /// Its tests refused rows, which are kept.
    #[error("{0}")]
    Refused(String),
    /// In words.
    #[error("{0}")]
    Text(String),
}

impl Failure {
    pub(super) fn text(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<DataFusionError> for Failure {
    fn from(error: DataFusionError) -> Self {
        Self::Table(TableError::Query(error))
    }
}

/// What one attempt came to.
pub(super) struct Outcome {
    pub(super) status: Status,
    pub(super) action: &'static str,
    pub(super) reason: String,
    pub(super) rows: Option<u64>,
    rows_quarantined: u64,
    pub(super) bytes: Option<u64>,
    files_read: usize,
    pub(super) version: Option<u64>,
    failed_file: Option<String>,
    pub(super) tests: Vec<TestResult>,
    /// What was counted of the new rows.
    sketched: Option<Sketched>,
    /// Another batch waits.
    pub(super) more: bool,
    /// Its tests refused rows, which are kept.
    pub(super) refused: bool,
}

impl Outcome {
    pub(super) fn new(status: Status, action: &'static str, reason: String) -> Self {
        let (rows, bytes, version) = (None, None, None);
        Self {
            status,
            action,
            reason,
            rows,
            rows_quarantined: 0,
            bytes,
            files_read: 0,
            version,
            failed_file: None,
            tests: Vec::new(),
            sketched: None,
            more: false,
            refused: false,
        }
    }

    /// Writes it down in the span of the node.
    fn trace(&self) {
        let span = tracing::Span::current();
        span.record("status", format!("{:?}", self.status).to_lowercase().as_str());
        span.record("action", self.action);
        span.record("reason", self.reason.as_str());
        for (key, value) in [("rows", self.rows), ("bytes", self.bytes), ("version", self.version)] {
            if let Some(value) = value {
                span.record(key, value);
            }
        }
        if self.status == Status::Error {
            span.record("otel.status_code", "ERROR");
            span.record("otel.status_description", self.reason.as_str());
        }
    }

    /// The batches before this one and this one, as one outcome.
    fn after(self, before: Option<Self>, batches: usize) -> Self {
        let Some(before) = before else { return self };
        let sum = |a: Option<u64>, b: Option<u64>| a.map(|a| a + b.unwrap_or_default()).or(b);
        let (action, reason) = match self.status {
            Status::Success => (before.action, before.reason),
            Status::Skipped => return before,
            _ if batches == 1 => (self.action, format!("{}; 1 batch before it is published", self.reason)),
            _ => (self.action, format!("{}; {batches} batches before it are published", self.reason)),
        };
        let sketched = self.sketched.and_then(|sketched| sketched.after(before.sketched, before.version));
        Self {
            action,
            reason,
            sketched,
            rows: sum(before.rows, self.rows),
            rows_quarantined: before.rows_quarantined + self.rows_quarantined,
            bytes: sum(before.bytes, self.bytes),
            files_read: before.files_read + self.files_read,
            version: self.version.or(before.version),
            ..self
        }
    }
}

/// What was done to a table of which nothing but the hooks of an earlier run was left to do.
pub(super) const HOOKS_ALONE: &str = "post_hook";

/// The reason then.
pub(super) fn hooks_alone(reason: &str) -> String {
    format!("its post_hook had not come to its end; {reason}")
}

/// Runs one step to its end; a failure is a result like any other.
#[tracing::instrument(name = "node", skip_all, fields(
    otel.name = %step.name, otel.status_code, otel.status_description, status, action, reason, rows, bytes, version,
))]
pub(super) async fn materialize(inputs: &Inputs, step: &Step) -> NodeResult {
    let (started_at, start) = (chrono::Utc::now(), Instant::now());
    let model = &inputs.runtime().project.models[&step.name];
    let mut patience = Patience::new(inputs.runtime().options.retries, model.config.timeout);
    let mut progress = Progress::new(Arc::clone(&patience.publishing));
    let mut before = None;
    let mut outcome = loop {
        match patience.limit(run(inputs, model, step, &mut progress)).await {
            Err(failure) if patience.again(&failure).await => inputs.forget(&model.name),
            Err(failure) => {
                let why = inputs.runtime().in_words(&failure, [&model.name]);
                let mut outcome = Outcome::new(Status::Error, "", why);
                outcome.refused = matches!(failure, Failure::Refused(_));
                if let Failure::Bronze(BronzeError::File { file, .. }) = failure {
                    outcome.failed_file = Some(file);
                }
                break outcome.after(before, progress.batches);
            }
            Ok(outcome) if outcome.more => {
                patience.renew();
                before = Some(outcome.after(before, progress.batches));
            }
            Ok(outcome) => break outcome.after(before, progress.batches),
        }
    };
    if outcome.status == Status::Success && progress.batches > 1 {
        outcome.reason.push_str(&format!("; in {} batches", progress.batches));
    }
    if matches!(outcome.status, Status::Success | Status::Skipped) && step.together.is_none() {
        let ended = inputs.end(model, outcome.status, &mut progress.hooks);
        match patience.limit(ended).await {
            Err(failure) => {
                (outcome.status, outcome.reason) = (Status::Error, format!("{failure}; what it built is published"));
            }
            Ok(true) if outcome.status == Status::Skipped => {
                (outcome.status, outcome.action) = (Status::Success, HOOKS_ALONE);
                outcome.reason = hooks_alone(&outcome.reason);
            }
            Ok(_) => {}
        }
    }
    outcome.trace();
    NodeResult {
        name: step.name.clone(),
        materialized: model.config.materialized.name(),
        status: outcome.status,
        action: outcome.action,
        reason: outcome.reason,
        rows: outcome.rows,
        rows_quarantined: outcome.rows_quarantined,
        bytes: outcome.bytes,
        files_read: outcome.files_read,
        version: outcome.version,
        started_at,
        seconds: start.elapsed().as_secs_f64(),
        failed_file: outcome.failed_file,
        refused: outcome.refused,
        stale: Vec::new(),
        hooks: progress.hooks,
        tests: outcome.tests,
        sketched: outcome.sketched,
    }
}

/// One batch of one model.
async fn run(inputs: &Inputs, model: &Model, step: &Step, progress: &mut Progress) -> Result<Outcome, Failure> {
    let runtime = inputs.runtime();
    let Some(compiled) = runtime.compiled.models.get(&model.name) else {
        return Ok(Outcome::new(Status::Blocked, "", "it was not checked: something it reads is broken".to_owned()));
    };
    let tests: Vec<&CompiledTest> = step.tests.iter().map(|index| &runtime.compiled.tests[*index]).collect();
    if !model.is_stored() {
        inputs.begin(model, progress).await?;
        let (mut outcome, tests) = (
            Outcome::new(Status::Success, "view", "inlined wherever it is read".to_owned()),
            view(inputs, model, &tests).await?,
        );
        outcome.tests = tests;
        if let Some(message) = failed_tests(&outcome.tests) {
            (outcome.status, outcome.reason) = (Status::Error, message);
        }
        return Ok(outcome);
    }
    let node = Node { inputs, model, compiled, tests, intake: Intake { inputs, model } };
    if model.is_microbatch() {
        return node.run_batches(progress).await;
    }
    if let Some(outcome) = node.skip_at_a_glance().await {
        return Ok(outcome);
    }
    let world = node.look(progress).await?;
    match node.decide(&world, progress)? {
        Action::Skip(reason) => node.skip(&world, reason).await,
        Action::Full(reason) => node.rebuild(world, reason, progress).await,
        Action::Incremental(reason) => match node.needs_rebuild(&world).await? {
            Some(reason) => node.rebuild(world, reason, progress).await,
            None => node.build(world, Mode::Incremental, reason, progress).await,
        },
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Full,
    Incremental,
}

/// A stored model in this run.
pub(super) struct Node<'a> {
    pub(super) inputs: &'a Inputs,
    pub(super) model: &'a Model,
    pub(super) compiled: &'a CompiledModel,
    pub(super) tests: Vec<&'a CompiledTest>,
    pub(super) intake: Intake<'a>,
}

impl Node<'_> {
    pub(super) fn decide(&self, world: &World, progress: &Progress) -> Result<Action, Failure> {
        self.keeps_history(world)?;
        let pending = world.taken.iter().map(|(name, taken)| (name.to_string(), taken.counts)).collect();
        let incremental = self.model.config.materialized == Materialization::Incremental;
        let full_refresh = (incremental || self.model.seed.is_some()) && self.intake.full_refresh(progress);
        let replays = self.inputs.runtime().options.replay.is_some();
        let rebuild = match full_refresh || replays {
            true => None,
            false => self.intake.rebuild(&world.taken, world.published.as_ref())?,
        };
        Ok(self.told(
            world,
            decide(&Facts {
                materialized: self.model.config.materialized,
                exists: world.exists(),
                emptied: world.published.as_ref().is_some_and(Published::is_emptied),
                full_refresh,
                state: world.state(),
                definition: &self.compiled.definition,
                what_changed: self.what_changed(world),
                as_they_were: self.as_they_were(world),
                forced: self.inputs.runtime().options.force,
                volatile: self.compiled.volatile.as_deref(),
                inputs: &world.versions,
                pending: &pending,
                rebuild: rebuild.as_deref(),
                sliced: self.inputs.runtime().options.slice.is_some(),
                nothing_to_read: world.nothing_to_read,
                reads_changes: !world.changes.is_empty(),
                changes: changes::reason(&world.changes),
                appends: self.model.appends(),
                replays,
                has_manifest: world.taken.values().any(|taken| taken.manifest.head().is_some()),
            }),
        ))
    }

    /// Nothing to build. Tests that the published version has not passed yet still run.
    pub(super) async fn skip(&self, world: &World, reason: String) -> Result<Outcome, Failure> {
        let mut outcome = Outcome::new(Status::Skipped, "", reason);
        let Some(published) = &world.published else { return Ok(outcome) };
        outcome.version = Some(published.version());
        if let Some((version, what)) = self.describe(published).await? {
            outcome = Outcome { version: Some(version), ..Outcome::new(Status::Success, "describe", what.to_owned()) };
        }
        let passed = published.state.as_ref().map(|state| state.tests.clone()).unwrap_or_default();
        let mut due: Vec<&CompiledTest> = Vec::new();
        for test in self.gates() {
            if passed.get(&test.name) != Some(&self.stamp(test).await?) {
                due.push(test);
            }
        }
        if !due.is_empty() {
            outcome.tests = audit_rest(self.inputs, &due, None, proved(self.inputs, &due).await).await;
            if let Some(message) = failed_tests(&outcome.tests) {
                outcome.status = Status::Error;
                outcome.reason = format!("the published version: {message}");
            }
        }
        outcome.tests.extend(self.audit_after(published).await?);
        Ok(outcome)
    }

    /// Everything anew.
    async fn rebuild(&self, mut world: World, reason: String, progress: &mut Progress) -> Result<Outcome, Failure> {
        for (source, taken) in &mut world.taken {
            let is_new = world.published.as_ref().is_none_or(Published::is_emptied);
            self.intake.restart(source, taken, is_new, progress).await?;
        }
        self.build(world, Mode::Full, reason, progress).await
    }

    async fn build(
        &self,
        mut world: World,
        mode: Mode,
        reason: String,
        progress: &mut Progress,
    ) -> Result<Outcome, Failure> {
        let runtime = self.inputs.runtime();
        self.inputs.begin(self.model, progress).await?;
        runtime.lake.forget_kept(&self.model.name).await?;
        let Readable { staged, traces, chosen, bad_rows, seen, sketched, sieve } =
            self.stage_readable(&mut world, mode).await?;
        fail_points::reached("staged");
        self.or_discard(&staged, self.is_as_it_was_read(&chosen).await).await?;
        if self.is_as_before(&world, mode, &staged) {
            return self.skip(&world, format!("no row changed: {reason}")).await;
        }
        let published = world.published.as_ref();
        for (source, taken) in world.taken.iter().filter(|(source, _)| self.reconciles(source)) {
            self.inputs.note_held(&self.model.name, source, taken, &chosen);
        }
        let tests = self.or_discard(&staged, self.gate(published, &staged, seen).await).await?;
        let mut outcome = Outcome::new(Status::Success, self.action(&world, mode), reason);
        outcome.files_read = chosen.values().map(|chosen| chosen.files.len()).sum();
        outcome.tests = tests;
        if let Some(message) = failed_tests(&outcome.tests) {
            self.keep_refused(published, staged, &outcome.tests).await?;
            outcome.status = Status::Error;
            outcome.reason = format!("{message}; nothing was published");
            outcome.refused = true;
            return Ok(outcome);
        }
        let changes = world.taken.iter().map(|(name, taken)| (name.clone(), taken.pending.change(&traces))).collect();
        let noted = async {
            let (mut commit, batches) = self.commit(&world, mode, &changes, &outcome.tests).await?;
            commit.transactions.extend(self.note_bad_rows(&world, mode, &bad_rows).await?);
            commit.transactions.extend(self.note_left_out(world.published.as_ref(), mode, sieve.as_ref()).await?);
            Ok((commit, batches))
        };
        let (mut commit, batches) = self.or_discard(&staged, noted.await).await?;
        (commit.state.content, commit.state.projections) = (staged.content().map(str::to_owned), staged.projections());
        (outcome.rows, outcome.bytes) = (Some(staged.rows()), Some(staged.bytes()));
        outcome.rows_quarantined = self.quarantined(&bad_rows) + sieve.as_ref().map_or(0, Sieve::rows_quarantined);
        if self.is_held() {
            outcome.version = Some(self.hold(published, staged, &commit).await?);
            outcome.tests.extend(self.audit_held().await?);
            if world.taken.values().any(|taken| taken.pending.more) {
                outcome.reason.push_str("; what was delivered later follows with the next build");
            }
            return Ok(outcome);
        }
        let (added, before) = (self.added_to_profile(&staged), published.map(Published::version));
        progress.publishing.store(true, Ordering::SeqCst);
        let (fresh, is_same) = self.publish(published, staged, &commit).await?;
        if is_same {
            outcome.action = "unchanged";
            outcome.reason.push_str("; its rows are what they were");
        }
        fail_points::reached("published");
        outcome.version = Some(fresh.version());
        outcome.more = world.taken.values().any(|taken| taken.pending.more);
        self.settle(&fresh).await?;
        self.inputs.set_published(fresh.clone());
        outcome.sketched = self.counted(sketched, added, before).await;
        if !outcome.more {
            outcome.tests.extend(self.audit_after(&fresh).await?);
        }
        progress.batches += 1;
        for (source, change) in changes {
            if let (Some(taken), Some(id)) = (world.taken.remove(&source), batches.get(&source)) {
                let manifest = taken.manifest.published(*id, change, &taken.listing.base);
                progress.published(&source, manifest, &taken.pending);
            }
        }
        Ok(outcome)
    }

    /// Takes staged files away if what came after them failed.
    async fn or_discard<T>(&self, staged: &Staged, done: Result<T, Failure>) -> Result<T, Failure> {
        if done.is_err() {
            staged.clone().discard(&self.inputs.runtime().lake).await;
        }
        done
    }

    /// Refuses to go on with files that changed while they were read.
    async fn is_as_it_was_read(&self, chosen: &Chosen) -> Result<(), Failure> {
        let Some(file) = bronze::first_changed(chosen.values().flat_map(|chosen| &chosen.files)).await else {
            return self.check_seed();
        };
        if self.intake.moved_meanwhile(chosen).await {
            return Err(self.conflict());
        }
        let file = file.shown(&self.inputs.runtime().folder);
        Err(Failure::text(format!("`{file}` changed while it was read; nothing was published, build again")))
    }

    pub(super) fn conflict(&self) -> Failure {
        Failure::Table(TableError::Conflict { table: self.model.name.clone() })
    }

    fn action(&self, world: &World, mode: Mode) -> &'static str {
        match (&world.published, mode, self.model.config.incremental_strategy) {
            (None, _, _) => "create",
            (Some(_), Mode::Full, _) => "replace",
            (Some(_), Mode::Incremental, _) if self.model.config.is_history() => "history",
            (Some(_), Mode::Incremental, Strategy::Merge) => "merge",
            (Some(_), Mode::Incremental, Strategy::DeleteInsert) => "delete+insert",
            (Some(_), Mode::Incremental, Strategy::InsertOverwrite) => "overwrite",
            (Some(_), Mode::Incremental, Strategy::Append | Strategy::Microbatch) => {
                let takes_away = world.taken.values().any(|taken| taken.pending.outgoing().next().is_some());
                if takes_away { "update" } else { "append" }
            }
        }
    }

    /// A query that failed because of a file says which file.
    pub(super) async fn blame(&self, failure: Failure, chosen: &Chosen) -> Failure {
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
                (SourceRead::Changes, Some(chosen)) => chosen.files.clone(),
                _ => match self.inputs.listing(name).await {
                    Ok(listing) => listing.files.clone(),
                    Err(_) => continue,
                },
            };
            let culprits = bronze::find_culprits(source, schema, &files, &runtime.session, &runtime.folder, 1).await;
            if let Some((_, error)) = culprits.into_iter().next() {
                return error.into();
            }
        }
        failure
    }
}
