//! Uploads in parts that are not finished are taken back: a store keeps their parts, and asks money for them, for ever.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

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
#[derive(Debug)]
pub(super) struct Aborted(Arc<dyn ObjectStore>);

impl Aborted {
    pub(super) fn new(files: Arc<dyn ObjectStore>) -> Self {
        Self(files)
    }
}

impl fmt::Display for Aborted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Aborted {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.0.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.0.put_multipart_opts(location, opts).await?;
        Ok(Box::new(Upload { upload: Some(upload) }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.0.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.0.rename_opts(from, to, options).await
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
        let files = Aborted::new(Arc::new(object_store::memory::InMemory::new()));
        files.put(&Path::from("a"), PutPayload::from_static(b"1")).await.unwrap();
        assert_eq!(files.get(&Path::from("a")).await.unwrap().bytes().await.unwrap().as_ref(), b"1");
    }
}
