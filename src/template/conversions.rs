//! dbt's functions between texts and values: `fromjson`, `toyaml`, `set`, `zip` and their kin.

use indexmap::IndexSet;
use minijinja::value::{Kwargs, Rest, Serde};
use minijinja::{Environment, Error, ErrorKind, Value};

use super::Yaml;
use super::containers::mutable;

/// Makes them known.
pub(super) fn register(environment: &mut Environment<'static>, yaml: Yaml) {
    environment.add_function("fromjson", |text: String, default: Option<Value>| {
        or_default(serde_json::from_str::<serde_json::Value>(&text).ok(), default)
    });
    environment.add_function("tojson", |value: Value, default: Option<Value>, kwargs: Kwargs| {
        to_json(&value, default, &kwargs)
    });
    environment
        .add_function("fromyaml", move |text: String, default: Option<Value>| or_default((yaml.parse)(&text), default));
    environment.add_function("toyaml", move |value: Value, default: Option<Value>, kwargs: Kwargs| {
        let json = sorted(json(&value), &kwargs)?;
        Ok::<Value, Error>(
            json.and_then(|json| (yaml.print)(&json)).map_or_else(|| default.unwrap_or(none()), Value::from),
        )
    });
    environment.add_function("set", |value: Value, default: Option<Value>| {
        Ok::<Value, Error>(unique(&value).unwrap_or_else(|_| default.unwrap_or(none())))
    });
    environment.add_function("set_strict", |value: Value| unique(&value));
    environment.add_function("zip", |Rest(lists): Rest<Value>, kwargs: Kwargs| {
        let default: Option<Value> = kwargs.get("default")?;
        kwargs.assert_all_used()?;
        Ok::<Value, Error>(zip(&lists).unwrap_or_else(|_| default.unwrap_or(none())))
    });
    environment.add_function("zip_strict", |Rest(lists): Rest<Value>| zip(&lists));
    environment.add_function("print", |message: Value| {
        tracing::info!(target: "lake::template", "{message}");
        ""
    });
    // Filters of dbt's native rendering: values keep their types here, so they only convert.
    environment.add_filter("as_text", |value: Value| value.to_string());
    environment.add_filter("as_native", |value: Value| value);
    environment.add_filter("as_bool", |value: Value| match value.to_string().to_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(Error::new(ErrorKind::InvalidOperation, format!("`{other}` is not a boolean"))),
    });
    environment.add_filter("as_number", |value: Value| {
        let text = value.to_string();
        let whole = text.parse::<i64>().ok().map(Value::from);
        let number = whole.or_else(|| text.parse::<f64>().ok().filter(|n| n.is_finite()).map(Value::from));
        number.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, format!("`{text}` is not a number")))
    });
}

fn none() -> Value {
    Value::from(())
}

fn or_default(json: Option<serde_json::Value>, default: Option<Value>) -> Value {
    json.map_or_else(|| default.unwrap_or(none()), |json| mutable(&Value::from(Serde(&json))))
}

fn json(value: &Value) -> Option<serde_json::Value> {
    serde_json::to_value(value).ok()
}

fn to_json(value: &Value, default: Option<Value>, kwargs: &Kwargs) -> Result<Value, Error> {
    let json = sorted(json(value), kwargs)?;
    Ok(json.map_or_else(|| default.unwrap_or(none()), |json| Value::from(python_json(&json))))
}

/// With `sort_keys=true`, the keys of every object in order.
fn sorted(json: Option<serde_json::Value>, kwargs: &Kwargs) -> Result<Option<serde_json::Value>, Error> {
    let sort: Option<bool> = kwargs.get("sort_keys")?;
    kwargs.assert_all_used()?;
    Ok(json.map(|mut json| {
        if sort == Some(true) {
            json.sort_all_objects();
        }
        json
    }))
}

/// JSON with a blank after `,` and `:`, as Python writes it.
fn python_json(json: &serde_json::Value) -> String {
    match json {
        serde_json::Value::Array(items) => {
            format!("[{}]", items.iter().map(python_json).collect::<Vec<_>>().join(", "))
        }
        serde_json::Value::Object(entries) => {
            let entry = |(key, value): (&String, &serde_json::Value)| {
                format!("{}: {}", serde_json::Value::from(key.as_str()), python_json(value))
            };
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// Each value once, in order of first appearance: Python's sets have no order, SQL needs one.
fn unique(value: &Value) -> Result<Value, Error> {
    let items: IndexSet<Value> = value.try_iter()?.collect();
    Ok(mutable(&items.into_iter().collect::<Vec<_>>().into()))
}

fn zip(lists: &[Value]) -> Result<Value, Error> {
    let mut iterators = lists.iter().map(Value::try_iter).collect::<Result<Vec<_>, _>>()?;
    let mut rows = Vec::new();
    while !iterators.is_empty() {
        let row: Option<Vec<Value>> = iterators.iter_mut().map(Iterator::next).collect();
        match row {
            Some(row) => rows.push(Value::from(row)),
            None => break,
        }
    }
    Ok(mutable(&rows.into()))
}
