//! `unit_tests:` as it stands in YAML: names are not looked up yet.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{At, Cell, CellValue, RowTable, Rows, Tolerance, UnitConfig, csv};
use crate::diagnostics::{Diagnostic, Id, Span};
use crate::intervals;
use crate::project::yaml::{Mapping, Node, Raw, Reader};
use crate::template::Overrides;

/// A unit test as it was written.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::project) struct Declaration {
    pub(super) name: String,
    pub(super) span: Span,
    pub(super) description: String,
    pub(super) config: UnitConfig,
    pub(super) tolerance: Tolerance,
    pub(super) overrides: Overrides,
    /// What the override of `is_incremental` says.
    pub(super) incremental: bool,
    /// Macros that are overridden, with where.
    pub(super) overridden: Vec<(String, Span)>,
    pub(super) subject: DeclaredSubject,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum DeclaredSubject {
    Model { model: String, span: Span, runs: Vec<DeclaredRun>, of_table: bool, expect: DeclaredRows },
    Macro { name: String, span: Span, cases: Vec<DeclaredCase> },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DeclaredRun {
    pub(super) given: Vec<DeclaredGiven>,
    pub(super) now: Option<DateTime<Utc>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DeclaredGiven {
    pub(super) input: Input,
    pub(super) span: Span,
    pub(super) rows: DeclaredRows,
}

/// What `input:` names.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Input {
    Ref(String),
    Source(String, String),
    This,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum DeclaredRows {
    Here(Rows),
    /// A file of `tests/fixtures/`, by its name without ending.
    Fixture {
        name: String,
        span: Span,
        format: Option<RowFormat>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::project) enum RowFormat {
    Dict,
    Csv,
    Sql,
}

/// A call of a macro.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DeclaredCase {
    pub(super) span: Span,
    /// For people.
    pub(super) arguments: String,
    /// As a template writes them.
    pub(super) template: String,
    pub(super) expect: Cell,
}

pub(in crate::project) const FORMATS: &[(&str, RowFormat)] =
    &[("dict", RowFormat::Dict), ("csv", RowFormat::Csv), ("sql", RowFormat::Sql)];

/// Reads a `unit_tests:` list.
pub(in crate::project) fn read(list: &Node, reader: &mut Reader<'_>) -> Vec<Declaration> {
    reader.list(list).iter().filter_map(|node| read_one(node, reader)).collect()
}

fn read_one(node: &Node, reader: &mut Reader<'_>) -> Option<Declaration> {
    let mut mapping = reader.mapping(node, "unit test")?;
    let name = mapping.require("name", reader).and_then(|node| Some((reader.identifier(node)?, node.span.clone())));
    let description = mapping.take("description").and_then(|node| reader.text(node)).unwrap_or_default();
    let config = read_config(&mut mapping, reader);
    let tolerance = mapping.take("tolerance").map(|node| read_tolerance(node, reader)).unwrap_or_default();
    let (mut overrides, mut incremental, mut overridden) = (Overrides::default(), None, Vec::new());
    if let Some(block) = mapping.take("overrides").and_then(|node| reader.mapping(node, "`overrides` block")) {
        read_overrides(block, &mut overrides, &mut incremental, &mut overridden, reader);
    }
    let subject = match (mapping.take("model"), mapping.take("macro")) {
        (Some(model), None) => read_model(model, &mut mapping, reader),
        (None, Some(name)) => read_macro(name, &mut mapping, reader),
        (both, _) => {
            let message = match both {
                Some(_) => "a unit test is of a model or of a macro, and this one names both",
                None => "this unit test names neither a `model` nor a `macro`",
            };
            let first = Span::new(&node.span.file, node.span.start, node.span.start + 1);
            let diagnostic = Diagnostic::error(Id::InvalidUnitTest, message).at(first);
            reader.diagnostics.push(diagnostic.help("write `model: my_model`, or `macro: my_macro`"));
            return None;
        }
    };
    mapping.finish(reader);
    let (name, span) = name?;
    let subject = subject?;
    if let (DeclaredSubject::Model { of_table: true, .. }, Some((_, span))) = (&subject, &incremental) {
        let message = "`is_incremental` means nothing here: whether a run is incremental follows from the table";
        reader.diagnostics.push(Diagnostic::error(Id::InvalidUnitTest, message).at(span.clone()).help("leave it out"));
    }
    let incremental = incremental.is_some_and(|(value, _)| value);
    Some(Declaration { name, span, description, config, tolerance, overrides, incremental, overridden, subject })
}

fn read_config(mapping: &mut Mapping<'_>, reader: &mut Reader<'_>) -> UnitConfig {
    let mut config = UnitConfig { tags: Vec::new(), meta: serde_json::Value::Null, enabled: true };
    if let Some(mut block) = mapping.take("config").and_then(|node| reader.mapping(node, "`config` block")) {
        config.tags = block.take("tags").map(|node| reader.texts(node)).unwrap_or_default();
        config.meta = block.take("meta").map(Node::to_json).unwrap_or_default();
        config.enabled = block.take("enabled").and_then(|node| reader.boolean(node)).unwrap_or(true);
        block.finish(reader);
    }
    config.tags.extend(mapping.take("tags").map(|node| reader.texts(node)).unwrap_or_default());
    config
}

/// One number, or one for each of some columns.
fn read_tolerance(node: &Node, reader: &mut Reader<'_>) -> Tolerance {
    let mut tolerance = Tolerance::default();
    let mut number = |node: &Node| {
        let found = node.to_json().as_f64().filter(|number| *number >= 0.0);
        if found.is_none() {
            reader.wrong(node, "a number that is not negative, such as 0.001");
        }
        found
    };
    match &node.value {
        Raw::Map(entries) => {
            let columns = entries.iter().filter_map(|(key, value)| Some((key.plain_text(), number(value)?)));
            tolerance.columns = columns.collect();
        }
        _ => tolerance.all = number(node),
    }
    tolerance
}

fn read_overrides(
    mut block: Mapping<'_>,
    overrides: &mut Overrides,
    incremental: &mut Option<(bool, Span)>,
    overridden: &mut Vec<(String, Span)>,
    reader: &mut Reader<'_>,
) {
    overrides.now = block.take("now").and_then(|node| read_moment(node, reader));
    for (key, value) in entries(block.take("vars"), "`vars` block", reader) {
        overrides.vars.insert(key.plain_text(), value.to_json());
    }
    for (key, value) in entries(block.take("env_vars"), "`env_vars` block", reader) {
        overrides.env_vars.extend(reader.text(value).map(|text| (key.plain_text(), text)));
    }
    for (key, value) in entries(block.take("macros"), "`macros` block", reader) {
        match key.plain_text().as_str() {
            "is_incremental" => {
                *incremental = reader.boolean(value).map(|is| (is, key.span.clone())).or(incremental.take());
            }
            "invocation_id" => overrides.invocation_id = reader.text(value),
            "run_started_at" => overrides.now = read_moment(value, reader),
            name => {
                overrides.macros.insert(name.to_owned(), value.to_json());
                overridden.push((name.to_owned(), key.span.clone()));
            }
        }
    }
    block.finish(reader);
}

fn entries<'n>(node: Option<&'n Node>, what: &'static str, reader: &mut Reader<'_>) -> Vec<&'n (Node, Node)> {
    node.and_then(|node| reader.mapping(node, what)).map(|mut block| block.rest()).unwrap_or_default()
}

fn read_moment(node: &Node, reader: &mut Reader<'_>) -> Option<DateTime<Utc>> {
    let text = reader.text(node)?;
    let moment = intervals::moment(&text);
    if moment.is_none() {
        reader.invalid(&node.span, format!("`{text}` is no moment such as 2024-01-31T10:00:00Z or 2024-01-31"));
    }
    moment
}

fn read_model(node: &Node, mapping: &mut Mapping<'_>, reader: &mut Reader<'_>) -> Option<DeclaredSubject> {
    let model = reader.text(node);
    let given = mapping.take("given");
    let runs = mapping.take("runs");
    let expect = mapping.require("expect", reader);
    let expect = expect.and_then(|node| {
        let mut block = reader.mapping(node, "`expect` block")?;
        let rows = read_rows(&mut block, "`expect`", reader);
        block.finish(reader);
        rows
    });
    let of_table = runs.is_some();
    let runs = match (given, runs) {
        (Some(_), Some(runs)) => {
            let message = "a unit test has `given` or `runs`, and this one has both";
            let diagnostic = Diagnostic::error(Id::InvalidUnitTest, message).at(runs.span.clone());
            reader.diagnostics.push(diagnostic.help("each of the `runs` has its own `given`"));
            return None;
        }
        (given, None) => {
            let given = given.map(|node| read_given(node, reader)).unwrap_or_default();
            vec![DeclaredRun { given, now: None }]
        }
        (None, Some(runs)) => reader.list(runs).iter().filter_map(|node| read_run(node, reader)).collect(),
    };
    Some(DeclaredSubject::Model { model: model?, span: node.span.clone(), runs, of_table, expect: expect? })
}

fn read_run(node: &Node, reader: &mut Reader<'_>) -> Option<DeclaredRun> {
    let mut mapping = reader.mapping(node, "run")?;
    let given = mapping.take("given").map(|node| read_given(node, reader)).unwrap_or_default();
    let now = mapping.take("now").and_then(|node| read_moment(node, reader));
    mapping.finish(reader);
    Some(DeclaredRun { given, now })
}

fn read_given(list: &Node, reader: &mut Reader<'_>) -> Vec<DeclaredGiven> {
    let mut all = Vec::new();
    for node in reader.list(list) {
        let Some(mut mapping) = reader.mapping(node, "given input") else { continue };
        let input = mapping.require("input", reader);
        let rows = read_rows(&mut mapping, "this given input", reader);
        mapping.finish(reader);
        let input = input.and_then(|node| Some((read_input(node, reader)?, node.span.clone())));
        if let (Some((input, span)), Some(rows)) = (input, rows) {
            all.push(DeclaredGiven { input, span, rows });
        }
    }
    all
}

/// `ref('x')`, `source('a', 'b')`, `this`.
fn read_input(node: &Node, reader: &mut Reader<'_>) -> Option<Input> {
    let text = reader.text(node)?;
    let inner = text.trim().trim_start_matches("{{").trim_end_matches("}}").trim();
    let (function, rest) = inner.split_once('(').unwrap_or((inner, ""));
    let arguments: Vec<&str> =
        rest.trim_end_matches(')').split(',').map(|part| part.trim().trim_matches(['\'', '"'])).collect();
    match (function.trim(), arguments.as_slice()) {
        ("this", [""]) => Some(Input::This),
        ("ref", [model] | [_, model]) if !model.is_empty() => Some(Input::Ref((*model).to_owned())),
        ("source", [source, table]) => Some(Input::Source((*source).to_owned(), (*table).to_owned())),
        _ => {
            reader.wrong(node, "ref('model'), source('source', 'table') or this");
            None
        }
    }
}

/// `rows` or `fixture`, in a `format`.
fn read_rows(mapping: &mut Mapping<'_>, what: &str, reader: &mut Reader<'_>) -> Option<DeclaredRows> {
    let format = mapping.take("format").and_then(|node| reader.choice(node, "format of rows", FORMATS));
    match (mapping.take("rows"), mapping.take("fixture")) {
        (Some(_), Some(fixture)) => {
            let message = format!("{what} has both `rows` and a `fixture`");
            let diagnostic = Diagnostic::error(Id::InvalidUnitTest, message).at(fixture.span.clone());
            reader.diagnostics.push(diagnostic.help("keep one of them"));
            None
        }
        (None, Some(fixture)) => {
            let name = reader.text(fixture)?;
            if format == Some(RowFormat::Dict) {
                let message = "a fixture is a file of CSV or SQL, and `format` says `dict`";
                let diagnostic = Diagnostic::error(Id::InvalidUnitTest, message).at(fixture.span.clone());
                reader.diagnostics.push(diagnostic.help("say `format: csv` or `format: sql`"));
                return None;
            }
            Some(DeclaredRows::Fixture { name, span: fixture.span.clone(), format })
        }
        (Some(rows), None) => read_inline(rows, format, reader).map(DeclaredRows::Here),
        (None, None) => {
            let first = Span::new(&mapping.span.file, mapping.span.start, mapping.span.start + 1);
            let diagnostic = Diagnostic::error(Id::MissingKey, format!("{what} has neither `rows` nor a `fixture`"));
            reader.diagnostics.push(diagnostic.at(first).help("write `rows: []` for a table without rows"));
            None
        }
    }
}

fn read_inline(node: &Node, format: Option<RowFormat>, reader: &mut Reader<'_>) -> Option<Rows> {
    let is_text = matches!(node.value, Raw::Scalar(serde_json::Value::String(_)));
    match format {
        None | Some(RowFormat::Dict) if is_text => {
            let message = "these rows are a text, and a text needs a format";
            let diagnostic = Diagnostic::error(Id::InvalidUnitTest, message).at(node.span.clone());
            reader.diagnostics.push(diagnostic.help("say `format: csv` or `format: sql` beside `rows`"));
            None
        }
        None | Some(RowFormat::Dict) => Some(Rows::Table(dict_table(node, reader))),
        Some(_) if !is_text => {
            reader.wrong(node, "a text, as `format` says");
            None
        }
        Some(RowFormat::Sql) => Some(Rows::Query { sql: node.plain_text(), span: node.span.clone() }),
        Some(RowFormat::Csv) => {
            let (text, file) = (node.plain_text(), &node.span.file);
            let mut problems = Vec::new();
            let table = csv::table(&text, file, place_of_csv(node, &text), &mut problems);
            reader.diagnostics.extend(problems);
            Some(Rows::Table(table))
        }
    }
}

/// Where the lines of a block stand; in quotes all of them are in one place.
fn place_of_csv(node: &Node, text: &str) -> csv::Place {
    let from = node.span.file.text().get(node.span.start..).unwrap_or_default();
    if from.starts_with(['"', '\'']) {
        return csv::Place::Whole(at(node));
    }
    let first = text.lines().next().unwrap_or_default().trim();
    let start = node.span.start + from.find(first).unwrap_or_default();
    csv::Place::Lines(node.span.file.text()[..start].rfind('\n').map_or(start, |line| line + 1))
}

fn dict_table(list: &Node, reader: &mut Reader<'_>) -> RowTable {
    let mut table = RowTable { file: Arc::clone(&list.span.file), columns: Vec::new(), rows: Vec::new() };
    for node in reader.list(list) {
        let Some(mut mapping) = reader.mapping(node, "row") else { continue };
        let mut row = Vec::new();
        for (key, value) in mapping.rest() {
            let name = key.plain_text();
            let known = table.columns.iter().position(|(known, _)| *known == name);
            let column = known.unwrap_or_else(|| {
                table.columns.push((name, at(key)));
                table.columns.len() - 1
            });
            row.push((column, cell(value)));
        }
        table.rows.push(row);
    }
    table
}

fn at(node: &Node) -> At {
    (node.span.start, node.span.end)
}

/// A value as it was written: `1.10` keeps its zero until a column says what it is.
fn cell(node: &Node) -> Cell {
    let value = match &node.value {
        Raw::Null => CellValue::Null,
        Raw::Scalar(serde_json::Value::String(text)) => CellValue::Text(text.clone()),
        Raw::Scalar(_) => CellValue::Text(node.written()),
        Raw::List(_) | Raw::Map(_) => CellValue::Nested(node.to_json()),
    };
    Cell { value, at: at(node) }
}

fn read_macro(node: &Node, mapping: &mut Mapping<'_>, reader: &mut Reader<'_>) -> Option<DeclaredSubject> {
    let name = reader.text(node);
    for key in ["given", "runs", "expect"] {
        if let Some(span) = mapping.take_known(key) {
            let message = format!("`{key}` is of a test of a model: a macro has `cases`");
            let diagnostic = Diagnostic::error(Id::InvalidUnitTest, message).at(span.clone());
            reader.diagnostics.push(diagnostic.help("write `cases: [{ args: [...], expect: ... }]`"));
        }
    }
    let cases = mapping.require("cases", reader)?;
    let cases = reader.list(cases).iter().filter_map(|node| read_case(node, reader)).collect();
    Some(DeclaredSubject::Macro { name: name?, span: node.span.clone(), cases })
}

fn read_case(node: &Node, reader: &mut Reader<'_>) -> Option<DeclaredCase> {
    let mut mapping = reader.mapping(node, "case")?;
    let arguments = mapping.take("args");
    // NULL is a value that can be expected.
    let expect = mapping.entries.iter().find(|(key, _)| key.plain_text() == "expect").map(|(_, value)| value);
    if mapping.take("expect").is_none() && expect.is_none() {
        mapping.require("expect", reader);
    }
    mapping.finish(reader);
    let (mut template, mut shown) = (Vec::new(), Vec::new());
    match arguments.map(|node| &node.value) {
        None => {}
        Some(Raw::List(items)) => {
            for item in items {
                template.push(argument(item));
                shown.push(shown_argument(item));
            }
        }
        Some(Raw::Map(entries)) => {
            for (key, value) in entries {
                template.push(format!("{}={}", key.plain_text(), argument(value)));
                shown.push(format!("{}={}", key.plain_text(), shown_argument(value)));
            }
        }
        Some(_) => {
            reader.wrong(arguments?, "a list of arguments, or a mapping with their names");
            return None;
        }
    }
    let (template, arguments) = (template.join(", "), shown.join(", "));
    Some(DeclaredCase { span: node.span.clone(), arguments, template, expect: cell(expect?) })
}

/// An argument as Jinja writes it: what YAML says, and for nothing SQL's NULL.
fn argument(node: &Node) -> String {
    match &node.value {
        Raw::Null => "'null'".to_owned(),
        _ => literal(&node.to_json()),
    }
}

fn literal(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "none".to_owned(),
        serde_json::Value::Array(items) => format!("[{}]", items.iter().map(literal).collect::<Vec<_>>().join(", ")),
        serde_json::Value::Object(entries) => {
            let entry = |(key, value): (&String, _)| format!("{}: {}", literal(&key.as_str().into()), literal(value));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

fn shown_argument(node: &Node) -> String {
    match &node.value {
        Raw::Null => "null".to_owned(),
        Raw::Scalar(_) => node.plain_text(),
        Raw::List(_) | Raw::Map(_) => node.to_json().to_string(),
    }
}
