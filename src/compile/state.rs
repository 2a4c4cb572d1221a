//! What a node is made of, in digests that another compile can be compared with: `manifest.json` keeps them.
//!
//! | digest | of |
//! | --- | --- |
//! | `body` | the statements, parsed and printed again; the format and columns of a source; the query of a test |
//! | `config` | settings that decide rows or files; not tags, owner, meta, group and access |
//! | `relation` | the name of the table; the declared path of a source |
//! | `contract` | names and types, if it is enforced |
//! | `macros` | macros that the template reaches, without comments and layout |
//! | `vars` | values of the variables that the template asks for |
//! | `descriptions` | of the node and its columns |
//! | `rows`, `columns` | what decides which rows there are, and what each column is made of |

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use datafusion::arrow::datatypes::SchemaRef;

use super::shape::{ColumnShape, digest};
use super::{CompiledProject, CompiledTest, Lineage};
use crate::catalog::sql_type;
use crate::graph::{Standing, StateFacts};
use crate::names::TableName;
use crate::project::{Column, Export, Exposure, Model, ModelConfig, Project, Source, UnitTest};
use crate::session;

/// The digests of a node; an empty one stands for nothing to compare.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the table above says what each is")]
pub struct NodeState {
    pub body: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub config: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub relation: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub contract: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub macros: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub vars: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub descriptions: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rows: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, ColumnShape>,
}

impl NodeState {
    /// The aspects in which another state differs. The names are those of `state:modified.body` and its like.
    pub fn differs(&self, other: &Self) -> BTreeSet<&'static str> {
        let aspects = [
            ("body", &self.body, &other.body),
            ("config", &self.config, &other.config),
            ("relation", &self.relation, &other.relation),
            ("contract", &self.contract, &other.contract),
            ("macros", &self.macros, &other.macros),
            ("vars", &self.vars, &other.vars),
            ("persisted_descriptions", &self.descriptions, &other.descriptions),
        ];
        aspects.into_iter().filter(|(_, own, other)| own != other).map(|(name, ..)| name).collect()
    }
}

/// A compiled project as another one sees it.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    /// Models, sources, exposures and exports.
    pub nodes: BTreeMap<TableName, PictureNode>,
    /// Tests, each with the digest of what it tests.
    pub tests: BTreeMap<String, String>,
}

/// One node of a [`Picture`].
#[derive(Debug, Clone, Default)]
pub struct PictureNode {
    /// `model`, `source`, `exposure` or `export`.
    pub kind: String,
    /// Its digests.
    pub state: NodeState,
    /// Its columns with their types.
    pub columns: Vec<(String, String)>,
    /// Where its columns come from.
    pub lineage: Lineage,
    /// Its settings, for people.
    pub config: serde_json::Value,
    /// What it reads.
    pub depends_on: Vec<TableName>,
}

impl PictureNode {
    /// Nothing reads it, and it reads models without saying which columns.
    pub fn is_end(&self) -> bool {
        matches!(self.kind.as_str(), "exposure" | "export")
    }
}

/// The digest of a model's statements. A template that shows the clock counts as it would be in 1970.
pub(super) fn body(model: &Model, statements: &[String]) -> String {
    let canonical = |sql: &String| session::parse(sql).map_or_else(|_| sql.clone(), |parsed| parsed.to_string());
    let timeless = model.timeless.as_ref().map(|list| list.iter().map(canonical).collect::<Vec<_>>());
    let statements = timeless.as_deref().unwrap_or(statements);
    digest(&statements.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Settings that decide neither rows nor files.
const ABOUT_PEOPLE: &[&str] = &["tags", "owner", "meta", "group", "access", "enabled", "contract"];

/// The settings of a model that has none.
static DEFAULTS: LazyLock<serde_json::Value> =
    LazyLock::new(|| serde_json::to_value(ModelConfig::default()).unwrap_or_default());

/// The digests of a model.
pub fn of_model(project: &Project, compiled: &CompiledProject, model: &Model) -> NodeState {
    let shape = compiled.models.get(&model.name).map(|compiled| (*compiled.shape).clone()).unwrap_or_default();
    let mut config = serde_json::to_value(&model.config).unwrap_or_default();
    if let Some(config) = config.as_object_mut() {
        // A setting that a later lake knows is no change of those who do not set it.
        config.retain(|key, value| !ABOUT_PEOPLE.contains(&key.as_str()) && DEFAULTS[key.as_str()] != *value);
    }
    let contract = model.config.contract.then(|| {
        let mut columns: Vec<String> = model
            .columns
            .iter()
            .map(|column| {
                let data_type = column.data_type.as_ref().map(|(text, _)| text.to_lowercase()).unwrap_or_default();
                format!("{} {data_type}", column.name)
            })
            .collect();
        columns.sort();
        digest(&columns.iter().map(String::as_str).collect::<Vec<_>>())
    });
    let macros = project.macros.reached(model.full.file.text());
    let vars: Vec<_> = model.vars.iter().map(|name| (name, project.vars.get(name))).collect();
    NodeState {
        body: shape.body,
        config: digest(&[&config.to_string()]),
        relation: model.name.to_string(),
        contract: contract.unwrap_or_default(),
        macros: if macros.is_empty() { String::new() } else { digest(&[&format!("{macros:?}")]) },
        vars: if vars.is_empty() { String::new() } else { digest(&[&format!("{vars:?}")]) },
        descriptions: descriptions(&model.description, &model.columns),
        rows: shape.rows,
        columns: shape.columns,
    }
}

/// The digests of a source.
pub fn of_source(source: &Source) -> NodeState {
    let columns: Vec<_> = source.columns.iter().map(|c| (&c.name, c.data_type.as_ref().map(|t| &t.0))).collect();
    NodeState {
        body: digest(&[&format!("{:?} {:?} {columns:?}", source.format, source.options)]),
        config: digest(&[&format!("{:?}", source.ingestion)]),
        relation: source.declared_path.clone(),
        descriptions: descriptions(&source.description, &source.columns),
        ..NodeState::default()
    }
}

/// The digests of an exposure.
pub fn of_exposure(exposure: &Exposure) -> NodeState {
    let Exposure { kind, label, owner, url, maturity, depends_on, .. } = exposure;
    // A model that moves to another layer is the same model to its readers.
    let reads: BTreeSet<&str> = depends_on.iter().map(|(name, _)| name.table).collect();
    NodeState {
        body: digest(&[&format!("{kind} {label:?} {owner:?} {url:?} {maturity:?} {reads:?}")]),
        relation: exposure.name.to_string(),
        descriptions: descriptions(&exposure.description, &[]),
        ..NodeState::default()
    }
}

/// The digests of an export.
pub fn of_export(export: &Export) -> NodeState {
    NodeState {
        body: digest(&[&export.definition()]),
        relation: export.name.to_string(),
        descriptions: descriptions(&export.description, &[]),
        ..NodeState::default()
    }
}

fn descriptions(own: &str, columns: &[Column]) -> String {
    let described: BTreeMap<&str, &str> = columns
        .iter()
        .filter(|column| !column.description.is_empty())
        .map(|column| (column.name.as_str(), column.description.as_str()))
        .collect();
    if own.is_empty() && described.is_empty() { String::new() } else { digest(&[own, &format!("{described:?}")]) }
}

/// The digest of a test.
pub fn of_test(test: &CompiledTest) -> String {
    test.fingerprint()
}

/// The digest of a unit test.
pub fn of_unit_test(test: &UnitTest) -> String {
    digest(&[&format!("{:?}", test.key)])
}

/// This compile, to be compared with another.
pub fn picture(project: &Project, compiled: &CompiledProject) -> Picture {
    let typed = |schema: Option<&SchemaRef>| {
        let fields = schema.into_iter().flat_map(|schema| schema.fields());
        fields.map(|field| (field.name().clone(), sql_type(field.data_type()))).collect()
    };
    let models = project.models.values().map(|model| {
        let made = compiled.models.get(&model.name);
        let node = PictureNode {
            kind: model.resource_type().to_owned(),
            state: of_model(project, compiled, model),
            columns: typed(made.map(|made| &*made.schema)),
            lineage: made.map(|made| (*made.lineage).clone()).unwrap_or_default(),
            config: serde_json::to_value(&model.config).unwrap_or_default(),
            depends_on: model.refs.iter().chain(model.sources.iter().map(|(name, _)| name)).cloned().collect(),
        };
        (model.name.clone(), node)
    });
    let sources = project.sources.values().map(|source| {
        let columns = typed(compiled.sources.get(&source.name));
        let node = PictureNode { kind: "source".to_owned(), state: of_source(source), columns, ..Default::default() };
        (source.name.clone(), node)
    });
    let exposures = project.exposures.values().map(|exposure| {
        let node = PictureNode {
            kind: "exposure".to_owned(),
            state: of_exposure(exposure),
            depends_on: exposure.depends_on.iter().map(|(name, _)| name.clone()).collect(),
            ..Default::default()
        };
        (exposure.name.clone(), node)
    });
    let exports = project.exports.values().map(|export| {
        let (kind, depends_on) = ("export".to_owned(), vec![export.model().clone()]);
        (export.name.clone(), PictureNode { kind, state: of_export(export), depends_on, ..Default::default() })
    });
    let nodes = models.chain(sources).chain(exposures).chain(exports).collect();
    let units = compiled.unit_tests.iter().map(|test| (test.name.clone(), of_unit_test(test)));
    let tests = compiled.tests.iter().map(|test| (test.name.clone(), of_test(test)));
    Picture { nodes, tests: tests.chain(units).collect() }
}

impl Picture {
    /// The node that was called `name`, or that moved from another layer and is called so now.
    pub fn before<'a>(&'a self, name: &TableName, now: &Self) -> Option<(&'a TableName, &'a PictureNode)> {
        let same = self.nodes.get_key_value(name);
        let kind = now.nodes.get(name).map(|node| node.kind.as_str());
        let moved = || {
            let is_model = |node: &PictureNode| kind == Some("model") && node.kind == "model";
            let mut others = self.nodes.iter();
            others.find(|(old, node)| old.table == name.table && is_model(node) && !now.nodes.contains_key(*old))
        };
        same.filter(|(_, node)| Some(node.kind.as_str()) == kind).or_else(moved)
    }
}

/// How the nodes and tests of this compile stand to those of an older one.
pub fn compare(before: &Picture, now: &Picture) -> StateFacts {
    let mut facts = StateFacts::default();
    for (name, node) in &now.nodes {
        let standing = match before.before(name, now) {
            None => Standing::New,
            Some((_, old)) => Standing::Old(old.state.differs(&node.state)),
        };
        facts.nodes.insert(name.clone(), standing);
    }
    for (name, test) in &now.tests {
        let standing = match before.tests.get(name) {
            None => Standing::New,
            Some(old) if old == test => Standing::Old(BTreeSet::new()),
            Some(_) => Standing::Old(BTreeSet::from(["body"])),
        };
        facts.tests.insert(name.clone(), standing);
    }
    facts
}
