//! Nodes as `lake` itself tells of them: `--output json` of `compile` and `ls`, and the documentation page.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, SchemaRef};
use serde::Serialize;
use serde_json::{Value, json};

use crate::catalog::sql_type;
use crate::compile::state::NodeState;
use crate::compile::{self, ColumnName, Lineage, Use};
use crate::names::TableName;
use crate::project::{Column, Export, Exposure, Model, ModelConfig, Source, UnitSubject, UnitTest};
use crate::run::Runtime;

/// A model for other programs.
pub fn model_json(runtime: &Runtime, model: &Model) -> Value {
    serde_json::to_value(ModelNode::new(runtime, model)).expect("a model is JSON")
}

/// The shape of a model in the manifest.
#[derive(Serialize)]
struct ModelNode<'a> {
    name: &'a TableName,
    resource_type: &'static str,
    path: &'a str,
    description: &'a str,
    config: &'a ModelConfig,
    depends_on: Vec<&'a TableName>,
    columns: Vec<ColumnNode<'a>>,
    raw_code: &'a str,
    compiled_code: &'a str,
    compiled_code_incremental: Option<&'a str>,
    fingerprint: Option<&'a str>,
    lineage: Option<LineageNode<'a>>,
    state: NodeState,
}

impl<'a> ModelNode<'a> {
    fn new(runtime: &'a Runtime, model: &'a Model) -> Self {
        let compiled = runtime.compiled.models.get(&model.name);
        let schema = compiled.map(|compiled| &*compiled.schema);
        Self {
            name: &model.name,
            resource_type: model.resource_type(),
            path: &model.path,
            description: &model.description,
            config: &model.config,
            depends_on: runtime.graph.parents(&model.name),
            columns: column_nodes(runtime, &model.name, schema, &model.columns),
            raw_code: model.full.file.text(),
            compiled_code: &model.full.sql,
            compiled_code_incremental: model.incremental.as_ref().map(|rendered| rendered.sql.as_str()),
            fingerprint: compiled.map(|compiled| compiled.definition.as_str()),
            lineage: compiled.map(|compiled| LineageNode::new(&compiled.lineage)),
            state: compile::state::of_model(&runtime.project, &runtime.compiled, model),
        }
    }
}

/// Where each column comes from, one step up.
#[derive(Serialize)]
pub(super) struct LineageNode<'a> {
    columns: BTreeMap<&'a str, Vec<Origin<'a>>>,
    filters: &'a BTreeSet<ColumnName>,
}

#[derive(Serialize)]
struct Origin<'a> {
    table: &'a TableName,
    column: &'a str,
    #[serde(rename = "use")]
    how: Use,
}

impl<'a> LineageNode<'a> {
    pub(super) fn new(lineage: &'a Lineage) -> Self {
        let origin =
            |(from, how): (&'a ColumnName, &'a Use)| Origin { table: &from.table, column: &from.column, how: *how };
        let columns = lineage.columns.iter().map(|(column, from)| (column.as_str(), from.iter().map(origin).collect()));
        Self { columns: columns.collect(), filters: &lineage.filters }
    }
}

/// A source for other programs.
pub fn source_json(runtime: &Runtime, source: &Source) -> Value {
    let schema = runtime.compiled.sources.get(&source.name);
    json!({
        "name": source.name,
        "resource_type": "source",
        "path": source.path,
        "format": source.format,
        "description": source.description,
        "tags": source.tags,
        "columns": column_nodes(runtime, &source.name, schema, &source.columns),
        "state": compile::state::of_source(source),
    })
}

/// An exposure for other programs.
pub fn exposure_json(exposure: &Exposure) -> Value {
    let depends_on: Vec<&TableName> = exposure.depends_on.iter().map(|(name, _)| name).collect();
    json!({
        "name": exposure.name,
        "resource_type": "exposure",
        "path": exposure.span.file.path,
        "type": exposure.kind,
        "label": exposure.label,
        "owner": exposure.owner,
        "url": exposure.url,
        "maturity": exposure.maturity,
        "description": exposure.description,
        "tags": exposure.tags,
        "meta": exposure.meta,
        "depends_on": depends_on,
        "state": compile::state::of_exposure(exposure),
    })
}

/// An export for other programs.
pub fn export_json(export: &Export) -> Value {
    json!({
        "name": export.name,
        "resource_type": "export",
        "path": export.span.file.path,
        "to": crate::stores::without_secret(&export.path.0),
        "format": export.format.name(),
        "order_by": export.order_by.iter().map(|(order, _)| order).collect::<Vec<_>>(),
        "columns": export.columns.iter().map(|(column, _)| column).collect::<Vec<_>>(),
        "description": export.description,
        "tags": export.tags,
        "meta": export.meta,
        "depends_on": [export.model()],
        "state": compile::state::of_export(export),
    })
}

/// A unit test for other programs.
pub fn unit_test_json(test: &UnitTest) -> Value {
    let (macro_name, depends_on): (_, Vec<&TableName>) = match &test.subject {
        UnitSubject::Model(case) => (None, case.runs.iter().flat_map(|run| &run.given).map(|g| &g.input).collect()),
        UnitSubject::Macro(cases) => (Some(&cases.name), Vec::new()),
    };
    json!({
        "name": test.name,
        "resource_type": "unit_test",
        "path": test.span.file.path,
        "model": test.model(),
        "macro": macro_name,
        "given": depends_on,
        "description": test.description,
        "tags": test.config.tags,
        "meta": test.config.meta,
        "state": { "body": compile::state::of_unit_test(test) },
    })
}

/// A column for other programs: its type from the compiler, its description from YAML.
#[derive(Serialize)]
struct ColumnNode<'a> {
    name: &'a str,
    data_type: String,
    description: &'a str,
    tests: Vec<&'a str>,
}

fn column_nodes<'a>(
    runtime: &'a Runtime,
    table: &TableName,
    schema: Option<&'a SchemaRef>,
    described: &'a [Column],
) -> Vec<ColumnNode<'a>> {
    let fields = schema.into_iter().flat_map(|schema| schema.fields());
    let column = |field: &'a Arc<Field>| {
        let name = field.name().as_str();
        let description = described.iter().find(|column| column.name == *name).map_or("", |column| &column.description);
        let tests = runtime.compiled.tests_on(table).filter(|test| test.column() == Some(name));
        ColumnNode {
            name,
            data_type: sql_type(field.data_type()),
            description,
            tests: tests.map(|test| test.kind.name()).collect(),
        }
    };
    fields.map(column).collect()
}
