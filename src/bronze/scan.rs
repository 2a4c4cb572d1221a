//! Files -> rows with the declared columns, in the declared types.
//!
//! Columns are found by name, never by position, and a column that a file lacks is NULL.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use futures::StreamExt;
use object_store::{ObjectMeta, ObjectStoreExt};

use super::formats::{self, Group, Kind};
use super::guard::Guarded;
use super::text::{Delivered, Sample, Sink, with_row_columns};
use super::{BadRows, BronzeError, BronzeFile, Listing, file_columns, listing};
use crate::catalog;
use crate::exact_files::{ExactFiles, empty, rows_of};
use crate::project::{MetadataColumn, OnBadRow, Source};
use crate::session;
use crate::stores::Store;
use crate::words::without_values;

/// Files that inference reads the start of, at most.
const INFERRED_FILES: usize = 200;

/// The columns of a source as its files have them.
///
/// # Errors
/// A file that is not what it should be.
pub async fn infer_schema(
    source: &Source,
    listing: &Listing,
    session: &SessionState,
    folder: &Path,
) -> Result<SchemaRef, BronzeError> {
    let mut merged: BTreeMap<String, (usize, DataType)> = BTreeMap::new();
    for file in listing.files.iter().take(INFERRED_FILES) {
        let columns = match formats::schema_of(source, file, &Sample::Start, session, folder).await {
            Err(BronzeError::File { .. }) if source.options.on_bad_row == OnBadRow::Quarantine => continue,
            columns => columns?,
        };
        for field in columns.fields() {
            let at = merged.len();
            let entry = merged.entry(field.name().clone()).or_insert((at, DataType::Null));
            entry.1 = common_type(&entry.1, field.data_type());
        }
    }
    let mut columns: Vec<(usize, String, DataType)> = merged.into_iter().map(|(name, (at, t))| (at, name, t)).collect();
    columns.sort_by_key(|(at, _, _)| *at);
    let of_file = |name: &str| !file_columns::fields(source).iter().any(|field| field.name() == name);
    let fields = columns.into_iter().filter(|(_, name, _)| of_file(name));
    let fields = fields.filter_map(|(_, name, found)| Some(Field::new(name, concrete(&found)?, true)));
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

/// The type that holds values of both; text holds anything.
pub(super) fn common_type(left: &DataType, right: &DataType) -> DataType {
    use DataType::{Date32, Float32, Float64, Int64, Null, Struct, Timestamp, Utf8};
    match (left, right) {
        (a, b) if a == b => a.clone(),
        (Null, other) | (other, Null) => other.clone(),
        (a, b) if a.is_signed_integer() && b.is_signed_integer() => Int64,
        (Int64 | Float32 | Float64, Float32 | Float64) | (Float32 | Float64, Int64) => Float64,
        (Date32, moment @ Timestamp(..)) | (moment @ Timestamp(..), Date32) => moment.clone(),
        (Timestamp(_, a), Timestamp(_, b)) => Timestamp(TimeUnit::Microsecond, a.clone().or_else(|| b.clone())),
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

/// A type that columns can have, if values were seen that have one: an object without keys has none.
pub(super) fn concrete(found: &DataType) -> Option<DataType> {
    Some(match found {
        DataType::Null => DataType::Utf8,
        DataType::List(item) => DataType::List(Arc::new(Field::new(item.name(), concrete(item.data_type())?, true))),
        DataType::Struct(fields) => {
            let known = fields.iter().filter_map(|f| Some(Field::new(f.name(), concrete(f.data_type())?, true)));
            let known: Vec<Field> = known.collect();
            if known.is_empty() {
                return None;
            }
            DataType::Struct(known.into())
        }
        other => {
            let stored = catalog::stored_schema(&Schema::new(vec![Field::new("c", other.clone(), true)]));
            stored.map_or_else(|_| other.clone(), |schema| schema.field(0).data_type().clone())
        }
    })
}

/// The type of a source's column that is declared as `text`. Timestamps are microseconds, as they are stored: so they
/// reach to the year 9999.
pub(super) fn column_type(session: &SessionState, text: &str) -> Result<DataType, String> {
    Ok(match session::parse_data_type(session, text)? {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone),
        other => other,
    })
}

/// The declared columns of a source as a schema; `None` if it declares none, or not all types.
///
/// # Errors
/// The column whose type does not exist, and why.
pub fn declared_schema(source: &Source, session: &SessionState) -> Result<Option<SchemaRef>, (usize, String)> {
    let mut fields = Vec::new();
    let mut whole = !source.columns.is_empty();
    for (at, column) in source.columns.iter().enumerate() {
        let data_type = match &column.data_type {
            Some((text, _)) => column_type(session, text).map_err(|why| (at, why))?,
            // Text that nobody declared a type for is text; in other formats the files know.
            None if source.format.is_delimited() => DataType::Utf8,
            None => {
                whole = false;
                continue;
            }
        };
        fields.push(Field::new(&column.name, data_type, true));
    }
    Ok(whole.then(|| with_file_columns(source, fields)))
}

/// Columns of files, and after them what is known of each file.
pub(super) fn with_file_columns(source: &Source, mut fields: Vec<Field>) -> SchemaRef {
    fields.extend(file_columns::fields(source));
    Arc::new(Schema::new(fields))
}

/// Exactly these files as a table of `schema`. `batch` is what the column `_batch_id` says: the batch of the manifest
/// that takes them in. `bad_rows` learns of rows that do not fit, where that is no error.
///
/// # Errors
/// A file that is not what it should be.
pub async fn scan(
    source: &Source,
    schema: &SchemaRef,
    files: &[BronzeFile],
    folder: &Path,
    batch: Option<i64>,
    bad_rows: Option<&Arc<BadRows>>,
) -> Result<Arc<dyn TableProvider>, BronzeError> {
    let sink = bad_rows.map(|rows| Sink { source: source.name.clone(), rows: Arc::clone(rows) });
    let known = file_columns::fields(source);
    let of_file = |field: &&Arc<Field>| !known.iter().any(|known| known.name() == field.name());
    let columns: Vec<_> = schema.fields().iter().filter(of_file).cloned().collect();
    let columns = Arc::new(Schema::new(columns));
    let mut branches: Vec<LogicalPlan> = Vec::new();
    for group in formats::groups(source, &columns, files, folder, sink.as_ref()).await? {
        branches.push(rows_of(table(source, group, folder, batch)?, schema)?);
    }
    let mut branches = branches.into_iter();
    let Some(first) = branches.next() else { return Ok(empty(Arc::clone(schema))) };
    let plan = branches.try_fold(first, |left, right| LogicalPlanBuilder::from(left).union(right)?.build())?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}

fn table(
    source: &Source,
    group: Group,
    folder: &Path,
    batch: Option<i64>,
) -> Result<Arc<dyn TableProvider>, BronzeError> {
    let of_row: Vec<_> = source.options.metadata_columns.iter().filter(|column| column.is_of_row()).collect();
    let numbered = of_row.contains(&&MetadataColumn::RowNumber);
    let mut partitions = file_columns::fields(source);
    partitions.retain(|field| !of_row.iter().any(|column| column.name() == field.name()));
    let files: Result<Vec<PartitionedFile>, BronzeError> = group
        .files
        .iter()
        .map(|file| {
            let values: Vec<ScalarValue> = file_columns::values(source, file, folder, batch)?;
            let shown = file_columns::delivered_as(source, file, folder);
            let delivered = Delivered { shown, path: file.path.clone(), records: file.records.clone() };
            let stored = match &file.compacted {
                Some(piece) => piece.partitioned(),
                None => PartitionedFile::new_from_meta(file.meta.clone()),
            };
            Ok(stored.with_partition_values(values).with_extension(delivered))
        })
        .collect();
    let columns = match group.kind {
        Kind::Text | Kind::Compacted => with_row_columns(&group.columns, &source.options),
        _ => group.columns,
    };
    let table = ExactFiles::new(group.store, group.reader, columns, partitions, files?);
    Ok(match group.kind {
        Kind::Text => Arc::new(table),
        Kind::Parquet if numbered => file_columns::numbered(table)?,
        _ => Arc::new(Guarded(Arc::new(table))),
    })
}

/// After a query over files failed: the files that fail alone, each with its place among them and why; at most so many.
pub async fn find_culprits(
    source: &Source,
    schema: &SchemaRef,
    files: &[BronzeFile],
    session: &SessionState,
    folder: &Path,
    most: usize,
) -> Vec<(usize, BronzeError)> {
    let mut found = Vec::new();
    for (at, file) in files.iter().enumerate() {
        if found.len() == most {
            break;
        }
        let one = scan(source, schema, std::slice::from_ref(file), folder, None, None).await;
        let outcome = match one {
            Ok(table) => drain(table, session).await,
            Err(error) => {
                found.push((at, error));
                continue;
            }
        };
        // A store that does not answer says nothing of the file.
        if let Err(error) = outcome
            && !is_of_store(&error)
        {
            let bad = named_file(&error).unwrap_or_else(|| match bad_file(file, folder, &error) {
                BronzeError::File { file, why } if !source.options.sensitive.is_empty() => {
                    BronzeError::File { file, why: without_values(&why) }
                }
                other => other,
            });
            found.push((at, bad));
        }
    }
    found
}

/// Whether not a file is wrong, but the store that it is in did not answer.
fn is_of_store(error: &DataFusionError) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        let is = matches!(error.downcast_ref::<BronzeError>(), Some(BronzeError::Unreachable { .. }))
            || matches!(error.downcast_ref::<object_store::Error>(), Some(object_store::Error::Generic { store, .. }) if *store != "LocalFileSystem");
        if is {
            return true;
        }
        next = error.source();
    }
    false
}

/// The file that an error names, if a reader of text found it.
pub fn named_file(error: &DataFusionError) -> Option<BronzeError> {
    let DataFusionError::External(error) = error.find_root() else { return None };
    match error.downcast_ref::<BronzeError>()? {
        BronzeError::File { file, why } => Some(BronzeError::File { file: file.clone(), why: why.clone() }),
        _ => None,
    }
}

async fn drain(table: Arc<dyn TableProvider>, session: &SessionState) -> Result<(), DataFusionError> {
    let plan = LogicalPlanBuilder::scan("file", provider_as_source(table), None)?.build()?;
    let mut rows = session::query(session, plan).execute_stream().await?;
    while let Some(batch) = rows.next().await {
        batch?;
    }
    Ok(())
}

pub(super) fn bad_file(file: &BronzeFile, folder: &Path, error: &DataFusionError) -> BronzeError {
    let text = error.find_root().strip_backtrace();
    let first = text.lines().next().unwrap_or("cannot be read");
    let why = [
        "Arrow error: ",
        "Avro error: ",
        "Parquet error: ",
        "Parser error: ",
        "Cast error: ",
        "External: ",
        "Execution error: ",
    ]
    .iter()
    .fold(first, |text, noise| text.strip_prefix(noise).unwrap_or(text));
    BronzeError::File { file: file.shown(folder), why: why.trim_end_matches('.').to_owned() }
}

/// The first file whose stamp is no longer that of the listing: what was read of it cannot be trusted.
pub async fn first_changed<'a>(files: impl Iterator<Item = &'a BronzeFile>) -> Option<&'a BronzeFile> {
    const AT_ONCE: usize = 32;
    let files: Vec<_> = files.filter(|file| file.records.is_none()).collect();
    let look = |file: &&BronzeFile| {
        let (store, meta, is_part) = (file.store.clone(), file.stored().clone(), file.compacted.is_some());
        async move {
            let now = store.files().head(&meta.location).await;
            // A part never changes.
            now.is_ok_and(|now| now.size == meta.size && (is_part || is_same_time(&store, &meta, &now)))
        }
    };
    for some in files.chunks(AT_ONCE) {
        let same = futures::future::join_all(some.iter().map(look)).await;
        if let Some(at) = same.iter().position(|same| !same) {
            return Some(some[at]);
        }
    }
    None
}

/// Whether a file was last written when it was listed. Stores tell the time of one file in seconds, and what it is by a tag.
fn is_same_time(store: &Store, listed: &ObjectMeta, now: &ObjectMeta) -> bool {
    let now = listing::stamped(store, now.clone());
    match (&listed.e_tag, &now.e_tag) {
        (Some(listed), Some(now)) if !store.is_local() => listed == now,
        _ => listed.last_modified == now.last_modified,
    }
}
