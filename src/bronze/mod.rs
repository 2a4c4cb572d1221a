//! Bronze: source files, listed once, taken in exactly once.
//!
//! [`list`] sees the files of a source; [`manifest`] knows which of them a table has taken in; [`Pending`] is the
//! difference;
//! [`scan`](scan::scan) reads exactly the files it is told. Models and tests are unknown here.

mod archive;
mod arrow_files;
mod bad_rows;
mod beside;
mod compact;
mod file_columns;
mod formats;
mod guard;
mod inspect;
mod leftovers;
pub mod listing;
mod lock;
pub mod manifest;
mod new_columns;
mod parquet_files;
mod parts;
mod pending;
pub mod quarantine;
pub mod replay;
pub mod scan;
mod scratch;
mod seeds;
mod slice;
mod text;

use datafusion::error::DataFusionError;

use crate::names::TableName;

pub use archive::{any_missing, archive};
pub use bad_rows::{BadRow, BadRows};
pub use beside::{beside, carry_columns};
pub use compact::Compaction;
pub use file_columns::{has_path_time, path_time};
pub use inspect::{Listings, declared_over, inspect};
pub use leftovers::leftovers;
pub use listing::{BronzeFile, Listing, arrivals, delivery_time, hashes, is_dated, list, list_deliveries, look_at};
pub use lock::FileLock;
pub use manifest::{Change, Entry, Manifest};
pub use new_columns::{refuse_new_columns, remember, undeclared_columns};
pub use parts::Piece;
pub use pending::{Pending, Read, Rows, Rules, Why};
pub use scan::{find_culprits, first_changed, infer_schema, named_file, scan};
pub use scratch::Scratch;
pub use seeds::{inspect_seeds, seed_content, seed_rows};
pub use slice::Slice;

/// A source that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BronzeError {
    /// The folder or file is not there.
    #[error("source `{source_name}`: `{path}` does not exist")]
    Missing {
        /// The source.
        source_name: TableName,
        /// What was looked for, as users know it.
        path: String,
    },
    /// The path cannot be used.
    #[error("source `{source_name}`: `{path}` {why}")]
    Path {
        /// The source.
        source_name: TableName,
        /// As declared.
        path: String,
        /// Why.
        why: String,
    },
    /// A file that is not what it should be.
    #[error("`{file}`: {why}")]
    File {
        /// The file, as users know it.
        file: String,
        /// Why.
        why: String,
    },
    /// A file that was taken in has changed since.
    #[error(
        "source `{source_name}`: {} taken in before and changed since: {}; set `on_changed_file: replace`, `append` or \
         `ignore`, or rebuild with --full-refresh",
        count_files(*count), examples.join(", ")
    )]
    Changed {
        /// The source.
        source_name: TableName,
        /// How many.
        count: usize,
        /// Some of them.
        examples: Vec<String>,
    },
    /// A file that was taken in is gone.
    #[error(
        "source `{source_name}`: {} taken in before and gone: {}; set `on_removed_file: keep` or `delete_rows`, or \
         rebuild with --full-refresh",
        count_files(*count), examples.join(", ")
    )]
    Gone {
        /// The source.
        source_name: TableName,
        /// How many.
        count: usize,
        /// Some of them.
        examples: Vec<String>,
    },
    /// A file with columns that are not declared, where that is not allowed.
    #[error(
        "source `{source_name}`: `{file}`{} columns that are not declared; add to its `columns`: {columns}; or set \
         `on_new_column: add` or `ignore`",
        match others { 0 => " has".to_owned(), 1 => " and 1 other file have".to_owned(), n => format!(" and {n} other files have") }
    )]
    NewColumns {
        /// The source.
        source_name: TableName,
        /// The first file, as users know it.
        file: String,
        /// How many more have some.
        others: usize,
        /// As YAML declares them.
        columns: String,
    },
    /// What a source knows of its columns cannot be read or written.
    #[error("source `{source_name}`: what is known of its columns, `{path}` below the lake's root: {why}")]
    KnownColumns {
        /// The source.
        source_name: TableName,
        /// The file, relative to the root.
        path: String,
        /// Why.
        why: String,
    },
    /// A file that cannot be moved to the archive.
    #[error("source `{source_name}`: `{file}` cannot be archived, and stays where it is: {why}")]
    Archive {
        /// The source.
        source_name: TableName,
        /// The file, as users know it.
        file: String,
        /// Why.
        why: String,
    },
    /// Files that cannot be compacted.
    #[error("source `{source_name}`: its files cannot be compacted to `{to}`, and stay where they are: {why}")]
    Compact {
        /// The source.
        source_name: TableName,
        /// The folder, as users know it.
        to: String,
        /// Why.
        why: String,
    },
    /// Another run has written a batch of the same id.
    #[error("manifest of `{table}`: another run has just written batch {id}; build again")]
    BatchExists {
        /// The table.
        table: TableName,
        /// The id.
        id: i64,
    },
    /// The manifest cannot be read or written.
    #[error("manifest of `{table}`: `{path}`: {why}")]
    Manifest {
        /// The table.
        table: TableName,
        /// The file, relative to the table.
        path: String,
        /// Why.
        why: String,
    },
    /// The store of a manifest refuses.
    #[error("manifest of `{table}`: `{path}`: {source}")]
    ManifestStore {
        /// The table.
        table: TableName,
        /// The file, relative to the table.
        path: String,
        /// Why.
        source: object_store::Error,
    },
    /// Storage that refuses.
    #[error("source `{source_name}`: {source}")]
    Storage {
        /// The source.
        source_name: TableName,
        /// Why.
        source: object_store::Error,
    },
    /// A file that its store does not hand out: nothing is wrong with the file.
    #[error("`{file}`: its store does not answer: {source}")]
    Unreachable {
        /// The file, as users know it.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// A query over files that failed without a culprit.
    #[error(transparent)]
    Query(#[from] DataFusionError),
}

fn count_files(count: usize) -> String {
    if count == 1 { "1 file was".to_owned() } else { format!("{count} files were") }
}
