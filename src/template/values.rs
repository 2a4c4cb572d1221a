//! The objects that templates hold.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
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
            "schema" => Some(Value::from(self.0.schema.as_str())),
            "identifier" | "name" | "table" => Some(Value::from(self.0.table.as_str())),
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&["schema", "identifier", "name", "table"])
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.quoted())
    }
}

/// The moment the run started, with the methods of Python's `datetime` that people use. In UTC.
/// A template that shows it depends on the clock, which its scope notes.
#[derive(Debug)]
pub(super) struct RunStartedAt {
    pub(super) at: DateTime<Utc>,
    pub(super) scope: Option<Arc<ScopeObject>>,
}

impl RunStartedAt {
    fn note_clock(&self) {
        if let Some(scope) = &self.scope {
            scope.record(|recording| recording.asked_clock = true);
        }
    }
}

impl Object for RunStartedAt {
    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        self.note_clock();
        match method {
            "strftime" => {
                let (format,): (String,) = minijinja::value::from_args(args)?;
                let mut text = String::new();
                fmt::write(&mut text, format_args!("{}", self.at.format(&format))).map_err(|_| {
                    Error::new(ErrorKind::InvalidOperation, format!("`{format}` is not a strftime format"))
                })?;
                Ok(Value::from(text))
            }
            "isoformat" => Ok(Value::from(self.at.to_rfc3339())),
            "date" => Ok(Value::from(self.at.date_naive().to_string())),
            "timestamp" => Ok(Value::from(self.at.timestamp())),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.note_clock();
        write!(f, "{}", self.at.format("%Y-%m-%d %H:%M:%S%.6f%:z"))
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
    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        let (message,): (String,) = minijinja::value::from_args(args)?;
        match method {
            "raise_compiler_error" => Err(Error::new(ErrorKind::InvalidOperation, message)),
            "warn" => {
                tracing::warn!(target: "lake::template", "{message}");
                Ok(Value::from(""))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}
