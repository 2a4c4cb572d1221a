//! Values of settings: words, texts, lists, and what is said of wrong ones.

use crate::names::nearest;

pub(super) fn word<T: Copy>(key: &str, value: &serde_json::Value, words: &[(&str, T)]) -> Result<T, String> {
    let given = text(key, value)?;
    if let Some((_, found)) = words.iter().find(|(name, _)| *name == given) {
        return Ok(*found);
    }
    if (key, given.as_str()) == ("materialized", "snapshot") {
        return Err("`snapshot` is of dbt and not of lake; write `scd2`, with `unique_key`, `strategy` and the other settings as dbt has them".to_owned());
    }
    let known: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
    let help = match nearest(&given, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known: {}", known.join(", ")),
    };
    Err(format!("`{given}` is not a value of `{key}`; {help}"))
}

pub(super) fn text(key: &str, value: &serde_json::Value) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| format!("`{key}` takes a text, not {value}"))
}

pub(super) fn boolean(key: &str, value: &serde_json::Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("`{key}` takes true or false, not {value}"))
}

/// YAML 1.2 reads `off` as a text, older YAML as false: both mean the same.
pub(super) fn on_or_off(key: &str, value: &serde_json::Value) -> Result<bool, String> {
    match (value.as_bool(), value.as_str()) {
        (Some(is_on), _) => Ok(is_on),
        (_, Some("on")) => Ok(true),
        (_, Some("off")) => Ok(false),
        _ => Err(format!("`{key}` takes on or off, not {value}")),
    }
}

pub(super) fn texts(key: &str, value: &serde_json::Value) -> Result<Vec<String>, String> {
    match value {
        serde_json::Value::String(one) => Ok(vec![one.clone()]),
        serde_json::Value::Array(items) => items.iter().map(|item| text(key, item)).collect(),
        _ => Err(format!("`{key}` takes a text or a list of texts, not {value}")),
    }
}
