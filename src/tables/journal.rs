//! Commits of several tables that belong together: written to a journal before the first of them, so that a crash between
//! two is made good by the next run.
//!
//! A lake has no commit of many tables: a reader of two of them can see one before and one after a burst. What is certain
//! is that either none of the commits takes place or all of them do.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Lake, Prepared, STATE_KEY, TableError, publish};
use crate::bronze::FileLock;
use crate::fail_points;
use crate::names::TableName;
use crate::stores::{self, Lease};

/// Commits that are to take place, all of them.
#[derive(Debug, Serialize, Deserialize)]
struct Journal {
    invocation_id: String,
    at: DateTime<Utc>,
    commits: Vec<Prepared>,
}

/// What keeps other bursts out.
enum Lock {
    /// Of all processes of this machine, which is all that write to a folder.
    OfMachine { _file: FileLock },
    /// Of everybody who writes to a bucket.
    OfStore(Lease),
}

impl Lock {
    /// Whether a journal may still be written. Once it is there whoever comes next finishes it first.
    fn is_valid(&self) -> bool {
        match self {
            Self::OfMachine { .. } => true,
            Self::OfStore(lease) => lease.is_valid(),
        }
    }

    async fn release(self) {
        if let Self::OfStore(lease) = self {
            lease.release().await;
        }
    }
}

/// What became of a journal that a crash had left.
#[derive(Debug, Clone)]
pub struct Resumed {
    /// The run that wrote it.
    pub invocation_id: String,
    /// Tables whose commits were made good, or had taken place.
    pub published: Vec<TableName>,
    /// Tables that somebody else had published to before.
    pub overtaken: Vec<TableName>,
}

fn folder() -> Path {
    Path::from_iter(["_lake", "journal"])
}

impl Lake {
    /// Makes all of these commits, or none if one of the tables is no longer at the version below its commit. Says which
    /// tables another writer was faster to publish to after that was looked at.
    ///
    /// # Errors
    /// [`TableError::Conflict`] if nothing has begun and nothing will. After any other error the journal may be there, and
    /// then the next run finishes what it says: no file of it may be taken away.
    pub async fn publish_together(
        &self,
        invocation_id: &str,
        commits: Vec<Prepared>,
    ) -> Result<Vec<TableName>, TableError> {
        let lock = self.lock().await?;
        let published = self.publish_locked(invocation_id, commits, &lock).await;
        lock.release().await;
        published
    }

    async fn publish_locked(
        &self,
        invocation_id: &str,
        commits: Vec<Prepared>,
        lock: &Lock,
    ) -> Result<Vec<TableName>, TableError> {
        self.finish_all().await?;
        for commit in &commits {
            let fail = |source| TableError::Delta { table: commit.table.clone(), source };
            if self.log_store(&commit.table).read_commit_entry(commit.version).await.map_err(fail)?.is_some() {
                return Err(TableError::Conflict { table: commit.table.clone() });
            }
        }
        let path = folder().join(format!("{}.json", uuid::Uuid::now_v7()));
        let journal = Journal { invocation_id: invocation_id.to_owned(), at: Utc::now(), commits };
        let text = serde_json::to_vec(&journal).map_err(|error| self.bad_journal(&path, &error.to_string()))?;
        if !lock.is_valid() {
            return Err(self.bad_journal(&path, "its lock ran out before it was written: the store is too slow"));
        }
        let written = self.files().put(&path, PutPayload::from(text)).await;
        written.map_err(|error| self.bad_journal(&path, &error.to_string()))?;
        fail_points::reached("journal");
        self.finish(&path, journal).await
    }

    /// Finishes what crashes have left unfinished. Whoever is about to write calls this first, so it also looks whether the
    /// store can hold a lake.
    ///
    /// # Errors
    /// The storage's, or when a journal is damaged.
    pub async fn resume(&self) -> Result<Vec<Resumed>, TableError> {
        // Of a root that is no folder there is more to say where a table is to be written.
        if self.place().store.is_local() && !self.root().to_file_path().is_ok_and(|root| root.is_dir()) {
            return Ok(Vec::new());
        }
        self.check_store().await?;
        if self.journals().await?.is_empty() {
            return Ok(Vec::new());
        }
        let lock = self.lock().await?;
        let resumed = self.finish_all().await;
        lock.release().await;
        resumed
    }

    /// How many bursts crashes have left unfinished.
    ///
    /// # Errors
    /// The storage's.
    pub async fn unfinished(&self) -> Result<usize, TableError> {
        Ok(self.journals().await?.len())
    }

    /// One burst at a time: two of them that share tables would each be seen in part.
    async fn lock(&self) -> Result<Lock, TableError> {
        let bad = |why: &str| TableError::Root { root: self.root().to_string(), why: format!("its journal: {why}") };
        if !self.place().store.is_local() {
            let path = self.place().join(&Path::from_iter(["_lake", "journal.lock"]));
            let lease = Lease::take(&self.place().store, &path).await;
            return lease.map(Lock::OfStore).map_err(|error| bad(&stores::message(&error)));
        }
        let path = self.root().to_file_path().map_err(|()| bad("it is no folder"))?.join("_lake").join("journal.lock");
        loop {
            // A burst takes milliseconds, and the lock of a killed one is free.
            match FileLock::try_take(&path).map_err(|error| bad(&error.to_string()))? {
                Some(lock) => return Ok(Lock::OfMachine { _file: lock }),
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// Oldest first: their names begin with the time.
    async fn journals(&self) -> Result<Vec<Path>, TableError> {
        let store = self.files();
        let bad = |error: object_store::Error| self.bad_journal(&folder(), &error.to_string());
        let listed = store.list(Some(&folder())).map_ok(|file| file.location).try_collect::<Vec<Path>>().await;
        let mut found = stores::if_there(listed).map_err(bad)?.unwrap_or_default();
        found.retain(|path| path.extension() == Some("json"));
        found.sort();
        Ok(found)
    }

    async fn finish_all(&self) -> Result<Vec<Resumed>, TableError> {
        let store = self.files();
        let bad = |error: object_store::Error| self.bad_journal(&folder(), &error.to_string());
        let mut resumed = Vec::new();
        for path in self.journals().await? {
            let Some(bytes) = stores::read_if_there(&store, &path).await.map_err(bad)? else { continue };
            let journal: Journal =
                serde_json::from_slice(&bytes).map_err(|error| self.bad_journal(&path, &error.to_string()))?;
            let mut published: Vec<TableName> = journal.commits.iter().map(|commit| commit.table.clone()).collect();
            let invocation_id = journal.invocation_id.clone();
            let overtaken = self.finish(&path, journal).await?;
            published.retain(|table| !overtaken.contains(table));
            resumed.push(Resumed { invocation_id, published, overtaken });
        }
        Ok(resumed)
    }

    /// Makes the commits of a journal that have not taken place, and takes it away.
    async fn finish(&self, path: &Path, journal: Journal) -> Result<Vec<TableName>, TableError> {
        let mut overtaken: Vec<TableName> = Vec::new();
        for commit in &journal.commits {
            if commit.reads_changes_of(&overtaken) {
                // Its rows are changes that never came to be: the next run reads those that did.
                overtaken.push(commit.table.clone());
                continue;
            }
            let commit = commit.without(&overtaken);
            match commit.write(self).await {
                Ok(()) => {}
                Err(TableError::Conflict { table }) => overtaken.push(table),
                Err(error) => return Err(error),
            }
            fail_points::reached("burst");
        }
        for commit in &journal.commits {
            if let Ok(Some(fresh)) = self.inspect(&commit.table).await {
                publish::checkpoint_if_due(&fresh).await;
            }
        }
        stores::if_there(self.files().delete(path).await)
            .map_err(|error| self.bad_journal(path, &error.to_string()))?;
        Ok(overtaken)
    }

    fn bad_journal(&self, path: &Path, why: &str) -> TableError {
        TableError::Root { root: self.root().to_string(), why: format!("its journal `{path}`: {why}") }
    }
}

impl Prepared {
    /// Whether its rows are made of the changes of one of some tables; those of a rollback are not.
    fn reads_changes_of(&self, tables: &[TableName]) -> bool {
        let actions = self.entry.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let publishes = actions.filter(|action| action["commitInfo"]["operation"] != "RESTORE");
        let mut consumed = publishes.map(|action| action["commitInfo"][STATE_KEY]["consumed"].clone());
        !tables.is_empty()
            && consumed.any(|consumed| tables.iter().any(|table| consumed.get(table.to_string()).is_some()))
    }

    /// The same commit, that says of tables which it read as they were to be and never became so that it read something
    /// else: then the next run builds it again.
    fn without(&self, overtaken: &[TableName]) -> Self {
        let mut commit = self.clone();
        for table in overtaken {
            let lines = commit.entry.lines().map(|line| {
                let mut action: Value = match serde_json::from_str(line) {
                    Ok(action) => action,
                    Err(_) => return line.to_owned(),
                };
                match action["commitInfo"][STATE_KEY]["inputs"].get_mut(table.to_string()) {
                    Some(version) => *version = format!("{} of a run that was overtaken", text(version)).into(),
                    None => return line.to_owned(),
                }
                action.to_string()
            });
            commit.entry = lines.collect::<Vec<_>>().join("\n");
        }
        commit
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
