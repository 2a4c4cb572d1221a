//! Data tests as users declare them: generic tests in YAML, singular tests in SQL.

use super::test_config::TestConfig;
use crate::checks::{Argument, Arguments, Check, GenericTest, Use};
use crate::diagnostics::Span;
use crate::memo::{Key, KeyMaker, Lazy};
use crate::names::TableName;
use crate::template::{Rendered, TestCall};

/// A test, bound to the tables that it reads.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct DataTest {
    /// Unique in the project: given, or made of the kind, the table and the column as in dbt.
    pub name: String,
    /// What is tested.
    pub kind: TestKind,
    /// Where it is declared.
    pub span: Lazy<Span>,
    /// How its result counts.
    pub config: TestConfig,
    /// What it is about, for people.
    pub description: String,
    /// The table that it is declared on; `None` for a singular test.
    pub table: Option<TableName>,
    /// All tables and sources that it reads.
    pub reads: Vec<TableName>,
    /// The hash of all of this.
    pub key: Key,
}

impl DataTest {
    /// The test, with the key of what it says.
    pub(super) fn keyed(mut self) -> Self {
        self.set_key();
        self
    }

    /// Works the key out again after a change.
    pub(super) fn set_key(&mut self) {
        self.key = Key::default();
        self.key = KeyMaker::new("data test").value(self).finish();
    }

    /// The column that the test is about, if it is about one.
    pub fn column(&self) -> Option<&str> {
        match &self.kind {
            TestKind::Generic { column, .. } => column.as_deref(),
            TestKind::Custom { call, .. } => call.column.as_deref(),
            TestKind::Singular { .. } => None,
        }
    }

    /// What a generic test that is built in checks; `None` for SQL of the project's.
    pub fn check(&self) -> Option<Check> {
        let (TestKind::Generic { test, column, arguments }, Some(table)) = (&self.kind, &self.table) else {
            return None;
        };
        let (column, filter) = (column.as_deref(), self.config.filter.as_deref());
        // Reading it has asked the same.
        Use { test: *test, table, column, filter, arguments }.check().ok()
    }

    /// The values of an `accepted_values` that looks at every row.
    pub(super) fn accepted_values(&self) -> Option<(&str, &[serde_json::Value])> {
        match &self.kind {
            TestKind::Generic { test, column: Some(column), arguments } if test.name() == "accepted_values" => {
                let Some(Argument::Value(serde_json::Value::Array(values))) = arguments.get("values") else {
                    return None;
                };
                self.config.filter.is_none().then_some((column, values))
            }
            _ => None,
        }
    }
}

/// What a test tests.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub enum TestKind {
    /// A generic test that is built in.
    Generic {
        /// Which one.
        test: GenericTest,
        /// The column that it is declared on.
        column: Option<String>,
        /// What it is given.
        arguments: Arguments,
    },
    /// A generic test that the project defines: its query returns the rows that are wrong.
    Custom {
        /// Its name.
        name: String,
        /// Its arguments.
        call: TestCall,
        /// The query; `None` until all names are known.
        rendered: Option<Box<Rendered>>,
    },
    /// A query that returns the rows that are wrong.
    Singular {
        /// The query.
        rendered: Box<Rendered>,
    },
}

impl TestKind {
    /// Our name of a generic test; `singular` for a SQL file.
    pub fn name(&self) -> &str {
        match self {
            Self::Generic { test, .. } => test.name(),
            Self::Custom { name, .. } => name,
            Self::Singular { .. } => "singular",
        }
    }
}
