//! The columns of a text file, from its first records.

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use serde_json::Value;

use super::header::{self, Dialect};
use super::records::Records;
use super::rows::BadFile;
use crate::bronze::scan::common_type;
use crate::project::{Format, SourceOptions};

/// Records that are looked at.
const SAMPLE: usize = 1_000;
/// Bytes that are looked at, when records are long.
const SAMPLE_BYTES: u64 = 8 << 20;

/// The columns of a file.
pub(super) fn columns(
    text: Box<dyn BufRead + Send>,
    format: Format,
    options: &SourceOptions,
) -> Result<Schema, BadFile> {
    if format.is_delimited() { delimited(text, Dialect::new(options, format)) } else { objects(text, format, options) }
}

fn delimited(mut text: Box<dyn BufRead + Send>, dialect: Dialect<'_>) -> Result<Schema, BadFile> {
    if text.fill_buf()?.is_empty() {
        return Ok(Schema::empty());
    }
    let (names, rest) = header::take(text, dialect)?;
    if names.is_empty() {
        return Ok(Schema::empty());
    }
    let mut sample = Vec::new();
    rest.take(SAMPLE_BYTES).read_to_end(&mut sample)?;
    if sample.len() as u64 == SAMPLE_BYTES {
        // The last record is cut: whatever it is, it says nothing.
        let end = sample.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        sample.truncate(end);
    }
    let mut format = header::format(dialect).with_header(false);
    let options = dialect.options;
    if !options.null_values.is_empty() {
        let words: Vec<String> = options.null_values.iter().map(|word| regex::escape(word)).collect();
        let words = regex::Regex::new(&format!("^(?:{})?$", words.join("|")));
        format = format.with_null_regex(words.map_err(|error| BadFile::whole(error.to_string()))?);
    }
    let found = if sample.is_empty() { Ok((Schema::empty(), 0)) } else { format.infer_schema(&*sample, Some(SAMPLE)) };
    // Rows that do not fit are told with their place when they are read.
    let types = found.map(|(schema, _)| schema).unwrap_or_else(|_| Schema::empty());
    let fields = names.into_iter().enumerate().map(|(at, name)| {
        let data_type = types.fields().get(at).map_or(DataType::Null, |field| plain(field.data_type()));
        Field::new(name, data_type, true)
    });
    Ok(Schema::new(fields.collect::<Vec<_>>()))
}

/// Timestamps as Delta has them.
fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        other => other.clone(),
    }
}

fn objects(text: Box<dyn BufRead + Send>, format: Format, options: &SourceOptions) -> Result<Schema, BadFile> {
    let mut lines: Box<dyn BufRead> = match format {
        Format::Json => Box::new(BufReader::new(Records::new(text, &options.record_path, options.max_line_bytes))),
        _ => text,
    };
    let mut columns = DataType::Struct(Vec::<Field>::new().into());
    let stream = serde_json::Deserializer::from_reader(Read::take(&mut lines, SAMPLE_BYTES)).into_iter::<Value>();
    for (at, record) in stream.take(SAMPLE).enumerate() {
        match record {
            Ok(Value::Object(object)) => columns = common_type(&columns, &type_of(&Value::Object(object))),
            Ok(Value::Null) => {}
            Ok(other) => {
                let why = format!("expected an object, found `{other}`");
                return Err(BadFile::of_row(at + 1, why.chars().take(200).collect()));
            }
            // Cut at the end of the sample; or told with its place when it is read, unless nothing is before it.
            Err(error) if at == 0 && !error.is_eof() => {
                return Err(BadFile::of_row(1, error.to_string()));
            }
            Err(_) => break,
        }
    }
    match columns {
        DataType::Struct(fields) => Ok(Schema::new(fields)),
        _ => Ok(Schema::empty()),
    }
}

fn type_of(value: &Value) -> DataType {
    match value {
        Value::Null => DataType::Null,
        Value::Bool(_) => DataType::Boolean,
        Value::Number(number) if number.is_i64() => DataType::Int64,
        // Too large for a bigint: a float would lose digits.
        Value::Number(number) if number.is_u64() => DataType::Utf8,
        Value::Number(_) => DataType::Float64,
        Value::String(_) => DataType::Utf8,
        Value::Array(items) => {
            let item = items.iter().fold(DataType::Null, |found, item| common_type(&found, &type_of(item)));
            DataType::List(Arc::new(Field::new("item", item, true)))
        }
        Value::Object(entries) => {
            let fields: Vec<Field> =
                entries.iter().map(|(name, value)| Field::new(name, type_of(value), true)).collect();
            DataType::Struct(fields.into())
        }
    }
}
