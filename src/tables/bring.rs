//! A version of a table of one lake as the next version of the table of that name in another: the same data files, and what
//! stands beside them. No row is read.
//!
//! Data files are never changed once they are written, so on one file system they are hard links: each lake has names of its
//! own for them, and what a vacuum or a drop takes away is missed nowhere else. Within one object store the store
//! copies them, and between two the bytes go through this program. Absolute paths in the log, which Delta knows too, were
//! not chosen: one lake would lose what the other removes, and readers through PyArrow do not find such files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use deltalake::DeltaTableError;
use deltalake::kernel::transaction::CommitProperties;
use deltalake::kernel::{Action, Add, Transaction};
use deltalake::operations::create::CreateBuilder;
use deltalake::protocol::{DeltaOperation, SaveMode};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, WriteMultipart};
use serde::Serialize;

use super::prepared::first_entry;
use super::publish::{added_features, file_paths, once};
use super::{Commit, Lake, NO_HEAD, Prepared, Published, ROWS_SINCE, STATE_KEY, TableError, maintain, tombstones};
use crate::bronze;
use crate::names::TableName;
use crate::stores;

/// Files that are brought at once.
const AT_ONCE: usize = 16;

/// The key, in a commit's `commitInfo`, of one that took a table of another lake over.
pub(super) const TAKEN_OVER: &str = "lakeTakenOver";

/// The `txn` actions that are of `lake`.
const OWN_APPS: &str = "lake:";

/// How files came to be where they are needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Brought {
    /// They were there.
    pub there: usize,
    /// By hard links.
    pub linked: usize,
    /// By copies of their bytes.
    pub copied: usize,
    /// The bytes of those.
    pub bytes: u64,
}

/// What the next version of a table is made of: its files are in place, and no log names the new ones yet.
pub struct Arrived {
    adds: Vec<Add>,
    heads: BTreeMap<String, i64>,
    /// Files that the heads lead to, with their sizes.
    beside: Vec<(Path, u64)>,
    /// How its data files came.
    pub brought: Brought,
}

/// Brings the files of a version of a table in one lake to where the table of that name is in another, whose published
/// version is `over`. `apps` are applications whose heads may stand in no entry of the logs any more.
///
/// # Errors
/// The storage's, or when a file is gone. What was brought stays, unseen, until it is vacuumed: another run that takes the same
/// table over may have found it there.
pub async fn bring(
    (from, source): (&Lake, &Published),
    (to, over): (&Lake, Option<&Published>),
    apps: BTreeSet<String>,
) -> Result<Arrived, TableError> {
    let name = &source.name;
    let fail = |source| TableError::Delta { table: name.clone(), source };
    #[expect(deprecated, reason = "there is no other way from a file of a snapshot to its action")]
    let adds: Vec<Add> =
        source.table.snapshot().map_err(fail)?.log_data().iter().map(|file| file.add_action()).collect();
    if let Some(add) = adds.iter().find(|add| add.deletion_vector.is_some()) {
        return Err(TableError::Rows(format!(
            "`{}` of `{name}` has deletion vectors, which another program wrote: let that program rewrite its files first",
            add.path
        )));
    }
    let way = Way::between(from, to, name);
    let heads = heads(source, over, apps).await?;
    let beside = {
        let known = heads.iter().filter(|(_, head)| **head != NO_HEAD);
        let known = known.map(|(app, head)| (app.clone(), [*head].into())).collect();
        let tombstones = tombstones::app_id(name);
        let found = bronze::beside(&from.files_of(name), name, &known, &tombstones).await;
        found.map_err(|error| TableError::Rows(error.to_string()))?
    };
    let known = over.map(file_paths).transpose()?.unwrap_or_default();
    let mut arrived = Arrived { adds, heads, beside, brought: Brought::default() };
    let wanted: Vec<(Path, u64, bool)> = {
        let is_new = |add: &&Add| !known.contains(&add.path);
        let data = arrived.adds.iter().filter(is_new).map(|add| {
            let path = Path::parse(&add.path).map_err(|error| TableError::Rows(error.to_string()))?;
            Ok((path, u64::try_from(add.size).unwrap_or_default(), true))
        });
        let beside = arrived.beside.iter().map(|(path, size)| Ok((path.clone(), *size, false)));
        data.chain(beside).collect::<Result<_, TableError>>()?
    };
    arrived.brought.there = arrived.adds.len() - wanted.iter().filter(|(.., is_data)| *is_data).count();
    let each = wanted.into_iter().map(|(path, size, is_data)| {
        let way = &way;
        async move { Ok::<_, TableError>((way.bring(name, &path, size).await?, size, is_data)) }
    });
    let mut coming = futures::stream::iter(each).buffer_unordered(AT_ONCE);
    while let Some((how, size, is_data)) = coming.try_next().await? {
        if is_data {
            arrived.count(how, size);
        }
    }
    drop(coming);
    Ok(arrived)
}

/// The heads of manifests and their kin, as the next version has them: those of `source`, and none where only `over` has one.
async fn heads(
    source: &Published,
    over: Option<&Published>,
    mut apps: BTreeSet<String>,
) -> Result<BTreeMap<String, i64>, TableError> {
    apps.extend(maintain::transactions(source).await?.into_keys());
    if let Some(over) = over {
        apps.extend(maintain::transactions(over).await?.into_keys());
    }
    let mut heads = BTreeMap::new();
    for app in apps.into_iter().filter(|app| app.starts_with(OWN_APPS)) {
        match source.transaction(&app).await? {
            Some(head) => drop(heads.insert(app, head)),
            None if over.is_some() => drop(heads.insert(app, NO_HEAD)),
            None => {}
        }
    }
    Ok(heads)
}

/// How a file came.
enum How {
    There,
    Linked,
    Copied,
}

/// The way of files of one table from one lake to another.
struct Way {
    from: Arc<dyn ObjectStore>,
    to: Arc<dyn ObjectStore>,
    /// The store that has both, and where the table is in it.
    shared: Option<(Arc<dyn ObjectStore>, Path, Path)>,
    links: bool,
}

impl Way {
    fn between(from: &Lake, to: &Lake, name: &TableName) -> Self {
        let (here, there) = (from.place_of(name), to.place_of(name));
        let links = here.store.is_local();
        // The same bucket under other credentials is another store: these may not see what those do.
        let is_shared = here.store == there.store;
        let shared = is_shared.then(|| (Arc::clone(here.store.files()), here.path, there.path));
        Self { from: from.files_of(name), to: to.files_of(name), shared, links }
    }

    /// Puts a file where it is needed, unless it is there.
    async fn bring(&self, name: &TableName, path: &Path, size: u64) -> Result<How, TableError> {
        let fail = |source| TableError::File { table: name.clone(), path: path.to_string(), source };
        let gone = || {
            TableError::Rows(format!(
                "`{path}` of `{name}` is gone: a vacuum has taken it away while it was brought; do it again"
            ))
        };
        match stores::if_there(self.to.head(path).await).map_err(fail)? {
            Some(there) if there.size == size => return Ok(How::There),
            Some(there) => {
                return Err(TableError::Rows(format!(
                    "`{path}` of `{name}` is there already and has {} bytes, not {size}: it is another file",
                    there.size
                )));
            }
            None => {}
        }
        if let Some((store, from, to)) = &self.shared {
            let at = |folder: &Path| path.parts().fold(folder.clone(), |path, part| path.join(part));
            match store.copy_if_not_exists(&at(from), &at(to)).await {
                Ok(()) => return Ok(if self.links { How::Linked } else { How::Copied }),
                Err(object_store::Error::AlreadyExists { .. }) => return Ok(How::There),
                Err(object_store::Error::NotFound { .. }) => return Err(gone()),
                // Two devices, or a file system without links: the bytes are copied.
                Err(error) => tracing::debug!("`{path}` of `{name}` cannot be linked: {error}"),
            }
        }
        let found = stores::if_there(self.from.get(path).await).map_err(fail)?.ok_or_else(gone)?;
        let mut bytes = found.into_stream();
        let mut upload = WriteMultipart::new(self.to.put_multipart(path).await.map_err(fail)?);
        while let Some(part) = bytes.try_next().await.map_err(fail)? {
            upload.wait_for_capacity(4).await.map_err(fail)?;
            upload.put(part);
        }
        upload.finish().await.map_err(fail)?;
        Ok(How::Copied)
    }
}

impl Arrived {
    fn count(&mut self, how: How, size: u64) {
        match how {
            How::There => self.brought.there += 1,
            How::Linked => self.brought.linked += 1,
            How::Copied => {
                self.brought.copied += 1;
                self.brought.bytes += size;
            }
        }
    }

    /// Brings what is no longer there: until the commit, files that are as old as those of the other lake may pass for the
    /// leavings of a crash.
    ///
    /// # Errors
    /// The storage's.
    pub async fn hold_on(&self, from: &Lake, to: &Lake, name: &TableName) -> Result<(), TableError> {
        let way = Way::between(from, to, name);
        for add in &self.adds {
            let path = Path::parse(&add.path).map_err(|error| TableError::Rows(error.to_string()))?;
            way.bring(name, &path, u64::try_from(add.size).unwrap_or_default()).await?;
        }
        let fail = |source| TableError::File { table: name.clone(), path: "_lake".to_owned(), source };
        for (path, size) in &self.beside {
            // What the other lake no longer needs was carried over, there and here.
            if stores::if_there(way.from.head(path).await).map_err(fail)?.is_some() {
                way.bring(name, path, *size).await?;
            }
        }
        Ok(())
    }
}

impl Prepared {
    /// The commit that makes a table what a version of the table of that name is in another lake. The rows are those of
    /// `over` already if it says so.
    ///
    /// # Errors
    /// When a log cannot be read, or the protocol of the table cannot hold what the other has.
    pub async fn taking_over(
        to: &Lake,
        source: &Published,
        over: Option<&Published>,
        arrived: &Arrived,
        commit: &Commit,
    ) -> Result<Self, TableError> {
        let name = &source.name;
        let fail = |source| TableError::Delta { table: name.clone(), source };
        let mut state = serde_json::to_value(&commit.state).map_err(|error| fail(error.into()))?;
        state["commit_id"] = commit.id.clone().into();
        if let Some(over) = over.filter(|over| over.has_rows_of(source)) {
            state[ROWS_SINCE] = over.rows_since().into();
        }
        let mut heads = arrived.heads.clone();
        heads.extend(commit.transactions.iter().cloned());
        let heads = heads.iter().map(|(app, head)| Transaction::new(app, *head)).collect();
        let told = [(STATE_KEY.to_owned(), state), (TAKEN_OVER.to_owned(), commit.id.clone().into())];
        let properties = once().with_metadata(told).with_application_transactions(heads);
        let Some(over) = over else {
            let builder = creation(source, arrived, properties).map_err(fail)?;
            let entry = first_entry(&to.table_url(name), builder).await.map_err(fail)?;
            return Ok(Self { table: name.clone(), version: 0, id: commit.id.clone(), entry });
        };
        let actions = replacement(source, over, arrived).map_err(fail)?;
        let operation = DeltaOperation::Write { mode: SaveMode::Overwrite, partition_by: None, predicate: None };
        Self::on(over, actions, operation, properties, &commit.id).await
    }
}

/// The first version of a table: columns, properties and description of the other.
fn creation(
    source: &Published,
    arrived: &Arrived,
    properties: CommitProperties,
) -> Result<CreateBuilder, DeltaTableError> {
    let snapshot = source.table.snapshot()?;
    let metadata = snapshot.metadata();
    let configuration = metadata.configuration().iter().map(|(key, value)| (key.clone(), Some(value.clone())));
    let builder = CreateBuilder::new()
        .with_table_name(source.name.to_string())
        .with_columns(snapshot.schema().fields().cloned())
        .with_partition_columns(metadata.partition_columns().iter().cloned())
        .with_raise_if_key_not_exists(false)
        .with_configuration(configuration)
        .with_save_mode(SaveMode::ErrorIfExists)
        .with_actions(arrived.adds.iter().cloned().map(Action::Add))
        .with_commit_properties(properties);
    Ok(match metadata.description() {
        Some(description) => builder.with_comment(description),
        None => builder,
    })
}

/// What makes a table the other one: files that go and come, and what the log says of it. The id stays.
fn replacement(source: &Published, over: &Published, arrived: &Arrived) -> Result<Vec<Action>, DeltaTableError> {
    let (there, here) = (source.table.snapshot()?, over.table.snapshot()?);
    let wanted: BTreeSet<&str> = arrived.adds.iter().map(|add| add.path.as_str()).collect();
    let mut known = BTreeSet::new();
    let mut actions = Vec::new();
    for file in here.log_data().iter() {
        if wanted.contains(file.path().as_ref()) {
            known.insert(file.path().into_owned());
        } else {
            actions.push(Action::Remove(file.remove_action(true)));
        }
    }
    actions.extend(arrived.adds.iter().filter(|add| !known.contains(&add.path)).cloned().map(Action::Add));
    actions.extend(added_features(here.protocol(), there.protocol())?.map(Action::Protocol));
    let (mut metadata, before) = (serde_json::to_value(there.metadata())?, serde_json::to_value(here.metadata())?);
    for own in ["id", "createdTime"] {
        metadata[own] = before[own].clone();
    }
    if metadata != before {
        actions.push(Action::Metadata(serde_json::from_value(metadata)?));
    }
    Ok(actions)
}
