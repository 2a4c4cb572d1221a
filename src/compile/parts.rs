//! What a definition is made of, part by part, as short hashes: a hash of all tells that something changed, these tell what.
//!
//! They stand in the commit of a table, so they say nothing of the values of variables.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{CompiledModel, fingerprint};
use crate::project::{Model, Project};

/// Each part with its hash; that of the template has one for each line.
pub type Parts = BTreeMap<String, String>;

/// The settings that decide which rows a table holds.
const SETTINGS: &[&str] = &[
    "materialized",
    "incremental_strategy",
    "unique_key",
    "sequence_by",
    "partition_by",
    "merge_update_columns",
    "merge_exclude_columns",
    "delete_when",
    "incremental_predicates",
    "event_time",
    "batch_size",
    "strategy",
    "updated_at",
    "check_cols",
    "hard_deletes",
    "snapshot_meta_column_names",
];

/// The parts of the definition of a model.
pub fn parts(project: &Project, model: &Model, models: &BTreeMap<crate::names::TableName, CompiledModel>) -> Parts {
    let mut parts = Parts::from([("lake".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
    if let Some(seed) = &model.seed {
        parts.insert(format!("source {}", seed.name), short(&fingerprint::source(seed)));
        return parts;
    }
    let template = model.file.text();
    parts.insert("template".to_owned(), template.lines().map(short).collect::<Vec<_>>().join(" "));
    let statements = [Some(model.full.sql.as_str()), model.incremental.as_ref().map(|rendered| rendered.sql.as_str())];
    let statements: Vec<&str> = statements.into_iter().flatten().collect();
    parts.insert("sql".to_owned(), short(&statements.join("\n;\n")));
    let config = serde_json::to_value(&model.config).unwrap_or_default();
    for setting in SETTINGS {
        let value = &config[*setting];
        if !matches!(value, Value::Null) && value != &Value::Array(Vec::new()) {
            parts.insert(format!("setting {setting}"), short(&value.to_string()));
        }
    }
    for name in &model.vars {
        let value = project.vars.get(name).map(Value::to_string).unwrap_or_default();
        parts.insert(format!("var {name}"), short(&value));
    }
    for (name, digest) in project.macros.reached(template) {
        parts.insert(format!("macro {name}"), short(digest));
    }
    for (name, _) in &model.sources {
        if let Some(source) = project.sources.get(name) {
            parts.insert(format!("source {name}"), short(&fingerprint::source(source)));
        }
    }
    for name in model.refs.iter().filter(|name| project.models.get(name).is_some_and(|model| !model.is_stored())) {
        if let Some(view) = models.get(name) {
            parts.insert(format!("view {name}"), short(&view.definition));
        }
    }
    parts
}

fn short(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..6].to_owned()
}

/// What is not as it was, in words; empty if nothing is known of before.
pub fn changed(before: &Parts, now: &Parts, path: &str) -> Vec<String> {
    if before.is_empty() {
        return Vec::new();
    }
    let mut told = Vec::new();
    if let (Some(old), Some(new)) = (before.get("lake"), now.get("lake"))
        && old != new
    {
        told.push(format!("lake {old} -> {new}"));
    }
    let lines =
        |parts: &Parts| parts.get("template").map(|text| text.split(' ').map(str::to_owned).collect::<Vec<_>>());
    if let (Some(old), Some(new)) = (lines(before), lines(now))
        && let Some(range) = changed_lines(&old, &new)
    {
        told.push(format!("{path}{range}"));
    }
    let words = [
        ("setting ", "setting "),
        ("macro ", "macro "),
        ("var ", "variable "),
        ("source ", "how files are read of "),
        ("view ", "the view "),
    ];
    for (prefix, word) in words {
        let names = before.keys().chain(now.keys()).filter_map(|part| part.strip_prefix(prefix));
        let names: std::collections::BTreeSet<&str> = names.collect();
        let differs = |name: &&str| before.get(&format!("{prefix}{name}")) != now.get(&format!("{prefix}{name}"));
        // What the template now calls or not is told by its lines.
        let known = |name: &&str| {
            prefix == "setting " || [before, now].iter().all(|p| p.contains_key(&format!("{prefix}{name}")))
        };
        told.extend(names.into_iter().filter(differs).filter(known).map(|name| format!("{word}{name}")));
    }
    if told.is_empty() && before.get("sql") != now.get("sql") {
        told.push("what its template reads of the target, the environment or the graph".to_owned());
    }
    told
}

/// `:12`, or `:12 to 15`: the lines of the new text that are not as they were; where lines went, the place.
fn changed_lines(old: &[String], new: &[String]) -> Option<String> {
    let same = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    if same == old.len() && same == new.len() {
        return None;
    }
    let most = old.len().min(new.len()) - same;
    let tail = old.iter().rev().zip(new.iter().rev()).take(most).take_while(|(a, b)| a == b).count();
    let (first, last) = (same + 1, new.len() - tail);
    Some(if last <= first { format!(":{}", first.min(new.len().max(1))) } else { format!(":{first} to {last}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &[(&str, &str)]) -> Parts {
        parts.iter().map(|(name, hash)| ((*name).to_owned(), (*hash).to_owned())).collect()
    }

    #[test]
    fn lines_that_changed_are_told() {
        let told = |old: &str, new: &str| changed(&of(&[("template", old)]), &of(&[("template", new)]), "m.sql");
        assert!(told("a b c", "a b c").is_empty());
        assert_eq!(told("a b c", "a x c"), ["m.sql:2"]);
        assert_eq!(told("a b c", "a x y c"), ["m.sql:2 to 3"]);
        assert_eq!(told("a b c", "a c"), ["m.sql:2"]);
        assert_eq!(told("a b", "a b c"), ["m.sql:3"]);
        assert_eq!(told("a a a", "a a"), ["m.sql:2"]);
    }

    #[test]
    fn settings_macros_and_variables_are_told_by_name() {
        let before =
            of(&[("setting unique_key", "1"), ("macro part", "1"), ("var v", "1"), ("macro gone", "1"), ("sql", "1")]);
        let now = of(&[("macro part", "2"), ("var v", "2"), ("var other", "1"), ("sql", "2")]);
        assert_eq!(changed(&before, &now, "m.sql"), ["setting unique_key", "macro part", "variable v"]);
        assert!(changed(&Parts::new(), &now, "m.sql").is_empty());
        let only_sql = of(&[("sql", "3")]);
        assert_eq!(changed(&of(&[("sql", "1")]), &only_sql, "m.sql").len(), 1);
    }
}
