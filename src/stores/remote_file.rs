//! A file of a bucket for readers that wait: a block at a time, and the next one on its way while one is read.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use bytes::Bytes;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// What one request asks for: large enough that its way there does not count.
const BLOCK: u64 = 8 << 20;

/// The file as it was listed: if another one takes its place meanwhile, reading ends.
pub(super) struct RemoteFile {
    files: Arc<dyn ObjectStore>,
    meta: ObjectMeta,
    /// Where the next byte is read.
    at: u64,
    block: Bytes,
    block_at: u64,
    next: Option<(u64, JoinHandle<object_store::Result<Bytes>>)>,
}

impl RemoteFile {
    pub(super) fn new(files: Arc<dyn ObjectStore>, meta: ObjectMeta) -> Self {
        Self { files, meta, at: 0, block: Bytes::new(), block_at: 0, next: None }
    }

    fn fetch(&self, at: u64) -> impl Future<Output = object_store::Result<Bytes>> + Send + 'static {
        let (files, location) = (Arc::clone(&self.files), self.meta.location.clone());
        let options = GetOptions {
            range: Some(GetRange::Bounded(at..self.meta.size.min(at + BLOCK))),
            if_match: self.meta.e_tag.clone(),
            ..GetOptions::default()
        };
        async move { files.get_opts(&location, options).await?.bytes().await }
    }

    fn load(&mut self) -> io::Result<()> {
        let follows = self.at == self.block_at + self.block.len() as u64;
        let under_way = self.next.take().filter(|(at, _)| *at == self.at);
        let handle = Handle::current();
        let found = match under_way {
            Some((_, task)) => {
                let joined = tokio::task::block_in_place(|| handle.block_on(task));
                joined.map_err(io::Error::other)?
            }
            None => tokio::task::block_in_place(|| handle.block_on(self.fetch(self.at))),
        };
        self.block = found.map_err(|error| match error {
            object_store::Error::Precondition { .. } => io::Error::other("it changed while it was read"),
            other => io::Error::other(other),
        })?;
        self.block_at = self.at;
        let end = self.block_at + self.block.len() as u64;
        if follows && end < self.meta.size {
            self.next = Some((end, handle.spawn(self.fetch(end))));
        }
        Ok(())
    }
}

impl Read for RemoteFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.meta.size || into.is_empty() {
            return Ok(0);
        }
        if !(self.block_at..self.block_at + self.block.len() as u64).contains(&self.at) {
            self.load()?;
        }
        let start = usize::try_from(self.at - self.block_at).map_err(io::Error::other)?;
        let rest = self.block.get(start..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.at += count as u64;
        if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(count) }
    }
}

impl Seek for RemoteFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(from) => self.meta.size.checked_add_signed(from),
            SeekFrom::Current(from) => self.at.checked_add_signed(from),
        };
        self.at = at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "before the start of the file"))?;
        Ok(self.at)
    }
}

impl Drop for RemoteFile {
    fn drop(&mut self) {
        if let Some((_, task)) = self.next.take() {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use object_store::{ObjectStoreExt, PutPayload};

    async fn stored(bytes: Vec<u8>) -> (Arc<dyn ObjectStore>, ObjectMeta) {
        let files: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let path = Path::from("file");
        files.put(&path, PutPayload::from(bytes)).await.unwrap();
        let meta = files.head(&path).await.unwrap();
        (files, meta)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn blocks_make_the_whole_wherever_reading_begins() {
        let bytes: Vec<u8> = (0..2 * BLOCK + 5).map(|at| (at % 251) as u8).collect();
        let (files, meta) = stored(bytes.clone()).await;
        let mut file = RemoteFile::new(files, meta);
        let mut all = Vec::new();
        file.read_to_end(&mut all).unwrap();
        assert!(all == bytes);
        for from in [BLOCK - 3, 0, 2 * BLOCK + 4] {
            file.seek(SeekFrom::Start(from)).unwrap();
            let mut some = [0; 1];
            file.read_exact(&mut some).unwrap();
            assert_eq!(some[0], bytes[usize::try_from(from).unwrap()]);
        }
        assert_eq!(file.seek(SeekFrom::End(0)).unwrap(), bytes.len() as u64);
        assert_eq!(file.read(&mut [0; 8]).unwrap(), 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn another_file_in_its_place_is_not_read() {
        let (files, meta) = stored(vec![1; 10]).await;
        files.put(&meta.location, PutPayload::from(vec![2; 10])).await.unwrap();
        let error = RemoteFile::new(files, meta).read(&mut [0; 4]).unwrap_err();
        assert_eq!(error.to_string(), "it changed while it was read");
    }
}
