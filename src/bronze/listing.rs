//! The files of a source, listed once: a file that arrives later waits for the next listing.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::SubsecRound;
use futures::{StreamExt, TryStreamExt};
use globset::GlobBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::{Path as StorePath, PathPart};
use object_store::{ObjectMeta, ObjectStoreExt};

use super::BronzeError;
use super::compact::kept_hash;
use super::manifest::Entry;
use super::parts::{self, Piece};
use super::replay::Records;
use super::slice::path_date;
use crate::project::{AfterLoad, Source};
use crate::stores::{self, Store};

/// A file as it was seen.
#[derive(Debug, Clone, PartialEq)]
pub struct BronzeFile {
    /// Below the listed folder: what the manifest remembers, so that a lake can be moved.
    pub path: String,
    /// The store that it is in.
    pub store: Store,
    /// Where it is in its store.
    pub meta: ObjectMeta,
    /// It has been moved to the archive of its source.
    pub archived: bool,
    /// Its rows are in a compacted file, and it is no more.
    pub compacted: Option<Piece>,
    /// Not the file is read, but these records of it.
    pub records: Option<Records>,
}

impl BronzeFile {
    /// A file that is where it was delivered.
    pub(super) fn new(path: String, store: Store, meta: ObjectMeta) -> Self {
        Self { path, store, meta, archived: false, compacted: None, records: None }
    }

    /// As users know it: relative to the project where it is inside, or its address.
    pub fn shown(&self, folder: &Path) -> String {
        self.store.shown(self.meta.location.as_ref(), folder)
    }

    /// What has to be there to read it: where it is, and how large that is.
    pub(super) fn stored(&self) -> &ObjectMeta {
        self.compacted.as_ref().map_or(&self.meta, |piece| &piece.part.meta)
    }

    /// A file that was taken in, as it was.
    pub fn remembered(path: &str, entry: &Entry, listing: &Listing) -> Self {
        let folder = listing.files.first().and_then(|file| {
            let below = if file.archived { None } else { file.meta.location.as_ref().strip_suffix(&file.path) };
            below.map(str::to_owned)
        });
        let folder = folder.unwrap_or_else(|| format!("{}/", listing.base.trim_end_matches('/')));
        let meta = ObjectMeta {
            location: StorePath::from(format!("{folder}{path}")),
            last_modified: chrono::DateTime::from_timestamp_micros(entry.modified).unwrap_or_default(),
            size: entry.size,
            e_tag: None,
            version: None,
        };
        let store = listing.files.first().map_or_else(Store::local, |file| file.store.clone());
        Self::new(path.to_owned(), store, meta)
    }

    /// Modification time in microseconds since 1970 (UTC).
    pub fn modified(&self) -> i64 {
        self.meta.last_modified.timestamp_micros()
    }
}

/// All files of a source, sorted by path.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// The files.
    pub files: Vec<BronzeFile>,
    /// Files that are still there although their rows are in a compacted file.
    pub compacted_too: Vec<BronzeFile>,
    /// The folder that was listed: relative to the project where it is inside, so that a project can be moved.
    pub base: String,
    /// Only names after this one were looked at.
    pub after: Option<String>,
}

impl Listing {
    /// The file at a path.
    pub fn get(&self, path: &str) -> Option<&BronzeFile> {
        let at = self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok()?;
        self.files.get(at)
    }

    /// A hash of which files there are: paths, sizes and times.
    pub fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for file in &self.files {
            hasher.update(file.path.as_bytes());
            hasher.update(&[0]);
            hasher.update(&file.meta.size.to_le_bytes());
            hasher.update(&file.modified().to_le_bytes());
        }
        format!("{} files {}", self.files.len(), &hasher.finalize().to_hex()[..32])
    }
}

/// Where to look, and what to take.
struct Place {
    store: Store,
    root: StorePath,
    matches: Box<dyn Fn(&str) -> bool + Send + Sync>,
}

/// Lists the files of a source, or only those whose paths sort after one. Hidden files and those that start with `_` are
/// left out, as in Spark.
///
/// # Errors
/// When the folder does not exist or cannot be listed.
pub async fn list(source: &Source, folder: &Path, after: Option<&str>) -> Result<Listing, BronzeError> {
    let AfterLoad::Compact { to, .. } = &source.ingestion.after_load else {
        return list_once(source, folder, after).await;
    };
    let to = base_folder(source, folder)?.join(to);
    loop {
        // A raw file goes after the index that names it was there: it can only be missed where an index came meanwhile.
        let before = index_names(&to);
        let listing = list_once(source, folder, after).await;
        if before == index_names(&to) {
            return listing;
        }
    }
}

fn index_names(folder: &Path) -> BTreeSet<std::ffi::OsString> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).filter(|name| name.to_string_lossy().ends_with(parts::INDEX)).collect()
}

async fn list_once(source: &Source, folder: &Path, after: Option<&str>) -> Result<Listing, BronzeError> {
    let place = place(source, folder)?;
    let Place { store, root, .. } = &place;
    let base = store.shown(root.as_ref(), folder);
    let missing = || BronzeError::Missing { source_name: source.name.clone(), path: base.clone() };
    let storage = |error| BronzeError::Storage { source_name: source.name.clone(), source: error };
    if let Some(is_file) = is_local_file(&place).map_err(|_| missing())?
        && is_file
    {
        let meta = store.files().head(root).await.map_err(storage)?;
        return one_file(source, &place, meta, folder);
    }
    let parts_of = |to: &str| to.split('/').map(|part| PathPart::from(part).as_ref().to_owned()).collect();
    let (archive, parts_folder): (Vec<String>, Vec<String>) = match &source.ingestion.after_load {
        AfterLoad::Keep => (Vec::new(), Vec::new()),
        AfterLoad::Archive { to } => (parts_of(to), Vec::new()),
        AfterLoad::Compact { to, .. } => (Vec::new(), parts_of(to)),
    };
    let (mut files, mut indexes) = (Vec::new(), Vec::new());
    let offset = after.and_then(|after| StorePath::parse(format!("{root}/{after}")).ok());
    let after = after.filter(|_| offset.is_some()).map(str::to_owned);
    let found = names_after(store, root, offset.as_ref()).await.map_err(storage)?;
    if found.is_empty() && !store.is_local() && after.is_none() {
        // Buckets have no folders: what has nothing below it is a file, or is not there.
        let meta = stores::if_there(store.files().head(root).await).map_err(storage)?.ok_or_else(missing)?;
        return one_file(source, &place, meta, folder);
    }
    for meta in found {
        let parts: Option<Vec<String>> =
            meta.location.prefix_match(root).map(|parts| parts.map(|part| part.as_ref().to_owned()).collect());
        let Some(parts) = parts else { continue };
        if parts::is_index(&meta.location) {
            indexes.push(meta);
            continue;
        }
        if !parts_folder.is_empty() && parts.starts_with(&parts_folder) {
            continue;
        }
        // An archived file goes by its old path: for a table that takes it in, nothing happened to it.
        let archived = !archive.is_empty() && parts.starts_with(&archive);
        let parts = if archived { &parts[archive.len()..] } else { &parts[..] };
        let hidden = parts.iter().any(|part| part.starts_with(['.', '_']));
        let path = parts.join("/");
        if !hidden && (place.matches)(&path) {
            files.push(BronzeFile { archived, ..BronzeFile::new(path, store.clone(), stamped(store, meta)) });
        }
    }
    let mut compacted_too = Vec::new();
    if !indexes.is_empty() {
        let known: BTreeSet<StorePath> = indexes.iter().map(|index| parts::part_of(&index.location)).collect();
        files.retain(|file| !known.contains(&file.meta.location));
        let mut compacted = parts::files(store, root, indexes, folder).await?;
        compacted.retain(|file| (place.matches)(&file.path));
        add_compacted(&mut files, compacted, &mut compacted_too);
    }
    // A file that was delivered once more under the name of an archived one is the newer of the two.
    files.sort_by(|a, b| a.path.cmp(&b.path).then(a.archived.cmp(&b.archived)));
    files.dedup_by(|second, first| second.path == first.path);
    if source.ingestion.snapshot {
        keep_newest_delivery(&mut files);
    }
    Ok(Listing { files, compacted_too, base, after })
}

/// Whether a place on this machine is a file and no folder; `None` elsewhere.
fn is_local_file(place: &Place) -> io::Result<Option<bool>> {
    if !place.store.is_local() {
        return Ok(None);
    }
    let path = LocalFileSystem::new().path_to_filesystem(&place.root)?;
    Ok(Some(std::fs::metadata(path)?.is_file()))
}

/// The listing of a source that is one file.
fn one_file(source: &Source, place: &Place, meta: ObjectMeta, folder: &Path) -> Result<Listing, BronzeError> {
    if source.ingestion.after_load != AfterLoad::Keep {
        let (source_name, path) = (source.name.clone(), source.path.clone());
        let why = "is one file, and only files of a folder or pattern can be moved after the load".to_owned();
        return Err(BronzeError::Path { source_name, path, why });
    }
    let (store, root) = (&place.store, &place.root);
    let path = root.filename().unwrap_or_default().to_owned();
    let parts: Vec<PathPart<'_>> = root.parts().collect();
    let above = StorePath::from_iter(parts[..parts.len().saturating_sub(1)].iter().cloned());
    Ok(Listing {
        files: vec![BronzeFile::new(path, store.clone(), stamped(store, meta))],
        compacted_too: Vec::new(),
        base: store.shown(above.as_ref(), folder),
        after: None,
    })
}

/// A file as every request tells it: lists of a bucket have times with parts of seconds, and requests of one file have none;
/// lists of Azure have tags without the quotes that headers have.
pub(super) fn stamped(store: &Store, mut meta: ObjectMeta) -> ObjectMeta {
    if !store.is_local() {
        meta.last_modified = meta.last_modified.trunc_subsecs(0);
        let tag = meta.e_tag.take();
        meta.e_tag = tag.map(|tag| if tag.ends_with('"') { tag } else { format!("\"{tag}\"") });
    }
    meta
}

/// Those of some files of a source that are there; their paths are sorted.
///
/// # Errors
/// When the folder cannot be looked at.
pub async fn look_at(source: &Source, paths: &[&str], folder: &Path) -> Result<Vec<BronzeFile>, BronzeError> {
    let bad = |why: String| {
        let (source_name, path) = (source.name.clone(), source.path.clone());
        BronzeError::Path { source_name, path, why }
    };
    let Place { store, root, .. } = place(source, folder)?;
    let mut files = Vec::new();
    for path in paths {
        let location = StorePath::parse(format!("{root}/{path}")).map_err(|error| bad(error.to_string()))?;
        let found = stores::if_there(store.files().head(&location).await)
            .map_err(|error| BronzeError::Storage { source_name: source.name.clone(), source: error })?;
        if let Some(meta) = found {
            files.push(BronzeFile::new((*path).to_owned(), store.clone(), stamped(&store, meta)));
        }
    }
    Ok(files)
}

/// Everything below a folder, or what sorts after `offset`: folders that end before it are not opened. A store that has
/// no folders does this by itself.
async fn names_after(
    store: &Store,
    root: &StorePath,
    offset: Option<&StorePath>,
) -> object_store::Result<Vec<ObjectMeta>> {
    let Some(offset) = offset.filter(|_| store.is_local()) else { return stores::list_all(store, root, offset).await };
    let files_of = Arc::clone(store.files());
    let (mut files, mut later, mut folder) = (Vec::new(), Vec::new(), Some(root.clone()));
    while let Some(opened) = folder.take() {
        let found = files_of.list_with_delimiter(Some(&opened)).await?;
        files.extend(found.objects.into_iter().filter(|file| file.location > *offset));
        for below in found.common_prefixes {
            let start = format!("{below}/");
            if offset.as_ref().starts_with(&start) {
                folder = Some(below);
            } else if start.as_str() > offset.as_ref() {
                later.push(below);
            }
        }
    }
    for folder in later {
        files.extend(files_of.list(Some(&folder)).try_collect::<Vec<_>>().await?);
    }
    Ok(files)
}

/// The folder of this machine that files of a source are delivered to.
pub(super) fn base_folder(source: &Source, folder: &Path) -> Result<PathBuf, BronzeError> {
    let place = place(source, folder)?;
    let path = LocalFileSystem::new().path_to_filesystem(&place.root);
    path.map_err(|error| BronzeError::Storage { source_name: source.name.clone(), source: error })
}

/// The folder of this machine below which files of a source arrive, whether it is there or not; `None` of a bucket.
pub fn arrivals(source: &Source, folder: &Path) -> Option<PathBuf> {
    let place = place(source, folder).ok()?;
    let path = LocalFileSystem::new().path_to_filesystem(&place.root).ok().filter(|_| place.store.is_local())?;
    if path.is_file() { path.parent().map(Path::to_owned) } else { Some(path) }
}

/// A file that is there as it was compacted is only not removed yet; another one of its name is its newer self.
fn add_compacted(files: &mut Vec<BronzeFile>, compacted: Vec<BronzeFile>, too: &mut Vec<BronzeFile>) {
    let mut by_path: BTreeMap<String, BronzeFile> =
        compacted.into_iter().map(|file| (file.path.clone(), file)).collect();
    let raw = std::mem::take(files);
    for file in raw {
        match by_path.get(&file.path) {
            Some(known) if known.meta.size == file.meta.size && known.modified() == file.modified() => too.push(file),
            Some(_) => {
                by_path.remove(&file.path);
                files.push(file);
            }
            None => files.push(file),
        }
    }
    files.extend(by_path.into_values());
}

/// Lists all files of a source, also those of deliveries that newer ones have replaced.
///
/// # Errors
/// As [`list`].
pub async fn list_deliveries(source: &Source, folder: &Path) -> Result<Listing, BronzeError> {
    let mut all = source.clone();
    all.ingestion.snapshot = false;
    list(&all, folder, None).await
}

/// When a file was delivered: the date in its path, else its modification time; in microseconds since 1970 (UTC).
pub fn delivery_time(path: &str, modified: i64) -> i64 {
    path_date(path).map_or(modified, |(from, _)| from)
}

/// Whether the path of a file names a day or month.
pub fn is_dated(path: &str) -> bool {
    path_date(path).is_some()
}

/// Files of one day or month by their paths are one delivery; a file without a date is one of its own.
fn keep_newest_delivery(files: &mut Vec<BronzeFile>) {
    let time = |file: &BronzeFile| delivery_time(&file.path, file.modified());
    let Some(newest) = files.iter().max_by_key(|file| (time(file), file.path.clone())).cloned() else { return };
    match path_date(&newest.path) {
        Some(day) => files.retain(|file| path_date(&file.path) == Some(day)),
        None => *files = vec![newest],
    }
}

/// Hashes of the bytes of files, by path.
///
/// # Errors
/// When a file cannot be read.
pub async fn hashes<'a>(
    files: impl Iterator<Item = &'a BronzeFile>,
    folder: &Path,
) -> Result<BTreeMap<String, String>, BronzeError> {
    const AT_ONCE: usize = 8;
    let one = |file: &BronzeFile| {
        let (path, store, meta) = (file.path.clone(), file.store.clone(), file.meta.clone());
        let shown = file.shown(folder);
        let kept = kept_hash(file).map(str::to_owned);
        async move {
            if let Some(hash) = kept {
                return Ok((path, hash));
            }
            let hash = tokio::task::spawn_blocking(move || hash(&store, &meta)).await;
            match hash {
                Ok(Ok(hash)) => Ok((path, hash)),
                Ok(Err(source)) => Err(BronzeError::Unreachable { file: shown, source }),
                Err(error) => Err(BronzeError::File { file: shown, why: error.to_string() }),
            }
        }
    };
    let pending: Vec<_> = files.map(one).collect();
    futures::stream::iter(pending).buffer_unordered(AT_ONCE).try_collect().await
}

pub(super) fn hash(store: &Store, file: &ObjectMeta) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(store.reader(file)?)?;
    Ok(hasher.finalize().to_hex()[..32].to_owned())
}

fn place(source: &Source, folder: &Path) -> Result<Place, BronzeError> {
    let bad = |why: &str| BronzeError::Path {
        source_name: source.name.clone(),
        path: source.path.clone(),
        why: why.to_owned(),
    };
    let path = source.path.as_str();
    let find = |path: &str| {
        let (store, root) = Store::find(path, folder, &source.storage).map_err(|error| bad(&error.to_string()))?;
        if !store.is_local() && source.ingestion.after_load != AfterLoad::Keep {
            return Err(bad(
                "is not on this machine, and files of a bucket stay where they are: leave out `after_load`, and let a \
                 lifecycle rule of the bucket move them",
            ));
        }
        Ok((store, root))
    };
    let Some(wildcard) = path.find(['*', '?', '[', '{']) else {
        let ((store, root), format) = (find(path)?, source.format);
        return Ok(Place { store, root, matches: Box::new(move |path| format.takes(path)) });
    };
    let split = path[..wildcard].rfind('/').map_or(0, |at| at + 1);
    let (store, root) = find(&path[..split])?;
    let glob = GlobBuilder::new(&path[split..])
        .literal_separator(true)
        .build()
        .map_err(|error| bad(&format!("is not a pattern: {}", error.kind())))?
        .compile_matcher();
    Ok(Place { store, root, matches: Box::new(move |path| glob.is_match(path)) })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A file of this size, as it was in November 2023.
    pub(crate) fn file(path: &str, size: u64) -> BronzeFile {
        let meta = ObjectMeta {
            location: path.into(),
            last_modified: chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
            size,
            e_tag: None,
            version: None,
        };
        BronzeFile::new(path.to_owned(), Store::local(), meta)
    }
}
