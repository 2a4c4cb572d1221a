//! Looking at the rows of a table while they are written.

use datafusion::arrow::array::RecordBatch;
use tokio::sync::mpsc::Sender;

/// Whoever wants to see the rows that are staged.
pub trait Watch: Send + Sync {
    /// Rows are about to be written, from the first on: what was seen before does not count. All who are given see them;
    /// one that stops listening sees no more.
    fn begin(&self) -> Vec<Sender<RecordBatch>>;

    /// If the rows are all that the table will hold, and are to be told from those that it holds: sets of columns that are to
    /// be told by themselves, too.
    fn sums(&self) -> Option<Vec<Vec<String>>>;
}
