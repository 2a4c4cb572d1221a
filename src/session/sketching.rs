//! `column_sketch(x)`: the [`Sketch`] of a column, as JSON.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};

use super::sketch::Sketch;

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ColumnSketch {
    signature: Signature,
}

impl ColumnSketch {
    pub(super) fn new() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for ColumnSketch {
    fn name(&self) -> &str {
        "column_sketch"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Sketching(Sketch::default())))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}_sketch", args.name), DataType::Utf8, true))])
    }
}

#[derive(Debug)]
struct Sketching(Sketch);

impl Sketching {
    fn text(&self) -> Result<ScalarValue> {
        let text = serde_json::to_string(&self.0).map_err(|error| DataFusionError::External(error.into()))?;
        Ok(ScalarValue::Utf8(Some(text)))
    }
}

impl Accumulator for Sketching {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.update(&values[0])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.text()
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.0.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.text()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for text in states[0].as_string::<i32>().iter().flatten() {
            let other = serde_json::from_str(text).map_err(|error| DataFusionError::External(error.into()))?;
            self.0.merge(&other)?;
        }
        Ok(())
    }
}
