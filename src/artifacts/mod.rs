//! What a run leaves for other programs, in `.lake/` of the project: the only writer of that folder.
//!
//! | file | what |
//! | --- | --- |
//! | `manifest.json` | the compiled project: nodes, columns, tests, who reads whom |
//! | `run_results.json` | the last run |
//! | `catalog.json` | tables that are published, with their columns and sizes |
//! | `sources.json` | how fresh the sources are |
//! | `compiled/` | the SQL of every model after Jinja |
//! | `schemas/` | JSON Schemas of the YAML files, for editors |
//!
//! The JSON files have the shapes of dbt's, so that what reads those reads these. `lake` reads them back itself: to
//! compare, to retry, and to select by result.

mod catalog;
mod compiled;
mod events;
mod freshness;
mod ids;
mod manifest;
mod nodes;
mod openlineage;
mod plain;
mod resources;
mod results;
mod run_results;
mod shape;
mod state;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDate, NaiveTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::{Value, json};

use crate::memo::Memo;
use crate::project::YamlFile;
use crate::run::RunOptions;

pub use catalog::write_catalog;
pub use compiled::write_compiled_sql;
pub use events::{Level, LogEvent, RunEvents};
pub use freshness::{read_freshness, write_freshness};
pub use manifest::write_manifest;
pub use openlineage::{Announcer, job_event};
pub use plain::{export_json, exposure_json, model_json, source_json, unit_test_json};
pub use results::{LastRun, read_failed_files, read_last_run, read_results};
pub use run_results::write_run_results;
pub use state::{StateError, read_fresher, read_picture};

/// The version of what `lake` keeps of its own in `manifest.json`: readers of another one cannot use it.
const MANIFEST_VERSION: u64 = 2;

/// The dbt whose shapes these are.
const DBT_VERSION: &str = "1.11.0";

/// dbt's `adapter_type`.
const ADAPTER: &str = "lake";

/// dbt names the thread of a result; here several work on each.
const THREAD: &str = "main";

/// When what has no data was loaded, for dbt: at the beginning of its calendar.
const NEVER: DateTime<Utc> = NaiveDate::from_ymd_opt(1, 1, 1).unwrap().and_time(NaiveTime::MIN).and_utc();

/// Where `config` of a node holds what `lake` reads back.
const OWN_KEY: &str = "lake";

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

/// The `metadata` that every file of dbt's begins with.
fn metadata(schema: &str, options: &RunOptions) -> Value {
    json!({
        "dbt_schema_version": format!("https://schemas.getdbt.com/dbt/{schema}.json"),
        "dbt_version": DBT_VERSION,
        "generated_at": moment(Utc::now()),
        "invocation_id": options.invocation_id,
        "invocation_started_at": moment(options.started_at),
        "env": {"lake_version": env!("CARGO_PKG_VERSION")},
    })
}

/// A moment as dbt writes it: microseconds, in UTC.
fn moment(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
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

/// Writes the JSON Schemas of the YAML files to `schemas/`, and returns where.
///
/// # Errors
/// When the folder cannot be written to.
pub fn write_schemas(folder: &Path) -> Result<Vec<PathBuf>, ArtifactError> {
    let one = |file: &YamlFile| {
        let path = Path::new(ARTIFACTS_FOLDER).join("schemas").join(format!("{}.json", file.name()));
        let text = serde_json::to_vec_pretty(&file.schema()).unwrap_or_default();
        write(folder, &path, &text).map(|()| path)
    };
    YamlFile::ALL.iter().map(one).collect()
}

fn write_json(folder: &Path, name: &str, value: &impl Serialize) -> Result<(), ArtifactError> {
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
