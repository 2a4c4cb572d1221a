//! JSON Schemas of the YAML files, for editors: what the readers of this module accept, in the words of their own lists.
//!
//! A mapping of a schema has as its title what the reader calls it. The test below compares the keys of the two.

mod build;
mod common;
mod data_tests;
mod models;
mod selectors;
mod settings;
mod sources;
mod unit_tests;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{notifications, openlineage};

use build::{
    any, any_of, count, definitions, flag, list_of, map_of, mapping, of, reference, text, text_or_list, unless_set,
    words,
};

/// A kind of YAML file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum YamlFile {
    /// `project.yml`.
    Project,
    /// `sources.yml`.
    Sources,
    /// `models/**/*.yml`, and those of seeds.
    Models,
    /// `selectors.yml`.
    Selectors,
}

impl YamlFile {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Project, Self::Sources, Self::Models, Self::Selectors];

    /// Its name: `project`, `sources`, `models`, `selectors`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Sources => "sources",
            Self::Models => "models",
            Self::Selectors => "selectors",
        }
    }

    /// Its JSON Schema.
    pub fn schema(self) -> Value {
        let (about, mut schema) = match self {
            Self::Project => ("project.yml of lake", project()),
            Self::Sources => ("sources.yml of lake", models::properties_file()),
            Self::Models => ("YAML of models, seeds and sources of lake", models::properties_file()),
            Self::Selectors => ("selectors.yml of lake", selectors::file()),
        };
        schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
        schema["description"] = json!(about);
        schema
    }
}

/// The keys of every mapping of the YAML files, by what its reader calls it: `model`, `source table`, `owner`.
pub fn known_keys() -> BTreeMap<String, BTreeSet<String>> {
    fn walk(schema: &Value, found: &mut BTreeMap<String, BTreeSet<String>>) {
        match schema {
            Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
            Value::Object(entries) => {
                if let (Some(title), Some(keys)) = (schema["title"].as_str(), schema["properties"].as_object()) {
                    found.entry(title.to_owned()).or_default().extend(keys.keys().cloned());
                }
                entries.values().for_each(|value| walk(value, found));
            }
            _ => {}
        }
    }
    let mut found = BTreeMap::new();
    YamlFile::ALL.iter().for_each(|file| walk(&file.schema(), &mut found));
    found
}

fn project() -> Value {
    let amount = || json!({"type": ["integer", "string"], "examples": ["512MB", "16GB"]});
    let target = mapping(
        "target",
        "A named environment",
        &["root"],
        vec![
            ("root", of(text(), "Where its tables are: a folder, or an address such as s3://acme-lake/prod")),
            ("threads", of(json!({"type": "integer", "minimum": 1}), "How many nodes and partitions run at once")),
            (
                "memory",
                of(
                    amount(),
                    "What the process may use; queries reserve half of it together, and spill to disk beyond that",
                ),
            ),
            ("retries", of(unless_set(count(), 3), "How often a node starts again after its storage failed")),
            ("storage_options", of(map_of(text()), "How the store is reached: options of the `object_store` crate")),
        ],
    );
    let sensitive = mapping(
        "rule for sensitive columns",
        "What holds for columns with `meta: { sensitive: ... }`",
        &[],
        vec![("forbid_unmasked_in", of(text_or_list(), "Layers that none of them reaches unmasked"))],
    );
    let hooks = |about| of(settings::hooks(), about);
    let mut schema = mapping(
        "project",
        "",
        &["name", "targets"],
        vec![
            ("name", of(text(), "The name of the project: letters, digits and `_`")),
            ("version", of(any(), "The version of the project, for people")),
            ("target", of(text(), "The default of --target")),
            ("targets", of(map_of(target), "Named environments")),
            ("vars", of(map_of(any()), "Variables, read as {{ var('name') }}")),
            ("models", of(reference("model_settings"), "Settings of models by folder, then by model")),
            ("seeds", of(reference("seed_settings"), "Settings of seeds by folder, then by seed")),
            ("maintain", of(settings::of_models("maintain").1, "What `lake maintain` does to all tables")),
            ("on-run-start", hooks("What runs before the first model")),
            ("on-run-end", hooks("What runs after the last model")),
            ("sensitive", of(sensitive, "Rules for sensitive columns")),
            ("openlineage", of(openlineage(), "Where events of OpenLineage go")),
            (
                "notifications",
                of(list_of(channel()), "Who is told how runs end: Slack, Teams, webhooks, e-mail, commands"),
            ),
        ],
    );
    let models = settings::tree("model_settings", &settings::all_of_models());
    let seeds = settings::tree("seed_settings", &settings::all_of_seeds(true));
    schema["$defs"] = definitions([("model_settings", models), ("seed_settings", seeds), ("hook", settings::hook())]);
    schema
}

fn openlineage() -> Value {
    let property = |key: &'static str| {
        let about = match key {
            "namespace" => "The namespace of jobs; the name of the project, unless it is said",
            "file" => "A file to which each event is added as a line",
            "url" => "The address of a server; events are posted to its `endpoint`",
            "endpoint" => "Below the address: api/v1/lineage, unless it is said",
            "api_key" => "From the environment: {{ env_var('OPENLINEAGE_API_KEY') }}",
            _ => "How long is waited for an answer: 5s",
        };
        (key, of(text(), about))
    };
    let properties = openlineage::KEYS.iter().map(|key| property(key)).collect::<Vec<_>>();
    mapping("group of openlineage settings", "", &[], properties)
}

/// One of `notifications`.
fn channel() -> Value {
    let property = |(key, _, about): &(&'static str, _, &str)| {
        let value = match *key {
            "type" => words(notifications::TYPES),
            "on" => any_of(vec![words(notifications::OCCASIONS), list_of(words(notifications::OCCASIONS))]),
            "severity" => any_of(vec![words(notifications::SEVERITIES), list_of(words(notifications::SEVERITIES))]),
            "tls" => words(notifications::MAIL_TLS),
            "port" => json!({"type": "integer", "minimum": 1, "maximum": 65535}),
            "enabled" => flag(),
            "headers" => map_of(text()),
            "owners" | "tags" | "select" | "targets" | "to" | "command" => text_or_list(),
            _ => text(),
        };
        (*key, of(value, about))
    };
    let properties = notifications::KEYS.iter().map(property).collect();
    mapping("notification channel", "", &["name", "type"], properties)
}

/// Owners of groups and exposures.
fn owner() -> Value {
    let mut owner = mapping(
        "owner",
        "Who answers for it: a name, an address, or both",
        &[],
        vec![("name", of(text(), "Of a person or a team")), ("email", text())],
    );
    owner["minProperties"] = json!(1);
    owner
}

/// `rows` and what else a list of rows may be.
fn rows() -> Value {
    json!({"anyOf": [list_of(map_of(any())), {"type": "string"}]})
}
