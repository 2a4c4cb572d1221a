//! Files that are read alike: which reader of DataFusion, or of [`super::text`], takes which files.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::arrow::ArrowFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion_datasource_avro::AvroFormat;
use object_store::ObjectMeta;
use object_store::local::LocalFileSystem;

use super::arrow_files::{self, Checked};
use super::text::{self, Layout, Sample, Sink, TextFormat};
use super::{BronzeError, BronzeFile, guard, parquet_files, scan};
use crate::project::{Format, Source};
use crate::stores::Store;

/// Files that one scan reads.
pub(super) struct Group {
    pub(super) store: Store,
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
    /// Parquet that was made of files of any kind: it has the numbers of their rows.
    Compacted,
}

fn kind(source: &Source, file: &BronzeFile, folder: &Path) -> Result<Kind, BronzeError> {
    if file.compacted.is_some() {
        return Ok(Kind::Compacted);
    }
    match source.format.of_file(file.meta.location.as_ref()) {
        Some(Format::Parquet) => Ok(Kind::Parquet),
        Some(Format::Avro) => Ok(Kind::Avro),
        Some(Format::Arrow) => Ok(Kind::Arrow),
        Some(format) if format.is_text() => Ok(Kind::Text),
        _ => Err(BronzeError::File {
            file: file.shown(folder),
            why: "its ending says no format: set the `format` of the source".to_owned(),
        }),
    }
}

/// Files by who reads them. `columns` stand in the files, without what paths say.
pub(super) async fn groups(
    source: &Source,
    columns: &SchemaRef,
    files: &[BronzeFile],
    folder: &Path,
    sink: Option<&Sink>,
) -> Result<Vec<Group>, BronzeError> {
    check_parquet(source, files, folder).await?;
    let mut groups: Vec<Group> = Vec::new();
    for file in files {
        let kind = kind(source, file, folder)?;
        // Nothing in it, and no reader but that of text would take it.
        if file.meta.size == 0 && !matches!(kind, Kind::Text | Kind::Compacted) {
            return Err(BronzeError::File { file: file.shown(folder), why: "it is empty".to_owned() });
        }
        if let Some(piece) = &file.compacted {
            piece.check(file, columns, folder)?;
        }
        // Arrow's reader asks for the schema that the file has.
        let (columns, stream) = match kind {
            Kind::Arrow => {
                let checked = arrow(file, folder).await?;
                (checked.schema, checked.stream)
            }
            _ => (Arc::clone(columns), false),
        };
        let same = |group: &&mut Group| (group.kind, group.stream) == (kind, stream) && group.columns == columns;
        match groups.iter_mut().find(same) {
            Some(group) => group.files.push(file.clone()),
            None => {
                let reader: Arc<dyn FileFormat> = match kind {
                    Kind::Parquet | Kind::Compacted => Arc::new(parquet()),
                    Kind::Avro => Arc::new(AvroFormat),
                    Kind::Arrow => Arc::new(ArrowFormat),
                    Kind::Text => {
                        let (name, options) = (source.name.to_string(), source.options.clone());
                        let layout = Layout::new(name, Arc::clone(&columns), options, sink.cloned());
                        let (folder, store) = (folder.to_path_buf(), file.store.clone());
                        Arc::new(TextFormat { format: source.format, layout: Arc::new(layout), store, folder })
                    }
                };
                let (store, files) = (file.store.clone(), vec![file.clone()]);
                groups.push(Group { store, reader, kind, stream, columns, files });
            }
        }
    }
    Ok(groups)
}

/// The columns of one file.
pub(super) async fn schema_of(
    source: &Source,
    file: &BronzeFile,
    sample: &Sample,
    session: &dyn Session,
    folder: &Path,
) -> Result<SchemaRef, BronzeError> {
    if let Some(piece) = &file.compacted {
        return Ok(Arc::clone(&piece.part.columns));
    }
    let store = &file.store;
    let reader: Arc<dyn FileFormat> = match kind(source, file, folder)? {
        Kind::Text if file.meta.size == 0 => return Ok(Arc::new(Schema::empty())),
        Kind::Text => {
            let schema = text::infer(store, &file.meta, source.format, &source.options, sample, folder).await?;
            return Ok(Arc::new(schema));
        }
        Kind::Parquet => {
            check_pages(file, folder).await?;
            Arc::new(parquet())
        }
        Kind::Compacted => Arc::new(parquet()),
        Kind::Avro => Arc::new(AvroFormat),
        Kind::Arrow => return Ok(arrow(file, folder).await?.schema),
    };
    let schema = guard::future(reader.infer_schema(session, store.files(), std::slice::from_ref(&file.meta))).await;
    schema.map(|schema| as_text(&schema)).map_err(|error| scan::bad_file(file, folder, &error))
}

/// Reads texts as they will be stored, and Spark's times of 96 bits in the unit that Delta has.
fn parquet() -> ParquetFormat {
    ParquetFormat::default().with_force_view_types(false).with_coerce_int96(Some("us".to_owned()))
}

/// Texts and bytes in the one type that tables have, which readers give at once: to turn them into it later is a copy.
fn as_text(columns: &Schema) -> SchemaRef {
    let field = |field: &FieldRef| match field.data_type() {
        DataType::Utf8View | DataType::LargeUtf8 => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8)),
        DataType::BinaryView | DataType::LargeBinary => {
            Arc::new(field.as_ref().clone().with_data_type(DataType::Binary))
        }
        _ => Arc::clone(field),
    };
    Arc::new(Schema::new(columns.fields().iter().map(field).collect::<Vec<_>>()))
}

/// An Arrow file, checked before its reader believes it.
async fn arrow(file: &BronzeFile, folder: &Path) -> Result<Checked, BronzeError> {
    let check =
        |store: &Store, file: &ObjectMeta| arrow_files::check(store.reader(file).map_err(|error| error.to_string())?);
    checked(file, folder, check).await
}

/// Parquet files, checked before their reader believes them.
async fn check_parquet(source: &Source, files: &[BronzeFile], folder: &Path) -> Result<(), BronzeError> {
    const AT_ONCE: usize = 16;
    let is_parquet = |file: &&BronzeFile| {
        file.compacted.is_none() && source.format.of_file(file.meta.location.as_ref()) == Some(Format::Parquet)
    };
    let files: Vec<&BronzeFile> = files.iter().filter(is_parquet).filter(|file| file.meta.size > 0).collect();
    for some in files.chunks(AT_ONCE) {
        let checks = some.iter().map(|file| check_pages(file, folder));
        futures::future::try_join_all(checks).await?;
    }
    Ok(())
}

/// The headers of all pages of a Parquet file. They stand between the pages: of a file in a bucket that would be all of it,
/// so there the reader is guarded, and what it makes room for is what one header can claim.
async fn check_pages(file: &BronzeFile, folder: &Path) -> Result<(), BronzeError> {
    if !file.store.is_local() {
        return Ok(());
    }
    let check = |_: &Store, file: &ObjectMeta| {
        let path = LocalFileSystem::new().path_to_filesystem(&file.location).map_err(|error| error.to_string())?;
        parquet_files::check(File::open(path).map_err(|error| error.to_string())?)
    };
    checked(file, folder, check).await
}

async fn checked<T: Send + 'static>(
    file: &BronzeFile,
    folder: &Path,
    check: fn(&Store, &ObjectMeta) -> Result<T, String>,
) -> Result<T, BronzeError> {
    let bad = |why: String| BronzeError::File { file: file.shown(folder), why };
    let (store, meta) = (file.store.clone(), file.meta.clone());
    let checked = tokio::task::spawn_blocking(move || check(&store, &meta));
    checked.await.expect("a check does not panic").map_err(bad)
}
