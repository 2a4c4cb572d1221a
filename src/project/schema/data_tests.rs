//! Data tests: those that are built in with their parameters, and those of the project.

use serde_json::{Map, Value, json};

use super::build::{any, any_of, count, flag, mapping, of, one_of, reference, string_or_list, text, unless_set, words};
use super::common;
use crate::checks::{self, GenericTest, Kind};
use crate::project::test_config;

/// The name of the definition of one test.
const LIST: &str = "data_tests";

/// A list of tests.
pub(super) fn list() -> Value {
    json!({"type": "array", "items": reference(LIST)})
}

/// What the definitions of tests are called, and what they are.
pub(super) fn definitions() -> Map<String, Value> {
    let mut found: Map<String, Value> =
        checks::all().map(|test| (format!("test_{}", test.name()), built_in(test))).collect();
    found.insert(LIST.to_owned(), one());
    found.insert("test_config".to_owned(), mapping("test config", "How its result counts", &[], settings()));
    found
}

/// One test: its name, or its name with arguments.
fn one() -> Value {
    let by_name: Map<String, Value> = checks::all()
        .map(|test| {
            let names = test.names.join("|");
            (format!("^([A-Za-z0-9_]+\\.)?({names})$"), reference(&format!("test_{}", test.name())))
        })
        .collect();
    let names: Vec<&str> = checks::all().map(|test| test.names[0]).collect();
    // A test of the project has parameters of its own.
    let own = json!({"type": ["object", "null"]});
    let with_arguments = json!({
        "type": "object", "patternProperties": by_name, "additionalProperties": own, "maxProperties": 1,
        "minProperties": 1, "not": {"required": ["test_name"]},
    });
    let mut spelled_out = json!({"type": "object", "required": ["test_name"]});
    spelled_out["properties"] = json!({"test_name": of(text(), "The name of the test")});
    any_of(vec![json!({"type": "string", "examples": names}), with_arguments, spelled_out])
}

/// What a test takes: its parameters stand beside its settings, or below `arguments`.
fn built_in(test: GenericTest) -> Value {
    let parameters: Vec<(&str, Value)> = test
        .parameters
        .iter()
        .flat_map(|parameter| parameter.names.iter().map(|name| (*name, parameter_of(name, parameter.kind))))
        .chain([
            ("column_name", of(text(), "The column that it is about, where it does not stand below one")),
            ("row_condition", of(text(), "Rows to look at: a SQL condition")),
        ])
        .collect();
    let arguments = mapping("group of test arguments", "", &[], parameters.clone());
    let mut properties = settings();
    properties.extend([
        ("test_name", text()),
        ("name", of(text(), "Its name, unique in the project")),
        ("description", of(text(), "What it is about")),
        ("config", reference("test_config")),
        ("arguments", arguments),
    ]);
    properties.extend(parameters);
    let mut schema = mapping("test", test.about, &[], properties);
    schema["type"] = json!(["object", "null"]);
    schema
}

fn parameter_of(name: &str, kind: Kind) -> Value {
    of(argument(kind), common::parameter(name))
}

fn argument(kind: Kind) -> Value {
    let periods = ["hour", "day", "week", "month"];
    match kind {
        Kind::Text | Kind::Sql => text(),
        Kind::Bound => json!({"type": ["number", "string"]}),
        // What a variable gives is a text.
        Kind::Number => json!({"type": ["number", "string"]}),
        Kind::Count => count(),
        Kind::Flag => flag(),
        Kind::Values => json!({"type": ["array", "string", "number", "boolean"], "minItems": 1}),
        Kind::Columns => json!({"type": ["array", "string"], "items": {"type": "string"}, "minItems": 1}),
        Kind::Table => of(text(), "ref('model') or source('source', 'table')"),
        Kind::Period => {
            let properties = vec![("period", one_of(&periods)), ("count", unless_set(count(), 1))];
            any_of(vec![one_of(&periods), mapping("period", "", &["period"], properties)])
        }
        Kind::Word(words) => one_of(words),
    }
}

/// What every test takes.
fn settings() -> Vec<(&'static str, Value)> {
    test_config::KEYS.iter().map(|key| (*key, setting(key))).collect()
}

fn setting(key: &str) -> Value {
    let threshold = || json!({"type": ["string", "integer"], "examples": ["> 10", ">= 1%", "between 1 and 5"]});
    let string = || json!({"type": "string"});
    match key {
        "severity" => {
            let either = words(test_config::SEVERITIES);
            of(
                unless_set(any_of(vec![either, json!({"enum": ["ERROR", "WARN", "Error", "Warn"]})]), "error"),
                "Whether failing rows stop the publish",
            )
        }
        "warn_if" => of(unless_set(threshold(), "!= 0"), "From how many failures on it warns"),
        "error_if" => of(unless_set(threshold(), "!= 0"), "From how many failures on it fails"),
        "where" => of(string(), "Rows to look at: a SQL condition"),
        "limit" => of(unless_set(count(), 100), "How many failing rows are kept and shown at most"),
        "fail_calc" => {
            of(unless_set(string(), "count(*)"), "What the number of failures is, as SQL over the failing rows")
        }
        "store_failures" => of(unless_set(flag(), true), "Whether failing rows are kept in the lake"),
        "on_violation" => of(unless_set(words(test_config::VIOLATIONS), "fail"), "What becomes of failing rows"),
        "audit" => of(unless_set(flag(), true), "Whether it decides if the table is published"),
        "owner" => of(string(), "Who looks after it"),
        "tags" => of(string_or_list(), "For selection"),
        "enabled" => of(unless_set(flag(), true), "Whether it runs"),
        "meta" => of(any(), "Anything"),
        _ => any(),
    }
}
