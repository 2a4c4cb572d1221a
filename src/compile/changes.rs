//! `ref('x', changes=true)`: who may ask for it, and of whom.

use datafusion::arrow::datatypes::SchemaRef;

use super::Compiler;
use crate::catalog::{CHANGE_COLUMNS, changes_schema};
use crate::diagnostics::{Diagnostic, Id};
use crate::names::TableName;
use crate::project::{Materialization, Model, ref_span};
use crate::session::Tables;
use crate::template::{RefRead, ref_relation};

impl Compiler<'_> {
    /// Makes the models known that are read in a way of their own.
    pub(super) fn add_ref_reads(&self, model: &Model, visible: &mut Tables) {
        for (name, read) in &model.ref_reads {
            let Some(schema) = self.schema_of(name) else { continue };
            let schema: SchemaRef = match read {
                RefRead::All => SchemaRef::clone(schema),
                RefRead::Changes => changes_schema(schema),
            };
            visible.insert(ref_relation(name, *read), super::schema_source(&schema));
        }
    }

    /// What is wrong with how a model reads the changes of others.
    pub(super) fn check_changes(&self, model: &Model) -> Vec<Diagnostic> {
        let read = model.ref_reads.iter().filter(|(_, read)| *read == RefRead::Changes);
        read.filter_map(|(name, _)| {
            let (message, help) = self.refused_changes(model, name)?;
            Some(Diagnostic::error(Id::InvalidSql, message).at(ref_span(&model.span(), name)).help(help))
        })
        .collect()
    }

    fn refused_changes(&self, model: &Model, name: &TableName) -> Option<(String, String)> {
        let own = &model.name;
        if model.config.materialized != Materialization::Incremental {
            return Some((
                format!("`{own}` reads the changes of `{name}`, and is a `{}`", model.config.materialized.name()),
                "only an incremental model remembers what it has read: set `materialized='incremental'`, or leave \
                 `changes=true` out"
                    .to_owned(),
            ));
        }
        if model.is_microbatch() {
            return Some((
                format!("`{own}` runs in batches, and reads the changes of `{name}`"),
                "leave `changes=true` out: a batch reads its interval, by the `event_time` of what it reads".to_owned(),
            ));
        }
        let read = self.project.models.get(name)?;
        if !read.is_stored() {
            return Some((
                format!("`{name}` is a `{}`: it has no versions to compare", read.config.materialized.name()),
                format!("store `{name}` as a `table` or `incremental`, or leave `changes=true` out"),
            ));
        }
        let schema = self.schema_of(name)?;
        let taken = CHANGE_COLUMNS.iter().find(|column| schema.field_with_name(column).is_ok())?;
        Some((
            format!("`{name}` has a column `{taken}` of its own, and its changes have one of that name too"),
            format!("give the column of `{name}` another name"),
        ))
    }
}
