//! Unit tests: a model or a macro on given rows.

use serde_json::{Value, json};

use super::build::{any, any_of, flag, list_of, map_of, mapping, of, text, text_or_list, unless_set, words};
use super::rows;
use crate::project::unit_tests::FORMATS;

/// One unit test.
pub(super) fn one() -> Value {
    let config = mapping(
        "`config` block",
        "",
        &[],
        vec![("tags", text_or_list()), ("meta", any()), ("enabled", unless_set(flag(), true))],
    );
    let overrides = mapping(
        "`overrides` block",
        "What stands in for the world",
        &[],
        vec![
            ("now", of(text(), "The clock: 2024-01-31T10:00:00Z")),
            ("vars", of(map_of(any()), "Variables")),
            ("env_vars", of(map_of(text()), "Variables of the environment")),
            ("macros", of(map_of(any()), "What macros give, also is_incremental and run_started_at")),
        ],
    );
    let number = || json!({"type": "number", "minimum": 0});
    let mut schema = mapping(
        "unit test",
        "",
        &["name"],
        vec![
            ("name", of(text(), "Unique in the project")),
            ("description", text()),
            ("config", config),
            ("tags", text_or_list()),
            (
                "tolerance",
                of(any_of(vec![number(), map_of(number())]), "How far numbers may be off: one, or one a column"),
            ),
            ("overrides", overrides),
            ("model", of(text(), "The model that is tested")),
            ("macro", of(text(), "The macro that is tested")),
            ("given", of(given(), "Inputs with their rows")),
            ("runs", of(list_of(run()), "Runs that make the table, one after another")),
            ("expect", expect()),
            ("cases", of(list_of(case()), "Calls of the macro")),
        ],
    );
    schema["oneOf"] = json!([{"required": ["model", "expect"]}, {"required": ["macro", "cases"]}]);
    schema
}

fn fixture() -> Vec<(&'static str, Value)> {
    vec![
        ("rows", of(rows(), "Rows; a text with `format: csv` or `sql`")),
        ("format", of(unless_set(words(FORMATS), "dict"), "How rows are written")),
        ("fixture", of(text(), "A file of tests/fixtures/, by its name without ending")),
    ]
}

fn given() -> Value {
    let mut properties = fixture();
    properties.push(("input", of(text(), "ref('model'), source('source', 'table') or this")));
    let mut one = mapping("given input", "", &["input"], properties);
    one["oneOf"] = json!([{"required": ["rows"]}, {"required": ["fixture"]}]);
    list_of(one)
}

fn expect() -> Value {
    let mut expect = mapping("`expect` block", "The rows that there are to be", &[], fixture());
    expect["oneOf"] = json!([{"required": ["rows"]}, {"required": ["fixture"]}]);
    expect
}

fn run() -> Value {
    mapping(
        "run",
        "",
        &[],
        vec![
            ("given", of(given(), "Inputs with their rows; others are as before")),
            ("now", of(text(), "The clock of this run")),
        ],
    )
}

fn case() -> Value {
    let args = any_of(vec![list_of(any()), map_of(any())]);
    mapping(
        "case",
        "",
        &["expect"],
        vec![
            ("args", of(args, "Arguments of the call: a list, or a mapping by name")),
            ("expect", of(any(), "What it is to give")),
        ],
    )
}
