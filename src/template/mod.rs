//! Jinja: a model's template in, its SQL and everything it asked for out.
//!
//! [`Templates`] holds the project's macros and settings; [`Templates::render`] renders one file
//! and records its `ref`s, `source`s and `config`. [`Templates::trace`] leads from a place in the
//! SQL back to the author's own line, in a macro too. minijinja is used only here.

mod expansion;
mod functions;
mod macros;
mod marks;
mod reach;
mod scope;
mod source_map;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Template, UndefinedBehavior, Value, context};

use crate::diagnostics::{Diagnostic, Id, SourceFile, Span};
use crate::names::TableName;
pub use expansion::Trace;
use expansion::Twin;
pub use functions::source_relation;
use macros::MacroLibrary;
pub use reach::MacroTexts;
use scope::ScopeObject;
pub use scope::{Config, Recording, Scope, SourceRead};
use source_map::PointerMap;
use values::{InvocationId, RunStartedAt};

/// What templates may ask about this run: pure input, so that rendering is a function of it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `target` in templates: name, root, and so on.
    pub target: serde_json::Value,
    /// `var()`: those of `project.yml`, overridden by `--vars`.
    pub vars: BTreeMap<String, serde_json::Value>,
    /// `env_var()`: the process environment.
    pub environment: BTreeMap<String, String>,
    /// `run_started_at`.
    pub run_started_at: chrono::DateTime<chrono::Utc>,
    /// `invocation_id`.
    pub invocation_id: String,
}

/// The names that `ref` and `source` may use.
#[derive(Debug, Default)]
pub struct KnownNames {
    /// Models by their short name, which is unique in the project.
    pub models: BTreeMap<String, TableName>,
    /// Declared source tables.
    pub sources: BTreeSet<TableName>,
}

/// Checks one key of `config()`; says in a phrase what is wrong with it.
pub type ConfigCheck = fn(&str, &serde_json::Value) -> Result<(), String>;

/// The text that a template became.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Rendered {
    /// The rendered text.
    pub sql: String,
    /// The template.
    pub file: Arc<SourceFile>,
}

/// The project's Jinja: functions, settings and macros, ready to render any file.
#[derive(Debug)]
pub struct Templates {
    environment: Environment<'static>,
    library: MacroLibrary,
    settings: Settings,
    macro_files: Vec<Arc<SourceFile>>,
    /// Made when the first diagnostic needs the way back from SQL.
    twin: OnceLock<Option<Box<Twin>>>,
}

/// A template that failed to render.
#[derive(Debug)]
pub struct Failure {
    /// What is wrong and where.
    pub diagnostic: Diagnostic,
    /// The `ref` or `source` that does not exist, if that was the reason: render again with it among the
    /// tolerated names to find the next mistake.
    pub missing: Option<String>,
}

impl Templates {
    /// Loads the macro files. A file that does not parse is reported, and rendering goes on without any macro.
    pub fn new(settings: Settings, macro_files: &[Arc<SourceFile>], problems: &mut Vec<Diagnostic>) -> Self {
        let mut environment = Environment::new();
        environment.set_debug(true);
        environment.set_syntax(syntax());
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_recursion_limit(120);
        environment.set_fuel(Some(MOST_STEPS));
        minijinja_contrib::add_to_environment(&mut environment);
        // A clock that nobody notes would make a model change in every run; `run_started_at` is noted.
        environment.remove_global("now");
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        functions::register(&mut environment, settings.clone());
        let library = MacroLibrary::load(&mut environment, macro_files, problems);
        Self { environment, library, settings, macro_files: macro_files.to_vec(), twin: OnceLock::new() }
    }

    /// Renders one file.
    ///
    /// # Errors
    /// The first mistake in the template, at its place in the user's file.
    pub fn render(&self, file: &Arc<SourceFile>, scope: Scope) -> Result<(Rendered, Recording), Box<Failure>> {
        self.render_at(file, scope, self.settings.run_started_at, &self.settings.invocation_id)
    }

    /// Renders one file as if the run had started in 1970: what differs between two runs is not in it.
    ///
    /// # Errors
    /// As [`Templates::render`].
    pub fn render_timeless(&self, file: &Arc<SourceFile>, scope: Scope) -> Result<String, Box<Failure>> {
        let (rendered, _) = self.render_at(file, scope, chrono::DateTime::UNIX_EPOCH, "")?;
        Ok(rendered.sql)
    }

    fn render_at(
        &self,
        file: &Arc<SourceFile>,
        scope: Scope,
        run_started_at: chrono::DateTime<chrono::Utc>,
        invocation_id: &str,
    ) -> Result<(Rendered, Recording), Box<Failure>> {
        let scope = Arc::new(ScopeObject::new(scope));
        let clock = (run_started_at, invocation_id);
        let sql = self.with_template(file, &scope, clock, |template, context, _| {
            let mut output = Output(Vec::new());
            template.render_captured_to(context, &mut output)?;
            Ok(String::from_utf8_lossy(&output.0).into_owned())
        });
        match sql {
            Ok(sql) => Ok((Rendered { sql, file: Arc::clone(file) }, scope.recording())),
            Err((error, prefix)) => Err(Box::new(self.failure(file, prefix, &error, &scope))),
        }
    }

    /// Hands out a file as a template, everything that it may use, and how much stands in it before the file's own
    /// text; an error comes with that length, too.
    fn with_template<T>(
        &self,
        file: &Arc<SourceFile>,
        scope: &Arc<ScopeObject>,
        (run_started_at, invocation_id): (chrono::DateTime<chrono::Utc>, &str),
        render: impl FnOnce(&Template<'_, '_>, Value, usize) -> Result<T, minijinja::Error>,
    ) -> Result<T, (minijinja::Error, usize)> {
        let prefix = self.library.import_statement(file.text());
        let source = format!("{prefix}{}", file.text());
        let this = functions::relation(&scope.scope.this);
        let model = Value::from(minijinja::value::Serde(&scope.scope.model));
        let context = context! {
            __lake => Value::from_dyn_object(Arc::clone(scope)),
            run_started_at => Value::from_object(RunStartedAt { at: run_started_at, scope: Some(Arc::clone(scope)) }),
            invocation_id => Value::from_object(InvocationId { id: invocation_id.to_owned(), scope: Arc::clone(scope) }),
            this => this, model => model, config => Value::from_dyn_object(Arc::clone(scope)),
        };
        self.environment
            .template_from_named_str(&file.path, &source)
            .and_then(|template| render(&template, context, prefix.len()))
            .map_err(|error| (error, prefix.len()))
    }

    /// Where `file` wrote what: the last resort of [`Templates::trace`].
    fn pointer_map(&self, file: &Arc<SourceFile>, scope: Scope) -> Option<PointerMap> {
        let scope = Arc::new(ScopeObject::new(scope));
        let clock = (self.settings.run_started_at, self.settings.invocation_id.as_str());
        self.with_template(file, &scope, clock, source_map::render).ok()
    }

    /// The same templates with marks; a twin has none.
    fn twin(&self) -> Option<&Twin> {
        let twin = self.twin.get_or_init(|| Some(Box::new(Twin::new(self.settings.clone(), &self.macro_files))));
        twin.as_deref()
    }

    /// Renders a short text such as a path in YAML: settings, but no `ref`, macros or config.
    ///
    /// # Errors
    /// What is wrong, as a phrase.
    pub fn render_value(&self, text: &str) -> Result<String, String> {
        if !text.contains("{{") && !text.contains("{%") {
            return Ok(text.to_owned());
        }
        self.environment.render_str(text, context! {}).map_err(|error| phrase(&error))
    }

    fn failure(&self, file: &Arc<SourceFile>, prefix: usize, error: &minijinja::Error, scope: &ScopeObject) -> Failure {
        let span = if error.name() == Some(macros::LIBRARY) {
            error.range().and_then(|range| self.library.locate(range))
        } else {
            error
                .range()
                .map(|range| (range.start.saturating_sub(prefix), range.end.saturating_sub(prefix)))
                .or_else(|| line_range(file, error.line()?))
                .map(|(start, end)| Span::new(file, start, end))
        };
        let in_macro = error.name() == Some(macros::LIBRARY);
        let problem = scope.take_problem();
        let (id, message) = match &problem {
            Some(problem) => (problem.id, problem.message.clone()),
            None => (Id::Template, phrase(error)),
        };
        let span = span.map_or_else(|| Span::file_start(file), whole_name);
        let mut diagnostic = Diagnostic::error(id, message).at(span);
        let twin = if in_macro { self.twin() } else { None };
        let calls = twin.map(|twin| twin.calls_to_failure(file, scope.scope.clone(), &diagnostic.message));
        match calls {
            Some(calls) if !calls.is_empty() => diagnostic.related.extend(calls),
            _ if in_macro => diagnostic = diagnostic.note(format!("reached from `{}`", file.path)),
            _ => {}
        }
        let mut missing = None;
        if let Some(problem) = problem {
            diagnostic.help.extend(problem.help);
            missing = problem.missing;
        } else if let Some(help) = self.unknown_name_help(error) {
            diagnostic = diagnostic.help(help);
        }
        Failure { diagnostic, missing }
    }

    fn unknown_name_help(&self, error: &minijinja::Error) -> Option<String> {
        let message = phrase(error);
        let name = message.split(['`', '\'', '"']).nth(1).or_else(|| message.split_whitespace().nth(1))?;
        let globals: Vec<&str> = self.environment.globals().map(|(name, _)| name).collect();
        let known = globals.into_iter().chain(self.library.names()).chain(["this", "model", "config"]);
        crate::names::nearest(name, known).filter(|n| *n != name).map(|n| format!("did you mean `{n}`?"))
    }
}

/// minijinja points at `.b` of `a.b`: people look for `a.b`.
fn whole_name(mut span: Span) -> Span {
    if span.text().starts_with(['.', '[']) {
        let before = &span.file.text()[..span.start];
        span.start = before.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_' || c == '.').len();
    }
    span
}

fn line_range(file: &SourceFile, line: usize) -> Option<(usize, usize)> {
    let start = file.offset(line, 1);
    let end = file.text().get(start..)?.find('\n').map_or(file.text().len(), |at| start + at);
    Some((start, end))
}

/// Steps after which a template is stopped: far more than any project needs, and a second or two of time.
const MOST_STEPS: u64 = 20_000_000;

/// Bytes that one template may write.
const MOST_OUTPUT: usize = 64 << 20;

/// What a template wrote, up to a limit.
struct Output(Vec<u8>);

impl std::io::Write for Output {
    fn write(&mut self, written: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + written.len() > MOST_OUTPUT {
            return Err(std::io::Error::other("too much"));
        }
        self.0.extend_from_slice(written);
        Ok(written.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// minijinja's error as a phrase in this program's style.
fn phrase(error: &minijinja::Error) -> String {
    match error.kind() {
        minijinja::ErrorKind::OutOfFuel => {
            return format!(
                "this template runs too long: it is stopped after {} million steps",
                MOST_STEPS / 1_000_000
            );
        }
        minijinja::ErrorKind::WriteFailure => {
            return format!("this template writes more than {} MB", MOST_OUTPUT >> 20);
        }
        _ => {}
    }
    match error.detail() {
        Some(detail) => detail.trim_end_matches('.').to_owned(),
        None => error.kind().to_string(),
    }
}

/// Jinja's default syntax; a file's last newline is kept so that offsets stay true.
fn syntax() -> SyntaxConfig {
    SyntaxConfig::builder().keep_trailing_newline(true).build().expect("the default delimiters are valid")
}
