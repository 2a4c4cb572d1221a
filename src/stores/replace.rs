//! A file that other programs read is replaced as a whole: they see the old one or the new one, never a part.
//!
//! On disks it is written beside, and renamed. In a bucket it becomes visible when it is complete, on the condition that the
//! file in its place is still the one that was looked at.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UpdateVersion, UploadPart,
};

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
    BufWriter::new(Arc::new(Guarded { files, now: now.cloned() }), path.clone())
}

/// A store of one file, which is put on a condition.
#[derive(Debug)]
struct Guarded {
    files: Arc<dyn ObjectStore>,
    /// What is replaced.
    now: Option<ObjectMeta>,
}

impl fmt::Display for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Guarded {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let mode = match &self.now {
            None => PutMode::Create,
            Some(now) => PutMode::Update(UpdateVersion { e_tag: now.e_tag.clone(), version: now.version.clone() }),
        };
        self.files.put_opts(location, payload, PutOptions { mode, ..opts }).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.files.put_multipart_opts(location, opts).await?;
        let (files, location, now) = (Arc::clone(&self.files), location.clone(), self.now.clone());
        Ok(Box::new(GuardedUpload { upload, files, location, now }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.files.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.files.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.files.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.files.rename_opts(from, to, options).await
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
