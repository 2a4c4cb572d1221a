//! Which nodes run, after which others, and which tests gate which publish. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::unit::UnitTestResult;
use crate::compile::{CompiledProject, CompiledTest, Input};
use crate::graph::{Graph, Selection};
use crate::names::TableName;
use crate::project::{Materialization, Project};

/// Whether tests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestMode {
    /// Tests gate every publish: `build`.
    Gate,
    /// No tests but those that contracts promise: `run`.
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
    /// The set of steps that are published with it in one burst.
    pub together: Option<usize>,
}

/// An export of a run.
#[derive(Debug, Clone)]
pub struct ExportStep {
    /// `export.name`.
    pub name: TableName,
    /// The step of its model, if that is part of the run.
    pub after: Option<usize>,
}

/// What a run will do, in order.
#[derive(Debug, Clone, Default)]
pub struct Schedule {
    /// Parents first.
    pub steps: Vec<Step>,
    /// Tests selected by name whose models are not part of the run.
    pub loose_tests: Vec<usize>,
    /// Tests that come with the selected models and compare them with a table that is made of their rows, but not by this run:
    /// they would find new rows beside old ones, so they wait until that table is built.
    pub waiting_tests: Vec<(usize, TableName)>,
    /// Exports, each after its model.
    pub exports: Vec<ExportStep>,
    /// Unit tests that have run before it: a model with one that failed is not built.
    pub unit_tests: Vec<UnitTestResult>,
}

impl Schedule {
    /// The stored tables of its steps, and those that they are built from.
    pub(super) fn tables(&self, project: &Project, compiled: &CompiledProject) -> BTreeSet<TableName> {
        let mut names: BTreeSet<TableName> = self.steps.iter().map(|step| step.name.clone()).collect();
        let models = self.steps.iter().filter_map(|step| compiled.models.get(&step.name));
        names.extend(models.flat_map(|model| &model.inputs).filter_map(Input::table).cloned());
        names.retain(|name| project.models.get(name).is_some_and(|model| model.is_stored()));
        names
    }

    /// All tables are published in one burst: `--atomic`.
    pub fn all_together(mut self) -> Self {
        self.steps.iter_mut().for_each(|step| step.together = Some(0));
        self
    }

    /// Why a model must not be built, if its unit tests say so.
    pub(super) fn refusal(&self, name: &TableName) -> Option<String> {
        let failed = self.unit_tests.iter().filter(|test| test.blocks() && test.refuses.contains(name));
        let failed: Vec<String> = failed.map(|test| format!("`{}`", test.name)).collect();
        match failed.as_slice() {
            [] => None,
            [one] => Some(format!("unit test {one} failed; it was not built")),
            many => Some(format!("unit tests {} failed; it was not built", many.join(", "))),
        }
    }
}

/// Orders the selected models and binds each test to one of them: the model it is declared on, or the last of the
/// models that a singular test reads. That model sees its own rows staged and the others published, so they end
/// before it starts.
pub fn schedule(
    project: &Project,
    graph: &Graph,
    compiled: &CompiledProject,
    selection: &Selection,
    mode: TestMode,
) -> Schedule {
    let selected: Vec<&TableName> =
        graph.order().iter().filter(|name| project.models.contains_key(name) && selection.contains(name)).collect();
    let mut waits = Waits::new(graph, &selected);
    let mut tests: BTreeMap<&TableName, Vec<usize>> = BTreeMap::new();
    let (mut loose_tests, mut waiting_tests) = (Vec::new(), Vec::new());
    let behind = behind(project, graph, &selected);
    for (index, test) in compiled.tests.iter().enumerate() {
        let runs = mode == TestMode::Gate && selection.contains_test(&test.name);
        let promised = test.config.contract && test.table.as_ref().is_some_and(|table| selection.contains(table));
        if !runs && !promised {
            continue;
        }
        let is_named = selection.tests.contains(&test.name);
        if let Some(table) = test.reads.iter().find_map(|read| behind.get(read)).filter(|_| !promised) {
            match is_named {
                true => loose_tests.push(index),
                false => waiting_tests.push((index, (*table).clone())),
            }
            continue;
        }
        // A test of a model that does not run cannot gate another model: it reports.
        let elsewhere = test.table.as_ref().is_some_and(|table| !selection.contains(table));
        match waits.bind(test).filter(|_| !elsewhere) {
            Some(owner) => tests.entry(owner).or_default().push(index),
            None if elsewhere || is_named => loose_tests.push(index),
            None => {}
        }
    }
    let is_step = |name: &TableName| {
        project.models[name].config.materialized != Materialization::Ephemeral || tests.contains_key(name)
    };
    let order: Vec<&TableName> = waits.order().into_iter().filter(|name| is_step(name)).collect();
    let position: BTreeMap<&TableName, usize> = order.iter().enumerate().map(|(at, name)| (*name, at)).collect();
    let mut steps: Vec<Step> = order
        .iter()
        .map(|name| Step {
            name: (*name).clone(),
            after: waits.nearest(name, &position),
            tests: tests.get(name).cloned().unwrap_or_default(),
            together: None,
        })
        .collect();
    super::together::assign(project, &mut steps);
    let exports = project.exports.values().filter(|export| selection.contains(&export.name));
    let exports =
        exports.map(|export| ExportStep { name: export.name.clone(), after: position.get(export.model()).copied() });
    let exports = exports.collect();
    Schedule { steps, loose_tests, waiting_tests, exports, unit_tests: Vec::new() }
}

/// Tables that are made of rows of the selected models, and not selected: after the run they are behind. So are views that read
/// them; each has the table that it is behind with.
fn behind<'a>(project: &Project, graph: &'a Graph, selected: &[&TableName]) -> BTreeMap<&'a TableName, &'a TableName> {
    let selected: BTreeSet<TableName> = selected.iter().map(|name| (*name).clone()).collect();
    let below = graph.reach(&selected, false, None);
    let mut behind = BTreeMap::new();
    for name in graph.order() {
        let table = match project.models.get(name) {
            Some(model) if model.is_stored() => Some(name).filter(|_| below.contains(name) && !selected.contains(name)),
            Some(_) => graph.parents(name).iter().rev().find_map(|parent| behind.get(*parent).copied()),
            None => None,
        };
        behind.extend(table.map(|table| (name, table)));
    }
    behind
}

/// Which selected model ends before which other: by the data it reads, and by the tests that look at both.
struct Waits<'a> {
    order: Vec<&'a TableName>,
    before: BTreeMap<&'a TableName, BTreeSet<&'a TableName>>,
}

impl<'a> Waits<'a> {
    fn new(graph: &'a Graph, selected: &[&'a TableName]) -> Self {
        let known: BTreeSet<&TableName> = selected.iter().copied().collect();
        let before = selected.iter().map(|name| (*name, selected_parents(graph, name, &known))).collect();
        Self { order: selected.to_vec(), before }
    }

    /// The model whose publish a test gates; the others that the test reads now end before it.
    fn bind(&mut self, test: &CompiledTest) -> Option<&'a TableName> {
        let read: Vec<&'a TableName> = self.order.iter().copied().filter(|name| test.reads.contains(name)).collect();
        let last = *read.last()?;
        // Where the other table is built from the tested one, only the other can see both.
        let owner = match test.table.as_ref().and_then(|table| read.iter().copied().find(|name| *name == table)) {
            Some(declared) if read.iter().all(|name| *name == declared || !self.reaches(declared, name)) => declared,
            _ => read.iter().copied().find(|name| read.iter().all(|other| !self.reaches(name, other))).unwrap_or(last),
        };
        let others: Vec<&'a TableName> = read.into_iter().filter(|name| *name != owner).collect();
        for other in others {
            if !self.reaches(owner, other) {
                self.before.entry(owner).or_default().insert(other);
            }
        }
        Some(owner)
    }

    /// Whether `below` waits for `above`, directly or not.
    fn reaches(&self, above: &TableName, below: &TableName) -> bool {
        let (mut pending, mut seen) = (vec![below], BTreeSet::new());
        while let Some(name) = pending.pop() {
            for parent in self.before.get(name).into_iter().flatten() {
                if *parent == above {
                    return true;
                }
                if seen.insert(*parent) {
                    pending.push(parent);
                }
            }
        }
        false
    }

    /// All models, each after those that it waits for.
    fn order(&self) -> Vec<&'a TableName> {
        let (mut done, mut order) = (BTreeSet::new(), Vec::new());
        while order.len() < self.order.len() {
            let ready: Vec<&TableName> = self
                .order
                .iter()
                .copied()
                .filter(|name| !done.contains(name) && self.before[name].iter().all(|parent| done.contains(parent)))
                .collect();
            assert!(!ready.is_empty(), "edges are only added where they close no cycle");
            done.extend(ready.iter().copied());
            order.extend(ready);
        }
        order
    }

    /// The nearest models that are steps, also through models that are not.
    fn nearest(&self, name: &TableName, position: &BTreeMap<&TableName, usize>) -> Vec<usize> {
        let (mut found, mut seen) = (BTreeSet::new(), BTreeSet::new());
        let mut pending: Vec<&TableName> = self.before[name].iter().copied().collect();
        while let Some(parent) = pending.pop() {
            match position.get(parent) {
                Some(step) => {
                    found.insert(*step);
                }
                None if seen.insert(parent) => pending.extend(self.before[parent].iter().copied()),
                None => {}
            }
        }
        found.into_iter().collect()
    }
}

/// The nearest selected ancestors, also through models that are not selected.
fn selected_parents<'a>(
    graph: &'a Graph,
    name: &TableName,
    selected: &BTreeSet<&TableName>,
) -> BTreeSet<&'a TableName> {
    let (mut found, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut pending = graph.parents(name);
    while let Some(parent) = pending.pop() {
        if selected.contains(parent) {
            found.insert(parent);
        } else if seen.insert(parent) {
            pending.extend(graph.parents(parent));
        }
    }
    found
}

/// The tests that `lake test` runs: those named, and those that read a selected table.
pub(super) fn selected_tests<'a>(compiled: &'a CompiledProject, selection: &Selection) -> Vec<&'a CompiledTest> {
    compiled.tests.iter().filter(|test| selection.contains_test(&test.name)).collect()
}
