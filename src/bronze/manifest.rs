//! The manifest: which files a table has taken in.
//!
//! A chain of batches beside the table, whose head is a `txn` action in the table's own log. A batch
//! counts if it is reachable from the head, so rows and manifest become visible in one commit: a crash
//! before it leaves a batch that nobody points at, a crash after it has lost nothing. Now and then a
//! batch is written as a base that holds the whole chain, so that reading stays short.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use serde::{Deserialize, Serialize};

use super::{BronzeError, BronzeFile, Listing};
use crate::names::TableName;
use crate::project::OnChangedFile;

/// Batches between two bases.
const BASE_EVERY: usize = 32;

/// How many files a message names.
const EXAMPLES: usize = 3;

/// What is remembered of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Bytes.
    pub size: u64,
    /// Microseconds since 1970 (UTC).
    pub modified: i64,
}

/// The files that one table has taken in from one source.
#[derive(Debug, Clone, Default)]
pub struct Manifest {
    head: Option<i64>,
    files: BTreeMap<String, Stamp>,
    folder: Option<String>,
    batches_since_base: usize,
}

/// One batch file.
#[derive(Debug, Serialize, Deserialize)]
struct Batch {
    id: i64,
    previous: Option<i64>,
    /// The batch holds the whole chain: what is before it need not be read.
    base: bool,
    /// The folder that the paths are relative to.
    folder: String,
    files: BTreeMap<String, Stamp>,
}

/// What an incremental run will read.
#[derive(Debug, Default)]
pub struct Pending {
    /// Files to read, sorted by path.
    pub files: Vec<BronzeFile>,
    /// Files of the listing that were taken in already.
    pub known: usize,
}

/// The `appId` of the `txn` action that holds the head.
pub fn app_id(table: &TableName, source: &TableName) -> String {
    format!("lake:{table}:{source}")
}

fn batch_path(source: &TableName, id: i64) -> Path {
    Path::from_iter(["_lake", "manifest", &source.to_string(), &format!("{id:019}.json")])
}

impl Manifest {
    /// Follows the chain from `head`.
    ///
    /// # Errors
    /// When a batch that counts is missing or damaged.
    pub async fn read(
        files: &Arc<dyn ObjectStore>,
        table: &TableName,
        source: &TableName,
        head: Option<i64>,
    ) -> Result<Self, BronzeError> {
        let mut manifest = Self { head, ..Self::default() };
        let mut next = head;
        while let Some(id) = next {
            let path = batch_path(source, id);
            let bad = |why: String| BronzeError::Manifest { table: table.clone(), path: path.to_string(), why };
            let found = files.get(&path).await.map_err(|error| bad(error.to_string()))?;
            let bytes = found.bytes().await.map_err(|error| bad(error.to_string()))?;
            let batch: Batch = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
            manifest.folder.get_or_insert(batch.folder);
            for (path, stamp) in batch.files {
                // Newer batches come first and win.
                manifest.files.entry(path).or_insert(stamp);
            }
            if batch.base {
                break;
            }
            manifest.batches_since_base += 1;
            next = batch.previous;
        }
        Ok(manifest)
    }

    /// Files of the listing that are not taken in yet.
    ///
    /// # Errors
    /// [`BronzeError::Changed`] if the source asks to refuse files that changed.
    pub fn pending(
        &self,
        listing: &Listing,
        source: &TableName,
        on_changed: OnChangedFile,
    ) -> Result<Pending, BronzeError> {
        let mut pending = Pending::default();
        let mut changed = Vec::new();
        for file in &listing.files {
            let stamp = Stamp { size: file.meta.size, modified: file.modified() };
            match self.files.get(&file.path) {
                None => pending.files.push(file.clone()),
                Some(known) if *known == stamp => pending.known += 1,
                Some(_) => match on_changed {
                    OnChangedFile::Fail => changed.push(file.path.clone()),
                    OnChangedFile::Ignore => pending.known += 1,
                    OnChangedFile::Append => pending.files.push(file.clone()),
                },
            }
        }
        if changed.is_empty() {
            return Ok(pending);
        }
        let count = changed.len();
        changed.truncate(EXAMPLES);
        Err(BronzeError::Changed { source_name: source.clone(), count, examples: changed })
    }

    /// Writes the batch that a publish will make the head, and returns its id: unique and increasing.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn write(
        &self,
        store: &Arc<dyn ObjectStore>,
        table: &TableName,
        source: &TableName,
        taken: &[BronzeFile],
        folder: &str,
        now: chrono::DateTime<chrono::Utc>,
    ) -> Result<i64, BronzeError> {
        let new =
            taken.iter().map(|file| (file.path.clone(), Stamp { size: file.meta.size, modified: file.modified() }));
        let base = self.head.is_none() || self.batches_since_base + 1 >= BASE_EVERY;
        let files = if base {
            self.files.iter().map(|(path, stamp)| (path.clone(), *stamp)).chain(new).collect()
        } else {
            new.collect()
        };
        let first = now.timestamp_micros().max(self.head.map_or(0, |head| head + 1));
        let mut batch =
            Batch { id: first, previous: self.head.filter(|_| !base), base, folder: folder.to_owned(), files };
        loop {
            let path = batch_path(source, batch.id);
            let bad = |why: String| BronzeError::Manifest { table: table.clone(), path: path.to_string(), why };
            let bytes = serde_json::to_vec(&batch).map_err(|error| bad(error.to_string()))?;
            match store.put_opts(&path, PutPayload::from(bytes), PutMode::Create.into()).await {
                Ok(_) => return Ok(batch.id),
                // A crashed run's, or that of a run at the same moment: it is not ours to overwrite.
                Err(object_store::Error::AlreadyExists { .. }) => batch.id += 1,
                Err(error) => return Err(bad(error.to_string())),
            }
        }
    }

    /// The manifest of a full refresh: nothing is taken in, and the next batch still gets a greater id.
    pub fn restarted(&self) -> Self {
        Self { head: self.head, batches_since_base: BASE_EVERY, ..Self::default() }
    }

    /// The folder that files were taken in from, as [`Listing::base`] has it.
    pub fn base(&self) -> Option<&str> {
        self.folder.as_deref()
    }

    /// Whether any batch was ever published.
    pub fn has_head(&self) -> bool {
        self.head.is_some()
    }

    /// How many files are taken in.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether no file is taken in.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    fn file(path: &str, size: u64) -> BronzeFile {
        let meta = object_store::ObjectMeta {
            location: path.into(),
            last_modified: chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
            size,
            e_tag: None,
            version: None,
        };
        BronzeFile { path: path.to_owned(), meta }
    }

    #[tokio::test]
    async fn a_chain_of_batches_remembers_every_file_across_bases() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let (table, source) = (TableName::new("silver", "views"), TableName::new("bronze", "views"));
        let now = chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let mut head = None;
        for day in 0..2 * BASE_EVERY + 3 {
            let manifest = Manifest::read(&store, &table, &source, head).await.unwrap();
            assert_eq!(manifest.len(), day);
            assert!(manifest.batches_since_base <= BASE_EVERY);
            // The clock stands still: ids still increase.
            let id =
                manifest.write(&store, &table, &source, &[file(&format!("{day}.csv"), 1)], "in", now).await.unwrap();
            assert!(Some(id) > head);
            head = Some(id);
        }
    }

    #[tokio::test]
    async fn a_batch_that_nobody_published_is_not_overwritten() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let (table, source) = (TableName::new("silver", "views"), TableName::new("bronze", "views"));
        let now = chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let manifest = Manifest::default();
        let lost = manifest.write(&store, &table, &source, &[file("a.csv", 1)], "in", now).await.unwrap();
        let id = manifest.write(&store, &table, &source, &[file("b.csv", 1)], "in", now).await.unwrap();
        assert!(id > lost);
        let read = Manifest::read(&store, &table, &source, Some(id)).await.unwrap();
        assert_eq!(read.files.keys().collect::<Vec<_>>(), ["b.csv"]);
    }

    #[test]
    fn pending_is_the_listing_minus_the_manifest() {
        let source = TableName::new("bronze", "views");
        let known = file("a.csv", 1);
        let stamp = Stamp { size: 1, modified: known.modified() };
        let manifest = Manifest { files: BTreeMap::from([("a.csv".to_owned(), stamp)]), ..Manifest::default() };
        let listing = Listing { files: vec![known, file("b.csv", 2)], base: "in".into() };
        let pending = manifest.pending(&listing, &source, OnChangedFile::Fail).unwrap();
        assert_eq!((pending.files.len(), pending.known), (1, 1));

        let changed = Listing { files: vec![file("a.csv", 7)], base: "in".into() };
        let error = manifest.pending(&changed, &source, OnChangedFile::Fail).unwrap_err();
        assert!(error.to_string().contains("1 file was taken in before and changed since: a.csv"), "{error}");
        assert_eq!(manifest.pending(&changed, &source, OnChangedFile::Append).unwrap().files.len(), 1);
        assert_eq!(manifest.pending(&changed, &source, OnChangedFile::Ignore).unwrap().files.len(), 0);
    }
}
