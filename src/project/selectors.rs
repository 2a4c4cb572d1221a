//! `selectors.yml`: selections with a name, as in dbt's YAML selectors.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::yaml::{self, Mapping, Node, Raw, Reader};
use crate::diagnostics::{Diagnostic, Id, SourceFile, Span};
use crate::names::nearest;
use crate::template::Templates;

/// The methods of a selector, in `--select` and in `selectors.yml`.
pub const METHODS: &[&str] = &[
    "access",
    "column",
    "config",
    "export",
    "exposure",
    "file",
    "fqn",
    "group",
    "package",
    "path",
    "resource_type",
    "result",
    "selector",
    "source",
    "source_status",
    "state",
    "tag",
    "test_name",
    "test_type",
    "unit_test",
];

/// Methods of dbt for what there is not here, and what to do instead.
const ABSENT: &[(&str, &str)] = &[
    ("metric", "metrics are models here: select the model"),
    ("saved_query", "saved queries are models here: select the model"),
    ("semantic_model", "there is no semantic layer here: select the model that it would describe"),
    ("version", "models have no versions here: select the files of each by name, as in `orders_v2` or `orders_v*`"),
];

/// What is wrong with a method that is not one of [`METHODS`], and what to do about it.
pub fn unknown_method(name: &str) -> (String, String) {
    if let Some((_, instead)) = ABSENT.iter().find(|(absent, _)| *absent == name) {
        return (format!("selector method `{name}` is of dbt and not of lake"), (*instead).to_owned());
    }
    let help = match nearest(name, METHODS.iter().copied()) {
        Some(near) => format!("did you mean `{near}:`?"),
        None => format!("known methods: {}", METHODS.join(", ")),
    };
    (format!("unknown selector method `{name}`"), help)
}

/// A selection with a name.
#[derive(Debug, Clone)]
pub struct Selector {
    /// Its name.
    pub name: String,
    /// Where it is declared.
    pub span: Span,
    /// For people.
    pub description: String,
    /// Whether it stands in where a command says nothing.
    pub default: bool,
    /// What it selects.
    pub definition: Definition,
}

/// What a selector selects.
#[derive(Debug, Clone)]
pub enum Definition {
    /// As on the command line: `+tag:nightly,silver.*`.
    Text(String),
    /// A method with its value.
    Method(MethodDefinition),
    /// Any of them.
    Union(Vec<Definition>),
    /// All of them at once.
    Intersection(Vec<Definition>),
    /// The first without the others.
    Except(Box<Definition>, Vec<Definition>),
}

/// `{ method: tag, value: nightly, children: true }`.
#[derive(Debug, Clone, Default)]
pub struct MethodDefinition {
    /// One of [`METHODS`], with a dot and a key for some.
    pub method: String,
    /// What it looks for.
    pub value: String,
    /// Steps up the graph; `Some(None)` is all.
    pub parents: Option<Option<usize>>,
    /// Steps down the graph.
    pub children: Option<Option<usize>>,
    /// The `@` of the command line.
    pub childrens_parents: bool,
    /// `indirect_selection`.
    pub indirect: Option<String>,
}

/// Reads the file.
pub(super) fn load(
    file: Option<&Arc<SourceFile>>,
    templates: &Templates,
    reader: &mut Reader<'_>,
) -> BTreeMap<String, Selector> {
    let mut found = BTreeMap::new();
    let Some(root) = file.and_then(|file| yaml::parse(file, reader.diagnostics)) else { return found };
    let Some(mut mapping) = reader.mapping(&root, "selectors file") else { return found };
    mapping.take("version");
    let list = mapping.require("selectors", reader);
    mapping.finish(reader);
    let mut inherited = Vec::new();
    for node in list.map(|node| reader.list(node)).unwrap_or_default() {
        let Some(selector) = selector(node, templates, &mut inherited, reader) else { continue };
        keep(selector, &mut found, reader);
    }
    for (name, span) in inherited.into_iter().filter(|(name, _)| !found.contains_key(name)) {
        let diagnostic = Diagnostic::error(Id::UnknownRef, format!("there is no selector `{name}`")).at(span);
        reader.diagnostics.push(diagnostic.suggest(&name, found.keys().map(String::as_str)));
    }
    found
}

fn keep(selector: Selector, found: &mut BTreeMap<String, Selector>, reader: &mut Reader<'_>) {
    let twice = found.get(&selector.name).map(|first| (first, format!("two selectors are called `{}`", selector.name)));
    let default = || found.values().find(|other| other.default && selector.default);
    let clash = twice.or_else(|| default().map(|first| (first, "two selectors are the default".to_owned())));
    match clash {
        Some((first, message)) => {
            let diagnostic = Diagnostic::error(Id::DuplicateName, message).at(selector.span);
            reader.diagnostics.push(diagnostic.related(first.span.clone(), "first here"));
        }
        None => {
            found.insert(selector.name.clone(), selector);
        }
    }
}

/// Names of selectors that others build on, and where.
type Inherited = Vec<(String, Span)>;

fn selector(
    node: &Node,
    templates: &Templates,
    inherited: &mut Inherited,
    reader: &mut Reader<'_>,
) -> Option<Selector> {
    let mut mapping = reader.mapping(node, "selector")?;
    let name_node = mapping.require("name", reader);
    let name = name_node.and_then(|node| reader.text(node));
    let description = mapping.take("description").and_then(|node| reader.text(node)).unwrap_or_default();
    let default = mapping.take("default").and_then(|node| flag(node, templates, reader)).unwrap_or_default();
    let definition = mapping.require("definition", reader).and_then(|node| definition(node, inherited, reader));
    mapping.finish(reader);
    Some(Selector { name: name?, span: name_node?.span.clone(), description, default, definition: definition? })
}

/// `true`, `false`, or Jinja that gives one of them.
fn flag(node: &Node, templates: &Templates, reader: &mut Reader<'_>) -> Option<bool> {
    let Raw::Scalar(serde_json::Value::String(text)) = &node.value else { return reader.boolean(node) };
    match templates.render_value(text).as_deref().map(str::trim) {
        Ok("true" | "True") => Some(true),
        Ok("false" | "False") => Some(false),
        Ok(_) => {
            reader.wrong(node, "`true` or `false`");
            None
        }
        Err(why) => {
            let diagnostic = Diagnostic::error(Id::Template, why.to_owned());
            reader.diagnostics.push(diagnostic.at(node.span.clone()));
            None
        }
    }
}

fn definition(node: &Node, inherited: &mut Inherited, reader: &mut Reader<'_>) -> Option<Definition> {
    let entries = match &node.value {
        Raw::Scalar(_) => return reader.text(node).map(Definition::Text),
        Raw::Map(entries) => entries,
        _ => {
            reader
                .wrong(node, "a selector such as `tag:nightly`, or a mapping with `method`, `union` or `intersection`");
            return None;
        }
    };
    let mut mapping = reader.mapping(node, "selector definition")?;
    for (key, combine) in [("union", Definition::Union as fn(_) -> _), ("intersection", Definition::Intersection)] {
        if let Some(list) = mapping.take(key) {
            mapping.finish(reader);
            return combined(list, combine, inherited, reader);
        }
    }
    if entries.iter().any(|(key, _)| key.plain_text() == "method") {
        return full(mapping, inherited, reader);
    }
    match entries.as_slice() {
        [(key, value)] => {
            let method =
                MethodDefinition { method: key.plain_text(), value: reader.text(value)?, ..Default::default() };
            method_of(key, value, method, inherited, reader)
        }
        _ => {
            let message = "a definition has one method, or `method` and `value`, or `union`, or `intersection`";
            reader.diagnostics.push(Diagnostic::error(Id::InvalidValue, message).at(node.span.clone()));
            None
        }
    }
}

/// The items of a `union` or `intersection`; an item `exclude` is taken from the whole.
fn combined(
    list: &Node,
    combine: fn(Vec<Definition>) -> Definition,
    inherited: &mut Inherited,
    reader: &mut Reader<'_>,
) -> Option<Definition> {
    let (mut items, mut excluded) = (Vec::new(), Vec::new());
    for item in reader.list(list) {
        match &item.value {
            Raw::Map(entries) if entries.len() == 1 && entries[0].0.plain_text() == "exclude" => {
                excluded.extend(definitions(&entries[0].1, inherited, reader));
            }
            _ => items.extend(definition(item, inherited, reader)),
        }
    }
    if items.is_empty() {
        reader.invalid(&list.span, "expected at least one selector");
        return None;
    }
    Some(without(combine(items), excluded))
}

fn definitions(list: &Node, inherited: &mut Inherited, reader: &mut Reader<'_>) -> Vec<Definition> {
    match &list.value {
        Raw::List(items) => items.iter().filter_map(|item| definition(item, inherited, reader)).collect(),
        _ => definition(list, inherited, reader).into_iter().collect(),
    }
}

fn without(definition: Definition, excluded: Vec<Definition>) -> Definition {
    if excluded.is_empty() { definition } else { Definition::Except(Box::new(definition), excluded) }
}

pub(super) const INDIRECT: &[(&str, &str)] =
    &[("eager", "eager"), ("cautious", "cautious"), ("buildable", "buildable"), ("empty", "empty")];

/// A mapping with `method` and `value`.
fn full(mut mapping: Mapping<'_>, inherited: &mut Inherited, reader: &mut Reader<'_>) -> Option<Definition> {
    let method = mapping.require("method", reader);
    let value = mapping.require("value", reader);
    let mut steps = |all: &'static str, depth: &'static str| {
        let all = mapping.take(all).and_then(|node| reader.boolean(node)).unwrap_or_default();
        let depth = mapping.take(depth).and_then(|node| reader.count(node)).and_then(|n| usize::try_from(n).ok());
        all.then_some(depth)
    };
    let (parents, children) = (steps("parents", "parents_depth"), steps("children", "children_depth"));
    let childrens_parents = mapping.take("childrens_parents").and_then(|node| reader.boolean(node)).unwrap_or_default();
    let indirect = mapping
        .take("indirect_selection")
        .and_then(|node| reader.choice(node, "mode of `indirect_selection`", INDIRECT));
    let excluded = mapping.take("exclude").map(|node| definitions(node, inherited, reader)).unwrap_or_default();
    if childrens_parents && (parents.is_some() || children.is_some()) {
        reader.invalid(&mapping.span, "`childrens_parents` stands alone, without `parents` and `children`");
    }
    mapping.finish(reader);
    let (method, value) = (method?, value?);
    let definition = MethodDefinition {
        method: reader.text(method)?,
        value: reader.text(value)?,
        parents,
        children,
        childrens_parents,
        indirect: indirect.map(str::to_owned),
    };
    Some(without(method_of(method, value, definition, inherited, reader)?, excluded))
}

fn method_of(
    key: &Node,
    value: &Node,
    definition: MethodDefinition,
    inherited: &mut Inherited,
    reader: &mut Reader<'_>,
) -> Option<Definition> {
    let name = definition.method.split('.').next().unwrap_or_default();
    if !METHODS.contains(&name) {
        let (message, help) = unknown_method(name);
        reader.diagnostics.push(Diagnostic::error(Id::InvalidValue, message).at(key.span.clone()).help(help));
        return None;
    }
    if name == "selector" {
        inherited.push((definition.value.clone(), value.span.clone()));
    }
    Some(Definition::Method(definition))
}
