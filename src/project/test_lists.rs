//! `data_tests:` lists of tables and columns in YAML.

use std::sync::Arc;

use super::custom_tests;
use super::data_tests::{DataTest, TestKind};
use super::test_config::TestConfig;
use super::yaml::{Mapping, Node, Raw, Reader};
use crate::checks::{self, Argument, Arguments, GenericTest, Kind, Subject, Use};
use crate::diagnostics::{Diagnostic, Id};
use crate::memo::Key;
use crate::names::{TableName, nearest};
use crate::template::{self, KnownNames, Templates};

/// Reads a `data_tests:` list of a table, or of one of its columns.
pub(super) fn read_list(
    list: &Node,
    table: &TableName,
    column: Option<&str>,
    templates: &Templates,
    reader: &mut Reader<'_>,
) -> Vec<Arc<DataTest>> {
    let read = |node, reader: &mut Reader<'_>| read_one(node, table, column, templates, reader);
    reader.list(list).iter().filter_map(|node| read(node, reader)).filter(|test| test.config.enabled).collect()
}

fn read_one(
    node: &Node,
    table: &TableName,
    column: Option<&str>,
    templates: &Templates,
    reader: &mut Reader<'_>,
) -> Option<Arc<DataTest>> {
    let (name_node, arguments) = named(node, reader)?;
    let given = name_node.plain_text();
    // `dbt_utils.expression_is_true` and the like: the packages are built in.
    let kind_name = given.rsplit('.').next().unwrap_or(&given);
    // The project's own go before those that are built in, as in dbt.
    let signature = templates.generic_test(kind_name);
    let built_in = checks::find(kind_name);
    if signature.is_none() && built_in.is_none() {
        reader.diagnostics.push(unknown(&given, kind_name, templates).at(name_node.span.clone()));
        return None;
    }
    let empty = Node { value: Raw::Map(Vec::new()), span: name_node.span.clone() };
    let arguments = match arguments {
        Some(Node { value: Raw::Null, .. }) | None => &empty,
        Some(node) => node,
    };
    let mut mapping = reader.mapping(arguments, "test")?;
    mapping.take("test_name");
    let name = mapping.take("name").and_then(|node| reader.identifier(node));
    let description = mapping.take("description").and_then(|node| reader.text(node)).unwrap_or_default();
    let mut config = TestConfig::default();
    // A test of the project may call a parameter as it likes.
    let is_parameter =
        |key: &str| signature.as_ref().is_some_and(|s| s.parameters.iter().any(|(name, _)| *name == key));
    config.read(&mut mapping, is_parameter, reader);
    if let Some(node) = mapping.take("config") {
        config.read_inner(node, reader);
    }
    let mut row_condition = None;
    let mut read_arguments = |arguments: &mut Mapping<'_>, reader: &mut Reader<'_>| match (&signature, built_in) {
        (Some(signature), _) => custom_tests::read(kind_name, signature, table, column, arguments, name_node, reader),
        (None, Some(test)) => {
            row_condition = arguments.take("row_condition").and_then(|node| reader.text(node));
            read_built_in(test, column, arguments, name_node, reader)
        }
        (None, None) => None,
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
    narrow(&mut config, row_condition, &kind);
    let name = name.unwrap_or_else(|| default_name(kind_name, &kind, table, column));
    let reads = reads(&kind, table);
    let (span, table, key) = (name_node.span.clone().into(), Some(table.clone()), Key::default());
    let test = DataTest { name, kind, span, config, description, table, reads, key };
    makes_sense(&test, name_node, reader).then(|| Arc::new(test.keyed()))
}

/// The name of a test and what is given to it: `- unique`, `- accepted_values: {...}`, or dbt's `- test_name: unique`.
fn named<'n>(node: &'n Node, reader: &mut Reader<'_>) -> Option<(&'n Node, Option<&'n Node>)> {
    match &node.value {
        Raw::Scalar(_) => Some((node, None)),
        Raw::Map(entries) if entries.len() == 1 && entries[0].0.plain_text() != "test_name" => {
            Some((&entries[0].0, Some(&entries[0].1)))
        }
        Raw::Map(entries) => match entries.iter().find(|(key, _)| key.plain_text() == "test_name") {
            Some((_, name)) => Some((name, Some(node))),
            None => {
                reader.wrong(node, "a test: its name, or its name with arguments");
                None
            }
        },
        _ => {
            reader.wrong(node, "a test: its name, or its name with arguments");
            None
        }
    }
}

fn unknown(given: &str, kind: &str, templates: &Templates) -> Diagnostic {
    let built_in = checks::all().flat_map(|test| test.names.iter().copied());
    let known: Vec<&str> = built_in.chain(templates.generic_test_names()).collect();
    let help = match nearest(kind, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`lake test --list` shows those that are built in; your own stand in tests/generic/".to_owned(),
    };
    Diagnostic::error(Id::InvalidTest, format!("unknown test `{given}`")).help(help)
}

fn read_built_in(
    test: GenericTest,
    column: Option<&str>,
    given: &mut Mapping<'_>,
    at: &Node,
    reader: &mut Reader<'_>,
) -> Option<TestKind> {
    let column = match column {
        Some(column) => Some(column.to_owned()),
        None => given.take("column_name").and_then(|node| reader.text(node)),
    };
    let mut arguments = Arguments::new();
    let mut is_whole = true;
    for parameter in test.parameters {
        match given.take_any(parameter.names) {
            Some(node) => match argument(parameter.names[0], parameter.kind, node, reader) {
                Some(argument) => _ = arguments.insert(parameter.names[0].to_owned(), argument),
                None => is_whole = false,
            },
            None if parameter.required => {
                let missing = parameter.names[0];
                let diagnostic = Diagnostic::error(Id::MissingKey, format!("test `{}` needs `{missing}`", test.name()))
                    .at(at.span.clone())
                    .help(format!("{}: write `- {}: {{ {missing}: ... }}`", test.about, test.name()));
                reader.diagnostics.push(diagnostic);
                is_whole = false;
            }
            None => {}
        }
    }
    if test.subject == Subject::Column && column.is_none() {
        let diagnostic = Diagnostic::error(Id::InvalidTest, format!("test `{}` is about a column", test.name()))
            .at(at.span.clone())
            .help("write it below a column, or give `column_name`");
        reader.diagnostics.push(diagnostic);
        return None;
    }
    // dbt_utils lets some tests of tables stand below columns.
    let column = column.filter(|_| test.subject != Subject::Table);
    is_whole.then_some(TestKind::Generic { test, column, arguments })
}

fn argument(name: &str, kind: Kind, node: &Node, reader: &mut Reader<'_>) -> Option<Argument> {
    let value = match kind {
        Kind::Table => return referenced(node, reader).map(Argument::Table),
        Kind::Text | Kind::Sql => reader.text(node)?.into(),
        Kind::Flag => reader.boolean(node)?.into(),
        Kind::Count => reader.count(node)?.into(),
        Kind::Number if node.plain_text().parse::<f64>().is_err() => {
            reader.wrong(node, "a number");
            return None;
        }
        Kind::Number | Kind::Bound => match &node.value {
            Raw::Scalar(value @ (serde_json::Value::Number(_) | serde_json::Value::String(_))) => value.clone(),
            _ => {
                reader.wrong(node, "a number, or a SQL expression");
                return None;
            }
        },
        Kind::Columns | Kind::Values => {
            let items = match &node.value {
                Raw::List(items) => items.iter().map(Node::to_json).filter(|value| !value.is_null()).collect(),
                _ => vec![node.to_json()],
            };
            if items.is_empty() {
                reader.invalid(&node.span, "expected at least one value");
                return None;
            }
            if kind == Kind::Columns && items.iter().any(|item| !item.is_string()) {
                reader.wrong(node, "names of columns");
                return None;
            }
            items.into()
        }
        Kind::Period => return period(node, reader).map(Argument::Value),
        Kind::Word(words) => {
            let choices: Vec<(&str, &str)> = words.iter().map(|word| (*word, *word)).collect();
            reader.choice(node, &format!("value of `{name}`"), &choices)?.into()
        }
    };
    Some(Argument::Value(value))
}

/// `{ period: day, count: 14 }`, or `day`.
fn period(node: &Node, reader: &mut Reader<'_>) -> Option<serde_json::Value> {
    const PERIODS: &[(&str, &str)] = &[("hour", "hour"), ("day", "day"), ("week", "week"), ("month", "month")];
    let (unit, count) = match &node.value {
        Raw::Map(_) => {
            let mut mapping = reader.mapping(node, "period")?;
            let (unit, count) = (mapping.take("period"), mapping.take("count"));
            mapping.finish(reader);
            let Some(unit) = unit else {
                reader.wrong(node, "a length of time, such as `{ period: day, count: 14 }`");
                return None;
            };
            (unit, count)
        }
        _ => (node, None),
    };
    let count = match count {
        Some(count) => reader.count(count)?,
        None => 1,
    };
    Some(serde_json::json!({ "period": reader.choice(unit, "period", PERIODS)?, "count": count }))
}

/// `row_condition` of dbt_expectations and `from_condition` of dbt_utils say which rows are looked at, as `where` does.
fn narrow(config: &mut TestConfig, row_condition: Option<String>, kind: &TestKind) {
    let TestKind::Generic { arguments, .. } = kind else { return };
    let from_condition = match arguments.get("from_condition") {
        Some(Argument::Value(serde_json::Value::String(text))) => Some(text.clone()),
        _ => None,
    };
    for condition in [row_condition, from_condition].into_iter().flatten() {
        config.filter = Some(match config.filter.take() {
            Some(filter) => format!("({filter}) and ({condition})"),
            None => condition,
        });
    }
}

/// Whether the arguments fit each other, and the settings fit the test.
fn makes_sense(test: &DataTest, at: &Node, reader: &mut Reader<'_>) -> bool {
    let TestKind::Generic { test: generic, column, arguments } = &test.kind else { return true };
    let (Some(table), column) = (&test.table, column.as_deref()) else { return true };
    let problem = Use { test: *generic, table, column, filter: None, arguments }.check().err();
    if let Some(message) = &problem {
        let diagnostic = Diagnostic::error(Id::InvalidTest, message.clone());
        reader.diagnostics.push(diagnostic.at(at.span.clone()).help(format!("it says: {}", generic.about)));
    }
    problem.is_none()
}

fn reads(kind: &TestKind, table: &TableName) -> Vec<TableName> {
    let mut reads = vec![table.clone()];
    if let TestKind::Generic { arguments, .. } = kind {
        for argument in arguments.values() {
            if let Argument::Table(other) = argument
                && !reads.contains(other)
            {
                reads.push(other.clone());
            }
        }
    }
    reads
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

/// Gives the other tables of a test their full names; says whether there are any.
///
/// # Errors
/// The first that does not exist.
pub(super) fn resolve(test: &mut DataTest, known: &KnownNames) -> Result<bool, Box<Diagnostic>> {
    let TestKind::Generic { arguments, .. } = &mut test.kind else { return Ok(false) };
    let mut changed = false;
    for argument in arguments.values_mut() {
        let Argument::Table(to) = argument else { continue };
        let unresolved = to.clone();
        if to.schema.is_empty() {
            *to = known.models.get(to.table).cloned().ok_or_else(|| {
                let message = format!("model `{}` does not exist", to.table);
                let diagnostic = Diagnostic::error(Id::UnknownRef, message).at((*test.span).clone());
                Box::new(diagnostic.suggest(to.table, known.models.keys().copied()))
            })?;
        } else if !known.sources.contains(to) {
            let message = format!("source `{to}` is not declared");
            return Err(Box::new(Diagnostic::error(Id::UnknownSource, message).at((*test.span).clone())));
        }
        test.reads.iter_mut().filter(|name| **name == unresolved).for_each(|name| *name = to.clone());
        changed = true;
    }
    Ok(changed)
}

/// As dbt names tests: kind, table, column, arguments.
fn default_name(kind_name: &str, kind: &TestKind, table: &TableName, column: Option<&str>) -> String {
    let mut parts = vec![kind_name.to_owned(), table.table.to_owned()];
    parts.extend(column.map(str::to_owned));
    match kind {
        TestKind::Generic { test, column: own, arguments } => {
            // One that is given as `column_name`.
            parts.extend(own.iter().filter(|_| column.is_none()).cloned());
            for parameter in test.parameters.iter().filter(|parameter| parameter.kind != Kind::Flag) {
                match arguments.get(parameter.names[0]) {
                    Some(Argument::Table(other)) => parts.push(other.table.to_owned()),
                    Some(Argument::Value(value)) => parts.extend(in_name(value)),
                    None => {}
                }
            }
        }
        TestKind::Custom { call, .. } => parts.extend(call.arguments.iter().map(|(_, value)| match value {
            template::Argument::Value(value) => words(&value.to_string()),
            template::Argument::Expression(expression) => words(expression),
        })),
        TestKind::Singular { .. } => {}
    }
    parts.retain(|part| !part.is_empty());
    parts.join("_")
}

fn in_name(value: &serde_json::Value) -> Vec<String> {
    match value {
        serde_json::Value::Array(items) => items.iter().take(4).map(|item| words(&item.to_string())).collect(),
        serde_json::Value::String(text) => vec![words(text)],
        serde_json::Value::Object(period) => period.values().map(|part| words(&part.to_string())).collect(),
        other => vec![words(&other.to_string())],
    }
}

fn words(text: &str) -> String {
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).take(6).collect();
    words.join("_")
}
