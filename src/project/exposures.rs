//! Exposures: what is built outside of the lake on top of models, declared as in dbt.

use std::collections::BTreeMap;

use super::groups::{Owner, read_owner};
use super::test_lists::referenced;
use super::yaml::{Mapping, Node, Reader};
use super::{Model, Source};
use crate::diagnostics::{Diagnostic, Id, Span};
use crate::names::TableName;
use crate::template::KnownNames;

/// The schema of the names of exposures in the graph: `exposure.weekly`.
pub const EXPOSURE_SCHEMA: &str = "exposure";

/// A dashboard, a notebook or an application that reads models.
#[derive(Debug, Clone)]
pub struct Exposure {
    /// `exposure.name`.
    pub name: TableName,
    /// Where it is declared.
    pub span: Span,
    /// `dashboard`, `notebook`, ...
    pub kind: &'static str,
    /// Its name for people.
    pub label: Option<String>,
    /// Who answers for it.
    pub owner: Owner,
    /// Where it is.
    pub url: Option<String>,
    /// How far it can be relied on: `high`, `medium`, `low`.
    pub maturity: Option<&'static str>,
    /// Markdown.
    pub description: String,
    /// For selection.
    pub tags: Vec<String>,
    /// Anything.
    pub meta: serde_json::Value,
    /// What it reads, and where it says so.
    pub depends_on: Vec<(TableName, Span)>,
}

pub(super) const KINDS: &[(&str, &str)] = &[
    ("dashboard", "dashboard"),
    ("notebook", "notebook"),
    ("analysis", "analysis"),
    ("ml", "ml"),
    ("application", "application"),
];
pub(super) const MATURITIES: &[(&str, &str)] = &[("high", "high"), ("medium", "medium"), ("low", "low")];

/// Reads an `exposures:` list. Names of what they read are as written until [`resolve`].
pub(super) fn read(list: &Node, found: &mut BTreeMap<TableName, Exposure>, reader: &mut Reader<'_>) {
    for node in reader.list(list) {
        let Some(mut mapping) = reader.mapping(node, "exposure") else { continue };
        let Some((exposure, enabled)) = read_one(&mut mapping, reader) else { continue };
        mapping.finish(reader);
        if let Some(first) = found.get(&exposure.name) {
            let message = format!("two exposures are called `{}`", exposure.name.table);
            let diagnostic = Diagnostic::error(Id::DuplicateName, message).at(exposure.span);
            reader.diagnostics.push(diagnostic.related(first.span.clone(), "first here"));
        } else if enabled {
            found.insert(exposure.name.clone(), exposure);
        }
    }
}

fn read_one(mapping: &mut Mapping<'_>, reader: &mut Reader<'_>) -> Option<(Exposure, bool)> {
    let name_node = mapping.require("name", reader);
    let name = name_node.and_then(|node| reader.identifier(node));
    let kind = mapping.require("type", reader).and_then(|node| reader.choice(node, "type of exposure", KINDS));
    let owner = mapping.require("owner", reader).and_then(|node| read_owner(node, reader));
    let label = mapping.take("label").and_then(|node| reader.text(node));
    let url = mapping.take("url").and_then(|node| reader.text(node));
    let maturity = mapping.take("maturity").and_then(|node| reader.choice(node, "maturity", MATURITIES));
    let description = mapping.take("description").and_then(|node| reader.text(node)).unwrap_or_default();
    let mut settings = Settings { tags: Vec::new(), meta: serde_json::Value::Null, enabled: true };
    settings.read(mapping, reader);
    if let Some(mut config) = mapping.take("config").and_then(|node| reader.mapping(node, "exposure config")) {
        settings.read(&mut config, reader);
        config.finish(reader);
    }
    let depends_on = mapping.take("depends_on").map(|node| reader.list(node)).unwrap_or_default();
    let depends_on =
        depends_on.iter().filter_map(|node| Some((referenced(node, reader)?, node.span.clone()))).collect();
    let Settings { tags, meta, enabled } = settings;
    let exposure = Exposure {
        name: TableName::new(EXPOSURE_SCHEMA, name?),
        span: name_node?.span.clone(),
        // A wrong one is reported; what it reads is to be checked all the same.
        kind: kind.unwrap_or("application"),
        label,
        owner: owner.unwrap_or_default(),
        url,
        maturity,
        description,
        tags,
        meta,
        depends_on,
    };
    Some((exposure, enabled))
}

/// What may stand in the exposure itself and in its `config`.
struct Settings {
    tags: Vec<String>,
    meta: serde_json::Value,
    enabled: bool,
}

impl Settings {
    fn read(&mut self, mapping: &mut Mapping<'_>, reader: &mut Reader<'_>) {
        self.tags.extend(mapping.take("tags").map(|node| reader.texts(node)).unwrap_or_default());
        if let Some(node) = mapping.take("meta") {
            self.meta = node.to_json();
        }
        if let Some(enabled) = mapping.take("enabled").and_then(|node| reader.boolean(node)) {
            self.enabled = enabled;
        }
    }
}

/// Finds what exposures read. What does not exist is reported and left out.
pub(super) fn resolve(
    exposures: &mut BTreeMap<TableName, Exposure>,
    known: &KnownNames,
    models: &BTreeMap<TableName, Model>,
    sources: &BTreeMap<TableName, Source>,
    reader: &mut Reader<'_>,
) {
    for exposure in exposures.values_mut() {
        let named = std::mem::take(&mut exposure.depends_on);
        for (name, span) in named {
            match find(&name, known, models, sources) {
                Ok(found) if exposure.depends_on.iter().any(|(known, _)| *known == found) => {}
                Ok(found) => exposure.depends_on.push((found, span)),
                Err(Some(diagnostic)) => reader.diagnostics.push(diagnostic.at(span)),
                Err(None) => {}
            }
        }
        if let Some(model) = models.get(&exposure.name) {
            let message = format!("an exposure and a model are both called `{}`", exposure.name);
            let diagnostic = Diagnostic::error(Id::DuplicateName, message).at(exposure.span.clone());
            reader.diagnostics.push(diagnostic.related(model.span(), "the model"));
        }
    }
}

/// The model or source of a name as written. A model that is broken has been reported: it is no mistake here.
fn find(
    name: &TableName,
    known: &KnownNames,
    models: &BTreeMap<TableName, Model>,
    sources: &BTreeMap<TableName, Source>,
) -> Result<TableName, Option<Diagnostic>> {
    if !name.schema.is_empty() {
        if sources.contains_key(name) {
            return Ok(name.clone());
        }
        let names: Vec<String> = sources.keys().map(ToString::to_string).collect();
        let diagnostic = Diagnostic::error(Id::UnknownSource, format!("source `{name}` is not declared"));
        return Err(Some(diagnostic.suggest(&name.to_string(), names.iter().map(String::as_str))));
    }
    match known.model(name.table) {
        Some(full) if models.contains_key(full) => Ok(full.clone()),
        Some(_) => Err(None),
        None => {
            let diagnostic = Diagnostic::error(Id::UnknownRef, format!("model `{}` does not exist", name.table));
            Err(Some(diagnostic.suggest(name.table, known.models.keys().copied())))
        }
    }
}
