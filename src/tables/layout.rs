//! How the files of a table are written, and what its log says of it beside rows.
//!
//! None of it decides a row: a change holds for new files and for the log, and rebuilds nothing.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU64;

use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use deltalake::datafile::writer::WriterConfig;
use deltalake::parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use deltalake::parquet::errors::ParquetError;
use deltalake::parquet::file::metadata::SortingColumn;
use deltalake::parquet::file::properties::WriterProperties;
use deltalake::parquet::schema::types::ColumnPath;

use super::TableError;
use super::read::exact;
use crate::project::{Codec, CodecName, property_columns};
use crate::words::quoted;

/// Bytes of a data file, unless set; more than that starts another.
const TARGET_FILE_BYTES: u64 = 128 * 1024 * 1024;

/// A writer holds a row group in memory until it is whole, and readers skip whole ones; each has dictionaries of its own, so
/// with a quarter of the rows TPC-H took a tenth longer to write and was a tenth larger.
const ROWS_OF_GROUP: usize = 1024 * 1024;

/// How a table is kept beside its rows.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    /// Columns that the rows of a write are sorted by.
    pub sort_by: Vec<String>,
    /// Columns whose near values are to stand near each other.
    pub zorder_by: Vec<String>,
    /// Bytes of a data file.
    pub target_file_size: Option<u64>,
    /// How data files are compressed.
    pub compression: Option<Codec>,
    /// Columns with a bloom filter.
    pub bloom_filter_columns: Vec<String>,
    /// Properties of the table.
    pub properties: BTreeMap<String, String>,
    /// What the table is; `None` leaves what it says.
    pub description: Option<String>,
    /// What its columns are; `None` leaves what they say.
    pub comments: Option<BTreeMap<String, String>>,
    /// An incremental write packs small files along.
    pub auto_optimize: bool,
}

impl Layout {
    /// Bytes of a data file.
    pub(super) fn target(&self) -> u64 {
        self.target_file_size.unwrap_or(TARGET_FILE_BYTES)
    }

    /// The rows of a plan in the order that they are written in: partitions one after another, so that few files are
    /// open at a time.
    pub(super) fn sorted(&self, plan: LogicalPlan, partition_by: &[String]) -> Result<LogicalPlan, DataFusionError> {
        let has = |name: &&String| plan.schema().has_column_with_unqualified_name(name);
        let columns: Vec<_> = self.sort_by.iter().filter(has).collect();
        if columns.is_empty() {
            return Ok(plan);
        }
        let order = partition_by.iter().filter(has).chain(columns).map(|name| exact(name).sort(true, false));
        let order: Vec<_> = order.collect();
        LogicalPlanBuilder::from(plan).sort(order)?.build()
    }

    /// The writer of data files with the columns of `schema`.
    pub(super) fn writer(
        &self,
        schema: &SchemaRef,
        partition_by: &[String],
        session: &SessionState,
    ) -> Result<WriterConfig, TableError> {
        let bad = |error: ParquetError| TableError::Query(error.into());
        let indexed = self.properties.get("delta.dataSkippingNumIndexedCols");
        let with_statistics = self.properties.get("delta.dataSkippingStatsColumns").map(|text| {
            // The writer reads them as SQL does.
            property_columns(text).iter().map(|name| quoted(name)).collect()
        });
        Ok(WriterConfig::new(
            schema.clone(),
            partition_by.to_vec(),
            Some(self.parquet(schema, partition_by).map_err(bad)?),
            NonZeroU64::new(self.target()),
            Some(session.config().batch_size()),
            indexed.and_then(|text| text.as_str().try_into().ok()).unwrap_or_default(),
            with_statistics,
        ))
    }

    fn parquet(&self, schema: &Schema, partition_by: &[String]) -> Result<WriterProperties, ParquetError> {
        let mut properties = WriterProperties::builder()
            .set_compression(compression(self.compression)?)
            .set_max_row_group_row_count(Some(ROWS_OF_GROUP))
            .set_created_by(format!("lake {}", env!("CARGO_PKG_VERSION")));
        for name in &self.bloom_filter_columns {
            let path = ColumnPath::new(vec![name.clone()]);
            properties = properties.set_column_bloom_filter_enabled(path, true);
        }
        let sorted = sorting_columns(schema, partition_by, &self.sort_by);
        Ok(properties.set_sorting_columns(sorted).build())
    }
}

/// A codec in the words of the Parquet library.
///
/// # Errors
/// When the codec does not have the level.
pub(crate) fn compression(codec: Option<Codec>) -> Result<Compression, ParquetError> {
    let Some(Codec { name, level }) = codec else { return Ok(Compression::ZSTD(ZstdLevel::try_new(1)?)) };
    Ok(match name {
        CodecName::Zstd => {
            Compression::ZSTD(ZstdLevel::try_new(level.and_then(|level| i32::try_from(level).ok()).unwrap_or(1))?)
        }
        CodecName::Gzip => Compression::GZIP(level.map_or(Ok(GzipLevel::default()), GzipLevel::try_new)?),
        CodecName::Brotli => Compression::BROTLI(level.map_or(Ok(BrotliLevel::default()), BrotliLevel::try_new)?),
        CodecName::Snappy => Compression::SNAPPY,
        CodecName::Lz4 => Compression::LZ4_RAW,
        CodecName::None => Compression::UNCOMPRESSED,
    })
}

/// What Parquet says of the order of rows: by the place of a column among all leaves.
fn sorting_columns(schema: &Schema, partition_by: &[String], sort_by: &[String]) -> Option<Vec<SortingColumn>> {
    let (mut places, mut leaf) = (HashMap::new(), 0);
    for field in schema.fields().iter().filter(|field| !partition_by.contains(field.name())) {
        places.insert(field.name(), leaf);
        leaf += leaves(field.data_type());
    }
    let sorted = sort_by.iter().filter_map(|name| places.get(name));
    let sorted: Vec<_> =
        sorted.map(|at| SortingColumn { column_idx: *at, descending: false, nulls_first: false }).collect();
    (!sorted.is_empty()).then_some(sorted)
}

fn leaves(data_type: &DataType) -> i32 {
    match data_type {
        DataType::Struct(fields) => fields.iter().map(|field| leaves(field.data_type())).sum(),
        DataType::List(item) | DataType::Map(item, _) => leaves(item.data_type()),
        _ => 1,
    }
}
