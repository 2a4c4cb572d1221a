//! Adding versions to a table that keeps a history.
//!
//! The delivered rows are staged as they are. Then the keys that change are found by a fold (`fold.rs`) over the delivered
//! rows and the known versions, sorted by key, and only the files that hold a version of these keys are written again. All
//! sorts spill, so a delivery may be as large as the table.

mod fold;
mod versions;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::common::{Column as Name, JoinType, NullEquality, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};
use datafusion::physical_expr::{LexOrdering, Partitioning, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use self::fold::{Column, Finding, Findings, HELPERS, Layout, Output, fold};
use self::versions::Rules;
use super::read::{FILE_COLUMN, Files, exact, files_of, named, scan, view};
use super::stage::{Staged, stage, stage_streams};
use super::{Lake, Published, TableError};
use crate::exact_files::rows_of;
use crate::names::TableName;
use crate::project::{HardDeletes, HistoryStrategy, MetaNames};
use crate::session;

/// Keys up to which a join holds them in memory; more are sorted, which spills.
const KEYS_IN_MEMORY: u64 = 1_000_000;

/// What tells the versions of a table.
#[derive(Debug)]
pub struct History<'a> {
    /// The columns that tell which versions are of one row.
    pub key: &'a [String],
    /// How a version is told from the one before.
    pub strategy: HistoryStrategy,
    /// The column that says when a row changed.
    pub updated_at: Option<&'a str>,
    /// The columns that tell a version by `check`.
    pub checked: Vec<&'a str>,
    /// The rows are the whole state: a key that is not among them is gone.
    pub whole: bool,
    /// What becomes of keys that are gone.
    pub deletes: HardDeletes,
    /// Some rows were left out of the delivery: a key that is not among it may not be gone.
    pub has_gaps: bool,
    /// The time of the delivery, in microseconds since 1970 (UTC).
    pub now: i64,
    /// What the columns of the history are called.
    pub names: &'a MetaNames,
}

impl History<'_> {
    /// The columns of the history that a table has.
    fn meta(&self, schema: &Schema) -> Vec<&str> {
        let mut names = self.names.of(HardDeletes::Ignore);
        if self.deletes == HardDeletes::NewRecord && schema.field_with_name(&self.names.is_deleted).is_ok() {
            names.push(&self.names.is_deleted);
        }
        names
    }
}

/// A table and what is about to happen to it.
struct Change<'a> {
    lake: &'a Lake,
    name: &'a TableName,
    history: &'a History<'a>,
    /// The columns of the table as it will be.
    schema: &'a SchemaRef,
    partition_by: &'a [String],
    session: &'a SessionState,
}

/// Stages the first versions of a table: those of the rows of a query.
///
/// # Errors
/// [`TableError::Rows`] when rows of one key cannot be put into an order; otherwise the query's or the storage's.
pub async fn first_versions(
    lake: &Lake,
    name: &TableName,
    rows: LogicalPlan,
    (schema, partition_by): (&SchemaRef, &[String]),
    history: &History<'_>,
    session: &SessionState,
) -> Result<Staged, TableError> {
    let change = Change { lake, name, history, schema, partition_by, session };
    let values = change.values(schema);
    let rows = change.delivered(view(rows), &values)?;
    Ok(change.versions(rows, &values, &[], 0).await?.0)
}

/// Stages what delivered rows change in the versions of a published table. Nothing is staged if nothing changes.
///
/// # Errors
/// As [`first_versions`].
pub async fn add_versions(
    lake: &Lake,
    published: &Published,
    delivered: &Staged,
    (schema, partition_by): (&SchemaRef, &[String]),
    history: &History<'_>,
    session: &SessionState,
) -> Result<Staged, TableError> {
    let name = &published.name;
    let change = Change { lake, name, history, schema, partition_by, session };
    let keys = change.changed_keys(published, delivered).await?;
    if keys.adds.is_empty() {
        return Ok(Staged::nothing(lake, name, schema, partition_by));
    }
    let done = change.apply(published, delivered, &keys).await;
    keys.discard(lake).await;
    done
}

impl Change<'_> {
    /// The columns of a schema that hold values.
    fn values(&self, schema: &Schema) -> Vec<String> {
        let meta = self.history.meta(schema);
        let names = schema.fields().iter().map(|field| field.name().clone());
        names.filter(|name| !meta.contains(&name.as_str())).collect()
    }

    /// Columns of values that the published table does not have.
    fn added(&self, published: &Published) -> Vec<String> {
        let values = self.values(self.schema);
        values.into_iter().filter(|name| published.schema.field_with_name(name).is_err()).collect()
    }

    fn key_schema(&self) -> Result<SchemaRef, TableError> {
        let fields = self.history.key.iter().map(|name| self.schema.field_with_name(name).cloned());
        let fields: Result<Vec<_>, _> = fields.collect();
        Ok(Arc::new(Schema::new(fields.map_err(DataFusionError::from)?)))
    }

    /// Which keys change: found by the columns that decide it.
    async fn changed_keys(&self, published: &Published, delivered: &Staged) -> Result<Staged, TableError> {
        let added = self.added(published);
        let history = self.history;
        let deciding: Vec<&str> = match history.strategy {
            HistoryStrategy::Timestamp => history.key.iter().map(String::as_str).collect(),
            HistoryStrategy::Check => history.key.iter().map(String::as_str).chain(history.checked.clone()).collect(),
        };
        let is_deciding = |name: &String| deciding.contains(&name.as_str()) || added.contains(name);
        let values: Vec<String> = self.values(self.schema).into_iter().filter(is_deciding).collect();
        let new = self.delivered(view(delivered.rows_plan()?), &values)?;
        let known = rows_of(scan(published, Files::All, false).await?, self.schema)?;
        // Of the whole state nothing can be left out: what is not among it is gone.
        let known = if history.whole { known } else { self.of_keys(known, delivered, JoinType::RightSemi)? };
        let known = self.known(known, &values)?;
        let schema = self.key_schema()?;
        let layout = self.layout(&values, &added, Output::Keys, &schema)?;
        let rows = LogicalPlanBuilder::from(known).union(new)?.build()?;
        let joined = if history.whole { 0 } else { delivered.rows() };
        self.folded(rows, &Arc::new(layout), &[], joined).await
    }

    /// Writes the versions of the changed keys, and the other rows of the files that hold them.
    async fn apply(&self, published: &Published, delivered: &Staged, keys: &Staged) -> Result<Staged, TableError> {
        let (values, added) = (self.values(self.schema), self.added(published));
        let touched = self.touched_files(published, keys).await?;
        let new = self.of_keys(delivered.rows_plan()?, keys, JoinType::RightSemi)?;
        let mut rows = self.delivered(view(new), &values)?;
        if touched.is_empty() {
            return Ok(self.versions(rows, &values, &added, keys.rows()).await?.0);
        }
        let scanned = scan(published, Files::Only(&touched), false).await?;
        let known = self.of_keys(rows_of(Arc::clone(&scanned), self.schema)?, keys, JoinType::RightSemi)?;
        rows = LogicalPlanBuilder::from(self.known(known, &values)?).union(rows)?.build()?;
        let (staged, changes) = self.versions(rows, &values, &added, keys.rows()).await?;
        if !changes {
            // Rows of one key were delivered twice as they are: that is told by all of their columns.
            staged.discard(self.lake).await;
            return Ok(Staged::nothing(self.lake, self.name, self.schema, self.partition_by));
        }
        let others = self.of_keys(rows_of(scanned, self.schema)?, keys, JoinType::RightAnti)?;
        let session = joining(self.session, keys.rows());
        match stage(self.lake, self.name, others, self.schema, self.partition_by, &session).await {
            Ok(others) => Ok(staged.with(others).removing(touched)),
            Err(error) => {
                staged.discard(self.lake).await;
                Err(error)
            }
        }
    }

    /// All versions of the keys of some rows, and whether any is new.
    async fn versions(
        &self,
        rows: LogicalPlan,
        values: &[String],
        added: &[String],
        joined: u64,
    ) -> Result<(Staged, bool), TableError> {
        let names = self.history.names;
        let column = |name: &String| match values.iter().position(|value| value == name) {
            Some(at) if added.contains(name) => Column::Added(at),
            Some(at) => Column::Value(at),
            None if *name == names.valid_from => Column::From,
            None if *name == names.valid_to => Column::To,
            None if *name == names.is_current => Column::IsCurrent,
            None => Column::IsDeleted,
        };
        let columns = self.schema.fields().iter().map(|field| column(field.name())).collect();
        let layout = Arc::new(self.layout(values, added, Output::Versions(columns), self.schema)?);
        let staged = self.folded(rows, &layout, self.partition_by, joined).await?;
        Ok((staged, layout.changes.load(Ordering::Relaxed)))
    }

    fn layout(
        &self,
        values: &[String],
        added: &[String],
        output: Output,
        schema: &SchemaRef,
    ) -> Result<Layout, TableError> {
        let history = self.history;
        let position = |name: &str| {
            let missing = || TableError::Rows(format!("the history has no column `{name}` to tell versions by"));
            values.iter().position(|value| value == name).ok_or_else(missing)
        };
        let checked = history.checked.iter().filter(|name| !added.iter().any(|added| added == *name));
        Ok(Layout {
            key: history.key.iter().map(|name| position(name)).collect::<Result<_, _>>()?,
            checked: match history.strategy {
                HistoryStrategy::Timestamp => Vec::new(),
                HistoryStrategy::Check => checked.map(|name| position(name)).collect::<Result<_, _>>()?,
            },
            added: added.iter().map(|name| position(name)).collect::<Result<_, _>>()?,
            values: values.len(),
            complete: values.len() == self.values(self.schema).len(),
            rules: Rules {
                strategy: history.strategy,
                whole: history.whole,
                deletes: if history.has_gaps { HardDeletes::Ignore } else { history.deletes },
                now: history.now,
            },
            output,
            schema: Arc::clone(schema),
            findings: Findings::default(),
            changes: AtomicBool::new(false),
        })
    }

    /// Sorts rows by key and folds them, each partition of keys by itself; where memory is short, all in one partition
    /// and in small batches.
    async fn folded(
        &self,
        rows: LogicalPlan,
        layout: &Arc<Layout>,
        partition_by: &[String],
        joined: u64,
    ) -> Result<Staged, TableError> {
        let session = session::for_query(&joining(self.session, joined));
        let rows = &rows;
        let run = |session: SessionState| async move { self.folded_once(rows, layout, partition_by, &session).await };
        let staged = session::within_memory(&session, run).await?;
        match self.refused(&layout.findings) {
            None => Ok(staged),
            Some(why) => {
                staged.discard(self.lake).await;
                Err(TableError::Values(why))
            }
        }
    }

    async fn folded_once(
        &self,
        rows: &LogicalPlan,
        layout: &Arc<Layout>,
        partition_by: &[String],
        session: &SessionState,
    ) -> Result<Staged, TableError> {
        let sorted = sorted(session.create_physical_plan(rows).await?, layout, session)?;
        let context = session.task_ctx();
        let streams = |partition| fold(sorted.execute(partition, Arc::clone(&context))?, Arc::clone(layout));
        let streams = (0..sorted.output_partitioning().partition_count()).map(streams);
        stage_streams(self.lake, self.name, streams, &layout.schema, partition_by, session).await
    }

    fn refused(&self, findings: &Findings) -> Option<String> {
        let [duplicate, timeless, overlap] =
            [Finding::Duplicate, Finding::Timeless, Finding::Overlap].map(|finding| findings.examples(finding));
        if !overlap.is_empty() {
            return Some(format!(
                "the history has several current versions of one key: {overlap}; was `unique_key` another one? Set it \
                 back, or begin another history under another name"
            ));
        }
        let updated_at = self.history.updated_at.unwrap_or_default();
        if !timeless.is_empty() {
            return Some(format!(
                "`{updated_at}` is NULL in new rows of {timeless}: it tells where a version stands; give it a value, or \
                 leave such rows out"
            ));
        }
        let what = match self.history.strategy {
            HistoryStrategy::Timestamp => format!("one unique key and one `{updated_at}`"),
            HistoryStrategy::Check => "one unique key".to_owned(),
        };
        (!duplicate.is_empty()).then(|| {
            format!(
                "several new rows that differ have {what}: {duplicate}; which of them is right cannot be known: leave one \
                 of each in the query, or add the column that tells them apart to `unique_key`"
            )
        })
    }

    /// Rows of a delivery, as the fold reads them.
    fn delivered(&self, table: Arc<dyn TableProvider>, values: &[String]) -> Result<LogicalPlan, TableError> {
        let rows = rows_of(table, &self.with_time(values)?)?;
        let updated = self.updated();
        let helpers = [lit(false), updated.clone(), lit(ScalarValue::Int64(None)), lit(false), updated];
        for_fold(rows, values, helpers)
    }

    /// Versions of the table, as the fold reads them.
    fn known(&self, rows: LogicalPlan, values: &[String]) -> Result<LogicalPlan, TableError> {
        let names = self.history.names;
        let time = |name: &str| cast(exact(name), DataType::Int64);
        let deleted = match self.history.meta(self.schema).contains(&names.is_deleted.as_str()) {
            true => exact(&names.is_deleted),
            false => lit(false),
        };
        let helpers = [lit(true), time(&names.valid_from), time(&names.valid_to), deleted, self.updated()];
        for_fold(rows, values, helpers)
    }

    /// Some columns, and the one that says when a row changed.
    fn with_time(&self, values: &[String]) -> Result<Schema, TableError> {
        let named = |name: &str| values.iter().any(|value| value == name) || self.history.updated_at == Some(name);
        let fields = self.schema.fields().iter().filter(|field| named(field.name()));
        Ok(Schema::new(fields.map(|field| field.as_ref().clone()).collect::<Vec<_>>()))
    }

    /// When a row changed, as an integer.
    fn updated(&self) -> Expr {
        let Some(name) = self.history.updated_at else { return lit(ScalarValue::Int64(None)) };
        let is_date = self.schema.field_with_name(name).is_ok_and(|field| *field.data_type() == DataType::Date32);
        let time = match is_date {
            true => cast(exact(name), DataType::Timestamp(TimeUnit::Microsecond, None)),
            false => exact(name),
        };
        cast(time, DataType::Int64)
    }

    /// The rows that have one of some keys, or none of them. The keys are what a hash join holds.
    fn of_keys(&self, rows: LogicalPlan, keys: &Staged, how: JoinType) -> Result<LogicalPlan, TableError> {
        let names = self.history.key;
        let columns: Vec<_> = names.iter().map(|name| exact(name)).collect();
        let keys = LogicalPlanBuilder::from(keys.rows_plan()?).project(columns)?.alias("new")?;
        let of = |table: &str| -> Vec<Name> { names.iter().map(|name| Name::new(Some(table), name)).collect() };
        let on = (of("new"), of("old"));
        Ok(keys.join_detailed(named(rows, "old")?, how, on, None, NullEquality::NullEqualsNull)?.build()?)
    }

    /// Paths of the published files that hold a version of these keys.
    async fn touched_files(&self, published: &Published, keys: &Staged) -> Result<BTreeSet<String>, TableError> {
        let table = scan(published, Files::All, true).await?;
        let rows = LogicalPlanBuilder::scan("rows", provider_as_source(table), None)?;
        let columns = self.history.key.iter().map(String::as_str).chain([FILE_COLUMN]).map(exact);
        let rows = self.of_keys(rows.project(columns)?.build()?, keys, JoinType::RightSemi)?;
        let paths = super::publish::file_paths(published)?;
        files_of(published, rows, &paths, &joining(self.session, keys.rows())).await
    }
}

/// Columns of values, then those that the fold needs.
fn for_fold(rows: LogicalPlan, values: &[String], helpers: [Expr; 5]) -> Result<LogicalPlan, TableError> {
    let values = values.iter().map(|name| exact(name));
    let helpers = helpers.into_iter().zip(HELPERS).map(|(helper, name)| helper.alias(name));
    Ok(LogicalPlanBuilder::from(rows).project(values.chain(helpers))?.build()?)
}

/// A session whose joins hold as many keys in memory, or sort them.
fn joining(session: &SessionState, keys: u64) -> SessionState {
    let mut session = session.clone();
    session.config_mut().options_mut().optimizer.prefer_hash_join = keys <= KEYS_IN_MEMORY;
    session
}

/// All rows of a key in one partition, one after another: versions of before first, then by time.
fn sorted(
    rows: Arc<dyn ExecutionPlan>,
    layout: &Layout,
    session: &SessionState,
) -> Result<Arc<dyn ExecutionPlan>, TableError> {
    let schema = rows.schema();
    let column = |at: usize| -> Arc<dyn PhysicalExpr> {
        Arc::new(datafusion::physical_expr::expressions::Column::new(schema.field(at).name(), at))
    };
    let keys: Vec<_> = layout.key.iter().map(|at| column(*at)).collect();
    let by = |expr: Arc<dyn PhysicalExpr>, descending: bool| {
        PhysicalSortExpr::new(expr, SortOptions { descending, nulls_first: true })
    };
    let order = keys.iter().map(|key| by(Arc::clone(key), false));
    let order = order.chain([by(column(layout.values), true), by(column(layout.values + 1), false)]);
    let order = LexOrdering::new(order).expect("there are two helpers");
    let threads = session.config().target_partitions().max(1);
    let rows = session::spread(session, rows, Partitioning::Hash(keys, threads))?;
    Ok(Arc::new(SortExec::new(order, rows).with_preserve_partitioning(true)))
}
