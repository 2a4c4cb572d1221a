//! What is known of the files of a source, and how fresh it is: `lake source`.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::TimestampMicrosecondType;
use serde::Serialize;

use super::inputs::Inputs;
use super::intake::{manifest_of, takes_in};
use super::materialize::Failure;
use crate::bronze::{BronzeFile, Entry};
use crate::catalog::utc;
use crate::names::TableName;
use crate::project::{Age, Format, Freshness, Source};
use crate::session;

/// What a model knows of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Intake {
    /// Its rows are published.
    Loaded,
    /// It waits for the next build.
    Pending,
    /// It is not as it was when it was taken in.
    Changed,
    /// It was taken in, and is gone.
    Removed,
    /// The last build could not read it.
    Failed,
}

/// A file of a source, as a model knows it.
#[derive(Debug, Clone, Serialize)]
pub struct FileState {
    /// The model.
    pub model: TableName,
    /// Below the folder of the source.
    pub path: String,
    /// What is known of it.
    pub state: Intake,
    /// Bytes.
    pub size: u64,
    /// When it was written.
    pub modified_at: Option<DateTime<Utc>>,
    /// When it was taken in.
    pub loaded_at: Option<DateTime<Utc>>,
    /// It is in the archive of the source.
    pub archived: bool,
    /// Why the last build could not read it.
    pub error: Option<String>,
}

/// Every file of a source, for each model that takes it in. `failed` has the messages of the last run by model and file.
///
/// # Errors
/// When the folder or a manifest cannot be read.
pub async fn source_files(
    inputs: &Inputs,
    source: &TableName,
    only: Option<&TableName>,
    failed: &BTreeMap<(String, String), String>,
) -> Result<Vec<FileState>, Failure> {
    let runtime = inputs.runtime();
    if runtime.project.sources[source].format == Format::Delta {
        return Ok(Vec::new());
    }
    let listing = inputs.listing(source).await?;
    let mut states = Vec::new();
    for model in runtime.project.models.values() {
        if !takes_in(&runtime.project, model, source) || only.is_some_and(|only| *only != model.name) {
            continue;
        }
        let manifest = manifest_of(inputs, &model.name, source).await?;
        for file in &listing.files {
            let entry = manifest.files().get(&file.path);
            let shown = file.shown(&runtime.folder);
            let error = failed.get(&(model.name.to_string(), shown));
            states.push(state_of(&model.name, file, entry, error));
        }
        for (path, entry) in manifest.files().iter().filter(|(path, _)| listing.get(path).is_none()) {
            states.push(FileState {
                model: model.name.clone(),
                path: path.clone(),
                state: Intake::Removed,
                size: entry.size,
                modified_at: DateTime::from_timestamp_micros(entry.modified),
                loaded_at: entry.batch.and_then(DateTime::from_timestamp_micros),
                archived: false,
                error: None,
            });
        }
    }
    states.sort_by(|a, b| (&a.model, &a.path).cmp(&(&b.model, &b.path)));
    Ok(states)
}

fn state_of(model: &TableName, file: &BronzeFile, entry: Option<&Entry>, error: Option<&String>) -> FileState {
    let bad = entry.filter(|entry| entry.is(file)).and_then(|entry| entry.bad.as_ref());
    let state = match entry {
        _ if bad.is_some() => Intake::Failed,
        Some(entry) if entry.is(file) => Intake::Loaded,
        _ if error.is_some() => Intake::Failed,
        Some(_) => Intake::Changed,
        None => Intake::Pending,
    };
    FileState {
        model: model.clone(),
        path: file.path.clone(),
        state,
        size: file.meta.size,
        modified_at: Some(file.meta.last_modified),
        loaded_at: entry
            .filter(|_| bad.is_none())
            .and_then(|entry| entry.batch)
            .and_then(DateTime::from_timestamp_micros),
        archived: file.archived,
        error: bad.or(error).filter(|_| state == Intake::Failed).cloned(),
    }
}

/// How fresh a source is, in dbt's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum FreshnessStatus {
    /// Fresh enough.
    #[serde(rename = "pass")]
    Pass,
    /// Older than `warn_after`.
    #[serde(rename = "warn")]
    Warn,
    /// Older than `error_after`, or without any data.
    #[serde(rename = "error")]
    Error,
    /// It cannot be told.
    #[serde(rename = "runtime error")]
    RuntimeError,
}

/// How fresh a source is.
#[derive(Debug, Clone)]
pub struct FreshnessResult {
    /// The source.
    pub source: TableName,
    /// When its newest data came.
    pub max_loaded_at: Option<DateTime<Utc>>,
    /// When that was looked at.
    pub snapshotted_at: DateTime<Utc>,
    /// Fresh or stale.
    pub status: FreshnessStatus,
    /// What it may be.
    pub criteria: Freshness,
    /// Why it cannot be told.
    pub error: Option<String>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl FreshnessResult {
    /// Seconds since the newest data came.
    pub fn age(&self) -> Option<f64> {
        let age = self.snapshotted_at - self.max_loaded_at?;
        Some(age.num_milliseconds() as f64 / 1000.0)
    }
}

/// Looks how fresh a source is: by `loaded_at_field`, else by the times of its files or of its Delta version. `None` if it does not say what is
/// fresh enough.
pub async fn source_freshness(inputs: &Inputs, name: &TableName) -> Option<FreshnessResult> {
    let start = std::time::Instant::now();
    let source = &inputs.runtime().project.sources[name];
    let criteria = source.ingestion.freshness.clone()?;
    let newest = newest(inputs, source, &criteria).await;
    let mut result = FreshnessResult {
        source: name.clone(),
        max_loaded_at: None,
        snapshotted_at: Utc::now(),
        status: FreshnessStatus::RuntimeError,
        criteria,
        error: None,
        seconds: start.elapsed().as_secs_f64(),
    };
    match newest {
        Err(failure) => result.error = Some(failure.to_string()),
        Ok(None) => {
            (result.status, result.error) = (FreshnessStatus::Error, Some("there is no data".to_owned()));
        }
        Ok(found) => {
            result.max_loaded_at = found;
            let age = result.age().unwrap_or_default();
            let over = |limit: Option<Age>| limit.is_some_and(|limit| age > limit.seconds() as f64);
            result.status = match (over(result.criteria.error_after), over(result.criteria.warn_after)) {
                (true, _) => FreshnessStatus::Error,
                (false, true) => FreshnessStatus::Warn,
                (false, false) => FreshnessStatus::Pass,
            };
        }
    }
    Some(result)
}

async fn newest(inputs: &Inputs, source: &Source, criteria: &Freshness) -> Result<Option<DateTime<Utc>>, Failure> {
    let Some(field) = &source.ingestion.loaded_at_field else {
        if source.format == Format::Delta {
            return Ok(inputs.delta_source(source).await?.committed_at());
        }
        let listing = inputs.listing(&source.name).await?;
        return Ok(listing.files.iter().map(|file| file.meta.last_modified).max());
    };
    let filter = criteria.filter.as_ref().map(|filter| format!(" where {filter}")).unwrap_or_default();
    let sql = format!("select max({field}) as newest from {}{filter}", source.name.quoted());
    let plan = inputs.plan_query(&sql).await?;
    let batches = session::query(&inputs.runtime().session, plan).collect().await?;
    let Some(batch) = batches.iter().find(|batch| batch.num_rows() > 0) else { return Ok(None) };
    let column = cast(batch.column(0), &utc()).map_err(|_| {
        Failure::text(format!(
            "`loaded_at_field: {field}` is not a time; write an expression such as `cast(... as timestamp)`"
        ))
    })?;
    let column = column.as_primitive::<TimestampMicrosecondType>();
    let newest = column.iter().next().flatten();
    if newest.is_none() && !batch.column(0).is_null(0) {
        return Err(Failure::text(format!("the newest `{field}` is not a time")));
    }
    Ok(newest.and_then(DateTime::from_timestamp_micros))
}
