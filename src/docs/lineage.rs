//! The lineage of a selection.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::{Value, json};

use crate::graph::{Graph, Selection};
use crate::names::TableName;
use crate::project::Project;

/// The part of the graph to show.
pub struct Lineage<'a> {
    project: &'a Project,
    graph: &'a Graph,
    nodes: Vec<&'a TableName>,
}

impl<'a> Lineage<'a> {
    /// The selected nodes, and the edges between them.
    pub fn new(project: &'a Project, graph: &'a Graph, selection: &Selection) -> Self {
        let nodes = graph.order().iter().filter(|name| selection.contains(name)).collect();
        Self { project, graph, nodes }
    }

    fn children(&self, name: &TableName) -> Vec<&'a TableName> {
        self.graph.children(name).into_iter().filter_map(|child| self.shown(child)).collect()
    }

    fn shown(&self, name: &TableName) -> Option<&'a TableName> {
        self.nodes.iter().copied().find(|node| *node == name)
    }

    fn edges(&self) -> Vec<(&'a TableName, &'a TableName)> {
        self.nodes.iter().flat_map(|from| self.children(from).into_iter().map(|to| (*from, to))).collect()
    }

    /// `table`, `incremental`, ..., `source`, `exposure` or `export`.
    fn kind(&self, name: &TableName) -> &'static str {
        match self.project.models.get(name) {
            Some(model) => model.config.materialized.name(),
            None if self.project.exposures.contains_key(name) => "exposure",
            None if self.project.exports.contains_key(name) => "export",
            None => "source",
        }
    }
}

/// An indented tree, from the nodes that nothing selected flows into. A node with several parents is drawn once
/// and named again with `*` under the others.
pub fn tree(lineage: &Lineage<'_>) -> String {
    let roots: Vec<&TableName> = lineage
        .nodes
        .iter()
        .copied()
        .filter(|name| lineage.graph.parents(name).iter().all(|parent| lineage.shown(parent).is_none()))
        .collect();
    let (mut text, mut drawn) = (String::new(), BTreeSet::new());
    for root in roots {
        let _ = writeln!(text, "{root}  ({})", lineage.kind(root));
        drawn.insert(root);
        branches(lineage, root, "", &mut drawn, &mut text);
    }
    text.trim_end().to_owned()
}

fn branches<'a>(
    lineage: &Lineage<'a>,
    name: &TableName,
    indent: &str,
    drawn: &mut BTreeSet<&'a TableName>,
    text: &mut String,
) {
    let children = lineage.children(name);
    for (at, child) in children.iter().enumerate() {
        let last = at + 1 == children.len();
        let (branch, bar) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let again = !drawn.insert(child);
        let mark = if again { " *" } else { "" };
        let _ = writeln!(text, "{indent}{branch}{child}  ({}){mark}", lineage.kind(child));
        if !again {
            branches(lineage, child, &format!("{indent}{bar}"), drawn, text);
        }
    }
}

/// A Mermaid flowchart.
pub fn mermaid(lineage: &Lineage<'_>) -> String {
    let mut text = String::from("flowchart LR\n");
    for name in &lineage.nodes {
        let (open, close) = match lineage.kind(name) {
            "source" => ("[(", ")]"),
            "exposure" => ("([", "])"),
            "export" => ("[/", "/]"),
            _ => ("[", "]"),
        };
        let _ = writeln!(text, "    {}{open}\"{name}\"{close}", id(name));
    }
    for (from, to) in lineage.edges() {
        let _ = writeln!(text, "    {} --> {}", id(from), id(to));
    }
    text.trim_end().to_owned()
}

fn id(name: &TableName) -> String {
    format!("{}__{}", name.schema, name.table)
}

/// A Graphviz digraph.
pub fn dot(lineage: &Lineage<'_>) -> String {
    let mut text = String::from("digraph lake {\n    rankdir=LR;\n    node [shape=box];\n");
    for name in &lineage.nodes {
        let shape = match lineage.kind(name) {
            "source" => " [shape=cylinder]",
            "exposure" => " [shape=oval]",
            "export" => " [shape=note]",
            _ => "",
        };
        let _ = writeln!(text, "    \"{name}\"{shape};");
    }
    for (from, to) in lineage.edges() {
        let _ = writeln!(text, "    \"{from}\" -> \"{to}\";");
    }
    text + "}"
}

/// Nodes and edges.
pub fn json(lineage: &Lineage<'_>) -> Value {
    let nodes: Vec<Value> =
        lineage.nodes.iter().map(|name| json!({"name": name, "kind": lineage.kind(name)})).collect();
    let edges: Vec<Value> = lineage.edges().iter().map(|(from, to)| json!({"from": from, "to": to})).collect();
    json!({"nodes": nodes, "edges": edges})
}
