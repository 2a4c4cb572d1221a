//! The values of a column as a function: whether a value is one of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::filter;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::common::{HashSet, Result, ScalarValue};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{ColumnarValue, LogicalPlan, ScalarUDF, Signature, Volatility};
use futures::StreamExt;
use roaring::RoaringTreemap;

use super::hashes::{is_whole, whole_numbers};
use super::predicate::predicate;
use super::query;

/// Values of a column, each once. Whole numbers stand for themselves, all others for 128 bits of hash: two values of a
/// lake share those once in more lakes than there are.
enum Values {
    /// A bit for a number, where they are near each other, as numbers of keys are: a hundredth of what a table of them takes.
    Dense(RoaringTreemap),
    Whole(HashSet<u64>),
    Hashed(HashSet<u128>),
}

/// A bit for every number from the least to the greatest: a look at one of them is a look at one place.
struct Span {
    least: u64,
    bits: BooleanBuffer,
}

impl Span {
    fn contains(&self, value: u64) -> bool {
        // What is less is far above once it wraps.
        let at = value.wrapping_sub(self.least);
        at < self.bits.len() as u64 && self.bits.value(at as usize)
    }
}

/// Parts of four billion numbers each that a set of bits may have. With more of them the numbers are far from each other.
const DENSE_PARTS: usize = 1024;

/// Numbers between the least and the greatest for each value, from where on a bit for every one of them is too much.
const SPAN_OF_A_VALUE: u64 = 64;

/// Batches after which the room of a set of bits is measured again: it takes as long as a look at all of its parts.
const MEASURED_EVERY: usize = 64;

/// Values of a column, as they come.
pub struct KnownValues {
    values: Values,
    reservation: MemoryReservation,
    batches: usize,
    data_type: DataType,
}

impl KnownValues {
    /// All values of the only column of a query.
    ///
    /// # Errors
    /// The query's; also when there is not enough memory for the values.
    pub async fn read(session: &SessionState, plan: LogicalPlan) -> Result<Self> {
        let mut known = Self::none(session, plan.schema().field(0).data_type().clone());
        let mut rows = query(session, plan).execute_stream().await?;
        while let Some(batch) = rows.next().await {
            known.add(batch?.column(0))?;
        }
        Ok(known)
    }

    /// No value yet, of this type.
    fn none(session: &SessionState, data_type: DataType) -> Self {
        let whole = is_whole(&data_type);
        Self {
            values: if whole { Values::Dense(RoaringTreemap::new()) } else { Values::Hashed(HashSet::default()) },
            batches: 0,
            reservation: MemoryConsumer::new("known values").register(&session.runtime_env().memory_pool),
            data_type,
        }
    }

    fn add(&mut self, column: &ArrayRef) -> Result<()> {
        self.batches += 1;
        if let Values::Dense(values) = &self.values
            && values.bitmaps().count() > DENSE_PARTS
        {
            self.values = Values::Whole(values.iter().collect());
        }
        // A table that grows is there twice for a moment.
        let room = match &mut self.values {
            Values::Dense(values) => {
                values.extend(whole_numbers(column).iter().flatten());
                if !self.batches.is_multiple_of(MEASURED_EVERY) {
                    return Ok(());
                }
                2 * values.serialized_size()
            }
            Values::Whole(values) => {
                values.extend(whole_numbers(column).iter().flatten());
                values.capacity() * 2 * size_of::<u64>()
            }
            Values::Hashed(values) => {
                each_hash(column, |value| _ = value.map(|value| values.insert(value)))?;
                values.capacity() * 2 * size_of::<u128>()
            }
        };
        self.reservation.try_resize(room)
    }

    /// Whether a value is one of them, as a SQL function, which is NULL for NULL.
    pub fn into_function(mut self) -> ScalarUDF {
        let signature = Signature::exact(vec![self.data_type.clone()], Volatility::Immutable);
        let span = self.span();
        predicate("is_known", signature, move |args| {
            let arguments = ColumnarValue::values_to_arrays(&args.args)?;
            let answers = match &span {
                Some(span) => whole_answers(&arguments[0], |value| span.contains(value)),
                None => self.answers(&arguments[0])?,
            };
            Ok(ColumnarValue::Array(Arc::new(answers)))
        })
    }

    /// A bit for each number of their span instead of the values, where it is small and there is memory for it. It is
    /// for when all are known.
    fn span(&mut self) -> Option<Span> {
        let Values::Dense(values) = &mut self.values else { return None };
        let (least, greatest) = (values.min()?, values.max()?);
        let span = greatest - least;
        let length = usize::try_from(span).ok()?;
        if span / SPAN_OF_A_VALUE >= values.len() || self.reservation.try_grow(length / 8).is_err() {
            return None;
        }
        let mut bits = BooleanBufferBuilder::new(length + 1);
        bits.append_n(length + 1, false);
        for value in std::mem::take(values) {
            bits.set_bit((value - least) as usize, true);
        }
        self.reservation.resize(length / 8);
        Some(Span { least, bits: bits.finish() })
    }

    /// Whether each value of a column is one of them; NULL for NULL.
    fn answers(&self, column: &ArrayRef) -> Result<BooleanArray> {
        Ok(match &self.values {
            Values::Dense(values) => whole_answers(column, |value| values.contains(value)),
            Values::Whole(values) => whole_answers(column, |value| values.contains(&value)),
            Values::Hashed(values) => {
                let mut answers = Vec::with_capacity(column.len());
                each_hash(column, |value| answers.push(value.map(|value| values.contains(&value))))?;
                BooleanArray::from(answers)
            }
        })
    }
}

/// Values that are kept of a column while a query goes by that is about something else.
#[derive(Clone)]
pub struct Gathering(Arc<Mutex<Option<KnownValues>>>);

impl Gathering {
    /// Of a column of this type.
    pub fn new(session: &SessionState, data_type: DataType) -> Self {
        Self(Arc::new(Mutex::new(Some(KnownValues::none(session, data_type)))))
    }

    /// As a SQL function of a value and whether it counts, which is true.
    pub fn function(&self) -> ScalarUDF {
        let gathering = self.clone();
        let data_type = self.values().as_ref().map(|known| known.data_type.clone());
        let arguments = data_type.into_iter().chain([DataType::Boolean]).collect();
        let signature = Signature::exact(arguments, Volatility::Volatile);
        predicate("gather", signature, move |args| {
            let arguments = ColumnarValue::values_to_arrays(&args.args)?;
            let column = filter(&arguments[0], arguments[1].as_boolean())?;
            if let Some(known) = gathering.values().as_mut() {
                known.add(&column)?;
            }
            Ok(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))))
        })
    }

    fn values(&self) -> MutexGuard<'_, Option<KnownValues>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was gathered, once the query is over.
    pub fn gathered(self) -> Option<KnownValues> {
        self.values().take()
    }
}

/// Whether each whole number of a column is one of some; NULL for NULL.
fn whole_answers(column: &ArrayRef, has: impl Fn(u64) -> bool) -> BooleanArray {
    BooleanArray::from_unary(&whole_numbers(column), has)
}

/// Hashes of a column, in order.
fn each_hash(column: &ArrayRef, mut see: impl FnMut(Option<u128>)) -> Result<()> {
    let half = |seed: u64| -> Result<Vec<u64>> {
        let mut hashes = vec![0; column.len()];
        create_hashes([column], &RandomState::with_seed(seed), &mut hashes)?;
        Ok(hashes)
    };
    for (at, (a, b)) in half(0x5bd1_e995)?.into_iter().zip(half(0x9e37_79b9_7f4a_7c15)?).enumerate() {
        see((!column.is_null(at)).then(|| u128::from(a) << 64 | u128::from(b)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use datafusion::datasource::{MemTable, provider_as_source};
    use datafusion::logical_expr::LogicalPlanBuilder;

    use super::*;
    use crate::session::{Resources, state};

    async fn known(values: Vec<i64>) -> KnownValues {
        let column: ArrayRef = Arc::new(Int64Array::from(values));
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let table = MemTable::try_new(batch.schema(), vec![vec![batch.clone(), batch]]).unwrap();
        let plan = LogicalPlanBuilder::scan("t", provider_as_source(Arc::new(table)), None).unwrap().build().unwrap();
        let session = state(Resources { threads: 1, memory: Some(64 << 20) }, None).unwrap();
        KnownValues::read(&session, plan).await.unwrap()
    }

    #[tokio::test]
    async fn numbers_near_each_other_and_far_apart_are_told_alike() {
        let far = |at: i64| at.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed());
        let kinds: [(Vec<i64>, &str); 5] = [
            ((5..4_000).collect(), "span"),
            ((0..4_000).map(|at| at * 1_000 - 7).collect(), "dense"),
            ((-2_000..2_000).collect(), "dense"),
            ((0..4_000).map(far).collect(), "whole"),
            (Vec::new(), "dense"),
        ];
        for (values, kind) in kinds {
            let mut known = known(values.clone()).await;
            let span = known.span();
            let found = match (&span, &known.values) {
                (Some(_), _) => "span",
                (None, Values::Dense(_)) => "dense",
                (None, Values::Whole(_)) => "whole",
                (None, Values::Hashed(_)) => "hashed",
            };
            assert_eq!(found, kind);
            let edges = [Some(i64::MAX), Some(i64::MIN), Some(4), Some(4_000), Some(5_000_000), Some(-1), None];
            let asked: Vec<Option<i64>> = values.iter().copied().map(Some).chain(edges).collect();
            let truth: BTreeSet<i64> = values.into_iter().collect();
            let expected: Vec<Option<bool>> =
                asked.iter().map(|value| value.map(|value| truth.contains(&value))).collect();
            let column: ArrayRef = Arc::new(Int64Array::from(asked));
            let answers = span.map_or_else(
                || known.answers(&column).unwrap(),
                |span| whole_answers(&column, |value| span.contains(value)),
            );
            assert_eq!(answers, BooleanArray::from(expected), "{kind}");
        }
    }
}
