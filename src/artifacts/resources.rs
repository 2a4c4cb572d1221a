//! Sources, exposures, groups, unit tests, macros and selectors for dbt's manifest.

use serde_json::{Value, json};

use super::nodes::reference;
use super::shape::{columns, fqn, object};
use super::{OWN_KEY, ids};
use crate::compile;
use crate::names::TableName;
use crate::project::{
    CellValue, Definition, EXPORT_SCHEMA, Export, Exposure, Group, Owner, Project, Rows, Selector, Source, UnitSubject,
    UnitTest,
};
use crate::run::Runtime;
use crate::template;

/// A source table.
pub(super) fn source(runtime: &Runtime, source: &Source) -> Value {
    let (project, name) = (&runtime.project, &source.name);
    let path = source.span.file.path.as_str();
    let freshness = source.ingestion.freshness.as_ref().map(
        |limits| json!({"warn_after": limits.warn_after, "error_after": limits.error_after, "filter": limits.filter}),
    );
    let mut fqn = fqn(project, path, name.table);
    fqn.insert(fqn.len() - 1, name.schema);
    let loaded_at_field = &source.ingestion.loaded_at_field;
    json!({
        "database": project.target.name,
        "schema": name.schema,
        "name": name.table,
        "resource_type": "source",
        "package_name": project.name,
        "path": path,
        "original_file_path": path,
        "unique_id": ids::node(project, name),
        "fqn": fqn,
        "source_name": name.schema,
        "source_description": "",
        "loader": "",
        "identifier": name.table,
        "quoting": {"database": null, "schema": null, "identifier": null, "column": null},
        "loaded_at_field": loaded_at_field,
        "loaded_at_query": null,
        "freshness": freshness,
        "external": {"location": source.path, "file_format": source.format},
        "description": source.description,
        "columns": columns(runtime.compiled.sources.get(name), &source.columns),
        "meta": {},
        "source_meta": {},
        "tags": source.tags,
        "config": {
            "enabled": true,
            "event_time": source.event_time.as_ref().map(|(column, _)| column),
            "freshness": freshness,
            "loaded_at_field": loaded_at_field,
            "loaded_at_query": null,
            "meta": {},
            "tags": source.tags,
            OWN_KEY: {"state": compile::state::of_source(source)},
        },
        "patch_path": null,
        "unrendered_config": {},
        "relation_name": name.quoted(),
    })
}

/// An exposure.
pub(super) fn exposure(project: &Project, exposure: &Exposure) -> Value {
    let reads = || exposure.depends_on.iter().map(|(name, _)| name);
    let is_source = |name: &&TableName| project.sources.contains_key(*name);
    let refs: Vec<Value> = reads()
        .filter(|name| !is_source(name))
        .map(|name| json!({"name": name.table, "package": null, "version": null}))
        .collect();
    let sources: Vec<[&str; 2]> = reads().filter(is_source).map(|name| [name.schema, name.table]).collect();
    let nodes: Vec<String> = reads().map(|name| ids::node(project, name)).collect();
    let (path, name, meta) = (exposure.span.file.path.as_str(), exposure.name.table, object(&exposure.meta));
    json!({
        "name": name,
        "resource_type": "exposure",
        "package_name": project.name,
        "path": path,
        "original_file_path": path,
        "unique_id": ids::node(project, &exposure.name),
        "fqn": fqn(project, path, name),
        "type": exposure.kind,
        "owner": exposure.owner,
        "description": exposure.description,
        "label": exposure.label,
        "maturity": exposure.maturity,
        "meta": meta,
        "tags": exposure.tags,
        "config": {
            "enabled": true,
            "tags": exposure.tags,
            "meta": meta,
            OWN_KEY: {"state": compile::state::of_exposure(exposure)},
        },
        "unrendered_config": {},
        "url": exposure.url,
        "depends_on": {"macros": [], "nodes": nodes},
        "refs": refs,
        "sources": sources,
        "metrics": [],
    })
}

/// An export. dbt has none: among what it knows it is an application that reads one model.
pub(super) fn export(project: &Project, export: &Export) -> Value {
    let owner = project.models.get(export.model()).and_then(|model| model.config.owner.clone());
    let mut node = exposure(
        project,
        &Exposure {
            name: export.name.clone(),
            span: export.span.clone(),
            kind: "application",
            label: None,
            owner: Owner { name: owner, email: None },
            url: None,
            maturity: None,
            description: export.description.clone(),
            tags: export.tags.clone(),
            meta: export.meta.clone(),
            depends_on: vec![export.model.clone()],
        },
    );
    node["config"][OWN_KEY] = json!({
        "state": compile::state::of_export(export),
        "resource_type": EXPORT_SCHEMA,
        "format": export.format.name(),
        "location": crate::stores::without_secret(&export.path.0),
    });
    node
}

/// A group of models.
pub(super) fn group(project: &Project, group: &Group) -> Value {
    let path = group.span.file.path.as_str();
    json!({
        "name": group.name,
        "resource_type": "group",
        "package_name": project.name,
        "path": path,
        "original_file_path": path,
        "unique_id": group_id(project, &group.name),
        "owner": group.owner,
        "description": group.description,
        "config": {"meta": {}},
    })
}

/// The id of a group.
pub(super) fn group_id(project: &Project, name: &str) -> String {
    format!("group.{}.{name}", project.name)
}

/// A unit test. That of a macro has the macro where dbt has a model: dbt tests models only.
pub(super) fn unit_test(project: &Project, test: &UnitTest) -> Value {
    let (path, subject) = (test.span.file.path.as_str(), ids::unit_subject(test));
    let (given, expect, depends_on) = match &test.subject {
        UnitSubject::Model(case) => {
            let given: Vec<Value> = case
                .runs
                .iter()
                .flat_map(|run| &run.given)
                .map(|given| {
                    let is_this = given.input == case.model;
                    let input = if is_this { "this".to_owned() } else { reference(project, &given.input) };
                    rows(&given.rows, json!({ "input": input }))
                })
                .collect();
            let model = ids::node(project, &case.model);
            (given, rows(&case.expect, json!({})), json!({"macros": [], "nodes": [model]}))
        }
        UnitSubject::Macro(cases) => {
            let called = ids::macro_(project, ids::plain_macro(&cases.name));
            let expected =
                cases.cases.iter().map(|case| json!({"arguments": case.arguments, "expect": cell(&case.expect.value)}));
            let expect = json!({"rows": expected.collect::<Vec<_>>(), "format": "dict", "fixture": null});
            (Vec::new(), expect, json!({"macros": [called], "nodes": []}))
        }
    };
    json!({
        "model": subject,
        "given": given,
        "expect": expect,
        "name": test.name,
        "resource_type": "unit_test",
        "package_name": project.name,
        "path": path,
        "original_file_path": path,
        "unique_id": ids::unit_test(project, test),
        "fqn": [project.name, subject, test.name],
        "description": test.description,
        "overrides": null,
        "depends_on": depends_on,
        "config": {
            "tags": test.config.tags,
            "meta": object(&test.config.meta),
            "enabled": test.config.enabled,
            OWN_KEY: {"state": {"body": compile::state::of_unit_test(test)}},
        },
        "checksum": null,
        "schema": test.model().map(|model| model.schema),
        "versions": null,
        "version": null,
    })
}

/// Given or expected rows, beside what else is said of them.
fn rows(rows: &Rows, mut fixture: Value) -> Value {
    let (format, rows): (_, Value) = match rows {
        Rows::Query { sql, .. } => ("sql", sql.as_str().into()),
        Rows::Table(table) => {
            let row = |cells: &Vec<(usize, crate::project::Cell)>| -> Value {
                cells.iter().map(|(column, found)| (table.columns[*column].0.clone(), cell(&found.value))).collect()
            };
            ("dict", table.rows.iter().map(row).collect())
        }
    };
    fixture["rows"] = rows;
    fixture["format"] = format.into();
    fixture["fixture"] = Value::Null;
    fixture
}

fn cell(value: &CellValue) -> Value {
    match value {
        CellValue::Null => Value::Null,
        CellValue::Text(text) => text.as_str().into(),
        CellValue::Nested(value) => value.clone(),
    }
}

/// The macros of the project.
pub(super) fn macros(project: &Project) -> Value {
    let one = |(name, text, path): (&str, &str, &str)| {
        let unique_id = ids::macro_(project, name);
        let called = project.macros.reached(text);
        let called = called.keys().filter(|other| **other != name).map(|other| ids::macro_(project, other));
        let node = json!({
            "name": name,
            "resource_type": "macro",
            "package_name": project.name,
            "path": path,
            "original_file_path": path,
            "unique_id": unique_id,
            "macro_sql": text,
            "depends_on": {"macros": called.collect::<Vec<_>>()},
            "description": "",
            "meta": {},
            "docs": {"show": true, "node_color": null},
            "config": {"meta": {}, "docs": {"show": true, "node_color": null}},
            "patch_path": null,
            "arguments": [],
            "supported_languages": null,
        });
        (unique_id, node)
    };
    project.macros.texts().map(one).collect()
}

/// Blocks of documentation, and the page that dbt's documentation begins with.
pub(super) fn docs(project: &Project) -> Value {
    let entry = |package: &str, name: &str, path: &str, text: &str| {
        let unique_id = format!("doc.{package}.{name}");
        let node = json!({
            "name": name,
            "resource_type": "doc",
            "package_name": package,
            "path": path,
            "original_file_path": path,
            "unique_id": unique_id,
            "block_contents": text,
        });
        (unique_id, node)
    };
    let overview =
        format!("### {}\n\nSources, models and tests of this project, as `lake` compiled them.", project.name);
    let own = template::docs_blocks(&project.docs);
    let own = own.iter().map(|(name, text, path)| entry(&project.name, name, path, text));
    own.chain([entry("dbt", "__overview__", "overview.md", &overview)]).collect()
}

/// What `selectors.yml` defines.
pub(super) fn selectors(project: &Project) -> Value {
    let one = |selector: &Selector| {
        let definition = json!({
            "name": selector.name,
            "description": selector.description,
            "default": selector.default,
            "definition": definition(&selector.definition),
        });
        (selector.name.clone(), definition)
    };
    project.selectors.values().map(one).collect()
}

fn definition(of: &Definition) -> Value {
    let list = |parts: &[Definition]| parts.iter().map(definition).collect::<Vec<_>>();
    match of {
        Definition::Text(text) => text.as_str().into(),
        Definition::Method(method) => json!({
            "method": method.method,
            "value": method.value,
            "parents": method.parents.is_some(),
            "children": method.children.is_some(),
            "childrens_parents": method.childrens_parents,
        }),
        Definition::Union(parts) => json!({ "union": list(parts) }),
        Definition::Intersection(parts) => json!({ "intersection": list(parts) }),
        Definition::Except(all, without) => json!({"union": [definition(all), {"exclude": list(without)}]}),
    }
}
