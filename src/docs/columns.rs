//! The lineage of one column: where it comes from, and what it reaches.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::{Value, json};

use crate::compile::{ColumnName, CompiledProject, Use};

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
        let how = match step.how {
            Use::Copied => "copied",
            Use::Masked => "masked",
            Use::Derived => "derived",
            Use::Filter => "filter",
        };
        let again = !seen.insert(step.column.clone());
        let mark = if again { " *" } else { "" };
        let _ = writeln!(text, "{indent}{branch}{}.{}  ({how}){mark}", step.column.table, step.column.column);
        // Beyond a filter there is no value of this column any more.
        if !again && step.how != Use::Filter {
            branches(compiled, &step.column, next, &format!("{indent}{bar}"), seen, text);
        }
    }
}

/// The same as edges, for programs.
pub fn column_json(compiled: &CompiledProject, column: &ColumnName) -> Value {
    let edges = |next: Next, up: bool| {
        let (mut found, mut seen) = (Vec::new(), BTreeSet::from([column.clone()]));
        let mut pending = vec![column.clone()];
        while let Some(of) = pending.pop() {
            for step in next(compiled, &of) {
                let (from, to) = if up { (&step.column, &of) } else { (&of, &step.column) };
                found.push(json!({"from": from, "to": to, "use": step.how}));
                if step.how != Use::Filter && seen.insert(step.column.clone()) {
                    pending.push(step.column);
                }
            }
        }
        found
    };
    json!({"column": column, "upstream": edges(upstream, true), "downstream": edges(downstream, false)})
}
