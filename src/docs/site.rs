//! One self-contained HTML page: catalogue and lineage graph, with the data inside.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::artifacts::{exposure_json, model_json, source_json};
use crate::names::TableName;
use crate::run::Runtime;
use crate::tables::Published;

/// The page without its data.
const TEMPLATE: &str = include_str!("site.html");
/// Where the data goes.
const PLACE: &str = "__LAKE_DATA__";

/// The page for a project, with the published versions and the last run as far as they are known.
pub fn page(runtime: &Runtime, published: &BTreeMap<TableName, Published>, last_run: Option<&Value>) -> String {
    let data = data(runtime, published, last_run).to_string();
    // The JSON stands inside a script element, which only `</script` could end.
    TEMPLATE.replacen(PLACE, &data.replace('<', "\\u003c"), 1)
}

fn data(runtime: &Runtime, published: &BTreeMap<TableName, Published>, last_run: Option<&Value>) -> Value {
    let models = runtime.project.models.values().map(|model| {
        let last = last_run.and_then(|run| find(&run["nodes"], &model.name.to_string()));
        let mut node = model_json(runtime, model);
        node["kind"] = json!(model.resource_type());
        node["owner"] = json!(model.config.owner);
        node["tags"] = json!(model.config.tags);
        node["materialized"] = json!(model.config.materialized.name());
        if let Some(table) = published.get(&model.name) {
            node["version"] = json!(table.version());
            node["rows"] = json!(table.rows());
            node["bytes"] = json!(table.bytes());
        }
        if let Some(last) = last {
            node["last_status"] = last["status"].clone();
            node["last_message"] = last["reason"].clone();
            node["last_seconds"] = last["seconds"].clone();
        }
        node
    });
    let sources = runtime.project.sources.values().map(|source| {
        let mut node = source_json(runtime, source);
        node["kind"] = json!("source");
        node["depends_on"] = json!([]);
        node
    });
    let exposures = runtime.project.exposures.values().map(|exposure| {
        let mut node = exposure_json(exposure);
        node["kind"] = json!("exposure");
        node["owner"] = json!(exposure.owner.name.as_ref().or(exposure.owner.email.as_ref()));
        node["columns"] = json!([]);
        node
    });
    let nodes: Vec<Value> =
        models.chain(sources).chain(exposures).map(|node| shaped(runtime, node, last_run)).collect();
    json!({
        "project": runtime.project.name,
        "target": runtime.project.target.name,
        "generated_at": runtime.options.started_at,
        "lake_version": env!("CARGO_PKG_VERSION"),
        "nodes": nodes,
    })
}

/// The fields that the page expects of every node.
fn shaped(runtime: &Runtime, mut node: Value, last_run: Option<&Value>) -> Value {
    let full = node["name"].as_str().unwrap_or_default().to_owned();
    let (layer, name) = full.split_once('.').unwrap_or(("", &full));
    node["id"] = json!(full);
    node["layer"] = json!(layer);
    node["name"] = json!(name);
    for optional in ["materialized", "owner", "raw_code", "compiled_code", "version", "rows", "bytes"] {
        node.as_object_mut().expect("a node is an object").entry(optional).or_insert(Value::Null);
    }
    let tests: Vec<Value> = runtime
        .compiled
        .tests
        .iter()
        .filter(|test| match &test.table {
            Some(table) => table.to_string() == full,
            None => test.reads.iter().any(|read| read.to_string() == full),
        })
        .map(|test| {
            let result = last_run.and_then(|run| find_test(run, &test.name));
            json!({
                "name": test.name, "column": test.column(), "severity": test.config.severity,
                "status": result.map(|r| r["status"].clone()), "failures": result.map(|r| r["failures"].clone()),
            })
        })
        .collect();
    node["tests"] = Value::Array(tests);
    node
}

fn find<'a>(list: &'a Value, name: &str) -> Option<&'a Value> {
    list.as_array()?.iter().find(|item| item["name"] == name)
}

fn find_test<'a>(run: &'a Value, name: &str) -> Option<&'a Value> {
    let in_nodes = run["nodes"].as_array()?.iter().find_map(|node| find(&node["tests"], name));
    in_nodes.or_else(|| find(&run["tests"], name))
}
