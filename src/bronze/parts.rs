//! Compacted files: few Parquet files that hold the rows of many raw ones.
//!
//! A part is a Parquet file, and beside it an index `part-<id>.lake` that says which rows came from which file. The index
//! is what counts: a part without one is left over from a crash. In a listing, a compacted file is what it was when it was
//! delivered: its path, size and time are those that manifests know. Indexes are found wherever they are below the
//! folder of a source, so that no change of `after_load` makes files unknown.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use object_store::ObjectMeta;
use object_store::path::Path as StorePath;
use serde::{Deserialize, Serialize};

use super::{BronzeError, BronzeFile};
use crate::catalog::{sql_type, widens};
use crate::stores::{self, Store};

/// How an index ends.
pub(super) const INDEX: &str = ".lake";
/// How a part ends.
pub(super) const PART: &str = ".parquet";

/// The rows of one file in a part.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    pub(super) part: Arc<Part>,
    /// Rows of the part that come before.
    pub(super) first: u64,
    pub(super) rows: u64,
    /// A hash of the bytes that the file had.
    pub(super) hash: String,
}

/// A Parquet file of compacted rows.
#[derive(Debug, PartialEq)]
pub(super) struct Part {
    pub(super) meta: ObjectMeta,
    /// The columns of files in it, without where rows are from.
    pub(super) columns: SchemaRef,
    /// How many files it was made of.
    pub(super) files: usize,
    pub(super) rows: u64,
}

/// The first line of an index.
#[derive(Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) size: u64,
    pub(super) columns: Schema,
    pub(super) files: usize,
    pub(super) rows: u64,
}

/// Any other line.
#[derive(Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) path: String,
    pub(super) size: u64,
    /// Microseconds since 1970 (UTC).
    pub(super) modified: i64,
    pub(super) first: u64,
    pub(super) rows: u64,
    pub(super) hash: String,
}

/// Whether a file below a source's folder is an index of a part.
pub(super) fn is_index(location: &StorePath) -> bool {
    location.filename().is_some_and(|name| name.starts_with("part-") && name.ends_with(INDEX))
}

/// The index of a part, and the part of an index.
pub(super) fn index_of(part: &str) -> String {
    format!("{}{INDEX}", part.trim_end_matches(PART))
}

pub(super) fn part_of(index: &StorePath) -> StorePath {
    StorePath::from(format!("{}{PART}", index.as_ref().trim_end_matches(INDEX)))
}

/// The files of all parts; of several with one path the one that was compacted last.
///
/// # Errors
/// An index that is damaged: what it knows of is known from nowhere else.
pub(super) async fn files(
    store: &Store,
    root: &StorePath,
    mut indexes: Vec<ObjectMeta>,
    folder: &Path,
) -> Result<Vec<BronzeFile>, BronzeError> {
    // Newer parts first: their names increase with time.
    indexes.sort_by(|a, b| b.location.filename().cmp(&a.location.filename()));
    let (mut files, mut seen) = (Vec::new(), BTreeSet::new());
    for index in indexes {
        let bad = |why: String| BronzeError::File { file: store.shown(index.location.as_ref(), folder), why };
        let found = stores::read_if_there(store.files(), &index.location).await;
        // Else merged into another part by a run at the same moment, whose index was there before this one went.
        let Some(bytes) = found.map_err(|error| bad(error.to_string()))? else { continue };
        let mut lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let header: Header = serde_json::from_slice(lines.next().unwrap_or_default())
            .map_err(|error| bad(format!("the index of compacted files is damaged: {error}")))?;
        let meta = ObjectMeta {
            location: part_of(&index.location),
            last_modified: index.last_modified,
            size: header.size,
            e_tag: None,
            version: None,
        };
        let Header { columns, files: lines_of_header, rows, .. } = header;
        let part = Arc::new(Part { meta, columns: Arc::new(columns), files: lines_of_header, rows });
        let mut count = 0;
        for line in lines {
            let line: Line = serde_json::from_slice(line).map_err(|error| {
                bad(format!("the index of compacted files is damaged: line {}: {error}", count + 2))
            })?;
            count += 1;
            if !seen.insert(line.path.clone()) {
                continue;
            }
            let modified = chrono::DateTime::from_timestamp_micros(line.modified).unwrap_or_default();
            let location = StorePath::parse(format!("{root}/{}", line.path)).map_err(|error| bad(error.to_string()))?;
            let meta = ObjectMeta { location, last_modified: modified, size: line.size, e_tag: None, version: None };
            let piece = Piece { part: Arc::clone(&part), first: line.first, rows: line.rows, hash: line.hash };
            files.push(BronzeFile { compacted: Some(piece), ..BronzeFile::new(line.path, store.clone(), meta) });
        }
        if count != lines_of_header {
            return Err(bad(format!("the index of compacted files has {count} of {lines_of_header} lines")));
        }
    }
    Ok(files)
}

impl Piece {
    /// The rows of the file, for a scan.
    pub(super) fn partitioned(&self) -> PartitionedFile {
        let count = |rows: u64| usize::try_from(rows).unwrap_or(usize::MAX);
        let after = self.part.rows.saturating_sub(self.first + self.rows);
        let (skip, select) = (RowSelector::skip, RowSelector::select);
        let rows = vec![skip(count(self.first)), select(count(self.rows)), skip(count(after))];
        let selection = ParquetRowSelection::new(RowSelection::from(rows));
        PartitionedFile::new_from_meta(self.part.meta.clone()).with_extension(selection)
    }

    /// Whether the values that were kept say all that columns of these types need.
    pub(super) fn check(&self, file: &BronzeFile, columns: &Schema, folder: &Path) -> Result<(), BronzeError> {
        for field in columns.fields() {
            let Ok(kept) = self.part.columns.field_with_name(field.name()) else { continue };
            if !widens(kept.data_type(), field.data_type()) {
                let (was, is) = (sql_type(kept.data_type()), sql_type(field.data_type()));
                return Err(BronzeError::File {
                    file: file.shown(folder),
                    why: format!(
                        "it was compacted when column `{}` was `{was}`, and as `{is}` it may have said more than was \
                         kept; declare `{was}`, and cast it in the model",
                        field.name()
                    ),
                });
            }
        }
        Ok(())
    }
}
