//! Staging: rows into Delta data files that no reader sees.
//!
//! Partitions of the plan are written in parallel. Nothing is committed, so a crash leaves files that no
//! log names; an error removes what it can.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::TaskContext;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use deltalake::datafile::writer::{DeltaWriter, WriterConfig};
use deltalake::kernel::Add;
use deltalake::logstore::LogStoreRef;
use deltalake::parquet::basic::{Compression, ZstdLevel};
use deltalake::parquet::file::properties::WriterProperties;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use tokio::task::JoinSet;
use url::Url;

use super::{Lake, TableError, read};
use crate::exact_files::rows_of;
use crate::fail_points;
use crate::names::TableName;
use crate::session;

/// Rows to a file; more than that starts another.
const TARGET_FILE_BYTES: u64 = 128 * 1024 * 1024;

/// Data files that are written and not published.
#[derive(Debug, Clone)]
pub struct Staged {
    /// The table.
    pub name: TableName,
    /// Where it lives.
    pub(crate) table_url: Url,
    /// The new files.
    pub(crate) adds: Vec<Add>,
    /// Paths of published files that the publish takes away.
    pub(crate) removed: BTreeSet<String>,
    /// The publish takes all published files away.
    pub(crate) replaces_all: bool,
    /// The columns of the table as it will be.
    pub schema: SchemaRef,
    /// The columns it is partitioned by.
    pub(crate) partition_by: Vec<String>,
}

impl Staged {
    /// No rows: for a publish that only takes files away, or to collect others.
    pub fn nothing(lake: &Lake, name: &TableName, schema: &SchemaRef, partition_by: &[String]) -> Self {
        Self {
            name: name.clone(),
            table_url: lake.table_url(name),
            adds: Vec::new(),
            removed: BTreeSet::new(),
            replaces_all: false,
            schema: Arc::clone(schema),
            partition_by: partition_by.to_vec(),
        }
    }

    /// The new files of both.
    pub fn with(mut self, other: Self) -> Self {
        self.adds.extend(other.adds);
        self.removed.extend(other.removed);
        self
    }

    /// The publish takes these published files away.
    pub fn removing(mut self, files: impl IntoIterator<Item = String>) -> Self {
        self.removed.extend(files);
        self
    }

    /// Paths of the new files, as the log will have them.
    pub fn paths(&self) -> Vec<String> {
        self.adds.iter().map(|add| add.path.clone()).collect()
    }

    /// The publish takes the place of everything that the table holds.
    pub fn replacing_all(mut self) -> Self {
        self.replaces_all = true;
        self
    }

    /// Rows in the new files.
    pub fn rows(&self) -> u64 {
        let rows = |add: &Add| add.get_stats().ok().flatten().map_or(0, |stats| stats.num_records);
        self.adds.iter().map(|add| u64::try_from(rows(add)).unwrap_or_default()).sum()
    }

    /// Bytes of the new files.
    pub fn bytes(&self) -> u64 {
        self.adds.iter().map(|add| u64::try_from(add.size).unwrap_or_default()).sum()
    }

    /// The new rows alone, without what the table keeps.
    ///
    /// # Errors
    /// When the files' addresses do not parse.
    pub(crate) fn rows_plan(&self) -> Result<LogicalPlan, TableError> {
        let table = read::staged_table(&self.table_url, &self.adds, &self.schema, &self.partition_by)?;
        Ok(rows_of(table, &self.schema)?)
    }

    /// Takes the files away again: they will not be published.
    pub async fn discard(self, lake: &Lake) {
        discard(lake, &self.name, &self.adds).await;
    }
}

/// Takes staged files of a table away.
pub(super) async fn discard(lake: &Lake, name: &TableName, adds: &[Add]) {
    if let Ok(log_store) = lake.log_store(name) {
        remove_files(&log_store, adds).await;
    }
}

/// Runs a plan and writes its rows as data files of `name`, in the columns of `schema`.
///
/// # Errors
/// The query's, or the storage's; files written so far are taken away.
pub async fn stage(
    lake: &Lake,
    name: &TableName,
    plan: LogicalPlan,
    schema: &SchemaRef,
    partition_by: &[String],
    session: &SessionState,
) -> Result<Staged, TableError> {
    let log_store = lake.log_store(name)?;
    probe(&log_store, name).await?;
    let session = &session::for_query(session);
    let plan = session.optimize(&rows_of(read::view(plan), schema)?)?;
    let physical = session.create_physical_plan(&plan).await?;
    let config = WriterConfig::new(
        Arc::clone(schema),
        partition_by.to_vec(),
        Some(properties()),
        NonZeroU64::new(TARGET_FILE_BYTES),
        Some(session.config().batch_size()),
        Default::default(),
        None,
    );
    let adds = write_partitions(&log_store, physical, config, session.task_ctx(), schema, name).await?;
    Ok(Staged { adds, ..Staged::nothing(lake, name, schema, partition_by) })
}

fn properties() -> WriterProperties {
    let level = ZstdLevel::try_new(1).expect("level 1 exists");
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_created_by(format!("lake {}", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Whether files can be written beside the table. Asked before, because the writer of deltalake 1.1 panics when
/// its first upload is refused.
async fn probe(log_store: &LogStoreRef, name: &TableName) -> Result<(), TableError> {
    let path = Path::from_iter(["_lake", &format!("write-probe-{}", uuid::Uuid::new_v4())]);
    let fail = |source| TableError::File { table: name.clone(), path: "_lake".to_owned(), source };
    let store = log_store.object_store(None);
    let refused = |source: std::io::Error| object_store::Error::Generic { store: "test", source: source.into() };
    fail_points::refuse("stage").map_err(refused).map_err(fail)?;
    store.put(&path, PutPayload::from_static(b"lake")).await.map_err(fail)?;
    store.delete(&path).await.map_err(fail)
}

/// One task for each partition; the first error ends them all.
async fn write_partitions(
    log_store: &LogStoreRef,
    plan: Arc<dyn ExecutionPlan>,
    config: WriterConfig,
    context: Arc<TaskContext>,
    schema: &SchemaRef,
    name: &TableName,
) -> Result<Vec<Add>, TableError> {
    let mut tasks = JoinSet::new();
    for partition in 0..plan.output_partitioning().partition_count() {
        let stream = plan.execute(partition, Arc::clone(&context))?;
        let writer = DeltaWriter::new(log_store.object_store(None), config.clone());
        tasks.spawn(write_partition(stream, writer, Arc::clone(schema), name.clone()));
    }
    let (mut adds, mut failure) = (Vec::new(), None);
    while let Some(finished) = tasks.join_next().await {
        match finished {
            Ok(Ok(found)) => adds.extend(found),
            Ok(Err(error)) => {
                failure.get_or_insert(error);
                tasks.abort_all();
            }
            Err(joined) if joined.is_panic() => std::panic::resume_unwind(joined.into_panic()),
            Err(_) => {}
        }
    }
    match failure {
        Some(error) => {
            remove_files(log_store, &adds).await;
            Err(error)
        }
        None => Ok(adds),
    }
}

async fn write_partition(
    mut stream: datafusion::execution::SendableRecordBatchStream,
    mut writer: DeltaWriter,
    schema: SchemaRef,
    name: TableName,
) -> Result<Vec<Add>, TableError> {
    let fail = |source| TableError::Delta { table: name.clone(), source };
    while let Some(batch) = stream.next().await {
        let written = match batch {
            Ok(batch) if batch.num_rows() == 0 => continue,
            Ok(batch) => {
                let batch = RecordBatch::try_new(Arc::clone(&schema), batch.columns().to_vec())
                    .map_err(|error| TableError::Query(error.into()))?;
                writer.write(&batch).await.map_err(fail)
            }
            Err(error) => Err(TableError::Query(error)),
        };
        if let Err(error) = written {
            // Best effort: a file that stays behind is invisible, and care removes it later.
            let _ = writer.abort().await;
            return Err(error);
        }
    }
    writer.close().await.map_err(fail)
}

async fn remove_files(log_store: &LogStoreRef, adds: &[Add]) {
    let store = log_store.object_store(None);
    for add in adds {
        if let Ok(path) = Path::parse(&add.path) {
            // Best effort, as above.
            let _ = store.delete(&path).await;
        }
    }
}
