//! The manifest: which files a table has taken in.
//!
//! A chain of batches beside the table, whose head is a `txn` action in the table's own log. A batch
//! counts if it is reachable from the head, so rows and manifest become visible in one commit: a crash
//! before it leaves a batch that nobody points at, a crash after it has lost nothing. Now and then a
//! batch is written as a base that holds the whole chain, so that reading stays short.
//!
//! A batch is text: a header, then a file a line. Lines are read one by one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectStore, PutMode, PutPayload};
use serde::{Deserialize, Serialize};

use super::{BronzeError, BronzeFile};
use crate::fail_points;
use crate::names::TableName;
use crate::stores;

/// The shape of a batch. One of a later shape is not read: it may say more than this program knows of.
const FORMAT: u64 = 1;

/// What to do where a batch is lost.
const TAKE_ALL: &str = "which files were taken in is not known any more, and --full-refresh takes all of them in anew";

/// Batches between two bases.
const BASE_EVERY: usize = 32;

/// What is remembered of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Entry {
    /// Bytes.
    pub size: u64,
    /// Microseconds since 1970 (UTC).
    pub modified: i64,
    /// The batch that took it in: microseconds since 1970 at which it was written, or a little more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<i64>,
    /// A hash of its bytes, where that is its identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// The table's data files that hold its rows and no others; `None` if its rows are mixed with others'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Vec<String>>,
    /// Why it could not be read: nothing was taken in of it as it is. Its data are those of its old self.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad: Option<String>,
}

impl Entry {
    /// What a file is when it is taken in.
    pub fn of(file: &BronzeFile) -> Self {
        Self { size: file.meta.size, modified: file.modified(), ..Self::default() }
    }

    /// Whether the file is as it was taken in.
    pub fn is(&self, file: &BronzeFile) -> bool {
        self.size == file.meta.size && self.modified == file.modified()
    }
}

/// What a batch says of files: taken in so, or no longer known.
pub type Change = BTreeMap<String, Option<Entry>>;

/// The files that one table has taken in from one source.
#[derive(Debug, Clone, Default)]
pub struct Manifest {
    head: Option<i64>,
    files: BTreeMap<String, Entry>,
    folder: Option<String>,
    batches_since_base: usize,
}

/// The first line of a batch.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    id: i64,
    #[serde(default, skip_serializing_if = "is_first")]
    format: u64,
    previous: Option<i64>,
    /// The batch holds the whole chain: what is before it need not be read.
    base: bool,
    /// The folder that the paths are relative to.
    folder: String,
    /// Lines that follow: fewer, and the batch is damaged.
    #[serde(default)]
    lines: usize,
    /// Where files stood before they had a line each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    files: BTreeMap<String, Entry>,
}

fn is_first(format: &u64) -> bool {
    *format <= FORMAT
}

/// Any other line.
#[derive(Debug, Serialize, Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    path: Cow<'a, str>,
    /// No longer known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    gone: bool,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    modified: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    batch: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<Cow<'a, [String]>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bad: Option<Cow<'a, str>>,
}

impl<'a> Line<'a> {
    /// In the batch `id`.
    fn of(path: &'a str, entry: Option<&'a Entry>, id: i64) -> Self {
        let (size, modified) = entry.map_or((0, 0), |entry| (entry.size, entry.modified));
        Self {
            path: path.into(),
            gone: entry.is_none(),
            size,
            modified,
            batch: entry.and_then(|entry| entry.batch).filter(|batch| *batch != id),
            hash: entry.and_then(|entry| entry.hash.as_deref()).map(Cow::from),
            data: entry.and_then(|entry| entry.data.as_deref()).map(Cow::from),
            bad: entry.and_then(|entry| entry.bad.as_deref()).map(Cow::from),
        }
    }

    fn entry(self) -> Option<Entry> {
        let (hash, data) = (self.hash.map(Cow::into_owned), self.data.map(Cow::into_owned));
        let bad = self.bad.map(Cow::into_owned);
        (!self.gone).then_some(Entry { size: self.size, modified: self.modified, batch: self.batch, hash, data, bad })
    }
}

/// The `appId` of the `txn` action that holds the head.
pub fn app_id(table: &TableName, source: &TableName) -> String {
    format!("lake:{table}:{source}")
}

fn batch_path(source: &TableName, id: i64) -> Path {
    Path::from_iter(["_lake", "manifest", &source.to_string(), &format!("{id:019}.json")])
}

/// The batch that one goes on from; `None` if it holds the whole chain.
///
/// # Errors
/// When it is damaged.
pub(super) fn previous(batch: &[u8]) -> Result<Option<i64>, serde_json::Error> {
    let line = batch.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let header: Header = serde_json::from_slice(line)?;
    Ok(header.previous.filter(|_| !header.base))
}

impl Manifest {
    /// Follows the chain from `head`.
    ///
    /// # Errors
    /// When a batch that counts is missing or damaged.
    pub async fn read(
        store: &Arc<dyn ObjectStore>,
        table: &TableName,
        source: &TableName,
        head: Option<i64>,
    ) -> Result<Self, BronzeError> {
        let mut manifest = Self { head, ..Self::default() };
        // Newer batches come first and win; what they no longer know stays unknown.
        let mut known: Change = Change::new();
        let mut next = head;
        while let Some(id) = next {
            let path = batch_path(source, id);
            let bad = |why: String| BronzeError::Manifest { table: table.clone(), path: path.to_string(), why };
            let refused = |source| BronzeError::ManifestStore { table: table.clone(), path: path.to_string(), source };
            let found = stores::read_if_there(store, &path).await.map_err(refused)?;
            let bytes = found.ok_or_else(|| bad(format!("it is gone; {TAKE_ALL}")))?;
            let header = parse(&bytes, &mut known).map_err(|why| bad(format!("{why}; {TAKE_ALL}")))?;
            if header.format > FORMAT {
                return Err(bad("a newer `lake` wrote it: update this one".to_owned()));
            }
            manifest.folder.get_or_insert(header.folder);
            if header.base {
                break;
            }
            manifest.batches_since_base += 1;
            next = header.previous;
        }
        manifest.files = known.into_iter().filter_map(|(path, entry)| Some((path, entry?))).collect();
        Ok(manifest)
    }

    /// The id of a batch on top of this one. Ids increase; that nobody else has it is known when it is written.
    pub fn next_id(&self, now: chrono::DateTime<chrono::Utc>) -> i64 {
        now.timestamp_micros().max(self.head.map_or(0, |head| head + 1))
    }

    /// Writes the batch `id` that a publish will make the head.
    ///
    /// # Errors
    /// [`BronzeError::BatchExists`] if there is one: a crashed run's, or that of a run at the same moment. It is not ours
    /// to overwrite, and rows may hold the id already, so the batch starts again with a new one.
    pub async fn write(
        &self,
        store: &Arc<dyn ObjectStore>,
        table: &TableName,
        source: &TableName,
        id: i64,
        change: &Change,
        folder: &str,
    ) -> Result<(), BronzeError> {
        let path = batch_path(source, id);
        let bad = |why: String| BronzeError::Manifest { table: table.clone(), path: path.to_string(), why };
        let text = self.text(id, change, folder).map_err(|error| bad(error.to_string()))?;
        match store.put_opts(&path, PutPayload::from(text), PutMode::Create.into()).await {
            Ok(_) => {}
            Err(object_store::Error::AlreadyExists { .. }) => {
                return Err(BronzeError::BatchExists { table: table.clone(), id });
            }
            Err(source) => {
                return Err(BronzeError::ManifestStore { table: table.clone(), path: path.to_string(), source });
            }
        }
        fail_points::reached("manifest-written");
        Ok(())
    }

    /// The manifest after the batch `id` was published, without reading it again.
    pub fn published(mut self, id: i64, change: Change, folder: &str) -> Self {
        self.batches_since_base = if self.writes_base() { 0 } else { self.batches_since_base + 1 };
        self.head = Some(id);
        self.folder = Some(folder.to_owned());
        for (path, entry) in change {
            match entry {
                Some(entry) => {
                    self.files.insert(path, Entry { batch: entry.batch.or(Some(id)), ..entry });
                }
                None => {
                    self.files.remove(&path);
                }
            }
        }
        self
    }

    fn writes_base(&self) -> bool {
        self.head.is_none() || self.batches_since_base + 1 >= BASE_EVERY
    }

    fn text(&self, id: i64, change: &Change, folder: &str) -> std::io::Result<Vec<u8>> {
        let base = self.writes_base();
        let known = self.files.iter().filter(|(path, _)| base && !change.contains_key(*path));
        let known = known.map(|(path, entry)| (path, Some(entry)));
        // A base has nothing before it that could be forgotten.
        let new = change.iter().map(|(path, entry)| (path, entry.as_ref())).filter(|(_, e)| !base || e.is_some());
        let lines: Vec<(&String, Option<&Entry>)> = known.chain(new).collect();
        let header = Header {
            format: FORMAT,
            id,
            previous: self.head.filter(|_| !base),
            base,
            folder: folder.to_owned(),
            lines: lines.len(),
            files: BTreeMap::new(),
        };
        let mut text = Vec::with_capacity(128 * (lines.len() + 1));
        serde_json::to_writer(&mut text, &header)?;
        text.write_all(b"\n")?;
        for (path, entry) in lines {
            serde_json::to_writer(&mut text, &Line::of(path, entry, id))?;
            text.write_all(b"\n")?;
        }
        Ok(text)
    }

    /// A manifest of which no more than the head is known.
    pub fn lost(head: Option<i64>) -> Self {
        Self { head, ..Self::default() }
    }

    /// The manifest of a full refresh: nothing is taken in, and the next batch still gets a greater id.
    pub fn restarted(&self) -> Self {
        Self { head: self.head, batches_since_base: BASE_EVERY, ..Self::default() }
    }

    /// The head of the chain; `None` if no batch was ever published.
    pub fn head(&self) -> Option<i64> {
        self.head
    }

    /// The files that are taken in, by path.
    pub fn files(&self) -> &BTreeMap<String, Entry> {
        &self.files
    }

    /// Where an incremental listing begins: `lookback` names before the greatest one. `None` if there are not so many.
    pub fn greatest(&self, lookback: u64) -> Option<&str> {
        let lookback = usize::try_from(lookback).unwrap_or(usize::MAX);
        self.files.keys().rev().nth(lookback).map(String::as_str)
    }

    /// The folder that files were taken in from, as [`Listing::base`](super::Listing::base) has it.
    pub fn base(&self) -> Option<&str> {
        self.folder.as_deref()
    }
}

/// Reads a batch into what newer ones have not said already.
fn parse(bytes: &[u8], known: &mut Change) -> Result<Header, String> {
    let mut lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let header: Header =
        serde_json::from_slice(lines.next().unwrap_or_default()).map_err(|error| format!("its header: {error}"))?;
    let mut add = |path: String, entry: Option<Entry>| {
        known
            .entry(path)
            .or_insert_with(|| entry.map(|entry| Entry { batch: entry.batch.or(Some(header.id)), ..entry }));
    };
    let mut count = 0;
    for line in lines {
        let line: Line<'_> = serde_json::from_slice(line).map_err(|error| format!("line {}: {error}", count + 2))?;
        add(line.path.clone().into_owned(), line.entry());
        count += 1;
    }
    header.files.iter().for_each(|(path, entry)| add(path.clone(), Some(entry.clone())));
    if count != header.lines {
        return Err(format!("it has {count} of {} lines", header.lines));
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    struct Chain {
        store: Arc<dyn ObjectStore>,
        head: Option<i64>,
    }

    impl Chain {
        fn new() -> Self {
            Self { store: Arc::new(InMemory::new()), head: None }
        }

        async fn read(&self) -> Manifest {
            let (table, source) = names();
            Manifest::read(&self.store, &table, &source, self.head).await.unwrap()
        }

        async fn write(&self, manifest: &Manifest, change: &Change) -> i64 {
            // The clock stands still: ids still increase.
            let id = manifest.next_id(chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap());
            self.write_as(id, manifest, change).await.unwrap();
            id
        }

        async fn write_as(&self, id: i64, manifest: &Manifest, change: &Change) -> Result<(), BronzeError> {
            let (table, source) = names();
            manifest.write(&self.store, &table, &source, id, change, "in").await
        }
    }

    fn names() -> (TableName, TableName) {
        (TableName::new("silver", "views"), TableName::new("bronze", "views"))
    }

    fn taken(path: &str) -> Change {
        let data = Some(vec![format!("{path}.parquet")]);
        Change::from([(path.to_owned(), Some(Entry { size: 1, modified: 2, data, ..Entry::default() }))])
    }

    #[tokio::test]
    async fn a_chain_of_batches_remembers_every_file_across_bases() {
        let mut chain = Chain::new();
        for day in 0..2 * BASE_EVERY + 3 {
            let manifest = chain.read().await;
            assert_eq!(manifest.files.len(), day);
            assert!(manifest.batches_since_base <= BASE_EVERY);
            let change = taken(&format!("{day}.csv"));
            let id = chain.write(&manifest, &change).await;
            assert!(Some(id) > chain.head);
            chain.head = Some(id);
            let (kept, read) = (manifest.published(id, change, "in"), chain.read().await);
            assert_eq!((&kept.files, kept.head, kept.base()), (&read.files, read.head, read.base()));
            assert_eq!(kept.batches_since_base, read.batches_since_base);
        }
    }

    #[tokio::test]
    async fn a_forgotten_file_stays_forgotten_across_bases_until_it_is_taken_in_again() {
        let mut chain = Chain::new();
        chain.head = Some(chain.write(&Manifest::default(), &taken("a.csv")).await);
        let manifest = chain.read().await;
        chain.head = Some(chain.write(&manifest, &Change::from([("a.csv".to_owned(), None)])).await);
        for day in 0..BASE_EVERY {
            let manifest = chain.read().await;
            assert!(!manifest.files.contains_key("a.csv"), "{day}");
            chain.head = Some(chain.write(&manifest, &taken(&format!("{day}.csv"))).await);
        }
        let manifest = chain.read().await;
        chain.head = Some(chain.write(&manifest, &taken("a.csv")).await);
        assert_eq!(chain.read().await.files["a.csv"].batch, chain.head);
    }

    #[tokio::test]
    async fn a_batch_that_nobody_published_is_not_overwritten() {
        let mut chain = Chain::new();
        let lost = chain.write(&Manifest::default(), &taken("a.csv")).await;
        let again = chain.write_as(lost, &Manifest::default(), &taken("b.csv")).await;
        assert!(matches!(again, Err(BronzeError::BatchExists { id, .. }) if id == lost));
        chain.write_as(lost + 1, &Manifest::default(), &taken("b.csv")).await.unwrap();
        chain.head = Some(lost + 1);
        assert_eq!(chain.read().await.files.keys().collect::<Vec<_>>(), ["b.csv"]);
    }

    #[test]
    fn a_batch_of_an_earlier_form_is_read_and_a_damaged_one_is_refused() {
        let earlier =
            br#"{"id":7,"previous":null,"base":true,"folder":"in","files":{"a.csv":{"size":1,"modified":2}}}"#;
        let mut known = Change::new();
        parse(earlier, &mut known).unwrap();
        assert_eq!(known["a.csv"].as_ref().unwrap().batch, Some(7));

        let text = Manifest::default().text(9, &taken("a.csv"), "in").unwrap();
        let cut = text.len() - 2;
        assert!(parse(&text[..cut], &mut Change::new()).is_err());
        let header = text.split(|byte| *byte == b'\n').next().unwrap();
        assert_eq!(parse(header, &mut Change::new()).unwrap_err(), "it has 0 of 1 lines");
    }
}
