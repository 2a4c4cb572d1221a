//! Project -> [`Graph`]: who reads whom.
//!
//! Rejects cycles and orders the nodes. petgraph is used only here; SQL and tables are unknown here.

mod select;

use std::collections::{BTreeSet, HashMap};

use petgraph::Direction;
use petgraph::algo::{tarjan_scc, toposort};
use petgraph::graph::{DiGraph, NodeIndex};

use crate::diagnostics::{Diagnostic, Diagnostics, Id};
use crate::names::TableName;
use crate::project::{Model, Project};

pub use select::{
    ColumnEdge, ColumnKey, Facts, Indirect, Needs, Request, ResourceType, SelectError, Selection, Standing, StateFacts,
    Wanted,
};

/// Sources, models, exposures and exports in the order data flows.
#[derive(Debug)]
pub struct Graph {
    edges: DiGraph<TableName, ()>,
    index: HashMap<TableName, NodeIndex>,
    order: Vec<TableName>,
}

/// Builds the graph. Cycles go to the sink; their models are left out, and so is what reads them.
pub fn resolve(project: &Project, diagnostics: &mut Diagnostics) -> Graph {
    let mut edges = DiGraph::new();
    let mut index = HashMap::new();
    let ends = project.exposures.keys().chain(project.exports.keys());
    for name in project.sources.keys().chain(project.models.keys()).chain(ends) {
        index.insert(name.clone(), edges.add_node(name.clone()));
    }
    for model in project.models.values() {
        for parent in parents_of(model) {
            if let Some(from) = index.get(parent) {
                edges.update_edge(*from, index[&model.name], ());
            }
        }
    }
    for exposure in project.exposures.values() {
        for (parent, _) in &exposure.depends_on {
            if let Some(from) = index.get(parent) {
                edges.update_edge(*from, index[&exposure.name], ());
            }
        }
    }
    for export in project.exports.values() {
        if let Some(from) = index.get(export.model()) {
            edges.update_edge(*from, index[&export.name], ());
        }
    }
    report_cycles(project, &edges, diagnostics);
    let order = match toposort(&edges, None) {
        Ok(order) => order.into_iter().map(|node| edges[node].clone()).collect(),
        Err(_) => Vec::new(),
    };
    Graph { edges, index, order }
}

fn parents_of(model: &Model) -> impl Iterator<Item = &TableName> {
    model.refs.iter().chain(model.sources.iter().map(|(name, _)| name))
}

fn report_cycles(project: &Project, edges: &DiGraph<TableName, ()>, diagnostics: &mut Diagnostics) {
    for component in tarjan_scc(edges) {
        let first = component[0];
        if component.len() == 1 && !edges.contains_edge(first, first) {
            continue;
        }
        let members: BTreeSet<&TableName> = component.iter().map(|node| &edges[*node]).collect();
        let path = cycle_path(project, &members);
        let names: Vec<String> = path.iter().chain(path.first()).map(|name| format!("`{name}`")).collect();
        let message = match path.as_slice() {
            [only] => format!("model `{only}` reads itself"),
            _ => format!("models depend on one another: {}", names.join(" -> ")),
        };
        let mut diagnostic = Diagnostic::error(Id::Cycle, message);
        for (at, name) in path.iter().enumerate() {
            let next = &path[(at + 1) % path.len()];
            let span = crate::project::ref_span(&project.models[*name].span(), next);
            diagnostic = match at {
                0 => diagnostic.at(span).label(format!("reads `{next}`")),
                _ => diagnostic.related(span, format!("reads `{next}`")),
            };
        }
        diagnostic = match path.as_slice() {
            [_] => diagnostic.help("write {{ this }} in an incremental model to read its own published table"),
            _ => diagnostic.help("take one of these references out"),
        };
        diagnostics.push(diagnostic);
    }
}

/// One way around a cycle, each model reading the next.
fn cycle_path<'a>(project: &'a Project, members: &BTreeSet<&'a TableName>) -> Vec<&'a TableName> {
    let mut path: Vec<&TableName> = vec![members.first().expect("a component has a member")];
    loop {
        let model = &project.models[*path.last().expect("the path has a start")];
        let inside: Vec<&TableName> = model.refs.iter().filter_map(|name| members.get(name).copied()).collect();
        if let Some(start) = path.iter().position(|seen| inside.contains(seen)) {
            return path.split_off(start);
        }
        path.push(inside.first().expect("each member of a cycle reads a member"));
    }
}

/// Numbers below `count` in sets: those that reach one another along `edges`, in the order of the least of each.
pub fn components(count: usize, edges: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let mut graph: DiGraph<(), ()> = DiGraph::new();
    let nodes: Vec<NodeIndex> = (0..count).map(|_| graph.add_node(())).collect();
    for (from, to) in edges {
        graph.add_edge(nodes[*from], nodes[*to], ());
    }
    let mut sets: Vec<Vec<usize>> =
        tarjan_scc(&graph).into_iter().map(|set| set.into_iter().map(NodeIndex::index).collect()).collect();
    sets.iter_mut().for_each(|set| set.sort_unstable());
    sets.sort_unstable();
    sets
}

impl Graph {
    /// Sources, models, exposures and exports, parents first.
    pub fn order(&self) -> &[TableName] {
        &self.order
    }

    /// Direct parents.
    pub fn parents(&self, name: &TableName) -> Vec<&TableName> {
        self.neighbours(name, Direction::Incoming)
    }

    /// Direct children.
    pub fn children(&self, name: &TableName) -> Vec<&TableName> {
        self.neighbours(name, Direction::Outgoing)
    }

    fn neighbours(&self, name: &TableName, direction: Direction) -> Vec<&TableName> {
        let Some(node) = self.index.get(name) else { return Vec::new() };
        let mut found: Vec<&TableName> =
            self.edges.neighbors_directed(*node, direction).map(|n| &self.edges[n]).collect();
        found.sort();
        found
    }

    /// Everything within `depth` steps up- or downstream of any of the nodes, themselves included.
    pub(crate) fn reach(
        &self,
        starts: &BTreeSet<TableName>,
        upstream: bool,
        depth: Option<usize>,
    ) -> BTreeSet<TableName> {
        let direction = if upstream { Direction::Incoming } else { Direction::Outgoing };
        let mut frontier: Vec<NodeIndex> = starts.iter().filter_map(|name| self.index.get(name).copied()).collect();
        let mut found: BTreeSet<NodeIndex> = frontier.iter().copied().collect();
        let mut steps = 0;
        while !frontier.is_empty() && depth.is_none_or(|depth| steps < depth) {
            let next = frontier.iter().flat_map(|node| self.edges.neighbors_directed(*node, direction));
            frontier = next.filter(|node| found.insert(*node)).collect();
            steps += 1;
        }
        found.into_iter().map(|node| self.edges[node].clone()).collect()
    }
}
