//! Sensitive columns: `meta: { sensitive: pii }` travels along column lineage, and stops where it is masked.
//!
//! A column that is made of a sensitive one is sensitive, unless it went through a mask, or says `meta: { sensitive: false }`
//! itself. What only decides which rows there are does not make the others sensitive.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::{ColumnName, CompiledModel, CompiledTest, Use};
use crate::checks::Check;
use crate::diagnostics::{Diagnostic, Id};
use crate::graph::Graph;
use crate::names::{TableName, nearest};
use crate::project::{Column, MetadataColumn, Project};

/// Why each sensitive column is sensitive: the column that says so, and those between, the nearest last.
pub type Sensitive = BTreeMap<ColumnName, Vec<ColumnName>>;

/// All sensitive columns of a project.
pub(super) fn columns(project: &Project, graph: &Graph, models: &BTreeMap<TableName, CompiledModel>) -> Sensitive {
    let mut found = Sensitive::new();
    let declared = |table: &TableName, columns: &[Column], found: &mut Sensitive| {
        for column in columns.iter().filter(|column| column.is_sensitive()) {
            found.insert(ColumnName { table: table.clone(), column: column.name.clone() }, Vec::new());
        }
    };
    for source in project.sources.values() {
        declared(&source.name, &source.columns, &mut found);
        // What was no value of such a column stands there as it came.
        let rescued = MetadataColumn::RescuedData;
        if source.options.metadata_columns.contains(&rescued)
            && let Some(column) = source.options.sensitive.first()
        {
            let of = |column: &str| ColumnName { table: source.name.clone(), column: column.to_owned() };
            found.insert(of(rescued.name()), vec![of(column)]);
        }
    }
    for model in project.models.values() {
        declared(&model.name, &model.columns, &mut found);
    }
    if found.is_empty() {
        return found;
    }
    for name in graph.order() {
        let (Some(model), Some(compiled)) = (project.models.get(name), models.get(name)) else { continue };
        let is_cleared = |column: &str| model.columns.iter().any(|known| known.name == column && is_cleared(known));
        for (column, sources) in compiled.lineage.columns.iter().filter(|(column, _)| !is_cleared(column)) {
            let own = ColumnName { table: name.clone(), column: column.clone() };
            let shows = |(_, how): &(&ColumnName, &Use)| matches!(how, Use::Copied | Use::Derived);
            let from = sources.iter().filter(shows).find_map(|(source, _)| Some((source, found.get(source)?)));
            if let Some((source, path)) = from {
                let path = path.iter().chain([source]).cloned().collect();
                found.entry(own).or_insert(path);
            }
        }
    }
    found
}

/// Counts rows, or values, and tells none. What else a `fail_calc` names may be worked out from anything that its query reads.
static COUNT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?i)^\s*count\s*\([^()]*\)\s*$").expect("a pattern"));

/// The first sensitive column that a test speaks of, in its query or in how it counts.
pub(super) fn spoken_of<'a>(test: &CompiledTest, sensitive: &'a Sensitive) -> Option<&'a ColumnName> {
    if sensitive.is_empty() {
        return None;
    }
    let said =
        format!("{} {}", test.failures_sql(), test.config.fail_calc.as_deref().unwrap_or_default()).to_lowercase();
    let is_read = |table: &TableName| test.table.as_ref() == Some(table) || test.reads.contains(table);
    let is_own = |of: &ColumnName| test.table.as_ref() == Some(&of.table) && test.column() == Some(of.column.as_str());
    sensitive.keys().find(|of| is_read(&of.table) && (is_own(of) || mentions(&said, &of.column.to_lowercase())))
}

/// Whether a name stands in a text as a word of its own.
fn mentions(text: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name)
        .any(|(at, _)| !text[..at].ends_with(is_word) && !text[at + name.len()..].starts_with(is_word))
}

/// Tests that would keep what is said of the values of a sensitive column, for later runs to compare with, or tell a value as a
/// number of failures.
pub(super) fn told_by_tests(tests: &[CompiledTest], sensitive: &Sensitive) -> Vec<Diagnostic> {
    /// What is measured, and says nothing of any value.
    const HARMLESS: [&str; 3] = ["rows", "null_percent", "distinct_count"];
    let keeps = |test: &CompiledTest| {
        let measured: Vec<&str> = match test.check() {
            Check::Measures { values, usual: Some(_), .. } => values.into_iter().map(|(name, _)| name).collect(),
            Check::Series { values, .. } => values,
            _ => return false,
        };
        measured.iter().any(|name| !HARMLESS.contains(name))
    };
    let diagnostic = |test: &CompiledTest| {
        let (what, help) = if keeps(test) {
            (
                "keep what it measures",
                "`null_rate_anomalies`, or `measures: [distinct_count]`, tells nothing of the values",
            )
        } else if test.config.fail_calc.as_deref().is_some_and(|how| !COUNT.is_match(how)) {
            ("tell by its `fail_calc` values", "count rows: `fail_calc: count(*)`")
        } else {
            return None;
        };
        let column = &spoken_of(test, sensitive)?.column;
        let message = format!("`{}` would {what} of sensitive column `{column}`", test.name);
        Some(Diagnostic::error(Id::InvalidTest, message).at((*test.span).clone()).help(help))
    };
    if sensitive.is_empty() { Vec::new() } else { tests.iter().filter_map(diagnostic).collect() }
}

/// `meta: { sensitive: false }`.
fn is_cleared(column: &Column) -> bool {
    column.meta.get("sensitive") == Some(&Value::Bool(false))
}

/// Sensitive columns in layers that they must not reach, each with the path that led there; and layers that are none.
pub(super) fn forbidden(project: &Project, sensitive: &Sensitive) -> Vec<Diagnostic> {
    let layers = &project.forbid_unmasked_in;
    let known: Vec<&str> = project.models.keys().map(|name| name.schema).collect();
    let mut problems: Vec<Diagnostic> = Vec::new();
    for (layer, span) in layers.iter().filter(|(layer, _)| !known.contains(&layer.as_str())) {
        let diagnostic = Diagnostic::error(Id::InvalidValue, format!("there is no layer `{layer}`")).at(span.clone());
        problems.push(match nearest(layer, known.iter().copied()) {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
            None => diagnostic.help("a layer is a folder below models/"),
        });
    }
    let is_forbidden = |table: &TableName| layers.iter().any(|(layer, _)| *layer == table.schema);
    for (column, path) in sensitive.iter().filter(|(column, _)| is_forbidden(&column.table)) {
        let Some(model) = project.models.get(&column.table) else { continue };
        let shown = |column: &ColumnName| format!("{}.{}", column.table, column.column);
        let path: Vec<String> = path.iter().chain([column]).map(shown).collect();
        let message = format!("sensitive column `{}` of `{}` is not masked", column.column, column.table);
        let place = model.columns.iter().find(|known| known.name == column.column).map(|known| known.span.clone());
        let name = &column.column;
        let diagnostic = Diagnostic::error(Id::SensitiveColumn, message).at(place.unwrap_or_else(|| model.span()));
        problems.push(diagnostic.label(path.join(" -> ")).help(format!(
            "write mask_hash({name}), mask_partial({name}) or mask_email({name}), leave it out, or say in YAML that it is not: \
             `- {{ name: {name}, meta: {{ sensitive: false }} }}`"
        )));
    }
    problems
}
