//! Staged files of a publish that its tests refused: kept beside the table until the model stages again, for whoever
//! wants to see what was wrong with them.
//!
//! `_lake/staged/<id>.json` says which files these are and which published ones would have gone. No log names them.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::arrow::datatypes::Schema;
use datafusion::catalog::TableProvider;
use deltalake::kernel::engine::arrow_conversion::{TryIntoArrow, TryIntoKernel};
use deltalake::kernel::{Add, StructType};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};

use super::{Lake, Published, Staged, TableError, future_table};
use crate::names::TableName;
use crate::stores;

/// What was staged and not published, and why.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kept {
    /// When its tests refused it.
    pub at: DateTime<Utc>,
    /// The run that staged it.
    pub invocation_id: String,
    /// The tests that failed, each with what it found.
    pub failed: Vec<(String, String)>,
    /// The version that it would have changed; `None` for a table that does not exist.
    pub base: Option<u64>,
    replaces_all: bool,
    removed: BTreeSet<String>,
    adds: Vec<Add>,
    schema: StructType,
    partition_by: Vec<String>,
}

fn folder() -> Path {
    Path::from_iter(["_lake", "staged"])
}

impl Lake {
    /// Keeps staged files that will not be published.
    ///
    /// # Errors
    /// The storage's; then the files are taken away.
    pub async fn keep(
        &self,
        published: Option<&Published>,
        staged: Staged,
        invocation_id: &str,
        failed: Vec<(String, String)>,
    ) -> Result<(), TableError> {
        let id = uuid::Uuid::now_v7();
        let path = folder().join(format!("{id}.json"));
        let written = async {
            let fail = |source| TableError::Delta { table: staged.name.clone(), source };
            let schema: StructType =
                staged.schema.as_ref().try_into_kernel().map_err(|error| TableError::Query(error.into()))?;
            let kept = Kept {
                at: Utc::now(),
                invocation_id: invocation_id.to_owned(),
                failed,
                base: published.map(Published::version),
                replaces_all: staged.replaces_all,
                removed: staged.removed.clone(),
                adds: staged.adds.clone(),
                schema,
                partition_by: staged.partition_by.clone(),
            };
            let text = serde_json::to_vec(&kept).map_err(|error| fail(error.into()))?;
            let file = |source| TableError::File { table: staged.name.clone(), path: path.to_string(), source };
            self.files_of(&staged.name).put(&path, PutPayload::from(text)).await.map_err(file)?;
            Ok(())
        };
        let written = written.await;
        if written.is_err() {
            staged.discard(self).await;
        }
        written
    }

    /// What the last audit of a table refused, if it is still there.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn kept(&self, name: &TableName) -> Result<Option<Kept>, TableError> {
        let store = self.files_of(name);
        let Some(newest) = records(&store, name).await?.pop() else { return Ok(None) };
        read(&store, name, &newest).await.map(Some)
    }

    /// The table as it would have been.
    ///
    /// # Errors
    /// When its files, or the version below them, are no longer there.
    pub async fn kept_table(&self, name: &TableName, kept: &Kept) -> Result<Arc<dyn TableProvider>, TableError> {
        let store = self.files_of(name);
        for add in &kept.adds {
            let path = Path::parse(&add.path).map_err(|error| gone(name, &add.path, &error.to_string()))?;
            store.head(&path).await.map_err(|error| gone(name, &add.path, &error.to_string()))?;
        }
        let published = match kept.base {
            Some(version) => Some(self.inspect_at(name, version).await?),
            None => None,
        };
        let schema: Schema = (&kept.schema).try_into_arrow().map_err(|error| TableError::Query(error.into()))?;
        let staged = Staged {
            adds: kept.adds.clone(),
            removed: kept.removed.clone(),
            replaces_all: kept.replaces_all,
            ..Staged::nothing(self, name, &super::read::plain(&schema), &kept.partition_by)
        };
        future_table(published.as_ref(), &staged).await
    }

    /// Takes away what audits of a table refused; says how many there were.
    ///
    /// # Errors
    /// When they cannot be listed, or one cannot be taken away.
    pub async fn forget_kept(&self, name: &TableName) -> Result<usize, TableError> {
        let store = self.files_of(name);
        let records = records(&store, name).await?;
        for path in &records {
            // A record that cannot be read names no files: those stay, unseen, as after a crash.
            if let Ok(kept) = read(&store, name, path).await {
                super::stage::discard(self, name, &kept.adds).await;
            }
            stores::if_there(store.delete(path).await).map_err(|source| file_error(name, path, source))?;
        }
        Ok(records.len())
    }
}

/// Oldest first: their names begin with the time.
async fn records(store: &Arc<dyn ObjectStore>, name: &TableName) -> Result<Vec<Path>, TableError> {
    let listed = store.list(Some(&folder())).map_ok(|found| found.location).try_collect::<Vec<Path>>().await;
    let listed = stores::if_there(listed).map_err(|source| file_error(name, &folder(), source))?;
    let mut found = listed.unwrap_or_default();
    found.retain(|path| path.extension() == Some("json"));
    found.sort();
    Ok(found)
}

async fn read(store: &Arc<dyn ObjectStore>, name: &TableName, path: &Path) -> Result<Kept, TableError> {
    let fail = |source| file_error(name, path, source);
    let bytes = store.get(path).await.map_err(fail)?.bytes().await.map_err(fail)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| TableError::Rows(format!("`{path}` of table `{name}` is damaged: {error}")))
}

fn gone(name: &TableName, path: &str, why: &str) -> TableError {
    TableError::Rows(format!(
        "`{path}`, a staged file of `{name}`, is no longer there: build the model again to see what its tests refuse ({why})"
    ))
}

fn file_error(table: &TableName, path: &Path, source: object_store::Error) -> TableError {
    TableError::File { table: table.clone(), path: path.to_string(), source }
}
