//! What a result replaces as a whole: the partitions that it has rows of, or the rows that meet a condition.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray};
use datafusion::arrow::datatypes::{Field, Int64Type};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue, ToDFSchema};
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, lit};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;

use super::merge::parsed;
use super::prune::bounds;
use super::read::{FILE_COLUMN, Files, exact, files_of, scan};
use super::stage::{Staged, collect};
use super::{Published, TableError};

/// Paths of the published files whose partitions have new rows. No data is read: the log says it.
pub(super) fn same_partitions(published: &Published, staged: &Staged) -> Result<BTreeSet<String>, TableError> {
    let fields: Result<Vec<_>, _> =
        staged.partition_by.iter().map(|name| staged.schema.field_with_name(name)).collect();
    let fields = fields.map_err(DataFusionError::from)?;
    // Other writers may write a value otherwise, and an empty text is NULL (Delta protocol, "Partition Value
    // Serialization").
    let values = |texts: &HashMap<String, Option<String>>| -> Result<Vec<ScalarValue>, DataFusionError> {
        let value = |field: &&Field| match texts.get(field.name()) {
            Some(Some(text)) if !text.is_empty() => ScalarValue::try_from_string(text.clone(), field.data_type()),
            _ => ScalarValue::try_from(field.data_type()),
        };
        fields.iter().map(value).collect()
    };
    let new: HashSet<_> = staged.adds.iter().map(|add| values(&add.partition_values)).collect::<Result<_, _>>()?;
    let fail = |source| TableError::Delta { table: published.name.clone(), source };
    let mut paths = BTreeSet::new();
    for file in published.table.snapshot().map_err(fail)?.log_data().iter() {
        if new.contains(&values(&file.partition_values_map())?) {
            paths.insert(file.path().into_owned());
        }
    }
    Ok(paths)
}

/// A new row that does not meet the condition would stand beside what the result does not replace.
pub(super) async fn refuse_outside(staged: &Staged, condition: &str, session: &SessionState) -> Result<(), TableError> {
    let parsed = parsed(condition, staged, session)?;
    let outside = LogicalPlanBuilder::from(staged.rows_plan()?).filter(parsed.clone().is_not_true())?.build()?;
    let counted = LogicalPlanBuilder::from(outside.clone()).aggregate(Vec::<Expr>::new(), vec![count(lit(1))])?;
    let batches = collect(counted.build()?, session).await?;
    let rows = batches.iter().find(|batch| batch.num_rows() == 1);
    let rows = rows.map_or(0, |batch| batch.column(0).as_primitive::<Int64Type>().value(0));
    if rows == 0 {
        return Ok(());
    }
    let used: BTreeSet<&str> = parsed.column_refs().into_iter().map(|column| column.name.as_str()).collect();
    let used: Vec<Expr> = used.into_iter().map(exact).collect();
    let first = LogicalPlanBuilder::from(outside).project(used)?.limit(0, Some(1))?.build()?;
    let mut values = Vec::new();
    for batch in collect(first, session).await?.iter().filter(|batch| batch.num_rows() > 0) {
        let options = FormatOptions::default().with_null("NULL");
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            let formatter = ArrayFormatter::try_new(column, &options).map_err(DataFusionError::from)?;
            values.push(format!("{}={}", field.name(), formatter.value(0)));
        }
    }
    let (noun, values) = (if rows == 1 { "row does" } else { "rows do" }, values.join(", "));
    Err(TableError::Values(format!(
        "{rows} new {noun} not meet `{condition}`, such as ({values}): filter the query by the same condition, or widen \
         `incremental_predicates`"
    )))
}

/// Paths of the published files with a row that meets a condition.
pub(super) async fn files_that_meet(
    published: &Published,
    staged: &Staged,
    condition: &str,
    session: &SessionState,
) -> Result<BTreeSet<String>, TableError> {
    let candidates = candidates(published, staged, condition, session)?;
    if candidates.is_empty() {
        return Ok(candidates);
    }
    let table = scan(published, Files::Only(&candidates), true).await?;
    // A column that the table does not have yet is NULL in all of its rows.
    let known = |name: &String| match published.schema.field_with_name(name) {
        Ok(_) => Ok(exact(name)),
        Err(_) => Ok(lit(ScalarValue::try_from(
            staged.schema.field_with_name(name).map_err(DataFusionError::from)?.data_type(),
        )?)
        .alias(name)),
    };
    let columns = staged.schema.fields().iter().map(|field| known(field.name()));
    let columns: Result<Vec<Expr>, DataFusionError> = columns.chain([Ok(exact(FILE_COLUMN))]).collect();
    let rows = LogicalPlanBuilder::scan("old", provider_as_source(table), None)?.project(columns?)?;
    let condition = parsed(condition, staged, session)?;
    files_of(published, rows.filter(condition)?.build()?, &candidates, session).await
}

/// The files that can hold such a row, by what the log says of them.
fn candidates(
    published: &Published,
    staged: &Staged,
    condition: &str,
    session: &SessionState,
) -> Result<BTreeSet<String>, TableError> {
    let fail = |source| TableError::Delta { table: published.name.clone(), source };
    let snapshot = published.table.snapshot().map_err(fail)?;
    let files: Vec<String> = snapshot.log_data().iter().map(|file| file.path().into_owned()).collect();
    let columns = staged.schema.as_ref().clone().to_dfschema()?;
    let condition = session.create_physical_expr(parsed(condition, staged, session)?, &columns)?;
    let keep = match PruningPredicateBuilder::new().with_file_schema(Arc::clone(&staged.schema)).build(condition) {
        Some(predicate) => predicate.prune(&FileBounds { published, staged, files: files.len() })?,
        // It says nothing that bounds could answer.
        None => vec![true; files.len()],
    };
    Ok(files.into_iter().zip(keep).filter(|(_, keep)| *keep).map(|(path, _)| path).collect())
}

/// What is certain of the files of a version.
struct FileBounds<'a> {
    published: &'a Published,
    staged: &'a Staged,
    files: usize,
}

impl PruningStatistics for FileBounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        Some(bounds(self.published, &self.staged.schema, &column.name)?.least)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        Some(bounds(self.published, &self.staged.schema, &column.name)?.greatest)
    }

    fn num_containers(&self) -> usize {
        self.files
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        Some(Arc::new(bounds(self.published, &self.staged.schema, &column.name)?.nulls))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None
    }

    fn contained(&self, _: &Column, _: &std::collections::HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
