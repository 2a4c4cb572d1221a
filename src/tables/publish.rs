//! Publishing: one Delta commit that makes staged files visible, with the state that explains them.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::arrow::datatypes::DataType;
use deltalake::DeltaTableError;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake::kernel::{Action, Add, Protocol, Transaction};
use deltalake::operations::create::CreateBuilder;
use deltalake::protocol::{DeltaOperation, SaveMode};

use super::stage::discard;
use super::{Lake, Published, ROWS_SINCE, STATE_KEY, Staged, TableError, TableState, glance, metadata};
use crate::catalog::holds;
use crate::names::TableName;

/// What goes into a commit beside the files.
#[derive(Debug, Clone)]
pub struct Commit {
    /// How the version came to be.
    pub state: TableState,
    /// Heads of manifests: application id and version.
    pub transactions: Vec<(String, i64)>,
    /// Found nowhere else: tells this commit in the log.
    pub id: String,
}

impl Commit {
    /// A commit that is told from all others.
    pub fn new(state: TableState, transactions: Vec<(String, i64)>) -> Self {
        Self { state, transactions, id: uuid::Uuid::new_v4().to_string() }
    }

    /// One of a table that the lake keeps of itself.
    pub fn of_run(invocation_id: &str, transactions: Vec<(String, i64)>) -> Self {
        Self::new(TableState { invocation_id: invocation_id.to_owned(), ..TableState::default() }, transactions)
    }
}

/// Versions between two checkpoints of the log, unless `delta.checkpointInterval` is set.
const CHECKPOINT_EVERY: u64 = 100;

/// Publishes staged files as one commit on top of `published`. If anybody else has committed since, nothing
/// happens: what was staged was made from an older version. Files that will never be published are taken away; where
/// it is not known whether the commit took place they stay.
///
/// # Errors
/// [`TableError::Conflict`] when another writer was faster; otherwise the storage's error.
#[tracing::instrument(name = "publish", skip_all)]
pub async fn publish(
    lake: &Lake,
    published: Option<&Published>,
    staged: Staged,
    commit: &Commit,
) -> Result<Published, TableError> {
    let version = published.map_or(0, |published| published.version() + 1);
    let committed = commit_once(lake, published, &staged, commit).await;
    settled(lake, (&staged.name, version), &commit.id, committed, &staged.adds).await
}

/// As [`publish`], for whoever has no need of the table as it is then: its log is not read once more.
///
/// # Errors
/// As [`publish`].
#[tracing::instrument(name = "publish", skip_all)]
pub async fn publish_unseen(
    lake: &Lake,
    published: Option<&Published>,
    staged: Staged,
    commit: &Commit,
) -> Result<(), TableError> {
    let version = published.map_or(0, |published| published.version() + 1);
    let is_summed_up = version % CHECKPOINT_EVERY == CHECKPOINT_EVERY - 1;
    match commit_once(lake, published, &staged, commit).await {
        Ok(()) if !is_summed_up => Ok(()),
        committed => settled(lake, (&staged.name, version), &commit.id, committed, &staged.adds).await.map(drop),
    }
}

/// Notes in the log that the rows of a published version came to be in this way, too: nothing that reads them is built
/// again for it. The staged rows, which are the same, are taken away.
///
/// # Errors
/// As [`publish`].
#[tracing::instrument(name = "publish", skip_all)]
pub async fn publish_same(
    lake: &Lake,
    published: &Published,
    staged: Staged,
    commit: &Commit,
) -> Result<Published, TableError> {
    let fail = |source| TableError::Delta { table: published.name.clone(), source };
    let mut state = serde_json::to_value(&commit.state).map_err(|error| fail(error.into()))?;
    state["commit_id"] = commit.id.clone().into();
    state[ROWS_SINCE] = published.rows_since().into();
    glance::note(&mut state, Some(published), commit.transactions.iter().cloned().collect());
    glance::keep_told(&mut state, published);
    let told = [(STATE_KEY.to_owned(), state), ("lakeUpkeep".to_owned(), commit.id.clone().into())];
    let transactions = commit.transactions.iter().map(|(app_id, version)| Transaction::new(app_id, *version)).collect();
    let properties = once().with_metadata(told).with_application_transactions(transactions);
    let adds = staged.adds.clone();
    staged.discard(lake).await;
    let snapshot = published.table.snapshot().map_err(fail)?;
    let operation = DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None };
    let committed = CommitBuilder::from(properties)
        .with_actions(Vec::new())
        .build(Some(snapshot.snapshot()), published.table.log_store(), operation)
        .await;
    let committed = committed.map(|_| ()).map_err(fail);
    settled(lake, (&published.name, published.version() + 1), &commit.id, committed, &adds).await
}

/// The table after an attempt to commit this version of it. `adds` are taken away if they will never be published.
pub(super) async fn settled(
    lake: &Lake,
    (name, version): (&TableName, u64),
    id: &str,
    committed: Result<(), TableError>,
    adds: &[Add],
) -> Result<Published, TableError> {
    if let Err(error) = committed {
        match fate(lake, name, version, id, error).await? {
            Fate::Done => {}
            Fate::Lost(error) => {
                discard(lake, name, adds).await;
                return Err(error);
            }
            Fate::Unknown(error) => return Err(error),
        }
    }
    let fresh = lake.inspect(name).await?;
    let fresh = fresh.ok_or_else(|| TableError::Rows(format!("table `{name}` vanished after its publish")))?;
    checkpoint_if_due(&fresh).await;
    Ok(fresh)
}

/// What came of a commit that ended with an error.
enum Fate {
    /// It took place, and something after it failed.
    Done,
    /// It did not.
    Lost(TableError),
    /// The log cannot be read.
    Unknown(TableError),
}

/// An error after the commit took place is not a failure of the commit: the log knows.
async fn fate(lake: &Lake, table: &TableName, version: u64, id: &str, error: TableError) -> Result<Fate, TableError> {
    Ok(match lake.log_store(table).read_commit_entry(version).await {
        Ok(Some(entry)) if contains(&entry, id) => Fate::Done,
        Ok(Some(_)) => Fate::Lost(TableError::Conflict { table: table.clone() }),
        Ok(None) => Fate::Lost(error),
        Err(_) => Fate::Unknown(error),
    })
}

/// Now and then the log is summed up. That only makes reading faster: the version stands without it.
pub(super) async fn checkpoint_if_due(fresh: &Published) {
    let Ok(snapshot) = fresh.table.snapshot() else { return };
    let every = snapshot.metadata().configuration().get("delta.checkpointInterval");
    let every = every.and_then(|text| text.parse().ok()).filter(|every| *every > 0).unwrap_or(CHECKPOINT_EVERY);
    if fresh.version() % every == every - 1 {
        let _ = deltalake::checkpoints::create_checkpoint(&fresh.table, None).await;
    }
}

pub(super) fn contains(entry: &[u8], id: &str) -> bool {
    String::from_utf8_lossy(entry).contains(id)
}

async fn commit_once(
    lake: &Lake,
    published: Option<&Published>,
    staged: &Staged,
    commit: &Commit,
) -> Result<(), TableError> {
    let fail = |source| TableError::Delta { table: staged.name.clone(), source };
    let properties = properties(lake, published, commit, staged).map_err(fail)?;
    let Some(published) = published else {
        let log_store = lake.log_store(&staged.name);
        let builder = creation(lake, staged, properties).map_err(fail)?;
        return builder.with_log_store(log_store).await.map(|_| ()).map_err(fail);
    };
    let (actions, operation) = changes(lake, published, staged).map_err(fail)?;
    let snapshot = published.table.snapshot().map_err(fail)?;
    CommitBuilder::from(properties)
        .with_actions(actions)
        .build(Some(snapshot.snapshot()), published.table.log_store(), operation)
        .await
        .map_err(fail)?;
    Ok(())
}

/// What every commit says of itself.
pub(super) fn properties(
    lake: &Lake,
    published: Option<&Published>,
    commit: &Commit,
    staged: &Staged,
) -> Result<CommitProperties, DeltaTableError> {
    let mut state = serde_json::to_value(&commit.state)?;
    state["commit_id"] = commit.id.clone().into();
    if let Some(state) = state.as_object_mut().filter(|_| staged.replaces_all) {
        // Rows that are all made anew go on from nothing.
        state.remove("origin");
    }
    let mut heads: BTreeMap<String, i64> = commit.transactions.iter().cloned().collect();
    heads.extend(staged.heads.clone());
    let transactions = heads.iter().map(|(app_id, version)| Transaction::new(app_id, *version)).collect();
    glance::note(&mut state, published, heads);
    glance::tell(&mut state, lake.layout(&staged.name));
    Ok(once().with_metadata([(STATE_KEY.to_owned(), state)]).with_application_transactions(transactions))
}

/// Every commit is one attempt on the version that was read, and does nothing beside it.
pub(super) fn once() -> CommitProperties {
    CommitProperties::default().with_create_checkpoint(false).with_cleanup_expired_logs(Some(false)).with_max_retries(0)
}

/// What the publish of staged files does to the version below it.
pub(super) fn changes(
    lake: &Lake,
    published: &Published,
    staged: &Staged,
) -> Result<(Vec<Action>, DeltaOperation), DeltaTableError> {
    let mode = if staged.replaces_all { SaveMode::Overwrite } else { SaveMode::Append };
    let operation = DeltaOperation::Write { mode, partition_by: None, predicate: None };
    Ok((actions(lake, published, staged)?, operation))
}

/// Version 0: protocol, schema and rows in one commit.
pub(super) fn creation(
    lake: &Lake,
    staged: &Staged,
    properties: CommitProperties,
) -> Result<CreateBuilder, DeltaTableError> {
    let builder = metadata::described(CreateBuilder::new(), &staged.schema, lake.layout(&staged.name))?;
    Ok(builder
        .with_table_name(staged.name.to_string())
        .with_partition_columns(staged.partition_by.clone())
        .with_save_mode(SaveMode::ErrorIfExists)
        .with_actions(staged.adds.iter().cloned().map(Action::Add))
        .with_commit_properties(properties))
}

fn actions(lake: &Lake, published: &Published, staged: &Staged) -> Result<Vec<Action>, DeltaTableError> {
    let snapshot = published.table.snapshot()?;
    let mut actions = Vec::new();
    for file in snapshot.log_data().iter() {
        if staged.replaces_all || staged.removed.contains(file.path().as_ref()) {
            actions.push(Action::Remove(file.remove_action(!staged.packed.contains(file.path().as_ref()))));
        }
    }
    actions.extend(staged.adds.iter().cloned().map(Action::Add));
    if published.schema != staged.schema {
        // A type that the table did not have may need a feature: timestamps without a zone do.
        if staged.schema.fields().iter().any(|field| holds(field.data_type(), &is_local_time)) {
            actions.extend(with_local_times(snapshot.protocol())?.map(Action::Protocol));
        }
    }
    let partition_by = match staged.replaces_all {
        true => staged.partition_by.as_slice(),
        false => published.partition_columns(),
    };
    let changed = metadata::changed(published, &staged.schema, partition_by, lake.layout(&staged.name))?;
    actions.extend(changed.map(Action::Metadata));
    Ok(actions)
}

fn is_local_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, None))
}

/// The protocol of a table that is to hold what another holds; `None` if it may already.
pub(super) fn added_features(own: &Protocol, other: &Protocol) -> Result<Option<Protocol>, DeltaTableError> {
    let (known, mut needed) = (features(own, "readerFeatures")?, features(other, "readerFeatures")?);
    needed.retain(|feature| !known.contains(feature));
    match needed.as_slice() {
        [] => Ok(None),
        [only] if only == LOCAL_TIMES => with_local_times(own),
        some => Err(DeltaTableError::Generic(format!(
            "the other table needs {} of its readers, and this one does not: drop it first",
            some.join(", ")
        ))),
    }
}

/// The feature of Delta that timestamps without a zone need.
const LOCAL_TIMES: &str = "timestampNtz";

/// The features that a protocol names.
fn features(protocol: &Protocol, key: &str) -> Result<Vec<String>, DeltaTableError> {
    let json = serde_json::to_value(protocol)?;
    let features = json[key].as_array().into_iter().flatten();
    Ok(features.filter_map(|feature| feature.as_str().map(str::to_owned)).collect())
}

/// The protocol of a table that gets its first timestamps without a zone; `None` if it may have them already (Delta
/// protocol, "Timestamp without timezone" and "Table Features").
fn with_local_times(protocol: &Protocol) -> Result<Option<Protocol>, DeltaTableError> {
    let mut json = serde_json::to_value(protocol)?;
    let (mut reader, mut writer) = (features(protocol, "readerFeatures")?, features(protocol, "writerFeatures")?);
    if reader.iter().any(|feature| feature == LOCAL_TIMES) {
        return Ok(None);
    }
    if json["minWriterVersion"].as_u64() < Some(7) {
        // What the older version stands for is said by name from now on.
        writer.extend(["appendOnly", "invariants"].map(str::to_owned));
    }
    reader.push(LOCAL_TIMES.to_owned());
    writer.push(LOCAL_TIMES.to_owned());
    json["minReaderVersion"] = 3.into();
    json["minWriterVersion"] = 7.into();
    json["readerFeatures"] = reader.into();
    json["writerFeatures"] = writer.into();
    Ok(Some(serde_json::from_value(json)?))
}

/// Paths of all data files of a version.
pub(super) fn file_paths(published: &Published) -> Result<BTreeSet<String>, TableError> {
    let fail = |source| TableError::Delta { table: published.name.clone(), source };
    let snapshot = published.table.snapshot().map_err(fail)?;
    Ok(snapshot.log_data().iter().map(|file| file.path().into_owned()).collect())
}
