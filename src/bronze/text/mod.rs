//! CSV, TSV and JSON as DataFusion scans them.
//!
//! The decoders are Arrow's, as those of DataFusion's own sources. This source is beside them for what they cannot do:
//! columns by each file's own header, encodings, record paths, declared formats of values, numbers of rows, limits on
//! hostile files, and errors that name file, row and column.

mod bytes;
mod careful;
mod decimals;
mod header;
mod infer;
mod layout;
mod lenient;
mod records;
mod rescue;
mod rows;
mod values;

use std::io::{self, Read, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileGroupPartitioner, FileOpenFuture, FileOpener, FileScanConfig, FileScanConfigBuilder, FileSource,
};
use datafusion::datasource::projection::{ProjectionOpener, SplitProjection};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::DataFusionError;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use futures::StreamExt;
use object_store::{ObjectMeta, ObjectStore};

use self::header::Dialect;
use self::lenient::{Again, Origin};
use self::records::Records;
use self::rows::{BadFile, Rows};
use super::{BronzeError, replay};
use crate::project::{Compression, Format, SourceOptions};
use crate::stores::{OpenFile, Store};
use crate::words::without_values;

pub(super) use self::infer::Sample;
pub(super) use self::layout::{Layout, with_row_columns};
pub(super) use self::lenient::Sink;

pub(super) use self::values::Reading;

/// Text files of one source; each is of the format that its ending says, if the source does not.
#[derive(Debug, Clone)]
pub(super) struct TextFormat {
    pub(super) format: Format,
    pub(super) layout: Arc<Layout>,
    /// Where they are.
    pub(super) store: Store,
    /// The project's, for messages.
    pub(super) folder: PathBuf,
}

/// Where a file of a scan was delivered.
#[derive(Debug, Clone, Default)]
pub(super) struct Delivered {
    /// As users know it.
    pub(super) shown: String,
    /// Below the folder of the source.
    pub(super) path: String,
    /// Only these records of it are read.
    pub(super) records: Option<replay::Records>,
}

/// The columns of one file.
///
/// # Errors
/// A file that is not what it should be.
pub(super) async fn infer(
    store: &Store,
    file: &ObjectMeta,
    format: Format,
    options: &SourceOptions,
    sample: &Sample,
    folder: &Path,
) -> std::result::Result<Schema, BronzeError> {
    let at = (store.clone(), file.clone());
    let bad = |bad: BadFile| bad_file((&at.0, &at.1), bad, None, folder);
    let path = file.location.to_string();
    let (options, sample) = (options.clone(), sample.clone());
    let format = format.of_file(&path).unwrap_or(Format::Ndjson);
    let (store, file) = (store.clone(), file.clone());
    let inferred = tokio::task::spawn_blocking(move || {
        let text = bytes::plain(input(&store, &file, 0)?, &path, &options)?;
        let layout = Layout::new(String::new(), Arc::new(Schema::empty()), options.clone(), None);
        let again = again(store, file, format, Arc::new(layout));
        let origin = Origin { shown: String::new(), path: String::new(), format, part: 0..u64::MAX, again };
        infer::columns(text, origin, &options, &sample)
    });
    inferred.await.expect("inference does not panic").map_err(bad)
}

#[async_trait]
impl FileFormat for TextFormat {
    fn get_ext(&self) -> String {
        String::new()
    }

    fn get_ext_with_compression(&self, _: &FileCompressionType) -> Result<String> {
        Ok(String::new())
    }

    fn compression_type(&self) -> Option<FileCompressionType> {
        None
    }

    async fn infer_schema(&self, _: &dyn Session, _: &Arc<dyn ObjectStore>, _: &[ObjectMeta]) -> Result<SchemaRef> {
        Ok(self.layout.schema())
    }

    async fn infer_stats(
        &self,
        _: &dyn Session,
        _: &Arc<dyn ObjectStore>,
        table_schema: SchemaRef,
        _: &ObjectMeta,
    ) -> Result<Statistics> {
        Ok(Statistics::new_unknown(&table_schema))
    }

    async fn create_physical_plan(&self, _: &dyn Session, config: FileScanConfig) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(DataSourceExec::from_data_source(config))
    }

    fn file_source(&self, table_schema: TableSchema) -> Arc<dyn FileSource> {
        let projection = SplitProjection::unprojected(&table_schema);
        let metrics = ExecutionPlanMetricsSet::new();
        Arc::new(TextSource { text: self.clone(), table_schema, projection, batch_size: 8192, metrics })
    }
}

/// The scan of text files.
#[derive(Clone)]
struct TextSource {
    text: TextFormat,
    table_schema: TableSchema,
    projection: SplitProjection,
    batch_size: usize,
    metrics: ExecutionPlanMetricsSet,
}

impl TextSource {
    /// Whether the lines of a file are records wherever one begins to read.
    fn may_split(&self, file: &PartitionedFile) -> bool {
        let options = &self.text.layout.options;
        let path = file.object_meta.location.as_ref();
        let lines = match self.text.format.of_file(path) {
            Some(Format::Csv | Format::Tsv) => !options.newlines_in_values,
            Some(Format::Ndjson) => true,
            _ => false,
        };
        lines
            && options.encoding == "UTF-8"
            && options.skip_lines == 0
            && options.max_file_bytes.is_none()
            && options.compression.of_file(path) == Compression::None
            && file.extensions.get::<Delivered>().is_none_or(|delivered| delivered.records.is_none())
            && !self.text.layout.numbers_rows()
    }
}

impl FileSource for TextSource {
    fn create_file_opener(&self, _: Arc<dyn ObjectStore>, _: &FileScanConfig, _: usize) -> Result<Arc<dyn FileOpener>> {
        let opener = TextOpener {
            text: self.text.clone(),
            columns: self.projection.file_indices.clone(),
            batch_size: self.batch_size,
        };
        ProjectionOpener::try_new(self.projection.clone(), Arc::new(opener), self.table_schema.file_schema())
    }

    fn table_schema(&self) -> &TableSchema {
        &self.table_schema
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        Arc::new(Self { batch_size, ..self.clone() })
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        Some(&self.projection.source)
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn FileSource>>> {
        let merged = self.projection.source.try_merge(projection)?;
        let projection = SplitProjection::new(self.table_schema.file_schema(), &merged);
        Ok(Some(Arc::new(Self { projection, ..self.clone() })))
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        &self.metrics
    }

    fn file_type(&self) -> &str {
        "text"
    }

    fn repartitioned(
        &self,
        target_partitions: usize,
        repartition_file_min_size: usize,
        output_ordering: Option<datafusion::physical_expr::LexOrdering>,
        config: &FileScanConfig,
    ) -> Result<Option<FileScanConfig>> {
        if !config.file_groups.iter().flat_map(|group| group.iter()).all(|file| self.may_split(file)) {
            return Ok(None);
        }
        let groups = FileGroupPartitioner::new()
            .with_target_partitions(target_partitions)
            .with_repartition_file_min_size(repartition_file_min_size)
            .with_preserve_order_within_groups(output_ordering.is_some())
            .repartition_file_groups(&config.file_groups);
        Ok(groups.map(|file_groups| FileScanConfigBuilder::from(config.clone()).with_file_groups(file_groups).build()))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        datafusion::physical_plan::apply_expression_roots(self.projection.source.iter(), f)
    }
}

/// Opens one file, or a range of its lines.
struct TextOpener {
    text: TextFormat,
    columns: Vec<usize>,
    batch_size: usize,
}

impl FileOpener for TextOpener {
    fn open(&self, file: PartitionedFile) -> Result<FileOpenFuture> {
        let (text, columns, batch_size) = (self.text.clone(), self.columns.clone(), self.batch_size);
        Ok(Box::pin(async move {
            let rows = match file_rows(&text, &columns, batch_size, &file) {
                Ok(rows) => rows,
                Err(bad) => {
                    return Err(external(bad_file((&text.store, &file.object_meta), bad, None, &text.folder)));
                }
            };
            let stream = futures::stream::iter(rows).then(move |batch| {
                let (file, text, columns) = (file.clone(), text.clone(), columns.clone());
                async move {
                    match batch {
                        Ok(batch) => Ok(batch),
                        Err(bad) => Err(external(placed(bad, &text, &columns, file).await)),
                    }
                }
            });
            Ok(stream.boxed())
        }))
    }
}

fn external(error: BronzeError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// A mistake with its row and line. Where these are not known, the file is read again row by row.
async fn placed(mut bad: BadFile, text: &TextFormat, columns: &[usize], mut file: PartitionedFile) -> BronzeError {
    if bad.storage.is_some() {
        return bad_file((&text.store, &file.object_meta), bad, None, &text.folder);
    }
    let format = text.format.of_file(file.object_meta.location.as_ref());
    let is_json = format.is_some_and(|format| !format.is_delimited());
    if file.range.take().is_some() || is_json && bad.row.is_none() {
        bad.row = None;
        if let Ok(rows) = file_rows(text, columns, 1, &file) {
            let first =
                tokio::task::spawn_blocking(move || rows.enumerate().find_map(|(at, row)| Some((at + 1, row.err()?))));
            if let Ok(Some((row, found))) = first.await {
                bad = BadFile { row: Some(row), ..found };
            }
        }
    }
    // What a decoder says of a value inside of another one is its own.
    if bad.of_decoder && is_json && !text.layout.options.sensitive.is_empty() {
        bad.why = without_values(&bad.why);
    }
    let line = match bad.row {
        Some(row) => line_of(&file.object_meta, text, row),
        None => None,
    };
    bad_file((&text.store, &file.object_meta), bad, line, &text.folder)
}

fn file_rows(
    text: &TextFormat,
    columns: &[usize],
    batch_size: usize,
    file: &PartitionedFile,
) -> std::result::Result<Rows, BadFile> {
    let (store, meta) = (&text.store, &file.object_meta);
    let path = meta.location.to_string();
    let options = &text.layout.options;
    let delivered = file.extensions.get::<Delivered>().cloned().unwrap_or_default();
    let Some(format) = text.format.of_file(&path) else {
        return Err(BadFile::whole("its ending says no format: set `format`".to_owned()));
    };
    let origin = |again: Again, part: Range<u64>| {
        let Delivered { shown, path, .. } = delivered.clone();
        Origin { shown, path, format, part, again }
    };
    if let Some(records) = delivered.records.clone() {
        let none: Again = Box::new(|| Ok((Box::new(io::empty()), 0)));
        let layout = Arc::clone(&text.layout);
        return Rows::replayed(&records, origin(none, 0..u64::MAX), layout, columns, batch_size);
    }
    let (mut names, plain) = match &file.range {
        None => (None, bytes::plain(input(store, meta, 0)?, &path, options)?),
        Some(range) => {
            let range = u64::try_from(range.start).unwrap_or_default()..u64::try_from(range.end).unwrap_or_default();
            let from = range.start.saturating_sub(1);
            let mut names = None;
            if range.start > 0 && options.header && format.is_delimited() {
                let start = bytes::plain(input(store, meta, 0)?, &path, options)?;
                names = Some(header::take(start, Dialect::new(options, format))?.0);
            }
            let part = input(store, meta, from)?;
            (names, bytes::lines_of_range(part, range, options)?)
        }
    };
    let batch_size = match options.compression.of_file(&path) {
        // A record has a byte at least: for a small file there is no need of room for a large batch.
        Compression::None => batch_size.min(usize::try_from(file.object_meta.size).unwrap_or(usize::MAX)).max(1),
        _ => batch_size,
    };
    let part = file.range.as_ref().map_or(0..u64::MAX, |range| {
        u64::try_from(range.start).unwrap_or_default()..u64::try_from(range.end).unwrap_or(u64::MAX)
    });
    let again = again(store.clone(), meta.clone(), format, Arc::clone(&text.layout));
    let origin = origin(again, part);
    Rows::new(plain, origin, Arc::clone(&text.layout), columns, batch_size, names.take())
}

/// How the records of a file are read once more, one by one.
fn again(store: Store, file: ObjectMeta, format: Format, layout: Arc<Layout>) -> Again {
    const MARK: &[u8] = b"\xef\xbb\xbf";
    Box::new(move || {
        let options = &layout.options;
        let mut bytes = store.reader(&file)?;
        let mut start = Vec::new();
        bytes.by_ref().take(MARK.len() as u64).read_to_end(&mut start)?;
        bytes.rewind()?;
        let text = bytes::plain(bytes, file.location.as_ref(), options)?;
        let text: Box<dyn io::BufRead + Send> = if format == Format::Json {
            let records = Records::new(text, &options.record_path, options.max_line_bytes);
            Box::new(io::BufReader::new(records.separated_by(careful::SEPARATOR)))
        } else {
            text
        };
        Ok((text, if start == MARK { start.len() as u64 } else { 0 }))
    })
}

/// The line of a record, for a message: the file is read again up to it.
fn line_of(file: &ObjectMeta, text: &TextFormat, row: usize) -> Option<usize> {
    let path = file.location.to_string();
    let options = &text.layout.options;
    let format = text.format.of_file(&path)?;
    if !format.is_delimited() {
        // One record a line, if the file is what it should be.
        return (format == Format::Ndjson).then_some(row);
    }
    let mut plain = bytes::plain(input(&text.store, file, 0).ok()?, &path, options).ok()?;
    header::line_of(&mut plain, row, Dialect::new(options, format))
}

/// The bytes of a file, from an offset on.
fn input(store: &Store, file: &ObjectMeta, from: u64) -> io::Result<Box<dyn OpenFile>> {
    let mut bytes = store.reader(file)?;
    if from > 0 {
        bytes.seek(SeekFrom::Start(from))?;
    }
    Ok(bytes)
}

fn bad_file((store, file): (&Store, &ObjectMeta), bad: BadFile, line: Option<usize>, folder: &Path) -> BronzeError {
    let shown = store.shown(file.location.as_ref(), folder);
    if let Some(source) = bad.storage {
        return BronzeError::Unreachable { file: shown, source };
    }
    let place = match (bad.row, line) {
        (Some(row), Some(line)) if row != line => format!("line {line} (row {row}): "),
        (_, Some(line)) => format!("line {line}: "),
        (Some(row), None) => format!("record {row}: "),
        (None, None) => String::new(),
    };
    BronzeError::File { file: shown, why: format!("{place}{}", bad.why) }
}
