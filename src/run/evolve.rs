//! How new rows fit the table that they are added to: which of them count, and which columns the table has then.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::Runtime;
use super::inputs::Chosen;
use super::materialize::{Failure, Node, World};
use crate::catalog::{sql_type, widens};
use crate::compile::{ColumnName, Input};
use crate::names::TableName;
use crate::project::{Format, Materialization, OnNewColumn, OnSchemaChange, Strategy};
use crate::tables::{Merge, Placement};
use crate::template::SourceRead;

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

impl Node<'_> {
    /// Where the new rows go among those of the table.
    pub(super) fn placement(&self, schema: &SchemaRef) -> Placement<'_> {
        let config = &self.model.config;
        let key = config.unique_key.as_slice();
        if self.model.merges() {
            let (only, not) = (&config.merge_update_columns, &config.merge_exclude_columns);
            let names = schema.fields().iter().map(|field| field.name().clone());
            let updates = names.filter(|name| if only.is_empty() { !not.contains(name) } else { only.contains(name) });
            let partly = !only.is_empty() || !not.is_empty();
            let (sequence_by, delete_when) = (config.sequence_by.as_deref(), config.delete_when.as_deref());
            let updates = partly.then(|| updates.collect());
            return Placement::Merge(Merge { key, updates, sequence_by, delete_when });
        }
        match (config.materialized, config.incremental_strategy) {
            (Materialization::Incremental, Strategy::InsertOverwrite) => Placement::OverPartitions,
            (Materialization::Incremental, Strategy::DeleteInsert) => Placement::OverKeys { key },
            _ => Placement::Beside,
        }
    }

    /// What the files of the sources below have for columns, before any of them is read.
    pub(super) async fn check_columns(&self, chosen: &Chosen) -> Result<(), Failure> {
        for input in &self.compiled.inputs {
            let Input::Source(name, read) = input else { continue };
            match (read, chosen.get(name)) {
                (SourceRead::Changes, Some(chosen)) => self.inputs.check_columns(name, &chosen.files).await?,
                _ if self.inputs.runtime().project.sources[name].format == Format::Delta => {}
                _ => self.inputs.check_columns(name, &self.inputs.listing(name).await?.files).await?,
            }
            self.inputs.remember_columns(name).await?;
        }
        Ok(())
    }

    /// Why an existing table has to be built again for a column that holds more values than before: deltalake writes no
    /// table whose files have several types for one column. `None` if there is no such column.
    pub(super) fn widened(&self, world: &World) -> Result<Option<String>, Failure> {
        let Some(published) = &world.published else { return Ok(None) };
        if matches!(self.model.config.on_schema_change, Some(OnSchemaChange::Fail | OnSchemaChange::Ignore)) {
            return Ok(None);
        }
        let wider = |field: &&Arc<Field>| {
            let known = published.schema.field_with_name(field.name()).ok()?.data_type();
            let is = field.data_type();
            (!grows(known, is) && widens(known, is)).then(|| (sql_type(known), sql_type(is)))
        };
        let Some((field, (was, is))) =
            self.compiled.schema.fields().iter().find_map(|field| Some((field, wider(&field)?)))
        else {
            return Ok(None);
        };
        let what = format!("column `{}` was `{was}` and is now `{is}`", field.name());
        let gone: usize = world.taken.values().map(|taken| taken.pending.gone).sum();
        let why = if self.model.config.full_refresh == Some(false) {
            "the model's `full_refresh: false` forbids it".to_owned()
        } else if gone > 0 {
            let files =
                if gone == 1 { "1 file that is gone".to_owned() } else { format!("{gone} files that are gone") };
            format!("it would lose the rows of {files}; --full-refresh does it all the same")
        } else if world.taken.is_empty() || self.model.incremental.is_some() {
            "its rows come from more than the files of a source; --full-refresh does it all the same".to_owned()
        } else {
            return Ok(Some(what));
        };
        Err(Failure::text(format!(
            "{what}: `{}` has to be rebuilt for it, but {why}, or cast the column to `{was}` in the model",
            self.model.name
        )))
    }

    /// The columns of an incremental model's table after this run.
    pub(super) fn evolved(&self, old: &SchemaRef) -> Result<SchemaRef, Failure> {
        let (model, new) = (self.model, &*self.compiled.schema);
        let fail = |what: String| Failure::text(format!("{what}; rebuild `{}` with --full-refresh", model.name));
        let mut changed = false;
        for field in new.fields() {
            let same_letters = |known: &&Arc<Field>| known.name().to_lowercase() == field.name().to_lowercase();
            let Some(known) = old.fields().iter().find(same_letters) else { continue };
            if known.name() != field.name() {
                return Err(fail(format!("column `{}` is now spelled `{}`", known.name(), field.name())));
            }
            let (is, was) = (field.data_type(), known.data_type());
            let allowed = model.config.on_schema_change == Some(OnSchemaChange::AppendNewColumns)
                || model.config.on_schema_change.is_none() && self.is_added(&model.name, known.name(), true);
            if !grows(was, is) || !grows(is, was) && !allowed {
                return Err(fail(format!(
                    "column `{}` is now `{}` and was `{}`",
                    field.name(),
                    sql_type(is),
                    sql_type(was)
                )));
            }
            changed |= !grows(is, was);
        }
        let added: Vec<&Arc<Field>> =
            new.fields().iter().filter(|field| old.field_with_name(field.name()).is_err()).collect();
        let missing = old.fields().iter().find(|field| new.field_with_name(field.name()).is_err());
        let append = match model.config.on_schema_change {
            Some(OnSchemaChange::Ignore) => false,
            Some(OnSchemaChange::AppendNewColumns) => true,
            rule => {
                let implied = |field: &&&Arc<Field>| rule.is_none() && self.is_added(&model.name, field.name(), false);
                if let Some(field) = added.iter().find(|field| !implied(field)) {
                    return Err(fail(format!(
                        "column `{}` is new; set on_schema_change to `append_new_columns` or `ignore`, or",
                        field.name()
                    )));
                }
                if let Some(field) = missing {
                    return Err(fail(format!("column `{}` is gone", field.name())));
                }
                true
            }
        };
        let schema = match append && (changed || !added.is_empty()) {
            false => Arc::clone(old),
            true => {
                let known = old.fields().iter().map(|field| {
                    let new = new.field_with_name(field.name());
                    let data_type = new
                        .map_or_else(|_| field.data_type().clone(), |new| joined(field.data_type(), new.data_type()));
                    Field::new(field.name(), data_type, true)
                });
                Arc::new(Schema::new(known.chain(added.iter().map(|field| field.as_ref().clone())).collect::<Vec<_>>()))
            }
        };
        let config = &model.config;
        let used = config.unique_key.iter().chain(&config.sequence_by).chain(&config.partition_by);
        match used.into_iter().find(|name| schema.field_with_name(name).is_err()) {
            Some(name) => Err(fail(format!("the model's settings use column `{name}`, which the table does not have"))),
            None => Ok(schema),
        }
    }

    /// Whether a column of a model is made of nothing but columns that a source was asked to add; `inside`, of columns of
    /// such a source.
    fn is_added(&self, model: &TableName, column: &str, inside: bool) -> bool {
        let Runtime { project, compiled, .. } = self.inputs.runtime();
        let Some(made_of) = compiled.models.get(model).and_then(|model| model.lineage.columns.get(column)) else {
            return false;
        };
        let from = |origin: &ColumnName| match project.sources.get(&origin.table) {
            Some(source) => {
                let declared = source.columns.iter().any(|declared| declared.name == origin.column);
                source.ingestion.on_new_column == OnNewColumn::Add && (inside || !declared)
            }
            None => origin.table != *model && self.is_added(&origin.table, &origin.column, inside),
        };
        !made_of.is_empty() && made_of.keys().all(from)
    }
}

/// Whether a type is another one, but for fields of objects that it may lack.
pub(super) fn grows(old: &DataType, new: &DataType) -> bool {
    match (old, new) {
        (DataType::Struct(old), DataType::Struct(new)) => old
            .iter()
            .all(|field| new.find(field.name()).is_some_and(|(_, more)| grows(field.data_type(), more.data_type()))),
        (DataType::List(old), DataType::List(new)) => grows(old.data_type(), new.data_type()),
        (old, new) => old == new,
    }
}

/// A type with the fields of another one after its own.
pub(super) fn joined(old: &DataType, new: &DataType) -> DataType {
    match (old, new) {
        (DataType::Struct(old), DataType::Struct(new)) => {
            let known = old.iter().map(|field| {
                let more = new.find(field.name()).map(|(_, more)| joined(field.data_type(), more.data_type()));
                Field::new(field.name(), more.unwrap_or_else(|| field.data_type().clone()), true)
            });
            let added = new.iter().filter(|field| old.find(field.name()).is_none()).map(|field| field.as_ref().clone());
            DataType::Struct(known.chain(added).collect())
        }
        (DataType::List(old), DataType::List(new)) => {
            DataType::List(Arc::new(Field::new(old.name(), joined(old.data_type(), new.data_type()), true)))
        }
        (old, _) => old.clone(),
    }
}
