//! The project folder, read once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use crate::diagnostics::SourceFile;
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

/// The text of every file of a project, sorted by path.
#[derive(Debug)]
pub struct ProjectFiles {
    /// The folder, absolute.
    pub folder: PathBuf,
    /// `project.yml`.
    pub project: Arc<SourceFile>,
    /// `sources.yml`.
    pub sources: Option<Arc<SourceFile>>,
    /// `models/**/*.sql`.
    pub models: Vec<Arc<SourceFile>>,
    /// `models/**/*.yml`.
    pub properties: Vec<Arc<SourceFile>>,
    /// `macros/**/*.sql`.
    pub macros: Vec<Arc<SourceFile>>,
    /// `tests/**/*.sql`.
    pub tests: Vec<Arc<SourceFile>>,
    /// `models/**/*.md` and `docs/**/*.md`.
    pub docs: Vec<Arc<SourceFile>>,
}

/// Reads a project folder.
///
/// # Errors
/// When there is no `project.yml`, or a file cannot be read as UTF-8 text.
pub fn read(folder: &Path) -> Result<ProjectFiles, ReadError> {
    let folder = paths::absolute(Path::new(""), folder)
        .map_err(|source| ReadError::Unreadable { path: folder.to_owned(), source })?;
    let project = ["project.yml", "project.yaml"].iter().map(|name| folder.join(name)).find(|path| path.is_file());
    let Some(project) = project else {
        return Err(ReadError::NoProject { path: folder.join("project.yml") });
    };
    let sources = ["sources.yml", "sources.yaml"].iter().map(|name| folder.join(name)).find(|path| path.is_file());
    Ok(ProjectFiles {
        project: read_file(&folder, &project)?,
        sources: sources.map(|path| read_file(&folder, &path)).transpose()?,
        models: read_tree(&folder, "models", &["sql"])?,
        properties: read_tree(&folder, "models", &["yml", "yaml"])?,
        macros: read_tree(&folder, "macros", &["sql"])?,
        tests: read_tree(&folder, "tests", &["sql"])?,
        docs: [read_tree(&folder, "models", &["md"])?, read_tree(&folder, "docs", &["md"])?].concat(),
        folder,
    })
}

fn read_file(folder: &Path, path: &Path) -> Result<Arc<SourceFile>, ReadError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ReadError::Unreadable { path: path.to_owned(), source })?;
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    let relative = path.strip_prefix(folder).unwrap_or(path);
    let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
    Ok(Arc::new(SourceFile { path: parts.join("/"), text }))
}

/// All files below `folder/top` with one of the extensions, read in parallel. Hidden folders and folders that are
/// projects of their own are left out.
fn read_tree(folder: &Path, top: &str, extensions: &[&str]) -> Result<Vec<Arc<SourceFile>>, ReadError> {
    let mut found = Vec::new();
    let mut pending = vec![folder.join(top)];
    while let Some(dir) = pending.pop() {
        if !dir.is_dir() || dir.join("project.yml").is_file() {
            continue;
        }
        let unreadable = |source| ReadError::Unreadable { path: dir.clone(), source };
        for entry in std::fs::read_dir(&dir).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let kind = entry.file_type().map_err(unreadable)?;
            let path = entry.path();
            let is_folder = if kind.is_symlink() { path.is_dir() } else { kind.is_dir() };
            let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            } else if is_folder {
                pending.push(path);
            } else if extensions.contains(&extension) {
                found.push(path);
            }
        }
    }
    let mut files: Vec<Arc<SourceFile>> =
        found.par_iter().map(|path| read_file(folder, path)).collect::<Result<_, _>>()?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}
