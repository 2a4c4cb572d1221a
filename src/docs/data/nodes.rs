//! Models, seeds, sources and exposures.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};

use super::columns::ColumnDoc;
use super::{Maker, is_none};
use crate::names::TableName;
use crate::project::{EXPORT_SCHEMA, Export, Exposure, Materialization, Model, ModelConfig, Source};
use crate::run::{FreshnessResult, SeenSource, SeenTable, TableProfile};
use crate::tables::Version;

/// A node.
#[derive(Default, Serialize)]
pub(super) struct NodeDoc<'a> {
    name: &'a str,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    materialized: Option<&'static str>,
    path: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    tags: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<&'static str>,
    #[serde(skip_serializing_if = "is_none")]
    contract: bool,
    #[serde(skip_serializing_if = "Map::is_empty")]
    settings: Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parents: Vec<usize>,
    columns: Vec<ColumnDoc<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    filters: Vec<(usize, usize)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sql: Option<SqlDoc<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<TableDoc>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    versions: Vec<VersionDoc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profiled: Option<ProfiledDoc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<SourceDoc<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    freshness: Option<FreshnessDoc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exposure: Option<ExposureDoc<'a>>,
}

#[derive(Serialize)]
struct SqlDoc<'a> {
    raw: &'a str,
    compiled: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    incremental: Option<&'a str>,
}

#[derive(Serialize)]
struct TableDoc {
    version: u64,
    rows: Option<u64>,
    bytes: u64,
    files: u64,
    at: Option<i64>,
}

/// Version, time, operation, rows or -1, files, files that came, files that went, tests that passed, run or -1.
type VersionDoc = (u64, Option<i64>, usize, i64, usize, usize, usize, usize, i64);

#[derive(Serialize)]
struct ProfiledDoc {
    version: u64,
    rows: u64,
    at: Option<i64>,
}

#[derive(Serialize)]
struct SourceDoc<'a> {
    location: &'a str,
    format: String,
    files: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    newest_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    list: Vec<(&'a str, u64, i64)>,
}

#[derive(Serialize)]
struct FreshnessDoc {
    status: Value,
    max_loaded_at: Option<i64>,
    checked_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    warn_after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct ExposureDoc<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    maturity: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_email: Option<&'a str>,
}

fn millis(at: Option<DateTime<Utc>>) -> Option<i64> {
    at.map(|at| at.timestamp_millis())
}

impl<'a> Maker<'a> {
    /// All nodes, parents first.
    pub(super) fn nodes(&mut self) -> Vec<NodeDoc<'a>> {
        let runtime = self.runtime;
        let mut nodes = Vec::with_capacity(runtime.graph.order().len());
        for name in runtime.graph.order() {
            let project = &runtime.project;
            nodes.push(match (project.models.get(name), project.sources.get(name), project.exposures.get(name)) {
                (Some(model), ..) => self.model(model),
                (_, Some(source), _) => self.source(source),
                (_, _, Some(exposure)) => self.exposure(exposure),
                _ if project.exports.contains_key(name) => self.export(&project.exports[name]),
                // Indices would not fit any more.
                _ => NodeDoc { name: name.as_str(), kind: "model", ..NodeDoc::default() },
            });
        }
        nodes
    }

    fn parents(&self, name: &TableName) -> Vec<usize> {
        self.nodes_at(self.runtime.graph.parents(name))
    }

    fn model(&mut self, model: &'a Model) -> NodeDoc<'a> {
        let (name, config) = (&model.name, &model.config);
        let seen = self.survey.tables.get(name);
        let profile = seen.and_then(|seen| seen.profile.as_ref());
        NodeDoc {
            name: name.as_str(),
            kind: model.resource_type(),
            materialized: Some(config.materialized.name()),
            path: &model.path,
            description: model.description.trim(),
            owner: config.owner.as_deref(),
            tags: &config.tags,
            group: config.group.as_deref(),
            access: config.group.is_some().then(|| config.access.name()),
            contract: config.contract,
            settings: settings(config),
            parents: self.parents(name),
            columns: self.columns(name, &model.columns, &config.unique_key, profile),
            filters: self.filters(name),
            sql: model.seed.is_none().then(|| SqlDoc {
                raw: model.full.file.text(),
                compiled: &model.full.sql,
                incremental: model.incremental.as_ref().map(|rendered| rendered.sql.as_str()),
            }),
            table: seen.map(TableDoc::new),
            versions: seen.map(|seen| self.versions(seen)).unwrap_or_default(),
            profiled: profile.map(ProfiledDoc::new),
            ..NodeDoc::default()
        }
    }

    fn versions(&mut self, seen: &SeenTable) -> Vec<VersionDoc> {
        let number = |value: Option<u64>| value.and_then(|value| i64::try_from(value).ok()).unwrap_or(-1);
        let version = |version: &Version| {
            let run = version.invocation_id.as_deref().and_then(|id| self.run_at.get(id).copied());
            let run = number(run.map(|run| run as u64));
            let operation = self.texts.at(&version.operation);
            let (files, added, removed) = (version.files.unwrap_or_default(), version.added, version.removed);
            let rows = number(version.rows);
            (version.version, millis(version.at), operation, rows, files, added, removed, version.tests, run)
        };
        seen.versions.iter().rev().map(version).collect()
    }

    fn source(&mut self, source: &'a Source) -> NodeDoc<'a> {
        let name = &source.name;
        let seen = self.survey.sources.get(name);
        NodeDoc {
            name: name.as_str(),
            kind: "source",
            path: &source.span.file.path,
            description: source.description.trim(),
            tags: &source.tags,
            columns: self.columns(name, &source.columns, &[], None),
            source: seen.map(|seen| SourceDoc::new(source, seen)),
            freshness: seen.and_then(|seen| seen.freshness.as_ref()).map(FreshnessDoc::new),
            ..NodeDoc::default()
        }
    }

    /// An export leaves the lake as an exposure does.
    fn export(&mut self, export: &'a Export) -> NodeDoc<'a> {
        NodeDoc {
            name: export.name.as_str(),
            kind: "exposure",
            path: &export.span.file.path,
            description: export.description.trim(),
            tags: &export.tags,
            parents: self.parents(&export.name),
            exposure: Some(ExposureDoc {
                kind: EXPORT_SCHEMA,
                label: None,
                url: None,
                maturity: None,
                owner_email: None,
            }),
            ..NodeDoc::default()
        }
    }

    fn exposure(&mut self, exposure: &'a Exposure) -> NodeDoc<'a> {
        let owner = &exposure.owner;
        NodeDoc {
            name: exposure.name.as_str(),
            kind: "exposure",
            path: &exposure.span.file.path,
            description: exposure.description.trim(),
            owner: owner.name.as_deref().or(owner.email.as_deref()),
            tags: &exposure.tags,
            parents: self.parents(&exposure.name),
            exposure: Some(ExposureDoc {
                kind: exposure.kind,
                label: exposure.label.as_deref(),
                url: exposure.url.as_deref(),
                maturity: exposure.maturity,
                owner_email: owner.email.as_deref(),
            }),
            ..NodeDoc::default()
        }
    }
}

impl TableDoc {
    fn new(seen: &SeenTable) -> Self {
        let table = &seen.published;
        // The newest version of the log has its own time; a checkpoint may have lost it.
        let at = table.committed_at().or_else(|| seen.versions.first()?.at);
        Self {
            version: table.version(),
            rows: table.rows(),
            bytes: table.bytes(),
            files: table.file_count(),
            at: millis(at),
        }
    }
}

impl ProfiledDoc {
    fn new(profile: &TableProfile) -> Self {
        let at = DateTime::parse_from_rfc3339(&profile.at).ok().map(|at| at.timestamp_millis());
        Self { version: profile.version, rows: profile.rows, at }
    }
}

impl<'a> SourceDoc<'a> {
    fn new(source: &'a Source, seen: &'a SeenSource) -> Self {
        let file = |(path, size, at): &'a (String, u64, DateTime<Utc>)| (path.as_str(), *size, at.timestamp_millis());
        Self {
            location: &source.path,
            format: word(&source.format),
            files: seen.files,
            bytes: seen.bytes,
            newest_at: millis(seen.newest_at),
            error: seen.error.as_deref(),
            list: seen.list.iter().map(file).collect(),
        }
    }
}

impl FreshnessDoc {
    fn new(fresh: &FreshnessResult) -> Self {
        Self {
            status: serde_json::to_value(fresh.status).unwrap_or_default(),
            max_loaded_at: millis(fresh.max_loaded_at),
            checked_at: fresh.snapshotted_at.timestamp_millis(),
            warn_after: fresh.criteria.warn_after.map(|age| age.seconds()),
            error_after: fresh.criteria.error_after.map(|age| age.seconds()),
            error: fresh.error.clone(),
        }
    }
}

/// A value whose JSON is one word.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

/// Settings that tell people how a table is made.
const TOLD: &[&str] = &[
    "incremental_strategy",
    "unique_key",
    "merge_update_columns",
    "merge_exclude_columns",
    "sequence_by",
    "delete_when",
    "incremental_predicates",
    "strategy",
    "updated_at",
    "check_cols",
    "hard_deletes",
    "partition_by",
    "sort_by",
    "zorder_by",
    "event_time",
    "batch_size",
    "begin",
    "lookback",
    "on_schema_change",
    "on_error",
    "publish",
    "audit",
    "full_refresh",
    "timeout",
    "profile",
];

static DEFAULTS: LazyLock<Value> = LazyLock::new(|| serde_json::to_value(ModelConfig::default()).unwrap_or_default());

/// Those that are not as by default.
fn settings(config: &ModelConfig) -> Map<String, Value> {
    let Ok(Value::Object(mut all)) = serde_json::to_value(config) else { return Map::new() };
    let is_incremental = config.materialized == Materialization::Incremental;
    let told = TOLD.iter().filter_map(|key| {
        let value = all.remove(*key)?;
        let own = is_incremental && *key == "incremental_strategy";
        (own || !value.is_null() && value != DEFAULTS[*key]).then(|| ((*key).to_owned(), value))
    });
    told.collect()
}
