//! The listing minus the manifest: what a run has to read, what it has to take away, and what only changed its name.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::manifest::{Change, Entry, Manifest};
use super::{BronzeError, BronzeFile, Listing, Slice};
use crate::names::TableName;
use crate::project::{Identity, Ingestion, OnChangedFile, OnRemovedFile};

/// How many files a message names.
const EXAMPLES: usize = 3;

/// Data files that hold the rows of one source file and no others; `None` if its rows are mixed with others'.
pub type Rows = Option<Vec<String>>;

/// Why a file is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It was never taken in, or its rows are added beside those of its old self.
    New,
    /// It changed: its rows take the place of these.
    Changed(Rows),
    /// It was asked for again: its rows take the place of these.
    Again(Rows),
    /// Some of its rows were quarantined, and are read once more.
    Replayed(Entry),
}

/// A file to read.
#[derive(Debug, Clone)]
pub struct Read {
    /// The file.
    pub file: BronzeFile,
    /// Why.
    pub why: Why,
    /// The hash of its bytes, where that is its identity.
    pub hash: Option<String>,
    /// It could not be read before.
    pub retried: bool,
}

/// What an incremental run has to do.
#[derive(Debug, Default)]
pub struct Pending {
    /// Files to read, sorted by path.
    pub reads: Vec<Read>,
    /// Files that are gone, whose rows go too.
    pub removed: Vec<(String, Rows)>,
    /// Rows of contents that another known content was renamed over.
    pub superseded: Vec<Rows>,
    /// Files that are known by their content under another name or time.
    pub relabelled: Change,
    /// Files of the listing that were taken in already.
    pub known: usize,
    /// Files that were taken in and are gone, whose rows stay.
    pub gone: usize,
    /// Files that cannot be read, and why: they are known so, and read again when they change.
    pub bad: Vec<(Read, String)>,
    /// Files whose quarantined rows are not read again, when others are.
    pub kept: BTreeSet<String>,
    /// There is more to do when this is done.
    pub more: bool,
}

/// What decides about files that are known.
pub struct Rules<'a> {
    /// The source.
    pub source: &'a TableName,
    /// What it says.
    pub ingestion: &'a Ingestion,
    /// Only these files, whether they are known or not.
    pub slice: Option<&'a Slice>,
    /// Hashes of the files that are not as they were, where content is identity.
    pub hashes: &'a BTreeMap<String, String>,
    /// Files that were read again already.
    pub redone: &'a BTreeSet<String>,
}

impl Manifest {
    /// Files of the listing that are not known exactly so: their hashes are needed where content is identity.
    pub fn unfamiliar<'a>(&'a self, listing: &'a Listing) -> impl Iterator<Item = &'a BronzeFile> {
        listing.files.iter().filter(|file| {
            let known = self.files().get(&file.path);
            !known.is_some_and(|entry| entry.is(file) && entry.hash.is_some())
        })
    }

    /// What is to be done about the files of a listing.
    ///
    /// # Errors
    /// [`BronzeError::Changed`] or [`BronzeError::Gone`] if the source asks to refuse such files.
    pub fn pending(&self, listing: &Listing, rules: &Rules<'_>) -> Result<Pending, BronzeError> {
        let mut pending = Pending::default();
        let known = match rules.ingestion.identity {
            Identity::Path => Cow::Borrowed(self.files()),
            Identity::Content => Cow::Owned(self.by_content(listing, rules, &mut pending)?),
        };
        let mut changed = Vec::new();
        let mut contents = BTreeSet::new();
        for file in &listing.files {
            let why = match known.get(&file.path) {
                None => Why::New,
                Some(entry) if entry.is(file) && !again(file, listing, rules) => {
                    pending.known += 1;
                    continue;
                }
                Some(entry) if entry.is(file) => Why::Again(entry.data.clone()),
                // Nothing of it was ever taken in.
                Some(Entry { bad: Some(_), data: Some(data), .. }) if data.is_empty() => Why::New,
                Some(entry) => match rules.ingestion.on_changed_file {
                    OnChangedFile::Fail => {
                        changed.push(file.path.clone());
                        continue;
                    }
                    OnChangedFile::Ignore => {
                        pending.known += 1;
                        continue;
                    }
                    OnChangedFile::Append => Why::New,
                    OnChangedFile::Replace => Why::Changed(entry.data.clone()),
                },
            };
            if rules.slice.is_some_and(|slice| !slice.contains(&listing.base, file)) {
                continue;
            }
            // The second of two files with one new content is a copy of the first, as soon as that is taken in.
            if rules.hashes.get(&file.path).is_some_and(|hash| !contents.insert(hash)) {
                pending.more = true;
                continue;
            }
            let kept = known.get(&file.path).filter(|entry| entry.is(file)).and_then(|entry| entry.hash.as_ref());
            let hash = rules.hashes.get(&file.path).or(kept).cloned();
            let retried = known.get(&file.path).is_some_and(|entry| entry.bad.is_some());
            pending.reads.push(Read { file: file.clone(), why, hash, retried });
        }
        refuse(changed, |count, examples| BronzeError::Changed { source_name: rules.source.clone(), count, examples })?;
        self.add_removed(&known, listing, rules, &mut pending)?;
        Ok(pending)
    }

    fn add_removed(
        &self,
        known: &BTreeMap<String, Entry>,
        listing: &Listing,
        rules: &Rules<'_>,
        pending: &mut Pending,
    ) -> Result<(), BronzeError> {
        let looked_for = |path: &str| listing.after.as_deref().is_none_or(|after| path > after);
        let gone = known.iter().filter(|(path, _)| looked_for(path) && listing.get(path).is_none());
        match rules.ingestion.on_removed_file {
            OnRemovedFile::Keep => pending.gone = gone.count(),
            OnRemovedFile::DeleteRows if rules.slice.is_some() => {}
            OnRemovedFile::DeleteRows => {
                pending.removed = gone.map(|(path, entry)| (path.clone(), entry.data.clone())).collect();
            }
            OnRemovedFile::Fail => refuse(gone.map(|(path, _)| path.clone()).collect(), |count, examples| {
                BronzeError::Gone { source_name: rules.source.clone(), count, examples }
            })?,
        }
        Ok(())
    }

    /// The manifest as if every known content had always had the name that it has now.
    fn by_content(
        &self,
        listing: &Listing,
        rules: &Rules<'_>,
        pending: &mut Pending,
    ) -> Result<BTreeMap<String, Entry>, BronzeError> {
        let mut now: BTreeMap<&str, Vec<&BronzeFile>> = BTreeMap::new();
        for file in &listing.files {
            let known = || self.files().get(&file.path).and_then(|entry| entry.hash.as_ref());
            if let Some(hash) = rules.hashes.get(&file.path).or_else(known) {
                now.entry(hash).or_default().push(file);
            }
        }
        // Of the entries with one content, one holds the rows.
        let mut before: BTreeMap<&str, Vec<(&String, &Entry)>> = BTreeMap::new();
        for (path, entry) in self.files() {
            if let Some(hash) = &entry.hash {
                before.entry(hash).or_default().push((path, entry));
            }
        }
        let mut known = self.files().clone();
        let mut placed: BTreeMap<String, Entry> = BTreeMap::new();
        for (hash, files) in &now {
            let Some(entries) = before.get(hash) else { continue };
            let holder = entries.iter().find(|(_, entry)| entry.data.as_ref().is_none_or(|data| !data.is_empty()));
            let (holder, entry) = *holder.unwrap_or(&entries[0]);
            let first = files.iter().find(|file| file.path == *holder).unwrap_or(&files[0]);
            for file in files {
                let holds = file.path == first.path;
                let data = if holds { entry.data.clone() } else { entry.data.as_ref().map(|_| Vec::new()) };
                let own = entries.iter().find(|(path, _)| **path == file.path);
                let batch = own.map_or(entry.batch, |(_, own)| own.batch);
                placed.insert(file.path.clone(), Entry { data, hash: entry.hash.clone(), batch, ..Entry::of(file) });
            }
            for (path, _) in entries {
                known.remove(*path);
            }
        }
        let mut overwritten = Vec::new();
        for (path, entry) in placed {
            if let Some(old) = known.insert(path.clone(), entry) {
                overwritten.push((path, old));
            }
        }
        match rules.ingestion.on_changed_file {
            OnChangedFile::Replace => pending.superseded = overwritten.into_iter().map(|(_, old)| old.data).collect(),
            OnChangedFile::Append | OnChangedFile::Ignore => {}
            OnChangedFile::Fail => {
                refuse(overwritten.into_iter().map(|(path, _)| path).collect(), |count, examples| {
                    BronzeError::Changed { source_name: rules.source.clone(), count, examples }
                })?
            }
        }
        for (path, entry) in &known {
            if self.files().get(path) != Some(entry) {
                pending.relabelled.insert(path.clone(), Some(entry.clone()));
            }
        }
        for (path, old) in self.files().iter().filter(|(path, _)| !known.contains_key(*path)) {
            // A file that moved away and left its name to a new content is known under the new name only.
            pending.relabelled.insert(path.clone(), None);
            tracing::debug!("`{path}` ({} bytes) has another name now", old.size);
        }
        Ok(known)
    }
}

fn again(file: &BronzeFile, listing: &Listing, rules: &Rules<'_>) -> bool {
    !rules.redone.contains(&file.path) && rules.slice.is_some_and(|slice| slice.contains(&listing.base, file))
}

fn refuse(mut files: Vec<String>, error: impl FnOnce(usize, Vec<String>) -> BronzeError) -> Result<(), BronzeError> {
    if files.is_empty() {
        return Ok(());
    }
    let count = files.len();
    files.truncate(EXAMPLES);
    Err(error(count, files))
}

impl Pending {
    /// Leaves the first files of a backlog, as many as a batch of the source may have, and returns the others.
    pub fn cut(&mut self, ingestion: &Ingestion) -> VecDeque<Read> {
        let mut rest = VecDeque::from(std::mem::take(&mut self.reads));
        self.reads = next_batch(&mut rest, ingestion);
        self.more |= !rest.is_empty();
        rest
    }

    /// The next batch of a backlog.
    pub fn next(rest: &mut VecDeque<Read>, ingestion: &Ingestion) -> Self {
        let reads = next_batch(rest, ingestion);
        Self { reads, more: !rest.is_empty(), ..Self::default() }
    }

    /// Does not read a file that cannot be read; `false` if it is none of the batch.
    pub fn set_aside(&mut self, path: &str, why: &str) -> bool {
        let Some(at) = self.reads.iter().position(|read| read.file.path == path) else { return false };
        self.bad.push((self.reads.remove(at), why.to_owned()));
        true
    }

    /// Files of which nothing counts any more that was known before.
    pub fn superseded_files(&self) -> impl Iterator<Item = &str> {
        let reads =
            self.reads.iter().filter(|read| read.retried || matches!(read.why, Why::Changed(_) | Why::Again(_)));
        let removed = self.removed.iter().map(|(path, _)| path.as_str());
        reads.map(|read| read.file.path.as_str()).chain(removed)
    }

    /// Files to read, apart from why.
    pub fn files(&self) -> Vec<BronzeFile> {
        self.reads.iter().map(|read| read.file.clone()).collect()
    }

    /// Rows that the batch takes out of the table, for each file that they came from.
    pub fn outgoing(&self) -> impl Iterator<Item = &Rows> {
        let reads = self.reads.iter().filter_map(|read| match &read.why {
            Why::New | Why::Replayed(_) => None,
            Why::Changed(rows) | Why::Again(rows) => Some(rows),
        });
        reads.chain(self.removed.iter().map(|(_, rows)| rows)).chain(&self.superseded)
    }

    /// Whether files changed or are gone, so that their old rows have to go.
    pub fn takes_back(&self) -> bool {
        let changed = self.reads.iter().any(|read| matches!(read.why, Why::Changed(_)));
        changed || !self.removed.is_empty() || !self.superseded.is_empty()
    }

    /// Files that are asked for again.
    pub fn repeats(&self) -> impl Iterator<Item = &BronzeFile> {
        self.reads.iter().filter(|read| matches!(read.why, Why::Again(_))).map(|read| &read.file)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.reads.is_empty()
            && self.bad.is_empty()
            && self.removed.is_empty()
            && self.superseded.is_empty()
            && self.relabelled.is_empty()
    }

    /// What the batch changes in the manifest; `data` has the data files of each file that was read by itself.
    pub fn change(&self, data: &BTreeMap<String, Vec<String>>) -> Change {
        let mut change = self.relabelled.clone();
        change.extend(self.removed.iter().map(|(path, _)| (path.clone(), None)));
        for (Read { file, why, hash, .. }, bad) in &self.bad {
            let data = match why {
                Why::New | Why::Replayed(_) => Some(Vec::new()),
                Why::Changed(rows) | Why::Again(rows) => rows.clone(),
            };
            let entry = Entry { hash: hash.clone(), data, bad: Some(bad.clone()), ..Entry::of(file) };
            change.insert(file.path.clone(), Some(entry));
        }
        for Read { file, why, hash, .. } in &self.reads {
            let (hash, data) = (hash.clone(), data.get(&file.path).cloned());
            if let Why::Replayed(entry) = why {
                let more = data.unwrap_or_default();
                let data = entry.data.clone().map(|known| known.into_iter().chain(more).collect());
                change.insert(file.path.clone(), Some(Entry { data, ..entry.clone() }));
                continue;
            }
            change.insert(file.path.clone(), Some(Entry { hash, data, ..Entry::of(file) }));
        }
        change
    }
}

/// Takes as many files as a batch may have; one that is too large alone is a batch of its own.
fn next_batch(rest: &mut VecDeque<Read>, ingestion: &Ingestion) -> Vec<Read> {
    let limit = ingestion.max_files_per_batch.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
    let most = ingestion.max_bytes_per_batch.unwrap_or(u64::MAX);
    let (mut count, mut bytes) = (0, 0_u64);
    for read in rest.iter() {
        bytes = bytes.saturating_add(read.file.meta.size);
        if count == limit || bytes > most && count > 0 {
            break;
        }
        count += 1;
    }
    rest.drain(..count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bronze::listing::tests::file;

    fn listing(files: &[(&str, u64)]) -> Listing {
        Listing {
            files: files.iter().map(|(path, size)| file(path, *size)).collect(),
            base: "in".into(),
            ..Listing::default()
        }
    }

    fn manifest(files: &[(&str, u64, Option<&str>)]) -> Manifest {
        let entry = |path: &str, size, hash: Option<&str>| {
            let data = Some(vec![format!("{path}.parquet")]);
            Entry { hash: hash.map(str::to_owned), data, ..Entry::of(&file(path, size)) }
        };
        let change = files.iter().map(|(path, size, hash)| ((*path).to_owned(), Some(entry(path, *size, *hash))));
        Manifest::default().published(1, change.collect(), "in")
    }

    fn diff(
        known: &Manifest,
        now: &Listing,
        ingestion: &Ingestion,
        hashes: &[(&str, &str)],
    ) -> Result<Pending, String> {
        let source = TableName::new("bronze", "views");
        let hashes = hashes.iter().map(|(path, hash)| ((*path).to_owned(), (*hash).to_owned())).collect();
        let rules = Rules { source: &source, ingestion, slice: None, hashes: &hashes, redone: &BTreeSet::new() };
        known.pending(now, &rules).map_err(|error| error.to_string())
    }

    fn paths(pending: &Pending) -> Vec<&str> {
        pending.reads.iter().map(|read| read.file.path.as_str()).collect()
    }

    #[test]
    fn what_a_changed_file_means_is_declared() {
        let known = manifest(&[("a.csv", 1, None)]);
        let now = listing(&[("a.csv", 7), ("b.csv", 2)]);
        let with = |on_changed_file| Ingestion { on_changed_file, ..Ingestion::default() };
        let error = diff(&known, &now, &with(OnChangedFile::Fail), &[]).unwrap_err();
        assert!(error.contains("1 file was taken in before and changed since: a.csv"), "{error}");
        assert_eq!(paths(&diff(&known, &now, &with(OnChangedFile::Ignore), &[]).unwrap()), ["b.csv"]);
        assert_eq!(paths(&diff(&known, &now, &with(OnChangedFile::Append), &[]).unwrap()), ["a.csv", "b.csv"]);
        let replace = diff(&known, &now, &with(OnChangedFile::Replace), &[]).unwrap();
        assert_eq!(replace.outgoing().collect::<Vec<_>>(), [&Some(vec!["a.csv.parquet".to_owned()])]);
    }

    #[test]
    fn what_a_removed_file_means_is_declared() {
        let known = manifest(&[("a.csv", 1, None)]);
        let with = |on_removed_file| Ingestion { on_removed_file, ..Ingestion::default() };
        assert_eq!(diff(&known, &listing(&[]), &with(OnRemovedFile::Keep), &[]).unwrap().gone, 1);
        assert_eq!(diff(&known, &listing(&[]), &with(OnRemovedFile::DeleteRows), &[]).unwrap().removed.len(), 1);
        assert!(diff(&known, &listing(&[]), &with(OnRemovedFile::Fail), &[]).unwrap_err().contains("gone: a.csv"));
    }

    #[test]
    fn contents_are_known_whatever_their_names() {
        let known = manifest(&[("a.csv", 1, Some("A")), ("b.csv", 1, Some("B"))]);
        let rules = Ingestion {
            identity: Identity::Content,
            on_changed_file: OnChangedFile::Replace,
            on_removed_file: OnRemovedFile::DeleteRows,
            ..Ingestion::default()
        };
        let data = |pending: &Pending, path: &str| pending.relabelled[path].as_ref().unwrap().data.clone().unwrap();

        let swapped = listing(&[("a.csv", 9), ("b.csv", 9)]);
        let pending = diff(&known, &swapped, &rules, &[("a.csv", "B"), ("b.csv", "A")]).unwrap();
        assert!(pending.reads.is_empty() && pending.outgoing().next().is_none());
        assert_eq!(
            (data(&pending, "a.csv"), data(&pending, "b.csv")),
            (vec!["b.csv.parquet".into()], vec!["a.csv.parquet".into()])
        );

        let copied = listing(&[("a.csv", 1), ("b.csv", 1), ("c.csv", 1)]);
        let pending = diff(&known, &copied, &rules, &[("c.csv", "A")]).unwrap();
        assert!(pending.reads.is_empty() && data(&pending, "c.csv").is_empty());

        let renamed_over = listing(&[("b.csv", 9)]);
        let pending = diff(&known, &renamed_over, &rules, &[("b.csv", "A")]).unwrap();
        assert_eq!(pending.outgoing().collect::<Vec<_>>(), [&Some(vec!["b.csv.parquet".to_owned()])]);
        assert_eq!(pending.relabelled["a.csv"], None);

        let twins = listing(&[("a.csv", 1), ("b.csv", 1), ("c.csv", 1), ("d.csv", 1)]);
        let pending = diff(&known, &twins, &rules, &[("c.csv", "C"), ("d.csv", "C")]).unwrap();
        assert_eq!((paths(&pending), pending.more), (vec!["c.csv"], true));
    }

    #[test]
    fn a_backlog_is_cut_by_files_and_by_bytes() {
        let now = listing(&[("a.csv", 5), ("b.csv", 50), ("c.csv", 5), ("d.csv", 5)]);
        let cut = |files, bytes| {
            let ingestion =
                Ingestion { max_files_per_batch: files, max_bytes_per_batch: bytes, ..Ingestion::default() };
            let mut pending = diff(&Manifest::default(), &now, &ingestion, &[]).unwrap();
            let rest = pending.cut(&ingestion);
            assert_eq!(pending.reads.len() + rest.len(), 4);
            (pending.reads.len(), pending.more)
        };
        assert_eq!(cut(None, None), (4, false));
        assert_eq!(cut(Some(3), None), (3, true));
        assert_eq!(cut(None, Some(10)), (1, true));
        assert_eq!(cut(None, Some(60)), (3, true));
        assert_eq!(cut(Some(9), Some(1)), (1, true));
    }
}
