//! DataFusion's errors, translated once: into words of SQL, at the author's own line.

use std::cell::OnceCell;

use datafusion::common::{Column, DataFusionError, SchemaError};

use crate::diagnostics::{Diagnostic, Id, Location, Span};
use crate::names::{TableName, nearest};
use crate::project::Project;
use crate::session::Tables;
use crate::template::{Rendered, Trace};

/// SQL that a template made; who wrote each byte of it is found out when somebody asks.
pub(super) struct Written<'a> {
    rendered: &'a Rendered,
    find_out: Box<dyn Fn() -> Trace + 'a>,
    trace: OnceCell<Trace>,
}

impl<'a> Written<'a> {
    pub(super) fn new(rendered: &'a Rendered, find_out: impl Fn() -> Trace + 'a) -> Self {
        Self { rendered, find_out: Box::new(find_out), trace: OnceCell::new() }
    }

    fn trace(&self) -> &Trace {
        self.trace.get_or_init(&self.find_out)
    }

    pub(super) fn sql(&self) -> &'a str {
        &self.rendered.sql
    }

    /// The author of what stands between two lines and columns, from 1.
    pub(super) fn at(&self, start: (usize, usize), end: (usize, usize)) -> Location {
        self.trace().locate_position(start, end)
    }
}

/// Where the SQL came from.
pub(super) enum Place<'a> {
    /// A template.
    Template(&'a Written<'a>),
    /// SQL that was made from a declaration.
    Declaration(&'a Span),
}

impl Place<'_> {
    fn at(&self, start: (usize, usize), end: (usize, usize)) -> Location {
        match self {
            Self::Template(written) => written.at(start, end),
            Self::Declaration(span) => Location::from((*span).clone()),
        }
    }

    fn start(&self) -> Location {
        match self {
            Self::Template(written) => {
                let sql = written.sql();
                let first = sql.len() - sql.trim_start().len();
                written.trace().locate(first, first + 1)
            }
            Self::Declaration(span) => Location::from((*span).clone()),
        }
    }

    /// The first place where the SQL says `text`, letters of any case.
    fn find(&self, text: &str) -> Option<Location> {
        match self {
            Self::Template(written) => {
                let at = written.sql().to_ascii_lowercase().find(&text.to_ascii_lowercase())?;
                Some(written.trace().locate(at, at + text.trim_end_matches('(').len()))
            }
            Self::Declaration(_) => None,
        }
    }

    fn end(&self) -> Location {
        match self {
            Self::Template(written) => {
                let last = written.sql().trim_end().len().max(1);
                written.trace().locate(last - 1, last)
            }
            Self::Declaration(span) => Location::from((*span).clone()),
        }
    }
}

/// A parse error: the place stands in its text only.
pub(super) fn syntax(error: &DataFusionError, place: &Place<'_>) -> Diagnostic {
    let text = root_text(error);
    let message = text.split(" at Line:").next().unwrap_or(&text).trim();
    let message = message.trim_start_matches("sql parser error:").trim();
    let span = match position(&text) {
        Some((line, column)) => place.at((line, column), (line, column + 1)),
        None => place.end(),
    };
    Diagnostic::error(Id::SqlSyntax, lower_first(message)).at(span)
}

/// ` at Line: 3, Column: 14`.
fn position(text: &str) -> Option<(usize, usize)> {
    let (_, rest) = text.rsplit_once("Line: ")?;
    let (line, rest) = rest.split_once(", Column: ")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((line.parse().ok()?, digits.parse().ok()?))
}

/// The tables around a piece of SQL.
pub(super) struct Surroundings<'a> {
    /// Tables that the SQL may name.
    pub(super) visible: &'a Tables,
    /// The project, for what exists beside them.
    pub(super) project: &'a Project,
    /// The model that the SQL belongs to.
    pub(super) own: &'a TableName,
}

/// Errors of planning or typing: the planner may find several at once, as in both sides of a union.
pub(super) fn plan(error: &DataFusionError, place: &Place<'_>, around: &Surroundings<'_>) -> Vec<Diagnostic> {
    error.iter().map(|error| plan_one(error, place, around)).collect()
}

fn plan_one(error: &DataFusionError, place: &Place<'_>, around: &Surroundings<'_>) -> Diagnostic {
    let span = match error.diagnostic().and_then(|d| d.span) {
        Some(span) => {
            let start = (span.start.line as usize, span.start.column as usize);
            let end = (span.end.line as usize, span.end.column as usize);
            place.at(start, end)
        }
        None => place.start(),
    };
    let root = error.find_root();
    match root {
        DataFusionError::SchemaError(schema_error, _) => {
            if let SchemaError::FieldNotFound { field, valid_fields } = schema_error.as_ref() {
                return unknown_column(field, valid_fields).at(span);
            }
            let text = root_text(error);
            let message = match duplicate_column(schema_error) {
                Some(name) => format!("two columns are called `{name}`"),
                None => lower_first(text.trim_start_matches("Schema error: ")),
            };
            Diagnostic::error(Id::InvalidSql, message).at(span)
        }
        _ => {
            let text = root_text(error);
            let known = unknown_table(&text, place, around);
            let known = known.or_else(|| wrong_argument(&text, place)).or_else(|| repeated_cte(&text, place));
            let known = known.or_else(|| mixed_values(&text, place));
            known.unwrap_or_else(|| by_text(error)).at_if_none(span)
        }
    }
}

fn duplicate_column(error: &SchemaError) -> Option<&str> {
    match error {
        SchemaError::AmbiguousReference { field } => Some(field.name()),
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            Some(name)
        }
        SchemaError::FieldNotFound { .. } => None,
    }
}

trait AtIfNone {
    fn at_if_none(self, span: Location) -> Self;
}

impl AtIfNone for Diagnostic {
    fn at_if_none(self, span: Location) -> Self {
        if self.span.is_some() { self } else { self.at(span) }
    }
}

fn unknown_column(field: &Column, valid: &[Column]) -> Diagnostic {
    let mut message = format!("column `{}` does not exist", field.name);
    if let Some(relation) = &field.relation {
        message = format!("column `{}` does not exist in `{}`", field.name, relation.table());
    }
    let mut names: Vec<&str> = valid.iter().map(|column| column.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    Diagnostic::error(Id::UnknownColumn, message).suggest(&field.name, names)
}

/// A table that SQL names without `ref` or `source`.
fn unknown_table(text: &str, place: &Place<'_>, around: &Surroundings<'_>) -> Option<Diagnostic> {
    let name = text.split_once("table '")?.1.split_once("' not found")?.0;
    let short = name.rsplit('.').next().unwrap_or(name);
    let is = |known: &&TableName| known.to_string() == name || known.table == short;
    let diagnostic = Diagnostic::error(Id::UnknownTable, format!("table `{name}` is not known here"));
    let diagnostic = if is(&around.own) {
        diagnostic.help("write {{ this }} inside {% if is_incremental() %} to read the model's own table")
    } else if let Some(model) = around.project.models.keys().find(is) {
        diagnostic.help(format!("write {{{{ ref('{}') }}}}", model.table))
    } else if let Some(source) = around.project.sources.keys().find(is) {
        diagnostic.help(format!("write {{{{ source('{}', '{}') }}}}", source.schema, source.table))
    } else {
        let names: Vec<String> = around.visible.names().map(ToString::to_string).collect();
        match nearest(name, names.iter().map(String::as_str)) {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
            None => diagnostic.help("read tables through {{ ref('model') }} or {{ source('source', 'table') }}"),
        }
    };
    Some(match place.find(short) {
        Some(span) => diagnostic.at(span),
        None => diagnostic,
    })
}

/// `Function 'sum' requires Decimal, but received String (DataType: Utf8)`, once for each type that it does take.
fn wrong_argument(text: &str, place: &Place<'_>) -> Option<Diagnostic> {
    let (before, received) = text.split_once(", but received ")?;
    let function = before.split("Function '").last()?.split('\'').next()?;
    let arrow = received.split_once("(DataType: ").and_then(|(_, rest)| rest.split(')').next()).unwrap_or(received);
    let mut wanted: Vec<&str> =
        text.split("requires ").skip(1).filter_map(|rest| rest.split(", but received").next()).collect();
    wanted.dedup();
    let message = format!("`{function}` cannot take {}", sql_word(arrow));
    let diagnostic = Diagnostic::error(Id::TypeMismatch, message)
        .note(format!("it takes: {}", wanted.join(", ")))
        .help("cast the argument, for example with try_cast(... as double)");
    Some(match place.find(&format!("{function}(")) {
        Some(span) => diagnostic.at(span),
        None => diagnostic,
    })
}

/// `Function 'coalesce' user-defined coercion failed`: its values have no type in common.
fn mixed_values(text: &str, place: &Place<'_>) -> Option<Diagnostic> {
    let lower = text.to_ascii_lowercase();
    let (_, function) = lower.split_once(" user-defined coercion failed")?.0.split_once("function '")?;
    let function = function.trim_end_matches('\'');
    if !lower.contains("fail to find the coerced type") {
        return None;
    }
    let message = format!("the values of `{function}` have no type in common");
    let diagnostic = Diagnostic::error(Id::TypeMismatch, message)
        .help("write or cast them as one type: `timestamp '2024-01-01'`, `cast('2024-01-01' as date)`");
    Some(match place.find(&format!("{function}(")) {
        Some(span) => diagnostic.at(span),
        None => diagnostic,
    })
}

/// `WITH query name "web" specified more than once`: the planner knows no scopes of such names.
fn repeated_cte(text: &str, place: &Place<'_>) -> Option<Diagnostic> {
    let (name, _) = text.split_once("WITH query name \"")?.1.split_once('"')?;
    let diagnostic = Diagnostic::error(Id::InvalidSql, format!("two common table expressions are called `{name}`"))
        .help("give one of them another name: a query inside another one cannot use its names again");
    let Place::Template(written) = place else { return Some(diagnostic) };
    let sql = written.sql().to_ascii_lowercase();
    let definitions: Vec<usize> = sql.match_indices(&format!("{name} as (")).map(|(at, _)| at).collect();
    let located = |at: usize| written.trace().locate(at, at + name.len());
    Some(match definitions.as_slice() {
        [first, .., last] => diagnostic.at(located(*last)).related(located(*first).span, "first here"),
        _ => diagnostic,
    })
}

/// Arrow's name of a type as SQL people write it.
fn sql_word(arrow: &str) -> String {
    let word = match arrow.trim() {
        "Utf8" | "LargeUtf8" | "Utf8View" => "varchar",
        "Int64" => "bigint",
        "Int32" => "int",
        "Int16" => "smallint",
        "Float64" => "double",
        "Float32" => "float",
        "Boolean" => "boolean",
        "Date32" => "date",
        other if other.starts_with("Timestamp") => "timestamp",
        other => other,
    };
    word.to_owned()
}

fn by_text(error: &DataFusionError) -> Diagnostic {
    let text = error.diagnostic().map_or_else(|| root_text(error), |d| d.message.clone());
    let text = text.trim().to_owned();
    let lower = text.to_lowercase();
    if lower.contains("invalid function") || lower.contains("function not found") {
        let name = text.split(['\'', '`']).nth(1).unwrap_or_default().to_owned();
        let noted = error.diagnostic().and_then(|d| d.notes.first()).map(|note| note.message.clone());
        let near = noted.unwrap_or_else(|| root_text(error));
        let near = near.rsplit('\'').nth(1).filter(|near| *near != name).map(|near| format!("did you mean `{near}`?"));
        let mut diagnostic = Diagnostic::error(Id::UnknownFunction, format!("function `{name}` does not exist"));
        diagnostic.help.extend(near);
        return diagnostic;
    }
    let mismatch = [
        "coerce",
        "cannot infer common",
        "cannot cast",
        "type mismatch",
        "no function matches",
        "incompatible",
        "failed to coerce",
        "does not support",
    ];
    let id = if mismatch.iter().any(|word| lower.contains(word)) { Id::TypeMismatch } else { Id::InvalidSql };
    let first = text.split("\n\n").next().unwrap_or(&text).split(" No function matches").next().unwrap_or(&text);
    let mut diagnostic = Diagnostic::error(id, lower_first(strip_noise(first).lines().next().unwrap_or(first)));
    if let Some(inner) = error.diagnostic() {
        diagnostic.notes.extend(inner.notes.iter().map(|n| match n.message.strip_prefix("has type ") {
            Some(arrow) => format!("one side is {}", sql_word(arrow)),
            None => lower_first(&n.message),
        }));
        diagnostic.help.extend(inner.helps.iter().map(|h| lower_first(&h.message)));
    }
    if let Some(candidates) = text.split_once("Candidate functions:") {
        let candidates: Vec<&str> = candidates.1.lines().map(str::trim).filter(|l| !l.is_empty()).take(4).collect();
        diagnostic = diagnostic.note(format!("it takes: {}", candidates.join(" or ")));
    }
    diagnostic
}

/// The message of the innermost error, without the names of Rust's enums.
fn root_text(error: &DataFusionError) -> String {
    strip_noise(&error.find_root().strip_backtrace())
}

fn strip_noise(text: &str) -> String {
    let mut text = text;
    loop {
        let before = text;
        for noise in [
            "Error during planning: ",
            "SQL error: ParserError(\"",
            "SQL error: TokenizerError(\"",
            "Execution error: ",
            "Internal error: ",
            "type_coercion\ncaused by\n",
            "This feature is not implemented: ",
        ] {
            text = text.strip_prefix(noise).unwrap_or(text);
        }
        if text == before {
            break;
        }
    }
    let text = text.split("This issue was likely caused by a bug in DataFusion").next().unwrap_or(text);
    text.trim_end().trim_end_matches("\")").trim_end_matches('.').replace("\\\"", "\"")
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => {
            first.to_lowercase().collect::<String>() + letters.as_str()
        }
        _ => text.to_owned(),
    }
}
