//! The lineage of one column: where it comes from, and what it reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::{Value, json};

use crate::compile::{ColumnName, CompiledProject, Use};
use crate::names::TableName;

/// One step along the lineage.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Step {
    column: ColumnName,
    how: Use,
}

/// The columns that a column is made of, or decided by.
fn upstream(compiled: &CompiledProject, of: &ColumnName) -> Vec<Step> {
    let Some(model) = compiled.models.get(&of.table) else { return Vec::new() };
    let made = model.lineage.columns.get(&of.column).into_iter().flatten();
    let mut steps: Vec<Step> = made.map(|(column, how)| Step { column: column.clone(), how: *how }).collect();
    let filters = model.lineage.filters.iter().filter(|f| !steps.iter().any(|step| step.column == **f));
    let filters: Vec<Step> = filters.map(|column| Step { column: column.clone(), how: Use::Filter }).collect();
    steps.extend(filters);
    steps.retain(|step| step.column != *of);
    steps
}

/// The columns that a column reaches. A filter decides all columns of a model: they are one step, `table.*`.
fn downstream(compiled: &CompiledProject, of: &ColumnName) -> Vec<Step> {
    let mut steps = Vec::new();
    for model in compiled.models.values() {
        for (name, sources) in &model.lineage.columns {
            if let Some(how) = sources.get(of) {
                steps.push(Step { column: ColumnName { table: model.name.clone(), column: name.clone() }, how: *how });
            }
        }
        if model.lineage.filters.contains(of) {
            let column = ColumnName { table: model.name.clone(), column: "*".to_owned() };
            steps.push(Step { column, how: Use::Filter });
        }
    }
    steps.retain(|step| step.column != *of);
    steps
}

/// The lineage of a column as two trees.
pub fn column_tree(compiled: &CompiledProject, column: &ColumnName) -> String {
    let mut text = format!("{}.{}\n", column.table, column.column);
    for (title, next) in [("comes from", upstream as Next), ("reaches", downstream)] {
        let _ = writeln!(text, "{title}");
        let mut seen = BTreeSet::from([column.clone()]);
        let before = text.len();
        branches(compiled, column, next, "", &mut seen, &mut text);
        if text.len() == before {
            text.push_str("└─ nothing\n");
        }
    }
    text.trim_end().to_owned()
}

fn word(how: Use) -> &'static str {
    match how {
        Use::Copied => "copied",
        Use::Masked => "masked",
        Use::Derived => "derived",
        Use::Filter => "filter",
    }
}

type Next = fn(&CompiledProject, &ColumnName) -> Vec<Step>;

fn branches(
    compiled: &CompiledProject,
    of: &ColumnName,
    next: Next,
    indent: &str,
    seen: &mut BTreeSet<ColumnName>,
    text: &mut String,
) {
    let steps = next(compiled, of);
    for (at, step) in steps.iter().enumerate() {
        let last = at + 1 == steps.len();
        let (branch, bar) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let how = word(step.how);
        let again = !seen.insert(step.column.clone());
        let mark = if again { " *" } else { "" };
        let _ = writeln!(text, "{indent}{branch}{}.{}  ({how}){mark}", step.column.table, step.column.column);
        // Beyond a filter there is no value of this column any more.
        if !again && step.how != Use::Filter {
            branches(compiled, &step.column, next, &format!("{indent}{bar}"), seen, text);
        }
    }
}

/// A step from one column to another.
struct Edge {
    from: ColumnName,
    to: ColumnName,
    how: Use,
}

/// The steps to a column, or from it.
fn edges(compiled: &CompiledProject, column: &ColumnName, up: bool) -> Vec<Edge> {
    let next = if up { upstream } else { downstream };
    let (mut found, mut seen) = (Vec::new(), BTreeSet::from([column.clone()]));
    let mut pending = vec![column.clone()];
    while let Some(of) = pending.pop() {
        for Step { column, how } in next(compiled, &of) {
            if how != Use::Filter && seen.insert(column.clone()) {
                pending.push(column.clone());
            }
            let (from, to) = if up { (column, of.clone()) } else { (of.clone(), column) };
            found.push(Edge { from, to, how });
        }
    }
    found
}

/// The same as edges, for programs.
pub fn column_json(compiled: &CompiledProject, column: &ColumnName) -> Value {
    let edges = |up| {
        let edges = edges(compiled, column, up);
        edges.iter().map(|edge| json!({"from": edge.from, "to": edge.to, "use": edge.how})).collect::<Vec<_>>()
    };
    json!({"column": column, "upstream": edges(true), "downstream": edges(false)})
}

/// The same as a Mermaid flowchart: a box for each table, and its columns in it.
pub fn column_mermaid(compiled: &CompiledProject, column: &ColumnName) -> String {
    let chart = Chart::new(compiled, column);
    let mut text = String::from("flowchart LR\n");
    for (table, columns) in chart.tables() {
        let _ = writeln!(text, "    subgraph {}__{}[\"{table}\"]", table.schema, table.table);
        for of_table in columns {
            let (open, close) = if of_table == column { ("([", "])") } else { ("[", "]") };
            let name = of_table.column.replace('"', "#quot;");
            let _ = writeln!(text, "        c{}{open}\"{name}\"{close}", chart.id(of_table));
        }
        text.push_str("    end\n");
    }
    for Edge { from, to, how } in &chart.edges {
        let _ = writeln!(text, "    c{} -->|{}| c{}", chart.id(from), word(*how), chart.id(to));
    }
    text.trim_end().to_owned()
}

/// The same as a Graphviz digraph.
pub fn column_dot(compiled: &CompiledProject, column: &ColumnName) -> String {
    let chart = Chart::new(compiled, column);
    let mut text = String::from("digraph lake {\n    rankdir=LR;\n    node [shape=box];\n");
    for (table, columns) in chart.tables() {
        let _ = writeln!(text, "    subgraph \"cluster_{table}\" {{\n        label=\"{table}\";");
        for of_table in columns {
            let mark = if of_table == column { ", style=bold" } else { "" };
            let name = of_table.column.replace('\\', "\\\\").replace('"', "\\\"");
            let _ = writeln!(text, "        c{} [label=\"{name}\"{mark}];", chart.id(of_table));
        }
        text.push_str("    }\n");
    }
    for Edge { from, to, how } in &chart.edges {
        let _ = writeln!(text, "    c{} -> c{} [label=\"{}\"];", chart.id(from), chart.id(to), word(*how));
    }
    text.push('}');
    text
}

/// The lineage of a column, to be drawn.
struct Chart {
    /// All columns of it.
    columns: BTreeSet<ColumnName>,
    edges: Vec<Edge>,
}

impl Chart {
    fn new(compiled: &CompiledProject, column: &ColumnName) -> Self {
        let mut edges = edges(compiled, column, true);
        edges.extend(self::edges(compiled, column, false));
        let ends = edges.iter().flat_map(|edge| [edge.from.clone(), edge.to.clone()]);
        Self { columns: ends.chain([column.clone()]).collect(), edges }
    }

    /// The tables, and the columns of each.
    fn tables(&self) -> BTreeMap<&TableName, Vec<&ColumnName>> {
        let mut tables: BTreeMap<&TableName, Vec<&ColumnName>> = BTreeMap::new();
        self.columns.iter().for_each(|column| tables.entry(&column.table).or_default().push(column));
        tables
    }

    /// Columns may have names that charts do not allow, so each has a number.
    fn id(&self, column: &ColumnName) -> usize {
        self.columns.range(..column).count()
    }
}
