//! Replacing the rows of intervals of time, and nothing else.
//!
//! The log tells which files can hold rows of the interval: by the least and the greatest time of each. One that holds
//! rows of an interval alone goes as it is; one that reaches over its edge is written again without them.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Int64Type, TimeUnit};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::functions_aggregate::expr_fn::{count, max, min};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit, not};
use serde_json::Value;

use super::files::DataFile;
use super::read::{Files, exact, scan, table_provider, view};
use super::stage::{Staged, collect, or_discard, stage};
use super::{Lake, Published, TableError, TableState, WENT_BACK_TO, is_newer};
use crate::exact_files::rows_of;
use crate::intervals::{BatchSize, Interval, Intervals, moment};

/// Whether a time, or midnight of a day, is in an interval; times without a zone are in UTC.
///
/// # Errors
/// When the type is not one of times.
pub fn within(column: &str, data_type: &DataType, interval: Interval) -> Result<Expr, TableError> {
    let value = |at| time_value(data_type, at).map(lit);
    Ok(exact(column).gt_eq(value(interval.start)?).and(exact(column).lt(value(interval.end)?)))
}

/// The least value of a type of times that is not before a moment.
fn time_value(data_type: &DataType, at: DateTime<Utc>) -> Result<ScalarValue, TableError> {
    // Values that such a type has, for moments that are whole seconds: batches begin at full hours.
    Ok(match data_type {
        DataType::Date32 => {
            let day = BatchSize::Day.ceil(at).timestamp().div_euclid(24 * 60 * 60);
            ScalarValue::Date32(i32::try_from(day).ok())
        }
        DataType::Timestamp(unit, zone) => {
            let (seconds, zone) = (at.timestamp(), zone.clone());
            match unit {
                TimeUnit::Second => ScalarValue::TimestampSecond(Some(seconds), zone),
                TimeUnit::Millisecond => ScalarValue::TimestampMillisecond(seconds.checked_mul(1_000), zone),
                TimeUnit::Microsecond => ScalarValue::TimestampMicrosecond(seconds.checked_mul(1_000_000), zone),
                TimeUnit::Nanosecond => ScalarValue::TimestampNanosecond(seconds.checked_mul(1_000_000_000), zone),
            }
        }
        other => return Err(TableError::Rows(format!("`{other}` is not a type of times"))),
    })
}

/// What the new rows of a batch have outside of its interval, in words; `None` if all are inside.
///
/// # Errors
/// The query's.
pub async fn rows_outside(
    staged: &Staged,
    column: &str,
    interval: Interval,
    session: &SessionState,
) -> Result<Option<String>, TableError> {
    if staged.adds.is_empty() {
        return Ok(None);
    }
    let inside = within(column, type_of(staged, column)?, interval)?;
    let outside = inside.is_not_true();
    let counts = LogicalPlanBuilder::from(staged.rows_plan()?)
        .filter(outside)?
        .aggregate(
            Vec::<Expr>::new(),
            vec![
                count(lit(1)).alias("n"),
                count(exact(column)).alias("timed"),
                min(exact(column)).alias("least"),
                max(exact(column)).alias("greatest"),
            ],
        )?
        .build()?;
    let batches = collect(counts, session).await?;
    let Some(batch) = batches.iter().find(|batch| batch.num_rows() > 0) else { return Ok(None) };
    let number = |at: usize| batch.column(at).as_primitive::<Int64Type>().value(0);
    let (rows, timed) = (number(0), number(1));
    if rows == 0 {
        return Ok(None);
    }
    let noun = if rows == 1 { "row of the query has" } else { "rows of the query have" };
    let what = match timed {
        0 => "NULL".to_owned(),
        1 => text_of(batch, 2)?,
        _ => format!("{} .. {}", text_of(batch, 2)?, text_of(batch, 3)?),
    };
    let also = if timed > 0 && timed < rows { " and NULL" } else { "" };
    Ok(Some(format!("{rows} {noun} `{column}` outside of the batch: {what}{also}")))
}

fn text_of(batch: &RecordBatch, column: usize) -> Result<String, TableError> {
    let formatter = ArrayFormatter::try_new(batch.column(column), &FormatOptions::default());
    Ok(formatter.map_err(DataFusionError::from)?.value(0).to_string())
}

fn type_of<'s>(staged: &'s Staged, column: &str) -> Result<&'s DataType, TableError> {
    let field = staged.schema.field_with_name(column);
    Ok(field.map_err(DataFusionError::from)?.data_type())
}

/// Lets staged rows take the place of all rows of some intervals.
///
/// # Errors
/// The query's or the storage's; then the staged files are taken away.
pub async fn replace_intervals(
    lake: &Lake,
    published: &Published,
    staged: Staged,
    (column, intervals): (&str, &Intervals),
    session: &SessionState,
) -> Result<Staged, TableError> {
    or_discard(lake, staged, async |staged| without(lake, published, staged, (column, intervals), session).await).await
}

async fn without(
    lake: &Lake,
    published: &Published,
    mut staged: Staged,
    (column, intervals): (&str, &Intervals),
    session: &SessionState,
) -> Result<Staged, TableError> {
    let (mut goes, mut reaches_over) = (BTreeSet::new(), BTreeSet::new());
    for file in published.files()? {
        let mut parts = intervals.ranges().iter().map(|interval| part(&file, column, *interval));
        match parts.clone().find(|part| *part == Part::All).or_else(|| parts.find(|part| *part == Part::Some)) {
            Some(Part::All) => {
                goes.insert(file.path);
            }
            Some(_) => {
                reaches_over.insert(file.path);
            }
            None => {}
        }
    }
    if !reaches_over.is_empty() {
        let old = rows_of(scan(published, Files::Only(&reaches_over), false).await?, &staged.schema)?;
        let kept = outside(old, column, type_of(&staged, column)?, intervals)?;
        let rewritten = stage(lake, &staged.name, kept, &staged.schema, &staged.partition_by, session).await?;
        staged.adds.extend(rewritten.adds);
    }
    staged.removed.extend(goes);
    staged.removed.extend(reaches_over);
    Ok(staged)
}

/// The rows of a plan that are in none of these intervals.
fn outside(
    rows: LogicalPlan,
    column: &str,
    data_type: &DataType,
    intervals: &Intervals,
) -> Result<LogicalPlan, TableError> {
    let mut rows = LogicalPlanBuilder::from(rows);
    for interval in intervals.ranges() {
        let inside = within(column, data_type, *interval)?;
        rows = rows.filter(not(inside.clone()).or(inside.is_null()))?;
    }
    Ok(rows.build()?)
}

/// A table as it is when staged rows have taken the place of all rows of some intervals, which may not be all that the
/// next publish replaces.
///
/// # Errors
/// When the log of the table cannot be read.
pub async fn with_intervals(
    published: &Published,
    staged: &Staged,
    (column, intervals): (&str, &Intervals),
) -> Result<Arc<dyn TableProvider>, TableError> {
    let old = rows_of(table_provider(published).await?, &staged.schema)?;
    let kept = outside(old, column, type_of(staged, column)?, intervals)?;
    Ok(view(LogicalPlanBuilder::from(kept).union(staged.rows_plan()?)?.build()?))
}

/// How much of a file belongs to an interval.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    None,
    Some,
    All,
}

/// By the log alone: a file without statistics can hold anything.
fn part(file: &DataFile, column: &str, interval: Interval) -> Part {
    let (least, greatest, nulls) = match file.partition_values.get(column) {
        Some(Some(text)) => (moment(text), moment(text), Some(0)),
        Some(None) => return Part::None,
        None => {
            let stats = file.stats.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
            let Some(stats) = stats else { return Part::Some };
            let time = |key: &str| moment(stats[key][column].as_str()?);
            let nulls = stats["nullCount"][column].as_i64();
            if nulls.is_some() && nulls == stats["numRecords"].as_i64() {
                return Part::None;
            }
            (time("minValues"), time("maxValues").map(cut_off), nulls)
        }
    };
    let (Some(least), Some(greatest)) = (least, greatest) else { return Part::Some };
    match (greatest < interval.start || least >= interval.end, least >= interval.start && greatest < interval.end) {
        (true, _) => Part::None,
        (false, true) if nulls == Some(0) => Part::All,
        _ => Part::Some,
    }
}

/// Statistics may be cut to milliseconds: the greatest time may have been later.
fn cut_off(at: DateTime<Utc>) -> DateTime<Utc> {
    let is_cut = at.timestamp_subsec_micros().is_multiple_of(1_000);
    if is_cut { at.checked_add_signed(TimeDelta::microseconds(999)).unwrap_or(at) } else { at }
}

impl Published {
    /// Whether nobody has committed since.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn is_newest(&self) -> Result<bool, TableError> {
        let fail = |source| TableError::Delta { table: self.name.clone(), source };
        let next = self.table.log_store().read_commit_entry(self.version() + 1).await;
        Ok(next.map_err(fail)?.is_none())
    }

    /// The files that can hold rows of an interval.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn files_within(&self, column: &str, interval: Interval) -> Result<BTreeSet<String>, TableError> {
        let files = self.files()?.into_iter().filter(|file| part(file, column, interval) != Part::None);
        Ok(files.map(|file| file.path).collect())
    }

    /// What the newest version that `lake` wrote says of itself, where other programs may have committed since. Versions
    /// that a rollback took back say nothing of what is there.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn last_known_state(&self) -> Result<Option<TableState>, TableError> {
        if self.state.is_some() {
            return Ok(self.state.clone());
        }
        let fail = |source| TableError::Delta { table: self.name.clone(), source };
        let log_store = self.table.log_store();
        let mut next = Some(self.version());
        while let Some(version) = next {
            let Some(entry) = log_store.read_commit_entry(version).await.map_err(fail)? else { break };
            next = match super::state_of(&entry) {
                None => version.checked_sub(1),
                Some(said) if is_newer(&said) => break,
                Some(said) => match said.get(WENT_BACK_TO) {
                    Some(to) => to.as_u64().filter(|to| *to < version),
                    None => return Ok(serde_json::from_value(said).ok()),
                },
            };
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn file(stats: Option<Value>, day: Option<Option<&str>>) -> DataFile {
        let add = deltalake::kernel::Add {
            path: "a.parquet".into(),
            stats: stats.map(|stats| stats.to_string()),
            partition_values: day.map(|day| ("at".to_owned(), day.map(str::to_owned))).into_iter().collect(),
            ..Default::default()
        };
        DataFile::from(&add)
    }

    #[test]
    fn the_log_tells_which_files_have_rows_of_an_interval() {
        let day = Interval { start: moment("2026-01-02").unwrap(), end: moment("2026-01-03").unwrap() };
        let of = |least: &str, greatest: &str, nulls: i64| {
            let stats = json!({"numRecords": 9, "minValues": {"at": least}, "maxValues": {"at": greatest}, "nullCount": {"at": nulls}});
            part(&file(Some(stats), None), "at", day)
        };
        assert_eq!(of("2026-01-02T00:00:00Z", "2026-01-02T23:59:59.999999Z", 0), Part::All);
        assert_eq!(of("2026-01-02", "2026-01-02", 0), Part::All);
        assert_eq!(of("2026-01-02T00:00:00", "2026-01-02T23:59:59.999", 0), Part::All);
        assert_eq!(of("2026-01-02 00:00:00", "2026-01-02 10:00:00", 1), Part::Some);
        assert_eq!(of("2026-01-01T23:59:59.999Z", "2026-01-02T00:00:00Z", 0), Part::Some);
        assert_eq!(of("2026-01-02T23:00:00Z", "2026-01-03T00:00:00Z", 0), Part::Some);
        assert_eq!(of("2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z", 0), Part::None);
        // The greatest time may be 23:59:59.9995 of the day before, never midnight.
        assert_eq!(of("2026-01-01T00:00:00Z", "2026-01-01T23:59:59.999Z", 0), Part::None);
        assert_eq!(of("2026-01-01T00:00:00Z", "nonsense", 0), Part::Some);
        let nothing_but_null = json!({"numRecords": 9, "nullCount": {"at": 9}});
        assert_eq!(part(&file(Some(nothing_but_null), None), "at", day), Part::None);
        assert_eq!(part(&file(None, None), "at", day), Part::Some);
        assert_eq!(part(&file(None, Some(Some("2026-01-02"))), "at", day), Part::All);
        assert_eq!(part(&file(None, Some(Some("2026-01-03"))), "at", day), Part::None);
        assert_eq!(part(&file(None, Some(None)), "at", day), Part::None);
    }
}
