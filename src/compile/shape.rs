//! What each output column of a model is made of, as a digest: equal digests are equal derivations.
//!
//! Read off the plan as it was written: names of common table expressions, aliases and layout are not in it. What
//! decides which rows there are has a digest of its own, and it is part of what an aggregate or a window computes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DFSchemaRef};
use datafusion::logical_expr::{Aggregate, Distinct, Expr, Join, JoinType, LogicalPlan, SortExpr, Unnest};

/// The digests of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Shape {
    /// The statements without comments and layout.
    pub body: String,
    /// What decides which rows there are.
    pub rows: String,
    /// What each output column is made of.
    pub columns: BTreeMap<String, ColumnShape>,
}

/// An output column.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ColumnShape {
    /// What it is made of.
    pub made: String,
    /// Whether the query can give NULL.
    pub nullable: bool,
}

impl Shape {
    /// Both variants of an incremental model make one table.
    pub(super) fn merge(&mut self, other: Self) {
        self.rows = digest(&[&self.rows, &other.rows]);
        for (name, column) in other.columns {
            let known = self.columns.entry(name).or_default();
            known.made = digest(&[&known.made, &column.made]);
            known.nullable |= column.nullable;
        }
    }
}

/// A short hash of some texts.
pub(super) fn digest(parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// The shape of a query, from its plan before analysis (for what it says) and after (for what can be NULL).
pub(super) fn of_plan(as_written: &LogicalPlan, analyzed: &LogicalPlan) -> Shape {
    let made = Walker { outer: Vec::new(), recursive: BTreeSet::new() }.walk(as_written);
    let fields = analyzed.schema().fields().iter();
    let columns = fields
        .zip(made.columns)
        .map(|(field, made)| (field.name().clone(), ColumnShape { made, nullable: field.is_nullable() }));
    Shape { body: String::new(), rows: made.rows, columns: columns.collect() }
}

/// The digests of a part of a plan; columns by position.
#[derive(Clone)]
struct Made {
    rows: String,
    columns: Vec<String>,
    /// The order of the rows, which a limit above makes part of them.
    order: String,
}

impl Made {
    fn new(rows: String, columns: Vec<String>) -> Self {
        Self { rows, columns, order: String::new() }
    }

    fn all(&self) -> String {
        digest(&[&self.rows, &self.columns.concat()])
    }
}

/// Columns that an expression may name.
type Scope<'a> = [(&'a DFSchema, &'a [String])];

struct Walker {
    /// What correlated subqueries may name.
    outer: Vec<(DFSchemaRef, Vec<String>)>,
    /// Names of recursive queries around.
    recursive: BTreeSet<String>,
}

impl Walker {
    fn walk(&mut self, plan: &LogicalPlan) -> Made {
        match plan {
            LogicalPlan::TableScan(scan) => {
                let table = scan.table_name.to_string();
                let kind = if self.recursive.contains(&table) { "recursive" } else { "table" };
                let fields = scan.projected_schema.fields().iter();
                let columns = fields.map(|field| digest(&[kind, &table, field.name()])).collect();
                Made::new(digest(&[kind, &table]), columns)
            }
            LogicalPlan::Projection(projection) => {
                let input = self.walk(&projection.input);
                let columns = self.expressions(&projection.expr, &projection.input, &input);
                Made { columns, ..input }
            }
            LogicalPlan::Filter(filter) => {
                let input = self.walk(&filter.input);
                let condition = self.expressions(std::slice::from_ref(&filter.predicate), &filter.input, &input);
                Made { rows: digest(&["filter", &input.rows, &condition.concat()]), ..input }
            }
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate, plan.schema().fields().len()),
            LogicalPlan::Window(window) => {
                let input = self.walk(&window.input);
                let made = self.expressions(&window.window_expr, &window.input, &input);
                let made: Vec<String> = made.iter().map(|made| digest(&["window", &input.rows, made])).collect();
                Made { columns: input.columns.into_iter().chain(made).collect(), ..input }
            }
            LogicalPlan::Sort(sort) => {
                let input = self.walk(&sort.input);
                let (how, order) = self.order(&sort.expr, &sort.input, &input);
                Made { order: digest(&["order", &how, &order]), ..input }
            }
            LogicalPlan::Limit(limit) => {
                let input = self.walk(&limit.input);
                let some: String = [&limit.skip, &limit.fetch].map(|n| format!("{n:?};")).concat();
                Made { rows: digest(&["limit", &input.rows, &input.order, &some]), ..input }
            }
            LogicalPlan::SubqueryAlias(alias) => self.walk(&alias.input),
            LogicalPlan::Subquery(subquery) => self.walk(&subquery.subquery),
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let input = self.walk(input);
                Made::new(digest(&["distinct", &input.all()]), input.columns)
            }
            LogicalPlan::Distinct(Distinct::On(on)) => {
                let input = self.walk(&on.input);
                let keys = self.expressions(&on.on_expr, &on.input, &input).concat();
                let (how, order) = self.order(on.sort_expr.as_deref().unwrap_or_default(), &on.input, &input);
                let columns = self.expressions(&on.select_expr, &on.input, &input);
                Made::new(digest(&["distinct on", &input.rows, &keys, &how, &order]), columns)
            }
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Union(union) => {
                let inputs: Vec<Made> = union.inputs.iter().map(|input| self.walk(input)).collect();
                let side = |at: usize| inputs.iter().filter_map(move |input| input.columns.get(at));
                let width = plan.schema().fields().len();
                let columns = (0..width).map(|at| digest(&side(at).map(String::as_str).collect::<Vec<_>>())).collect();
                let rows: Vec<&str> = inputs.iter().map(|input| input.rows.as_str()).collect();
                Made::new(digest(&["union", &digest(&rows)]), columns)
            }
            LogicalPlan::Unnest(unnest) => self.unnest(unnest),
            LogicalPlan::RecursiveQuery(query) => {
                let added = self.recursive.insert(query.name.clone());
                let (start, step) = (self.walk(&query.static_term), self.walk(&query.recursive_term));
                if added {
                    self.recursive.remove(&query.name);
                }
                let rows = digest(&["recursive", &query.is_distinct.to_string(), &start.rows, &step.rows]);
                let columns = start.columns.iter().zip(&step.columns).map(|(a, b)| digest(&[a, b])).collect();
                Made::new(rows, columns)
            }
            _ => self.other(plan),
        }
    }

    /// How rows are sorted, and what the keys are made of.
    fn order(&mut self, keys: &[SortExpr], input: &LogicalPlan, made: &Made) -> (String, String) {
        let how = keys.iter().map(|key| format!("{} {};", key.asc, key.nulls_first)).collect();
        let keys: Vec<Expr> = keys.iter().map(|key| key.expr.clone()).collect();
        (how, self.expressions(&keys, input, made).concat())
    }

    fn aggregate(&mut self, aggregate: &Aggregate, width: usize) -> Made {
        let input = self.walk(&aggregate.input);
        let mut columns = self.expressions(&aggregate.group_expr, &aggregate.input, &input);
        let rows = digest(&["group", &input.rows, &columns.concat()]);
        // Grouping sets are one expression with several columns.
        columns.resize(width - aggregate.aggr_expr.len(), rows.clone());
        let made = self.expressions(&aggregate.aggr_expr, &aggregate.input, &input);
        columns.extend(made.iter().map(|made| digest(&["aggregate", &rows, made])));
        Made::new(rows, columns)
    }

    fn join(&mut self, join: &Join) -> Made {
        let (left, right) = (self.walk(&join.left), self.walk(&join.right));
        let on: Vec<(Expr, Expr)> = join.on.clone();
        let (a, b): (Vec<Expr>, Vec<Expr>) = on.into_iter().unzip();
        let keys = [self.expressions(&a, &join.left, &left), self.expressions(&b, &join.right, &right)].concat();
        let scope = [(join.left.schema().as_ref(), left.columns.as_slice()), (join.right.schema(), &right.columns)];
        let filter = join.filter.as_ref().map(|filter| self.made(filter, &scope)).unwrap_or_default();
        let how = format!("{} {:?} {}", join.join_type, join.null_equality, join.null_aware);
        let rows = digest(&["join", &how, &left.rows, &right.rows, &keys.concat(), &filter]);
        let mark = [digest(&["mark", &rows])];
        let columns = match join.join_type {
            JoinType::LeftSemi | JoinType::LeftAnti => left.columns,
            JoinType::RightSemi | JoinType::RightAnti => right.columns,
            JoinType::LeftMark => [&left.columns[..], &mark].concat(),
            JoinType::RightMark => [&right.columns[..], &mark].concat(),
            JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => {
                [left.columns, right.columns].concat()
            }
        };
        Made::new(rows, columns)
    }

    fn unnest(&mut self, unnest: &Unnest) -> Made {
        let input = self.walk(&unnest.input);
        let lists = unnest
            .list_type_columns
            .iter()
            .map(|(at, list)| format!("{} {}", input.columns.get(*at).map_or("", String::as_str), list.depth));
        let how = format!("{:?}", unnest.options);
        let rows = digest(&["unnest", &input.rows, &how, &lists.collect::<String>()]);
        let columns = unnest.schema.fields().iter().enumerate().map(|(at, field)| {
            let from = unnest.dependency_indices.get(at).copied().unwrap_or(at);
            let made = input.columns.get(from).cloned().unwrap_or_default();
            let before = unnest.input.schema().fields().get(from);
            let same = before.is_some_and(|before| before.data_type() == field.data_type());
            // Several columns of one struct differ by their names.
            if same { made } else { digest(&["unnest", &made, field.name().rsplit('.').next().unwrap_or_default()]) }
        });
        Made { columns: columns.collect(), ..Made::new(rows, Vec::new()) }
    }

    /// Whatever else: each column is made of all that goes in, and of what the plan says about itself.
    fn other(&mut self, plan: &LogicalPlan) -> Made {
        let inputs: Vec<Made> = plan.inputs().into_iter().map(|input| self.walk(input)).collect();
        let scope: Vec<(&DFSchema, &[String])> = plan
            .inputs()
            .into_iter()
            .zip(&inputs)
            .map(|(input, made)| (input.schema().as_ref(), made.columns.as_slice()))
            .collect();
        let said: Vec<String> = plan.expressions().iter().map(|expression| self.made(expression, &scope)).collect();
        let all: Vec<String> = inputs.iter().map(Made::all).collect();
        let rows = digest(&[&plan.display().to_string(), &all.concat(), &said.concat()]);
        let columns = (0..plan.schema().fields().len()).map(|at| digest(&[&rows, &at.to_string()])).collect();
        Made::new(rows, columns)
    }

    fn expressions(&mut self, expressions: &[Expr], input: &LogicalPlan, made: &Made) -> Vec<String> {
        let scope = [(input.schema().as_ref(), made.columns.as_slice())];
        expressions.iter().map(|expression| self.made(expression, &scope)).collect()
    }

    /// The digest of an expression: its text, with what columns are made of in place of their names.
    fn made(&mut self, expression: &Expr, scope: &Scope<'_>) -> String {
        match expression {
            Expr::Column(column) => return named(column, scope),
            Expr::Alias(alias) => return self.made(&alias.expr, scope),
            _ => {}
        }
        let mut inner = String::new();
        let text = expression.clone().transform_up(|part| {
            let subquery = match &part {
                Expr::Column(column) => {
                    return Ok(Transformed::yes(Expr::Column(Column::new_unqualified(named(column, scope)))));
                }
                Expr::OuterReferenceColumn(_, column) => {
                    let made = self.named_outside(column);
                    return Ok(Transformed::yes(Expr::Column(Column::new_unqualified(made))));
                }
                Expr::Alias(alias) => return Ok(Transformed::yes((*alias.expr).clone())),
                Expr::ScalarSubquery(subquery) => &subquery.subquery,
                Expr::InSubquery(test) => &test.subquery.subquery,
                Expr::Exists(test) => &test.subquery.subquery,
                Expr::SetComparison(test) => &test.subquery.subquery,
                _ => return Ok(Transformed::no(part)),
            };
            self.outer.extend(scope.iter().map(|(schema, made)| (Arc::new((*schema).clone()), made.to_vec())));
            inner.push_str(&self.walk(subquery).all());
            self.outer.truncate(self.outer.len() - scope.len());
            Ok(Transformed::no(part))
        });
        let text = text.map(|text| text.data.to_string()).unwrap_or_default();
        digest(&[&text, &inner])
    }

    fn named_outside(&self, column: &Column) -> String {
        let around: Vec<(&DFSchema, &[String])> =
            self.outer.iter().rev().map(|(schema, made)| (schema.as_ref(), made.as_slice())).collect();
        named(column, &around)
    }
}

/// What the column that an expression names is made of.
fn named(column: &Column, scope: &Scope<'_>) -> String {
    let found = scope.iter().find_map(|(schema, made)| made.get(schema.maybe_index_of_column(column)?).cloned());
    found.unwrap_or_else(|| digest(&["unknown", &column.name]))
}
