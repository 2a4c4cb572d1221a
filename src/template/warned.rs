//! What templates say by `exceptions.warn()`, and where they say it.
//!
//! A function cannot see its own place in a template. So a render that warned is repeated by a
//! [`Twin`](super::expansion), which notes between its marks that a warning was said.

use std::sync::{Arc, Mutex};

use minijinja::value::Object;
use minijinja::{Environment, Error, State, Value};

use super::expansion::{MarkedRender, Twin, Walker};
use super::values::Exceptions;
use super::{Recording, Rendered, Scope, Subject, Templates, TestCall};
use crate::diagnostics::{Diagnostic, Id, Location, SourceFile, Span};

/// Stands among the marks that a render passed, where it warned.
pub(super) const WARNED: usize = usize::MAX;

const WORD: &str = "exceptions.warn";

/// `exceptions` of a twin.
#[derive(Debug)]
struct Noting(Arc<Mutex<Vec<usize>>>);

impl Object for Noting {
    fn call_method(self: &Arc<Self>, state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        if method == "warn"
            && let Ok(mut passed) = self.0.lock()
        {
            passed.push(WARNED);
        }
        Arc::new(Exceptions).call_method(state, method, args)
    }
}

/// Lets a twin note where it warns.
pub(super) fn register(environment: &mut Environment<'static>, passed: &Arc<Mutex<Vec<usize>>>) {
    environment.add_global("exceptions", Value::from_object(Noting(Arc::clone(passed))));
}

impl Twin {
    /// The place of each warning of a render, in the order in which they are said.
    fn places_of_warnings(&self, subject: Subject<'_>, scope: Scope) -> Option<Vec<Location>> {
        let MarkedRender { passed, marks, .. } = self.render(subject, scope)?;
        let mut walker = Walker::new(&marks);
        let mut found = Vec::new();
        for mark in passed {
            if mark != WARNED {
                walker.leave_to_owner(mark, true);
                walker.pass(mark);
                continue;
            }
            let site = &marks[walker.current?];
            let at = site.file.text()[site.range.clone()].find(WORD).map(|at| site.range.start + at);
            let range = at.map_or(site.range.clone(), |at| at..at + WORD.len());
            let span = Span::new(&site.file, range.start, range.end);
            found.push(Location { span, expansions: walker.calls(walker.top) });
        }
        Some(found)
    }
}

impl Templates {
    /// What `exceptions.warn()` said in a render of a file.
    pub fn warnings(&self, file: &Arc<SourceFile>, scope: &Scope, recording: &Recording) -> Vec<Diagnostic> {
        self.warnings_of(Subject::File(file), file, scope, recording)
    }

    /// What `exceptions.warn()` said in a render of a generic test.
    pub fn warnings_of_generic_test(
        &self,
        (name, call): (&str, &TestCall),
        rendered: &Rendered,
        scope: &Scope,
        recording: &Recording,
    ) -> Vec<Diagnostic> {
        self.warnings_of(Subject::Test(name, call), &rendered.file, scope, recording)
    }

    fn warnings_of(
        &self,
        subject: Subject<'_>,
        file: &Arc<SourceFile>,
        scope: &Scope,
        recording: &Recording,
    ) -> Vec<Diagnostic> {
        if recording.warnings.is_empty() {
            return Vec::new();
        }
        let places = self.twin().and_then(|twin| twin.places_of_warnings(subject, scope.clone()));
        let places = places.filter(|places| places.len() == recording.warnings.len()).unwrap_or_default();
        let mut places = places.into_iter();
        let mut found: Vec<Diagnostic> = Vec::new();
        for message in &recording.warnings {
            // A template that looks at what it wrote may see the marks, and do something else.
            let place = places.next().unwrap_or_else(|| Location::from(first_place(file)));
            let warning = Diagnostic::warning(Id::TemplateWarning, message.clone()).at(place);
            // A loop says the same thing again and again.
            let start =
                |diagnostic: &Diagnostic| diagnostic.span.as_ref().map(|span| (span.file.path.clone(), span.start));
            let is_told = |told: &Diagnostic| told.message == warning.message && start(told) == start(&warning);
            if !found.iter().any(is_told) {
                found.push(warning);
            }
        }
        found
    }
}

fn first_place(file: &Arc<SourceFile>) -> Span {
    match file.text().find(WORD) {
        Some(at) => Span::new(file, at, at + WORD.len()),
        None => Span::file_start(file),
    }
}
