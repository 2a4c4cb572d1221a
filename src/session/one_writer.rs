//! DataFusion 55.2: under a memory limit a repartition can wait for itself for ever, when two of its inputs spill for one of
//! its outputs at the same time (apache/datafusion#24883, mended after that release). With one input it cannot: so where
//! memory has a limit, the inputs of a repartition are gathered before it. They still run at the same time.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::execution::session_state::SessionState;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning};

/// The rule.
#[derive(Debug)]
pub(super) struct OneWriter;

impl PhysicalOptimizerRule for OneWriter {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| match node.downcast_ref::<RepartitionExec>() {
            // One that keeps an order has a place of its own for each pair of input and output.
            Some(repartition)
                if !repartition.preserve_order() && repartition.input().output_partitioning().partition_count() > 1 =>
            {
                let gathered = Arc::new(CoalescePartitionsExec::new(Arc::clone(repartition.input())));
                let one = RepartitionExec::try_new(gathered, repartition.partitioning().clone())?;
                Ok(Transformed::yes(Arc::new(one) as Arc<dyn ExecutionPlan>))
            }
            _ => Ok(Transformed::no(node)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "one_writer"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Spreads the rows of a plan that has been optimized already, as it would have been done there.
///
/// # Errors
/// When the plan cannot be spread so.
pub fn spread(
    session: &SessionState,
    rows: Arc<dyn ExecutionPlan>,
    partitioning: Partitioning,
) -> Result<Arc<dyn ExecutionPlan>> {
    let spread = Arc::new(RepartitionExec::try_new(rows, partitioning)?);
    match session.runtime_env().memory_pool.memory_limit() {
        MemoryLimit::Finite(_) => OneWriter.optimize(spread, session.config_options()),
        _ => Ok(spread),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use datafusion::execution::memory_pool::GreedyMemoryPool;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::prelude::SessionContext;

    use crate::session::{Resources, state};

    const ROWS: &str = "create table t as select v % 13 as g, md5(cast(v % 337 as varchar)) as w \
                        from generate_series(1, 40000) as s(v)";

    /// The repartition between the halves of the inner aggregate spills.
    const QUERY: &str = "select g, count(distinct w) as n from t group by g";

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_repartition_that_spills_comes_to_an_end() {
        let session = state(Resources { threads: 2, memory: Some(1) }, None).unwrap();
        let full = SessionContext::new_with_state(session.clone());
        full.sql(ROWS).await.unwrap().collect().await.unwrap();
        let pool = Arc::new(GreedyMemoryPool::new(2 << 20));
        let small = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc().unwrap();
        for _ in 0..12 {
            let mut state =
                SessionStateBuilder::new_from_existing(session.clone()).with_runtime_env(Arc::clone(&small));
            let config = state.config().get_or_insert_default().clone().with_batch_size(64);
            let context = SessionContext::new_with_state(state.with_config(config).build());
            let run = async { context.sql(QUERY).await?.collect().await };
            // It may be told that memory is short; that it says nothing for a minute is the failure.
            let _ = tokio::time::timeout(Duration::from_secs(60), run).await.expect("it waits for itself");
        }
    }
}
