//! `lake maintain`: each table by the policy of its model.

use std::collections::BTreeSet;

use futures::StreamExt;
use serde::Serialize;

use super::inputs::Inputs;
use super::intake::Intake;
use super::materialize::Failure;
use super::quarantine::table_of;
use super::{chronicle, left_out};
use crate::bronze::{self, Manifest, manifest};
use crate::names::TableName;
use crate::project::{Maintain, OnBadRow};
use crate::tables::{self, Packing, Published, Removal, TableError};

/// How often packing starts again after another run was faster.
const ATTEMPTS: usize = 4;

/// What was done to one table, or would be.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Maintained {
    /// The table.
    pub name: String,
    /// There is no table yet, or its model forbids all.
    pub skipped: Option<&'static str>,
    /// Its version after that.
    pub version: Option<u64>,
    /// Files that became fewer.
    pub packed: Packing,
    /// Data files that no version needs.
    pub removed: Removal,
    /// Batches of manifests and notes that no version leads to.
    pub leftovers: Removal,
    /// The log was summed up.
    pub checkpoint: bool,
    /// Log entries that were too old.
    pub log_entries: usize,
    /// What failed; the steps before it are done.
    pub error: Option<String>,
}

impl Maintained {
    /// There was nothing to do.
    pub fn is_nothing(&self) -> bool {
        let none = Removal::default();
        let files = self.packed == Packing::default() && self.removed == none && self.leftovers == none;
        files && !self.checkpoint && self.log_entries == 0 && self.error.is_none()
    }
}

/// Maintains tables, some at once. Those of quarantined rows and of what happened come with `all`.
pub async fn maintain(inputs: &Inputs, names: &BTreeSet<TableName>, all: bool, dry_run: bool) -> Vec<Maintained> {
    let runtime = inputs.runtime();
    let stored = runtime.graph.order().iter().filter(|name| names.contains(name));
    let stored = stored.filter(|name| runtime.project.models.get(name).is_some_and(|model| model.is_stored()));
    let keeps = runtime.project.sources.values().filter(|source| source.options.on_bad_row == OnBadRow::Quarantine);
    let quarantines = keeps.filter(|_| all).map(|source| table_of(&source.name));
    let of_models = left_out::tables(&runtime.compiled);
    let mut tables: Vec<TableName> = stored.cloned().chain(quarantines).collect();
    for own in of_models.into_iter().chain(chronicle::tables()).filter(|_| all) {
        // Nobody asked for them by name: those that are not there are not told.
        if matches!(runtime.lake.inspect(&own).await, Ok(Some(_))) {
            tables.push(own);
        }
    }
    let each = tables.iter().map(|name| one(inputs, name, dry_run));
    futures::stream::iter(each).buffered(runtime.options.threads.max(1)).collect().await
}

async fn one(inputs: &Inputs, name: &TableName, dry_run: bool) -> Maintained {
    let mut done = Maintained { name: name.to_string(), ..Maintained::default() };
    if let Err(failure) = steps(inputs, name, dry_run, &mut done).await {
        done.error = Some(failure.to_string());
    }
    done
}

async fn steps(inputs: &Inputs, name: &TableName, dry_run: bool, done: &mut Maintained) -> Result<(), Failure> {
    let runtime = inputs.runtime();
    let policy = runtime.project.models.get(name).map(|model| model.config.maintain.clone()).unwrap_or_default();
    if policy.is_off() {
        done.skipped = Some("its `maintain` is false");
        return Ok(());
    }
    let Some(mut published) = runtime.lake.inspect(name).await? else {
        done.skipped = Some("there is no table yet");
        return Ok(());
    };
    if policy.optimize {
        published = packed(inputs, published, dry_run, &mut done.packed).await?;
    }
    done.version = Some(published.version());
    if policy.checkpoint {
        done.checkpoint = tables::checkpoint(&published, dry_run).await?;
    }
    if policy.vacuum {
        vacuum(inputs, &published, &policy, dry_run, done).await?;
    }
    if policy.log_cleanup && !dry_run {
        done.log_entries = tables::clean_log(&published).await?;
    }
    Ok(())
}

async fn packed(
    inputs: &Inputs,
    mut published: Published,
    dry_run: bool,
    packing: &mut Packing,
) -> Result<Published, Failure> {
    let runtime = inputs.runtime();
    let mut attempt = 1;
    loop {
        let keep = files_by_name(inputs, &published).await?;
        match tables::optimize(&runtime.lake, &published, &keep, dry_run, &runtime.session).await {
            Ok(Some((found, fresh))) => {
                *packing = found;
                return Ok(fresh);
            }
            Ok(None) => return Ok(published),
            Err(TableError::Conflict { .. }) if attempt < ATTEMPTS => {
                attempt += 1;
                let Some(fresh) = runtime.lake.inspect(&published.name).await? else { return Ok(published) };
                published = fresh;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Data files that a manifest knows the rows of a source file by: they cannot be packed with others.
async fn files_by_name(inputs: &Inputs, published: &Published) -> Result<BTreeSet<String>, Failure> {
    let runtime = inputs.runtime();
    let Some(model) = runtime.project.models.get(&published.name) else { return Ok(BTreeSet::new()) };
    let Some(source) = (Intake { inputs, model }).traced() else { return Ok(BTreeSet::new()) };
    let head = published.transaction(&manifest::app_id(&model.name, source)).await?;
    let store = runtime.lake.files_of(&model.name);
    let known = Manifest::read(&store, &model.name, source, head).await?;
    Ok(known.files().values().filter_map(|entry| entry.data.clone()).flatten().collect())
}

async fn vacuum(
    inputs: &Inputs,
    published: &Published,
    policy: &Maintain,
    dry_run: bool,
    done: &mut Maintained,
) -> Result<(), Failure> {
    let retention = tables::retention(published, policy.retention);
    done.removed = tables::vacuum(published, retention, dry_run).await?;
    let mut heads = tables::transactions(published).await?;
    // A head may be older than the log.
    for (app_id, versions) in &mut heads {
        versions.extend(published.transaction(app_id).await?);
    }
    if let Some(model) = inputs.runtime().project.models.get(&published.name) {
        for (source, _) in &model.sources {
            let app_ids = [manifest::app_id(&model.name, source), bronze::quarantine::app_id(&model.name, source)];
            for app_id in app_ids {
                let head = published.transaction(&app_id).await?;
                heads.entry(app_id).or_default().extend(head);
            }
        }
    }
    let tombstones = tables::tombstones_of(&published.name);
    for app_id in [tombstones.clone(), left_out::app_id(&published.name)] {
        let head = published.transaction(&app_id).await?;
        heads.entry(app_id).or_default().extend(head);
    }
    let cutoff = chrono::Utc::now() - retention;
    let store = inputs.runtime().lake.files_of(&published.name);
    let files = bronze::leftovers(&store, &published.name, &heads, &tombstones, cutoff).await?;
    done.leftovers = tables::remove(published, files, dry_run).await?;
    Ok(())
}
