//! Reading `run_results.json` back: to retry, to select by result, to tell what a run did.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::state::{self, StateError};
use super::{ARTIFACTS_FOLDER, ids};
use crate::names::TableName;
use crate::project::{EXPORT_SCHEMA, Project};

/// What the last run did.
#[derive(Debug, Deserialize)]
pub struct LastRun {
    /// The command and its flags.
    #[serde(default)]
    pub args: Value,
    results: Vec<Ended>,
}

/// How a node or a test ended.
#[derive(Debug, Deserialize)]
struct Ended {
    unique_id: String,
    status: String,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    relation_name: Option<String>,
    #[serde(default)]
    adapter_response: Response,
}

#[derive(Debug, Default, Deserialize)]
struct Response {
    #[serde(default)]
    failed_file: Option<String>,
    #[serde(default)]
    stale: Vec<TableName>,
}

impl Ended {
    /// `model`, `test`, ...
    fn resource_type(&self) -> &str {
        self.unique_id.split('.').next().unwrap_or_default()
    }

    /// `layer.model`, of a model or a seed.
    fn table(&self) -> Option<TableName> {
        let (schema, table) = self.relation_name.as_ref()?.split_once("\".\"")?;
        Some(TableName::new(schema.strip_prefix('"')?, table.strip_suffix('"')?))
    }
}

impl LastRun {
    /// What failed or did not run, by the names that select it, and how many nodes of those are no longer there. A test
    /// that failed beside its model is run with the model.
    pub fn undone(&self, project: &Project) -> (Vec<String>, usize) {
        let names = ids::names(project);
        let tables: BTreeMap<&str, &TableName> =
            project.data_tests.iter().filter_map(|test| Some((test.name.as_str(), test.table.as_ref()?))).collect();
        let ran: Vec<TableName> = self.results.iter().filter_map(Ended::table).collect();
        let (mut there, mut gone) = (Vec::new(), 0);
        for ended in &self.results {
            let failed = matches!(ended.status.as_str(), "error" | "fail" | "skipped");
            if !failed && ended.adapter_response.stale.is_empty() || ended.resource_type() == "operation" {
                continue;
            }
            let Some(name) = names.get(&ended.unique_id) else {
                gone += 1;
                continue;
            };
            let beside = tables.get(name.as_str()).filter(|table| ran.contains(table));
            // `export.songs` is selected as `export:songs`.
            let own = || if ended.resource_type() == EXPORT_SCHEMA { name.replacen('.', ":", 1) } else { name.clone() };
            let name = beside.map_or_else(own, |table| table.to_string());
            if !there.contains(&name) {
                there.push(name);
            }
        }
        (there, gone)
    }
}

/// Reads `run_results.json` of a folder.
///
/// # Errors
/// When it is not there, or is not what a run wrote.
pub fn read_last_run(folder: &Path) -> Result<LastRun, StateError> {
    let path = folder.join("run_results.json");
    state::parse(&path, &state::read(folder, &path)?)
}

/// How each node and test of the `run_results.json` of a folder ended, by name.
///
/// # Errors
/// When it is not there, or is not what a run wrote.
pub fn read_results(folder: &Path, project: &Project) -> Result<BTreeMap<String, String>, StateError> {
    let (last, names) = (read_last_run(folder)?, ids::names(project));
    let named = last.results.into_iter().filter_map(|ended| Some((names.get(&ended.unique_id)?.clone(), ended.status)));
    Ok(named.collect())
}

/// Files that the last run could not read, by model and path, with the reason.
pub fn read_failed_files(folder: &Path) -> BTreeMap<(String, String), String> {
    let Ok(last) = read_last_run(&folder.join(ARTIFACTS_FOLDER)) else { return BTreeMap::new() };
    let failed = last.results.into_iter().filter_map(|ended| {
        let table = ended.table()?.to_string();
        Some(((table, ended.adapter_response.failed_file?), ended.message.unwrap_or_default()))
    });
    failed.collect()
}
