//! `sources.json`: how fresh the sources are, as dbt writes it, and read back.

use std::path::Path;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ARTIFACTS_FOLDER, ArtifactError, NEVER, ids, metadata, moment, write_json};
use crate::names::TableName;
use crate::project::Source;
use crate::run::{FreshnessResult, FreshnessStatus, Runtime};

/// Writes `sources.json`, and returns what it says.
///
/// # Errors
/// When the folder cannot be written to.
pub fn write_freshness(runtime: &Runtime, results: &[FreshnessResult], seconds: f64) -> Result<Value, ArtifactError> {
    let value = json!({
        "metadata": metadata("sources/v3", &runtime.options),
        "results": results.iter().map(|result| one(runtime, result)).collect::<Vec<_>>(),
        "elapsed_time": seconds,
    });
    write_json(&runtime.folder, "sources.json", &value)?;
    Ok(value)
}

fn one(runtime: &Runtime, result: &FreshnessResult) -> Value {
    let unique_id = ids::node(&runtime.project, &result.source);
    if result.status == FreshnessStatus::RuntimeError {
        return json!({"unique_id": unique_id, "error": result.error, "status": result.status});
    }
    let newest = result.max_loaded_at.unwrap_or(NEVER);
    let age = (result.snapshotted_at - newest).num_milliseconds() as f64 / 1000.0;
    let took = chrono::Duration::microseconds((result.seconds * 1e6) as i64);
    let (started, completed) = (moment(result.snapshotted_at - took), moment(result.snapshotted_at));
    json!({
        "unique_id": unique_id,
        "max_loaded_at": moment(newest),
        "snapshotted_at": moment(result.snapshotted_at),
        "max_loaded_at_time_ago_in_s": age,
        "status": result.status,
        "criteria": {
            "warn_after": result.criteria.warn_after,
            "error_after": result.criteria.error_after,
            "filter": result.criteria.filter,
        },
        "adapter_response": {},
        "timing": [{"name": "execute", "started_at": started, "completed_at": completed}],
        "thread_id": super::THREAD,
        "execution_time": result.seconds,
    })
}

#[derive(Deserialize)]
struct Written {
    results: Vec<Looked>,
}

#[derive(Deserialize)]
struct Looked {
    unique_id: String,
    status: String,
    max_loaded_at: Option<DateTime<Utc>>,
    snapshotted_at: Option<DateTime<Utc>>,
    error: Option<String>,
}

/// How fresh a source was when `lake source freshness` looked at it last, under the limits that it has now.
pub fn read_freshness(folder: &Path, source: &Source) -> Option<FreshnessResult> {
    let text = std::fs::read(folder.join(ARTIFACTS_FOLDER).join("sources.json")).ok()?;
    let written: Written = serde_json::from_slice(&text).ok()?;
    // `source.project.bronze.views`: a name of a project may have dots.
    let is_it = |looked: &Looked| {
        let own = looked.unique_id.strip_suffix(source.name.as_str());
        own.is_some_and(|before| before.starts_with("source.") && before.ends_with('.'))
    };
    let looked = written.results.into_iter().find(is_it)?;
    Some(FreshnessResult {
        source: TableName::new(source.name.schema, source.name.table),
        max_loaded_at: looked.max_loaded_at.filter(|time| *time != NEVER),
        snapshotted_at: looked.snapshotted_at?,
        status: match looked.status.as_str() {
            "pass" => FreshnessStatus::Pass,
            "warn" => FreshnessStatus::Warn,
            "error" => FreshnessStatus::Error,
            _ => FreshnessStatus::RuntimeError,
        },
        criteria: source.ingestion.freshness.clone()?,
        error: looked.error,
        seconds: 0.0,
    })
}
