//! What dbt answers by asking the database while it compiles. Here compiling reads no table, so it is refused, with
//! what to write instead.

use std::sync::Arc;

use minijinja::value::{Kwargs, Object, ObjectRepr, Rest};
use minijinja::{Environment, Error, ErrorKind, Value};

use super::scope::Problem;
use crate::diagnostics::Id;

const FUNCTIONS: &[&str] =
    &["run_query", "statement", "load_result", "load_relation", "get_relations_by_pattern", "get_relations_by_prefix"];

/// What packages do with a query.
const IN_PACKAGES: &[&str] = &[
    "get_query_results_as_dict",
    "get_single_value",
    "get_relations_by_pattern",
    "get_relations_by_prefix",
    "get_tables_by_pattern_sql",
    "get_tables_by_prefix_sql",
    "get_filtered_columns_in_relation",
    "get_table_types_sql",
    "run_query",
    "statement",
];

/// Makes the refusals known by the names of what they refuse.
pub(super) fn register(environment: &mut Environment<'static>) {
    for name in FUNCTIONS {
        environment.add_function(*name, move |_: Rest<Value>, _: Kwargs| -> Result<Value, Error> { Err(refuse(name)) });
    }
    environment.add_global("graph", Value::from_object(Graph));
}

/// Whether a package has a macro of this name that asks the database.
pub(super) fn is_refused(package: &str, name: &str) -> bool {
    matches!(package, "dbt_utils" | "dbt") && IN_PACKAGES.contains(&name)
}

/// The error for one of them.
pub(super) fn refuse(what: &str) -> Error {
    let message = format!("`{what}` would ask the database, and compiling reads no table");
    let help = vec![instead_of_asking(what).to_owned()];
    problem(Problem { id: Id::Introspection, message, help, missing: None })
}

/// What to write instead of something that asks the database: `run_query`, `adapter.get_relation`.
pub fn instead_of_asking(what: &str) -> &'static str {
    match what.rsplit('.').next().unwrap_or(what) {
        "get_columns_in_relation" | "get_filtered_columns_in_relation" => {
            "for a list of columns write dbt_utils.star(relation, except=[...]), or `* except (...)` in SQL"
        }
        "get_column_values" => {
            "declare them: an `accepted_values` test on the column in YAML, or a list in `vars` read with var('...')"
        }
        "get_relation" | "load_relation" | "already_exists" | "check_schema_exists" => {
            "ask `is_incremental()`: it tells whether the table of this model is there"
        }
        "get_relations_by_pattern" | "get_relations_by_prefix" | "list_relations_without_caching" => {
            "name the relations: [ref('a'), ref('b')]"
        }
        "graph" => "`lake ls --output json` and .lake/manifest.json tell what is in the project",
        _ => {
            "write the query as SQL, in a CTE or a subquery; values that shape the SQL go to `vars`, read with var('...')"
        }
    }
}

/// Whether a name asks the database, or a macro of dbt's own packages or of its `adapter` does.
pub fn asks_database(name: &str) -> bool {
    match name.split_once('.') {
        None => FUNCTIONS.contains(&name),
        Some(("adapter", method)) => !matches!(method, "dispatch" | "quote" | "type"),
        Some(("graph", _)) => true,
        Some((package, name)) => is_refused(package, name),
    }
}

/// An error that carries its better words with it, where no scope is at hand.
pub(super) fn problem(problem: Problem) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem.message.clone()).with_source(problem)
}

/// The words that an error carries.
pub(super) fn carried(error: &Error) -> Option<Problem> {
    let mut source = std::error::Error::source(error);
    while let Some(current) = source {
        if let Some(problem) = current.downcast_ref::<Problem>() {
            return Some(problem.clone());
        }
        source = current.source();
    }
    None
}

/// `graph`: refused whatever is asked of it.
#[derive(Debug)]
struct Graph;

impl Object for Graph {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, _key: &Value) -> Option<Value> {
        Some(Value::from(refuse("graph")))
    }
}
