//! Running data tests: over a table as it will be, before it is published, or over what is published.
//!
//! All row-level tests of a table share one scan; the others are a query each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::catalog::TableProvider;
use datafusion::datasource::provider_as_source;
use datafusion::execution::session_state::SessionState;

use super::inputs::Inputs;
use super::materialize::Failure;
use super::report::{TestResult, TestStatus};
use super::schedule::selected_tests;
use crate::compile::{Check, CompiledTest};
use crate::graph::Selection;
use crate::names::TableName;
use crate::project::TestSeverity;
use crate::session;

/// Runs the selected tests over what is published: `lake test`.
pub async fn run_tests(
    inputs: &Inputs,
    selection: &Selection,
    on_result: &(dyn Fn(&TestResult) + Sync),
) -> Vec<TestResult> {
    let tests = selected_tests(&inputs.runtime().compiled, selection);
    let mut results = Vec::new();
    for group in by_table(&tests) {
        let found = audit(inputs, &group, None).await;
        found.iter().for_each(on_result);
        results.extend(found);
    }
    results
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

/// Runs tests; `staged` stands for its table.
pub(super) async fn audit(
    inputs: &Inputs,
    tests: &[&CompiledTest],
    staged: Option<(&TableName, Arc<dyn TableProvider>)>,
) -> Vec<TestResult> {
    let mut results: BTreeMap<&str, TestResult> = BTreeMap::new();
    let mut groups: BTreeMap<&TableName, Vec<&CompiledTest>> = BTreeMap::new();
    for test in tests {
        match (test.check(), &test.table) {
            (Check::Rows { .. }, Some(table)) => groups.entry(table).or_default().push(test),
            _ => {
                let start = Instant::now();
                let sql = format!("select count(*) as failures from ({}) as failing", test.failures_sql());
                let counts = count(inputs, &sql, &test.reads, staged.clone()).await;
                results.insert(&test.name, result(test, counts.map(|counts| counts[0]), start));
            }
        }
    }
    for (table, group) in groups {
        let start = Instant::now();
        match count(inputs, &fused(table, &group), std::slice::from_ref(table), staged.clone()).await {
            Ok(counts) => {
                for (test, failures) in group.iter().zip(counts) {
                    results.insert(&test.name, result(test, Ok(failures), start));
                }
            }
            // One of them fails: alone, each says what is wrong with it.
            Err(_) => {
                for test in group {
                    let start = Instant::now();
                    let sql = fused(table, &[test]);
                    let counts = count(inputs, &sql, &test.reads, staged.clone()).await;
                    results.insert(&test.name, result(test, counts.map(|counts| counts[0]), start));
                }
            }
        }
    }
    tests.iter().filter_map(|test| results.remove(test.name.as_str())).collect()
}

/// One scan that counts the wrong rows of every test.
fn fused(table: &TableName, tests: &[&CompiledTest]) -> String {
    let counts: Vec<String> = tests
        .iter()
        .enumerate()
        .filter_map(|(at, test)| match test.check() {
            Check::Rows { wrong } => Some(format!("count(*) filter (where {wrong}) as t{at}")),
            Check::Query { .. } => None,
        })
        .collect();
    format!("select {} from {}", counts.join(", "), table.quoted())
}

async fn count(
    inputs: &Inputs,
    sql: &str,
    reads: &[TableName],
    staged: Option<(&TableName, Arc<dyn TableProvider>)>,
) -> Result<Vec<u64>, Failure> {
    let others: Vec<TableName> =
        reads.iter().filter(|name| staged.as_ref().is_none_or(|(own, _)| own != name)).cloned().collect();
    let mut tables = inputs.tables_named(&others).await?;
    if let Some((name, provider)) = staged {
        tables.insert(name.clone(), provider_as_source(provider));
    }
    let session = &inputs.runtime().session;
    let plan = session::plan(session, session::parse(sql)?, &tables)?;
    let run = |session: SessionState| session::query(&session, plan.clone()).collect();
    let batches = session::within_memory(session, run).await?;
    let batch = batches.iter().find(|batch| batch.num_rows() > 0);
    let batch = batch.ok_or_else(|| Failure::text("the test returned no count".to_owned()))?;
    let counts = batch.columns().iter().map(|column| column.as_primitive::<Int64Type>().value(0));
    Ok(counts.map(|count| u64::try_from(count).unwrap_or_default()).collect())
}

/// `2 of 5 tests failed: a, b`, if any stops the publish.
pub(super) fn failed_tests(tests: &[TestResult]) -> Option<String> {
    let failed: Vec<String> = tests
        .iter()
        .filter(|test| test.blocks())
        .map(|test| format!("{} ({})", test.name, test.message.as_deref().unwrap_or("failed")))
        .collect();
    if failed.is_empty() {
        return None;
    }
    let noun = if tests.len() == 1 { "test" } else { "tests" };
    Some(format!("{} of {} {noun} failed: {}", failed.len(), tests.len(), failed.join(", ")))
}

fn result(test: &CompiledTest, failures: Result<u64, Failure>, start: Instant) -> TestResult {
    let (status, failures, message) = match failures {
        Ok(0) => (TestStatus::Pass, Some(0), None),
        Ok(count) => {
            let status = if test.config.severity == TestSeverity::Warn { TestStatus::Warn } else { TestStatus::Fail };
            let what = match (test.kind.name(), count) {
                ("unique" | "unique_combination_of_columns", 1) => "value stands more than once",
                ("unique" | "unique_combination_of_columns", _) => "values stand more than once",
                (_, 1) => "row fails",
                _ => "rows fail",
            };
            (status, Some(count), Some(format!("{count} {what}")))
        }
        Err(failure) => (TestStatus::Error, None, Some(failure.to_string())),
    };
    TestResult {
        name: test.name.clone(),
        severity: test.config.severity,
        status,
        failures,
        message,
        failures_sql: test.failures_sql(),
        seconds: start.elapsed().as_secs_f64(),
    }
}
