//! What runs left, as numbers.

use serde::Serialize;
use serde_json::{Map, Value};

use super::Maker;
use crate::run::{RecordedNode, RecordedRun, RecordedTest, Status, TestStatus};

/// A run.
#[derive(Serialize)]
pub(super) struct RunDoc<'a> {
    id: &'a str,
    command: &'a str,
    at: i64,
    seconds: f64,
    status: &'a str,
    lake_version: &'a str,
    counts: [u64; 7],
    nodes: Vec<NodeRow>,
    tests: Vec<TestRow>,
}

/// Node, status, action, reason, start, seconds, rows, bytes, version or -1, rows quarantined, files read.
type NodeRow = (usize, u8, usize, usize, f64, f64, u64, u64, i64, u64, u64);

/// Test, status, failures or -1, message or -1, why it is proved or -1, seconds.
type TestRow = (usize, u8, i64, i64, i64, f64);

/// Rows that failed a test.
#[derive(Serialize)]
pub(super) struct FailuresDoc<'a> {
    test: usize,
    run: i64,
    at: i64,
    rule: &'a str,
    rows: &'a [Map<String, Value>],
    #[serde(skip_serializing_if = "<[(Option<String>, Option<i64>)]>::is_empty")]
    files: &'a [(Option<String>, Option<i64>)],
}

impl<'a> Maker<'a> {
    /// Runs, oldest first. What is no longer part of the project is left out.
    pub(super) fn runs(&mut self) -> Vec<RunDoc<'a>> {
        self.survey.recorded.runs.iter().map(|run| self.run(run)).collect()
    }

    fn run(&mut self, run: &'a RecordedRun) -> RunDoc<'a> {
        RunDoc {
            id: &run.id,
            command: &run.command,
            at: run.started_at.timestamp_millis(),
            seconds: rounded(run.seconds),
            status: &run.status,
            lake_version: &run.lake_version,
            counts: run.counts,
            nodes: run.nodes.iter().filter_map(|node| self.node_row(node)).collect(),
            tests: run.tests.iter().filter_map(|test| self.test_row(test)).collect(),
        }
    }

    fn node_row(&mut self, node: &RecordedNode) -> Option<NodeRow> {
        let at = *self.name_at.get(node.node.as_str())?;
        let status = match node.status {
            Status::Success => 0,
            Status::Skipped => 1,
            Status::Error => 2,
            Status::Blocked => 3,
            Status::Cancelled => 4,
        };
        let (action, reason) = (self.texts.at(&node.action), self.texts.at(&node.reason));
        let version = signed(node.version);
        let (start, seconds) = (rounded(node.start), rounded(node.seconds));
        let (left_out, files) = (node.rows_quarantined, node.files_read);
        Some((at, status, action, reason, start, seconds, node.rows, node.bytes, version, left_out, files))
    }

    fn test_row(&mut self, test: &RecordedTest) -> Option<TestRow> {
        let at = *self.test_at.get(test.test.as_str())?;
        let status = match test.status {
            TestStatus::Pass => 0,
            TestStatus::Warn => 1,
            TestStatus::Fail => 2,
            TestStatus::Error => 3,
        };
        let (message, proved) = (self.texts.of(test.message.as_deref()), self.texts.of(test.proved.as_deref()));
        Some((at, status, signed(test.failures), message, proved, rounded(test.seconds)))
    }

    /// Rows that failed the tests of the project.
    pub(super) fn failures(&self) -> Vec<FailuresDoc<'a>> {
        let failures = self.survey.recorded.failures.iter().filter_map(|failures| {
            Some(FailuresDoc {
                test: *self.test_at.get(failures.test.as_str())?,
                run: signed(self.run_at.get(failures.run.as_str()).map(|run| *run as u64)),
                at: failures.at.timestamp_millis(),
                rule: &failures.rule,
                rows: &failures.rows,
                files: &failures.files,
            })
        });
        failures.collect()
    }
}

fn signed(value: Option<u64>) -> i64 {
    value.and_then(|value| i64::try_from(value).ok()).unwrap_or(-1)
}

/// Tenths of milliseconds are enough.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1e4).round() / 1e4
}
