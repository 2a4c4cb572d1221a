//! The root of a lake: whether its store can hold one, and which tables are there.

use object_store::path::Path as StorePath;
use object_store::{Error, ObjectStore, ObjectStoreExt};

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
        match files.head(&note).await {
            Ok(_) => return Ok(()),
            Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(bad(stores::message(&error))),
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

    /// The Delta tables below the root, two folders deep, without what `lake` keeps for itself.
    ///
    /// # Errors
    /// The storage's.
    pub async fn table_names(&self) -> Result<Vec<TableName>, TableError> {
        let bad = |error| TableError::Root { root: self.root().to_string(), why: stores::message(&error) };
        let (files, mut found) = (self.files(), Vec::new());
        let is_hidden = |folder: &StorePath| folder.filename().is_none_or(|name| name.starts_with(['_', '.']));
        for layer in files.list_with_delimiter(None).await.map_err(bad)?.common_prefixes {
            if is_hidden(&layer) {
                continue;
            }
            for table in files.list_with_delimiter(Some(&layer)).await.map_err(bad)?.common_prefixes {
                let name = TableName::new(layer.filename().unwrap_or_default(), table.filename().unwrap_or_default());
                if !is_hidden(&table) && self.log_store(&name).is_delta_table_location().await.is_ok_and(|is| is) {
                    found.push(name);
                }
            }
        }
        Ok(found)
    }
}
