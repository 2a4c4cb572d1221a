//! Evaluates a parsed selection over the graph.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use super::expression::Expression;
use super::facts::{ColumnKey, Facts};
use super::term::Term;
use super::{Indirect, SelectError, Selection};
use crate::graph::Graph;
use crate::names::TableName;
use crate::project::{DataTest, Project};

/// Nodes and tests on the way to a [`Selection`].
#[derive(Debug, Clone, Default)]
pub(super) struct Set {
    pub(super) nodes: BTreeSet<TableName>,
    /// Tests named directly.
    pub(super) tests: BTreeSet<String>,
    /// Tests that came with nodes.
    indirect: BTreeSet<String>,
    /// Tests that come too if the rest of what they read is selected in the end, and the mode that asks so.
    pending: BTreeMap<String, Indirect>,
}

impl Set {
    fn unite(mut self, other: Self) -> Self {
        self.nodes.extend(other.nodes);
        self.tests.extend(other.tests);
        self.indirect.extend(other.indirect);
        self.pending.extend(other.pending);
        self
    }

    fn has_test(&self, name: &String) -> bool {
        self.tests.contains(name) || self.indirect.contains(name)
    }

    fn intersect(&self, other: &Self) -> Self {
        let both = |own: &BTreeSet<String>| own.iter().filter(|name| other.has_test(name)).cloned().collect();
        Self {
            nodes: self.nodes.intersection(&other.nodes).cloned().collect(),
            tests: both(&self.tests),
            indirect: both(&self.indirect),
            pending: self
                .pending
                .iter()
                .filter(|(name, _)| other.pending.contains_key(*name) || other.has_test(name))
                .map(|(name, mode)| (name.clone(), *mode))
                .collect(),
        }
    }

    /// What is in this one and not in the other.
    pub(super) fn without(mut self, other: &Self) -> Self {
        self.nodes.retain(|name| !other.nodes.contains(name));
        self.tests.retain(|name| !other.has_test(name));
        self.indirect.retain(|name| !other.has_test(name));
        self.pending.retain(|name, _| !other.has_test(name));
        self
    }
}

/// Everything that an evaluation looks at.
pub(super) struct Evaluator<'a> {
    pub(super) project: &'a Project,
    graph: &'a Graph,
    pub(super) facts: &'a Facts,
    indirect: Indirect,
    /// The tests that read a table, made when somebody asks.
    tests_on: OnceCell<BTreeMap<&'a TableName, Vec<&'a DataTest>>>,
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(project: &'a Project, graph: &'a Graph, facts: &'a Facts, indirect: Indirect) -> Self {
        Self { project, graph, facts, indirect, tests_on: OnceCell::new() }
    }

    fn tests_on(&self, table: &TableName) -> impl Iterator<Item = &'a DataTest> {
        let all = self.tests_on.get_or_init(|| {
            let mut all: BTreeMap<&TableName, Vec<&DataTest>> = BTreeMap::new();
            for test in &self.project.data_tests {
                test.reads.iter().for_each(|table| all.entry(table).or_default().push(test));
            }
            all
        });
        all.get(table).into_iter().flatten().copied()
    }

    pub(super) fn all_nodes(&self) -> BTreeSet<TableName> {
        self.names().cloned().collect()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'a TableName> {
        let ends = self.project.exposures.keys().chain(self.project.exports.keys());
        self.project.sources.keys().chain(self.project.models.keys()).chain(ends)
    }

    /// All nodes, with the tests that come with them.
    pub(super) fn everything(&self) -> Set {
        let nodes = self.all_nodes();
        let mut set = self.with_tests(Set { nodes, ..Set::default() }, self.indirect);
        // Tests of macros come with no node.
        let of_macros = self.project.unit_tests.iter().filter(|test| test.model().is_none());
        set.indirect.extend(of_macros.map(|test| test.name.clone()));
        set
    }

    pub(super) fn evaluate(&self, expression: &Expression) -> Result<Set, SelectError> {
        match expression {
            Expression::Term(term) => {
                let matched = self.matching(term)?;
                let matched = if term.method == Some("column") { matched } else { self.widened(matched, term) };
                Ok(self.with_tests(matched, term.mode(self.indirect)))
            }
            Expression::Widened(inner, term) => {
                let set = self.widened(self.evaluate(inner)?, term);
                Ok(self.with_tests(set, term.mode(self.indirect)))
            }
            Expression::Union(parts) => {
                parts.iter().try_fold(Set::default(), |all, part| Ok(all.unite(self.evaluate(part)?)))
            }
            Expression::Intersection(parts) => {
                let mut sets = parts.iter().map(|part| self.evaluate(part));
                let first = sets.next().unwrap_or_else(|| Ok(Set::default()))?;
                sets.try_fold(first, |all, part| Ok(all.intersect(&part?)))
            }
            Expression::Except(from, parts) => {
                let excluded = parts
                    .iter()
                    .try_fold(Set::default(), |all, part| Ok::<_, SelectError>(all.unite(self.evaluate(part)?)))?;
                Ok(self.evaluate(from)?.without(&excluded))
            }
        }
    }

    /// `+`, `n+` and `@`: a test leads up to what it reads.
    fn widened(&self, mut set: Set, term: &Term) -> Set {
        let mut found = BTreeSet::new();
        if let Some(depth) = term.upstream {
            found.extend(self.graph.reach(&set.nodes, true, depth));
            if depth != Some(0) {
                let tests = self.project.data_tests.iter().filter(|test| set.tests.contains(&test.name));
                let mut read: BTreeSet<TableName> = tests.flat_map(|test| test.reads.iter().cloned()).collect();
                let units = self.project.unit_tests.iter().filter(|test| set.tests.contains(&test.name));
                read.extend(units.filter_map(|test| test.model().cloned()));
                found.extend(self.graph.reach(&read, true, depth.map(|depth| depth - 1)));
            }
        }
        if let Some(depth) = term.downstream {
            found.extend(self.graph.reach(&set.nodes, false, depth));
        }
        if term.childrens_parents {
            let below = self.graph.reach(&set.nodes, false, None);
            found.extend(self.graph.reach(&below, true, None));
        }
        set.nodes.extend(found);
        set
    }

    /// Adds the tests that come with the nodes of a term, and the exports of its models.
    fn with_tests(&self, mut set: Set, mode: Indirect) -> Set {
        let exports = self.project.exports.values().filter(|export| set.nodes.contains(export.model()));
        let exports: Vec<TableName> = exports.map(|export| export.name.clone()).collect();
        set.nodes.extend(exports);
        if mode == Indirect::Empty {
            return set;
        }
        // A unit test reads no table: it comes with its model, whatever else is selected.
        for test in &self.project.unit_tests {
            if test.model().is_some_and(|model| set.nodes.contains(model)) {
                set.indirect.insert(test.name.clone());
            }
        }
        let buildable = if mode == Indirect::Buildable { self.buildable(&set.nodes) } else { BTreeSet::new() };
        for test in set.nodes.iter().flat_map(|name| self.tests_on(name)) {
            let complete = test.reads.iter().all(|read| set.nodes.contains(read) || buildable.contains(read));
            if mode == Indirect::Eager || complete {
                set.indirect.insert(test.name.clone());
            } else {
                set.pending.insert(test.name.clone(), mode);
            }
        }
        set
    }

    /// What the tests of `buildable` may read beside the selected nodes.
    fn buildable(&self, nodes: &BTreeSet<TableName>) -> BTreeSet<TableName> {
        let mut found = self.graph.reach(nodes, true, None);
        found.extend(self.project.sources.keys().cloned());
        found
    }

    /// Tests that waited for other parts of the selection are settled.
    pub(super) fn finish(&self, mut set: Set) -> Selection {
        if !set.pending.is_empty() {
            let buildable = self.buildable(&set.nodes);
            for test in &self.project.data_tests {
                let Some(mode) = set.pending.get(&test.name) else { continue };
                let near = |read| *mode == Indirect::Buildable && buildable.contains(read);
                if test.reads.iter().all(|read| set.nodes.contains(read) || near(read)) {
                    set.indirect.insert(test.name.clone());
                }
            }
        }
        Selection { nodes: set.nodes, tests: set.tests, indirect: set.indirect, all_tests: false }
    }

    /// The tables of the columns that a term names, and of those that it reaches along the lineage of columns.
    pub(super) fn columns(&self, term: &Term) -> BTreeSet<TableName> {
        let full = |(table, column): &ColumnKey| format!("{table}.{column}");
        let start: BTreeSet<&ColumnKey> =
            self.facts.columns.iter().filter(|column| term.pattern.matches(&full(column))).collect();
        let mut found: BTreeSet<&ColumnKey> = start.clone();
        if let Some(depth) = term.upstream {
            found.extend(self.column_reach(&start, true, depth));
        }
        if let Some(depth) = term.downstream {
            found.extend(self.column_reach(&start, false, depth));
        }
        if term.childrens_parents {
            let below = self.column_reach(&start, false, None);
            found.extend(self.column_reach(&below, true, None));
        }
        found.into_iter().map(|(table, _)| table.clone()).collect()
    }

    fn column_reach<'f>(
        &'f self,
        start: &BTreeSet<&'f ColumnKey>,
        upstream: bool,
        depth: Option<usize>,
    ) -> BTreeSet<&'f ColumnKey> {
        let mut next: BTreeMap<&ColumnKey, Vec<&ColumnKey>> = BTreeMap::new();
        for edge in &self.facts.column_edges {
            let (from, to) = if upstream { (&edge.to, &edge.from) } else { (&edge.from, &edge.to) };
            next.entry(from).or_default().push(to);
        }
        let (mut found, mut frontier) = (start.clone(), start.clone());
        let mut steps = 0;
        while !frontier.is_empty() && depth.is_none_or(|depth| steps < depth) {
            let reached = frontier.iter().flat_map(|column| next.get(*column).into_iter().flatten().copied());
            let mut ahead: BTreeSet<&ColumnKey> = reached.collect();
            if upstream {
                // What decides the rows of a table decides each of its columns, and is a last step.
                let all = frontier.iter().filter_map(|(table, _)| next.get(&(table.clone(), "*".to_owned())));
                found.extend(all.flatten().copied());
            }
            ahead.retain(|column| found.insert(column));
            frontier = ahead;
            steps += 1;
        }
        found
    }
}
