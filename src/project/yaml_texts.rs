//! Texts in YAML that are templates: `description: "{{ doc('name') }}"`, `severity: "{{ var('severity') }}"`.
//!
//! Descriptions, and what data tests are told. The arguments of a project's own tests are left as they are: these are
//! evaluated with the test, where `ref` is known.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::models;
use super::test_config;
use super::yaml::{Node, Raw, Reader};
use crate::diagnostics::Diagnostic;
use crate::template::{KnownNames, Recording, Templates};

/// Renders every description and every data test below `node` in place.
pub(super) fn render(
    node: &mut Node,
    templates: &Templates,
    docs: &BTreeMap<String, String>,
    reader: &mut Reader<'_>,
) -> Vec<Recording> {
    let mut texts = Texts { templates, known: Arc::default(), seen: Vec::new(), reader };
    // Most files have none, and need no walk.
    if node.span.file.text().contains("{{") {
        texts.known = Arc::new(KnownNames { docs: docs.clone(), ..KnownNames::default() });
        texts.walk(node);
    }
    texts.seen
}

struct Texts<'a, 'r> {
    templates: &'a Templates,
    known: Arc<KnownNames>,
    seen: Vec<Recording>,
    reader: &'a mut Reader<'r>,
}

impl Texts<'_, '_> {
    fn walk(&mut self, node: &mut Node) {
        match &mut node.value {
            Raw::List(items) => items.iter_mut().for_each(|item| self.walk(item)),
            Raw::Map(entries) => {
                for (key, value) in entries {
                    match key.plain_text().as_str() {
                        "data_tests" | "tests" => self.tests(value),
                        "description" if is_text(value) => self.render(value),
                        _ => self.walk(value),
                    }
                }
            }
            Raw::Null | Raw::Scalar(_) => {}
        }
    }

    /// A list of tests: `- unique`, `- not_null: {...}`, or `- { test_name: not_null, ... }`.
    fn tests(&mut self, list: &mut Node) {
        let Raw::List(items) = &mut list.value else { return };
        for item in items {
            let Raw::Map(entries) = &mut item.value else { continue };
            let named =
                entries.iter().find(|(key, _)| key.plain_text() == "test_name").map(|(_, name)| name.plain_text());
            match named {
                Some(name) => self.test(&name, item),
                None => entries.iter_mut().for_each(|(name, settings)| self.test(&name.plain_text(), settings)),
            }
        }
    }

    fn test(&mut self, name: &str, settings: &mut Node) {
        let Raw::Map(entries) = &mut settings.value else { return };
        let is_of_project = self.templates.generic_test(name.rsplit('.').next().unwrap_or(name)).is_some();
        for (key, value) in entries {
            match key.plain_text().as_str() {
                "description" => self.render(value),
                "config" => self.all(value),
                key if !is_of_project || test_config::KEYS.contains(&key) => self.all(value),
                _ => {}
            }
        }
    }

    /// All texts of a value, apart from those that name tables.
    fn all(&mut self, node: &mut Node) {
        match &mut node.value {
            Raw::List(items) => items.iter_mut().for_each(|item| self.all(item)),
            Raw::Map(entries) => entries.iter_mut().for_each(|(_, value)| self.all(value)),
            Raw::Scalar(Value::String(text)) if text.contains("ref(") || text.contains("source(") => {}
            Raw::Null | Raw::Scalar(_) => self.render(node),
        }
    }

    fn render(&mut self, node: &mut Node) {
        let Raw::Scalar(Value::String(text)) = &node.value else { return };
        if !text.contains("{{") {
            return;
        }
        let scope = models::bare_scope("text", &node.span.file.path, &self.known);
        match self.templates.render_text(text, scope) {
            Ok((rendered, recording)) => {
                self.seen.push(recording);
                node.value = Raw::Scalar(native(text, rendered));
            }
            Err(found) => {
                let mut diagnostic = Diagnostic::error(found.id, found.message).at(node.span.clone());
                diagnostic.help = found.help;
                self.reader.diagnostics.push(diagnostic);
            }
        }
    }
}

fn is_text(node: &Node) -> bool {
    matches!(node.value, Raw::Scalar(Value::String(_)))
}

/// A number or a truth value where a text is nothing but one expression, as in dbt.
fn native(template: &str, rendered: String) -> Value {
    let inner = template.trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
    if inner.is_none_or(|inner| inner.contains("}}")) {
        return Value::String(rendered);
    }
    match rendered.trim() {
        // Templates write truth values as Python does.
        "True" | "true" => Value::Bool(true),
        "False" | "false" => Value::Bool(false),
        number => match serde_json::from_str(number) {
            Ok(value @ Value::Number(_)) => value,
            _ => Value::String(rendered),
        },
    }
}
