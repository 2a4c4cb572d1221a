//! What a run did.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::exports::ExportResult;
use super::hooks::HookResult;
use super::profiling::Sketched;
use super::unit::UnitTestResult;
use crate::names::TableName;
use crate::project::{Model, TestSeverity};

/// How a node ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Something new was published, or a view is in order.
    Success,
    /// Nothing to do.
    Skipped,
    /// It failed; its table is as it was.
    Error,
    /// Something it reads failed.
    Blocked,
    /// The run was stopped before it ended.
    Cancelled,
}

/// What happened to one model.
#[derive(Debug, Clone, Serialize)]
pub struct NodeResult {
    /// The model.
    pub name: TableName,
    /// `table`, `incremental`, ...
    pub materialized: &'static str,
    /// How it ended.
    pub status: Status,
    /// What was done: `create`, `replace`, `append`, `merge`, `view`; empty if nothing.
    pub action: &'static str,
    /// Why it was done, skipped or failed.
    pub reason: String,
    /// New rows written.
    pub rows: Option<u64>,
    /// Rows, and whole files, that were left out.
    pub rows_quarantined: u64,
    /// Bytes of new files.
    pub bytes: Option<u64>,
    /// Bronze files read.
    pub files_read: usize,
    /// The published version.
    pub version: Option<u64>,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// The source file that could not be read.
    pub failed_file: Option<String>,
    /// Its tests refused to publish its rows; they are kept for `lake show --staged`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub refused: bool,
    /// It was built on the last good version of these, which failed in this run and let it go on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stale: Vec<TableName>,
    /// Its hooks that ran.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookResult>,
    /// Its tests.
    pub tests: Vec<TestResult>,
    /// What was counted of its new rows.
    #[serde(skip)]
    pub sketched: Option<Sketched>,
}

impl NodeResult {
    /// What became of a model, without a row.
    pub(super) fn new(model: &Model, status: Status, action: &'static str, reason: String) -> Self {
        Self {
            name: model.name.clone(),
            materialized: model.config.materialized.name(),
            status,
            action,
            reason,
            rows: None,
            rows_quarantined: 0,
            bytes: None,
            files_read: 0,
            version: None,
            started_at: Utc::now(),
            seconds: 0.0,
            failed_file: None,
            refused: false,
            stale: Vec::new(),
            hooks: Vec::new(),
            tests: Vec::new(),
            sketched: None,
        }
    }
}

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TestStatus {
    /// No failing row.
    Pass,
    /// Failing rows, which are only counted.
    Warn,
    /// Failing rows.
    Fail,
    /// The test itself failed.
    Error,
}

/// A row that fails a test.
#[derive(Debug, Clone)]
pub struct FailedRow {
    /// The tested table.
    pub node: Option<String>,
    /// What the test says, in words.
    pub rule: String,
    /// The values of the columns that tell the row from others, as JSON.
    pub key: Option<String>,
    /// The file that it came from, where the table keeps it.
    pub source_file: Option<String>,
    /// The row of the file.
    pub source_row: Option<i64>,
    /// The row itself, as JSON.
    pub row: String,
}

/// The result of a test.
#[derive(Debug, Clone, Serialize)]
pub struct TestResult {
    /// Its name.
    pub name: String,
    /// What failing rows mean.
    pub severity: TestSeverity,
    /// How it ended.
    pub status: TestStatus,
    /// Failing rows.
    pub failures: Option<u64>,
    /// What went wrong.
    pub message: Option<String>,
    /// Why it passes without a look at the rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proved: Option<String>,
    /// Where it is declared, as `file:line`; for a test that did not pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub declared: Option<String>,
    /// A query whose rows are the failures.
    pub failures_sql: String,
    /// Some of the rows that fail: they go to `_lake/failures`.
    #[serde(skip)]
    pub failed_rows: Vec<FailedRow>,
    /// What it measured, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub measured: BTreeMap<&'static str, serde_json::Value>,
    /// How long it took, in seconds; tests that share a scan share its time.
    pub seconds: f64,
}

impl TestResult {
    /// Whether it stops a publish.
    pub fn blocks(&self) -> bool {
        matches!(self.status, TestStatus::Fail | TestStatus::Error)
    }
}

/// What a run did.
#[derive(Debug, Serialize)]
pub struct RunReport {
    /// The id of the run.
    pub invocation_id: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// One entry for each node, in the order they ended.
    pub nodes: Vec<NodeResult>,
    /// Tests that belong to no node of the run.
    pub tests: Vec<TestResult>,
    /// Unit tests, which run before all nodes.
    pub unit_tests: Vec<UnitTestResult>,
    /// Exports, in the order they ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exports: Vec<ExportResult>,
    /// Hooks of the run.
    pub hooks: Vec<HookResult>,
    /// The run was stopped from outside.
    pub cancelled: bool,
    /// Files that moved to the archives of their sources, or into compacted files.
    pub archived: Vec<ArchiveResult>,
}

/// Files of a source that were archived or compacted.
#[derive(Debug, Clone, Serialize)]
pub struct ArchiveResult {
    /// `archived` or `compacted`.
    pub action: &'static str,
    /// The source.
    pub source: TableName,
    /// The folder, below that of the source.
    pub to: String,
    /// How many were moved.
    pub files: usize,
    /// Why some were not.
    pub error: Option<String>,
}

impl RunReport {
    /// All test results.
    pub fn all_tests(&self) -> impl Iterator<Item = &TestResult> {
        self.nodes.iter().flat_map(|node| &node.tests).chain(&self.tests)
    }

    /// Whether everything is fine.
    pub fn succeeded(&self) -> bool {
        let failed = |status| matches!(status, Status::Error | Status::Blocked | Status::Cancelled);
        !self.cancelled
            && !self.nodes.iter().any(|node| failed(node.status))
            && !self.exports.iter().any(|export| failed(export.status))
            && !self.all_tests().any(TestResult::blocks)
            && !self.unit_tests.iter().any(UnitTestResult::blocks)
            && self.hooks.iter().all(|hook| hook.ok)
            && !self.archived.iter().any(|archive| archive.error.is_some())
    }

    /// How many nodes ended so.
    pub fn count(&self, status: Status) -> usize {
        self.nodes.iter().filter(|node| node.status == status).count()
    }
}
