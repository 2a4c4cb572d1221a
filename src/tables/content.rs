//! What the rows of a table are together, whatever their order and the files that they stand in: a table that was built
//! again and holds the same rows is told from one that does not, without a look at the old one.

use datafusion::arrow::array::RecordBatch;
use datafusion::error::DataFusionError;

use crate::session::{hash_function, mix, row_hashes};

/// Sums over the hashes of all rows. Two tables of different rows have the same with a chance of one to 2^64.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Content {
    rows: u64,
    sum: u64,
    mixed: u64,
}

impl Content {
    /// Adds rows.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<(), DataFusionError> {
        self.rows += batch.num_rows() as u64;
        for hash in row_hashes(batch.columns())? {
            self.sum = self.sum.wrapping_add(hash);
            // Rows whose hashes add up to those of others by chance do not do so a second time.
            self.mixed = self.mixed.wrapping_add(mix(hash));
        }
        Ok(())
    }

    /// The rows of both.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            sum: self.sum.wrapping_add(other.sum),
            mixed: self.mixed.wrapping_add(other.mixed),
        }
    }

    /// As it stands in a commit, with the function that made the hashes.
    pub(super) fn text(self) -> String {
        format!("{:016x}-{}-{:016x}-{:016x}", hash_function(), self.rows, self.sum, self.mixed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn batch(ids: &[i64], names: &[Option<&str>]) -> RecordBatch {
        let columns: [(&str, ArrayRef); 2] =
            [("id", Arc::new(Int64Array::from(ids.to_vec()))), ("name", Arc::new(StringArray::from(names.to_vec())))];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn of(batches: &[RecordBatch]) -> String {
        let mut content = Content::default();
        batches.iter().for_each(|batch| content.add(batch).unwrap());
        content.text()
    }

    #[test]
    fn order_and_parts_do_not_count_and_everything_else_does() {
        let whole = of(&[batch(&[1, 2, 2], &[Some("a"), None, None])]);
        assert_eq!(of(&[batch(&[2], &[None]), batch(&[2, 1], &[None, Some("a")])]), whole);
        for other in [
            batch(&[1, 2], &[Some("a"), None]),
            batch(&[1, 1, 2], &[Some("a"), Some("a"), None]),
            batch(&[1, 2, 2], &[Some("a"), None, Some("")]),
            batch(&[2, 1, 2], &[Some("a"), None, None]),
        ] {
            assert_ne!(of(&[other]), whole);
        }
        let (one, rest) = (batch(&[1], &[Some("a")]), batch(&[2, 2], &[None, None]));
        let parts = [one, rest].map(|part| {
            let mut content = Content::default();
            content.add(&part).unwrap();
            content
        });
        assert_eq!(parts[0].and(parts[1]).text(), whole);
    }
}
