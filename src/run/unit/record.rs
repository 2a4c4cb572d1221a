//! A unit test of real rows: a few of the input that a model begins with, those of the others that match them, and what
//! the model makes of these. Sensitive values are replaced before the model sees them, so the test passes by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::DataType;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::logical_plan::builder::LogicalTableSource;
use datafusion::logical_expr::{LogicalPlan, TableSource};

use super::joins::{self, ColumnAt};
use super::mask::Masks;
use crate::compile::insert_given;
use crate::names::TableName;
use crate::project::Model;
use crate::run::inputs::Inputs;
use crate::run::{Failure, Runtime};
use crate::session::{self, Tables};
use crate::words::quoted;

/// What is recorded of a model.
pub struct Recorded {
    /// The inputs with their rows, masked.
    pub given: Vec<(TableName, RecordBatch)>,
    /// What the model makes of them.
    pub expect: RecordBatch,
    /// The moment that `now()` is.
    pub now: DateTime<Utc>,
    /// Columns whose values were replaced.
    pub masked: Vec<String>,
}

/// Functions that a frozen clock makes the same in every run.
const OF_THE_CLOCK: &[&str] = &["now", "current_date", "current_time", "current_timestamp", "run_started_at", "today"];

/// Records `limit` rows of a model's inputs.
///
/// # Errors
/// When a table cannot be read, or the model gives other rows each time.
pub async fn record(inputs: &Inputs, model: &Model, limit: usize) -> Result<Recorded, Failure> {
    let runtime = inputs.runtime();
    refuse_chance(runtime, model)?;
    let now = chrono::SubsecRound::trunc_subsecs(runtime.options.started_at, 0);
    let session = session::frozen(&session::one_partition(&runtime.session), now);
    let names: Vec<TableName> = model.refs.iter().chain(model.sources.iter().map(|(name, _)| name)).cloned().collect();
    let real = inputs.tables_named(&names).await?;
    let shape = Shape::of(runtime, model, &names, &session)?;
    let mut samples: BTreeMap<TableName, RecordBatch> = BTreeMap::new();
    for name in shape.order(&names) {
        let batch = sample(&name, &shape, &samples, &real, limit, &session).await?;
        samples.insert(name, batch);
    }
    let sensitive = shape.sensitive(runtime, &samples);
    let mut masks = Masks::default();
    for (name, batch) in &mut samples {
        let is_sensitive = |column: &str| sensitive.contains(&(name.clone(), column.to_owned()));
        *batch = masks.masked(batch, is_sensitive)?;
    }
    let expect = expected(model, &samples, runtime, now, &session).await?;
    let given = names.iter().filter_map(|name| Some((name.clone(), samples.get(name)?.clone()))).collect();
    let masked = sensitive.into_iter().map(|(table, column)| format!("{table}.{column}")).collect();
    Ok(Recorded { given, expect, now, masked })
}

fn refuse_chance(runtime: &Runtime, model: &Model) -> Result<(), Failure> {
    let volatile = runtime.compiled.models.get(&model.name).and_then(|compiled| compiled.volatile.as_deref());
    match volatile.filter(|function| !OF_THE_CLOCK.contains(&function.trim_end_matches("()"))) {
        Some(function) => Err(Failure::text(format!(
            "`{}` gives other rows each time, by {function}: no test could expect them",
            model.name
        ))),
        None => Ok(()),
    }
}

/// What the query of a model says of its inputs.
struct Shape {
    /// The columns of each that it reads.
    columns: BTreeMap<TableName, BTreeSet<String>>,
    /// Columns that a join holds to be equal.
    pairs: Vec<(ColumnAt, ColumnAt)>,
    /// The input that the query begins with.
    first: Option<TableName>,
}

impl Shape {
    fn of(runtime: &Runtime, model: &Model, names: &[TableName], session: &SessionState) -> Result<Self, Failure> {
        let mut tables = Tables::new();
        for name in names {
            let Some(schema) = runtime.compiled.schema_of(name) else { continue };
            let source: Arc<dyn TableSource> = Arc::new(LogicalTableSource::new(Arc::clone(schema)));
            insert_given(&mut tables, name, source);
        }
        let plan = session::plan(session, session::parse(&model.full.sql)?, &tables)?;
        let optimized = session.optimize(&plan)?;
        let mut pairs = Vec::new();
        joins::pairs(&optimized, &mut pairs);
        Ok(Self { columns: joins::columns_read(&optimized), pairs, first: joins::first_table(&plan) })
    }

    /// The inputs, each after one that it is joined to where there is one.
    fn order(&self, names: &[TableName]) -> Vec<TableName> {
        let first = self.first.clone().filter(|name| names.contains(name)).or_else(|| names.first().cloned());
        let mut order: Vec<TableName> = first.into_iter().collect();
        while order.len() < names.len() {
            let left = || names.iter().filter(|name| !order.contains(name));
            let joined = left().find(|name| self.partners(name).any(|(_, other)| order.contains(&other.0)));
            let Some(next) = joined.or_else(|| left().next()).cloned() else { break };
            order.push(next);
        }
        order
    }

    /// The columns of an input that are joined, each with its partner.
    fn partners<'a>(&'a self, name: &'a TableName) -> impl Iterator<Item = (&'a ColumnAt, &'a ColumnAt)> {
        let both = self.pairs.iter().flat_map(|(a, b)| [(a, b), (b, a)]);
        both.filter(move |(own, other)| own.0 == *name && other.0 != *name)
    }

    /// The recorded columns whose values are not for everybody: by their own YAML, by that of what they are made of, or
    /// because they are joined to such a one.
    fn sensitive(&self, runtime: &Runtime, samples: &BTreeMap<TableName, RecordBatch>) -> BTreeSet<ColumnAt> {
        let all = samples.iter().flat_map(|(name, batch)| {
            let fields = batch.schema();
            fields.fields().iter().map(|field| (name.clone(), field.name().clone())).collect::<Vec<_>>()
        });
        let mut found: BTreeSet<ColumnAt> =
            all.filter(|(table, column)| runtime.compiled.is_sensitive(table, column)).collect();
        loop {
            let joined = self.pairs.iter().flat_map(|(a, b)| [(a, b), (b, a)]);
            let more: Vec<ColumnAt> =
                joined.filter(|(a, b)| found.contains(*a) && !found.contains(*b)).map(|(_, b)| b.clone()).collect();
            if more.is_empty() {
                return found;
            }
            found.extend(more);
        }
    }
}

/// Rows of one input: those that match what is sampled of those that it is joined to; for the first one, those that
/// have a match at all.
async fn sample(
    name: &TableName,
    shape: &Shape,
    samples: &BTreeMap<TableName, RecordBatch>,
    real: &Tables,
    limit: usize,
    session: &SessionState,
) -> Result<RecordBatch, Failure> {
    let mut tables = real.clone();
    let mut conditions = Vec::new();
    for (own, other) in shape.partners(name) {
        let from = match samples.get(&other.0) {
            Some(batch) => {
                let sampled = TableName::new("sampled", format!("{}_{}", other.0.schema, other.0.table));
                let rows = MemTable::try_new(batch.schema(), vec![vec![batch.clone()]])?;
                tables.insert(sampled.clone(), provider_as_source(Arc::new(rows)));
                sampled
            }
            // Only the first one comes before all that it is joined to.
            None if samples.is_empty() => other.0.clone(),
            None => continue,
        };
        conditions.push(format!("{} in (select {} from {})", quoted(&own.1), quoted(&other.1), from.quoted()));
    }
    let read = shape.columns.get(name).into_iter().flatten().map(|column| quoted(column));
    let joined = shape.partners(name).map(|(own, _)| quoted(&own.1));
    let columns: BTreeSet<String> = read.chain(joined).collect();
    let columns: Vec<String> = columns.into_iter().collect();
    // Of an input that is only counted there are rows without a column: any column stands for them.
    let list = if columns.is_empty() { "*".to_owned() } else { columns.join(", ") };
    let query = |conditions: &[String]| {
        let filter = if conditions.is_empty() { String::new() } else { format!(" where {}", conditions.join(" and ")) };
        format!("select {list} from {}{filter} limit {limit}", name.quoted())
    };
    let rows = rows_of_query(&query(&conditions), &tables, session).await?;
    if rows.num_rows() == 0 && samples.is_empty() && !conditions.is_empty() {
        return rows_of_query(&query(&[]), &tables, session).await;
    }
    Ok(rows)
}

async fn rows_of_query(sql: &str, tables: &Tables, session: &SessionState) -> Result<RecordBatch, Failure> {
    collected(session::plan(session, session::parse(sql)?, tables)?, session).await
}

async fn collected(plan: LogicalPlan, session: &SessionState) -> Result<RecordBatch, Failure> {
    let schema = Arc::new(plan.schema().as_arrow().clone());
    let batches = session::query(session, plan).collect().await?;
    let schema = batches.first().map_or(schema, RecordBatch::schema);
    Ok(concat_batches(&schema, &batches).map_err(datafusion::error::DataFusionError::from)?)
}

/// What the model makes of the samples.
async fn expected(
    model: &Model,
    samples: &BTreeMap<TableName, RecordBatch>,
    runtime: &Runtime,
    now: DateTime<Utc>,
    session: &SessionState,
) -> Result<RecordBatch, Failure> {
    let mut tables = Tables::new();
    for (name, batch) in samples {
        let Some(schema) = runtime.compiled.schema_of(name) else { continue };
        let rows = Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch.clone()]])?);
        let whole = crate::exact_files::rows_of(rows, schema)?;
        let view = datafusion::datasource::ViewTable::new(whole, None);
        insert_given(&mut tables, name, provider_as_source(Arc::new(view)));
    }
    let rendered = runtime.project.rendered_at(model, now);
    let sql = rendered.map_err(|diagnostic| super::in_words(vec![*diagnostic]))?;
    let rows = collected(session::plan(session, session::parse(&sql)?, &tables)?, session).await?;
    let kept: Vec<usize> = (0..rows.num_columns()).filter(|at| can_be_written(rows.column(*at).data_type())).collect();
    Ok(rows.project(&kept).map_err(datafusion::error::DataFusionError::from)?)
}

/// Whether YAML has words for the values of a type.
pub(super) fn can_be_written(data_type: &DataType) -> bool {
    !matches!(
        data_type,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) | DataType::Null
    )
}
