//! The project folder, looked through once.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rayon::prelude::*;

use crate::diagnostics::{Diagnostic, Id, SourceFile, Span};
use crate::memo::{Key, KeyMaker};
use crate::paths;

/// A project folder that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no `project.yml`.
    #[error("no project found: `{}` does not exist", path.display())]
    NoProject {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A file or folder that cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The files of a project, sorted by path; their texts are read when somebody needs them.
#[derive(Debug)]
pub struct ProjectFiles {
    /// The folder, absolute.
    pub folder: Arc<Path>,
    /// `project.yml`.
    pub project: Arc<SourceFile>,
    /// `sources.yml`.
    pub sources: Option<Arc<SourceFile>>,
    /// `selectors.yml`.
    pub selectors: Option<Arc<SourceFile>>,
    /// `models/**/*.sql`.
    pub models: Vec<Arc<SourceFile>>,
    /// `models/**/*.yml` and `seeds/**/*.yml`.
    pub properties: Vec<Arc<SourceFile>>,
    /// `seeds/**/*.csv`.
    pub seeds: Vec<Arc<SourceFile>>,
    /// `macros/**/*.sql`.
    pub macros: Vec<Arc<SourceFile>>,
    /// `tests/**/*.sql`.
    pub tests: Vec<Arc<SourceFile>>,
    /// `tests/fixtures/**/*.csv` and `*.sql`: rows for unit tests.
    pub fixtures: Vec<Arc<SourceFile>>,
    /// `snapshots/**/*.sql` and `*.yml`: where dbt keeps what is a model here.
    pub snapshots: Vec<Arc<SourceFile>>,
    /// `models/**/*.md`, `seeds/**/*.md` and `docs/**/*.md`.
    pub docs: Vec<Arc<SourceFile>>,
}

/// Where rows for unit tests stand.
pub(super) const FIXTURES: &str = "tests/fixtures/";

/// Looks through a project folder.
///
/// # Errors
/// When there is no `project.yml`, or a folder cannot be listed.
pub fn read(folder: &Path) -> Result<ProjectFiles, ReadError> {
    let folder = paths::absolute(Path::new(""), folder)
        .map_err(|source| ReadError::Unreadable { path: folder.to_owned(), source })?;
    let folder: Arc<Path> = Arc::from(folder);
    let first_of = |names: [&'static str; 2]| names.into_iter().find(|name| folder.join(name).is_file());
    let Some(project) = first_of(["project.yml", "project.yaml"]) else {
        return Err(ReadError::NoProject { path: folder.join("project.yml") });
    };
    let sources = first_of(["sources.yml", "sources.yaml"]);
    let top = |name: &str| Arc::new(SourceFile::on_disk(&folder, name));
    let (mut models, mut properties, mut documents) = (Vec::new(), Vec::new(), Vec::new());
    for file in tree(&folder, "models")? {
        match extension(&file.path) {
            "sql" => models.push(file),
            "yml" | "yaml" => properties.push(file),
            "md" => documents.push(file),
            _ => {}
        }
    }
    let mut seeds = Vec::new();
    for file in tree(&folder, "seeds")? {
        match extension(&file.path) {
            "csv" => seeds.push(file),
            "yml" | "yaml" => properties.push(file),
            "md" => documents.push(file),
            _ => {}
        }
    }
    let mut snapshots = tree(&folder, "snapshots")?;
    snapshots.retain(|file| matches!(extension(&file.path), "sql" | "yml" | "yaml"));
    let (fixtures, tests): (Vec<_>, Vec<_>) =
        tree(&folder, "tests")?.into_iter().partition(|file| file.path.starts_with(FIXTURES));
    let with = |name: &str, ending: &str| -> Result<Vec<Arc<SourceFile>>, ReadError> {
        Ok(tree(&folder, name)?.into_iter().filter(|file| extension(&file.path) == ending).collect())
    };
    Ok(ProjectFiles {
        project: top(project),
        sources: sources.map(top),
        selectors: first_of(["selectors.yml", "selectors.yaml"]).map(top),
        models,
        properties,
        seeds,
        snapshots,
        macros: with("macros", "sql")?,
        tests: tests.into_iter().filter(|file| extension(&file.path) == "sql").collect(),
        fixtures,
        docs: [documents, with("docs", "md")?].concat(),
        folder,
    })
}

/// What is wrong with a file whose text cannot be had.
pub(super) fn unreadable(file: &Arc<SourceFile>, error: &std::io::Error) -> Diagnostic {
    let message = format!("cannot read `{}`: {error}", file.path);
    Diagnostic::error(Id::UnreadableFile, message).at(Span::file_start(file))
}

fn extension(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, extension)| extension)
}

/// All files below `folder/top`, sorted by path, folders in parallel. Hidden entries and folders that are projects of
/// their own are left out.
fn tree(folder: &Arc<Path>, top: &str) -> Result<Vec<Arc<SourceFile>>, ReadError> {
    let mut files = match folder.join(top).is_dir() {
        true => subtree(folder, top.to_owned())?,
        false => Vec::new(),
    };
    files.par_sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn subtree(folder: &Arc<Path>, path: String) -> Result<Vec<Arc<SourceFile>>, ReadError> {
    let dir = folder.join(&path);
    let unreadable = |source| ReadError::Unreadable { path: dir.clone(), source };
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(&dir).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        let inner = format!("{path}/{name}");
        let metadata = match entry.file_type().map_err(unreadable)?.is_symlink() {
            true => std::fs::metadata(entry.path()),
            false => entry.metadata(),
        };
        // A link that leads nowhere is found out when its text is read.
        match metadata {
            Ok(metadata) if metadata.is_dir() => folders.push(inner),
            metadata => {
                let stamp = metadata.ok().and_then(|metadata| stamp(&inner, &metadata));
                files.push(Arc::new(SourceFile::stamped(folder, inner, stamp)));
            }
        }
    }
    // Below `models/` only: the project's own folder has a `project.yml`.
    if files.iter().any(|file| file.path.strip_prefix(&path) == Some("/project.yml")) {
        return Ok(Vec::new());
    }
    let inner: Vec<Vec<Arc<SourceFile>>> =
        folders.into_par_iter().map(|inner| subtree(folder, inner)).collect::<Result<_, _>>()?;
    files.extend(inner.into_iter().flatten());
    Ok(files)
}

/// What tells a file's content without reading it: path, size and times. `None` if it was written so short a time ago
/// that it could be written again without a change of its times.
fn stamp(path: &str, metadata: &Metadata) -> Option<Key> {
    let changed = changed(metadata)?;
    // File systems that count whole seconds, or two of them, show it by round numbers.
    let grain = if changed.subsec_nanos() == 0 { 2000 } else { 20 };
    let age = SystemTime::now().duration_since(UNIX_EPOCH + changed).ok()?;
    if age < Duration::from_millis(grain) {
        return None;
    }
    let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let numbers = [u128::from(metadata.len()), changed.as_nanos(), modified.as_nanos(), inode(metadata)];
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    Some(KeyMaker::new("stamp").text(path).bytes(&bytes).finish())
}

/// When content or attributes changed last; a tool can set the modification time, but not this one.
#[cfg(unix)]
fn changed(metadata: &Metadata) -> Option<Duration> {
    use std::os::unix::fs::MetadataExt;
    Some(Duration::new(metadata.ctime().try_into().ok()?, metadata.ctime_nsec().try_into().ok()?))
}

#[cfg(not(unix))]
fn changed(metadata: &Metadata) -> Option<Duration> {
    metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> u128 {
    std::os::unix::fs::MetadataExt::ino(metadata).into()
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> u128 {
    0
}
