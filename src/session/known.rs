//! The values of a column as a function: whether a value is one of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use datafusion::arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::common::{HashSet, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use futures::StreamExt;

use super::query;
use datafusion::logical_expr::LogicalPlan;

/// Values of a column, each once. Whole numbers stand for themselves, all others for 128 bits of hash: two values of a
/// lake share those once in more lakes than there are.
enum Values {
    Whole(HashSet<u64>),
    Hashed(HashSet<u128>),
}

/// Whether a value is in a column.
pub struct KnownValues {
    values: Values,
    reservation: MemoryReservation,
    number: u64,
    signature: Signature,
}

impl std::fmt::Debug for KnownValues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "known values {}", self.number)
    }
}

impl PartialEq for KnownValues {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for KnownValues {}

impl std::hash::Hash for KnownValues {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl KnownValues {
    /// All values of the only column of a query.
    ///
    /// # Errors
    /// The query's; also when there is not enough memory for the values.
    pub async fn read(session: &SessionState, plan: LogicalPlan) -> Result<Self> {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let data_type = plan.schema().field(0).data_type().clone();
        let whole = matches!(data_type, DataType::Int32 | DataType::Int64);
        let mut known = Self {
            values: if whole { Values::Whole(HashSet::default()) } else { Values::Hashed(HashSet::default()) },
            reservation: MemoryConsumer::new("known values").register(&session.runtime_env().memory_pool),
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            signature: Signature::exact(vec![data_type], Volatility::Immutable),
        };
        let mut rows = query(session, plan).execute_stream().await?;
        while let Some(batch) = rows.next().await {
            known.add(batch?.column(0))?;
        }
        Ok(known)
    }

    fn add(&mut self, column: &ArrayRef) -> Result<()> {
        // A table that grows is there twice for a moment.
        let room = match &mut self.values {
            Values::Whole(values) => {
                each_whole(column, |value| _ = value.map(|value| values.insert(value)));
                values.capacity() * 2 * size_of::<u64>()
            }
            Values::Hashed(values) => {
                each_hash(column, |value| _ = value.map(|value| values.insert(value)))?;
                values.capacity() * 2 * size_of::<u128>()
            }
        };
        self.reservation.try_resize(room)
    }

    /// As a SQL function: its name, and what a session registers.
    pub fn into_function(self) -> (String, ScalarUDF) {
        let name = format!("is_known_{}", self.number);
        (name.clone(), ScalarUDF::from(IsKnown { name, known: Arc::new(self) }))
    }
}

/// Whole numbers of a column, in order.
fn each_whole(column: &ArrayRef, mut see: impl FnMut(Option<u64>)) {
    match column.data_type() {
        DataType::Int32 => {
            let values = column.as_primitive::<Int32Type>();
            values.iter().for_each(|value| see(value.map(|value| u64::from(value.cast_unsigned()))));
        }
        _ => column.as_primitive::<Int64Type>().iter().for_each(|value| see(value.map(i64::cast_unsigned))),
    }
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

/// `is_known_1(value)`; NULL for NULL.
#[derive(Debug, PartialEq, Eq, Hash)]
struct IsKnown {
    name: String,
    known: Arc<KnownValues>,
}

impl ScalarUDFImpl for IsKnown {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.known.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let column = &ColumnarValue::values_to_arrays(&args.args)?[0];
        let mut answers = Vec::with_capacity(column.len());
        match &self.known.values {
            Values::Whole(values) => {
                each_whole(column, |value| answers.push(value.map(|value| values.contains(&value))))
            }
            Values::Hashed(values) => {
                each_hash(column, |value| answers.push(value.map(|value| values.contains(&value))))?;
            }
        }
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::from(answers))))
    }
}
