//! The objects that templates hold.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object};
use minijinja::{Error, ErrorKind, State, Value};

use super::scope::ScopeObject;
use crate::names::TableName;

/// A table: prints as quoted SQL.
#[derive(Debug)]
pub(super) struct Relation(pub(super) TableName);

impl Object for Relation {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "schema" => Some(Value::from(self.0.schema)),
            "identifier" | "name" | "table" | "alias" => Some(Value::from(self.0.table)),
            "database" => Some(Value::from(())),
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&["schema", "identifier", "name", "table"])
    }

    fn call_method(self: &Arc<Self>, state: &mut State<'_, '_>, method: &str, _args: &[Value]) -> Result<Value, Error> {
        match method {
            // There is one way to name a table here.
            "include" | "quote" => Ok(Value::from_dyn_object(Arc::clone(self))),
            "render" => Ok(Value::from(super::functions::whole(state, &self.0).quoted())),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.quoted())
    }
}

/// The id of the run: another one in every run, which its scope notes as it notes the clock.
#[derive(Debug)]
pub(super) struct InvocationId {
    pub(super) id: String,
    pub(super) scope: Arc<ScopeObject>,
}

impl Object for InvocationId {
    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.scope.record(|recording| recording.asked_clock = true);
        f.write_str(&self.id)
    }
}

/// `exceptions.raise_compiler_error(message)` and `exceptions.warn(message)`.
#[derive(Debug)]
pub(super) struct Exceptions;

impl Object for Exceptions {
    fn call_method(self: &Arc<Self>, state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        let (message,): (String,) = minijinja::value::from_args(args)?;
        match method {
            "raise_compiler_error" => Err(Error::new(ErrorKind::InvalidOperation, message)),
            "warn" => {
                let scope = ScopeObject::of(state)?;
                scope.record(|recording| recording.warnings.push(message));
                Ok(Value::from(""))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// `flags`: what the command line says is not for templates, since a template is rendered once for all runs.
#[derive(Debug)]
pub(super) struct Flags;

impl Object for Flags {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "FULL_REFRESH" => Some(Value::from(super::introspection::problem(super::scope::Problem {
                id: crate::diagnostics::Id::Template,
                message: "`flags.FULL_REFRESH` is not known while a template is rendered".to_owned(),
                help: vec!["ask `is_incremental()`: it is false in a full refresh and in a first run".to_owned()],
                missing: None,
            }))),
            _ => None,
        }
    }
}
