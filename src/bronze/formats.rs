//! Files that are read alike: which reader of DataFusion, or of [`super::text`], takes which files.

use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::arrow::ArrowFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion_datasource_avro::AvroFormat;
use object_store::{ObjectStore, ObjectStoreExt};

use super::text::{self, Layout, TextFormat};
use super::{BronzeError, BronzeFile, scan};
use crate::project::{Format, Source};

/// Files that one scan reads.
pub(super) struct Group {
    pub(super) reader: Arc<dyn FileFormat>,
    pub(super) kind: Kind,
    /// Arrow has two layouts, and a scan is of one of them.
    stream: bool,
    /// Columns that stand in the files.
    pub(super) columns: SchemaRef,
    pub(super) files: Vec<BronzeFile>,
}

/// Who reads a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Parquet,
    Avro,
    Arrow,
}

/// What the first bytes of an Arrow file are; a stream has none.
const ARROW_MAGIC: &[u8] = b"ARROW1";

fn kind(source: &Source, file: &BronzeFile, folder: &Path) -> Result<Kind, BronzeError> {
    match source.format.of_file(file.meta.location.as_ref()) {
        Some(Format::Parquet) => Ok(Kind::Parquet),
        Some(Format::Avro) => Ok(Kind::Avro),
        Some(Format::Arrow) => Ok(Kind::Arrow),
        Some(format) if format.is_text() => Ok(Kind::Text),
        _ => Err(BronzeError::File {
            file: scan::shown_file(file, folder),
            why: "its ending says no format: set the `format` of the source".to_owned(),
        }),
    }
}

/// Files by who reads them. `columns` stand in the files, without what paths say.
pub(super) async fn groups(
    source: &Source,
    columns: &SchemaRef,
    files: &[BronzeFile],
    session: &dyn Session,
    folder: &Path,
) -> Result<Vec<Group>, BronzeError> {
    let mut groups: Vec<Group> = Vec::new();
    for file in files {
        let kind = kind(source, file, folder)?;
        // Nothing in it, and no reader but that of text would take it.
        if file.meta.size == 0 && kind != Kind::Text {
            return Err(BronzeError::File { file: scan::shown_file(file, folder), why: "it is empty".to_owned() });
        }
        // Arrow's reader asks for the schema that the file has.
        let (columns, stream) = match kind {
            Kind::Arrow => (schema_of(source, file, session, folder).await?, is_stream(file, folder).await?),
            _ => (Arc::clone(columns), false),
        };
        let same = |group: &&mut Group| (group.kind, group.stream) == (kind, stream) && group.columns == columns;
        match groups.iter_mut().find(same) {
            Some(group) => group.files.push(file.clone()),
            None => {
                let reader: Arc<dyn FileFormat> = match kind {
                    Kind::Parquet => Arc::new(ParquetFormat::default()),
                    Kind::Avro => Arc::new(AvroFormat),
                    Kind::Arrow => Arc::new(ArrowFormat),
                    Kind::Text => {
                        let layout = Layout::new(source.name.to_string(), Arc::clone(&columns), source.options.clone());
                        let folder = folder.to_path_buf();
                        Arc::new(TextFormat { format: source.format, layout: Arc::new(layout), folder })
                    }
                };
                groups.push(Group { reader, kind, stream, columns, files: vec![file.clone()] });
            }
        }
    }
    Ok(groups)
}

/// The columns of one file.
pub(super) async fn schema_of(
    source: &Source,
    file: &BronzeFile,
    session: &dyn Session,
    folder: &Path,
) -> Result<SchemaRef, BronzeError> {
    let store: Arc<dyn ObjectStore> = scan::local();
    let reader: Arc<dyn FileFormat> = match kind(source, file, folder)? {
        Kind::Text if file.meta.size == 0 => return Ok(Arc::new(Schema::empty())),
        Kind::Text => {
            let schema = text::infer(&store, &file.meta, source.format, &source.options, folder).await?;
            return Ok(Arc::new(schema));
        }
        Kind::Parquet => Arc::new(ParquetFormat::default()),
        Kind::Avro => Arc::new(AvroFormat),
        Kind::Arrow => Arc::new(ArrowFormat),
    };
    let schema = reader.infer_schema(session, &store, std::slice::from_ref(&file.meta)).await;
    schema.map_err(|error| scan::bad_file(file, folder, &error))
}

async fn is_stream(file: &BronzeFile, folder: &Path) -> Result<bool, BronzeError> {
    let end = file.meta.size.min(ARROW_MAGIC.len() as u64);
    let bytes = scan::local().get_range(&file.meta.location, 0..end).await;
    let bytes =
        bytes.map_err(|error| BronzeError::File { file: scan::shown_file(file, folder), why: error.to_string() })?;
    Ok(bytes != ARROW_MAGIC)
}
