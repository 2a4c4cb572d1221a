//! A file that other programs read is replaced as a whole: they see the old one or the new one, never a part.
//!
//! On disks it is written beside, and renamed. In a bucket it becomes visible when it is complete, on the condition that the
//! file in its place is still the one that was looked at.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{
    Error, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result, UpdateVersion, UploadPart,
};

use super::written::{Writing, Written};
use super::{Store, if_there};

/// What is at a path now.
///
/// # Errors
/// Those of the store, apart from that there is nothing.
pub async fn look(store: &Store, path: &Path) -> Result<Option<ObjectMeta>> {
    if_there(store.files().head(path).await)
}

/// What tells a file from another one in its place.
pub fn stamp(store: &Store, file: &ObjectMeta) -> String {
    let ObjectMeta { size, last_modified, e_tag, .. } = file;
    match e_tag.as_deref().filter(|_| !store.is_local()) {
        // Not all answers of a bucket have the same fractions of a second.
        Some(tag) => format!("{size} {} {tag}", last_modified.timestamp()),
        None => format!("{size} {}", last_modified.timestamp_millis()),
    }
}

/// A writer of the file at a path, in place of what is there now. Nothing is seen of it before it is shut down.
pub fn replacing(store: &Store, path: &Path, now: Option<&ObjectMeta>) -> BufWriter {
    let files = Arc::clone(store.files());
    if store.is_local() {
        // Its store stages every upload in a file beside.
        return BufWriter::new(files, path.clone());
    }
    BufWriter::new(Arc::new(Written { files, writing: Guarded { now: now.cloned() } }), path.clone())
}

/// One file is written, on a condition.
#[derive(Debug)]
struct Guarded {
    /// What is replaced.
    now: Option<ObjectMeta>,
}

#[async_trait]
impl Writing for Guarded {
    async fn put(
        &self,
        files: &Arc<dyn ObjectStore>,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let mode = match &self.now {
            None => PutMode::Create,
            Some(now) => PutMode::Update(UpdateVersion { e_tag: now.e_tag.clone(), version: now.version.clone() }),
        };
        files.put_opts(location, payload, PutOptions { mode, ..opts }).await
    }

    async fn upload(
        &self,
        files: &Arc<dyn ObjectStore>,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = files.put_multipart_opts(location, opts).await?;
        let (files, location, now) = (Arc::clone(files), location.clone(), self.now.clone());
        Ok(Box::new(GuardedUpload { upload, files, location, now }))
    }
}

/// An upload in parts, for which stores have no conditions: what it replaces is looked at again before it ends.
#[derive(Debug)]
struct GuardedUpload {
    upload: Box<dyn MultipartUpload>,
    files: Arc<dyn ObjectStore>,
    location: Path,
    now: Option<ObjectMeta>,
}

#[async_trait]
impl MultipartUpload for GuardedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let there = if_there(self.files.head(&self.location).await)?;
        let is_same = match (&self.now, &there) {
            (None, None) => true,
            (Some(then), Some(now)) => (&then.e_tag, then.size) == (&now.e_tag, now.size),
            _ => false,
        };
        if !is_same {
            let (path, source) = (self.location.to_string(), "another file came in its place".into());
            return Err(Error::Precondition { path, source });
        }
        self.upload.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::stores::tests::store_of;

    async fn write(store: &Store, path: &Path, now: Option<&ObjectMeta>, bytes: &[u8]) -> std::io::Result<()> {
        let mut writer = replacing(store, path, now);
        writer.write_all(bytes).await?;
        writer.shutdown().await
    }

    #[tokio::test]
    async fn only_what_was_looked_at_is_replaced() {
        let files: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let (store, path) = (store_of(Arc::clone(&files)), Path::from("exports/a.csv"));
        // In one request, and in parts.
        for (size, path) in [(10, path), (20 << 20, Path::from("exports/b.csv"))] {
            assert!(look(&store, &path).await.unwrap().is_none());
            write(&store, &path, None, &vec![b'1'; size]).await.unwrap();
            let first = look(&store, &path).await.unwrap().unwrap();
            write(&store, &path, None, &vec![b'2'; size + 1]).await.unwrap_err();
            write(&store, &path, Some(&first), &vec![b'3'; size + 2]).await.unwrap();
            write(&store, &path, Some(&first), &vec![b'4'; size + 3]).await.unwrap_err();
            let now = look(&store, &path).await.unwrap().unwrap();
            assert_eq!(now.size, size as u64 + 2);
            assert_ne!(stamp(&store, &first), stamp(&store, &now));
        }
    }
}
