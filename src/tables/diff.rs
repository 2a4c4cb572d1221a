//! Which data files two tables both have, and the rows of those that only one has: two versions of a table, or the tables
//! of one model in two lakes.
//!
//! A data file never changes, so the rows of one that both have cancel out, and nobody has to read them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::catalog::TableProvider;

use super::past::{history, identity};
use super::read::{Files, scan, view};
use super::{Lake, Published, TableError};
use crate::exact_files::{empty, rows_of};
use crate::words::plural;

/// What tells a file from all others: its path, which of its rows are deleted, and its size.
type FileIdentity = (String, i64);

/// Some data files of a version.
#[derive(Debug, Clone, Default)]
pub struct FileSet(BTreeMap<String, FileSize>);

#[derive(Debug, Clone, Copy)]
struct FileSize {
    bytes: u64,
    /// Without those that a deletion vector takes away; `None` if the file has no statistics.
    rows: Option<u64>,
}

impl FileSet {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their size.
    pub fn bytes(&self) -> u64 {
        self.0.values().map(|size| size.bytes).sum()
    }

    /// Their rows, by their statistics; `None` if a file has none.
    pub fn rows(&self) -> Option<u64> {
        self.0.values().map(|size| size.rows).sum()
    }
}

/// The data files of two tables.
#[derive(Debug, Clone, Default)]
pub struct FileDiff {
    /// Those that both have.
    pub shared: FileSet,
    /// Those that only the first one has.
    pub before: FileSet,
    /// Those that only the second one has.
    pub after: FileSet,
}

/// Compares the files of two tables by their logs. In two lakes a file of one name and size is one that was copied or
/// linked: names are random.
///
/// # Errors
/// When a log cannot be read.
pub fn compare_files(before: &Published, after: &Published) -> Result<FileDiff, TableError> {
    let (mut old, new) = (before.known_files()?, after.known_files()?);
    // Where names of columns are mapped, one file may have other columns in each version.
    let is_readable_as_one = before.schema == after.schema || !(before.maps_columns()? || after.maps_columns()?);
    let mut diff = FileDiff::default();
    for (known, (path, size)) in new {
        let is_shared = is_readable_as_one && old.remove(&known).is_some();
        let set = if is_shared { &mut diff.shared } else { &mut diff.after };
        set.0.insert(path, size);
    }
    diff.before = FileSet(old.into_values().collect());
    Ok(diff)
}

/// Whether the commits of two versions say that they hold the same rows: the sums of both are equal, of the same columns.
pub fn same_content(before: &Published, after: &Published) -> bool {
    let content = |published: &Published| published.state.as_ref()?.content.clone();
    before.schema == after.schema && content(before).is_some_and(|known| content(after) == Some(known))
}

/// A version of a table; of one that is not there the error says which are.
///
/// # Errors
/// When it is not there, or its log cannot be read.
pub async fn existing_version(lake: &Lake, newest: &Published, version: u64) -> Result<Published, TableError> {
    let (name, last) = (&newest.name, newest.version());
    if version == last {
        return Ok(newest.clone());
    }
    let found = if version < last { Some(lake.inspect_at(name, version).await) } else { None };
    if let Some(Ok(found)) = found {
        return Ok(found);
    }
    let oldest = history(lake, newest, usize::MAX).await?.last().map_or(last, |known| known.version);
    match found {
        Some(Err(error)) if version >= oldest => Err(error),
        _ if oldest == last => Err(TableError::Rows(format!("`{name}` has no version {version}: it has only {last}"))),
        _ => Err(TableError::Rows(format!("`{name}` has no version {version}: it has {oldest} to {last}"))),
    }
}

impl Published {
    /// The rows of some of its files.
    ///
    /// # Errors
    /// When a file is gone, or the log cannot be read.
    pub async fn rows_in(&self, files: &FileSet) -> Result<Arc<dyn TableProvider>, TableError> {
        if files.is_empty() {
            return Ok(empty(Arc::clone(&self.schema)));
        }
        self.refuse_gone(files).await?;
        let paths: BTreeSet<String> = files.0.keys().cloned().collect();
        Ok(view(rows_of(scan(self, Files::Only(&paths), false).await?, &self.schema)?))
    }

    /// Its files, with the path and the size of each.
    fn known_files(&self) -> Result<BTreeMap<FileIdentity, (String, FileSize)>, TableError> {
        let fail = |source| TableError::Delta { table: self.name.clone(), source };
        let snapshot = self.table.snapshot().map_err(fail)?;
        let known = snapshot.log_data().into_iter().map(|file| {
            let deleted = file.deletion_vector_descriptor().map_or(0, |deleted| deleted.cardinality);
            let rows = file.num_records().map(|rows| (rows as u64).saturating_sub(u64::try_from(deleted).unwrap_or(0)));
            let size = FileSize { bytes: u64::try_from(file.size()).unwrap_or_default(), rows };
            ((identity(&file), file.size()), (file.path().into_owned(), size))
        });
        Ok(known.collect())
    }

    /// Fails in words where files of an older version are gone.
    async fn refuse_gone(&self, files: &FileSet) -> Result<(), TableError> {
        let gone = self.gone(files.0.keys()).await?;
        let Some(first) = gone.first() else { return Ok(()) };
        Err(TableError::Rows(format!(
            "version {} of `{}` cannot be read any more: a vacuum has taken {} of it away, such as `{first}`",
            self.version(),
            self.name,
            plural(gone.len() as u64, "data file")
        )))
    }
}
