//! The reference of the YAML files as Markdown, from the JSON Schemas that editors read.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::checks::{self, Subject};
use crate::project::YamlFile;

/// What stands in front.
const HEAD: &str = "# YAML files

Every key of every YAML file, made from the JSON Schemas that `lake schema` prints and editors read. Unknown keys are
errors, with a suggestion. In the columns below, *text* may be a template: `{{ var('x') }}`.
";

/// Settings of `config:` are those of `project.yml`, so they are told once.
const SETTINGS: &[(&str, &str)] = &[("model", "models"), ("seed", "seeds")];

/// The page of all files.
pub fn yaml() -> String {
    let mut page = Page {
        text: HEAD.to_owned(),
        anchors: BTreeMap::new(),
        forms: BTreeMap::new(),
        waiting: Vec::new(),
        defs: Map::new(),
    };
    let files = [
        (YamlFile::Project, "project.yml", "The project: its targets, variables, and settings by folder."),
        (
            YamlFile::Models,
            "sources.yml, models/**/*.yml, seeds/**/*.yml",
            "What is said of sources, models, seeds and what hangs on them. All lists may stand in any of these files.",
        ),
        (YamlFile::Selectors, "selectors.yml", "Selections with a name, as in dbt."),
    ];
    for (file, name, about) in files {
        page.file(file, name, about);
    }
    page.text
}

/// A page on its way.
struct Page {
    text: String,
    /// Definitions that have a section, with its title.
    anchors: BTreeMap<String, String>,
    /// What those can be that are more than a mapping.
    forms: BTreeMap<String, String>,
    /// Mappings that get one.
    waiting: Vec<(String, Value)>,
    /// Of the file that is written.
    defs: Map<String, Value>,
}

impl Page {
    fn file(&mut self, file: YamlFile, name: &str, about: &str) {
        let schema = file.schema();
        self.defs = schema["$defs"].as_object().cloned().unwrap_or_default();
        self.anchors.clear();
        self.text.push_str(&format!("\n## {name}\n\n{about}\n\n"));
        self.table("", &schema);
        let mut at = 0;
        while at < self.waiting.len() {
            let (path, schema) = self.waiting[at].clone();
            self.section(&path, &schema);
            at += 1;
        }
        self.waiting.clear();
    }

    fn section(&mut self, path: &str, schema: &Value) {
        self.text.push_str(&format!("\n### {}\n\n", title(path)));
        if let Some(form) = self.forms.get(path) {
            self.text.push_str(&format!("One of: {form}. The keys of the mapping:\n\n"));
        }
        let about = schema["description"].as_str().unwrap_or_default();
        if !about.is_empty() {
            self.text.push_str(&format!("{}.\n\n", escaped(about)));
        }
        if schema["title"] == "group of settings" {
            self.text.push_str("By folder, then by name; the nearest wins. Each may be written with `+` in front.\n\n");
        }
        self.table(path, schema);
    }

    /// The keys of a mapping.
    fn table(&mut self, path: &str, schema: &Value) {
        let required: BTreeSet<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        self.text.push_str("| key | type | default | meaning |\n| --- | --- | --- | --- |\n");
        let properties = schema["properties"].as_object().cloned().unwrap_or_default();
        for (key, property) in &properties {
            // The second spelling of a key.
            if key.starts_with('+') || properties.contains_key(&key.replace('-', "_")) && key.contains('-') {
                continue;
            }
            let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let kind = match (key.as_str(), property["title"].as_str()) {
                ("data_tests" | "tests", _) => "list of [tests](#data-tests)".to_owned(),
                (_, Some("config of settings")) => self.settings(path),
                _ => self.kind(&inner, property),
            };
            let default = match (&property["default"], required.contains(key.as_str())) {
                (_, true) => "required".to_owned(),
                (Value::Null, false) => String::new(),
                (value, false) => format!("`{}`", plain(value)),
            };
            let about = self.about(property);
            self.text.push_str(&format!("| `{key}` | {kind} | {default} | {} |\n", escaped(&about)));
        }
        if path == "models[]" {
            self.tests();
        }
    }

    fn settings(&self, path: &str) -> String {
        let of = SETTINGS.iter().find(|(_, list)| path.starts_with(list)).map_or("models", |(_, list)| list);
        format!("the settings of [{of}](#{of})")
    }

    fn about(&self, property: &Value) -> String {
        let own = property["description"].as_str();
        let referred = || self.defs.get(reference(property)?)?["description"].as_str();
        own.or_else(referred).unwrap_or_default().to_owned()
    }

    /// What a value is, in words; mappings with keys of their own get a section.
    fn kind(&mut self, path: &str, schema: &Value) -> String {
        if let Some(name) = reference(schema).map(str::to_owned) {
            let Some(definition) = self.defs.get(&name).cloned() else { return "anything".to_owned() };
            if name == "data_tests" {
                return "[test](#data-tests)".to_owned();
            }
            if definition["properties"].is_object() {
                let is_new = !self.anchors.contains_key(&name);
                let title = self.anchors.entry(name).or_insert_with(|| path.to_owned()).clone();
                if is_new {
                    self.waiting.push((path.to_owned(), definition));
                }
                return format!("[mapping](#{})", anchor(&title));
            }
            // What refers to itself is told once.
            let link = format!("[{name}](#{})", anchor(&name));
            if let Some(known) = self.anchors.get(&name) {
                return known.clone();
            }
            self.anchors.insert(name.clone(), link.clone());
            let kind = self.kind(&name, &definition);
            self.forms.insert(name, kind);
            return link;
        }
        if let (Some(parts), false) = (schema["anyOf"].as_array(), schema["properties"].is_object()) {
            let mut kinds: Vec<String> = Vec::new();
            for kind in parts.clone().iter().map(|part| self.kind(path, part)) {
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            return kinds.join(" or ");
        }
        if let Some(words) = schema["enum"].as_array() {
            // YAML may write one word in two ways.
            let mut shown: Vec<String> = words.iter().map(|word| format!("`{}`", plain(word))).collect();
            let mut seen = BTreeSet::new();
            shown.retain(|word| seen.insert(word.clone()));
            return shown.join(", ");
        }
        if schema["properties"].is_object() {
            if self.waiting.iter().all(|(known, _)| known != path) {
                self.waiting.push((path.to_owned(), schema.clone()));
            } else if let Some((_, known)) = self.waiting.iter_mut().find(|(known, _)| known == path) {
                merge(known, schema);
            }
            return format!("[mapping](#{})", anchor(path));
        }
        self.plain_kind(path, schema)
    }

    fn plain_kind(&mut self, path: &str, schema: &Value) -> String {
        let types: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if types == ["array"] {
            let items = schema["items"].clone();
            return format!("list of {}", plural(&self.kind(&format!("{path}[]"), &items)));
        }
        if types.contains(&"object") {
            let inner = &schema["additionalProperties"];
            return match inner.is_object() {
                true => {
                    let inner = inner.clone();
                    format!("mapping of names to {}", plural(&self.kind(&format!("{path}.NAME"), &inner)))
                }
                false => "mapping".to_owned(),
            };
        }
        match types.as_slice() {
            [] => "anything".to_owned(),
            ["boolean"] => "`true` or `false`".to_owned(),
            ["null"] => "`null`".to_owned(),
            ["integer" | "number"] => "number".to_owned(),
            _ if types.contains(&"array") => "text, or list of texts".to_owned(),
            _ if types.contains(&"boolean") || types == ["string"] => "text".to_owned(),
            _ => "number or text".to_owned(),
        }
    }

    /// The tests that are built in, and what every test takes.
    fn tests(&mut self) {
        self.text.push_str(
            "\n### Data tests\n\nA test is its name, or its name with arguments: `- unique`, `- accepted_values: { values: [web, app] }`. \
             Generic tests of your own stand in `tests/generic/`, and take what they say. Every test takes:\n\n",
        );
        let settings = self.defs.get("test_config").cloned().unwrap_or_default();
        self.table("data_tests[]", &settings);
        self.text.push_str("\nThese are built in; arguments in brackets can be left out.\n\n| test | on a | takes | says |\n| --- | --- | --- | --- |\n");
        let mut parameters: Vec<&str> = Vec::new();
        for test in checks::all() {
            let also: String = test.names[1..].iter().map(|name| format!("<br>{name}")).collect();
            let takes = test.parameters.iter().map(|parameter| {
                parameters.extend(parameter.names);
                if parameter.required {
                    format!("`{}`", parameter.names[0])
                } else {
                    format!("[`{}`]", parameter.names[0])
                }
            });
            let takes: Vec<String> = takes.collect();
            let subject = match test.subject {
                Subject::Column => "column",
                Subject::Table => "table",
                Subject::Any => "column or table",
            };
            let row =
                format!("| `{}`{also} | {subject} | {} | {} |\n", test.name(), takes.join(" "), escaped(test.about));
            self.text.push_str(&row);
        }
        self.text.push_str("\n| argument | type | meaning |\n| --- | --- | --- |\n");
        parameters.sort_unstable();
        parameters.dedup();
        for name in parameters {
            let of = checks::all().find(|test| test.parameters.iter().any(|parameter| parameter.names.contains(&name)));
            let definition = of.and_then(|test| self.defs.get(&format!("test_{}", test.name())).cloned());
            let property = definition.map(|definition| definition["properties"][name].clone()).unwrap_or_default();
            let (kind, about) = (self.kind(&format!("data_tests[].{name}"), &property), self.about(&property));
            self.text.push_str(&format!("| `{name}` | {kind} | {} |\n", escaped(&about)));
        }
    }
}

/// The keys of two mappings that stand at one place, such as selections that are a union or an intersection.
fn merge(known: &mut Value, more: &Value) {
    let Some(properties) = known["properties"].as_object_mut() else { return };
    for (key, schema) in more["properties"].as_object().into_iter().flatten() {
        properties.entry(key.clone()).or_insert_with(|| schema.clone());
    }
    if let Some(known) = known.as_object_mut() {
        known.remove("required");
        known.remove("description");
    }
}

/// The definition that a schema refers to.
fn reference(schema: &Value) -> Option<&str> {
    let direct = schema["$ref"].as_str();
    direct.or_else(|| schema["allOf"][0]["$ref"].as_str())?.rsplit('/').next()
}

/// What a section is called: the path of its key, with each of a list told apart from the list.
fn title(path: &str) -> String {
    path.replace("[]", " (each)")
}

/// A link to a heading, as GitHub makes it: letters, digits, `-` and `_`.
fn anchor(path: &str) -> String {
    let lower = title(path).to_lowercase();
    lower
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' '))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "null".to_owned(),
        other => other.to_string(),
    }
}

fn plural(kind: &str) -> String {
    match kind {
        "text" | "number" | "mapping" => format!("{kind}s"),
        _ => kind.to_owned(),
    }
}

/// Text in a cell of a table.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
