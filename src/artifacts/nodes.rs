//! Models, seeds, data tests and hooks for dbt's manifest.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::plain::LineageNode;
use super::shape::{
    Checksum, GenericPart, HookPart, Kind, MacroDependsOn, ModelPart, Node, QueryPart, SeedPart, TestMetadata, columns,
    object,
};
use super::{OWN_KEY, ids};
use crate::checks::Argument;
use crate::compile::state::NodeState;
use crate::compile::{self, CompiledTest};
use crate::names::TableName;
use crate::project::{Column, Constraint, Hook, Materialization, Model, Project, TestKind, TestSeverity};
use crate::run::Runtime;
use crate::template;

/// What `lake` reads back of a model.
#[derive(Serialize)]
struct Kept<'a> {
    fingerprint: Option<&'a str>,
    compiled_code_incremental: Option<&'a str>,
    lineage: Option<LineageNode<'a>>,
    state: NodeState,
    /// Settings that nobody set, and that are told to dbt as what holds then.
    #[serde(skip_serializing_if = "<[&str]>::is_empty")]
    unset: &'static [&'static str],
}

/// A model or a seed: its id, and JSON.
pub(super) fn model(runtime: &Runtime, model: &Model) -> (String, Vec<u8>) {
    let (project, compiled) = (&runtime.project, runtime.compiled.models.get(&model.name));
    let raw_code = model.full.file.text();
    let kept = Kept {
        fingerprint: compiled.map(|compiled| compiled.definition.as_str()),
        compiled_code_incremental: model.incremental.as_ref().map(|rendered| rendered.sql.as_str()),
        lineage: compiled.map(|compiled| LineageNode::new(&compiled.lineage)),
        state: compile::state::of_model(project, &runtime.compiled, model),
        unset: unset(model),
    };
    let kind = match &model.seed {
        Some(_) => Kind::Seed(SeedPart { root_path: None, depends_on: MacroDependsOn { macros: [] } }),
        None => Kind::Model(Box::new(model_part(runtime, model, &kept.state))),
    };
    let checksum = match compiled.and_then(|compiled| compiled.content.clone()) {
        Some(checksum) => Checksum { name: "blake3", checksum },
        None => Checksum::of(raw_code),
    };
    let (unique_id, name) = (ids::node(project, &model.name), model.name.table);
    let node = Node {
        schema: model.name.schema,
        checksum,
        config: model_config(model, &kept),
        tags: &model.config.tags,
        description: &model.description,
        columns: columns(compiled.map(|compiled| &*compiled.schema), &model.columns),
        meta: object(&model.config.meta),
        group: model.config.group.as_deref(),
        patch_path: model.described_in.as_ref().map(|path| format!("{}://{path}", project.name)),
        relation_name: Some(model.name.quoted()),
        raw_code,
        ..Node::new(project, model.resource_type(), unique_id, name, &model.path, kind)
    };
    node.finish()
}

fn model_part<'a>(runtime: &'a Runtime, model: &'a Model, state: &NodeState) -> ModelPart<'a> {
    let project = &runtime.project;
    let macros = project.macros.reached(model.full.file.text());
    let macros = macros.keys().map(|name| ids::macro_(project, name)).collect();
    let is_key = |column: &&Column| column.constraints.iter().any(|(c, _)| *c == Constraint::PrimaryKey);
    let mut primary_key: Vec<&str> = model.columns.iter().filter(is_key).map(|column| column.name.as_str()).collect();
    if primary_key.is_empty() {
        primary_key.extend(model.config.unique_key.iter().map(String::as_str));
    }
    let parents = runtime.graph.parents(&model.name);
    let mut query = QueryPart::new(project, parents.into_iter(), macros, Some(model.full.sql.clone()));
    query.contract.enforced = model.config.contract;
    query.contract.checksum = Some(state.contract.clone()).filter(|checksum| !checksum.is_empty());
    ModelPart {
        query,
        access: model.config.access.name(),
        constraints: [],
        version: None,
        latest_version: None,
        deprecation_date: None,
        primary_key,
    }
}

/// What `on_schema_change` is where nobody sets it: dbt wants to know it of incremental models with a contract.
const ON_SCHEMA_CHANGE: &str = "fail";

fn unset(model: &Model) -> &'static [&'static str] {
    let is_open = model.config.on_schema_change.is_none() && model.config.materialized == Materialization::Incremental;
    if is_open { &["on_schema_change"] } else { &[] }
}

/// The settings under their own names, and those that dbt has in another shape.
fn model_config(model: &Model, kept: &Kept<'_>) -> Value {
    let mut config = serde_json::to_value(&model.config).unwrap_or_default();
    if let Some(config) = config.as_object_mut() {
        config.insert("contract".to_owned(), json!({"enforced": model.config.contract, "alias_types": true}));
        config.insert("meta".to_owned(), object(&model.config.meta));
        for (name, hooks) in [("pre-hook", &model.config.pre_hook), ("post-hook", &model.config.post_hook)] {
            config.insert(name.to_owned(), hooks.iter().map(hook_json).collect());
        }
        config.extend(kept.unset.iter().map(|key| ((*key).to_owned(), ON_SCHEMA_CHANGE.into())));
        config.insert(OWN_KEY.to_owned(), serde_json::to_value(kept).unwrap_or_default());
    }
    config
}

fn hook_json(hook: &Hook) -> Value {
    json!({"sql": hook.texts().join(" "), "transaction": true, "index": null})
}

/// A data test: its id, and JSON.
pub(super) fn test(project: &Project, test: &CompiledTest) -> (String, Vec<u8>) {
    let raw_code = match &test.kind {
        TestKind::Singular { rendered } => rendered.file.text().to_owned(),
        kind => generic_code(kind.name()),
    };
    let query = QueryPart::new(project, test.reads.iter(), Vec::new(), Some(test.failures_sql()));
    let file_name = format!("{}.sql", test.name);
    let (kind, checksum) = match test.kind {
        TestKind::Singular { .. } => (Kind::Singular(query), Checksum::of(&raw_code)),
        _ => (Kind::Generic(Box::new(generic_part(project, test, query))), Checksum::none()),
    };
    let is_singular = matches!(kind, Kind::Singular(_));
    let mut node = Node {
        checksum,
        config: test_config(test),
        tags: &test.config.tags,
        description: &test.description,
        meta: object(&test.config.meta),
        raw_code: &raw_code,
        ..Node::new(project, "test", ids::test(project, test), &test.name, &test.span.file.path, kind)
    };
    if !is_singular {
        // dbt makes a file of each.
        node.path = &file_name;
    }
    node.finish()
}

/// dbt's raw code of a generic test.
fn generic_code(name: &str) -> String {
    format!("{{{{ test_{name}(**_dbt_generic_test_kwargs) }}}}")
}

fn generic_part<'a>(project: &Project, test: &'a CompiledTest, query: QueryPart<'a>) -> GenericPart<'a> {
    let table = test.table.as_ref();
    let model = table.and_then(|table| project.models.get(table));
    GenericPart {
        query,
        column_name: test.column(),
        file_key_name: table.map(|table| match model {
            Some(model) => format!("{}s.{}", model.resource_type(), table.table),
            None => format!("sources.{}", table.schema),
        }),
        attached_node: model.map(|model| ids::node(project, &model.name)),
        test_metadata: TestMetadata { name: test.kind.name(), kwargs: arguments(project, test), namespace: None },
    }
}

/// What a generic test is called with, as dbt keeps it.
fn arguments(project: &Project, test: &CompiledTest) -> Map<String, Value> {
    let mut found = Map::new();
    found.extend(test.column().map(|column| ("column_name".to_owned(), column.into())));
    if let Some(table) = &test.table {
        let relation = reference(project, table);
        found.insert("model".to_owned(), format!("{{{{ get_where_subquery({relation}) }}}}").into());
    }
    match &test.kind {
        TestKind::Generic { arguments, .. } => found.extend(arguments.iter().map(|(name, argument)| {
            let value = match argument {
                Argument::Value(value) => value.clone(),
                Argument::Table(other) => reference(project, other).into(),
            };
            (name.clone(), value)
        })),
        TestKind::Custom { call, .. } => found.extend(call.arguments.iter().map(|(name, argument)| {
            let value = match argument {
                template::Argument::Value(value) => value.clone(),
                template::Argument::Expression(expression) => expression.as_str().into(),
            };
            (name.clone(), value)
        })),
        TestKind::Singular { .. } => {}
    }
    found
}

/// `ref('orders')`, or `source('raw', 'orders')`.
pub(super) fn reference(project: &Project, name: &TableName) -> String {
    match project.sources.contains_key(name) {
        true => format!("source('{}', '{}')", name.schema, name.table),
        false => format!("ref('{}')", name.table),
    }
}

fn test_config(test: &CompiledTest) -> Value {
    let config = &test.config;
    let severity = if config.severity == TestSeverity::Warn { "WARN" } else { "ERROR" };
    json!({
        "enabled": config.enabled,
        "tags": config.tags,
        "meta": object(&config.meta),
        "materialized": "test",
        "severity": severity,
        "store_failures": config.store_failures,
        "where": config.filter,
        "limit": config.limit,
        "fail_calc": config.fail_calc.as_deref().unwrap_or("count(*)"),
        "warn_if": config.warn_if.to_string(),
        "error_if": config.error_if.to_string(),
        "on_violation": config.on_violation,
        "audit": config.audit,
        "owner": config.owner,
        OWN_KEY: { "state": { "body": compile::state::of_test(test) } },
    })
}

/// A hook of a run: its id, and JSON.
pub(super) fn hook(project: &Project, title: &str, index: usize, hook: &Hook) -> (String, Vec<u8>) {
    let (name, code) = (ids::hook_name(project, title, index), hook.texts().join(" "));
    let (path, tags) = (format!("hooks/{name}.sql"), [title.to_owned()]);
    let query = QueryPart::new(project, std::iter::empty(), Vec::new(), None);
    let kind = Kind::Hook(HookPart { query, index });
    let node = Node {
        path: &path,
        original_file_path: "./project.yml",
        fqn: vec![&project.name, "hooks", &name],
        checksum: Checksum::of(&code),
        config: json!({"enabled": true, "materialized": "view", "tags": tags}),
        tags: &tags,
        raw_code: &code,
        ..Node::new(project, "operation", ids::hook(project, title, index), &name, &path, kind)
    };
    node.finish()
}
