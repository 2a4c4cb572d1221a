//! What did not fit of the rows of one batch: the column `_rescued_data`.

use std::collections::BTreeMap;

use datafusion::arrow::array::{ArrayRef, StringArray};
use serde_json::{Map, Value};

use crate::project::MetadataColumn;

/// Texts that no column could take, by the place of their row in the batch. Whoever finds one adds it here.
#[derive(Debug, Default)]
pub(super) struct Rescue {
    rows: BTreeMap<usize, Map<String, Value>>,
}

impl Rescue {
    /// Keeps what stood in a column of the file.
    pub(super) fn add(&mut self, row: usize, column: &str, text: &str) {
        self.rows.entry(row).or_default().insert(column.to_owned(), text.into());
    }

    /// The column: NULL where nothing was rescued, else JSON that also says where the row is from.
    pub(super) fn column(mut self, rows: usize, file: &str, number: impl Fn(usize) -> u64) -> ArrayRef {
        let cell = |row: usize| {
            let mut cell = self.rows.remove(&row)?;
            cell.insert(MetadataColumn::FilePath.name().to_owned(), file.into());
            cell.insert(MetadataColumn::RowNumber.name().to_owned(), number(row).into());
            Some(Value::Object(cell).to_string())
        };
        std::sync::Arc::new((0..rows).map(cell).collect::<StringArray>())
    }
}
