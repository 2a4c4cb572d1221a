//! Tables as DataFusion reads them: published versions, and tables as they will be after a publish.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::datasource::ViewTable;
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::functions::expr_fn::nullif;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use deltalake::kernel::Add;
use percent_encoding::percent_decode_str;
use url::Url;

use super::files::{DataFile, files_table};
use super::stage::collect;
use super::{Published, Staged, TableError};
use crate::catalog::holds;
use crate::exact_files::rows_of;
use crate::stores::Place;

/// Delta's column of file names, where a scan asks for it.
pub(super) const FILE_COLUMN: &str = "__lake_file";

/// Which files of a published table to read.
pub(super) enum Files<'a> {
    All,
    Only(&'a BTreeSet<String>),
}

/// A published version as a table.
///
/// # Errors
/// When its log cannot be read.
pub async fn table_provider(published: &Published) -> Result<Arc<dyn TableProvider>, TableError> {
    Ok(view(rows_of(scan(published, Files::All, false).await?, &published.schema)?))
}

/// What a protocol may ask of readers that a plain scan of Parquet files does.
const PLAIN_FEATURES: [&str; 4] = ["timestampNtz", "deletionVectors", "v2Checkpoint", "vacuumProtocolCheck"];

/// Whether the rows of a table are those of its files as they are, whatever else Delta can say of them.
fn is_plain(published: &Published, files: &[DataFile]) -> Result<bool, TableError> {
    let fail = |source| TableError::Delta { table: published.name.clone(), source };
    let snapshot = published.table.snapshot().map_err(fail)?;
    let protocol = serde_json::to_value(snapshot.protocol()).map_err(|error| fail(error.into()))?;
    let features = protocol["readerFeatures"].as_array().into_iter().flatten();
    let mut features = features.map(|feature| feature.as_str().unwrap_or_default());
    Ok(!published.maps_columns()?
        && features.all(|feature| PLAIN_FEATURES.contains(&feature))
        && files.iter().all(|file| !file.has_deletions)
        && !published.schema.fields().iter().any(|field| holds(field.data_type(), &is_map)))
}

/// Writers name what is inside of a map in several ways.
fn is_map(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Map(..))
}

/// The scan of a published table, perhaps of some files, perhaps with [`FILE_COLUMN`].
pub(super) async fn scan(
    published: &Published,
    files: Files<'_>,
    file_column: bool,
) -> Result<Arc<dyn TableProvider>, TableError> {
    let chosen = match files {
        Files::All => published.files()?,
        Files::Only(paths) => published.files_at(|path| paths.contains(path))?,
    };
    if is_plain(published, &chosen)? {
        let labels = file_column.then(|| Field::new(FILE_COLUMN, DataType::Utf8, false));
        let label = |file: &DataFile| labels.iter().map(|_| ScalarValue::from(file.path.as_str())).collect();
        let labels = labels.as_slice();
        let partition_by = published.partition_columns();
        return Ok(Arc::new(files_table(&published.place, &chosen, &published.schema, partition_by, labels, label)?));
    }
    let mut builder = published.table.table_provider();
    if let Files::Only(paths) = files {
        let root = published.table.log_store().root_url().clone();
        builder = builder.with_file_paths(paths.iter().map(|path| file_url(&root, path)));
    }
    if file_column {
        builder = builder.with_file_column(FILE_COLUMN);
    }
    Ok(builder.await?)
}

/// The address of a data file: its path may hold `%`, which an address must not carry as it is.
fn file_url(root: &Url, path: &str) -> String {
    let mut url = root.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path.split('/'));
    }
    url.into()
}

/// The table as it will be: files of the published version that stay, and staged files. This is what tests see.
///
/// # Errors
/// When the published version cannot be read.
pub async fn future_table(
    published: Option<&Published>,
    staged: &Staged,
) -> Result<Arc<dyn TableProvider>, TableError> {
    let new = staged.rows_plan()?;
    let Some(published) = published.filter(|_| !staged.replaces_all) else { return Ok(view(new)) };
    let kept: BTreeSet<String> = super::publish::file_paths(published)?.difference(&staged.removed).cloned().collect();
    if kept.is_empty() {
        return Ok(view(new));
    }
    let old = rows_of(scan(published, Files::Only(&kept), false).await?, &staged.schema)?;
    Ok(view(LogicalPlanBuilder::from(old).union(new)?.build()?))
}

/// Staged files as a table.
pub(super) fn staged_table(
    place: &Place,
    adds: &[Add],
    schema: &SchemaRef,
    partition_by: &[String],
) -> Result<Arc<dyn TableProvider>, TableError> {
    let files: Vec<DataFile> = adds.iter().map(DataFile::from).collect();
    Ok(Arc::new(files_table(place, &files, schema, partition_by, &[], |_| Vec::new())?))
}

/// Paths of the files that the rows of a scan of `candidates` with [`FILE_COLUMN`] are in.
pub(super) async fn files_of(
    published: &Published,
    rows: LogicalPlan,
    candidates: &BTreeSet<String>,
    session: &SessionState,
) -> Result<BTreeSet<String>, TableError> {
    let files = LogicalPlanBuilder::from(rows).project(vec![exact(FILE_COLUMN)])?.distinct()?.build()?;
    let root = published.table.log_store().root_url().as_str().trim_end_matches('/').to_owned() + "/";
    let mut found = BTreeSet::new();
    for batch in collect(files, session).await? {
        let names = cast(batch.column(0), &DataType::Utf8).map_err(DataFusionError::from)?;
        for name in names.as_string::<i32>().iter().flatten() {
            // A path of the log, or an absolute address.
            let path = match name.strip_prefix(&root) {
                Some(path) => percent_decode_str(path).decode_utf8_lossy(),
                None => name.into(),
            };
            let known = candidates.get(path.as_ref());
            found.insert(known.ok_or_else(|| TableError::Rows(format!("file `{name}` is not in the log")))?.clone());
        }
    }
    Ok(found)
}

/// A plan as a table.
pub(super) fn view(plan: LogicalPlan) -> Arc<dyn TableProvider> {
    Arc::new(ViewTable::new(plan, None))
}

/// A schema without dictionaries and views: the types that models are compiled with.
pub(super) fn plain(schema: &Schema) -> SchemaRef {
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|field| {
            let data_type = match field.data_type() {
                DataType::Dictionary(_, value) => value.as_ref().clone(),
                DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
                DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
                other => other.clone(),
            };
            Field::new(field.name(), data_type, true)
        })
        .collect();
    Arc::new(Schema::new(fields))
}

/// A column by its exact name.
pub(super) fn exact(name: &str) -> Expr {
    Expr::Column(datafusion::common::Column::from_name(name))
}

/// An empty text that a table is partitioned by is NULL to every reader (Delta protocol, "Partition Value Serialization"), so
/// it is to those who look at the rows before. The plan has the columns of `schema`.
///
/// # Errors
/// When it has not.
pub fn without_empty(
    plan: LogicalPlan,
    schema: &SchemaRef,
    partition_by: &[String],
) -> Result<LogicalPlan, TableError> {
    let is_text = |field: &Field| *field.data_type() == DataType::Utf8 && partition_by.contains(field.name());
    if !schema.fields().iter().any(|field| is_text(field)) {
        return Ok(plan);
    }
    let column = |field: &Arc<Field>| match is_text(field) {
        true => nullif(exact(field.name()), lit("")).alias(field.name()),
        false => exact(field.name()),
    };
    let columns: Vec<Expr> = schema.fields().iter().map(column).collect();
    Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
}

/// A name for a plan of one table; only used inside this module's joins.
pub(super) fn named(plan: LogicalPlan, alias: &str) -> Result<LogicalPlan, DataFusionError> {
    LogicalPlanBuilder::from(plan).alias(alias)?.build()
}
