//! The targets of a project by name: commands that look at two environments find the other one here.

use std::collections::BTreeMap;

use super::settings::Target;
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

    /// A target with its root; `None` if there is none of this name.
    ///
    /// # Errors
    /// Why its root cannot be told, in words.
    pub fn named(&self, name: &str) -> Result<Option<Target>, String> {
        let Some(target) = self.all.get(name) else { return Ok(None) };
        with_root(target.clone(), &self.bare).map(Some)
    }
}

/// A target whose root is no template any more.
pub(super) fn with_root(mut target: Target, bare: &template::Settings) -> Result<Target, String> {
    // Most roots are plain, and need no templates.
    if target.root.contains('{') {
        let bare = template::Settings { target: serde_json::json!({"name": target.name}), ..bare.clone() };
        target.root = Templates::new(bare, &[], &mut Vec::new()).render_value(&target.root)?;
    }
    Ok(target)
}
