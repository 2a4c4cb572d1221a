//! Plain text -> batches of typed columns.
//!
//! Arrow's push decoders read records; their progress bounds the memory: a record may not be longer than
//! `max_line_bytes`, and a batch is handed on when it becomes large, however many rows it was meant to have.

use std::io::{self, BufRead};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray, new_null_array,
};
use datafusion::arrow::csv::reader as csv;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::reader as json;

use super::header::{self, Dialect};
use super::records::Records;
use super::values::{Reading, is_nested};
use crate::catalog::sql_type;
use crate::project::{Format, MetadataColumn, SourceOptions};

/// A byte that stands in no UTF-8, for files without quotes: CSV readers insist on one.
pub(super) const NO_QUOTE: u8 = 0xff;
/// Bytes that a decoder gets at once.
const CHUNK: usize = 64 << 10;
/// Bytes after which a batch is handed on at the next record's end.
const BATCH_BYTES: usize = 16 << 20;

/// Values of a batch of a delimited file: those with many columns have fewer rows.
const BATCH_VALUES: usize = 1 << 20;

/// What the rows of all files of a scan have in common.
#[derive(Debug)]
pub(in crate::bronze) struct Layout {
    /// The source, for messages.
    pub(in crate::bronze) source: String,
    /// Columns that stand in the files, with their types.
    pub(in crate::bronze) columns: SchemaRef,
    /// How each is read.
    pub(in crate::bronze) readings: Vec<Reading>,
    /// How bytes are text.
    pub(in crate::bronze) options: SourceOptions,
}

impl Layout {
    /// The layout of these columns.
    pub(in crate::bronze) fn new(source: String, columns: SchemaRef, options: SourceOptions) -> Self {
        let reading = |field: &Arc<Field>| Reading::new(field.name(), field.data_type(), &options);
        let readings = columns.fields().iter().map(reading).collect();
        Self { source, columns, readings, options }
    }

    /// The columns, and the row's number where it is asked for.
    pub(in crate::bronze) fn schema(&self) -> SchemaRef {
        if !self.numbers_rows() {
            return Arc::clone(&self.columns);
        }
        let number = Arc::new(Field::new(MetadataColumn::RowNumber.name(), DataType::Int64, true));
        Arc::new(Schema::new(self.columns.fields().iter().cloned().chain([number]).collect::<Vec<_>>()))
    }

    pub(super) fn numbers_rows(&self) -> bool {
        self.options.metadata_columns.contains(&MetadataColumn::RowNumber)
    }
}

/// A file that is not what it should be.
#[derive(Debug)]
pub(in crate::bronze) struct BadFile {
    /// The record, from 1, if it is about one.
    pub(in crate::bronze) row: Option<usize>,
    /// What is wrong.
    pub(in crate::bronze) why: String,
}

impl From<io::Error> for BadFile {
    fn from(error: io::Error) -> Self {
        Self { row: None, why: error.to_string() }
    }
}

impl BadFile {
    fn of_arrow(error: &ArrowError) -> Self {
        let text = error.to_string();
        let text = ["Csv error: ", "Json error: ", "Parser error: ", "Io error: ", "External error: "]
            .iter()
            .fold(text.as_str(), |text, noise| text.strip_prefix(noise).unwrap_or(text));
        // The decoder calls a record a line, and knows nothing of a header.
        let fields = text.strip_prefix("incorrect number of fields for line ").and_then(|rest| rest.split_once(", "));
        let utf8 = text.strip_prefix("Encountered invalid UTF-8 data for line ").and_then(|rest| rest.split_once(' '));
        match (fields, utf8) {
            (Some((row, rest)), _) => Self { row: row.parse().ok(), why: rest.replace(" got ", " fields, found ") },
            (_, Some((row, _))) => Self {
                row: row.parse().ok(),
                why: "it is not UTF-8: set `encoding` in `options`, such as `latin1`".to_owned(),
            },
            _ => Self { row: None, why: text.trim_end_matches('.').to_owned() },
        }
    }
}

/// The rows of one file.
pub(in crate::bronze) struct Rows {
    text: Box<dyn BufRead + Send>,
    decoder: Decoder,
    layout: Arc<Layout>,
    /// For each column to give: where it is among the decoded ones.
    output: Vec<Output>,
    schema: SchemaRef,
    /// Rows given so far.
    given: usize,
    ended: bool,
    /// Bytes since a record was completed.
    pending: usize,
}

enum Decoder {
    Csv(Box<csv::Decoder>, usize),
    Json(json::Decoder),
}

enum Output {
    Column { field: usize, decoded: usize },
    Missing { field: usize },
    Number,
}

impl Rows {
    /// Rows of plain text with the columns `projection` of the layout's schema. `names` are those of a header that
    /// stands elsewhere; otherwise the text begins with it, if the format has one.
    pub(in crate::bronze) fn new(
        text: Box<dyn BufRead + Send>,
        format: Format,
        layout: Arc<Layout>,
        projection: &[usize],
        batch_size: usize,
        names: Option<Vec<String>>,
    ) -> Result<Self, BadFile> {
        let schema = Arc::new(layout.schema().project(projection).map_err(|error| BadFile::of_arrow(&error))?);
        let (text, decoder, output) = if format.is_delimited() {
            let dialect = Dialect::new(&layout.options, format);
            delimited(text, &layout, dialect, projection, batch_size, names)?
        } else {
            let text = match format {
                Format::Json => {
                    let options = &layout.options;
                    let records = Records::new(text, &options.record_path, options.max_line_bytes);
                    Box::new(io::BufReader::with_capacity(CHUNK, records))
                }
                _ => text,
            };
            let (decoder, output) = objects(&layout, projection, batch_size)?;
            (text, decoder, output)
        };
        Ok(Self { text, decoder, layout, output, schema, given: 0, ended: false, pending: 0 })
    }

    fn read(&mut self) -> Result<Option<RecordBatch>, BadFile> {
        let mut in_batch = 0;
        while !self.ended {
            let buffer = self.text.fill_buf()?;
            if buffer.is_empty() {
                self.ended = true;
                self.decoder.decode(&[])?;
                break;
            }
            let mut chunk = &buffer[..buffer.len().min(CHUNK)];
            // A large batch ends with its next record, so that comes alone.
            let large = in_batch > BATCH_BYTES;
            if large {
                let end = chunk.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                chunk = &chunk[..end.map_or(chunk.len(), |at| at + 1)];
            }
            let length = chunk.len();
            let line_ended = chunk.ends_with(b"\n") || chunk.ends_with(b"\r");
            let before = self.decoder.completed();
            let read = self.decoder.decode(chunk)?;
            self.text.consume(read);
            in_batch += read;
            let progress = self.decoder.completed() != before;
            self.pending = if progress { 0 } else { self.pending + read };
            if self.pending > self.layout.options.max_line_bytes + CHUNK {
                return Err(self.too_long());
            }
            if read < length || large && line_ended && progress && !self.decoder.is_inside() {
                break;
            }
        }
        let batch = self.decoder.flush()?;
        batch.map(|batch| self.typed(&batch)).transpose()
    }

    fn too_long(&self) -> BadFile {
        let why = format!(
            "a record is longer than `max_line_bytes: {}`: raise it if that is meant{}",
            self.layout.options.max_line_bytes,
            if matches!(self.decoder, Decoder::Csv(..)) { "; perhaps a quote is never closed" } else { "" }
        );
        BadFile { row: Some(self.given + self.decoder.completed() + 1), why }
    }

    /// Decoded texts as the columns that were asked for.
    fn typed(&mut self, batch: &RecordBatch) -> Result<RecordBatch, BadFile> {
        let rows = batch.num_rows();
        let column = |output: &Output| match output {
            Output::Missing { field } => Ok(new_null_array(self.layout.columns.field(*field).data_type(), rows)),
            Output::Number => {
                let first = self.given as i64 + 1;
                Ok(Arc::new(Int64Array::from_iter_values(first..first + rows as i64)) as ArrayRef)
            }
            Output::Column { field, decoded } => self.values(*field, batch.column(*decoded)),
        };
        let columns: Result<Vec<ArrayRef>, BadFile> = self.output.iter().map(column).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let typed = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns?, &options);
        self.given += rows;
        typed.map_err(|error| BadFile::of_arrow(&error))
    }

    fn values(&self, field: usize, decoded: &ArrayRef) -> Result<ArrayRef, BadFile> {
        let Some(texts) = decoded.as_any().downcast_ref::<StringArray>() else { return Ok(Arc::clone(decoded)) };
        self.layout.readings[field].values(texts).map_err(|bad| {
            let field = self.layout.columns.field(field);
            let text: String = bad.text.chars().take(100).collect();
            let format = self.layout.options.columns.get(field.name()).filter(|column| !column.formats.is_empty());
            let format = format.map(|column| format!(" of the format `{}`", column.formats.join("`, `")));
            let why = format!(
                "column `{}`: `{text}` is not a {}{}",
                field.name(),
                sql_type(field.data_type()),
                format.unwrap_or_default()
            );
            BadFile { row: Some(self.given + bad.row + 1), why }
        })
    }
}

impl Iterator for Rows {
    type Item = Result<RecordBatch, BadFile>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read().transpose();
        if !matches!(read, Some(Ok(_))) {
            self.ended = true;
        }
        read
    }
}

impl Decoder {
    fn decode(&mut self, bytes: &[u8]) -> Result<usize, BadFile> {
        match self {
            Self::Csv(decoder, _) => decoder.decode(bytes),
            Self::Json(decoder) => decoder.decode(bytes),
        }
        .map_err(|error| BadFile::of_arrow(&error))
    }

    fn flush(&mut self) -> Result<Option<RecordBatch>, BadFile> {
        match self {
            Self::Csv(decoder, _) => decoder.flush(),
            Self::Json(decoder) => decoder.flush(),
        }
        .map_err(|error| BadFile::of_arrow(&error))
    }

    /// Whole records that wait to be flushed.
    fn completed(&self) -> usize {
        match self {
            Self::Csv(decoder, batch_size) => batch_size - decoder.capacity(),
            Self::Json(decoder) => decoder.len() - usize::from(decoder.has_partial_record()),
        }
    }

    /// Whether it surely stands inside of a record. A CSV decoder cannot say.
    fn is_inside(&self) -> bool {
        matches!(self, Self::Json(decoder) if decoder.has_partial_record())
    }
}

type Prepared = (Box<dyn BufRead + Send>, Decoder, Vec<Output>);

/// A reader of CSV: its columns are found by the names of the header.
fn delimited(
    mut text: Box<dyn BufRead + Send>,
    layout: &Layout,
    dialect: Dialect<'_>,
    projection: &[usize],
    batch_size: usize,
    names: Option<Vec<String>>,
) -> Result<Prepared, BadFile> {
    let options = &layout.options;
    let names = match names {
        Some(names) => names,
        None if options.header => {
            let (names, rest) = header::take(text, dialect)?;
            text = rest;
            names
        }
        None => layout.columns.fields().iter().map(|field| field.name().clone()).collect(),
    };
    let names = header::known_names(&names, layout)?;
    // The decoder makes room for a whole batch at once, and a hostile header has a million columns.
    let batch_size = batch_size.min(BATCH_VALUES / names.len().max(1)).max(1);
    let places: Vec<Option<usize>> = projection
        .iter()
        .map(|at| {
            let field = layout.columns.fields().get(*at)?;
            names.iter().position(|name| name == field.name())
        })
        .collect();
    let mut wanted: Vec<usize> = places.iter().flatten().copied().collect();
    wanted.sort_unstable();
    wanted.dedup();
    let output =
        outputs(layout, projection, |at| places[at].and_then(|place| wanted.iter().position(|known| *known == place)));
    let fields: Vec<Field> = names.iter().map(|name| Field::new(name, DataType::Utf8, true)).collect();
    let mut builder = csv::ReaderBuilder::new(Arc::new(Schema::new(fields)))
        .with_header(false)
        .with_delimiter(dialect.delimiter)
        .with_quote(options.quote.unwrap_or(NO_QUOTE))
        .with_truncated_rows(options.truncated_rows)
        .with_batch_size(batch_size)
        .with_projection(wanted);
    if let Some(escape) = options.escape {
        builder = builder.with_escape(escape);
    }
    if let Some(comment) = options.comment {
        builder = builder.with_comment(comment);
    }
    if names.is_empty() {
        // Not even a header: there is nothing to read, and a decoder of no columns would refuse a line end.
        text = Box::new(io::empty());
    }
    Ok((text, Decoder::Csv(Box::new(builder.build_decoder()), batch_size), output))
}

/// A reader of JSON objects: plain values as text, so that what a column declares counts; nested ones by their types.
fn objects(layout: &Layout, projection: &[usize], batch_size: usize) -> Result<(Decoder, Vec<Output>), BadFile> {
    let mut wanted: Vec<usize> = projection.iter().copied().filter(|at| *at < layout.columns.fields().len()).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let output = outputs(layout, projection, |at| wanted.iter().position(|known| *known == projection[at]));
    let fields: Vec<Field> = wanted
        .iter()
        .map(|at| {
            let field = layout.columns.field(*at);
            let nested = is_nested(field.data_type());
            Field::new(field.name(), if nested { field.data_type().clone() } else { DataType::Utf8 }, true)
        })
        .collect();
    let decoder = json::ReaderBuilder::new(Arc::new(Schema::new(fields)))
        .with_batch_size(batch_size)
        .with_coerce_primitive(true)
        .build_decoder()
        .map_err(|error| BadFile::of_arrow(&error))?;
    Ok((Decoder::Json(decoder), output))
}

fn outputs(layout: &Layout, projection: &[usize], place: impl Fn(usize) -> Option<usize>) -> Vec<Output> {
    let output = |(at, field): (usize, &usize)| match place(at) {
        _ if *field >= layout.columns.fields().len() => Output::Number,
        Some(decoded) => Output::Column { field: *field, decoded },
        None => Output::Missing { field: *field },
    };
    projection.iter().enumerate().map(output).collect()
}
