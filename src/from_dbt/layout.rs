//! Where a dbt project keeps what: the paths of dbt_project.yml.

use super::finding::Level;
use super::properties::Page;
use super::{entries, get, texts};
use crate::project::Node;

/// What files of a folder are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Area {
    Models,
    Seeds,
    Snapshots,
    Macros,
    Tests,
    Analyses,
    Docs,
}

/// The keys of dbt_project.yml, with what each has unless it says so.
const KEYS: &[(&str, Area, &[&str])] = &[
    ("model-paths", Area::Models, &["models"]),
    ("source-paths", Area::Models, &[]),
    ("seed-paths", Area::Seeds, &["seeds"]),
    ("data-paths", Area::Seeds, &[]),
    ("snapshot-paths", Area::Snapshots, &["snapshots"]),
    ("macro-paths", Area::Macros, &["macros"]),
    ("test-paths", Area::Tests, &["tests"]),
    ("analysis-paths", Area::Analyses, &["analyses", "analysis"]),
    ("docs-paths", Area::Docs, &["docs"]),
];

/// Folders and what is in them.
#[derive(Debug)]
pub(super) struct Layout(Vec<(String, Area)>);

impl Layout {
    pub(super) fn new(root: &Node) -> Self {
        let mut folders = Vec::new();
        for (key, area, usual) in KEYS {
            let said = get(root, key).map(texts);
            let said = said.unwrap_or_else(|| usual.iter().map(|folder| (*folder).to_owned()).collect());
            folders.extend(said.into_iter().map(|folder| (folder.trim_matches(['.', '/']).to_owned(), *area)));
        }
        // The longest path that fits is meant.
        folders.sort_by_key(|(folder, _)| std::cmp::Reverse(folder.len()));
        Self(folders)
    }

    /// What a file is, and where it stands below the folder of its kind.
    pub(super) fn place<'p>(&self, path: &'p str) -> Option<(Area, &'p str)> {
        self.0.iter().find_map(|(folder, area)| {
            let rest = path.strip_prefix(folder.as_str())?;
            Some((*area, rest.strip_prefix('/')?))
        })
    }

    /// Folders that have other names here.
    pub(super) fn report(&self, page: &mut Page<'_>, root: &Node) {
        for (key, value) in entries(root) {
            let name = key.plain_text();
            let Some((_, area, usual)) = KEYS.iter().find(|(known, _, _)| *known == name) else { continue };
            let new = match area {
                Area::Models => "models/",
                Area::Seeds => "seeds/",
                Area::Snapshots => "models/snapshots/",
                Area::Macros => "macros/",
                Area::Tests => "tests/",
                Area::Analyses => "analyses/",
                Area::Docs => "docs/",
            };
            let moved: Vec<String> =
                texts(value).into_iter().filter(|folder| !usual.contains(&folder.as_str())).collect();
            if !moved.is_empty() {
                page.say(
                    Level::Done,
                    key,
                    format!("`{name}: [{}]`", moved.join(", ")),
                    format!("these files stand in {new} now"),
                );
            }
        }
    }
}

/// The first folder of a path, if there is one, and its name without its ending.
pub(super) fn parts(rest: &str) -> (Option<&str>, &str) {
    let name = rest.rsplit('/').next().unwrap_or(rest);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    (rest.split_once('/').map(|(folder, _)| folder), stem)
}

/// The ending of a file.
pub(super) fn ending(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, ending)| ending)
}
