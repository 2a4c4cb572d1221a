//! How the files of a source become rows: the options of its format, and the limits on hostile files.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::arrow::array::timezone::Tz;

use super::bad_rows::OnBadRow;
use super::formats::{COMPRESSIONS, Compression, Format};
use super::path_columns::PathColumns;
use super::settings::bytes;
use super::yaml::{Mapping, Node, Raw, Reader};
use crate::diagnostics::{Diagnostic, Id};
use crate::words::HIDDEN;

/// A column that every row of a source can have, because `lake` knows it of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetadataColumn {
    /// Relative to the project where it is inside.
    FilePath,
    /// Its last part.
    FileName,
    /// Bytes, as stored.
    FileSize,
    /// When it was changed last.
    FileModifiedAt,
    /// The record's number in its file, from 1.
    RowNumber,
    /// The batch that took it in.
    BatchId,
    /// When that batch began.
    LoadedAt,
    /// JSON with the texts of the row that fit no column: they are NULL there. NULL if there are none.
    RescuedData,
}

pub(super) const METADATA: &[(&str, MetadataColumn)] = &[
    ("_file_path", MetadataColumn::FilePath),
    ("_file_name", MetadataColumn::FileName),
    ("_file_size", MetadataColumn::FileSize),
    ("_file_modified_at", MetadataColumn::FileModifiedAt),
    ("_row_number", MetadataColumn::RowNumber),
    ("_batch_id", MetadataColumn::BatchId),
    ("_loaded_at", MetadataColumn::LoadedAt),
    ("_rescued_data", MetadataColumn::RescuedData),
];

impl MetadataColumn {
    /// The column's name.
    pub fn name(self) -> &'static str {
        METADATA.iter().find(|(_, column)| *column == self).map_or("", |(name, _)| *name)
    }

    /// Whether each row has its own, which nobody knows before the file is read.
    pub fn is_of_row(self) -> bool {
        matches!(self, Self::RowNumber | Self::RescuedData)
    }
}

/// How the text of one column becomes values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnFormat {
    /// Patterns of `strftime`, or `epoch_s`, `epoch_ms`, `epoch_us`: the first that fits counts.
    pub formats: Vec<String>,
    /// The zone of timestamps that name none.
    pub time_zone: Option<String>,
}

/// Which version of a Delta table is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimeTravel {
    /// By number.
    Version(u64),
    /// The newest one at that moment.
    Timestamp(chrono::DateTime<chrono::Utc>),
}

/// Everything that decides how files become rows, apart from names and types of columns.
#[derive(Debug, Clone)]
pub struct SourceOptions {
    /// The first line names the columns.
    pub header: bool,
    /// Between fields, where YAML says it.
    pub delimiter: Option<u8>,
    /// Around fields; `None` if a quote is a letter like any other.
    pub quote: Option<u8>,
    /// Before a quote inside a quoted field, if quotes are not doubled.
    pub escape: Option<u8>,
    /// Starts a line to pass over.
    pub comment: Option<u8>,
    /// Lines before the header.
    pub skip_lines: u64,
    /// A row may end early: its last columns are NULL.
    pub truncated_rows: bool,
    /// A quoted field may hold line ends; otherwise big files are read in parallel.
    pub newlines_in_values: bool,
    /// How letters are bytes: a name of the WHATWG encoding standard.
    pub encoding: &'static str,
    /// How files are compressed.
    pub compression: Compression,
    /// Where records are in a JSON document: keys from the top.
    pub record_path: Vec<String>,
    /// Texts that mean NULL.
    pub null_values: Vec<String>,
    /// Texts that mean true, if not the usual ones.
    pub true_values: Vec<String>,
    /// Texts that mean false.
    pub false_values: Vec<String>,
    /// The decimal point of numbers.
    pub decimal_separator: char,
    /// What parts thousands in numbers.
    pub thousands_separator: Option<char>,
    /// The zone of timestamps that name none.
    pub time_zone: Option<String>,
    /// A record may not be longer.
    pub max_line_bytes: usize,
    /// A compressed file may not become this many times larger.
    pub max_decompression_ratio: u64,
    /// A file may not be larger, after decompression.
    pub max_file_bytes: Option<usize>,
    /// What `columns:` says of single columns.
    pub columns: BTreeMap<String, ColumnFormat>,
    /// Columns whose values are for nobody: messages do not show them.
    pub sensitive: BTreeSet<String>,
    /// Columns that stand in the paths of files.
    pub path_columns: PathColumns,
    /// Columns that say where a row is from.
    pub metadata_columns: Vec<MetadataColumn>,
    /// What a file has beside the declared columns goes into `_rescued_data`.
    pub rescues_new_columns: bool,
    /// Which version of a Delta table.
    pub time_travel: Option<TimeTravel>,
    /// What becomes of a row that does not fit.
    pub on_bad_row: OnBadRow,
}

/// Long enough for any record that somebody means.
const MAX_LINE_BYTES: usize = 32 << 20;
/// gzip cannot do more than about 1,030 to 1.
const MAX_DECOMPRESSION_RATIO: u64 = 1_000;

impl Default for SourceOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl SourceOptions {
    /// The options where YAML says nothing.
    pub fn new() -> Self {
        Self {
            header: true,
            delimiter: None,
            quote: Some(b'"'),
            escape: None,
            comment: None,
            skip_lines: 0,
            truncated_rows: false,
            newlines_in_values: true,
            encoding: "UTF-8",
            compression: Compression::Auto,
            record_path: Vec::new(),
            null_values: Vec::new(),
            true_values: Vec::new(),
            false_values: Vec::new(),
            decimal_separator: '.',
            thousands_separator: None,
            time_zone: None,
            max_line_bytes: MAX_LINE_BYTES,
            max_decompression_ratio: MAX_DECOMPRESSION_RATIO,
            max_file_bytes: None,
            columns: BTreeMap::new(),
            sensitive: BTreeSet::new(),
            path_columns: PathColumns::default(),
            metadata_columns: Vec::new(),
            rescues_new_columns: false,
            time_travel: None,
            on_bad_row: OnBadRow::Fail,
        }
    }

    /// What decides rows: a file that breaks a limit has none, and what messages show is in none.
    pub fn of_rows(&self) -> Self {
        let Self { max_line_bytes, max_decompression_ratio, max_file_bytes, sensitive, .. } = Self::new();
        Self { max_line_bytes, max_decompression_ratio, max_file_bytes, sensitive, ..self.clone() }
    }

    /// A name of a header in a message: a file without one begins with values.
    pub fn shown_name<'a>(&self, name: &'a str) -> &'a str {
        if self.sensitive.is_empty() { name } else { HIDDEN }
    }

    /// The byte between the fields of a file of this format.
    pub fn delimiter(&self, format: Format) -> u8 {
        self.delimiter.unwrap_or(if format == Format::Tsv { b'\t' } else { b',' })
    }
}

/// Options that only some formats have.
pub(super) const DELIMITED_OPTIONS: &[&str] =
    &["header", "delimiter", "quote", "escape", "comment", "skip_lines", "truncated_rows", "newlines_in_values"];
pub(super) const JSON_OPTIONS: &[&str] = &["record_path"];
pub(super) const TEXT_OPTIONS: &[&str] = &[
    "encoding",
    "compression",
    "null_values",
    "true_values",
    "false_values",
    "decimal_separator",
    "thousands_separator",
    "time_zone",
    "max_line_bytes",
    "max_decompression_ratio",
    "max_file_bytes",
];

/// Reads `options:`.
pub(super) fn read(node: Option<&Node>, format: Format, reader: &mut Reader<'_>) -> SourceOptions {
    let mut options = SourceOptions::new();
    let Some(mut mapping) = node.and_then(|node| reader.mapping(node, "group of source options")) else {
        return options;
    };
    if format.may_be(Format::is_delimited) {
        delimited(&mut options, format, &mut mapping, reader);
    }
    if format.may_be(|format| format == Format::Json)
        && let Some(node) = mapping.take("record_path")
    {
        options.record_path = record_path(node, reader);
    }
    if format.may_be(Format::is_text) {
        text(&mut options, &mut mapping, reader);
    }
    refuse_foreign(&mut mapping, format, reader);
    mapping.finish(reader);
    options
}

fn delimited(options: &mut SourceOptions, format: Format, mapping: &mut Mapping<'_>, reader: &mut Reader<'_>) {
    set(&mut options.header, mapping.take("header").and_then(|node| reader.boolean(node)));
    options.delimiter = mapping.take("delimiter").and_then(|node| one_byte(node, reader));
    if let Some(node) = mapping.take("quote") {
        let off = node.to_json() == serde_json::Value::Bool(false) || matches!(&*node.plain_text(), "" | "none");
        options.quote = if off { None } else { one_byte(node, reader) };
    }
    options.escape = mapping.take("escape").and_then(|node| one_byte(node, reader));
    options.comment = mapping.take("comment").and_then(|node| one_byte(node, reader));
    set(&mut options.skip_lines, mapping.take("skip_lines").and_then(|node| reader.count(node)));
    set(&mut options.truncated_rows, mapping.take("truncated_rows").and_then(|node| reader.boolean(node)));
    options.newlines_in_values = options.quote.is_some();
    set(&mut options.newlines_in_values, mapping.take("newlines_in_values").and_then(|node| reader.boolean(node)));
    let special = [Some(options.delimiter(format)), options.quote, options.comment];
    if special.iter().flatten().any(|byte| matches!(byte, b'\n' | b'\r'))
        || special.iter().enumerate().any(|(at, byte)| byte.is_some() && special[..at].contains(byte))
    {
        reader.invalid(&mapping.span, "`delimiter`, `quote` and `comment` are different characters, none a line end");
    }
}

fn text(options: &mut SourceOptions, mapping: &mut Mapping<'_>, reader: &mut Reader<'_>) {
    set(&mut options.encoding, mapping.take("encoding").and_then(|node| encoding(node, reader)));
    let compression = mapping.take("compression").and_then(|node| reader.choice(node, "compression", COMPRESSIONS));
    set(&mut options.compression, compression);
    options.null_values = mapping.take("null_values").map(|node| null_texts(node, reader)).unwrap_or_default();
    let mut texts = |key| mapping.take(key).map(|node| reader.texts(node)).unwrap_or_default();
    options.true_values = texts("true_values");
    options.false_values = texts("false_values");
    set(&mut options.decimal_separator, mapping.take("decimal_separator").and_then(|node| one_char(node, reader)));
    options.thousands_separator = mapping.take("thousands_separator").and_then(|node| one_char(node, reader));
    if options.thousands_separator == Some(options.decimal_separator) {
        reader.invalid(&mapping.span, "`decimal_separator` and `thousands_separator` are different characters");
    }
    options.time_zone = mapping.take("time_zone").and_then(|node| time_zone(node, reader));
    set(&mut options.max_line_bytes, mapping.take("max_line_bytes").and_then(|node| bytes(node, reader)));
    let ratio = mapping.take("max_decompression_ratio").and_then(|node| reader.count(node));
    set(&mut options.max_decompression_ratio, ratio);
    options.max_file_bytes = mapping.take("max_file_bytes").and_then(|node| bytes(node, reader));
}

/// Texts that mean NULL. YAML reads the word `NULL` as nothing at all; here it is that word.
fn null_texts(node: &Node, reader: &mut Reader<'_>) -> Vec<String> {
    let Raw::List(items) = &node.value else { return reader.texts(node) };
    let text = |item: &Node| match &item.value {
        Raw::Null => Some(item.span.text().trim().to_owned()),
        _ => reader.text(item),
    };
    items.iter().filter_map(text).collect()
}

/// An option of another format says so, instead of being unknown.
fn refuse_foreign(mapping: &mut Mapping<'_>, format: Format, reader: &mut Reader<'_>) {
    for (keys, whose, fits) in [
        (DELIMITED_OPTIONS, "CSV and TSV", format.may_be(Format::is_delimited)),
        (JSON_OPTIONS, "`format: json`", format.may_be(|format| format == Format::Json)),
        (TEXT_OPTIONS, "CSV, TSV and JSON", format.may_be(Format::is_text)),
    ] {
        for key in keys.iter().filter(|_| !fits) {
            if let Some(span) = mapping.take_known(key) {
                let message =
                    format!("`{key}` is an option of {whose}; it means nothing for `format: {}`", format.name());
                reader.diagnostics.push(Diagnostic::error(Id::UnknownKey, message).at(span.clone()));
            }
        }
    }
}

/// Options that stand beside `options:` and not below it.
pub(super) fn misplaced(table: &mut Mapping<'_>, reader: &mut Reader<'_>) {
    for key in [DELIMITED_OPTIONS, JSON_OPTIONS, TEXT_OPTIONS].into_iter().flatten() {
        if let Some(span) = table.take_known(key) {
            let diagnostic = Diagnostic::error(Id::UnknownKey, format!("`{key}` is one of the `options` of a source"));
            reader.diagnostics.push(diagnostic.at(span.clone()).help(format!("write `options: {{ {key}: ... }}`")));
        }
    }
}

/// What may stand under a column of a source, beside what any column has.
pub(super) fn column_format(mapping: &mut Mapping<'_>, reader: &mut Reader<'_>) -> Option<ColumnFormat> {
    let formats = mapping.take("format").map(|node| patterns(node, reader));
    let time_zone = mapping.take("time_zone").map(|node| time_zone(node, reader));
    if formats.is_none() && time_zone.is_none() {
        return None;
    }
    Some(ColumnFormat { formats: formats.unwrap_or_default(), time_zone: time_zone.flatten() })
}

/// Formats that are no patterns: numbers since 1970.
pub(super) const EPOCHS: &[&str] = &["epoch_s", "epoch_ms", "epoch_us"];

fn patterns(node: &Node, reader: &mut Reader<'_>) -> Vec<String> {
    let nodes = match &node.value {
        Raw::List(items) => items.iter().collect(),
        _ => vec![node],
    };
    let mut found = Vec::new();
    for node in nodes {
        let Some(text) = reader.text(node) else { continue };
        match check_pattern(&text) {
            Ok(()) => found.push(text),
            Err(why) => {
                let diagnostic = Diagnostic::error(Id::InvalidValue, why).at(node.span.clone());
                let help = "a pattern such as `%d.%m.%Y %H:%M`, or one of `epoch_s`, `epoch_ms`, `epoch_us`";
                reader.diagnostics.push(diagnostic.help(help));
            }
        }
    }
    found
}

/// Whether `chrono` knows every part of a pattern.
pub(super) fn check_pattern(text: &str) -> Result<(), String> {
    use chrono::format::{Item, StrftimeItems};
    if EPOCHS.contains(&text) {
        return Ok(());
    }
    if StrftimeItems::new(text).any(|item| item == Item::Error) {
        return Err(format!("`{text}` has a part that no date has"));
    }
    if !text.contains('%') {
        return Err(format!("`{text}` is not a date pattern: it has no part such as `%Y`"));
    }
    Ok(())
}

fn time_zone(node: &Node, reader: &mut Reader<'_>) -> Option<String> {
    let text = reader.text(node)?;
    if text.parse::<Tz>().is_ok() {
        return Some(text);
    }
    let diagnostic = Diagnostic::error(Id::InvalidValue, format!("`{text}` is not a time zone")).at(node.span.clone());
    reader.diagnostics.push(diagnostic.help("a name such as `Europe/Berlin`, or an offset such as `+01:00`"));
    None
}

fn encoding(node: &Node, reader: &mut Reader<'_>) -> Option<&'static str> {
    let text = reader.text(node)?;
    if let Some(encoding) = encoding_rs::Encoding::for_label(text.as_bytes()) {
        return Some(encoding.name());
    }
    let known =
        ["utf-8", "utf-16", "utf-16le", "utf-16be", "latin1", "windows-1252", "iso-8859-15", "shift_jis", "gbk"];
    let diagnostic = Diagnostic::error(Id::InvalidValue, format!("`{text}` is not a known encoding"));
    reader.diagnostics.push(diagnostic.at(node.span.clone()).suggest(&text, known));
    None
}

/// `customers`, `data.items`, or a list of keys where a key has a dot.
fn record_path(node: &Node, reader: &mut Reader<'_>) -> Vec<String> {
    let path = match &node.value {
        Raw::List(_) => reader.texts(node),
        _ => reader.text(node).map(|text| text.split('.').map(str::to_owned).collect()).unwrap_or_default(),
    };
    if path.iter().any(String::is_empty) {
        reader.invalid(&node.span, "a record path is keys with dots between them, such as `data.customers`");
    }
    path
}

/// Reads `metadata_columns:`.
pub(super) fn metadata_columns(node: &Node, format: Format, reader: &mut Reader<'_>) -> Vec<MetadataColumn> {
    let mut found: Vec<MetadataColumn> = Vec::new();
    for node in reader.list(node) {
        let Some(column) = reader.choice(node, "metadata column", METADATA) else { continue };
        let counted = !matches!(format, Format::Avro | Format::Arrow | Format::Delta);
        if column == MetadataColumn::RowNumber && !counted {
            reader.invalid(&node.span, "rows are numbered in CSV, TSV, JSON and Parquet files only");
        } else if column == MetadataColumn::RescuedData && !format.may_be(Format::is_text) {
            reader.invalid(&node.span, "values are rescued from CSV, TSV and JSON files only");
        } else if found.contains(&column) {
            let message = format!("metadata column `{}` stands twice", column.name());
            reader.diagnostics.push(Diagnostic::error(Id::DuplicateName, message).at(node.span.clone()));
        } else {
            found.push(column);
        }
    }
    found
}

/// Reads `version:` and `timestamp:` of a Delta source.
pub(super) fn time_travel(table: &mut Mapping<'_>, format: Format, reader: &mut Reader<'_>) -> Option<TimeTravel> {
    if format != Format::Delta {
        for key in ["version", "timestamp"] {
            if let Some(span) = table.take_known(key) {
                let message =
                    format!("`{key}` is for a `format: delta`; it means nothing for `format: {}`", format.name());
                reader.diagnostics.push(Diagnostic::error(Id::UnknownKey, message).at(span.clone()));
            }
        }
        return None;
    }
    let (version, timestamp) = (table.take("version"), table.take("timestamp"));
    if let (Some(_), Some(node)) = (version, timestamp) {
        reader.invalid(&node.span, "a Delta table is read at a `version` or at a `timestamp`, not at both");
    }
    if let Some(node) = version {
        return reader.count(node).map(TimeTravel::Version);
    }
    let node = timestamp?;
    let text = reader.text(node)?;
    match datafusion::arrow::compute::kernels::cast_utils::string_to_datetime(&chrono::Utc, text.trim()) {
        Ok(moment) => Some(TimeTravel::Timestamp(moment)),
        Err(_) => {
            let message = format!("`{text}` is not a timestamp such as `2024-08-01 12:00:00`");
            reader.invalid(&node.span, message);
            None
        }
    }
}

fn set<T>(to: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *to = value;
    }
}

pub(super) fn one_byte(node: &Node, reader: &mut Reader<'_>) -> Option<u8> {
    let text = reader.text(node)?;
    let text = if text == "\\t" { "\t" } else { &text };
    match text.as_bytes() {
        [byte] if byte.is_ascii() => Some(*byte),
        _ => {
            reader.wrong(node, "one ASCII character");
            None
        }
    }
}

fn one_char(node: &Node, reader: &mut Reader<'_>) -> Option<char> {
    let text = reader.text(node)?;
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(only), None) if !only.is_alphanumeric() && only != '-' => Some(only),
        _ => {
            reader.wrong(node, "one character that is no letter or digit");
            None
        }
    }
}
