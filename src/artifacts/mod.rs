//! What a run leaves for other programs, in `.lake/` of the project: the only writer of that folder.
//!
//! | file | what |
//! | --- | --- |
//! | `manifest.json` | the compiled project: nodes, columns, tests, who reads whom |
//! | `run_results.json` | the last run |
//! | `sources.json` | how fresh the sources are, in the shape of dbt's |
//! | `compiled/` | the SQL of every model after Jinja |

mod freshness;
mod manifest;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use datafusion::arrow::datatypes::{Field, SchemaRef};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::catalog::sql_type;
use crate::compile::state::NodeState;
use crate::compile::{self, ColumnName, Lineage, Use};
use crate::graph::Selection;
use crate::memo::{Key, KeyMaker, Memo};
use crate::names::TableName;
use crate::project::{Column, Exposure, Group, Model, ModelConfig, Source, UnitSubject, UnitTest};
use crate::run::{FreshnessResult, RunReport, Runtime};
use crate::template::Rendered;

pub use freshness::read_freshness;
pub use manifest::write_manifest;
pub use state::{StateError, read_fresher, read_last_run, read_picture, read_results};

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

/// Keeps what this run worked out. Without it the next run takes longer; nothing else is lost.
pub fn keep(memo: &Memo, complete: bool) {
    if let Err(error) = memo.save(complete) {
        tracing::debug!("what was worked out cannot be kept: {error}");
    }
}

/// Writes `run_results.json`; `called` says by which command and flags.
///
/// # Errors
/// When the folder cannot be written to.
pub fn write_run_results(folder: &Path, report: &RunReport, called: &Value) -> Result<(), ArtifactError> {
    let mut value = serde_json::to_value(report).unwrap_or_default();
    value["args"] = called.clone();
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

/// Which SQL is in `compiled/`, by the keys of the models, and when its folders last changed.
#[derive(Default, PartialEq, Serialize, Deserialize)]
struct Written {
    models: BTreeSet<Key>,
    folders: BTreeMap<PathBuf, Option<Duration>>,
}

/// Writes the SQL of the selected models below `compiled/`, and returns that folder.
///
/// # Errors
/// When the folder cannot be written to.
pub fn write_compiled_sql(runtime: &Runtime, selection: &Selection) -> Result<PathBuf, ArtifactError> {
    let folder = Path::new(ARTIFACTS_FOLDER).join("compiled");
    let record = KeyMaker::new("compiled SQL").finish();
    let before: Written = runtime.memo.get(record).unwrap_or_default();
    let models: Vec<&Model> = runtime.project.models.values().filter(|model| model.seed.is_none()).collect();
    let folders = models.iter().filter_map(|model| Path::new(&model.path).parent()).collect::<BTreeSet<_>>();
    let folders: Vec<PathBuf> = folders.into_iter().map(|parent| runtime.folder.join(&folder).join(parent)).collect();
    let times = || folders.iter().map(|path| (path.clone(), modified(path))).collect::<BTreeMap<_, _>>();
    // A file that went away changes the time of its folder.
    let known = if times() == before.folders { before.models.clone() } else { BTreeSet::new() };
    for path in &folders {
        std::fs::create_dir_all(path).map_err(|source| ArtifactError { path: path.clone(), source })?;
    }
    // `lake` never reads these files, and writes one that a stopped run left half-written again: no rename is needed.
    let write = |path: &Path, rendered: &Rendered| {
        let path = runtime.folder.join(path);
        std::fs::write(&path, &rendered.sql).map_err(|source| ArtifactError { path, source })
    };
    let now: Vec<Option<Key>> = models
        .par_iter()
        .map(|model| {
            let is_there = known.contains(&model.key);
            if is_there || !selection.contains(&model.name) {
                return Ok(is_there.then_some(model.key));
            }
            let path = folder.join(&model.path);
            write(&path, &model.full)?;
            if let Some(rendered) = &model.incremental {
                write(&path.with_extension("incremental.sql"), rendered)?;
            }
            Ok(Some(model.key))
        })
        .collect::<Result<_, ArtifactError>>()?;
    let now = Written { models: now.into_iter().flatten().collect(), folders: times() };
    if now != before {
        runtime.memo.put(record, &now);
    }
    Ok(folder)
}

fn modified(path: &Path) -> Option<Duration> {
    std::fs::metadata(path).ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()
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

fn write(folder: &Path, path: &Path, bytes: &[u8]) -> Result<(), ArtifactError> {
    write_with(folder, path, |file| file.write_all(bytes))
}

/// Writes beside, then renames: a reader sees the old file or the new one, never half of it.
fn write_with<T>(
    folder: &Path,
    path: &Path,
    fill: impl FnOnce(&mut File) -> std::io::Result<T>,
) -> Result<T, ArtifactError> {
    let path = folder.join(path);
    let fail = |source| ArtifactError { path: path.clone(), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(fail)?;
    }
    let extension = format!("{}.tmp", std::process::id());
    let temporary = path.with_extension(extension);
    let written = File::create(&temporary).and_then(|mut file| fill(&mut file));
    written.and_then(|result| std::fs::rename(&temporary, &path).map(|()| result)).map_err(fail)
}

/// A model for other programs.
pub fn model_json(runtime: &Runtime, model: &Model) -> Value {
    serde_json::to_value(ModelNode::new(runtime, model)).expect("a model is JSON")
}

/// The shape of a model in the manifest.
#[derive(Serialize)]
struct ModelNode<'a> {
    name: &'a TableName,
    resource_type: &'static str,
    path: &'a str,
    description: &'a str,
    config: &'a ModelConfig,
    depends_on: Vec<&'a TableName>,
    columns: Vec<ColumnNode<'a>>,
    raw_code: &'a str,
    compiled_code: &'a str,
    compiled_code_incremental: Option<&'a str>,
    fingerprint: Option<&'a str>,
    lineage: Option<LineageNode<'a>>,
    state: NodeState,
}

impl<'a> ModelNode<'a> {
    fn new(runtime: &'a Runtime, model: &'a Model) -> Self {
        let compiled = runtime.compiled.models.get(&model.name);
        let schema = compiled.map(|compiled| &*compiled.schema);
        Self {
            name: &model.name,
            resource_type: model.resource_type(),
            path: &model.path,
            description: &model.description,
            config: &model.config,
            depends_on: runtime.graph.parents(&model.name),
            columns: column_nodes(runtime, &model.name, schema, &model.columns),
            raw_code: model.full.file.text(),
            compiled_code: &model.full.sql,
            compiled_code_incremental: model.incremental.as_ref().map(|rendered| rendered.sql.as_str()),
            fingerprint: compiled.map(|compiled| compiled.definition.as_str()),
            lineage: compiled.map(|compiled| LineageNode::new(&compiled.lineage)),
            state: compile::state::of_model(&runtime.project, &runtime.compiled, model),
        }
    }
}

/// Where each column comes from, one step up.
#[derive(Serialize)]
struct LineageNode<'a> {
    columns: BTreeMap<&'a str, Vec<Origin<'a>>>,
    filters: &'a BTreeSet<ColumnName>,
}

#[derive(Serialize)]
struct Origin<'a> {
    table: &'a TableName,
    column: &'a str,
    #[serde(rename = "use")]
    how: Use,
}

impl<'a> LineageNode<'a> {
    fn new(lineage: &'a Lineage) -> Self {
        let origin =
            |(from, how): (&'a ColumnName, &'a Use)| Origin { table: &from.table, column: &from.column, how: *how };
        let columns = lineage.columns.iter().map(|(column, from)| (column.as_str(), from.iter().map(origin).collect()));
        Self { columns: columns.collect(), filters: &lineage.filters }
    }
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
        "columns": column_nodes(runtime, &source.name, schema, &source.columns),
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

/// A unit test for other programs.
pub fn unit_test_json(test: &UnitTest) -> Value {
    let (macro_name, depends_on): (_, Vec<&TableName>) = match &test.subject {
        UnitSubject::Model(case) => (None, case.runs.iter().flat_map(|run| &run.given).map(|g| &g.input).collect()),
        UnitSubject::Macro(cases) => (Some(&cases.name), Vec::new()),
    };
    json!({
        "name": test.name,
        "resource_type": "unit_test",
        "path": test.span.file.path,
        "model": test.model(),
        "macro": macro_name,
        "given": depends_on,
        "description": test.description,
        "tags": test.config.tags,
        "meta": test.config.meta,
        "state": { "body": compile::state::of_unit_test(test) },
    })
}

fn group_json(group: &Group) -> Value {
    json!({"name": group.name, "owner": group.owner, "description": group.description})
}

/// A column for other programs: its type from the compiler, its description from YAML.
#[derive(Serialize)]
struct ColumnNode<'a> {
    name: &'a str,
    data_type: String,
    description: &'a str,
    tests: Vec<&'a str>,
}

fn column_nodes<'a>(
    runtime: &'a Runtime,
    table: &TableName,
    schema: Option<&'a SchemaRef>,
    described: &'a [Column],
) -> Vec<ColumnNode<'a>> {
    let fields = schema.into_iter().flat_map(|schema| schema.fields());
    let column = |field: &'a Arc<Field>| {
        let name = field.name().as_str();
        let description = described.iter().find(|column| column.name == *name).map_or("", |column| &column.description);
        let tests = runtime.compiled.tests_on(table).filter(|test| test.column() == Some(name));
        ColumnNode {
            name,
            data_type: sql_type(field.data_type()),
            description,
            tests: tests.map(|test| test.kind.name()).collect(),
        }
    };
    fields.map(column).collect()
}
