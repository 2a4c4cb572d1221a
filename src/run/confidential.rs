//! Failures in words: an error may quote a value, and the values of sensitive columns are for nobody's eyes. What is said of a
//! failure goes to the terminal, into `_lake`, into artifacts, alerts and traces; before that it loses what may be a value.
//!
//! Files of sources are not in here: what is said of their rows hides the values of sensitive columns where it is said.

use std::collections::BTreeSet;

use datafusion::error::DataFusionError;

use super::Runtime;
use super::materialize::Failure;
use crate::bronze;
use crate::names::TableName;
use crate::tables::TableError;
use crate::words::without_values;

impl Runtime {
    /// A failure of a query that makes or reads `tables`, in words.
    pub(super) fn in_words<'a>(&'a self, failure: &Failure, tables: impl IntoIterator<Item = &'a TableName>) -> String {
        let text = failure.to_string();
        if may_quote(failure) && self.show_sensitive(tables) { without_values(&text) } else { text }
    }

    /// Whether such a query works on a sensitive column: one of the tables, of what they read, or of what is worked out in the
    /// same query.
    fn show_sensitive<'a>(&'a self, tables: impl IntoIterator<Item = &'a TableName>) -> bool {
        let sensitive: BTreeSet<&TableName> = self.compiled.sensitive.keys().map(|column| &column.table).collect();
        let with_parents = |name| self.graph.parents(name).into_iter().chain([name]);
        let mut pending: Vec<&TableName> = tables.into_iter().flat_map(with_parents).collect();
        let mut seen = BTreeSet::new();
        while let Some(name) = pending.pop() {
            if sensitive.contains(name) {
                return true;
            }
            let is_read = self.project.models.get(name).is_none_or(|model| model.is_stored());
            if !is_read && seen.insert(name) {
                pending.extend(self.graph.parents(name));
            }
        }
        false
    }
}

/// Whether a failure may say what stands in a row.
fn may_quote(failure: &Failure) -> bool {
    use DataFusionError::{IoError, ObjectStore, ParquetError, ResourcesExhausted, SchemaError};
    match failure {
        Failure::Table(TableError::Values(_)) => true,
        Failure::Table(TableError::Query(error)) => match error.find_root() {
            IoError(_) | ObjectStore(_) | ParquetError(_) | ResourcesExhausted(_) | SchemaError(..) => false,
            _ => bronze::named_file(error).is_none(),
        },
        _ => false,
    }
}
