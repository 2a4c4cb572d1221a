use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::{YamlFile, known_keys, settings};
use crate::checks;
use crate::diagnostics::{Diagnostics, SourceFile};
use crate::memo::Memo;
use crate::project::{LoadOptions, ProjectFiles, config, load, seeds, yaml};

const PROJECT: &str = "
name: shop
targets: { dev: { root: lake } }
sensitive: { forbid_unmasked_in: [gold] }
openlineage: { file: events.ndjson }
notifications: [{ name: log, type: command, command: cat }]
";

/// Every kind of mapping, once for each way in which its reader goes. What is missing in them does not matter here: a
/// reader asks for all keys that it knows.
const PROPERTIES: &str = "
sources:
  - name: raw
    freshness: { warn_after: { count: 1, period: day } }
    tables:
      - name: orders
        path: in/
        format: csv
        options: { header: true }
        partition_columns: [{ name: dt }]
        incremental_listing: { lookback: 5 }
        after_load: { archive: { to: done/ } }
        config: { event_time: at }
        columns: [{ name: id, config: { meta: {} }, constraints: [{ type: not_null }] }]
      - { name: packed, path: in/, format: json, options: {}, after_load: { compact: { to: packed/ } } }
      - { name: lake, path: lake/, format: delta, options: {} }
models:
  - name: orders
    config: {}
    columns: [{ name: id }]
    data_tests: [TESTS]
seeds:
  - { name: regions, config: {} }
exposures:
  - { name: weekly, type: dashboard, owner: { name: x }, config: {} }
exports:
  - { name: a, model: ref('orders'), path: a.csv, format: csv, options: {} }
  - { name: b, model: ref('orders'), path: b.json, format: ndjson, options: {} }
  - { name: c, model: ref('orders'), path: c.parquet, format: parquet, options: {} }
groups:
  - { name: sales, owner: { name: x }, config: {} }
unit_tests:
  - name: one
    model: orders
    config: {}
    overrides: {}
    given: [{ input: this, rows: [{ id: 1 }] }]
    expect: { rows: [] }
  - { name: runs, model: orders, runs: [{ given: [] }], expect: { rows: [] } }
  - { name: two, macro: half, cases: [{ args: [], expect: 1 }] }
";

const SELECTORS: &str = "
selectors:
  - { name: a, definition: { union: [gold.*] } }
  - { name: b, definition: { intersection: [gold.*] } }
  - { name: c, definition: { method: tag, value: x } }
";

/// Loads the files above, and returns which keys their readers asked for.
fn accepted() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let built_in = checks::all().flat_map(|test| {
        let settings = format!("{{ {}: {{ arguments: {{}}, config: {{}} }} }}", test.name());
        [settings, format!("{{ {}: {{ training_period: {{ period: day }} }} }}", test.name())]
    });
    let tests: Vec<String> = built_in.chain(["not_null".to_owned()]).collect();
    let file = |path: &str, text: String| Arc::new(SourceFile::new(path, text));
    let files = ProjectFiles {
        folder: Path::new(".").into(),
        project: file("project.yml", PROJECT.to_owned()),
        sources: None,
        selectors: Some(file("selectors.yml", SELECTORS.to_owned())),
        models: vec![file("models/silver/orders.sql", "select 1 as id".to_owned())],
        properties: vec![file("models/all.yml", PROPERTIES.replace("TESTS", &tests.join(", ")))],
        seeds: vec![file("seeds/regions.csv", "id\n1\n".to_owned())],
        snapshots: Vec::new(),
        macros: vec![file("macros/half.sql", "{% macro half() %}1{% endmacro %}".to_owned())],
        tests: Vec::new(),
        fixtures: Vec::new(),
        docs: Vec::new(),
    };
    // On a thread of its own, which notes what is read on it. Most of it is wrong; it is about keys alone.
    let thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    thread.install(|| {
        let _ = load(&files, &LoadOptions::default(), &Memo::none(), &mut Diagnostics::new());
        yaml::accepted::keys()
    })
}

#[test]
fn schemas_have_the_keys_that_readers_ask_for_and_no_others() {
    let (accepted, described) = (accepted(), known_keys());
    for (what, keys) in &accepted {
        let keys: BTreeSet<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        let of_schema = described.get(*what).unwrap_or_else(|| panic!("no schema has a mapping `{what}`: {keys:?}"));
        assert_eq!(of_schema, &keys, "left: what the schema of a `{what}` has, right: what its reader asks for");
    }
    // What is in a schema was read by somebody, apart from settings, which are compared below.
    let unread: Vec<&String> = described.keys().filter(|what| !accepted.contains_key(what.as_str())).collect();
    assert_eq!(unread, ["config of settings", "group of settings"], "add what reads it to the files of this test");
}

#[test]
fn every_mapping_of_a_reader_is_tried_here() {
    let (accepted, mut missing) = (accepted(), Vec::new());
    // These take whatever keys there are.
    let open = ["list of targets", "list of variables", "storage option", "group of settings", "row"];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/project");
    let mut pending = vec![folder];
    while let Some(folder) = pending.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                pending.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for call in text.split("reader.mapping(").skip(1) {
                let what = call.split(')').next().unwrap().split('"').nth(1).unwrap_or_default();
                if !what.is_empty() && !accepted.contains_key(what) && !open.contains(&what) {
                    missing.push(format!("{}: {what}", path.display()));
                }
            }
        }
    }
    assert_eq!(missing, [""; 0], "let the files of this test have such a mapping, and the schemas, too");
}

#[test]
fn every_setting_is_described_and_its_words_are_accepted() {
    let words = |schema: &Value| -> Vec<Value> {
        let parts = schema["anyOf"].as_array().cloned().unwrap_or_default();
        let all = parts.iter().chain([schema]);
        all.filter_map(|part| part["enum"].as_array().cloned()).flatten().collect()
    };
    type Check = fn(&str, &Value) -> Result<(), String>;
    let models = settings::all_of_models().into_iter().map(|setting| (setting, config::check as Check));
    let of_seeds = settings::all_of_seeds(true).into_iter().map(|setting| (setting, seeds::check as Check));
    for ((key, (about, schema)), check) in models.chain(of_seeds) {
        assert!(!about.is_empty() && (schema != serde_json::json!({}) || key == "meta"), "`{key}` is not described");
        for word in words(&schema) {
            assert!(check(key, &word).is_ok(), "`{key}`: {word}");
        }
    }
}

#[test]
fn options_of_sources_are_described() {
    let described = known_keys();
    let schema = YamlFile::Sources.schema();
    let options = &schema["$defs"]["source_table"]["properties"]["options"]["properties"];
    for key in &described["group of source options"] {
        assert!(options[key]["description"].is_string(), "`{key}` is not described");
    }
}

/// Keys of a schema that nothing is said of, with the mapping that they stand in.
fn silent(schema: &Value, defs: &Value, title: &str, found: &mut BTreeSet<String>) {
    match schema {
        Value::Array(items) => items.iter().for_each(|item| silent(item, defs, title, found)),
        Value::Object(entries) => {
            let title = schema["title"].as_str().unwrap_or(title);
            for (key, property) in schema["properties"].as_object().into_iter().flatten() {
                let referred = property["$ref"].as_str().and_then(|name| defs.get(name.rsplit('/').next()?));
                let described = property["description"].as_str().or(referred.and_then(|r| r["description"].as_str()));
                if property.is_object() && described.is_none_or(str::is_empty) {
                    found.insert(format!("{title}: {key}"));
                }
            }
            // A condition describes nothing.
            let inner = entries.iter().filter(|(key, _)| *key != "if");
            inner.for_each(|(_, value)| silent(value, defs, title, found));
        }
        _ => {}
    }
}

#[test]
fn every_key_is_described() {
    let mut found = BTreeSet::new();
    for file in YamlFile::ALL {
        let schema = file.schema();
        silent(&schema, &schema["$defs"], file.name(), &mut found);
    }
    assert_eq!(found, BTreeSet::new(), "say in src/project/schema/ what these mean");
}

#[test]
fn defaults_are_values_that_are_accepted() {
    let models = settings::all_of_models().into_iter();
    for (key, (_, schema)) in models.filter(|(_, (_, schema))| !schema["default"].is_null()) {
        assert_eq!(config::check(key, &schema["default"]), Ok(()), "{key}");
    }
}
