//! What happened to a table: the entries of its log, newest first, and going back to an older version.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use deltalake::kernel::Action;
use deltalake::kernel::{MetadataExt, Transaction};
use deltalake::protocol::DeltaOperation;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde::Serialize;
use serde_json::Value;

use super::bring::TAKEN_OVER;
use super::publish::once;
use super::{Lake, NO_HEAD, Origin, Prepared, Published, STATE_KEY, TableError, TableState, WENT_BACK_TO};
use crate::names::TableName;

/// The `txn` actions that are of `lake`.
const OWN_APPS: &str = "lake:";

/// A version of a table.
#[derive(Debug, Clone, Serialize)]
pub struct Version {
    /// Its number.
    pub version: u64,
    /// When it was committed.
    pub at: Option<DateTime<Utc>>,
    /// `create`, `append`, `update`, `replace`, `restore 3`, `copy of prod 12`, or what another writer calls it.
    pub operation: String,
    /// The run that published it, if it was one of `lake`.
    pub invocation_id: Option<String>,
    /// It changed no row: files were packed, or properties and descriptions set.
    pub upkeep: bool,
    /// Rows, where all files have statistics.
    pub rows: Option<u64>,
    /// Data files, where the log still tells.
    pub files: Option<usize>,
    /// Data files that came with it.
    pub added: usize,
    /// Data files that went with it.
    pub removed: usize,
    /// Tests that it passed before it was published.
    pub tests: usize,
}

/// One entry of a log.
struct Entry {
    info: Value,
    /// Path and rows of each file that came.
    adds: Vec<(String, Option<u64>)>,
    removes: Vec<String>,
    /// Applications whose heads it moves.
    apps: Vec<String>,
}

async fn entry(published: &Published, version: u64) -> Result<Option<Entry>, TableError> {
    let fail = |source| TableError::Delta { table: published.name.clone(), source };
    let Some(text) = published.table.log_store().read_commit_entry(version).await.map_err(fail)? else {
        return Ok(None);
    };
    let mut entry = Entry { info: Value::Null, adds: Vec::new(), removes: Vec::new(), apps: Vec::new() };
    for mut line in text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok()) {
        if let Some(path) = line["add"]["path"].as_str() {
            let stats: Option<Value> = line["add"]["stats"].as_str().and_then(|text| serde_json::from_str(text).ok());
            entry.adds.push((path.to_owned(), stats.and_then(|stats| stats["numRecords"].as_u64())));
        } else if let Some(path) = line["remove"]["path"].as_str() {
            entry.removes.push(path.to_owned());
        } else if let Some(app) = line["txn"]["appId"].as_str() {
            entry.apps.push(app.to_owned());
        } else if line["commitInfo"].is_object() {
            entry.info = line["commitInfo"].take();
        }
    }
    Ok(Some(entry))
}

impl Entry {
    /// Upkeep says what the version before it says, and is of no run.
    fn run(&self) -> Option<&str> {
        self.info[STATE_KEY]["invocation_id"].as_str().filter(|_| !self.is_upkeep())
    }

    /// A build that gave the rows that were there is a build all the same.
    fn is_upkeep(&self) -> bool {
        self.info["lakeUpkeep"].is_string() && self.info["operation"] != "WRITE"
    }

    fn operation(&self) -> String {
        let origin: Option<Origin> = serde_json::from_value(self.info[STATE_KEY]["origin"].clone()).ok();
        if let Some(origin) = origin.filter(|_| self.info[TAKEN_OVER].is_string()) {
            return format!("copy of {} {}", origin.target, origin.version);
        }
        let mode = self.info["operationParameters"]["mode"].as_str().unwrap_or_default();
        match (self.info["operation"].as_str().unwrap_or("unknown"), mode, self.removes.is_empty()) {
            ("CREATE TABLE", ..) => "create".to_owned(),
            ("WRITE", "Overwrite", _) => "replace".to_owned(),
            ("WRITE", _, true) => "append".to_owned(),
            ("WRITE", ..) => "update".to_owned(),
            ("RESTORE", ..) => {
                let to = &self.info["operationParameters"]["version"];
                match to.as_str().map(str::to_owned).or_else(|| to.as_u64().map(|to| to.to_string())) {
                    Some(to) => format!("restore {to}"),
                    None => "restore nothing".to_owned(),
                }
            }
            (other, ..) => other.to_lowercase(),
        }
    }
}

/// The newest versions of a table, newest first, as far as its log still tells.
///
/// # Errors
/// When the log cannot be read.
pub async fn history(lake: &Lake, published: &Published, limit: usize) -> Result<Vec<Version>, TableError> {
    let mut entries = Vec::new();
    for version in (0..=published.version()).rev().take(limit) {
        match entry(published, version).await? {
            Some(entry) => entries.push((version, entry)),
            None => break,
        }
    }
    // Rows and files are counted from the oldest of them on.
    let mut files: HashMap<String, Option<u64>> = match entries.last() {
        Some((oldest, _)) if *oldest > 0 => match lake.inspect_at(&published.name, oldest - 1).await {
            Ok(before) => before.files_with_rows(),
            // What came before it is gone; the newest version can be looked at itself.
            Err(_) => {
                let newest = published.files_with_rows();
                let files = |version: u64| Some(&newest).filter(|_| version == published.version());
                return Ok(entries.iter().map(|(version, entry)| entry.told(*version, files(*version))).collect());
            }
        },
        _ => HashMap::new(),
    };
    let mut versions = Vec::new();
    for (version, entry) in entries.iter().rev() {
        for path in &entry.removes {
            files.remove(path);
        }
        files.extend(entry.adds.iter().cloned());
        versions.push(entry.told(*version, Some(&files)));
    }
    versions.reverse();
    Ok(versions)
}

impl Entry {
    fn told(&self, version: u64, files: Option<&HashMap<String, Option<u64>>>) -> Version {
        Version {
            version,
            at: self.info["timestamp"].as_i64().and_then(DateTime::from_timestamp_millis),
            operation: self.operation(),
            invocation_id: self.run().map(str::to_owned),
            upkeep: self.is_upkeep(),
            rows: files.and_then(|files| files.values().copied().sum()),
            files: files.map(HashMap::len),
            added: self.adds.len(),
            removed: self.removes.len(),
            tests: self.info[STATE_KEY]["tests"].as_object().map_or(0, serde_json::Map::len),
        }
    }
}

impl Published {
    /// Files with their rows, where they are known.
    fn files_with_rows(&self) -> HashMap<String, Option<u64>> {
        let Ok(snapshot) = self.table.snapshot() else { return HashMap::new() };
        let files = snapshot.log_data();
        files.iter().map(|file| (file.path().into_owned(), file.num_records().map(|rows| rows as u64))).collect()
    }
}

/// Prepares the commit that makes a table what it was at an older version; at `None`, before its first one: empty. What
/// was taken in since is pending again, because the heads of the manifests go back too.
///
/// # Errors
/// When files or entries of the log that are needed are gone.
pub async fn prepare_rollback(
    lake: &Lake,
    current: &Published,
    to: Option<u64>,
    invocation_id: &str,
) -> Result<Prepared, TableError> {
    let name = &current.name;
    let fail = |source| TableError::Delta { table: name.clone(), source };
    let old = match to {
        Some(version) => Some(lake.inspect_at(name, version).await.map_err(|_| {
            TableError::Rows(format!("version {version} of `{name}` is no longer in its log: it was cleaned up"))
        })?),
        None => None,
    };
    let (mut actions, missing) = swap_files(lake, current, old.as_ref()).await?;
    if let Some(first) = missing.first() {
        let version = to.unwrap_or_default();
        return Err(TableError::Rows(format!(
            "version {version} of `{name}` cannot come back: {} of its data files, such as `{first}`, {} gone; a vacuum has \
             taken them away",
            missing.len(),
            if missing.len() == 1 { "is" } else { "are" }
        )));
    }
    if let Some(old) = &old {
        let (then, now) = (old.table.snapshot().map_err(fail)?, current.table.snapshot().map_err(fail)?);
        let (then, now) = (then.metadata(), now.metadata());
        if then != now {
            // The id stays: it is the same table.
            actions.push(Action::Metadata(
                then.clone().with_table_id(now.id().to_owned()).map_err(|error| fail(error.into()))?,
            ));
        }
    }
    let id = uuid::Uuid::new_v4().to_string();
    let heads = heads(current, old.as_ref()).await?;
    // The state is that of the old version; of an empty table, the next build starts anew.
    let state = old.as_ref().and_then(|old| old.state.clone());
    let state = state.map(|state| TableState { invocation_id: invocation_id.to_owned(), ..state });
    let mut state = match state {
        Some(state) => serde_json::to_value(state).map_err(|error| fail(error.into()))?,
        // Who made the table is found in the commits before.
        None => {
            let to = old.as_ref().filter(|old| !old.is_emptied()).and(to);
            serde_json::json!({"invocation_id": invocation_id, WENT_BACK_TO: to})
        }
    };
    state["commit_id"] = id.clone().into();
    let properties = once().with_application_transactions(heads).with_metadata([(STATE_KEY.to_owned(), state)]);
    let operation = DeltaOperation::Restore { version: to, datetime: None };
    Prepared::on(current, actions, operation, properties, &id).await
}

/// Files that go and files that come back, and those of the latter that are not there.
async fn swap_files(
    lake: &Lake,
    current: &Published,
    old: Option<&Published>,
) -> Result<(Vec<Action>, Vec<String>), TableError> {
    let fail = |source| TableError::Delta { table: current.name.clone(), source };
    let now = current.table.snapshot().map_err(fail)?.log_data();
    let there: BTreeSet<String> = now.iter().map(|file| identity(&file)).collect();
    let (mut actions, mut missing, mut wanted) = (Vec::new(), Vec::new(), BTreeSet::new());
    if let Some(old) = old {
        let store = lake.files_of(&current.name);
        for file in old.table.snapshot().map_err(fail)?.log_data().iter() {
            let is_there = there.contains(&identity(&file));
            wanted.insert(identity(&file));
            if is_there {
                continue;
            }
            #[expect(deprecated, reason = "there is no other way from a file of a snapshot to its action")]
            let add = file.add_action();
            let found = match Path::parse(&add.path) {
                Ok(path) => store.head(&path).await.is_ok(),
                Err(_) => false,
            };
            if !found {
                missing.push(add.path.clone());
            }
            actions.push(Action::Add(add));
        }
    }
    for file in now.iter().filter(|file| !wanted.contains(&identity(file))) {
        actions.push(Action::Remove(file.remove_action(true)));
    }
    Ok((actions, missing))
}

/// What tells a file of a version from others: its path, and which of its rows are deleted.
pub(super) fn identity(file: &deltalake::kernel::LogicalFileView) -> String {
    format!("{} {:?}", file.path(), file.remove_action(false).deletion_vector)
}

/// The heads of manifests as they were, for all that have moved since.
async fn heads(current: &Published, old: Option<&Published>) -> Result<Vec<Transaction>, TableError> {
    let mut apps = BTreeSet::new();
    for version in old.map_or(0, |old| old.version() + 1)..=current.version() {
        let Some(entry) = entry(current, version).await? else {
            return Err(TableError::Rows(format!(
                "version {version} of `{}` is no longer in its log, and it says which files were taken in since",
                current.name
            )));
        };
        apps.extend(entry.apps.into_iter().filter(|app| app.starts_with(OWN_APPS)));
    }
    let mut transactions = Vec::new();
    for app in apps {
        let head = match old {
            Some(old) => old.transaction(&app).await?,
            None => None,
        };
        transactions.push(Transaction::new(app, head.unwrap_or(NO_HEAD)));
    }
    Ok(transactions)
}

/// What one run did to one table.
#[derive(Debug, Clone, Serialize)]
pub struct RunOnTable {
    /// The run.
    pub invocation_id: String,
    /// The table.
    pub table: TableName,
    /// Its first version of this run, and the last one.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// How many versions of it are of this run.
    pub versions: u64,
    /// When the last one was committed.
    pub at: Option<DateTime<Utc>>,
    /// What it was, as in [`Version`].
    pub operation: String,
    /// The newest version of the table now.
    pub newest: u64,
}

/// What the newest `limit` runs did to a table, newest first, as far as its log still tells.
///
/// # Errors
/// When the log cannot be read.
pub async fn runs(published: &Published, limit: usize) -> Result<Vec<RunOnTable>, TableError> {
    let mut runs: Vec<RunOnTable> = Vec::new();
    // Upkeep between versions of one run, and after the newest one, is as if it were not there.
    let (mut newest, mut upkeep) = (published.version(), 0);
    for version in (0..=published.version()).rev() {
        let Some(entry) = entry(published, version).await? else { break };
        if entry.is_upkeep() {
            upkeep += 1;
            newest -= u64::from(newest == version && newest > 0);
            continue;
        }
        let between = std::mem::take(&mut upkeep);
        let Some(run) = entry.run() else { continue };
        match runs.iter().position(|known| known.invocation_id == run) {
            Some(at) => {
                let known = &mut runs[at];
                let is_next = known.first == version + between + 1;
                known.versions += 1 + if is_next { between } else { 0 };
                (known.first, known.operation) = (version, entry.operation());
            }
            None if runs.len() == limit => break,
            None => runs.push(RunOnTable {
                invocation_id: run.to_owned(),
                table: published.name.clone(),
                first: version,
                last: version,
                versions: 1,
                at: entry.info["timestamp"].as_i64().and_then(DateTime::from_timestamp_millis),
                operation: entry.operation(),
                newest,
            }),
        }
    }
    Ok(runs)
}

/// The version of a table whose commit moved the head of an application there; `None` if its log no longer tells.
///
/// # Errors
/// When the log cannot be read.
pub async fn version_at_head(
    lake: &Lake,
    current: &Published,
    app_id: &str,
    head: i64,
) -> Result<Option<Published>, TableError> {
    for version in (0..=current.version()).rev() {
        let Some(found) = entry(current, version).await? else { break };
        if found.apps.iter().any(|app| app == app_id) {
            let then = lake.inspect_at(&current.name, version).await?;
            if then.transaction(app_id).await? == Some(head) {
                return Ok(Some(then));
            }
        }
    }
    Ok(None)
}
