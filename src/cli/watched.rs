//! What `lake watch` looks at: the files of sources, and those of the project.
//!
//! What the system tells of changed files is only a hint to look again. What counts is which files a source has, with their
//! sizes and times, as a run would list them; so patterns, archives and buckets mean here what they mean to a run.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Pipeline;
use super::args::{Global, SelectArgs};
use super::printer::Printer;
use crate::bronze::{self, BronzeError};
use crate::graph::Selection;
use crate::names::TableName;
use crate::orchestrators::Inputs;
use crate::project::{Format, Source};

/// The folders of a project that hold what it is made of.
const PARTS: [&str; 7] = ["models", "macros", "seeds", "tests", "snapshots", "docs", "fixtures"];

/// The files of a source: hashes of their paths, and of what tells one state of a file from another.
pub(super) type Look = BTreeMap<u64, u64>;

/// What is looked at.
pub(super) struct Watched {
    /// The sources that the selection reads, as they are listed.
    sources: Vec<Source>,
    /// The project.
    folder: PathBuf,
    /// How many models are selected.
    pub(super) models: usize,
    /// The selector that counts where the command line names none.
    pub(super) default: Option<String>,
    runtime: tokio::runtime::Runtime,
    /// What went wrong when a source was last looked at: told once.
    failures: BTreeMap<TableName, String>,
}

impl Watched {
    /// Loads the project; `None` if it is wrong, which has been told then.
    pub(super) fn load(global: &Global, selection: &SelectArgs, printer: &Printer) -> anyhow::Result<Option<Self>> {
        let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(None) };
        let choice = pipeline.choose(selection)?;
        if let Some(made) = choice.made().cloned() {
            let Ok(pipeline) = pipeline.checked(printer) else { return Ok(None) };
            return Self::new(&pipeline.project, &pipeline.graph, &made).map(Some);
        }
        let Ok(compiled) = pipeline.compile(printer)? else { return Ok(None) };
        let made = choice.over(&compiled)?;
        Self::new(&compiled.project, &compiled.graph, &made).map(Some)
    }

    fn new(
        project: &crate::project::Project,
        graph: &crate::graph::Graph,
        selection: &Selection,
    ) -> anyhow::Result<Self> {
        let inputs = Inputs::of(project, graph, selection);
        let sources = inputs.sources.iter().filter_map(|name| project.sources.get(name)).map(listed).collect();
        let models = project.models.keys().filter(|name| selection.contains(name)).count();
        let default = project.selectors.values().find(|selector| selector.default).map(|found| found.name.clone());
        // With a thread of its own: a run may take over a connection that a look has opened, and it must go on then.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.context("cannot start the async runtime")?;
        let folder = project.folder.clone();
        Ok(Self { sources, folder, models, default, runtime, failures: BTreeMap::new() })
    }

    /// The sources, as people know them: `bronze.views (data/bronze/views/)`.
    pub(super) fn shown(&self) -> Vec<String> {
        self.sources.iter().map(|source| format!("{} ({})", source.name, source.path)).collect()
    }

    /// Folders of this machine whose changes are worth a look, and whether what is below them counts.
    pub(super) fn places(&self, with_project: bool) -> BTreeMap<PathBuf, bool> {
        let arrivals = self.sources.iter().filter_map(|source| bronze::arrivals(source, &self.folder));
        let mut places: BTreeMap<PathBuf, bool> = arrivals.map(existing).collect();
        if with_project {
            for part in PARTS.map(|part| self.folder.join(part)).into_iter().filter(|part| part.is_dir()) {
                places.insert(part, true);
            }
            places.entry(self.folder.clone()).or_insert(false);
        }
        places
    }

    /// Looks at all sources. Of one that cannot be listed now, what was seen before stays.
    pub(super) fn look(&mut self, before: &BTreeMap<TableName, Look>, printer: &Printer) -> BTreeMap<TableName, Look> {
        let mut looks = BTreeMap::new();
        for source in &self.sources {
            let listed = self.runtime.block_on(bronze::list(source, &self.folder, None));
            let look = match listed {
                Ok(listing) => {
                    self.failures.remove(&source.name);
                    listing.files.iter().map(|file| (hash(&file.path), hash(&state(file)))).collect()
                }
                Err(BronzeError::Missing { .. }) => Look::new(),
                Err(error) => {
                    let why = error.to_string();
                    if self.failures.insert(source.name.clone(), why.clone()).as_ref() != Some(&why) {
                        printer.failure(&why);
                    }
                    before.get(&source.name).cloned().unwrap_or_default()
                }
            };
            looks.insert(source.name.clone(), look);
        }
        looks
    }
}

/// The same source, so that a listing shows that there is something new. A Delta table has that in its log.
fn listed(source: &Source) -> Source {
    let mut source = source.clone();
    if source.format == Format::Delta {
        source.path = format!("{}/_delta_log/", source.path.trim_end_matches('/'));
        source.format = Format::Json;
    }
    source
}

/// A folder, or the nearest one above it that is there.
fn existing(folder: PathBuf) -> (PathBuf, bool) {
    if folder.is_dir() {
        return (folder, true);
    }
    let above = folder.ancestors().find(|above| above.is_dir()).map(Path::to_owned);
    (above.unwrap_or(folder), false)
}

fn state(file: &bronze::BronzeFile) -> (u64, i64, Option<&String>) {
    (file.meta.size, file.modified(), file.meta.e_tag.as_ref())
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// What is different between two looks at all sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Sources with how many files are new or changed, and how many are gone.
    pub(super) sources: BTreeMap<TableName, (usize, usize)>,
}

impl Difference {
    pub(super) fn between(before: &BTreeMap<TableName, Look>, now: &BTreeMap<TableName, Look>) -> Self {
        let empty = Look::new();
        let mut sources = BTreeMap::new();
        for (name, look) in now {
            let old = before.get(name).unwrap_or(&empty);
            let new = look.iter().filter(|(path, state)| old.get(path) != Some(state)).count();
            let gone = old.keys().filter(|path| !look.contains_key(path)).count();
            if new + gone > 0 {
                sources.insert(name.clone(), (new, gone));
            }
        }
        Self { sources }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }
}

/// Sources of which no file changes: nothing is different, or there are only files beside those that were there.
pub(super) fn quiet(
    names: impl Iterator<Item = TableName>,
    before: &BTreeMap<TableName, Look>,
    now: &BTreeMap<TableName, Look>,
    is_late: bool,
) -> BTreeSet<TableName> {
    let empty = Look::new();
    names
        .filter(|name| {
            let (old, new) = (before.get(name).unwrap_or(&empty), now.get(name).unwrap_or(&empty));
            old == new || is_late && old.iter().all(|(path, state)| new.get(path) == Some(state))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(files: &[(u64, u64)]) -> BTreeMap<TableName, Look> {
        BTreeMap::from([(TableName::new("raw", "orders"), files.iter().copied().collect())])
    }

    #[test]
    fn files_that_arrive_change_or_go_are_a_difference() {
        let name = TableName::new("raw", "orders");
        let found = |before: &[(u64, u64)], now: &[(u64, u64)]| {
            Difference::between(&looks(before), &looks(now)).sources.get(&name).copied()
        };
        assert_eq!(found(&[(1, 1)], &[(1, 1)]), None);
        assert_eq!(found(&[(1, 1)], &[(1, 1), (2, 1)]), Some((1, 0)));
        assert_eq!(found(&[(1, 1)], &[(1, 2)]), Some((1, 0)));
        assert_eq!(found(&[(1, 1), (2, 1)], &[(2, 1)]), Some((0, 1)));
    }

    #[test]
    fn a_source_that_gets_more_files_is_not_waited_for_without_end() {
        let name = TableName::new("raw", "orders");
        let is_quiet = |before: &[(u64, u64)], now: &[(u64, u64)], is_late| {
            !quiet([name.clone()].into_iter(), &looks(before), &looks(now), is_late).is_empty()
        };
        assert!(is_quiet(&[(1, 1)], &[(1, 1)], false));
        assert!(!is_quiet(&[(1, 1)], &[(1, 1), (2, 1)], false));
        assert!(is_quiet(&[(1, 1)], &[(1, 1), (2, 1)], true));
        assert!(!is_quiet(&[(1, 1)], &[(1, 2), (2, 1)], true), "a file that grows is waited for");
    }
}
