//! Uploads in parts that are not finished are taken back: a store keeps their parts, and asks money for them, for ever.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, PutMultipartOptions, PutPayload, PutResult, Result, UploadPart};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::written::{Writing, Written};

/// Aborts under way.
static ABORTS: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

/// How long the end of a run waits for them.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until the parts of uploads that were not finished are gone: whoever ends the program calls this before.
pub async fn settled() {
    let aborts = std::mem::take(&mut *ABORTS.lock().unwrap_or_else(PoisonError::into_inner));
    let _ = tokio::time::timeout(PATIENCE, futures::future::join_all(aborts)).await;
}

/// A store whose uploads are aborted when they are dropped.
pub(super) fn aborted(files: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
    Arc::new(Written { files, writing: Aborted })
}

#[derive(Debug)]
struct Aborted;

#[async_trait]
impl Writing for Aborted {
    async fn upload(
        &self,
        files: &Arc<dyn ObjectStore>,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = files.put_multipart_opts(location, opts).await?;
        Ok(Box::new(Upload { upload: Some(upload) }))
    }
}

/// An upload under way; `None` once it has ended.
#[derive(Debug)]
struct Upload {
    upload: Option<Box<dyn MultipartUpload>>,
}

fn ended() -> object_store::Error {
    object_store::Error::Generic { store: "upload", source: "it has ended already".into() }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        match &mut self.upload {
            Some(upload) => upload.put_part(data),
            None => Box::pin(async { Err(ended()) }),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let done = self.upload.as_mut().ok_or_else(ended)?.complete().await?;
        self.upload = None;
        Ok(done)
    }

    async fn abort(&mut self) -> Result<()> {
        match self.upload.take() {
            Some(mut upload) => upload.abort().await,
            None => Ok(()),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let (Some(mut upload), Ok(handle)) = (self.upload.take(), Handle::try_current()) else { return };
        let abort = handle.spawn(async move {
            if let Err(error) = upload.abort().await {
                tracing::warn!("an upload was not finished, and its parts may stay: {error}");
            }
        });
        ABORTS.lock().unwrap_or_else(PoisonError::into_inner).push(abort);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt;
    use std::sync::atomic::{AtomicUsize, Ordering};

    static ABORTED: AtomicUsize = AtomicUsize::new(0);

    #[derive(Debug)]
    struct Counted;

    #[async_trait]
    impl MultipartUpload for Counted {
        fn put_part(&mut self, _: PutPayload) -> UploadPart {
            Box::pin(async { Ok(()) })
        }

        async fn complete(&mut self) -> Result<PutResult> {
            Ok(PutResult { e_tag: None, version: None })
        }

        async fn abort(&mut self) -> Result<()> {
            ABORTED.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_is_dropped_is_aborted_and_what_is_complete_stays() {
        let mut done = Upload { upload: Some(Box::new(Counted)) };
        done.put_part(PutPayload::from_static(b"x")).await.unwrap();
        done.complete().await.unwrap();
        drop(done);
        settled().await;
        assert_eq!(ABORTED.load(Ordering::SeqCst), 0);
        drop(Upload { upload: Some(Box::new(Counted)) });
        settled().await;
        assert_eq!(ABORTED.load(Ordering::SeqCst), 1);
        // Everything else goes through.
        let files = aborted(Arc::new(object_store::memory::InMemory::new()));
        files.put(&Path::from("a"), PutPayload::from_static(b"1")).await.unwrap();
        assert_eq!(files.get(&Path::from("a")).await.unwrap().bytes().await.unwrap().as_ref(), b"1");
    }
}
