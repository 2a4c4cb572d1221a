//! The macros of a project: all files of `macros/` as one template, so that macros of any file call each other.

use std::ops::Range;
use std::sync::Arc;

use minijinja::Environment;

use crate::diagnostics::{Diagnostic, Id, SourceFile, Span};

/// The name of the one template that holds all macros.
pub(super) const LIBRARY: &str = "macros";

/// Which macros there are, and where in the joined text each file stands.
#[derive(Debug)]
pub(super) struct MacroLibrary {
    names: Vec<String>,
    files: Vec<(usize, Arc<SourceFile>)>,
}

impl MacroLibrary {
    /// Joins the files into one template. Files that do not parse are reported and left out.
    pub(super) fn load(
        environment: &mut Environment<'static>,
        files: &[Arc<SourceFile>],
        problems: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut library = Self { names: Vec::new(), files: Vec::new() };
        let mut text = String::new();
        for file in files {
            if let Err(error) = Environment::new().template_from_named_str(&file.path, file.text()) {
                let range = error.range().unwrap_or(0..0);
                let span = Span::new(file, range.start, range.end);
                problems.push(Diagnostic::error(Id::Template, super::phrase(&error)).at(span));
                continue;
            }
            library.files.push((text.len(), Arc::clone(file)));
            library.names.extend(defined_names(file.text()));
            text.push_str(file.text());
            text.push('\n');
        }
        if let Err(error) = environment.add_template_owned(LIBRARY, text) {
            // Files that parse alone do not when they define one block twice.
            let span = error.range().and_then(|range| library.locate(range));
            let span = span.or_else(|| library.files.first().map(|(_, file)| Span::file_start(file)));
            let diagnostic = Diagnostic::error(Id::Template, super::phrase(&error));
            problems.push(match span {
                Some(span) => diagnostic.at(span),
                None => diagnostic,
            });
            library.names.clear();
        }
        library
    }

    /// The statement that makes the macros which `template` mentions callable in it; empty if it mentions none.
    pub(super) fn import_statement(&self, template: &str) -> String {
        let used: Vec<&str> = self.names().filter(|name| mentions(template, name)).collect();
        if used.is_empty() {
            return String::new();
        }
        format!("{{% from \"{LIBRARY}\" import {} %}}", used.join(", "))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The place in the user's file of a range in the joined text.
    pub(super) fn locate(&self, range: Range<usize>) -> Option<Span> {
        let (start, file) = self.files.iter().rev().find(|(start, _)| *start <= range.start)?;
        Some(Span::new(file, range.start - start, range.end - start))
    }
}

/// Whether a text has a name as a whole word.
fn mentions(text: &str, name: &str) -> bool {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name)
        .any(|(at, _)| !text[..at].ends_with(in_word) && !text[at + name.len()..].starts_with(in_word))
}

/// Names after `{% macro`, with any whitespace control.
fn defined_names(text: &str) -> impl Iterator<Item = String> {
    text.split("{%").skip(1).filter_map(|tag| {
        let rest = tag.trim_start_matches(['-', '+']).trim_start().strip_prefix("macro")?;
        let rest = rest.strip_prefix(char::is_whitespace)?.trim_start();
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_')?;
        Some(rest[..end].to_owned())
    })
}
