//! A lock that several machines share: a file that is put only if it is not there, and that is nobody's when its time is over.

use std::time::Duration;

use chrono::{DateTime, Utc};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, Result, UpdateVersion};
use serde::{Deserialize, Serialize};

use super::{Store, if_there};

/// After so long whoever holds it is taken for dead.
const LIFE: Duration = Duration::from_secs(60);
/// How long to wait before the next look.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Serialize, Deserialize)]
struct Held {
    by: String,
    until: DateTime<Utc>,
}

/// A lock that is held; [`Self::release`] gives it back.
#[derive(Debug)]
pub struct Lease {
    store: Store,
    path: Path,
    version: UpdateVersion,
    until: DateTime<Utc>,
}

impl Lease {
    /// Waits for the lock.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn take(store: &Store, path: &Path) -> Result<Self> {
        loop {
            if let Some(lease) = Self::try_take(store, path).await? {
                return Ok(lease);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn try_take(store: &Store, path: &Path) -> Result<Option<Self>> {
        let files = store.files();
        let until = Utc::now() + LIFE;
        let held = Held { by: uuid::Uuid::new_v4().to_string(), until };
        let text = serde_json::to_vec(&held).unwrap_or_default();
        let mode = match if_there(files.get(path).await)? {
            None => PutMode::Create,
            Some(found) => {
                let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
                let other: Option<Held> = serde_json::from_slice(&found.bytes().await?).ok();
                if other.is_some_and(|other| other.until > Utc::now()) {
                    return Ok(None);
                }
                PutMode::Update(version)
            }
        };
        match files.put_opts(path, PutPayload::from(text), PutOptions::from(mode)).await {
            Ok(put) => {
                let version = UpdateVersion { e_tag: put.e_tag, version: put.version };
                Ok(Some(Self { store: store.clone(), path: path.clone(), version, until }))
            }
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether there is time left to do what was locked for.
    pub fn is_valid(&self) -> bool {
        Utc::now() + LIFE / 4 < self.until
    }

    /// Gives it back, if it is still ours.
    pub async fn release(self) {
        // A delete has no conditions: what is ours is first made to be over, and others take it from there.
        let over = Held { by: String::new(), until: DateTime::UNIX_EPOCH };
        let text = serde_json::to_vec(&over).unwrap_or_default();
        let mode = PutOptions::from(PutMode::Update(self.version.clone()));
        let _ = self.store.files().put_opts(&self.path, PutPayload::from(text), mode).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;
    use crate::stores::tests::store_of;

    #[tokio::test]
    async fn one_at_a_time_and_what_is_over_is_free() {
        let files: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let (store, path) = (store_of(Arc::clone(&files)), Path::from("_lake/lock"));
        let first = Lease::try_take(&store, &path).await.unwrap().unwrap();
        assert!(first.is_valid() && Lease::try_take(&store, &path).await.unwrap().is_none());
        first.release().await;
        let second = Lease::try_take(&store, &path).await.unwrap().unwrap();
        // Its holder died, and its time is over.
        let over = serde_json::to_vec(&Held { by: "x".to_owned(), until: Utc::now() - LIFE }).unwrap();
        files.put(&path, PutPayload::from(over)).await.unwrap();
        let third = Lease::try_take(&store, &path).await.unwrap().unwrap();
        // Who was late gives nothing back.
        second.release().await;
        assert!(Lease::try_take(&store, &path).await.unwrap().is_none());
        third.release().await;
    }
}
