//! Delta tables that the lake keeps of itself: their columns, and rows of the program's as staged files.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::ReaderBuilder;
use datafusion::datasource::{MemTable, provider_as_source};
use serde::Serialize;

use super::inputs::Inputs;
use super::materialize::Failure;
use crate::names::TableName;
use crate::session::{self, Tables};
use crate::tables::{self, Staged};

/// How often a commit is tried to which other runs may be faster.
pub(super) const ATTEMPTS: usize = 100;

/// Columns that may all be NULL.
pub(super) fn columns(list: &[(&str, DataType)]) -> SchemaRef {
    let field = |(name, data_type): &(&str, DataType)| Field::new(*name, data_type.clone(), true);
    Arc::new(Schema::new(list.iter().map(field).collect::<Vec<_>>()))
}

/// Stages rows whose fields have the names of the columns.
pub(super) async fn stage<T: Serialize>(
    inputs: &Inputs,
    name: &TableName,
    columns: &SchemaRef,
    rows: &[T],
) -> Result<Staged, Failure> {
    let runtime = inputs.runtime();
    let session = &runtime.session;
    let unwritable = |error: ArrowError| Failure::text(format!("the rows of `{name}`: {error}"));
    let mut decoder = ReaderBuilder::new(Arc::clone(columns)).build_decoder().map_err(unwritable)?;
    decoder.serialize(rows).map_err(unwritable)?;
    let batches = decoder.flush().map_err(unwritable)?.into_iter().collect();
    let provider = MemTable::try_new(Arc::clone(columns), vec![batches])?;
    let mut tables = Tables::new();
    tables.insert(TableName::new("new", "rows"), provider_as_source(Arc::new(provider)));
    let plan = session::plan(session, session::parse("select * from new.rows")?, &tables)?;
    Ok(tables::stage(&runtime.lake, name, plan, columns, &[], session).await?)
}
