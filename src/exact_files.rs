//! A table over exactly the files it was given: nothing is listed, so a file that arrives later is not read.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Column, Result, ScalarValue, Statistics};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::datasource::{TableType, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};
use datafusion::parquet::arrow::RowNumber;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;

use crate::stores::Store;

/// Files of one format and one schema.
pub struct ExactFiles {
    store: Store,
    format: Arc<dyn FileFormat>,
    schema: TableSchema,
    files: Vec<PartitionedFile>,
    statistics: Option<Statistics>,
}

impl ExactFiles {
    /// `columns` stand in the files; `partitions` are the values of each file's own, after them.
    pub fn new(
        store: Store,
        format: Arc<dyn FileFormat>,
        columns: SchemaRef,
        partitions: Vec<Field>,
        files: Vec<PartitionedFile>,
    ) -> Self {
        let partitions: Vec<_> = partitions.into_iter().map(Arc::new).collect();
        let schema = TableSchema::builder(columns).with_table_partition_cols(partitions).build();
        Self { store, format, schema, files, statistics: None }
    }

    /// With what is known of all of the files together, by the statistics that each of them has; without any if one has
    /// none.
    ///
    /// # Errors
    /// When values of one column have several types.
    pub fn with_statistics(mut self) -> Result<Self> {
        let known: Option<Vec<&Statistics>> = self.files.iter().map(|file| file.statistics.as_deref()).collect();
        self.statistics = match known {
            Some(known) if !known.is_empty() => Some(Statistics::try_merge_iter(known, self.schema.table_schema())?),
            _ => None,
        };
        Ok(self)
    }

    /// With a column after all others that counts the rows of each file from 0: Parquet's reader knows it.
    #[must_use]
    pub fn with_row_number(mut self, name: &str) -> Self {
        let number = Field::new(name, DataType::Int64, false).with_extension_type(RowNumber);
        self.schema = TableSchema::builder(Arc::clone(self.schema.file_schema()))
            .with_table_partition_cols(self.schema.table_partition_cols().clone())
            .with_virtual_columns(vec![Arc::new(number)])
            .build();
        self
    }
}

impl fmt::Debug for ExactFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} files", self.files.len())
    }
}

#[async_trait]
impl TableProvider for ExactFiles {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.schema.table_schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if self.files.is_empty() {
            let schema = match projection {
                Some(columns) => Arc::new(self.schema().project(columns)?),
                None => self.schema(),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let groups = FileGroup::new(self.files.clone()).split_files(state.config().target_partitions());
        self.store.register(state.runtime_env());
        let config = FileScanConfigBuilder::new(self.store.address(), self.format.file_source(self.schema.clone()))
            .with_file_groups(groups)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit);
        let config = match &self.statistics {
            Some(statistics) => config.with_statistics(statistics.clone()).build(),
            None => config.build(),
        };
        self.format.create_physical_plan(state, config).await
    }
}

/// An empty table of a schema.
pub fn empty(schema: SchemaRef) -> Arc<dyn TableProvider> {
    Arc::new(datafusion::datasource::empty::EmptyTable::new(schema))
}

/// The columns of `schema` apart from `partitions`, and these.
pub fn split_partitions(schema: &Schema, partitions: &[String]) -> (SchemaRef, Vec<Field>) {
    let is_partition = |field: &&Arc<Field>| partitions.contains(field.name());
    let columns: Vec<_> = schema.fields().iter().filter(|f| !is_partition(f)).cloned().collect();
    let partitions = partitions.iter().filter_map(|name| schema.field_with_name(name).ok().cloned()).collect();
    (Arc::new(Schema::new(columns)), partitions)
}

/// The rows of a table with the columns of `schema`, found by name, in its order and types; a column that the table
/// lacks is NULL.
///
/// # Errors
/// When a value of the table can never have the type that `schema` asks for.
pub fn rows_of(table: Arc<dyn TableProvider>, schema: &Schema) -> Result<LogicalPlan> {
    let scan = LogicalPlanBuilder::scan("rows", provider_as_source(table), None)?;
    let input = Arc::clone(scan.schema());
    let columns: Vec<Expr> = schema
        .fields()
        .iter()
        .map(|field| match input.qualified_field_with_unqualified_name(field.name()) {
            Ok((qualifier, found)) => {
                let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
                match found.data_type() == field.data_type() {
                    // DataFusion 55: where a field of a struct is asked for, `rows.a as a` would be ambiguous with `rows.a`.
                    true => column,
                    false => cast(column, field.data_type().clone()).alias(field.name()),
                }
            }
            Err(_) => cast(lit(ScalarValue::Null), field.data_type().clone()).alias(field.name()),
        })
        .collect();
    scan.project(columns)?.build()
}
