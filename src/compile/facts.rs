//! What a plan says of its rows whatever the tables hold: columns without NULL, keys, the values and the bounds of columns.
//!
//! Only what can be shown is said. A rule looks at one node of the plan and at the facts of its inputs.

use std::collections::BTreeSet;

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, NullEquality, ScalarValue};
use datafusion::logical_expr::{Aggregate, BinaryExpr, Distinct, Expr, Join, JoinType, LogicalPlan, Operator, utils};
use datafusion::sql::unparser::expr_to_sql;
use serde::{Deserialize, Serialize};

/// What holds for every result of a query.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// In the order of the columns.
    pub columns: Vec<ColumnFacts>,
    /// Columns, by their places, whose values together stand once, NULLs as values; and why, in words before their names.
    pub keys: Vec<(BTreeSet<usize>, String)>,
}

/// What holds for every value of a column.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ColumnFacts {
    /// It is never NULL; and why.
    pub not_null: Option<String>,
    /// All values that it can have beside NULL, as text.
    pub values: Option<BTreeSet<String>>,
    /// No value is less.
    pub least: Option<f64>,
    /// No value is greater.
    pub most: Option<f64>,
}

impl Facts {
    /// What holds in both ways to build a table.
    pub fn and(self, other: &Self) -> Self {
        let columns = self.columns.into_iter().zip(&other.columns).map(|(a, b)| a.or(b)).collect();
        let keys = self.keys.into_iter().filter(|(key, _)| other.keys.iter().any(|(known, _)| known == key)).collect();
        Self { columns, keys }
    }

    /// What is left of it in a table of these columns: what becomes of another type on its way may become equal, or NULL.
    pub fn stored_as(mut self, queried: &Schema, stored: &Schema) -> Self {
        let same = |at: usize| {
            let types = queried.fields().get(at).zip(stored.fields().get(at));
            types.is_some_and(|(a, b)| a.data_type() == b.data_type() && a.name() == b.name())
        };
        for (_, column) in self.columns.iter_mut().enumerate().filter(|(at, _)| !same(*at)) {
            *column = ColumnFacts::default();
        }
        self.keys.retain(|(key, _)| key.iter().all(|at| same(*at)));
        self
    }

    /// What is left of it where the table is partitioned by some of the columns: an empty text is NULL then (Delta protocol,
    /// "Partition Value Serialization").
    pub fn partitioned(mut self, stored: &Schema, partition_by: &[String]) -> Self {
        let is_text = |at: usize| {
            let field = stored.field(at);
            *field.data_type() == DataType::Utf8 && partition_by.contains(field.name())
        };
        for (at, column) in self.columns.iter_mut().enumerate().filter(|(at, _)| is_text(*at)) {
            let never_empty = column.values.as_ref().is_some_and(|values| !values.contains(""));
            if !never_empty {
                column.not_null = None;
                self.keys.retain(|(key, _)| !key.contains(&at));
            }
        }
        self
    }

    fn nothing(columns: usize) -> Self {
        Self { columns: vec![ColumnFacts::default(); columns], keys: Vec::new() }
    }
}

impl ColumnFacts {
    /// What holds for a value that comes from one column or from the other.
    fn or(self, other: &Self) -> Self {
        let both = |a: Option<f64>, b: Option<f64>, pick: fn(f64, f64) -> f64| Some(pick(a?, b?));
        Self {
            not_null: self.not_null.filter(|_| other.not_null.is_some()),
            values: self.values.zip(other.values.as_ref()).map(|(mut a, b)| {
                a.extend(b.iter().cloned());
                a
            }),
            least: both(self.least, other.least, f64::min),
            most: both(self.most, other.most, f64::max),
        }
    }

    fn never_null(why: impl Into<String>) -> Self {
        Self { not_null: Some(why.into()), ..Self::default() }
    }
}

/// The facts of a plan.
pub(super) fn of_plan(plan: &LogicalPlan) -> Facts {
    match plan {
        LogicalPlan::Projection(projection) => {
            let input = of_plan(&projection.input);
            let columns = projection.expr.iter().map(|e| of_expression(e, &projection.input, &input)).collect();
            // Where each column of the input stands afterwards.
            let place = |column: usize| {
                projection
                    .expr
                    .iter()
                    .position(|e| plain_column(e).and_then(|c| at(&projection.input, c)) == Some(column))
            };
            let moved = |(key, why): &(BTreeSet<usize>, String)| {
                let key: Option<BTreeSet<usize>> = key.iter().map(|column| place(*column)).collect();
                Some((key?, why.clone()))
            };
            Facts { columns, keys: input.keys.iter().filter_map(moved).collect() }
        }
        LogicalPlan::Filter(filter) => {
            let mut facts = of_plan(&filter.input);
            for condition in utils::split_conjunction(&filter.predicate) {
                narrow(&mut facts, condition, &filter.input);
            }
            facts
        }
        LogicalPlan::Aggregate(aggregate) => of_aggregate(aggregate),
        LogicalPlan::Distinct(Distinct::All(input)) => {
            let mut facts = of_plan(input);
            let all = (0..facts.columns.len()).collect();
            facts.keys.push((all, "distinct".to_owned()));
            facts
        }
        LogicalPlan::Join(join) => of_join(join),
        LogicalPlan::Union(union) => {
            let mut inputs = union.inputs.iter().map(|input| of_plan(input));
            let first = inputs.next().unwrap_or_default();
            let facts = inputs.fold(first, |all, one| all.and(&one));
            Facts { keys: Vec::new(), ..facts }
        }
        LogicalPlan::Window(window) => {
            let mut facts = of_plan(&window.input);
            facts.columns.extend(window.window_expr.iter().map(|expression| match function_name(expression) {
                Some(name @ ("row_number" | "rank" | "dense_rank" | "ntile" | "count")) => {
                    let why = format!("{name}() is never NULL");
                    ColumnFacts { least: Some(if name == "count" { 0.0 } else { 1.0 }), ..ColumnFacts::never_null(why) }
                }
                _ => ColumnFacts::default(),
            }));
            facts
        }
        LogicalPlan::SubqueryAlias(alias) => of_plan(&alias.input),
        LogicalPlan::Sort(sort) => of_plan(&sort.input),
        LogicalPlan::Limit(limit) => of_plan(&limit.input),
        other => Facts::nothing(other.schema().fields().len()),
    }
}

fn of_aggregate(aggregate: &Aggregate) -> Facts {
    let input = of_plan(&aggregate.input);
    let is_plain = !aggregate.group_expr.iter().any(|expression| matches!(expression, Expr::GroupingSet(_)));
    if !is_plain {
        return Facts::nothing(aggregate.schema.fields().len());
    }
    let groups = aggregate.group_expr.iter().map(|e| of_expression(e, &aggregate.input, &input));
    let values = aggregate.aggr_expr.iter().map(|expression| match function_name(expression) {
        Some("count") => ColumnFacts { least: Some(0.0), ..ColumnFacts::never_null("count() is never NULL") },
        _ => ColumnFacts::default(),
    });
    let columns: Vec<ColumnFacts> = groups.chain(values).collect();
    let width = aggregate.group_expr.len();
    let why = if width == 0 { "an aggregate over all rows is one row" } else { "group by" };
    Facts { columns, keys: vec![((0..width).collect(), why.to_owned())] }
}

/// A join keeps the keys of a side if each of its rows finds one row at most on the other side.
fn of_join(join: &Join) -> Facts {
    let (mut left, mut right) = (of_plan(&join.left), of_plan(&join.right));
    let on: Vec<(Option<usize>, Option<usize>)> = join
        .on
        .iter()
        .map(|(a, b)| {
            (plain_column(a).and_then(|c| at(&join.left, c)), plain_column(b).and_then(|c| at(&join.right, c)))
        })
        .collect();
    let finds_one = |keys: &[(BTreeSet<usize>, String)], joined: BTreeSet<usize>| {
        keys.iter().any(|(key, _)| key.iter().all(|column| joined.contains(column)))
    };
    let right_is_one = finds_one(&right.keys, on.iter().filter_map(|(_, column)| *column).collect());
    let left_is_one = finds_one(&left.keys, on.iter().filter_map(|(column, _)| *column).collect());
    let why = "both sides of the join are equal";
    if matches!(join.join_type, JoinType::Inner | JoinType::LeftSemi | JoinType::RightSemi)
        && join.null_equality == NullEquality::NullEqualsNothing
    {
        for (a, b) in &on {
            for (facts, column) in [(&mut left, a), (&mut right, b)] {
                if let Some(column) = column.and_then(|column| facts.columns.get_mut(column)) {
                    column.not_null.get_or_insert_with(|| why.to_owned());
                }
            }
        }
    }
    let filled = |facts: &mut Facts| facts.columns.iter_mut().for_each(|column| column.not_null = None);
    match join.join_type {
        JoinType::LeftSemi | JoinType::LeftAnti => return left,
        JoinType::RightSemi | JoinType::RightAnti => return right,
        JoinType::Inner => {}
        JoinType::Left => filled(&mut right),
        JoinType::Right => filled(&mut left),
        JoinType::Full => {
            filled(&mut left);
            filled(&mut right);
        }
        _ => return Facts::nothing(join.schema.fields().len()),
    }
    let width = left.columns.len();
    let mut keys = Vec::new();
    if right_is_one && matches!(join.join_type, JoinType::Inner | JoinType::Left) {
        keys.extend(left.keys.iter().cloned());
    }
    if left_is_one && matches!(join.join_type, JoinType::Inner | JoinType::Right) {
        keys.extend(
            right.keys.iter().map(|(key, why)| (key.iter().map(|column| column + width).collect(), why.clone())),
        );
    }
    left.columns.extend(right.columns);
    Facts { columns: left.columns, keys }
}

/// What a condition that holds for every row says of the columns in it.
fn narrow(facts: &mut Facts, condition: &Expr, input: &LogicalPlan) {
    let mut not_null = |expression: &Expr, why: String| {
        let column = plain_column(expression).and_then(|column| at(input, column));
        if let Some(column) = column.and_then(|column| facts.columns.get_mut(column)) {
            column.not_null.get_or_insert(why);
        }
    };
    match condition {
        Expr::IsNotNull(inner) => not_null(inner, format!("where {}", short(condition))),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(*op) => {
            not_null(left, format!("where {}", short(condition)));
            not_null(right, format!("where {}", short(condition)));
            bound(facts, left, *op, right, input);
        }
        Expr::InList(list) if !list.negated => {
            not_null(&list.expr, format!("where {}", short(condition)));
            let values: Option<BTreeSet<String>> = list.list.iter().map(literal_text).collect();
            let column = plain_column(&list.expr).and_then(|column| at(input, column));
            if let (Some(column), Some(values)) = (column.and_then(|column| facts.columns.get_mut(column)), values) {
                column.values = Some(values);
            }
        }
        _ => {}
    }
}

/// `column >= 1` and its kin.
fn bound(facts: &mut Facts, left: &Expr, op: Operator, right: &Expr, input: &LogicalPlan) {
    let (column, op, value) = match (plain_column(left), plain_column(right)) {
        (Some(column), None) => (column, op, right),
        (None, Some(column)) => (column, op.swap().unwrap_or(op), left),
        _ => return,
    };
    let Some(facts) = at(input, column).and_then(|column| facts.columns.get_mut(column)) else { return };
    if op == Operator::Eq
        && let Some(text) = literal_text(value)
    {
        facts.values = Some(BTreeSet::from([text]));
    }
    let Some(number) = literal_number(value) else { return };
    match op {
        Operator::Gt | Operator::GtEq => facts.least = facts.least.map(|known| known.max(number)).or(Some(number)),
        Operator::Lt | Operator::LtEq => facts.most = facts.most.map(|known| known.min(number)).or(Some(number)),
        Operator::Eq => (facts.least, facts.most) = (Some(number), Some(number)),
        _ => {}
    }
}

fn of_expression(expression: &Expr, plan: &LogicalPlan, input: &Facts) -> ColumnFacts {
    let inner = |expression: &Expr| of_expression(expression, plan, input);
    match expression {
        Expr::Alias(alias) => inner(&alias.expr),
        Expr::Column(column) => {
            at(plan, column).and_then(|column| input.columns.get(column)).cloned().unwrap_or_default()
        }
        // A cast keeps NULL and nothing else NULL; numbers may be rounded, and texts spelled otherwise.
        Expr::Cast(cast) => match literal_number(expression) {
            Some(number) => of_number(number, expression),
            None => {
                let facts = inner(&cast.expr);
                let keeps_text = cast.field.data_type().is_string();
                ColumnFacts {
                    not_null: facts.not_null,
                    values: facts.values.filter(|_| keeps_text),
                    ..ColumnFacts::default()
                }
            }
        },
        Expr::Literal(value, _) if value.is_null() => ColumnFacts {
            values: Some(BTreeSet::new()),
            least: Some(f64::INFINITY),
            most: Some(f64::NEG_INFINITY),
            not_null: None,
        },
        Expr::Literal(..) => match literal_number(expression) {
            Some(number) => of_number(number, expression),
            None => {
                let values = literal_text(expression).map(|text| BTreeSet::from([text]));
                ColumnFacts { values, ..ColumnFacts::never_null(format!("it is {}", short(expression))) }
            }
        },
        Expr::Case(case) => {
            let branches = case.when_then_expr.iter().map(|(_, then)| &**then);
            let otherwise = case.else_expr.as_deref();
            let mut all = branches.chain(otherwise).map(inner);
            let Some(first) = all.next() else { return ColumnFacts::default() };
            let mut facts = all.fold(first, |all, one| all.or(&one));
            // Without `else`, a row that meets no condition is NULL.
            facts.not_null =
                facts.not_null.filter(|_| otherwise.is_some()).map(|_| "no branch of the case is NULL".to_owned());
            facts
        }
        Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::Exists(_) => ColumnFacts::never_null(format!("{} is never NULL", short(expression))),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (left, right) = (inner(left), inner(right));
            let strict = is_comparison(*op)
                || matches!(op, Operator::And | Operator::Or | Operator::StringConcat)
                || matches!(op, Operator::Plus | Operator::Minus | Operator::Multiply);
            match (strict, left.not_null, right.not_null) {
                (true, Some(_), Some(_)) => {
                    ColumnFacts::never_null(format!("no part of {} is NULL", short(expression)))
                }
                _ => ColumnFacts::default(),
            }
        }
        Expr::ScalarFunction(function) => of_function(function.name(), &function.args, expression, &inner),
        _ => ColumnFacts::default(),
    }
}

fn of_function(name: &str, args: &[Expr], expression: &Expr, inner: &dyn Fn(&Expr) -> ColumnFacts) -> ColumnFacts {
    match name {
        "coalesce" => {
            let all: Vec<ColumnFacts> = args.iter().map(inner).collect();
            let Some(last) = all.iter().position(|facts| facts.not_null.is_some()) else {
                let mut all = all.into_iter();
                let first = all.next().unwrap_or_default();
                return all.fold(first, |all, one| all.or(&one));
            };
            // What comes after a value that is never NULL is never reached.
            let mut all = all.into_iter().take(last + 1);
            let first = all.next().unwrap_or_default();
            let facts = all.fold(first, |all, one| all.or(&one));
            ColumnFacts { not_null: Some(format!("{} is never NULL", short(expression))), ..facts }
        }
        "abs" | "length" | "character_length" => {
            let not_null = args.first().and_then(|argument| inner(argument).not_null);
            ColumnFacts { least: Some(0.0), not_null, ..ColumnFacts::default() }
        }
        "concat" | "now" => ColumnFacts::never_null(format!("{name}() is never NULL")),
        "upper" | "lower" | "trim" | "btrim" | "date_trunc" => {
            let facts: Vec<ColumnFacts> = args.iter().map(inner).collect();
            match facts.iter().all(|facts| facts.not_null.is_some()) {
                true => ColumnFacts::never_null(format!("no part of {} is NULL", short(expression))),
                false => ColumnFacts::default(),
            }
        }
        _ => ColumnFacts::default(),
    }
}

fn of_number(number: f64, expression: &Expr) -> ColumnFacts {
    ColumnFacts {
        not_null: Some(format!("it is {}", short(expression))),
        values: literal_text(expression).map(|text| BTreeSet::from([text])),
        least: Some(number),
        most: Some(number),
    }
}

fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq)
}

/// A column as it is.
fn plain_column(expression: &Expr) -> Option<&Column> {
    match expression {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => plain_column(&alias.expr),
        _ => None,
    }
}

fn at(plan: &LogicalPlan, column: &Column) -> Option<usize> {
    plan.schema().maybe_index_of_column(column)
}

/// A literal as text, where all ways to write it down are the same.
fn literal_text(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Alias(alias) => literal_text(&alias.expr),
        Expr::Cast(cast) if cast.field.data_type().is_string() => literal_text(&cast.expr),
        Expr::Literal(ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text), _) => {
            text.clone()
        }
        Expr::Literal(ScalarValue::Int64(Some(number)), _) => Some(number.to_string()),
        Expr::Literal(ScalarValue::Boolean(Some(value)), _) => Some(value.to_string()),
        _ => None,
    }
}

/// A literal number that a float holds exactly.
fn literal_number(expression: &Expr) -> Option<f64> {
    match expression {
        Expr::Alias(alias) => literal_number(&alias.expr),
        Expr::Literal(ScalarValue::Int64(Some(number)), _) if number.unsigned_abs() < 1 << 53 => Some(*number as f64),
        Expr::Literal(ScalarValue::Int32(Some(number)), _) => Some(f64::from(*number)),
        Expr::Literal(ScalarValue::Float64(Some(number)), _) if number.is_finite() => Some(*number),
        _ => None,
    }
}

/// The aggregate or window function that an expression is.
fn function_name(expression: &Expr) -> Option<&str> {
    match expression {
        Expr::Alias(alias) => function_name(&alias.expr),
        Expr::AggregateFunction(function) => Some(function.func.name()),
        Expr::WindowFunction(function) => Some(function.fun.name()),
        _ => None,
    }
}

/// An expression as people read it: without the tables of its columns, and not too long.
fn short(expression: &Expr) -> String {
    let plain = expression.clone().transform(|inner| match inner {
        Expr::Column(column) => Ok(Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))),
        other => Ok(Transformed::no(other)),
    });
    let sql = plain.and_then(|plain| expr_to_sql(&plain.data)).map(|sql| sql.to_string());
    let text = sql.unwrap_or_else(|_| expression.human_display().to_string());
    if text.chars().count() > 60 { text.chars().take(57).chain("...".chars()).collect() } else { text }
}
