//! Tests that judge what they measure beside earlier runs, or beside earlier times of the table itself.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::error::DataFusionError;

use super::fused::Found;
use super::inputs::Inputs;
use super::materialize::Failure;
use crate::checks::{Judged, Point, Times, Usual};
use crate::compile::CompiledTest;
use crate::session;

/// What tests measured in earlier runs: by test, then by what was measured.
pub(super) type Measured = HashMap<String, BTreeMap<String, Vec<Point>>>;

/// Judges what was measured beside earlier runs.
pub(super) async fn beside_runs(
    inputs: &Inputs,
    test: &CompiledTest,
    names: &[&'static str],
    usual: &Usual,
    mut found: Found,
) -> Result<Found, Failure> {
    let history = inputs.measured().await?.get(&test.name);
    let (now, mut learning) = (Utc::now(), None);
    for (name, text) in names.iter().zip(&found.measured) {
        let Ok(value) = text.parse::<f64>() else { continue };
        let earlier = history.and_then(|history| history.get(*name)).map(Vec::as_slice).unwrap_or_default();
        match usual.judge(earlier, Point { at: now, value }) {
            Judged::Usual => {}
            Judged::Learning(values) => learning = Some(values),
            judged @ Judged::Unusual { .. } => {
                found.failures += 1;
                found.told.push(told(name, value, &judged));
                found.rows_told.push(row(name, value, &judged, None));
            }
        }
    }
    found.told.extend(told_of_learning(learning, usual).filter(|_| found.failures == 0));
    Ok(found)
}

/// Judges the last values of measures by time, from the rows of the query of the test.
pub(super) fn beside_times(
    batches: &[RecordBatch],
    names: &[&'static str],
    times: &Times,
    usual: &Usual,
) -> Result<Found, Failure> {
    let (mut found, mut learning) = (Found::default(), None);
    for name in names {
        let series = series(batches, name).map_err(DataFusionError::from)?;
        for (part, point, judged) in times.judge(usual, &series, *name == "rows", Utc::now()) {
            match judged {
                Judged::Usual => {}
                Judged::Learning(values) => learning = Some(values),
                judged @ Judged::Unusual { .. } => {
                    let when = times.bucket.name(part.start);
                    found.failures += 1;
                    found.told.push(format!("{when}: {}", told(name, point.value, &judged)));
                    found.rows_told.push(row(name, point.value, &judged, Some(when)));
                }
            }
        }
    }
    found.told.extend(told_of_learning(learning, usual).filter(|_| found.failures == 0));
    Ok(found)
}

fn told_of_learning(values: Option<usize>, usual: &Usual) -> Option<String> {
    values.map(|values| format!("learning: {values} of {} values", usual.least_values))
}

fn told(name: &str, value: f64, judged: &Judged) -> String {
    let Judged::Unusual { least, greatest, score } = judged else { return String::new() };
    format!("{name} is {}, usually {} to {} (score {score:.1})", short(value), short(*least), short(*greatest))
}

/// The value as a failing row.
fn row(name: &str, value: f64, judged: &Judged, when: Option<String>) -> String {
    let Judged::Unusual { least, greatest, score } = judged else { return String::new() };
    let mut row = serde_json::json!({
        "measure": name, "value": value, "least_usual": least, "greatest_usual": greatest, "score": score
    });
    if let Some(when) = when {
        row["bucket"] = when.into();
    }
    row.to_string()
}

/// Few digits, where more say nothing.
fn short(value: f64) -> String {
    let text =
        if value.abs() >= 1000.0 || value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.3}") };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// One measure by time.
fn series(batches: &[RecordBatch], name: &str) -> Result<Vec<Point>, datafusion::arrow::error::ArrowError> {
    let mut points = Vec::new();
    for batch in batches {
        let (Some(starts), Some(values)) = (batch.column_by_name("bucket"), batch.column_by_name(name)) else {
            continue;
        };
        let starts = cast(starts, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
        let (starts, values) =
            (starts.as_primitive::<TimestampMicrosecondType>(), values.as_primitive::<Float64Type>());
        for at in (0..batch.num_rows()).filter(|at| !starts.is_null(*at) && !values.is_null(*at)) {
            if let Some(start) = DateTime::from_timestamp_micros(starts.value(at)) {
                points.push(Point { at: start, value: values.value(at) });
            }
        }
    }
    Ok(points)
}

impl Inputs {
    /// Reads what the tests of the project that judge it have measured in runs that published it.
    pub(super) async fn read_measured(&self) -> Result<Measured, Failure> {
        let runtime = self.runtime();
        let mut measured = Measured::new();
        let Some(table) = runtime.lake.inspect(&super::chronicle::test_results()).await? else { return Ok(measured) };
        if table.schema.field_with_name("measured").is_err() {
            return Ok(measured);
        }
        // A version that was tested often is one value; a view has no versions.
        let sql = "select test, cast(started_at as timestamp) as at, measured from (\
                   select *, row_number() over (partition by test, version order by started_at) as seen \
                   from _lake.test_results where measured is not null and status in ('pass', 'warn')\
                   ) as results where version is null or seen = 1";
        let plan = self.plan_query(sql).await?;
        for batch in session::query(&runtime.session, plan).collect().await? {
            let (tests, texts) = (text(&batch, 0)?, text(&batch, 2)?);
            let at = cast(batch.column(1), &DataType::Timestamp(TimeUnit::Microsecond, None))
                .map_err(DataFusionError::from)?;
            let at = at.as_primitive::<TimestampMicrosecondType>();
            for row in 0..batch.num_rows() {
                let values: serde_json::Map<String, serde_json::Value> =
                    serde_json::from_str(texts.as_string::<i32>().value(row)).unwrap_or_default();
                let Some(at) = DateTime::from_timestamp_micros(at.value(row)) else { continue };
                let of_test = measured.entry(tests.as_string::<i32>().value(row).to_owned()).or_default();
                for (name, value) in values {
                    if let Some(value) = value.as_f64() {
                        of_test.entry(name).or_default().push(Point { at, value });
                    }
                }
            }
        }
        Ok(measured)
    }
}

fn text(batch: &RecordBatch, column: usize) -> Result<datafusion::arrow::array::ArrayRef, Failure> {
    Ok(cast(batch.column(column), &DataType::Utf8).map_err(DataFusionError::from)?)
}

/// What was measured, by its name: numbers as numbers.
pub(super) fn named(names: &[&'static str], texts: &[String]) -> BTreeMap<&'static str, serde_json::Value> {
    let value = |text: &String| match text.parse::<f64>() {
        Ok(number) => number.into(),
        Err(_) => text.clone().into(),
    };
    names.iter().zip(texts).filter(|(_, text)| !text.is_empty()).map(|(name, text)| (*name, value(text))).collect()
}
