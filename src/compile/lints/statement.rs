//! Warnings that the text alone shows.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use sqlparser::ast::{
    BinaryOperator, Expr as SqlExpr, GroupByExpr, Ident, LimitClause, ObjectName, Query, Select, SelectItem, SetExpr,
    SetOperator, SetQuantifier, Spanned, Statement as SqlStatement, TableFactor, Value, Visit, Visitor,
};
use sqlparser::tokenizer::Span as SqlSpan;

use super::{Findings, place};
use crate::compile::errors::Written;
use crate::diagnostics::{Diagnostic, Id};

pub(super) fn look(statement: &Statement, written: &Written<'_>, contract: bool) -> Findings {
    let mut looker = Looker {
        written,
        found: Findings { warnings: Vec::new(), grouped_names: Vec::new() },
        ctes: Vec::new(),
        exists: Vec::new(),
        read: BTreeSet::new(),
    };
    let Statement::Statement(statement) = statement else { return looker.found };
    let statement: &SqlStatement = statement;
    let _ = statement.visit(&mut looker);
    for cte in std::mem::take(&mut looker.ctes) {
        if !looker.read.contains(&cte.value.to_lowercase()) {
            let message = format!("nothing reads the common table expression `{}`", cte.value);
            looker.warn(Id::UnusedCte, message, cte.span, "remove it");
        }
    }
    if let (true, SqlStatement::Query(query)) = (contract, statement)
        && let Some(star) = open_star(query, &[])
    {
        let message = "a new column upstream would break this contract: `*` takes in whatever there is".to_owned();
        looker.warn(Id::StarInContract, message, star, "name the columns that the contract promises");
    }
    looker.found
}

struct Looker<'a> {
    written: &'a Written<'a>,
    found: Findings,
    ctes: Vec<Ident>,
    /// Queries of which only the existence of rows counts.
    exists: Vec<SqlSpan>,
    /// Names of tables that are read, lower case.
    read: BTreeSet<String>,
}

impl Looker<'_> {
    fn warn(&mut self, id: Id, message: String, span: SqlSpan, help: &str) {
        self.found.warnings.push(Diagnostic::warning(id, message).at(place(self.written, span)).help(help));
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

    /// `select upper(name) as name ... where name = 'A'`: `where` and `group by` read the column of the input.
    fn shadowed_columns(&mut self, select: &Select) {
        for item in &select.projection {
            let SelectItem::ExprWithAlias { expr, alias } = item else { continue };
            if keeps_meaning(expr, alias) {
                continue;
            }
            if let GroupByExpr::Expressions(grouped, _) = &select.group_by
                && let Some(name) = grouped.iter().find_map(|e| plain_name(e, alias))
            {
                let start = (name.span.start.line, name.span.start.column);
                let warning = self.shadowed(name, alias, "group by");
                let number =
                    select.projection.iter().position(|other| std::ptr::eq(other, item)).unwrap_or_default() + 1;
                let help = format!("write `group by {number}` to group by the new one, or give it another name");
                self.found.grouped_names.push((start, warning.help(help)));
            }
            if let Some(name) = select.selection.as_ref().and_then(|condition| compared_name(condition, alias)) {
                let warning = self.shadowed(name, alias, "where");
                let help =
                    "give the new one another name, or qualify the column with its table to say that it is meant";
                self.found.warnings.push(warning.help(help));
            }
        }
    }

    fn shadowed(&self, name: &Ident, alias: &Ident, clause: &str) -> Diagnostic {
        let message =
            format!("`{clause}` reads the column `{}` of the input, not the one that `select` makes", name.value);
        Diagnostic::warning(Id::ShadowedName, message)
            .at(place(self.written, name.span))
            .related(place(self.written, alias.span).span, "the one that `select` makes")
    }

    /// `select a, b ... union all select b, a ...`: each branch against the first.
    fn unions(&mut self, body: &SetExpr) {
        let SetExpr::SetOperation { op: SetOperator::Union, set_quantifier, left, right } = body else { return };
        self.unions(left);
        self.unions(right);
        let by_name =
            matches!(set_quantifier, SetQuantifier::ByName | SetQuantifier::AllByName | SetQuantifier::DistinctByName);
        if by_name {
            return;
        }
        let (Some(first), Some(other)) = (column_names(left), column_names(right)) else { return };
        let at = |names: &[&Ident], wanted: &Ident| {
            names.iter().position(|name| name.value.eq_ignore_ascii_case(&wanted.value))
        };
        let moved = other.iter().enumerate().find(|(to, name)| at(&first, name).is_some_and(|from| from != *to));
        if let Some((to, name)) = moved
            && let Some(over) = first.get(to)
        {
            let message = format!("`union` goes by position: `{}` becomes `{}`", name.value, over.value);
            let help = "write `union by name` or `union all by name`, or give the columns the same order";
            let warning = Diagnostic::warning(Id::UnionByPosition, message).at(place(self.written, name.span));
            let related = place(self.written, over.span).span;
            self.found.warnings.push(warning.related(related, "the first branch names the column").help(help));
        }
    }

    /// `limit` takes rows, and nothing says which.
    fn unordered_limit(&mut self, query: &Query) {
        let limit = match &query.limit_clause {
            Some(LimitClause::LimitOffset { limit: Some(limit), .. } | LimitClause::OffsetCommaLimit { limit, .. }) => {
                limit
            }
            _ => return,
        };
        let none = matches!(limit, SqlExpr::Value(value) if matches!(&value.value, Value::Number(n, _) if n == "0"));
        if query.order_by.is_some() || none || self.exists.contains(&query.span()) || is_one_row(query) {
            return;
        }
        let message = "`limit` without `order by` keeps arbitrary rows: another run may keep others".to_owned();
        self.warn(Id::UnorderedLimit, message, limit.span(), "add `order by` with columns that tell all rows apart");
    }
}

impl Visitor for Looker<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if let Some(with) = &query.with {
            self.ctes.extend(with.cte_tables.iter().map(|cte| cte.alias.name.clone()));
        }
        self.unordered_limit(query);
        self.unions(&query.body);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        self.cross_join(select);
        self.shadowed_columns(select);
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
        if let SqlExpr::Exists { subquery, .. } = expression {
            self.exists.push(subquery.span());
        }
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

/// The names of the columns of a query, if each has one that is written out.
fn column_names(body: &SetExpr) -> Option<Vec<&Ident>> {
    match body {
        SetExpr::Select(select) => select.projection.iter().map(name_of).collect(),
        SetExpr::Query(query) => column_names(&query.body),
        SetExpr::SetOperation { left, .. } => column_names(left),
        _ => None,
    }
}

fn name_of(item: &SelectItem) -> Option<&Ident> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias),
        SelectItem::UnnamedExpr(SqlExpr::Identifier(name)) => Some(name),
        SelectItem::UnnamedExpr(SqlExpr::CompoundIdentifier(parts)) => parts.last(),
        _ => None,
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

/// Whether an aliased expression is still what its name said: the column itself, cast, or with a default for NULL.
fn keeps_meaning(expression: &SqlExpr, alias: &Ident) -> bool {
    match expression {
        SqlExpr::Identifier(name) => name.value.eq_ignore_ascii_case(&alias.value),
        SqlExpr::CompoundIdentifier(parts) => {
            parts.last().is_some_and(|name| name.value.eq_ignore_ascii_case(&alias.value))
        }
        SqlExpr::Cast { expr, .. } | SqlExpr::Nested(expr) => keeps_meaning(expr, alias),
        SqlExpr::Function(call) => {
            let name = call.name.to_string().to_lowercase();
            matches!(name.as_str(), "coalesce" | "nullif" | "nvl" | "ifnull" | "trim" | "btrim")
        }
        SqlExpr::Trim { .. } => true,
        _ => false,
    }
}

/// An expression that is nothing but the name.
fn plain_name<'e>(expression: &'e SqlExpr, name: &Ident) -> Option<&'e Ident> {
    match expression {
        SqlExpr::Identifier(found) if found.value.eq_ignore_ascii_case(&name.value) => Some(found),
        _ => None,
    }
}

/// The name where a condition compares it with a value that stands in the SQL.
fn compared_name<'e>(condition: &'e SqlExpr, name: &Ident) -> Option<&'e Ident> {
    use BinaryOperator::{And, Eq, Gt, GtEq, Lt, LtEq, NotEq, Or};
    let value = |e: &SqlExpr| matches!(e, SqlExpr::Value(_) | SqlExpr::TypedString { .. });
    match condition {
        SqlExpr::BinaryOp { left, op: And | Or, right } => {
            compared_name(left, name).or_else(|| compared_name(right, name))
        }
        SqlExpr::Nested(inner) => compared_name(inner, name),
        SqlExpr::BinaryOp { left, op: Eq | NotEq | Lt | LtEq | Gt | GtEq, right } => {
            let left_name = plain_name(left, name).filter(|_| value(right));
            left_name.or_else(|| plain_name(right, name).filter(|_| value(left)))
        }
        SqlExpr::InList { expr, list, .. } if list.iter().all(value) => plain_name(expr, name),
        SqlExpr::Like { expr, pattern, .. } | SqlExpr::ILike { expr, pattern, .. } if value(pattern) => {
            plain_name(expr, name)
        }
        _ => None,
    }
}

/// Whether a query has one row whatever it reads: an aggregate without groups, or no table.
fn is_one_row(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    let ungrouped = matches!(&select.group_by, GroupByExpr::Expressions(grouped, _) if grouped.is_empty());
    let aggregates = ["count(", "sum(", "min(", "max(", "avg("];
    let aggregated = |item: &SelectItem| {
        let text = item.to_string().to_lowercase();
        !text.contains(" over ") && aggregates.iter().any(|name| text.starts_with(name))
    };
    select.from.is_empty() || ungrouped && select.projection.iter().all(aggregated)
}

/// The first `*` through which the columns of a table become columns of the query, whatever they are.
fn open_star(query: &Query, outer: &[(String, &Query)]) -> Option<SqlSpan> {
    let mut known = outer.to_vec();
    for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
        known.push((cte.alias.name.value.to_lowercase(), &cte.query));
    }
    open_star_of_body(&query.body, &known)
}

fn open_star_of_body(body: &SetExpr, known: &[(String, &Query)]) -> Option<SqlSpan> {
    let select = match body {
        SetExpr::Select(select) => select,
        SetExpr::Query(query) => return open_star(query, known),
        SetExpr::SetOperation { left, right, .. } => {
            return open_star_of_body(left, known).or_else(|| open_star_of_body(right, known));
        }
        _ => return None,
    };
    let star = select.projection.iter().find_map(|item| match item {
        SelectItem::Wildcard(_) => Some((item.span(), None)),
        SelectItem::QualifiedWildcard(kind, _) => Some((item.span(), Some(kind.to_string().to_lowercase()))),
        _ => None,
    });
    let (star, of) = star?;
    let relations = select
        .from
        .iter()
        .flat_map(|from| std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)));
    for relation in relations {
        let (called, inner) = match relation {
            TableFactor::Table { name, alias, .. } => {
                let text = name.to_string().to_lowercase();
                let called = alias.as_ref().map_or(text.clone(), |alias| alias.name.value.to_lowercase());
                let at = known.iter().rposition(|(cte, _)| *cte == text);
                (called, at.map_or(Some(star), |at| open_star(known[at].1, &known[..at])))
            }
            TableFactor::Derived { subquery, alias, .. } => {
                let called = alias.as_ref().map(|alias| alias.name.value.to_lowercase()).unwrap_or_default();
                (called, open_star(subquery, known))
            }
            _ => continue,
        };
        let wanted = of.as_ref().is_none_or(|of| of.trim_end_matches(".*") == called);
        if let Some(found) = inner.filter(|_| wanted) {
            return Some(found);
        }
    }
    None
}
