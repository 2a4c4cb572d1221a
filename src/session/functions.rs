//! SQL functions beside DataFusion's own.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, BooleanArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use serde::de::IgnoredAny;

/// All of them.
pub(super) fn all() -> Vec<ScalarUDF> {
    vec![ScalarUDF::from(IsJson { signature: Signature::exact(vec![DataType::Utf8], Volatility::Immutable) })]
}

/// `is_json(text)`: whether a text is a JSON value (RFC 8259); NULL for NULL.
#[derive(Debug, PartialEq, Eq, Hash)]
struct IsJson {
    signature: Signature,
}

impl ScalarUDFImpl for IsJson {
    fn name(&self) -> &str {
        "is_json"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let texts = ColumnarValue::values_to_arrays(&args.args)?;
        let is_json = |text: &str| serde_json::from_str::<IgnoredAny>(text).is_ok();
        let answers: BooleanArray = texts[0].as_string::<i32>().iter().map(|text| text.map(is_json)).collect();
        Ok(ColumnarValue::Array(Arc::new(answers) as Arc<dyn Array>))
    }
}
