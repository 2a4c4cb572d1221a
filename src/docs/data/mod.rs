//! The document that the site shows, as `src/docs/site/DATA.md` describes it: what is compiled, what is published, and what
//! runs left, with indices in place of names.

mod columns;
mod nodes;
mod runs;
mod tests;

use std::collections::HashMap;

use serde::Serialize;

use crate::compile::ColumnName;
use crate::names::TableName;
use crate::project::Group;
use crate::run::{Runtime, Survey};

use nodes::NodeDoc;
use runs::{FailuresDoc, RunDoc};
use tests::{TestDoc, UnitTestDoc};

/// The shape of the document.
const FORMAT: u32 = 1;

/// The document as JSON. `live` says that the page can ask the server that it came from whether it is still true.
pub(super) fn document(runtime: &Runtime, survey: &Survey, live: bool) -> serde_json::Result<String> {
    let mut maker = Maker::new(runtime, survey);
    let nodes = maker.nodes();
    let tests = maker.tests();
    let runs = maker.runs();
    let document = Document {
        format: FORMAT,
        project: ProjectDoc {
            name: &runtime.project.name,
            target: &runtime.project.target.name,
            root: &runtime.project.target.root,
            lake_version: env!("CARGO_PKG_VERSION"),
            generated_at: runtime.options.started_at.timestamp_millis(),
            live,
            problems: &survey.problems,
        },
        nodes,
        tests,
        unit_tests: maker.unit_tests(),
        runs,
        failures: maker.failures(),
        groups: runtime.project.groups.values().map(GroupDoc::new).collect(),
        texts: &maker.texts.list,
    };
    serde_json::to_string(&document)
}

/// Whether something is not worth its place.
fn is_none<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    project: ProjectDoc<'a>,
    nodes: Vec<NodeDoc<'a>>,
    tests: Vec<TestDoc<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unit_tests: Vec<UnitTestDoc<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    runs: Vec<RunDoc<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failures: Vec<FailuresDoc<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<GroupDoc<'a>>,
    texts: &'a [String],
}

#[derive(Serialize)]
struct ProjectDoc<'a> {
    name: &'a str,
    target: &'a str,
    root: &'a str,
    lake_version: &'static str,
    generated_at: i64,
    #[serde(skip_serializing_if = "is_none")]
    live: bool,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    problems: &'a [String],
}

#[derive(Serialize)]
struct GroupDoc<'a> {
    name: &'a str,
    owner: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
}

impl<'a> GroupDoc<'a> {
    fn new(group: &'a Group) -> Self {
        let owner = &group.owner;
        Self {
            name: &group.name,
            owner: owner.name.as_deref().or(owner.email.as_deref()),
            email: owner.email.as_deref(),
            description: &group.description,
        }
    }
}

/// Strings that stand more than once.
#[derive(Default)]
struct Texts {
    list: Vec<String>,
    known: HashMap<String, usize>,
}

impl Texts {
    fn at(&mut self, text: &str) -> usize {
        if let Some(at) = self.known.get(text) {
            return *at;
        }
        self.list.push(text.to_owned());
        self.known.insert(text.to_owned(), self.list.len() - 1);
        self.list.len() - 1
    }

    fn of(&mut self, text: Option<&str>) -> i64 {
        text.map_or(-1, |text| i64::try_from(self.at(text)).unwrap_or(-1))
    }
}

/// What every part of the document needs.
struct Maker<'a> {
    runtime: &'a Runtime,
    survey: &'a Survey,
    /// Where each node stands.
    node_at: HashMap<&'a TableName, usize>,
    /// The same by its full name.
    name_at: HashMap<&'a str, usize>,
    /// Where each column stands in its node.
    column_at: HashMap<&'a TableName, HashMap<&'a str, usize>>,
    /// Where each test stands.
    test_at: HashMap<&'a str, usize>,
    /// Where each run stands.
    run_at: HashMap<&'a str, usize>,
    texts: Texts,
}

impl<'a> Maker<'a> {
    fn new(runtime: &'a Runtime, survey: &'a Survey) -> Self {
        let order = runtime.graph.order();
        let columns = |name: &'a TableName| -> HashMap<&'a str, usize> {
            let fields = runtime.compiled.schema_of(name).into_iter().flat_map(|schema| schema.fields());
            fields.enumerate().map(|(at, field)| (field.name().as_str(), at)).collect()
        };
        let tests = runtime.compiled.tests.iter().enumerate();
        let runs = survey.recorded.runs.iter().enumerate();
        Self {
            runtime,
            survey,
            node_at: order.iter().enumerate().map(|(at, name)| (name, at)).collect(),
            name_at: order.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect(),
            column_at: order.iter().map(|name| (name, columns(name))).collect(),
            test_at: tests.map(|(at, test)| (test.name.as_str(), at)).collect(),
            run_at: runs.map(|(at, run)| (run.id.as_str(), at)).collect(),
            texts: Texts::default(),
        }
    }

    fn nodes_at<'b>(&self, names: impl IntoIterator<Item = &'b TableName>) -> Vec<usize> {
        names.into_iter().filter_map(|name| self.node_at.get(name).copied()).collect()
    }

    fn column(&self, name: &ColumnName) -> Option<(usize, usize)> {
        let column = self.column_at.get(&name.table)?.get(name.column.as_str())?;
        Some((*self.node_at.get(&name.table)?, *column))
    }
}
