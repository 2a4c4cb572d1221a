//! The part of a project that the runs of a unit test run for real.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{ModelCase, UnitTest, render};
use crate::diagnostics::Diagnostic;
use crate::names::TableName;
use crate::project::{
    AfterLoad, Format, Ingestion, MacroTexts, Materialization, Model, OnNewColumn, Project, Source, SourceOptions,
};
use crate::template::Overrides;

impl Project {
    /// A project of its own, in `folder`, at this moment: the models of the test that run, without hooks; what is given
    /// as tables, and sources as files of Parquet.
    ///
    /// # Errors
    /// What is wrong with a template at that moment.
    pub fn for_unit_test(
        &self,
        test: &UnitTest,
        case: &ModelCase,
        now: Option<DateTime<Utc>>,
        folder: &Path,
    ) -> Result<Self, Box<Diagnostic>> {
        let now = now.or(test.overrides.now);
        let overrides = Arc::new(Overrides { now, ..(*test.overrides).clone() });
        let mut models = BTreeMap::new();
        for link in &case.chain {
            let Some(model) = self.models.get(&link.name) else { continue };
            let shows_clock = now.is_some() && model.timeless.is_some();
            let mut model = match (model.seed.is_some(), shows_clock, &link.own) {
                (true, _, _) => as_table(model),
                (false, true, _) => render::model(model, &overrides, &self.templates, &self.known)
                    .map_err(|failure| Box::new(failure.diagnostic))?,
                (false, false, Some(own)) => (**own).clone(),
                (false, false, None) => model.clone(),
            };
            model.body.config.pre_hook.clear();
            model.body.config.post_hook.clear();
            models.insert(link.name.clone(), model);
        }
        let mut sources = BTreeMap::new();
        for given in case.runs.iter().flat_map(|run| &run.given) {
            if let Some(source) = self.sources.get(&given.input) {
                sources.insert(given.input.clone(), in_folder(source));
            } else if let Some(model) = self.models.get(&given.input).filter(|model| model.name != case.model) {
                models.entry(given.input.clone()).or_insert_with(|| as_table(model));
            }
        }
        let mut target = self.target.clone();
        target.root = folder.join("lake").to_string_lossy().into_owned();
        Ok(Self {
            forbid_unmasked_in: Vec::new(),
            notifications: Vec::new(),
            name: self.name.clone(),
            folder: folder.to_path_buf(),
            target,
            targets: self.targets.clone(),
            sources,
            models,
            data_tests: Vec::new(),
            unit_tests: Vec::new(),
            exposures: BTreeMap::new(),
            exports: BTreeMap::new(),
            groups: BTreeMap::new(),
            selectors: BTreeMap::new(),
            vars: self.vars.clone(),
            macros: MacroTexts::new(&[]),
            on_run_start: Vec::new(),
            on_run_end: Vec::new(),
            docs: Vec::new(),
            openlineage: self.openlineage.clone(),
            templates: Arc::clone(&self.templates),
            known: Arc::clone(&self.known),
        })
    }
}

/// A model whose rows are given: a table, whatever it is made of.
fn as_table(model: &Model) -> Model {
    let mut model = model.clone();
    model.seed = None;
    let body = &mut model.body;
    body.config.materialized = Materialization::Table;
    body.config.partition_by.clear();
    body.config.pre_hook.clear();
    body.config.post_hook.clear();
    body.refs.clear();
    body.sources.clear();
    body.ref_reads.clear();
    body.incremental = None;
    model
}

/// A source whose files are those that the runs deliver.
fn in_folder(source: &Source) -> Source {
    let path = format!("{}/", folder_of(&source.name));
    // What lake knows of a file is given here like every other column.
    let options = SourceOptions::new();
    let ingestion = Ingestion {
        on_new_column: OnNewColumn::Ignore,
        after_load: AfterLoad::default(),
        incremental_listing: None,
        ..source.ingestion.clone()
    };
    let format = if source.format == Format::Delta { Format::Delta } else { Format::Parquet };
    let columns = Vec::new();
    Source { declared_path: path.clone(), path, format, options, columns, ingestion, ..source.clone() }
}

/// Where the files of a source stand, below the folder of the test.
pub(in crate::project) fn folder_of(source: &TableName) -> String {
    format!("sources/{}/{}", source.schema, source.table)
}
