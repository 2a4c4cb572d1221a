//! What the rows of a table are together, whatever their order and the files that they stand in: a table that was built
//! again and holds the same rows is told from one that does not, without a look at the old one.

use std::collections::BTreeMap;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::Schema;
use datafusion::error::DataFusionError;

use crate::session::{hash_function, mix, row_hashes};

/// Sums over the hashes of all rows. Two tables of different rows have the same with a chance of one to 2^64.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Content {
    rows: u64,
    sum: u64,
    mixed: u64,
}

impl Content {
    /// Adds rows, one for each hash.
    fn add_hashes(&mut self, hashes: &[u64]) {
        const KEYS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];
        self.rows += hashes.len() as u64;
        for &hash in hashes {
            // Sums of the hashes themselves are sums of the columns: two rows that swap a value would be the same.
            // Rows whose products add up to those of others in one half do not do so in the other one.
            let product = u128::from(hash ^ KEYS[0]) * u128::from(hash.rotate_left(32) ^ KEYS[1]);
            self.sum = self.sum.wrapping_add(product as u64);
            self.mixed = self.mixed.wrapping_add(mix(hash ^ (product >> 64) as u64));
        }
    }

    /// The rows of both.
    fn and(self, other: Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            sum: self.sum.wrapping_add(other.sum),
            mixed: self.mixed.wrapping_add(other.mixed),
        }
    }

    /// As it stands in a commit, with the function that made the hashes.
    fn text(self) -> String {
        format!("{:016x}-{}-{:016x}-{:016x}", hash_function(), self.rows, self.sum, self.mixed)
    }
}

/// Sums over all columns, and over some of them for those who read no others.
#[derive(Debug, Clone, Default)]
pub(super) struct Sums {
    whole: Content,
    /// Each set of columns by their places, with its sums.
    parts: Vec<(Vec<usize>, Content)>,
}

/// Hashes of rows while column after column is added to them.
fn add_column(rows: &mut [u64], of_column: &[u64], place: usize) {
    // The order of columns counts: (1, 2) is not (2, 1).
    let weight = mix(place as u64 + 1) | 1;
    rows.iter_mut().zip(of_column).for_each(|(row, hash)| *row = row.wrapping_add(hash.wrapping_mul(weight)));
}

impl Sums {
    /// Nothing yet.
    pub(super) fn of(schema: &Schema, sets: &[Vec<String>]) -> Self {
        let places = |set: &Vec<String>| set.iter().map(|name| schema.index_of(name).ok()).collect::<Option<Vec<_>>>();
        let parts = sets.iter().filter_map(places).map(|places| (places, Content::default())).collect();
        Self { whole: Content::default(), parts }
    }

    /// Adds rows.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<(), DataFusionError> {
        let mut whole = vec![0_u64; batch.num_rows()];
        let mut parts = vec![whole.clone(); self.parts.len()];
        // Each column is hashed once, for all sets that have it.
        for (place, column) in batch.columns().iter().enumerate() {
            let hashes = row_hashes(column)?;
            add_column(&mut whole, &hashes, place);
            for ((places, _), rows) in self.parts.iter().zip(&mut parts) {
                if let Some(place) = places.iter().position(|of_set| *of_set == place) {
                    add_column(rows, &hashes, place);
                }
            }
        }
        self.whole.add_hashes(&whole);
        self.parts.iter_mut().zip(&parts).for_each(|((_, content), rows)| content.add_hashes(rows));
        Ok(())
    }

    /// The rows of both.
    pub(super) fn and(mut self, other: Self) -> Self {
        if self.parts.is_empty() {
            self.parts = other.parts.iter().map(|(places, _)| (places.clone(), Content::default())).collect();
        }
        self.whole = self.whole.and(other.whole);
        for ((_, own), (_, other)) in self.parts.iter_mut().zip(other.parts) {
            *own = own.and(other);
        }
        self
    }

    /// As they stand in a commit: those of all columns, and those of the sets by [`columns_key`].
    pub(super) fn texts(&self, schema: &Schema) -> (String, BTreeMap<String, String>) {
        let key = |places: &[usize]| {
            let names: Vec<String> = places.iter().map(|place| schema.field(*place).name().clone()).collect();
            columns_key(&names)
        };
        (self.whole.text(), self.parts.iter().map(|(places, content)| (key(places), content.text())).collect())
    }
}

/// A set of columns as it stands in a commit: a JSON list.
pub fn columns_key(columns: &[String]) -> String {
    serde_json::Value::from(columns.to_vec()).to_string()
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

    fn sums(batches: &[RecordBatch], sets: &[Vec<String>]) -> Sums {
        let mut sums = Sums::of(&batches[0].schema(), sets);
        batches.iter().for_each(|batch| sums.add(batch).unwrap());
        sums
    }

    fn of(batches: &[RecordBatch]) -> String {
        sums(batches, &[]).whole.text()
    }

    #[test]
    fn sets_of_columns_are_told_apart_from_others() {
        let sets = [vec!["id".to_owned()], vec![]];
        let texts = |batches: &[RecordBatch]| sums(batches, &sets).texts(&batches[0].schema());
        let (whole, parts) = texts(&[batch(&[1, 2], &[Some("a"), None])]);
        let (other, others) = texts(&[batch(&[2], &[Some("x")]), batch(&[1], &[None])]);
        assert_ne!(whole, other);
        assert_eq!(parts, others);
        assert_eq!(parts.keys().collect::<Vec<_>>(), ["[\"id\"]", "[]"]);
        let (_, more) = texts(&[batch(&[1, 3], &[Some("a"), None])]);
        assert!(more["[\"id\"]"] != parts["[\"id\"]"] && more["[]"] == parts["[]"]);
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
            // The same values of each column, in other rows.
            batch(&[2, 2, 1], &[Some("a"), None, None]),
        ] {
            assert_ne!(of(&[other]), whole);
        }
        let (one, rest) = (batch(&[1], &[Some("a")]), batch(&[2, 2], &[None, None]));
        assert_eq!(sums(&[one], &[]).and(sums(&[rest], &[])).whole.text(), whole);
    }
}
