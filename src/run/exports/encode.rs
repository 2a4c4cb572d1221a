//! Rows -> bytes of a file: CSV, NDJSON, Parquet; a batch at a time.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::csv;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json;
use datafusion::arrow::json::writer::LineDelimited;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::error::Result;
use datafusion::parquet::arrow::AsyncArrowWriter;
use datafusion::parquet::file::properties::WriterProperties;
use object_store::buffered::BufWriter;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::project::{Compression, CsvLayout, ExportFormat, TextLayout};
use crate::tables;

/// Rows of a group of Parquet: they are held in memory until it is full.
const ROWS_OF_GROUP: usize = 128 << 10;
/// A group that has so many bytes is full, too.
const BYTES_OF_GROUP: usize = 64 << 20;

/// Writes the rows of one file.
pub(super) enum Encoder<'e> {
    Text(Text<'e>),
    Parquet(Box<AsyncArrowWriter<BufWriter>>),
}

/// A text file, perhaps compressed.
pub(super) struct Text<'e> {
    format: TextFormat<'e>,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    bytes: Vec<u8>,
    schema: SchemaRef,
    /// Nothing is written yet.
    is_new: bool,
}

enum TextFormat<'e> {
    Csv(&'e CsvLayout),
    Ndjson(&'e TextLayout),
}

impl<'e> Encoder<'e> {
    pub(super) fn new(format: &'e ExportFormat, schema: &SchemaRef, writer: BufWriter) -> Result<Self> {
        let format = match format {
            ExportFormat::Csv(layout) => TextFormat::Csv(layout),
            ExportFormat::Ndjson(layout) => TextFormat::Ndjson(layout),
            ExportFormat::Parquet(codec) => {
                let properties = WriterProperties::builder()
                    .set_compression(tables::compression(*codec)?)
                    .set_max_row_group_row_count(Some(ROWS_OF_GROUP))
                    .set_created_by(format!("lake {}", env!("CARGO_PKG_VERSION")))
                    .build();
                let writer = AsyncArrowWriter::try_new(writer, SchemaRef::clone(schema), Some(properties))?;
                return Ok(Self::Parquet(Box::new(writer)));
            }
        };
        let writer = format.layout().compression().convert_async_writer(writer)?;
        let (schema, bytes) = (SchemaRef::clone(schema), Vec::new());
        Ok(Self::Text(Text { format, writer, bytes, schema, is_new: true }))
    }

    pub(super) async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match self {
            Self::Text(text) => text.write(batch).await,
            Self::Parquet(writer) => {
                writer.write(batch).await?;
                if writer.in_progress_size() > BYTES_OF_GROUP {
                    writer.flush().await?;
                }
                Ok(())
            }
        }
    }

    /// The file is whole, and seen from now on.
    pub(super) async fn finish(self) -> Result<()> {
        match self {
            Self::Text(mut text) => {
                if text.is_new {
                    // No row: a header all the same.
                    let none = RecordBatch::new_empty(SchemaRef::clone(&text.schema));
                    text.write(&none).await?;
                }
                Ok(text.writer.shutdown().await?)
            }
            Self::Parquet(writer) => {
                writer.close().await?;
                Ok(())
            }
        }
    }
}

impl TextFormat<'_> {
    fn layout(&self) -> &TextLayout {
        match self {
            Self::Csv(csv) => &csv.text,
            Self::Ndjson(layout) => layout,
        }
    }
}

impl TextLayout {
    fn compression(&self) -> FileCompressionType {
        match self.compression {
            Compression::Gzip => FileCompressionType::GZIP,
            Compression::Bzip2 => FileCompressionType::BZIP2,
            Compression::Xz => FileCompressionType::XZ,
            Compression::Zstd => FileCompressionType::ZSTD,
            Compression::None | Compression::Auto => FileCompressionType::UNCOMPRESSED,
        }
    }
}

impl Text<'_> {
    async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.bytes.clear();
        let is_new = std::mem::take(&mut self.is_new);
        match &self.format {
            TextFormat::Csv(layout) => delimited(batch, layout, is_new, &mut self.bytes)?,
            TextFormat::Ndjson(layout) => lines(batch, layout, &mut self.bytes)?,
        }
        Ok(self.writer.write_all(&self.bytes).await?)
    }
}

fn delimited(batch: &RecordBatch, layout: &CsvLayout, is_new: bool, bytes: &mut Vec<u8>) -> Result<(), ArrowError> {
    let mut builder = csv::WriterBuilder::new()
        .with_header(layout.header && is_new)
        .with_delimiter(layout.delimiter)
        .with_null(layout.null_value.clone());
    if let Some(format) = &layout.text.date_format {
        builder = builder.with_date_format(format.clone());
    }
    if let Some(format) = &layout.text.timestamp_format {
        builder = builder.with_timestamp_format(format.clone()).with_timestamp_tz_format(format.clone());
    }
    builder.build(bytes).write(batch)
}

fn lines(batch: &RecordBatch, layout: &TextLayout, bytes: &mut Vec<u8>) -> Result<(), ArrowError> {
    let mut builder = json::WriterBuilder::new().with_explicit_nulls(true);
    if let Some(format) = &layout.date_format {
        builder = builder.with_date_format(format.clone());
    }
    if let Some(format) = &layout.timestamp_format {
        builder = builder.with_timestamp_format(format.clone()).with_timestamp_tz_format(format.clone());
    }
    let mut writer = builder.build::<_, LineDelimited>(bytes);
    writer.write(batch)?;
    writer.finish()
}
