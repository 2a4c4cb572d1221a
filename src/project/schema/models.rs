//! Files of properties: models, seeds, sources, exposures, groups and unit tests.

use serde_json::{Map, Value, json};

use super::build::{any, flag, list_of, mapping, of, one_of, reference, string, text, text_or_list, unless_set, words};
use super::{data_tests, owner, settings, sources, unit_tests};
use crate::project::{config, contracts, exports, exposures};

/// A file of properties: `sources.yml`, and every YAML file of models and seeds.
pub(super) fn properties_file() -> Value {
    let mut schema = mapping(
        "properties file",
        "",
        &[],
        vec![
            ("version", any()),
            ("sources", of(sources::list(), "Bronze: which files, which format, which columns")),
            ("models", of(list_of(reference("model")), "Descriptions, columns and tests of models")),
            ("seeds", of(list_of(reference("seed")), "Descriptions, columns and tests of seeds")),
            ("unit_tests", of(list_of(reference("unit_test")), "Models and macros on given rows")),
            ("exposures", of(list_of(reference("exposure")), "What is built outside of the lake on top of models")),
            ("exports", of(list_of(reference("export")), "Files that are made of models, outside of the lake")),
            ("groups", of(list_of(reference("group")), "Models that belong together, and who answers for them")),
        ],
    );
    let mut all: Map<String, Value> = data_tests::definitions();
    let entries = [
        ("model", described("model", &settings::all_of_models())),
        ("seed", described("seed", &settings::all_of_seeds(false))),
        ("column", mapping("column", "", &["name"], column_properties())),
        ("source_table", sources::table()),
        ("source_column", sources::column()),
        ("unit_test", unit_tests::one()),
        ("exposure", exposure()),
        ("export", export()),
        ("group", group()),
        ("hook", settings::hook()),
    ];
    all.extend(entries.map(|(name, schema)| (name.to_owned(), schema)));
    schema["$defs"] = Value::Object(all);
    schema
}

fn described(what: &'static str, of_config: &[(&'static str, (&'static str, Value))]) -> Value {
    mapping(
        what,
        "",
        &["name"],
        vec![
            ("name", of(text(), "Its name, or its full name layer.name")),
            ("description", of(text(), "Markdown; {{ doc('name') }} for a block of a Markdown file")),
            ("config", settings::block(of_config)),
            ("columns", list_of(reference("column"))),
            ("data_tests", data_tests::list()),
            ("tests", data_tests::list()),
            ("tags", of(json!({"type": ["string", "array"], "items": string()}), "For selection: tag:name")),
            ("owner", of(string(), "Who answers for it")),
            ("meta", of(any(), "Anything")),
            ("group", of(string(), "The models that it belongs to")),
            ("access", of(unless_set(words(config::ACCESS), "protected"), "Who may read it")),
        ],
    )
}

/// What any column has.
pub(super) fn column_properties() -> Vec<(&'static str, Value)> {
    let mut constraint = mapping(
        "constraint",
        "What an enforced contract promises",
        &["type"],
        vec![
            ("type", of(one_of(contracts::KINDS), "What is promised")),
            ("expression", of(text(), "Of a check: a condition that holds for every row")),
            ("name", of(any(), "As in dbt; nothing goes by it")),
        ],
    );
    constraint["if"] = json!({"properties": {"type": {"const": "check"}}});
    constraint["then"] = json!({"required": ["expression"]});
    vec![
        ("name", of(text(), "Its name, in its own case")),
        ("data_type", of(text(), "A SQL type")),
        ("description", of(text(), "Markdown")),
        ("data_tests", data_tests::list()),
        ("tests", data_tests::list()),
        ("meta", of(any(), "Anything; `sensitive: true` keeps its values out of what is recorded")),
        ("config", mapping("`config` block", "", &[], vec![("meta", any())])),
        ("constraints", of(list_of(constraint), "What an enforced contract promises of its values")),
    ]
}

fn exposure() -> Value {
    let shared = || vec![("tags", text_or_list()), ("meta", any()), ("enabled", unless_set(flag(), true))];
    let config = mapping("exposure config", "", &[], shared());
    let mut properties = vec![
        ("name", text()),
        ("type", of(words(exposures::KINDS), "What it is")),
        ("label", of(text(), "Its name for people")),
        ("url", of(text(), "Where it is")),
        ("maturity", of(words(exposures::MATURITIES), "How far it can be relied on")),
        ("owner", owner()),
        ("description", of(text(), "Markdown")),
        ("depends_on", of(list_of(text()), "ref('model') and source('source', 'table')")),
        ("config", config),
    ];
    properties.extend(shared());
    mapping("exposure", "A dashboard, a notebook or an application", &["name", "type", "owner"], properties)
}

fn export() -> Value {
    let options = mapping(
        "group of export options",
        "",
        &[],
        vec![
            ("header", of(unless_set(flag(), true), "Names of columns in the first line of CSV")),
            ("delimiter", of(unless_set(string(), ","), "One character between values of CSV")),
            ("null_value", of(unless_set(text(), ""), "What stands for NULL in CSV")),
            ("compression", of(string(), "By the ending of the path, unless set")),
            ("date_format", of(text(), "As strftime writes dates")),
            ("timestamp_format", of(text(), "As strftime writes times")),
        ],
    );
    mapping(
        "export",
        "A file that is made of a model's rows when they changed",
        &["name", "model", "path", "format"],
        vec![
            ("name", text()),
            ("model", of(text(), "ref('model')")),
            ("path", of(text(), "Relative to the project, or an address")),
            ("format", of(words(exports::KINDS), "How rows are written")),
            ("options", of(options, "Details of the format")),
            ("order_by", of(text_or_list(), "Columns, each perhaps with `desc`")),
            ("columns", of(text_or_list(), "Some of the columns, in this order")),
            ("allow_sensitive", of(unless_set(flag(), false), "Sensitive columns may leave the lake unmasked")),
            ("description", of(text(), "Markdown")),
            ("tags", text_or_list()),
            ("meta", any()),
            ("enabled", unless_set(flag(), true)),
        ],
    )
}

fn group() -> Value {
    let config = mapping(
        "group config",
        "",
        &[],
        vec![
            ("meta", any()),
            ("publish", of(words(config::PUBLISH), "`together`: its models are published in one burst")),
        ],
    );
    mapping(
        "group",
        "",
        &["name", "owner"],
        vec![("name", text()), ("owner", owner()), ("description", of(text(), "Markdown")), ("config", config)],
    )
}
