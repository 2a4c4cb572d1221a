//! Sources: declared sets of bronze files.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::bad_rows::{self, OnBadRow};
use super::data_tests::DataTest;
use super::formats::{FORMATS, Format};
use super::ingestion::{self, Ingestion, OnNewColumn};
use super::path_columns::{self, PathColumns};
use super::source_options::{self, MetadataColumn, SourceOptions};
use super::test_lists;
use super::yaml::{Mapping, Node, Raw, Reader};
use super::{Column, contracts};
use crate::diagnostics::{Diagnostic, Id, Span};
use crate::names::TableName;
use crate::stores::StorageOptions;
use crate::template::Templates;

/// A declared set of bronze files.
#[derive(Debug, Clone)]
pub struct Source {
    /// `source.table`.
    pub name: TableName,
    /// Where it is declared.
    pub span: Span,
    /// Markdown.
    pub description: String,
    /// Folder, file or glob; relative to the project folder unless absolute or a URL. A list is one glob of alternatives.
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
    /// `event_time`: the column that tells when a row happened, and where that is said.
    pub event_time: Option<(String, Span)>,
    /// Tags, for selection.
    pub tags: Vec<String>,
    /// How the store of its files is reached: the target says it.
    pub storage: Arc<StorageOptions>,
}

impl Source {
    /// The same source without what is known of its files: what stands in them alone, and all of it fits.
    #[must_use]
    pub fn strictly(&self) -> Self {
        let mut source = self.clone();
        source.options.path_columns = PathColumns::default();
        source.options.metadata_columns.clear();
        source.options.rescues_new_columns = false;
        source.options.on_bad_row = OnBadRow::Fail;
        source
    }
}

/// Reads a `sources:` list into sources and their tests.
pub(super) fn read(list: &Node, templates: &Templates, reader: &mut Reader<'_>) -> (Vec<Source>, Vec<Arc<DataTest>>) {
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
                source_options::misplaced(&mut table, reader);
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
    tests: &mut Vec<Arc<DataTest>>,
    reader: &mut Reader<'_>,
) -> Option<Source> {
    let name_node = table.require("name", reader);
    let path_node = table.require("path", reader);
    let format = table.require("format", reader).and_then(|node| reader.choice(node, "format", FORMATS));
    let description = table.take("description").and_then(|node| reader.text(node)).unwrap_or_default();
    let new_column = table.entries.iter().find(|(key, _)| key.plain_text() == "on_new_column");
    let new_column = new_column.map(|(_, value)| value.span.clone());
    let ingestion = ingestion::read(table, defaults, reader);
    let on_bad_row = bad_rows::read(table, (&ingestion, format), reader);
    let tags = table.take("tags").map(|node| reader.texts(node)).unwrap_or_default();
    let event_time = event_time(table, reader);
    let options = table.take("options");
    let metadata = table.take("metadata_columns");
    let path_columns = path_columns::read(table, reader);
    let columns_node = table.take("columns");
    let tests_node = table.take_any(&["data_tests", "tests"]);
    let (name_node, path_node) = (name_node?, path_node?);
    let name = TableName::new(schema, reader.identifier(name_node)?);
    let time_travel = format.and_then(|format| source_options::time_travel(table, format, reader));
    let (path, declared_path) = path_of(path_node, root, format, templates, reader)?;
    let format = format?;
    let mut options = source_options::read(options, format, reader);
    options.path_columns = path_columns;
    options.time_travel = time_travel;
    options.on_bad_row = on_bad_row;
    options.metadata_columns =
        metadata.map(|node| source_options::metadata_columns(node, format, reader)).unwrap_or_default();
    let mut columns = Vec::new();
    if let Some(node) = columns_node {
        columns = read_columns_with(node, &name, tests, templates, reader, |name, mapping, reader| {
            if let Some(found) = source_options::column_format(mapping, reader) {
                options.columns.insert(name.to_owned(), found);
            }
        });
    }
    options.sensitive = sensitive(&columns);
    check_names(&columns, &options, reader);
    check_delta(format, &options, &ingestion, path_node, reader);
    if let Some(span) = new_column {
        check_new_column(ingestion.on_new_column, (format, options.header), &columns, &span, reader);
    }
    if ingestion.on_new_column == OnNewColumn::Rescue {
        options.rescues_new_columns = true;
        if !options.metadata_columns.contains(&MetadataColumn::RescuedData) {
            options.metadata_columns.push(MetadataColumn::RescuedData);
        }
    }
    if let Some(node) = tests_node {
        tests.extend(test_lists::read_list(node, &name, None, templates, reader));
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
        path,
        declared_path,
        path_span: path_node.span.clone(),
        format,
        options,
        columns,
        ingestion,
        event_time,
        tags,
        storage: Arc::default(),
        name,
    })
}

/// The columns whose values are for nobody.
pub(super) fn sensitive(columns: &[Column]) -> BTreeSet<String> {
    columns.iter().filter(|column| column.is_sensitive()).map(|column| column.name.clone()).collect()
}

pub(super) fn rendered(node: &Node, templates: &Templates, reader: &mut Reader<'_>) -> Option<String> {
    let text = reader.text(node)?;
    match templates.render_value(&text) {
        Ok(text) => Some(text),
        Err(why) => {
            reader.diagnostics.push(Diagnostic::error(Id::Template, why).at(node.span.clone()));
            None
        }
    }
}

/// `path:`, rendered and as it was written, below `root`.
fn path_of(
    node: &Node,
    root: Option<(&str, &str)>,
    format: Option<Format>,
    templates: &Templates,
    reader: &mut Reader<'_>,
) -> Option<(String, String)> {
    let list = match &node.value {
        Raw::List(items) if !items.is_empty() => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let (mut paths, mut declared) = (Vec::new(), Vec::new());
    for node in list {
        let path = rendered(node, templates, reader)?;
        paths.push(join(root.map(|(rendered, _)| rendered), &path));
        declared.push(join(root.map(|(_, written)| written), &node.plain_text()));
    }
    match paths.len() {
        1 => Some((paths.remove(0), declared.remove(0))),
        _ => Some((
            alternatives(
                &paths.iter().map(|path| without_dots(path)).collect::<Vec<_>>(),
                format.unwrap_or(Format::Auto),
            ),
            declared.join(" "),
        )),
    }
}

/// A path without `.` and `..`: a pattern has no parents.
fn without_dots(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." if parts.last().is_some_and(|last| !matches!(*last, "" | "..")) => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// Paths as one glob: what all have in front, then `{a,b}`. A folder stands for the files of the format in it.
fn alternatives(paths: &[String], format: Format) -> String {
    let folders = |path: &str| path.rfind('/').map_or(0, |at| at + 1);
    let plain = |path: &str| folders(&path[..path.find(['*', '?', '[', '{']).unwrap_or(path.len())]);
    let mut common = plain(&paths[0]);
    for path in paths {
        let same = paths[0].chars().zip(path.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
        common = folders(&paths[0][..common.min(same).min(plain(path))]);
    }
    let endings = format.extensions().join(",");
    let parts: Vec<String> = paths
        .iter()
        .map(|path| {
            let rest = &path[common..];
            let last = rest.rsplit('/').next().unwrap_or_default();
            if last.contains(['*', '?', '[', '{', '.']) {
                return rest.to_owned();
            }
            let folder = if rest.is_empty() { String::new() } else { format!("{}/", rest.trim_end_matches('/')) };
            format!("{folder}**/*.{{{endings}}},{folder}**/*.{{{endings}}}.{{gz,bz2,xz,zst}}")
        })
        .collect();
    format!("{}{{{}}}", &paths[0][..common], parts.join(","))
}

/// A name is that of one column: of the file, of its path, or of what is known of it.
fn check_names(columns: &[Column], options: &SourceOptions, reader: &mut Reader<'_>) {
    let known = |name: &str| {
        let of_path = options.path_columns.columns.iter().any(|column| column.name == name);
        let metadata = options.metadata_columns.iter().any(|column| column.name() == name);
        [("the paths of files", of_path), ("`metadata_columns`", metadata)].into_iter().find(|(_, is)| *is)
    };
    for column in columns {
        if let Some((whose, _)) = known(&column.name) {
            let message = format!("column `{}` is one of {whose} already", column.name);
            let diagnostic = Diagnostic::error(Id::DuplicateName, message).at(column.span.clone());
            reader.diagnostics.push(diagnostic.help("leave it out of `columns`, or give one of the two another name"));
        }
    }
}

/// A column is new beside declared ones, and has a name.
fn check_new_column(
    rule: OnNewColumn,
    (format, header): (Format, bool),
    columns: &[Column],
    span: &Span,
    reader: &mut Reader<'_>,
) {
    let (message, help) = match rule {
        OnNewColumn::Ignore => return,
        OnNewColumn::Rescue if !format.is_text() => (
            "columns are rescued from CSV, TSV and JSON only",
            "say `add`, which reads new columns in their own types, or `fail`",
        ),
        _ if format.is_delimited() && !header => (
            "files without a header do not name their columns: none of them can be told to be new",
            "leave `on_new_column` out: a row with more fields than `columns` is an error of its file",
        ),
        OnNewColumn::Fail | OnNewColumn::Rescue if columns.is_empty() => {
            ("no column is new where none is declared", "declare the `columns` that files may have, or say `add`")
        }
        _ => return,
    };
    reader.diagnostics.push(Diagnostic::error(Id::InvalidValue, message).at(span.clone()).help(help));
}

/// What files of a folder have, and a table has not.
fn check_delta(format: Format, options: &SourceOptions, ingestion: &Ingestion, path: &Node, reader: &mut Reader<'_>) {
    if format != Format::Delta {
        return;
    }
    if !options.path_columns.columns.is_empty() || !options.metadata_columns.is_empty() {
        reader.invalid(
            &path.span,
            "a Delta table has columns of its own: no `partition_columns`, `path_pattern` or `metadata_columns`",
        );
    }
    if ingestion.is_about_files() {
        reader.invalid(
            &path.span,
            "a Delta table is read whole: no settings for files that change, are removed, wait or are archived",
        );
    }
    if options.on_bad_row != OnBadRow::Fail {
        reader.invalid(&path.span, "the rows of a Delta table fit their columns: no `on_bad_row`");
    }
    if matches!(path.value, Raw::List(_)) {
        reader.invalid(&path.span, "a Delta source is one table: its `path` is one folder");
    }
}

/// `event_time`, which dbt has below `config`.
fn event_time(table: &mut Mapping<'_>, reader: &mut Reader<'_>) -> Option<(String, Span)> {
    let mut node = table.take("event_time");
    if let Some(mut config) = table.take("config").and_then(|node| reader.mapping(node, "`config` block")) {
        node = config.take("event_time").or(node);
        config.finish(reader);
    }
    let node = node?;
    Some((reader.text(node)?, node.span.clone()))
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

/// Columns of models, with their tests.
pub(super) fn read_columns(
    node: &Node,
    table: &TableName,
    tests: &mut Vec<Arc<DataTest>>,
    templates: &Templates,
    reader: &mut Reader<'_>,
) -> Vec<Column> {
    read_columns_with(node, table, tests, templates, reader, |_, _, _| {})
}

/// Columns with their tests, and with what only some columns can have.
fn read_columns_with(
    node: &Node,
    table: &TableName,
    tests: &mut Vec<Arc<DataTest>>,
    templates: &Templates,
    reader: &mut Reader<'_>,
    mut more: impl FnMut(&str, &mut Mapping<'_>, &mut Reader<'_>),
) -> Vec<Column> {
    let mut columns: Vec<Column> = Vec::new();
    for node in reader.list(node) {
        let Some(mut mapping) = reader.mapping(node, "column") else { continue };
        let name = mapping.require("name", reader).and_then(|node| Some((reader.text(node)?, node.span.clone())));
        let data_type = mapping.take("data_type").and_then(|node| Some((reader.text(node)?, node.span.clone())));
        let description = mapping.take("description").and_then(|node| reader.text(node)).unwrap_or_default();
        let list = mapping.take_any(&["data_tests", "tests"]);
        let mut meta = mapping.take("meta").map(Node::to_json).unwrap_or_default();
        if let Some(mut config) = mapping.take("config").and_then(|node| reader.mapping(node, "`config` block")) {
            meta = config.take("meta").map(Node::to_json).unwrap_or(meta);
            config.finish(reader);
        }
        let constraints = mapping.take("constraints").map(|node| contracts::read(node, reader)).unwrap_or_default();
        if let Some((name, _)) = &name {
            more(name, &mut mapping, reader);
        }
        mapping.finish(reader);
        let Some((name, span)) = name else { continue };
        if let Some(list) = list {
            tests.extend(test_lists::read_list(list, table, Some(&name), templates, reader));
        }
        if let Some(first) = columns.iter().find(|column| column.name == name) {
            let diagnostic = Diagnostic::error(Id::DuplicateName, format!("column `{name}` stands twice")).at(span);
            reader.diagnostics.push(diagnostic.related(first.span.clone(), "first here"));
            continue;
        }
        columns.push(Column { name, span, data_type, description, constraints, meta });
    }
    columns
}
