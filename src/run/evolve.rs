//! How new rows fit the table that they are added to: which of them count, and which columns the table has then.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};

use super::materialize::Failure;
use crate::catalog::sql_type;
use crate::project::{Model, OnSchemaChange};

/// Of the rows of each key, those with the greatest `sequence_by`; two of them with one value are still two.
pub(super) fn latest_only(sql: &str, key: &[String], sequence_by: &str, schema: &SchemaRef) -> String {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let columns: Vec<String> = schema.fields().iter().map(|field| quoted(field.name())).collect();
    let key: Vec<String> = key.iter().map(|name| quoted(name)).collect();
    format!(
        "select {columns} from (select {columns}, rank() over (partition by {key} order by {sequence} desc nulls last) \
         as __lake_rank from ({sql}\n) as new_rows) as ranked where __lake_rank = 1",
        columns = columns.join(", "),
        key = key.join(", "),
        sequence = quoted(sequence_by),
        sql = sql.trim().trim_end_matches(';'),
    )
}

/// The columns of an incremental model's table after this run.
pub(super) fn evolved(model: &Model, old: &SchemaRef, new: &SchemaRef) -> Result<SchemaRef, Failure> {
    let fail = |what: String| Failure::text(format!("{what}; rebuild `{}` with --full-refresh", model.name));
    for field in new.fields() {
        let same_letters = |known: &&Arc<Field>| known.name().to_lowercase() == field.name().to_lowercase();
        if let Some(known) = old.fields().iter().find(same_letters)
            && known.name() != field.name()
        {
            return Err(fail(format!("column `{}` is now spelled `{}`", known.name(), field.name())));
        }
        if let Ok(known) = old.field_with_name(field.name())
            && known.data_type() != field.data_type()
        {
            let (is, was) = (sql_type(field.data_type()), sql_type(known.data_type()));
            return Err(fail(format!("column `{}` is now `{is}` and was `{was}`", field.name())));
        }
    }
    let added: Vec<Field> = new
        .fields()
        .iter()
        .filter(|field| old.field_with_name(field.name()).is_err())
        .map(|field| field.as_ref().clone())
        .collect();
    let missing = old.fields().iter().find(|field| new.field_with_name(field.name()).is_err());
    let schema = match (model.config.on_schema_change, added.first(), missing) {
        (OnSchemaChange::Fail, Some(field), _) => {
            return Err(fail(format!(
                "column `{}` is new; set on_schema_change to `append_new_columns` or `ignore`, or",
                field.name()
            )));
        }
        (OnSchemaChange::Fail, None, Some(field)) => return Err(fail(format!("column `{}` is gone", field.name()))),
        (OnSchemaChange::Fail, None, None) | (OnSchemaChange::Ignore, ..) => Arc::clone(old),
        (OnSchemaChange::AppendNewColumns, ..) => {
            Arc::new(Schema::new(old.fields().iter().map(|f| f.as_ref().clone()).chain(added).collect::<Vec<_>>()))
        }
    };
    let config = &model.config;
    let used = config.unique_key.iter().chain(&config.sequence_by).chain(&config.partition_by);
    match used.into_iter().find(|name| schema.field_with_name(name).is_err()) {
        Some(name) => Err(fail(format!("the model's settings use column `{name}`, which the table does not have"))),
        None => Ok(schema),
    }
}
