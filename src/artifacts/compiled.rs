//! `compiled/`: the SQL of every model after Jinja.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{ARTIFACTS_FOLDER, ArtifactError};
use crate::graph::Selection;
use crate::memo::{Key, KeyMaker};
use crate::project::Model;
use crate::run::Runtime;
use crate::template::Rendered;

/// Which SQL is in `compiled/`, by the keys of the models, and when its folders last changed.
#[derive(Default, PartialEq, Serialize, Deserialize)]
struct Written {
    models: BTreeSet<Key>,
    folders: BTreeMap<PathBuf, Option<Duration>>,
}

/// Writes the SQL of the selected models below `compiled/`, and returns that folder.
///
/// # Errors
/// When the folder cannot be written to.
pub fn write_compiled_sql(runtime: &Runtime, selection: &Selection) -> Result<PathBuf, ArtifactError> {
    let folder = Path::new(ARTIFACTS_FOLDER).join("compiled");
    let record = KeyMaker::new("compiled SQL").finish();
    let before: Written = runtime.memo.get(record).unwrap_or_default();
    let models: Vec<&Model> = runtime.project.models.values().filter(|model| model.seed.is_none()).collect();
    let folders = models.iter().filter_map(|model| Path::new(&model.path).parent()).collect::<BTreeSet<_>>();
    let folders: Vec<PathBuf> = folders.into_iter().map(|parent| runtime.folder.join(&folder).join(parent)).collect();
    let times = || folders.iter().map(|path| (path.clone(), modified(path))).collect::<BTreeMap<_, _>>();
    // A file that went away changes the time of its folder.
    let known = if times() == before.folders { before.models.clone() } else { BTreeSet::new() };
    for path in &folders {
        std::fs::create_dir_all(path).map_err(|source| ArtifactError { path: path.clone(), source })?;
    }
    // `lake` never reads these files, and writes one that a stopped run left half-written again: no rename is needed.
    let write = |path: &Path, rendered: &Rendered| {
        let path = runtime.folder.join(path);
        std::fs::write(&path, &rendered.sql).map_err(|source| ArtifactError { path, source })
    };
    let now: Vec<Option<Key>> = models
        .par_iter()
        .map(|model| {
            let is_there = known.contains(&model.key);
            if is_there || !selection.contains(&model.name) {
                return Ok(is_there.then_some(model.key));
            }
            let path = folder.join(&model.path);
            write(&path, &model.full)?;
            if let Some(rendered) = &model.incremental {
                write(&path.with_extension("incremental.sql"), rendered)?;
            }
            Ok(Some(model.key))
        })
        .collect::<Result<_, ArtifactError>>()?;
    let now = Written { models: now.into_iter().flatten().collect(), folders: times() };
    if now != before {
        runtime.memo.put(record, &now);
    }
    Ok(folder)
}

fn modified(path: &Path) -> Option<Duration> {
    std::fs::metadata(path).ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()
}
