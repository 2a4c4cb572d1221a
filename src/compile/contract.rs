//! Contracts: what a model promises about its columns, against what its plan says.
//!
//! Types and names are compared exactly. NULLs are not: plans know too little, so only what can be shown is told, and
//! `not_null` is tested on the rows before each publish (`project` makes a data test of each constraint).

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Column as PlanColumn, Span as PlanSpan};
use datafusion::logical_expr::{Aggregate, Distinct, Expr, Join, JoinType, LogicalPlan, Projection};

use super::errors::Written;
use crate::catalog::sql_type;
use crate::diagnostics::{Diagnostic, Id, Span};
use crate::project::Model;

/// Columns that a contract does not allow or misses. Declared types are checked for every model.
pub(super) fn broken(model: &Model, schema: &SchemaRef) -> Vec<Diagnostic> {
    let problem = |message: String, span: &Span| Diagnostic::error(Id::ContractBroken, message).at(span.clone());
    let extra = schema.fields().iter().filter(|f| !model.columns.iter().any(|column| column.name == *f.name()));
    let extra = extra.map(|field| {
        let declared = format!("- {{ name: {}, data_type: {} }}", field.name(), sql_type(field.data_type()));
        let message = format!("column `{}` is not in the contract of `{}`", field.name(), model.name);
        problem(message, &model.span()).help(format!("declare it: {declared}"))
    });
    let missing = model.columns.iter().filter(|column| schema.field_with_name(&column.name).is_err());
    let missing = missing.map(|column| {
        problem(format!("`{}` has no column `{}`, which its contract promises", model.name, column.name), &column.span)
    });
    let untyped = model.columns.iter().filter(|column| column.data_type.is_none());
    let untyped = untyped
        .map(|column| problem(format!("column `{}` of a contract has no `data_type`", column.name), &column.span));
    extra.chain(missing).chain(untyped).collect()
}

/// Columns that must not be NULL and can be by the way they are made.
pub(super) fn nulls(model: &Model, plan: &LogicalPlan, written: &Written<'_>) -> Vec<Diagnostic> {
    if !model.config.contract {
        return Vec::new();
    }
    let mut found = Vec::new();
    for column in model.columns.iter() {
        let promise = column.constraints.iter().find(|(constraint, _)| constraint.excludes_null());
        let (Some((_, promise)), Some(index)) = (promise, plan.schema().index_of_column_by_name(None, &column.name))
        else {
            continue;
        };
        let Some(source) = null_source(plan, index) else { continue };
        let diagnostic = match source.is_always {
            true => {
                let message = format!("column `{}` is NULL in rows of `{}`", column.name, model.name);
                Diagnostic::error(Id::ContractBroken, message).help("give it a value, or take the constraint away")
            }
            false => {
                let message = format!("column `{}` is NULL where the outer join finds no row", column.name);
                let help = format!("write an inner join, or a default: coalesce({}, ...)", column.name);
                Diagnostic::warning(Id::NullInContract, message).help(help)
            }
        };
        let promised = "the contract promises that it is not NULL";
        found.push(match source.span {
            Some(span) => {
                let (start, end) = (span.start, span.end);
                let place =
                    written.at((start.line as usize, start.column as usize), (end.line as usize, end.column as usize));
                diagnostic.at(place).related(promise.clone(), promised)
            }
            None => diagnostic.at(promise.clone()).label(promised),
        });
    }
    found
}

/// What makes a column NULL.
struct NullSource {
    /// In every row of some query, and not only in rows that an outer join fills up.
    is_always: bool,
    /// Where the query names the column.
    span: Option<PlanSpan>,
}

/// Follows a column of a plan down to a NULL in the SQL or to the side of an outer join that may find no row. A
/// condition on the column on the way may exclude NULLs, so nothing is said then.
fn null_source(plan: &LogicalPlan, index: usize) -> Option<NullSource> {
    match plan {
        LogicalPlan::Projection(Projection { expr, input, .. }) => null_in_expression(&expr[index], input),
        LogicalPlan::Filter(filter) => {
            let conditioned = filter.predicate.column_refs().iter().any(|c| at(&filter.input, c) == Some(index));
            if conditioned { None } else { null_source(&filter.input, index) }
        }
        LogicalPlan::Join(join) => null_of_join(join, index),
        LogicalPlan::Aggregate(Aggregate { group_expr, input, .. }) => match group_expr.get(index) {
            Some(Expr::Column(column)) => null_source(input, at(input, column)?),
            _ => None,
        },
        LogicalPlan::Union(union) => union.inputs.iter().find_map(|input| null_source(input, index)),
        LogicalPlan::Window(window) => {
            (index < window.input.schema().fields().len()).then(|| null_source(&window.input, index))?
        }
        LogicalPlan::SubqueryAlias(alias) => null_source(&alias.input, index),
        LogicalPlan::Sort(sort) => null_source(&sort.input, index),
        LogicalPlan::Limit(limit) => null_source(&limit.input, index),
        LogicalPlan::Distinct(Distinct::All(input)) => null_source(input, index),
        _ => None,
    }
}

fn null_in_expression(expression: &Expr, input: &LogicalPlan) -> Option<NullSource> {
    match expression {
        Expr::Alias(alias) => null_in_expression(&alias.expr, input),
        Expr::Cast(cast) => null_in_expression(&cast.expr, input),
        Expr::TryCast(cast) => null_in_expression(&cast.expr, input),
        Expr::Literal(value, _) if value.is_null() => Some(NullSource { is_always: true, span: None }),
        Expr::Column(column) => {
            let inner = null_source(input, at(input, column)?)?;
            Some(NullSource { span: column.spans.first().or(inner.span), ..inner })
        }
        _ => None,
    }
}

fn null_of_join(join: &Join, index: usize) -> Option<NullSource> {
    let left = join.left.schema().fields().len();
    let filled = match join.join_type {
        JoinType::Left => index >= left,
        JoinType::Right => index < left,
        JoinType::Full => true,
        JoinType::Inner => false,
        _ => return None,
    };
    if filled {
        return Some(NullSource { is_always: false, span: None });
    }
    let conditioned = join.on.iter().flat_map(|(a, b)| [a, b]).chain(&join.filter).any(|condition| {
        condition.column_refs().iter().any(|column| join.schema.maybe_index_of_column(column) == Some(index))
    });
    match (conditioned && join.join_type == JoinType::Inner, index < left) {
        (true, _) => None,
        (false, true) => null_source(&join.left, index),
        (false, false) => null_source(&join.right, index - left),
    }
}

fn at(plan: &LogicalPlan, column: &PlanColumn) -> Option<usize> {
    plan.schema().maybe_index_of_column(column)
}
