//! `mask_hash`, `mask_partial` and `mask_email`: values in the place of sensitive ones, which tell nothing of them.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// Characters at the end that `mask_partial` shows, of values that are three times as long.
const SHOWN: usize = 4;

/// The name of a mask, and what it makes of a text.
type Masking = (&'static str, fn(&str) -> String);

const MASKS: &[Masking] = &[("mask_hash", hashed), ("mask_partial", partly_shown), ("mask_email", without_name)];

/// All of them as SQL functions.
pub(super) fn all() -> impl Iterator<Item = ScalarUDF> {
    let signature = || Signature::any(1, Volatility::Immutable);
    MASKS.iter().map(move |(name, _)| ScalarUDF::from(Mask { name, signature: signature() }))
}

/// Whether a function hides what it is given.
pub fn is_mask(function: &str) -> bool {
    MASKS.iter().any(|(name, _)| *name == function)
}

/// 32 hexadecimal digits of BLAKE3: the same for the same value, so that masked columns still join.
fn hashed(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..32].to_owned()
}

/// `4111111111111111` -> `************1111`.
fn partly_shown(text: &str) -> String {
    let length = text.chars().count();
    let shown = if length >= SHOWN * 3 { SHOWN } else { 0 };
    text.chars().enumerate().map(|(at, c)| if at + shown < length { '*' } else { c }).collect()
}

/// `ada@example.org` -> `***@example.org`.
fn without_name(text: &str) -> String {
    text.rsplit_once('@').map_or_else(|| "***".to_owned(), |(_, host)| format!("***@{host}"))
}

/// A mask: of NULL it makes NULL.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Mask {
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for Mask {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (_, mask) = MASKS.iter().find(|(name, _)| *name == self.name).expect("it is made of the list");
        let values = args.args[0].to_array(args.number_rows)?;
        let texts: ArrayRef = cast(&values, &DataType::Utf8)?;
        let masked: StringArray = texts.as_string::<i32>().iter().map(|text| text.map(mask)).collect();
        Ok(ColumnarValue::Array(Arc::new(masked) as Arc<dyn Array>))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_tell_nothing_of_what_they_hide() {
        assert_eq!(partly_shown("4111111111111111"), "************1111");
        assert_eq!(partly_shown("12345"), "*****");
        assert_eq!(without_name("ada@example.org"), "***@example.org");
        assert_eq!(without_name("ada"), "***");
        assert_eq!(hashed("ada"), hashed("ada"));
        assert_eq!(hashed("ada").len(), 32);
    }
}
