//! Rows as users write them -> Arrow: each value in the type of its column, or a word on why it is none.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray, new_null_array};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::json::ReaderBuilder;
use serde_json::Value;

use crate::catalog::sql_type;
use crate::diagnostics::{Diagnostic, Id};
use crate::project::{Cell, CellValue, RowTable};

/// Rows in the columns of `schema`. A column that is not written is NULL.
///
/// # Errors
/// A column that `whose` does not have, and every value that does not fit.
pub fn typed_rows(table: &RowTable, schema: &SchemaRef, whose: &str) -> Result<RecordBatch, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    for (name, at) in table.columns.iter().filter(|(name, _)| schema.field_with_name(name).is_err()) {
        let diagnostic = Diagnostic::error(Id::UnknownColumn, format!("{whose} has no column `{name}`"));
        let known = schema.fields().iter().map(|field| field.name().as_str());
        problems.push(diagnostic.at(table.span(*at)).suggest(name, known));
    }
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let Some(index) = table.columns.iter().position(|(name, _)| name == field.name()) else {
            columns.push(new_null_array(field.data_type(), table.rows.len()));
            continue;
        };
        let cells = table.rows.iter().map(|row| row.iter().find(|(column, _)| *column == index).map(|(_, cell)| cell));
        let cells: Vec<Option<&Cell>> = cells.collect();
        match typed_column(&cells, field) {
            Ok(column) => columns.push(column),
            Err(wrong) => problems.extend(wrong.into_iter().map(|(cell, value)| {
                let is = sql_type(field.data_type());
                let message = format!("`{value}` is no `{is}`");
                Diagnostic::error(Id::TypeMismatch, message)
                    .at(table.span(cell.at))
                    .label(format!("column `{}` of {whose} is `{is}`", field.name()))
            })),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(table.rows.len()));
    // A value that is not written is NULL, whatever the model promises of the column.
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new_with_options(schema, columns, &options)
        .map_err(|error| vec![Diagnostic::error(Id::InvalidUnitTest, format!("these rows cannot be read: {error}"))])
}

/// The one value of a cell, as a column of one row.
///
/// # Errors
/// The value in words, if it does not fit.
pub fn typed_value(cell: &Cell, data_type: &DataType) -> Result<ArrayRef, String> {
    let field = Field::new("value", data_type.clone(), true);
    typed_column(&[Some(cell)], &field).map_err(|wrong| wrong.into_iter().map(|(_, text)| text).collect())
}

type Misfits<'a> = Vec<(&'a Cell, String)>;

fn typed_column<'a>(cells: &[Option<&'a Cell>], field: &Field) -> Result<ArrayRef, Misfits<'a>> {
    match field.data_type() {
        DataType::List(_) | DataType::LargeList(_) | DataType::Struct(_) | DataType::Map(..) => nested(cells, field),
        DataType::Null => {
            let values = cells.iter().filter_map(|cell| Some((cell.as_ref()?, text_of(cell.as_ref()?)?)));
            let wrong: Misfits<'a> = values.map(|(cell, text)| (*cell, text)).collect();
            if wrong.is_empty() { Ok(new_null_array(&DataType::Null, cells.len())) } else { Err(wrong) }
        }
        data_type => plain(cells, data_type),
    }
}

/// As the engine casts texts.
fn plain<'a>(cells: &[Option<&'a Cell>], data_type: &DataType) -> Result<ArrayRef, Misfits<'a>> {
    let is_text = data_type.is_string();
    let text = |cell: &Option<&Cell>| {
        let text = text_of(cell.as_ref()?)?;
        Some(if is_text { text } else { text.trim().to_owned() })
    };
    let texts: StringArray = cells.iter().map(text).collect();
    // What cannot be cast becomes NULL, and is found by that.
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let cast = cast_with_options(&texts, data_type, &options);
    let is_wrong = |row: usize| texts.is_valid(row) && cast.as_ref().is_ok_and(|column| column.is_null(row));
    let wrong = cells.iter().enumerate().filter(|(row, _)| cast.is_err() || is_wrong(*row));
    let wrong: Misfits<'a> = wrong.filter_map(|(_, cell)| Some(((*cell)?, text_of((*cell)?)?))).collect();
    match cast {
        Ok(column) if wrong.is_empty() => Ok(column),
        Err(_) if wrong.is_empty() => Ok(new_null_array(data_type, cells.len())),
        _ => Err(wrong),
    }
}

fn text_of(cell: &Cell) -> Option<String> {
    match &cell.value {
        CellValue::Null => None,
        CellValue::Text(text) => Some(text.clone()),
        CellValue::Nested(value) => Some(value.to_string()),
    }
}

/// Lists and objects; in CSV they are JSON.
fn nested<'a>(cells: &[Option<&'a Cell>], field: &Field) -> Result<ArrayRef, Misfits<'a>> {
    let value = |cell: Option<&Cell>| match cell.map(|cell| &cell.value) {
        None | Some(CellValue::Null) => Some(Value::Null),
        Some(CellValue::Text(text)) => serde_json::from_str(text).ok(),
        Some(CellValue::Nested(value)) => Some(value.clone()),
    };
    let values: Option<Vec<Value>> = cells.iter().map(|cell| value(*cell)).collect();
    if let Some(column) = values.and_then(|values| decoded(&values, field)) {
        return Ok(column);
    }
    let fits = |cell: &&'a Cell| value(Some(cell)).and_then(|value| decoded(&[value], field)).is_some();
    let wrong = cells.iter().flatten().copied().filter(|cell| !fits(cell));
    Err(wrong.filter_map(|cell| Some((cell, text_of(cell)?))).collect())
}

fn decoded(values: &[Value], field: &Field) -> Option<ArrayRef> {
    if values.is_empty() {
        return Some(new_null_array(field.data_type(), 0));
    }
    let field = Arc::new(field.clone().with_nullable(true));
    let reader = ReaderBuilder::new_with_field(field).with_coerce_primitive(true).with_batch_size(values.len());
    let mut decoder = reader.build_decoder().ok()?;
    decoder.serialize(values).ok()?;
    decoder.flush().ok()?.map(|batch| Arc::clone(batch.column(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostics::SourceFile;

    fn table(columns: &[&str], rows: &[&[CellValue]]) -> RowTable {
        let cell = |value: &CellValue| Cell { value: value.clone(), at: (0, 1) };
        RowTable {
            file: Arc::new(SourceFile::new("x.yml", "x")),
            columns: columns.iter().map(|name| ((*name).to_owned(), (0, 1))).collect(),
            rows: rows.iter().map(|row| row.iter().map(cell).enumerate().collect()).collect(),
        }
    }

    fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
        Arc::new(Schema::new(fields.iter().map(|(name, t)| Field::new(*name, t.clone(), true)).collect::<Vec<_>>()))
    }

    #[test]
    fn values_take_the_type_of_their_column_and_absent_ones_are_null() {
        let text = |text: &str| CellValue::Text(text.to_owned());
        let list = DataType::List(Arc::new(Field::new("element", DataType::Int64, true)));
        let schema = schema(&[("n", DataType::Int64), ("at", DataType::Date32), ("list", list), ("x", DataType::Utf8)]);
        let nested = CellValue::Nested(serde_json::json!([1, 2]));
        let rows = table(
            &["at", "n", "list"],
            &[&[text("2024-01-31"), text(" 7"), nested], &[CellValue::Null, CellValue::Null, CellValue::Null]],
        );
        let batch = typed_rows(&rows, &schema, "`a`").unwrap();
        assert_eq!(batch.num_rows(), 2);
        assert_eq!(batch.column(3).null_count(), 2);
        assert!(batch.columns()[..3].iter().all(|column| column.null_count() == 1));
    }

    #[test]
    fn a_value_that_does_not_fit_and_an_unknown_column_are_told_together() {
        let schema = schema(&[("n", DataType::Int64)]);
        let rows = table(&["n", "m"], &[&[CellValue::Text("one".into()), CellValue::Null]]);
        let problems = typed_rows(&rows, &schema, "`silver.a`").unwrap_err();
        let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(messages, ["`silver.a` has no column `m`", "`one` is no `bigint`"]);
    }
}
