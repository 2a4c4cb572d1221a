//! The functions and objects that dbt's dialect offers to every template.

use std::sync::Arc;

use minijinja::value::{Kwargs, Rest};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::Settings;
use super::dates::Moment;
use super::scope::{Problem, RefRead, ScopeObject, SourceRead};
use super::values::Relation;
use crate::diagnostics::Id;
use crate::names::{TableName, nearest};

/// The version of dbt whose language this is, for templates that ask.
const DBT_VERSION: &str = "1.11.0";

/// Adds all of them to the environment.
pub(super) fn register(environment: &mut Environment<'static>, settings: Settings) {
    environment.add_function("ref", reference);
    environment.add_function("source", source);
    environment.add_function("is_incremental", is_incremental);
    environment.add_function("log", log);
    environment.add_function("doc", documentation);
    environment.add_global("target", Value::from(minijinja::value::Serde(&settings.target)));
    environment.add_global("run_started_at", Value::from_object(Moment::of_run(settings.run_started_at, None)));
    environment.add_global("execute", true);
    environment.add_global("exceptions", Value::from_object(super::values::Exceptions));
    environment.add_global("flags", Value::from_object(super::values::Flags));
    environment.add_global("project_name", settings.project.as_str());
    environment.add_global("dbt_version", DBT_VERSION);
    environment.add_function("__columns", declared_columns);
    environment.add_function("__unknown_columns", unknown_columns);
    environment.add_function("__accepted_values", accepted_values);
    let settings = Arc::new(settings);
    let vars = Arc::clone(&settings);
    environment.add_function("var", move |state: &State, name: String, rest: Rest<Value>, kwargs: Kwargs| {
        variable(&vars, state, &name, default_of(&rest, &kwargs)?)
    });
    environment.add_function("env_var", move |state: &State, name: String, rest: Rest<Value>, kwargs: Kwargs| {
        environment_variable(&settings, state, &name, default_of(&rest, &kwargs)?)
    });
    // What a macro that takes over a function's name calls: `builtins.ref('x')`.
    let names = ["ref", "source", "var", "env_var", "doc"];
    let builtins = environment.globals().filter(|(name, _)| names.contains(name));
    let builtins = Value::from_pairs(builtins.map(|(name, value)| (name.to_owned(), value)));
    environment.add_global("builtins", builtins);
}

/// A table as templates hold it: prints as quoted SQL, has `.schema`, `.identifier` and `.name`.
pub(super) fn relation(name: &TableName) -> Value {
    Value::from_object(Relation(name.clone()))
}

/// `ref('model')` or `ref('package', 'model')`.
fn reference(state: &State, args: Rest<String>, kwargs: Kwargs) -> Result<Value, Error> {
    let scope = ScopeObject::of(state)?;
    if let (Some(name), Some(version)) = (args.last(), kwargs.get::<Option<Value>>("v")?.or(kwargs.get("version")?)) {
        return Err(scope.fail(Problem {
            id: Id::NotSupported,
            message: "versions of models are of dbt and not of lake".to_owned(),
            help: vec![format!("each version is a model of its own: write ref('{name}_v{version}')")],
            missing: None,
        }));
    }
    let changes: Option<bool> = kwargs.get("changes")?;
    if let Some(unknown) = kwargs.args().find(|key| !["changes", "v", "version"].contains(key)) {
        let help = match nearest(unknown, ["changes"]) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "known: `changes=true`, which reads what changed in a model since the last run".to_owned(),
        };
        let message = format!("ref() has no argument `{unknown}`");
        return Err(scope.fail(Problem { id: Id::Template, message, help: vec![help], missing: None }));
    }
    let name = match args.as_slice() {
        [name] | [_, name] => name,
        _ => {
            return Err(Error::new(ErrorKind::InvalidOperation, "ref() takes a model, or a package and a model"));
        }
    };
    let models = &scope.scope.known.models;
    match scope.scope.known.model(name) {
        Some(found) => {
            scope.record(|recording| {
                if !recording.refs.contains(found) {
                    recording.refs.push(found.clone());
                }
            });
            if changes == Some(true) {
                return changes_of(&scope, found);
            }
            Ok(relation(found))
        }
        None if scope.scope.tolerated.contains(name) => Ok(relation(&TableName::new("unknown", name.as_str()))),
        None => {
            let mut help = Vec::new();
            if let Some(near) = nearest(name, models.keys().copied()) {
                help.push(format!("did you mean `{near}`?"));
            } else if let Some(table) = scope.scope.known.sources.iter().find(|s| s.table == *name) {
                help.push(format!("it is a source: write source('{}', '{}')", table.schema, table.table));
            }
            Err(scope.fail(Problem {
                id: Id::UnknownRef,
                message: format!("model `{name}` does not exist"),
                help,
                missing: Some(name.clone()),
            }))
        }
    }
}

/// `ref('model', changes=true)`: what changed in a model since the one that reads it was last published.
fn changes_of(scope: &ScopeObject, name: &TableName) -> Result<Value, Error> {
    if scope.scope.model["resource_type"] != "model" {
        return Err(scope.fail(Problem {
            id: Id::InvalidSql,
            message: "`changes=true` means nothing here: only a model remembers what it has read".to_owned(),
            help: vec![format!("write ref('{}')", name.table)],
            missing: None,
        }));
    }
    scope.read_ref(name, RefRead::Changes);
    Ok(relation(&ref_relation(name, RefRead::Changes)))
}

/// `.render()` of a relation: in a model that runs in batches it is read whole, as in dbt.
pub(super) fn whole(state: &State, name: &TableName) -> TableName {
    let Ok(scope) = ScopeObject::of(state) else { return name.clone() };
    if *name == scope.scope.this || scope.setting("incremental_strategy").is_none_or(|value| value != "microbatch") {
        return name.clone();
    }
    if scope.scope.known.sources.contains(name) {
        let read = (name.clone(), SourceRead::All);
        scope.record(|recording| {
            if !recording.sources.contains(&read) {
                recording.sources.push(read);
            }
        });
        return source_relation(name, SourceRead::All);
    }
    if scope.scope.known.has_model(name) {
        scope.read_ref(name, RefRead::All);
        return ref_relation(name, RefRead::All);
    }
    name.clone()
}

/// The name under which SQL reads a model in a way of its own.
pub fn ref_relation(name: &TableName, read: RefRead) -> TableName {
    match read {
        RefRead::All => TableName::new(format!("{}@all", name.schema), name.table),
        RefRead::Changes => TableName::new(format!("{}@changes", name.schema), name.table),
    }
}

/// The table that SQL reads under a name: `silver.views` of `silver@changes.views`.
pub fn plain_relation(name: &TableName) -> TableName {
    match name.schema.split_once('@') {
        Some((schema, _)) => TableName::new(schema, name.table),
        None => name.clone(),
    }
}

/// `source('name', 'table')`, with `changes=false` to read all files in an incremental run too.
fn source(state: &State, name: String, table: String, kwargs: Kwargs) -> Result<Value, Error> {
    let scope = ScopeObject::of(state)?;
    let changes: Option<bool> = kwargs.get("changes")?;
    kwargs.assert_all_used()?;
    let read = if changes == Some(false) { SourceRead::All } else { SourceRead::Changes };
    let wanted = TableName::new(name, table);
    if scope.scope.known.sources.contains(&wanted) {
        scope.record(|recording| {
            if !recording.sources.iter().any(|(known, how)| *known == wanted && *how == read) {
                recording.sources.push((wanted.clone(), read));
            }
        });
        return Ok(relation(&source_relation(&wanted, read)));
    }
    let full = wanted.to_string();
    if scope.scope.tolerated.contains(&full) {
        return Ok(relation(&TableName::new("unknown", wanted.table)));
    }
    let known: Vec<String> = scope.scope.known.sources.iter().map(ToString::to_string).collect();
    let help = match nearest(&full, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "declare it in sources.yml".to_owned(),
        None => format!("declare it in sources.yml; declared are: {}", known.join(", ")),
    };
    Err(scope.fail(Problem {
        id: Id::UnknownSource,
        message: format!("source `{full}` is not declared"),
        help: vec![help],
        missing: Some(full),
    }))
}

/// The name under which SQL reads a source: a source read whole stands beside the same source read by its changes.
pub fn source_relation(name: &TableName, read: SourceRead) -> TableName {
    match read {
        SourceRead::Changes => name.clone(),
        SourceRead::All => TableName::new(format!("{}@all", name.schema), name.table),
    }
}

/// `doc('name')`: a block of documentation.
fn documentation(state: &State, args: Rest<String>) -> Result<Value, Error> {
    let scope = ScopeObject::of(state)?;
    let ([name] | [_, name]) = args.as_slice() else {
        return Err(Error::new(ErrorKind::InvalidOperation, "doc() takes the name of a docs block"));
    };
    scope.observe(format!("doc:{name}"));
    let docs = &scope.scope.known.docs;
    if let Some(text) = docs.get(name) {
        return Ok(Value::from(text.as_str()));
    }
    let help = match nearest(name, docs.keys().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("write `{{% docs {name} %}}...{{% enddocs %}}` in a .md file below models/"),
    };
    let message = format!("there is no docs block `{name}`");
    Err(scope.fail(Problem { id: Id::UnknownDoc, message, help: vec![help], missing: None }))
}

/// The table that a value names, if it is a relation.
fn named(relation: &Value) -> Option<TableName> {
    let Relation(name) = relation.downcast_object_ref::<Relation>()?;
    Some(plain_relation(name))
}

/// The columns of a relation where YAML alone tells them for sure; none elsewhere.
fn declared_columns(state: &State, relation: Value) -> Result<Value, Error> {
    let scope = ScopeObject::of(state)?;
    let Some(name) = named(&relation) else {
        let help = vec!["give it a relation: ref('model') or source('source', 'table')".to_owned()];
        let message = format!("expected a relation, found {}", relation.kind());
        return Err(scope.fail(Problem { id: Id::Template, message, help, missing: None }));
    };
    scope.observe(format!("columns:{name}"));
    Ok(scope.scope.known.columns.get(&name).map_or(Value::from(()), |columns| columns.iter().collect()))
}

/// Refuses what needs the columns of a relation that YAML does not tell.
fn unknown_columns(state: &State, what: String, relation: Value) -> Result<Value, Error> {
    let scope = ScopeObject::of(state)?;
    Err(scope.fail(Problem {
        id: Id::Introspection,
        message: format!("{what} needs the columns of {relation}, and compiling reads no table"),
        help: vec![
            "list them in YAML: the `columns` of a source, or those of a model with `contract: {enforced: true}`"
                .to_owned(),
        ],
        missing: None,
    }))
}

/// The values that a test of YAML says a column has.
fn accepted_values(state: &State, relation: Value, column: String) -> Result<Value, Error> {
    let scope = ScopeObject::of(state)?;
    let name = named(&relation).unwrap_or_else(|| scope.scope.this.clone());
    scope.observe(format!("values:{name}.{column}"));
    match scope.scope.known.accepted_values.get(&(name, column)) {
        Some(values) => Ok(values.iter().map(minijinja::value::Serde).map(Value::from).collect()),
        None => Err(super::introspection::refuse("dbt_utils.get_column_values")),
    }
}

fn is_incremental(state: &State) -> Result<bool, Error> {
    let scope = ScopeObject::of(state)?;
    scope.record(|recording| recording.asked_incremental = true);
    Ok(scope.scope.incremental)
}

/// The default that a call gives, which may be `none`.
fn default_of(rest: &[Value], kwargs: &Kwargs) -> Result<Option<Value>, Error> {
    let named = if kwargs.has("default") { Some(kwargs.get::<Value>("default")?) } else { None };
    kwargs.assert_all_used()?;
    match rest {
        [] => Ok(named),
        [default] if named.is_none() => Ok(Some(default.clone())),
        _ => Err(Error::from(ErrorKind::TooManyArguments)),
    }
}

fn variable(settings: &Settings, state: &State, name: &str, default: Option<Value>) -> Result<Value, Error> {
    let scope = ScopeObject::of(state).ok();
    if let Some(scope) = &scope {
        scope.record(|recording| {
            recording.vars.insert(name.to_owned());
        });
    }
    let overridden = scope.as_ref().and_then(|scope| scope.scope.overrides.vars.get(name));
    if let Some(value) = overridden.or_else(|| settings.vars.get(name)) {
        return Ok(Value::from(minijinja::value::Serde(value)));
    }
    if let Some(default) = default {
        return Ok(default);
    }
    let message = format!("variable `{name}` is not set");
    let mut help = vec![format!("set it in project.yml under `vars`, with --vars '{name}: ...', or give a default")];
    if let Some(near) = nearest(name, settings.vars.keys().map(String::as_str)) {
        help.insert(0, format!("did you mean `{near}`?"));
    }
    Err(match scope {
        Some(scope) => scope.fail(Problem { id: Id::Template, message, help, missing: None }),
        None => Error::new(ErrorKind::InvalidOperation, message),
    })
}

/// How the names of secrets begin, as in dbt (docs.getdbt.com/reference/dbt-jinja-functions/env_var).
const SECRET: &str = "DBT_ENV_SECRET";

fn environment_variable(
    settings: &Settings,
    state: &State,
    name: &str,
    default: Option<Value>,
) -> Result<Value, Error> {
    if let Ok(scope) = ScopeObject::of(state) {
        scope.record(|recording| {
            recording.env.insert(name.to_owned());
        });
        if let Some(value) = scope.scope.overrides.env_vars.get(name) {
            return Ok(Value::from(value.as_str()));
        }
    }
    if name.starts_with(SECRET) && !settings.secrets {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            format!(
                "`{name}` is a secret, and what is rendered here is written to files: secrets are for `targets` in project.yml"
            ),
        ));
    }
    match (settings.environment.get(name), default) {
        (Some(value), _) => Ok(Value::from(value.as_str())),
        (None, Some(default)) => Ok(default),
        (None, None) => Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("environment variable `{name}` is not set and has no default"),
        )),
    }
}

/// `log(message, info=true)`: to the log of `lake`, shown with `-v`.
fn log(message: String, info: Option<bool>, kwargs: Kwargs) -> Result<Value, Error> {
    let info = info.or(kwargs.get("info")?);
    kwargs.assert_all_used()?;
    if info == Some(true) {
        tracing::info!(target: "lake::template", "{message}");
    } else {
        tracing::debug!(target: "lake::template", "{message}");
    }
    Ok(Value::from(""))
}
