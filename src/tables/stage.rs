//! Staging: rows into Delta data files that no reader sees.
//!
//! Partitions of the plan are written in parallel; what is little goes into one file. Nothing is committed, so a crash leaves files that no
//! log names; an error removes what it can.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Once};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlanProperties, displayable};
use deltalake::datafile::writer::{DeltaWriter, WriterConfig};
use deltalake::kernel::Add;
use deltalake::logstore::ObjectStoreRef;
use futures::StreamExt;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStoreExt, PutPayload};
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;

use super::content::Sums;
use super::{Gauge, Lake, Layout, TableError, Watch, read, zorder};
use crate::exact_files::rows_of;
use crate::fail_points;
use crate::names::TableName;
use crate::session;
use crate::stores::Place;

/// Fewer new rows are not worth a second write: `lake maintain` orders them with others.
const ZORDER_FROM: u64 = 100_000;

/// Rows of a partition of a plan that take no more than this many bytes of memory share a file with those of others.
const FEW_BYTES: usize = 8 << 20;

/// Data files that are written and not published.
#[derive(Debug, Clone)]
pub struct Staged {
    /// The table.
    pub name: TableName,
    /// Where it lives.
    pub(crate) place: Place,
    /// The new files.
    pub(crate) adds: Vec<Add>,
    /// Paths of published files that the publish takes away.
    pub(crate) removed: BTreeSet<String>,
    /// Of those, files whose rows stand in new files: no reader is to take it for a change.
    pub(crate) packed: BTreeSet<String>,
    /// The publish takes all published files away.
    pub(crate) replaces_all: bool,
    /// The columns of the table as it will be.
    pub schema: SchemaRef,
    /// The columns it is partitioned by.
    pub(crate) partition_by: Vec<String>,
    /// Paths of new files whose rows the table has already.
    pub(crate) kept_files: BTreeSet<String>,
    /// What the rows are together, and those of some columns, where they are all that the table will hold.
    pub(crate) content: Option<(String, BTreeMap<String, String>)>,
    /// What the publish makes known with the rows: versions of `txn` actions by application.
    pub(crate) heads: HashMap<String, i64>,
}

impl Staged {
    /// No rows: for a publish that only takes files away, or to collect others.
    pub fn nothing(lake: &Lake, name: &TableName, schema: &SchemaRef, partition_by: &[String]) -> Self {
        Self {
            name: name.clone(),
            place: lake.place_of(name),
            adds: Vec::new(),
            removed: BTreeSet::new(),
            packed: BTreeSet::new(),
            replaces_all: false,
            schema: Arc::clone(schema),
            partition_by: partition_by.to_vec(),
            kept_files: BTreeSet::new(),
            content: None,
            heads: HashMap::new(),
        }
    }

    /// The new files of both.
    pub fn with(mut self, other: Self) -> Self {
        self.adds.extend(other.adds);
        self.removed.extend(other.removed);
        self.kept_files.extend(other.kept_files);
        self.heads.extend(other.heads);
        self.packed.extend(other.packed);
        self.content = None;
        self
    }

    /// What the rows are together, where they are all that the table will hold.
    pub fn content(&self) -> Option<&str> {
        self.content.as_ref().filter(|_| self.replaces_all).map(|(whole, _)| whole.as_str())
    }

    /// What the rows of some columns are together, by [`super::columns_key`].
    pub fn projections(&self) -> BTreeMap<String, String> {
        self.content.iter().filter(|_| self.replaces_all).flat_map(|(_, parts)| parts.clone()).collect()
    }

    /// The publish takes these published files away.
    pub fn removing(mut self, files: impl IntoIterator<Item = String>) -> Self {
        self.removed.extend(files);
        self
    }

    /// Whether the publish would neither add nor take away a file.
    pub fn is_nothing(&self) -> bool {
        self.adds.is_empty() && self.removed.is_empty() && !self.replaces_all
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

    /// New rows; those that were written again beside them are not.
    pub fn rows(&self) -> u64 {
        let rows = |add: &Add| add.get_stats().ok().flatten().map_or(0, |stats| stats.num_records);
        let new = self.adds.iter().filter(|add| add.data_change && !self.kept_files.contains(&add.path));
        new.map(|add| u64::try_from(rows(add)).unwrap_or_default()).sum()
    }

    /// Bytes of the new files, with what was written again.
    pub fn bytes(&self) -> u64 {
        let new = self.adds.iter().filter(|add| add.data_change);
        new.map(|add| u64::try_from(add.size).unwrap_or_default()).sum()
    }

    /// The new rows alone, without what the table keeps.
    ///
    /// # Errors
    /// When the files' addresses do not parse.
    pub(crate) fn rows_plan(&self) -> Result<LogicalPlan, TableError> {
        let table = read::staged_table(&self.place, &self.adds, &self.schema, &self.partition_by)?;
        Ok(rows_of(table, &self.schema)?)
    }

    /// The new rows, if the publish adds them and takes none away: files that are written again together beside them are not
    /// among them.
    pub fn added_only(&self) -> Option<Self> {
        let is_added = !self.replaces_all && self.removed.is_subset(&self.packed);
        let is_new = |add: &&Add| add.data_change && !self.kept_files.contains(&add.path);
        is_added.then(|| Self { adds: self.adds.iter().filter(is_new).cloned().collect(), ..self.clone() })
    }

    /// Takes the files away again: they will not be published.
    pub async fn discard(self, lake: &Lake) {
        discard(lake, &self.name, &self.adds).await;
    }
}

/// Takes staged files of a table away.
pub(super) async fn discard(lake: &Lake, name: &TableName, adds: &[Add]) {
    remove_files(&lake.files_of(name), adds).await;
}

/// What comes of staged files; if nothing does, they are taken away.
pub(super) async fn or_discard(
    lake: &Lake,
    staged: Staged,
    change: impl AsyncFnOnce(Staged) -> Result<Staged, TableError>,
) -> Result<Staged, TableError> {
    let (adds, name) = (staged.adds.clone(), staged.name.clone());
    let changed = change(staged).await;
    if changed.is_err() {
        discard(lake, &name, &adds).await;
    }
    changed
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
    stage_watched(lake, name, plan, schema, partition_by, session, None).await
}

/// As [`stage`]; `watch` sees all rows as they are written.
///
/// # Errors
/// As there.
#[tracing::instrument(name = "stage", skip_all, fields(table = %name))]
pub async fn stage_watched(
    lake: &Lake,
    name: &TableName,
    plan: LogicalPlan,
    schema: &SchemaRef,
    partition_by: &[String],
    session: &SessionState,
    watch: Option<&dyn Watch>,
) -> Result<Staged, TableError> {
    probe(&lake.files_of(name), name).await?;
    let layout = lake.layout(name);
    let plan = read::without_empty(rows_of(read::view(plan), schema)?, schema, partition_by)?;
    let plan = layout.sorted(plan, partition_by)?;
    let staged = Staged::nothing(lake, name, schema, partition_by);
    let unordered = write_watched(lake, staged, plan, session, watch).await?;
    if layout.zorder_by.is_empty() || unordered.rows() < ZORDER_FROM {
        return Ok(unordered);
    }
    // The order follows from the values, so they are written down before it is known.
    let adds = unordered.adds.clone();
    let ordered = zorder::staged(lake, unordered, session).await;
    discard(lake, name, &adds).await;
    ordered
}

/// Writes rows as data files of `name`: those of each stream in files of their own.
///
/// # Errors
/// The first stream's that fails, or the storage's; files written so far are taken away.
pub(super) async fn stage_streams(
    lake: &Lake,
    name: &TableName,
    streams: impl Iterator<Item = Result<SendableRecordBatchStream, DataFusionError>>,
    schema: &SchemaRef,
    partition_by: &[String],
    session: &SessionState,
) -> Result<Staged, TableError> {
    let store = lake.files_of(name);
    probe(&store, name).await?;
    hide_caught_panics();
    let config = lake.layout(name).writer(schema, partition_by, session)?;
    let target = Target { store, config, schema: Arc::clone(schema), name: name.clone(), sums: None, gauge: None };
    let (adds, _) = write_partitions(&target, streams, Vec::new(), 0).await?;
    Ok(Staged { adds, ..Staged::nothing(lake, name, schema, partition_by) })
}

/// Runs a plan and writes its rows as Parquet files of a folder beside the data of `name`.
///
/// # Errors
/// As [`stage`].
pub(super) async fn write_beside(
    lake: &Lake,
    name: &TableName,
    folder: &Path,
    plan: LogicalPlan,
    schema: &SchemaRef,
    session: &SessionState,
) -> Result<(), TableError> {
    let store: ObjectStoreRef = Arc::new(PrefixStore::new(lake.files_of(name), folder.clone()));
    probe(&store, name).await?;
    let config = Layout::default().writer(schema, &[], session)?;
    let target = Target { store, config, schema: Arc::clone(schema), name: name.clone(), sums: None, gauge: None };
    write_files(&target, rows_of(read::view(plan), schema)?, session, None).await.map(|_| ())
}

/// When a write fails half-way, deltalake 1.1 aborts an upload that is over already, which panics in object_store, and
/// catches that panic: its error tells all, so the panic is not shown.
fn hide_caught_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let file = panic.location().map_or("", std::panic::Location::file);
            if !(file.contains("object_store") && file.ends_with("buffered.rs")) {
                report(panic);
            }
        }));
    });
}

/// Runs a plan of exactly the columns of `schema`, once more with less memory if that is not enough.
#[tracing::instrument(name = "execute", skip_all)]
async fn write_files(
    target: &Target,
    plan: LogicalPlan,
    session: &SessionState,
    watch: Option<&dyn Watch>,
) -> Result<(Vec<Add>, Sums), TableError> {
    hide_caught_panics();
    let session = &session::for_query(session);
    let plan = session.optimize(&plan)?;
    let (plan, name) = (&plan, &target.name);
    let run = |session: SessionState| async move {
        let physical = session.create_physical_plan(plan).await?;
        if let Some(gauge) = &target.gauge {
            gauge.runs(&physical);
        }
        tracing::debug!("plan of `{name}`:\n{}", displayable(physical.as_ref()).indent(false));
        let context = session.task_ctx();
        let streams = |partition| physical.execute(partition, Arc::clone(&context));
        let partitions = physical.output_partitioning().partition_count();
        let streams = (0..partitions).map(streams);
        write_partitions(target, streams, watch.map(Watch::begin).unwrap_or_default(), FEW_BYTES).await
    };
    session::within_memory(session, run).await
}

/// The rows of a query, which are few.
///
/// # Errors
/// The query's.
pub(super) async fn collect(plan: LogicalPlan, session: &SessionState) -> Result<Vec<RecordBatch>, TableError> {
    Ok(session::collect(session, plan).await?)
}

/// Runs a plan of exactly the columns of `staged`, and adds its files.
pub(super) async fn write(
    lake: &Lake,
    staged: Staged,
    plan: LogicalPlan,
    session: &SessionState,
) -> Result<Staged, TableError> {
    write_watched(lake, staged, plan, session, None).await
}

async fn write_watched(
    lake: &Lake,
    mut staged: Staged,
    plan: LogicalPlan,
    session: &SessionState,
    watch: Option<&dyn Watch>,
) -> Result<Staged, TableError> {
    let store = lake.files_of(&staged.name);
    let config = lake.layout(&staged.name).writer(&staged.schema, &staged.partition_by, session)?;
    let sums = watch.and_then(Watch::sums).map(|sets| Sums::of(&staged.schema, &sets));
    let gauge = lake.gauge(&staged.name);
    let store = gauge.as_ref().map_or_else(|| Arc::clone(&store), |gauge| gauge.counting(Arc::clone(&store)));
    let target = Target { store, config, schema: Arc::clone(&staged.schema), name: staged.name.clone(), sums, gauge };
    let (adds, content) = write_files(&target, plan, session, watch).await?;
    staged.adds.extend(adds);
    staged.content = target.sums.is_some().then(|| content.texts(&staged.schema));
    Ok(staged)
}

/// Whether files can be written beside the table. Asked before, because the writer of deltalake 1.1 panics when
/// its first upload is refused.
async fn probe(store: &ObjectStoreRef, name: &TableName) -> Result<(), TableError> {
    let path = Path::from_iter(["_lake", &format!("write-probe-{}", uuid::Uuid::new_v4())]);
    let fail = |source| TableError::File { table: name.clone(), path: "_lake".to_owned(), source };
    let refused = |source: std::io::Error| object_store::Error::Generic { store: "test", source: source.into() };
    fail_points::refuse("stage").map_err(refused).map_err(fail)?;
    store.put(&path, PutPayload::from_static(b"lake")).await.map_err(fail)?;
    store.delete(&path).await.map_err(fail)
}

/// One task for each stream; the first error ends them all. A stream of up to `few` bytes gets no file of its own: what
/// there is of those goes into one.
async fn write_partitions(
    target: &Target,
    streams: impl Iterator<Item = Result<SendableRecordBatchStream, DataFusionError>>,
    watched: Vec<Sender<RecordBatch>>,
    few: usize,
) -> Result<(Vec<Add>, Sums), TableError> {
    let mut tasks = JoinSet::new();
    for (at, stream) in streams.enumerate() {
        let writing = Writing { watched: watched.clone(), ..Writing::new(target) };
        let stream = stream?;
        tasks.spawn(async move { Ok((at, writing.write(stream, few).await?)) });
    }
    // It hears of the end when the last stream has ended.
    drop(watched);
    let (mut adds, mut left, mut failure) = (Vec::new(), BTreeMap::new(), None);
    let mut content = Sums::default();
    while let Some(finished) = tasks.join_next().await {
        match finished {
            Ok(Ok((at, written))) => {
                adds.extend(written.adds);
                content = content.and(written.content);
                left.insert(at, written.held);
            }
            Ok(Err(error)) => {
                failure.get_or_insert(error);
                tasks.abort_all();
            }
            Err(joined) if joined.is_panic() => std::panic::resume_unwind(joined.into_panic()),
            Err(_) => {}
        }
    }
    if failure.is_none() {
        let rows = futures::stream::iter(left.into_values().flatten().map(Ok));
        let rows = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&target.schema), rows));
        let again = Writing { gauge: None, ..Writing::new(target) };
        match again.write(rows, 0).await {
            Ok(written) => {
                adds.extend(written.adds);
                content = content.and(written.content);
            }
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) => {
            remove_files(&target.store, &adds).await;
            Err(error)
        }
        None => Ok((adds, content)),
    }
}

/// Where rows go, and how.
struct Target {
    store: ObjectStoreRef,
    config: WriterConfig,
    schema: SchemaRef,
    name: TableName,
    /// What is summed up, if the rows are all that the table will hold.
    sums: Option<Sums>,
    /// Who watches.
    gauge: Option<Arc<Gauge>>,
}

/// What came of a stream.
struct Written {
    adds: Vec<Add>,
    /// Rows that got no file of their own.
    held: Vec<RecordBatch>,
    content: Sums,
}

/// A stream on its way into files.
struct Writing {
    writer: DeltaWriter,
    schema: SchemaRef,
    name: TableName,
    watched: Vec<Sender<RecordBatch>>,
    content: Option<Sums>,
    gauge: Option<Arc<Gauge>>,
}

impl Writing {
    fn new(target: &Target) -> Self {
        let writer = DeltaWriter::new(Arc::clone(&target.store), target.config.clone());
        let content = target.sums.clone();
        let (schema, gauge) = (Arc::clone(&target.schema), target.gauge.clone());
        Self { writer, schema, name: target.name.clone(), watched: Vec::new(), content, gauge }
    }

    /// Writes a stream; gives it back instead if it is not longer than `few` bytes.
    async fn write(mut self, mut stream: SendableRecordBatchStream, few: usize) -> Result<Written, TableError> {
        let (mut held, mut bytes) = (Vec::new(), 0);
        while let Some(batch) = stream.next().await {
            let written = match batch {
                Ok(batch) if batch.num_rows() == 0 => continue,
                Ok(batch) => {
                    self.gauge.iter().for_each(|gauge| gauge.comes(batch.num_rows()));
                    self.show(&batch).await;
                    if bytes < few {
                        bytes += batch.get_array_memory_size();
                        held.push(batch);
                        continue;
                    }
                    self.put(held.drain(..).chain([batch])).await
                }
                Err(error) => Err(TableError::Query(error)),
            };
            if let Err(error) = written {
                // Best effort: a file that stays behind is invisible, and care removes it later.
                let _ = self.writer.abort().await;
                return Err(error);
            }
        }
        let fail = |source| TableError::Delta { table: self.name.clone(), source };
        let content = self.content.unwrap_or_default();
        Ok(Written { adds: self.writer.close().await.map_err(fail)?, held, content })
    }

    /// Shows rows to whoever watches. One that stops listening does not stop the write.
    async fn show(&mut self, batch: &RecordBatch) {
        if self.watched.is_empty() {
            return;
        }
        let Ok(batch) = RecordBatch::try_new(Arc::clone(&self.schema), batch.columns().to_vec()) else {
            self.watched.clear();
            return;
        };
        for watched in std::mem::take(&mut self.watched) {
            if watched.send(batch.clone()).await.is_ok() {
                self.watched.push(watched);
            }
        }
    }

    async fn put(&mut self, batches: impl Iterator<Item = RecordBatch>) -> Result<(), TableError> {
        for batch in batches {
            let batch = RecordBatch::try_new(Arc::clone(&self.schema), batch.columns().to_vec())
                .map_err(|error| TableError::Query(error.into()))?;
            if let Some(content) = &mut self.content {
                content.add(&batch).map_err(TableError::Query)?;
            }
            let fail = |source| TableError::Delta { table: self.name.clone(), source };
            self.writer.write(&batch).await.map_err(fail)?;
        }
        Ok(())
    }
}

async fn remove_files(store: &ObjectStoreRef, adds: &[Add]) {
    for add in adds {
        if let Ok(path) = Path::parse(&add.path) {
            // Best effort, as above.
            let _ = store.delete(&path).await;
        }
    }
}
