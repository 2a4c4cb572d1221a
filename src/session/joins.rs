//! Joins that would not fit into memory sort both sides instead, and spill.
//!
//! A hash join holds one side in memory, whatever its size. Tables that are published know how many rows they have, so the
//! planner can tell beforehand which sides are too large: that costs less than a query that fails and runs again.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{HashJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};

/// What a hash table takes for a row, beside the row.
const OF_AN_ENTRY: usize = 24;
/// What a text or a nested value is taken for: their lengths are not known here.
const OF_A_TEXT: usize = 40;

/// The rule: it comes after the sides of joins are chosen, and before what they require of their inputs is added.
#[derive(Debug)]
pub(super) struct JoinsThatFit {
    /// Bytes for the sides that all hash joins of a query hold.
    pub(super) room: usize,
}

impl JoinsThatFit {
    /// The rule that it comes after.
    pub(super) const AFTER: &str = "join_selection";

    /// Which of the hash joins, counted from the top, are too many: the largest, until the others fit.
    fn too_many(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<BTreeSet<usize>> {
        let mut sizes = Vec::new();
        plan.apply(|node| {
            if let Some(join) = node.downcast_ref::<HashJoinExec>() {
                sizes.push(if can_sort(join) { held(join) } else { 0 });
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        let mut sum = sizes.iter().fold(0usize, |sum, size| sum.saturating_add(*size));
        let mut largest: Vec<usize> = (0..sizes.len()).collect();
        largest.sort_by_key(|at| Reverse(sizes[*at]));
        let goes = |at: &usize| {
            let goes = sum > self.room && sizes[*at] > 0;
            sum = if goes { sum.saturating_sub(sizes[*at]) } else { sum };
            goes
        };
        Ok(largest.into_iter().take_while(goes).collect())
    }
}

impl PhysicalOptimizerRule for JoinsThatFit {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let too_many = self.too_many(&plan)?;
        if too_many.is_empty() {
            return Ok(plan);
        }
        let mut at = 0;
        plan.transform_down(|node| match node.downcast_ref::<HashJoinExec>() {
            Some(join) => {
                at += 1;
                match too_many.contains(&(at - 1)) {
                    true => Ok(Transformed::yes(sorted(join)?)),
                    false => Ok(Transformed::no(node)),
                }
            }
            None => Ok(Transformed::no(node)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "joins_that_fit"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// A merge join does not know that `NOT IN` of a NULL is never true.
fn can_sort(join: &HashJoinExec) -> bool {
    !join.null_aware && join.projection.is_none()
}

fn sorted(join: &HashJoinExec) -> Result<Arc<dyn ExecutionPlan>> {
    Ok(Arc::new(SortMergeJoinExec::try_new(
        Arc::clone(join.left()),
        Arc::clone(join.right()),
        join.on().to_vec(),
        join.filter().cloned(),
        *join.join_type(),
        vec![SortOptions::default(); join.on().len()],
        join.null_equality(),
    )?))
}

/// Bytes that a hash join holds; 0 if nobody knows how many rows there are.
fn held(join: &HashJoinExec) -> usize {
    let known = StatisticsContext::new().compute(join.left().as_ref(), &StatisticsArgs::new());
    let rows = known.ok().and_then(|known| known.num_rows.get_value().copied()).unwrap_or_default();
    rows.saturating_mul(width(&join.left().schema()) + OF_AN_ENTRY)
}

/// About how many bytes a row takes.
fn width(schema: &Schema) -> usize {
    let of_type = |data_type: &DataType| data_type.primitive_width().unwrap_or(OF_A_TEXT);
    schema.fields().iter().map(|field| of_type(field.data_type())).sum()
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::datasource::MemTable;
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::physical_plan::displayable;
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::session::{Resources, memory, state};

    /// A table of numbers from 0, which says how many it has.
    fn table(rows: i64) -> Arc<MemTable> {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap())
    }

    #[tokio::test]
    async fn only_the_side_that_is_too_large_is_sorted() {
        let sql = "select count(*) as rows, sum(facts.n) as total from facts \
                   join many on facts.n = many.n join few on many.n % 1000 = few.n \
                   where few.n not in (select n from few as others where n > 500)";
        let mut answers = Vec::new();
        for (memory, merges) in [(1 << 40, 0), (0, 1)] {
            // The plans of such a budget, in all the memory that there is.
            let whole = state(Resources { threads: 2, memory: None }, None).unwrap();
            let rules = memory::optimizer_rules(memory);
            let state = SessionStateBuilder::new_from_existing(whole).with_physical_optimizer_rules(rules).build();
            let context = SessionContext::new_with_state(state);
            for (name, rows) in [("facts", 2_000_000), ("many", 1_000_000), ("few", 1_000)] {
                context.register_table(name, table(rows)).unwrap();
            }
            let plan = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
            let shown = displayable(plan.as_ref()).indent(false).to_string();
            assert_eq!(shown.matches("SortMergeJoinExec").count(), merges, "{shown}");
            assert!(shown.contains("HashJoinExec"), "{shown}");
            let rows = context.sql(sql).await.unwrap().collect().await.unwrap();
            answers.push(pretty_format_batches(&rows).unwrap().to_string());
        }
        assert_eq!(answers[0], answers[1]);
        assert!(answers[0].contains("501000"), "{}", answers[0]);
    }
}
