//! `catalog.json`: what is published, as dbt writes it.

use std::collections::BTreeMap;

use datafusion::arrow::datatypes::SchemaRef;
use serde_json::{Map, Value, json};

use super::{ArtifactError, ids, metadata, write_json};
use crate::catalog::sql_type;
use crate::names::TableName;
use crate::project::{Column, Materialization, Model};
use crate::run::Runtime;
use crate::tables::Published;

/// Writes `catalog.json`: tables with the published version's columns and sizes, views, and sources.
///
/// # Errors
/// When the folder cannot be written to.
pub fn write_catalog(runtime: &Runtime, published: &BTreeMap<TableName, Published>) -> Result<(), ArtifactError> {
    let (project, compiled) = (&runtime.project, &runtime.compiled);
    let nodes: Map<String, Value> = project
        .models
        .values()
        .filter_map(|model| {
            let table = published.get(&model.name);
            let schema = match table {
                Some(table) => &table.schema,
                None if model.config.materialized == Materialization::View => &compiled.models.get(&model.name)?.schema,
                None => return None,
            };
            Some((ids::node(project, &model.name), of_model(runtime, model, schema, table)))
        })
        .collect();
    let sources: Map<String, Value> = project
        .sources
        .values()
        .filter_map(|source| {
            let schema = compiled.sources.get(&source.name)?;
            let unique_id = ids::node(project, &source.name);
            let about = About { kind: "external", comment: &source.description, owner: None };
            Some((unique_id, about.table(runtime, &source.name, schema, &source.columns, stats(None))))
        })
        .collect();
    let value = json!({
        "metadata": metadata("catalog/v1", &runtime.options),
        "nodes": nodes,
        "sources": sources,
        "errors": null,
    });
    write_json(&runtime.folder, "catalog.json", &value)
}

fn of_model(runtime: &Runtime, model: &Model, schema: &SchemaRef, table: Option<&Published>) -> Value {
    let about = About {
        kind: if table.is_some() { "table" } else { "view" },
        comment: &model.description,
        owner: model.config.owner.as_deref(),
    };
    about.table(runtime, &model.name, schema, &model.columns, stats(table))
}

struct About<'a> {
    kind: &'static str,
    comment: &'a str,
    owner: Option<&'a str>,
}

impl About<'_> {
    fn table(
        &self,
        runtime: &Runtime,
        name: &TableName,
        schema: &SchemaRef,
        described: &[Column],
        stats: Value,
    ) -> Value {
        let columns = schema.fields().iter().enumerate().map(|(at, field)| {
            let comment = described.iter().find(|column| column.name == *field.name()).map(|c| c.description.as_str());
            let comment = comment.filter(|text| !text.is_empty());
            let column = json!({
                "type": sql_type(field.data_type()), "index": at + 1, "name": field.name(), "comment": comment,
            });
            (field.name().clone(), column)
        });
        json!({
            "metadata": {
                "type": self.kind,
                "schema": name.schema,
                "name": name.table,
                "database": runtime.project.target.name,
                "comment": Some(self.comment).filter(|text| !text.is_empty()),
                "owner": self.owner,
            },
            "columns": columns.collect::<Map<String, Value>>(),
            "stats": stats,
            "unique_id": ids::node(&runtime.project, name),
        })
    }
}

/// Numbers of a table, in dbt's form.
fn stats(table: Option<&Published>) -> Value {
    let mut found = Map::new();
    let mut say = |id: &str, label: &str, value: Value, description: &str| {
        let include = !value.is_null() && id != "has_stats";
        let one = json!({
            "id": id, "label": label, "value": value, "include": include, "description": description,
        });
        found.insert(id.to_owned(), one);
    };
    say("has_stats", "Has Stats?", table.is_some().into(), "Indicates whether there are statistics for this table");
    if let Some(table) = table {
        let modified = table.committed_at().map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
        say("num_rows", "Rows", json!(table.rows()), "Rows of the published version");
        say("num_bytes", "Bytes", table.bytes().into(), "Bytes of its data files");
        say("num_files", "Files", table.file_count().into(), "Data files of the published version");
        say("version", "Version", table.version().into(), "The published version of the Delta table");
        say("last_modified", "Last modified", json!(modified), "When that version was committed");
    }
    Value::Object(found)
}
