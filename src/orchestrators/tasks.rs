//! Schedule -> [`Workload`]: which nodes one process builds, and which processes end before it starts.

use std::collections::{BTreeMap, BTreeSet};

use super::inputs::Inputs;
use super::selectors::{Selecting, Selectors};
use crate::compile::CompiledProject;
use crate::graph::{self, Graph, Selection};
use crate::names::TableName;
use crate::project::{Model, Project};
use crate::run::{Schedule, Step};

/// What a task is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// A task for each node that has a table or tests.
    Node,
    /// A task for each layer.
    Layer,
    /// A task for each group, and for each model without one.
    Group,
}

/// What one process builds and tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// `silver.views`, `silver` or the name of a group; of several that cannot be kept apart, all of them.
    pub id: String,
    /// The layer that all of its nodes are in, where a layer has several tasks.
    pub layer: Option<String>,
    /// `--select`.
    pub select: Vec<String>,
    /// `--indirect-selection`.
    pub indirect: Option<&'static str>,
    /// The tables that it publishes.
    pub tables: Vec<TableName>,
    /// Who answers for all of its nodes.
    pub owner: Option<String>,
    /// Markdown.
    pub description: String,
    /// Tasks that end before it starts.
    pub after: BTreeSet<usize>,
}

/// All tasks of a selection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// In the order of the schedule.
    pub tasks: Vec<Task>,
    /// What they read that none of them makes.
    pub inputs: Inputs,
    /// Tags of the nodes.
    pub tags: BTreeSet<String>,
}

/// Steps that are built by one process.
struct Block<'a> {
    keys: Vec<&'a str>,
    steps: Vec<&'a Step>,
}

impl Workload {
    /// Cuts a schedule into tasks. What is published together, or would wait for one another, is one task.
    pub fn new(
        (project, graph): (&Project, &Graph),
        compiled: &CompiledProject,
        selection: &Selection,
        schedule: &Schedule,
        cut: Cut,
    ) -> Self {
        let works: Vec<bool> = schedule.steps.iter().map(|step| is_work(project, selection, step)).collect();
        let before = nearest(schedule, &works);
        let mut keys: Vec<&str> = Vec::new();
        let mut block_of = vec![0; schedule.steps.len()];
        let mut known = BTreeMap::new();
        for (at, step) in schedule.steps.iter().enumerate().filter(|(at, _)| works[*at]) {
            let key = key(&project.models[&step.name], cut);
            block_of[at] = *known.entry(key).or_insert_with(|| {
                keys.push(key);
                keys.len() - 1
            });
        }
        let edges = edges(schedule, &works, &before, &block_of);
        let parts = graph::components(keys.len(), &edges);
        let mut task_of = vec![0; keys.len()];
        for (task, part) in parts.iter().enumerate() {
            part.iter().for_each(|block| task_of[*block] = task);
        }
        let name = |part: &Vec<usize>| part.iter().map(|block| keys[*block]).collect();
        let mut blocks: Vec<Block<'_>> =
            parts.iter().map(|part| Block { keys: name(part), steps: Vec::new() }).collect();
        for (at, step) in schedule.steps.iter().enumerate().filter(|(at, _)| works[*at]) {
            blocks[task_of[block_of[at]]].steps.push(step);
        }
        let selecting = Selecting::new((project, graph), compiled, selection);
        let whole = project.models.keys().all(|name| selection.contains(name));
        let mut tasks: Vec<Task> = blocks.iter().map(|block| task(&selecting, block, cut, whole)).collect();
        for (from, to) in edges.iter().map(|(from, to)| (task_of[*from], task_of[*to])).filter(|(from, to)| from != to)
        {
            tasks[to].after.insert(from);
        }
        let selected = project.models.values().filter(|model| selection.contains(&model.name));
        let tags = selected.flat_map(|model| model.config.tags.iter().cloned()).collect();
        Self { tasks, inputs: Inputs::of(project, graph, selection), tags }
    }
}

/// Whether there is anything to do for a step: a view without tests has no table to build.
fn is_work(project: &Project, selection: &Selection, step: &Step) -> bool {
    let mut units = project.unit_tests.iter().filter(|test| test.model() == Some(&step.name));
    project.models[&step.name].is_stored()
        || !step.tests.is_empty()
        || units.any(|test| selection.contains_test(&test.name))
}

/// For each step the nearest steps with work that end before it, through those without.
fn nearest(schedule: &Schedule, works: &[bool]) -> Vec<BTreeSet<usize>> {
    let mut before: Vec<BTreeSet<usize>> = Vec::new();
    for step in &schedule.steps {
        let through = |at: &usize| if works[*at] { BTreeSet::from([*at]) } else { before[*at].clone() };
        before.push(step.after.iter().flat_map(through).collect());
    }
    before
}

/// Which block waits for which: `(earlier, later)`. What is published in one burst waits both ways.
fn edges(schedule: &Schedule, works: &[bool], before: &[BTreeSet<usize>], block_of: &[usize]) -> Vec<(usize, usize)> {
    let mut edges = BTreeSet::new();
    let mut bursts: BTreeMap<usize, usize> = BTreeMap::new();
    for (at, step) in schedule.steps.iter().enumerate().filter(|(at, _)| works[*at]) {
        edges.extend(before[at].iter().map(|earlier| (block_of[*earlier], block_of[at])));
        if let Some(burst) = step.together {
            let first = *bursts.entry(burst).or_insert(block_of[at]);
            edges.extend([(first, block_of[at]), (block_of[at], first)]);
        }
    }
    edges.into_iter().filter(|(from, to)| from != to).collect()
}

fn key(model: &Model, cut: Cut) -> &str {
    match (cut, &model.config.group) {
        (Cut::Layer, _) => model.name.schema,
        (Cut::Group, Some(group)) => group,
        (Cut::Group, None) | (Cut::Node, _) => model.name.as_str(),
    }
}

fn task(selecting: &Selecting<'_>, block: &Block<'_>, cut: Cut, whole: bool) -> Task {
    let project = selecting.project;
    let models: Vec<&Model> = block.steps.iter().map(|step| &project.models[&step.name]).collect();
    let tests = block.steps.iter().flat_map(|step| &step.tests);
    let tests: BTreeSet<&str> = tests.map(|test| selecting.test(*test)).collect();
    let (words, nodes) = named(project, block, cut, whole);
    let Selectors { select, indirect } = selecting.selectors(words, &nodes, &tests);
    let owners: BTreeSet<Option<&str>> = models.iter().map(|model| owner(project, model)).collect();
    let one_layer = models.iter().all(|model| model.name.schema == models[0].name.schema);
    Task {
        id: if cut == Cut::Node && one_layer {
            let tables: Vec<&str> = models.iter().map(|model| model.name.table).collect();
            format!("{}.{}", models[0].name.schema, joined(&tables))
        } else {
            joined(&block.keys)
        },
        layer: (cut == Cut::Node && one_layer).then(|| models[0].name.schema.to_owned()),
        select,
        indirect,
        tables: models.iter().filter(|model| model.is_stored()).map(|model| model.name.clone()).collect(),
        owner: owners.first().filter(|_| owners.len() == 1).and_then(|owner| owner.map(str::to_owned)),
        description: if let [model] = models.as_slice() { model.description.clone() } else { String::new() },
        after: BTreeSet::new(),
    }
}

/// How the nodes of a task are named, and which ones that are. Whole layers and groups stay right when models are added.
fn named(project: &Project, block: &Block<'_>, cut: Cut, whole: bool) -> (Vec<String>, BTreeSet<TableName>) {
    let steps = || block.steps.iter().map(|step| step.name.clone());
    if !whole || cut == Cut::Node {
        return (steps().map(|name| name.to_string()).collect(), steps().collect());
    }
    let word = |key: &str| match cut {
        Cut::Layer => format!("{key}.*"),
        _ if key.contains('.') => key.to_owned(),
        _ => format!("group:{key}"),
    };
    let nodes = project.models.values().filter(|model| block.keys.contains(&key(model, cut)));
    (block.keys.iter().map(|key| word(key)).collect(), nodes.map(|model| model.name.clone()).collect())
}

fn owner<'a>(project: &'a Project, model: &'a Model) -> Option<&'a str> {
    let of_group = || {
        let group = project.groups.get(model.config.group.as_ref()?)?;
        group.owner.name.as_deref().or(group.owner.email.as_deref())
    };
    model.config.owner.as_deref().or_else(of_group)
}

/// A name of several things; no name has a hyphen, so it is not that of another one.
fn joined(keys: &[&str]) -> String {
    match keys {
        [] | [_] | [_, _] | [_, _, _] => keys.join("-"),
        [first, rest @ ..] => format!("{first}-and-{}-more", rest.len()),
    }
}
