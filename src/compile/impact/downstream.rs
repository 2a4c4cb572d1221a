//! Changes followed along the lineage of columns, parents first.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Impact, Use, What};
use crate::compile::lineage::{ColumnName, Lineage};
use crate::compile::state::{Picture, PictureNode};
use crate::graph::Graph;
use crate::names::TableName;

/// A model, exposure or export that reads something that changed.
#[derive(Debug, Clone, Serialize)]
pub struct Affected {
    /// The node.
    pub name: TableName,
    /// `model`, `exposure` or `export`.
    pub resource_type: String,
    /// The columns that it reads and that changed, or are made of what changed.
    pub reads: Vec<AffectedRead>,
    /// Tables that it reads whose rows may be others.
    pub rows_of: Vec<TableName>,
}

/// A column that is read and has changed.
#[derive(Debug, Clone, Serialize)]
pub struct AffectedRead {
    /// The column that is read.
    pub column: ColumnName,
    /// What happened to it.
    #[serde(flatten)]
    pub what: What,
    /// Copied, derived or used to filter.
    #[serde(rename = "use")]
    pub how: Use,
    /// Columns that are made of it.
    pub into: Vec<String>,
}

/// What reads something that changed, in the order of the graph.
pub(super) fn follow(impact: &Impact, before: &Picture, now: &Picture, graph: &Graph) -> Vec<Affected> {
    let mut follower =
        Follower { before, now, columns: Changed::new(), rows: BTreeSet::new(), removed: Changed::new() };
    for change in impact.models.iter().chain(&impact.sources) {
        if change.rows {
            follower.rows.insert(change.name.clone());
        }
        let old_name = change.moved_from.as_ref().unwrap_or(&change.name);
        for column in &change.columns {
            let named = |table: &TableName| ColumnName { table: table.clone(), column: column.column.clone() };
            match &column.what {
                What::Added { .. } => {}
                What::Removed { .. } => {
                    follower.removed.insert(named(old_name), column.what.clone());
                }
                what => {
                    follower.columns.insert(named(&change.name), what.clone());
                }
            }
        }
    }
    for gone in &impact.removed {
        let columns = before.nodes.get(&gone.name).map(|node| node.columns.as_slice()).unwrap_or_default();
        follower.removed.extend(columns.iter().map(|(column, data_type)| {
            let column = ColumnName { table: gone.name.clone(), column: column.clone() };
            (column, What::Removed { data_type: data_type.clone() })
        }));
    }
    graph.order().iter().filter_map(|name| follower.node(name)).collect()
}

type Changed = BTreeMap<ColumnName, What>;

/// The changed columns of a table.
fn of_table<'c>(changed: &'c Changed, table: &'c TableName) -> impl Iterator<Item = (&'c ColumnName, &'c What)> {
    let first = ColumnName { table: table.clone(), column: String::new() };
    changed.range(first..).take_while(move |(column, _)| column.table == *table)
}

struct Follower<'a> {
    before: &'a Picture,
    now: &'a Picture,
    /// Columns that changed so far.
    columns: Changed,
    /// Tables whose rows may be others.
    rows: BTreeSet<TableName>,
    /// Columns that are gone.
    removed: Changed,
}

impl Follower<'_> {
    fn node(&mut self, name: &TableName) -> Option<Affected> {
        let now = self.now;
        let node = now.nodes.get(name).filter(|node| node.kind != "source")?;
        let old = self.before.before(name, now).map(|(_, node)| node);
        let mut reads = Vec::new();
        if let Some(old) = old {
            let parents: BTreeSet<&TableName> = old.depends_on.iter().filter(|parent| *parent != name).collect();
            for (column, what) in parents.into_iter().flat_map(|parent| of_table(&self.removed, parent)) {
                reads.extend(read(&old.lineage, column, what));
            }
        }
        // What is new was written for what is there now.
        if old.is_some() {
            let parents: BTreeSet<&TableName> = node.depends_on.iter().collect();
            for (column, what) in parents.iter().flat_map(|parent| of_table(&self.columns, parent)) {
                reads.extend(read(&node.lineage, column, what));
            }
            if node.is_end() {
                // Nobody knows which columns a dashboard shows: all of them.
                let all = |parent| of_table(&self.columns, parent).chain(of_table(&self.removed, parent));
                for (column, what) in parents.iter().flat_map(|parent| all(parent)) {
                    let (column, what) = (column.clone(), what.clone());
                    reads.push(AffectedRead { column, what, how: Use::Copied, into: Vec::new() });
                }
            }
        }
        let rows_of: Vec<TableName> = match old {
            Some(_) => node.depends_on.iter().filter(|parent| self.rows.contains(*parent)).cloned().collect(),
            None => Vec::new(),
        };
        if reads.is_empty() && rows_of.is_empty() {
            return None;
        }
        self.pass_on(name, node, old, &reads, !rows_of.is_empty());
        reads.sort_by(|a, b| (&a.column, a.how).cmp(&(&b.column, b.how)));
        Some(Affected { name: name.clone(), resource_type: node.kind.clone(), reads, rows_of })
    }

    /// What the node's own readers see of it.
    fn pass_on(
        &mut self,
        name: &TableName,
        node: &PictureNode,
        old: Option<&PictureNode>,
        reads: &[AffectedRead],
        other_rows: bool,
    ) {
        if other_rows || reads.iter().any(|read| read.how == Use::Filter) {
            self.rows.insert(name.clone());
        }
        for read in reads.iter().filter(|read| !matches!(read.what, What::Removed { .. })) {
            for column in &read.into {
                let type_of = |node: &PictureNode| {
                    node.columns.iter().find(|(name, _)| name == column).map(|(_, data_type)| data_type.clone())
                };
                let what = match (old.and_then(type_of), type_of(node)) {
                    (Some(before), Some(after)) if before != after => What::Retyped { before, after },
                    _ if read.how == Use::Copied && read.what == What::Nullable => What::Nullable,
                    _ => What::Values,
                };
                let column = ColumnName { table: name.clone(), column: column.clone() };
                self.columns.entry(column).or_insert(what);
            }
        }
    }
}

/// How a lineage uses a column: once for each of copied, derived and filter.
fn read<'a>(
    lineage: &'a Lineage,
    column: &'a ColumnName,
    what: &'a What,
) -> impl Iterator<Item = AffectedRead> + use<'a> {
    [Use::Copied, Use::Masked, Use::Derived, Use::Filter].into_iter().filter_map(move |how| {
        let made = lineage.columns.iter().filter(|(_, sources)| sources.get(column) == Some(&how));
        let into: Vec<String> = made.map(|(name, _)| name.clone()).collect();
        let reads = !into.is_empty() || how == Use::Filter && lineage.filters.contains(column);
        reads.then(|| AffectedRead { column: column.clone(), what: what.clone(), how, into })
    })
}
