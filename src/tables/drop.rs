//! Removing a table: its log and its files, and what stands beside them.

use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::{Lake, TableError};
use crate::names::TableName;
use crate::stores;

impl Lake {
    /// Removes a table. Its log goes first, the newest entry before all others: whoever reads it meanwhile finds an
    /// older version or none, and after a crash what is left can be dropped again. Says how many bytes that were.
    ///
    /// # Errors
    /// The storage's; what is left then is still a table, or files that no log names.
    pub async fn drop_table(&self, name: &TableName) -> Result<u64, TableError> {
        let place = self.place_of(name);
        let store = place.files();
        let fail = |source| TableError::File { table: name.clone(), path: place.path.to_string(), source };
        let listed = store.list(None).try_collect::<Vec<_>>().await;
        let Some(files) = stores::if_there(listed).map_err(fail)? else { return Ok(0) };
        let log = Path::from("_delta_log");
        let (mut entries, others): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|file| file.location.prefix_matches(&log));
        entries.sort_by(|a, b| b.location.cmp(&a.location));
        let mut bytes = 0;
        for file in entries.into_iter().chain(others) {
            if stores::if_there(store.delete(&file.location).await).map_err(fail)?.is_some() {
                bytes += file.size;
            }
        }
        self.tidy(name).await;
        Ok(bytes)
    }

    /// Takes away the folders that a table leaves empty, where there are folders.
    async fn tidy(&self, name: &TableName) {
        let Ok(folder) = self.table_url(name).to_file_path() else { return };
        let mut waiting = vec![folder];
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
