//! The selection of one task: its nodes, and exactly those tests that a run of everything would bind to them.

use std::collections::{BTreeMap, BTreeSet};

use crate::compile::{CompiledProject, CompiledTest};
use crate::graph::{Graph, Selection};
use crate::names::TableName;
use crate::project::Project;

/// What stands after `lake build` for a task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Selectors {
    /// `--select`.
    pub(super) select: Vec<String>,
    /// `--indirect-selection`, where the usual mode would take other tests.
    pub(super) indirect: Option<&'static str>,
}

/// What all tasks have in common.
pub(super) struct Selecting<'a> {
    pub(super) project: &'a Project,
    graph: &'a Graph,
    compiled: &'a CompiledProject,
    selection: &'a Selection,
    /// The tests that read a table.
    tests_on: BTreeMap<&'a TableName, Vec<&'a CompiledTest>>,
}

impl<'a> Selecting<'a> {
    pub(super) fn new(
        (project, graph): (&'a Project, &'a Graph),
        compiled: &'a CompiledProject,
        selection: &'a Selection,
    ) -> Self {
        let mut tests_on: BTreeMap<&TableName, Vec<&CompiledTest>> = BTreeMap::new();
        for test in &compiled.tests {
            test.reads.iter().for_each(|table| tests_on.entry(table).or_default().push(test));
        }
        Self { project, graph, compiled, selection, tests_on }
    }

    /// The name of a test of the schedule.
    pub(super) fn test(&self, index: usize) -> &'a str {
        &self.compiled.tests[index].name
    }

    /// The selection of `nodes`, which `words` name, and of the tests `wanted`. A test of two tables that other tasks build
    /// belongs to the later one: at the time of the other, one of the two may not be there.
    pub(super) fn selectors(
        &self,
        mut words: Vec<String>,
        nodes: &BTreeSet<TableName>,
        wanted: &BTreeSet<&str>,
    ) -> Selectors {
        let units = self.project.unit_tests.iter().filter(|test| test.model().is_some_and(|name| nodes.contains(name)));
        let (units, others): (Vec<_>, Vec<_>) = units.partition(|test| self.selection.contains_test(&test.name));
        let near: Vec<&CompiledTest> =
            nodes.iter().flat_map(|name| self.tests_on.get(name).into_iter().flatten().copied()).collect();
        let eager: BTreeSet<&str> = near.iter().map(|test| test.name.as_str()).collect();
        if others.is_empty() && eager == *wanted {
            return Selectors { select: words, indirect: None };
        }
        let mut above = self.graph.reach(nodes, true, None);
        above.extend(self.project.sources.keys().cloned());
        let buildable = near.iter().filter(|test| test.reads.iter().all(|table| above.contains(table)));
        let buildable: BTreeSet<&str> = buildable.map(|test| test.name.as_str()).collect();
        if others.is_empty() && buildable.is_subset(wanted) {
            words.extend(wanted.difference(&buildable).map(|test| (*test).to_owned()));
            return Selectors { select: words, indirect: Some("buildable") };
        }
        words.extend(wanted.iter().map(|test| (*test).to_owned()));
        words.extend(units.iter().map(|test| format!("unit_test:{}", test.name)));
        Selectors { select: words, indirect: Some("empty") }
    }
}
