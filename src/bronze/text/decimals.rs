//! Decimals as they are mostly written, a digit at a time. Arrow's kernel reads everything else, several times slower.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, Decimal128Array, StringArray};
use datafusion::arrow::datatypes::DataType;

/// So many digits fit 64 bits, whatever they are.
const MAX_DIGITS: usize = 18;

/// Texts as values of `target`, if all of them are plain: digits, perhaps a sign before and a point between them, with no
/// more digits after the point than `target` keeps. What they come to is what Arrow's kernel says.
pub(super) fn plain(texts: &StringArray, target: &DataType) -> Option<ArrayRef> {
    let DataType::Decimal128(precision, scale) = *target else { return None };
    let places = usize::try_from(scale).ok()?;
    let limit = 10_i128.checked_pow(u32::from(precision))?;
    let mut values = Vec::with_capacity(texts.len());
    for row in 0..texts.len() {
        let value = if texts.is_null(row) { 0 } else { i128::from(number(texts.value(row).as_bytes(), places)?) };
        if value.abs() >= limit {
            return None;
        }
        values.push(value);
    }
    let array = Decimal128Array::new(values.into(), texts.nulls().cloned());
    Some(Arc::new(array.with_precision_and_scale(precision, scale).ok()?))
}

/// `-12.3` with two places is `-1230`.
fn number(text: &[u8], places: usize) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let point = digits.iter().position(|byte| *byte == b'.');
    let (whole, part) = match point {
        Some(at) => (&digits[..at], &digits[at + 1..]),
        None => (digits, &digits[digits.len()..]),
    };
    let is_plain = !whole.is_empty() && part.len() <= places && (point.is_none() || !part.is_empty());
    if !is_plain || whole.len() + places > MAX_DIGITS {
        return None;
    }
    let mut value = 0_i64;
    for byte in whole.iter().chain(part) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    for _ in part.len()..places {
        value *= 10;
    }
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::compute::{CastOptions, cast_with_options};

    use super::*;

    #[test]
    fn plain_decimals_are_what_arrow_says() {
        let texts = ["0", "1", "-1", "12.3", "-12.30", "0.05", "00.5", "99999.99", "-0", "-0.01", "7."];
        let odd = ["", ".5", "1e3", "+1", "1.234", "100000", "1,5", " 1", "-", "1.2.3", "12345678901234567890"];
        let target = DataType::Decimal128(7, 2);
        let by_arrow = |text: &str| {
            let options = CastOptions { safe: true, ..CastOptions::default() };
            cast_with_options(&StringArray::from(vec![Some(text), None]), &target, &options).unwrap()
        };
        let mut read = 0;
        for text in texts.into_iter().chain(odd) {
            if let Some(found) = plain(&StringArray::from(vec![Some(text), None]), &target) {
                assert_eq!(&found, &by_arrow(text), "{text}");
                read += 1;
            }
        }
        assert_eq!(read, texts.len() - 1);
    }
}
