//! Memory of a run: what all queries share, and what becomes of a query that it is too small for.
//!
//! DataFusion's sorts, aggregations and merge joins spill to disk; its hash joins hold one side in memory, whatever its size,
//! and fail if there is no room for it. Such a query runs again, without hash joins, and without others beside it.

use std::num::NonZeroUsize;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, MemoryLimit, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use tokio::sync::Semaphore;

use super::joins::JoinsThatFit;
use super::one_writer::OneWriter;
use super::spill::SpillFolder;
use super::{Resources, give_back};

/// Of the memory of a run, in hundredths, what queries reserve: beside it there are batches on their way, pages that are
/// read and row groups that are written, and a join that is built holds its rows twice for a moment.
const RESERVED: usize = 50;

/// With less than this no query of more than a few megabytes could be sorted: whatever the memory of a run is said to be, they
/// have so much.
const LEAST: usize = 32 << 20;

/// Queries that may run at once: more than there ever are.
const ALL_TURNS: u32 = 1 << 16;

/// Rows of a batch of a query that runs again.
const SMALL_BATCH: usize = 2048;

/// Bytes that a sort keeps back for its merge, if there is enough.
const MERGE_BYTES: usize = 10 << 20;

/// Who runs now. A query that runs again waits until it is alone.
pub(super) struct Turns(Semaphore);

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(ALL_TURNS as usize))
    }
}

/// How many nodes are to run at once: each can have this much, or it runs alone. One that has all of the memory is faster
/// than two that spill, and takes all threads too.
const OF_A_NODE: usize = 1_500_000_000;

/// How many nodes may run at once with so many threads and so much memory.
pub fn nodes_at_once(resources: Resources) -> usize {
    let fit = resources.memory.map_or(usize::MAX, |bytes| bytes / OF_A_NODE);
    resources.threads.min(fit).max(1)
}

/// Bytes that queries may reserve, of this memory of a run.
fn reserved(memory: usize) -> usize {
    (memory / 100 * RESERVED).max(LEAST)
}

/// How queries are planned where memory has a limit.
pub(super) fn optimizer_rules(memory: usize) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    // The other half is for what spills.
    let fit = Arc::new(JoinsThatFit { room: reserved(memory) / 2 });
    let at = rules.iter().position(|rule| rule.name() == JoinsThatFit::AFTER);
    rules.insert(at.map_or(rules.len(), |at| at + 1), fit);
    rules.push(Arc::new(OneWriter));
    rules
}

/// What all queries of a run share. What spills is limited by the disk alone: memory that is short slows a build down, and is
/// no reason to end it.
pub(super) fn runtime(memory: Option<usize>, spill: Option<&SpillFolder>) -> Result<Arc<RuntimeEnv>> {
    let mode =
        spill.map_or_else(DiskManagerMode::default, |spill| DiskManagerMode::Directories(vec![spill.path().into()]));
    let disk = DiskManagerBuilder::default().with_mode(mode).with_max_temp_directory_size(u64::MAX);
    let mut builder = RuntimeEnvBuilder::new().with_disk_manager_builder(disk);
    if let Some(bytes) = memory {
        give_back::when_short(bytes);
        let consumers = NonZeroUsize::new(5).expect("five is not zero");
        let pool = FairSpillPool::new(reserved(bytes));
        builder = builder.with_memory_pool(Arc::new(TrackConsumersPool::new(pool, consumers)));
    } else {
        give_back::late();
    }
    builder.build_arc()
}

/// Errors that say whether memory was too small.
pub trait OutOfMemory {
    /// Whether more memory would have helped.
    fn is_out_of_memory(&self) -> bool;
}

impl OutOfMemory for DataFusionError {
    fn is_out_of_memory(&self) -> bool {
        matches!(self.find_root(), Self::ResourcesExhausted(_))
    }
}

/// Runs a query; once more in a session that takes little memory, and alone, if there was too little for it.
///
/// # Errors
/// The query's.
pub async fn within_memory<T, E: OutOfMemory, F: Future<Output = Result<T, E>>>(
    session: &SessionState,
    run: impl Fn(SessionState) -> F,
) -> Result<T, E> {
    let turns = session.config().get_extension::<Turns>();
    let turn = match &turns {
        Some(turns) => turns.0.acquire().await.ok(),
        None => None,
    };
    let done = run(session.clone()).await;
    drop(turn);
    match done {
        Err(error) if error.is_out_of_memory() => {
            let _alone = match &turns {
                Some(turns) => turns.0.acquire_many(ALL_TURNS).await.ok(),
                None => None,
            };
            run(sparing(session)).await
        }
        done => done,
    }
}

/// The rows of a query, which are few; it runs as [`within_memory`] says.
///
/// # Errors
/// The query's.
pub async fn collect(session: &SessionState, plan: LogicalPlan) -> Result<Vec<RecordBatch>> {
    within_memory(session, |session: SessionState| super::query(&session, plan.clone()).collect()).await
}

/// Slower, with joins that sort and spill.
fn sparing(session: &SessionState) -> SessionState {
    let mut state = session.clone();
    let limit = match state.runtime_env().memory_pool.memory_limit() {
        MemoryLimit::Finite(bytes) => bytes,
        _ => usize::MAX,
    };
    let options = state.config_mut().options_mut();
    options.optimizer.prefer_hash_join = false;
    // DataFusion plans no merge join for one partition.
    options.execution.target_partitions = 2;
    options.execution.sort_spill_reservation_bytes = MERGE_BYTES.min(limit / 32);
    *state.config_mut() = state.config().clone().with_batch_size(SMALL_BATCH);
    state
}
