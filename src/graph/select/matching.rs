//! Which nodes and tests one method finds.

use std::collections::BTreeSet;

use super::SelectError;
use super::evaluate::{Evaluator, Set};
use super::term::{Pattern, Term};
use crate::names::{TableName, nearest};
use crate::project::{DataTest, TestSeverity};

impl Evaluator<'_> {
    /// What a term names, before `+` and `@`.
    ///
    /// A term that matches nothing is a mistake, except where nothing is an answer: no change, no failure.
    pub(super) fn matching(&self, term: &Term) -> Result<Set, SelectError> {
        let mut found = Set::default();
        if term.method == Some("column") {
            found.nodes = self.columns(term);
        } else {
            found.nodes = self.names().filter(|name| self.node_matches(name, term)).cloned().collect();
            let tests = self.project.data_tests.iter().filter(|test| self.test_matches(test, term));
            found.tests = tests.map(|test| test.name.clone()).collect();
            found.tests.extend(self.unit_tests(term).map(str::to_owned));
        }
        let may_be_empty = matches!(term.method, Some("state" | "result" | "source_status"));
        if found.nodes.is_empty() && found.tests.is_empty() && !may_be_empty {
            return Err(self.nothing(term));
        }
        Ok(found)
    }

    fn node_matches(&self, name: &TableName, term: &Term) -> bool {
        let pattern = &term.pattern;
        let model = self.project.models.get(name);
        let source = self.project.sources.get(name);
        let exposure = self.project.exposures.get(name);
        let export = self.project.exports.get(name);
        let full = || name.to_string();
        let named =
            |name: &TableName| pattern.matches(name.table) || pattern.matches(name.schema) || pattern.matches(&full());
        let declared = exposure.map(|exposure| &exposure.span).or(export.map(|export| &export.span));
        let path = model.map(|model| &model.path).or(declared.map(|span| &span.file.path));
        match term.method {
            None => {
                let by_path = || model.is_some_and(|m| pattern.matches_path(&m.path));
                model.is_some() && (named(name) || (term.value.contains('/') && by_path()))
            }
            Some("fqn") => {
                model.is_some() && (named(name) || pattern.matches(&format!("{}.{name}", self.project.name)))
            }
            Some("source") => source.is_some() && (named(name) || pattern.matches(&format!("{}.*", name.schema))),
            Some(method @ ("exposure" | "export")) => {
                let short = &name.table;
                let long = || format!("{}.{short}", self.project.name);
                let is_such = if method == "export" { export.is_some() } else { exposure.is_some() };
                is_such && (pattern.matches(short) || pattern.matches(&long()) || pattern.matches(&full()))
            }
            Some("tag") => {
                let tags = model.map(|m| &m.config.tags).or(source.map(|s| &s.tags));
                let tags = tags.or(exposure.map(|e| &e.tags)).or(export.map(|e| &e.tags));
                tags.is_some_and(|tags| tags.iter().any(|tag| pattern.matches(tag)))
            }
            Some("path") => path.is_some_and(|path| pattern.matches_path(path)),
            Some("file") => path.is_some_and(|path| {
                let file = path.rsplit('/').next().unwrap_or(path);
                pattern.matches(file) || model.is_some() && pattern.matches(name.table)
            }),
            Some("package") => self.is_own_package(term),
            Some("group") => model.and_then(|m| m.config.group.as_ref()).is_some_and(|group| pattern.matches(group)),
            Some("access") => model.is_some_and(|m| pattern.matches(m.config.access.name())),
            Some("resource_type") => pattern.matches(&super::kind_of(self.project, name).to_string()),
            Some("config") => {
                model.is_some_and(|m| config_matches(&serde_json::to_value(&m.config).unwrap_or_default(), term))
            }
            Some("state") => self.facts.state.nodes.get(name).is_some_and(|standing| standing.is(&term.value)),
            Some("result") => self.ended(&full(), &term.value),
            Some("source_status") => self.facts.fresher.contains(name),
            _ => false,
        }
    }

    fn test_matches(&self, test: &DataTest, term: &Term) -> bool {
        let pattern = &term.pattern;
        let singular = test.kind.name() == "singular";
        match term.method {
            None | Some("fqn") => pattern.matches(&test.name),
            Some("test_name") => pattern.matches(test.kind.name()),
            Some("test_type") => {
                pattern.matches(if singular { "singular" } else { "generic" }) || pattern.matches("data")
            }
            Some("resource_type") => pattern.matches("test"),
            Some("tag") => test.config.tags.iter().any(|tag| pattern.matches(tag)),
            Some("path") => pattern.matches_path(&test.span.file.path),
            Some("file") => {
                let path = &test.span.file.path;
                pattern.matches(path.rsplit('/').next().unwrap_or(path)) || singular && pattern.matches(&test.name)
            }
            Some("package") => self.is_own_package(term),
            Some("config") => {
                let severity = if test.config.severity == TestSeverity::Warn { "warn" } else { "error" };
                let config = serde_json::json!({
                    "severity": severity, "tags": test.config.tags, "where": test.config.filter,
                });
                config_matches(&config, term)
            }
            Some("state") => self.facts.state.tests.get(&test.name).is_some_and(|standing| standing.is(&term.value)),
            Some("result") => self.ended(&test.name, &term.value),
            _ => false,
        }
    }

    pub(super) fn is_own_package(&self, term: &Term) -> bool {
        term.pattern.matches(&self.project.name) || term.value == "this"
    }

    /// Whether a node or test ended so, in dbt's words: what waits for a node that failed is skipped.
    pub(super) fn ended(&self, name: &str, wanted: &str) -> bool {
        self.facts.results.get(name).is_some_and(|status| status == wanted)
    }

    fn nothing(&self, term: &Term) -> SelectError {
        let near = |candidates: BTreeSet<String>| {
            nearest(&term.value, candidates.iter().map(String::as_str)).map(str::to_owned)
        };
        let message = format!("selector `{}` matches nothing", term.text);
        let project = self.project;
        if let Some(method) = term.method {
            let candidates: BTreeSet<String> = match method {
                "tag" => project.models.values().flat_map(|m| m.config.tags.iter().cloned()).collect(),
                "source" => project.sources.keys().map(ToString::to_string).collect(),
                "exposure" => project.exposures.keys().map(|name| name.table.to_owned()).collect(),
                "export" => project.exports.keys().map(|name| name.table.to_owned()).collect(),
                "group" => project.groups.keys().cloned().collect(),
                "access" => ["private", "protected", "public"].map(str::to_owned).into(),
                "resource_type" => {
                    ["model", "seed", "source", "exposure", "export", "test", "unit_test"].map(str::to_owned).into()
                }
                "column" => self.facts.columns.iter().map(|(table, column)| format!("{table}.{column}")).collect(),
                "unit_test" => project.unit_tests.iter().map(|test| test.name.clone()).collect(),
                "test_name" => project.data_tests.iter().map(|test| test.kind.name().to_owned()).collect(),
                _ => BTreeSet::new(),
            };
            let help = near(candidates).map(|near| format!("did you mean `{method}:{near}`?"));
            let all_columns = || (method == "column").then(|| "`lake ls --columns` lists all columns".to_owned());
            return SelectError::new(message, help.or_else(all_columns));
        }
        if project.sources.keys().any(|name| name.to_string() == term.value) {
            return SelectError::new(message, Some(format!("it is a source: write `source:{}`", term.value)));
        }
        if project.exposures.keys().any(|name| name.table == term.value) {
            return SelectError::new(message, Some(format!("it is an exposure: write `exposure:{}`", term.value)));
        }
        if project.exports.keys().any(|name| name.table == term.value) {
            return SelectError::new(message, Some(format!("it is an export: write `export:{}`", term.value)));
        }
        let names = project.models.keys().flat_map(|name| [name.table.to_owned(), name.to_string()]).collect();
        let help = near(names).map(|near| format!("did you mean `{near}`?"));
        SelectError::new(message, help.or_else(|| Some("`lake ls` lists all models".to_owned())))
    }
}

pub(super) fn config_matches(config: &serde_json::Value, term: &Term) -> bool {
    let key = term.key.as_deref().unwrap_or_default();
    let pattern: &Pattern = &term.pattern;
    match key.split('.').try_fold(config, |value, part| value.get(part)) {
        Some(serde_json::Value::String(text)) => pattern.matches(text),
        Some(serde_json::Value::Array(items)) => {
            items.iter().any(|item| item.as_str().is_some_and(|text| pattern.matches(text)))
        }
        Some(serde_json::Value::Object(entries)) => entries.contains_key(&term.value),
        Some(serde_json::Value::Null) | None => false,
        Some(other) => pattern.matches(&other.to_string()),
    }
}
