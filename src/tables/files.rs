//! Data files of a table, read by themselves, with values that each is given as a whole, and with what the log says of them.
//! DataFusion's own Parquet scan reads them: it knows how to order joins, prune and push filters down, and copies nothing.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::error::DataFusionError;
use deltalake::kernel::{Add, LogicalFileView};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use serde_json::Value;

use super::{Published, TableError};
use crate::exact_files::{ExactFiles, split_partitions};
use crate::stores::{self, Place};

/// Files that are looked for at once.
const AT_ONCE: usize = 16;

/// A data file, as a log names it.
#[derive(Debug, Clone)]
pub(super) struct DataFile {
    /// Relative to the table.
    pub(super) path: String,
    pub(super) size: i64,
    modified: i64,
    pub(super) partition_values: HashMap<String, Option<String>>,
    /// Statistics, as JSON (Delta protocol, "Per-file Statistics").
    pub(super) stats: Option<String>,
    /// Some of its rows are deleted, which only the log knows.
    pub(super) has_deletions: bool,
}

impl From<&Add> for DataFile {
    fn from(add: &Add) -> Self {
        Self {
            path: add.path.clone(),
            size: add.size,
            modified: add.modification_time,
            partition_values: add.partition_values.clone(),
            stats: add.stats.clone(),
            has_deletions: add.deletion_vector.is_some(),
        }
    }
}

impl From<LogicalFileView> for DataFile {
    fn from(file: LogicalFileView) -> Self {
        Self {
            path: file.path().into_owned(),
            size: file.size(),
            modified: file.modification_time(),
            partition_values: file.partition_values_map(),
            stats: file.stats(),
            has_deletions: file.deletion_vector_descriptor().is_some(),
        }
    }
}

impl DataFile {
    /// The values of the partition columns.
    fn values(&self, partitions: &[Field]) -> Result<Vec<ScalarValue>, TableError> {
        let value = |field: &Field| match self.partition_values.get(field.name()) {
            Some(Some(text)) if !text.is_empty() => ScalarValue::try_from_string(text.clone(), field.data_type()),
            _ => ScalarValue::try_from(field.data_type()),
        };
        Ok(partitions.iter().map(value).collect::<Result<_, _>>()?)
    }

    /// What the log says of its rows, in the columns of [`table_schema`].
    pub(super) fn known(
        &self,
        schema: &SchemaRef,
        partition_by: &[String],
    ) -> Result<Option<Arc<Statistics>>, TableError> {
        let (columns, partitions) = split_partitions(schema, partition_by);
        let values = self.values(&partitions)?;
        Ok(self.stats.as_deref().and_then(|stats| statistics(stats, &columns, &values)).map(Arc::new))
    }
}

/// The columns of a table as its scan has them: those that it is partitioned by are the last.
pub(super) fn table_schema(schema: &SchemaRef, partition_by: &[String]) -> SchemaRef {
    let (columns, partitions) = split_partitions(schema, partition_by);
    let fields = columns.fields().iter().cloned().chain(partitions.into_iter().map(Arc::new));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

impl Published {
    /// All data files of the version.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(super) fn files(&self) -> Result<Vec<DataFile>, TableError> {
        self.files_at(|_| true)
    }

    /// The data files of the version at some paths.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(super) fn files_at(&self, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<DataFile>, TableError> {
        let fail = |source| TableError::Delta { table: self.name.clone(), source };
        let snapshot = self.table.snapshot().map_err(fail)?;
        Ok(snapshot.log_data().iter().filter(|file| is_wanted(&file.path())).map(DataFile::from).collect())
    }

    /// Which of these files of the version are gone from the store.
    pub(super) async fn gone<'p>(&self, paths: impl Iterator<Item = &'p String>) -> Result<Vec<String>, TableError> {
        let store = self.place.files();
        let look = |path: &String| {
            let (store, path) = (Arc::clone(&store), path.clone());
            async move {
                let at = Path::parse(&path).map_err(|error| TableError::Rows(error.to_string()))?;
                match stores::if_there(store.head(&at).await) {
                    Ok(found) => Ok(found.is_none().then_some(path)),
                    Err(source) => Err(TableError::File { table: self.name.clone(), path, source }),
                }
            }
        };
        let looks = paths.map(look).collect::<Vec<_>>();
        let found: Vec<Option<String>> = stream::iter(looks).buffered(AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Whether its files may call a column by another name than the table does (Delta protocol, "Column Mapping").
    pub(super) fn maps_columns(&self) -> Result<bool, TableError> {
        let fail = |source| TableError::Delta { table: self.name.clone(), source };
        let snapshot = self.table.snapshot().map_err(fail)?;
        Ok(snapshot.metadata().configuration().get("delta.columnMapping.mode").is_some_and(|mode| mode != "none"))
    }
}

/// The rows of some files. After the columns of `schema` there are those of `labels`, with one value for each file.
///
/// # Errors
/// When an address does not parse, or rows of a file are deleted without being gone.
pub(super) fn files_table(
    place: &Place,
    files: &[DataFile],
    schema: &SchemaRef,
    partition_by: &[String],
    labels: &[Field],
    label: impl Fn(&DataFile) -> Vec<ScalarValue>,
) -> Result<ExactFiles, TableError> {
    let (columns, mut partitions) = split_partitions(schema, partition_by);
    let mut found = Vec::with_capacity(files.len());
    for file in files {
        if file.has_deletions {
            return Err(TableError::Rows(format!(
                "`{}` has deletion vectors, which another program wrote: let that program rewrite its files first",
                file.path
            )));
        }
        let relative = Path::parse(&file.path).map_err(|error| DataFusionError::External(error.into()))?;
        let meta = ObjectMeta {
            location: place.join(&relative),
            last_modified: chrono::DateTime::from_timestamp_millis(file.modified).unwrap_or_default(),
            size: u64::try_from(file.size).unwrap_or_default(),
            e_tag: None,
            version: None,
        };
        let mut values = file.values(&partitions)?;
        values.extend(label(file));
        let statistics = file.stats.as_deref().and_then(|stats| statistics(stats, &columns, &values));
        let mut file = PartitionedFile::new_from_meta(meta).with_partition_values(values);
        file.statistics = statistics.map(Arc::new);
        found.push(file);
    }
    partitions.extend(labels.iter().cloned());
    let store = place.store.clone();
    // Spark's times of 96 bits, in the unit that Delta has.
    let format = ParquetFormat::default().with_coerce_int96(Some("us".to_owned()));
    Ok(ExactFiles::new(store, Arc::new(format), columns, partitions, found).with_statistics()?)
}

/// What the log says of the rows of a file (Delta protocol, "Per-file Statistics"), and of the values that all of them
/// have. Counts and the bounds of whole numbers, dates and truth values are exact; others may be rounded, so they are left out.
fn statistics(stats: &str, columns: &SchemaRef, labels: &[ScalarValue]) -> Option<Statistics> {
    let stats: Value = serde_json::from_str(stats).ok()?;
    let rows = usize::try_from(stats["numRecords"].as_u64()?).ok()?;
    // After deletes by another program the bounds are those of before.
    let is_tight = stats["tightBounds"].as_bool() != Some(false);
    let bound = |key: &str, field: &Field| {
        let exact = field.data_type().is_integer() || matches!(field.data_type(), DataType::Date32 | DataType::Boolean);
        let value = match &stats[key][field.name()] {
            Value::String(text) => text.clone(),
            value @ (Value::Number(_) | Value::Bool(_)) => value.to_string(),
            _ => return Precision::Absent,
        };
        match ScalarValue::try_from_string(value, field.data_type()) {
            Ok(value) if exact && is_tight => Precision::Exact(value),
            _ => Precision::Absent,
        }
    };
    let of_column = |field: &Arc<Field>| {
        let nulls = stats["nullCount"][field.name()].as_u64().and_then(|nulls| usize::try_from(nulls).ok());
        ColumnStatistics {
            null_count: nulls.map_or(Precision::Absent, Precision::Exact),
            min_value: bound("minValues", field),
            max_value: bound("maxValues", field),
            ..ColumnStatistics::new_unknown()
        }
    };
    let of_label = |value: &ScalarValue| {
        let known = |value: &ScalarValue| match value.is_null() {
            true => Precision::Absent,
            false => Precision::Exact(value.clone()),
        };
        ColumnStatistics {
            null_count: Precision::Exact(if value.is_null() { rows } else { 0 }),
            min_value: known(value),
            max_value: known(value),
            ..ColumnStatistics::new_unknown()
        }
    };
    Some(Statistics {
        num_rows: Precision::Exact(rows),
        total_byte_size: Precision::Absent,
        column_statistics: columns.fields().iter().map(of_column).chain(labels.iter().map(of_label)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::Schema;

    #[test]
    fn only_what_is_exact_is_said_of_a_file() {
        let field = |name, data_type| Field::new(name, data_type, true);
        let columns = Arc::new(Schema::new(vec![
            field("id", DataType::Int64),
            field("day", DataType::Date32),
            field("name", DataType::Utf8),
            field("later", DataType::Int32),
        ]));
        let stats = r#"{"numRecords":3,"minValues":{"id":-2,"day":"2026-01-01","name":"a"},
            "maxValues":{"id":7,"day":"2026-01-03","name":"z"},"nullCount":{"id":1,"day":0,"name":2}}"#;
        let found = statistics(stats, &columns, &[ScalarValue::Int32(None), ScalarValue::from("x")]).unwrap();
        assert_eq!(found.num_rows, Precision::Exact(3));
        let [id, day, name, later, none, label] = found.column_statistics.as_slice() else { panic!("{found:?}") };
        assert_eq!(
            (&id.min_value, &id.null_count),
            (&Precision::Exact(ScalarValue::from(-2i64)), &Precision::Exact(1))
        );
        assert_eq!(day.max_value, Precision::Exact(ScalarValue::Date32(Some(20_456))));
        assert_eq!((&name.min_value, &name.null_count), (&Precision::Absent, &Precision::Exact(2)));
        assert_eq!(later.null_count, Precision::Absent);
        assert_eq!((&none.min_value, &none.null_count), (&Precision::Absent, &Precision::Exact(3)));
        assert_eq!(
            (&label.max_value, &label.null_count),
            (&Precision::Exact(ScalarValue::from("x")), &Precision::Exact(0))
        );
        let loose = stats.replace("{\"numRecords", "{\"tightBounds\":false,\"numRecords");
        let found = statistics(&loose, &columns, &[]).unwrap();
        assert_eq!(found.column_statistics[0].min_value, Precision::Absent);
        assert!(statistics("{}", &columns, &[]).is_none());
    }
}
