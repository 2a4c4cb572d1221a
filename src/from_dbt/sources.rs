//! Sources: tables of a warehouse, which are files here. Where their files are is known of dbt-duckdb's
//! `external_location` alone; else there is a path to fill in.

use super::edits::{self, entries, entry, get, items};
use super::finding::Level;
use super::properties::Page;
use crate::project::{Format, Node, Raw};

/// What a source says for its tables.
struct Defaults<'n> {
    name: String,
    location: Option<&'n Node>,
    freshness: Option<&'n Node>,
}

impl Page<'_> {
    pub(super) fn source(&mut self, item: &Node) {
        let Some((name_at, _, name)) = entry(item, "name") else { return };
        let handled = ["config", "freshness", "database", "schema", "tables", "meta"];
        self.unknown_keys(item, "a source", "source", &handled);
        for key in ["database", "schema", "meta"] {
            if let Some((at, _, _)) = entry(item, key) {
                self.take(item, at);
            }
        }
        let defaults =
            Defaults { name: name.plain_text(), location: location(item), freshness: get(item, "freshness") };
        if let Some((at, key, config)) = entry(item, "config") {
            self.hoist(item, name_at, config, defaults.freshness.is_some());
            self.disabled(config);
            self.say(
                Level::Done,
                key,
                "`config` of a source",
                "is a comment now; its freshness stands beside the name",
            );
            self.take(item, at);
        }
        let Some(tables) = get(item, "tables").filter(|tables| !items(tables).is_empty()) else {
            self.say(
                Level::Todo,
                item,
                format!("source `{}` has no tables", defaults.name),
                "declare them, or remove it",
            );
            return;
        };
        for table in items(tables) {
            self.source_table(table, &defaults);
        }
    }

    /// `freshness` and `loaded_at_field` of a `config:` block go beside the name.
    fn hoist(&mut self, mapping: &Node, name_at: usize, config: &Node, has_freshness: bool) {
        let mut lines = Vec::new();
        for key in ["freshness", "loaded_at_field"] {
            if let Some(value) = get(config, key).filter(|_| !has_freshness || key != "freshness") {
                lines.push(format!("{key}: {}", flow(value)));
            }
        }
        if !lines.is_empty() {
            edits::insert_beside(self.text, mapping, name_at, &lines, &mut self.edits);
        }
    }

    fn disabled(&mut self, config: &Node) {
        if let Some((_, key, value)) = entry(config, "enabled")
            && value.plain_text() != "true"
        {
            self.say(Level::Look, key, "a source that is not always there", "remove it where nothing reads it");
        }
    }

    fn source_table(&mut self, table: &Node, defaults: &Defaults<'_>) {
        let Some((name_at, name_key, name)) = entry(table, "name") else { return };
        self.sources += 1;
        let handled = ["config", "identifier", "meta", "external"];
        self.unknown_keys(table, "a source table", "source table", &handled);
        for key in ["identifier", "meta", "external"] {
            if let Some((at, _, _)) = entry(table, key) {
                self.take(table, at);
            }
        }
        let name = name.plain_text();
        let identifier = get(table, "identifier").map_or_else(|| name.clone(), Node::plain_text);
        let own = location(table).or(defaults.location);
        let found = own.and_then(|node| path_of(&node.plain_text(), &defaults.name, &name, &identifier));
        let found = found.map(|(path, format)| (self.world.path_of(&path), format));
        let lines = match &found {
            Some((path, format)) => {
                let what = format!("the location of `{}.{name}`", defaults.name);
                self.say(Level::Done, name_key, what, format!("is `path: {path}`"));
                vec![format!("path: {}", quoted(path)), format!("format: {format}")]
            }
            None => {
                let path = format!("data/bronze/{}/{identifier}/", defaults.name);
                let what = format!("source `{}.{name}` is a table of the warehouse", defaults.name);
                let action = format!("put its files into `{path}`, or fill in `path` and `format` where they are");
                self.say(Level::Todo, name_key, what, action);
                vec![format!("path: {path}  # fill in"), "format: csv".to_owned()]
            }
        };
        let mut lines = lines;
        if get(table, "columns").is_some_and(|columns| !items(columns).is_empty()) {
            // In dbt a list of columns describes some of them; here it says what is read.
            lines.push("on_new_column: add".to_owned());
        }
        self.untyped(table, lines.iter().any(|line| line == "format: parquet" || line == "format: delta"));
        edits::insert_beside(self.text, table, name_at, &lines, &mut self.edits);
        if let Some((at, key, config)) = entry(table, "config") {
            self.hoist(table, name_at, config, get(table, "freshness").is_some());
            self.disabled(config);
            let only_event_time = entries(config).iter().all(|(key, _)| key.plain_text() == "event_time");
            if !only_event_time {
                self.say(
                    Level::Done,
                    key,
                    "`config` of a source table",
                    "is a comment now; its freshness stands beside the name",
                );
                self.take(table, at);
            }
        }
        self.columns(table);
        self.tests(table);
    }
}

impl Page<'_> {
    /// Columns without a type are text, where the files do not know it.
    fn untyped(&mut self, table: &Node, files_have_types: bool) {
        let Some((_, key, columns)) = entry(table, "columns").filter(|_| !files_have_types) else { return };
        let untyped = items(columns).iter().filter(|column| get(column, "data_type").is_none());
        let names: Vec<String> = untyped.filter_map(|column| get(column, "name")).map(Node::plain_text).collect();
        if !names.is_empty() {
            let what = format!("columns without a type: {}", names.join(", "));
            let action =
                "are text in CSV and JSON: say their `data_type`; `lake source infer PATH` tells what files have";
            self.say(Level::Look, key, what, action);
        }
    }
}

/// `external_location` of dbt-duckdb: in `meta`, in `config`, or in `config.meta`.
fn location(of: &Node) -> Option<&Node> {
    let config = get(of, "config");
    let inner = [get(of, "meta"), config, config.and_then(|config| get(config, "meta"))];
    inner.into_iter().flatten().find_map(|mapping| get(mapping, "external_location"))
}

/// The path and the format that an `external_location` names: a path, or a call of a function that reads one.
fn path_of(location: &str, source: &str, table: &str, identifier: &str) -> Option<(String, &'static str)> {
    let text = location.trim();
    let quoted = text.contains('(').then(|| {
        let open = text.find(['\'', '"'])?;
        let quote = text[open..].chars().next()?;
        let rest = &text[open + 1..];
        Some(rest[..rest.find(quote)?].to_owned())
    });
    let path = match quoted {
        Some(path) => path?,
        None => text.trim_matches(['\'', '"']).to_owned(),
    };
    let path = path.replace("{name}", table).replace("{identifier}", identifier).replace("{schema}", source);
    let path = path.replace("{source_name}", source).replace("{table}", table);
    let by_call = [("read_parquet", "parquet"), ("read_csv", "csv"), ("read_json", "json"), ("delta_scan", "delta")];
    let called = by_call.iter().find(|(call, _)| text.starts_with(call)).map(|(_, format)| *format);
    let format = called.or_else(|| Some(Format::Auto.of_file(&path)?.name())).unwrap_or("auto");
    Some((path, format))
}

/// A text as YAML, in quotes if it needs them.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.' | '-' | ':');
    let is_plain =
        text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '.') && text.chars().all(plain);
    if is_plain && !text.ends_with(':') { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// A value on one line.
pub(super) fn flow(node: &Node) -> String {
    match &node.value {
        Raw::Map(entries) => {
            let parts: Vec<String> =
                entries.iter().map(|(key, value)| format!("{}: {}", key.plain_text(), flow(value))).collect();
            format!("{{ {} }}", parts.join(", "))
        }
        Raw::List(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Raw::Null => "null".to_owned(),
        Raw::Scalar(serde_json::Value::String(text)) => quoted(text),
        Raw::Scalar(value) => value.to_string(),
    }
}
