//! What the newest commit of a table says by itself: enough to see that nothing is to be done, without its log.
//!
//! To load a table is to replay its log, some milliseconds each, and in a bucket some requests one after the other. A build
//! that has nothing to do needs the version and the state of each table, and both stand in one file.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::Value;

use super::{Lake, Layout, Published, ROWS_SINCE, TableState, is_newer, state_of};
use crate::names::TableName;

/// The key, beside the state, of the heads that the applications of `lake` have at a version: all of them, or nothing.
const HEADS: &str = "heads";

/// The key, beside the state, of what the log has been told of descriptions and properties.
const TOLD: &str = "layout";

/// A version of a table that `lake` wrote, as its own commit tells of it.
#[derive(Debug, Clone)]
pub struct Glance {
    /// The Delta version.
    pub version: u64,
    /// How it came to be.
    pub state: TableState,
    rows_since: Option<u64>,
    heads: BTreeMap<String, i64>,
    told: Option<String>,
}

impl Glance {
    /// The version that made the rows what they are.
    pub fn rows_since(&self) -> u64 {
        self.rows_since.unwrap_or(self.version)
    }

    /// The version of the `txn` action of an application: the head of a manifest.
    pub fn transaction(&self, app_id: &str) -> Option<i64> {
        self.heads.get(app_id).copied()
    }

    /// Whether the log has been told what it is to say of descriptions and properties.
    pub fn is_described(&self, layout: &Layout) -> bool {
        self.told.as_ref().is_some_and(|told| *told == told_by(layout))
    }
}

impl Lake {
    /// What the newest commit of a table says. `None` where that is not enough, whatever the reason: there is no table,
    /// somebody else wrote to it, the store refuses. Then [`Lake::inspect`] knows more.
    pub async fn glance(&self, name: &TableName) -> Option<Glance> {
        let files = self.files_of(name);
        let entries: Vec<_> = files.list(Some(&Path::from("_delta_log"))).try_collect().await.ok()?;
        let versions = entries.iter().filter_map(|entry| Some((version_of(&entry.location)?, &entry.location)));
        // Of a version with a checkpoint and no commit its commit was removed, and nothing tells what it said.
        let (version, newest) = versions.max_by_key(|(version, path)| (*version, path.extension() == Some("json")))?;
        if newest.filename()?.len() != "00000000000000000000.json".len() {
            return None;
        }
        let entry = files.get(newest).await.ok()?.bytes().await.ok()?;
        glance_of(version, &state_of(&entry)?)
    }
}

/// The version that a file of the log is about: commits, checkpoints, checksums.
fn version_of(path: &Path) -> Option<u64> {
    let (version, _) = path.filename()?.split_once('.')?;
    (version.len() == 20).then(|| version.parse().ok())?
}

fn glance_of(version: u64, said: &Value) -> Option<Glance> {
    let heads = heads(said)?;
    Some(Glance {
        version,
        state: serde_json::from_value(said.clone()).ok()?,
        rows_since: said.get(ROWS_SINCE).and_then(Value::as_u64),
        heads,
        told: said.get(TOLD).and_then(Value::as_str).map(str::to_owned),
    })
}

/// The heads of all applications of `lake` at a version, if its commit says them.
pub(super) fn heads(said: &Value) -> Option<BTreeMap<String, i64>> {
    let heads = said.get(HEADS).filter(|_| !is_newer(said))?;
    serde_json::from_value(heads.clone()).ok()
}

/// What the log is told of a table beside its rows, as a hash.
fn told_by(layout: &Layout) -> String {
    let told = serde_json::json!([layout.properties, layout.description, layout.comments]);
    blake3::hash(told.to_string().as_bytes()).to_hex()[..16].to_owned()
}

/// Notes the heads of a version, if all are known: `moved` are those that its commit moves.
pub(super) fn note(said: &mut Value, published: Option<&Published>, moved: BTreeMap<String, i64>) {
    let before: Option<BTreeMap<String, i64>> = match published {
        None => Some(BTreeMap::new()),
        // What a version does not tell, those on top of it cannot.
        Some(published) => published.said.as_ref().and_then(heads),
    };
    let Some(mut known) = before else { return };
    known.extend(moved);
    said[HEADS] = serde_json::json!(known);
}

/// Notes what a commit tells the log of a table.
pub(super) fn tell(said: &mut Value, layout: &Layout) {
    said[TOLD] = told_by(layout).into();
}

/// The log was told nothing new.
pub(super) fn keep_told(said: &mut Value, published: &Published) {
    if let Some(told) = published.said.as_ref().and_then(|before| before.get(TOLD)) {
        said[TOLD] = told.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(heads: &Value) -> Value {
        let mut said = serde_json::to_value(TableState::default()).unwrap();
        said[HEADS] = heads.clone();
        said
    }

    #[test]
    fn a_commit_that_does_not_tell_all_heads_is_not_enough() {
        assert!(glance_of(3, &serde_json::to_value(TableState::default()).unwrap()).is_none());
        let glance = glance_of(3, &said(&serde_json::json!({"lake:a:b": 7}))).unwrap();
        assert_eq!((glance.transaction("lake:a:b"), glance.transaction("lake:a:c")), (Some(7), None));
        let mut newer = said(&serde_json::json!({}));
        newer["format"] = 99.into();
        assert!(glance_of(3, &newer).is_none());
    }

    #[test]
    fn descriptions_and_properties_are_told_and_nothing_else() {
        let mut note = said(&serde_json::json!({}));
        tell(&mut note, &Layout::default());
        let glance = glance_of(0, &note).unwrap();
        assert!(glance.is_described(&Layout { sort_by: vec!["a".to_owned()], ..Layout::default() }));
        assert!(!glance.is_described(&Layout { description: Some("of courses".to_owned()), ..Layout::default() }));
    }

    #[test]
    fn files_of_a_log_are_of_versions() {
        let of = |name: &str| version_of(&Path::from(format!("_delta_log/{name}")));
        assert_eq!(of("00000000000000000012.json"), Some(12));
        assert_eq!(of("00000000000000000012.checkpoint.parquet"), Some(12));
        assert_eq!((of("_last_checkpoint"), of("00000000000000000012.json.tmp")), (None, Some(12)));
    }
}
