//! Reading what another compile or look at the sources left: `manifest.json` and `sources.json` of a folder that
//! `--state` names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use indexmap::IndexMap;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{ARTIFACTS_FOLDER, MANIFEST_VERSION, NEVER};
use crate::compile::state::{NodeState, Picture, PictureNode};
use crate::compile::{ColumnName, Lineage, Use};
use crate::names::TableName;
use crate::project::EXPOSURE_SCHEMA;

/// Artifacts that cannot be read, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StateError {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    nodes: BTreeMap<String, Node>,
    #[serde(default)]
    sources: BTreeMap<String, Node>,
    #[serde(default)]
    exposures: BTreeMap<String, Node>,
    #[serde(default)]
    unit_tests: BTreeMap<String, Node>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Of manifests before version 2.
    manifest_version: Option<u64>,
    #[serde(default)]
    lake_version: String,
}

impl Metadata {
    /// The version of the shape, and of the lake that wrote it.
    fn versions(self) -> Option<(u64, String)> {
        let Some(version) = self.env.get("lake_manifest") else {
            return Some((self.manifest_version?, self.lake_version));
        };
        Some((version.parse().ok()?, self.env.get("lake_version").cloned().unwrap_or_default()))
    }
}

#[derive(Deserialize)]
struct Node {
    resource_type: String,
    name: String,
    #[serde(default)]
    schema: Option<String>,
    #[serde(default)]
    columns: IndexMap<String, Column>,
    #[serde(default)]
    config: Config,
    #[serde(default)]
    depends_on: DependsOn,
}

#[derive(Default, Deserialize)]
struct Config {
    #[serde(default)]
    lake: Kept,
    #[serde(flatten)]
    settings: serde_json::Map<String, Value>,
}

#[derive(Default, Deserialize)]
struct Kept {
    #[serde(default)]
    state: NodeState,
    #[serde(default)]
    lineage: Option<LineageText>,
    /// Where dbt has no name for the kind of a node.
    #[serde(default)]
    resource_type: Option<String>,
    #[serde(default)]
    unset: Vec<String>,
}

#[derive(Default, Deserialize)]
struct DependsOn {
    #[serde(default)]
    nodes: Vec<String>,
}

#[derive(Deserialize)]
struct Column {
    #[serde(default)]
    data_type: Option<String>,
}

#[derive(Default, Deserialize)]
struct LineageText {
    columns: BTreeMap<String, Vec<Step>>,
    filters: Vec<ColumnName>,
}

#[derive(Deserialize)]
struct Step {
    table: TableName,
    column: String,
    #[serde(rename = "use")]
    how: Use,
}

/// Reads `manifest.json` of a folder.
///
/// # Errors
/// When it is not there, is no manifest, or is one of another version.
pub fn read_picture(folder: &Path) -> Result<Picture, StateError> {
    let path = folder.join("manifest.json");
    let text = read(folder, &path)?;
    // The version first: another one may have another shape.
    let head: Head = parse(&path, &text)?;
    match head.metadata.and_then(Metadata::versions) {
        Some((MANIFEST_VERSION, _)) => {}
        Some((other, lake)) => {
            return Err(StateError {
                message: format!(
                    "`{}` has version {other} and this lake reads version {MANIFEST_VERSION}: lake {lake} wrote it",
                    path.display()
                ),
                help: format!("run `lake compile` of lake {} on that state of the project", env!("CARGO_PKG_VERSION")),
            });
        }
        None => {
            return Err(StateError {
                message: format!("`{}` is no manifest of lake, or one of an older version", path.display()),
                help: format!("run `lake compile` of lake {} on that state of the project", env!("CARGO_PKG_VERSION")),
            });
        }
    }
    let manifest: Manifest = parse(&path, &text)?;
    let (tests, nodes): (Vec<_>, Vec<_>) =
        manifest.nodes.into_iter().partition(|(_, node)| node.resource_type == "test");
    let nodes = nodes.into_iter().filter(|(_, node)| node.resource_type != "operation");
    let nodes: Vec<(String, Node)> = nodes.chain(manifest.sources).chain(manifest.exposures).collect();
    let names: HashMap<String, TableName> = nodes.iter().map(|(id, node)| (id.clone(), node.table())).collect();
    let tests = tests.into_iter().chain(manifest.unit_tests);
    Ok(Picture {
        nodes: nodes.into_iter().map(|(_, node)| (node.table(), node.into_picture(&names))).collect(),
        tests: tests.map(|(_, test)| (test.name, test.config.lake.state.body)).collect(),
    })
}

#[derive(Deserialize)]
struct Head {
    metadata: Option<Metadata>,
}

impl Node {
    fn table(&self) -> TableName {
        let own = self.config.lake.resource_type.as_deref();
        TableName::new(self.schema.as_deref().or(own).unwrap_or(EXPOSURE_SCHEMA), &self.name)
    }

    fn into_picture(self, names: &HashMap<String, TableName>) -> PictureNode {
        let Kept { state, lineage, resource_type, unset } = self.config.lake;
        let lineage = lineage.unwrap_or_default();
        let made = |steps: Vec<Step>| {
            let named = steps.into_iter();
            named.map(|step| (ColumnName { table: step.table, column: step.column }, step.how)).collect()
        };
        // Beside the settings under their own names, dbt's shapes of some of them.
        let mut settings = self.config.settings;
        settings.retain(|key, _| !matches!(key.as_str(), "pre-hook" | "post-hook"));
        settings.extend(unset.into_iter().map(|key| (key, Value::Null)));
        let columns = self.columns.into_iter().map(|(name, column)| (name, column.data_type.unwrap_or_default()));
        PictureNode {
            kind: resource_type.unwrap_or(self.resource_type),
            state,
            columns: columns.collect(),
            lineage: Lineage {
                columns: lineage.columns.into_iter().map(|(column, steps)| (column, made(steps))).collect(),
                filters: lineage.filters.into_iter().collect(),
            },
            config: Value::Object(settings),
            depends_on: self.depends_on.nodes.iter().filter_map(|id| names.get(id).cloned()).collect(),
        }
    }
}

#[derive(Deserialize)]
struct Freshness {
    results: Vec<Fresh>,
}

#[derive(Deserialize)]
struct Fresh {
    unique_id: String,
    status: String,
    #[serde(default)]
    max_loaded_at: Option<DateTime<Utc>>,
}

impl Fresh {
    /// `source.project.bronze.views` -> `bronze.views`.
    fn source(&self) -> Option<TableName> {
        let (name, table) = self.unique_id.splitn(3, '.').nth(2)?.split_once('.')?;
        Some(TableName::new(name, table))
    }
}

/// The sources whose newest data in the `sources.json` of one folder is newer than in that of another. As in dbt: one
/// that was not looked at before is newer, and one that could not be looked at is not.
///
/// # Errors
/// When one is not there, or is not what `lake source freshness` wrote.
pub fn read_fresher(before: &Path, now: &Path) -> Result<BTreeSet<TableName>, StateError> {
    let looked = |folder: &Path| -> Result<Vec<Fresh>, StateError> {
        let path = folder.join("sources.json");
        let mut results = parse::<Freshness>(&path, &read(folder, &path)?)?.results;
        results.iter_mut().for_each(|fresh| fresh.max_loaded_at = fresh.max_loaded_at.filter(|time| *time != NEVER));
        Ok(results)
    };
    let before: BTreeMap<String, Fresh> =
        looked(before)?.into_iter().map(|fresh| (fresh.unique_id.clone(), fresh)).collect();
    let is_fresher = |fresh: &Fresh| match before.get(&fresh.unique_id) {
        _ if fresh.max_loaded_at.is_none() => false,
        None => true,
        Some(old) => old.status != "runtime error" && old.max_loaded_at < fresh.max_loaded_at,
    };
    Ok(looked(now)?.iter().filter(|fresh| is_fresher(fresh)).filter_map(Fresh::source).collect())
}

pub(super) fn read(folder: &Path, path: &Path) -> Result<Vec<u8>, StateError> {
    std::fs::read(path).map_err(|error| {
        let file = path.file_name().unwrap_or_default();
        let below: PathBuf = folder.join(ARTIFACTS_FOLDER);
        let help = if below.join(file).is_file() {
            format!("it is in `{}`: name that folder", below.display())
        } else if file == "run_results.json" {
            "`lake build`, `run` and `test` write it to .lake/".to_owned()
        } else if file == "sources.json" {
            "`lake source freshness` writes it to .lake/: run it before, and again now".to_owned()
        } else {
            "`lake compile` and `lake build` write it to .lake/: keep that folder, or compile that state again"
                .to_owned()
        };
        let message = match error.kind() {
            std::io::ErrorKind::NotFound => format!("`{}` does not exist", path.display()),
            _ => format!("cannot read `{}`: {error}", path.display()),
        };
        StateError { message, help }
    })
}

pub(super) fn parse<T: DeserializeOwned>(path: &Path, text: &[u8]) -> Result<T, StateError> {
    serde_json::from_slice(text).map_err(|error| StateError {
        message: format!("`{}` is not what lake writes: {error}", path.display()),
        help: "compile or build that state of the project again".to_owned(),
    })
}
