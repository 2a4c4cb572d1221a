//! What a scan wants of its text files.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};

use super::lenient::Sink;
use super::values::Reading;
use crate::bronze::file_columns;
use crate::catalog::sql_type;
use crate::project::{MetadataColumn, SourceOptions};
use crate::words::shown;

/// What the rows of all files of a scan have in common.
#[derive(Debug)]
pub(in crate::bronze) struct Layout {
    /// The source, for messages.
    pub(in crate::bronze) source: String,
    /// Columns that stand in the files, with their types.
    pub(in crate::bronze) columns: SchemaRef,
    /// How each is read.
    pub(in crate::bronze) readings: Vec<Reading>,
    /// How bytes are text.
    pub(in crate::bronze) options: SourceOptions,
    /// Where rows that do not fit go.
    pub(in crate::bronze) sink: Option<Sink>,
}

impl Layout {
    /// The layout of these columns.
    pub(in crate::bronze) fn new(
        source: String,
        columns: SchemaRef,
        options: SourceOptions,
        sink: Option<Sink>,
    ) -> Self {
        let reading = |field: &Arc<Field>| Reading::new(field.name(), field.data_type(), &options);
        let readings = columns.fields().iter().map(reading).collect();
        Self { source, columns, readings, options, sink }
    }

    /// The columns, and after them what was asked for of what is known of each row.
    pub(in crate::bronze) fn schema(&self) -> SchemaRef {
        with_row_columns(&self.columns, &self.options)
    }

    pub(super) fn of_row(&self) -> impl Iterator<Item = MetadataColumn> {
        self.options.metadata_columns.iter().copied().filter(|column| column.is_of_row())
    }

    /// Whether a record's number has to be known, so that a file is read from its start.
    pub(super) fn numbers_rows(&self) -> bool {
        self.of_row().next().is_some()
    }

    /// Whether a text that is no value of its column goes into `_rescued_data`.
    pub(super) fn rescues(&self) -> bool {
        self.options.metadata_columns.contains(&MetadataColumn::RescuedData)
    }

    /// Why a text is no value of a column.
    pub(super) fn why_not(&self, field: usize, text: &str) -> String {
        let field = self.columns.field(field);
        let text = shown(text, self.options.sensitive.contains(field.name()));
        let format = self.options.columns.get(field.name()).filter(|column| !column.formats.is_empty());
        let format = format.map(|column| format!(" of the format `{}`", column.formats.join("`, `")));
        let (name, data_type) = (field.name(), sql_type(field.data_type()));
        format!("column `{name}`: `{text}` is not a {data_type}{}", format.unwrap_or_default())
    }
}

/// Columns of files, and after them what was asked for of what is known of each row.
pub(in crate::bronze) fn with_row_columns(columns: &SchemaRef, options: &SourceOptions) -> SchemaRef {
    let of_row = options.metadata_columns.iter().filter(|column| column.is_of_row());
    let of_row = of_row.map(|column| Arc::new(Field::new(column.name(), file_columns::metadata_type(*column), true)));
    Arc::new(Schema::new(columns.fields().iter().cloned().chain(of_row).collect::<Vec<_>>()))
}
