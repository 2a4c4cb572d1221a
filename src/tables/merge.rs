//! Placing new rows among those of a table: by key, or by partition.
//!
//! The new rows are staged as they are. Then the files that hold one of their keys are found by a semi
//! join on the keys alone, and only these are written again, without the rows that the new ones replace.
//! Keys compare with `is not distinct from`: NULL equals NULL, so a row with a NULL key does not multiply.
//! Where whole partitions are replaced, the log alone says which files go.

use std::collections::{BTreeSet, HashMap, HashSet};

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{Column, JoinType, NullEquality, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit, when};

use percent_encoding::percent_decode_str;

use super::read::{FILE_COLUMN, Files, exact, named, scan};
use super::stage::{Staged, discard, stage};
use super::{Lake, Published, TableError};
use crate::exact_files::rows_of;
use crate::session;

/// Tells rows that have an old one from others.
const KNOWN_COLUMN: &str = "__lake_known";

/// How many keys a message names.
const EXAMPLES: usize = 5;

/// Where new rows go among those of a published table.
#[derive(Debug)]
pub enum Placement<'a> {
    /// Beside all others.
    Beside,
    /// Each takes the place of the old row of its key; no key has two of them.
    Merge {
        /// The columns that tell rows apart.
        key: &'a [String],
        /// The columns of which an old row takes the new values, if not all.
        updates: Option<Vec<String>>,
    },
    /// In place of all old rows of their keys, however many there are of either.
    OverKeys {
        /// The columns that tell which rows go.
        key: &'a [String],
    },
    /// In place of all old rows of their partitions.
    OverPartitions,
}

/// Turns staged new rows into a staged change of the published version.
///
/// # Errors
/// [`TableError::Rows`] when a key to merge by stands twice among the new rows; otherwise the query's or the storage's.
pub async fn place(
    lake: &Lake,
    published: Option<&Published>,
    mut staged: Staged,
    placement: &Placement<'_>,
    session: &SessionState,
) -> Result<Staged, TableError> {
    let (adds, name) = (staged.adds.clone(), staged.name.clone());
    let placed = async {
        if let Placement::Merge { key, .. } = placement {
            check_unique(&staged, key, session).await?;
        }
        let Some(published) = published else { return Ok(staged) };
        match placement {
            Placement::Beside => Ok(staged),
            Placement::Merge { key, updates } => {
                over_keys(lake, published, staged, key, updates.as_deref(), session).await
            }
            Placement::OverKeys { key } => over_keys(lake, published, staged, key, None, session).await,
            Placement::OverPartitions => {
                staged.removed = same_partitions(published, &staged)?;
                Ok(staged)
            }
        }
    };
    let placed = placed.await;
    if placed.is_err() {
        discard(lake, &name, &adds).await;
    }
    placed
}

/// Writes the published files that hold a key of the new rows again, without the rows of these keys.
async fn over_keys(
    lake: &Lake,
    published: &Published,
    mut staged: Staged,
    key: &[String],
    updates: Option<&[String]>,
    session: &SessionState,
) -> Result<Staged, TableError> {
    let touched = touched_files(published, &staged, key, session).await?;
    if touched.is_empty() {
        return Ok(staged);
    }
    let old = scan(published, Files::Only(&touched), false).await?;
    let old = rows_of(old, &staged.schema)?;
    let kept = join(named(old.clone(), "old")?, &staged, key, JoinType::LeftAnti)?;
    let write = |plan| stage(lake, &staged.name, plan, &staged.schema, &staged.partition_by, session);
    let rewritten = write(kept).await?;
    if let Some(updates) = updates {
        let updated = match write(updated_rows(old, &staged, key, updates)?).await {
            Ok(updated) => updated,
            Err(error) => {
                rewritten.discard(lake).await;
                return Err(error);
            }
        };
        // The new rows as they came will not be published.
        discard(lake, &staged.name, &std::mem::replace(&mut staged.adds, updated.adds)).await;
    }
    staged.adds.extend(rewritten.adds);
    staged.removed = touched;
    Ok(staged)
}

/// The new rows, with the old values of all columns but `updates` where there is an old row of the key.
fn updated_rows(
    old: LogicalPlan,
    staged: &Staged,
    key: &[String],
    updates: &[String],
) -> Result<LogicalPlan, TableError> {
    let of = |table: &str, name: &str| Expr::Column(Column::new(Some(table), name));
    let mut columns: Vec<Expr> = staged.schema.fields().iter().map(|field| exact(field.name())).collect();
    columns.push(lit(true).alias(KNOWN_COLUMN));
    let old = named(LogicalPlanBuilder::from(old).project(columns)?.build()?, "old")?;
    let keys = |table: &str| -> Vec<_> { key.iter().map(|name| Column::new(Some(table), name)).collect() };
    let new = LogicalPlanBuilder::from(named(staged.rows_plan()?, "new")?);
    let both =
        new.join_detailed(old, JoinType::Left, (keys("new"), keys("old")), None, NullEquality::NullEqualsNull)?;
    let values: Result<Vec<Expr>, DataFusionError> = staged
        .schema
        .fields()
        .iter()
        .map(|field| {
            let (name, new) = (field.name(), of("new", field.name()));
            if updates.contains(name) {
                return Ok(new.alias(name));
            }
            let known = of("old", KNOWN_COLUMN).is_not_null();
            Ok(when(known, of("old", name)).otherwise(new)?.alias(name))
        })
        .collect();
    Ok(both.project(values?)?.build()?)
}

/// Paths of the published files whose partitions have new rows. No data is read: the log says it.
fn same_partitions(published: &Published, staged: &Staged) -> Result<BTreeSet<String>, TableError> {
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
    let left: Vec<_> = key.iter().map(|name| Column::new(Some("old"), name)).collect();
    let right: Vec<_> = key.iter().map(|name| Column::new(Some("new"), name)).collect();
    let builder = LogicalPlanBuilder::from(old);
    Ok(builder.join_detailed(new, how, (left, right), None, NullEquality::NullEqualsNull)?.build()?)
}

async fn collect(plan: LogicalPlan, session: &SessionState) -> Result<Vec<RecordBatch>, TableError> {
    Ok(session::query(session, plan).collect().await?)
}
