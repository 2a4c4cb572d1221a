//! Which published files can hold one of some keys, by what the log says of them: partition values, and the smallest
//! and greatest value of each column (Delta protocol, "Per-file Statistics").

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, Datum, RecordBatch, UInt64Array};
use datafusion::arrow::compute::kernels::cmp::{gt_eq, lt_eq};
use datafusion::arrow::compute::{and, cast, concat_batches, is_not_null, is_null, or};
use datafusion::arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use datafusion::datasource::ViewTable;
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::functions_aggregate::expr_fn::{count, max, min};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, lit};

use super::read::{Files, exact, scan};
use super::stage::{Staged, collect};
use super::{Published, TableError};
use crate::exact_files::rows_of;

/// So many keys are looked at one by one.
const MAX_KEYS: u64 = 200_000;

/// So many pairs of a key and a file are looked at; beyond that, the range of all keys is.
const MAX_PAIRS: usize = 1 << 30;

/// What the log says of one key column, file by file. A bound that is not known is NULL.
pub(super) struct Bounds {
    pub(super) least: ArrayRef,
    pub(super) greatest: ArrayRef,
    pub(super) nulls: UInt64Array,
}

/// Paths of the published files that can hold a key of the staged rows.
pub(super) async fn candidates(
    published: &Published,
    staged: &Staged,
    key: &[String],
    session: &SessionState,
) -> Result<BTreeSet<String>, TableError> {
    let fail = |source| TableError::Delta { table: published.name.clone(), source };
    let snapshot = published.table.snapshot().map_err(fail)?;
    let files: Vec<String> = snapshot.log_data().iter().map(|file| file.path().into_owned()).collect();
    let known: Vec<(usize, Bounds)> =
        (0..key.len()).filter_map(|at| Some((at, bounds(published, &staged.schema, &key[at])?))).collect();
    if known.is_empty() || files.is_empty() || staged.adds.is_empty() {
        return Ok(if staged.adds.is_empty() { BTreeSet::new() } else { files.into_iter().collect() });
    }
    let keys = match staged.rows() <= MAX_KEYS {
        true => each_key(staged, key, session).await?,
        false => None,
    };
    let keep: Vec<bool> = match keys.filter(|keys| keys.num_rows().saturating_mul(files.len()) <= MAX_PAIRS) {
        Some(keys) => (0..files.len()).map(|file| holds_one(&keys, &known, file)).collect::<Result<_, _>>()?,
        None => in_ranges(staged, key, &known, files.len(), session).await?,
    };
    Ok(files.into_iter().zip(keep).filter(|(_, keep)| *keep).map(|(path, _)| path).collect())
}

/// The published files that can hold a key of the staged rows, as a table; `None` if there are none.
///
/// # Errors
/// When the log cannot be read, or the staged rows cannot.
pub async fn files_with_keys(
    published: &Published,
    staged: &Staged,
    key: &[String],
    session: &SessionState,
) -> Result<Option<Arc<dyn TableProvider>>, TableError> {
    let files = candidates(published, staged, key, session).await?;
    if files.is_empty() {
        return Ok(None);
    }
    let rows = rows_of(scan(published, Files::Only(&files), false).await?, &staged.schema)?;
    Ok(Some(Arc::new(ViewTable::new(rows, None))))
}

/// The bounds of a column; `None` where they say nothing.
pub(super) fn bounds(published: &Published, schema: &Schema, name: &str) -> Option<Bounds> {
    let data_type = schema.field_with_name(name).ok()?.data_type();
    let snapshot = published.table.snapshot().ok()?;
    let (log, column) = (snapshot.log_data(), Column::from_name(name));
    if !is_exact(data_type) && !published.partition_columns().iter().any(|partition| partition == name) {
        return None;
    }
    let least = cast(&log.min_values(&column)?, data_type).ok()?;
    let greatest = cast(&log.max_values(&column)?, data_type).ok()?;
    let files = least.len();
    let unknown = || UInt64Array::from(vec![None; files]);
    let nulls = log.null_counts(&column).and_then(|nulls| nulls.as_any().downcast_ref::<UInt64Array>().cloned());
    Some(Bounds { least, greatest: rounded_up(greatest)?, nulls: nulls.unwrap_or_else(unknown) })
}

/// Whether the log has values of a type as they are, or rounded in a way that is known. Decimals and floats go through
/// decimal text and 64 bits, where the last digit may be another.
fn is_exact(data_type: &DataType) -> bool {
    data_type.is_integer()
        || matches!(data_type, DataType::Utf8 | DataType::Boolean | DataType::Date32 | DataType::Timestamp(..))
}

/// The log cuts times to milliseconds.
fn rounded_up(greatest: ArrayRef) -> Option<ArrayRef> {
    let DataType::Timestamp(TimeUnit::Microsecond, zone) = greatest.data_type().clone() else { return Some(greatest) };
    let times = greatest.as_any().downcast_ref::<datafusion::arrow::array::TimestampMicrosecondArray>()?;
    Some(Arc::new(
        times
            .unary::<_, datafusion::arrow::datatypes::TimestampMicrosecondType>(|time| time.saturating_add(1000))
            .with_timezone_opt(zone),
    ))
}

/// The keys of the staged rows.
async fn each_key(staged: &Staged, key: &[String], session: &SessionState) -> Result<Option<RecordBatch>, TableError> {
    let columns: Vec<Expr> = key.iter().map(|name| exact(name)).collect();
    let plan = LogicalPlanBuilder::from(staged.rows_plan()?).project(columns)?.build()?;
    let batches = collect(plan, session).await?;
    let Some(first) = batches.first() else { return Ok(None) };
    Ok(Some(concat_batches(&first.schema(), &batches).map_err(DataFusionError::from)?))
}

/// Whether one of the keys lies inside the bounds of a file, in all columns at once.
fn holds_one(keys: &RecordBatch, known: &[(usize, Bounds)], file: usize) -> Result<bool, DataFusionError> {
    let mut inside = BooleanArray::from(vec![true; keys.num_rows()]);
    for (at, bounds) in known {
        let values = keys.column(*at);
        let within = match bounds.least.is_null(file) || bounds.greatest.is_null(file) {
            // Nothing is known of the values, unless all of them are NULL: then the count of NULLs says so.
            true => is_not_null(values)?,
            false => {
                let (least, greatest) = (bounds.least.slice(file, 1), bounds.greatest.slice(file, 1));
                let (least, greatest) = (scalar(&least)?, scalar(&greatest)?);
                let within = and(&gt_eq(values, least.as_ref())?, &lt_eq(values, greatest.as_ref())?)?;
                and(&within, &is_not_null(values)?)?
            }
        };
        let has_nulls = bounds.nulls.is_null(file) || bounds.nulls.value(file) > 0;
        let column = if has_nulls { or(&plain(&within), &is_null(values)?)? } else { plain(&within) };
        inside = and(&inside, &column)?;
        if inside.true_count() == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn scalar(one: &ArrayRef) -> Result<Box<dyn Datum>, DataFusionError> {
    Ok(Box::new(ScalarValue::try_from_array(one, 0)?.to_scalar()?))
}

/// NULL, which a comparison with NULL gives, is no.
fn plain(answers: &BooleanArray) -> BooleanArray {
    answers.iter().map(|answer| Some(answer == Some(true))).collect()
}

/// Whether the range of all keys meets the bounds of each file.
async fn in_ranges(
    staged: &Staged,
    key: &[String],
    known: &[(usize, Bounds)],
    files: usize,
    session: &SessionState,
) -> Result<Vec<bool>, TableError> {
    let of = |at: usize| exact(&key[at]);
    let values = known.iter().flat_map(|(at, _)| {
        [
            min(of(*at)).alias(format!("least{at}")),
            max(of(*at)).alias(format!("greatest{at}")),
            count(of(*at)).alias(format!("n{at}")),
        ]
    });
    let values: Vec<Expr> = values.chain([count(lit(1)).alias("n")]).collect();
    let plan = LogicalPlanBuilder::from(staged.rows_plan()?).aggregate(Vec::<Expr>::new(), values)?.build()?;
    let batches = collect(plan, session).await?;
    let Some(row) = batches.iter().find(|batch| batch.num_rows() == 1) else { return Ok(vec![true; files]) };
    let value = |at: usize| ScalarValue::try_from_array(row.column(at), 0);
    let mut keep = vec![true; files];
    for (nth, (_, bounds)) in known.iter().enumerate() {
        let (least, greatest) = (value(3 * nth)?, value(3 * nth + 1)?);
        let nulls = value(3 * nth + 2)? != value(3 * known.len())?;
        for (file, keep) in keep.iter_mut().enumerate() {
            let (low, high) = (
                ScalarValue::try_from_array(&bounds.least, file)?,
                ScalarValue::try_from_array(&bounds.greatest, file)?,
            );
            // A comparison with NULL has no answer: then the file stays.
            let apart = least > high || greatest < low;
            let meets = !apart || low.is_null() || high.is_null();
            let has_nulls = bounds.nulls.is_null(file) || bounds.nulls.value(file) > 0;
            *keep &= meets || (nulls && has_nulls);
        }
    }
    Ok(keep)
}
