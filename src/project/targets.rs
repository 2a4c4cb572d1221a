//! The targets of a project by name: commands that look at two environments find the other one here.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::settings::Target;
use crate::diagnostics::Span;
use crate::template::{self, Templates};

/// All targets of `project.yml`.
#[derive(Debug, Clone)]
pub struct Targets {
    all: BTreeMap<String, Target>,
    bare: template::Settings,
}

impl Targets {
    /// As they are written; `bare` is what the templates of their roots may ask.
    pub(super) fn new(all: BTreeMap<String, Target>, bare: template::Settings) -> Self {
        Self { all, bare }
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.keys().map(String::as_str)
    }

    /// A target with its root and storage options; `None` if there is none of this name.
    ///
    /// # Errors
    /// Why its root cannot be told, in words.
    pub fn named(&self, name: &str) -> Result<Option<Target>, String> {
        let Some(target) = self.all.get(name) else { return Ok(None) };
        rendered(target.clone(), &self.bare).map(Some).map_err(|(_, why)| why)
    }
}

/// A target whose root and storage options are no templates any more: they may ask for the environment. An error says where.
pub(super) fn rendered(mut target: Target, bare: &template::Settings) -> Result<Target, (Span, String)> {
    let written = std::mem::take(&mut target.written_storage);
    // Most targets are plain, and need no templates.
    let is_plain = |text: &str| !text.contains('{');
    if is_plain(&target.root) && written.iter().all(|option| is_plain(&option.value)) {
        target.storage = Arc::new(written.into_iter().map(|option| (option.name, option.value)).collect());
        return Ok(target);
    }
    let name = serde_json::json!({"name": target.name});
    let bare = template::Settings { target: name, secrets: true, ..bare.clone() };
    let templates = Templates::new(bare, &[], &mut Vec::new());
    let text = |text: &str, span: &Span| templates.render_value(text).map_err(|why| (span.clone(), why));
    target.root = text(&target.root, &target.span)?;
    let options = written.into_iter().map(|option| Ok((option.name, text(&option.value, &option.span)?)));
    target.storage = Arc::new(options.collect::<Result<_, _>>()?);
    Ok(target)
}
