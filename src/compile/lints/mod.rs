//! Warnings: SQL that is valid, and that somebody will regret.

mod statement;

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::sql::parser::Statement;
use sqlparser::tokenizer::Span as SqlSpan;

use super::errors::Written;
use crate::catalog::sql_type;
use crate::diagnostics::{Diagnostic, Id, Location, Severity};
use crate::project::{LintLevel, Model};

/// What the text of a statement shows; [`Findings::with_plan`] adds what needs types.
pub(super) struct Findings {
    warnings: Vec<Diagnostic>,
    /// `group by` of a name that is both a column and an alias, by line and column; whether it means the column, the
    /// plan knows.
    grouped_names: Vec<((u64, u64), Diagnostic)>,
}

/// Looks at the text of a model or test. `contract` is whether its columns are promised.
pub(super) fn of_statement(statement: &Statement, written: &Written<'_>, contract: bool) -> Findings {
    statement::look(statement, written, contract)
}

/// Applies the `lints` setting of a model.
pub(super) fn at_levels(model: &Model, warnings: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let level = |warning: &Diagnostic| model.config.lints.get(warning.id.name()).copied();
    let mut kept = Vec::with_capacity(warnings.len());
    for mut warning in warnings {
        match level(&warning) {
            Some(LintLevel::Allow) => continue,
            Some(LintLevel::Deny) => warning.severity = Severity::Error,
            Some(LintLevel::Warn) | None => {}
        }
        kept.push(warning);
    }
    kept
}

impl Findings {
    /// All warnings. `plan` is as written, before casts are added.
    pub(super) fn with_plan(self, plan: &LogicalPlan, written: &Written<'_>) -> Vec<Diagnostic> {
        let mut warnings = self.warnings;
        if !self.grouped_names.is_empty() {
            let columns = grouped_columns(plan);
            let meant = self.grouped_names.into_iter().filter(|(start, _)| columns.contains(start));
            warnings.extend(meant.map(|(_, warning)| warning));
        }
        warnings.extend(compared_types(plan, written));
        warnings
    }
}

/// Where the columns stand that a plan groups by.
fn grouped_columns(plan: &LogicalPlan) -> BTreeSet<(u64, u64)> {
    let mut found = BTreeSet::new();
    let walked = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Aggregate(aggregate) = node {
            let spans = aggregate.group_expr.iter().filter(|e| matches!(e, Expr::Column(_))).filter_map(span_of);
            found.extend(spans.map(|span| (span.start.line, span.start.column)));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walked.expect("the walk itself cannot fail");
    found
}

/// Comparisons of text with something else.
fn compared_types(plan: &LogicalPlan, written: &Written<'_>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let walked = plan.apply_with_subqueries(|node| {
        let schema = OnceCell::new();
        if let LogicalPlan::Join(join) = node {
            for (left, right) in &join.on {
                let joined = schema.get_or_init(|| input_schema(node));
                found.extend(joined.as_ref().and_then(|schema| mixed(left, right, schema, written)));
            }
        }
        node.apply_expressions(|expression| {
            expression.apply(|inner| {
                let pairs = compared(inner);
                if !pairs.is_empty()
                    && let Some(schema) = schema.get_or_init(|| input_schema(node))
                {
                    found.extend(pairs.into_iter().find_map(|(a, b)| mixed(a, b, schema, written)));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    walked.expect("the walk itself cannot fail");
    found
}

/// The pairs of values that an expression compares.
fn compared(expression: &Expr) -> Vec<(&Expr, &Expr)> {
    match expression {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(*op) => vec![(left, right)],
        Expr::Between(Between { expr, low, high, .. }) => vec![(expr, low), (expr, high)],
        Expr::InList(InList { expr, list, .. }) => list.iter().map(|item| (expr.as_ref(), item)).collect(),
        _ => Vec::new(),
    }
}

/// A warning if one side is text and the other is not. A text that stands in the SQL is cast when it compiles, so it is
/// no risk.
fn mixed(a: &Expr, b: &Expr, schema: &DFSchema, written: &Written<'_>) -> Option<Diagnostic> {
    let (left, right) = (a.get_type(schema).ok()?, b.get_type(schema).ok()?);
    let fixed = |side: &Expr, its: &DataType| its.is_string() && matches!(side, Expr::Literal(..));
    if !mixes_text(&left, &right) || fixed(a, &left) || fixed(b, &right) {
        return None;
    }
    let span = span_of(a).or_else(|| span_of(b))?;
    let message = format!("`{}` is compared with `{}`", sql_type(&left), sql_type(&right));
    let warning = Diagnostic::warning(Id::ComparedTypes, message).at(place_of(written, span));
    Some(warning.help("cast one side; `try_cast` gives NULL where a value does not fit"))
}

/// The columns that the expressions of a node see.
fn input_schema(node: &LogicalPlan) -> Option<DFSchemaRef> {
    let join = |left: DFSchemaRef, right: DFSchemaRef| left.join(&right).map_or(left, Arc::new);
    node.inputs().iter().map(|input| Arc::clone(input.schema())).reduce(join)
}

fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn mixes_text(a: &DataType, b: &DataType) -> bool {
    let other = |t: &DataType| t.is_numeric() || t.is_temporal() || *t == DataType::Boolean;
    (a.is_string() && other(b)) || (other(a) && b.is_string())
}

fn span_of(expression: &Expr) -> Option<datafusion::common::Span> {
    expression.spans().and_then(|spans| spans.first())
}

fn place(written: &Written<'_>, span: SqlSpan) -> Location {
    let (start, end) = (span.start, span.end);
    written.at((start.line as usize, start.column as usize), (end.line as usize, end.column as usize))
}

fn place_of(written: &Written<'_>, span: datafusion::common::Span) -> Location {
    let (start, end) = (span.start, span.end);
    written.at((start.line as usize, start.column as usize), (end.line as usize, end.column as usize))
}
