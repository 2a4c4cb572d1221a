//! `count_repeated(a, b, ...)`: how many combinations of values stand more than once.
//!
//! It holds eight bytes a row, and not the values, so that many columns can be looked at in one scan: whole numbers stand for
//! themselves, everything else for its hash. So an answer of zero is exact, and any other may count two values that share a
//! hash: whoever asks looks closer then.
//!
//! Where memory has a limit, keys go to disk, sorted into heaps by their hash: what is the same is in the same heap, and one
//! heap after the other is looked through in the end.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, LargeListArray, UInt64Array};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, UInt64Type};
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::common::{Result, ScalarValue};
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};
use rayon::prelude::*;

use super::hashes::{is_whole, whole_numbers};
use super::heaps::{HEAPS, Heaps};

/// A query holds this part of the memory for the keys of one test and partition.
const SHARE: usize = 32;

/// Fewer keys are never worth a file.
const FEWEST: usize = 1 << 16;

/// Heaps that are looked through at once, each in memory then.
const HEAPS_AT_ONCE: usize = 4;

/// Keys on disk, from the moment that a partition is read until all of them are looked through.
type OnDisk = Arc<Mutex<BTreeMap<u64, Heaps>>>;

/// The function.
#[derive(Debug)]
pub(super) struct CountRepeated {
    signature: Signature,
    runtime: Arc<RuntimeEnv>,
    on_disk: OnDisk,
}

impl PartialEq for CountRepeated {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.on_disk, &other.on_disk)
    }
}

impl Eq for CountRepeated {}

impl Hash for CountRepeated {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.signature.hash(state);
    }
}

impl CountRepeated {
    pub(super) fn new(runtime: Arc<RuntimeEnv>) -> Self {
        Self { signature: Signature::variadic_any(Volatility::Immutable), runtime, on_disk: OnDisk::default() }
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
        let most = match self.runtime.memory_pool.memory_limit() {
            MemoryLimit::Finite(bytes) => (bytes / SHARE / size_of::<u64>()).max(FEWEST),
            _ => usize::MAX,
        };
        Ok(Box::new(Keys {
            keys: Vec::new(),
            most,
            heaps: Vec::new(),
            hashes: Vec::new(),
            random: RandomState::with_seed(0),
            runtime: Arc::clone(&self.runtime),
            on_disk: Arc::clone(&self.on_disk),
        }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![
            Arc::new(Field::new(format!("{}_keys", args.name), DataType::LargeList(item()), true)),
            Arc::new(Field::new(format!("{}_on_disk", args.name), DataType::UInt64, true)),
        ])
    }
}

/// What stands for each row so far.
struct Keys {
    keys: Vec<u64>,
    /// With more of them they go to disk.
    most: usize,
    heaps: Vec<Heaps>,
    /// Of the batch at hand.
    hashes: Vec<u64>,
    random: RandomState,
    runtime: Arc<RuntimeEnv>,
    on_disk: OnDisk,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.keys.len())
    }
}

impl Keys {
    fn spill_what_is_too_much(&mut self) -> Result<()> {
        if self.keys.len() < self.most {
            return Ok(());
        }
        let heaps = match self.heaps.last_mut() {
            Some(heaps) => heaps,
            None => {
                self.heaps.push(Heaps::new(&self.runtime.disk_manager)?);
                &mut self.heaps[0]
            }
        };
        heaps.add(&self.keys)?;
        self.keys.clear();
        Ok(())
    }
}

/// How many keys stand more than once.
fn repeated(keys: &mut [u64], is_almost_sorted: bool) -> usize {
    if is_almost_sorted {
        keys.sort()
    } else {
        keys.sort_unstable()
    }
    keys.chunk_by(|a, b| a == b).filter(|same| same.len() > 1).count()
}

/// How many keys on disk stand more than once: of [`HEAPS_AT_ONCE`] heaps at a time.
fn repeated_on_disk(heaps: &mut [Heaps]) -> Result<usize> {
    heaps.iter_mut().try_for_each(Heaps::finish)?;
    let counts = (0..HEAPS).into_par_iter().with_min_len(HEAPS / HEAPS_AT_ONCE).map_init(Vec::new, |keys, heap| {
        keys.clear();
        heaps.iter().try_for_each(|heaps| heaps.read(heap, keys))?;
        Ok(repeated(keys, false))
    });
    counts.sum()
}

impl Accumulator for Keys {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        match values {
            [one] if one.null_count() == 0 && is_whole(one.data_type()) => {
                self.keys.extend_from_slice(whole_numbers(one).values());
            }
            _ => {
                self.hashes.clear();
                self.hashes.resize(values[0].len(), 0);
                create_hashes(values, &self.random, &mut self.hashes)?;
                self.keys.extend_from_slice(&self.hashes);
            }
        }
        self.spill_what_is_too_much()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let count = if self.heaps.is_empty() {
            // The states of all partitions are sorted: this sort finds them, and merges.
            repeated(&mut self.keys, true)
        } else {
            if !self.keys.is_empty() {
                self.most = 0;
                self.spill_what_is_too_much()?;
            }
            repeated_on_disk(&mut self.heaps)?
        };
        Ok(ScalarValue::Int64(Some(i64::try_from(count).unwrap_or(i64::MAX))))
    }

    fn size(&self) -> usize {
        size_of_val(self) + (self.keys.capacity() + self.hashes.capacity()) * size_of::<u64>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let mut keys = std::mem::take(&mut self.keys);
        keys.sort_unstable();
        let offsets = OffsetBuffer::from_lengths([keys.len()]);
        let list = LargeListArray::try_new(item(), offsets, Arc::new(UInt64Array::from(keys)), None)?;
        let number = self.heaps.pop().map(|heaps| {
            let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
            self.on_disk.lock().unwrap_or_else(PoisonError::into_inner).insert(number, heaps);
            number
        });
        Ok(vec![ScalarValue::LargeList(Arc::new(list)), ScalarValue::UInt64(number)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for number in states[1].as_primitive::<UInt64Type>().iter().flatten() {
            let heaps = self.on_disk.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
            self.heaps.extend(heaps);
        }
        for list in states[0].as_list::<i64>().iter().flatten() {
            self.keys.extend_from_slice(list.as_primitive::<UInt64Type>().values());
            self.spill_what_is_too_much()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, RecordBatch, StringArray};
    use datafusion::arrow::datatypes::Int64Type;
    use datafusion::datasource::{MemTable, provider_as_source};
    use datafusion::logical_expr::LogicalPlanBuilder;

    use super::*;
    use crate::names::TableName;
    use crate::session::{Resources, Tables, collect, parse, plan, state};

    /// `rows` different keys, and after them the first `again` once more.
    async fn count(rows: i64, again: i64, memory: Option<usize>, columns: &str) -> i64 {
        let numbers: Vec<i64> = (0..rows).chain(0..again).collect();
        let batches = numbers.chunks(8_192).map(|some| {
            let texts: ArrayRef = Arc::new(StringArray::from_iter_values(some.iter().map(|n| format!("key {n}"))));
            let numbers: ArrayRef = Arc::new(Int64Array::from(some.to_vec()));
            RecordBatch::try_from_iter([("n", numbers), ("t", texts)]).unwrap()
        });
        let batches: Vec<RecordBatch> = batches.collect();
        let (first, second) = batches.split_at(batches.len() / 2);
        let table = MemTable::try_new(batches[0].schema(), vec![first.to_vec(), second.to_vec()]).unwrap();
        let session = state(Resources { threads: 2, memory }, None).unwrap();
        let mut tables = Tables::new();
        tables.insert(TableName::new("a", "t"), provider_as_source(Arc::new(table)));
        let sql = format!("select count_repeated({columns}) as n from a.t");
        let found = plan(&session, parse(&sql).unwrap(), &tables).unwrap();
        let found = collect(&session, LogicalPlanBuilder::from(found).build().unwrap()).await.unwrap();
        found[0].column(0).as_primitive::<Int64Type>().value(0)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn keys_on_disk_are_counted_as_those_in_memory() {
        // So little that a partition goes to disk several times, and that there is no room for all keys at once.
        for memory in [None, Some(80 << 20)] {
            for columns in ["n", "n, t"] {
                assert_eq!(count(600_000, 0, memory, columns).await, 0, "{memory:?} {columns}");
                assert_eq!(count(600_000, 17, memory, columns).await, 17, "{memory:?} {columns}");
            }
        }
    }
}
