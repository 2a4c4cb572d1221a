//! What is seen of a table while it is made, for people who watch a run.
//!
//! Rows that are read are those that DataFusion counts itself in the plan that runs; rows and bytes that are written are
//! counted a batch and a part of a file at a time. Nothing is counted of a table that nobody watches.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use datafusion::physical_plan::ExecutionPlan;
use deltalake::logstore::ObjectStoreRef;

use super::Lake;
use crate::names::TableName;
use crate::stores;

/// What is done for a table now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It is found out what there is to do.
    Looking,
    /// A hook runs.
    Hooks,
    /// The query runs; no row has come of it yet.
    Reading,
    /// Rows come, and are written.
    Writing,
    /// Tests run.
    Testing,
    /// The commit is made.
    Publishing,
}

impl Phase {
    const ALL: [Self; 6] = [Self::Looking, Self::Hooks, Self::Reading, Self::Writing, Self::Testing, Self::Publishing];

    /// As people call it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Looking => "looking",
            Self::Hooks => "hooks",
            Self::Reading => "reading",
            Self::Writing => "writing",
            Self::Testing => "testing",
            Self::Publishing => "publishing",
        }
    }
}

/// What is seen of one table.
#[derive(Debug, Default)]
pub struct Gauge {
    phase: AtomicU8,
    rows: AtomicU64,
    bytes: Arc<AtomicU64>,
    /// Plans that run: they end with their queries.
    plans: Mutex<Vec<Weak<dyn ExecutionPlan>>>,
}

/// What a gauge shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// What is done.
    pub phase: Phase,
    /// Rows that have been read, while none are written; else rows that have been written.
    pub rows: u64,
    /// The bytes of their files, as far as they are known.
    pub bytes: u64,
}

impl Gauge {
    /// Something else is done from now on.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// A plan runs from now on.
    pub(super) fn runs(&self, plan: &Arc<dyn ExecutionPlan>) {
        self.enter(Phase::Reading);
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.retain(|plan| plan.strong_count() > 0);
        plans.push(Arc::downgrade(plan));
    }

    /// So many rows have come to the writer.
    pub(super) fn comes(&self, rows: usize) {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        self.enter(Phase::Writing);
    }

    /// Bytes that are written there count.
    pub(super) fn counting(&self, files: ObjectStoreRef) -> ObjectStoreRef {
        stores::counted(files, Arc::clone(&self.bytes))
    }

    /// What it shows now.
    pub fn shown(&self) -> Shown {
        let phase = Phase::ALL[usize::from(self.phase.load(Ordering::Relaxed)).min(Phase::ALL.len() - 1)];
        let (mut rows, mut bytes) = (self.rows.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        if phase == Phase::Reading && rows == 0 {
            for plan in self.plans.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade) {
                let (read, scanned) = read(&plan);
                rows += read;
                bytes += scanned;
            }
        }
        Shown { phase, rows, bytes }
    }
}

/// Rows and bytes that the leaves of a plan have read.
fn read(plan: &Arc<dyn ExecutionPlan>) -> (u64, u64) {
    let children = plan.children();
    if children.is_empty() {
        let Some(metrics) = plan.metrics() else { return (0, 0) };
        let bytes = metrics.sum_by_name("bytes_scanned").map_or(0, |bytes| bytes.as_usize());
        return (metrics.output_rows().unwrap_or_default() as u64, bytes as u64);
    }
    children.into_iter().map(read).fold((0, 0), |(rows, bytes), (more, others)| (rows + more, bytes + others))
}

/// The gauges of the tables that somebody watches.
#[derive(Debug, Clone, Default)]
pub struct Gauges(Arc<Mutex<BTreeMap<TableName, Arc<Gauge>>>>);

impl Gauges {
    /// From now on this table is watched.
    pub fn watch(&self, name: &TableName) -> Arc<Gauge> {
        let mut gauges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(gauges.entry(name.clone()).or_default())
    }

    /// It is watched no more.
    pub fn forget(&self, name: &TableName) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

impl Lake {
    /// The gauges of its tables.
    pub fn gauges(&self) -> &Gauges {
        &self.gauges
    }

    /// The gauge of a table, if it is watched.
    pub(crate) fn gauge(&self, name: &TableName) -> Option<Arc<Gauge>> {
        self.gauges.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}
