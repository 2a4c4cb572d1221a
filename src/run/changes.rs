//! Models that read what changed in another one since they were last published.
//!
//! The version that a model has read of another is the version of the `txn` action `lake:<model>:<other>` in its own log,
//! written by the commit that publishes what came of it: so no change is read twice, and none is left out.

use std::collections::BTreeMap;

use datafusion::datasource::provider_as_source;

use super::intake::Progress;
use super::materialize::{Failure, Mode, Node};
use super::world::World;
use crate::bronze::manifest::app_id;
use crate::catalog::changes_schema;
use crate::exact_files::empty;
use crate::names::TableName;
use crate::project::Materialization;
use crate::session::Tables;
use crate::tables::{Changes, TableState};
use crate::template::{RefRead, ref_relation};

/// What is read of another model's versions.
#[derive(Debug, Clone)]
pub(super) struct Versions {
    /// The version that was read last; `None` to read all rows.
    since: Option<u64>,
    /// The version that is read now.
    now: u64,
    /// Which table it is.
    table_id: Option<String>,
}

/// What is read of each model whose changes are read; a table that does not exist yet has none.
pub(super) type Consumed = BTreeMap<TableName, Versions>;

/// Why there is something to do; `None` if nothing changed.
pub(super) fn reason(consumed: &Consumed) -> Option<String> {
    let words = consumed.iter().filter_map(|(name, versions)| match versions.since {
        None => Some(format!("all of {name} as inserts")),
        Some(since) if since == versions.now => None,
        Some(since) => Some(format!("changes of {name}: version {since} -> {}", versions.now)),
    });
    let words: Vec<String> = words.collect();
    (!words.is_empty()).then(|| words.join(", "))
}

impl Node<'_> {
    pub(super) fn reads_changes(&self) -> impl Iterator<Item = &TableName> {
        self.model.ref_reads.iter().filter(|(_, read)| *read == RefRead::Changes).map(|(name, _)| name)
    }

    /// Which versions are read of the models whose changes are read.
    pub(super) async fn look_for_changes(&self, world: &mut World, progress: &Progress) -> Result<(), Failure> {
        for name in self.reads_changes() {
            let (now, table_id) = match (self.inputs.held(name), self.inputs.readable(name).await?) {
                (Some(held), _) => held.version(),
                (None, Some(table)) => (table.version(), table.table_id()),
                (None, None) => continue,
            };
            let mut versions = Versions { since: None, now, table_id };
            if let Some(published) = world.published.as_ref().filter(|_| !self.intake.full_refresh(progress)) {
                let state = published.last_known_state().await?.unwrap_or_default();
                if state.materialized == Materialization::Incremental.name() || state.materialized.is_empty() {
                    let since = published.transaction(&app_id(&self.model.name, name)).await?;
                    versions.since = since.and_then(|version| u64::try_from(version).ok());
                    self.same_table(name, &mut versions, &state).await?;
                }
            }
            world.changes.insert(name.clone(), versions);
        }
        Ok(())
    }

    /// Refuses a table that is not the one whose changes were read, or that was read otherwise.
    async fn same_table(&self, name: &TableName, versions: &mut Versions, state: &TableState) -> Result<(), Failure> {
        let own = &self.model.name;
        let Some(since) = versions.since else {
            let read_whole = state.inputs.get(name.as_str()).is_some_and(|version| version != "absent");
            let left = state.consumed.keys().find(|read| self.reads_changes().all(|now| now.as_str() != read.as_str()));
            if let Some(left) = left.filter(|_| !state.consumed.contains_key(name.as_str())) {
                return Err(Failure::text(format!(
                    "`{own}` has read the changes of `{left}`, reads it no more, and would read all of `{name}` as inserts: if \
                     that has another name now, rebuild `{own}` with --full-refresh"
                )));
            }
            return match read_whole {
                true => Err(Failure::text(format!(
                    "`{own}` has read all of `{name}` before, and is to read its changes now: rebuild it with --full-refresh"
                ))),
                false => Ok(()),
            };
        };
        let known = state.consumed.get(name.as_str());
        let another = known.is_some() && known != versions.table_id.as_ref();
        if !another && since <= versions.now {
            return Ok(());
        }
        // Another run may have read a version that came after this run had looked.
        let current = self.inputs.lake_of(name).await?.inspect(name).await?;
        if !another && current.is_some_and(|current| since <= current.version()) {
            versions.now = since;
            return Ok(());
        }
        Err(Failure::text(format!(
            "`{name}` is another table than the one whose changes `{own}` has read up to version {since}: it was removed and \
             built again; rebuild `{own}` with --full-refresh"
        )))
    }

    /// Makes the changes of other models known to the query.
    pub(super) async fn add_changes(&self, world: &World, mode: Mode, tables: &mut Tables) -> Result<(), Failure> {
        let runtime = self.inputs.runtime();
        for name in self.reads_changes() {
            let schema = &*runtime.compiled.models[name].schema;
            let versions = world.changes.get(name);
            let since = versions.and_then(|versions| versions.since).filter(|_| mode == Mode::Incremental);
            let read = &runtime.project.models[name];
            let key = if read.merges() { read.config.unique_key.as_slice() } else { &[] };
            let (lake, asked) = (self.inputs.lake_of(name).await?, Changes { since, key, schema });
            let table = match (self.inputs.held(name), self.inputs.readable(name).await?) {
                _ if versions.is_none_or(|versions| since == Some(versions.now)) => empty(changes_schema(schema)),
                (Some(held), _) => held.changes(lake, asked, &runtime.session).await?,
                (None, Some(table)) => table.changes(lake, asked, &runtime.session).await?,
                (None, None) => empty(changes_schema(schema)),
            };
            tables.insert(ref_relation(name, RefRead::Changes), provider_as_source(table));
        }
        Ok(())
    }

    /// What the commit says of the versions that it has read.
    pub(super) fn consumed(&self, world: &World) -> Vec<(String, i64)> {
        let version = |versions: &Versions| i64::try_from(versions.now).unwrap_or(i64::MAX);
        world.changes.iter().map(|(name, versions)| (app_id(&self.model.name, name), version(versions))).collect()
    }
}

/// The tables whose changes were read, by name.
pub(super) fn table_ids(consumed: &Consumed) -> BTreeMap<String, String> {
    consumed.iter().filter_map(|(name, versions)| Some((name.to_string(), versions.table_id.clone()?))).collect()
}
