//! Removing a table: its log and its files, and what stands beside them.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::{Lake, TableError};
use crate::names::TableName;

/// The folder of what a lake keeps of itself.
const OWN: &str = "_lake";

impl Lake {
    /// The tables below the root, whoever made them: folders of layers, with folders of tables.
    ///
    /// # Errors
    /// When the root cannot be listed.
    pub async fn tables(&self) -> Result<BTreeSet<TableName>, TableError> {
        let store = self.files();
        let bad =
            |error: object_store::Error| TableError::Root { root: self.root().to_string(), why: error.to_string() };
        let mut found = BTreeSet::new();
        let folders = |listed: object_store::ListResult| {
            listed.common_prefixes.into_iter().filter_map(|path| path.filename().map(str::to_owned)).collect::<Vec<_>>()
        };
        let layers = match store.list_with_delimiter(None).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(found),
            listed => folders(listed.map_err(bad)?),
        };
        for layer in layers.into_iter().filter(|layer| layer != OWN) {
            let path = Path::from_iter([layer.as_str()]);
            for table in folders(store.list_with_delimiter(Some(&path)).await.map_err(bad)?) {
                let name = TableName::new(&layer, &table);
                if self.inspect(&name).await?.is_some() {
                    found.insert(name);
                }
            }
        }
        Ok(found)
    }

    /// Removes a table. Its log goes first, the newest entry before all others: whoever reads it meanwhile finds an
    /// older version or none, and after a crash what is left can be dropped again. Says how many bytes that were.
    ///
    /// # Errors
    /// The storage's; what is left then is still a table, or files that no log names.
    pub async fn drop_table(&self, name: &TableName) -> Result<u64, TableError> {
        let store = self.files();
        let folder = Path::from_iter(name.schema.split('/').chain([name.table]));
        let fail = |source| TableError::File { table: name.clone(), path: folder.to_string(), source };
        let files: Vec<_> = match store.list(Some(&folder)).try_collect::<Vec<_>>().await {
            Err(object_store::Error::NotFound { .. }) => return Ok(0),
            listed => listed.map_err(fail)?,
        };
        let log = folder.clone().join("_delta_log");
        let (mut entries, others): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|file| file.location.prefix_matches(&log));
        entries.sort_by(|a, b| b.location.cmp(&a.location));
        let mut bytes = 0;
        for file in entries.into_iter().chain(others) {
            match store.delete(&file.location).await {
                Ok(()) => bytes += file.size,
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(fail(error)),
            }
        }
        self.tidy(&folder).await;
        Ok(bytes)
    }

    /// Takes away the folders that a table leaves empty, where there are folders.
    async fn tidy(&self, folder: &Path) {
        let Ok(root) = self.root().to_file_path() else { return };
        let mut waiting = vec![root.join(folder.as_ref())];
        let mut folders: Vec<_> = waiting[0].parent().map(ToOwned::to_owned).into_iter().collect();
        while let Some(folder) = waiting.pop() {
            let Ok(mut entries) = tokio::fs::read_dir(&folder).await else { continue };
            while let Ok(Some(entry)) = entries.next_entry().await {
                if entry.file_type().await.is_ok_and(|kind| kind.is_dir()) {
                    waiting.push(entry.path());
                }
            }
            folders.push(folder);
        }
        for folder in folders.iter().rev() {
            // One that is not empty stays.
            let _ = tokio::fs::remove_dir(folder).await;
        }
    }
}
