//! Seeds: typed by their files, which inspection has read.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::Facts;
use super::shape::{ColumnShape, Shape, digest};
use super::{CompiledModel, Compiler, Lineage, fingerprint};
use crate::catalog::stored_schema;
use crate::diagnostics::{Diagnostic, Id};
use crate::memo::{Key, KeyMaker};
use crate::project::{Model, Source};

impl Compiler<'_> {
    /// A seed reads no table: all that decides it is its file, and how that is read.
    pub(super) fn seed(
        &self,
        model: &Model,
        seed: &Source,
    ) -> Result<(CompiledModel, Vec<Diagnostic>), Vec<Diagnostic>> {
        let file = &self.catalog.seeds[&seed.name];
        let schema = stored_schema(&file.schema).map_err(|(column, why)| {
            let message = format!("column `{column}` cannot be stored: {why}");
            vec![Diagnostic::error(Id::TypeMismatch, message).at(seed.span.clone())]
        })?;
        let warnings = self.check_columns(model, &schema)?;
        let columns = schema.fields().iter().map(|field| {
            let made = digest(&[&file.content, field.name()]);
            (field.name().clone(), ColumnShape { made, nullable: true })
        });
        let rows = digest(&[&file.content]);
        let mut compiled = CompiledModel {
            name: model.name.clone(),
            inputs: BTreeSet::new(),
            definition: fingerprint::definition(model, &[fingerprint::source(seed)], &[], self.project),
            content: Some(file.content.clone()),
            volatile: None,
            lineage: Lineage { columns: BTreeMap::new(), filters: BTreeSet::new() }.into(),
            facts: Facts::default().into(),
            shape: Shape { body: rows.clone(), rows, columns: columns.collect() }.into(),
            schema: schema.into(),
            key: Key::default(),
            made_from: KeyMaker::new("compiled seed").key(model.key).text(&file.content).finish(),
        };
        compiled.key = compiled.key_for_readers(model);
        Ok((compiled, warnings))
    }
}
