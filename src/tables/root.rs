//! The root of a lake: whether its store can hold one, and which tables are there.

use std::collections::BTreeSet;

use object_store::path::Path as StorePath;
use object_store::{ObjectStore, ObjectStoreExt};

use super::{Lake, TableError};
use crate::names::TableName;
use crate::stores;

impl Lake {
    /// Looks once, at the first contact, whether the store of the root can hold a lake; what it says is noted there.
    ///
    /// # Errors
    /// When it cannot, and why.
    pub async fn check_store(&self) -> Result<(), TableError> {
        if self.place().store.is_local() {
            return Ok(());
        }
        let bad = |why: String| TableError::Root { root: self.root().to_string(), why };
        let (files, note) = (self.files(), StorePath::from_iter(["_lake", "store.json"]));
        if stores::if_there(files.head(&note).await).map_err(|error| bad(stores::message(&error)))?.is_some() {
            return Ok(());
        }
        self.probe().await?;
        let text = r#"{"conditional_put":true}"#;
        files.put(&note, text.into()).await.map_err(|error| bad(stores::message(&error)))?;
        Ok(())
    }

    /// Whether the store of the root can be written to, and keeps conditional puts.
    ///
    /// # Errors
    /// When not, and why.
    pub async fn probe(&self) -> Result<(), TableError> {
        let folder = self.place().join(&StorePath::from("_lake"));
        let checked = stores::check_conditional_put(&self.place().store, &folder).await;
        checked.map_err(|refused| TableError::Root { root: self.root().to_string(), why: refused.to_string() })
    }

    /// The Delta tables below the root, whoever made them, two folders deep, without what `lake` keeps for itself.
    ///
    /// # Errors
    /// The storage's.
    pub async fn tables(&self) -> Result<BTreeSet<TableName>, TableError> {
        let mut found = BTreeSet::new();
        for layer in self.folders(None).await? {
            for table in self.folders(Some(&layer)).await? {
                let name = TableName::new(layer.filename().unwrap_or_default(), table.filename().unwrap_or_default());
                let is_table = self.log_store(&name).is_delta_table_location().await;
                if is_table.map_err(|source| TableError::Delta { table: name.clone(), source })? {
                    found.insert(name);
                }
            }
        }
        Ok(found)
    }

    /// The folders in a folder, apart from hidden ones.
    async fn folders(&self, folder: Option<&StorePath>) -> Result<Vec<StorePath>, TableError> {
        let listed = stores::if_there(self.files().list_with_delimiter(folder).await)
            .map_err(|error| TableError::Root { root: self.root().to_string(), why: stores::message(&error) })?;
        let mut folders = listed.map(|listed| listed.common_prefixes).unwrap_or_default();
        folders.retain(|folder| folder.filename().is_some_and(|name| !name.starts_with(['_', '.'])));
        Ok(folders)
    }
}
