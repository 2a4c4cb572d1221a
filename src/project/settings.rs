//! `project.yml`: name, targets, variables, and the settings of models by folder.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::hooks::{self, Hook};
use super::notifications::{self, Channel};
use super::yaml::{Mapping, Node, Raw, Reader};
use super::{config, openlineage, seeds};
use crate::diagnostics::{Diagnostic, Id, Span};
use crate::stores::{self, StorageOptions};
use crate::template::{Config, ConfigCheck};

/// A named environment: where tables live and what a run may use.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its name in `project.yml`.
    pub name: String,
    /// The lake root as written, after Jinja: a folder (relative to the project) or a URL.
    pub root: String,
    /// Where the root stands, for diagnostics.
    pub span: Span,
    /// How many nodes run at once, and how many partitions a query has.
    pub threads: Option<usize>,
    /// Bytes that queries may hold before they spill to disk.
    pub memory: Option<usize>,
    /// How often a node starts again after its storage failed in a way that passes.
    pub retries: Option<usize>,
    /// How the stores of its root and of its sources are reached.
    pub storage: Arc<StorageOptions>,
    /// The same as written, before Jinja: nothing else is rendered of targets that are not chosen.
    pub(super) written_storage: Vec<WrittenOption>,
}

/// One of `storage_options`, before Jinja.
#[derive(Debug, Clone)]
pub(super) struct WrittenOption {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) span: Span,
}

/// `project.yml` as written.
pub(super) struct Settings {
    pub(super) name: String,
    pub(super) default_target: Option<String>,
    pub(super) targets: BTreeMap<String, Target>,
    pub(super) vars: BTreeMap<String, serde_json::Value>,
    pub(super) models: ConfigTree,
    pub(super) seeds: ConfigTree,
    pub(super) forbid_unmasked_in: Vec<(String, Span)>,
    pub(super) on_run_start: Vec<Hook>,
    pub(super) on_run_end: Vec<Hook>,
    pub(super) openlineage: Option<openlineage::Written>,
    pub(super) notifications: Vec<Channel>,
}

/// Settings of models or seeds by folder, then by name.
#[derive(Debug, Default)]
pub(super) struct ConfigTree {
    values: Config,
    folders: BTreeMap<String, ConfigTree>,
}

impl ConfigTree {
    /// The settings for a model whose folders and name are `path`, the outermost first.
    pub(super) fn values_for(&self, path: &[&str]) -> Config {
        let mut values = self.values.clone();
        if let Some((first, rest)) = path.split_first()
            && let Some(inner) = self.folders.get(*first)
        {
            config::overlay(&mut values, &inner.values_for(rest));
        }
        values
    }

    /// Folders that settings name, with `/` between them, for a check that they exist.
    pub(super) fn folder_names(&self) -> impl Iterator<Item = &str> {
        self.folders.keys().map(String::as_str)
    }
}

pub(super) fn read(root: &Node, reader: &mut Reader<'_>) -> Option<Settings> {
    let mut mapping = reader.mapping(root, "project")?;
    let name = mapping.require("name", reader).and_then(|node| reader.identifier(node));
    mapping.take("version");
    let default_target = mapping.take("target").and_then(|node| reader.text(node));
    let targets = mapping.require("targets", reader).map(|node| targets(node, reader)).unwrap_or_default();
    let vars = mapping.take("vars").map(|node| vars(node, reader)).unwrap_or_default();
    let mut models = mapping.take("models").map(|node| config_tree(node, config::check, reader)).unwrap_or_default();
    let mut seeds = mapping.take("seeds").map(|node| config_tree(node, seeds::check, reader)).unwrap_or_default();
    if let Some(value) = mapping.take("maintain") {
        // What holds for all tables is the farthest of their settings.
        for tree in [&mut models, &mut seeds] {
            let mut values = Config::new();
            setting(value, "maintain", value, config::check, &mut values, reader);
            config::overlay(&mut values, &tree.values);
            tree.values = values;
        }
    }
    let mut hooks_of =
        |key: &'static str| mapping.take(key).map(|node| hooks::of_run(key, node, reader)).unwrap_or_default();
    let (on_run_start, on_run_end) = (hooks_of("on-run-start"), hooks_of("on-run-end"));
    let forbid_unmasked_in = mapping.take("sensitive").map(|node| forbidden(node, reader)).unwrap_or_default();
    let openlineage = mapping.take("openlineage").map(|node| openlineage::read(node, reader));
    let names: Vec<&str> = targets.keys().map(String::as_str).collect();
    let notifications = mapping.take("notifications").map(|node| notifications::read(node, &names, reader));
    mapping.finish(reader);
    Some(Settings {
        name: name?,
        notifications: notifications.unwrap_or_default(),
        default_target,
        targets,
        vars,
        models,
        seeds,
        forbid_unmasked_in,
        on_run_start,
        on_run_end,
        openlineage,
    })
}

/// `sensitive: { forbid_unmasked_in: [gold] }`.
fn forbidden(node: &Node, reader: &mut Reader<'_>) -> Vec<(String, Span)> {
    let Some(mut mapping) = reader.mapping(node, "rule for sensitive columns") else { return Vec::new() };
    let list = mapping.take("forbid_unmasked_in");
    mapping.finish(reader);
    let Some(list) = list else { return Vec::new() };
    let each = match &list.value {
        Raw::List(items) => items.as_slice(),
        _ => std::slice::from_ref(list),
    };
    each.iter().filter_map(|layer| Some((reader.text(layer)?, layer.span.clone()))).collect()
}

fn targets(node: &Node, reader: &mut Reader<'_>) -> BTreeMap<String, Target> {
    let mut found = BTreeMap::new();
    let Some(mapping) = reader.mapping(node, "list of targets") else { return found };
    for (key, value) in mapping.entries {
        let Some(name) = reader.identifier(key) else { continue };
        let Some(mut target) = reader.mapping(value, "target") else { continue };
        let root = target.require("root", reader).and_then(|node| Some((reader.text(node)?, node.span.clone())));
        let threads = target.take("threads").and_then(|node| positive(node, reader));
        let memory = target.take("memory").and_then(|node| bytes(node, reader));
        let retries = target.take("retries").and_then(|node| reader.count(node));
        let retries = retries.and_then(|count| usize::try_from(count).ok());
        let options = target.take("storage_options");
        let written_storage = options.map(|node| storage_options(node, reader)).unwrap_or_default();
        target.finish(reader);
        if let Some((root, span)) = root {
            let storage = Arc::default();
            let target = Target { name, root, span, threads, memory, retries, storage, written_storage };
            found.insert(target.name.clone(), target);
        }
    }
    found
}

/// `storage_options: { region: eu-west-1, secret_access_key: "{{ env_var('KEY') }}" }`.
fn storage_options(node: &Node, reader: &mut Reader<'_>) -> Vec<WrittenOption> {
    let mut options = Vec::new();
    let Some(mapping) = reader.mapping(node, "storage option") else { return options };
    for (key, value) in mapping.entries {
        let Some((name, text)) = reader.text(key).zip(reader.text(value)) else { continue };
        if let Some(why) = stores::unknown_option(&name) {
            let diagnostic = Diagnostic::error(Id::UnknownKey, why).at(key.span.clone());
            reader.diagnostics.push(diagnostic.help(
                "options are those of the `object_store` crate for S3, Azure and Google Cloud Storage, and `profile`, \
                 `max_retries`, `retry_timeout`",
            ));
            continue;
        }
        if stores::may_hold_a_secret(&name) && !text.contains("env_var") {
            let message = format!("the storage option `{name}` may be a secret, and stands in project.yml");
            // Not at its place: the line would be shown.
            let diagnostic = Diagnostic::error(Id::InvalidValue, message).at(Span::file_start(&value.span.file));
            let variable = name.trim_start_matches("aws_").to_uppercase();
            reader.diagnostics.push(diagnostic.help(format!(
                "leave it out if the environment has it, or write `{name}: \"{{{{ env_var('{variable}') }}}}\"`"
            )));
            continue;
        }
        options.push(WrittenOption { name, value: text, span: value.span.clone() });
    }
    options
}

fn positive(node: &Node, reader: &mut Reader<'_>) -> Option<usize> {
    let count = reader.count(node)?;
    if count == 0 {
        reader.invalid(&node.span, "expected at least 1");
        return None;
    }
    usize::try_from(count).ok()
}

/// An amount of memory or of disk.
pub(super) fn bytes(node: &Node, reader: &mut Reader<'_>) -> Option<usize> {
    let text = reader.text(node)?;
    let size = parse_bytes(&text);
    if size.is_none() {
        reader.invalid(&node.span, format!("`{text}` is not an amount such as `512MB` or `16GB`"));
    }
    size
}

/// `512MB`, `16GB`, `1.5GB`: powers of 1024, as engines count memory.
pub(super) fn parse_bytes(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let factor = match text[digits..].trim().to_ascii_uppercase().as_str() {
        "" | "B" => 1.0,
        "KB" | "KIB" | "K" => 1024.0,
        "MB" | "MIB" | "M" => 1024.0 * 1024.0,
        "GB" | "GIB" | "G" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    let bytes = number * factor;
    (1.0..1e15).contains(&bytes).then_some(bytes as usize)
}

fn vars(node: &Node, reader: &mut Reader<'_>) -> BTreeMap<String, serde_json::Value> {
    let Some(mapping) = reader.mapping(node, "list of variables") else { return BTreeMap::new() };
    mapping.entries.iter().map(|(key, value)| (key.plain_text(), value.to_json())).collect()
}

/// `models:` or `seeds:` of `project.yml`: a scalar or list is a setting, a mapping is a folder; `+key` is always a setting.
fn config_tree(node: &Node, check: ConfigCheck, reader: &mut Reader<'_>) -> ConfigTree {
    let mut tree = ConfigTree::default();
    let Some(mapping) = reader.mapping(node, "group of settings") else { return tree };
    for (key, value) in mapping.entries {
        let name = key.plain_text();
        let plain = name.strip_prefix('+').unwrap_or(&name);
        let is_folder = matches!(value.value, Raw::Map(_))
            && !name.starts_with('+')
            && !hooks::is_key(plain)
            && !matches!(
                plain,
                "meta"
                    | "contract"
                    | "lints"
                    | "column_types"
                    | "tblproperties"
                    | "persist_docs"
                    | "maintain"
                    | "snapshot_meta_column_names"
            );
        if is_folder {
            tree.folders.insert(name, config_tree(value, check, reader));
        } else if !matches!(value.value, Raw::Null) {
            setting(key, plain, value, check, &mut tree.values, reader);
        }
    }
    tree
}

/// One setting in YAML.
pub(super) fn setting(
    key: &Node,
    name: &str,
    value: &Node,
    check: ConfigCheck,
    values: &mut Config,
    reader: &mut Reader<'_>,
) {
    let json = value.to_json();
    match check(name, &json) {
        Ok(()) => {
            let name = if hooks::is_key(name) { name.replace('-', "_") } else { name.to_owned() };
            values.insert(name, json);
        }
        Err(message) => {
            let unknown = message.starts_with("unknown");
            let (message, help) = match message.split_once("; ") {
                Some((message, help)) => (message.to_owned(), Some(help.to_owned())),
                None => (message, None),
            };
            let (id, span) = if unknown { (Id::UnknownKey, &key.span) } else { (Id::InvalidValue, &value.span) };
            let mut diagnostic = Diagnostic::error(id, message).at(span.clone());
            diagnostic.help.extend(help);
            reader.diagnostics.push(diagnostic);
        }
    }
}

/// All entries of a `config:` block.
pub(super) fn config_block(mapping: &Mapping<'_>, check: ConfigCheck, reader: &mut Reader<'_>) -> Config {
    let mut values = Config::new();
    for (key, value) in mapping.entries {
        let name = key.plain_text();
        setting(key, name.strip_prefix('+').unwrap_or(&name), value, check, &mut values, reader);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::parse_bytes;

    #[test]
    fn memory_amounts() {
        assert_eq!(parse_bytes("512MB"), Some(512 << 20));
        assert_eq!(parse_bytes(" 1.5 GiB "), Some(3 << 29));
        assert_eq!(parse_bytes("12 parsecs"), None);
        assert_eq!(parse_bytes("0MB"), None);
    }
}
