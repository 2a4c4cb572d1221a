//! Tests that look at the rows of a table while they are written, instead of reading them again.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;

use super::audit::Seen;
use super::fused::{Found, Fusion};
use super::sieve::Sieve;
use crate::session;
use crate::tables::{Staged, Watch};

/// Batches that wait for the tests; then the writer waits for them.
const WAITING: usize = 4;

/// The query of the tests, over rows that are still being written.
type Running = JoinHandle<Result<Vec<RecordBatch>, DataFusionError>>;

/// Tests that watch a table on its way.
pub(super) struct Watching<'a> {
    pub(super) fusion: Fusion<'a>,
    schema: SchemaRef,
    running: Mutex<Option<Running>>,
    /// The files that the rows went to.
    files: Mutex<Vec<String>>,
}

impl<'a> Watching<'a> {
    /// The rows will have the columns of `schema`.
    pub(super) fn new(fusion: Fusion<'a>, schema: SchemaRef) -> Self {
        Self { fusion, schema, running: Mutex::new(None), files: Mutex::new(Vec::new()) }
    }

    /// The rows that were seen last are those of these files.
    pub(super) fn wrote(&self, staged: &Staged) {
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = staged.paths();
    }

    /// What each test found in the rows of `staged`; nothing, if they did not see exactly these.
    async fn seen(&self, staged: &Staged) -> Seen {
        let found = self.found(staged).await.unwrap_or_default();
        self.fusion.tests.iter().zip(found).map(|(shared, found)| (shared.test.name.clone(), found)).collect()
    }

    async fn found(&self, staged: &Staged) -> Option<Vec<Found>> {
        let mut paths = staged.paths();
        paths.sort();
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner).clone();
        files.sort();
        if paths != files {
            return None;
        }
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        match running.await {
            Ok(Ok(batches)) => self.fusion.found(&batches).ok(),
            Ok(Err(error)) => {
                tracing::debug!("tests that watched the rows of a table gave up: {error}");
                None
            }
            Err(_) => None,
        }
    }
}

impl Watching<'_> {
    /// A query over the rows that are about to be written.
    fn begin(&self) -> Option<Sender<RecordBatch>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(earlier) = running.take() {
            earlier.abort();
            // The query of the model runs again, for want of memory or of a file: it is to have all that there is.
            return None;
        }
        let (sender, receiver) = channel(WAITING);
        let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
        let one = || Arc::new(Written { schema: Arc::clone(&self.schema), receiver: Arc::clone(&receiver) });
        let threads = self.fusion.session.config().target_partitions();
        let streams = (0..threads).map(|_| one() as Arc<dyn PartitionStream>).collect();
        let table = StreamingTable::try_new(Arc::clone(&self.schema), streams).ok()?;
        let plan = self.fusion.plan(provider_as_source(Arc::new(table))).ok()?;
        if !self.fusion.reads_once(&plan) {
            return None;
        }
        let session = self.fusion.session.clone();
        *running = Some(tokio::spawn(async move { session::query(&session, plan).collect().await }));
        Some(sender)
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        if let Some(running) = self.running.lock().unwrap_or_else(PoisonError::into_inner).take() {
            running.abort();
        }
    }
}

/// All that looks at the rows of a build on their way into its table.
#[derive(Default)]
pub(super) struct OnTheWay<'a> {
    /// Tests that see them as they are written.
    pub(super) watching: Option<Watching<'a>>,
    /// Tests that leave some of them out.
    pub(super) sieve: Option<Sieve<'a>>,
}

impl OnTheWay<'_> {
    /// What each test found in the rows of `staged`.
    pub(super) async fn seen(&self, staged: &Staged) -> Seen {
        let mut seen = match &self.watching {
            Some(watching) => watching.seen(staged).await,
            None => Seen::new(),
        };
        if let Some(sieve) = &self.sieve {
            seen.extend(sieve.found().into_iter().map(|(test, found)| (test.name.clone(), found)));
        }
        seen
    }
}

impl Watch for OnTheWay<'_> {
    fn begin(&self) -> Option<Sender<RecordBatch>> {
        if let Some(sieve) = &self.sieve {
            sieve.begin();
        }
        self.watching.as_ref()?.begin()
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
