//! Unit tests of the table that several runs make: the runs are real ones, in a lake of their own below `.lake/`.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use tokio::sync::Notify;

use super::diff::Diff;
use super::in_words;
use super::query::{compare_plan, given_rows, seed_rows};
use crate::bronze::{Listings, Scratch};
use crate::catalog::stored_schema;
use crate::compile::compile_runs;
use crate::diagnostics::Diagnostics;
use crate::exact_files::{empty, rows_of};
use crate::graph;
use crate::memo::Memo;
use crate::names::TableName;
use crate::project::{Format, Given, Materialization, ModelCase, UnitRun, UnitTest};
use crate::run::execute::execute;
use crate::run::inputs::Inputs;
use crate::run::report::Status;
use crate::run::schedule::{Schedule, Step};
use crate::run::{Failure, RunOptions, Runtime, SharedRuntime, layouts};
use crate::session;
use crate::stores::StorageOptions;
use crate::tables::{self, Commit, Lake, TableState};

/// Makes all runs, and compares the table that they leave.
pub(super) async fn compare_table(
    runtime: &Runtime,
    session: &SessionState,
    test: &UnitTest,
    case: &ModelCase,
) -> Result<Option<Diff>, Failure> {
    let scratch = Scratch::new(&runtime.folder)?;
    let part = Part { runtime, session, test, case, scratch: &scratch };
    let mut last = None;
    for (number, run) in case.runs.iter().enumerate() {
        last = Some(part.run(number, run).await?);
    }
    let Some(last) = last else { return Err(Failure::text("there are no runs".to_owned())) };
    let table = match last.lake.inspect(&case.model).await? {
        Some(published) => tables::table_provider(&published).await?,
        None => empty(Arc::clone(&last.compiled.models[&case.model].schema)),
    };
    let plan = LogicalPlanBuilder::scan("rows", provider_as_source(table), None)?.build()?;
    compare_plan(plan, test, case, session, &runtime.project).await
}

/// The part of the project that runs.
struct Part<'a> {
    runtime: &'a Runtime,
    session: &'a SessionState,
    test: &'a UnitTest,
    case: &'a ModelCase,
    scratch: &'a Scratch,
}

impl Part<'_> {
    /// One run: what is given is put where it belongs, and the models are built as ever.
    async fn run(&self, number: usize, run: &UnitRun) -> Result<SharedRuntime, Failure> {
        let runtime = self.at(run.now).await?;
        self.give(&runtime, number, run).await?;
        let seeds = |name: &TableName| self.runtime.project.models[name].seed.is_some();
        let names = self.case.chain.iter().map(|link| &link.name).filter(|name| !seeds(name));
        let is_step =
            |name: &&TableName| runtime.project.models[*name].config.materialized != Materialization::Ephemeral;
        let names: Vec<TableName> = names.filter(is_step).cloned().collect();
        let step = |(at, name): (usize, TableName)| {
            let after = at.checked_sub(1).into_iter().collect();
            Step { name, after, tests: Vec::new(), together: None }
        };
        let steps = names.into_iter().enumerate().map(step).collect();
        let schedule = Schedule { steps, ..Schedule::default() };
        let inputs = Arc::new(Inputs::new(Arc::clone(&runtime)));
        let report = execute(inputs, &schedule, Arc::new(Notify::new()), |_| {}).await;
        let failed = report.nodes.iter().find(|node| node.status == Status::Error);
        match failed {
            Some(node) => Err(Failure::text(format!("run {}: `{}`: {}", number + 1, node.name, node.reason))),
            None => Ok(runtime),
        }
    }

    /// Everything that a run reads, at this moment.
    async fn at(&self, now: Option<DateTime<Utc>>) -> Result<SharedRuntime, Failure> {
        let now = now.or(self.test.overrides.now);
        let folder = self.scratch.folder();
        let project = self.runtime.project.for_unit_test(self.test, self.case, now, folder);
        let project = project.map_err(|diagnostic| in_words(vec![*diagnostic]))?;
        let session = now.map_or_else(|| self.session.clone(), |now| session::frozen(self.session, now));
        let graph = graph::resolve(&project, &mut Diagnostics::new());
        let compiled = compile_runs(&project, self.case, &self.runtime.compiled, &session).map_err(in_words)?;
        let lake = Lake::of(&project.target, folder)?.laid_out(layouts(&project));
        let options = RunOptions {
            prove: true,
            notify: false,
            force: false,
            full_refresh: false,
            full_listing: false,
            slice: None,
            replay: None,
            event_time: None,
            fail_fast: true,
            retries: 0,
            threads: 1,
            nodes_at_once: 1,
            started_at: now.unwrap_or_else(Utc::now),
            invocation_id: uuid::Uuid::now_v7().to_string(),
        };
        let (memo, listings, folder) = (Memo::none(), Listings::default(), folder.to_path_buf());
        let deferral = None;
        Ok(Arc::new(Runtime { project, graph, compiled, lake, session, memo, listings, folder, deferral, options }))
    }

    /// Delivers files, and publishes tables. What a run does not give is as it was: no new file, the same table.
    async fn give(&self, part: &Runtime, number: usize, run: &UnitRun) -> Result<(), Failure> {
        for given in &run.given {
            let Some(schema) = self.runtime.compiled.schema_of(&given.input) else { continue };
            self.give_one(part, number, run, given, schema).await?;
        }
        if number > 0 {
            return Ok(());
        }
        // Before its first rows come a folder is empty, and so is a table.
        let here: BTreeSet<&TableName> = run.given.iter().map(|given| &given.input).collect();
        let later = self.case.runs.iter().flat_map(|run| &run.given).map(|given| &given.input);
        for name in later.filter(|name| !here.contains(name)).collect::<BTreeSet<_>>() {
            match part.project.sources.get(name).filter(|source| source.format != Format::Delta) {
                Some(source) => self.scratch.make(source)?,
                None => {
                    let Some(schema) = self.runtime.compiled.schema_of(name) else { continue };
                    let rows = LogicalPlanBuilder::scan("rows", provider_as_source(empty(Arc::clone(schema))), None)?;
                    self.publish(part, name, rows.build()?, schema).await?;
                }
            }
        }
        for link in &self.case.chain {
            if let Some(rows) = seed_rows(self.runtime, &link.name).await? {
                let schema = rows.schema();
                let plan = LogicalPlanBuilder::scan("rows", provider_as_source(rows), None)?.build()?;
                self.publish(part, &link.name, plan, &schema).await?;
            }
        }
        Ok(())
    }

    async fn give_one(
        &self,
        part: &Runtime,
        number: usize,
        run: &UnitRun,
        given: &Given,
        schema: &SchemaRef,
    ) -> Result<(), Failure> {
        let rows = given_rows(&given.rows, schema, &given.input, self.session, &self.runtime.project)?;
        let plan = LogicalPlanBuilder::scan("rows", provider_as_source(rows), None)?.build()?;
        match part.project.sources.get(&given.input).filter(|source| source.format != Format::Delta) {
            Some(source) => {
                let mut rows = session::query(self.session, plan).collect().await?;
                if rows.is_empty() {
                    // A file without rows is a delivery all the same.
                    rows.push(RecordBatch::new_empty(Arc::clone(schema)));
                }
                let at = run.now.or(self.test.overrides.now);
                Ok(self.scratch.deliver(source, number, &rows, at)?)
            }
            None => self.publish(part, &given.input, plan, schema).await,
        }
    }

    /// Puts these rows in the place of what a table has.
    async fn publish(
        &self,
        part: &Runtime,
        name: &TableName,
        plan: LogicalPlan,
        schema: &SchemaRef,
    ) -> Result<(), Failure> {
        let stored = stored_schema(schema)
            .map_err(|(column, why)| Failure::text(format!("column `{column}` of `{name}` cannot be stored: {why}")))?;
        let plan = rows_of(Arc::new(ViewTable::new(plan, None)), &stored)?;
        let lake = match part.project.sources.contains_key(name) {
            true => Lake::new("sources", &part.folder, &StorageOptions::default())?,
            false => part.lake.clone(),
        };
        let before = lake.inspect(name).await?;
        let staged = tables::stage(&lake, name, plan, &stored, &[], self.session).await?.replacing_all();
        let state = TableState {
            definition: "given".to_owned(),
            materialized: Materialization::Table.name().to_owned(),
            invocation_id: part.options.invocation_id.clone(),
            ..TableState::default()
        };
        let commit = Commit::new(state, Vec::new());
        tables::publish(&lake, before.as_ref(), staged, &commit).await?;
        Ok(())
    }
}
