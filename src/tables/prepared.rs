//! Commits that are ready to be written: the entry of the log as text, and the version that it will be.
//!
//! To write one is to put a file where there is none, so it takes place once, however often it is tried and by whom.

use deltalake::kernel::Action;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake::logstore::CommitOrBytes;
use deltalake::operations::create::CreateBuilder;
use deltalake::protocol::DeltaOperation;
use deltalake::{DeltaTableBuilder, DeltaTableError};
use serde::{Deserialize, Serialize};
use url::Url;

use super::publish::{creation, properties};
use super::{Commit, Lake, Published, Staged, TableError, publish};
use crate::names::TableName;

/// One commit of one table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Prepared {
    /// The table.
    pub table: TableName,
    /// The version that it makes.
    pub version: u64,
    /// Found in this entry of the log and in no other.
    pub(super) id: String,
    /// The entry.
    pub(super) entry: String,
}

impl Prepared {
    /// The publish of staged files.
    ///
    /// # Errors
    /// When the log of the table cannot be read.
    pub async fn publish(
        lake: &Lake,
        published: Option<&Published>,
        staged: &Staged,
        commit: &Commit,
    ) -> Result<Self, TableError> {
        let name = &staged.name;
        let fail = |source| TableError::Delta { table: name.clone(), source };
        let properties = properties(lake, published, commit, staged).map_err(fail)?;
        match published {
            Some(published) => {
                let (actions, operation) = publish::changes(lake, published, staged).map_err(fail)?;
                Self::on(published, actions, operation, properties, &commit.id).await
            }
            None => {
                let builder = creation(lake, staged, properties).map_err(fail)?;
                let entry = first_entry(&lake.table_url(name), builder).await.map_err(fail)?;
                Ok(Self { table: name.clone(), version: 0, id: commit.id.clone(), entry })
            }
        }
    }

    /// The id that it gives to a table which it makes.
    pub fn table_id(&self) -> Option<String> {
        let actions = self.entry.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        actions.filter_map(|action| action["metaData"]["id"].as_str().map(str::to_owned)).next()
    }

    /// Any change of a published version.
    pub(super) async fn on(
        published: &Published,
        actions: Vec<Action>,
        operation: DeltaOperation,
        properties: CommitProperties,
        id: &str,
    ) -> Result<Self, TableError> {
        let fail = |source| TableError::Delta { table: published.name.clone(), source };
        let snapshot = published.table.snapshot().map_err(fail)?;
        let commit = CommitBuilder::from(properties).with_actions(actions);
        let commit = commit.build(Some(snapshot.snapshot()), published.table.log_store(), operation);
        let prepared = commit.into_prepared_commit_future().await.map_err(fail)?;
        let CommitOrBytes::LogBytes(entry) = prepared.commit_or_bytes() else {
            return Err(TableError::Rows(format!(
                "the log of `{}` is not written with conditional puts",
                published.name
            )));
        };
        let entry = String::from_utf8_lossy(entry).into_owned();
        Ok(Self { table: published.name.clone(), version: published.version() + 1, id: id.to_owned(), entry })
    }

    /// Writes the entry, if it is not there already.
    ///
    /// # Errors
    /// [`TableError::Conflict`] when the version is somebody else's; otherwise the storage's error.
    pub async fn write(&self, lake: &Lake) -> Result<(), TableError> {
        let log_store = lake.log_store(&self.table);
        let entry = CommitOrBytes::LogBytes(self.entry.clone().into());
        let Err(error) = log_store.write_commit_entry(self.version, entry, uuid::Uuid::new_v4()).await else {
            return Ok(());
        };
        match log_store.read_commit_entry(self.version).await {
            Ok(Some(entry)) if publish::contains(&entry, &self.id) => Ok(()),
            Ok(Some(_)) => Err(TableError::Conflict { table: self.table.clone() }),
            _ => Err(TableError::Delta { table: self.table.clone(), source: DeltaTableError::from(error) }),
        }
    }
}

/// The entry that makes a table: written to memory by the code that writes it to a lake.
pub(super) async fn first_entry(table_url: &Url, builder: CreateBuilder) -> Result<String, DeltaTableError> {
    const ELSEWHERE: &str = "memory:///";
    let elsewhere = Url::parse(ELSEWHERE).expect("it is an address");
    let log_store = DeltaTableBuilder::from_url(elsewhere)?.build_storage()?;
    builder.with_log_store(log_store.clone()).await?;
    let entry = log_store.read_commit_entry(0).await?.unwrap_or_default();
    let entry = String::from_utf8_lossy(&entry).into_owned();
    // It tells where the table is.
    Ok(entry.replace(&format!("\"{ELSEWHERE}\""), &format!("\"{table_url}\"")))
}
