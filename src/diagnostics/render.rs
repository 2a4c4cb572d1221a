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
    let related = without_repeats(&diagnostic.related);
    let (first, left_out, last) = shortened(&related);
    for (span, label) in first {
        group = group.element(snippet(span, AnnotationKind::Context, Some(label)));
    }
    let gap = format!("{left_out} more calls between");
    if left_out > 0 {
        group = group.element(Level::NOTE.message(&gap));
    }
    for (span, label) in last {
        group = group.element(snippet(span, AnnotationKind::Context, Some(label)));
    }
    let elsewhere = elsewhere(diagnostic);
    for note in elsewhere.iter().chain(&diagnostic.notes) {
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

/// A recursion goes through one call many times: it is shown once.
fn without_repeats(related: &[(Span, String)]) -> Vec<(&Span, String)> {
    let mut shown: Vec<(&Span, String)> = Vec::new();
    let same =
        |a: &(Span, String), b: &(Span, String)| (&a.0.file.path, a.0.start, &a.1) == (&b.0.file.path, b.0.start, &b.1);
    for run in related.chunk_by(same) {
        let (span, label) = &run[0];
        let label = if run.len() > 1 { format!("{label}, {} times", run.len()) } else { label.clone() };
        shown.push((span, label));
    }
    shown
}

/// A long chain of calls: its start, how many are left out, its end.
fn shortened<T>(related: &[T]) -> (&[T], usize, &[T]) {
    if related.len() <= MOST_RELATED {
        return (related, 0, &[]);
    }
    let (first, rest) = related.split_at(MOST_RELATED - 2);
    let (gap, last) = rest.split_at(rest.len() - 2);
    (first, gap.len(), last)
}

const MOST_RELATED: usize = 8;

/// The other ways that lead to the same mistake, in a phrase.
fn elsewhere(diagnostic: &Diagnostic) -> Option<String> {
    let mut places: Vec<String> = diagnostic
        .elsewhere
        .iter()
        .map(|span| {
            let (line, column) = span.position();
            format!("{}:{line}:{column}", span.file.path)
        })
        .collect();
    places.sort();
    places.dedup();
    let more = places.len().saturating_sub(3);
    places.truncate(3);
    match (places.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(format!("also reached from {}", places.join(", "))),
        (false, more) => Some(format!("also reached from {} and {more} more places", places.join(", "))),
    }
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
    Snippet::source(&span.file.text).path(&span.file.path).fold(true).annotation(annotation)
}

/// A caret needs a character to stand under, and a span of several lines is shown by its first.
fn visible_end(span: &Span) -> usize {
    let text = &span.file.text;
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
        "elsewhere": diagnostic.elsewhere.iter().map(location).collect::<Vec<_>>(),
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
