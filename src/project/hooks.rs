//! Hooks: what runs before and after a model, or a whole run: SQL on the lake, or a command.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::yaml::{Node, Raw, Reader};
use super::{Model, Project, models};
use crate::diagnostics::{Diagnostic, Id, SourceFile};
use crate::names::TableName;
use crate::template::{Rendered, Scope, Trace};

/// What a hook runs, before Jinja.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// A query over the lake, or a `copy` of one to a file.
    Sql(String),
    /// A line for the shell.
    Shell(String),
    /// A program and its arguments.
    Command(Vec<String>),
}

impl Hook {
    /// Every text of it that may hold Jinja.
    pub fn texts(&self) -> &[String] {
        match self {
            Self::Sql(text) | Self::Shell(text) => std::slice::from_ref(text),
            Self::Command(words) => words,
        }
    }

    /// The same with other texts.
    pub fn with_texts(&self, texts: Vec<String>) -> Self {
        let line = |texts: Vec<String>| texts.into_iter().next().unwrap_or_default();
        match self {
            Self::Sql(_) => Self::Sql(line(texts)),
            Self::Shell(_) => Self::Shell(line(texts)),
            Self::Command(_) => Self::Command(texts),
        }
    }
}

/// Whether a setting holds hooks, in dbt's two spellings.
pub(super) fn is_key(key: &str) -> bool {
    matches!(key, "pre_hook" | "post_hook" | "pre-hook" | "post-hook")
}

/// One hook or a list of them; says in a phrase what is wrong, with the remedy after a semicolon.
pub(super) fn read(key: &str, value: &Value) -> Result<Vec<Hook>, String> {
    match value {
        Value::Array(items) => items.iter().map(|item| one(key, item)).collect(),
        _ => Ok(vec![one(key, value)?]),
    }
}

fn one(key: &str, value: &Value) -> Result<Hook, String> {
    let wrong = || {
        format!(
            "{value} is not a hook of `{key}`; write SQL as a text, or {{ command: \"...\" }}, or \
             {{ command: [program, argument] }}"
        )
    };
    if let Some(sql) = value.as_str() {
        return Ok(Hook::Sql(sql.to_owned()));
    }
    let entries: Vec<_> = value.as_object().into_iter().flatten().collect();
    let [(kind, what)] = entries.as_slice() else { return Err(wrong()) };
    match (kind.as_str(), what) {
        ("sql", Value::String(sql)) => Ok(Hook::Sql(sql.clone())),
        ("command", Value::String(line)) if !line.trim().is_empty() => Ok(Hook::Shell(line.clone())),
        ("command", Value::Array(words)) if !words.is_empty() => {
            let words: Option<Vec<String>> = words.iter().map(|word| word.as_str().map(str::to_owned)).collect();
            words.map(Hook::Command).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

/// `on-run-start` or `on-run-end` of project.yml.
pub(super) fn of_run(key: &str, node: &Node, reader: &mut Reader<'_>) -> Vec<Hook> {
    let items: Vec<&Node> = match &node.value {
        Raw::List(items) => items.iter().collect(),
        _ => vec![node],
    };
    let mut hooks = Vec::new();
    for item in items {
        match one(key, &item.to_json()) {
            Ok(hook) => hooks.push(hook),
            Err(message) => {
                let (message, help) = message.split_once("; ").unwrap_or((&message, "write SQL as a text"));
                let diagnostic = Diagnostic::error(Id::InvalidValue, message).at(item.span.clone());
                reader.diagnostics.push(diagnostic.help(help));
            }
        }
    }
    hooks
}

/// Hooks with what they belong to, and their name for messages.
pub struct Owned<'a> {
    /// The model; `None` for hooks of the run.
    pub model: Option<&'a Model>,
    /// `pre_hook`, `post_hook`, `on-run-start`, `on-run-end`.
    pub key: &'static str,
    /// What runs, in this order.
    pub hooks: &'a [Hook],
}

impl Owned<'_> {
    /// `pre_hook of silver.items`, `on-run-end`.
    pub fn title(&self) -> String {
        match self.model {
            Some(model) => format!("{} of {}", self.key, model.name),
            None => self.key.to_owned(),
        }
    }
}

/// A text of a hook after Jinja, and the tables that it refers to.
pub struct RenderedHook {
    /// The text.
    pub rendered: Rendered,
    /// Models and sources.
    pub reads: Vec<TableName>,
}

impl Project {
    /// All hooks of the project, those of the run first.
    pub fn hooks(&self) -> impl Iterator<Item = Owned<'_>> {
        let run = [("on-run-start", &self.on_run_start), ("on-run-end", &self.on_run_end)];
        let run = run.map(|(key, hooks)| Owned { model: None, key, hooks });
        let models = self.models.values().flat_map(|model| {
            let both = [("pre_hook", &model.config.pre_hook), ("post_hook", &model.config.post_hook)];
            both.map(|(key, hooks)| Owned { model: Some(model), key, hooks })
        });
        run.into_iter().chain(models).filter(|owned| !owned.hooks.is_empty())
    }

    /// Renders one text of a hook. `this` is the model that it belongs to.
    ///
    /// # Errors
    /// The first mistake in it.
    pub fn render_hook(&self, owner: &Owned<'_>, text: &str) -> Result<RenderedHook, Box<Diagnostic>> {
        let file = std::sync::Arc::new(SourceFile::new(owner.title(), text));
        let (rendered, recording) =
            self.templates.render(&file, self.hook_scope(owner)).map_err(|failure| Box::new(failure.diagnostic))?;
        let sources = recording.sources.iter().map(|(name, _)| name.clone());
        let own = owner.model.map(|model| model.name.clone());
        let reads = recording.refs.iter().cloned().chain(sources).chain(own).collect();
        Ok(RenderedHook { rendered, reads })
    }

    /// Finds out who wrote each byte of a hook.
    pub fn trace_hook(&self, owner: &Owned<'_>, rendered: &Rendered) -> Trace {
        self.templates.trace(rendered, self.hook_scope(owner))
    }

    fn hook_scope(&self, owner: &Owned<'_>) -> Scope {
        match owner.model {
            Some(model) => {
                models::model_scope(&model.name, &model.file, &model.description, &model.outer_config, &self.known)
            }
            None => models::bare_scope(owner.key, "project.yml", &self.known),
        }
    }
}
