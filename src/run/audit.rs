//! Running data tests: over a table as it will be, before it is published, or over what is published.
//!
//! All row-level tests of a table share one scan; the others are a query each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::TableSource;

use super::anomalies;
use super::failing::{self, Failing};
use super::fused::{self, Found, Fusion};
use super::inputs::Inputs;
use super::materialize::Failure;
use super::proved::proved;
use super::references::{self, Group, Key, Keys};
use super::report::{TestResult, TestStatus};
use super::schedule::selected_tests;
use crate::catalog::sql_type;
use crate::checks::{Check, Shape};
use crate::compile::CompiledTest;
use crate::graph::Selection;
use crate::names::TableName;
use crate::project::{Threshold, Verdict, Violation};
use crate::session::{self, Tables};
use crate::words::{HIDDEN, thousands};

/// Runs the selected tests over what is published: `lake test`.
#[tracing::instrument(name = "run", skip_all)]
pub async fn run_tests(
    inputs: &Inputs,
    selection: &Selection,
    on_result: &(dyn Fn(&TestResult) + Sync),
) -> Vec<TestResult> {
    let tests = selected_tests(&inputs.runtime().compiled, selection);
    let mut groups = Vec::new();
    for tests in by_table(&tests) {
        let proved = proved(inputs, &tests).await;
        groups.push(Group { table: tests[0].table.clone(), tests, proved });
    }
    let (groups, keys) = references::in_order(groups);
    let (audit, mut results) = (Audit { inputs, staged: None, keys }, Vec::new());
    for group in groups {
        let found = audit.rest(group.table.as_ref(), &group.tests, group.proved).await;
        found.iter().for_each(on_result);
        results.extend(found);
    }
    in_order(results, &tests)
}

/// Tests of one table together, in order of first appearance.
fn by_table<'a>(tests: &[&'a CompiledTest]) -> Vec<Vec<&'a CompiledTest>> {
    let mut groups: Vec<Vec<&CompiledTest>> = Vec::new();
    for test in tests {
        match groups.iter_mut().find(|group| group[0].table.is_some() && group[0].table == test.table) {
            Some(group) => group.push(test),
            None => groups.push(vec![test]),
        }
    }
    groups
}

/// What tests have found already, by their names.
pub(super) type Seen = BTreeMap<String, Found>;

/// Runs tests; `staged` stands for its table.
pub(super) async fn audit(
    inputs: &Inputs,
    tests: &[&CompiledTest],
    staged: Option<(&TableName, Arc<dyn TableProvider>)>,
) -> Vec<TestResult> {
    audit_rest(inputs, tests, staged, Seen::new()).await
}

/// Runs tests that have not seen all rows yet.
pub(super) async fn audit_rest(
    inputs: &Inputs,
    tests: &[&CompiledTest],
    staged: Option<(&TableName, Arc<dyn TableProvider>)>,
    seen: Seen,
) -> Vec<TestResult> {
    Audit { inputs, staged, keys: Keys::default() }.rest(None, tests, seen).await
}

/// Results in the order of their tests.
pub(super) fn in_order(mut results: Vec<TestResult>, tests: &[&CompiledTest]) -> Vec<TestResult> {
    results.sort_by_key(|result| tests.iter().position(|test| test.name == result.name));
    results
}

/// The other tables that tests of a table read.
pub(super) fn others(tests: &[(&CompiledTest, Check)], table: &TableName) -> Vec<TableName> {
    let mut reads: Vec<TableName> = tests.iter().flat_map(|(test, _)| test.reads.iter().cloned()).collect();
    reads.sort();
    reads.dedup();
    reads.retain(|name| name != table);
    reads
}

/// Tests over tables as they are, or as one of them will be.
pub(super) struct Audit<'a> {
    pub(super) inputs: &'a Inputs,
    staged: Option<(&'a TableName, Arc<dyn TableProvider>)>,
    /// What references lead to.
    keys: Keys,
}

impl Audit<'_> {
    /// Runs tests that have not seen all rows yet; of a table that is read `for_keys`, these are gathered.
    async fn rest(&self, for_keys: Option<&TableName>, tests: &[&CompiledTest], mut seen: Seen) -> Vec<TestResult> {
        let mut results: Vec<TestResult> = Vec::new();
        let mut groups: BTreeMap<&TableName, Vec<(&CompiledTest, Check)>> = BTreeMap::new();
        if let Some(table) = for_keys.filter(|table| self.keys.of_table(table).next().is_some()) {
            groups.insert(table, Vec::new());
        }
        for test in tests {
            let check = test.check();
            match (seen.remove(&test.name), &test.table) {
                (Some(found), _) => results.push(self.closer(test, &check, found, Instant::now()).await),
                (None, Some(table)) => groups.entry(table).or_default().push((test, check)),
                (None, None) => results.push(self.alone(test, &check).await),
            }
        }
        for (table, group) in groups {
            results.extend(self.together(table, group).await);
        }
        in_order(results, tests)
    }

    /// Tests of one table: one scan for all that can share it.
    async fn together(&self, table: &TableName, tests: Vec<(&CompiledTest, Check)>) -> Vec<TestResult> {
        let start = Instant::now();
        let mut results = Vec::new();
        let (fused, rest) = match self.fusion(table, &tests).await {
            Ok(Some((mut fusion, own))) => {
                let rest = tests.into_iter().filter(|(test, _)| !fusion.tests.iter().any(|s| s.test.name == test.name));
                let rest: Vec<_> = rest.collect();
                match self.scan(&fusion, own).await {
                    Ok(found) => {
                        fusion.keep(&self.keys);
                        (fusion.tests.into_iter().zip(found).collect(), rest)
                    }
                    // One of them fails, or there is too little memory for all: alone, each says what is wrong with it.
                    Err(_) => (Vec::new(), fusion.tests.into_iter().map(|s| (s.test, s.check)).chain(rest).collect()),
                }
            }
            _ => (Vec::new(), tests),
        };
        for (shared, found) in fused {
            results.push(self.closer(shared.test, &shared.check, found, start).await);
        }
        for (test, check) in rest {
            results.push(self.alone(test, &check).await);
        }
        results
    }

    /// Those tests of a table that can share a scan, and what they scan.
    async fn fusion<'t>(
        &self,
        table: &'t TableName,
        tests: &[(&'t CompiledTest, Check)],
    ) -> Result<Option<(Fusion<'t>, Arc<dyn TableSource>)>, Failure> {
        let mut tables = self.tables(&[vec![table.clone()], others(tests, table)].concat()).await?;
        let Some(own) = tables.remove(table) else { return Ok(None) };
        let schema = own.schema();
        let shared = tests.iter().filter(|(test, check)| Fusion::takes(test, check, &schema, &tables));
        let shared: Vec<_> = shared.map(|(test, check)| (*test, check.clone())).collect();
        // One alone has no use for it: its query may spill, and looks no closer afterwards.
        let is_known = |(_, check): &(_, Check)| Key::of(check).is_some_and(|key| self.keys.get(&key).is_some());
        let mut wanted = self.keys.of_table(table).peekable();
        if shared.len() < 2 && wanted.peek().is_none() && !shared.iter().any(is_known) {
            return Ok(None);
        }
        let mut fusion = Fusion::new(&self.inputs.runtime().session, table, shared, tables, &self.keys).await;
        fusion.gather(&schema, wanted)?;
        Ok((!fusion.is_idle()).then_some((fusion, own)))
    }

    async fn scan(&self, fusion: &Fusion<'_>, own: Arc<dyn TableSource>) -> Result<Vec<Found>, Failure> {
        let plan = fusion.plan(own)?;
        fusion.found(&session::collect(&fusion.session, plan).await?)
    }

    /// The result of a test that shared a scan; where it may be mistaken, its own query says what is true.
    async fn closer(&self, test: &CompiledTest, check: &Check, found: Found, start: Instant) -> TestResult {
        if let Check::Measures { values, usual: Some(usual), .. } = check {
            let names: Vec<_> = values.iter().map(|(name, _)| *name).collect();
            let judged = anomalies::beside_runs(self.inputs, test, &names, usual, found).await;
            return self.told(test, check, judged, start);
        }
        if matches!(check, Check::Unique { .. }) && found.failures > 0 {
            return self.alone(test, check).await;
        }
        // What is left out is in no table.
        let left_out = found.left_out;
        let result = self.result(test, check, Ok(self.hiding(test, found)), start);
        if left_out { result } else { self.with_rows(test, result).await }
    }

    async fn alone(&self, test: &CompiledTest, check: &Check) -> TestResult {
        let start = Instant::now();
        let found = async {
            match (check, &test.table) {
                (Check::Shape(shape), Some(table)) => self.shape(shape, table).await,
                (Check::Reconciled { source, sql }, Some(table)) => self.reconciled(table, source, sql).await,
                (Check::Series { sql, values, times, usual }, _) => {
                    anomalies::beside_times(&self.rows(sql, &test.reads).await?, values, times, usual)
                }
                (Check::Measures { values, usual: Some(usual), .. }, Some(table)) => {
                    let names: Vec<_> = values.iter().map(|(name, _)| *name).collect();
                    let found = self.measured(test, check, table).await?;
                    anomalies::beside_runs(self.inputs, test, &names, usual, found).await
                }
                _ => fused::found_alone(&self.rows(&fused::alone(test), &test.reads).await?, test),
            }
        };
        let found = found.await;
        if matches!(check, Check::Series { .. } | Check::Reconciled { .. } | Check::Measures { usual: Some(_), .. }) {
            return self.told(test, check, found, start);
        }
        let found = found.map(|found| self.hiding(test, found));
        self.with_rows(test, self.result(test, check, found, start)).await
    }

    /// What was found, without what was measured of a sensitive column.
    fn hiding(&self, test: &CompiledTest, mut found: Found) -> Found {
        if !found.measured.is_empty() && self.inputs.runtime().compiled.speaks_of_sensitive(test) {
            found.measured.iter_mut().for_each(|value| HIDDEN.clone_into(value));
        }
        found
    }

    fn result(&self, test: &CompiledTest, check: &Check, found: Result<Found, Failure>, start: Instant) -> TestResult {
        let tables = test.table.iter().chain(&test.reads);
        result(test, check, found.map_err(|failure| self.inputs.runtime().in_words(&failure, tables)), start)
    }

    /// What a test of measures comes to, alone.
    async fn measured(&self, test: &CompiledTest, check: &Check, table: &TableName) -> Result<Found, Failure> {
        let mut tables = self.tables(std::slice::from_ref(table)).await?;
        let own = tables.remove(table).ok_or_else(|| Failure::text(format!("`{table}` is not there")))?;
        let session = &self.inputs.runtime().session;
        let fusion = Fusion::new(session, table, vec![(test, check.clone())], tables, &self.keys).await;
        Ok(self.scan(&fusion, own).await?.into_iter().next().unwrap_or_default())
    }

    /// The result of a test that says itself which rows fail.
    fn told(&self, test: &CompiledTest, check: &Check, found: Result<Found, Failure>, start: Instant) -> TestResult {
        let rows = found.as_ref().map(|found| found.rows_told.clone()).unwrap_or_default();
        let mut result = self.result(test, check, found, start);
        let failing = Failing::new(self.inputs, test);
        result.failed_rows = rows.iter().map(|row| failing.row(row)).collect();
        result
    }

    /// Adds some of the rows that fail. That they cannot be read again is no reason to forget what was found.
    async fn with_rows(&self, test: &CompiledTest, mut result: TestResult) -> TestResult {
        let failed = matches!(result.status, TestStatus::Fail | TestStatus::Warn);
        if let Some(sql) = failing::query(test).filter(|_| failed)
            && let Ok(batches) = self.rows(&sql, &test.reads).await
        {
            result.failed_rows = Failing::new(self.inputs, test).rows(&batches).unwrap_or_default();
        }
        result
    }

    /// What is wrong with the columns of a table.
    async fn shape(&self, shape: &Shape, table: &TableName) -> Result<Found, Failure> {
        let tables = self.tables(std::slice::from_ref(table)).await?;
        let Some(source) = tables.get(table) else { return Ok(Found::default()) };
        let session = &self.inputs.runtime().session;
        let same = |text: &str| session::parse_data_type(session, text).ok().map(|found| sql_type(&found));
        let told = shape.failures(&source.schema(), same);
        Ok(Found { failures: told.len() as u64, told, ..Found::default() })
    }

    pub(super) async fn tables(&self, reads: &[TableName]) -> Result<Tables, Failure> {
        let is_own = |name: &TableName| self.staged.as_ref().is_some_and(|(own, _)| *own == name);
        let others: Vec<TableName> = reads.iter().filter(|name| !is_own(name)).cloned().collect();
        let mut tables = self.inputs.tables_named(&others).await?;
        if let Some((name, provider)) = &self.staged {
            tables.insert((*name).clone(), provider_as_source(Arc::clone(provider)));
        }
        Ok(tables)
    }

    async fn rows(&self, sql: &str, reads: &[TableName]) -> Result<Vec<RecordBatch>, Failure> {
        let session = &self.inputs.runtime().session;
        let plan = session::plan(session, session::parse(sql)?, &self.tables(reads).await?)?;
        Ok(session::collect(session, plan).await?)
    }
}

/// `2 of 5 tests failed: a, b`, if any stops the publish.
pub(super) fn failed_tests(tests: &[TestResult]) -> Option<String> {
    let failed: Vec<String> = tests
        .iter()
        .filter(|test| test.blocks())
        .map(|test| {
            let declared = test.declared.as_deref().map(|place| format!(", {place}")).unwrap_or_default();
            format!("{} ({}{declared})", test.name, test.message.as_deref().unwrap_or("failed"))
        })
        .collect();
    if failed.is_empty() {
        return None;
    }
    let noun = if tests.len() == 1 { "test" } else { "tests" };
    Some(format!("{} of {} {noun} failed: {}", failed.len(), tests.len(), failed.join(", ")))
}

fn result(test: &CompiledTest, check: &Check, found: Result<Found, String>, start: Instant) -> TestResult {
    let proved = found.as_ref().ok().and_then(|found| found.proved.clone());
    let mut measured = BTreeMap::new();
    let (status, failures, message) = match found {
        Ok(found) => {
            let verdict = if found.left_out {
                test.config.verdict_of_left_out(found.failures, found.rows)
            } else {
                test.config.verdict(found.failures, found.rows)
            };
            let status = match verdict {
                Verdict::Pass => TestStatus::Pass,
                Verdict::Warn => TestStatus::Warn,
                Verdict::Fail => TestStatus::Fail,
            };
            let message = if found.failures > 0 {
                Some(message(test, check, &found, status))
            } else {
                // That there is too little to say is worth saying.
                found.told.first().cloned()
            };
            measured = named(check, &found);
            (status, Some(found.failures), message)
        }
        Err(failure) => (TestStatus::Error, None, Some(failure)),
    };
    let declared = (status != TestStatus::Pass).then(|| test.span.place());
    TestResult {
        name: test.name.clone(),
        severity: test.config.severity,
        status,
        failures,
        message,
        proved,
        declared,
        failures_sql: test.failures_sql(),
        failed_rows: Vec::new(),
        measured,
        seconds: start.elapsed().as_secs_f64(),
    }
}

/// What a test measured, by name.
fn named(check: &Check, found: &Found) -> BTreeMap<&'static str, serde_json::Value> {
    match check {
        Check::Measures { values, .. } => {
            let names: Vec<_> = values.iter().map(|(name, _)| *name).collect();
            anomalies::named(&names, &found.measured)
        }
        _ => BTreeMap::new(),
    }
}

/// What was found, in words.
fn message(test: &CompiledTest, check: &Check, found: &Found, status: TestStatus) -> String {
    let one = found.failures == 1;
    let count = thousands(found.failures);
    let some = |noun: &str| format!("{count} {noun}{}", if one { "" } else { "s" });
    let rows = match found.rows {
        Some(rows) => format!("{count} of {} rows", thousands(rows)),
        None => some("row"),
    };
    let verb = |singular: &'static str, plural: &'static str| if one { singular } else { plural };
    let what = match check {
        Check::Unique { columns, .. } => {
            let noun = if columns.len() > 1 { "combination" } else { "value" };
            format!("{} {} more than once", some(noun), verb("stands", "stand"))
        }
        Check::Reference { to, field, .. } => format!("{rows} {} no match in {to}.{field}", verb("has", "have")),
        Check::Shape(_) | Check::Series { .. } | Check::Reconciled { .. } | Check::Measures { usual: Some(_), .. } => {
            found.told.join("; ")
        }
        Check::Measures { values, expected, .. } => {
            let shown = |value: &String| if value.is_empty() { "NULL".to_owned() } else { value.clone() };
            let values = values.iter().zip(&found.measured);
            let values: Vec<String> = values.map(|((name, _), value)| format!("{name} is {}", shown(value))).collect();
            format!("{}, expected {expected}", values.join(", "))
        }
        _ if found.left_out && test.config.on_violation == Violation::Quarantine => format!("{rows} in quarantine"),
        _ if found.left_out => format!("{rows} left out"),
        _ => format!("{rows} {}", verb("fails", "fail")),
    };
    let percent = found.rows.filter(|rows| *rows > 0).map(|rows| {
        let percent = found.failures as f64 / rows as f64 * 100.0;
        format!("{percent:.2} %")
    });
    let limit = match status {
        TestStatus::Fail => Some(("error_if", &test.config.error_if)),
        TestStatus::Warn => Some(("warn_if", &test.config.warn_if)),
        _ => None,
    };
    let limit = limit.filter(|(_, limit)| **limit != Threshold::default());
    let notes: Vec<String> = percent.into_iter().chain(limit.map(|(key, limit)| format!("{key} {limit}"))).collect();
    if notes.is_empty() { what } else { format!("{what} ({})", notes.join(", ")) }
}
