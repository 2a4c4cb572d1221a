//! Values in the place of sensitive ones: the same for the same, in every table, so that joins still meet.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, StringArray, new_null_array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::error::DataFusionError;

use super::record::can_be_written;

/// The values seen so far, by their texts.
#[derive(Default)]
pub(super) struct Masks {
    numbers: HashMap<String, usize>,
}

impl Masks {
    /// A batch without its sensitive values.
    pub(super) fn masked(
        &mut self,
        batch: &RecordBatch,
        is_sensitive: impl Fn(&str) -> bool,
    ) -> Result<RecordBatch, DataFusionError> {
        let schema = batch.schema();
        let columns =
            schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
                if is_sensitive(field.name()) { self.column(column) } else { Arc::clone(column) }
            });
        let columns = columns.collect();
        let fields: Vec<_> = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        Ok(RecordBatch::try_new(Arc::new(datafusion::arrow::datatypes::Schema::new(fields)), columns)?)
    }

    /// `masked_1`, `1`, `2000-01-02`; NULL where a type has no such values.
    fn column(&mut self, column: &ArrayRef) -> ArrayRef {
        let null = || new_null_array(column.data_type(), column.len());
        if column.data_type().is_nested() || !can_be_written(column.data_type()) {
            return null();
        }
        let is_text = column.data_type().is_string();
        let is_time = matches!(column.data_type(), DataType::Date32 | DataType::Date64 | DataType::Timestamp(..));
        let texts: StringArray = (0..column.len())
            .map(|row| {
                let value = array_value_to_string(column, row).ok().filter(|_| !column.is_null(row))?;
                let next = self.numbers.len() + 1;
                let number = *self.numbers.entry(value).or_insert(next);
                Some(match (is_text, is_time) {
                    (true, _) => format!("masked_{number}"),
                    (_, true) => day(number),
                    _ => number.to_string(),
                })
            })
            .collect();
        match column.data_type() {
            DataType::Boolean => null(),
            data_type => cast(&texts, data_type).unwrap_or_else(|_| null()),
        }
    }
}

/// The day that is so many days after the first one of 2000.
fn day(number: usize) -> String {
    let first = chrono::NaiveDate::default() + chrono::TimeDelta::days(10_957);
    (first + chrono::TimeDelta::days(i64::try_from(number % 30_000).unwrap_or_default())).to_string()
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Date32Array, Int64Array};
    use datafusion::arrow::datatypes::{Field, Schema};

    use super::*;

    #[test]
    fn equal_values_are_equal_when_masked_and_null_stays_null() {
        let schema = Schema::new(vec![
            Field::new("email", DataType::Utf8, true),
            Field::new("n", DataType::Int64, true),
            Field::new("born", DataType::Date32, true),
        ]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![Some("a@b.c"), None, Some("a@b.c")])),
            Arc::new(Int64Array::from(vec![7, 8, 7])),
            Arc::new(Date32Array::from(vec![0, 1, 0])),
        ];
        let batch = RecordBatch::try_new(Arc::new(schema), columns).unwrap();
        let masked = Masks::default().masked(&batch, |column| column != "n").unwrap();
        let text = |column: usize, row: usize| array_value_to_string(masked.column(column), row).unwrap();
        assert_eq!([text(0, 0), text(0, 1), text(0, 2)], ["masked_1", "", "masked_1"]);
        assert_eq!([text(1, 0), text(1, 1)], ["7", "8"]);
        assert_eq!((text(2, 0), text(2, 2)), ("2000-01-03".to_owned(), "2000-01-03".to_owned()));
    }
}
