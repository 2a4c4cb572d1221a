//! Lengths of time in settings: `90s`, `10m`, `2h`.

/// Seconds, of a text with a unit or of a plain number of them; says in a phrase what is wrong with another value.
pub(super) fn seconds(key: &str, value: &serde_json::Value) -> Result<u64, String> {
    let wrong = || format!("{value} is not a value of `{key}`; write a length of time such as `90s`, `10m` or `2h`");
    if let Some(seconds) = value.as_u64() {
        return if seconds > 0 { Ok(seconds) } else { Err(wrong()) };
    }
    let text = value.as_str().ok_or_else(wrong)?.trim();
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let factor = match text[unit_at..].trim() {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..unit_at].parse().map_err(|_| wrong())?;
    number.checked_mul(factor).filter(|seconds| *seconds > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::seconds;
    use serde_json::json;

    #[test]
    fn lengths_of_time() {
        let good = [(json!("90s"), 90), (json!("10 m"), 600), (json!("2h"), 7200), (json!("1d"), 86400), (json!(5), 5)];
        for (value, expected) in good {
            assert_eq!(seconds("timeout", &value), Ok(expected));
        }
        for value in [json!("10"), json!("soon"), json!("0s"), json!(-1), json!(1.5), json!("99999999999999999999s")] {
            assert!(seconds("timeout", &value).unwrap_err().contains("`10m`"), "{value}");
        }
    }
}
