//! Pieces of a schema.

use serde_json::{Map, Value, json};

use super::common;

/// A mapping with these keys and no others, under the name that its reader has for it.
pub(super) fn mapping(what: &str, about: &str, required: &[&str], properties: Vec<(&str, Value)>) -> Value {
    let properties: Map<String, Value> =
        properties.into_iter().map(|(key, value)| (key.to_owned(), described(key, value))).collect();
    let mut schema = json!({"title": what, "type": "object", "properties": properties, "additionalProperties": false});
    if !about.is_empty() {
        schema["description"] = about.into();
    }
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

/// A key with what it means wherever it stands, if nothing is said of it here.
fn described(key: &str, schema: Value) -> Value {
    match common::key(key) {
        Some(about) if schema.get("description").is_none() => of(schema, about),
        _ => schema,
    }
}

/// The same with what holds where nothing is said.
pub(super) fn unless_set(schema: Value, default: impl Into<Value>) -> Value {
    let mut schema = schema;
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("default".to_owned(), default.into());
    }
    schema
}

/// The same with what it means, for people.
pub(super) fn of(schema: Value, about: &str) -> Value {
    // Beside a reference nothing else counts in this draft.
    if schema.get("$ref").is_some() {
        return json!({"allOf": [schema], "description": about});
    }
    let mut schema = schema;
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("description".to_owned(), about.into());
    }
    schema
}

/// Whatever YAML can say.
pub(super) fn any() -> Value {
    json!({})
}

/// Text: what looks like a number or a boolean is text, too, where text is meant.
pub(super) fn text() -> Value {
    json!({"type": ["string", "number", "boolean"]})
}

/// A text that is no number.
pub(super) fn string() -> Value {
    json!({"type": "string"})
}

/// One text, or a list of them.
pub(super) fn text_or_list() -> Value {
    json!({"type": ["string", "number", "boolean", "array"], "items": text()})
}

/// One string, or a list of them.
pub(super) fn string_or_list() -> Value {
    json!({"type": ["string", "array"], "items": string()})
}

/// `true` or `false`.
pub(super) fn flag() -> Value {
    json!({"type": "boolean"})
}

/// A whole number.
pub(super) fn count() -> Value {
    json!({"type": "integer", "minimum": 0})
}

/// One of a few words.
pub(super) fn words<T>(list: &[(&str, T)]) -> Value {
    json!({"enum": list.iter().map(|(word, _)| *word).collect::<Vec<_>>()})
}

/// One of a few words.
pub(super) fn one_of(list: &[&str]) -> Value {
    json!({ "enum": list })
}

/// A list of something.
pub(super) fn list_of(item: Value) -> Value {
    json!({"type": "array", "items": item})
}

/// A mapping of names to something.
pub(super) fn map_of(value: Value) -> Value {
    json!({"type": "object", "additionalProperties": value})
}

/// Any of these.
pub(super) fn any_of(list: Vec<Value>) -> Value {
    json!({ "anyOf": list })
}

/// Something that stands below `$defs`.
pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}")})
}

/// The `$defs` of a schema.
pub(super) fn definitions<const N: usize>(list: [(&str, Value); N]) -> Value {
    list.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
