//! Constraints of contracts: read from YAML, and made tests that gate every publish.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::data_tests::{DataTest, TestKind};
use super::test_config::TestConfig;
use super::yaml::{Node, Reader};
use super::{Constraint, Model};
use crate::checks::{self, Argument};
use crate::diagnostics::{Diagnostic, Id, Span};
use crate::memo::Key;
use crate::names::{TableName, nearest};

pub(super) const KINDS: &[&str] = &["not_null", "unique", "primary_key", "check"];

/// Reads the `constraints:` list of a column: `- type: not_null`.
pub(super) fn read(list: &Node, reader: &mut Reader<'_>) -> Vec<(Constraint, Span)> {
    let mut found = Vec::new();
    for node in reader.list(list) {
        let Some(mut mapping) = reader.mapping(node, "constraint") else { continue };
        let kind = mapping.require("type", reader).and_then(|node| Some((reader.text(node)?, node.span.clone())));
        let expression = mapping.take("expression").and_then(|node| reader.text(node));
        mapping.take("name");
        mapping.finish(reader);
        let Some((kind, span)) = kind else { continue };
        let constraint = match (kind.as_str(), expression) {
            ("not_null", _) => Constraint::NotNull,
            ("unique", _) => Constraint::Unique,
            ("primary_key", _) => Constraint::PrimaryKey,
            ("check", Some(expression)) => Constraint::Check(expression),
            ("check", None) => {
                let diagnostic = Diagnostic::error(Id::MissingKey, "a `check` constraint has no `expression`");
                reader.diagnostics.push(diagnostic.at(span).help("write it below: `expression: amount >= 0`"));
                continue;
            }
            (other, _) => {
                let help = match nearest(other, KINDS.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known: {}; declare others as data tests", KINDS.join(", ")),
                };
                let diagnostic = Diagnostic::error(Id::InvalidValue, format!("`{other}` is not a constraint"));
                reader.diagnostics.push(diagnostic.at(span).help(help));
                continue;
            }
        };
        found.push((constraint, span));
    }
    found
}

/// The constraints of enforced contracts as tests. A constraint without a contract is pointed out: nobody checks it.
pub(super) fn tests(models: &BTreeMap<TableName, Model>, reader: &mut Reader<'_>) -> Vec<Arc<DataTest>> {
    let mut tests = Vec::new();
    for model in models.values().filter(|model| model.has_constraints) {
        let constraints =
            model.columns.iter().flat_map(|c| c.constraints.iter().map(move |(what, span)| (c, what, span)));
        for (column, constraint, span) in constraints {
            if !model.config.contract {
                let message = format!("`{}` has no enforced contract, so nothing checks this constraint", model.name);
                let diagnostic = Diagnostic::warning(Id::Orphan, message).at(span.clone());
                reader.diagnostics.push(diagnostic.help("set `contract: { enforced: true }`, or write a data test"));
                continue;
            }
            let names: &[&str] = match constraint {
                Constraint::NotNull => &["not_null"],
                Constraint::Unique => &["unique"],
                Constraint::PrimaryKey => &["not_null", "unique"],
                Constraint::Check(_) => &["expression_is_true"],
            };
            let expression = match constraint {
                Constraint::Check(expression) => Some(expression.as_str()),
                _ => None,
            };
            let kinds = names.iter().filter_map(|name| kind(name, &column.name, expression));
            tests.extend(kinds.map(|kind| Arc::new(test(model, &column.name, kind, span))));
        }
    }
    tests
}

/// A test of a column, or of an expression over the whole row.
fn kind(name: &str, column: &str, expression: Option<&str>) -> Option<TestKind> {
    let column = expression.is_none().then(|| column.to_owned());
    let arguments = expression.map(|sql| ("expression".to_owned(), Argument::Value(sql.into()))).into_iter().collect();
    Some(TestKind::Generic { test: checks::find(name)?, column, arguments })
}

fn test(model: &Model, column: &str, kind: TestKind, span: &Span) -> DataTest {
    let kind_name = if kind.name() == "expression_is_true" { "check" } else { kind.name() };
    DataTest {
        name: format!("contract_{kind_name}_{}_{column}", model.name.table),
        kind,
        span: span.clone().into(),
        config: TestConfig { contract: true, ..TestConfig::default() },
        description: String::new(),
        table: Some(model.name.clone()),
        reads: vec![model.name.clone()],
        key: Key::default(),
    }
    .keyed()
}
