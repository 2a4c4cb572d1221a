//! What one render may use, and what it asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};

use indexmap::IndexMap;
use minijinja::value::{Kwargs, Object, Rest};
use minijinja::{Error, ErrorKind, State, Value};

use super::{ConfigCheck, KnownNames, Overrides};
use crate::diagnostics::Id;
use crate::names::TableName;

/// The keys of `config()` as the template gave them.
pub type Config = IndexMap<String, serde_json::Value>;

/// How a model reads a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum SourceRead {
    /// What the mode of the model says: an incremental run takes new files only.
    Changes,
    /// All files in every run: `source('bronze', 'courses', changes=false)`.
    All,
}

/// How a model reads another one, if not as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum RefRead {
    /// All rows in every batch of a model that runs in batches: `ref('courses').render()`.
    All,
    /// What changed since the model that reads was last published: `ref('views', changes=true)`.
    Changes,
}

/// What one render may use.
#[derive(Clone)]
pub struct Scope {
    /// The model itself.
    pub this: TableName,
    /// `model` in templates.
    pub model: serde_json::Value,
    /// The answer of `is_incremental()`.
    pub incremental: bool,
    /// What `ref` and `source` may name.
    pub known: Arc<KnownNames>,
    /// How to check `config()`.
    pub check_config: ConfigCheck,
    /// The config known from outside the file, for `config.get()`.
    pub outer_config: Arc<Config>,
    /// Unknown names that are already reported.
    pub tolerated: BTreeSet<String>,
    /// What a unit test puts in the place of what there is.
    pub overrides: Arc<Overrides>,
}

/// What one render asked for.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    /// Models named by `ref`, in order of first use.
    pub refs: Vec<TableName>,
    /// Models that are read in a way of their own, beside `refs`.
    pub ref_reads: Vec<(TableName, RefRead)>,
    /// Sources named by `source`, in order of first use.
    pub sources: Vec<(TableName, SourceRead)>,
    /// What `config()` said; a later call overrides an earlier one.
    pub config: Config,
    /// `is_incremental()` or `this` was asked for, so the other answer may give other SQL.
    pub asked_incremental: bool,
    /// The text depends on the clock or the run, so equal inputs do not make equal outputs.
    pub asked_clock: bool,
    /// The variables that were read.
    pub vars: BTreeSet<String>,
    /// The files of macros that it reaches, apart from those that are built in.
    pub macros: BTreeSet<String>,
    /// The environment variables that were read.
    pub env: BTreeSet<String>,
    /// Everything else that the text depends on and that stands outside its own file, the macros and the settings:
    /// `doc:name`, `columns:layer.model` and
    /// `values:layer.model.column`, each with what [`super::KnownNames`] says of it.
    pub observed: BTreeSet<String>,
    /// What `exceptions.warn()` said.
    pub(super) warnings: Vec<String>,
}

/// A mistake found by one of the functions, told better than a template error could.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    pub(super) id: Id,
    pub(super) message: String,
    pub(super) help: Vec<String>,
    pub(super) missing: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// The scope as templates hold it: also the `config` object.
pub(super) struct ScopeObject {
    pub(super) scope: Scope,
    recording: Mutex<Recording>,
    problem: Mutex<Option<Problem>>,
    /// The files of macros that the template imported.
    modules: Mutex<BTreeMap<usize, Value>>,
}

impl fmt::Debug for ScopeObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scope of {}", self.scope.this)
    }
}

impl ScopeObject {
    pub(super) fn new(scope: Scope) -> Self {
        Self { scope, recording: Mutex::default(), problem: Mutex::default(), modules: Mutex::default() }
    }

    pub(super) fn of(state: &State<'_, '_>) -> Result<Arc<Self>, Error> {
        state.lookup("__lake").and_then(|value| value.downcast_object::<Self>()).ok_or_else(|| {
            Error::new(ErrorKind::InvalidOperation, "this function works in a model, a macro or a test only")
        })
    }

    /// The module of a file of macros.
    pub(super) fn module(&self, file: usize) -> Option<Value> {
        self.modules.lock().expect("no render panics while it records").get(&file).cloned()
    }

    /// Notes something outside the template that its text depends on.
    pub(super) fn observe(&self, what: String) {
        self.record(|recording| {
            recording.observed.insert(what);
        });
    }

    pub(super) fn record(&self, note: impl FnOnce(&mut Recording)) {
        note(&mut self.recording.lock().expect("no render panics while it records"));
    }

    /// Notes how a model is read.
    pub(super) fn read_ref(&self, name: &TableName, read: RefRead) {
        let read = (name.clone(), read);
        self.record(|recording| {
            if !recording.ref_reads.contains(&read) {
                recording.ref_reads.push(read);
            }
        });
    }

    /// What `config()` has said so far, or what is set outside of the file.
    pub(super) fn setting(&self, key: &str) -> Option<serde_json::Value> {
        let inner = self.recording.lock().expect("no render panics while it records").config.get(key).cloned();
        inner.or_else(|| self.scope.outer_config.get(key).cloned())
    }

    pub(super) fn recording(&self) -> Recording {
        self.recording.lock().expect("no render panics while it records").clone()
    }

    /// Keeps the better words for a mistake and returns the error that stops the render.
    pub(super) fn fail(&self, problem: Problem) -> Error {
        let error = Error::new(ErrorKind::InvalidOperation, problem.message.clone());
        *self.problem.lock().expect("no render panics while it records") = Some(problem);
        error
    }

    pub(super) fn take_problem(&self) -> Option<Problem> {
        self.problem.lock().expect("no render panics while it records").take()
    }

    fn configure(&self, kwargs: &Kwargs) -> Result<Value, Error> {
        for key in kwargs.args() {
            let value: Value = kwargs.get(key)?;
            let value = serde_json::to_value(&value)
                .map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("config `{key}`: {error}")))?;
            (self.scope.check_config)(key, &value).map_err(|message| {
                let id = match &message {
                    unknown if unknown.starts_with("unknown") => Id::UnknownKey,
                    absent if absent.contains("is of dbt and not of lake") => Id::NotSupported,
                    _ => Id::InvalidValue,
                };
                let (message, help) = match message.split_once("; ") {
                    Some((message, help)) => (message.to_owned(), vec![help.to_owned()]),
                    None => (message, Vec::new()),
                };
                self.fail(Problem { id, message, help, missing: None })
            })?;
            self.record(|recording| {
                recording.config.insert(key.to_owned(), value);
            });
        }
        Ok(Value::from(""))
    }
}

impl Object for ScopeObject {
    /// `config(materialized='table', ...)`.
    fn call(self: &Arc<Self>, _state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let (rest, kwargs): (Rest<Value>, Kwargs) = minijinja::value::from_args(args)?;
        if !rest.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "config() takes named arguments: config(materialized='table')",
            ));
        }
        self.configure(&kwargs)
    }

    /// `config.get('key', default)` and `config.require('key')`.
    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        let (key, default): (String, Option<Value>) = match method {
            "get" | "require" => minijinja::value::from_args(args)?,
            // What the import statements of a template call: see `macros`.
            "take_module" => {
                let (file, module): (usize, Value) = minijinja::value::from_args(args)?;
                self.modules.lock().expect("no render panics while it records").insert(file, module);
                return Ok(Value::from(""));
            }
            _ => return Err(Error::from(ErrorKind::UnknownMethod)),
        };
        let value = self.setting(&key);
        match (value, default, method) {
            (Some(value), _, _) => Ok(Value::from(minijinja::value::Serde(&value))),
            (None, Some(default), "get") => Ok(default),
            (None, None, "get") => Ok(Value::from(())),
            _ => Err(Error::new(ErrorKind::InvalidOperation, format!("config `{key}` is required and is not set"))),
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "config")
    }
}
