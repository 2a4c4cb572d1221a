//! After the load: files that all tables have taken in move to the archive of their source.
//!
//! What is to be moved follows from the manifests, and not from what this run did: what a crash left behind is moved by
//! the next run.

use super::inputs::Inputs;
use super::intake::loaded_by_all;
use super::report::ArchiveResult;
use super::schedule::Schedule;
use crate::bronze;
use crate::names::TableName;
use crate::project::AfterLoad;

/// Archives files of the sources that the models of the schedule take in.
pub(super) async fn archive(inputs: &Inputs, schedule: &Schedule) -> Vec<ArchiveResult> {
    let runtime = inputs.runtime();
    let mut results = Vec::new();
    for (name, source) in &runtime.project.sources {
        let AfterLoad::Archive { to } = &source.ingestion.after_load else { continue };
        let taken_in =
            |model: &TableName| super::intake::takes_in(&runtime.project, &runtime.project.models[model], name);
        if !schedule.steps.iter().any(|step| taken_in(&step.name)) {
            continue;
        }
        let (moved, error) = match archive_one(inputs, name, to).await {
            Ok(moved) => (moved, None),
            Err(error) => (0, Some(error)),
        };
        if moved > 0 || error.is_some() {
            results.push(ArchiveResult { source: name.clone(), to: to.clone(), files: moved, error });
        }
    }
    results
}

async fn archive_one(inputs: &Inputs, source: &TableName, to: &str) -> Result<usize, String> {
    let files = loaded_by_all(inputs, source).await.map_err(|error| error.to_string())?;
    let files: Vec<_> = files.iter().collect();
    bronze::archive(source, &files, to, &inputs.runtime().folder).map_err(|error| error.to_string())
}
