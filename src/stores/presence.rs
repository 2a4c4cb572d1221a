//! What a store has at a path, if it has anything there.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, Result};

/// What a store answers; `None` if there is nothing.
///
/// # Errors
/// All others of the store.
pub fn if_there<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A whole file; `None` if it is not there.
///
/// # Errors
/// Those of the store.
pub async fn read_if_there(files: &dyn ObjectStore, path: &Path) -> Result<Option<Bytes>> {
    match if_there(files.get(path).await)? {
        Some(found) => found.bytes().await.map(Some),
        None => Ok(None),
    }
}
