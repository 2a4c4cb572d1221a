//! `profiles.yml`: its outputs are targets. Nothing of how the warehouse is reached is taken over.

use super::edits::{entries, get};
use super::finding::{Findings, Level};
use super::properties;
use super::sql;
use crate::names::check_identifier;

/// The targets of the new project.
#[derive(Debug)]
pub(super) struct Targets {
    /// The default one.
    pub(super) default: String,
    /// Name, and how many nodes run at once.
    pub(super) all: Vec<(String, Option<u64>)>,
    /// The schema of the default target: the layer of models that stand in no folder.
    pub(super) schema: Option<String>,
}

impl Targets {
    /// One target, where nothing is known of others.
    pub(super) fn one() -> Self {
        Self { default: "dev".to_owned(), all: vec![("dev".to_owned(), None)], schema: None }
    }

    /// `target:` and `targets:` of project.yml.
    pub(super) fn yaml(&self) -> String {
        let mut text = format!("target: {}\ntargets:\n", self.default);
        for (name, threads) in &self.all {
            let root = self.root(name);
            let threads = threads.map_or(String::new(), |threads| format!(", threads: {threads}"));
            text.push_str(&format!("  {name}: {{ root: {root}{threads} }}\n"));
        }
        text
    }

    fn root(&self, name: &str) -> String {
        if *name == self.default { "data/lake".to_owned() } else { format!("data/lake_{name}") }
    }
}

/// Reads the profile that the project names, or the only one.
pub(super) fn read(path: &str, text: &str, profile: Option<&str>, findings: &mut Findings) -> Targets {
    let Some(root) = properties::parse(path, text, findings) else { return Targets::one() };
    let profiles =
        entries(&root).iter().filter(|(key, value)| key.plain_text() != "config" && get(value, "outputs").is_some());
    let mut profiles = profiles.filter(|(key, _)| profile.is_none_or(|name| key.plain_text() == name));
    let Some((_, found)) = profiles.next() else {
        let name = profile.unwrap_or("...");
        findings.push(
            Level::Look,
            path,
            1,
            format!("there is no profile `{name}`"),
            "there is one target, `dev`: data/lake",
        );
        return Targets::one();
    };
    let mut targets = Targets { default: String::new(), all: Vec::new(), schema: None };
    let default = get(found, "target").map(|node| node.plain_text());
    for (key, output) in get(found, "outputs").map(entries).unwrap_or_default() {
        let name: String =
            key.plain_text().chars().map(|c| if c.is_alphanumeric() || c == '_' { c } else { '_' }).collect();
        if check_identifier(&name).is_err() {
            continue;
        }
        let kind = get(output, "type").map_or_else(|| "?".to_owned(), |node| node.plain_text());
        let threads = get(output, "threads").and_then(|node| node.plain_text().parse().ok()).filter(|count| *count > 0);
        if targets.default.is_empty() || default.as_deref() == Some(&*key.plain_text()) {
            targets.default.clone_from(&name);
            let schema = get(output, "schema").or_else(|| get(output, "dataset")).map(|node| node.plain_text());
            targets.schema = schema.filter(|schema| check_identifier(schema).is_ok());
        }
        let line = sql::line(text, key.span.start);
        let action =
            format!("is the target `{name}`: say in project.yml where its tables are; logins are not taken over");
        findings.push(Level::Look, path, line, format!("the output `{name}` ({kind})"), action);
        targets.all.push((name, threads));
    }
    if targets.all.is_empty() { Targets::one() } else { targets }
}
