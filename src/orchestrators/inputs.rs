//! What the selected models read that is made elsewhere.

use std::collections::BTreeSet;

use crate::graph::{Graph, Selection};
use crate::names::TableName;
use crate::project::Project;

/// Tables that a run of a selection reads and does not make.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Sources.
    pub sources: BTreeSet<TableName>,
    /// Models with a table of their own.
    pub models: BTreeSet<TableName>,
}

impl Inputs {
    /// What the selected models read, also through views and ephemeral models that are not selected.
    pub fn of(project: &Project, graph: &Graph, selection: &Selection) -> Self {
        let mut found = Self::default();
        let selected = project.models.keys().filter(|name| selection.contains(name));
        let mut pending: Vec<&TableName> = selected.flat_map(|name| graph.parents(name)).collect();
        let mut seen = BTreeSet::new();
        while let Some(name) = pending.pop() {
            if !seen.insert(name) {
                continue;
            }
            match project.models.get(name) {
                None => drop(found.sources.insert(name.clone())),
                Some(_) if selection.contains(name) => {}
                Some(model) if model.is_stored() => drop(found.models.insert(name.clone())),
                Some(_) => pending.extend(graph.parents(name)),
            }
        }
        found
    }

    /// All of them.
    pub fn tables(&self) -> impl Iterator<Item = &TableName> {
        self.sources.iter().chain(&self.models)
    }
}
