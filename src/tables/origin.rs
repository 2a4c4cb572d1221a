//! Who made a table, and from which table of another lake its rows were taken over. Both stand in the commits of a table and
//! go from each version to the next.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::diff::same_content;
use super::{Published, TableError, TableState, state_of};

/// The environment that made a table: whoever else finds it does not replace or drop it as its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// `name` of the project.
    pub project: String,
    /// The name of the target.
    pub target: String,
}

/// A version of another lake's table whose rows a version took over as they were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The target of that lake.
    pub target: String,
    /// The id of that table.
    pub table: String,
    /// The version that made its rows.
    pub version: u64,
    /// The version here that made the same rows: those after it go on from them.
    pub at: u64,
}

impl Published {
    /// Who made the table and what it goes on from, as the newest version that `lake` wrote says.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn made_by(&self) -> Result<(Option<Owner>, Option<Origin>), TableError> {
        if let Some(state) = &self.state {
            return Ok((state.owner.clone(), state.origin.clone()));
        }
        let fail = |source| TableError::Delta { table: self.name.clone(), source };
        let log_store = self.table.log_store();
        for version in (0..=self.version()).rev() {
            let Some(entry) = log_store.read_commit_entry(version).await.map_err(fail)? else { break };
            // A rollback to before the first version leaves a state that says nothing.
            let state = state_of(&entry).and_then(|said| serde_json::from_value::<TableState>(said).ok());
            if let Some(state) = state {
                return Ok((state.owner, state.origin));
            }
        }
        Ok((None, None))
    }

    /// Whether another program has committed to it, or the log no longer tells.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn has_foreign_commits(&self) -> Result<bool, TableError> {
        let fail = |source| TableError::Delta { table: self.name.clone(), source };
        let log_store = self.table.log_store();
        for version in (0..=self.version()).rev() {
            let entry = log_store.read_commit_entry(version).await.map_err(fail)?;
            if entry.is_none_or(|entry| state_of(&entry).is_none()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The version of another lake's table whose rows this version has.
    fn copied(&self) -> Option<&Origin> {
        let origin = self.state.as_ref()?.origin.as_ref();
        origin.filter(|origin| origin.at == self.rows_since())
    }

    /// The version of another lake's table whose rows were taken over, and are there still.
    pub fn copied_version(&self, other: &Self) -> Option<u64> {
        let id = other.table_id();
        self.copied().filter(|origin| id.as_deref() == Some(origin.table.as_str())).map(|origin| origin.version)
    }

    /// Whether the versions after one have all gone on from it: none made all rows anew, or took older ones back.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn goes_on_since(&self, since: u64) -> Result<bool, TableError> {
        let fail = |source| TableError::Delta { table: self.name.clone(), source };
        let log_store = self.table.log_store();
        for version in since + 1..=self.version() {
            let Some(entry) = log_store.read_commit_entry(version).await.map_err(fail)? else { return Ok(false) };
            let lines =
                entry.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
            let info = lines.filter_map(|action| action.get("commitInfo").cloned()).next().unwrap_or_default();
            let goes_on = match info["operation"].as_str() {
                Some("WRITE") => info["operationParameters"]["mode"] == "Append",
                Some("OPTIMIZE" | "SET TBLPROPERTIES") => true,
                _ => false,
            };
            if !goes_on {
                return Ok(false);
            }
        }
        Ok(since <= self.version())
    }

    /// Whether it has the rows of a version of another lake's table because they were taken over.
    pub fn is_copy_of(&self, other: &Self) -> bool {
        self.copied().is_some_and(|origin| origin.is(other))
    }

    /// Whether it has the rows of a version of another lake's table, as far as commits tell.
    pub fn has_rows_of(&self, other: &Self) -> bool {
        let same_origin = match (self.copied(), other.copied()) {
            (Some(own), Some(others)) => (&own.table, own.version) == (&others.table, others.version),
            _ => false,
        };
        let is_copy = same_origin || self.is_copy_of(other) || other.is_copy_of(self);
        same_content(self, other) || self.schema == other.schema && is_copy
    }
}

impl Origin {
    /// Whether these are the rows of this version of a table.
    pub fn is(&self, published: &Published) -> bool {
        published.table_id().as_deref() == Some(self.table.as_str()) && published.rows_since() == self.version
    }
}
