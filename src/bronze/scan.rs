//! Files -> rows with the declared columns, in the declared types.
//!
//! Columns are found by name, never by position: delimited files are grouped by their header, and a column
//! that a file lacks is NULL.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::csv::reader::Format as CsvHeader;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::error::DataFusionError;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::{ObjectStore, ObjectStoreExt};

use super::{BronzeError, BronzeFile, Listing, formats, shown};
use crate::exact_files::{ExactFiles, empty, rows_of};
use crate::project::Source;
use crate::session;

/// Files that inference reads the start of, at most.
const INFERRED_FILES: usize = 200;
/// Bytes of a file in which its header must end.
const HEADER_BYTES: u64 = 1 << 20;
/// Files whose headers are read at once.
const HEADERS_AT_ONCE: usize = 32;

/// The columns of a source: declared, or found in its files.
///
/// # Errors
/// A type that does not exist, files that do not fit together, or no files to look at.
pub async fn infer_schema(
    source: &Source,
    listing: &Listing,
    session: &SessionState,
    folder: &Path,
) -> Result<SchemaRef, BronzeError> {
    let reader = formats::reader(source);
    let store = local();
    let mut merged: BTreeMap<String, (usize, DataType)> = BTreeMap::new();
    for file in listing.files.iter().take(INFERRED_FILES) {
        let schema = reader
            .infer_schema(session, &store, std::slice::from_ref(&file.meta))
            .await
            .map_err(|error| bad_file(file, folder, &error))?;
        for field in schema.fields() {
            let at = merged.len();
            let entry = merged.entry(field.name().clone()).or_insert((at, DataType::Null));
            entry.1 = common_type(&entry.1, field.data_type());
        }
    }
    let mut columns: Vec<(usize, String, DataType)> = merged.into_iter().map(|(name, (at, t))| (at, name, t)).collect();
    columns.sort_by_key(|(at, _, _)| *at);
    let fields = columns.into_iter().map(|(_, name, found)| {
        let data_type = if found == DataType::Null { DataType::Utf8 } else { found };
        Field::new(name, data_type, true)
    });
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

/// The type that holds values of both; text holds anything.
fn common_type(left: &DataType, right: &DataType) -> DataType {
    use DataType::{Float64, Int64, Null, Struct, Utf8};
    match (left, right) {
        (a, b) if a == b => a.clone(),
        (Null, other) | (other, Null) => other.clone(),
        (Int64, Float64) | (Float64, Int64) => Float64,
        (Struct(a), Struct(b)) => {
            let mut fields: Vec<Field> = a.iter().map(|f| f.as_ref().clone()).collect();
            for field in b {
                match fields.iter_mut().find(|f| f.name() == field.name()) {
                    Some(known) => {
                        *known = Field::new(field.name(), common_type(known.data_type(), field.data_type()), true);
                    }
                    None => fields.push(field.as_ref().clone()),
                }
            }
            Struct(fields.into())
        }
        (DataType::List(a), DataType::List(b)) => {
            let item = common_type(a.data_type(), b.data_type());
            DataType::List(Arc::new(Field::new(a.name(), item, true)))
        }
        _ => Utf8,
    }
}

/// The declared columns of a source as a schema; `None` if it declares none, or not all types.
///
/// # Errors
/// The column whose type does not exist, and why.
pub fn declared_schema(source: &Source, session: &SessionState) -> Result<Option<SchemaRef>, (usize, String)> {
    if source.columns.is_empty() {
        return Ok(None);
    }
    let mut fields = Vec::new();
    for (at, column) in source.columns.iter().enumerate() {
        let data_type = match &column.data_type {
            Some((text, _)) => session::parse_data_type(session, text).map_err(|why| (at, why))?,
            // Text that nobody declared a type for is text; in other formats the files know.
            None if source.format.is_delimited() => DataType::Utf8,
            None => return Ok(None),
        };
        fields.push(Field::new(&column.name, data_type, true));
    }
    Ok(Some(Arc::new(Schema::new(fields))))
}

/// Exactly these files as a table of `schema`.
///
/// # Errors
/// A file that is not what it should be.
pub async fn scan(
    source: &Source,
    schema: &SchemaRef,
    files: &[BronzeFile],
    folder: &Path,
) -> Result<Arc<dyn TableProvider>, BronzeError> {
    let mut branches: Vec<LogicalPlan> = Vec::new();
    for (columns, group) in groups(source, schema, files, folder).await? {
        let files = group.iter().map(|file| PartitionedFile::new_from_meta(file.meta.clone())).collect();
        let store = ObjectStoreUrl::local_filesystem();
        let table = Arc::new(ExactFiles::new(store, formats::reader(source), columns, Vec::new(), files));
        branches.push(rows_of(table, schema)?);
    }
    let mut branches = branches.into_iter();
    let Some(first) = branches.next() else { return Ok(empty(Arc::clone(schema))) };
    let plan = branches.try_fold(first, |left, right| LogicalPlanBuilder::from(left).union(right)?.build())?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}

/// Files that can be read with one schema. Only delimited files have one each: their header's.
async fn groups(
    source: &Source,
    schema: &SchemaRef,
    files: &[BronzeFile],
    folder: &Path,
) -> Result<Vec<(SchemaRef, Vec<BronzeFile>)>, BronzeError> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    if !source.format.is_delimited() {
        return Ok(vec![(Arc::clone(schema), files.to_vec())]);
    }
    if !source.options.header {
        return Ok(vec![(text_columns(schema.fields().iter().map(|f| f.name().clone())), files.to_vec())]);
    }
    let headers: Vec<(BronzeFile, Vec<String>)> = futures::stream::iter(files.iter().cloned())
        .map(|file| async move {
            let header = header(source, &file, folder).await?;
            Ok::<_, BronzeError>((file, header))
        })
        .buffered(HEADERS_AT_ONCE)
        .try_collect()
        .await?;
    let mut groups: BTreeMap<Vec<String>, Vec<BronzeFile>> = BTreeMap::new();
    for (file, header) in headers {
        if header.is_empty() {
            continue;
        }
        let header: Vec<String> = header.iter().map(|name| declared_name(name, &header, schema)).collect();
        if !header.iter().any(|name| schema.field_with_name(name).is_ok()) {
            let declared: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            return Err(BronzeError::File {
                file: shown(file.meta.location.as_ref(), folder),
                why: format!(
                    "its header `{}` names none of the columns of `{}`: {}",
                    header.join(", "),
                    source.name,
                    declared.join(", ")
                ),
            });
        }
        groups.entry(header).or_default().push(file);
    }
    Ok(groups.into_iter().map(|(header, files)| (text_columns(header), files)).collect())
}

/// The declared column that a header means: by its exact name, else by its letters in any case.
fn declared_name(name: &str, header: &[String], schema: &Schema) -> String {
    let same = |field: &&Arc<Field>| field.name().to_lowercase() == name.to_lowercase();
    let mut near = schema.fields().iter().filter(same);
    match (near.next(), near.next()) {
        (Some(only), None) if !header.contains(only.name()) => only.name().clone(),
        _ => name.to_owned(),
    }
}

fn text_columns(names: impl IntoIterator<Item = String>) -> SchemaRef {
    Arc::new(Schema::new(names.into_iter().map(|name| Field::new(name, DataType::Utf8, true)).collect::<Vec<_>>()))
}

/// The names in the first line; none if the file is empty.
async fn header(source: &Source, file: &BronzeFile, folder: &Path) -> Result<Vec<String>, BronzeError> {
    let bad = |why: String| BronzeError::File { file: shown(file.meta.location.as_ref(), folder), why };
    if file.meta.size == 0 {
        return Ok(Vec::new());
    }
    let end = file.meta.size.min(HEADER_BYTES);
    let bytes = local().get_range(&file.meta.location, 0..end).await.map_err(|error| bad(error.to_string()))?;
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
    let options = &source.options;
    let mut format = CsvHeader::default().with_header(true).with_delimiter(options.delimiter);
    if let Some(quote) = options.quote {
        format = format.with_quote(quote);
    }
    if let Some(escape) = options.escape {
        format = format.with_escape(escape);
    }
    if let Some(comment) = options.comment {
        format = format.with_comment(comment);
    }
    let (schema, _) =
        format.infer_schema(bytes, Some(0)).map_err(|error| bad(format!("its header does not parse: {error}")))?;
    let names: Vec<String> = schema.fields().iter().map(|f| f.name().trim().to_owned()).collect();
    let mut sorted = names.clone();
    sorted.sort();
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(bad(format!("its header names column `{}` twice", twice[0])));
    }
    Ok(names)
}

/// After a query over files failed: the file that fails alone, and why.
pub async fn find_culprit(
    source: &Source,
    schema: &SchemaRef,
    files: &[BronzeFile],
    session: &SessionState,
    folder: &Path,
) -> Option<BronzeError> {
    for file in files {
        let one = scan(source, schema, std::slice::from_ref(file), folder).await;
        let outcome = match one {
            Ok(table) => drain(table, session).await,
            Err(error) => return Some(error),
        };
        if let Err(error) = outcome {
            return Some(bad_file(file, folder, &error));
        }
    }
    None
}

async fn drain(table: Arc<dyn TableProvider>, session: &SessionState) -> Result<(), DataFusionError> {
    let plan = LogicalPlanBuilder::scan("file", provider_as_source(table), None)?.build()?;
    let mut rows = session::query(session, plan).execute_stream().await?;
    while let Some(batch) = rows.next().await {
        batch?;
    }
    Ok(())
}

fn bad_file(file: &BronzeFile, folder: &Path, error: &DataFusionError) -> BronzeError {
    let text = error.find_root().strip_backtrace();
    let first = text.lines().next().unwrap_or("cannot be read");
    let why = ["Arrow error: ", "Csv error: ", "Json error: ", "Parquet error: ", "Parser error: ", "Cast error: "]
        .iter()
        .fold(first, |text, noise| text.strip_prefix(noise).unwrap_or(text));
    BronzeError::File { file: shown(file.meta.location.as_ref(), folder), why: why.trim_end_matches('.').to_owned() }
}

fn local() -> Arc<dyn ObjectStore> {
    Arc::new(LocalFileSystem::new())
}

/// The first file whose stamp is no longer that of the listing: what was read of it cannot be trusted.
pub async fn first_changed<'a>(files: impl Iterator<Item = &'a BronzeFile>) -> Option<&'a BronzeFile> {
    let store = local();
    for file in files {
        let now = store.head(&file.meta.location).await;
        let same = now.is_ok_and(|now| now.size == file.meta.size && now.last_modified == file.meta.last_modified);
        if !same {
            return Some(file);
        }
    }
    None
}
