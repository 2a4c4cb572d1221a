//! `description: "{{ doc('name') }}"`: descriptions in YAML are templates.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::models;
use super::yaml::{Node, Raw, Reader};
use crate::diagnostics::Diagnostic;
use crate::template::{KnownNames, Recording, Templates};

/// Renders every description below `node` in place.
pub(super) fn render(
    node: &mut Node,
    templates: &Templates,
    docs: &BTreeMap<String, String>,
    reader: &mut Reader<'_>,
) -> Vec<Recording> {
    let mut seen = Vec::new();
    // Most files have none, and need no walk.
    if node.span.file.text().contains("{{") {
        let known = Arc::new(KnownNames { docs: docs.clone(), ..KnownNames::default() });
        walk(node, templates, &known, &mut seen, reader);
    }
    seen
}

fn walk(
    node: &mut Node,
    templates: &Templates,
    known: &Arc<KnownNames>,
    seen: &mut Vec<Recording>,
    reader: &mut Reader<'_>,
) {
    match &mut node.value {
        Raw::List(items) => items.iter_mut().for_each(|item| walk(item, templates, known, seen, reader)),
        Raw::Map(entries) => {
            for (key, value) in entries {
                match &value.value {
                    Raw::Scalar(serde_json::Value::String(text)) => {
                        if key.plain_text() == "description" && text.contains("{{") {
                            let rendered = rendered(text, value, templates, known, seen, reader);
                            value.value = Raw::Scalar(rendered.into());
                        }
                    }
                    _ => walk(value, templates, known, seen, reader),
                }
            }
        }
        Raw::Null | Raw::Scalar(_) => {}
    }
}

fn rendered(
    text: &str,
    node: &Node,
    templates: &Templates,
    known: &Arc<KnownNames>,
    seen: &mut Vec<Recording>,
    reader: &mut Reader<'_>,
) -> String {
    let scope = models::bare_scope("description", &node.span.file.path, known);
    match templates.render_description(text, scope) {
        Ok((text, recording)) => {
            seen.push(recording);
            text
        }
        Err(found) => {
            let mut diagnostic = Diagnostic::error(found.id, found.message).at(node.span.clone());
            diagnostic.help = found.help;
            reader.diagnostics.push(diagnostic);
            text.to_owned()
        }
    }
}
