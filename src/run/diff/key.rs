//! Which columns tell the rows of two tables apart.

use datafusion::arrow::datatypes::Schema;

use super::{DiffKey, DiffRequest};
use crate::checks::Check;
use crate::compile::CompiledTest;
use crate::names::nearest;
use crate::project::{Materialization, Strategy};
use crate::run::Runtime;
use crate::run::materialize::Failure;

/// The key to compare by, or why there is none, in words.
///
/// # Errors
/// When one is asked for that cannot be compared.
pub(super) fn find_key(
    runtime: &Runtime,
    asked: &DiffRequest<'_>,
    compared: &Schema,
) -> Result<Result<DiffKey, String>, Failure> {
    let name = &asked.after.table.name;
    let missing = |columns: &[String]| columns.iter().find(|column| compared.field_with_name(column).is_err()).cloned();
    if let Some(missing) = missing(asked.key) {
        let known: Vec<&str> = compared.fields().iter().map(|field| field.name().as_str()).collect();
        let help = match nearest(&missing, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("they both have {}", known.join(", ")),
        };
        return Err(Failure::text(format!("`--key` names `{missing}`, which not both of `{name}` have; {help}")));
    }
    let (columns, from) = match asked.key {
        [] => match declared(runtime, asked) {
            Some(key) => key,
            None => return Ok(Err("no key is known: `--key`, `unique_key` or a unique test names one".to_owned())),
        },
        given => (given.to_vec(), "--key".to_owned()),
    };
    Ok(match missing(&columns) {
        Some(missing) => Err(format!("`{missing}`, of its key by {from}, is not a column of both")),
        None => Ok(DiffKey { is_unique: is_unique(runtime, asked, &columns), columns, from }),
    })
}

/// The columns that the project names, a `unique_key` or else a test, and what names them.
fn declared(runtime: &Runtime, asked: &DiffRequest<'_>) -> Option<(Vec<String>, String)> {
    let config = &runtime.project.models.get(&asked.after.table.name)?.config;
    let unique_key = config.unique_key.clone();
    if config.is_history() {
        // A version of a row is told by when it began.
        let since = config.snapshot_meta_column_names.valid_from.clone();
        let from = format!("unique_key and {since}");
        return Some((unique_key.into_iter().chain([since]).collect(), from));
    }
    // With `delete+insert` a key may have many rows.
    let is_group = config.materialized == Materialization::Incremental
        && config.incremental_strategy == Strategy::DeleteInsert
        && tests_within(runtime, asked, &unique_key).next().is_none();
    if !unique_key.is_empty() && !is_group {
        return Some((unique_key, "unique_key".to_owned()));
    }
    unique_tests(runtime, asked).next().map(|(test, columns)| (columns, test.name.clone()))
}

/// Tests that all rows of the table differ in some columns.
fn unique_tests<'a>(
    runtime: &'a Runtime,
    asked: &DiffRequest<'_>,
) -> impl Iterator<Item = (&'a CompiledTest, Vec<String>)> {
    runtime.compiled.tests_on(&asked.after.table.name).filter_map(|test| match test.check() {
        Check::Unique { columns, .. } if test.config.filter.is_none() => Some((test, columns)),
        _ => None,
    })
}

/// Those of some of these columns.
fn tests_within<'a>(
    runtime: &'a Runtime,
    asked: &DiffRequest<'_>,
    key: &'a [String],
) -> impl Iterator<Item = &'a CompiledTest> {
    let is_within = |columns: Vec<String>| columns.iter().all(|column| key.contains(column));
    unique_tests(runtime, asked).filter_map(move |(test, columns)| is_within(columns).then_some(test))
}

/// Whether no key stands twice in either table: the way that it is built sees to that, or both have passed a test.
fn is_unique(runtime: &Runtime, asked: &DiffRequest<'_>, key: &[String]) -> bool {
    let Some(model) = runtime.project.models.get(&asked.after.table.name) else { return false };
    let sides = [&asked.before.table, &asked.after.table];
    let has_passed = |test: &CompiledTest| {
        let passed = |state: &crate::tables::TableState| state.tests.contains_key(&test.name);
        test.config.allows_nothing() && sides.iter().all(|table| table.state.as_ref().is_some_and(passed))
    };
    let is_kept = model.merges() || model.config.is_history();
    is_kept && model.config.unique_key.iter().all(|column| key.contains(column))
        || tests_within(runtime, asked, key).any(has_passed)
}
