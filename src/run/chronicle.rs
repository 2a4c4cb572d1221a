//! What happened, as Delta tables of the lake itself: `_lake/runs`, `_lake/node_results`, `_lake/test_results`,
//! `_lake/failures`, `_lake/profiles`, `_lake/notifications`. Every run appends to each of them at most once, in one commit.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use serde::Serialize;

use super::exports::ExportResult;
use super::inputs::Inputs;
use super::materialize::{Failure, HOOKS_ALONE};
use super::own_tables::{self, ATTEMPTS, columns};
use super::profiles::{ProfileRow, profile_columns};
use super::report::{FailedRow, RunReport, Status, TestResult, TestStatus};
use super::unit::UnitTestResult;
use crate::catalog::utc;
use crate::compile::CompiledTest;
use crate::names::TableName;
use crate::project::TestSeverity;
use crate::tables::{self, Commit, TableError};

/// The folder of these tables, and their schema in SQL.
const FOLDER: &str = "_lake";

const TABLES: &[&str] = &["runs", "node_results", "test_results", "failures", "profiles", "notifications"];

/// The names of these tables.
pub(super) fn tables() -> impl Iterator<Item = TableName> {
    TABLES.iter().map(|table| TableName::new(FOLDER, *table))
}

/// The table of what tests found.
pub(super) fn test_results() -> TableName {
    TableName::new(FOLDER, "test_results")
}

/// The table of what is known of each version of each table.
pub(super) fn profiles() -> TableName {
    TableName::new(FOLDER, "profiles")
}

/// Appends what a run did.
///
/// # Errors
/// When a table cannot be read or written; the run itself is over.
pub async fn chronicle(inputs: &Inputs, report: &RunReport, command: &str) -> Result<(), Failure> {
    let tests = || {
        let of_nodes =
            report.nodes.iter().flat_map(|node| node.tests.iter().map(move |test| (Some(node.version), test)));
        of_nodes.chain(report.tests.iter().map(|test| (None, test)))
    };
    let run = RunRow::new(inputs, report, command, tests().map(|(_, test)| test));
    let mut nodes: Vec<NodeRow<'_>> = report
        .nodes
        .iter()
        .map(|node| NodeRow {
            invocation_id: &report.invocation_id,
            started_at: node.started_at,
            node: node.name.to_string(),
            materialized: node.materialized,
            status: node.status,
            action: node.action,
            reason: &node.reason,
            rows: node.rows,
            bytes: node.bytes,
            rows_quarantined: node.rows_quarantined,
            files_read: node.files_read as u64,
            version: node.version,
            seconds: node.seconds,
        })
        .collect();
    nodes.extend(report.exports.iter().map(|export| NodeRow::of_export(report, export)));
    let compiled = &inputs.runtime().compiled.tests;
    let declared: HashMap<&str, &CompiledTest> = compiled.iter().map(|test| (test.name.as_str(), test)).collect();
    let mut results: Vec<TestRow<'_>> = Vec::new();
    for (of_build, test) in tests() {
        let version = match (of_build, declared.get(test.name.as_str()).and_then(|test| test.table.as_ref())) {
            (Some(version), _) => version,
            (None, Some(table)) => tested_version(inputs, table).await,
            (None, None) => None,
        };
        results.push(TestRow::new(&declared, report, version, test));
    }
    // One that is known to pass was noted when it ran. Where nothing else is to be noted of tests, what was said before is no news.
    let alone = results.is_empty();
    let is_old = |test: &UnitTestResult| alone && test.said_before && test.status == TestStatus::Pass;
    let news = report.unit_tests.iter().filter(|test| !test.unchanged && !is_old(test));
    results.extend(news.map(|test| TestRow::of_unit_test(report, test)));
    let failures: Vec<FailureRow<'_>> = tests()
        .flat_map(|(_, test)| test.failed_rows.iter().map(move |row| FailureRow::new(report, test, row)))
        .collect();
    let profiles = profile_rows(inputs, report).await;
    let (a, b, c, d, e) = tokio::join!(
        append(inputs, "runs", run_columns(), std::slice::from_ref(&run)),
        append(inputs, "node_results", node_columns(), &nodes),
        append(inputs, "test_results", test_columns(), &results),
        append(inputs, "failures", failure_columns(), &failures),
        append(inputs, "profiles", profile_columns(), &profiles),
    );
    a.and(b).and(c).and(d).and(e)
}

/// The version that was tested, of a table that was not built.
async fn tested_version(inputs: &Inputs, table: &TableName) -> Option<u64> {
    let model = inputs.runtime().project.models.get(table).filter(|model| model.is_stored());
    inputs.published(&model?.name).await.ok().flatten().map(|published| published.version())
}

/// What is known of the tables that a run published.
async fn profile_rows(inputs: &Inputs, report: &RunReport) -> Vec<ProfileRow> {
    let published = report
        .nodes
        .iter()
        .filter(|node| node.status == Status::Success && ![HOOKS_ALONE, "view"].contains(&node.action));
    let each = published.filter_map(|node| {
        let version = node.version?;
        Some(async move { (&node.name, inputs.profile_of_build(&node.name, version, node.sketched.as_ref()).await) })
    });
    let mut rows = Vec::new();
    for (name, profile) in futures::future::join_all(each).await {
        match profile {
            Ok(profile) => rows.extend(profile.into_iter().flat_map(|p| p.into_rows(&report.invocation_id))),
            // A profile is not worth a failed run.
            Err(failure) => tracing::warn!("`{name}` has no profile: {failure}"),
        }
    }
    rows
}

/// Appends rows to one of these tables, in one commit.
pub(super) async fn append<T: Serialize>(
    inputs: &Inputs,
    table: &str,
    columns: SchemaRef,
    rows: &[T],
) -> Result<(), Failure> {
    if rows.is_empty() {
        return Ok(());
    }
    let runtime = inputs.runtime();
    let (lake, name) = (&runtime.lake, TableName::new(FOLDER, table));
    let commit = Commit::of_run(&runtime.options.invocation_id, Vec::new());
    for _ in 0..ATTEMPTS {
        // A commit that was lost to another has taken its files away.
        let staged = own_tables::stage(inputs, &name, &columns, rows).await?;
        let current = lake.inspect(&name).await?;
        let staged = match &current {
            Some(current) => tables::pack_along(lake, current, staged, &runtime.session).await?,
            None => staged,
        };
        match tables::publish_unseen(lake, current.as_ref(), staged, &commit).await {
            Err(TableError::Conflict { .. }) => tokio::task::yield_now().await,
            outcome => return Ok(outcome?),
        }
    }
    Err(Failure::Table(TableError::Conflict { table: name }))
}

const TEXT: DataType = DataType::Utf8;
const WHOLE: DataType = DataType::Int64;
const REAL: DataType = DataType::Float64;

/// A row of `_lake.runs`.
#[derive(Serialize)]
struct RunRow<'a> {
    invocation_id: &'a str,
    command: &'a str,
    target: &'a str,
    started_at: DateTime<Utc>,
    seconds: f64,
    status: &'static str,
    built: u64,
    skipped: u64,
    failed: u64,
    blocked: u64,
    tests: u64,
    tests_failed: u64,
    tests_warned: u64,
    lake_version: &'static str,
}

fn run_columns() -> SchemaRef {
    columns(&[
        ("invocation_id", TEXT),
        ("command", TEXT),
        ("target", TEXT),
        ("started_at", utc()),
        ("seconds", REAL),
        ("status", TEXT),
        ("built", WHOLE),
        ("skipped", WHOLE),
        ("failed", WHOLE),
        ("blocked", WHOLE),
        ("tests", WHOLE),
        ("tests_failed", WHOLE),
        ("tests_warned", WHOLE),
        ("lake_version", TEXT),
    ])
}

impl<'a> RunRow<'a> {
    fn new(
        inputs: &'a Inputs,
        report: &'a RunReport,
        command: &'a str,
        tests: impl Iterator<Item = &'a TestResult> + Clone,
    ) -> Self {
        let nodes = |status: Status| report.nodes.iter().filter(|node| node.status == status).count() as u64;
        let counted = |wanted: &[TestStatus]| tests.clone().filter(|test| wanted.contains(&test.status)).count() as u64;
        let status = match (report.cancelled, report.succeeded()) {
            (true, _) => "cancelled",
            (false, true) => "success",
            (false, false) => "error",
        };
        Self {
            invocation_id: &report.invocation_id,
            command,
            target: &inputs.runtime().project.target.name,
            started_at: report.started_at,
            seconds: report.seconds,
            status,
            built: nodes(Status::Success),
            skipped: nodes(Status::Skipped),
            failed: nodes(Status::Error),
            blocked: nodes(Status::Blocked),
            tests: tests.clone().count() as u64,
            tests_failed: counted(&[TestStatus::Fail, TestStatus::Error]),
            tests_warned: counted(&[TestStatus::Warn]),
            lake_version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// A row of `_lake.node_results`.
#[derive(Serialize)]
struct NodeRow<'a> {
    invocation_id: &'a str,
    started_at: DateTime<Utc>,
    node: String,
    materialized: &'static str,
    status: Status,
    action: &'static str,
    reason: &'a str,
    rows: Option<u64>,
    bytes: Option<u64>,
    rows_quarantined: u64,
    files_read: u64,
    version: Option<u64>,
    seconds: f64,
}

impl<'a> NodeRow<'a> {
    fn of_export(report: &'a RunReport, export: &'a ExportResult) -> Self {
        Self {
            invocation_id: &report.invocation_id,
            started_at: export.started_at,
            node: export.name.to_string(),
            materialized: "export",
            status: export.status,
            action: if export.status == Status::Success { "export" } else { "" },
            reason: &export.reason,
            rows: export.rows,
            bytes: export.bytes,
            rows_quarantined: 0,
            files_read: 0,
            version: None,
            seconds: export.seconds,
        }
    }
}

fn node_columns() -> SchemaRef {
    columns(&[
        ("invocation_id", TEXT),
        ("started_at", utc()),
        ("node", TEXT),
        ("materialized", TEXT),
        ("status", TEXT),
        ("action", TEXT),
        ("reason", TEXT),
        ("rows", WHOLE),
        ("bytes", WHOLE),
        ("rows_quarantined", WHOLE),
        ("files_read", WHOLE),
        ("version", WHOLE),
        ("seconds", REAL),
    ])
}

/// The `kind` of a test that looked at no table.
pub(super) const UNIT_TEST: &str = "unit_test";

/// A row of `_lake.test_results`.
#[derive(Serialize)]
struct TestRow<'a> {
    invocation_id: &'a str,
    started_at: DateTime<Utc>,
    test: &'a str,
    kind: Option<String>,
    node: Option<String>,
    column_name: Option<String>,
    severity: TestSeverity,
    status: TestStatus,
    failures: Option<u64>,
    message: Option<&'a str>,
    proved: Option<&'a str>,
    owner: Option<String>,
    version: Option<u64>,
    seconds: f64,
    measured: Option<String>,
}

fn test_columns() -> SchemaRef {
    columns(&[
        ("invocation_id", TEXT),
        ("started_at", utc()),
        ("test", TEXT),
        ("kind", TEXT),
        ("node", TEXT),
        ("column_name", TEXT),
        ("severity", TEXT),
        ("status", TEXT),
        ("failures", WHOLE),
        ("message", TEXT),
        ("proved", TEXT),
        ("owner", TEXT),
        ("version", WHOLE),
        ("seconds", REAL),
        ("measured", TEXT),
    ])
}

impl<'a> TestRow<'a> {
    fn new(
        declared: &HashMap<&str, &CompiledTest>,
        report: &'a RunReport,
        version: Option<u64>,
        test: &'a TestResult,
    ) -> Self {
        let declared = declared.get(test.name.as_str());
        Self {
            invocation_id: &report.invocation_id,
            started_at: report.started_at,
            test: &test.name,
            kind: declared.map(|test| test.kind.name().to_owned()),
            node: declared.and_then(|test| test.table.as_ref()).map(ToString::to_string),
            column_name: declared.and_then(|test| test.column()).map(str::to_owned),
            severity: test.severity,
            status: test.status,
            failures: test.failures,
            message: test.message.as_deref(),
            proved: test.proved.as_deref(),
            owner: declared.and_then(|test| test.config.owner.clone()),
            version,
            seconds: test.seconds,
            measured: (!test.measured.is_empty()).then(|| serde_json::json!(test.measured).to_string()),
        }
    }

    fn of_unit_test(report: &'a RunReport, test: &'a UnitTestResult) -> Self {
        Self {
            invocation_id: &report.invocation_id,
            started_at: report.started_at,
            test: &test.name,
            kind: Some(UNIT_TEST.to_owned()),
            node: test.model.as_ref().map(ToString::to_string),
            column_name: None,
            severity: TestSeverity::Error,
            status: test.status,
            failures: test.failures,
            message: test.message.as_deref(),
            proved: None,
            owner: None,
            version: None,
            seconds: test.seconds,
            measured: None,
        }
    }
}

/// A row of `_lake.failures`.
#[derive(Serialize)]
struct FailureRow<'a> {
    invocation_id: &'a str,
    started_at: DateTime<Utc>,
    test: &'a str,
    node: Option<&'a str>,
    rule: &'a str,
    key: Option<&'a str>,
    source_file: Option<&'a str>,
    source_row: Option<i64>,
    row: &'a str,
    declared: Option<&'a str>,
}

fn failure_columns() -> SchemaRef {
    columns(&[
        ("invocation_id", TEXT),
        ("started_at", utc()),
        ("test", TEXT),
        ("node", TEXT),
        ("rule", TEXT),
        ("key", TEXT),
        ("source_file", TEXT),
        ("source_row", WHOLE),
        ("row", TEXT),
        ("declared", TEXT),
    ])
}

impl<'a> FailureRow<'a> {
    fn new(report: &'a RunReport, test: &'a TestResult, failed: &'a FailedRow) -> Self {
        Self {
            invocation_id: &report.invocation_id,
            started_at: report.started_at,
            test: &test.name,
            node: failed.node.as_deref(),
            rule: &failed.rule,
            key: failed.key.as_deref(),
            source_file: failed.source_file.as_deref(),
            source_row: failed.source_row,
            row: &failed.row,
            declared: test.declared.as_deref(),
        }
    }
}
