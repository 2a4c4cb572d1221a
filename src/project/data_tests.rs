//! Data tests as users declare them: generic tests in YAML, singular tests in SQL.

use std::sync::Arc;

use super::custom_tests;
use super::yaml::{Mapping, Node, Raw, Reader};
use crate::diagnostics::{Diagnostic, Id, Span};
use crate::memo::{Key, KeyMaker, Lazy};
use crate::names::{TableName, nearest};
use crate::template::{Argument, Config, Rendered, Templates, TestCall};

/// A test, bound to the tables that it reads.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct DataTest {
    /// Unique in the project: given, or made of the kind, the table and the column as in dbt.
    pub name: String,
    /// What is tested.
    pub kind: TestKind,
    /// Where it is declared.
    pub span: Lazy<Span>,
    /// How its result counts.
    pub config: TestConfig,
    /// What it is about, for people.
    pub description: String,
    /// The table that it is declared on; `None` for a singular test.
    pub table: Option<TableName>,
    /// All tables and sources that it reads.
    pub reads: Vec<TableName>,
    /// The hash of all of this.
    pub key: Key,
}

impl DataTest {
    /// The test, with the key of what it says.
    pub(super) fn keyed(mut self) -> Self {
        self.set_key();
        self
    }

    /// Works the key out again after a change.
    pub(super) fn set_key(&mut self) {
        self.key = Key::default();
        self.key = KeyMaker::new("data test").value(self).finish();
    }

    /// The column that the test is about, if it is about one.
    pub fn column(&self) -> Option<&str> {
        match &self.kind {
            TestKind::NotNull { column }
            | TestKind::Unique { column }
            | TestKind::AcceptedValues { column, .. }
            | TestKind::Relationships { column, .. } => Some(column),
            TestKind::ExpressionIsTrue { column, .. } => column.as_deref(),
            TestKind::Custom { call, .. } => call.column.as_deref(),
            TestKind::UniqueCombination { .. } | TestKind::Singular { .. } => None,
        }
    }
}

/// What a test tests.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub enum TestKind {
    /// No NULL in a column.
    NotNull {
        /// The column.
        column: String,
    },
    /// No value twice in a column; NULLs do not count.
    Unique {
        /// The column.
        column: String,
    },
    /// Only listed values; NULLs do not count.
    AcceptedValues {
        /// The column.
        column: String,
        /// Allowed values: texts, numbers, booleans.
        values: Vec<serde_json::Value>,
        /// Compare as text.
        quote: bool,
    },
    /// Every value stands in a column of another table; NULLs do not count.
    Relationships {
        /// The column.
        column: String,
        /// The other table.
        to: TableName,
        /// Its column.
        field: String,
    },
    /// No combination of values twice. NULLs count as values.
    UniqueCombination {
        /// The columns.
        columns: Vec<String>,
    },
    /// An expression that is true for every row. In a column's test it continues the column: `>= 0`.
    ExpressionIsTrue {
        /// SQL.
        expression: String,
        /// The column that it continues.
        column: Option<String>,
    },
    /// A generic test that the project defines: its query returns the rows that are wrong.
    Custom {
        /// Its name.
        name: String,
        /// Its arguments.
        call: TestCall,
        /// The query; `None` until all names are known.
        rendered: Option<Box<Rendered>>,
    },
    /// A query that returns the rows that are wrong.
    Singular {
        /// The query.
        rendered: Box<Rendered>,
    },
}

impl TestKind {
    /// The name of a generic test as users write it; `singular` for a SQL file.
    pub fn name(&self) -> &str {
        match self {
            Self::NotNull { .. } => "not_null",
            Self::Unique { .. } => "unique",
            Self::AcceptedValues { .. } => "accepted_values",
            Self::Relationships { .. } => "relationships",
            Self::UniqueCombination { .. } => "unique_combination_of_columns",
            Self::ExpressionIsTrue { .. } => "expression_is_true",
            Self::Custom { name, .. } => name,
            Self::Singular { .. } => "singular",
        }
    }
}

/// How the result of a test counts.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct TestConfig {
    /// Whether failing rows stop the publish.
    pub severity: TestSeverity,
    /// Rows to look at: a SQL condition.
    pub filter: Option<String>,
    /// For selection.
    pub tags: Vec<String>,
    /// A promise of a contract: it gates every publish, also of `lake run`.
    pub contract: bool,
}

/// Whether failing rows stop the publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TestSeverity {
    /// They do.
    #[default]
    Error,
    /// They are counted and shown.
    Warn,
}

const GENERIC: &[&str] =
    &["not_null", "unique", "accepted_values", "relationships", "unique_combination_of_columns", "expression_is_true"];
const SEVERITIES: &[(&str, TestSeverity)] = &[("error", TestSeverity::Error), ("warn", TestSeverity::Warn)];

/// Reads a `data_tests:` list of a table, or of one of its columns.
pub(super) fn read_list(
    list: &Node,
    table: &TableName,
    column: Option<&str>,
    templates: &Templates,
    reader: &mut Reader<'_>,
) -> Vec<Arc<DataTest>> {
    reader.list(list).iter().filter_map(|node| read_one(node, table, column, templates, reader)).collect()
}

fn read_one(
    node: &Node,
    table: &TableName,
    column: Option<&str>,
    templates: &Templates,
    reader: &mut Reader<'_>,
) -> Option<Arc<DataTest>> {
    let (name_node, arguments) = match &node.value {
        Raw::Scalar(_) => (node, None),
        Raw::Map(entries) if entries.len() == 1 => (&entries[0].0, Some(&entries[0].1)),
        _ => {
            reader.wrong(node, "a test: its name, or its name with arguments");
            return None;
        }
    };
    let given = name_node.plain_text();
    // `dbt_utils.expression_is_true` and the like: the package is built in.
    let kind_name = given.rsplit('.').next().unwrap_or(&given);
    // The project's own go before those that are built in, as in dbt.
    let signature = templates.generic_test(kind_name);
    if signature.is_none() && !GENERIC.contains(&kind_name) {
        let known: Vec<&str> = GENERIC.iter().copied().chain(templates.generic_test_names()).collect();
        let help = match nearest(kind_name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known tests: {}; your own stand in tests/generic/", known.join(", ")),
        };
        let diagnostic = Diagnostic::error(Id::InvalidTest, format!("unknown test `{given}`"));
        reader.diagnostics.push(diagnostic.at(name_node.span.clone()).help(help));
        return None;
    }
    let empty = Node { value: Raw::Map(Vec::new()), span: name_node.span.clone() };
    let arguments = match arguments {
        Some(Node { value: Raw::Null, .. }) | None => &empty,
        Some(node) => node,
    };
    let mut mapping = reader.mapping(arguments, "test")?;
    let name = mapping.take("name").and_then(|node| reader.identifier(node));
    let description = mapping.take("description").and_then(|node| reader.text(node)).unwrap_or_default();
    let mut config = TestConfig::default();
    read_config(&mut mapping, &mut config, reader);
    if let Some(mut inner) = mapping.take("config").and_then(|node| reader.mapping(node, "test config")) {
        read_config(&mut inner, &mut config, reader);
        inner.finish(reader);
    }
    let read_arguments = |arguments: &mut Mapping<'_>, reader: &mut Reader<'_>| match &signature {
        Some(signature) => custom_tests::read(kind_name, signature, table, column, arguments, name_node, reader),
        None => read_kind(kind_name, column, arguments, name_node, reader),
    };
    let kind = match mapping.take("arguments").and_then(|node| reader.mapping(node, "group of test arguments")) {
        Some(mut inner) => {
            let kind = read_arguments(&mut inner, reader);
            inner.finish(reader);
            kind
        }
        None => read_arguments(&mut mapping, reader),
    };
    mapping.finish(reader);
    let kind = kind?;
    let mut reads = vec![table.clone()];
    if let TestKind::Relationships { to, .. } = &kind
        && !reads.contains(to)
    {
        reads.push(to.clone());
    }
    let name = name.unwrap_or_else(|| default_name(&kind, table, column));
    let (span, table, key) = (name_node.span.clone().into(), Some(table.clone()), Key::default());
    Some(Arc::new(DataTest { name, kind, span, config, description, table, reads, key }.keyed()))
}

fn read_config(mapping: &mut Mapping<'_>, config: &mut TestConfig, reader: &mut Reader<'_>) {
    if let Some(severity) = mapping.take("severity").and_then(|node| reader.choice(node, "severity", SEVERITIES)) {
        config.severity = severity;
    }
    if let Some(filter) = mapping.take("where").and_then(|node| reader.text(node)) {
        config.filter = Some(filter);
    }
    if let Some(node) = mapping.take("tags") {
        config.tags = reader.texts(node);
    }
}

fn read_kind(
    kind: &str,
    column: Option<&str>,
    arguments: &mut Mapping<'_>,
    at: &Node,
    reader: &mut Reader<'_>,
) -> Option<TestKind> {
    let own_column = match column {
        Some(column) => Some(column.to_owned()),
        None => arguments.take("column_name").and_then(|node| reader.text(node)),
    };
    let needs_column = !matches!(kind, "unique_combination_of_columns" | "expression_is_true");
    if needs_column && own_column.is_none() {
        let diagnostic = Diagnostic::error(Id::InvalidTest, format!("test `{kind}` is about a column"))
            .at(at.span.clone())
            .help("write it below a column, or give `column_name`");
        reader.diagnostics.push(diagnostic);
        return None;
    }
    let column = own_column.clone().unwrap_or_default();
    match kind {
        "not_null" => Some(TestKind::NotNull { column }),
        "unique" => Some(TestKind::Unique { column }),
        "accepted_values" => {
            let quote = arguments.take("quote").and_then(|node| reader.boolean(node)).unwrap_or(true);
            let list = arguments.require("values", reader)?;
            let values: Vec<_> = reader.list(list).iter().map(Node::to_json).filter(|value| !value.is_null()).collect();
            if values.is_empty() {
                reader.invalid(&list.span, "expected at least one value");
                return None;
            }
            Some(TestKind::AcceptedValues { column, values, quote })
        }
        "relationships" => {
            let to = arguments.require("to", reader);
            let field = arguments.require("field", reader).and_then(|node| reader.text(node));
            Some(TestKind::Relationships { column, to: referenced(to?, reader)?, field: field? })
        }
        "unique_combination_of_columns" => {
            let list = arguments.take_any(&["combination_of_columns", "columns"]);
            let columns = list.map(|node| reader.texts(node)).unwrap_or_default();
            if columns.is_empty() {
                let diagnostic = Diagnostic::error(Id::MissingKey, "this test has no `combination_of_columns`");
                reader.diagnostics.push(diagnostic.at(at.span.clone()));
                return None;
            }
            Some(TestKind::UniqueCombination { columns })
        }
        _ => {
            let expression = arguments.require("expression", reader).and_then(|node| reader.text(node))?;
            Some(TestKind::ExpressionIsTrue { expression, column: own_column })
        }
    }
}

/// `ref('courses')` or `source('bronze', 'courses')` in YAML. The layer of a model is filled in by
/// [`super::load`], which knows all names.
pub(super) fn referenced(node: &Node, reader: &mut Reader<'_>) -> Option<TableName> {
    let text = reader.text(node)?;
    let inner = text.trim().trim_start_matches("{{").trim_end_matches("}}").trim();
    let (function, rest) = inner.split_once('(').unwrap_or(("", ""));
    let arguments: Vec<&str> =
        rest.trim_end_matches(')').split(',').map(|a| a.trim().trim_matches(['\'', '"'])).collect();
    match (function.trim(), arguments.as_slice()) {
        ("ref", [model] | [_, model]) if !model.is_empty() => Some(TableName::new("", *model)),
        ("source", [source, table]) => Some(TableName::new(*source, *table)),
        _ => {
            reader.wrong(node, "ref('model') or source('source', 'table')");
            None
        }
    }
}

/// As dbt names tests: kind, table, column.
fn default_name(kind: &TestKind, table: &TableName, column: Option<&str>) -> String {
    let mut parts = vec![kind.name().to_owned(), table.table.to_owned()];
    match kind {
        TestKind::UniqueCombination { columns } => parts.extend(columns.iter().cloned()),
        TestKind::ExpressionIsTrue { expression, .. } => {
            parts.extend(column.map(str::to_owned));
            parts.push(words(expression));
        }
        TestKind::AcceptedValues { values, .. } => {
            parts.extend(column.map(str::to_owned));
            parts.extend(values.iter().take(4).map(|value| words(&value.to_string())));
        }
        TestKind::Custom { call, .. } => {
            parts.extend(column.map(str::to_owned));
            parts.extend(call.arguments.iter().map(|(_, value)| match value {
                Argument::Value(value) => words(&value.to_string()),
                Argument::Expression(expression) => words(expression),
            }));
        }
        TestKind::Relationships { to, field, .. } => {
            parts.extend(column.map(str::to_owned));
            parts.extend([to.table.to_owned(), field.clone()]);
        }
        _ => parts.extend(column.map(str::to_owned)),
    }
    parts.retain(|part| !part.is_empty());
    parts.join("_")
}

fn words(text: &str) -> String {
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).take(6).collect();
    words.join("_")
}

/// Checks one key of `config()` in a singular test.
pub(super) fn check_config(key: &str, value: &serde_json::Value) -> Result<(), String> {
    apply_config(&mut TestConfig::default(), key, value)
}

/// The settings of a singular test.
pub(super) fn singular_config(values: &Config) -> TestConfig {
    let mut config = TestConfig::default();
    for (key, value) in values {
        let _ = apply_config(&mut config, key, value);
    }
    config
}

fn apply_config(config: &mut TestConfig, key: &str, value: &serde_json::Value) -> Result<(), String> {
    let text = || value.as_str().map(str::to_owned).ok_or_else(|| format!("`{key}` takes a text, not {value}"));
    match key {
        "severity" => {
            let word = text()?;
            let found = SEVERITIES.iter().find(|(name, _)| *name == word);
            config.severity = found.ok_or_else(|| format!("`{word}` is not a severity; known: error, warn"))?.1;
        }
        "where" => config.filter = Some(text()?),
        "tags" => {
            config.tags = match value {
                serde_json::Value::Array(items) => items.iter().filter_map(|i| i.as_str().map(str::to_owned)).collect(),
                _ => vec![text()?],
            };
        }
        _ => return Err(format!("unknown config `{key}`; known: severity, where, tags")),
    }
    Ok(())
}
