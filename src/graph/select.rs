//! The selection grammar: dbt's node selection, on names, folders, tags, sources and settings.
//!
//! `--select a b` is a union, `a,b` an intersection. `+a`, `a+`, `2+a+1` and `@a` widen a selection
//! along the graph. Methods: `tag:`, `path:`, `source:`, `config.key:`, `fqn:`, `resource_type:`,
//! `package:`, `file:`, `test_name:` apart, as in dbt's "node selection syntax".

use std::collections::BTreeSet;

use globset::{Glob, GlobMatcher};

use super::Graph;
use crate::names::{TableName, nearest};
use crate::project::Project;

/// What `--select` and `--exclude` left.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Sources and models.
    pub nodes: BTreeSet<TableName>,
    /// Tests named directly; tests of selected models are selected too.
    pub tests: BTreeSet<String>,
    /// Tests that `--exclude` names.
    pub excluded_tests: BTreeSet<String>,
}

impl Selection {
    /// Whether a node is selected.
    pub fn contains(&self, name: &TableName) -> bool {
        self.nodes.contains(name)
    }

    /// Whether a test of this name, which reads these tables, is selected.
    pub fn contains_test(&self, name: &str, reads: &[TableName]) -> bool {
        !self.excluded_tests.contains(name)
            && (self.tests.contains(name) || reads.iter().any(|read| self.contains(read)))
    }
}

/// A selector that does not parse or names nothing.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SelectError {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl SelectError {
    fn new(message: String, help: Option<String>) -> Self {
        Self { message, help }
    }
}

const METHODS: &[&str] =
    &["tag", "path", "file", "source", "config", "fqn", "resource_type", "package", "test_name", "test_type"];

/// Evaluates `--select` and `--exclude`; no `--select` is everything.
///
/// # Errors
/// A selector with an unknown method, a bad pattern, or one that matches nothing.
pub fn select(
    project: &Project,
    graph: &Graph,
    selects: &[String],
    excludes: &[String],
) -> Result<Selection, SelectError> {
    let evaluator = Evaluator { project, graph };
    let mut selection = if selects.is_empty() {
        Selection {
            nodes: project.sources.keys().chain(project.models.keys()).cloned().collect(),
            ..Selection::default()
        }
    } else {
        evaluator.union(selects)?
    };
    if !excludes.is_empty() {
        let excluded = evaluator.union(excludes)?;
        selection.nodes.retain(|name| !excluded.nodes.contains(name));
        selection.excluded_tests = excluded.tests;
    }
    Ok(selection)
}

struct Evaluator<'a> {
    project: &'a Project,
    graph: &'a Graph,
}

impl Evaluator<'_> {
    fn union(&self, texts: &[String]) -> Result<Selection, SelectError> {
        let mut all = Selection::default();
        if texts.iter().all(|text| text.trim().is_empty()) {
            return Err(SelectError::new("the selector is empty".to_owned(), None));
        }
        for text in texts.iter().flat_map(|text| text.split_whitespace()) {
            let found = self.intersection(text)?;
            all.nodes.extend(found.nodes);
            all.tests.extend(found.tests);
        }
        Ok(all)
    }

    fn intersection(&self, text: &str) -> Result<Selection, SelectError> {
        let mut parts = text.split(',').map(|part| self.one(part));
        let first = parts.next().unwrap_or_else(|| Ok(Selection::default()))?;
        parts.try_fold(first, |left, right| {
            let right = right?;
            Ok(Selection {
                nodes: left.nodes.intersection(&right.nodes).cloned().collect(),
                tests: left.tests.intersection(&right.tests).cloned().collect(),
                ..Selection::default()
            })
        })
    }

    fn one(&self, text: &str) -> Result<Selection, SelectError> {
        let term = Term::parse(text)?;
        let matched = self.matching(&term)?;
        let mut nodes = BTreeSet::new();
        for name in &matched.nodes {
            if let Some(depth) = term.upstream {
                nodes.extend(self.graph.reach(name, true, depth));
            }
            if let Some(depth) = term.downstream {
                nodes.extend(self.graph.reach(name, false, depth));
            }
            if term.childrens_parents {
                for child in self.graph.reach(name, false, None) {
                    nodes.extend(self.graph.reach(&child, true, None));
                }
            }
        }
        nodes.extend(matched.nodes);
        Ok(Selection { nodes, tests: matched.tests, ..Selection::default() })
    }

    fn matching(&self, term: &Term<'_>) -> Result<Selection, SelectError> {
        let pattern = Pattern::new(term.value)?;
        let mut found = Selection::default();
        match term.method {
            Some(("test_name", _)) => self.tests(&mut found, |test| pattern.matches(test.kind.name())),
            Some(("test_type", _)) => self.tests(&mut found, |test| {
                let singular = test.kind.name() == "singular";
                pattern.matches(if singular { "singular" } else { "generic" }) || (pattern.matches("data"))
            }),
            _ => {
                let names = self.project.sources.keys().chain(self.project.models.keys());
                found.nodes = names.filter(|name| self.node_matches(name, term, &pattern)).cloned().collect();
                if term.method.is_none() {
                    self.tests(&mut found, |test| pattern.matches(&test.name));
                }
            }
        }
        if found.nodes.is_empty() && found.tests.is_empty() {
            return Err(self.nothing(term));
        }
        Ok(found)
    }

    fn tests(&self, found: &mut Selection, matches: impl Fn(&crate::project::DataTest) -> bool) {
        found.tests.extend(self.project.data_tests.iter().filter(|t| matches(t)).map(|t| t.name.clone()));
    }

    fn node_matches(&self, name: &TableName, term: &Term<'_>, pattern: &Pattern) -> bool {
        let model = self.project.models.get(name);
        let source = self.project.sources.get(name);
        let full = name.to_string();
        let named =
            |name: &TableName| pattern.matches(&full) || pattern.matches(&name.table) || pattern.matches(&name.schema);
        match term.method {
            None => {
                model.is_some()
                    && (named(name)
                        || (term.value.contains('/') && model.is_some_and(|m| pattern.matches_path(&m.path))))
            }
            Some(("fqn", _)) => {
                model.is_some() && (named(name) || pattern.matches(&format!("{}.{full}", self.project.name)))
            }
            Some(("source", _)) => source.is_some() && (named(name) || pattern.matches(&format!("{}.*", name.schema))),
            Some(("tag", _)) => {
                let tags = model.map(|m| &m.config.tags).or(source.map(|s| &s.tags));
                tags.is_some_and(|tags| tags.iter().any(|tag| pattern.matches(tag)))
            }
            Some(("path", _)) => model.is_some_and(|m| pattern.matches_path(&m.path)),
            Some(("file", _)) => model.is_some_and(|m| {
                let file = m.path.rsplit('/').next().unwrap_or(&m.path);
                pattern.matches(file) || pattern.matches(&name.table)
            }),
            Some(("package", _)) => pattern.matches(&self.project.name) || term.value == "this",
            Some(("resource_type", _)) => {
                (model.is_some() && pattern.matches("model")) || (source.is_some() && pattern.matches("source"))
            }
            Some(("config", Some(key))) => model.is_some_and(|m| config_matches(m, key, pattern)),
            _ => false,
        }
    }

    fn nothing(&self, term: &Term<'_>) -> SelectError {
        let message = format!("selector `{}` matches nothing", term.text);
        if term.method.is_some() {
            let tags: BTreeSet<&str> =
                self.project.models.values().flat_map(|m| m.config.tags.iter().map(String::as_str)).collect();
            let help = match term.method {
                Some(("tag", _)) => nearest(term.value, tags).map(|near| format!("did you mean `tag:{near}`?")),
                _ => None,
            };
            return SelectError::new(message, help);
        }
        if self.project.sources.keys().any(|name| name.to_string() == term.value) {
            return SelectError::new(message, Some(format!("it is a source: write `source:{}`", term.value)));
        }
        let names: Vec<String> =
            self.project.models.keys().flat_map(|name| [name.table.clone(), name.to_string()]).collect();
        let help = nearest(term.value, names.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
        SelectError::new(message, help.or_else(|| Some("`lake ls` lists all models".to_owned())))
    }
}

fn config_matches(model: &crate::project::Model, key: &str, pattern: &Pattern) -> bool {
    let config = serde_json::to_value(&model.config).unwrap_or_default();
    let value = key.split('.').try_fold(&config, |value, part| value.get(part));
    match value {
        Some(serde_json::Value::String(text)) => pattern.matches(text),
        Some(serde_json::Value::Array(items)) => {
            items.iter().any(|item| item.as_str().is_some_and(|text| pattern.matches(text)))
        }
        Some(serde_json::Value::Null) | None => false,
        Some(other) => pattern.matches(&other.to_string()),
    }
}

/// One term: `[@][n+][method:]value[+n]`.
struct Term<'a> {
    text: &'a str,
    method: Option<(&'a str, Option<&'a str>)>,
    value: &'a str,
    /// Steps up; `Some(None)` is without end.
    upstream: Option<Option<usize>>,
    downstream: Option<Option<usize>>,
    childrens_parents: bool,
}

impl<'a> Term<'a> {
    fn parse(text: &'a str) -> Result<Self, SelectError> {
        let bad = |why: &str| SelectError::new(format!("selector `{text}` {why}"), None);
        let mut rest = text;
        let childrens_parents = rest.starts_with('@');
        rest = rest.strip_prefix('@').unwrap_or(rest);
        let mut upstream = None;
        if let Some((depth, after)) = rest.split_once('+')
            && depth.chars().all(|c| c.is_ascii_digit())
        {
            upstream = Some(steps(depth).ok_or_else(|| bad("has too large a number"))?);
            rest = after;
        }
        let mut downstream = None;
        if let Some((before, depth)) = rest.rsplit_once('+')
            && depth.chars().all(|c| c.is_ascii_digit())
        {
            downstream = Some(steps(depth).ok_or_else(|| bad("has too large a number"))?);
            rest = before;
        }
        if childrens_parents && (upstream.is_some() || downstream.is_some()) {
            return Err(bad("mixes `@` with `+`"));
        }
        let (method, value) = match rest.split_once(':') {
            Some((method, value)) => (Some(method), value),
            None => (None, rest),
        };
        if value.is_empty() {
            return Err(bad("names nothing"));
        }
        let method = match method {
            None => None,
            Some(method) => {
                let (name, key) = match method.split_once('.') {
                    Some((name, key)) => (name, Some(key)),
                    None => (method, None),
                };
                if !METHODS.contains(&name) {
                    let help = match nearest(name, METHODS.iter().copied()) {
                        Some(near) => format!("did you mean `{near}:`?"),
                        None => format!("known methods: {}", METHODS.join(", ")),
                    };
                    return Err(SelectError::new(format!("unknown selector method `{name}` in `{text}`"), Some(help)));
                }
                if name == "config" && key.is_none() {
                    return Err(bad("needs a key, as in `config.materialized:table`"));
                }
                Some((name, key))
            }
        };
        Ok(Self { text, method, value, upstream, downstream, childrens_parents })
    }
}

/// The digits beside a `+`: none is without end.
fn steps(digits: &str) -> Option<Option<usize>> {
    if digits.is_empty() { Some(None) } else { digits.parse().ok().map(Some) }
}

/// A name, or a glob with `*`, `?` and `[...]`.
struct Pattern {
    text: String,
    glob: Option<GlobMatcher>,
}

impl Pattern {
    fn new(text: &str) -> Result<Self, SelectError> {
        let glob = if text.contains(['*', '?', '[']) {
            let glob = Glob::new(text)
                .map_err(|error| SelectError::new(format!("`{text}` is not a pattern: {}", error.kind()), None))?;
            Some(glob.compile_matcher())
        } else {
            None
        };
        Ok(Self { text: text.to_owned(), glob })
    }

    fn matches(&self, name: &str) -> bool {
        match &self.glob {
            Some(glob) => glob.is_match(name),
            None => self.text == name,
        }
    }

    /// A file, a folder above it, or a glob over its path.
    fn matches_path(&self, path: &str) -> bool {
        let folder = self.text.trim_start_matches("./").trim_end_matches('/');
        self.matches(path)
            || path == folder
            || (self.text.contains('/') || folder == "models") && path.starts_with(&format!("{folder}/"))
    }
}
