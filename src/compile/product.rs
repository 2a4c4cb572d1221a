//! What compiling makes: a project whose every model has a type.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use super::sensitive;
use super::{ColumnName, CompiledTest, CompiledUnitTest, Facts, Lineage, Sensitive, Shape};
use crate::memo::{Key, Lazy};
use crate::names::TableName;
use crate::template::SourceRead;

/// A project whose every model has a type.
#[derive(Debug, Default)]
pub struct CompiledProject {
    /// Models that compiled.
    pub models: BTreeMap<TableName, CompiledModel>,
    /// Data tests that compiled.
    pub tests: Vec<CompiledTest>,
    /// The tests that are declared on each table, as indices.
    pub(super) tests_on: BTreeMap<TableName, Vec<usize>>,
    /// Unit tests that can run.
    pub unit_tests: Vec<CompiledUnitTest>,
    /// Schemas of the sources.
    pub sources: BTreeMap<TableName, SchemaRef>,
    /// Models that were not checked, because something they read is broken.
    pub unchecked: Vec<TableName>,
    /// Columns whose values are not for everybody.
    pub sensitive: Sensitive,
}

impl CompiledProject {
    /// Whether the values of a column are not for everybody.
    pub fn is_sensitive(&self, table: &TableName, column: &str) -> bool {
        self.sensitive.contains_key(&ColumnName { table: table.clone(), column: column.to_owned() })
    }

    /// Whether what a test works out may be of a sensitive column.
    pub fn speaks_of_sensitive(&self, test: &CompiledTest) -> bool {
        sensitive::spoken_of(test, &self.sensitive).is_some()
    }

    /// Whether nobody is to see the values of a column of a table that was published: it is sensitive, or one that the model no
    /// longer has, of which nobody can say that it is not.
    pub fn hides(&self, table: &TableName, column: &str) -> bool {
        let is_known = || self.schema_of(table).is_some_and(|schema| schema.field_with_name(column).is_ok());
        !self.sensitive.is_empty() && (self.is_sensitive(table, column) || !is_known())
    }

    /// The columns of a model or source.
    pub fn schema_of(&self, name: &TableName) -> Option<&SchemaRef> {
        self.models.get(name).map(|model| &*model.schema).or_else(|| self.sources.get(name))
    }

    /// The tests that are declared on a table.
    pub fn tests_on(&self, table: &TableName) -> impl Iterator<Item = &CompiledTest> {
        self.tests_on.get(table).into_iter().flatten().map(|index| &self.tests[*index])
    }
}

/// A model that compiled.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CompiledModel {
    /// `layer.model`.
    pub name: TableName,
    /// The columns that readers see: of the Delta table for a stored model, of the query for others.
    pub schema: Lazy<SchemaRef>,
    /// Tables and sources whose rows reach the model; views are looked through.
    pub inputs: BTreeSet<Input>,
    /// Hash of everything that decides the rows apart from the inputs' rows.
    pub definition: String,
    /// The hash of its file's bytes, for a seed.
    pub content: Option<String>,
    /// Why equal inputs may give other rows: a function such as `now()`.
    pub volatile: Option<String>,
    /// Where its columns come from.
    pub lineage: Lazy<Lineage>,
    /// What it is made of, for comparison with another compile.
    pub shape: Lazy<Shape>,
    /// What holds for its rows whatever its inputs hold.
    pub facts: Lazy<Facts>,
    /// What models that read it can see of it.
    pub(super) key: Key,
    /// What decided all of this.
    pub made_from: Key,
}

/// Where rows come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Input {
    /// The published table of a model.
    Table(TableName),
    /// Files of a source.
    Source(TableName, SourceRead),
}

impl Input {
    /// The table, if it is one.
    pub fn table(&self) -> Option<&TableName> {
        match self {
            Self::Table(name) => Some(name),
            Self::Source(..) => None,
        }
    }

    /// A view reads its sources whole, whoever reads the view.
    pub(super) fn whole(self) -> Self {
        match self {
            Self::Source(name, _) => Self::Source(name, SourceRead::All),
            table => table,
        }
    }
}
