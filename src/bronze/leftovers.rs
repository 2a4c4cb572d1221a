//! Batches of manifests, notes of quarantines and sets of tombstones that no commit of a table leads to: crashed runs have
//! left them, or newer ones hold all that they said. And what tests refused long ago.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use super::BronzeError;
use super::manifest;
use super::quarantine::{self, Note};
use crate::names::TableName;
use crate::stores;

/// The versions of applications that commits of a table name.
pub(super) type Heads = BTreeMap<String, BTreeSet<i64>>;

/// Files beside a table that were last written before `cutoff` and that none of `heads` leads to. `heads` are those of
/// all versions that can still be read, `tombstones` the application of the sets.
///
/// # Errors
/// When one of them cannot be read: then it is not known what is needed.
pub async fn leftovers(
    store: &Arc<dyn ObjectStore>,
    table: &TableName,
    heads: &Heads,
    tombstones: &str,
    cutoff: DateTime<Utc>,
) -> Result<Vec<Path>, BronzeError> {
    let own = Path::from("_lake");
    let bad = |error: object_store::Error| damaged(table, &own, error.to_string());
    let files: Vec<ObjectMeta> = store.list(Some(&own)).try_collect().await.map_err(bad)?;
    let mut led = Led::new(store, table, heads, tombstones);
    let mut found = Vec::new();
    for file in files {
        let parts: Vec<String> = file.location.parts().map(|part| part.as_ref().to_owned()).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let is_needed = match parts.as_slice() {
            [_, name] => !name.starts_with("write-probe-"),
            // The files that it names are taken away as no longer named by any version.
            [_, "staged", _] => false,
            // What is not known here stays.
            parts => led.leads_to(parts).await?.unwrap_or(true),
        };
        if !is_needed && file.last_modified < cutoff {
            found.push(file.location);
        }
    }
    Ok(found)
}

/// What the heads of a table lead to, found out once for each source.
pub(super) struct Led<'a> {
    store: &'a Arc<dyn ObjectStore>,
    table: &'a TableName,
    heads: &'a Heads,
    tombstones: &'a str,
    names: BTreeMap<(String, String), BTreeSet<String>>,
}

impl<'a> Led<'a> {
    pub(super) fn new(
        store: &'a Arc<dyn ObjectStore>,
        table: &'a TableName,
        heads: &'a Heads,
        tombstones: &'a str,
    ) -> Self {
        Self { store, table, heads, tombstones, names: BTreeMap::new() }
    }

    /// Whether heads lead to a batch of a manifest, a note of a quarantine or a set of tombstones by the parts of its path;
    /// `None` for any other file.
    pub(super) async fn leads_to(&mut self, parts: &[&str]) -> Result<Option<bool>, BronzeError> {
        match parts {
            [_, kind @ ("manifest" | "quarantine"), source, name] => {
                let key = ((*kind).to_owned(), (*source).to_owned());
                if !self.names.contains_key(&key) {
                    let names = match *kind {
                        "manifest" => batches(self.store, self.table, source, self.heads).await?,
                        _ => notes(self.store, self.table, source, self.heads).await?,
                    };
                    self.names.insert(key.clone(), names);
                }
                Ok(Some(self.names[&key].contains(*name)))
            }
            [_, "tombstones", set, _] => Ok(Some(self.is_head(self.tombstones, set))),
            // `<id>.jsonl` and, with its rows, `<id>.rows.jsonl`.
            [_, "left_out", name] => {
                let app = format!("lake:left_out:{}", self.table);
                Ok(Some(self.is_head(&app, name.split('.').next().unwrap_or_default())))
            }
            _ => Ok(None),
        }
    }

    /// Whether an id is a head of an application.
    fn is_head(&self, app: &str, id: &str) -> bool {
        self.heads.get(app).is_some_and(|heads| heads.iter().any(|head| head.to_string() == id))
    }
}

/// The source that a folder is named after.
fn source_of(folder: &str) -> TableName {
    let (schema, table) = folder.split_once('.').unwrap_or(("", folder));
    TableName::new(schema, table)
}

/// The names of the batches that heads lead to.
async fn batches(
    store: &Arc<dyn ObjectStore>,
    table: &TableName,
    folder: &str,
    heads: &Heads,
) -> Result<BTreeSet<String>, BronzeError> {
    let heads = heads.get(&manifest::app_id(table, &source_of(folder)));
    let mut waiting: Vec<i64> = heads.into_iter().flatten().copied().collect();
    let mut names = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        let name = format!("{id:019}.json");
        let path = Path::from_iter(["_lake", "manifest", folder, &name]);
        if !names.insert(name) {
            continue;
        }
        // Of a version that was left long ago it may be gone already.
        let Some(bytes) = read(store, table, &path).await? else { continue };
        let previous = manifest::previous(&bytes).map_err(|error| damaged(table, &path, error.to_string()))?;
        waiting.extend(previous);
    }
    Ok(names)
}

/// The names of the notes that commits name, and of their lines.
async fn notes(
    store: &Arc<dyn ObjectStore>,
    table: &TableName,
    folder: &str,
    heads: &Heads,
) -> Result<BTreeSet<String>, BronzeError> {
    let heads = heads.get(&quarantine::app_id(table, &source_of(folder)));
    let mut names = BTreeSet::new();
    for id in heads.into_iter().flatten() {
        let name = format!("{id:019}.json");
        let path = Path::from_iter(["_lake", "quarantine", folder, &name]);
        let Some(bytes) = read(store, table, &path).await? else { continue };
        let note: Note = serde_json::from_slice(&bytes).map_err(|error| damaged(table, &path, error.to_string()))?;
        names.insert(name);
        names.extend(note.lines_file().map(str::to_owned));
    }
    Ok(names)
}

async fn read(store: &Arc<dyn ObjectStore>, table: &TableName, path: &Path) -> Result<Option<Vec<u8>>, BronzeError> {
    let bad = |error: object_store::Error| damaged(table, path, error.to_string());
    Ok(stores::read_if_there(store, path).await.map_err(bad)?.map(|bytes| bytes.to_vec()))
}

pub(super) fn damaged(table: &TableName, path: &Path, why: String) -> BronzeError {
    BronzeError::Manifest { table: table.clone(), path: path.to_string(), why }
}
