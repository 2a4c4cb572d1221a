//! What the log says of all rows of a table without reading one (Delta protocol, "Per-file Statistics").

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::pruning::PrunableStatistics;
use datafusion::common::{DFSchemaRef, DataFusionError, ScalarValue, Statistics};
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::provider_as_source;
use datafusion::execution::context::ExecutionProps;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::create_physical_expr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use serde_json::Value;

use super::files::{DataFile, table_schema};
use super::{Published, Staged, TableError};
use crate::names::TableName;
use crate::session::{self, Tables};

/// The statistics of the files of a table.
pub struct Known {
    schema: SchemaRef,
    data_files: Vec<DataFile>,
    files: Vec<Arc<Statistics>>,
    /// How large they are.
    pub bytes: u64,
}

impl Known {
    /// Of a published version, of staged files, or of the table that both will be; `None` if a file has no statistics.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn of(published: Option<&Published>, staged: Option<&Staged>) -> Result<Option<Self>, TableError> {
        let mut files: Vec<DataFile> = staged.into_iter().flat_map(|staged| &staged.adds).map(DataFile::from).collect();
        if let Some(published) = published.filter(|_| staged.is_none_or(|staged| !staged.replaces_all)) {
            let nothing = BTreeSet::new();
            let removed = staged.map_or(&nothing, |staged| &staged.removed);
            files.extend(published.files_at(|path| !removed.contains(path))?);
        }
        if files.iter().any(|file| file.has_deletions) {
            return Ok(None);
        }
        let (schema, partition_by) = match (staged, published) {
            (Some(staged), _) => (&staged.schema, staged.partition_by.as_slice()),
            (None, Some(published)) => (&published.schema, published.partition_columns()),
            (None, None) => return Ok(None),
        };
        let bytes = files.iter().map(|file| u64::try_from(file.size).unwrap_or_default()).sum();
        let statistics = files.iter().map(|file| file.known(schema, partition_by)).collect::<Result<Option<_>, _>>()?;
        let schema = table_schema(schema, partition_by);
        Ok(statistics.map(|known| Self { schema, data_files: files, files: known, bytes }))
    }

    /// How many files there are.
    pub fn file_count(&self) -> usize {
        self.files.len()
    }

    /// How many rows there are.
    pub fn rows(&self) -> u64 {
        let rows = self.files.iter().filter_map(|file| file.num_rows.get_value());
        rows.map(|rows| *rows as u64).sum()
    }

    /// How many NULLs a column holds.
    pub fn nulls(&self, column: &str) -> Option<u64> {
        let at = self.schema.index_of(column).ok()?;
        let nulls =
            |file: &Arc<Statistics>| file.column_statistics[at].null_count.get_value().map(|nulls| *nulls as u64);
        self.files.iter().map(nulls).sum()
    }

    /// The least and the greatest value of each column as the log has them, for people to look at: long texts may be cut, and
    /// times are cut to milliseconds.
    pub fn shown_bounds(&self) -> HashMap<&str, (Option<ScalarValue>, Option<ScalarValue>)> {
        let mut bounds: HashMap<&str, (Option<ScalarValue>, Option<ScalarValue>)> = HashMap::new();
        for file in &self.data_files {
            let stats: Value =
                file.stats.as_deref().and_then(|stats| serde_json::from_str(stats).ok()).unwrap_or_default();
            for field in self.schema.fields() {
                let value = |key: &str| match file.partition_values.get(field.name()) {
                    Some(value) => shown(&Value::from(value.clone()?), field.data_type()),
                    None => shown(&stats[key][field.name()], field.data_type()),
                };
                let (least, greatest) = bounds.entry(field.name()).or_default();
                keep(least, value("minValues"), Ordering::Less);
                keep(greatest, value("maxValues"), Ordering::Greater);
            }
        }
        bounds
    }

    /// Whether the statistics say that no row meets a condition: one over the columns of `name` alone.
    pub fn excludes(&self, name: &TableName, condition: &str, session: &SessionState) -> bool {
        if self.files.is_empty() {
            return true;
        }
        let Some((condition, columns)) = bound(name, condition, &self.schema, session) else { return false };
        let excludes = || -> Result<bool, DataFusionError> {
            let context = PhysicalPlanningContext::default();
            let condition = create_physical_expr(&condition, &columns, &ExecutionProps::new(), &context)?;
            let builder = PruningPredicateBuilder::new().with_file_schema(Arc::clone(&self.schema));
            let Some(predicate) = builder.build(condition) else { return Ok(false) };
            let statistics = PrunableStatistics::new(self.files.clone(), Arc::clone(&self.schema));
            Ok(predicate.prune(&statistics)?.iter().all(|may_hold| !may_hold))
        };
        excludes().unwrap_or(false)
    }
}

/// A condition as an expression over the columns of a table, if it is one over nothing else.
fn bound(name: &TableName, condition: &str, schema: &SchemaRef, session: &SessionState) -> Option<(Expr, DFSchemaRef)> {
    let mut tables = Tables::new();
    tables.insert(name.clone(), provider_as_source(Arc::new(EmptyTable::new(Arc::clone(schema)))));
    let sql = format!("select * from {} where {condition}", name.quoted());
    let plan = session::plan(session, session::parse(&sql).ok()?, &tables).ok()?;
    let LogicalPlan::Filter(filter) = unwrapped(session.optimize(&plan).ok()?) else { return None };
    match unwrapped(filter.input.as_ref().clone()) {
        LogicalPlan::TableScan(scan) if scan.filters.is_empty() => Some((filter.predicate, scan.projected_schema)),
        _ => None,
    }
}

fn unwrapped(plan: LogicalPlan) -> LogicalPlan {
    match plan {
        LogicalPlan::Projection(projection) => unwrapped(projection.input.as_ref().clone()),
        LogicalPlan::SubqueryAlias(alias) => unwrapped(alias.input.as_ref().clone()),
        other => other,
    }
}

/// A value of the log.
fn shown(value: &Value, data_type: &DataType) -> Option<ScalarValue> {
    let text = match value {
        // A time without a zone has one in the log.
        Value::String(text) if matches!(data_type, DataType::Timestamp(_, None)) => {
            text.trim_end_matches('Z').to_owned()
        }
        Value::String(text) => text.clone(),
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        _ => return None,
    };
    ScalarValue::try_from_string(text, data_type).ok()
}

/// Keeps the one of two values that is less, or greater.
fn keep(known: &mut Option<ScalarValue>, other: Option<ScalarValue>, wanted: Ordering) {
    let Some(other) = other else { return };
    if known.as_ref().is_none_or(|known| other.partial_cmp(known) == Some(wanted)) {
        *known = Some(other);
    }
}
