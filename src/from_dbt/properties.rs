//! Files of properties: models, seeds, snapshots, exposures, groups and unit tests as YAML describes them.

use std::sync::Arc;

use super::World;
use super::edits::{self, Edits, Removal, entries, entry, get, items};
use super::finding::{Findings, Level};
use super::snapshots;
use super::sql::{self, Verdict};
use crate::diagnostics::{Diagnostics, SourceFile};
use crate::project::{self, Node, Raw};
use crate::words::plural;

/// Keys that say nothing about the rows of a table.
const HARMLESS: &[&str] = &[
    "docs",
    "quote",
    "quoting",
    "loader",
    "deprecation_date",
    "meta",
    "policy_tags",
    "database",
    "schema",
    "overrides",
    "description",
    "versions",
    "tags",
    "granularity",
];

/// A file on its way.
pub(super) struct Page<'a> {
    pub(super) path: &'a str,
    pub(super) text: &'a str,
    pub(super) edits: Edits,
    pub(super) world: &'a World,
    pub(super) findings: &'a mut Findings,
    /// Files that it asks for beside itself.
    pub(super) made: Vec<(String, String)>,
    /// How many source tables it declares.
    pub(super) sources: usize,
}

/// What a file of properties becomes.
#[derive(Default)]
pub(super) struct Converted {
    /// Paths and texts.
    pub(super) files: Vec<(String, String)>,
    /// How many source tables it declares.
    pub(super) sources: usize,
}

/// Parses a file of YAML; what is wrong with it is a finding.
pub(super) fn parse(path: &str, text: &str, findings: &mut Findings) -> Option<Node> {
    let file = Arc::new(SourceFile::new(path, text));
    let mut diagnostics = Diagnostics::new();
    let root = project::parse_yaml(&file, &mut diagnostics);
    if let Some(first) = diagnostics.sorted().first() {
        let line = first.span.as_ref().map_or(1, |span| span.position().0);
        findings.push(Level::Todo, path, line, "YAML that does not parse", first.message.clone());
    }
    root
}

/// Converts a file that is to stand at `target`.
pub(super) fn convert(path: &str, text: &str, target: &str, world: &World, findings: &mut Findings) -> Converted {
    let Some(root) = parse(path, text, findings) else {
        return Converted { files: vec![(target.to_owned(), text.to_owned())], sources: 0 };
    };
    let others = entries(&root).iter().any(|(key, _)| !matches!(key.plain_text().as_str(), "version" | "snapshots"));
    let Some((_, key, value)) = entry(&root, "snapshots").filter(|_| !edits::is_flow(text, &root)) else {
        return page(path, text, &root, target, world, findings);
    };
    let moved_to = format!("models/{}/{}.yml", snapshots::LAYER, stem(path));
    if !others {
        return page(path, text, &root, &moved_to, world, findings);
    }
    // Each half keeps the lines of the whole, so that places are those of the file.
    let lines = edits::block_lines(text, key.span.start, value);
    let blank = |part: &str| "\n".repeat(part.matches('\n').count());
    let half = format!("{}{}", blank(&text[..lines.start]), &text[lines.clone()]);
    let rest =
        format!("{}# snapshots: {moved_to}{}{}", &text[..lines.start], blank(&text[lines.clone()]), &text[lines.end..]);
    let mut all = Converted::default();
    for (text, target) in [(rest, target), (half, moved_to.as_str())] {
        if let Some(root) = parse(path, &text, findings) {
            let one = page(path, &text, &root, target, world, findings);
            all.files.extend(one.files);
            all.sources += one.sources;
        }
    }
    all
}

fn page(path: &str, text: &str, root: &Node, target: &str, world: &World, findings: &mut Findings) -> Converted {
    let mut page = Page { path, text, edits: Edits::default(), world, findings, made: Vec::new(), sources: 0 };
    page.file(root);
    page.renamed();
    let Page { edits, made, sources, .. } = page;
    let mut files = made;
    files.push((target.to_owned(), snapshots::tidy(&squeezed(&edits.apply(text)))));
    Converted { files, sources }
}

/// Without runs of empty lines, which stood for what went elsewhere.
fn squeezed(text: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines() {
        if line.trim().is_empty() && lines.ends_with(&["", ""]) {
            continue;
        }
        lines.push(if line.trim().is_empty() { "" } else { line });
    }
    lines.join("\n")
}

/// `models/staging/_schema.yml` -> `staging__schema`.
fn stem(path: &str) -> String {
    let inner = path.split_once('/').map_or(path, |(_, rest)| rest);
    inner.rsplit_once('.').map_or(inner, |(stem, _)| stem).replace('/', "_")
}

impl Page<'_> {
    pub(super) fn line(&self, node: &Node) -> usize {
        sql::line(self.text, node.span.start)
    }

    pub(super) fn say(&mut self, level: Level, node: &Node, what: impl Into<String>, action: impl Into<String>) {
        let line = self.line(node);
        self.findings.push(level, self.path, line, what, action);
    }

    /// Takes an entry out of a mapping.
    pub(super) fn take(&mut self, mapping: &Node, at: usize) {
        if let Some(removal) = edits::removal(self.text, mapping, at) {
            removal.take(&mut self.edits);
        }
    }

    /// Takes an item out of a list, and tells whether that was possible.
    pub(super) fn take_item(&mut self, list: &Node, at: usize) -> bool {
        let removal: Option<Removal> = edits::item_removal(self.text, list, at);
        let found = removal.is_some();
        removal.into_iter().for_each(|removal| removal.take(&mut self.edits));
        found
    }

    /// Takes out the keys that a mapping cannot have. `known` is what its reader calls it; `handled` are seen to elsewhere.
    pub(super) fn unknown_keys(&mut self, mapping: &Node, what: &str, known: &str, handled: &[&str]) {
        let keys = self.world.keys.get(known);
        for (at, (key, value)) in entries(mapping).iter().enumerate() {
            let name = key.plain_text();
            if keys.is_some_and(|keys| keys.contains(&name)) || handled.contains(&name.as_str()) {
                continue;
            }
            let (level, action) = match project::instead_of(&name) {
                Some(instead) => (Level::Todo, instead),
                None if HARMLESS.contains(&name.as_str()) || matches!(value.value, Raw::Null) => {
                    (Level::Done, "is a comment now: it means nothing here")
                }
                None => (Level::Look, "is a comment now: it means nothing here"),
            };
            self.say(level, key, format!("`{name}` of {what}"), action);
            self.take(mapping, at);
        }
    }

    /// Names that had to change, where `ref()` says them.
    fn renamed(&mut self) {
        for (old, new) in &self.world.renamed {
            for quote in ['\'', '"'] {
                let said = format!("ref({quote}{old}{quote})");
                for (at, _) in self.text.match_indices(&said) {
                    self.edits.replace(at..at + said.len(), format!("ref({quote}{new}{quote})"));
                }
            }
        }
    }

    fn file(&mut self, root: &Node) {
        for (at, (key, value)) in entries(root).iter().enumerate() {
            match key.plain_text().as_str() {
                "version" => {}
                "models" => items(value).iter().for_each(|item| self.described(item, "model")),
                "seeds" => items(value).iter().for_each(|item| self.described(item, "seed")),
                "snapshots" => {
                    self.edits.replace(key.span.start..key.span.end, "models");
                    items(value).iter().for_each(|item| self.snapshot(item));
                }
                "sources" => items(value).iter().for_each(|item| self.source(item)),
                "exposures" => items(value).iter().for_each(|item| self.exposure(item)),
                "groups" => items(value).iter().for_each(|item| self.group(item)),
                "unit_tests" => items(value).iter().for_each(|item| self.unit_test(item)),
                name => {
                    let action = project::instead_of(name).unwrap_or("is a comment now: it means nothing here");
                    self.say(Level::Todo, key, format!("`{name}`"), action);
                    self.take(root, at);
                }
            }
        }
    }

    /// A model, a seed or a snapshot.
    fn described(&mut self, item: &Node, what: &'static str) {
        if let Some(name) = get(item, "name")
            && let Some(new) = self.world.renamed.get(&name.plain_text())
        {
            self.edits.replace(name.span.start..name.span.end, new.clone());
        }
        if let Some((at, key, versions)) = entry(item, "versions") {
            let numbers: Vec<String> =
                items(versions).iter().filter_map(|version| get(version, "v")).map(Node::plain_text).collect();
            let name = get(item, "name").map(Node::plain_text).unwrap_or_default();
            let what = format!("versions {} of `{name}`", numbers.join(", "));
            let action = "each is a model of its own: describe what differs below the name of its file";
            self.say(Level::Look, key, what, action);
            self.take(item, at);
        }
        if let Some((at, _, _)) = entry(item, "latest_version") {
            self.take(item, at);
        }
        let known = if what == "seed" { "seed" } else { "model" };
        self.unknown_keys(item, &format!("a {what}"), known, &["versions", "latest_version", "relation"]);
        if let Some(config) = get(item, "config") {
            self.config(config, what == "seed");
        }
        self.columns(item);
        self.tests(item);
        if what != "seed" {
            self.types(item);
        }
    }

    /// Without an enforced contract types are only noted in dbt, in the words of its warehouse; here they have to be true.
    fn types(&mut self, item: &Node) {
        let enforced = get(item, "config").and_then(|config| get(get(config, "contract")?, "enforced"));
        if self.world.has_contracts || enforced.is_some_and(|enforced| enforced.plain_text() == "true") {
            return;
        }
        let Some((_, key, columns)) = entry(item, "columns") else { return };
        let mut count = 0;
        for column in items(columns) {
            if let Some((at, _, _)) = entry(column, "data_type") {
                self.take(column, at);
                count += 1;
            }
        }
        if count > 0 {
            let name = get(item, "name").map(Node::plain_text).unwrap_or_default();
            let action = "are comments now: no contract enforces them, and here a type that is said has to be the one that is found";
            self.say(Level::Look, key, format!("types of {} of `{name}`", plural(count, "column")), action);
        }
    }

    /// A snapshot of YAML: its query is what it reads.
    fn snapshot(&mut self, item: &Node) {
        self.described(item, "snapshot");
        let (Some(name), Some((at, key, relation))) = (get(item, "name"), entry(item, "relation")) else { return };
        let (name, line) = (name.plain_text(), self.line(item));
        let mut reads = relation.plain_text();
        if let Some(call) = reads.trim().strip_prefix("source(").and_then(|rest| rest.strip_suffix(')')) {
            reads = format!("source({call}, changes=false)");
            let action = "reads all its files in every run (changes=false); for one file a day with all rows say `snapshot: true` of the source instead";
            self.say(Level::Look, key, "a snapshot of a source", action);
        }
        self.take(item, at);
        let names_are_given =
            get(item, "config").is_some_and(|config| get(config, "snapshot_meta_column_names").is_some());
        let settings = snapshots::settings(names_are_given);
        let text = format!("{{{{ config({settings}) }}}}\n\nselect * from {{{{ {} }}}}\n", reads.trim());
        self.made.push((snapshots::model_path(&name), text));
        snapshots::report(self.path, line, &name, self.findings);
    }

    /// A `config:` block of settings.
    fn config(&mut self, config: &Node, is_seed: bool) {
        for (at, (key, value)) in entries(config).iter().enumerate() {
            let name = key.plain_text();
            let plain = name.trim_start_matches('+');
            let json = value.to_json();
            let verdict = match project::check_seed_property(plain, &json) {
                Ok(()) if is_seed => continue,
                Err(why) if is_seed && plain == "schema" => {
                    let (what, action) = why.split_once("; ").unwrap_or((&why, "is a comment now"));
                    Verdict::Remove(Level::Todo, what.to_owned(), action.to_owned())
                }
                _ => sql::setting(plain, Some(&json)),
            };
            self.verdict(verdict, config, at);
        }
    }

    /// Carries out what becomes of a setting of YAML.
    pub(super) fn verdict(&mut self, verdict: Verdict, mapping: &Node, at: usize) {
        let Some((key, value)) = entries(mapping).get(at) else { return };
        match verdict {
            Verdict::Keep => {}
            Verdict::Replace(new, json, level, what, action) => {
                let plus = if key.plain_text().starts_with('+') { "+" } else { "" };
                let end = edits::value_end(self.text, value);
                self.edits.replace(key.span.start..end, format!("{plus}{new}: {json}"));
                self.say(level, key, what, action);
            }
            Verdict::Remove(level, what, action) => {
                self.say(level, key, what, action);
                self.take(mapping, at);
            }
        }
    }

    /// The columns of a table.
    pub(super) fn columns(&mut self, item: &Node) {
        for column in get(item, "columns").map(items).unwrap_or_default() {
            self.unknown_keys(column, "a column", "column", &[]);
            if let Some(config) = get(column, "config") {
                for (at, (key, _)) in entries(config).iter().enumerate() {
                    if key.plain_text() != "meta" {
                        self.say(Level::Done, key, format!("`{}` of a column", key.plain_text()), "is a comment now");
                        self.take(config, at);
                    }
                }
            }
            if let Some(list) = get(column, "constraints") {
                self.constraints(list);
            }
            self.tests(column);
        }
    }

    fn constraints(&mut self, list: &Node) {
        for (at, constraint) in items(list).iter().enumerate() {
            let kind = get(constraint, "type").map(Node::plain_text).unwrap_or_default();
            if !matches!(kind.as_str(), "not_null" | "unique" | "primary_key" | "check") {
                let action = match kind.as_str() {
                    "foreign_key" => "is a comment now: declare a `relationships` test",
                    _ => "is a comment now: declare it as a data test",
                };
                self.say(Level::Todo, constraint, format!("a `{kind}` constraint"), action);
                self.take_item(list, at);
                continue;
            }
            self.unknown_keys(constraint, "a constraint", "constraint", &[]);
        }
    }

    fn exposure(&mut self, item: &Node) {
        self.unknown_keys(item, "an exposure", "exposure", &[]);
        self.owner(item);
        if let Some(config) = get(item, "config") {
            self.unknown_keys(config, "an exposure", "exposure config", &[]);
        }
        let Some(list) = get(item, "depends_on") else { return };
        for (at, read) in items(list).iter().enumerate() {
            if read.plain_text().trim_start().starts_with("metric(") {
                self.say(
                    Level::Look,
                    read,
                    "an exposure that reads a metric",
                    "there is no semantic layer: name the model",
                );
                self.take_item(list, at);
            }
        }
    }

    fn group(&mut self, item: &Node) {
        self.unknown_keys(item, "a group", "group", &[]);
        self.owner(item);
        if let Some(config) = get(item, "config") {
            self.unknown_keys(config, "a group", "group config", &[]);
        }
    }

    fn owner(&mut self, item: &Node) {
        let Some(owner) = get(item, "owner") else { return };
        self.unknown_keys(owner, "an owner", "owner", &[]);
        if get(owner, "name").is_none() && get(owner, "email").is_none() {
            self.say(Level::Todo, owner, "an owner without name and email", "give one of them at least");
        }
    }

    fn unit_test(&mut self, item: &Node) {
        self.unknown_keys(item, "a unit test", "unit test", &[]);
        for given in get(item, "given").map(items).unwrap_or_default() {
            self.unknown_keys(given, "a given input", "given input", &[]);
        }
        if let Some(overrides) = get(item, "overrides") {
            self.unknown_keys(overrides, "the overrides of a unit test", "`overrides` block", &[]);
        }
        if let Some(config) = get(item, "config") {
            for (at, (key, _)) in entries(config).iter().enumerate() {
                if !matches!(key.plain_text().as_str(), "tags" | "meta" | "enabled") {
                    self.say(Level::Done, key, format!("`{}` of a unit test", key.plain_text()), "is a comment now");
                    self.take(config, at);
                }
            }
        }
    }
}
