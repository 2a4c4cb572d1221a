//! What stands between staged rows and their publish: tests, unless the model says `audit: off`.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::LogicalPlan;

use super::audit::{Seen, audit, audit_rest, in_order, others};
use super::fused::Fusion;
use super::inputs::Inputs;
use super::materialize::{Failure, Mode, Node};
use super::profiling::Profiling;
use super::proved::known_to_hold;
use super::references::Keys;
use super::report::TestResult;
use super::sieve::Sieve;
use super::watching::{OnTheWay, Watching};
use super::world::World;
use crate::checks::Check;
use crate::compile::{CompiledTest, depends_on_more_than_its_row};
use crate::memo::{Key, KeyMaker};
use crate::names::TableName;
use crate::project::{Model, Profile};
use crate::session::{self, Tables};
use crate::tables::{self, Kept, Known, Phase, Published, Staged, TableState};

impl Node<'_> {
    /// Tests that decide whether staged rows are published. What a contract promises is never left out.
    pub(super) fn gates(&self) -> Vec<&CompiledTest> {
        self.tests.iter().filter(|test| self.is_gate(test)).copied().collect()
    }

    /// Rows that are to be left out are never published, whatever else is.
    pub(super) fn is_gate(&self, test: &CompiledTest) -> bool {
        let config = &test.config;
        config.contract || config.on_violation.leaves_out() || self.model.config.audit && config.audit
    }

    /// Runs these tests over the table as it will be.
    #[tracing::instrument(name = "test", skip_all)]
    pub(super) async fn gate(
        &self,
        published: Option<&Published>,
        staged: &Staged,
        mut seen: Seen,
    ) -> Result<Vec<TestResult>, Failure> {
        let (name, gates) = (&self.model.name, self.gates());
        self.inputs.enter(name, Phase::Testing);
        seen.extend(self.of_new_keys(published, staged).await?);
        let mut due: Vec<&CompiledTest> = Vec::new();
        let mut of_new_rows: Vec<&CompiledTest> = Vec::new();
        // Statistics are parsed for those that they may prove only.
        let may_be_known =
            |test: &&CompiledTest| !seen.contains_key(&test.name) && matches!(test.check(), Check::Rows { .. });
        let (of_new_files, of_all_files) = match gates.iter().any(may_be_known) {
            true => (Known::of(None, Some(staged))?, Known::of(published, Some(staged))?),
            false => (None, None),
        };
        for test in &gates {
            if seen.contains_key(&test.name) {
                due.push(test);
                continue;
            }
            let suffice = self.new_rows_suffice(published, staged, test).await?;
            let known = if suffice { &of_new_files } else { &of_all_files };
            let is_own = test.table.as_ref() == Some(name);
            let known = known.as_ref().filter(|_| is_own);
            let found = known.and_then(|known| known_to_hold(self.inputs, test, known));
            // What holds is told by the second audit.
            seen.extend(found.map(|found| (test.name.clone(), found)));
            if suffice && !seen.contains_key(&test.name) { of_new_rows.push(test) } else { due.push(test) }
        }
        let mut results = Vec::new();
        if !of_new_rows.is_empty() {
            let rows = Arc::new(ViewTable::new(staged.rows_plan()?, None));
            results = audit(self.inputs, &of_new_rows, Some((name, rows))).await;
        }
        let future = tables::future_table(published, staged).await?;
        results.extend(audit_rest(self.inputs, &due, Some((name, future)), seen).await);
        Ok(in_order(results, &gates))
    }

    /// Whether a test needs to look at new rows only: it is about each row by itself, and no other row failed it before.
    async fn new_rows_suffice(
        &self,
        published: Option<&Published>,
        staged: &Staged,
        test: &CompiledTest,
    ) -> Result<bool, Failure> {
        let Some(published) = published else { return Ok(false) };
        let Check::Rows { wrong } = test.check() else { return Ok(false) };
        let is_own = test.table.as_ref() == Some(&self.model.name);
        if staged.replaces_all || !is_own || !self.is_of_rows_alone(&wrong) {
            return Ok(false);
        }
        self.has_passed(published, test).await
    }

    /// Whether a condition depends on the columns of its row and on nothing else: no clock, no chance, no other row.
    fn is_of_rows_alone(&self, wrong: &str) -> bool {
        let table = Arc::new(EmptyTable::new(Arc::clone(&self.compiled.schema)));
        let mut tables = Tables::new();
        tables.insert(self.model.name.clone(), provider_as_source(table));
        let sql = format!("select 1 from {} where {wrong}", self.model.name.quoted());
        let plan = session::parse(&sql)
            .and_then(|statement| session::plan(&self.inputs.runtime().session, statement, &tables));
        plan.is_ok_and(|plan| !depends_on_more_than_its_row(&plan))
    }

    /// The tests that look at the rows on their way.
    pub(super) async fn on_the_way(&self, world: &World, mode: Mode, proved: &Seen) -> OnTheWay<'_> {
        let sieve = Sieve::new(&self.model.name, &self.tests, &self.inputs.runtime().session);
        let sifted = sieve.iter().flat_map(|sieve| &sieve.tests).map(|(test, _)| test.name.as_str()).collect();
        let watching = self.watching(world, mode, proved, &sifted).await;
        let is_whole = self.writes_whole_table(world, mode);
        let profiles = self.model.config.profile == Profile::Full && is_whole;
        let (session, schema) = (&self.inputs.runtime().session, Arc::clone(&self.compiled.schema));
        let profiling = profiles.then(|| Profiling::new(session, schema));
        OnTheWay { watching, sieve, profiling, sums: is_whole.then(|| self.inputs.read_of(&self.model.name)) }
    }

    /// Whether the rows that a query makes are all that the table will hold.
    fn writes_whole_table(&self, world: &World, mode: Mode) -> bool {
        let is_whole = mode == Mode::Full || world.published.is_none();
        is_whole && self.intake.traced().is_none() && !self.model.config.is_history()
    }

    /// The tests that can look at the rows while they are written: where these are all that the table will hold.
    async fn watching(
        &self,
        world: &World,
        mode: Mode,
        proved: &Seen,
        sifted: &BTreeSet<&str>,
    ) -> Option<Watching<'_>> {
        if !self.writes_whole_table(world, mode) {
            return None;
        }
        let (session, schema) = (&self.inputs.runtime().session, &self.compiled.schema);
        let own = |test: &&CompiledTest| {
            test.table.as_ref() == Some(&self.model.name)
                && !proved.contains_key(&test.name)
                && !sifted.contains(test.name.as_str())
        };
        let tests: Vec<_> = self.gates().into_iter().filter(own).map(|test| (test, test.check())).collect();
        let others = others(&tests, &self.model.name);
        let others = self.inputs.tables_named(&others).await.ok()?;
        let tests: Vec<_> =
            tests.into_iter().filter(|(test, check)| Fusion::takes(test, check, schema, &others)).collect();
        if tests.is_empty() {
            return None;
        }
        let fusion = Fusion::new(session, &self.model.name, tests, others, &Keys::default()).await;
        (!fusion.tests.is_empty()).then(|| Watching::new(fusion, Arc::clone(schema)))
    }

    /// Keeps what the tests refused, in place of what they refused before.
    pub(super) async fn keep_refused(
        &self,
        published: Option<&Published>,
        staged: Staged,
        tests: &[TestResult],
    ) -> Result<(), Failure> {
        let runtime = self.inputs.runtime();
        let failed = tests.iter().filter(|test| test.blocks());
        let failed = failed.map(|test| (test.name.clone(), test.message.clone().unwrap_or_default()));
        Ok(runtime.lake.keep(published, staged, &runtime.options.invocation_id, failed.collect()).await?)
    }

    /// Runs the tests that do not gate, over what is published now.
    #[tracing::instrument(name = "test", skip_all)]
    pub(super) async fn audit_after(&self, fresh: &Published) -> Result<Vec<TestResult>, Failure> {
        let (memo, mut due) = (&self.inputs.runtime().memo, Vec::new());
        let of = (fresh.version(), fresh.state.as_ref());
        for test in self.tests.iter().filter(|test| !self.is_gate(test)) {
            // The commit cannot say what came after it, so the memo does.
            if memo.get::<bool>(self.pass(of, test).await?).is_none() {
                due.push(*test);
            }
        }
        if !due.is_empty() {
            self.inputs.enter(&self.model.name, Phase::Testing);
        }
        let results = audit(self.inputs, &due, None).await;
        let passed = |test: &&&CompiledTest| results.iter().any(|found| found.name == test.name && !found.blocks());
        for test in due.iter().filter(passed) {
            memo.put(self.pass(of, test).await?, &true);
        }
        Ok(results)
    }

    /// Stands for a test that a version has passed after its publish.
    pub(super) async fn pass(
        &self,
        (version, state): (u64, Option<&TableState>),
        test: &CompiledTest,
    ) -> Result<Key, Failure> {
        let run = state.map(|state| state.invocation_id.as_str()).unwrap_or_default();
        let root = self.inputs.runtime().lake.root().as_str();
        let key = KeyMaker::new("passed after its publish").text(root).value(&self.model.name).text(run);
        Ok(key.value(&version).text(&test.name).text(&self.stamp(test).await?).finish())
    }
}

/// A view has nothing to build; its tests run over its query.
pub(super) async fn view(inputs: &Inputs, model: &Model, tests: &[&CompiledTest]) -> Result<Vec<TestResult>, Failure> {
    if tests.is_empty() {
        return Ok(Vec::new());
    }
    let plan = inputs.view_plan(&model.name, None).await?;
    let table = Arc::new(ViewTable::new(plan, None));
    Ok(audit(inputs, tests, Some((&model.name, table))).await)
}

impl Inputs {
    /// All rows of a table as its last audit refused it, and why it did.
    ///
    /// # Errors
    /// When nothing is kept, or it can no longer be read.
    pub async fn plan_refused(&self, name: &TableName) -> Result<(LogicalPlan, Kept), Failure> {
        let lake = &self.runtime().lake;
        let Some(kept) = lake.kept(name).await? else {
            return Err(Failure::text(format!(
                "nothing of `{name}` is staged: rows are kept when tests refuse to publish them, until the model is \
                 built again"
            )));
        };
        let mut tables = Tables::new();
        tables.insert(name.clone(), provider_as_source(lake.kept_table(name, &kept).await?));
        let sql = format!("select * from {}", name.quoted());
        Ok((session::plan(&self.runtime().session, session::parse(&sql)?, &tables)?, kept))
    }
}
