//! Data files of a table, read by themselves, with values that each is given as a whole.

use std::collections::HashMap;

use datafusion::arrow::datatypes::{Field, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::error::DataFusionError;
use datafusion::execution::object_store::ObjectStoreUrl;
use deltalake::kernel::{Add, LogicalFileView};
use object_store::ObjectMeta;
use object_store::path::Path;
use url::Url;

use super::{Published, TableError};
use crate::exact_files::{ExactFiles, split_partitions};

/// A data file, as a log names it.
#[derive(Debug, Clone)]
pub(super) struct DataFile {
    /// Relative to the table.
    pub(super) path: String,
    size: i64,
    modified: i64,
    pub(super) partition_values: HashMap<String, Option<String>>,
    /// Statistics, as JSON (Delta protocol, "Per-file Statistics").
    pub(super) stats: Option<String>,
    /// Some of its rows are deleted, which only the log knows.
    has_deletions: bool,
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

impl Published {
    /// All data files of the version.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(super) fn files(&self) -> Result<Vec<DataFile>, TableError> {
        let fail = |source| TableError::Delta { table: self.name.clone(), source };
        Ok(self.table.snapshot().map_err(fail)?.log_data().iter().map(DataFile::from).collect())
    }
}

/// The rows of some files. After the columns of `schema` there are those of `labels`, with one value for each file.
///
/// # Errors
/// When an address does not parse, or rows of a file are deleted without being gone.
pub(super) fn files_table(
    table_url: &Url,
    files: &[DataFile],
    schema: &SchemaRef,
    partition_by: &[String],
    labels: &[Field],
    label: impl Fn(&DataFile) -> Vec<ScalarValue>,
) -> Result<ExactFiles, TableError> {
    let (columns, mut partitions) = split_partitions(schema, partition_by);
    let root = Path::from_url_path(table_url.path()).map_err(|error| DataFusionError::External(error.into()))?;
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
            location: relative.parts().fold(root.clone(), |path, part| path.join(part)),
            last_modified: chrono::DateTime::from_timestamp_millis(file.modified).unwrap_or_default(),
            size: u64::try_from(file.size).unwrap_or_default(),
            e_tag: None,
            version: None,
        };
        let value = |field: &Field| match file.partition_values.get(field.name()) {
            Some(Some(text)) if !text.is_empty() => ScalarValue::try_from_string(text.clone(), field.data_type()),
            _ => ScalarValue::try_from(field.data_type()),
        };
        let mut values: Vec<ScalarValue> = partitions.iter().map(value).collect::<Result<_, _>>()?;
        values.extend(label(file));
        found.push(PartitionedFile::new_from_meta(meta).with_partition_values(values));
    }
    partitions.extend(labels.iter().cloned());
    let store = ObjectStoreUrl::parse(&table_url[..url::Position::BeforePath])?;
    Ok(ExactFiles::new(store, std::sync::Arc::new(ParquetFormat::default()), columns, partitions, found))
}
