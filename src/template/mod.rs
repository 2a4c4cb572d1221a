//! Jinja: a model's template in, its SQL and everything it asked for out.
//!
//! [`Templates`] holds the project's macros and settings; [`Templates::render`] renders one file
//! and records its `ref`s, `source`s and `config`. [`Templates::trace`] leads from a place in the
//! SQL back to the author's own line, in a macro too. minijinja is used only here.

mod absent;
mod calls;
mod containers;
mod context;
mod conversions;
mod dates;
mod docs;
mod expansion;
mod functions;
mod generic;
mod introspection;
mod macros;
mod marks;
mod modules;
mod overrides;
mod reach;
mod rewrite;
mod scope;
mod source_map;
mod tags;
mod values;
mod warned;
mod witness;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use indexmap::IndexMap;
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Template, UndefinedBehavior, Value, context};

use crate::diagnostics::{Diagnostic, Id, SourceFile, Span};
use crate::names::TableName;
pub use absent::instead_of_name;
use dates::Moment;
pub use docs::{blocks as docs_blocks, read as read_docs};
pub use expansion::Trace;
use expansion::Twin;
pub use functions::{plain_relation, ref_relation, source_relation};
pub use generic::{Argument, TestCall, TestSignature};
pub use introspection::{asks_database, instead_of_asking};
use macros::MacroLibrary;
pub use macros::is_built_in;
pub use overrides::Overrides;
pub use reach::MacroTexts;
use rewrite::Rewritten;
use scope::ScopeObject;
pub use scope::{Config, Recording, RefRead, Scope, SourceRead};
use source_map::PointerMap;
use values::InvocationId;
pub use witness::Witnesses;

/// What templates may ask about this run: pure input, so that rendering is a function of it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `target` in templates: name, root, and so on.
    pub target: serde_json::Value,
    /// `var()`: those of `project.yml`, overridden by `--vars`.
    pub vars: BTreeMap<String, serde_json::Value>,
    /// `env_var()`: the process environment.
    pub environment: BTreeMap<String, String>,
    /// Whether `env_var()` tells secrets: what is rendered is written nowhere.
    pub secrets: bool,
    /// `run_started_at`.
    pub run_started_at: chrono::DateTime<chrono::Utc>,
    /// `invocation_id`.
    pub invocation_id: String,
    /// `project_name`, which is also the package of the project's own macros.
    pub project: String,
    /// `fromyaml` and `toyaml`.
    pub yaml: Yaml,
}

/// A YAML library, lent by the module that owns it.
#[derive(Debug, Clone, Copy)]
pub struct Yaml {
    /// The value of a text; `None` if it is not YAML.
    pub parse: fn(&str) -> Option<serde_json::Value>,
    /// The text of a value.
    pub print: fn(&serde_json::Value) -> Option<String>,
}

/// What templates may know of the project: names, and what YAML tells about them.
#[derive(Debug, Default)]
pub struct KnownNames {
    /// Models by their short name, which is unique in the project.
    pub models: IndexMap<&'static str, TableName>,
    /// Declared source tables.
    pub sources: BTreeSet<TableName>,
    /// Blocks of documentation, for `doc()`.
    pub docs: BTreeMap<String, String>,
    /// Columns of tables whose YAML tells all of them: sources with declared columns, models with a contract.
    pub columns: BTreeMap<TableName, Vec<String>>,
    /// Values of columns with an `accepted_values` test.
    pub accepted_values: BTreeMap<(TableName, String), Vec<serde_json::Value>>,
}

impl KnownNames {
    /// The full name of a model that somebody calls by its short or its full name.
    pub fn model(&self, name: &str) -> Option<&TableName> {
        let short = name.rsplit('.').next().unwrap_or(name);
        self.models.get(short).filter(|full| short == name || full.to_string() == name)
    }

    /// Whether there is a model of this full name.
    pub fn has_model(&self, name: &TableName) -> bool {
        self.models.get(name.table) == Some(name)
    }
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
    library: Arc<MacroLibrary>,
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
    /// The mistake is in what was set before the template: in an argument of a generic test.
    pub is_before: bool,
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
        environment.set_unknown_method_callback(python_method);
        functions::register(&mut environment, settings.clone());
        conversions::register(&mut environment, settings.yaml);
        containers::register(&mut environment);
        dates::register(&mut environment);
        modules::register(&mut environment);
        introspection::register(&mut environment);
        let library = Arc::new(MacroLibrary::load(&mut environment, &settings.project, macro_files, problems));
        calls::register(&mut environment, &library);
        context::register(&mut environment);
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
        let clock = Clock { run_started_at, invocation_id };
        self.render_subject(Subject::File(file), scope, &clock)
    }

    fn render_subject(
        &self,
        subject: Subject<'_>,
        scope: Scope,
        clock: &Clock<'_>,
    ) -> Result<(Rendered, Recording), Box<Failure>> {
        let body = self.body(subject);
        let scope = Arc::new(ScopeObject::new(scope));
        let sql = self.with_template(&body, &scope, clock, |template, context, _| {
            let mut output = Output(Vec::new());
            template.render_captured_to(context, &mut output)?;
            Ok(String::from_utf8_lossy(&output.0).into_owned())
        });
        match sql {
            Ok(sql) => {
                let mut recording = scope.recording();
                recording.macros = self.library.reached(&format!("{}{}", body.settings, body.rewritten.text));
                Ok((Rendered { sql, file: Arc::clone(body.file) }, recording))
            }
            Err((error, prefix)) => Err(Box::new(self.failure(subject, &body, prefix, &error, &scope))),
        }
    }

    /// What minijinja gets to see of a subject.
    fn body<'a>(&'a self, subject: Subject<'a>) -> Body<'a> {
        match subject {
            Subject::File(file) => Body {
                name: file.path.clone(),
                file,
                rewritten: rewrite::template(file.text()),
                settings: String::new(),
                arguments: Value::UNDEFINED,
            },
            Subject::Test(name, call) => self.test_body(name, call),
        }
    }

    /// Hands out a body as a template, everything that it may use, and how much stands in it before the file's own
    /// text; an error comes with that length, too.
    fn with_template<T>(
        &self,
        body: &Body<'_>,
        scope: &Arc<ScopeObject>,
        clock: &Clock<'_>,
        render: impl FnOnce(&Template<'_, '_>, Value, usize) -> Result<T, minijinja::Error>,
    ) -> Result<T, (minijinja::Error, usize)> {
        let Body { name, rewritten, settings, arguments, .. } = body;
        let mut source = self.library.import_statements(&format!("{settings}{}", rewritten.text));
        source.push_str(settings);
        let prefix = source.len();
        source.push_str(&rewritten.text);
        let this = functions::relation(&scope.scope.this);
        let schema = scope.scope.this.schema;
        let model = Value::from(minijinja::value::Serde(&scope.scope.model));
        let overrides = &scope.scope.overrides;
        let id = overrides.invocation_id.as_deref().unwrap_or(clock.invocation_id);
        let id = InvocationId { id: id.to_owned(), scope: Arc::clone(scope) };
        let now = overrides.now.unwrap_or(clock.run_started_at);
        let context = context! {
            __lake => Value::from_dyn_object(Arc::clone(scope)),
            run_started_at => Value::from_object(Moment::of_run(now, Some(Arc::clone(scope)))),
            invocation_id => Value::from_object(id),
            this, schema, model, config => Value::from_dyn_object(Arc::clone(scope)),
        };
        let context = if arguments.is_undefined() {
            context
        } else {
            context! { ..arguments.clone(), ..context }
        };
        self.environment
            .template_from_named_str(name, &source)
            .and_then(|template| render(&template, context, prefix))
            .map_err(|error| (error, prefix))
    }

    /// Where a subject's own file wrote what: the last resort of [`Templates::trace`].
    fn pointer_map(&self, subject: Subject<'_>, scope: Scope) -> Option<PointerMap> {
        let body = self.body(subject);
        let scope = Arc::new(ScopeObject::new(scope));
        let mut map = self.with_template(&body, &scope, &self.clock(), source_map::render).ok()?;
        map.relocate(|offset| body.rewritten.original(offset));
        Some(map)
    }

    fn clock(&self) -> Clock<'_> {
        Clock { run_started_at: self.settings.run_started_at, invocation_id: &self.settings.invocation_id }
    }

    /// The same templates with marks; a twin has none.
    fn twin(&self) -> Option<&Twin> {
        let twin = self.twin.get_or_init(|| Some(Box::new(Twin::new(self.settings.clone(), &self.macro_files))));
        twin.as_deref()
    }

    /// Renders a text of YAML that may use `doc()`, variables and macros.
    ///
    /// # Errors
    /// What is wrong, without a place.
    pub fn render_text(&self, text: &str, scope: Scope) -> Result<(String, Recording), Box<Diagnostic>> {
        let file = Arc::new(SourceFile::new("text".to_owned(), text.to_owned()));
        match self.render(&file, scope) {
            Ok((rendered, recording)) => Ok((rendered.sql, recording)),
            Err(failure) => Err(Box::new(failure.diagnostic)),
        }
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

    fn failure(
        &self,
        subject: Subject<'_>,
        body: &Body<'_>,
        prefix: usize,
        error: &minijinja::Error,
        scope: &ScopeObject,
    ) -> Failure {
        let file = body.file;
        let in_file = |offset: usize| body.rewritten.original(offset.saturating_sub(prefix));
        let in_macro = error.name().and_then(|name| self.library.locate(name, error.range()));
        let is_in_macro = in_macro.is_some();
        let span = in_macro.or_else(|| {
            let range = error.range().map(|range| (in_file(range.start), in_file(range.end)));
            let range = range.or_else(|| line_range(file, error.line()?));
            range.map(|(start, end)| Span::new(file, start, end))
        });
        let problem = introspection::carried(error).or_else(|| scope.take_problem()).or_else(|| absent::of(error));
        let (id, message) = match &problem {
            Some(problem) => (problem.id, problem.message.clone()),
            None => (Id::Template, phrase(error)),
        };
        let span = span.map_or_else(|| Span::file_start(file), whole_name);
        let mut diagnostic = Diagnostic::error(id, message).at(span);
        let twin = if is_in_macro { self.twin() } else { None };
        let calls = twin.map(|twin| twin.calls_to_failure(subject, scope.scope.clone(), &diagnostic.message));
        match calls {
            Some(calls) if !calls.is_empty() => diagnostic.related.extend(calls),
            _ if is_in_macro => diagnostic = diagnostic.note(format!("reached from `{}`", file.path)),
            _ => {}
        }
        let mut missing = None;
        if let Some(problem) = problem {
            diagnostic.help.extend(problem.help);
            missing = problem.missing;
        } else if let Some(help) = self.help_of(error) {
            diagnostic = diagnostic.help(help);
        }
        let is_before = !is_in_macro && error.range().is_some_and(|range| range.start < prefix);
        Failure { diagnostic, missing, is_before }
    }

    fn help_of(&self, error: &minijinja::Error) -> Option<String> {
        let message = phrase(error);
        if message.starts_with("tried to use % operator") {
            return Some("Python's `%` of texts is written as a filter: '%s of %s' | format(a, b)".to_owned());
        }
        let name = absent::undefined_name(&message)?;
        let globals: Vec<&str> =
            self.environment.globals().map(|(name, _)| name).filter(|name| !name.starts_with("__")).collect();
        let known = globals.into_iter().chain(self.library.names()).chain(["this", "model", "config"]);
        match crate::names::nearest(name, known).filter(|near| *near != name) {
            Some(near) => Some(format!("did you mean `{near}`?")),
            None if message.contains("has no method named") => {
                Some(format!("if `{name}` is a package: its macros would stand in macros/{name}/"))
            }
            None => None,
        }
    }
}

/// Python's methods of texts, lists and dicts.
fn python_method(
    state: &mut minijinja::State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, minijinja::Error> {
    let found = minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args);
    found.map_err(|error| match error.kind() {
        minijinja::ErrorKind::UnknownMethod => containers::cannot_change(value, method).unwrap_or(error),
        _ => error,
    })
}

/// What is rendered: a file, or one use of a generic test.
#[derive(Clone, Copy)]
enum Subject<'a> {
    File(&'a Arc<SourceFile>),
    Test(&'a str, &'a TestCall),
}

/// A subject as minijinja gets it.
struct Body<'a> {
    name: String,
    file: &'a Arc<SourceFile>,
    rewritten: Rewritten,
    /// Statements that go before it.
    settings: String,
    /// Variables beside those that every template has.
    arguments: Value,
}

/// What differs between two runs.
struct Clock<'a> {
    run_started_at: chrono::DateTime<chrono::Utc>,
    invocation_id: &'a str,
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
