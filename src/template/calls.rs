//! Calling macros as dbt does: by name or `package.name`, with `varargs`, `kwargs` and `caller`, and with `return()`
//! giving the caller a value.
//!
//! minijinja's own macros return text and refuse arguments that they do not name. So templates never hold one of them:
//! they hold a [`MacroValue`], which finds the macro, sorts the arguments, and catches what `return()` throws.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{Kwargs, Object, ObjectRepr, Rest};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::macros::{DISPATCH, Macro, MacroLibrary};
use super::rewrite::NATIVE;
use super::scope::{Problem, ScopeObject};
use crate::diagnostics::Id;
use crate::names::nearest;
use crate::words::quoted;

/// Macros of dbt whose names are words of everybody: they are called as `dbt.date(...)` only.
const NOT_BARE: &[&str] =
    &["date", "length", "right", "replace", "position", "cast", "except", "intersect", "equals", "generate_series"];

/// Makes every macro and package known by its name. A macro goes before a function of the same name, as in dbt.
pub(super) fn register(environment: &mut Environment<'static>, library: &Arc<MacroLibrary>) {
    for name in library.names() {
        let is_known = match library.resolve(name, None, "") {
            Ok(found) => !found.is_builtin || !NOT_BARE.contains(&name),
            Err(candidates) => !candidates.is_empty(),
        };
        if is_known {
            let value = MacroValue { library: Arc::clone(library), name: name.to_owned(), package: None };
            environment.add_global(name.to_owned(), Value::from_object(value));
        }
    }
    for package in library.packages() {
        let value = Package { library: Arc::clone(library), name: package.to_owned() };
        environment.add_global(package.to_owned(), Value::from_object(value));
    }
    environment.add_global("adapter", Value::from_object(Adapter { library: Arc::clone(library) }));
    environment.add_function("return", |value: Option<Value>| -> Result<Value, Error> {
        let value = super::containers::mutable(&value.unwrap_or(Value::from(())));
        Err(Error::new(ErrorKind::InvalidOperation, "there is no macro here that `return` could end")
            .with_source(Returned(value)))
    });
}

/// What `return()` throws, and a macro's call catches.
#[derive(Debug)]
struct Returned(Value);

impl fmt::Display for Returned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a returned value")
    }
}

impl std::error::Error for Returned {}

/// The value that an error carries home, if it is no error.
fn returned(error: &Error) -> Option<Value> {
    let mut source = std::error::Error::source(error);
    while let Some(current) = source {
        if let Some(Returned(value)) = current.downcast_ref() {
            return Some(value.clone());
        }
        source = current.source();
    }
    None
}

/// A macro as templates hold it.
#[derive(Debug)]
struct MacroValue {
    library: Arc<MacroLibrary>,
    name: String,
    package: Option<String>,
}

impl Object for MacroValue {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let own = self.library.package_of_template(state.name());
        let found = self.library.resolve(&self.name, self.package.as_deref(), own);
        let found = found.map_err(|candidates| self.unknown(state, &candidates))?;
        call(found, state, args)
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<macro {}>", self.name)
    }
}

impl MacroValue {
    fn unknown(&self, state: &State<'_, '_>, candidates: &[String]) -> Error {
        let Some(package) = &self.package else {
            let message = format!("several packages have a macro `{}`", self.name);
            return fail(state, message, vec![format!("say which one: {}", candidates.join(", "))]);
        };
        let help = match self.library.near(&self.name, Some(package)) {
            Some(near) => format!("did you mean `{package}.{near}`?"),
            None => format!("macros of `{package}` stand in macros/{package}/"),
        };
        fail(state, format!("there is no macro `{package}.{}`", self.name), vec![help])
    }
}

/// An error of a template, with advice.
pub(super) fn fail(state: &State<'_, '_>, message: String, help: Vec<String>) -> Error {
    match ScopeObject::of(state) {
        Ok(scope) => scope.fail(Problem { id: Id::Template, message, help, missing: None }),
        Err(error) => error,
    }
}

fn call(found: &Macro, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
    let scope = ScopeObject::of(state)?;
    if let Some(value) = scope.scope.overrides.of_macro(found) {
        return Ok(Value::from(minijinja::value::Serde(value)));
    }
    let args = bind(found, state, args)?;
    let native = scope
        .module(found.file)
        .and_then(|module| module.get_attr(&format!("{NATIVE}{}", found.name)).ok())
        .filter(|native| !native.is_undefined())
        .ok_or_else(|| {
            let help = "write its name out where it is called, not as a text that is put together".to_owned();
            fail(state, format!("macro `{}` is not loaded here", found.name), vec![help])
        })?;
    match native.call(state, &args) {
        Ok(text) => Ok(text),
        Err(error) => match returned(&error) {
            Some(value) => Ok(value),
            // What goes wrong in a macro that is built in is shown where it is called.
            None if found.is_builtin => Err(without_place(error)),
            None => Err(error),
        },
    }
}

fn without_place(error: Error) -> Error {
    let plain = Error::new(error.kind(), super::phrase(&error));
    plain.with_source(error)
}

/// Sorts arguments into those that the macro names and those that go to `varargs` and `kwargs`.
fn bind(found: &Macro, state: &State<'_, '_>, args: &[Value]) -> Result<Vec<Value>, Error> {
    let (Rest(mut positional), kwargs): (Rest<Value>, Kwargs) = minijinja::value::from_args(args)?;
    let mut named: Vec<(String, Value)> = Vec::new();
    let mut extra: Vec<(String, Value)> = Vec::new();
    for key in kwargs.args() {
        let value: Value = kwargs.get(key)?;
        match found.parameters.iter().position(|parameter| parameter == key) {
            Some(at) if at < positional.len() => {
                let message = format!("macro `{}` gets its argument `{key}` twice", found.name);
                return Err(fail(state, message, Vec::new()));
            }
            Some(_) => named.push((key.to_owned(), value)),
            None if key == "caller" && found.takes_caller => named.push((key.to_owned(), value)),
            None if found.takes_kwargs => extra.push((key.to_owned(), value)),
            None => return Err(unknown_argument(found, state, key)),
        }
    }
    if positional.len() > found.parameters.len() {
        let rest = positional.split_off(found.parameters.len());
        if !found.takes_varargs {
            let (most, given) = (found.parameters.len(), found.parameters.len() + rest.len());
            let message = format!("macro `{}` takes {most} {}, not {given}", found.name, arguments(most));
            return Err(fail(state, message, vec![signature(found)]));
        }
        named.push(("varargs".to_owned(), Value::from(rest)));
    }
    if !extra.is_empty() {
        named.push(("kwargs".to_owned(), Value::from_pairs(extra)));
    }
    if !named.is_empty() {
        positional.push(Kwargs::from_iter(named).into());
    }
    Ok(positional)
}

fn unknown_argument(found: &Macro, state: &State<'_, '_>, key: &str) -> Error {
    if key == "caller" {
        let message = format!("macro `{}` takes no call block: it does not use `caller()`", found.name);
        return fail(state, message, Vec::new());
    }
    let near = nearest(key, found.parameters.iter().map(String::as_str));
    let help = match near.filter(|_| key.len() > 2) {
        Some(near) => format!("did you mean `{near}`?"),
        None => signature(found),
    };
    fail(state, format!("macro `{}` has no argument `{key}`", found.name), vec![help])
}

fn arguments(count: usize) -> &'static str {
    if count == 1 { "argument" } else { "arguments" }
}

fn signature(found: &Macro) -> String {
    format!("it is defined as `{}({})`", found.full_name(), found.parameters.join(", "))
}

/// `dbt_utils`, a folder of `macros/`, or the project's own name.
#[derive(Debug)]
struct Package {
    library: Arc<MacroLibrary>,
    name: String,
}

impl Package {
    fn member(&self, name: &str) -> MacroValue {
        let library = Arc::clone(&self.library);
        MacroValue { library, name: name.to_owned(), package: Some(self.name.clone()) }
    }
}

impl Object for Package {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let name = key.as_str()?;
        self.library.resolve(name, Some(&self.name), "").ok()?;
        Some(Value::from_object(self.member(name)))
    }

    fn call_method(self: &Arc<Self>, state: &mut State<'_, '_>, name: &str, args: &[Value]) -> Result<Value, Error> {
        let is_known = self.library.resolve(name, Some(&self.name), "").is_ok();
        if !is_known && super::introspection::is_refused(&self.name, name) {
            return Err(super::introspection::refuse(&format!("{}.{name}", self.name)));
        }
        Arc::new(self.member(name)).call(state, args)
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<package {}>", self.name)
    }
}

/// `adapter`: `dispatch`, `quote`, `type`. What would ask a database is refused.
#[derive(Debug)]
struct Adapter {
    library: Arc<MacroLibrary>,
}

impl Object for Adapter {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call_method(self: &Arc<Self>, state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match method {
            "dispatch" => self.dispatch(state, args),
            "quote" => {
                let (name,): (String,) = minijinja::value::from_args(args)?;
                Ok(Value::from(quoted(&name)))
            }
            "type" => Ok(Value::from("lake")),
            _ => Err(super::introspection::refuse(&format!("adapter.{method}"))),
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("adapter")
    }
}

impl Adapter {
    /// `adapter.dispatch('name', 'namespace')`: the project's macros go before those of the namespace, and in each the
    /// prefix of the engine before `default__`.
    fn dispatch(&self, state: &State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let (Rest(positional), kwargs): (Rest<String>, Kwargs) = minijinja::value::from_args(args)?;
        let name = positional.first().cloned().or(kwargs.get("macro_name")?);
        let namespace = positional.get(1).cloned().or(kwargs.get("macro_namespace")?);
        kwargs.assert_all_used()?;
        let Some(name) = name else {
            return Err(fail(state, "adapter.dispatch() takes the name of a macro".to_owned(), Vec::new()));
        };
        let own = self.library.package_of_template(state.name());
        let packages: Vec<&str> = match namespace.as_deref() {
            Some(namespace) => vec!["", namespace],
            None if own.is_empty() => vec![""],
            None => vec!["", own],
        };
        let mut tried = Vec::new();
        for package in packages {
            for prefix in DISPATCH.iter().copied().chain([""]) {
                let candidate = format!("{prefix}{name}");
                // What is built in has no prefix; a bare name of the project is most likely the one that asks.
                let found = self.library.resolve(&candidate, Some(package), "").ok();
                let found = found.filter(|found| !prefix.is_empty() || found.is_builtin);
                if let Some(found) = found {
                    let value = Found(Arc::clone(found));
                    return Ok(Value::from_object(value));
                }
                if !prefix.is_empty() {
                    let package = if package.is_empty() { String::new() } else { format!("{package}.") };
                    tried.push(format!("{package}{candidate}"));
                }
            }
        }
        let message = format!("adapter.dispatch finds no macro `{name}`");
        Err(fail(state, message, vec![format!("looked for: {}", tried.join(", "))]))
    }
}

/// What a dispatch found.
#[derive(Debug)]
struct Found(Arc<Macro>);

impl Object for Found {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        call(&self.0, state, args)
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<macro {}>", self.0.name)
    }
}
