//! DataFusion's errors, translated once: into words of SQL, at the author's own line.

use datafusion::common::{Column, DataFusionError, SchemaError};

use crate::diagnostics::{Diagnostic, Id, Span};
use crate::names::{TableName, nearest};
use crate::session::Tables;
use crate::template::Rendered;

/// Where the SQL came from.
pub(super) enum Place<'a> {
    /// A template.
    Template(&'a Rendered),
    /// SQL that was made from a declaration.
    Declaration(&'a Span),
}

impl Place<'_> {
    fn at(&self, start: (usize, usize), end: (usize, usize)) -> Span {
        match self {
            Self::Template(rendered) => rendered.locate_position(start, end),
            Self::Declaration(span) => (*span).clone(),
        }
    }

    fn start(&self) -> Span {
        match self {
            Self::Template(rendered) => {
                let first = rendered.sql.len() - rendered.sql.trim_start().len();
                rendered.locate(first, first + 1)
            }
            Self::Declaration(span) => (*span).clone(),
        }
    }

    fn end(&self) -> Span {
        match self {
            Self::Template(rendered) => {
                let last = rendered.sql.trim_end().len().max(1);
                rendered.locate(last - 1, last)
            }
            Self::Declaration(span) => (*span).clone(),
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

/// An error of planning or typing. `visible` are the tables that the SQL may name, `all` those that exist.
pub(super) fn plan(
    error: &DataFusionError,
    place: &Place<'_>,
    visible: &Tables,
    all: &Tables,
    model: &TableName,
) -> Diagnostic {
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
            Diagnostic::error(Id::InvalidSql, lower_first(text.trim_start_matches("Schema error: "))).at(span)
        }
        _ => {
            translate(&root_text(error), place, visible, all, model).unwrap_or_else(|| by_text(error)).at_if_none(span)
        }
    }
}

trait AtIfNone {
    fn at_if_none(self, span: Span) -> Self;
}

impl AtIfNone for Diagnostic {
    fn at_if_none(self, span: Span) -> Self {
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

/// Errors that need to know the project.
fn translate(text: &str, place: &Place<'_>, visible: &Tables, all: &Tables, model: &TableName) -> Option<Diagnostic> {
    let name = text.split_once("table '")?.1.split_once("' not found")?.0;
    let short = name.rsplit('.').next().unwrap_or(name);
    let mut diagnostic = Diagnostic::error(Id::UnknownTable, format!("table `{name}` is not known here"));
    let known = all.names().find(|known| known.to_string() == name || known.table == short);
    diagnostic = match known {
        Some(known) if known == model => {
            diagnostic.help("write {{ this }} inside {% if is_incremental() %} to read the model's own table")
        }
        Some(known) => diagnostic.help(format!("write {{{{ ref('{}') }}}} or the matching source()", known.table)),
        None => {
            let names: Vec<String> = visible.names().map(ToString::to_string).collect();
            match nearest(name, names.iter().map(String::as_str)) {
                Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                None => diagnostic.help("read tables through {{ ref('model') }} or {{ source('source', 'table') }}"),
            }
        }
    };
    Some(match place {
        Place::Template(rendered) => match rendered.sql.find(short) {
            Some(at) => diagnostic.at(rendered.locate(at, at + short.len())),
            None => diagnostic,
        },
        Place::Declaration(_) => diagnostic,
    })
}

fn by_text(error: &DataFusionError) -> Diagnostic {
    let text = error.diagnostic().map_or_else(|| root_text(error), |d| d.message.clone());
    let text = text.trim().to_owned();
    let lower = text.to_lowercase();
    if lower.contains("invalid function") || lower.contains("function not found") {
        let name = text.split(['\'', '`']).nth(1).unwrap_or_default().to_owned();
        let near = error
            .diagnostic()
            .and_then(|d| d.notes.iter().chain(std::iter::empty()).map(|n| n.message.clone()).next())
            .or_else(|| {
                root_text(error)
                    .split("Did you mean '")
                    .nth(1)
                    .and_then(|t| t.split('\'').next())
                    .map(|t| format!("did you mean `{t}`?"))
            });
        let mut diagnostic = Diagnostic::error(Id::UnknownFunction, format!("function `{name}` does not exist"));
        diagnostic.help.extend(near.map(|text| lower_first(&text)));
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
        diagnostic.notes.extend(inner.notes.iter().map(|n| lower_first(&n.message)));
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
    text.trim_end().trim_end_matches("\")").trim_end_matches('.').to_owned()
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
