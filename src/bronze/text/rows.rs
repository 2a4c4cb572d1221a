//! Plain text -> batches of typed columns.
//!
//! Arrow's push decoders read records; their progress bounds the memory: a record may not be longer than
//! `max_line_bytes`, and a batch is handed on when it becomes large, however many rows it was meant to have.

use std::io::{self, BufRead};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, StringArray, new_null_array,
};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::csv::reader as csv;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::reader as json;

use super::careful::Splitter;
use super::header::{self, Dialect};
use super::layout::Layout;
use super::lenient::{self, Careful, Origin, Troubles};
use super::records::Records;
use super::values::{Values, is_nested};
use crate::bronze::replay;
use crate::project::{Format, MetadataColumn, OnBadRow};

/// A byte that stands in no UTF-8, for files without quotes: CSV readers insist on one.
pub(super) const NO_QUOTE: u8 = 0xff;
/// Bytes that a decoder gets at once.
const CHUNK: usize = 64 << 10;
/// Bytes after which a batch is handed on at the next record's end.
const BATCH_BYTES: usize = 16 << 20;

/// Values of a batch: of files with many columns it has fewer rows.
const BATCH_VALUES: usize = 1 << 20;

/// A file that is not what it should be.
#[derive(Debug)]
pub(in crate::bronze) struct BadFile {
    /// A decoder cannot go on; who reads record by record perhaps can.
    pub(in crate::bronze) of_decoder: bool,
    /// The record, from 1, if it is about one.
    pub(in crate::bronze) row: Option<usize>,
    /// What is wrong.
    pub(in crate::bronze) why: String,
    /// Nothing is wrong with the file: the store that it is in does not answer.
    pub(in crate::bronze) storage: Option<io::Error>,
}

impl From<io::Error> for BadFile {
    fn from(error: io::Error) -> Self {
        let why = error.to_string();
        let is_of_store = error.get_ref().is_some_and(|inner| inner.is::<object_store::Error>());
        Self { storage: is_of_store.then_some(error), ..Self::whole(why) }
    }
}

impl BadFile {
    pub(super) fn whole(why: String) -> Self {
        Self { of_decoder: false, row: None, why, storage: None }
    }

    pub(super) fn of_row(row: usize, why: String) -> Self {
        Self { row: Some(row), ..Self::whole(why) }
    }

    pub(super) fn not_utf8(row: Option<usize>) -> Self {
        let why = "it is not UTF-8: set `encoding` in `options`, such as `latin1`".to_owned();
        Self { row, ..Self::whole(why) }
    }

    fn of_arrow(error: &ArrowError) -> Self {
        let text = error.to_string();
        let text = ["Csv error: ", "Json error: ", "Parser error: ", "Io error: ", "External error: "]
            .iter()
            .fold(text.as_str(), |text, noise| text.strip_prefix(noise).unwrap_or(text));
        // The decoder calls a record a line, and knows nothing of a header.
        let fields = text.strip_prefix("incorrect number of fields for line ").and_then(|rest| rest.split_once(", "));
        let utf8 = text.strip_prefix("Encountered invalid UTF-8 data for line ").and_then(|rest| rest.split_once(' '));
        match (fields, utf8) {
            (Some((row, rest)), _) => Self {
                of_decoder: true,
                row: row.parse().ok(),
                ..Self::whole(rest.replace(" got ", " fields, found "))
            },
            (_, Some((row, _))) => Self::not_utf8(row.parse().ok()),
            _ => Self { of_decoder: true, ..Self::whole(text.trim_end_matches('.').to_owned()) },
        }
    }
}

/// The rows of one file.
pub(in crate::bronze) struct Rows {
    text: Box<dyn BufRead + Send>,
    decoder: Decoder,
    layout: Arc<Layout>,
    origin: Origin,
    /// The decoder gave up or cannot do it, or a record's text was asked for.
    careful: Option<Careful>,
    gave_up: bool,
    splitter: Splitter,
    batch_size: usize,
    /// The columns to read: which of the layout's, and where it is among the decoded ones, if the file has it.
    fields: Vec<(usize, Option<usize>)>,
    /// Columns of the file that are rescued: their names, and where they are among the decoded ones.
    new: Vec<(String, usize)>,
    /// The columns to give.
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

#[derive(PartialEq)]
enum Output {
    /// One of those that are read.
    Column(usize),
    Number,
    Rescued,
}

impl Rows {
    /// Rows of the plain text of a file with the columns `projection` of the layout's schema. `names` are those of a
    /// header that stands elsewhere; otherwise the text begins with it, if the format has one.
    pub(in crate::bronze) fn new(
        text: Box<dyn BufRead + Send>,
        origin: Origin,
        layout: Arc<Layout>,
        projection: &[usize],
        batch_size: usize,
        names: Option<Vec<String>>,
    ) -> Result<Self, BadFile> {
        let schema = Arc::new(layout.schema().project(projection).map_err(|error| BadFile::of_arrow(&error))?);
        let (wanted, output) = outputs(&layout, projection);
        let format = origin.format;
        let rescues = layout.options.rescues_new_columns && output.contains(&Output::Rescued);
        // Arrow's decoder of objects skips members that it was not told of.
        let gave_up = rescues && !format.is_delimited();
        let mut columns = Vec::new();
        let (text, decoder, places, new) = if format.is_delimited() {
            let dialect = Dialect::new(&layout.options, format);
            let prepared = delimited(text, &layout, (dialect, rescues), &wanted, batch_size, names)?;
            columns = prepared.names;
            (prepared.text, prepared.decoder, prepared.places, prepared.new)
        } else {
            let text = match format {
                Format::Json => {
                    let options = &layout.options;
                    let records = Records::new(text, &options.record_path, options.max_line_bytes);
                    Box::new(io::BufReader::with_capacity(CHUNK, records))
                }
                _ => text,
            };
            let decoder = objects(&layout, &wanted, batch_size)?;
            (text, decoder, (0..wanted.len()).map(Some).collect(), Vec::new())
        };
        let splitter = lenient::splitter(&layout, format, &wanted, &columns);
        let batch_size = batch_size.min(BATCH_VALUES / wanted.len().max(1)).max(1);
        let fields = wanted.into_iter().zip(places).collect();
        Ok(Self {
            text,
            decoder,
            layout,
            origin,
            careful: None,
            gave_up,
            splitter,
            batch_size,
            fields,
            new,
            output,
            schema,
            given: 0,
            ended: false,
            pending: 0,
        })
    }

    /// Rows that were quarantined, as if they stood in their file alone.
    pub(in crate::bronze) fn replayed(
        records: &replay::Records,
        origin: Origin,
        layout: Arc<Layout>,
        projection: &[usize],
        batch_size: usize,
    ) -> Result<Self, BadFile> {
        let careful = Careful::replayed(records, &origin, &layout)?;
        let mut rows = Self::new(Box::new(io::empty()), origin, layout, projection, batch_size, Some(Vec::new()))?;
        (rows.careful, rows.gave_up) = (Some(careful), true);
        Ok(rows)
    }

    fn read(&mut self) -> Result<Option<RecordBatch>, BadFile> {
        if !self.gave_up {
            match self.decoded() {
                Err(bad) if bad.of_decoder && self.layout.options.on_bad_row != OnBadRow::Fail => self.gave_up = true,
                Err(bad) => return Err(bad),
                Ok(None) => return Ok(None),
                Ok(Some(batch)) => {
                    let column = |place: &Option<usize>| place.map(|place| Arc::clone(batch.column(place)));
                    let columns = self.fields.iter().map(|(_, place)| column(place)).collect();
                    return self.typed(columns, batch.num_rows(), self.rescued(&batch)).map(Some);
                }
            }
        }
        let careful = match &mut self.careful {
            Some(careful) => careful,
            None => self.careful.insert(Careful::open(&self.origin, &self.layout)?),
        };
        let size = (self.fields.len(), self.given, self.batch_size);
        let wanted: Vec<usize> = self.fields.iter().map(|(field, _)| *field).collect();
        let split = |header: &Option<String>| {
            let names = lenient::names(header.as_deref(), &self.layout, self.origin.format)?;
            Ok(lenient::splitter(&self.layout, self.origin.format, &wanted, &names))
        };
        let Some((texts, troubles)) = lenient::read(careful, &mut self.splitter, split, size)? else {
            return Ok(None);
        };
        if self.layout.options.on_bad_row == OnBadRow::Fail
            && let Some((row, why)) = troubles.first()
        {
            return Err(BadFile::of_row(row, why));
        }
        let rows = texts.first().map_or_else(|| troubles.rows(), StringArray::len);
        let columns = texts.into_iter().map(|texts| Some(Arc::new(texts) as ArrayRef)).collect();
        self.typed(columns, rows, troubles).map(Some)
    }

    /// The next rows, if the decoder takes them.
    fn decoded(&mut self) -> Result<Option<RecordBatch>, BadFile> {
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
        self.decoder.flush()
    }

    fn too_long(&self) -> BadFile {
        let why = format!(
            "a record is longer than `max_line_bytes: {}`: raise it if that is meant{}",
            self.layout.options.max_line_bytes,
            if matches!(self.decoder, Decoder::Csv(..)) { "; perhaps a quote is never closed" } else { "" }
        );
        BadFile::of_row(self.given + self.decoder.completed() + 1, why)
    }

    /// What stands in columns of the file that are not declared.
    fn rescued(&self, batch: &RecordBatch) -> Troubles {
        let mut troubles = Troubles::default();
        for (name, place) in &self.new {
            let texts = batch.column(*place).as_string::<i32>().iter().enumerate();
            let found = texts.filter_map(|(row, text)| Some((row, text.filter(|text| !text.is_empty())?)));
            found.for_each(|(row, text)| troubles.rescue.add(row, name, text));
        }
        troubles
    }

    /// Texts, or what needs no cast, as the columns that were asked for; a column that the file lacks is NULL.
    fn typed(
        &mut self,
        columns: Vec<Option<ArrayRef>>,
        rows: usize,
        mut troubles: Troubles,
    ) -> Result<RecordBatch, BadFile> {
        let mut read = Vec::with_capacity(columns.len());
        for ((field, _), column) in self.fields.iter().zip(columns) {
            read.push(match column {
                Some(column) => self.values(*field, &column, &mut troubles)?,
                None => new_null_array(self.layout.columns.field(*field).data_type(), rows),
            });
        }
        let size = (rows, self.given);
        let stay = lenient::sort_out(&mut troubles, size, &self.layout, &self.origin, &mut self.careful)?;
        let rescue = std::mem::take(&mut troubles.rescue);
        let first = self.given as u64 + 1;
        let number = |row: usize| troubles.number(row).unwrap_or(first + row as u64);
        let mut rescue = Some(rescue);
        let column = |output: &Output| match output {
            Output::Column(at) => Arc::clone(&read[*at]),
            Output::Number => Arc::new(Int64Array::from_iter_values((0..rows).map(|row| number(row) as i64))),
            Output::Rescued => rescue.take().unwrap_or_default().column(rows, &self.origin.shown, number),
        };
        let columns: Vec<ArrayRef> = self.output.iter().map(column).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let typed = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options);
        self.given += rows;
        let stays = |batch| match &stay {
            Some(stay) => filter_record_batch(&batch, stay),
            None => Ok(batch),
        };
        typed.and_then(stays).map_err(|error| BadFile::of_arrow(&error))
    }

    fn values(&self, field: usize, decoded: &ArrayRef, troubles: &mut Troubles) -> Result<ArrayRef, BadFile> {
        let Some(texts) = decoded.as_any().downcast_ref::<StringArray>() else { return Ok(Arc::clone(decoded)) };
        let Values { array, refused } = self.layout.readings[field].values(texts);
        let name = self.layout.columns.field(field).name();
        for row in refused {
            let text = texts.value(row);
            if self.layout.rescues() {
                troubles.rescue.add(row, name, text);
                continue;
            }
            let why = || self.layout.why_not(field, text);
            if self.layout.options.on_bad_row == OnBadRow::Fail {
                return Err(BadFile::of_row(self.given + row + 1, why()));
            }
            troubles.add(row, name, why);
        }
        Ok(array)
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

/// What reads a text that is delimited.
struct Prepared {
    text: Box<dyn BufRead + Send>,
    decoder: Decoder,
    /// Where each column is among the decoded ones.
    places: Vec<Option<usize>>,
    /// What else is decoded, by name.
    new: Vec<(String, usize)>,
    /// All columns of the file.
    names: Vec<String>,
}

/// A reader of CSV: its columns are found by the names of the header.
fn delimited(
    mut text: Box<dyn BufRead + Send>,
    layout: &Layout,
    (dialect, rescues): (Dialect<'_>, bool),
    wanted: &[usize],
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
    let place = |field: &usize| names.iter().position(|name| name == layout.columns.field(*field).name());
    let in_file: Vec<Option<usize>> = wanted.iter().map(place).collect();
    let mut new = if rescues { header::new_names(&names, layout) } else { Vec::new() };
    let mut decoded: Vec<usize> = in_file.iter().flatten().copied().chain(new.iter().map(|(_, at)| *at)).collect();
    decoded.sort_unstable();
    let decoded_at = |at: usize| decoded.iter().position(|known| *known == at);
    new.iter_mut().for_each(|(_, at)| *at = decoded_at(*at).unwrap_or_default());
    let places = in_file.iter().map(|place| decoded_at((*place)?)).collect();
    let fields: Vec<Field> = names.iter().map(|name| Field::new(name, DataType::Utf8, true)).collect();
    let mut builder = csv::ReaderBuilder::new(Arc::new(Schema::new(fields)))
        .with_header(false)
        .with_delimiter(dialect.delimiter)
        .with_quote(options.quote.unwrap_or(NO_QUOTE))
        .with_truncated_rows(options.truncated_rows)
        .with_batch_size(batch_size)
        .with_projection(decoded);
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
    Ok(Prepared { text, decoder: Decoder::Csv(Box::new(builder.build_decoder()), batch_size), places, new, names })
}

/// A reader of JSON objects: plain values as text, so that what a column declares counts; nested ones by their types.
fn objects(layout: &Layout, wanted: &[usize], batch_size: usize) -> Result<Decoder, BadFile> {
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
    Ok(Decoder::Json(decoder))
}

/// The columns of the layout that are read to give those of a projection of its schema, and where each is then.
fn outputs(layout: &Layout, projection: &[usize]) -> (Vec<usize>, Vec<Output>) {
    let (count, of_row) = (layout.columns.fields().len(), layout.of_row().collect::<Vec<_>>());
    let of_row = |at: usize| at.checked_sub(count).map(|at| of_row[at]);
    // What a column could not take is known when it is read.
    let rescued = projection.iter().any(|at| of_row(*at) == Some(MetadataColumn::RescuedData));
    // Whether a row is left out does not depend on what is asked for.
    let all = rescued || layout.options.on_bad_row == OnBadRow::Quarantine;
    let mut wanted: Vec<usize> =
        if all { (0..count).collect() } else { projection.iter().copied().filter(|at| *at < count).collect() };
    wanted.sort_unstable();
    wanted.dedup();
    let output = |at: &usize| match of_row(*at) {
        Some(MetadataColumn::RescuedData) => Output::Rescued,
        Some(_) => Output::Number,
        None => Output::Column(wanted.binary_search(at).unwrap_or_default()),
    };
    let outputs = projection.iter().map(output).collect();
    (wanted, outputs)
}
