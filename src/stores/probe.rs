//! Whether a store keeps its word: a file that is put only if it is not there is what every commit of a Delta table rests on.

use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::{Store, message};

/// Why a store cannot hold a lake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It puts a file over another one although it was told not to: two runs could publish the same version, and one of
    /// them would be lost without a trace.
    #[error(
        "this store ignores conditional puts (`If-None-Match`): of two runs that publish at the same time one would be lost. \
         Use a store that has them: S3, Azure, Google Cloud Storage, R2, MinIO, SeaweedFS, Ceph 19 or newer"
    )]
    IgnoresConditions,
    /// It has no conditional puts.
    #[error("this store refuses conditional puts (`If-None-Match`), which commits of Delta tables need: {0}")]
    HasNoConditions(String),
    /// Nothing can be written there.
    #[error("{0}")]
    Unwritable(String),
}

/// Puts a file where there is none, and once more where it is now: the second has to be refused.
///
/// # Errors
/// What the store does instead.
pub async fn check_conditional_put(store: &Store, folder: &Path) -> Result<(), Refused> {
    let path = folder.clone().join(format!("probe-{}", uuid::Uuid::new_v4()));
    let create = || PutOptions::from(PutMode::Create);
    let files = store.files();
    match files.put_opts(&path, PutPayload::from_static(b"first"), create()).await {
        Ok(_) => {}
        Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
            return Err(Refused::HasNoConditions("it says that it has none".to_owned()));
        }
        Err(error) => return Err(Refused::Unwritable(message(&error))),
    }
    let second = files.put_opts(&path, PutPayload::from_static(b"second"), create()).await;
    // What stays is a few bytes that nobody reads.
    let _ = files.delete(&path).await;
    match second {
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(()),
        Ok(_) => Err(Refused::IgnoresConditions),
        Err(error) => Err(Refused::HasNoConditions(message(&error))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;
    use crate::stores::tests::store_of;

    #[tokio::test]
    async fn a_store_that_keeps_its_word_passes_and_keeps_nothing() {
        let files: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let store = store_of(Arc::clone(&files));
        check_conditional_put(&store, &Path::from("_lake")).await.unwrap();
        assert!(super::super::list_all(&store, &Path::from("_lake"), None).await.unwrap().is_empty());
    }
}
