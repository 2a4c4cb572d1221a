//! `sources.json`: how fresh the sources are, as dbt writes it.

use serde_json::{Value, json};

use super::{ArtifactError, ids, metadata, moment, write_json};
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
    let newest = result.max_loaded_at.unwrap_or(super::NEVER);
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
