//! Seeds: CSV files of the project, `seeds/**/*.csv`, each of which is a table that `ref()` reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::config::{self, ModelConfig};
use super::models::Properties;
use super::settings::ConfigTree;
use super::sources::sensitive;
use super::yaml::Reader;
use super::{Column, Format, Ingestion, Materialization, Model, ModelBody, Source, SourceOptions};
use crate::diagnostics::{Diagnostic, Id, SourceFile, Span};
use crate::memo::{Key, KeyMaker};
use crate::names::{TableName, check_identifier, nearest};
use crate::template::{Config, Rendered};

/// The schema of files that stand in `seeds/` itself.
const SCHEMA: &str = "seeds";

/// Settings of models that seeds have too.
pub(super) const SHARED: &[&str] = &[
    "enabled",
    "tags",
    "owner",
    "meta",
    "group",
    "access",
    "contract",
    "full_refresh",
    "event_time",
    "maintain",
    "persist_docs",
    "tblproperties",
    "audit",
    "publish",
    "on_error",
    "timeout",
    "pre_hook",
    "post_hook",
];

/// Settings that only seeds have.
pub(super) const OWN: &[&str] = &["column_types", "delimiter", "quote_columns", "schema"];

/// Checks one setting of a seed in `project.yml`; says in a phrase what is wrong, with the remedy after a semicolon.
pub fn check(key: &str, value: &serde_json::Value) -> Result<(), String> {
    match key {
        "column_types" => {
            let types = value.as_object().filter(|types| types.values().all(serde_json::Value::is_string));
            types.map(|_| ()).ok_or_else(|| format!("`column_types` takes {{ column: type }}, not {value}"))
        }
        "delimiter" => delimiter(value).map(|_| ()).ok_or_else(|| {
            format!("{value} is not a `delimiter`; write one character of ASCII in quotes, such as \";\" or \"\\t\"")
        }),
        "quote_columns" => match value.is_boolean() {
            true => Ok(()),
            false => Err(format!("`quote_columns` takes true or false, not {value}")),
        },
        "schema" => match value.as_str().map(check_identifier) {
            Some(Ok(())) => Ok(()),
            Some(Err(why)) => Err(format!("{value} is not a valid schema: {why}")),
            None => Err(format!("`schema` takes a text, not {value}")),
        },
        _ if SHARED.contains(&key) => config::check(key, value),
        _ => {
            let known = || OWN.iter().chain(SHARED).copied();
            let help = match nearest(key, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known: {}", known().collect::<Vec<_>>().join(", ")),
            };
            Err(format!("unknown config `{key}` of a seed; {help}"))
        }
    }
}

/// The same for YAML properties, which are read when names are known.
pub fn check_property(key: &str, value: &serde_json::Value) -> Result<(), String> {
    match key {
        "schema" => {
            Err("`schema` of a seed is set in project.yml; write `seeds: { +schema: ... }` there, or move the \
                         file to a folder of that name"
                .to_owned())
        }
        _ => check(key, value),
    }
}

fn delimiter(value: &serde_json::Value) -> Option<u8> {
    match value.as_str()?.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r' | b'"') => Some(*byte),
        _ => None,
    }
}

/// `seeds/geo/countries.csv` -> `geo.countries`; the `schema` of project.yml goes before the folder.
pub(super) fn name_of(file: &Arc<SourceFile>, tree: &ConfigTree, reader: &mut Reader<'_>) -> Option<TableName> {
    let path = path_in_tree(file);
    let stem = path.last().copied().unwrap_or_default();
    let values = tree.values_for(&path);
    let schema = values.get("schema").and_then(serde_json::Value::as_str);
    let schema = schema.unwrap_or(if path.len() > 1 { path[0] } else { SCHEMA });
    for name in [schema, stem] {
        if let Err(why) = check_identifier(name) {
            let diagnostic = Diagnostic::error(Id::InvalidName, format!("`{name}` is not a valid name: {why}"));
            reader.diagnostics.push(diagnostic.at(Span::file_start(file)));
            return None;
        }
    }
    Some(TableName::new(schema, stem))
}

/// The folders and the name of a seed, as `project.yml` nests settings.
fn path_in_tree(file: &SourceFile) -> Vec<&str> {
    let path = file.path.strip_prefix("seeds/").unwrap_or(&file.path);
    path.strip_suffix(".csv").unwrap_or(path).split('/').collect()
}

/// `seeds/**/*.csv`.
pub(super) fn is_seed(file: &SourceFile) -> bool {
    file.path.ends_with(".csv")
}

/// A seed is described below `seeds:`, and a model below `models:`.
pub(super) fn check_lists(
    properties: &BTreeMap<TableName, Properties>,
    named: &[(TableName, Arc<SourceFile>)],
    reader: &mut Reader<'_>,
) {
    for (name, file) in named {
        if let Some(described) = properties.get(name).filter(|described| described.is_seed != is_seed(file)) {
            let (is, list) = if described.is_seed { ("model", "models") } else { ("seed", "seeds") };
            let diagnostic = Diagnostic::error(Id::Orphan, format!("`{}` is a {is}: `{}`", name.table, file.path));
            let diagnostic = diagnostic.at((*described.span).clone());
            reader.diagnostics.push(diagnostic.help(format!("describe it below `{list}:`")));
        }
    }
}

/// A seed as a node: what is known of it before its file is read.
pub(super) fn load(
    name: &TableName,
    file: &Arc<SourceFile>,
    properties: Option<&Properties>,
    tree: &ConfigTree,
) -> Model {
    let mut values = tree.values_for(&path_in_tree(file));
    if let Some(properties) = properties {
        config::overlay(&mut values, &properties.config);
    }
    let columns = properties.map_or_else(|| Vec::new().into(), |properties| properties.columns.clone());
    let description = properties.map(|properties| properties.description.clone()).unwrap_or_default();
    let settings = ModelConfig { materialized: Materialization::Seed, ..ModelConfig::from_values(&values) };
    let place = properties.map_or_else(|| start(file), |properties| (*properties.span).clone());
    let seed = source(name, file, &values, &columns, &place);
    let described = (name, properties.map(|properties| properties.key), format!("{values:?}"));
    let no_sql = Rendered { sql: String::new(), file: Arc::new(SourceFile::new(file.path.clone(), "")) };
    Model {
        key: KeyMaker::new("seed").value(&described).finish(),
        name: name.clone(),
        path: file.path.clone(),
        file: Arc::clone(file),
        description,
        described_in: properties.map(|properties| properties.path.clone()),
        has_constraints: properties.is_some_and(|properties| properties.has_constraints),
        columns,
        seed: Some(Box::new(seed)),
        body: ModelBody {
            outer_config: Arc::new(values).into(),
            config: settings,
            full: no_sql.into(),
            incremental: None,
            refs: Vec::new(),
            sources: Vec::new(),
            ref_reads: Vec::new(),
            vars: Default::default(),
            timeless: None,
            key: Key::default(),
        },
    }
}

/// How the file is read: `column_types` go before the types of `columns`.
fn source(name: &TableName, file: &Arc<SourceFile>, values: &Config, described: &[Column], place: &Span) -> Source {
    let typed = values.get("column_types").and_then(serde_json::Value::as_object);
    let column = |(name, data_type): (&String, &serde_json::Value)| Column {
        name: name.clone(),
        span: place.clone(),
        data_type: data_type.as_str().map(|text| (text.to_owned(), place.clone())),
        description: String::new(),
        constraints: Vec::new(),
        meta: serde_json::Value::Null,
    };
    let mut columns: Vec<Column> = typed.into_iter().flatten().map(column).collect();
    for column in described.iter().filter(|column| column.data_type.is_some()) {
        if columns.iter().all(|known| known.name != column.name) {
            columns.push(column.clone());
        }
    }
    let delimiter = values.get("delimiter").and_then(delimiter);
    Source {
        name: name.clone(),
        span: place.clone(),
        description: String::new(),
        path: file.path.clone(),
        declared_path: file.path.clone(),
        path_span: start(file),
        format: Format::Csv,
        options: SourceOptions { delimiter, sensitive: sensitive(described), ..SourceOptions::new() },
        columns,
        ingestion: Ingestion::default(),
        event_time: None,
        tags: Vec::new(),
        storage: Arc::default(),
    }
}

/// The start of a file that need not be read for it.
fn start(file: &Arc<SourceFile>) -> Span {
    Span { file: Arc::clone(file), start: 0, end: 0 }
}
