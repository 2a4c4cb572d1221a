//! Groups of models and who may read them, as in dbt: a private model is read by models of its own group only.

use std::collections::BTreeMap;

use super::exposures::Exposure;
use super::load::ref_span;
use super::yaml::{Node, Reader};
use super::{Materialization, Model, Publish, config, values};
use crate::diagnostics::{Diagnostic, Id, Span};
use crate::names::TableName;

/// A name for models that belong together, and who answers for them.
#[derive(Debug, Clone)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Where it is declared.
    pub span: Span,
    /// Who answers for it.
    pub owner: Owner,
    /// Markdown.
    pub description: String,
    /// Its models are published in one burst: `config: { publish: together }`.
    pub together: bool,
}

/// Who answers for a group or an exposure: a name, an address, or both.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Owner {
    /// Of a person or a team.
    pub name: Option<String>,
    /// Where to write to.
    pub email: Option<String>,
}

/// Who may read a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Models of its own group.
    Private,
    /// Every model of the project.
    Protected,
    /// Everybody.
    Public,
}

impl Access {
    /// The word of the `access` setting.
    pub fn name(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Protected => "protected",
            Self::Public => "public",
        }
    }
}

/// Reads a `groups:` list.
pub(super) fn read(list: &Node, found: &mut BTreeMap<String, Group>, reader: &mut Reader<'_>) {
    for node in reader.list(list) {
        let Some(mut mapping) = reader.mapping(node, "group") else { continue };
        let name_node = mapping.require("name", reader);
        let name = name_node.and_then(|node| reader.identifier(node));
        let owner = mapping.require("owner", reader).and_then(|node| read_owner(node, reader));
        let description = mapping.take("description").and_then(|node| reader.text(node)).unwrap_or_default();
        let mut together = false;
        if let Some(mut config) = mapping.take("config").and_then(|node| reader.mapping(node, "group config")) {
            config.take("meta");
            together = config.take("publish").is_some_and(|node| is_together(node, reader));
            config.finish(reader);
        }
        mapping.finish(reader);
        let (Some(name), Some(name_node)) = (name, name_node) else { continue };
        // A group without a good owner exists: its models are not to be reported too.
        let group =
            Group { name, span: name_node.span.clone(), owner: owner.unwrap_or_default(), description, together };
        if let Some(first) = found.get(&group.name) {
            let message = format!("two groups are called `{}`", group.name);
            let diagnostic = Diagnostic::error(Id::DuplicateName, message).at(group.span);
            reader.diagnostics.push(diagnostic.related(first.span.clone(), "first here"));
            continue;
        }
        found.insert(group.name.clone(), group);
    }
}

fn is_together(node: &Node, reader: &mut Reader<'_>) -> bool {
    match values::word("publish", &node.to_json(), config::PUBLISH) {
        Ok(publish) => publish == Publish::Together,
        Err(message) => {
            let (message, help) = message.split_once("; ").unwrap_or((&message, "known: alone, together"));
            reader.diagnostics.push(Diagnostic::error(Id::InvalidValue, message).at(node.span.clone()).help(help));
            false
        }
    }
}

/// `owner: { name, email }`, with one of them at least.
pub(super) fn read_owner(node: &Node, reader: &mut Reader<'_>) -> Option<Owner> {
    let mut mapping = reader.mapping(node, "owner")?;
    let name = mapping.take("name").and_then(|node| reader.text(node));
    let email = mapping.take("email").and_then(|node| reader.text(node));
    let named = name.is_some() || email.is_some();
    mapping.finish(reader);
    if !named {
        let diagnostic = Diagnostic::error(Id::MissingKey, "this owner has no `name` and no `email`");
        reader.diagnostics.push(diagnostic.at(node.span.clone()).help("give one of them at least"));
        return None;
    }
    Some(Owner { name, email })
}

/// Checks the groups of models, and that private models are read by their own group only.
pub(super) fn check(
    groups: &BTreeMap<String, Group>,
    models: &BTreeMap<TableName, Model>,
    exposures: &BTreeMap<TableName, Exposure>,
    reader: &mut Reader<'_>,
) {
    for model in models.values() {
        if let Some(group) = model.config.group.as_ref().filter(|group| !groups.contains_key(*group)) {
            let message = format!("group `{group}` of `{}` is not declared", model.name);
            let mut diagnostic = Diagnostic::error(Id::InvalidValue, message)
                .at(word_span(&model.span(), group))
                .suggest(group, groups.keys().map(String::as_str));
            if groups.is_empty() {
                diagnostic = diagnostic.help(format!(
                    "declare it in a file of models/: groups: [{{ name: {group}, owner: {{ name: ... }} }}]"
                ));
            }
            reader.diagnostics.push(diagnostic);
        }
        if model.config.access == Access::Public && model.config.materialized == Materialization::Ephemeral {
            let message = format!("`{}` is ephemeral, so nobody outside can read it: it cannot be public", model.name);
            reader.diagnostics.push(Diagnostic::error(Id::InvalidValue, message).at(model.span()));
        }
        for read in model.refs.iter().filter(|read| model.name != **read) {
            if let Some(private) = models.get(read).filter(|read| is_refused(read, model.config.group.as_deref())) {
                let reader_group = match &model.config.group {
                    Some(group) => format!("`{}` is of group `{group}`", model.name),
                    None => format!("`{}` is of no group", model.name),
                };
                let place = ref_span(&model.span(), read);
                reader.diagnostics.push(refusal(private, &reader_group).at(place));
            }
        }
    }
    for exposure in exposures.values() {
        for (read, span) in &exposure.depends_on {
            if let Some(private) = models.get(read).filter(|model| is_refused(model, None)) {
                let reader_group = format!("exposure `{}` is of no group", exposure.name.table);
                reader.diagnostics.push(refusal(private, &reader_group).at(span.clone()));
            }
        }
    }
}

fn is_refused(model: &Model, group: Option<&str>) -> bool {
    model.config.access == Access::Private && model.config.group.as_deref() != group
}

fn refusal(private: &Model, reader: &str) -> Diagnostic {
    let group = private.config.group.as_deref().unwrap_or_default();
    Diagnostic::error(Id::PrivateModel, format!("`{}` is private to group `{group}`", private.name))
        .label("cannot be read here")
        .note(reader)
        .help(format!("read a model that the group shares, or make `{}` protected", private.name))
}

/// Where a file has a word in quotes, for a setting that may stand in it.
fn word_span(file: &Span, word: &str) -> Span {
    ref_span(file, &TableName::new("", word))
}
