//! What a run leaves for other programs, in `.lake/` of the project: the only writer of that folder.
//!
//! | file | what |
//! | --- | --- |
//! | `manifest.json` | the compiled project: nodes, columns, tests, who reads whom |
//! | `run_results.json` | the last run |
//! | `sources.json` | how fresh the sources are, in the shape of dbt's |
//! | `compiled/` | the SQL of every model after Jinja |

mod state;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, SchemaRef};
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::catalog::sql_type;
use crate::compile::{self, Lineage};
use crate::graph::Selection;
use crate::memo::Memo;
use crate::names::TableName;
use crate::project::{Column, Exposure, Group, Model, Source};
use crate::run::{FreshnessResult, RunReport, Runtime};

pub use state::{StateError, read_picture, read_results};

/// The version of the shape of `manifest.json`: readers of another one cannot use it.
const MANIFEST_VERSION: u64 = 1;

/// The folder of local artifacts, below the project folder.
pub const ARTIFACTS_FOLDER: &str = ".lake";

/// An artifact that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write `{}`: {source}", path.display())]
pub struct ArtifactError {
    /// The file or folder.
    path: PathBuf,
    /// Why.
    source: std::io::Error,
}

/// What earlier runs worked out about the project in `folder`.
pub fn open_memo(folder: &Path, build: &str) -> Memo {
    Memo::open(folder.join(ARTIFACTS_FOLDER).join("memo"), folder, build)
}

/// Writes `manifest.json`.
///
/// # Errors
/// When the folder cannot be written to.
pub fn write_manifest(runtime: &Runtime) -> Result<(), ArtifactError> {
    write_json(&runtime.folder, "manifest.json", &manifest(runtime))
}

/// Writes `run_results.json`.
///
/// # Errors
/// When the folder cannot be written to.
pub fn write_run_results(folder: &Path, report: &RunReport) -> Result<(), ArtifactError> {
    let mut value = serde_json::to_value(report).unwrap_or_default();
    value["lake_version"] = json!(env!("CARGO_PKG_VERSION"));
    write_json(folder, "run_results.json", &value)
}

/// The last `run_results.json`, if there is one.
pub fn read_run_results(folder: &Path) -> Option<Value> {
    let text = std::fs::read(folder.join(ARTIFACTS_FOLDER).join("run_results.json")).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Files that the last run could not read, by model and path, with the reason.
pub fn read_failed_files(folder: &Path) -> BTreeMap<(String, String), String> {
    let results = read_run_results(folder).unwrap_or_default();
    let nodes = results["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let failed = nodes.iter().filter_map(|node| {
        let text = |key: &str| node[key].as_str().map(str::to_owned);
        Some(((text("name")?, text("failed_file")?), text("reason")?))
    });
    failed.collect()
}

/// Writes `sources.json`, and returns what it says.
///
/// # Errors
/// When the folder cannot be written to.
pub fn write_freshness(runtime: &Runtime, results: &[FreshnessResult], seconds: f64) -> Result<Value, ArtifactError> {
    let results: Vec<Value> = results
        .iter()
        .map(|result| {
            json!({
                "unique_id": format!("source.{}.{}", runtime.project.name, result.source),
                "max_loaded_at": result.max_loaded_at,
                "snapshotted_at": result.snapshotted_at,
                "max_loaded_at_time_ago_in_s": result.age(),
                "status": result.status,
                "error": result.error,
                "criteria": {
                    "warn_after": result.criteria.warn_after,
                    "error_after": result.criteria.error_after,
                    "filter": result.criteria.filter,
                },
                "execution_time": result.seconds,
            })
        })
        .collect();
    let value = json!({
        "metadata": {
            "lake_version": env!("CARGO_PKG_VERSION"),
            "generated_at": chrono::Utc::now(),
            "invocation_id": runtime.options.invocation_id,
        },
        "results": results,
        "elapsed_time": seconds,
    });
    write_json(&runtime.folder, "sources.json", &value)?;
    Ok(value)
}

/// Writes the SQL of the selected models below `compiled/`, and returns that folder.
///
/// # Errors
/// When the folder cannot be written to.
pub fn write_compiled_sql(runtime: &Runtime, selection: &Selection) -> Result<PathBuf, ArtifactError> {
    let folder = Path::new(ARTIFACTS_FOLDER).join("compiled");
    let selected: Vec<&Model> =
        runtime.project.models.values().filter(|model| selection.contains(&model.name)).collect();
    selected.par_iter().try_for_each(|model| {
        let path = folder.join(&model.path);
        write_if_new(&runtime.folder, &path, model.full.sql.as_bytes())?;
        match &model.incremental {
            Some(sql) => write_if_new(&runtime.folder, &path.with_extension("incremental.sql"), sql.sql.as_bytes()),
            None => Ok(()),
        }
    })?;
    Ok(folder)
}

/// Most files are as they were: a read is cheaper than a write.
fn write_if_new(folder: &Path, path: &Path, bytes: &[u8]) -> Result<(), ArtifactError> {
    if std::fs::read(folder.join(path)).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    write(folder, path, bytes)
}

/// Writes a page, by default to `docs/index.html`, and returns where.
///
/// # Errors
/// When it cannot be written.
pub fn write_page(folder: &Path, path: Option<&Path>, html: &str) -> Result<PathBuf, ArtifactError> {
    let path = path.map_or_else(|| Path::new(ARTIFACTS_FOLDER).join("docs").join("index.html"), Path::to_owned);
    write(folder, &path, html.as_bytes())?;
    Ok(path)
}

fn write_json(folder: &Path, name: &str, value: &Value) -> Result<(), ArtifactError> {
    let text = serde_json::to_vec(value).unwrap_or_default();
    write(folder, &Path::new(ARTIFACTS_FOLDER).join(name), &text)
}

/// Writes beside, then renames: a reader sees the old file or the new one, never half of it.
fn write(folder: &Path, path: &Path, bytes: &[u8]) -> Result<(), ArtifactError> {
    let path = folder.join(path);
    let fail = |source| ArtifactError { path: path.clone(), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(fail)?;
    }
    let extension = format!("{}.tmp", std::process::id());
    let temporary = path.with_extension(extension);
    std::fs::write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, &path)).map_err(fail)
}

/// The compiled project for other programs.
fn manifest(runtime: &Runtime) -> Value {
    let project = &runtime.project;
    let models: Vec<&Model> = project.models.values().collect();
    let nodes: BTreeMap<String, Value> =
        models.par_iter().map(|model| (model.name.to_string(), model_json(runtime, model))).collect();
    let sources: BTreeMap<String, Value> =
        project.sources.values().map(|source| (source.name.to_string(), source_json(runtime, source))).collect();
    let tests: BTreeMap<&str, Value> = runtime
        .compiled
        .tests
        .iter()
        .map(|test| {
            let value = json!({
                "name": test.name, "test_type": test.kind, "table": test.table, "column": test.column,
                "severity": test.severity, "depends_on": test.reads, "tags": test.tags,
                "description": test.description, "failures_sql": test.failures_sql(),
                "state": {"body": compile::state::of_test(test)},
            });
            (test.name.as_str(), value)
        })
        .collect();
    json!({
        "metadata": {
            "lake_version": env!("CARGO_PKG_VERSION"),
            "manifest_version": MANIFEST_VERSION,
            "generated_at": runtime.options.started_at,
            "invocation_id": runtime.options.invocation_id,
            "project_name": project.name,
            "target": project.target.name,
        },
        "nodes": nodes,
        "sources": sources,
        "exposures": project.exposures.values().map(|e| (e.name.to_string(), exposure_json(e))).collect::<Value>(),
        "groups": project.groups.values().map(|group| (group.name.clone(), group_json(group))).collect::<Value>(),
        "tests": tests,
        "parent_map": neighbours(runtime, |name| runtime.graph.parents(name)),
        "child_map": neighbours(runtime, |name| runtime.graph.children(name)),
    })
}

fn neighbours<'a>(
    runtime: &'a Runtime,
    of: impl Fn(&'a TableName) -> Vec<&'a TableName>,
) -> BTreeMap<String, Vec<String>> {
    let entry = |name: &'a TableName| (name.to_string(), of(name).into_iter().map(ToString::to_string).collect());
    runtime.graph.order().iter().map(entry).collect()
}

/// A model for other programs.
pub fn model_json(runtime: &Runtime, model: &Model) -> Value {
    let compiled = runtime.compiled.models.get(&model.name);
    let schema = compiled.map(|compiled| &*compiled.schema);
    json!({
        "name": model.name,
        "resource_type": "model",
        "path": model.path,
        "description": model.description,
        "config": model.config,
        "depends_on": runtime.graph.parents(&model.name),
        "columns": columns_json(runtime, &model.name, schema, &model.columns),
        "raw_code": model.full.file.text(),
        "compiled_code": model.full.sql,
        "compiled_code_incremental": model.incremental.as_ref().map(|rendered| &rendered.sql),
        "fingerprint": compiled.map(|compiled| &compiled.definition),
        "lineage": compiled.map(|compiled| lineage_json(&compiled.lineage)),
        "state": compile::state::of_model(&runtime.project, &runtime.compiled, model),
    })
}

/// Where each column comes from, one step up.
fn lineage_json(lineage: &Lineage) -> Value {
    let columns: BTreeMap<&String, Vec<Value>> = lineage
        .columns
        .iter()
        .map(|(column, sources)| {
            let list =
                sources.iter().map(|(from, how)| json!({"table": from.table, "column": from.column, "use": how}));
            (column, list.collect())
        })
        .collect();
    json!({"columns": columns, "filters": lineage.filters})
}

/// A source for other programs.
pub fn source_json(runtime: &Runtime, source: &Source) -> Value {
    let schema = runtime.compiled.sources.get(&source.name);
    json!({
        "name": source.name,
        "resource_type": "source",
        "path": source.path,
        "format": source.format,
        "description": source.description,
        "tags": source.tags,
        "columns": columns_json(runtime, &source.name, schema, &source.columns),
        "state": compile::state::of_source(source),
    })
}

/// An exposure for other programs.
pub fn exposure_json(exposure: &Exposure) -> Value {
    let depends_on: Vec<&TableName> = exposure.depends_on.iter().map(|(name, _)| name).collect();
    json!({
        "name": exposure.name,
        "resource_type": "exposure",
        "path": exposure.span.file.path,
        "type": exposure.kind,
        "label": exposure.label,
        "owner": exposure.owner,
        "url": exposure.url,
        "maturity": exposure.maturity,
        "description": exposure.description,
        "tags": exposure.tags,
        "meta": exposure.meta,
        "depends_on": depends_on,
        "state": compile::state::of_exposure(exposure),
    })
}

fn group_json(group: &Group) -> Value {
    json!({"name": group.name, "owner": group.owner, "description": group.description})
}

/// The columns of a table: their types from the compiler, their descriptions from YAML.
fn columns_json(runtime: &Runtime, table: &TableName, schema: Option<&SchemaRef>, described: &[Column]) -> Value {
    let fields = schema.into_iter().flat_map(|schema| schema.fields());
    let column = |field: &Arc<Field>| {
        let name = field.name();
        let description = described.iter().find(|column| column.name == *name).map_or("", |column| &column.description);
        let tests = runtime.compiled.tests_on(table).filter(|test| test.column.as_deref() == Some(name));
        let tests: Vec<&str> = tests.map(|test| test.kind.as_str()).collect();
        json!({"name": name, "data_type": sql_type(field.data_type()), "description": description, "tests": tests})
    };
    fields.map(column).collect()
}
