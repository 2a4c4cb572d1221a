//! Text -> values of a column's type.
//!
//! Arrow's kernels read whole columns: decimals digit by digit, never through a float, timestamps with any offset.
//! Only what they refuse, and what a column declares (patterns, epochs, words for true and false, separators), is read
//! value by value.

use std::sync::Arc;

use chrono::format::{Parsed, StrftimeItems};
use chrono::{DateTime, NaiveDateTime, TimeZone, Utc};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{
    Array, ArrayRef, BooleanArray, Date32Array, Scalar, StringArray, TimestampMicrosecondArray, new_empty_array,
    new_null_array,
};
use datafusion::arrow::compute::kernels::cast_utils::string_to_datetime;
use datafusion::arrow::compute::{CastOptions, cast_with_options, concat};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Field, TimeUnit};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::ReaderBuilder;

use super::decimals;
use crate::project::{ColumnFormat, SourceOptions};

/// How text becomes values of one column.
#[derive(Debug, Clone)]
pub(in crate::bronze) struct Reading {
    /// The type of the values.
    target: DataType,
    formats: Vec<Pattern>,
    zone: Option<Tz>,
    nulls: Vec<String>,
    trues: Vec<String>,
    falses: Vec<String>,
    decimal: char,
    thousands: Option<char>,
}

/// One way in which a date is written.
#[derive(Debug, Clone)]
enum Pattern {
    Strftime(String),
    /// Digits that a number has after the point, where 1 is a microsecond.
    Epoch(i8),
}

/// The values of a column of texts.
#[derive(Debug)]
pub(in crate::bronze) struct Values {
    /// One for each text; NULL where the text is none.
    pub(in crate::bronze) array: ArrayRef,
    /// Places of the texts that are no values, in order.
    pub(in crate::bronze) refused: Vec<usize>,
}

impl Values {
    fn all(array: ArrayRef) -> Self {
        Self { array, refused: Vec::new() }
    }
}

/// How chrono's and Arrow's values count days.
const EPOCH: chrono::NaiveDate = chrono::NaiveDate::from_ymd_opt(1970, 1, 1).expect("it is a date");

impl Reading {
    /// How a column of a source is read.
    pub(in crate::bronze) fn new(name: &str, target: &DataType, options: &SourceOptions) -> Self {
        let empty = ColumnFormat::default();
        let column = options.columns.get(name).unwrap_or(&empty);
        let zone = column.time_zone.as_ref().or(options.time_zone.as_ref());
        Self {
            target: target.clone(),
            formats: column.formats.iter().map(|text| Pattern::new(text)).collect(),
            // Checked when the project was loaded.
            zone: zone.and_then(|zone| zone.parse().ok()),
            nulls: options.null_values.clone(),
            trues: options.true_values.clone(),
            falses: options.false_values.clone(),
            decimal: options.decimal_separator,
            thousands: options.thousands_separator,
        }
    }

    /// How a part of a path is read.
    pub(in crate::bronze) fn of_path(target: &DataType, format: Option<&str>) -> Self {
        let options = SourceOptions::new();
        let formats = format.map(Pattern::new).into_iter().collect();
        Self { formats, ..Self::new("", target, &options) }
    }

    /// The values of a column of texts.
    pub(in crate::bronze) fn values(&self, texts: &StringArray) -> Values {
        let known;
        let texts = if self.nulls.is_empty() {
            texts
        } else {
            known = texts.iter().map(|text| text.filter(|text| !self.nulls.iter().any(|n| n == text))).collect();
            &known
        };
        match &self.target {
            DataType::Utf8 => Values::all(Arc::new(texts.clone())),
            DataType::Date32 if !self.formats.is_empty() => self.dates(texts),
            DataType::Timestamp(..) if !self.formats.is_empty() => self.timestamps(texts),
            DataType::Boolean if !self.trues.is_empty() || !self.falses.is_empty() => self.booleans(texts),
            target if is_nested(target) => self.nested(texts),
            target if target.is_numeric() && (self.decimal != '.' || self.thousands.is_some()) => {
                let plain: StringArray = texts.iter().map(|text| Some(self.plain_number(text?))).collect();
                self.cast(&plain)
            }
            _ => self.cast(texts),
        }
    }

    /// Arrow's own reading; then once more with what it refused repaired, where that is safe.
    fn cast(&self, texts: &StringArray) -> Values {
        let first = self.cast_once(texts);
        let Some(refused) = first_refused(texts, &first) else { return Values::all(first) };
        let repaired: StringArray = texts
            .iter()
            .enumerate()
            .map(|(row, text)| if first.is_null(row) { self.repaired(text?) } else { text.map(str::to_owned) })
            .collect();
        let second = self.cast_once(&repaired);
        // A text that was repaired to nothing is NULL: blank.
        let is_refused =
            |row: &usize| second.is_null(*row) && texts.is_valid(*row) && !texts.value(*row).trim().is_empty();
        let refused = (refused..texts.len()).filter(is_refused).collect();
        Values { array: second, refused }
    }

    fn cast_once(&self, texts: &StringArray) -> ArrayRef {
        if let Some(values) = decimals::plain(texts, &self.target) {
            return values;
        }
        let options = CastOptions { safe: true, ..CastOptions::default() };
        // In the declared zone first: the instant is the same in every zone.
        let target = match (&self.target, &self.zone) {
            (DataType::Timestamp(unit, _), Some(zone)) => DataType::Timestamp(*unit, Some(zone.to_string().into())),
            (other, _) => other.clone(),
        };
        let values =
            cast_with_options(texts, &target, &options).unwrap_or_else(|_| new_null_array(&self.target, texts.len()));
        relabelled(values, &self.target)
    }

    /// A text that means a value to everybody but is not written as one.
    fn repaired(&self, text: &str) -> Option<String> {
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        if self.target.is_integer() {
            // `3.0` and `1e3` are whole numbers, as far as a float is exact.
            let number: f64 = text.parse().ok()?;
            let whole = number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0;
            return Some(if whole && !text.chars().all(|c| c.is_ascii_digit()) {
                format!("{number:.0}")
            } else {
                text.to_owned()
            });
        }
        if matches!(self.target, DataType::Timestamp(..))
            && let Some(zone) = &self.zone
            && let Ok(local) = string_to_datetime(&Utc, text)
            && string_to_datetime(zone, text).is_err()
        {
            // An hour that the end of summer time brings twice.
            return instant(local.naive_utc(), Some(zone)).map(|instant| instant.to_rfc3339());
        }
        Some(text.to_owned())
    }

    fn plain_number(&self, text: &str) -> String {
        let kept = text.chars().filter(|c| Some(*c) != self.thousands);
        kept.map(|c| if c == self.decimal { '.' } else { c }).collect()
    }

    fn booleans(&self, texts: &StringArray) -> Values {
        let same = |words: &[String], text: &str| words.iter().any(|word| word.eq_ignore_ascii_case(text));
        let (values, refused) = each(texts, |text| {
            if same(&self.trues, text) || self.trues.is_empty() && text.eq_ignore_ascii_case("true") {
                Some(true)
            } else if same(&self.falses, text) || self.falses.is_empty() && text.eq_ignore_ascii_case("false") {
                Some(false)
            } else {
                None
            }
        });
        Values { array: Arc::new(BooleanArray::from(values)), refused }
    }

    fn dates(&self, texts: &StringArray) -> Values {
        let (days, refused) = each(texts, |text| {
            let date = self.formats.iter().find_map(|pattern| pattern.moment(text, None))?.date_naive();
            i32::try_from((date - EPOCH).num_days()).ok()
        });
        Values { array: Arc::new(Date32Array::from(days)), refused }
    }

    fn timestamps(&self, texts: &StringArray) -> Values {
        let (micros, refused) = each(texts, |text| {
            let moment = self.formats.iter().find_map(|pattern| pattern.moment(text, self.zone.as_ref()))?;
            Some(moment.timestamp_micros())
        });
        let array = relabelled(Arc::new(TimestampMicrosecondArray::from(micros)), &self.target);
        Values { array, refused }
    }

    /// Lists and structs in a text column are JSON.
    fn nested(&self, texts: &StringArray) -> Values {
        if let Ok(array) = self.parsed(texts) {
            return Values::all(array);
        }
        // Which text it was cannot be told from all of them together.
        let mut refused = Vec::new();
        let parts: Vec<ArrayRef> = (0..texts.len())
            .map(|row| {
                self.parsed(&texts.slice(row, 1)).unwrap_or_else(|_| {
                    refused.push(row);
                    new_null_array(&self.target, 1)
                })
            })
            .collect();
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        Values { array: concat(&parts).unwrap_or_else(|_| new_null_array(&self.target, texts.len())), refused }
    }

    fn parsed(&self, texts: &StringArray) -> Result<ArrayRef, ArrowError> {
        let field = Field::new("value", self.target.clone(), true);
        let rows = texts.len().max(1);
        let builder = ReaderBuilder::new_with_field(field).with_batch_size(rows).with_coerce_primitive(true);
        let mut decoder = builder.build_decoder()?;
        for (row, text) in texts.iter().enumerate() {
            let text = text.filter(|text| !text.trim().is_empty()).unwrap_or("null");
            decoder.decode(text.as_bytes())?;
            decoder.decode(b"\n")?;
            if decoder.has_partial_record() || decoder.len() != row + 1 {
                return Err(ArrowError::JsonError("not one value".into()));
            }
        }
        let batch = decoder.flush()?;
        Ok(batch.map_or_else(|| new_empty_array(&self.target), |batch| Arc::clone(batch.column(0))))
    }
}

impl Pattern {
    fn new(text: &str) -> Self {
        match text {
            "epoch_s" => Self::Epoch(6),
            "epoch_ms" => Self::Epoch(3),
            "epoch_us" => Self::Epoch(0),
            other => Self::Strftime(other.to_owned()),
        }
    }

    fn moment(&self, text: &str, zone: Option<&Tz>) -> Option<DateTime<Utc>> {
        match self {
            Self::Epoch(scale) => {
                let number = Scalar::new(StringArray::from(vec![text]));
                let (array, _) = datafusion::arrow::array::Datum::get(&number);
                let micros =
                    cast_with_options(array, &DataType::Decimal128(38, *scale), &CastOptions::default()).ok()?;
                let micros =
                    micros.as_any().downcast_ref::<datafusion::arrow::array::PrimitiveArray<Decimal128Type>>()?;
                if micros.is_null(0) {
                    return None;
                }
                DateTime::from_timestamp_micros(i64::try_from(micros.value(0)).ok()?)
            }
            Self::Strftime(format) => {
                let mut parsed = Parsed::new();
                chrono::format::parse(&mut parsed, text, StrftimeItems::new(format)).ok()?;
                if let Ok(moment) = parsed.to_datetime() {
                    return Some(moment.to_utc());
                }
                let local = parsed.to_naive_datetime_with_offset(0).ok().or_else(|| {
                    // A date alone is its midnight, and an hour alone its first minute.
                    let _ = parsed.set_minute(0);
                    let time = parsed.to_naive_time().unwrap_or_default();
                    Some(parsed.to_naive_date().ok()?.and_time(time))
                })?;
                instant(local, zone)
            }
        }
    }
}

/// The instant of a local time: the first of two, none if clocks jump over it.
fn instant(local: NaiveDateTime, zone: Option<&Tz>) -> Option<DateTime<Utc>> {
    match zone {
        None => Some(local.and_utc()),
        Some(zone) => zone.from_local_datetime(&local).earliest().map(|moment| moment.to_utc()),
    }
}

/// Reads value by value, and notes the places of texts that are none; blank is NULL.
fn each<T>(texts: &StringArray, read: impl Fn(&str) -> Option<T>) -> (Vec<Option<T>>, Vec<usize>) {
    let mut refused = Vec::new();
    let values = texts.iter().enumerate().map(|(row, text)| {
        let text = text.map(str::trim).filter(|text| !text.is_empty())?;
        let value = read(text);
        if value.is_none() {
            refused.push(row);
        }
        value
    });
    (values.collect(), refused)
}

fn first_refused(texts: &StringArray, values: &ArrayRef) -> Option<usize> {
    if values.null_count() == texts.null_count() {
        return None;
    }
    (0..texts.len()).find(|row| values.is_null(*row) && texts.is_valid(*row))
}

/// The same instants under the zone of another timestamp type; other values as they are.
fn relabelled(values: ArrayRef, target: &DataType) -> ArrayRef {
    let DataType::Timestamp(unit, zone) = target else { return values };
    match (unit, values.as_any().downcast_ref::<TimestampMicrosecondArray>()) {
        (TimeUnit::Microsecond, Some(micros)) => Arc::new(micros.clone().with_timezone_opt(zone.clone())),
        _ => values,
    }
}

/// Whether values of a type have parts.
pub(in crate::bronze) fn is_nested(data_type: &DataType) -> bool {
    data_type.is_nested()
}
