//! The selection grammar: dbt's node selection, on names, folders, tags, sources, settings, states and columns.
//!
//! `--select a b` is a union, `a,b` an intersection. `+a`, `a+`, `2+a+1` and `@a` widen a selection along the graph.
//! A [`Request`] is parsed first, so that a mistake in it is told at once; some methods look at [`Facts`] that only
//! a compiled project or an older one can give, and [`Request::needs`] says which.

mod evaluate;
mod expression;
mod facts;
mod matching;
mod term;
mod unit_tests;

use std::collections::BTreeSet;
use std::fmt;

pub use facts::{ColumnEdge, ColumnKey, Facts, Needs, Standing, StateFacts};

use super::Graph;
use crate::names::TableName;
use crate::project::Project;
use evaluate::Evaluator;
use expression::Expression;

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Wanted<'a> {
    /// `--select`.
    pub select: &'a [String],
    /// `--exclude`.
    pub exclude: &'a [String],
    /// `--selector`.
    pub selector: Option<&'a str>,
    /// `--resource-type`.
    pub resource_types: &'a [ResourceType],
    /// `--exclude-resource-type`.
    pub excluded_types: &'a [ResourceType],
    /// `--indirect-selection`.
    pub indirect: Indirect,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are dbt's words")]
pub enum ResourceType {
    Model,
    Seed,
    Source,
    Exposure,
    Export,
    Test,
    UnitTest,
}

/// Which tests of selected nodes are selected with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Indirect {
    /// Those that read any of the nodes.
    #[default]
    Eager,
    /// Those that read nothing else.
    Cautious,
    /// Those that read nothing but the nodes, what is above them, and sources.
    Buildable,
    /// None: tests are selected by their own names only.
    Empty,
}

impl Indirect {
    fn named(word: &str) -> Self {
        match word {
            "cautious" => Self::Cautious,
            "buildable" => Self::Buildable,
            "empty" => Self::Empty,
            _ => Self::Eager,
        }
    }
}

/// What `--select` and `--exclude` left.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Sources, models, exposures and exports.
    pub nodes: BTreeSet<TableName>,
    /// Tests named directly.
    pub tests: BTreeSet<String>,
    /// Tests that came with the nodes.
    indirect: BTreeSet<String>,
    /// Nothing was asked for: every test.
    all_tests: bool,
}

impl Selection {
    /// Whether a node is selected.
    pub fn contains(&self, name: &TableName) -> bool {
        self.nodes.contains(name)
    }

    /// Whether a test is selected.
    pub fn contains_test(&self, name: &str) -> bool {
        self.all_tests || self.tests.contains(name) || self.indirect.contains(name)
    }

    /// Keeps data tests, unit tests, both or none.
    fn keep_tests(&mut self, project: &Project, data: bool, unit: bool) {
        if data && unit {
            return;
        }
        let data = project.data_tests.iter().filter(|_| data).map(|test| test.name.clone());
        let unit = project.unit_tests.iter().filter(|_| unit).map(|test| test.name.clone());
        let kept: BTreeSet<String> = data.chain(unit).collect();
        self.tests.retain(|name| kept.contains(name));
        self.indirect.retain(|name| kept.contains(name));
        if std::mem::take(&mut self.all_tests) {
            self.indirect = kept;
        }
    }
}

/// A selector that does not parse, names nothing, or needs what is not there.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SelectError {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl SelectError {
    pub(super) fn new(message: impl Into<String>, help: Option<String>) -> Self {
        Self { message: message.into(), help }
    }
}

/// A selection that is understood and not evaluated.
#[derive(Debug)]
pub struct Request {
    include: Option<Expression>,
    exclude: Option<Expression>,
    resource_types: Vec<ResourceType>,
    excluded_types: Vec<ResourceType>,
    indirect: Indirect,
}

impl Request {
    /// Parses what the command line says; without it the default selector of `selectors.yml` counts.
    ///
    /// # Errors
    /// A selector with an unknown method or name, or a bad pattern.
    pub fn parse(project: &Project, wanted: &Wanted<'_>) -> Result<Self, SelectError> {
        let named = wanted.selector.map(|name| Expression::named(project, name)).transpose()?;
        let said_nothing = wanted.select.is_empty() && wanted.exclude.is_empty();
        let include = match named {
            Some(named) => Some(named),
            None if !wanted.select.is_empty() => Some(Expression::of_texts(project, wanted.select)?),
            None if said_nothing => match project.selectors.values().find(|selector| selector.default) {
                Some(default) => Some(Expression::named(project, &default.name)?),
                None => None,
            },
            None => None,
        };
        let exclude = match wanted.exclude {
            [] => None,
            texts => Some(Expression::of_texts(project, texts)?),
        };
        Ok(Self {
            include,
            exclude,
            resource_types: wanted.resource_types.to_vec(),
            excluded_types: wanted.excluded_types.to_vec(),
            indirect: wanted.indirect,
        })
    }

    /// What must be known to evaluate it.
    pub fn needs(&self) -> Needs {
        let mut needs = Needs::default();
        self.include.iter().chain(&self.exclude).for_each(|expression| expression.needs(&mut needs));
        needs
    }

    /// Evaluates it.
    ///
    /// # Errors
    /// A selector that matches nothing.
    pub fn evaluate(&self, project: &Project, graph: &Graph, facts: &Facts) -> Result<Selection, SelectError> {
        let evaluator = Evaluator::new(project, graph, facts, self.indirect);
        let mut selection = match (&self.include, &self.exclude) {
            (None, None) => Selection { nodes: evaluator.all_nodes(), all_tests: true, ..Selection::default() },
            (include, exclude) => {
                let mut set = match include {
                    Some(expression) => evaluator.evaluate(expression)?,
                    None => evaluator.everything(),
                };
                if let Some(exclude) = exclude {
                    set = set.without(&evaluator.evaluate(exclude)?);
                }
                evaluator.finish(set)
            }
        };
        if !self.resource_types.is_empty() || !self.excluded_types.is_empty() {
            let wanted = |kind| {
                (self.resource_types.is_empty() || self.resource_types.contains(&kind))
                    && !self.excluded_types.contains(&kind)
            };
            selection.nodes.retain(|name| wanted(kind_of(project, name)));
            selection.keep_tests(project, wanted(ResourceType::Test), wanted(ResourceType::UnitTest));
        }
        Ok(selection)
    }
}

/// What the node of a name is.
fn kind_of(project: &Project, name: &TableName) -> ResourceType {
    if let Some(model) = project.models.get(name) {
        if model.seed.is_some() { ResourceType::Seed } else { ResourceType::Model }
    } else if project.sources.contains_key(name) {
        ResourceType::Source
    } else if project.exports.contains_key(name) {
        ResourceType::Export
    } else {
        ResourceType::Exposure
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Model => "model",
            Self::Seed => "seed",
            Self::Source => "source",
            Self::Exposure => "exposure",
            Self::Export => "export",
            Self::Test => "test",
            Self::UnitTest => "unit_test",
        })
    }
}
