//! What stands between staged rows and their publish: tests, unless the model says `audit: off`.

use std::sync::Arc;

use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::LogicalPlan;

use super::audit::audit;
use super::inputs::Inputs;
use super::materialize::{Failure, Node};
use super::report::TestResult;
use crate::compile::CompiledTest;
use crate::memo::{Key, KeyMaker};
use crate::names::TableName;
use crate::project::Model;
use crate::session::{self, Tables};
use crate::tables::{self, Kept, Published, Staged};

impl Node<'_> {
    /// Tests that decide whether staged rows are published. What a contract promises is never left out.
    pub(super) fn gates(&self) -> Vec<&CompiledTest> {
        let gates = |test: &&&CompiledTest| self.model.config.audit || test.config.contract;
        self.tests.iter().filter(gates).copied().collect()
    }

    /// Runs these tests over the table as it will be.
    pub(super) async fn gate(
        &self,
        published: Option<&Published>,
        staged: &Staged,
    ) -> Result<Vec<TestResult>, Failure> {
        let future = tables::future_table(published, staged).await?;
        Ok(audit(self.inputs, &self.gates(), Some((&self.model.name, future))).await)
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
    pub(super) async fn audit_after(&self, fresh: &Published) -> Result<Vec<TestResult>, Failure> {
        if self.model.config.audit {
            return Ok(Vec::new());
        }
        let (memo, mut due) = (&self.inputs.runtime().memo, Vec::new());
        for test in self.tests.iter().filter(|test| !test.config.contract) {
            // The commit cannot say what came after it, so the memo does.
            if memo.get::<bool>(self.pass(fresh, test).await?).is_none() {
                due.push(*test);
            }
        }
        let results = audit(self.inputs, &due, None).await;
        let passed = |test: &&&CompiledTest| results.iter().any(|found| found.name == test.name && !found.blocks());
        for test in due.iter().filter(passed) {
            memo.put(self.pass(fresh, test).await?, &true);
        }
        Ok(results)
    }

    /// Stands for a test that a version has passed after its publish.
    async fn pass(&self, published: &Published, test: &CompiledTest) -> Result<Key, Failure> {
        let run = published.state.as_ref().map(|state| state.invocation_id.as_str()).unwrap_or_default();
        let root = self.inputs.runtime().lake.root().as_str();
        let key = KeyMaker::new("passed after its publish").text(root).value(&self.model.name).text(run);
        Ok(key.value(&published.version()).text(&test.name).text(&self.stamp(test).await?).finish())
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
