//! Queries over the rows of a table while they are written, instead of reading them again.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{LogicalPlan, TableSource};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;

use crate::session;
use crate::tables::Staged;

/// Batches that wait for the query; then the writer waits for it.
const WAITING: usize = 4;

/// A query over rows that are still being written.
type Running = JoinHandle<Result<Vec<RecordBatch>, DataFusionError>>;

/// A query that rides along with the rows of a table.
pub(super) struct Riding {
    schema: SchemaRef,
    running: Mutex<Option<Running>>,
    /// The files that the rows went to.
    files: Mutex<Vec<String>>,
}

impl Riding {
    /// The rows will have the columns of `schema`.
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { schema, running: Mutex::new(None), files: Mutex::new(Vec::new()) }
    }

    /// Begins a query, whose plan is made of the rows that are about to be written.
    pub(super) fn begin(
        &self,
        session: &SessionState,
        plan: impl FnOnce(Arc<dyn TableSource>) -> Option<LogicalPlan>,
    ) -> Option<Sender<RecordBatch>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(earlier) = running.take() {
            earlier.abort();
            // The query of the model runs again, for want of memory or of a file: it is to have all that there is.
            return None;
        }
        let (sender, receiver) = channel(WAITING);
        let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
        let one = || Arc::new(Written { schema: Arc::clone(&self.schema), receiver: Arc::clone(&receiver) });
        let streams = (0..session.config().target_partitions()).map(|_| one() as Arc<dyn PartitionStream>).collect();
        let table = StreamingTable::try_new(Arc::clone(&self.schema), streams).ok()?;
        let plan = plan(provider_as_source(Arc::new(table)))?;
        let session = session.clone();
        *running = Some(tokio::spawn(async move { session::query(&session, plan).collect().await }));
        Some(sender)
    }

    /// The rows that were seen last are those of these files.
    pub(super) fn wrote(&self, staged: &Staged) {
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = staged.paths();
    }

    /// What came of the query, if it saw exactly the rows of `staged`.
    pub(super) async fn found(&self, staged: &Staged) -> Option<Vec<RecordBatch>> {
        let mut paths = staged.paths();
        paths.sort();
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner).clone();
        files.sort();
        if paths != files {
            return None;
        }
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        match running.await {
            Ok(Ok(batches)) => Some(batches),
            Ok(Err(_)) => {
                // The same query will tell why, in words that hide what is to be hidden.
                tracing::debug!("a query over the rows of a table on their way gave up");
                None
            }
            Err(_) => None,
        }
    }
}

impl Drop for Riding {
    fn drop(&mut self) {
        if let Some(running) = self.running.lock().unwrap_or_else(PoisonError::into_inner).take() {
            running.abort();
        }
    }
}

/// Rows as they are written; all partitions of the query take from one line.
struct Written {
    schema: SchemaRef,
    receiver: Arc<tokio::sync::Mutex<Receiver<RecordBatch>>>,
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rows as they are written")
    }
}

impl PartitionStream for Written {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = futures::stream::unfold(Arc::clone(&self.receiver), |receiver| async move {
            let batch = receiver.lock().await.recv().await?;
            Some((Ok(batch), receiver))
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows))
    }
}
