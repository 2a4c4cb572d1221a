//! `dbt_project.yml` -> `project.yml`: the same text, without the folders that are fixed here and the name of the
//! project above its settings.

use std::ops::Range;

use serde_json::{Map, Value};

use super::edits::{self, entries, entry, get};
use super::finding::Level;
use super::profiles::Targets;
use super::properties::Page;
use super::sql::{self, Verdict};
use super::{snapshots, sources};
use crate::project::{self, CONFIG_KEYS, Node, Raw};

/// Where files are, and what else says nothing to `lake`.
const LAYOUT: &[&str] = &[
    "config-version",
    "profile",
    "model-paths",
    "seed-paths",
    "data-paths",
    "test-paths",
    "snapshot-paths",
    "macro-paths",
    "analysis-paths",
    "docs-paths",
    "asset-paths",
    "source-paths",
    "target-path",
    "log-path",
    "modules-path",
    "packages-install-path",
    "clean-targets",
    "require-dbt-version",
    "query-comment",
    "quoting",
    "flags",
    "dbt-cloud",
    "restrict-access",
    "dispatch",
    "function-paths",
];

/// What a settings tree is about.
#[derive(Clone, Copy, PartialEq)]
enum Tree {
    Models,
    Seeds,
}

impl Page<'_> {
    /// Converts the file and returns its new text.
    pub(super) fn project(mut self, root: &Node, targets: &Targets) -> String {
        let mut more: Map<String, Value> = Map::new();
        for (at, (key, value)) in entries(root).iter().enumerate() {
            match key.plain_text().as_str() {
                "name" => {
                    let yaml = targets.yaml();
                    let lines: Vec<String> = yaml.lines().map(str::to_owned).collect();
                    edits::insert_beside(self.text, root, at, &lines, &mut self.edits);
                }
                "version" => {}
                "models" => self.tree(value, Tree::Models, &mut more),
                "seeds" => self.tree(value, Tree::Seeds, &mut Map::new()),
                "snapshots" => {
                    let own = get(value, &self.world.name).unwrap_or(value);
                    let settings = self.settings_json(own, Tree::Models);
                    let action =
                        format!("are settings of the layer `{}` now, where snapshots are models", snapshots::LAYER);
                    self.say(Level::Done, key, "settings of snapshots", action);
                    if !settings.is_empty() {
                        more.insert(snapshots::LAYER.to_owned(), settings.into());
                    }
                    self.take(root, at);
                }
                "vars" => self.vars(value),
                "on-run-start" | "on-run-end" => self.hooks(root, at),
                "tests" | "data_tests" => {
                    let action = "are a comment now: say `severity` and the like at each test";
                    self.say(Level::Todo, key, "settings of all tests", action);
                    self.take(root, at);
                }
                name => {
                    if !LAYOUT.contains(&name) {
                        let action = project::instead_of(name).unwrap_or("is a comment now: it means nothing here");
                        self.say(Level::Look, key, format!("`{name}` of dbt_project.yml"), action);
                    }
                    self.take(root, at);
                }
            }
        }
        if !more.is_empty() {
            self.add_models(root, &more);
        }
        let text = snapshots::tidy(&self.edits.apply(self.text));
        format!("# yaml-language-server: $schema=.lake/schemas/project.json\n{text}")
    }

    /// Settings by folder, below the name of the project.
    fn tree(&mut self, tree: &Node, kind: Tree, more: &mut Map<String, Value>) {
        if edits::is_flow(self.text, tree) && !entries(tree).is_empty() {
            let mut settings = self.settings_json(tree, kind);
            if let Some(Value::Object(own)) = settings.remove(&self.world.name) {
                settings.extend(own);
            }
            let end = edits::value_end(self.text, tree);
            self.edits.replace(tree.span.start..end, Value::Object(settings).to_string());
            return;
        }
        for (at, (key, value)) in entries(tree).iter().enumerate() {
            let name = key.plain_text();
            if name == self.world.name && matches!(value.value, Raw::Map(_) | Raw::Null) {
                self.unwrap(key, value, kind);
                self.folders(value, kind, true, more);
            } else if is_setting(&name, value) {
                self.setting(tree, at, kind);
            } else if !self.world.folders.contains(&name) {
                self.say(Level::Look, key, format!("settings of the package `{name}`"), "are a comment now");
                self.take(tree, at);
            }
        }
    }

    /// What stands below a folder, or the project.
    fn folders(&mut self, folder: &Node, kind: Tree, is_top: bool, more: &mut Map<String, Value>) {
        for (at, (key, value)) in entries(folder).iter().enumerate() {
            let name = key.plain_text();
            if is_setting(&name, value) {
                self.setting(folder, at, kind);
                continue;
            }
            if is_top && kind == Tree::Models && self.world.top_models.contains(&name) {
                // Their layer stands between.
                let settings = self.settings_json(value, kind);
                if let Some(Value::Object(layer)) =
                    Some(more.entry(self.world.layer.clone()).or_insert_with(|| Map::new().into()))
                {
                    layer.insert(name.clone(), settings.into());
                }
                let action = format!("stand below its layer, `{}`, now", self.world.layer);
                self.say(Level::Done, key, format!("settings of the model `{name}`"), action);
                self.take(folder, at);
                continue;
            }
            let new = super::identifier(&name);
            if is_top && new != name {
                self.edits.replace(key.span.start..key.span.end, new);
            }
            self.folders(value, kind, false, more);
        }
    }

    fn setting(&mut self, mapping: &Node, at: usize, kind: Tree) {
        let Some((key, value)) = entries(mapping).get(at) else { return };
        let verdict = verdict(&key.plain_text(), value, kind);
        self.verdict(verdict, mapping, at);
    }

    /// The same settings as JSON, without those that mean nothing here.
    fn settings_json(&mut self, node: &Node, kind: Tree) -> Map<String, Value> {
        let mut settings = Map::new();
        for (key, value) in entries(node) {
            let name = key.plain_text();
            if !is_setting(&name, value) {
                let inner = self.settings_json(value, kind);
                settings.insert(name, inner.into());
                continue;
            }
            match verdict(&name, value, kind) {
                Verdict::Keep => _ = settings.insert(name, value.to_json()),
                Verdict::Replace(new, json, level, what, action) => {
                    settings.insert(format!("+{new}"), json);
                    self.say(level, key, what, action);
                }
                Verdict::Remove(level, what, action) => self.say(level, key, what, action),
            }
        }
        settings
    }

    /// Takes a level out of the tree: its key becomes a comment, and what stands below it moves to the left.
    fn unwrap(&mut self, key: &Node, value: &Node, kind: Tree) {
        let column = edits::column_of(self.text, key.span.start);
        let lines = edits::block_lines(self.text, key.span.start, value);
        if edits::is_flow(self.text, value) {
            let settings = self.settings_json(value, kind);
            let indent = " ".repeat(column);
            let parts: Vec<String> = settings.iter().map(|(key, value)| format!("{indent}{key}: {value}")).collect();
            self.edits.replace(lines, parts.join("\n"));
            return;
        }
        self.edits.insert(key.span.start, "# ");
        let Some((first, _)) = entries(value).first() else { return };
        let inner = edits::column_of(self.text, first.span.start);
        self.dedent(edits::line_end(self.text, key.span.start)..lines.end, inner.saturating_sub(column));
    }

    /// Takes spaces from the front of lines.
    fn dedent(&mut self, lines: Range<usize>, by: usize) {
        let mut at = lines.start;
        for line in self.text[lines].split_inclusive('\n') {
            let spaces = (line.len() - line.trim_start_matches(' ').len()).min(by);
            if spaces > 0 && !line.trim().is_empty() {
                self.edits.replace(at..at + spaces, "");
            }
            at += line.len();
        }
    }

    fn vars(&mut self, vars: &Node) {
        for (at, (key, value)) in entries(vars).iter().enumerate() {
            let name = key.plain_text();
            if name == self.world.name && matches!(value.value, Raw::Map(_)) {
                self.unwrap_vars(key, value);
            } else if matches!(value.value, Raw::Map(_)) && self.world.packages.contains(&name) {
                self.say(Level::Look, key, format!("variables of the package `{name}`"), "are a comment now");
                self.take(vars, at);
            }
        }
    }

    fn unwrap_vars(&mut self, key: &Node, value: &Node) {
        if edits::is_flow(self.text, value) {
            let lines = edits::block_lines(self.text, key.span.start, value);
            let indent = " ".repeat(edits::column_of(self.text, key.span.start));
            let of = |(key, value): &(Node, Node)| format!("{indent}{}: {}", key.plain_text(), sources::flow(value));
            self.edits.replace(lines, entries(value).iter().map(of).collect::<Vec<_>>().join("\n"));
            return;
        }
        self.unwrap(key, value, Tree::Models);
    }

    fn hooks(&mut self, root: &Node, at: usize) {
        let Some((key, value)) = entries(root).get(at) else { return };
        let name = key.plain_text();
        let list = edits::items(value);
        if list.is_empty() {
            if !sql::is_query(&value.plain_text()) {
                self.say(Level::Todo, key, format!("`{name}` changes something in the warehouse"), sql::HOOKS);
                self.take(root, at);
            }
            return;
        }
        for (at, item) in list.iter().enumerate() {
            if !sql::is_query(&item.plain_text()) {
                self.say(Level::Todo, item, format!("`{name}` changes something in the warehouse"), sql::HOOKS);
                self.take_item(value, at);
            }
        }
    }

    /// Settings of layers that dbt's tree does not have.
    fn add_models(&mut self, root: &Node, more: &Map<String, Value>) {
        let models = entry(root, "models");
        let fits =
            models.is_some_and(|(_, _, value)| matches!(value.value, Raw::Map(_)) && !edits::is_flow(self.text, value));
        match models {
            Some((_, key, value)) if fits => {
                let column = entries(value).first().map_or(2, |(key, _)| edits::column_of(self.text, key.span.start));
                let end = edits::block_lines(self.text, key.span.start, value).end;
                self.edits.insert(end, format!("\n{}", block(more, column).trim_end()));
            }
            Some((_, key, _)) => {
                let action = "say in project.yml, below `models:`, what stands in the next line";
                self.say(Level::Todo, key, "settings that could not be added", action);
                self.say(Level::Todo, key, "these settings", Value::Object(more.clone()).to_string());
            }
            None => self.edits.insert(self.text.len(), format!("\nmodels:\n{}", block(more, 2))),
        }
    }
}

fn verdict(key: &str, value: &Node, kind: Tree) -> Verdict {
    let (plain, json) = (key.trim_start_matches('+'), value.to_json());
    if kind == Tree::Seeds && project::check_seed_setting(plain, &json).is_ok() {
        return Verdict::Keep;
    }
    sql::setting(plain, Some(&json))
}

/// Whether a key of a tree is a setting and no folder.
fn is_setting(key: &str, value: &Node) -> bool {
    let plain = key.trim_start_matches('+').replace('-', "_");
    key.starts_with('+') || !matches!(value.value, Raw::Map(_) | Raw::Null) || CONFIG_KEYS.contains(&plain.as_str())
}

/// Settings as YAML in lines.
fn block(settings: &Map<String, Value>, column: usize) -> String {
    let indent = " ".repeat(column);
    let mut text = String::new();
    for (key, value) in settings {
        match value {
            Value::Object(inner) if !key.starts_with('+') && !CONFIG_KEYS.contains(&key.as_str()) => {
                text.push_str(&format!("{indent}{key}:\n{}", block(inner, column + 2)));
            }
            Value::String(word) => text.push_str(&format!("{indent}{key}: {}\n", sources::quoted(word))),
            _ => text.push_str(&format!("{indent}{key}: {value}\n")),
        }
    }
    text
}
