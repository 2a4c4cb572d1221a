//! Looking at the rows of a table while they are written.

use datafusion::arrow::array::RecordBatch;
use tokio::sync::mpsc::Sender;

/// Whoever wants to see the rows that are staged.
pub trait Watch: Send + Sync {
    /// Rows are about to be written, from the first on: what was seen before does not count. Whoever does not want to see
    /// them gives nothing, or stops listening.
    fn begin(&self) -> Option<Sender<RecordBatch>>;
}
