//! The files of a source, listed once: a file that arrives later waits for the next listing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt;
use globset::GlobBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as StorePath;
use object_store::{ObjectMeta, ObjectStore};

use super::{BronzeError, shown};
use crate::paths;
use crate::project::Source;

/// A file as it was seen.
#[derive(Debug, Clone, PartialEq)]
pub struct BronzeFile {
    /// Below the listed folder: what the manifest remembers, so that a lake can be moved.
    pub path: String,
    /// Where it is in its store.
    pub meta: ObjectMeta,
}

impl BronzeFile {
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
    /// The folder that was listed: relative to the project where it is inside, so that a project can be moved.
    pub base: String,
}

impl Listing {
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
    base: PathBuf,
    matches: Box<dyn Fn(&str) -> bool + Send + Sync>,
}

/// Lists the files of a source. Hidden files and those that start with `_` are left out, as in Spark.
///
/// # Errors
/// When the folder does not exist or cannot be listed.
pub async fn list(source: &Source, folder: &Path) -> Result<Listing, BronzeError> {
    let place = place(source, folder)?;
    let missing = || BronzeError::Missing {
        source_name: source.name.clone(),
        path: shown(&place.base.to_string_lossy(), folder),
    };
    let metadata = std::fs::metadata(&place.base).map_err(|_| missing())?;
    let root = StorePath::from_absolute_path(&place.base).map_err(|error| BronzeError::Path {
        source_name: source.name.clone(),
        path: source.path.clone(),
        why: error.to_string(),
    })?;
    let store: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new());
    let storage = |error| BronzeError::Storage { source_name: source.name.clone(), source: error };
    if metadata.is_file() {
        let meta = object_store::ObjectStoreExt::head(store.as_ref(), &root).await.map_err(storage)?;
        let path = root.filename().unwrap_or_default().to_owned();
        let folder_of = place.base.parent().unwrap_or(&place.base);
        return Ok(Listing {
            files: vec![BronzeFile { path, meta }],
            base: shown(&folder_of.to_string_lossy(), folder),
        });
    }
    let found: Vec<ObjectMeta> = store.list(Some(&root)).try_collect().await.map_err(storage)?;
    let mut files: Vec<BronzeFile> = found
        .into_iter()
        .filter_map(|meta| {
            let parts: Vec<_> = meta.location.prefix_match(&root)?.map(|part| part.as_ref().to_owned()).collect();
            let hidden = parts.iter().any(|part| part.starts_with(['.', '_']));
            let path = parts.join("/");
            (!hidden && (place.matches)(&path)).then_some(BronzeFile { path, meta })
        })
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Listing { files, base: shown(&place.base.to_string_lossy(), folder) })
}

fn place(source: &Source, folder: &Path) -> Result<Place, BronzeError> {
    let bad = |why: &str| BronzeError::Path {
        source_name: source.name.clone(),
        path: source.path.clone(),
        why: why.to_owned(),
    };
    let path = source.path.strip_prefix("file://").unwrap_or(&source.path);
    if path.contains("://") {
        return Err(bad("is not on this machine: only folders and files can be sources"));
    }
    let Some(wildcard) = path.find(['*', '?', '[', '{']) else {
        let base = paths::absolute(folder, path).map_err(|error| bad(&error.to_string()))?;
        let format = source.format;
        return Ok(Place { base, matches: Box::new(move |path| format.takes(path)) });
    };
    let split = path[..wildcard].rfind('/').map_or(0, |at| at + 1);
    let base = paths::absolute(folder, &path[..split]).map_err(|error| bad(&error.to_string()))?;
    let glob = GlobBuilder::new(&path[split..])
        .literal_separator(true)
        .build()
        .map_err(|error| bad(&format!("is not a pattern: {}", error.kind())))?
        .compile_matcher();
    Ok(Place { base, matches: Box::new(move |path| glob.is_match(path)) })
}
