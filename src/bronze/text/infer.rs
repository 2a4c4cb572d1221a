//! The columns of a text file: from its first records, or from all where none may be missed.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, AsArray, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use regex::Regex;
use serde_json::Value;

use super::careful;
use super::header::{self, Dialect};
use super::layout::Layout;
use super::lenient::Origin;
use super::records::Records;
use super::rows::{BadFile, Rows};
use super::values::Reading;
use crate::bronze::scan::common_type;
use crate::project::{Format, OnBadRow, SourceOptions};

/// Records that are looked at.
const SAMPLE: usize = 1_000;
/// Records that are looked at together, where all are.
const BATCH_ROWS: usize = 8_192;
/// Bytes that are looked at, when records are long.
const SAMPLE_BYTES: u64 = 8 << 20;

/// How much of a file is looked at.
#[derive(Debug, Clone)]
pub(in crate::bronze) enum Sample {
    /// The first records.
    Start,
    /// Every record, for columns that are not among these; of those only the names count.
    AllBut(Vec<String>),
}

/// The columns of a file; `origin` is for records that do not fit, where these are no error.
pub(super) fn columns(
    text: Box<dyn BufRead + Send>,
    origin: Origin,
    options: &SourceOptions,
    sample: &Sample,
) -> Result<Schema, BadFile> {
    let start = matches!(sample, Sample::Start);
    match (origin.format.is_delimited(), sample) {
        (true, Sample::Start) => delimited(text, Dialect::new(options, origin.format)),
        (true, Sample::AllBut(known)) => new_fields(text, origin, options, known),
        (false, _) if options.on_bad_row != OnBadRow::Fail => readable_objects(&origin, options, start),
        (false, _) => objects(text, origin.format, options, start),
    }
}

/// The columns of a delimited file that are not known, each of the first type that all of its values can be read as.
/// A column without values has the type NULL, as known ones.
fn new_fields(
    text: Box<dyn BufRead + Send>,
    origin: Origin,
    options: &SourceOptions,
    known: &[String],
) -> Result<Schema, BadFile> {
    let (names, rest) = header::take(text, Dialect::new(options, origin.format))?;
    let is_known = |name: &String| known.iter().any(|known| known.to_lowercase() == name.to_lowercase());
    let fields = |of: &dyn Fn(usize) -> DataType| {
        let fields = names.iter().enumerate().map(|(at, name)| Field::new(name, of(at), true));
        Schema::new(fields.collect::<Vec<_>>())
    };
    let fresh: Vec<usize> = (0..names.len()).filter(|at| !is_known(&names[*at])).collect();
    if fresh.is_empty() {
        return Ok(fields(&|_| DataType::Null));
    }
    let texts = Arc::new(fields(&|_| DataType::Utf8));
    let options = SourceOptions { metadata_columns: Vec::new(), rescues_new_columns: false, ..options.clone() };
    let mut guesses: Vec<Guess> = fresh.iter().map(|at| Guess::new(&names[*at], &options)).collect();
    let layout = Arc::new(Layout::new(String::new(), texts, options, None));
    for batch in Rows::new(rest, origin, layout, &fresh, BATCH_ROWS, Some(names.clone()))? {
        // Rows that cannot be read are told with their place when the file is taken in.
        let Ok(batch) = batch else { break };
        for (guess, column) in guesses.iter_mut().zip(batch.columns()) {
            guess.see(column.as_string::<i32>());
        }
    }
    let types: Vec<DataType> = guesses.into_iter().map(Guess::data_type).collect();
    Ok(fields(&|at| fresh.iter().position(|new| *new == at).map_or(DataType::Null, |new| types[new].clone())))
}

/// What the values of a column can all be read as.
struct Guess {
    /// From the narrowest on.
    candidates: Vec<(Reading, DataType, &'static Regex)>,
    texts: Reading,
    seen: bool,
}

/// What a reader takes for a value of a type is more than what says that a column has it: `t` may be a letter, and `1`
/// no date.
static WRITTEN: LazyLock<[(DataType, Regex); 5]> = LazyLock::new(|| {
    let like = |pattern: &str| Regex::new(&format!(r"^\s*{pattern}\s*$")).expect("a pattern of this program");
    [
        (DataType::Int64, like(r"[-+]?\d+")),
        (DataType::Float64, like(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")),
        (DataType::Boolean, like(r"(?i:true|false)")),
        (DataType::Date32, like(r"\d{4}-\d\d-\d\d")),
        (DataType::Timestamp(TimeUnit::Microsecond, None), like(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?")),
    ]
});

impl Guess {
    fn new(name: &str, options: &SourceOptions) -> Self {
        let reading = |kind: &DataType| Reading::new(name, kind, options);
        let candidates = WRITTEN.iter().map(|(kind, written)| (reading(kind), kind.clone(), written)).collect();
        Self { candidates, texts: reading(&DataType::Utf8), seen: false }
    }

    fn see(&mut self, texts: &StringArray) {
        let known = self.texts.values(texts).array;
        let texts = known.as_string::<i32>();
        self.seen |= texts.null_count() < texts.len();
        self.candidates.retain(|(reading, _, written)| {
            texts.iter().flatten().all(|text| written.is_match(text)) && reading.values(texts).refused.is_empty()
        });
    }

    fn data_type(self) -> DataType {
        let narrowest = self.candidates.into_iter().next().map_or(DataType::Utf8, |(_, kind, _)| kind);
        if self.seen { narrowest } else { DataType::Null }
    }
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

fn objects(
    text: Box<dyn BufRead + Send>,
    format: Format,
    options: &SourceOptions,
    start: bool,
) -> Result<Schema, BadFile> {
    let mut lines: Box<dyn BufRead> = match format {
        // It refuses records that are too long.
        _ if !start || format == Format::Json => {
            Box::new(BufReader::new(Records::new(text, &options.record_path, options.max_line_bytes)))
        }
        _ => text,
    };
    let mut columns = DataType::Struct(Vec::<Field>::new().into());
    let (bytes, records) = if start { (SAMPLE_BYTES, SAMPLE) } else { (u64::MAX, usize::MAX) };
    let stream = serde_json::Deserializer::from_reader(Read::take(&mut lines, bytes)).into_iter::<Value>();
    for (at, record) in stream.take(records).enumerate() {
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

/// As [`objects`], of the records that are some.
fn readable_objects(origin: &Origin, options: &SourceOptions, start: bool) -> Result<Schema, BadFile> {
    let (text, _) = (origin.again)()?;
    let mut records = careful::Records::new(text, origin.format, options);
    let mut columns = DataType::Struct(Vec::<Field>::new().into());
    while let Some(record) = records.next()? {
        if let Ok(object @ Value::Object(_)) = serde_json::from_str(&record.text) {
            columns = common_type(&columns, &type_of(&object));
        }
        if start && (record.row >= SAMPLE as u64 || record.offset >= SAMPLE_BYTES) {
            break;
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
