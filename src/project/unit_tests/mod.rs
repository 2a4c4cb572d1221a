//! Unit tests: a model, or a macro, on rows that stand beside it in YAML.
//!
//! A declaration is read as it stands ([`read`]), and then bound to what it names ([`resolve`]): the model, its inputs,
//! the models between the two, fixtures. What overrides change is rendered again here ([`render`]), so that whatever
//! comes after needs no Jinja.

mod csv;
mod key;
mod read;
mod render;
mod resolve;
mod stage;

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Model;
use crate::diagnostics::{SourceFile, Span};
use crate::memo::Key;
use crate::names::TableName;
use crate::template::Overrides;

pub(super) use read::{Declaration, FORMATS, read};
pub(super) use resolve::{World, finish};

/// A unit test, bound to what it names.
#[derive(Debug)]
pub struct UnitTest {
    /// Unique among the tests of the project.
    pub name: String,
    /// Where it is declared.
    pub span: Span,
    /// What it is about, for people.
    pub description: String,
    /// For selection, and for people.
    pub config: UnitConfig,
    /// How far numbers may be from what is expected.
    pub tolerance: Tolerance,
    /// What stands in for the world.
    pub overrides: Arc<Overrides>,
    /// What is tested.
    pub subject: UnitSubject,
    /// The hash of what decides its verdict.
    pub key: Key,
}

impl UnitTest {
    /// The model that is tested, if it is one.
    pub fn model(&self) -> Option<&TableName> {
        match &self.subject {
            UnitSubject::Model(case) => Some(&case.model),
            UnitSubject::Macro(_) => None,
        }
    }
}

/// For selection, and for people.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UnitConfig {
    /// Tags.
    pub tags: Vec<String>,
    /// Anything.
    pub meta: serde_json::Value,
    /// Whether it runs at all.
    pub enabled: bool,
}

/// How far numbers may be from what is expected.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Tolerance {
    /// In all columns.
    pub all: Option<f64>,
    /// In these.
    pub columns: BTreeMap<String, f64>,
}

impl Tolerance {
    /// In one column.
    pub fn of(&self, column: &str) -> Option<f64> {
        self.columns.get(column).copied().or(self.all)
    }
}

/// What is tested.
#[derive(Debug)]
pub enum UnitSubject {
    /// The rows of a model.
    Model(Box<ModelCase>),
    /// What a macro writes, as an expression.
    Macro(MacroCases),
}

/// A model on given rows.
#[derive(Debug)]
pub struct ModelCase {
    /// The model.
    pub model: TableName,
    /// Where it is named.
    pub model_span: Span,
    /// `is_incremental()` is true.
    pub incremental: bool,
    /// One, or with `runs:` those that make the table.
    pub runs: Vec<UnitRun>,
    /// It is about the table after all `runs`, and not about the rows of one query.
    pub of_table: bool,
    /// What there is to be.
    pub expect: Rows,
    /// The models that run for real, parents first; the tested one is the last.
    pub chain: Vec<ChainModel>,
}

impl ModelCase {
    /// Whether a table is given in any run.
    pub fn is_given(&self, name: &TableName) -> bool {
        self.runs.iter().flat_map(|run| &run.given).any(|given| given.input == *name)
    }
}

/// A model of the test that runs for real.
#[derive(Debug)]
pub struct ChainModel {
    /// The model.
    pub name: TableName,
    /// As the overrides of the test make it, if there are any.
    pub own: Option<Box<Model>>,
}

/// One run, and what is there when it starts.
#[derive(Debug)]
pub struct UnitRun {
    /// Inputs with their rows.
    pub given: Vec<Given>,
    /// The clock of this run.
    pub now: Option<DateTime<Utc>>,
}

/// An input with its rows.
#[derive(Debug)]
pub struct Given {
    /// A model or a source; for `this` the tested model.
    pub input: TableName,
    /// Where it is named.
    pub span: Span,
    /// Its rows.
    pub rows: Rows,
}

/// A macro, and calls of it.
#[derive(Debug)]
pub struct MacroCases {
    /// `name` or `package.name`.
    pub name: String,
    /// The calls.
    pub cases: Vec<MacroCase>,
}

/// One call of a macro.
#[derive(Debug)]
pub struct MacroCase {
    /// Where it stands.
    pub span: Span,
    /// The arguments, for people.
    pub arguments: String,
    /// What the macro wrote: an expression of SQL.
    pub sql: String,
    /// Its value.
    pub expect: Cell,
}

/// Rows as they were written.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Rows {
    /// Cells.
    Table(RowTable),
    /// A query.
    Query {
        /// SQL, without Jinja.
        sql: String,
        /// Where it stands.
        span: Span,
    },
}

/// Rows with cells. A column that a row does not have is NULL.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RowTable {
    /// Where they stand.
    pub file: Arc<SourceFile>,
    /// Names, in the order in which they first come, with their places.
    pub columns: Vec<(String, At)>,
    /// For each row its cells, by the index of the column.
    pub rows: Vec<Vec<(usize, Cell)>>,
}

impl RowTable {
    /// A place in the file.
    pub fn span(&self, at: At) -> Span {
        Span::new(&self.file, at.0, at.1)
    }
}

/// First byte of a place in the file, and one past its last.
pub type At = (usize, usize);

/// A value as it was written.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cell {
    /// The value.
    pub value: CellValue,
    /// Where it stands.
    pub at: At,
}

/// What a cell says; which type it has is up to the column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum CellValue {
    /// NULL.
    Null,
    /// A text, or a number, boolean or time as it was written.
    Text(String),
    /// A list or an object.
    Nested(serde_json::Value),
}
