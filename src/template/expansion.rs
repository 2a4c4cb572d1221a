//! From rendered SQL back to who wrote it: through macros, loops, captures and `call` blocks.
//!
//! A render that goes well pays nothing for this. When a diagnostic needs a place, the file is rendered a second time
//! by a [`Twin`]: the same functions and macros, with [`marks`](super::marks) in every template. If the text without its
//! marks is the text of the first render, the marks say who wrote each byte, and through which calls; if not (a template
//! that measures what a macro wrote sees the marks), the calls in the file are known from [`source_map`](super::source_map).

use std::sync::{Arc, Mutex, OnceLock};

use minijinja::{Environment, Value};

use super::marks::{self, Kind, Mark};
use super::source_map::PointerMap;
use super::{Rendered, Scope, Settings, Subject, Templates, warned};
use crate::diagnostics::{Location, SourceFile, Span};

/// The templates of a project, with marks.
pub(super) struct Twin {
    templates: Templates,
    /// The marks in the macro files; those of a model come after them.
    library: Vec<Mark>,
    /// The marks that the current render has passed.
    passed: Arc<Mutex<Vec<usize>>>,
    /// One render at a time: they share `passed`.
    busy: Mutex<()>,
}

impl std::fmt::Debug for Twin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a twin with {} marks", self.library.len())
    }
}

/// What a render with marks made.
pub(super) struct MarkedRender {
    /// The text, or the message of the error.
    pub(super) text: Result<String, String>,
    /// The marks in the order in which they were passed.
    pub(super) passed: Vec<usize>,
    /// What the marks say.
    pub(super) marks: Vec<Mark>,
}

/// More marks than this are not kept: a template that loops so long is too big to explain.
const MOST_PASSED: usize = 1 << 22;

impl Twin {
    pub(super) fn new(settings: Settings, macro_files: &[Arc<SourceFile>]) -> Self {
        let mut library = Vec::new();
        let files: Vec<_> = macro_files
            .iter()
            .map(|file| marks::marked(file, true, &mut library).unwrap_or_else(|| Arc::clone(file)))
            .collect();
        let passed: Arc<Mutex<Vec<usize>>> = Arc::default();
        let mut templates = Templates::new(settings, &files, &mut Vec::new());
        templates.twin = OnceLock::from(None);
        warned::register(&mut templates.environment, &passed);
        register(&mut templates.environment, Arc::clone(&passed));
        Self { templates, library, passed, busy: Mutex::new(()) }
    }

    pub(super) fn render(&self, subject: Subject<'_>, scope: Scope) -> Option<MarkedRender> {
        let mut known = self.library.clone();
        let copy = match subject {
            Subject::File(file) => Some(marks::marked(file, false, &mut known)?),
            // Its file is one of macros, which have marks already.
            Subject::Test(..) => None,
        };
        let subject = copy.as_ref().map_or(subject, Subject::File);
        let _turn = self.busy.lock().ok()?;
        self.passed.lock().ok()?.clear();
        // What a template logs was logged when it was rendered first.
        let quiet = tracing::subscriber::NoSubscriber::default();
        let text = tracing::subscriber::with_default(quiet, || {
            self.templates.render_subject(subject, scope, &self.templates.clock())
        });
        let text = text.map(|(rendered, _)| rendered.sql).map_err(|failure| failure.diagnostic.message);
        Some(MarkedRender { text, passed: std::mem::take(&mut *self.passed.lock().ok()?), marks: known })
    }

    /// The calls that lead to the place where a render fails with `message`, the innermost first.
    pub(super) fn calls_to_failure(&self, subject: Subject<'_>, scope: Scope, message: &str) -> Vec<(Span, String)> {
        match self.render(subject, scope) {
            Some(MarkedRender { text: Err(same), passed, marks }) if same == message => {
                let mut walker = Walker::new(&marks);
                for mark in passed.into_iter().filter(|mark| *mark != warned::WARNED) {
                    walker.leave_to_owner(mark, true);
                    walker.pass(mark);
                }
                walker.calls(walker.top)
            }
            _ => Vec::new(),
        }
    }
}

fn register(environment: &mut Environment<'static>, passed: Arc<Mutex<Vec<usize>>>) {
    environment.add_function(marks::FUNCTION, move |mark: usize| {
        if let Ok(mut passed) = passed.lock()
            && passed.len() < MOST_PASSED
        {
            passed.push(mark);
        }
        marks::encode(mark)
    });
    environment.add_filter("trim", |text: String, letters: Option<String>| match letters {
        None => trimmed(&text, true, true),
        Some(letters) => text.trim_matches(|c| letters.contains(c)).to_owned(),
    });
    environment.set_unknown_method_callback(|state, value, method, args| match (value.as_str(), method, args) {
        (Some(text), "strip", []) => Ok(Value::from(trimmed(text, true, true))),
        (Some(text), "lstrip", []) => Ok(Value::from(trimmed(text, true, false))),
        (Some(text), "rstrip", []) => Ok(Value::from(trimmed(text, false, true))),
        _ => super::python_method(state, value, method, args),
    });
}

/// Takes white space away at the ends of a text, also where marks stand between it.
fn trimmed(text: &str, start: bool, end: bool) -> String {
    let solid = |(_, c): &(usize, char)| !c.is_whitespace() && !marks::is_mark(*c);
    let first = if start { text.char_indices().find(solid).map_or(text.len(), |(at, _)| at) } else { 0 };
    let last =
        if end { text.char_indices().rev().find(solid).map_or(first, |(at, c)| at + c.len_utf8()) } else { text.len() };
    let marks_of = |part: &str| part.chars().filter(|c| marks::is_mark(*c)).collect::<String>();
    marks_of(&text[..first]) + &text[first..last] + &marks_of(&text[last..])
}

/// Where each byte of a rendered text was written.
#[derive(Debug)]
pub struct Trace {
    sql: Arc<SourceFile>,
    map: Map,
}

#[derive(Debug)]
enum Map {
    Marked(Marked),
    Pointers(Option<PointerMap>, Arc<SourceFile>),
}

impl Templates {
    /// Finds out who wrote each byte of what [`Templates::render`] made of `file` in this `scope`.
    pub fn trace(&self, rendered: &Rendered, scope: Scope) -> Trace {
        self.trace_subject(Subject::File(&rendered.file), rendered, scope)
    }

    pub(super) fn trace_subject(&self, subject: Subject<'_>, rendered: &Rendered, scope: Scope) -> Trace {
        let sql = Arc::new(SourceFile::new("", rendered.sql.clone()));
        let marked = match self.twin().and_then(|twin| twin.render(subject, scope.clone())) {
            Some(MarkedRender { text: Ok(text), marks, .. }) => {
                Marked::read(&text, marks).filter(|(text, _)| *text == rendered.sql)
            }
            _ => None,
        };
        let map = match marked {
            Some((_, marked)) => Map::Marked(marked),
            None => Map::Pointers(self.pointer_map(subject, scope), Arc::clone(&rendered.file)),
        };
        Trace { sql, map }
    }
}

impl Trace {
    /// The text itself.
    pub fn sql(&self) -> &str {
        self.sql.text()
    }

    /// Who wrote a range of the text.
    pub fn locate(&self, start: usize, end: usize) -> Location {
        // A parser points behind the end, too.
        let inside = |at: usize| self.sql.text().floor_char_boundary(at.min(self.sql.text().len().saturating_sub(1)));
        let (start, last) = (inside(start), inside(end.saturating_sub(1).max(start)));
        match &self.map {
            Map::Marked(marked) => marked.locate(self.sql.text(), start, last),
            Map::Pointers(Some(map), file) => Location::from(map.locate(file, start, last)),
            Map::Pointers(None, file) => Location::from(Span::file_start(file)),
        }
    }

    /// Who wrote what stands between two lines and columns (from 1, in characters).
    pub fn locate_position(&self, start: (usize, usize), end: (usize, usize)) -> Location {
        let from = self.sql.offset(start.0, start.1);
        self.locate(from, self.sql.offset(end.0, end.1).max(from + 1))
    }
}

/// A text whose marks were read.
#[derive(Debug)]
struct Marked {
    pieces: Vec<Piece>,
    frames: Vec<Frame>,
    marks: Vec<Mark>,
}

/// A run of text that one mark accounts for.
#[derive(Debug)]
struct Piece {
    start: usize,
    mark: Option<usize>,
    frame: Option<usize>,
}

/// A body that was entered, and the call that led there.
#[derive(Debug)]
struct Frame {
    entered: usize,
    site: Option<usize>,
    outer: Option<usize>,
}

impl Marked {
    /// Takes the marks out of a text.
    fn read(text: &str, known: Vec<Mark>) -> Option<(String, Self)> {
        let mut walker = Walker::new(&known);
        let (mut plain, mut pieces) = (String::with_capacity(text.len()), Vec::new());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if marks::is_mark(c) {
                let (mark, length) = marks::decode(rest).filter(|(mark, _)| *mark < known.len())?;
                walker.leave_to_owner(mark, false);
                walker.pass(mark);
                rest = &rest[length..];
            } else {
                let length = rest.find(marks::is_mark).unwrap_or(rest.len());
                pieces.push(Piece { start: plain.len(), mark: walker.current, frame: walker.top });
                plain.push_str(&rest[..length]);
                rest = &rest[length..];
            }
        }
        let frames = walker.frames;
        Some((plain, Self { pieces, frames, marks: known }))
    }

    fn locate(&self, sql: &str, start: usize, last: usize) -> Location {
        let first = self.piece(start);
        let Some(mut span) = first.and_then(|at| self.span(at, sql, start)) else {
            let file = self.marks.last().map(|mark| &mark.file);
            let file = file.map_or_else(|| Arc::new(SourceFile::new("", "")), Arc::clone);
            return Location::from(Span::file_start(&file));
        };
        let to = self.piece(last);
        let frame = |at: Option<usize>| at.and_then(|at| self.pieces[at].frame);
        if frame(first) == frame(to)
            && let Some(end) = to.and_then(|at| self.span(at, sql, last))
            && end.file.path == span.file.path
            && end.end > span.end
        {
            span.end = end.end;
        }
        let mut walker = Walker::new(&self.marks);
        walker.frames.extend(self.frames.iter().map(|f| Frame { ..*f }));
        Location { span, expansions: walker.calls(frame(first)) }
    }

    fn piece(&self, offset: usize) -> Option<usize> {
        self.pieces.partition_point(|piece| piece.start <= offset).checked_sub(1)
    }

    /// The place that wrote the byte at `offset`, which belongs to the piece `at`.
    fn span(&self, at: usize, sql: &str, offset: usize) -> Option<Span> {
        let piece = &self.pieces[at];
        let mark = &self.marks[piece.mark?];
        let (mut start, mut end) = (mark.range.start, mark.range.end);
        if mark.kind == Kind::Text {
            let stop = self.pieces.get(at + 1).map_or(sql.len(), |next| next.start);
            let inner = offset_in(&sql[piece.start..stop], &mark.file.text()[start..end], offset - piece.start);
            start += inner;
            end = start + mark.file.text()[start..].chars().next().map_or(0, char::len_utf8);
        }
        Some(Span::new(&mark.file, start, end))
    }
}

/// Where the byte at `offset` of a written text stands in the raw text it was made of: at the same place, unless a
/// filter (`indent`, `trim`) changed the white space.
fn offset_in(written: &str, raw: &str, offset: usize) -> usize {
    if raw.starts_with(written) {
        return offset;
    }
    let solid = |c: &char| !c.is_whitespace();
    let before = written[..offset].chars().filter(solid).count();
    raw.char_indices().filter(|(_, c)| solid(c)).nth(before).map_or(0, |(at, _)| at)
}

/// Follows marks in the order in which they were passed or written.
pub(super) struct Walker<'a> {
    marks: &'a [Mark],
    frames: Vec<Frame>,
    pub(super) top: Option<usize>,
    /// The mark that accounts for what comes next.
    pub(super) current: Option<usize>,
}

impl<'a> Walker<'a> {
    pub(super) fn new(marks: &'a [Mark]) -> Self {
        Self { marks, frames: Vec::new(), top: None, current: None }
    }

    pub(super) fn pass(&mut self, mark: usize) {
        match self.marks[mark].kind {
            Kind::Text | Kind::Site => self.current = Some(mark),
            Kind::Enter(_) | Kind::EnterCaller => {
                self.frames.push(Frame { entered: mark, site: self.current, outer: self.top });
                self.top = Some(self.frames.len() - 1);
                self.current = None;
            }
            Kind::Leave => {
                if let Some(frame) = self.top {
                    self.current = self.frames[frame].site;
                    self.top = self.frames[frame].outer;
                }
            }
        }
    }

    /// Leaves bodies that ended without saying so, since the next mark stands in a body around them. In a text that is
    /// only done if that body is there: captured text may be written anywhere.
    pub(super) fn leave_to_owner(&mut self, mark: usize, strict: bool) {
        let mark = &self.marks[mark];
        if matches!(mark.kind, Kind::Enter(_) | Kind::EnterCaller) {
            return;
        }
        let mut at = self.top;
        while let Some(frame) = at {
            if Some(self.frames[frame].entered) == mark.owner {
                self.top = at;
                return;
            }
            at = self.frames[frame].outer;
        }
        if strict {
            self.top = None;
        }
    }

    /// The calls that led to a body, the innermost first, in words.
    pub(super) fn calls(&self, from: Option<usize>) -> Vec<(Span, String)> {
        let mut found = Vec::new();
        let mut at = from;
        while let Some(frame) = at {
            let Frame { entered, site, outer } = self.frames[frame];
            if let Some(site) = site {
                let site = &self.marks[site];
                let label = match &self.marks[entered].kind {
                    Kind::Enter(name) => format!("in this expansion of `{name}`"),
                    _ => "in this call of `caller()`".to_owned(),
                };
                found.push((Span::new(&site.file, site.range.start, site.range.end), label));
            }
            at = outer;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::names::TableName;

    fn settings() -> Settings {
        Settings {
            target: serde_json::json!({"name": "dev"}),
            vars: BTreeMap::new(),
            environment: BTreeMap::new(),
            secrets: true,
            run_started_at: chrono::DateTime::UNIX_EPOCH,
            invocation_id: String::new(),
            project: "sandbox".to_owned(),
            yaml: super::super::Yaml { parse: |_| None, print: |_| None },
        }
    }

    fn scope() -> Scope {
        Scope {
            this: TableName::new("gold", "m"),
            model: serde_json::json!({}),
            incremental: false,
            known: Arc::default(),
            check_config: |_, _| Ok(()),
            outer_config: Arc::default(),
            tolerated: BTreeSet::new(),
            overrides: Arc::default(),
        }
    }

    fn file(path: &str, text: &str) -> Arc<SourceFile> {
        Arc::new(SourceFile::new(path, text))
    }

    /// The text and its trace; the texts of macro files and of a model in.
    fn traced(macros: &[&str], model: &str) -> Trace {
        let files: Vec<_> =
            macros.iter().enumerate().map(|(at, text)| file(&format!("macros/{at}.sql"), text)).collect();
        let mut problems = Vec::new();
        let templates = Templates::new(settings(), &files, &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        let (rendered, _) = templates.render(&file("models/m.sql", model), scope()).unwrap();
        templates.trace(&rendered, scope())
    }

    /// Where a word of the text comes from, and through which calls.
    fn origin(trace: &Trace, word: &str) -> (String, Vec<String>) {
        let at = trace.sql().find(word).unwrap_or_else(|| panic!("no `{word}` in `{}`", trace.sql()));
        let Location { span, expansions } = trace.locate(at, at + word.len());
        let show = |span: &Span| format!("{}:{}", span.file.path, span.text());
        let calls = expansions.iter().map(|(span, label)| format!("{label} at {}", show(span)));
        (show(&span), calls.collect())
    }

    #[test]
    fn text_that_filters_moved_is_still_found() {
        let trace = traced(
            &["{% macro m() %}\n  first\n second\n{% endmacro %}"],
            "select {{ m() | indent(8) | trim | upper }}, {{ m().strip() }}",
        );
        assert_eq!(origin(&trace, "SECOND").0, "macros/0.sql:second");
        assert_eq!(origin(&trace, "second").0, "macros/0.sql:second");
    }

    #[test]
    fn captured_text_keeps_its_author() {
        let trace = traced(
            &["{% macro w(x) %}( {{ x }} end ){% endmacro %}"],
            "{% set body %} mine {{ w('arg') }} {% endset %}{{ w(body) }} after",
        );
        assert_eq!(origin(&trace, "mine").0, "models/m.sql:mine");
        assert_eq!(origin(&trace, "arg").0, "macros/0.sql:{{ x }}");
        assert_eq!(origin(&trace, "after"), ("models/m.sql:after".into(), vec![]));
        let (_, calls) = origin(&trace, "arg");
        let outer = "in this expansion of `w` at models/m.sql:{{ w(body) }}";
        assert_eq!(calls, ["in this expansion of `w` at models/m.sql:{{ w('arg') }}", outer]);
    }

    #[test]
    fn a_template_that_measures_what_a_macro_wrote_is_traced_to_the_call() {
        let trace =
            traced(&["{% macro m() %}word{% endmacro %}"], "select {{ m() }}{% if m() | length == 4 %} yes{% endif %}");
        assert_eq!(origin(&trace, "word"), ("models/m.sql:{{ m() }}".into(), vec![]));
        assert_eq!(origin(&trace, "yes").0, "models/m.sql:yes");
    }

    /// A piece of a body; `level` macros stand below it. Words are numbered later.
    fn piece(level: usize, depth: u32) -> BoxedStrategy<String> {
        let space = prop::sample::select(vec!["", " ", "\n", "\n  ", "é "]);
        let word = (space.clone(), space).prop_map(|(a, b)| format!("{a}WORD{b}"));
        let shown = prop::sample::select(vec![
            "{{ x }}",
            "{{- x -}}",
            "{{ x ~ '}}' }}",
            "{# {{ #}",
            "{% raw %} {{ WORD }}{% endraw -%}",
        ]);
        let shown = shown.prop_map(str::to_owned);
        if depth == 0 {
            return prop_oneof![word, shown].boxed();
        }
        let inner = move || prop::collection::vec(piece(level, depth - 1), 0..3).prop_map(|parts| parts.concat());
        let looped = (inner(), prop::bool::ANY).prop_map(|(body, trim)| {
            let dash = if trim { "-" } else { "" };
            format!("{{% for i in [1, 2] {dash}%}}{body}{{%{dash} endfor %}}")
        });
        let captured = inner().prop_map(|body| format!("{{% set y %}}{body}{{% endset %}}{{{{ y | trim }}}} WORD"));
        if level == 0 {
            return prop_oneof![word, shown, looped, captured].boxed();
        }
        let called = (0..level).prop_map(|callee| format!("{{{{ m{callee}('ARG') }}}}"));
        let passed = (0..level, 0..level).prop_map(|(a, b)| format!("{{{{ m{a}(m{b}('ARG')) | trim }}}}"));
        let block = (0..level, inner())
            .prop_map(|(callee, body)| format!("{{% call m{callee}('ARG') %}}{body}{{% endcall %}}"));
        prop_oneof![word, shown, looped, captured, called, passed, block].boxed()
    }

    /// Gives each `WORD` and `ARG` its own number.
    fn numbered(text: &str, next: &mut usize) -> String {
        let mut parts = text.split("WORD");
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            *next += 1;
            out.push_str(&format!("w{next}_"));
            out.push_str(part);
        }
        out.replace("'ARG'", "'arg'")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn every_byte_leads_to_the_byte_that_wrote_it(
            bodies in (0..4usize).prop_flat_map(|levels| (0..=levels)
                .map(|level| prop::collection::vec(piece(level, 2), 1..4).prop_map(|parts| parts.concat()))
                .collect::<Vec<_>>()),
        ) {
            let mut next = 0;
            let mut texts: Vec<String> = bodies.iter().map(|body| numbered(body, &mut next)).collect();
            let model = format!("{{% set x = 'lit' %}}{}", texts.pop().unwrap());
            let macros: Vec<String> = texts.iter().enumerate().map(|(at, body)| {
                format!("{{# m #}}\n{{% macro m{at}(x) -%}}\n{body}{{% if caller is defined %}}{{{{ caller() }}}}{{% endif %}}{{% endmacro %}}")
            }).collect();
            let trace = traced(&macros.iter().map(String::as_str).collect::<Vec<_>>(), &model);
            prop_assert!(matches!(trace.map, Map::Marked(_)));
            for (at, _) in trace.sql().match_indices('w') {
                let length = trace.sql()[at..].find('_').unwrap() + 1;
                let Location { span, expansions } = trace.locate(at, at + length);
                prop_assert_eq!(span.text(), &trace.sql()[at..at + length]);
                let outermost = expansions.last().map_or(&span, |(site, _)| site);
                prop_assert_eq!(&outermost.file.path, "models/m.sql");
            }
            for (at, _) in trace.sql().match_indices("arg") {
                let span = trace.locate(at, at + 3).span;
                prop_assert!(span.text().starts_with("{{"), "{}", span.text());
            }
        }
    }
}
