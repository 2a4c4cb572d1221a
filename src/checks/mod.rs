//! What data tests test: the generic tests that are built in, what each of them takes, and what it becomes.
//!
//! A test is one entry of the list of its file: its names (those of dbt, dbt_utils and dbt_expectations), its parameters, and
//! a function that makes a [`Check`] of one use of it. The SQL of a check is over the columns of the tested table, so that
//! all row-level tests and measures of a table share one scan.

mod anomalies;
mod counts;
mod keys;
mod order;
mod rows;
mod shape;
mod unusual;
mod uses;
mod values;

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::LazyLock;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use shape::Shape;
pub use unusual::{Judged, Point, Times, Usual};
pub use uses::{Argument, Arguments, Use};

use crate::names::TableName;

/// How the failures of a test are found.
#[derive(Debug, Clone, PartialEq)]
pub enum Check {
    /// A condition that is true for each wrong row: many share one scan.
    Rows {
        /// SQL over the columns of the table.
        wrong: String,
    },
    /// Aggregates over all rows, and a condition on what they come to: many share one scan.
    Measures {
        /// Each with its name in messages, and its SQL.
        values: Vec<(&'static str, String)>,
        /// SQL over `value(0)`, `value(1)`, ...: what the first aggregate came to, and so on.
        wrong: String,
        /// What was expected, for people.
        expected: String,
        /// They are judged beside those of earlier runs, if so.
        usual: Option<Usual>,
    },
    /// Measures by time, judged beside those of earlier times.
    Series {
        /// A query: the start of each part of time, and what was measured of its rows.
        sql: String,
        /// What was measured.
        values: Vec<&'static str>,
        /// The parts of time.
        times: Times,
        /// What is usual.
        usual: Usual,
    },
    /// Columns whose values together stand once.
    Unique {
        /// As the table names them.
        columns: Vec<String>,
        /// Rows with a NULL count too.
        nulls_count: bool,
    },
    /// A column whose values all stand in a column of another table.
    Reference {
        /// The column.
        column: String,
        /// The other table.
        to: TableName,
        /// Its column.
        field: String,
        /// Rows of the other table that count: a SQL condition.
        to_filter: Option<String>,
    },
    /// As many rows as in the files of a source that the table has taken in.
    Reconciled {
        /// The source.
        source: TableName,
        /// A query of both counts, `rows` and `rows_in_files`, where the source stands for those files.
        sql: String,
    },
    /// Something about the columns themselves, for which no row is read.
    Shape(Shape),
    /// A query whose rows are the failures.
    Query {
        /// SQL.
        sql: String,
    },
}

impl Check {
    fn rows(wrong: impl Into<String>) -> Self {
        Self::Rows { wrong: wrong.into() }
    }

    fn measure(name: &'static str, sql: String, wrong: String, expected: String) -> Self {
        Self::Measures { values: vec![(name, sql)], wrong, expected, usual: None }
    }

    fn query(sql: impl Into<String>) -> Self {
        Self::Query { sql: sql.into() }
    }
}

/// What stands in the condition of [`Check::Measures`] for the value of the aggregate at an index.
pub fn value(index: usize) -> String {
    format!("\u{e000}{index}\u{e001}")
}

/// What a test is declared on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A column.
    Column,
    /// A table.
    Table,
    /// Either.
    Any,
}

/// What an argument has to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Text, as it stands.
    Text,
    /// A SQL condition or expression.
    Sql,
    /// A number, or a SQL expression.
    Bound,
    /// A number.
    Number,
    /// A whole number.
    Count,
    /// `true` or `false`.
    Flag,
    /// Values: a list, or one.
    Values,
    /// Names of columns: a list, or one.
    Columns,
    /// `ref('model')` or `source('source', 'table')`.
    Table,
    /// A length of time: `{ period: day, count: 2 }`, or `day` for one.
    Period,
    /// One of a few words.
    Word(&'static [&'static str]),
}

/// An argument of a test.
#[derive(Debug)]
pub struct Parameter {
    /// Its names; the first is ours.
    pub names: &'static [&'static str],
    /// What it has to be.
    pub kind: Kind,
    /// It cannot be left out.
    pub required: bool,
}

const fn needs(names: &'static [&'static str], kind: Kind) -> Parameter {
    Parameter { names, kind, required: true }
}

const fn takes(names: &'static [&'static str], kind: Kind) -> Parameter {
    Parameter { names, kind, required: false }
}

/// A generic test that is built in.
#[derive(Debug)]
pub struct Definition {
    /// Its names; the first is ours.
    pub names: &'static [&'static str],
    /// What it is declared on.
    pub subject: Subject,
    /// What it takes.
    pub parameters: &'static [Parameter],
    /// What it says, for people.
    pub about: &'static str,
    check: fn(&Use<'_>) -> Result<Check, String>,
}

/// A generic test that is built in, by its name.
#[derive(Debug, Clone, Copy)]
pub struct GenericTest(&'static Definition);

impl Deref for GenericTest {
    type Target = Definition;

    fn deref(&self) -> &Definition {
        self.0
    }
}

impl GenericTest {
    /// Our name of it.
    pub fn name(&self) -> &'static str {
        self.names[0]
    }
}

impl Serialize for GenericTest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.name().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for GenericTest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        find(&name).ok_or_else(|| serde::de::Error::custom(format!("there is no test `{name}`")))
    }
}

/// The lists of all files.
const LISTS: &[&[Definition]] =
    &[keys::TESTS, rows::TESTS, values::TESTS, counts::TESTS, order::TESTS, shape::TESTS, anomalies::TESTS];

static BY_NAME: LazyLock<HashMap<&'static str, GenericTest>> =
    LazyLock::new(|| all().flat_map(|test| test.0.names.iter().map(move |name| (*name, test))).collect());

/// All tests that are built in.
pub fn all() -> impl Iterator<Item = GenericTest> {
    LISTS.iter().flat_map(|list| list.iter()).map(GenericTest)
}

/// The test of a name, in letters of any case: dbt_expectations has some in capitals.
pub fn find(name: &str) -> Option<GenericTest> {
    BY_NAME.get(name).or_else(|| BY_NAME.get(name.to_lowercase().as_str())).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_means_one_test_and_every_parameter_one_argument() {
        let names: usize = all().map(|test| test.names.len()).sum();
        assert_eq!(names, BY_NAME.len(), "two tests share a name");
        for test in all() {
            let parameters = test.parameters.iter().flat_map(|parameter| parameter.names);
            let all: Vec<&&str> = parameters.collect();
            let unique: std::collections::HashSet<&&str> = all.iter().copied().collect();
            assert_eq!(all.len(), unique.len(), "{} has a parameter twice", test.name());
            assert!(!test.about.is_empty() && !test.about.starts_with(char::is_uppercase), "{}", test.name());
        }
    }
}
