//! Reading what another compile or run left: `manifest.json`, `run_results.json` and `sources.json` of a folder that
//! `--state` names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{ARTIFACTS_FOLDER, MANIFEST_VERSION};
use crate::compile::state::{NodeState, Picture, PictureNode};
use crate::compile::{ColumnName, Lineage, Use};
use crate::names::TableName;

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
    nodes: BTreeMap<TableName, Node>,
    #[serde(default)]
    sources: BTreeMap<TableName, Node>,
    #[serde(default)]
    exposures: BTreeMap<TableName, Node>,
    #[serde(default)]
    exports: BTreeMap<TableName, Node>,
    #[serde(default)]
    tests: BTreeMap<String, Test>,
    #[serde(default)]
    unit_tests: BTreeMap<String, Test>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    lake_version: String,
    manifest_version: Option<u64>,
}

#[derive(Deserialize)]
struct Node {
    resource_type: String,
    #[serde(default)]
    state: NodeState,
    #[serde(default)]
    columns: Vec<Column>,
    #[serde(default)]
    lineage: Option<LineageText>,
    #[serde(default)]
    config: serde_json::Value,
    #[serde(default)]
    depends_on: Vec<TableName>,
}

#[derive(Deserialize)]
struct Column {
    name: String,
    data_type: String,
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

#[derive(Deserialize)]
struct Test {
    #[serde(default)]
    state: NodeState,
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
    let found = head.metadata.and_then(|metadata| Some((metadata.manifest_version?, metadata.lake_version)));
    match found {
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
    let nodes = manifest.nodes.into_iter().chain(manifest.sources).chain(manifest.exposures);
    let nodes = nodes.chain(manifest.exports);
    Ok(Picture {
        nodes: nodes.map(|(name, node)| (name, node.into_picture())).collect(),
        tests: manifest
            .tests
            .into_iter()
            .chain(manifest.unit_tests)
            .map(|(name, test)| (name, test.state.body))
            .collect(),
    })
}

#[derive(Deserialize)]
struct Head {
    metadata: Option<Metadata>,
}

impl Node {
    fn into_picture(self) -> PictureNode {
        let lineage = self.lineage.unwrap_or_default();
        let made = |steps: Vec<Step>| {
            let named = steps.into_iter();
            named.map(|step| (ColumnName { table: step.table, column: step.column }, step.how)).collect()
        };
        PictureNode {
            kind: self.resource_type,
            state: self.state,
            columns: self.columns.into_iter().map(|column| (column.name, column.data_type)).collect(),
            lineage: Lineage {
                columns: lineage.columns.into_iter().map(|(column, steps)| (column, made(steps))).collect(),
                filters: lineage.filters.into_iter().collect(),
            },
            config: self.config,
            depends_on: self.depends_on,
        }
    }
}

#[derive(Deserialize)]
struct Results {
    #[serde(default)]
    nodes: Vec<Ended>,
    #[serde(default)]
    tests: Vec<Ended>,
    #[serde(default)]
    unit_tests: Vec<Ended>,
}

#[derive(Deserialize)]
struct Ended {
    name: String,
    status: String,
    #[serde(default)]
    tests: Vec<Ended>,
}

/// Reads `run_results.json` of a folder: how each node and test ended, by name.
///
/// # Errors
/// When it is not there, or is not what a run wrote.
pub fn read_results(folder: &Path) -> Result<BTreeMap<String, String>, StateError> {
    let path = folder.join("run_results.json");
    let results: Results = parse(&path, &read(folder, &path)?)?;
    let all = results.nodes.into_iter().chain(results.tests).chain(results.unit_tests);
    Ok(all
        .flat_map(|node| {
            let tests: Vec<(String, String)> = node.tests.into_iter().map(|test| (test.name, test.status)).collect();
            tests.into_iter().chain([(node.name, node.status)])
        })
        .collect())
}

/// Reads all of `run_results.json` of a folder.
///
/// # Errors
/// When it is not there, or is no JSON.
pub fn read_last_run(folder: &Path) -> Result<serde_json::Value, StateError> {
    let path = folder.join("run_results.json");
    parse(&path, &read(folder, &path)?)
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
        Ok(parse::<Freshness>(&path, &read(folder, &path)?)?.results)
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

fn read(folder: &Path, path: &Path) -> Result<Vec<u8>, StateError> {
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

fn parse<T: DeserializeOwned>(path: &Path, text: &[u8]) -> Result<T, StateError> {
    serde_json::from_slice(text).map_err(|error| StateError {
        message: format!("`{}` is not what lake writes: {error}", path.display()),
        help: "compile or build that state of the project again".to_owned(),
    })
}
