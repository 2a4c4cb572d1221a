//! Data tests and unit tests.

use serde::Serialize;

use super::{Maker, is_none};
use crate::compile::CompiledTest;
use crate::project::{TestSeverity, UnitSubject};
use crate::run::TestStatus;

/// A data test.
#[derive(Serialize)]
pub(super) struct TestDoc<'a> {
    name: &'a str,
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    severity: TestSeverity,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    tags: &'a [String],
    reads: Vec<usize>,
    declared: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    sql: String,
    #[serde(skip_serializing_if = "is_none")]
    contract: bool,
}

/// A unit test.
#[derive(Serialize)]
pub(super) struct UnitTestDoc<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<usize>,
    #[serde(rename = "macro", skip_serializing_if = "Option::is_none")]
    macro_name: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    declared: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<LastDoc<'a>>,
}

/// How a unit test ended when it last ran.
#[derive(Serialize)]
struct LastDoc<'a> {
    status: TestStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    at: i64,
}

impl<'a> Maker<'a> {
    /// Data tests, in the order of the compiled project.
    pub(super) fn tests(&self) -> Vec<TestDoc<'a>> {
        self.runtime.compiled.tests.iter().map(|test| self.test(test)).collect()
    }

    fn test(&self, test: &'a CompiledTest) -> TestDoc<'a> {
        let column = test.table.as_ref().zip(test.column());
        TestDoc {
            name: &test.name,
            kind: test.kind.name(),
            node: test.table.as_ref().and_then(|table| self.node_at.get(table).copied()),
            column: column.and_then(|(table, column)| self.column_at.get(table)?.get(column).copied()),
            severity: test.config.severity,
            description: test.description.trim(),
            owner: test.config.owner.as_deref(),
            tags: &test.config.tags,
            reads: self.nodes_at(&test.reads),
            declared: test.span.place(),
            sql: test.failures_sql(),
            contract: test.config.contract,
        }
    }

    /// Unit tests of models and macros.
    pub(super) fn unit_tests(&self) -> Vec<UnitTestDoc<'a>> {
        let tests = self.runtime.project.unit_tests.iter().map(|test| UnitTestDoc {
            name: &test.name,
            node: test.model().and_then(|model| self.node_at.get(model).copied()),
            macro_name: match &test.subject {
                UnitSubject::Macro(cases) => Some(&cases.name),
                UnitSubject::Model(_) => None,
            },
            description: test.description.trim(),
            declared: test.span.place(),
            last: self.survey.recorded.unit_tests.get(&test.name).map(|(at, last)| LastDoc {
                status: last.status,
                message: last.message.as_deref(),
                at: at.timestamp_millis(),
            }),
        });
        tests.collect()
    }
}
