//! What a plan tells of the tables that it reads: which comes first, which columns are read, and which are joined.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::common::Column;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};

use crate::names::TableName;
use crate::template::plain_relation;

/// A column of a table.
pub(super) type ColumnAt = (TableName, String);

fn table_of(reference: &datafusion::common::TableReference) -> Option<TableName> {
    Some(plain_relation(&TableName::new(reference.schema()?, reference.table())))
}

/// The table that a query begins with: the left side of its joins.
pub(super) fn first_table(plan: &LogicalPlan) -> Option<TableName> {
    match plan {
        LogicalPlan::TableScan(scan) => table_of(&scan.table_name),
        other => first_table(other.inputs().first()?),
    }
}

/// The columns of each table that an optimized plan reads.
pub(super) fn columns_read(plan: &LogicalPlan) -> BTreeMap<TableName, BTreeSet<String>> {
    let mut found: BTreeMap<TableName, BTreeSet<String>> = BTreeMap::new();
    let _ = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(name) = table_of(&scan.table_name)
        {
            let columns = scan.projected_schema.fields().iter().map(|field| field.name().clone());
            let filters = scan.filters.iter().flat_map(|filter| filter.column_refs().into_iter().cloned());
            found.entry(name).or_default().extend(columns.chain(filters.map(|column| column.name)));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found
}

/// Columns that the joins of a plan hold to be equal, where both are columns of tables.
pub(super) fn pairs(plan: &LogicalPlan, found: &mut Vec<(ColumnAt, ColumnAt)>) {
    let _ = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Join(join) = node {
            for (left, right) in &join.on {
                if let (Some(left), Some(right)) = (origin(&join.left, left), origin(&join.right, right)) {
                    found.push((left, right));
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
}

/// The column of a table that an expression over a plan is, if it is one.
fn origin(plan: &LogicalPlan, expression: &Expr) -> Option<ColumnAt> {
    match expression {
        Expr::Column(column) => of_column(plan, column),
        Expr::Alias(alias) => origin(plan, &alias.expr),
        // Sides of different types are cast to one.
        Expr::Cast(cast) => origin(plan, &cast.expr),
        _ => None,
    }
}

fn of_column(plan: &LogicalPlan, column: &Column) -> Option<ColumnAt> {
    at(plan, plan.schema().maybe_index_of_column(column)?)
}

fn at(plan: &LogicalPlan, index: usize) -> Option<ColumnAt> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            Some((table_of(&scan.table_name)?, scan.projected_schema.field(index).name().clone()))
        }
        LogicalPlan::Projection(projection) => origin(&projection.input, projection.expr.get(index)?),
        LogicalPlan::Aggregate(aggregate) => origin(&aggregate.input, aggregate.group_expr.get(index)?),
        LogicalPlan::SubqueryAlias(alias) => at(&alias.input, index),
        LogicalPlan::Filter(filter) => at(&filter.input, index),
        LogicalPlan::Sort(sort) => at(&sort.input, index),
        LogicalPlan::Limit(limit) => at(&limit.input, index),
        LogicalPlan::Distinct(Distinct::All(input)) => at(input, index),
        LogicalPlan::Join(join) => {
            let left = join.left.schema().fields().len();
            if index < left { at(&join.left, index) } else { at(&join.right, index - left) }
        }
        _ => None,
    }
}
