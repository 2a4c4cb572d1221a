//! Columns that are known of a file before it is read: parts of its path, and its metadata.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::arrow::array::StringArray;
use datafusion::arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, lit};
use object_store::path::Path as StorePath;
use percent_encoding::percent_decode_str;

use super::guard::Guarded;
use super::text::Reading;
use super::{BronzeError, BronzeFile};
use crate::catalog::utc;
use crate::exact_files::ExactFiles;
use crate::project::{AfterLoad, Format, MetadataColumn, PathColumn, PathType, Source};

/// What Hive and Spark call the folder of NULL.
const NULL_FOLDER: &str = "__HIVE_DEFAULT_PARTITION__";

/// The columns, in the order of the declaration.
pub(super) fn fields(source: &Source) -> Vec<Field> {
    let of_path = source.options.path_columns.columns.iter().map(|column| (column.name.as_str(), path_type(column)));
    let metadata = source.options.metadata_columns.iter().map(|column| (column.name(), metadata_type(*column)));
    of_path.chain(metadata).map(|(name, data_type)| Field::new(name, data_type, true)).collect()
}

fn path_type(column: &PathColumn) -> DataType {
    match column.kind {
        PathType::Text => DataType::Utf8,
        PathType::Int => DataType::Int32,
        PathType::BigInt => DataType::Int64,
        PathType::Date => DataType::Date32,
        PathType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
    }
}

pub(super) fn metadata_type(column: MetadataColumn) -> DataType {
    match column {
        MetadataColumn::FileSize | MetadataColumn::RowNumber | MetadataColumn::BatchId => DataType::Int64,
        MetadataColumn::FileModifiedAt | MetadataColumn::LoadedAt => utc(),
        MetadataColumn::FilePath | MetadataColumn::FileName | MetadataColumn::RescuedData => DataType::Utf8,
    }
}

/// The values of one file, without what each row has of its own.
pub(super) fn values(
    source: &Source,
    file: &BronzeFile,
    folder: &Path,
    batch: Option<i64>,
) -> Result<Vec<ScalarValue>, BronzeError> {
    // A store's path hides letters that addresses cannot have.
    let path = delivered(source, file);
    let path = percent_decode_str(&path).decode_utf8_lossy();
    let bad = |why: String| BronzeError::File { file: file.store.shown(&path, folder), why };
    let captures = match &source.options.path_columns.pattern {
        None => None,
        Some((regex, text)) => {
            let found = regex.captures(&path);
            Some(found.ok_or_else(|| bad(format!("its path does not fit `path_pattern: {text}`")))?)
        }
    };
    let mut group = 0;
    let mut found = Vec::new();
    for column in &source.options.path_columns.columns {
        let text = if column.in_pattern {
            group += 1;
            captures.as_ref().and_then(|captures| captures.get(group)).map(|part| part.as_str().to_owned())
        } else {
            let folder = path.rsplit('/').skip(1).find_map(|part| part.strip_prefix(&column.name)?.strip_prefix('='));
            let value = folder.ok_or_else(|| bad(format!("it is in no folder `{}=...`", column.name)))?;
            (value != NULL_FOLDER).then(|| percent_decode_str(value).decode_utf8_lossy().into_owned())
        };
        found.push(path_value(column, text).map_err(bad)?);
    }
    let metadata = source.options.metadata_columns.iter().filter(|column| !column.is_of_row());
    found.extend(metadata.map(|column| match column {
        MetadataColumn::FilePath => ScalarValue::from(delivered_as(source, file, folder).as_str()),
        MetadataColumn::FileName => ScalarValue::from(path.rsplit('/').next().unwrap_or_default()),
        MetadataColumn::BatchId => ScalarValue::Int64(batch),
        // The id of a batch is the microsecond at which it began.
        MetadataColumn::LoadedAt => ScalarValue::TimestampMicrosecond(batch, Some("UTC".into())),
        MetadataColumn::FileSize => ScalarValue::Int64(i64::try_from(file.meta.size).ok()),
        _ => ScalarValue::TimestampMicrosecond(Some(file.modified()), Some("UTC".into())),
    }));
    Ok(found)
}

/// Whether the paths of a source tell the time of its rows: a column of theirs is one of times.
pub fn has_path_time(source: &Source, column: &str) -> bool {
    let is = |known: &&PathColumn| known.name == column && matches!(known.kind, PathType::Date | PathType::Timestamp);
    source.format != Format::Delta && source.options.path_columns.columns.iter().any(|known| is(&known))
}

/// The time that the path of a file tells, in UTC; midnight of a day.
///
/// # Errors
/// When the path is not one of the source.
pub fn path_time(
    source: &Source,
    file: &BronzeFile,
    folder: &Path,
    column: &str,
) -> Result<Option<DateTime<Utc>>, BronzeError> {
    let at = source.options.path_columns.columns.iter().position(|known| known.name == column);
    let values = values(source, file, folder, None)?;
    Ok(match at.and_then(|at| values.get(at)) {
        Some(ScalarValue::Date32(Some(day))) => DateTime::from_timestamp(i64::from(*day) * 24 * 60 * 60, 0),
        Some(ScalarValue::TimestampMicrosecond(Some(micros), _)) => DateTime::from_timestamp_micros(*micros),
        _ => None,
    })
}

/// A file as users know it, by the path under which it was delivered.
pub(super) fn delivered_as(source: &Source, file: &BronzeFile, folder: &Path) -> String {
    file.store.shown(&percent_decode_str(&delivered(source, file)).decode_utf8_lossy(), folder)
}

/// Where a file was before it was archived: its columns stay as they are when it moves.
fn delivered<'a>(source: &Source, file: &'a BronzeFile) -> Cow<'a, str> {
    let path = file.meta.location.as_ref();
    let AfterLoad::Archive { to } = &source.ingestion.after_load else { return path.into() };
    let archive = file.archived.then(|| StorePath::from(to.as_str()));
    let base = archive.and_then(|archive| {
        let folder = path.strip_suffix(&file.path)?.strip_suffix('/')?;
        folder.strip_suffix(archive.as_ref())
    });
    base.map_or(path.into(), |base| format!("{base}{}", file.path).into())
}

fn path_value(column: &PathColumn, text: Option<String>) -> Result<ScalarValue, String> {
    let data_type = path_type(column);
    let reading = Reading::of_path(&data_type, column.format.as_deref());
    let shown = text.clone().unwrap_or_default();
    let values = reading.values(&StringArray::from(vec![text]));
    let value = ScalarValue::try_from_array(&values.array, 0).ok().filter(|_| values.refused.is_empty());
    value.ok_or_else(|| {
        let format = column.format.as_ref().map(|format| format!(" of the format `{format}`")).unwrap_or_default();
        format!("`{}` in its path is `{shown}`: not a {}{format}", column.name, crate::catalog::sql_type(&data_type))
    })
}

/// Parquet files with the numbers of their rows: the reader counts from 0.
///
/// # Errors
/// Never, as the column is there.
pub(super) fn numbered(table: ExactFiles) -> Result<Arc<dyn TableProvider>, BronzeError> {
    let name = MetadataColumn::RowNumber.name();
    let table = Guarded(Arc::new(table.with_row_number(name)));
    let scan = LogicalPlanBuilder::scan("rows", provider_as_source(Arc::new(table)), None)?;
    let columns: Vec<Expr> =
        scan.schema()
            .columns()
            .into_iter()
            .map(|column| {
                if column.name == name { (Expr::Column(column) + lit(1_i64)).alias(name) } else { Expr::Column(column) }
            })
            .collect();
    Ok(Arc::new(ViewTable::new(scan.project(columns)?.build()?, None)))
}
