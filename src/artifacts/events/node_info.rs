//! `node_info`: what every event about a node says of it.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::artifacts::shape::{below, object};
use crate::artifacts::{ids, moment};
use crate::compile::CompiledTest;
use crate::names::TableName;
use crate::project::{Model, Project};
use crate::run::{ExportResult, HookResult, UnitTestResult};

/// What is said of a node, whatever becomes of it.
pub(super) struct NodeInfo {
    pub(super) unique_id: String,
    pub(super) resource_type: &'static str,
    pub(super) name: String,
    path: String,
    materialized: &'static str,
    meta: Value,
    relation: Value,
}

/// From when to when; nothing if it did not run.
pub(super) type Times = Option<(DateTime<Utc>, Option<f64>)>;

impl NodeInfo {
    fn new(unique_id: String, resource_type: &'static str, name: &str, path: &str) -> Self {
        Self {
            unique_id,
            resource_type,
            name: name.to_owned(),
            path: below(path).to_owned(),
            materialized: resource_type,
            meta: json!({}),
            relation: Value::Null,
        }
    }

    pub(super) fn of_model(project: &Project, model: &Model) -> Self {
        let unique_id = ids::node(project, &model.name);
        Self {
            materialized: model.config.materialized.name(),
            meta: object(&model.config.meta),
            relation: relation(project, &model.name),
            ..Self::new(unique_id, model.resource_type(), model.name.table, &model.path)
        }
    }

    pub(super) fn of_test(project: &Project, test: &CompiledTest) -> Self {
        let meta = object(&test.config.meta);
        Self { meta, ..Self::new(ids::test(project, test), "test", &test.name, &test.span.file.path) }
    }

    /// A test of which nothing but the name is known.
    pub(super) fn of_named_test(project: &Project, name: &str) -> Self {
        Self::new(ids::generic_test(&project.name, name), "test", name, "")
    }

    pub(super) fn of_unit_test(project: &Project, result: &UnitTestResult) -> Self {
        let subject = match (&result.model, &result.macro_name) {
            (Some(model), _) => model.table,
            (None, name) => ids::plain_macro(name.as_deref().unwrap_or_default()),
        };
        let unique_id = ids::unit_test_of(&project.name, subject, &result.name);
        Self::new(unique_id, "unit_test", &result.name, &result.path)
    }

    pub(super) fn of_export(project: &Project, export: &ExportResult) -> Self {
        let path = project.exports.get(&export.name).map_or("", |export| export.span.file.path.as_str());
        Self::new(ids::node(project, &export.name), "exposure", export.name.table, path)
    }

    pub(super) fn of_source(project: &Project, name: &TableName) -> Self {
        let path = project.sources.get(name).map_or("", |source| source.span.file.path.as_str());
        let relation = relation(project, name);
        Self { relation, ..Self::new(ids::node(project, name), "source", name.table, path) }
    }

    pub(super) fn of_hook(project: &Project, hook: &HookResult, index: usize) -> Self {
        let name = ids::hook_name(project, &hook.name, index);
        Self::new(ids::hook(project, &hook.name, index), "operation", &name, "project.yml")
    }

    /// A table of which no model is known: what runs leave, or what was left out.
    pub(super) fn of_table(project: &Project, name: &TableName) -> Self {
        let relation = relation(project, name);
        Self { relation, ..Self::new(ids::node(project, name), "model", name.table, "") }
    }

    /// As JSON, with what became of the node.
    pub(super) fn json(&self, status: &str, times: Times) -> Value {
        let started = times.map(|(started, _)| moment(started));
        let ended = times.and_then(|(started, seconds)| Some(moment(after(started, seconds?))));
        json!({
            "unique_id": self.unique_id,
            "resource_type": self.resource_type,
            "node_name": self.name,
            "node_path": self.path,
            "materialized": self.materialized,
            "node_status": status,
            "node_started_at": started.unwrap_or_default(),
            "node_finished_at": ended.unwrap_or_default(),
            "meta": self.meta,
            "node_relation": self.relation,
        })
    }
}

/// A moment so many seconds later.
pub(super) fn after(start: DateTime<Utc>, seconds: f64) -> DateTime<Utc> {
    start + chrono::Duration::microseconds((seconds * 1e6) as i64)
}

fn relation(project: &Project, name: &TableName) -> Value {
    json!({
        "database": project.target.name, "schema": name.schema, "alias": name.table, "relation_name": name.quoted(),
    })
}
