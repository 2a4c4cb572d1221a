//! Diagnostics as text for people and as JSON for programs.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::{Value, json};

use super::{Diagnostic, Severity, Span};

/// Whether the reader is a terminal that shows colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// ANSI colours.
    Always,
    /// Plain text.
    Never,
}

/// A diagnostic as a person reads it: headline, file, line and column, the source line with a caret, help.
pub fn text(diagnostic: &Diagnostic, color: Color) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(&diagnostic.message).id(diagnostic.id.code()));
    if let Some(span) = &diagnostic.span {
        group = group.element(snippet(span, AnnotationKind::Primary, diagnostic.label.as_deref()));
    }
    for (span, label) in &diagnostic.related {
        group = group.element(snippet(span, AnnotationKind::Context, Some(label)));
    }
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(note));
    }
    for help in &diagnostic.help {
        group = group.element(Level::HELP.message(help));
    }
    let renderer = match color {
        Color::Always => Renderer::styled(),
        Color::Never => Renderer::plain(),
    };
    renderer.render(&[group])
}

fn snippet<'a>(
    span: &'a Span,
    kind: AnnotationKind,
    label: Option<&'a str>,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let annotation = kind.span(span.start..visible_end(span));
    let annotation = match label {
        Some(label) => annotation.label(label),
        None => annotation,
    };
    Snippet::source(span.file.text()).path(&span.file.path).fold(true).annotation(annotation)
}

/// A caret needs a character to stand under, and a span of several lines is shown by its first.
fn visible_end(span: &Span) -> usize {
    let text = span.file.text();
    let line_end = text[span.start..].find('\n').map_or(text.len(), |at| span.start + at);
    let end = span.end.min(line_end);
    if end > span.start {
        return end;
    }
    text[span.start..].chars().next().map_or(span.start, |c| span.start + c.len_utf8())
}

/// A diagnostic as a program reads it.
pub fn json(diagnostic: &Diagnostic) -> Value {
    json!({
        "code": diagnostic.id.code(),
        "id": diagnostic.id.name(),
        "severity": diagnostic.severity,
        "message": diagnostic.message,
        "location": diagnostic.span.as_ref().map(location),
        "label": diagnostic.label,
        "related": diagnostic.related.iter()
            .map(|(span, label)| json!({"location": location(span), "label": label}))
            .collect::<Vec<_>>(),
        "notes": diagnostic.notes,
        "help": diagnostic.help,
    })
}

fn location(span: &Span) -> Value {
    let (line, column) = span.position();
    let (end_line, end_column) = span.file.position(span.end);
    json!({
        "path": span.file.path, "line": line, "column": column,
        "end_line": end_line, "end_column": end_column,
    })
}
