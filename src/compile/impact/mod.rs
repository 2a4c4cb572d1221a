//! What a change means: two compiles compared, and followed along the lineage of columns.
//!
//! A changed model is *breaking* if a column that something reads is gone, has another type or may be NULL now, or
//! if its contract is broken; *logic* if values or rows may be others; *additive* if there are new columns; else
//! *cosmetic*.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Use;
use super::lineage::ColumnName;
use super::state::{Picture, PictureNode};
use crate::graph::Graph;
use crate::names::TableName;

mod downstream;

pub use downstream::{Affected, AffectedRead};

/// How much a change matters to others; the first is the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// What reads it breaks, or reads something else.
    Breaking,
    /// The same columns with other values or rows.
    Logic,
    /// More than before.
    Additive,
    /// Nothing that anybody reads.
    Cosmetic,
}

/// What happened to a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "lowercase")]
pub enum What {
    /// It is gone.
    Removed {
        /// The type that it had.
        data_type: String,
    },
    /// It has another type.
    Retyped {
        /// The type that it had.
        before: String,
        /// The type that it has.
        after: String,
    },
    /// It was never NULL and may be now.
    Nullable,
    /// It is computed in another way.
    Values,
    /// It was not there.
    Added {
        /// Its type.
        data_type: String,
    },
}

/// A column that changed.
#[derive(Debug, Clone, Serialize)]
pub struct ColumnChange {
    /// Its name.
    pub column: String,
    /// What happened to it.
    #[serde(flatten)]
    pub what: What,
    /// Models, exposures and exports that read it.
    pub read_by: Vec<TableName>,
}

/// A setting that changed.
#[derive(Debug, Clone, Serialize)]
pub struct SettingChange {
    /// Its name.
    pub setting: String,
    /// Its value before.
    pub before: serde_json::Value,
    /// Its value now.
    pub after: serde_json::Value,
}

/// A model or source that changed.
#[derive(Debug, Clone, Serialize)]
pub struct Change {
    /// The model or source.
    pub name: TableName,
    /// What it was called, if it moved.
    pub moved_from: Option<TableName>,
    /// How much it matters.
    pub class: Class,
    /// `body`, `config`, ...: as in `state:modified.body`.
    pub aspects: Vec<&'static str>,
    /// Columns that changed.
    pub columns: Vec<ColumnChange>,
    /// Whether other rows may come out: filters, joins or groups changed.
    pub rows: bool,
    /// Settings that changed.
    pub settings: Vec<SettingChange>,
    /// What is broken of its contract.
    pub contract: Option<String>,
}

/// A model or source that is new, or gone.
#[derive(Debug, Clone, Serialize)]
pub struct Node {
    /// Its name.
    pub name: TableName,
    /// `model`, `source`, `exposure` or `export`.
    pub resource_type: String,
    /// How many columns it has or had.
    pub columns: usize,
    /// What reads it, or read it and is still there.
    pub read_by: Vec<TableName>,
}

/// Everything that changed, and what it means for what reads it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Impact {
    /// Changed models, the worst first.
    pub models: Vec<Change>,
    /// Changed sources.
    pub sources: Vec<Change>,
    /// What was not there.
    pub new: Vec<Node>,
    /// What is gone.
    pub removed: Vec<Node>,
    /// Tests that were not there.
    pub new_tests: Vec<String>,
    /// Tests that test something else now.
    pub changed_tests: Vec<String>,
    /// Tests that are gone.
    pub removed_tests: Vec<String>,
    /// What reads something that changed, parents first.
    pub downstream: Vec<Affected>,
}

impl Impact {
    /// Whether something that others read is gone, is of another type or may be NULL now, or a contract is broken.
    pub fn is_breaking(&self) -> bool {
        let changed = self.models.iter().chain(&self.sources).any(|change| change.class == Class::Breaking);
        changed || self.removed.iter().any(|node| !node.read_by.is_empty())
    }
}

/// Compares two compiles; `graph` is of this one.
pub fn impact(before: &Picture, now: &Picture, graph: &Graph) -> Impact {
    let comparison = Comparison { now, readers_before: readers(before), readers_now: readers(now) };
    let mut impact = Impact::default();
    let mut known = BTreeSet::new();
    for (name, node) in &now.nodes {
        let Some((old_name, old)) = before.before(name, now) else {
            impact.new.push(comparison.node(name, node, &comparison.readers_now));
            continue;
        };
        known.insert(old_name);
        if node.is_end() {
            continue;
        }
        if let Some(change) = comparison.change((old_name, old), (name, node)) {
            if node.kind != "source" { impact.models.push(change) } else { impact.sources.push(change) }
        }
    }
    let gone = before.nodes.iter().filter(|(name, _)| !known.contains(name));
    impact.removed = gone.map(|(name, node)| comparison.node(name, node, &comparison.readers_before)).collect();
    impact.models.sort_by(|a, b| (a.class, &a.name).cmp(&(b.class, &b.name)));
    let test = |name: &&String| (before.tests.get(*name), now.tests.get(*name));
    let names: BTreeSet<&String> = before.tests.keys().chain(now.tests.keys()).collect();
    for name in names {
        match test(&name) {
            (None, Some(_)) => impact.new_tests.push(name.clone()),
            (Some(_), None) => impact.removed_tests.push(name.clone()),
            (Some(old), Some(new)) if old != new => impact.changed_tests.push(name.clone()),
            _ => {}
        }
    }
    impact.downstream = downstream::follow(&impact, before, now, graph);
    impact
}

/// Models that read each column, and what reads each table without saying which columns: exposures and exports.
#[derive(Default)]
struct Readers {
    columns: BTreeMap<ColumnName, BTreeSet<TableName>>,
    tables: BTreeMap<TableName, BTreeSet<TableName>>,
    exposures: BTreeMap<TableName, BTreeSet<TableName>>,
}

fn readers(picture: &Picture) -> Readers {
    let mut readers = Readers::default();
    for (name, node) in &picture.nodes {
        for column in node.lineage.columns.values().flat_map(|made| made.keys()).chain(&node.lineage.filters) {
            readers.columns.entry(column.clone()).or_default().insert(name.clone());
        }
        for read in &node.depends_on {
            readers.tables.entry(read.clone()).or_default().insert(name.clone());
            if node.is_end() {
                readers.exposures.entry(read.clone()).or_default().insert(name.clone());
            }
        }
    }
    readers
}

impl Readers {
    fn of(&self, table: &TableName, column: &str) -> impl Iterator<Item = &TableName> {
        let column = ColumnName { table: table.clone(), column: column.to_owned() };
        let models = self.columns.get(&column).into_iter().flatten();
        models.chain(self.exposures.get(table).into_iter().flatten()).filter(move |reader| *reader != table)
    }
}

struct Comparison<'a> {
    now: &'a Picture,
    readers_before: Readers,
    readers_now: Readers,
}

type Named<'a> = (&'a TableName, &'a PictureNode);

impl Comparison<'_> {
    fn node(&self, name: &TableName, node: &PictureNode, readers: &Readers) -> Node {
        let there =
            readers.tables.get(name).into_iter().flatten().filter(|reader| self.now.nodes.contains_key(*reader));
        Node {
            name: name.clone(),
            resource_type: node.kind.clone(),
            columns: node.columns.len(),
            read_by: there.cloned().collect(),
        }
    }

    /// What changed in a node itself; `None` if nothing did.
    fn change(&self, (old_name, old): Named<'_>, (name, node): Named<'_>) -> Option<Change> {
        let is_model = node.kind != "source";
        let mut aspects: Vec<&'static str> = old.state.differs(&node.state).into_iter().collect();
        aspects.retain(|aspect| *aspect != "persisted_descriptions");
        let columns = self.columns((old_name, old), (name, node));
        if aspects.is_empty() && (is_model || columns.is_empty()) {
            return None;
        }
        let settings = settings(&old.config, &node.config);
        let decides_rows = |change: &SettingChange| ROW_SETTINGS.contains(&change.setting.as_str());
        let rows = old.state.rows != node.state.rows
            || settings.iter().any(decides_rows)
            || !is_model && aspects.iter().any(|aspect| *aspect != "config");
        let contract = broken_contract(old, node, &columns);
        let public = node.config["access"] == "public";
        let breaks = |change: &ColumnChange| {
            let harmful = matches!(change.what, What::Removed { .. } | What::Retyped { .. } | What::Nullable);
            harmful && (public || !change.read_by.is_empty())
        };
        let moved = old_name != name && self.readers_before.tables.contains_key(old_name);
        let class = if contract.is_some() || moved || columns.iter().any(breaks) {
            Class::Breaking
        } else if rows || !settings.is_empty() || columns.iter().any(|change| change.what == What::Values) {
            Class::Logic
        } else if columns.iter().any(|change| matches!(change.what, What::Added { .. })) {
            Class::Additive
        } else {
            Class::Cosmetic
        };
        let moved_from = (old_name != name).then(|| old_name.clone());
        Some(Change { name: name.clone(), moved_from, class, aspects, columns, rows, settings, contract })
    }

    /// Columns that changed by what the node itself says: what is inherited is told where it is read.
    fn columns(&self, (old_name, old): Named<'_>, (name, node): Named<'_>) -> Vec<ColumnChange> {
        let mut changes = Vec::new();
        let mut push = |column: &str, what: What| {
            let read_by: BTreeSet<TableName> = match what {
                What::Removed { .. } => {
                    let there = |reader: &&TableName| self.now.nodes.contains_key(*reader) && *reader != name;
                    self.readers_before.of(old_name, column).filter(there).cloned().collect()
                }
                // Nobody has put it on a dashboard yet.
                What::Added { .. } => {
                    let is_model = |reader: &&TableName| self.now.nodes[*reader].kind == "model";
                    self.readers_now.of(name, column).filter(is_model).cloned().collect()
                }
                _ => self.readers_now.of(name, column).cloned().collect(),
            };
            changes.push(ColumnChange { column: column.to_owned(), what, read_by: read_by.into_iter().collect() });
        };
        let types: BTreeMap<&String, &String> =
            node.columns.iter().map(|(name, data_type)| (name, data_type)).collect();
        for (column, data_type) in &old.columns {
            let (made_before, made_now) = (old.state.columns.get(column), node.state.columns.get(column));
            let own = made_before.map(|c| &c.made) != made_now.map(|c| &c.made);
            match types.get(column) {
                None => push(column, What::Removed { data_type: data_type.clone() }),
                Some(now) if *now != data_type && (own || node.kind == "source") => {
                    push(column, What::Retyped { before: data_type.clone(), after: (*now).clone() });
                }
                Some(_) if !own => {}
                Some(_) => {
                    let null = |made: Option<&super::ColumnShape>| made.is_none_or(|made| made.nullable);
                    let what = if !null(made_before) && null(made_now) { What::Nullable } else { What::Values };
                    push(column, what);
                }
            }
        }
        let had: BTreeSet<&String> = old.columns.iter().map(|(name, _)| name).collect();
        for (column, data_type) in node.columns.iter().filter(|(name, _)| !had.contains(name)) {
            push(column, What::Added { data_type: data_type.clone() });
        }
        changes
    }
}

/// Settings that decide which rows a table has.
const ROW_SETTINGS: &[&str] = &[
    "unique_key",
    "incremental_strategy",
    "merge_update_columns",
    "merge_exclude_columns",
    "sequence_by",
    "delete_when",
    "incremental_predicates",
    "strategy",
    "updated_at",
    "check_cols",
    "hard_deletes",
];
/// Settings that are about people.
const QUIET_SETTINGS: &[&str] = &["tags", "owner", "meta", "group", "enabled", "contract"];

fn settings(before: &serde_json::Value, now: &serde_json::Value) -> Vec<SettingChange> {
    let (Some(before), Some(now)) = (before.as_object(), now.as_object()) else { return Vec::new() };
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let changed = names.into_iter().filter(|name| !QUIET_SETTINGS.contains(&name.as_str())).filter_map(|name| {
        let (before, after) = (before.get(name).cloned(), now.get(name).cloned());
        let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
        (before != after).then(|| SettingChange { setting: name.clone(), before, after })
    });
    changed.collect()
}

/// What an enforced contract promised and is no longer so.
fn broken_contract(old: &PictureNode, node: &PictureNode, columns: &[ColumnChange]) -> Option<String> {
    if old.state.contract.is_empty() {
        return None;
    }
    if node.state.contract.is_empty() {
        return Some("it is no longer enforced".to_owned());
    }
    let broken: Vec<&str> = columns
        .iter()
        .filter(|change| matches!(change.what, What::Removed { .. } | What::Retyped { .. }))
        .map(|change| change.column.as_str())
        .collect();
    (!broken.is_empty()).then(|| format!("it promised {}", broken.join(", ")))
}
