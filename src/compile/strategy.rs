//! Settings of incremental models that must fit together.

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{DataFusionError, ToDFSchema};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::ExprSchemable;

use crate::catalog::sql_type;
use crate::diagnostics::{Diagnostic, Id};
use crate::project::{Materialization, Model, Strategy};

/// What is wrong with the conditions of `delete_when` and `incremental_predicates`, over the columns of the model.
pub(super) fn check_conditions(model: &Model, schema: &SchemaRef, session: &SessionState) -> Vec<Diagnostic> {
    let deletes = model.config.delete_when.iter().map(|condition| ("delete_when", condition));
    let replaced = model.config.incremental_predicates.iter().map(|condition| ("incremental_predicates", condition));
    deletes
        .chain(replaced)
        .filter_map(|(key, condition)| check_condition(model, key, condition, schema, session))
        .collect()
}

fn check_condition(
    model: &Model,
    key: &str,
    condition: &str,
    schema: &SchemaRef,
    session: &SessionState,
) -> Option<Diagnostic> {
    let of_type = || -> Result<DataType, DataFusionError> {
        let columns = schema.as_ref().clone().to_dfschema()?;
        session.create_logical_expr(condition, &columns)?.get_type(&columns)
    };
    let error = |message: String| Diagnostic::error(Id::InvalidValue, message).at(model.span());
    match of_type() {
        Ok(DataType::Boolean) => None,
        Ok(other) => {
            let message = format!("`{key}` is a condition, and `{condition}` is `{}`", sql_type(&other));
            Some(error(message).help("write a comparison over the columns of the model, such as `op = 'D'`"))
        }
        Err(why) => {
            let why = match why.find_root() {
                DataFusionError::SQL(..) => "it does not parse".to_owned(),
                other => other.strip_backtrace().lines().next().unwrap_or_default().replacen("Schema error: ", "", 1),
            };
            let message = format!(
                "`{key}` is not a condition over the columns of `{}`: {}",
                model.name,
                why.trim_end_matches('.')
            );
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            Some(error(message).help(format!("its columns: {}", names.join(", "))))
        }
    }
}

/// What is wrong with how a model adds its rows.
pub(super) fn check(model: &Model) -> Vec<Diagnostic> {
    let (config, mut problems) = (&model.config, Vec::new());
    let (name, strategy) = (&model.name, config.incremental_strategy);
    let is_incremental = config.materialized == Materialization::Incremental;
    let error = |message: String| Diagnostic::error(Id::InvalidValue, message).at(model.span());
    if config.sequence_by.is_some() && !model.merges() {
        let message = "`sequence_by` does nothing here: it tells which of several new rows of one `unique_key` counts";
        problems.push(error(message.to_owned()));
    }
    let replaces_keys = is_incremental && strategy == Strategy::DeleteInsert && !config.unique_key.is_empty();
    if config.delete_when.is_some() && !model.merges() && !replaces_keys {
        let message = "`delete_when` does nothing here: it tells which new rows delete the rows of their `unique_key`";
        let help =
            "set `materialized='incremental'`, `incremental_strategy='merge'` or `'delete+insert'`, and a `unique_key`";
        problems.push(error(message.to_owned()).help(help));
    }
    let overwrites = is_incremental && strategy == Strategy::InsertOverwrite;
    if !config.incremental_predicates.is_empty() && !overwrites {
        let message = "`incremental_predicates` does nothing here: it tells which rows `insert_overwrite` replaces";
        let help = match model.merges() {
            true => "leave it out: a merge reads only the files that can hold one of the new keys",
            false => "set `materialized='incremental'` and `incremental_strategy='insert_overwrite'`",
        };
        problems.push(error(message.to_owned()).help(help));
    }
    let (update, exclude) = (&config.merge_update_columns, &config.merge_exclude_columns);
    if !update.is_empty() && !exclude.is_empty() {
        let message = format!("`{name}` has both `merge_update_columns` and `merge_exclude_columns`");
        problems.push(error(message).help("keep one of them: the other says the same of the other columns"));
    }
    if let Some(sequence_by) = config.sequence_by.as_ref().filter(|name| exclude.contains(name)) {
        let message = format!("`merge_exclude_columns` names `{sequence_by}`, which `sequence_by` goes by");
        let help =
            "leave it out: a row that takes new values has to be as new as they are, or an older row takes them back";
        problems.push(error(message).help(help));
    }
    for (setting, columns) in [("merge_update_columns", update), ("merge_exclude_columns", exclude)] {
        if !columns.is_empty() && !model.merges() {
            let message = format!("`{setting}` does nothing here: it is for a model that merges by a `unique_key`");
            let help = "set `materialized='incremental'`, `incremental_strategy='merge'` and a `unique_key`";
            problems.push(error(message).help(help));
        }
    }
    match strategy {
        Strategy::Merge if config.unique_key.is_empty() => {
            let message = format!("`{name}` merges, and has no `unique_key`: every row is appended");
            problems.push(Diagnostic::warning(Id::InvalidValue, message).at(model.span()));
        }
        Strategy::DeleteInsert if is_incremental && config.unique_key.is_empty() => {
            let message = format!("`{name}` deletes and inserts, and has no `unique_key`");
            let help = "set `unique_key` to the columns whose old rows go, or `incremental_strategy='append'`";
            problems.push(error(message).help(help));
        }
        Strategy::InsertOverwrite
            if is_incremental && config.partition_by.is_empty() && config.incremental_predicates.is_empty() =>
        {
            let message = format!("`{name}` overwrites partitions, and has no `partition_by`");
            let help = "set `partition_by=['day']` to the columns that tell what is replaced, \
                        `incremental_predicates=\"day >= '2026-01-01'\"`, or `materialized='table'` to replace all";
            problems.push(error(message).help(help));
        }
        Strategy::InsertOverwrite if is_incremental && !config.unique_key.is_empty() => {
            let message = format!("`unique_key` does nothing in `{name}`: it overwrites whole partitions");
            let help = "leave it out, or use `merge` or `delete+insert`, which replace by key";
            problems.push(error(message).help(help));
        }
        _ => {}
    }
    problems
}
