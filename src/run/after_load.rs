//! After the load: files that all tables have taken in move to the archive of their source, or into compacted files.
//!
//! What is to be moved follows from the manifests, and not from what this run did: what a crash left behind is moved by
//! the next run.

use super::inputs::Inputs;
use super::intake::loaded_by_all;
use super::report::ArchiveResult;
use super::schedule::Schedule;
use crate::bronze::{self, Compaction};
use crate::names::TableName;
use crate::project::AfterLoad;

/// Archives or compacts files of the sources that the models of the schedule take in.
pub(super) async fn archive(inputs: &Inputs, schedule: &Schedule) -> Vec<ArchiveResult> {
    let runtime = inputs.runtime();
    let mut results = Vec::new();
    for (name, source) in &runtime.project.sources {
        let (action, to) = match &source.ingestion.after_load {
            AfterLoad::Keep => continue,
            AfterLoad::Archive { to } => ("archived", to),
            AfterLoad::Compact { to, .. } => ("compacted", to),
        };
        let taken_in =
            |model: &TableName| super::intake::takes_in(&runtime.project, &runtime.project.models[model], name);
        if !schedule.steps.iter().any(|step| taken_in(&step.name)) {
            continue;
        }
        let done = match &source.ingestion.after_load {
            AfterLoad::Compact { to, target_size } => compact_one(inputs, name, to, *target_size).await,
            _ => archive_one(inputs, name, to).await,
        };
        let (moved, error) = match done {
            Ok(moved) => (moved, None),
            Err(error) => (0, Some(error)),
        };
        if moved > 0 || error.is_some() {
            results.push(ArchiveResult { action, source: name.clone(), to: to.clone(), files: moved, error });
        }
    }
    results
}

async fn archive_one(inputs: &Inputs, source: &TableName, to: &str) -> Result<usize, String> {
    let files = loaded_by_all(inputs, source).await.map_err(|error| error.to_string())?;
    let files: Vec<_> = files.iter().collect();
    bronze::archive(source, &files, to, &inputs.runtime().folder).map_err(|error| error.to_string())
}

async fn compact_one(inputs: &Inputs, name: &TableName, to: &str, target_size: u64) -> Result<usize, String> {
    let runtime = inputs.runtime();
    let source = &runtime.project.sources[name];
    let begun = Compaction::begin(source, to, target_size, &runtime.folder).map_err(|error| error.to_string())?;
    // Another run does it.
    let Some(compaction) = begun else { return Ok(0) };
    inputs.forget_listing(name);
    let files = loaded_by_all(inputs, name).await.map_err(|error| error.to_string())?;
    if inputs.check_columns(name, &files).await.is_err() {
        // Taken in by a run that knows more columns than this one: the next run knows them too.
        return Ok(0);
    }
    let listing = inputs.listing(name).await.map_err(|error| error.to_string())?;
    let schema = inputs.source_schema(name);
    let done = compaction.run(&listing, files, &schema, &runtime.session, &runtime.memo).await;
    inputs.forget_listing(name);
    done.map_err(|error| error.to_string())
}
