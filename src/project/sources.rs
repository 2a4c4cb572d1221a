//! Sources: declared sets of bronze files.

use super::data_tests::{self, DataTest};
use super::ingestion::{self, Ingestion};
use super::yaml::{Mapping, Node, Reader};
use super::{Column, contracts};
use crate::diagnostics::{Diagnostic, Id, Span};
use crate::names::TableName;
use crate::template::Templates;

/// A declared set of bronze files.
#[derive(Debug)]
pub struct Source {
    /// `source.table`.
    pub name: TableName,
    /// Where it is declared.
    pub span: Span,
    /// Markdown.
    pub description: String,
    /// Folder, file or glob; relative to the project folder unless absolute or a URL.
    pub path: String,
    /// The path before Jinja: the same in every target.
    pub declared_path: String,
    /// Where the path is declared.
    pub path_span: Span,
    /// How files are read.
    pub format: Format,
    /// Details of the format.
    pub options: SourceOptions,
    /// Declared columns; those of the files, with inferred types, if none are.
    pub columns: Vec<Column>,
    /// How its files are taken in.
    pub ingestion: Ingestion,
    /// Tags, for selection.
    pub tags: Vec<String>,
}

/// How a file's bytes become rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Comma-separated values.
    Csv,
    /// Tab-separated values.
    Tsv,
    /// One JSON array of objects.
    Json,
    /// A JSON object a line.
    Ndjson,
    /// Apache Parquet.
    Parquet,
}

impl Format {
    /// Whether columns come from the text of a header line.
    pub fn is_delimited(self) -> bool {
        matches!(self, Self::Csv | Self::Tsv)
    }

    /// File endings that a folder of this format is searched for.
    pub fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Csv => &["csv"],
            Self::Tsv => &["tsv", "tab"],
            Self::Json => &["json"],
            Self::Ndjson => &["ndjson", "jsonl", "json"],
            Self::Parquet => &["parquet"],
        }
    }
}

/// Details of a format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceOptions {
    /// The first line names the columns.
    pub header: bool,
    /// Between fields.
    pub delimiter: u8,
    /// Around fields; `None` if a quote is a letter like any other.
    pub quote: Option<u8>,
    /// Before a quote inside a quoted field, if quotes are not doubled.
    pub escape: Option<u8>,
    /// Starts a line to pass over.
    pub comment: Option<u8>,
}

const FORMATS: &[(&str, Format)] = &[
    ("csv", Format::Csv),
    ("tsv", Format::Tsv),
    ("json", Format::Json),
    ("ndjson", Format::Ndjson),
    ("parquet", Format::Parquet),
];

/// Reads a `sources:` list into sources and their tests.
pub(super) fn read(list: &Node, templates: &Templates, reader: &mut Reader<'_>) -> (Vec<Source>, Vec<DataTest>) {
    let (mut sources, mut tests) = (Vec::new(), Vec::new());
    for node in reader.list(list) {
        let Some(mut mapping) = reader.mapping(node, "source") else { continue };
        let name = mapping.require("name", reader).and_then(|node| reader.identifier(node));
        let root = mapping.take("root");
        let root = root.and_then(|node| Some((rendered(node, templates, reader)?, node.plain_text())));
        let root = root.as_ref().map(|(rendered, written)| (rendered.as_str(), written.as_str()));
        let tags = mapping.take("tags").map(|node| reader.texts(node)).unwrap_or_default();
        mapping.take("description");
        let defaults = ingestion::defaults(&mut mapping, reader);
        let tables = mapping.require("tables", reader);
        mapping.finish(reader);
        let (Some(schema), Some(tables)) = (name, tables) else { continue };
        for node in reader.list(tables) {
            if let Some(mut table) = reader.mapping(node, "source table")
                && let Some(mut source) =
                    read_table(&schema, (root, &defaults), &mut table, templates, &mut tests, reader)
            {
                source.tags.extend(tags.iter().cloned());
                table.finish(reader);
                sources.push(source);
            }
        }
    }
    (sources, tests)
}

fn read_table(
    schema: &str,
    (root, defaults): (Option<(&str, &str)>, &ingestion::Defaults),
    table: &mut Mapping<'_>,
    templates: &Templates,
    tests: &mut Vec<DataTest>,
    reader: &mut Reader<'_>,
) -> Option<Source> {
    let name_node = table.require("name", reader);
    let path_node = table.require("path", reader);
    let format = table.require("format", reader).and_then(|node| reader.choice(node, "format", FORMATS));
    let description = table.take("description").and_then(|node| reader.text(node)).unwrap_or_default();
    let ingestion = ingestion::read(table, defaults, reader);
    let tags = table.take("tags").map(|node| reader.texts(node)).unwrap_or_default();
    let options = table.take("options");
    let columns_node = table.take("columns");
    let tests_node = table.take_any(&["data_tests", "tests"]);
    let (name_node, path_node) = (name_node?, path_node?);
    let name = TableName::new(schema, reader.identifier(name_node)?);
    let path = rendered(path_node, templates, reader)?;
    let format = format?;
    let options = read_options(options, format, reader);
    let mut columns = Vec::new();
    if let Some(node) = columns_node {
        columns = read_columns(node, &name, tests, templates, reader);
    }
    if let Some(node) = tests_node {
        tests.extend(data_tests::read_list(node, &name, None, templates, reader));
    }
    if format.is_delimited() && !options.header && columns.is_empty() {
        let diagnostic = Diagnostic::error(Id::MissingKey, format!("source `{name}` has no header and no `columns`"))
            .at(name_node.span.clone())
            .help("declare its columns in the order of the file");
        reader.diagnostics.push(diagnostic);
    }
    Some(Source {
        span: name_node.span.clone(),
        description,
        path: join(root.map(|(rendered, _)| rendered), &path),
        declared_path: join(root.map(|(_, written)| written), &reader.text(path_node).unwrap_or_default()),
        path_span: path_node.span.clone(),
        format,
        options,
        columns,
        ingestion,
        tags,
        name,
    })
}

fn rendered(node: &Node, templates: &Templates, reader: &mut Reader<'_>) -> Option<String> {
    let text = reader.text(node)?;
    match templates.render_value(&text) {
        Ok(text) => Some(text),
        Err(why) => {
            reader.diagnostics.push(Diagnostic::error(Id::Template, why).at(node.span.clone()));
            None
        }
    }
}

/// `path` below `root`, unless it is absolute or a URL.
fn join(root: Option<&str>, path: &str) -> String {
    match root {
        Some(root) if !path.starts_with('/') && !path.contains("://") => {
            format!("{}/{path}", root.trim_end_matches('/'))
        }
        _ => path.to_owned(),
    }
}

/// Columns with their tests; also those of models.
pub(super) fn read_columns(
    node: &Node,
    table: &TableName,
    tests: &mut Vec<DataTest>,
    templates: &Templates,
    reader: &mut Reader<'_>,
) -> Vec<Column> {
    let mut columns: Vec<Column> = Vec::new();
    for node in reader.list(node) {
        let Some(mut mapping) = reader.mapping(node, "column") else { continue };
        let name = mapping.require("name", reader).and_then(|node| Some((reader.text(node)?, node.span.clone())));
        let data_type = mapping.take("data_type").and_then(|node| Some((reader.text(node)?, node.span.clone())));
        let description = mapping.take("description").and_then(|node| reader.text(node)).unwrap_or_default();
        let list = mapping.take_any(&["data_tests", "tests"]);
        let constraints = mapping.take("constraints").map(|node| contracts::read(node, reader)).unwrap_or_default();
        mapping.finish(reader);
        let Some((name, span)) = name else { continue };
        if let Some(list) = list {
            tests.extend(data_tests::read_list(list, table, Some(&name), templates, reader));
        }
        if let Some(first) = columns.iter().find(|column| column.name == name) {
            let diagnostic = Diagnostic::error(Id::DuplicateName, format!("column `{name}` stands twice")).at(span);
            reader.diagnostics.push(diagnostic.related(first.span.clone(), "first here"));
            continue;
        }
        columns.push(Column { name, span, data_type, description, constraints });
    }
    columns
}

fn read_options(node: Option<&Node>, format: Format, reader: &mut Reader<'_>) -> SourceOptions {
    let mut options = SourceOptions {
        header: true,
        delimiter: if format == Format::Tsv { b'\t' } else { b',' },
        quote: Some(b'"'),
        escape: None,
        comment: None,
    };
    let Some(mut mapping) = node.and_then(|node| reader.mapping(node, "group of source options")) else {
        return options;
    };
    if format.is_delimited() {
        if let Some(header) = mapping.take("header").and_then(|node| reader.boolean(node)) {
            options.header = header;
        }
        if let Some(delimiter) = mapping.take("delimiter").and_then(|node| one_byte(node, reader)) {
            options.delimiter = delimiter;
        }
        if let Some(node) = mapping.take("quote") {
            let off = node.to_json() == serde_json::Value::Bool(false) || node.plain_text().is_empty();
            options.quote = if off { None } else { one_byte(node, reader) };
        }
        options.escape = mapping.take("escape").and_then(|node| one_byte(node, reader));
        options.comment = mapping.take("comment").and_then(|node| one_byte(node, reader));
    }
    mapping.finish(reader);
    options
}

fn one_byte(node: &Node, reader: &mut Reader<'_>) -> Option<u8> {
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
