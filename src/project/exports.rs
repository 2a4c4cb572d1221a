//! Exports: files outside of the lake that are made of the rows of one model, after each publish of it.

use std::collections::BTreeMap;

use chrono::format::{Item, StrftimeItems};
use serde::Serialize;

use super::formats::{COMPRESSIONS, Compression};
use super::layout::{self, Codec};
use super::source_options::one_byte;
use super::sources::rendered;
use super::test_lists::referenced;
use super::yaml::{Mapping, Node, Reader};
use super::{Materialization, Model};
use crate::diagnostics::{Diagnostic, Id, Span};
use crate::memo::KeyMaker;
use crate::names::TableName;
use crate::template::{KnownNames, Templates};

/// The schema of the names of exports in the graph: `export.top_songs_csv`.
pub const EXPORT_SCHEMA: &str = "export";

/// A file that is made of the rows of a model.
#[derive(Debug, Clone)]
pub struct Export {
    /// `export.name`.
    pub name: TableName,
    /// Where it is declared.
    pub span: Span,
    /// Markdown.
    pub description: String,
    /// The model, and where it is named.
    pub model: (TableName, Span),
    /// Where the file goes, relative to the project folder unless absolute or an address; and where that is said.
    pub path: (String, Span),
    /// How rows become bytes.
    pub format: ExportFormat,
    /// The order of the rows. Rows that are equal in it are ordered by the columns of the file.
    pub order_by: Vec<(OrderBy, Span)>,
    /// The columns of the file; those of the model if none are named.
    pub columns: Vec<(String, Span)>,
    /// Sensitive columns may be written as they are.
    pub allow_sensitive: bool,
    /// For selection.
    pub tags: Vec<String>,
    /// Anything.
    pub meta: serde_json::Value,
}

/// A column that rows are ordered by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OrderBy {
    /// The column.
    pub column: String,
    /// The greatest value comes first.
    pub descending: bool,
}

/// How rows become bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ExportFormat {
    /// Delimited text.
    Csv(CsvLayout),
    /// A JSON object a line; NULL is `null`.
    Ndjson(TextLayout),
    /// Apache Parquet.
    Parquet(Option<Codec>),
}

/// How values of text files are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct TextLayout {
    /// One of `gzip`, `bzip2`, `xz`, `zstd`, or `none`.
    pub compression: Compression,
    /// Of dates, in the words of `strftime`.
    pub date_format: Option<String>,
    /// Of timestamps.
    pub timestamp_format: Option<String>,
}

/// How rows of delimited text are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CsvLayout {
    /// The first line names the columns.
    pub header: bool,
    /// Between fields.
    pub delimiter: u8,
    /// What stands for NULL.
    pub null_value: String,
    /// The rest.
    pub text: TextLayout,
}

impl ExportFormat {
    /// `csv`, `ndjson` or `parquet`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Csv(_) => "csv",
            Self::Ndjson(_) => "ndjson",
            Self::Parquet(_) => "parquet",
        }
    }
}

impl Export {
    /// The model.
    pub fn model(&self) -> &TableName {
        &self.model.0
    }

    /// The hash of everything that decides the file, apart from the rows of the model.
    pub fn definition(&self) -> String {
        let order: Vec<&OrderBy> = self.order_by.iter().map(|(order, _)| order).collect();
        let columns: Vec<&String> = self.columns.iter().map(|(column, _)| column).collect();
        let key = KeyMaker::new("export").text(self.model.0.table).text(&self.path.0).value(&self.format);
        format!("{:?}", key.value(&order).value(&columns).finish())
    }
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Csv,
    Ndjson,
    Parquet,
}

pub(super) const KINDS: &[(&str, Kind)] = &[("csv", Kind::Csv), ("ndjson", Kind::Ndjson), ("parquet", Kind::Parquet)];

/// Reads an `exports:` list. Names of models are as written until [`resolve`].
pub(super) fn read(
    list: &Node,
    templates: &Templates,
    found: &mut BTreeMap<TableName, Export>,
    reader: &mut Reader<'_>,
) {
    for node in reader.list(list) {
        let Some(mut mapping) = reader.mapping(node, "export") else { continue };
        let read = read_one(&mut mapping, templates, reader);
        mapping.finish(reader);
        let Some((export, enabled)) = read else { continue };
        let twin =
            found.get(&export.name).map(|first| (format!("two exports are called `{}`", first.name.table), first));
        let same_file = || {
            let first = found.values().find(|first| first.path.0 == export.path.0)?;
            Some((format!("exports `{}` and `{}` write to one file", first.name.table, export.name.table), first))
        };
        if let Some((message, first)) = twin.or_else(same_file) {
            let diagnostic = Diagnostic::error(Id::DuplicateName, message).at(export.span);
            reader.diagnostics.push(diagnostic.related(first.span.clone(), "first here"));
        } else if enabled {
            found.insert(export.name.clone(), export);
        }
    }
}

fn read_one(mapping: &mut Mapping<'_>, templates: &Templates, reader: &mut Reader<'_>) -> Option<(Export, bool)> {
    let name_node = mapping.require("name", reader);
    let name = name_node.and_then(|node| reader.identifier(node));
    let model_node = mapping.require("model", reader);
    let model = model_node.and_then(|node| model_of(node, reader));
    let path_node = mapping.require("path", reader);
    let path = path_node.and_then(|node| path_of(node, templates, reader));
    let kind = mapping.require("format", reader).and_then(|node| reader.choice(node, "format of an export", KINDS));
    let options = mapping.take("options");
    let format = kind.map(|kind| format_of(kind, options, path.as_deref().unwrap_or_default(), reader));
    let order_by = mapping.take("order_by").map(|node| order_of(node, reader)).unwrap_or_default();
    let columns = mapping.take("columns").map(|node| columns_of(node, reader)).unwrap_or_default();
    let allow_sensitive = mapping.take("allow_sensitive").and_then(|node| reader.boolean(node)).unwrap_or(false);
    let description = mapping.take("description").and_then(|node| reader.text(node)).unwrap_or_default();
    let tags = mapping.take("tags").map(|node| reader.texts(node)).unwrap_or_default();
    let meta = mapping.take("meta").map(Node::to_json).unwrap_or_default();
    let enabled = mapping.take("enabled").and_then(|node| reader.boolean(node)).unwrap_or(true);
    let export = Export {
        name: TableName::new(EXPORT_SCHEMA, name?),
        span: name_node?.span.clone(),
        description,
        model: (model?, model_node?.span.clone()),
        path: (path?, path_node?.span.clone()),
        format: format?,
        order_by,
        columns,
        allow_sensitive,
        tags,
        meta,
    };
    Some((export, enabled))
}

/// `ref('top_songs')`, `top_songs` or `gold.top_songs`.
fn model_of(node: &Node, reader: &mut Reader<'_>) -> Option<TableName> {
    let text = reader.text(node)?;
    if !text.contains('(') {
        let (layer, table) = text.trim().rsplit_once('.').unwrap_or(("", text.trim()));
        return Some(TableName::new(layer, table));
    }
    let name = referenced(node, reader)?;
    if !name.schema.is_empty() {
        reader.invalid(&node.span, "an export is of a model: write ref('model')");
        return None;
    }
    Some(name)
}

fn path_of(node: &Node, templates: &Templates, reader: &mut Reader<'_>) -> Option<String> {
    let path = rendered(node, templates, reader)?;
    if path.trim().is_empty() || path.ends_with('/') {
        let diagnostic = Diagnostic::error(Id::InvalidValue, format!("`{path}` is not the path of a file"));
        reader
            .diagnostics
            .push(diagnostic.at(node.span.clone()).help("an export is one file, such as exports/songs.csv"));
        return None;
    }
    Some(path)
}

fn format_of(kind: Kind, options: Option<&Node>, path: &str, reader: &mut Reader<'_>) -> ExportFormat {
    let mut mapping = options.and_then(|node| reader.mapping(node, "group of export options"));
    let format = match (kind, &mut mapping) {
        (Kind::Csv, mapping) => {
            let mut csv = CsvLayout { header: true, delimiter: b',', null_value: String::new(), text: plain(path) };
            if let Some(mapping) = mapping {
                let header = mapping.take("header").and_then(|node| reader.boolean(node));
                csv.header = header.unwrap_or(csv.header);
                let delimiter = mapping.take("delimiter").and_then(|node| delimiter(node, reader));
                csv.delimiter = delimiter.unwrap_or(csv.delimiter);
                csv.null_value = mapping.take("null_value").and_then(|node| reader.text(node)).unwrap_or_default();
                text(&mut csv.text, mapping, reader);
            }
            ExportFormat::Csv(csv)
        }
        (Kind::Ndjson, mapping) => {
            let mut layout = plain(path);
            if let Some(mapping) = mapping {
                text(&mut layout, mapping, reader);
            }
            ExportFormat::Ndjson(layout)
        }
        (Kind::Parquet, mapping) => {
            let node = mapping.as_mut().and_then(|mapping| mapping.take("compression"));
            ExportFormat::Parquet(node.and_then(|node| codec(node, reader)))
        }
    };
    if let Some(mapping) = mapping {
        mapping.finish(reader);
    }
    format
}

/// What the ending of a path says.
fn plain(path: &str) -> TextLayout {
    TextLayout { compression: Compression::Auto.of_file(path), ..TextLayout::default() }
}

fn text(layout: &mut TextLayout, mapping: &mut Mapping<'_>, reader: &mut Reader<'_>) {
    let compression = mapping.take("compression").and_then(|node| reader.choice(node, "compression", COMPRESSIONS));
    if let Some(said) = compression.filter(|said| *said != Compression::Auto) {
        layout.compression = said;
    }
    layout.date_format = mapping.take("date_format").and_then(|node| time_format(node, reader));
    layout.timestamp_format = mapping.take("timestamp_format").and_then(|node| time_format(node, reader));
}

fn delimiter(node: &Node, reader: &mut Reader<'_>) -> Option<u8> {
    let byte = one_byte(node, reader)?;
    if matches!(byte, b'\n' | b'\r' | b'"') {
        reader.invalid(&node.span, "`delimiter` is neither a quote nor a line end");
        return None;
    }
    Some(byte)
}

fn time_format(node: &Node, reader: &mut Reader<'_>) -> Option<String> {
    let text = reader.text(node)?;
    if StrftimeItems::new(&text).any(|item| matches!(item, Item::Error)) {
        let diagnostic = Diagnostic::error(Id::InvalidValue, format!("`{text}` is not a format of times"));
        reader.diagnostics.push(diagnostic.at(node.span.clone()).help("write it as strftime does: %Y-%m-%d %H:%M:%S"));
        return None;
    }
    Some(text)
}

fn codec(node: &Node, reader: &mut Reader<'_>) -> Option<Codec> {
    match layout::codec(&node.to_json()) {
        Ok(codec) => Some(codec),
        Err(why) => {
            let (message, help) =
                why.split_once("; ").unwrap_or((&why, "write zstd, snappy, gzip, brotli, lz4 or none"));
            let diagnostic = Diagnostic::error(Id::InvalidValue, message).at(node.span.clone());
            reader.diagnostics.push(diagnostic.help(help));
            None
        }
    }
}

/// `rank`, `rank asc` or `plays desc`, one or a list of them.
fn order_of(node: &Node, reader: &mut Reader<'_>) -> Vec<(OrderBy, Span)> {
    let one = |(text, span): (String, Span)| {
        let (column, descending) = match text.rsplit_once(' ') {
            Some((column, word)) if word.eq_ignore_ascii_case("desc") => (column, true),
            Some((column, word)) if word.eq_ignore_ascii_case("asc") => (column, false),
            _ => (text.as_str(), false),
        };
        (OrderBy { column: column.trim().to_owned(), descending }, span)
    };
    columns_of(node, reader).into_iter().map(one).collect()
}

/// Names, each with its place; one that stands twice is reported.
fn columns_of(node: &Node, reader: &mut Reader<'_>) -> Vec<(String, Span)> {
    let mut columns: Vec<(String, Span)> = Vec::new();
    let items =
        if matches!(node.value, super::yaml::Raw::Scalar(_)) { std::slice::from_ref(node) } else { reader.list(node) };
    for item in items {
        let Some(name) = reader.text(item) else { continue };
        if let Some((_, first)) = columns.iter().find(|(known, _)| *known == name) {
            let diagnostic = Diagnostic::error(Id::DuplicateName, format!("column `{name}` stands twice"));
            reader.diagnostics.push(diagnostic.at(item.span.clone()).related(first.clone(), "first here"));
            continue;
        }
        columns.push((name, item.span.clone()));
    }
    columns
}

/// Finds the models of exports. What cannot be exported is reported and left out.
pub(super) fn resolve(
    exports: &mut BTreeMap<TableName, Export>,
    known: &KnownNames,
    models: &BTreeMap<TableName, Model>,
    reader: &mut Reader<'_>,
) {
    exports.retain(|name, export| match find(&export.model.0, known, models) {
        Ok(model) => {
            export.model.0 = model.name.clone();
            if let Some(twin) = models.get(name) {
                let message = format!("an export and a model are both called `{name}`");
                let diagnostic = Diagnostic::error(Id::DuplicateName, message).at(export.span.clone());
                reader.diagnostics.push(diagnostic.related(twin.span(), "the model"));
            }
            true
        }
        Err(problem) => {
            // A model that is broken has been reported.
            reader.diagnostics.extend(problem.map(|diagnostic| diagnostic.at(export.model.1.clone())));
            false
        }
    });
}

fn find<'m>(
    name: &TableName,
    known: &KnownNames,
    models: &'m BTreeMap<TableName, Model>,
) -> Result<&'m Model, Option<Diagnostic>> {
    let full = known.model(name.table).filter(|full| name.schema.is_empty() || name.schema == full.schema);
    let Some(full) = full else {
        let written = if name.schema.is_empty() { name.table } else { name.as_str() };
        let names: Vec<&str> = match name.schema {
            "" => known.models.keys().copied().collect(),
            _ => known.models.values().map(TableName::as_str).collect(),
        };
        let diagnostic = Diagnostic::error(Id::UnknownRef, format!("model `{written}` does not exist"));
        return Err(Some(diagnostic.suggest(written, names)));
    };
    let model = models.get(full).ok_or(None)?;
    if model.config.materialized == Materialization::Ephemeral {
        let message = format!("`{full}` is ephemeral: it has no rows of its own to export");
        let diagnostic = Diagnostic::error(Id::InvalidValue, message);
        return Err(Some(diagnostic.help("make it a view or a table")));
    }
    Ok(model)
}
