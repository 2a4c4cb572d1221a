//! What stands beside a table and in its lake, and has to go where its rows go.

use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};

use super::BronzeError;
use super::leftovers::{Heads, Led, damaged};
use super::new_columns::known_folder;
use crate::names::TableName;
use crate::stores;

/// Files beside a table, with their sizes, that its `heads` lead to: batches of manifests, notes of quarantines, what was
/// left out, and the keys that were deleted, whose application is `tombstones`.
///
/// # Errors
/// When one of them cannot be read.
pub async fn beside(
    store: &Arc<dyn ObjectStore>,
    table: &TableName,
    heads: &Heads,
    tombstones: &str,
) -> Result<Vec<(Path, u64)>, BronzeError> {
    let own = Path::from("_lake");
    let bad = |error: object_store::Error| damaged(table, &own, error.to_string());
    let listed = store.list(Some(&own)).try_collect::<Vec<_>>().await;
    let files = stores::if_there(listed).map_err(bad)?.unwrap_or_default();
    let mut led = Led::new(store, table, heads, tombstones);
    let mut found = Vec::new();
    for file in files {
        let parts: Vec<String> = file.location.parts().map(|part| part.as_ref().to_owned()).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        if led.leads_to(&parts).await?.unwrap_or(false) {
            found.push((file.location, file.size));
        }
    }
    Ok(found)
}

/// Makes the columns that a source has come to know in one lake known in another: there is one more file for each that is
/// not there.
///
/// # Errors
/// When they cannot be read or written.
pub async fn carry_columns(
    from: &Arc<dyn ObjectStore>,
    to: &Arc<dyn ObjectStore>,
    source: &TableName,
) -> Result<(), BronzeError> {
    let folder = known_folder(source);
    let bad = |error: object_store::Error| BronzeError::KnownColumns {
        source_name: source.clone(),
        path: folder.to_string(),
        why: error.to_string(),
    };
    let listed = from.list(Some(&folder)).try_collect::<Vec<_>>().await;
    let files = stores::if_there(listed).map_err(bad)?.unwrap_or_default();
    for file in files {
        let bytes = from.get(&file.location).await.map_err(bad)?.bytes().await.map_err(bad)?;
        match to.put_opts(&file.location, bytes.into(), PutMode::Create.into()).await {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(error) => return Err(bad(error)),
        }
    }
    Ok(())
}
