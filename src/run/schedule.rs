//! Which nodes run, after which others, and which tests gate which publish. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::compile::{CompiledProject, CompiledTest};
use crate::graph::{Graph, Selection};
use crate::names::TableName;
use crate::project::{Materialization, Project};

/// Whether tests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestMode {
    /// Tests gate every publish: `build`.
    Gate,
    /// No tests: `run`.
    Off,
}

/// One node of a run.
#[derive(Debug, Clone)]
pub struct Step {
    /// The model.
    pub name: TableName,
    /// Steps that end before this one starts.
    pub after: Vec<usize>,
    /// Tests that see this model's new rows before they are published, as indices of the compiled tests.
    pub tests: Vec<usize>,
}

/// What a run will do, in order.
#[derive(Debug, Clone, Default)]
pub struct Schedule {
    /// Parents first.
    pub steps: Vec<Step>,
    /// Tests selected by name whose models are not part of the run.
    pub loose_tests: Vec<usize>,
}

/// Orders the selected models and gives each test to the last of its models: there it sees all the others
/// published and that one staged.
pub fn schedule(
    project: &Project,
    graph: &Graph,
    compiled: &CompiledProject,
    selection: &Selection,
    mode: TestMode,
) -> Schedule {
    let order: Vec<&TableName> =
        graph.order().iter().filter(|name| project.models.contains_key(name) && selection.contains(name)).collect();
    let position: BTreeMap<&TableName, usize> = order.iter().enumerate().map(|(at, name)| (*name, at)).collect();
    let mut tests: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut extra: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    let mut loose_tests = Vec::new();
    if mode == TestMode::Gate {
        for (index, test) in compiled.tests.iter().enumerate() {
            let places: BTreeSet<usize> = test.reads.iter().filter_map(|name| position.get(name).copied()).collect();
            match places.last() {
                Some(owner) => {
                    tests.entry(*owner).or_default().push(index);
                    // From an earlier to a later place of one order: no cycle can come of it.
                    extra.entry(*owner).or_default().extend(places.iter().filter(|place| *place != owner));
                }
                None if selection.tests.contains(&test.name) => loose_tests.push(index),
                None => {}
            }
        }
    }
    let runs = |at: usize| {
        project.models[order[at]].config.materialized != Materialization::Ephemeral || tests.contains_key(&at)
    };
    let kept: Vec<usize> = (0..order.len()).filter(|at| runs(*at)).collect();
    let step_of: BTreeMap<usize, usize> = kept.iter().enumerate().map(|(step, at)| (*at, step)).collect();
    let steps = kept
        .iter()
        .map(|at| {
            let mut before = nearest_selected(graph, order[*at], &position, &step_of);
            before.extend(extra.get(at).into_iter().flatten().filter_map(|place| step_of.get(place).copied()));
            Step {
                name: order[*at].clone(),
                after: before.into_iter().collect(),
                tests: tests.get(at).cloned().unwrap_or_default(),
            }
        })
        .collect();
    Schedule { steps, loose_tests }
}

/// The nearest ancestors that are steps, also through models that are not.
fn nearest_selected(
    graph: &Graph,
    name: &TableName,
    position: &BTreeMap<&TableName, usize>,
    step_of: &BTreeMap<usize, usize>,
) -> BTreeSet<usize> {
    let (mut found, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut pending = graph.parents(name);
    while let Some(parent) = pending.pop() {
        if !seen.insert(parent) {
            continue;
        }
        match position.get(parent).and_then(|at| step_of.get(at)) {
            Some(step) => {
                found.insert(*step);
            }
            None => pending.extend(graph.parents(parent)),
        }
    }
    found
}

/// The tests that `lake test` runs: those named, and those that read a selected table.
pub(super) fn selected_tests<'a>(compiled: &'a CompiledProject, selection: &Selection) -> Vec<&'a CompiledTest> {
    compiled
        .tests
        .iter()
        .filter(|test| {
            let tagged = selection.tests.contains(&test.name);
            tagged || test.reads.iter().any(|name| selection.contains(name))
        })
        .collect()
}
