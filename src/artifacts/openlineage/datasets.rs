//! Tables and sources as datasets of OpenLineage: named by where they are, with columns, lineage and documentation.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use url::Url;

use super::facet;
use crate::catalog::sql_type;
use crate::compile::{ColumnName, Use};
use crate::names::TableName;
use crate::project::{Column, Model};
use crate::run::Runtime;
use crate::stores;

/// Namespace and name, as OpenLineage's naming conventions have them for files.
fn address(url: &Url) -> (String, String) {
    let path = percent_encoding::percent_decode_str(url.path()).decode_utf8_lossy().into_owned();
    let path = path.trim_end_matches('/');
    match (url.scheme(), url.host_str()) {
        ("file", _) | (_, None) => ("file".to_owned(), path.to_owned()),
        (scheme, Some(host)) => {
            let container = match url.username() {
                "" => String::new(),
                name => format!("{name}@"),
            };
            (format!("{scheme}://{container}{host}"), path.trim_start_matches('/').to_owned())
        }
    }
}

/// Where a table, or the files of a source, are.
fn place(runtime: &Runtime, name: &TableName) -> (String, String) {
    let Some(source) = runtime.project.sources.get(name) else { return address(&runtime.lake.table_url(name)) };
    // Of a pattern the folder that all its files are in.
    let fixed = source
        .path
        .find(['*', '?', '[', '{'])
        .map_or(source.path.as_str(), |at| source.path[..at].rsplit_once('/').map_or("", |(folder, _)| folder));
    if fixed.contains("://") {
        return match Url::parse(&stores::without_secret(fixed)) {
            Ok(url) => address(&url),
            Err(_) => ("file".to_owned(), fixed.to_owned()),
        };
    }
    let path = runtime.folder.join(fixed.trim_start_matches("./"));
    ("file".to_owned(), path.to_string_lossy().trim_end_matches('/').to_owned())
}

/// A dataset by its name alone.
fn named(runtime: &Runtime, name: &TableName) -> Map<String, Value> {
    let (namespace, name) = place(runtime, name);
    [("namespace".to_owned(), namespace.into()), ("name".to_owned(), name.into())].into_iter().collect()
}

/// A dataset that is read.
pub(super) fn input(runtime: &Runtime, name: &TableName, input_facets: Map<String, Value>) -> Value {
    let mut dataset = named(runtime, name);
    dataset.insert("facets".to_owned(), Value::Object(facets(runtime, name)));
    if !input_facets.is_empty() {
        dataset.insert("inputFacets".to_owned(), Value::Object(input_facets));
    }
    Value::Object(dataset)
}

/// The dataset that a model is.
pub(super) fn output(
    runtime: &Runtime,
    model: &Model,
    version: Option<u64>,
    output_facets: Map<String, Value>,
) -> Value {
    let mut dataset = named(runtime, &model.name);
    let mut facets = facets(runtime, &model.name);
    if let Some(version) = version {
        let version = json!({"datasetVersion": version.to_string()});
        facets.insert("version".to_owned(), facet("1-0-1/DatasetVersionDatasetFacet", version));
    }
    if let Some(lineage) = column_lineage(runtime, model) {
        facets.insert("columnLineage".to_owned(), facet("1-2-0/ColumnLineageDatasetFacet", lineage));
    }
    dataset.insert("facets".to_owned(), Value::Object(facets));
    if !output_facets.is_empty() {
        dataset.insert("outputFacets".to_owned(), Value::Object(output_facets));
    }
    Value::Object(dataset)
}

/// What is known of a dataset without looking at it.
fn facets(runtime: &Runtime, name: &TableName) -> Map<String, Value> {
    let (project, mut found) = (&runtime.project, Map::new());
    let (columns, description): (&[Column], &str) = match (project.models.get(name), project.sources.get(name)) {
        (Some(model), _) => (&model.columns, &model.description),
        (None, Some(source)) => (&source.columns, &source.description),
        (None, None) => (&[], ""),
    };
    if let Some(schema) = runtime.compiled.schema_of(name) {
        let fields = schema.fields().iter().map(|field| {
            let mut one = json!({"name": field.name(), "type": sql_type(field.data_type())});
            let described = columns.iter().find(|column| column.name == *field.name());
            if let Some(description) = described.map(|column| &column.description).filter(|text| !text.is_empty()) {
                one["description"] = description.as_str().into();
            }
            one
        });
        let fields: Vec<Value> = fields.collect();
        found.insert("schema".to_owned(), facet("1-2-0/SchemaDatasetFacet", json!({ "fields": fields })));
    }
    if !description.is_empty() {
        let documentation = json!({"description": description, "contentType": "text/markdown"});
        found.insert("documentation".to_owned(), facet("1-1-0/DocumentationDatasetFacet", documentation));
    }
    let identifiers = json!([{"namespace": project.name, "name": name.as_str(), "type": "TABLE"}]);
    found.insert("symlinks".to_owned(), facet("1-0-1/SymlinksDatasetFacet", json!({ "identifiers": identifiers })));
    found
}

/// Where each column comes from, one step up, and what decides the rows.
fn column_lineage(runtime: &Runtime, model: &Model) -> Option<Value> {
    let lineage = &runtime.compiled.models.get(&model.name)?.lineage;
    let field = |from: &ColumnName, how: Use| {
        let (kind, subtype, masking) = match how {
            Use::Copied => ("DIRECT", "IDENTITY", false),
            Use::Masked => ("DIRECT", "TRANSFORMATION", true),
            Use::Derived => ("DIRECT", "TRANSFORMATION", false),
            Use::Filter => ("INDIRECT", "FILTER", false),
        };
        let mut field = named(runtime, &from.table);
        field.insert("field".to_owned(), from.column.as_str().into());
        let how = json!([{"type": kind, "subtype": subtype, "description": "", "masking": masking}]);
        field.insert("transformations".to_owned(), how);
        Value::Object(field)
    };
    let fields: BTreeMap<&str, Value> = lineage
        .columns
        .iter()
        .map(|(column, from)| {
            let from: Vec<Value> = from.iter().map(|(from, how)| field(from, *how)).collect();
            (column.as_str(), json!({ "inputFields": from }))
        })
        .collect();
    let filters: Vec<Value> = lineage.filters.iter().map(|from| field(from, Use::Filter)).collect();
    Some(json!({"fields": fields, "dataset": filters}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datasets_are_named_by_where_they_are() {
        let named = |url: &str| address(&Url::parse(url).unwrap());
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(named("file:///data/lake/silver/my%20orders/"), pair("file", "/data/lake/silver/my orders"));
        assert_eq!(named("s3://acme/lake/gold/x/"), pair("s3://acme", "lake/gold/x"));
        assert_eq!(
            named("abfss://lake@acme.dfs.core.windows.net/gold/x/"),
            pair("abfss://lake@acme.dfs.core.windows.net", "gold/x")
        );
    }
}
