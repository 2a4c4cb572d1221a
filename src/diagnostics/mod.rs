//! Diagnostics: what is wrong with a project, where, and what to do about it.
//!
//! A stage pushes a [`Diagnostic`] into the [`Diagnostics`] sink and goes on, so one run reports
//! all mistakes. Only [`render`] turns them into text or JSON, at the edge of the program.

use std::collections::HashMap;

mod id;
pub mod render;
mod source;

pub use id::Id;
pub use source::{Location, SourceFile, Span};

/// How bad a diagnostic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The project does not compile.
    Error,
    /// The project compiles, and somebody will regret it.
    Warning,
}

/// One mistake in a user's file.
///
/// Messages are lowercase phrases without a full stop; names stand in backticks.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Diagnostic {
    /// What kind of mistake it is.
    pub id: Id,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one phrase.
    pub message: String,
    /// Where it is wrong.
    pub span: Option<Span>,
    /// What to say beside the caret.
    pub label: Option<String>,
    /// Other places that explain this one.
    pub related: Vec<(Span, String)>,
    /// Other ways that lead to the same place: one mistake in a macro is one mistake, whoever calls it.
    pub elsewhere: Vec<Span>,
    /// What is good to know.
    pub notes: Vec<String>,
    /// What to do.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// An error; the builder methods add the rest.
    pub fn error(id: Id, message: impl Into<String>) -> Self {
        Self {
            id,
            severity: Severity::Error,
            message: message.into(),
            span: None,
            label: None,
            related: Vec::new(),
            elsewhere: Vec::new(),
            notes: Vec::new(),
            help: Vec::new(),
        }
    }

    /// A warning; the builder methods add the rest.
    pub fn warning(id: Id, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(id, message) }
    }

    /// Points at the place of the mistake.
    pub fn at(mut self, location: impl Into<Location>) -> Self {
        let Location { span, expansions } = location.into();
        self.span = Some(span);
        self.related.extend(expansions);
        self
    }

    /// Says something beside the caret.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Points at a second place that explains the first.
    pub fn related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push((span, label.into()));
        self
    }

    /// Adds what is good to know.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Adds what to do.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// Takes in the same mistake, reached in another way: the way whose file comes first is told.
    fn merge(&mut self, mut other: Self) {
        let start = |d: &Self| d.related.last().map(|(span, _)| (span.file.path.clone(), span.start));
        let (here, there) = (start(self), start(&other));
        if there < here {
            std::mem::swap(&mut self.related, &mut other.related);
        }
        if let Some((span, _)) = other.related.last().filter(|_| here != there) {
            self.elsewhere.push(span.clone());
        }
    }

    /// Adds "did you mean" when one of `candidates` is near to `name`, else lists them if they are few.
    pub fn suggest<'a>(self, name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        let candidates: Vec<&str> = candidates.into_iter().collect();
        if let Some(nearest) = crate::names::nearest(name, candidates.iter().copied()) {
            return self.help(format!("did you mean `{nearest}`?"));
        }
        match candidates.len() {
            0 => self,
            1..=24 => {
                let list: Vec<String> = candidates.iter().map(|c| format!("`{c}`")).collect();
                self.help(format!("known: {}", list.join(", ")))
            }
            _ => self,
        }
    }
}

/// The sink that every stage pushes into.
#[derive(Debug, Default)]
pub struct Diagnostics {
    items: Vec<Diagnostic>,
    /// Where in `items` a mistake is.
    known: HashMap<Mistake, usize>,
}

/// What makes two diagnostics one mistake: kind, file, start, words.
type Mistake = (Id, String, usize, String);

impl Diagnostics {
    /// An empty sink.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps a diagnostic; a mistake that is known is kept once, with the other way that led to it.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if let Some(span) = &diagnostic.span {
            let mistake = (diagnostic.id, span.file.path.clone(), span.start, diagnostic.message.clone());
            if let Some(first) = self.known.get(&mistake) {
                return self.items[*first].merge(diagnostic);
            }
            self.known.insert(mistake, self.items.len());
        }
        self.items.push(diagnostic);
    }

    /// Keeps many.
    pub fn extend(&mut self, diagnostics: impl IntoIterator<Item = Diagnostic>) {
        diagnostics.into_iter().for_each(|diagnostic| self.push(diagnostic));
    }

    /// Keeps those of another sink.
    pub fn absorb(&mut self, other: Self) {
        self.items.extend(other.items);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether any of them stops the project from compiling.
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// How many there are of one severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.items.iter().filter(|d| d.severity == severity).count()
    }

    /// All of them in the order of a reader: by file, then by place, so that output never depends on threads.
    pub fn sorted(&self) -> Vec<&Diagnostic> {
        let mut sorted: Vec<&Diagnostic> = self.items.iter().collect();
        sorted.sort_by_key(|d| {
            let place = d.span.as_ref().map(|s| (s.file.path.clone(), s.start));
            (place.is_none(), place, d.message.clone())
        });
        sorted
    }
}
