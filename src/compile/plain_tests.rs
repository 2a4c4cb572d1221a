//! Generic tests of a project that are a plain condition on the rows of their table: they share a scan like those that are
//! built in.

use datafusion::sql::parser::Statement;
use sqlparser::ast::{Expr, GroupByExpr, Query, Select, SelectItem, SetExpr, TableFactor};

use crate::names::TableName;

/// The condition of `select ... from table where condition`, if a query is nothing but that.
pub(super) fn plain_condition(statement: &Statement, table: &TableName) -> Option<String> {
    let Statement::Statement(statement) = statement else { return None };
    let sqlparser::ast::Statement::Query(query) = statement.as_ref() else { return None };
    let select = only_select(query)?;
    if !reads_only(select, table) || !select.projection.iter().all(is_plain) {
        return None;
    }
    Some(select.selection.as_ref()?.to_string())
}

/// The one `select` of a query without anything around it.
fn only_select(query: &Query) -> Option<&Select> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let is_bare =
        query.with.is_none() && query.order_by.is_none() && query.limit_clause.is_none() && query.fetch.is_none();
    let groups = match &select.group_by {
        GroupByExpr::All(_) => true,
        GroupByExpr::Expressions(by, modifiers) => !by.is_empty() || !modifiers.is_empty(),
    };
    let is_simple = select.distinct.is_none()
        && select.top.is_none()
        && select.having.is_none()
        && select.qualify.is_none()
        && select.prewhere.is_none()
        && select.lateral_views.is_empty()
        && select.named_window.is_empty()
        && !groups;
    (is_bare && is_simple).then_some(select)
}

/// Whether the rows are those of the table, under its own name.
fn reads_only(select: &Select, table: &TableName) -> bool {
    let [from] = select.from.as_slice() else { return false };
    let TableFactor::Table { name, alias: None, args: None, sample: None, .. } = &from.relation else { return false };
    let parts: Vec<&str> = name.0.iter().filter_map(|part| Some(part.as_ident()?.value.as_str())).collect();
    from.joins.is_empty() && parts == [table.schema, table.table]
}

/// Whether a column of the result makes no other rows than there are.
fn is_plain(item: &SelectItem) -> bool {
    match item {
        SelectItem::Wildcard(_) => true,
        SelectItem::UnnamedExpr(expression) | SelectItem::ExprWithAlias { expr: expression, .. } => {
            matches!(expression, Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_))
        }
        _ => false,
    }
}
