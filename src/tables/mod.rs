//! The lake: Delta tables below one root. Inspect, read, stage, publish.
//!
//! deltalake is used only here. Nothing here knows models or tests: a table has rows, a version, and the
//! [`TableState`] that explains how it came to be.

mod bring;
mod changes;
mod content;
mod diff;
mod drop;
mod files;
mod gauge;
mod glance;
mod history;
mod intervals;
mod journal;
mod kept;
mod known;
mod layout;
mod maintain;
mod merge;
mod metadata;
mod origin;
mod outside;
mod overwrite;
mod pack;
mod past;
mod prepared;
mod prune;
mod publish;
mod read;
mod root;
mod stage;
mod tombstones;
mod upkeep;
mod watch;
mod zorder;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use deltalake::logstore::{LogStoreRef, StorageConfig, default_logstore};
use deltalake::{DeltaTable, DeltaTableError};
use object_store::ObjectStore;
use serde_json::Value;
use url::Url;

use crate::intervals::Intervals;
use crate::names::TableName;
use crate::paths;
use crate::project::Target;
use crate::session::OutOfMemory;
use crate::stores::{self, Place, StorageOptions, Store};

pub use bring::{Arrived, Brought, bring};
pub use changes::{Changes, future_changes};
pub use content::columns_key;
pub use diff::{FileDiff, FileSet, compare_files, existing_version, same_content};
pub use gauge::{Gauge, Gauges, Phase};
pub use glance::Glance;
pub use history::{History, add_versions, first_versions};
pub use intervals::{replace_intervals, rows_outside, with_intervals, within};
pub use journal::Resumed;
pub use kept::Kept;
pub use known::Known;
pub use layout::Layout;
pub(crate) use layout::compression;
pub use maintain::{Packing, Removal, checkpoint, clean_log, optimize, remove, retention, transactions, vacuum};
pub use merge::{Merge, Placement, place};
pub use metadata::describe;
pub use origin::{Origin, Owner};
pub use outside::{OutsideError, inspect_sources, open_source};
pub use pack::{pack_along, reshape};
pub use past::{RunOnTable, Version, history, prepare_rollback, runs, version_at_head};
pub use prepared::Prepared;
pub use prune::files_with_keys;
pub use publish::{Commit, publish, publish_same, publish_unseen};
pub use read::{future_table, table_provider, without_empty};
pub use stage::{Staged, stage, stage_watched};
pub use tombstones::app_id as tombstones_of;
pub use watch::Watch;

/// A lake root, and how to reach it.
#[derive(Debug, Clone)]
pub struct Lake {
    root: Url,
    place: Place,
    layouts: Arc<BTreeMap<TableName, Layout>>,
    gauges: Gauges,
}

/// Storage that refuses, or a table that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The lake root is not a folder or URL that can be used.
    #[error("lake root `{root}` cannot be used: {why}")]
    Root {
        /// As written.
        root: String,
        /// Why.
        why: String,
    },
    /// Delta or the storage below it failed.
    #[error("table `{table}`: {}", delta_message(source))]
    Delta {
        /// The table.
        table: TableName,
        /// Delta's error.
        source: DeltaTableError,
    },
    /// Another writer was faster.
    #[error("table `{table}`: another run published to it at the same time")]
    Conflict {
        /// The table.
        table: TableName,
    },
    /// The query that fills the table failed.
    #[error("{}", query_message(.0))]
    Query(#[from] DataFusionError),
    /// The new rows cannot be added as asked.
    #[error("{0}")]
    Rows(String),
    /// The same, with some of their values.
    #[error("{0}")]
    Values(String),
    /// A file beside the table failed.
    #[error("table `{table}`: cannot write `{path}`: {source}")]
    File {
        /// The table.
        table: TableName,
        /// The file, relative to the table.
        path: String,
        /// Why.
        source: object_store::Error,
    },
}

impl OutOfMemory for TableError {
    fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Query(error) if error.is_out_of_memory())
    }
}

/// What a table says of itself: recorded in the commit that made its current version.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TableState {
    /// Hash of the model's definition.
    pub definition: String,
    /// How the model was materialised.
    #[serde(default)]
    pub materialized: String,
    /// What was read: the version of each table, the hash of each source's file list, by name.
    pub inputs: BTreeMap<String, String>,
    /// Hashes of the tests that this version passed, by name.
    pub tests: BTreeMap<String, String>,
    /// Equal inputs may give other rows.
    pub volatile: bool,
    /// Sources whose files it takes in.
    #[serde(default)]
    pub sources: Vec<String>,
    /// The intervals of event time that a model in batches has, of the inputs as they were then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intervals: Option<Intervals>,
    /// The tables whose changes it has read: the ids of their Delta tables, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub consumed: BTreeMap<String, String>,
    /// Hashes of the parts of the definition: they tell what changed when it has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, String>,
    /// What the rows are together, where the commit made all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The same of some columns, which others read, by [`columns_key`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub projections: BTreeMap<String, String>,
    /// What the columns held that were read of other tables, by the names of these.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub read: BTreeMap<String, ReadColumns>,
    /// Who made the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// The table of another lake whose rows were taken over, by this version or one that it goes on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The run that published.
    pub invocation_id: String,
}

/// Columns of a table that were read, and what they held.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ReadColumns {
    /// The set of columns, by [`columns_key`]: those that were read are among them.
    pub of: String,
    /// What they held.
    pub content: String,
}

/// The published version of a table.
#[derive(Clone)]
pub struct Published {
    /// Its name.
    pub name: TableName,
    /// Where it is.
    pub(crate) place: Place,
    /// Delta's handle, loaded at this version.
    pub(crate) table: DeltaTable,
    /// Its columns.
    pub schema: SchemaRef,
    /// What the last commit says; `None` if `lake` did not write it.
    pub state: Option<TableState>,
    /// The same, in the words of the log.
    pub(crate) said: Option<Value>,
}

impl Published {
    /// The Delta version.
    pub fn version(&self) -> u64 {
        self.table.version().unwrap_or_default()
    }

    /// The version that made the rows what they are: commits since then have changed none. This is what readers go by.
    pub fn rows_since(&self) -> u64 {
        let since = self.said.as_ref().and_then(|said| said.get(ROWS_SINCE)?.as_u64());
        since.unwrap_or_else(|| self.version())
    }

    /// Whether a rollback made it what it was before its first version: empty.
    pub fn is_emptied(&self) -> bool {
        self.said.as_ref().and_then(|said| said.get(WENT_BACK_TO)).is_some_and(Value::is_null)
    }

    /// Whether a `lake` made it that this one does not understand.
    pub fn is_of_newer_lake(&self) -> bool {
        self.said.as_ref().is_some_and(is_newer)
    }

    /// When the version was committed, if its log still tells.
    pub fn committed_at(&self) -> Option<chrono::DateTime<chrono::Utc>> {
        let at = self.table.snapshot().ok()?.version_timestamp(self.version())?;
        chrono::DateTime::from_timestamp_millis(at)
    }

    /// The columns that it is partitioned by.
    pub fn partition_columns(&self) -> &[String] {
        self.table.snapshot().map_or(&[], |snapshot| snapshot.metadata().partition_columns())
    }

    /// How many data files there are.
    pub fn file_count(&self) -> u64 {
        self.table.snapshot().map_or(0, |snapshot| snapshot.log_data().iter().count() as u64)
    }

    /// Rows, by the statistics of the files; `None` if a file has none.
    pub fn rows(&self) -> Option<u64> {
        let snapshot = self.table.snapshot().ok()?;
        snapshot.log_data().iter().map(|file| file.num_records().map(|n| n as u64)).sum()
    }

    /// Bytes of its data files.
    pub fn bytes(&self) -> u64 {
        let Ok(snapshot) = self.table.snapshot() else { return 0 };
        snapshot.log_data().iter().map(|file| u64::try_from(file.size()).unwrap_or_default()).sum()
    }

    /// Paths of its data files.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn data_files(&self) -> Result<BTreeSet<String>, TableError> {
        publish::file_paths(self)
    }

    /// The version of the `txn` action of an application: the head of a manifest.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn transaction(&self, app_id: &str) -> Result<Option<i64>, TableError> {
        Ok(self.head(app_id).await?.filter(|head| *head != NO_HEAD))
    }

    /// Whether an application has moved its head, and a rollback has taken it back to before the first one.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn is_rolled_back(&self, app_id: &str) -> Result<bool, TableError> {
        Ok(self.head(app_id).await? == Some(NO_HEAD))
    }

    /// What the log says, which may be that there is none any more.
    async fn head(&self, app_id: &str) -> Result<Option<i64>, TableError> {
        if let Some(heads) = self.said.as_ref().and_then(glance::heads) {
            return Ok(heads.get(app_id).copied());
        }
        let fail = |source| TableError::Delta { table: self.name.clone(), source };
        let snapshot = self.table.snapshot().map_err(fail)?;
        snapshot.transaction_version(self.table.log_store().as_ref(), app_id).await.map_err(fail)
    }
}

impl Lake {
    /// The lake at `root`: a URL, or a folder relative to `folder`. Nothing is asked of its store yet.
    ///
    /// # Errors
    /// When it is neither, or the store cannot be reached so.
    pub fn new(root: &str, folder: &Path, options: &StorageOptions) -> Result<Self, TableError> {
        let bad = |why: &str| TableError::Root { root: stores::without_secret(root), why: why.to_owned() };
        let mut url = if root.contains("://") {
            Url::parse(root).map_err(|error| bad(&error.to_string()))?
        } else {
            let path = paths::absolute(folder, root).map_err(|error| bad(&error.to_string()))?;
            if path.to_string_lossy().contains(['%', '#', '?']) {
                return Err(bad("Delta's addresses cannot carry `%`, `#` or `?`: choose another folder"));
            }
            Url::from_directory_path(path).map_err(|()| bad("it is not a path"))?
        };
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        let (store, path) = Store::open(&url, options).map_err(|error| bad(&error.to_string()))?;
        Ok(Self { root: url, place: Place { store, path }, layouts: Arc::default(), gauges: Gauges::default() })
    }

    /// The lake of a target of a project in `folder`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of(target: &Target, folder: &Path) -> Result<Self, TableError> {
        Self::new(&target.root, folder, &target.storage)
    }

    /// With the layouts that its tables are written in.
    #[must_use]
    pub fn laid_out(mut self, layouts: BTreeMap<TableName, Layout>) -> Self {
        self.layouts = Arc::new(layouts);
        self
    }

    /// How a table is written.
    pub(crate) fn layout(&self, name: &TableName) -> &Layout {
        static PLAIN: LazyLock<Layout> = LazyLock::new(Layout::default);
        self.layouts.get(name).unwrap_or(&PLAIN)
    }

    /// The root, with a `/` at its end.
    pub fn root(&self) -> &Url {
        &self.root
    }

    /// Where it is in its store.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Where a table lives in its store.
    pub fn place_of(&self, name: &TableName) -> Place {
        // Tables of `lake` itself are some folders deeper: `_lake/quarantine`.
        // Letters beyond ASCII stand in paths as they are, as readers of Delta look for them; `join` would encode them.
        let path = object_store::path::Path::parse(format!("{}/{}/{}", self.place.path, name.schema, name.table));
        let path = path.expect("names are plain path segments");
        Place { store: self.place.store.clone(), path }
    }

    /// Where a table lives.
    pub fn table_url(&self, name: &TableName) -> Url {
        self.root.join(&format!("{}/{}/", name.schema, name.table)).expect("names are plain path segments")
    }

    /// The log and files of a table, whether it exists or not.
    pub(crate) fn log_store(&self, name: &TableName) -> LogStoreRef {
        log_store(&self.place_of(name), &self.table_url(name))
    }

    /// The files of the lake, to keep what is about no single table.
    pub fn files(&self) -> Arc<dyn ObjectStore> {
        self.place.files()
    }

    /// The files of a table, to keep manifests beside the data.
    pub fn files_of(&self, name: &TableName) -> Arc<dyn ObjectStore> {
        self.place_of(name).files()
    }

    /// The current version of a table; `None` if there is no table.
    ///
    /// # Errors
    /// When there is one and it cannot be read.
    pub async fn inspect(&self, name: &TableName) -> Result<Option<Published>, TableError> {
        let fail = |source| TableError::Delta { table: name.clone(), source };
        let log_store = self.log_store(name);
        // Asked first: a table that another run makes between a failed load and this question would be taken for a broken one.
        if !log_store.is_delta_table_location().await.map_err(fail)? {
            return Ok(None);
        }
        let mut table = DeltaTable::new(log_store);
        table.load().await.map_err(fail)?;
        published(name, self.place_of(name), table).await.map(Some).map_err(fail)
    }

    /// A version of a table, perhaps an old one.
    ///
    /// # Errors
    /// When it is not there, or no longer.
    pub async fn inspect_at(&self, name: &TableName, version: u64) -> Result<Published, TableError> {
        let fail = |source| TableError::Delta { table: name.clone(), source };
        let mut table = DeltaTable::new(self.log_store(name));
        table.load_version(version).await.map_err(fail)?;
        published(name, self.place_of(name), table).await.map_err(fail)
    }
}

/// The log and files of a Delta table. Commits are conditional puts, on whatever store.
fn log_store(place: &Place, url: &Url) -> LogStoreRef {
    default_logstore(place.files(), Arc::clone(place.store.files()), url, &StorageConfig::default())
}

async fn published(name: &TableName, place: Place, table: DeltaTable) -> Result<Published, DeltaTableError> {
    let said = last_state(&table).await?;
    let state = said.clone().filter(|said| !is_newer(said)).and_then(|json| serde_json::from_value(json).ok());
    let schema = table.snapshot()?.snapshot().arrow_schema();
    Ok(Published { name: name.clone(), place, schema: read::plain(&schema), table, state, said })
}

/// The version of a `txn` action that stands for none: a log cannot take one away.
pub(crate) const NO_HEAD: i64 = -1;

/// The key of [`TableState`] in a commit's `commitInfo`.
pub(crate) const STATE_KEY: &str = "lake";

/// What a rollback says to a version that `lake` did not write: its number, or null where there was none.
const WENT_BACK_TO: &str = "went_back_to";

/// The key, in the same object, of the version that a commit has left the rows of.
pub(crate) const ROWS_SINCE: &str = "rows_since";

/// The shape of [`TableState`]. A state of a later shape is not trusted: the table counts as made by another program.
const STATE_FORMAT: u64 = 1;

fn is_newer(said: &Value) -> bool {
    said.get("format").and_then(Value::as_u64).is_some_and(|format| format > STATE_FORMAT)
}

/// The version of the crate that reads and writes Delta tables.
pub fn delta_version() -> &'static str {
    deltalake::crate_version()
}

/// What the commit of the loaded version says; `None` if `lake` did not write it.
async fn last_state(table: &DeltaTable) -> Result<Option<Value>, DeltaTableError> {
    let Some(version) = table.version() else { return Ok(None) };
    let Some(entry) = table.log_store().read_commit_entry(version).await? else { return Ok(None) };
    Ok(state_of(&entry))
}

/// What a commit says of the version that it made.
fn state_of(entry: &[u8]) -> Option<Value> {
    // Only the commits of `lake` say it, and these begin their lines so: other actions need not be parsed.
    let mut lines = entry.split(|byte| *byte == b'\n').filter(|line| line.starts_with(br#"{"commitInfo""#));
    let mut info: Value = serde_json::from_slice(lines.next()?).ok()?;
    Some(info.get_mut("commitInfo")?.get_mut(STATE_KEY)?.take())
}

/// Delta's error without the names of Rust's types around the storage's own words.
fn delta_message(error: &DeltaTableError) -> String {
    let text = stores::message(error);
    // With RUST_BACKTRACE the kernel of Delta prints where it was.
    text.split("\n   0: ").next().unwrap_or_default().trim_end().to_owned()
}

/// A failed query, in words of SQL.
fn query_message(error: &DataFusionError) -> String {
    const NOISE: &[&str] = &[
        "Error during planning: ",
        "Execution error: ",
        "Arrow error: ",
        "Parquet error: ",
        "External error: ",
        "External: ",
        "Compute error: ",
        "Cast error: ",
        "Parser error: ",
        "Error evaluating filter predicate: ",
    ];
    if error.is_out_of_memory() {
        return "it needs more memory than there is, even sorted and alone: give the target more `memory`".to_owned();
    }
    let text = error.find_root().strip_backtrace();
    let mut text = text.lines().next().unwrap_or("the query failed");
    while let Some(rest) = NOISE.iter().find_map(|noise| text.strip_prefix(noise)) {
        text = rest;
    }
    // `ArrowError(CastError("Cannot cast ..."), ...)`: an error inside an error, printed as Rust sees it.
    let inner = text.split_once("Error(\"").and_then(|(_, rest)| rest.split("\")").next());
    inner.unwrap_or(text).trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_query_tells_its_cause_in_words() {
        let nested = "Compute error: Error evaluating filter predicate: \
                      ArrowError(CastError(\"Cannot cast string 'u' to value of Int64 type\"), Some(\"\"))";
        let error = DataFusionError::External(nested.into());
        assert_eq!(query_message(&error), "Cannot cast string 'u' to value of Int64 type");
        let plain = DataFusionError::Execution("division by zero.".to_owned());
        assert_eq!(query_message(&plain), "division by zero");
    }
}
