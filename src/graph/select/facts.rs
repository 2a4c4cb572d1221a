//! What some methods look at beside the project: given as plain sets, for this module comes before the compiler.

use std::collections::{BTreeMap, BTreeSet};

use crate::names::TableName;

/// What a selection needs to know beside the project.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// `state:`: an older compile and this one.
    pub state: bool,
    /// `result:`: an older run.
    pub results: bool,
    /// `source_status:`: how fresh sources were, and are.
    pub freshness: bool,
    /// `column:`: this compile.
    pub columns: bool,
}

impl Needs {
    /// Whether the project must be compiled first.
    pub fn compile(self) -> bool {
        self.state || self.columns
    }
}

/// What is known beside the project; empty where nothing needs it.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// How nodes stand to an older compile.
    pub state: StateFacts,
    /// How nodes and tests ended in an older run, by their names.
    pub results: BTreeMap<String, String>,
    /// Sources with newer data than before.
    pub fresher: BTreeSet<TableName>,
    /// All columns.
    pub columns: BTreeSet<ColumnKey>,
    /// From which column to which values flow.
    pub column_edges: Vec<ColumnEdge>,
}

/// How nodes and tests stand to an older compile.
#[derive(Debug, Clone, Default)]
pub struct StateFacts {
    /// Models, sources, exposures and exports.
    pub nodes: BTreeMap<TableName, Standing>,
    /// Tests.
    pub tests: BTreeMap<String, Standing>,
}

/// How one node stands to an older compile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It was not there.
    New,
    /// It was there, and these aspects of it differ.
    Old(BTreeSet<&'static str>),
}

impl Standing {
    /// Whether `state:what` selects it.
    pub(super) fn is(&self, what: &str) -> bool {
        // Descriptions are not written to tables: they change nothing that is built.
        let changed = |aspects: &BTreeSet<&str>| aspects.iter().any(|aspect| *aspect != "persisted_descriptions");
        match (what, self) {
            ("new" | "modified", Self::New) => true,
            ("old", Self::Old(_)) => true,
            ("modified", Self::Old(aspects)) => changed(aspects),
            ("unmodified", Self::Old(aspects)) => !changed(aspects),
            (_, Self::Old(aspects)) => {
                let aspect = what.strip_prefix("modified.").unwrap_or_default();
                aspects.contains(if aspect == "configs" { "config" } else { aspect })
            }
            _ => false,
        }
    }
}

/// What `state:` can ask for.
pub(super) const STATES: &[&str] = &[
    "new",
    "old",
    "modified",
    "unmodified",
    "modified.body",
    "modified.config",
    "modified.configs",
    "modified.contract",
    "modified.relation",
    "modified.macros",
    "modified.vars",
    "modified.persisted_descriptions",
];

/// What `result:` can ask for.
pub(super) const RESULTS: &[&str] = &["success", "error", "skipped", "no-op", "pass", "warn", "fail"];

/// What `source_status:` can ask for.
pub(super) const SOURCE_STATES: &[&str] = &["fresher"];

/// A column of a table.
pub type ColumnKey = (TableName, String);

/// Values flow from one column to another.
#[derive(Debug, Clone)]
pub struct ColumnEdge {
    /// The column that is read.
    pub from: ColumnKey,
    /// The column that is made of it; `*` for all of a table whose rows it decides.
    pub to: ColumnKey,
}
