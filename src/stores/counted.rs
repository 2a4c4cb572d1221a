//! A store that counts the bytes that are written through it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use object_store::path::Path;
use object_store::{
    MultipartUpload, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

use super::written::{Writing, Written};

/// What writes to `files`, and adds to `bytes` what it writes.
pub fn counted(files: Arc<dyn ObjectStore>, bytes: Arc<AtomicU64>) -> Arc<dyn ObjectStore> {
    Arc::new(Written { files, writing: Counted { bytes } })
}

#[derive(Debug)]
struct Counted {
    bytes: Arc<AtomicU64>,
}

#[async_trait]
impl Writing for Counted {
    async fn put(
        &self,
        files: &Arc<dyn ObjectStore>,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let bytes = payload.content_length() as u64;
        let put = files.put_opts(location, payload, opts).await?;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(put)
    }

    async fn upload(
        &self,
        files: &Arc<dyn ObjectStore>,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = files.put_multipart_opts(location, opts).await?;
        Ok(Box::new(Upload { upload, bytes: Arc::clone(&self.bytes) }))
    }
}

#[derive(Debug)]
struct Upload {
    upload: Box<dyn MultipartUpload>,
    bytes: Arc<AtomicU64>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (length, bytes) = (data.content_length() as u64, Arc::clone(&self.bytes));
        let part = self.upload.put_part(data);
        Box::pin(async move {
            part.await?;
            bytes.fetch_add(length, Ordering::Relaxed);
            Ok(())
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.upload.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}
