//! Conditions that the program answers while a query goes by: functions of one query, each known by a name of its own.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};

/// A function that `answer` answers with booleans, under a name that begins with `prefix` and that no other one has.
pub fn predicate(
    prefix: &str,
    signature: Signature,
    answer: impl Fn(ScalarFunctionArgs) -> Result<ColumnarValue> + Send + Sync + 'static,
) -> ScalarUDF {
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    let name = format!("{prefix}_{}", NUMBERS.fetch_add(1, Ordering::Relaxed));
    ScalarUDF::from(Predicate { name, signature, answer: Box::new(answer) })
}

struct Predicate {
    name: String,
    signature: Signature,
    answer: Box<dyn Fn(ScalarFunctionArgs) -> Result<ColumnarValue> + Send + Sync>,
}

impl fmt::Debug for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl PartialEq for Predicate {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Predicate {}

impl Hash for Predicate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Predicate {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        (self.answer)(args)
    }
}
