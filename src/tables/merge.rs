//! Merging new rows into a table by key.
//!
//! The new rows are staged as they are. Then the files that hold one of their keys are found by a semi
//! join on the keys alone, and only these are written again, without the rows that the new ones replace.
//! Keys compare with `is not distinct from`: NULL equals NULL, so a row with a NULL key does not multiply.

use std::collections::BTreeSet;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{JoinType, NullEquality};
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, lit};

use percent_encoding::percent_decode_str;

use super::read::{FILE_COLUMN, Files, exact, named, scan};
use super::stage::{Staged, stage};
use super::{Lake, Published, TableError};
use crate::exact_files::rows_of;
use crate::session;

/// How many keys a message names.
const EXAMPLES: usize = 5;

/// Turns staged new rows into a staged merge with the published version.
///
/// # Errors
/// [`TableError::Rows`] when a key stands twice among the new rows; otherwise the query's or the storage's.
pub async fn merge(
    lake: &Lake,
    published: Option<&Published>,
    mut staged: Staged,
    key: &[String],
    session: &SessionState,
) -> Result<Staged, TableError> {
    if let Err(error) = check_unique(&staged, key, session).await {
        staged.discard(lake).await;
        return Err(error);
    }
    let Some(published) = published else { return Ok(staged) };
    let touched = touched_files(published, &staged, key, session).await?;
    if touched.is_empty() {
        return Ok(staged);
    }
    let old = scan(published, Files::Only(&touched), false).await?;
    let old = rows_of(old, &staged.schema)?;
    let kept = join(named(old, "old")?, &staged, key, JoinType::LeftAnti)?;
    let rewritten = stage(lake, &staged.name, kept, &staged.schema, &staged.partition_by, session).await?;
    staged.adds.extend(rewritten.adds);
    staged.removed = touched;
    Ok(staged)
}

/// Two new rows of one key: which one is right cannot be known.
async fn check_unique(staged: &Staged, key: &[String], session: &SessionState) -> Result<(), TableError> {
    let columns: Vec<_> = key.iter().map(|name| exact(name)).collect();
    let twice = LogicalPlanBuilder::from(staged.rows_plan()?)
        .aggregate(columns.clone(), vec![count(lit(1)).alias("n_records")])?
        .filter(exact("n_records").gt(lit(1)))?
        .project(columns)?
        .limit(0, Some(EXAMPLES))?
        .build()?;
    let batches = collect(twice, session).await?;
    let options = FormatOptions::default().with_null("NULL");
    let mut examples = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let values: Result<Vec<String>, DataFusionError> = batch
                .columns()
                .iter()
                .zip(key)
                .map(|(column, name)| {
                    let formatter = ArrayFormatter::try_new(column, &options)?;
                    Ok(format!("{name}={}", formatter.value(row)))
                })
                .collect();
            examples.push(format!("({})", values?.join(", ")));
        }
    }
    if examples.is_empty() {
        return Ok(());
    }
    Err(TableError::Rows(format!(
        "several new rows have one unique key: {}; make them distinct, or set `sequence_by` to the column that \
         tells which one is the latest",
        examples.join(", ")
    )))
}

/// Paths of the published files that hold a key of the new rows.
async fn touched_files(
    published: &Published,
    staged: &Staged,
    key: &[String],
    session: &SessionState,
) -> Result<BTreeSet<String>, TableError> {
    let table = scan(published, Files::All, true).await?;
    let plan = LogicalPlanBuilder::scan("old", provider_as_source(table), None)?;
    let matched = join(plan.build()?, staged, key, JoinType::LeftSemi)?;
    let files = LogicalPlanBuilder::from(matched).project(vec![exact(FILE_COLUMN)])?.distinct()?.build()?;
    let mut touched = BTreeSet::new();
    let root = published.table.log_store().root_url().as_str().trim_end_matches('/').to_owned() + "/";
    let paths = super::publish::file_paths(published)?;
    for batch in collect(files, session).await? {
        let names = cast(batch.column(0), &DataType::Utf8).map_err(DataFusionError::from)?;
        for name in names.as_string::<i32>().iter().flatten() {
            // The column holds absolute addresses; the log holds paths relative to the table.
            let path = percent_decode_str(name.strip_prefix(&root).unwrap_or(name)).decode_utf8_lossy();
            let known = paths.get(path.as_ref());
            let known = known.ok_or_else(|| TableError::Rows(format!("file `{name}` is not in the log")))?;
            touched.insert(known.clone());
        }
    }
    Ok(touched)
}

fn join(old: LogicalPlan, staged: &Staged, key: &[String], how: JoinType) -> Result<LogicalPlan, TableError> {
    let keys: Vec<_> = key.iter().map(|name| exact(name)).collect();
    let new = LogicalPlanBuilder::from(staged.rows_plan()?).project(keys)?.alias("new")?.build()?;
    let left: Vec<_> = key.iter().map(|name| datafusion::common::Column::new(Some("old"), name)).collect();
    let right: Vec<_> = key.iter().map(|name| datafusion::common::Column::new(Some("new"), name)).collect();
    let builder = LogicalPlanBuilder::from(old);
    Ok(builder.join_detailed(new, how, (left, right), None, NullEquality::NullEqualsNull)?.build()?)
}

async fn collect(plan: LogicalPlan, session: &SessionState) -> Result<Vec<RecordBatch>, TableError> {
    Ok(session::query(session, plan).collect().await?)
}
