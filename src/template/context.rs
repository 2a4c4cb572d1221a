//! `context['name']` and `context.get('name')`: what a template may use, by a name that it works out.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use minijinja::value::Object;
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::introspection;
use super::scope::Problem;
use crate::diagnostics::Id;

/// Names that mean something else in each render: a plain lookup cannot see them.
const OF_A_RENDER: &[&str] = &["this", "schema", "model", "config", "run_started_at", "invocation_id"];

/// Makes `context` known; it has everything that is known before.
pub(super) fn register(environment: &mut Environment<'static>) {
    let globals = environment.globals().filter(|(name, _)| !name.starts_with("__"));
    let known = globals.map(|(name, value)| (name.to_owned(), value)).collect();
    environment.add_global("context", Value::from_object(Context { known }));
}

#[derive(Debug)]
struct Context {
    known: BTreeMap<String, Value>,
}

impl Object for Context {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let name = key.as_str()?;
        if OF_A_RENDER.contains(&name) {
            let message = format!("`context['{name}']` is not known: `{name}` is another value in each template");
            let help = vec![format!("write `{name}` itself, or `context.get('{name}')`")];
            let problem = Problem { id: Id::Template, message, help, missing: None };
            return Some(Value::from(introspection::problem(problem)));
        }
        self.known.get(name).cloned()
    }

    fn call_method(self: &Arc<Self>, state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        if method != "get" {
            return Err(Error::from(ErrorKind::UnknownMethod));
        }
        let (name, default): (String, Option<Value>) = minijinja::value::from_args(args)?;
        let found = state.lookup(&name).filter(|_| !name.starts_with("__"));
        Ok(found.or(default).unwrap_or(Value::from(())))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("context")
    }
}
