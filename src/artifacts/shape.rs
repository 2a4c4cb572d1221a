//! The shape of a node in dbt's manifest, version 12.
//!
//! It is closed, but for `config`: what `lake` reads back itself stands there, below `lake`.

use datafusion::arrow::datatypes::SchemaRef;
use indexmap::IndexMap;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::ids;
use crate::catalog::sql_type;
use crate::names::TableName;
use crate::project::{Column, Constraint, Project};

/// The schema of what is no table: that of what `lake` keeps beside the layers.
const OWN_SCHEMA: &str = "_lake";

/// `{}`
#[derive(Serialize)]
pub(super) struct Empty {}

/// `[]`
pub(super) type NoItems = [(); 0];

/// What tells one text of a file from another.
#[derive(Serialize)]
pub(super) struct Checksum {
    pub(super) name: &'static str,
    pub(super) checksum: String,
}

impl Checksum {
    pub(super) fn of(text: &str) -> Self {
        Self { name: "blake3", checksum: blake3::hash(text.as_bytes()).to_hex().to_string() }
    }

    /// dbt's word for what has no file of its own.
    pub(super) fn none() -> Self {
        Self { name: "none", checksum: String::new() }
    }
}

/// What every node has.
#[derive(Serialize)]
pub(super) struct Node<'a> {
    pub(super) database: &'a str,
    pub(super) schema: &'a str,
    pub(super) name: &'a str,
    pub(super) resource_type: &'a str,
    pub(super) package_name: &'a str,
    pub(super) path: &'a str,
    pub(super) original_file_path: &'a str,
    pub(super) unique_id: String,
    pub(super) fqn: Vec<&'a str>,
    pub(super) alias: &'a str,
    pub(super) checksum: Checksum,
    pub(super) config: Value,
    pub(super) tags: &'a [String],
    pub(super) description: &'a str,
    pub(super) columns: IndexMap<&'a str, ColumnNode<'a>>,
    pub(super) meta: Value,
    pub(super) group: Option<&'a str>,
    pub(super) docs: Shown,
    pub(super) patch_path: Option<String>,
    pub(super) build_path: Option<()>,
    pub(super) unrendered_config: Empty,
    pub(super) relation_name: Option<String>,
    pub(super) raw_code: &'a str,
    #[serde(flatten)]
    pub(super) kind: Kind<'a>,
}

impl<'a> Node<'a> {
    /// A node of this name and file of which nothing else is known yet.
    pub(super) fn new(
        project: &'a Project,
        resource_type: &'a str,
        unique_id: String,
        name: &'a str,
        path: &'a str,
        kind: Kind<'a>,
    ) -> Self {
        Self {
            database: &project.target.name,
            schema: OWN_SCHEMA,
            name,
            resource_type,
            package_name: &project.name,
            path: below(path),
            original_file_path: path,
            unique_id,
            fqn: fqn(project, path, name),
            alias: name,
            checksum: Checksum::none(),
            config: Value::Null,
            tags: &[],
            description: "",
            columns: IndexMap::new(),
            meta: json!({}),
            group: None,
            docs: Shown { show: true, node_color: None },
            patch_path: None,
            build_path: None,
            unrendered_config: Empty {},
            relation_name: None,
            raw_code: "",
            kind,
        }
    }

    /// Its id, and its JSON.
    pub(super) fn finish(self) -> (String, Vec<u8>) {
        let text = serde_json::to_vec(&self).expect("a node is JSON");
        (self.unique_id, text)
    }
}

/// What dbt's page shows.
#[derive(Serialize)]
pub(super) struct Shown {
    pub(super) show: bool,
    pub(super) node_color: Option<()>,
}

/// What only nodes of one kind have.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Kind<'a> {
    Model(Box<ModelPart<'a>>),
    Seed(SeedPart),
    Singular(QueryPart<'a>),
    Generic(Box<GenericPart<'a>>),
    Hook(HookPart<'a>),
}

/// What nodes made of SQL have.
#[derive(Serialize)]
pub(super) struct QueryPart<'a> {
    pub(super) language: &'static str,
    pub(super) refs: Vec<RefNode<'a>>,
    pub(super) sources: Vec<[&'a str; 2]>,
    pub(super) metrics: NoItems,
    pub(super) depends_on: DependsOn,
    pub(super) compiled_path: Option<()>,
    pub(super) compiled: bool,
    pub(super) compiled_code: Option<String>,
    pub(super) extra_ctes_injected: bool,
    pub(super) extra_ctes: NoItems,
    pub(super) contract: ContractNode,
}

impl<'a> QueryPart<'a> {
    /// A query that reads these nodes.
    pub(super) fn new<'n>(
        project: &Project,
        names: impl Iterator<Item = &'n TableName> + Clone,
        macros: Vec<String>,
        compiled_code: Option<String>,
    ) -> Self {
        let (mut refs, mut sources) = (Vec::new(), Vec::new());
        for name in names.clone() {
            match project.sources.contains_key(name) {
                true => sources.push([name.schema, name.table]),
                false => refs.push(RefNode { name: name.table, package: None, version: None }),
            }
        }
        let nodes = names.map(|name| ids::node(project, name)).collect();
        Self {
            language: "sql",
            refs,
            sources,
            metrics: [],
            depends_on: DependsOn { macros, nodes },
            compiled_path: None,
            compiled: compiled_code.is_some(),
            extra_ctes_injected: compiled_code.is_some(),
            compiled_code,
            extra_ctes: [],
            contract: ContractNode { enforced: false, alias_types: true, checksum: None },
        }
    }
}

#[derive(Serialize)]
pub(super) struct ModelPart<'a> {
    #[serde(flatten)]
    pub(super) query: QueryPart<'a>,
    pub(super) access: &'static str,
    pub(super) constraints: NoItems,
    pub(super) version: Option<()>,
    pub(super) latest_version: Option<()>,
    pub(super) deprecation_date: Option<()>,
    pub(super) primary_key: Vec<&'a str>,
}

#[derive(Serialize)]
pub(super) struct SeedPart {
    pub(super) root_path: Option<()>,
    pub(super) depends_on: MacroDependsOn,
}

#[derive(Serialize)]
pub(super) struct GenericPart<'a> {
    #[serde(flatten)]
    pub(super) query: QueryPart<'a>,
    pub(super) column_name: Option<&'a str>,
    pub(super) file_key_name: Option<String>,
    pub(super) attached_node: Option<String>,
    pub(super) test_metadata: TestMetadata<'a>,
}

#[derive(Serialize)]
pub(super) struct HookPart<'a> {
    #[serde(flatten)]
    pub(super) query: QueryPart<'a>,
    pub(super) index: usize,
}

#[derive(Serialize)]
pub(super) struct TestMetadata<'a> {
    pub(super) name: &'a str,
    pub(super) kwargs: Map<String, Value>,
    pub(super) namespace: Option<()>,
}

/// `ref('name')`
#[derive(Serialize)]
pub(super) struct RefNode<'a> {
    pub(super) name: &'a str,
    pub(super) package: Option<()>,
    pub(super) version: Option<()>,
}

/// What a node reads.
#[derive(Serialize)]
pub(super) struct DependsOn {
    pub(super) macros: Vec<String>,
    pub(super) nodes: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct MacroDependsOn {
    pub(super) macros: NoItems,
}

#[derive(Serialize)]
pub(super) struct ContractNode {
    pub(super) enforced: bool,
    pub(super) alias_types: bool,
    pub(super) checksum: Option<String>,
}

/// A column: its type from the compiler, what it means from YAML.
#[derive(Serialize)]
pub(super) struct ColumnNode<'a> {
    pub(super) name: &'a str,
    pub(super) description: &'a str,
    pub(super) meta: Value,
    pub(super) data_type: Option<String>,
    pub(super) constraints: Vec<ConstraintNode<'a>>,
    pub(super) quote: Option<bool>,
    pub(super) config: ColumnConfig,
    pub(super) tags: NoItems,
}

#[derive(Serialize)]
pub(super) struct ColumnConfig {
    pub(super) meta: Value,
    pub(super) tags: NoItems,
}

#[derive(Serialize)]
pub(super) struct ConstraintNode<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) name: Option<()>,
    pub(super) expression: Option<&'a str>,
    pub(super) warn_unenforced: bool,
    pub(super) warn_unsupported: bool,
    pub(super) to: Option<()>,
    pub(super) to_columns: NoItems,
}

/// The path of a file below the folder of its kind: `silver/orders.sql`.
pub(super) fn below(path: &str) -> &str {
    path.split_once('/').map_or(path, |(_, below)| below)
}

/// The project, the folders and the name, as settings are nested.
pub(super) fn fqn<'a>(project: &'a Project, path: &'a str, name: &'a str) -> Vec<&'a str> {
    let mut parts = vec![project.name.as_str()];
    let folders = below(path).rsplit_once('/').map(|(folders, _)| folders);
    parts.extend(folders.into_iter().flat_map(|folders| folders.split('/')));
    parts.push(name);
    parts
}

/// dbt has objects where anything may stand here.
pub(super) fn object(value: &Value) -> Value {
    match value {
        Value::Object(_) => value.clone(),
        Value::Null => json!({}),
        other => json!({ "value": other }),
    }
}

/// The columns of a table: those that the compiler knows, else those that are declared.
pub(super) fn columns<'a>(schema: Option<&'a SchemaRef>, declared: &'a [Column]) -> IndexMap<&'a str, ColumnNode<'a>> {
    let Some(schema) = schema else {
        let declared = declared.iter();
        return declared
            .map(|column| (column.name.as_str(), ColumnNode::new(&column.name, None, Some(column))))
            .collect();
    };
    let fields = schema.fields().iter().map(|field| {
        let described = declared.iter().find(|column| column.name == *field.name());
        let data_type = sql_type(field.data_type());
        (field.name().as_str(), ColumnNode::new(field.name(), Some(data_type), described))
    });
    fields.collect()
}

impl<'a> ColumnNode<'a> {
    fn new(name: &'a str, data_type: Option<String>, described: Option<&'a Column>) -> Self {
        let meta = described.map_or_else(|| json!({}), |column| object(&column.meta));
        let written = described.and_then(|column| column.data_type.as_ref()).map(|(text, _)| text.clone());
        Self {
            name,
            description: described.map_or("", |column| &column.description),
            data_type: data_type.or(written),
            constraints: described.into_iter().flat_map(ConstraintNode::all).collect(),
            quote: None,
            config: ColumnConfig { meta: meta.clone(), tags: [] },
            meta,
            tags: [],
        }
    }
}

impl<'a> ConstraintNode<'a> {
    fn all(column: &'a Column) -> impl Iterator<Item = Self> {
        column.constraints.iter().map(|(constraint, _)| Self::new(constraint))
    }

    fn new(constraint: &'a Constraint) -> Self {
        let (kind, expression) = match constraint {
            Constraint::NotNull => ("not_null", None),
            Constraint::Unique => ("unique", None),
            Constraint::PrimaryKey => ("primary_key", None),
            Constraint::Check(condition) => ("check", Some(condition.as_str())),
        };
        let (warn_unenforced, warn_unsupported) = (true, true);
        Self { kind, name: None, expression, warn_unenforced, warn_unsupported, to: None, to_columns: [] }
    }
}
