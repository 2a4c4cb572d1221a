//! What dbt's templates have and these have not: told as such, with what to write instead.

use minijinja::{Error, ErrorKind};

use super::scope::Problem;
use crate::diagnostics::Id;

/// Blocks of dbt, and what to write instead.
const STATEMENTS: &[(&str, &str)] = &[
    (
        "materialization",
        "the materializations are those of `lake`: choose one with config(materialized='table'), and write what your \
         own did around the query as a macro that the model calls",
    ),
    (
        "snapshot",
        "write a model of the same query, models/<layer>/<name>.sql, with config(materialized='scd2') and the \
         `unique_key`, `strategy` and other settings of the snapshot",
    ),
    ("docs", "docs blocks stand in `.md` files below models/"),
];

/// Names that every template of dbt has, and what to write instead.
const NAMES: &[(&str, &str)] = &[
    ("api", "relations come from ref('model') and source('source', 'table')"),
    ("selected_resources", "a template is rendered once for every selection"),
    (
        "model.batch",
        "a template is rendered once for all batches: what a batch reads is cut by the `event_time` of its inputs",
    ),
    ("thread_id", "a template is rendered once for every run"),
    ("node", "write `model`, which tells about the model that is rendered"),
    ("dbt_metadata_envs", "read environment variables with env_var('NAME', 'default')"),
    ("adapter_macro", "write adapter.dispatch('macro')(arguments)"),
    ("target.schema", "the schema of a model is its folder: `this.schema`; targets differ by `target.name`"),
    ("api.Column", "write the type as SQL, or take it from dbt.type_string(), dbt.type_int() and their kin"),
    ("modules.pytz", "times of templates are in UTC; write `at time zone 'Europe/Berlin'` in SQL"),
    ("local_md5", "write md5(...) in SQL, or dbt_utils.generate_surrogate_key([...])"),
    ("store_result", "write the query as SQL, in a CTE or a subquery"),
];

/// What to write instead of a name that dbt's templates have: `api`, `target.schema`, `model.batch`.
pub fn instead_of_name(name: &str) -> Option<&'static str> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, help)| *help)
}

/// The words for an error of minijinja that a template of dbt would not have made.
pub(super) fn of(error: &Error) -> Option<Problem> {
    let message = super::phrase(error);
    let (what, help) = if error.kind() == ErrorKind::SyntaxError {
        let name = message.strip_prefix("unknown statement ")?;
        let (_, help) = STATEMENTS.iter().find(|(statement, _)| *statement == name)?;
        (format!("{{% {name} %}}"), help)
    } else {
        let name = undefined_name(&message)?;
        let (_, help) = NAMES.iter().find(|(known, _)| *known == name)?;
        (name.to_owned(), help)
    };
    let message = format!("`{what}` is of dbt and not of lake");
    Some(Problem { id: Id::NotSupported, message, help: vec![(*help).to_owned()], missing: None })
}

/// `api` of "`api` is undefined", or of a longer sentence that ends so.
pub(super) fn undefined_name(message: &str) -> Option<&str> {
    let (before, _) = message.split_once("` is undefined").or_else(|| message.split_once(" is unknown"))?;
    let name = before.rsplit(['`', ' ']).next()?;
    // `context['name']` looks for a name, too.
    let name = name.strip_prefix("context['").and_then(|name| name.strip_suffix("']")).unwrap_or(name);
    Some(name)
}
