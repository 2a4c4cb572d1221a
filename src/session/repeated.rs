//! `count_repeated(a, b, ...)`: how many combinations of values stand more than once.
//!
//! It holds eight bytes a row, and not the values, so that many columns can be looked at in one scan: whole numbers stand for
//! themselves, everything else for its hash. So an answer of zero is exact, and any other may count two values that share a
//! hash: whoever asks looks closer then.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, LargeListArray, UInt64Array};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int32Type, Int64Type, UInt64Type};
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct CountRepeated {
    signature: Signature,
}

impl CountRepeated {
    pub(super) fn new() -> Self {
        Self { signature: Signature::variadic_any(Volatility::Immutable) }
    }
}

fn item() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::UInt64, false))
}

impl AggregateUDFImpl for CountRepeated {
    fn name(&self) -> &str {
        "count_repeated"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Keys { keys: Vec::new(), hashes: Vec::new(), random: RandomState::with_seed(0) }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}_keys", args.name), DataType::LargeList(item()), true))])
    }
}

/// What stands for each row so far.
struct Keys {
    keys: Vec<u64>,
    /// Of the batch at hand.
    hashes: Vec<u64>,
    random: RandomState,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.keys.len())
    }
}

impl Accumulator for Keys {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        match values {
            [one] if one.null_count() == 0 && *one.data_type() == DataType::Int64 => {
                self.keys.extend(one.as_primitive::<Int64Type>().values().iter().map(|value| value.cast_unsigned()));
            }
            [one] if one.null_count() == 0 && *one.data_type() == DataType::Int32 => {
                let values = one.as_primitive::<Int32Type>().values();
                self.keys.extend(values.iter().map(|value| u64::from(value.cast_unsigned())));
            }
            _ => {
                self.hashes.clear();
                self.hashes.resize(values[0].len(), 0);
                create_hashes(values, &self.random, &mut self.hashes)?;
                self.keys.extend_from_slice(&self.hashes);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        // The states of all partitions are sorted: this sort finds them, and merges.
        self.keys.sort();
        let repeated = self.keys.chunk_by(|a, b| a == b).filter(|same| same.len() > 1).count();
        Ok(ScalarValue::Int64(Some(i64::try_from(repeated).unwrap_or(i64::MAX))))
    }

    fn size(&self) -> usize {
        size_of_val(self) + (self.keys.capacity() + self.hashes.capacity()) * size_of::<u64>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut keys = std::mem::take(&mut self.keys);
        keys.sort_unstable();
        let offsets = OffsetBuffer::from_lengths([keys.len()]);
        let list = LargeListArray::try_new(item(), offsets, Arc::new(UInt64Array::from(keys)), None)?;
        Ok(vec![ScalarValue::LargeList(Arc::new(list))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for list in states[0].as_list::<i64>().iter().flatten() {
            self.keys.extend_from_slice(list.as_primitive::<UInt64Type>().values());
        }
        Ok(())
    }
}
