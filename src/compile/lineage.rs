//! Column lineage: read off the typed plan of a model, not guessed from its text.
//!
//! For each output column, the input columns that it is made of: copied as they are, or derived by an expression.
//! Apart from them, the columns that decide which rows there are: filters, join conditions, grouping keys.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::{Aggregate, Distinct, Expr, Join, JoinType, LogicalPlan, Subquery, TableScan, Unnest};

use crate::names::TableName;
use crate::session::is_mask;

/// How an input column reaches an output column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    /// Through a mask: nothing of its values can be read there.
    Masked,
    /// Unchanged.
    Copied,
    /// Through an expression, an aggregate or a window.
    Derived,
    /// It decides which rows there are: a filter, a join condition, a grouping key.
    Filter,
}

/// A column of a table or source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct ColumnName {
    /// The table.
    pub table: TableName,
    /// The column.
    pub column: String,
}

/// Where the rows and columns of a model come from, one step up.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Lineage {
    /// For each output column, what it is made of.
    pub columns: BTreeMap<String, BTreeMap<ColumnName, Use>>,
    /// Columns that decide which rows there are.
    pub filters: BTreeSet<ColumnName>,
}

impl Lineage {
    /// Both variants of an incremental model flow into one table.
    pub(super) fn merge(&mut self, other: Self) {
        for (column, sources) in other.columns {
            merge_uses(self.columns.entry(column).or_default(), sources);
        }
        self.filters.extend(other.filters);
    }
}

/// The lineage of a planned model.
pub(super) fn of_plan(plan: &LogicalPlan) -> Lineage {
    let mut walker = Walker { filters: Sources::new(), order: Sources::new(), recursive: BTreeMap::new() };
    let columns = walker.columns(plan).into_iter().map(|sources| sources.all);
    let names = plan.schema().fields().iter().map(|field| field.name().clone());
    Lineage { columns: names.zip(columns).collect(), filters: walker.filters.all.into_keys().collect() }
}

/// What a value is made of; of a struct, also what each field is made of, as far as that is known.
#[derive(Debug, Clone, Default)]
struct Sources {
    all: BTreeMap<ColumnName, Use>,
    fields: BTreeMap<String, Sources>,
}

impl Sources {
    fn new() -> Self {
        Self::default()
    }

    fn from(column: ColumnName) -> Self {
        Self { all: BTreeMap::from([(column, Use::Copied)]), fields: BTreeMap::new() }
    }
}

fn merge_uses(into: &mut BTreeMap<ColumnName, Use>, from: BTreeMap<ColumnName, Use>) {
    for (column, how) in from {
        into.entry(column).and_modify(|known| *known = (*known).max(how)).or_insert(how);
    }
}

fn merge(into: &mut Sources, from: Sources) {
    if into.all.is_empty() && into.fields.is_empty() {
        *into = from;
        return;
    }
    merge_uses(&mut into.all, from.all);
    // A field that one side does not know can be anything of that side.
    into.fields.retain(|name, _| from.fields.contains_key(name));
    for (name, more) in from.fields {
        if let Some(known) = into.fields.get_mut(&name) {
            merge(known, more);
        }
    }
}

fn derived(sources: Sources) -> Sources {
    let all =
        sources.all.into_iter().map(|(column, how)| (column, if how == Use::Masked { how } else { Use::Derived }));
    Sources { all: all.collect(), fields: BTreeMap::new() }
}

fn masked(sources: Sources) -> Sources {
    let all = sources.all.into_keys().map(|column| (column, Use::Masked)).collect();
    Sources { all, fields: BTreeMap::new() }
}

struct Walker {
    filters: Sources,
    /// What the rows are sorted by, which a limit above makes a filter.
    order: Sources,
    /// Columns of recursive queries, by the name that they call themselves.
    recursive: BTreeMap<String, Vec<Sources>>,
}

impl Walker {
    /// The sources of each output column of a plan, in order.
    fn columns(&mut self, plan: &LogicalPlan) -> Vec<Sources> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::Projection(projection) => {
                let input = self.columns(&projection.input);
                self.expressions(&projection.expr, projection.input.schema(), &input)
            }
            LogicalPlan::Filter(filter) => {
                let input = self.columns(&filter.input);
                self.decides(&filter.predicate, filter.input.schema(), &input);
                input
            }
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate, plan.schema().fields().len()),
            LogicalPlan::Window(window) => {
                let mut output = self.columns(&window.input);
                let made = self.expressions(&window.window_expr, window.input.schema(), &output);
                output.extend(made.into_iter().map(derived));
                output
            }
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Union(union) => self.side_by_side(union.inputs.iter().map(AsRef::as_ref)),
            LogicalPlan::Distinct(Distinct::On(on)) => {
                let input = self.columns(&on.input);
                let order = on.sort_expr.iter().flatten().map(|key| &key.expr);
                on.on_expr.iter().chain(order).for_each(|key| self.decides(key, on.input.schema(), &input));
                self.expressions(&on.select_expr, on.input.schema(), &input)
            }
            LogicalPlan::Sort(sort) => {
                let input = self.columns(&sort.input);
                self.order = Sources::new();
                for key in &sort.expr {
                    let mentioned = self.mentioned(&key.expr, sort.input.schema(), &input);
                    merge(&mut self.order, mentioned);
                }
                input
            }
            LogicalPlan::Limit(limit) => {
                self.order = Sources::new();
                let input = self.columns(&limit.input);
                let order = std::mem::take(&mut self.order);
                merge(&mut self.filters, order);
                input
            }
            LogicalPlan::Unnest(unnest) => self.unnest(unnest),
            LogicalPlan::RecursiveQuery(query) => {
                let mut start = self.columns(&query.static_term);
                self.recursive.insert(query.name.clone(), start.clone());
                for (column, more) in start.iter_mut().zip(self.columns(&query.recursive_term)) {
                    merge(column, more);
                }
                self.recursive.remove(&query.name);
                start
            }
            LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Distinct(Distinct::All(_))
            | LogicalPlan::Repartition(_)
            | LogicalPlan::Subquery(_) => self.side_by_side(plan.inputs().into_iter()),
            LogicalPlan::Values(_) | LogicalPlan::EmptyRelation(_) => {
                vec![Sources::new(); plan.schema().fields().len()]
            }
            // Anything else: each column may come from every column below.
            _ => {
                let inputs: Vec<Vec<Sources>> = plan.inputs().into_iter().map(|input| self.columns(input)).collect();
                let mut all = Sources::new();
                inputs.into_iter().flatten().for_each(|sources| merge(&mut all, derived(sources)));
                vec![all; plan.schema().fields().len()]
            }
        }
    }

    fn scan(&mut self, scan: &TableScan) -> Vec<Sources> {
        let (schema, name) = (scan.table_name.schema(), scan.table_name.table());
        if let (None, Some(known)) = (schema, self.recursive.get(name)) {
            return known.clone();
        }
        let table = TableName::new(plain_schema(schema.unwrap_or_default()), name);
        let source = |field: &str| ColumnName { table: table.clone(), column: field.to_owned() };
        let fields = scan.projected_schema.fields();
        fields.iter().map(|field| Sources::from(source(field.name()))).collect()
    }

    fn aggregate(&mut self, aggregate: &Aggregate, width: usize) -> Vec<Sources> {
        let input = self.columns(&aggregate.input);
        self.order = Sources::new();
        let schema = aggregate.input.schema();
        aggregate.group_expr.iter().for_each(|key| self.decides(key, schema, &input));
        let mut output = self.expressions(&aggregate.group_expr, schema, &input);
        // Grouping sets are one expression with several columns and a column of their own.
        let mut all = Sources::new();
        output.iter().for_each(|sources| merge(&mut all, sources.clone()));
        output.resize(width - aggregate.aggr_expr.len(), all);
        output.extend(self.expressions(&aggregate.aggr_expr, schema, &input).into_iter().map(derived));
        output
    }

    fn join(&mut self, join: &Join) -> Vec<Sources> {
        let (left, right) = (self.columns(&join.left), self.columns(&join.right));
        self.order = Sources::new();
        for (a, b) in &join.on {
            self.decides(a, join.left.schema(), &left);
            self.decides(b, join.right.schema(), &right);
        }
        let both: Vec<Sources> = left.iter().chain(&right).cloned().collect();
        if let Some(filter) = &join.filter
            && let Ok(schema) = join.left.schema().join(join.right.schema())
        {
            self.decides(filter, &schema, &both);
        }
        match join.join_type {
            JoinType::LeftSemi | JoinType::LeftAnti => left,
            JoinType::RightSemi | JoinType::RightAnti => right,
            JoinType::LeftMark => left.into_iter().chain([Sources::new()]).collect(),
            JoinType::RightMark => right.into_iter().chain([Sources::new()]).collect(),
            JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => both,
        }
    }

    fn unnest(&mut self, unnest: &Unnest) -> Vec<Sources> {
        let input = self.columns(&unnest.input);
        let output = unnest.schema.fields().iter().enumerate().map(|(at, field)| {
            let index = unnest.dependency_indices.get(at).copied().unwrap_or(at);
            let same = unnest.input.schema().fields().get(index).is_some_and(|f| f.data_type() == field.data_type());
            let sources = input.get(index).cloned().unwrap_or_default();
            let name = field.name().rsplit('.').next().unwrap_or_default();
            match sources.fields.get(name) {
                _ if same => sources,
                Some(field) => field.clone(),
                None => derived(sources),
            }
        });
        output.collect()
    }

    /// Column by column, from one or more inputs of one shape.
    fn side_by_side<'a>(&mut self, inputs: impl Iterator<Item = &'a LogicalPlan>) -> Vec<Sources> {
        let mut output: Vec<Sources> = Vec::new();
        for input in inputs {
            let columns = self.columns(input);
            output.resize_with(output.len().max(columns.len()), Sources::new);
            for (known, more) in output.iter_mut().zip(columns) {
                merge(known, more);
            }
        }
        output
    }

    fn expressions(&mut self, expressions: &[Expr], schema: &DFSchema, input: &[Sources]) -> Vec<Sources> {
        expressions.iter().map(|expression| self.expression(expression, schema, input)).collect()
    }

    fn expression(&mut self, expression: &Expr, schema: &DFSchema, input: &[Sources]) -> Sources {
        match expression {
            Expr::Column(column) => sources_of(column, schema, input),
            Expr::Alias(alias) => self.expression(&alias.expr, schema, input),
            Expr::ScalarFunction(call) => match (call.func.name(), call.args.as_slice()) {
                ("named_struct", args) => self.fields(args, schema, input),
                ("get_field", [base, path @ ..]) => {
                    let base = self.expression(base, schema, input);
                    let field = path.iter().try_fold(&base, |part, name| part.fields.get(&text_of(name)?));
                    field.cloned().unwrap_or_else(|| derived(base))
                }
                _ => derived(self.mentioned(expression, schema, input)),
            },
            _ => derived(self.mentioned(expression, schema, input)),
        }
    }

    /// `named_struct('a', x, 'b', y)`.
    fn fields(&mut self, args: &[Expr], schema: &DFSchema, input: &[Sources]) -> Sources {
        let mut made = Sources::new();
        let mut fields = BTreeMap::new();
        for pair in args.chunks(2) {
            let [name, value] = pair else { continue };
            let value = self.expression(value, schema, input);
            merge(&mut made, derived(value.clone()));
            fields.extend(text_of(name).map(|name| (name, value)));
        }
        Sources { all: made.all, fields }
    }

    /// Everything that an expression mentions, subqueries included.
    fn mentioned(&mut self, expression: &Expr, schema: &DFSchema, input: &[Sources]) -> Sources {
        let mut found = Sources::new();
        let walked = expression.apply(|inner| {
            match inner {
                Expr::ScalarFunction(call) if is_mask(call.func.name()) => {
                    for hidden in &call.args {
                        let hidden = self.mentioned(hidden, schema, input);
                        merge(&mut found, masked(hidden));
                    }
                    return Ok(TreeNodeRecursion::Jump);
                }
                // A field of a struct, and not all of the struct.
                Expr::ScalarFunction(call) if call.func.name() == "get_field" => {
                    merge(&mut found, self.expression(inner, schema, input));
                    return Ok(TreeNodeRecursion::Jump);
                }
                Expr::Column(column) => merge(&mut found, sources_of(column, schema, input)),
                Expr::OuterReferenceColumn(_, column) => merge(&mut found, sources_of(column, schema, input)),
                Expr::ScalarSubquery(subquery) => merge(&mut found, self.subquery(subquery, schema, input)),
                Expr::InSubquery(test) => merge(&mut found, self.subquery(&test.subquery, schema, input)),
                Expr::Exists(test) => merge(&mut found, self.subquery(&test.subquery, schema, input)),
                _ => {}
            }
            Ok(TreeNodeRecursion::Continue)
        });
        walked.expect("the walk itself cannot fail");
        found
    }

    fn subquery(&mut self, subquery: &Subquery, schema: &DFSchema, input: &[Sources]) -> Sources {
        let mut found = Sources::new();
        self.columns(&subquery.subquery).into_iter().for_each(|sources| merge(&mut found, sources));
        for outer in &subquery.outer_ref_columns {
            if let Expr::OuterReferenceColumn(_, column) = outer {
                merge(&mut self.filters, sources_of(column, schema, input));
            }
        }
        found
    }

    fn decides(&mut self, expression: &Expr, schema: &DFSchema, input: &[Sources]) {
        let mentioned = self.mentioned(expression, schema, input);
        merge(&mut self.filters, mentioned);
    }
}

/// A literal text.
fn text_of(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Literal(value, _) => value.try_as_str().flatten().map(str::to_owned),
        _ => None,
    }
}

fn sources_of(column: &Column, schema: &DFSchema, input: &[Sources]) -> Sources {
    schema.maybe_index_of_column(column).and_then(|at| input.get(at)).cloned().unwrap_or_default()
}

/// `bronze@all.courses` is `bronze.courses`, read whole.
fn plain_schema(name: &str) -> &str {
    name.split_once('@').map_or(name, |(plain, _)| plain)
}
