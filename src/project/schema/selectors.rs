//! `selectors.yml`: selections with a name, as in dbt.

use serde_json::{Value, json};

use super::build::{any, any_of, count, definitions, flag, list_of, mapping, of, reference, text, words};
use crate::project::selectors::{INDIRECT, METHODS};

/// The file.
pub(super) fn file() -> Value {
    let selector = mapping(
        "selector",
        "",
        &["name", "definition"],
        vec![
            ("name", of(text(), "For --selector and selector:name")),
            ("description", text()),
            (
                "default",
                of(json!({"type": ["boolean", "string"]}), "Whether it stands in where a command says nothing"),
            ),
            ("definition", of(reference("definition"), "What is selected")),
        ],
    );
    let mut schema = mapping(
        "selectors file",
        "",
        &["selectors"],
        vec![("version", any()), ("selectors", of(list_of(selector), "Selections, each with a name"))],
    );
    schema["$defs"] = definitions([("definition", definition())]);
    schema
}

fn definition() -> Value {
    let method = format!("^({})(\\..+)?$", METHODS.join("|"));
    let short = json!({
        "type": "object", "patternProperties": {method.clone(): text()}, "additionalProperties": false,
        "minProperties": 1, "maxProperties": 1,
    });
    let exclude = json!({
        "type": "object", "properties": {"exclude": excluded()}, "required": ["exclude"], "additionalProperties": false,
    });
    let items = json!({"type": "array", "items": any_of(vec![exclude, reference("definition")]), "minItems": 1});
    let full = mapping(
        "selector definition",
        "",
        &["method", "value"],
        vec![
            ("method", of(json!({"type": "string", "pattern": method}), "By what: tag, path, state.modified")),
            ("value", of(text(), "A name or a glob")),
            ("parents", of(flag(), "What it reads, too")),
            ("parents_depth", of(count(), "How many steps up")),
            ("children", of(flag(), "What reads it, too")),
            ("children_depth", of(count(), "How many steps down")),
            ("childrens_parents", of(flag(), "The `@` of the command line")),
            ("indirect_selection", of(words(INDIRECT), "Which tests come along")),
            ("exclude", excluded()),
        ],
    );
    let union = mapping(
        "selector definition",
        "Any of them",
        &["union"],
        vec![("union", of(items.clone(), "What any of these selects"))],
    );
    let intersection = vec![("intersection", of(items, "What all of these select"))];
    let intersection = mapping("selector definition", "All of them at once", &["intersection"], intersection);
    any_of(vec![of(text(), "As on the command line: +tag:nightly,silver.*"), union, intersection, full, short])
}

fn excluded() -> Value {
    of(any_of(vec![reference("definition"), list_of(reference("definition"))]), "What is taken from it")
}
