//! Tests of one table that share one scan: all that are about rows by themselves, measures, keys and references.
//!
//! They are one aggregate over the rows of the table, wherever these come from: its files, or the stream that writes them.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Int64Type, Schema};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{LogicalPlan, TableSource};

use super::materialize::Failure;
use super::references::{Key, Keys};
use crate::checks::Check;
use crate::compile::{CompiledTest, bound, condition};
use crate::names::TableName;
use crate::session::{self, Gathering, KnownValues, Tables};
use crate::words::quoted;

/// What a test found.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Found {
    /// Failing rows, or what the test's own calculation says.
    pub(super) failures: u64,
    /// Rows that it looked at, where that decides.
    pub(super) rows: Option<u64>,
    /// What its measures came to; empty for NULL.
    pub(super) measured: Vec<String>,
    /// What is wrong, where the test finds the words itself.
    pub(super) told: Vec<String>,
    /// Failing rows as JSON, where no query gives them.
    pub(super) rows_told: Vec<String>,
    /// The failing rows are not in the table.
    pub(super) left_out: bool,
    /// Why nobody had to look.
    pub(super) proved: Option<String>,
}

/// A test that shares a scan.
pub(super) struct Shared<'a> {
    pub(super) test: &'a CompiledTest,
    pub(super) check: Check,
    /// The function that knows the values that a reference may have.
    known: Option<String>,
}

/// Tests of one table, ready to look at its rows.
pub(super) struct Fusion<'a> {
    table: &'a TableName,
    pub(super) tests: Vec<Shared<'a>>,
    /// With the functions that the tests need.
    pub(super) session: SessionState,
    /// Other tables that they read.
    others: Tables,
    /// Keys of the table that tests of other tables need.
    gathered: Vec<(Key, String, Gathering)>,
}

impl<'a> Fusion<'a> {
    /// Reads what the tests have to know of other tables: the keys that references lead to. A reference to more keys than
    /// there is memory for is left out: alone, its query can spill.
    pub(super) async fn new(
        session: &SessionState,
        table: &'a TableName,
        tests: Vec<(&'a CompiledTest, Check)>,
        others: Tables,
        keys: &Keys,
    ) -> Self {
        let mut fusion = Self { table, tests: Vec::new(), session: session.clone(), others, gathered: Vec::new() };
        for (test, check) in tests {
            let known = match &check {
                Check::Reference { .. } => match fusion.known_values(&check, keys).await {
                    Ok(known) => Some(known),
                    Err(failure) => {
                        tracing::debug!("`{}` shares no scan: {failure}", test.name);
                        continue;
                    }
                },
                _ => None,
            };
            fusion.tests.push(Shared { test, check, known });
        }
        fusion
    }

    /// Whether a test can share a scan of its table, which has these columns.
    pub(super) fn takes(test: &CompiledTest, check: &Check, schema: &Schema, others: &Tables) -> bool {
        let (Some(table), None) = (&test.table, &test.config.fail_calc) else { return false };
        match check {
            Check::Rows { .. } | Check::Measures { .. } | Check::Unique { .. } => true,
            // Values of one type compare as they are.
            Check::Reference { column, to, field, .. } => {
                let there = others.get(to).map(|source| source.schema());
                let there = there.as_ref().and_then(|schema| schema.field_with_name(field).ok());
                let here = schema.field_with_name(column).ok();
                to != table && here.zip(there).is_some_and(|(a, b)| a.data_type() == b.data_type())
            }
            Check::Shape(_) | Check::Query { .. } | Check::Series { .. } | Check::Reconciled { .. } => false,
        }
    }

    /// The values that a reference may have, as a function of the session.
    async fn known_values(&mut self, check: &Check, keys: &Keys) -> Result<String, Failure> {
        let Some(key) = Key::of(check) else { return Ok(String::new()) };
        let function = match keys.get(&key) {
            Some(known) => known,
            None => {
                let filter = condition([key.filter.as_deref()]);
                let sql = format!("select {} from {}{filter}", quoted(&key.field), key.table.quoted());
                let plan = session::plan(&self.session, session::parse(&sql)?, &self.others)?;
                keys.put(key, KnownValues::read(&self.session, plan).await?)
            }
        };
        let name = function.name().to_owned();
        self.session.register_udf(function)?;
        Ok(name)
    }

    /// Keeps the values of keys of the table while it is scanned.
    pub(super) fn gather<'k>(&mut self, schema: &Schema, keys: impl Iterator<Item = &'k Key>) -> Result<(), Failure> {
        for key in keys {
            let Ok(field) = schema.field_with_name(&key.field) else { continue };
            let gathering = Gathering::new(&self.session, field.data_type().clone());
            let function = gathering.function();
            let name = function.name().to_owned();
            self.session.register_udf(Arc::new(function))?;
            self.gathered.push((key.clone(), name, gathering));
        }
        Ok(())
    }

    /// Whether there is nothing that a scan could find out.
    pub(super) fn is_idle(&self) -> bool {
        self.tests.is_empty() && self.gathered.is_empty()
    }

    /// After a scan: the keys that it has come by.
    pub(super) fn keep(&mut self, keys: &Keys) {
        for (key, _, gathering) in self.gathered.drain(..) {
            if let Some(values) = gathering.gathered() {
                keys.put(key, values);
            }
        }
    }

    /// The query over the rows of `own`.
    pub(super) fn plan(&self, own: Arc<dyn TableSource>) -> Result<LogicalPlan, Failure> {
        let mut tables = self.others.clone();
        tables.insert(self.table.clone(), own);
        Ok(session::plan(&self.session, session::parse(&self.sql())?, &tables)?)
    }

    /// Whether a plan of [`Fusion::plan`] reads the rows once: a condition may look at the table again.
    pub(super) fn reads_once(&self, plan: &LogicalPlan) -> bool {
        let mut scans = 0;
        let counted = plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node
                && scan.table_name.schema() == Some(self.table.schema)
                && scan.table_name.table() == self.table.table
            {
                scans += 1;
            }
            Ok(TreeNodeRecursion::Continue)
        });
        counted.is_ok() && scans == 1
    }

    fn sql(&self) -> String {
        let (mut inner, mut outer) = (Vec::new(), Vec::new());
        for (at, shared) in self.tests.iter().enumerate() {
            let test = shared.test;
            let where_ = |own: Option<&str>| {
                let conditions = condition([own, test.config.filter.as_deref()]);
                if conditions.is_empty() { String::new() } else { format!(" filter ({})", conditions.trim_start()) }
            };
            match &shared.check {
                Check::Rows { wrong } => inner.push(format!("count(*) filter (where {wrong}) as f{at}")),
                Check::Measures { values, .. } => {
                    inner.extend(values.iter().enumerate().map(|(one, (_, sql))| format!("{sql} as m{at}_{one}")));
                }
                Check::Unique { columns, nulls_count } => {
                    let list = columns.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(", ");
                    let some = (!nulls_count).then(|| format!("{list} is not null"));
                    inner.push(format!("count_repeated({list}){} as f{at}", where_(some.as_deref())));
                }
                Check::Reference { column, .. } => {
                    let (column, known) = (quoted(column), shared.known.as_deref().unwrap_or_default());
                    // NULL is neither known nor unknown.
                    inner.push(format!("count(*){} as f{at}", where_(Some(&format!("not {known}({column})")))));
                }
                Check::Shape(_) | Check::Query { .. } | Check::Series { .. } | Check::Reconciled { .. } => continue,
            }
            outer.extend(shared.outer(at));
            if test.config.needs_rows() {
                inner.push(format!("{} as r{at}", rows(test)));
                outer.push(format!("r{at}"));
            }
        }
        for (at, (key, gather, _)) in self.gathered.iter().enumerate() {
            // The function looks at the condition itself: of both sides of an AND each may see all rows.
            let (value, counts) = (quoted(&key.field), key.filter.as_deref().unwrap_or("true"));
            inner.push(format!("count(*) filter (where {gather}({value}, {counts})) as g{at}"));
            outer.push(format!("g{at}"));
        }
        format!("select {} from (select {} from {}) as found", outer.join(", "), inner.join(", "), self.table.quoted())
    }

    /// What each test found, from the only row of the query.
    pub(super) fn found(&self, batches: &[RecordBatch]) -> Result<Vec<Found>, Failure> {
        let batch = only_row(batches)?;
        let each = self.tests.iter().enumerate().map(|(at, shared)| {
            let measures = match &shared.check {
                Check::Measures { values, .. } => values.len(),
                _ => 0,
            };
            let measured = (0..measures).map(|one| text(batch, &format!("m{at}_{one}"))).collect::<Result<_, _>>()?;
            let rows = shared.test.config.needs_rows().then(|| number(batch, &format!("r{at}"))).transpose()?;
            Ok(Found { failures: number(batch, &format!("f{at}"))?, rows, measured, ..Found::default() })
        });
        each.collect()
    }
}

impl Shared<'_> {
    /// What is asked of the aggregates.
    fn outer(&self, at: usize) -> Vec<String> {
        let Check::Measures { values, wrong, .. } = &self.check else { return vec![format!("f{at}")] };
        let names: Vec<String> = (0..values.len()).map(|one| format!("m{at}_{one}")).collect();
        let shown = names.iter().map(|name| format!("cast({name} as varchar) as {name}"));
        let is_wrong = format!("cast(case when {} then 1 else 0 end as bigint) as f{at}", bound(wrong, &names));
        shown.chain([is_wrong]).collect()
    }
}

/// The number of rows that a test looks at, as an aggregate.
fn rows(test: &CompiledTest) -> String {
    match &test.config.filter {
        Some(filter) => format!("count(*) filter (where {filter})"),
        None => "count(*)".to_owned(),
    }
}

/// A query whose only row has what one test found, whatever it is.
pub(super) fn alone(test: &CompiledTest) -> String {
    let calculated = test.config.fail_calc.as_deref().unwrap_or("count(*)");
    let failures = format!("select cast({calculated} as bigint) as f0 from ({}) as failing", test.failures_sql());
    match (&test.table, test.config.needs_rows()) {
        (Some(table), true) => format!(
            "select f0, r0 from ({failures}) as failed cross join (select {} as r0 from {}) as tested",
            rows(test),
            table.quoted()
        ),
        _ => failures,
    }
}

/// What one test found, from the row of [`alone`].
pub(super) fn found_alone(batches: &[RecordBatch], test: &CompiledTest) -> Result<Found, Failure> {
    let batch = only_row(batches)?;
    let has_rows = test.table.is_some() && test.config.needs_rows();
    let rows = has_rows.then(|| number(batch, "r0")).transpose()?;
    Ok(Found { failures: number(batch, "f0")?, rows, ..Found::default() })
}

/// A count in the only row of a query.
pub(super) fn count(batches: &[RecordBatch], column: &str) -> Result<u64, Failure> {
    number(only_row(batches)?, column)
}

fn only_row(batches: &[RecordBatch]) -> Result<&RecordBatch, Failure> {
    let batch = batches.iter().find(|batch| batch.num_rows() > 0);
    batch.ok_or_else(|| Failure::text("the test returned no count".to_owned()))
}

fn number(batch: &RecordBatch, column: &str) -> Result<u64, Failure> {
    let values = batch.column_by_name(column).and_then(|values| values.as_primitive_opt::<Int64Type>());
    let values = values.ok_or_else(|| Failure::text("the test returned no count".to_owned()))?;
    // A calculation over no row may be NULL: nothing failed.
    let value = if values.is_null(0) { 0 } else { values.value(0) };
    Ok(u64::try_from(value).unwrap_or_default())
}

fn text(batch: &RecordBatch, column: &str) -> Result<String, Failure> {
    let values = batch.column_by_name(column).and_then(|values| values.as_string_opt::<i32>());
    let values = values.ok_or_else(|| Failure::text("the test returned no measure".to_owned()))?;
    Ok(if values.is_null(0) { String::new() } else { values.value(0).to_owned() })
}
