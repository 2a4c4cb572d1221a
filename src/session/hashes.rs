//! Hashes of rows that outlive the program: whoever keeps one keeps the name of the function with it.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, LargeBinaryArray, ListArray, StringArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::Result;
use datafusion::common::hash_utils::{RandomState, create_hashes};

fn random() -> RandomState {
    RandomState::with_seed(0)
}

/// A hash of each value of a column. Values that are not the same have others, NULL among them.
///
/// # Errors
/// When values of a type cannot be hashed.
pub fn row_hashes(column: &ArrayRef) -> Result<Vec<u64>> {
    let mut hashes = vec![0; column.len()];
    create_hashes([&plain(column)?], &random(), &mut hashes)?;
    hashes.iter_mut().for_each(|hash| *hash = mix(*hash));
    Ok(hashes)
}

/// A column of its values as bytes, where they are nested: to the engine's function an empty list is NULL, and fields of
/// a struct that are NULL are not there, so that one may stand for the other.
fn plain(column: &ArrayRef) -> Result<ArrayRef> {
    if !column.data_type().is_nested() {
        return Ok(Arc::clone(column));
    }
    let converter = RowConverter::new(vec![SortField::new(column.data_type().clone())])?;
    let rows = converter.convert_columns(std::slice::from_ref(column))?;
    Ok(Arc::new(LargeBinaryArray::from_iter_values(rows.iter())))
}

/// Whether values of a type are whole numbers that stand for themselves where others stand for their hashes.
pub(super) fn is_whole(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int32 | DataType::Int64)
}

/// The numbers of a column of such a type, as their bits; NULL stays NULL.
pub(super) fn whole_numbers(column: &ArrayRef) -> UInt64Array {
    match column.data_type() {
        DataType::Int32 => column.as_primitive::<Int32Type>().unary(|value| u64::from(value.cast_unsigned())),
        _ => column.as_primitive::<Int64Type>().unary(i64::cast_unsigned),
    }
}

/// Spreads a hash over all of its bits: that of a number is not spread well (the finalizer of SplitMix64, Steele and others 2014).
pub fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// What the function makes of two values: that of another release, or of another processor, may make another of it.
pub fn hash_function() -> u64 {
    static FUNCTION: LazyLock<u64> = LazyLock::new(|| {
        let text: ArrayRef = Arc::new(StringArray::from(vec!["lake"]));
        let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1)])]));
        let hash = |value| row_hashes(value).ok().and_then(|hashes| hashes.first().copied()).unwrap_or_default();
        hash(&text).wrapping_add(mix(hash(&list)))
    });
    *FUNCTION
}
