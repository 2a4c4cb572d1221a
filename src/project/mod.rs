//! Files -> [`Project`]: everything a user wrote, checked and resolved to plain values.
//!
//! [`read`] is the only place that touches the project folder; [`load`] is pure. YAML is parsed only
//! here. Mistakes go to the sink, and loading goes on with what is left.

mod absent;
mod bad_rows;
mod config;
mod contracts;
mod custom_tests;
mod data_tests;
mod documents;
mod durations;
mod exports;
mod exposures;
mod files;
mod formats;
mod groups;
mod history;
mod hooks;
mod ingestion;
mod layout;
mod load;
mod microbatch;
mod models;
mod notifications;
mod openlineage;
mod path_columns;
mod schema;
mod seeds;
mod selectors;
mod settings;
mod source_options;
mod sources;
mod table_properties;
mod targets;
mod test_config;
mod test_lists;
mod thresholds;
mod unit_tests;
mod values;
mod yaml;
mod yaml_texts;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::diagnostics::{Diagnostic, SourceFile, Span};
use crate::memo::{Key, Lazy};
use crate::names::TableName;
use crate::template::{
    Config, KnownNames, MacroTexts, Recording, RefRead, Rendered, Scope, SourceRead, Templates, TestCall, Trace,
};

pub use absent::{instead_of, instead_of_setting};
pub use bad_rows::{Limit, OnBadRow};
pub use config::{
    CONFIG_KEYS, LintLevel, Materialization, ModelConfig, OnError, OnSchemaChange, Profile, Publish, Strategy,
    check as check_setting,
};
pub use data_tests::{DataTest, TestKind};
pub use exports::{CsvLayout, EXPORT_SCHEMA, Export, ExportFormat, OrderBy, TextLayout};
pub use exposures::{EXPOSURE_SCHEMA, Exposure};
pub use files::{ProjectFiles, ReadError, read};
pub use formats::{Compression, Format};
pub use groups::{Access, Group, Owner};
pub use history::{CheckCols, HardDeletes, HistoryStrategy, MetaNames};
pub use hooks::{Hook, Owned as OwnedHooks, RenderedHook};
pub use ingestion::{
    AfterLoad, Age, Freshness, Identity, Ingestion, OnChangedFile, OnNewColumn, OnRemovedFile, Period,
};
pub use layout::{Codec, CodecName, Maintain, PersistDocs, RETENTION, SHORTEST_RETENTION};
pub use load::{LoadOptions, load, one_source, parse_vars, ref_span};
pub use notifications::{Channel, ChannelType, Delivery, Mail, MailTls, Occasion, Reached, Secret, channels_alone};
pub use openlineage::{ApiKey, OpenLineage, OpenLineageSettings};
pub use path_columns::{PathColumn, PathColumns, PathType};
pub use schema::{YamlFile, known_keys};
pub use seeds::{check as check_seed_setting, check_property as check_seed_property};
pub use selectors::{Definition, METHODS, MethodDefinition, Selector, unknown_method};
pub use settings::Target;
pub use source_options::{ColumnFormat, MetadataColumn, SourceOptions, TimeTravel};
pub use sources::Source;
pub use table_properties::{columns as property_columns, interval as property_interval};
pub use targets::Targets;
pub use test_config::{KEYS as TEST_KEYS, TestConfig, TestSeverity, Verdict, Violation};
pub use thresholds::Threshold;
pub use unit_tests::{
    At, Cell, CellValue, ChainModel, Given, MacroCase, MacroCases, ModelCase, RowTable, Rows, Tolerance, UnitRun,
    UnitSubject, UnitTest,
};
pub use yaml::{Node, Raw, parse as parse_yaml};

/// A loaded project.
#[derive(Debug)]
pub struct Project {
    /// `name` in `project.yml`.
    pub name: String,
    /// The project folder.
    pub folder: PathBuf,
    /// The chosen target.
    pub target: Target,
    /// All of them.
    pub targets: Targets,
    /// Declared source tables.
    pub sources: BTreeMap<TableName, Source>,
    /// Enabled models and seeds.
    pub models: BTreeMap<TableName, Model>,
    /// Data tests of models and sources, and singular tests.
    pub data_tests: Vec<Arc<DataTest>>,
    /// Unit tests of models and macros.
    pub unit_tests: Vec<Arc<UnitTest>>,
    /// Declared exposures: `exposure.name`.
    pub exposures: BTreeMap<TableName, Exposure>,
    /// Declared exports: `export.name`.
    pub exports: BTreeMap<TableName, Export>,
    /// Declared groups.
    pub groups: BTreeMap<String, Group>,
    /// Selections that `selectors.yml` names.
    pub selectors: BTreeMap<String, Selector>,
    /// Variables with their values: those of `project.yml`, overridden by `--vars`.
    pub vars: BTreeMap<String, serde_json::Value>,
    /// Which macros there are, and what they say.
    pub macros: MacroTexts,
    /// Markdown files with blocks of documentation.
    pub docs: Vec<Arc<SourceFile>>,
    /// Layers that no sensitive column reaches unmasked, and where each stands in `project.yml`.
    pub forbid_unmasked_in: Vec<(String, Span)>,
    /// `on-run-start`: what runs before the first model.
    pub on_run_start: Vec<Hook>,
    /// `on-run-end`: what runs after the last one.
    pub on_run_end: Vec<Hook>,
    /// `openlineage`: where events of a run go.
    pub openlineage: OpenLineageSettings,
    /// `notifications`: who is told how runs end.
    pub notifications: Vec<Channel>,
    templates: Arc<Templates>,
    known: Arc<KnownNames>,
}

impl Project {
    /// Renders a query that is not in any file: `lake show --inline`.
    ///
    /// # Errors
    /// The first mistake in it.
    pub fn render_inline(&self, sql: &str) -> Result<String, Box<Diagnostic>> {
        let file = Arc::new(SourceFile::new("--inline", sql));
        models::render_inline(&file, &self.templates, &self.known)
    }

    /// Finds out who wrote each byte of one variant of a model's SQL.
    pub fn trace_model(&self, model: &Model, rendered: &Rendered) -> Trace {
        let file = &model.file;
        let scope = models::model_scope(&model.name, file, &model.description, &model.outer_config, &self.known);
        let incremental = model.incremental.as_ref().is_some_and(|incremental| std::ptr::eq(&**incremental, rendered));
        self.templates.trace(rendered, Scope { incremental, ..scope })
    }

    /// Finds out who wrote each byte of one use of a generic test of the project.
    pub fn trace_generic_test(&self, name: &str, call: &TestCall, rendered: &Rendered) -> Trace {
        let scope = models::bare_scope(name, &rendered.file.path, &self.known);
        self.templates.trace_generic_test(name, call, rendered, scope)
    }

    /// Finds out who wrote each byte of a singular test.
    pub fn trace_test(&self, rendered: &Rendered) -> Trace {
        self.templates.trace(rendered, models::singular_scope(&rendered.file, &self.known))
    }
}

/// A column as YAML describes it.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Column {
    /// Its name, in its own case.
    pub name: String,
    /// Where the name stands.
    pub span: Span,
    /// A SQL type, as written.
    pub data_type: Option<(String, Span)>,
    /// Markdown.
    pub description: String,
    /// `constraints` of a contract, and where they stand.
    pub constraints: Vec<(Constraint, Span)>,
    /// Anything; `sensitive` keeps its values out of what is recorded.
    pub meta: serde_json::Value,
}

impl Column {
    /// Whether its values are not for everybody: `meta: { sensitive: true }`, or what kind of secret they are.
    pub fn is_sensitive(&self) -> bool {
        !matches!(self.meta.get("sensitive"), None | Some(serde_json::Value::Null | serde_json::Value::Bool(false)))
    }
}

/// What a contract promises about the values of a column.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Constraint {
    /// No NULL.
    NotNull,
    /// No value twice.
    Unique,
    /// Neither NULL nor twice.
    PrimaryKey,
    /// A condition that holds for every row.
    Check(String),
}

impl Constraint {
    /// Whether a NULL breaks it.
    pub fn excludes_null(&self) -> bool {
        matches!(self, Self::NotNull | Self::PrimaryKey)
    }
}

/// One SQL model, or a seed.
#[derive(Debug, Clone)]
pub struct Model {
    /// `layer.model`.
    pub name: TableName,
    /// Relative to the project folder.
    pub path: String,
    /// Its file.
    pub file: Arc<SourceFile>,
    /// Markdown.
    pub description: String,
    /// The YAML file that describes it.
    pub described_in: Option<String>,
    /// Columns that YAML describes.
    pub columns: Lazy<Vec<Column>>,
    /// Some of them have constraints.
    has_constraints: bool,
    /// It has no SQL: its rows are those of this file.
    pub seed: Option<Box<Source>>,
    /// What its file says.
    body: ModelBody,
    /// What the model is made of, in a hash.
    pub key: Key,
}

/// What the file of a model says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ModelBody {
    /// The settings from outside its file, for another render of it.
    outer_config: Lazy<Arc<Config>>,
    /// The settings, nearest wins.
    pub config: ModelConfig,
    /// SQL of a first run or full refresh.
    pub full: Lazy<Rendered>,
    /// SQL of an incremental run, if the template gives another one.
    pub incremental: Option<Lazy<Rendered>>,
    /// Models that any variant reads.
    pub refs: Vec<TableName>,
    /// Sources that any variant reads.
    pub sources: Vec<(TableName, SourceRead)>,
    /// Models that any variant reads in a way of their own, beside `refs`.
    pub ref_reads: Vec<(TableName, RefRead)>,
    /// Variables that any variant asked for.
    pub vars: BTreeSet<String>,
    /// Its own hash.
    key: Key,
    /// The SQL depends on the clock or the id of the run: its variants as they would be in a run that started in 1970.
    pub timeless: Option<Vec<String>>,
}

impl Deref for Model {
    type Target = ModelBody;

    fn deref(&self) -> &ModelBody {
        &self.body
    }
}

impl Model {
    /// What dbt calls it: `model`, or `seed`.
    pub fn resource_type(&self) -> &'static str {
        if self.seed.is_some() { "seed" } else { "model" }
    }

    /// The whole file as a place, for what concerns the model as such.
    pub fn span(&self) -> Span {
        Span::file_start(&self.file)
    }
}

impl ModelBody {
    /// The SQL that a run of this kind executes.
    pub fn rendered(&self, incremental: bool) -> &Rendered {
        match &self.incremental {
            Some(rendered) if incremental => rendered,
            _ => &self.full,
        }
    }

    /// Whether the model has a Delta table of its own.
    pub fn is_stored(&self) -> bool {
        use Materialization::{Incremental, Scd2, Seed, Table};
        matches!(self.config.materialized, Table | Incremental | Scd2 | Seed)
    }

    /// Whether an incremental run replaces rows one by one, by key.
    pub fn merges(&self) -> bool {
        let config = &self.config;
        config.materialized == Materialization::Incremental
            && config.incremental_strategy == Strategy::Merge
            && !config.unique_key.is_empty()
    }

    /// Whether an incremental run adds its rows beside all others.
    pub fn appends(&self) -> bool {
        let config = &self.config;
        config.materialized == Materialization::Incremental
            && match config.incremental_strategy {
                Strategy::Append => true,
                Strategy::Merge | Strategy::DeleteInsert => config.unique_key.is_empty(),
                Strategy::InsertOverwrite | Strategy::Microbatch => false,
            }
    }

    /// Whether time is cut into batches, each a commit of its own.
    pub fn is_microbatch(&self) -> bool {
        let config = &self.config;
        config.materialized == Materialization::Incremental && config.incremental_strategy == Strategy::Microbatch
    }

    fn absorb(&mut self, recording: &Recording) {
        self.vars.extend(recording.vars.iter().cloned());
        for name in &recording.refs {
            if !self.refs.contains(name) {
                self.refs.push(name.clone());
            }
        }
        for read in &recording.ref_reads {
            if !self.ref_reads.contains(read) {
                self.ref_reads.push(read.clone());
            }
        }
        for read in &recording.sources {
            if !self.sources.contains(read) {
                self.sources.push(read.clone());
            }
        }
    }
}
