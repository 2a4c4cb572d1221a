//! The keys that references lead to: `lake test` gathers them in the scan of their own table, so each table is read once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::logical_expr::ScalarUDF;

use super::audit::Seen;
use crate::checks::Check;
use crate::compile::CompiledTest;
use crate::names::TableName;
use crate::session::KnownValues;

/// A column whose values references may have, perhaps of some rows only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// The table.
    pub(super) table: TableName,
    /// The column.
    pub(super) field: String,
    /// Rows that count: a SQL condition.
    pub(super) filter: Option<String>,
}

impl Key {
    /// The key that a test refers to, if it does.
    pub(super) fn of(check: &Check) -> Option<Self> {
        match check {
            Check::Reference { to, field, to_filter, .. } => {
                Some(Self { table: to.clone(), field: field.clone(), filter: to_filter.clone() })
            }
            _ => None,
        }
    }
}

/// Keys that tests need, and the values of those whose tables were read.
#[derive(Default)]
pub(super) struct Keys {
    wanted: BTreeMap<TableName, BTreeSet<Key>>,
    known: Mutex<BTreeMap<Key, Arc<ScalarUDF>>>,
}

impl Keys {
    /// The keys of a table that other tests wait for.
    pub(super) fn of_table(&self, table: &TableName) -> impl Iterator<Item = &Key> {
        self.wanted.get(table).into_iter().flatten()
    }

    /// The function that knows the values of a key.
    pub(super) fn get(&self, key: &Key) -> Option<Arc<ScalarUDF>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Keeps the values of a key.
    pub(super) fn put(&self, key: Key, values: KnownValues) -> Arc<ScalarUDF> {
        let known = Arc::new(values.into_function());
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&known));
        known
    }
}

/// Tests of one table, with what is known without a look at its rows.
pub(super) struct Group<'a> {
    pub(super) table: Option<TableName>,
    pub(super) tests: Vec<&'a CompiledTest>,
    pub(super) proved: Seen,
}

/// Groups in an order in which a table is read before those that refer to it, wherever references make no circle; with the
/// keys that they need. A table without tests of its own is read for its keys.
pub(super) fn in_order(groups: Vec<Group<'_>>) -> (Vec<Group<'_>>, Keys) {
    let mut keys = Keys::default();
    let mut refers: BTreeMap<TableName, BTreeSet<TableName>> = BTreeMap::new();
    for group in &groups {
        let Some(table) = &group.table else { continue };
        let due = group.tests.iter().filter(|test| !group.proved.contains_key(&test.name));
        for key in due.filter_map(|test| Key::of(&test.check())).filter(|key| key.table != *table) {
            refers.entry(table.clone()).or_default().insert(key.table.clone());
            keys.wanted.entry(key.table.clone()).or_default().insert(key);
        }
    }
    let (mut order, mut seen) = (Vec::new(), BTreeSet::new());
    for table in groups.iter().filter_map(|group| group.table.as_ref()) {
        visit(table, &refers, &mut seen, &mut order);
    }
    let (with_table, loose): (Vec<_>, Vec<_>) = groups.into_iter().partition(|group| group.table.is_some());
    let mut by_table: BTreeMap<TableName, Group<'_>> =
        with_table.into_iter().filter_map(|group| Some((group.table.clone()?, group))).collect();
    let group = |table: TableName| {
        let none = |table| Group { table: Some(table), tests: Vec::new(), proved: Seen::new() };
        by_table.remove(&table).unwrap_or_else(|| none(table))
    };
    (order.into_iter().map(group).chain(loose).collect(), keys)
}

fn visit(
    table: &TableName,
    refers: &BTreeMap<TableName, BTreeSet<TableName>>,
    seen: &mut BTreeSet<TableName>,
    order: &mut Vec<TableName>,
) {
    if !seen.insert(table.clone()) {
        return;
    }
    for other in refers.get(table).into_iter().flatten() {
        visit(other, refers, seen, order);
    }
    order.push(table.clone());
}
