//! Warnings: SQL that is valid, and that somebody will regret.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchemaRef;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::sql::parser::Statement;
use sqlparser::ast::{
    Expr as SqlExpr, Ident, ObjectName, Query, Select, SelectItem, SetExpr, Spanned, Statement as SqlStatement,
    TableFactor, Visit, Visitor,
};
use sqlparser::tokenizer::Span as SqlSpan;

use super::errors::Written;
use crate::catalog::sql_type;
use crate::diagnostics::{Diagnostic, Id, Location};

/// Warnings that the text alone shows.
pub(super) fn of_statement(statement: &Statement, written: &Written<'_>) -> Vec<Diagnostic> {
    let Statement::Statement(statement) = statement else { return Vec::new() };
    let statement: &SqlStatement = statement;
    let mut looker = Looker { written, found: Vec::new(), ctes: Vec::new(), read: BTreeSet::new() };
    let _ = statement.visit(&mut looker);
    for cte in std::mem::take(&mut looker.ctes) {
        if !looker.read.contains(&cte.value.to_lowercase()) {
            let message = format!("nothing reads the common table expression `{}`", cte.value);
            looker.warn(Id::UnusedCte, message, cte.span, "remove it");
        }
    }
    looker.found
}

struct Looker<'a> {
    written: &'a Written<'a>,
    found: Vec<Diagnostic>,
    ctes: Vec<Ident>,
    /// Names of tables that are read, lower case.
    read: BTreeSet<String>,
}

impl Looker<'_> {
    fn warn(&mut self, id: Id, message: String, span: SqlSpan, help: &str) {
        self.found.push(Diagnostic::warning(id, message).at(place(self.written, span)).help(help));
    }

    fn cross_join(&mut self, select: &Select) {
        if select.from.len() < 2 || select.selection.is_some() {
            return;
        }
        let plain = |factor: &TableFactor| {
            matches!(factor, TableFactor::Table { args: None, .. } | TableFactor::Derived { lateral: false, .. })
        };
        if let Some(second) = select.from[1..].iter().find(|from| plain(&from.relation)) {
            let message = "no condition joins these tables: every row meets every row".to_owned();
            self.warn(Id::CrossJoin, message, second.span(), "write `join ... on ...`, or `cross join` if it is meant");
        }
    }
}

impl Visitor for Looker<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if let Some(with) = &query.with {
            self.ctes.extend(with.cte_tables.iter().map(|cte| cte.alias.name.clone()));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        self.cross_join(select);
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        if let [only] = relation.0.as_slice()
            && let Some(name) = only.as_ident()
        {
            self.read.insert(name.value.to_lowercase());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &SqlExpr) -> ControlFlow<()> {
        if let SqlExpr::InSubquery { expr, subquery, negated: true } = expression
            && let Some(column) = nullable_column(subquery)
        {
            let message = format!("`not in` is never true once the subquery returns a NULL `{column}`");
            let help = format!("add `where {column} is not null` to the subquery, or write `not exists`");
            self.warn(Id::NotInNullable, message, expr.span(), &help);
        }
        ControlFlow::Continue(())
    }
}

/// The column that a subquery returns, unless its own condition says that it is not NULL.
fn nullable_column(query: &Query) -> Option<String> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let [SelectItem::UnnamedExpr(column) | SelectItem::ExprWithAlias { expr: column, .. }] =
        select.projection.as_slice()
    else {
        return None;
    };
    if !matches!(column, SqlExpr::Identifier(_) | SqlExpr::CompoundIdentifier(_)) {
        return None;
    }
    let name = column.to_string();
    let condition = select.selection.as_ref().map(ToString::to_string).unwrap_or_default();
    (!condition.contains(&format!("{name} IS NOT NULL"))).then_some(name)
}

/// Warnings that need types: comparisons of text with something else. `plan` is as written, before casts are added.
pub(super) fn of_plan(plan: &LogicalPlan, written: &Written<'_>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let walked = plan.apply_with_subqueries(|node| {
        let schema = OnceCell::new();
        node.apply_expressions(|expression| {
            expression.apply(|inner| {
                if let Expr::BinaryExpr(BinaryExpr { left, op, right }) = inner
                    && is_comparison(*op)
                    && !matches!(left.as_ref(), Expr::Literal(..))
                    && !matches!(right.as_ref(), Expr::Literal(..))
                    && let Some(schema) = schema.get_or_init(|| input_schema(node))
                    && let (Ok(a), Ok(b)) = (left.get_type(schema.as_ref()), right.get_type(schema.as_ref()))
                    && mixes_text(&a, &b)
                    && let Some(span) = span_of(left).or_else(|| span_of(right))
                {
                    let message = format!("`{}` is compared with `{}`", sql_type(&a), sql_type(&b));
                    let warning = Diagnostic::warning(Id::ComparedTypes, message).at(place_of(written, span));
                    found.push(warning.help("cast one side; `try_cast` gives NULL where a value does not fit"));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    walked.expect("the walk itself cannot fail");
    found
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
