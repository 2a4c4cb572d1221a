//! Batches on their way from a query to a commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, ident};
use futures::StreamExt;
use tokio::sync::Mutex;

use super::audit::{Seen, failed_tests};
use super::batches::counts;
use super::inputs::{Chosen, Delivery};
use super::intake::Progress;
use super::materialize::{Failure, Mode, Node, Outcome};
use super::report::{Status, TestResult};
use super::world::World;
use crate::bronze;
use crate::fail_points;
use crate::intervals::{BatchSize, Interval, Intervals};
use crate::names::TableName;
use crate::session;
use crate::tables::{self, Commit, Published, Staged, TableError};
use crate::template::{RefRead, ref_relation};

/// Failed batches that a message names.
const EXAMPLES: usize = 3;

/// How often a batch is staged anew because another run committed at the same moment.
const RACES: usize = 20;

/// The batches of one run.
pub(super) struct Batches<'a> {
    pub(super) node: &'a Node<'a>,
    pub(super) world: &'a World,
    pub(super) size: BatchSize,
    /// The column that tells the time.
    pub(super) column: &'a str,
    /// What is read of the interval alone.
    pub(super) cut: BTreeMap<TableName, String>,
    /// The columns of the table as it will be.
    pub(super) schema: SchemaRef,
    /// Files of the table before have to be written again for them.
    pub(super) reshapes: bool,
    /// A batch sees those before it.
    pub(super) in_order: bool,
    pub(super) due: &'a [Interval],
    /// The node is about to commit: its time is not up meanwhile.
    pub(super) publishing: Arc<AtomicBool>,
}

/// What the batches have come to so far.
#[derive(Default)]
struct Standing {
    /// The newest version.
    published: Option<Published>,
    /// What it has, without what is still to be made.
    done: Intervals,
    /// What this run has made.
    finished: Intervals,
    failed: Vec<(Interval, Failure)>,
    /// Batches that were not tried.
    waiting: Vec<Interval>,
    /// Another run or program has committed since.
    overtaken: bool,
    /// Batches were empty before and after, which no commit has noted yet.
    unnoted: Vec<Interval>,
    /// Another run had other versions of the inputs: what the table is made of cannot be said in one word.
    mixed: bool,
    commits: usize,
    rows: u64,
    bytes: u64,
    tests: Vec<TestResult>,
}

impl Batches<'_> {
    /// Batches at the same time.
    pub(super) fn width(&self) -> usize {
        if self.in_order { 1 } else { self.node.inputs.runtime().options.threads.max(1) }
    }

    /// Each batch a commit of its own.
    pub(super) async fn in_place(
        &self,
        (mut done, changed): (Intervals, bool),
        reason: String,
        progress: &mut Progress,
    ) -> Result<Outcome, Failure> {
        self.due.iter().for_each(|batch| done.remove(*batch));
        let standing = Mutex::new(Standing {
            published: self.world.published.clone(),
            done,
            mixed: progress.mixed,
            ..Standing::default()
        });
        let batches = futures::stream::iter(self.due.iter().copied());
        batches.map(|batch| self.one(batch, &standing)).buffer_unordered(self.width()).collect::<Vec<()>>().await;
        let mut standing = standing.into_inner();
        if !standing.unnoted.is_empty() && !standing.overtaken {
            match self.note(&mut standing).await {
                Err(failure) if failure.is_conflict() => standing.overtaken = true,
                noted => noted?,
            }
        }
        let action = if self.world.published.is_some() { "microbatch" } else { "create" };
        let mut outcome = Outcome::new(Status::Success, action, reason);
        (outcome.rows, outcome.bytes) = (Some(standing.rows), Some(standing.bytes));
        outcome.version = standing.published.as_ref().map(Published::version).filter(|_| standing.commits > 0);
        outcome.tests = std::mem::take(&mut standing.tests);
        if standing.overtaken {
            if standing.commits == 0 {
                return Err(self.node.conflict());
            }
            // What is published stays; the rest starts again from the version of the other run.
            standing.finished.ranges().iter().for_each(|range| progress.intervals.add(*range));
            progress.batches += standing.commits;
            progress.changed |= changed;
            self.node.inputs.forget(&self.node.model.name);
            outcome.more = true;
        } else if !standing.failed.is_empty() {
            outcome.status = Status::Error;
            outcome.refused = standing.failed.iter().any(|(_, failure)| matches!(failure, Failure::Refused(_)));
            outcome.reason = self.failures(standing);
        } else if let Some(published) = &standing.published {
            outcome.tests.extend(self.node.audit_after(published).await?);
        }
        Ok(outcome)
    }

    /// `2 of 5 batches failed: 2026-01-02 (why), ...`.
    fn failures(&self, standing: Standing) -> String {
        let Standing { mut failed, mut waiting, .. } = standing;
        failed.sort_by_key(|(batch, _)| batch.start);
        waiting.sort_by_key(|batch| batch.start);
        let name = |(batch, why): &(Interval, Failure)| format!("{} ({why})", self.size.name(batch.start));
        let mut names: Vec<String> = failed.iter().take(EXAMPLES).map(name).collect();
        if failed.len() > EXAMPLES {
            let others: Vec<Interval> = failed[EXAMPLES..].iter().map(|(batch, _)| *batch).collect();
            names.push(format!("and {}", self.size.names(&others)));
        }
        let noun = if self.due.len() == 1 { "batch" } else { "batches" };
        let mut text = format!("{} of {} {noun} failed: {}", failed.len(), self.due.len(), names.join(", "));
        if !waiting.is_empty() {
            text.push_str(&format!("; not run after that: {}", self.size.names(&waiting)));
        }
        text.push_str(&match self.due.len() - failed.len() - waiting.len() {
            0 => "; nothing was published".to_owned(),
            1 => "; the other one is published".to_owned(),
            others => format!("; the other {others} are published"),
        });
        text
    }

    /// One batch, from its query to its commit. Files that lost the race of a commit are gone: they are written again.
    async fn one(&self, batch: Interval, standing: &Mutex<Standing>) {
        for _ in 0..RACES {
            let Err(failure) = self.run(batch, standing).await else { return };
            let mut standing = standing.lock().await;
            if !failure.is_conflict() {
                return standing.failed.push((batch, failure));
            }
            match self.catch_up(batch, &mut standing).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(failure) if failure.is_conflict() => break,
                Err(failure) => return standing.failed.push((batch, failure)),
            }
        }
        standing.lock().await.overtaken = true;
    }

    /// Goes on from the newest version, where another run has made other intervals; whether this batch is still to be
    /// made, as another run of the same query over the same inputs may have made it.
    ///
    /// # Errors
    /// A conflict, where this run cannot go on from what another one has done.
    async fn catch_up(&self, batch: Interval, standing: &mut Standing) -> Result<bool, Failure> {
        let (node, lake) = (self.node, &self.node.inputs.runtime().lake);
        if let Some(published) = &standing.published
            && published.is_newest().await?
        {
            return Ok(true);
        }
        let Some(newest) = lake.inspect(&node.model.name).await? else { return Ok(true) };
        let before = self.world.published.as_ref();
        let is_known = |schema: &SchemaRef| *schema == self.schema || before.is_some_and(|b| *schema == b.schema);
        let is_same = is_known(&newest.schema) && *newest.partition_columns() == node.model.config.partition_by;
        let state = newest.last_known_state().await?.unwrap_or_default();
        let done = state.intervals.filter(|_| is_same && !self.in_order);
        let Some(mut done) = done else { return Err(node.conflict()) };
        let files = match before {
            Some(before) => before.files_within(self.column, batch)?,
            None => BTreeSet::new(),
        };
        let is_untouched = files == newest.files_within(self.column, batch)?;
        let is_alike = state.inputs == self.world.versions && state.definition == node.compiled.definition;
        if !is_untouched {
            if !is_alike || !done.contains(batch.start) {
                return Err(node.conflict());
            }
            standing.finished.add(batch);
        }
        self.due.iter().filter(|due| !standing.finished.covers(**due)).for_each(|due| done.remove(*due));
        standing.unnoted.iter().for_each(|part| done.add(*part));
        standing.mixed |= state.inputs != self.world.versions;
        (standing.done, standing.published) = (done, Some(newest));
        Ok(is_untouched)
    }

    async fn run(&self, batch: Interval, standing: &Mutex<Standing>) -> Result<(), Failure> {
        let newest = {
            let mut standing = standing.lock().await;
            if standing.overtaken || self.in_order && !standing.failed.is_empty() {
                standing.waiting.push(batch);
                return Ok(());
            }
            standing.published.clone()
        };
        // What a batch sees of its own table must not depend on which of the others were faster.
        let own = if self.in_order { newest } else { self.world.published.clone() };
        let own = match &own {
            Some(published) => Some(tables::table_provider(published).await?),
            None => None,
        };
        let staged = self.stage(batch, own).await?;
        fail_points::reached("staged");
        let mut standing = standing.lock().await;
        let caught_up = match standing.overtaken {
            true => Err(self.node.conflict()),
            false => self.catch_up(batch, &mut standing).await,
        };
        match caught_up {
            Ok(true) => return self.publish(batch, staged, &mut standing).await,
            Ok(false) => {}
            Err(failure) if failure.is_conflict() => standing.overtaken = true,
            Err(failure) => {
                staged.discard(&self.node.inputs.runtime().lake).await;
                return Err(failure);
            }
        }
        staged.discard(&self.node.inputs.runtime().lake).await;
        Ok(())
    }

    /// The rows of one batch, all of which are of its interval.
    pub(super) async fn stage(&self, batch: Interval, own: Option<Arc<dyn TableProvider>>) -> Result<Staged, Failure> {
        let runtime = self.node.inputs.runtime();
        let (lake, session, model) = (&runtime.lake, &runtime.session, self.node.model);
        let plan = self.plan(batch, own).await?;
        let staged = tables::stage(lake, &model.name, plan, &self.schema, &model.config.partition_by, session).await;
        let staged = match staged {
            Ok(staged) => staged,
            Err(error) => return Err(self.node.blame(error.into(), &self.files_of(batch).await?).await),
        };
        let failure = match tables::rows_outside(&staged, self.column, batch, session).await {
            Ok(None) => return Ok(staged),
            Ok(Some(what)) => TableError::Values(what).into(),
            Err(error) => error.into(),
        };
        staged.discard(lake).await;
        Err(failure)
    }

    /// The query of one batch. `own` is the table as the batch sees it, if it is not the first one.
    async fn plan(&self, batch: Interval, own: Option<Arc<dyn TableProvider>>) -> Result<LogicalPlan, Failure> {
        let (inputs, model) = (self.node.inputs, self.node.model);
        let chosen = self.files_of(batch).await?;
        let mut known = inputs.tables(&model.refs, &model.sources, &chosen, None).await?;
        for (name, read) in model.ref_reads.iter().filter(|(_, read)| *read == RefRead::All) {
            if let Some(whole) = known.get(name).cloned() {
                known.insert(ref_relation(name, *read), whole);
            }
        }
        for (relation, column) in &self.cut {
            let Some(whole) = known.get(relation).cloned() else { continue };
            let data_type = whole.schema().field_with_name(column).map_err(DataFusionError::from)?.data_type().clone();
            let rows = LogicalPlanBuilder::scan("rows", whole, None)?;
            let part = rows.filter(tables::within(column, &data_type, batch)?)?.build()?;
            known.insert(relation.clone(), provider_as_source(Arc::new(ViewTable::new(part, None))));
        }
        let rendered = model.rendered(own.is_some());
        if let Some(own) = own {
            known.insert(model.name.clone(), provider_as_source(own));
        }
        let plan = session::plan(&inputs.runtime().session, session::parse(&rendered.sql)?, &known)?;
        if !self.cut.is_empty() {
            return Ok(plan);
        }
        // The query gives the rows of all batches: each keeps its own. One without a time would be in none: that is refused.
        let data_type = plan.schema().field_with_unqualified_name(self.column)?.data_type().clone();
        let own = tables::within(self.column, &data_type, batch)?.or(ident(self.column).is_null());
        Ok(LogicalPlanBuilder::from(plan).filter(own)?.build()?)
    }

    /// Files whose paths tell their time are read only if it is that of the batch.
    async fn files_of(&self, batch: Interval) -> Result<Chosen, Failure> {
        let (inputs, runtime) = (self.node.inputs, self.node.inputs.runtime());
        let mut chosen = Chosen::new();
        for (name, column) in &self.cut {
            let Some(source) = runtime.project.sources.get(name) else { continue };
            if !bronze::has_path_time(source, column) {
                continue;
            }
            let mut files = Vec::new();
            for file in &inputs.listing(name).await?.files {
                let time = bronze::path_time(source, file, &runtime.folder, column)?;
                if time.is_some_and(|time| batch.start <= time && time < batch.end) {
                    files.push(file.clone());
                }
            }
            chosen.insert(name.clone(), Delivery { batch: None, files });
        }
        Ok(chosen)
    }

    /// Lets the rows of a batch take the place of those that the newest version has of its interval.
    async fn publish(&self, batch: Interval, staged: Staged, standing: &mut Standing) -> Result<(), Failure> {
        let runtime = self.node.inputs.runtime();
        let (lake, new_rows, new_bytes) = (&runtime.lake, staged.rows(), staged.bytes());
        let part = counts(batch, runtime.options.started_at);
        let staged = match &standing.published {
            Some(published) => {
                let place = (self.column, &Intervals::from(batch));
                let staged = tables::replace_intervals(lake, published, staged, place, &runtime.session).await?;
                if staged.is_nothing() {
                    standing.done.add(part);
                    standing.finished.add(batch);
                    standing.unnoted.push(part);
                    return Ok(());
                }
                self.reshaped(published, staged).await?
            }
            None => staged,
        };
        let mut done = standing.done.clone();
        done.add(part);
        let published = standing.published.as_ref();
        let (staged, commit, tests) = self.audited(published, staged, (done.clone(), standing.mixed)).await?;
        let fresh = self.publish_as(published, staged, &commit).await?;
        standing.tests = tests;
        standing.done = done;
        standing.finished.add(batch);
        standing.published = Some(fresh);
        standing.unnoted.clear();
        standing.rows += new_rows;
        standing.bytes += new_bytes;
        standing.commits += 1;
        Ok(())
    }

    /// The files that stay have the columns of the new ones.
    pub(super) async fn reshaped(&self, published: &Published, staged: Staged) -> Result<Staged, Failure> {
        if !self.reshapes || published.schema == self.schema {
            return Ok(staged);
        }
        let runtime = self.node.inputs.runtime();
        Ok(tables::reshape(&runtime.lake, published, staged, &runtime.session).await?)
    }

    /// Audits staged rows; says what their commit records, with the intervals that the table has then.
    pub(super) async fn audited(
        &self,
        published: Option<&Published>,
        staged: Staged,
        (done, mixed): (Intervals, bool),
    ) -> Result<(Staged, Commit, Vec<TestResult>), Failure> {
        let (node, lake) = (self.node, &self.node.inputs.runtime().lake);
        let tests = match node.gate(published, &staged, Seen::new()).await {
            Ok(tests) => tests,
            Err(failure) => {
                staged.discard(lake).await;
                return Err(failure);
            }
        };
        if let Some(message) = failed_tests(&tests) {
            node.keep_refused(published, staged, &tests).await?;
            return Err(Failure::Refused(message));
        }
        match self.commit(&tests, (done, mixed)).await {
            Ok(commit) => Ok((staged, commit, tests)),
            Err(failure) => {
                staged.discard(lake).await;
                Err(failure)
            }
        }
    }

    /// What a commit records of the intervals that the table has then; of its inputs nothing, if other runs read others.
    async fn commit(&self, tests: &[TestResult], (done, mixed): (Intervals, bool)) -> Result<Commit, Failure> {
        let (mut commit, _) = self.node.commit(self.world, Mode::Incremental, &BTreeMap::new(), tests).await?;
        commit.state.intervals = Some(done);
        if mixed {
            commit.state.inputs.clear();
        }
        Ok(commit)
    }

    /// Nothing stops a commit that has begun.
    pub(super) async fn publish_as(
        &self,
        published: Option<&Published>,
        staged: Staged,
        commit: &Commit,
    ) -> Result<Published, Failure> {
        let inputs = self.node.inputs;
        self.publishing.store(true, Ordering::SeqCst);
        let fresh = tables::publish(&inputs.runtime().lake, published, staged, commit).await;
        self.publishing.store(false, Ordering::SeqCst);
        let fresh = fresh?;
        fail_points::reached("published");
        inputs.set_published(fresh.clone());
        Ok(fresh)
    }

    /// Notes batches that had no row to publish and none to take away.
    async fn note(&self, standing: &mut Standing) -> Result<(), Failure> {
        let (node, lake) = (self.node, &self.node.inputs.runtime().lake);
        let mut nothing = Staged::nothing(lake, &node.model.name, &self.schema, &node.model.config.partition_by);
        if let Some(published) = &standing.published {
            nothing = self.reshaped(published, nothing).await?;
        }
        let mut commit = self.commit(&[], (standing.done.clone(), standing.mixed)).await?;
        let before = standing.published.as_ref().and_then(|published| published.state.as_ref());
        commit.state.tests = before.map(|state| state.tests.clone()).unwrap_or_default();
        standing.published = Some(self.publish_as(standing.published.as_ref(), nothing, &commit).await?);
        standing.commits += 1;
        Ok(())
    }
}
