//! dbt's names of nodes, unique among all kinds of them: `model.shop.orders`, `source.shop.raw.orders`.

use std::collections::HashMap;

use crate::names::TableName;
use crate::project::{DataTest, EXPORT_SCHEMA, EXPOSURE_SCHEMA, Project, TestKind, UnitSubject, UnitTest};

/// How many letters of a hash end the id of a generic test, as in dbt.
const HASH_LETTERS: usize = 10;

/// The id of a model, a seed, a source, an exposure or an export.
pub(super) fn node(project: &Project, name: &TableName) -> String {
    let package = &project.name;
    match project.models.get(name) {
        Some(model) => format!("{}.{package}.{}", model.resource_type(), name.table),
        None if project.sources.contains_key(name) => format!("source.{package}.{name}"),
        None if matches!(name.schema, EXPOSURE_SCHEMA | EXPORT_SCHEMA) => {
            format!("{}.{package}.{}", name.schema, name.table)
        }
        // What a run knows and the project no longer does.
        None => format!("model.{package}.{}", name.table),
    }
}

/// The id of a data test. That of a generic one ends in a hash, as in dbt: here of its name, which is unique.
pub(super) fn test(project: &Project, test: &DataTest) -> String {
    let (package, name) = (&project.name, &test.name);
    match &test.kind {
        TestKind::Singular { .. } => format!("test.{package}.{name}"),
        TestKind::Generic { .. } | TestKind::Custom { .. } => generic_test(package, name),
    }
}

/// The id of a generic test by its name.
pub(super) fn generic_test(package: &str, name: &str) -> String {
    format!("test.{package}.{name}.{}", &blake3::hash(name.as_bytes()).to_hex()[..HASH_LETTERS])
}

/// The id of a unit test.
pub(super) fn unit_test(project: &Project, test: &UnitTest) -> String {
    unit_test_of(&project.name, &unit_subject(test), &test.name)
}

/// The id of a unit test of a model or a macro.
pub(super) fn unit_test_of(package: &str, subject: &str, name: &str) -> String {
    format!("unit_test.{package}.{subject}.{name}")
}

/// What a unit test is about: the short name of a model, or that of a macro.
pub(super) fn unit_subject(test: &UnitTest) -> String {
    match &test.subject {
        UnitSubject::Model(case) => case.model.table.to_owned(),
        UnitSubject::Macro(cases) => plain_macro(&cases.name).to_owned(),
    }
}

/// `money.cents` is the macro `cents`.
pub(super) fn plain_macro(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// The id of a macro.
pub(super) fn macro_(project: &Project, name: &str) -> String {
    format!("macro.{}.{name}", project.name)
}

/// The id of a hook of a run: `operation.shop.shop-on-run-start-0`.
pub(super) fn hook(project: &Project, title: &str, index: usize) -> String {
    format!("operation.{}.{}", project.name, hook_name(project, title, index))
}

/// The name of a hook of a run, as dbt counts them.
pub(super) fn hook_name(project: &Project, title: &str, index: usize) -> String {
    format!("{}-{title}-{index}", project.name)
}

/// By which name `lake` knows each id: `layer.model`, or the name of a test.
pub(super) fn names(project: &Project) -> HashMap<String, String> {
    let models = project.models.keys().map(|name| (node(project, name), name.to_string()));
    let tests = project.data_tests.iter().map(|declared| (test(project, declared), declared.name.clone()));
    let units = project.unit_tests.iter().map(|declared| (unit_test(project, declared), declared.name.clone()));
    let exports = project.exports.keys().map(|name| (node(project, name), name.to_string()));
    models.chain(tests).chain(units).chain(exports).collect()
}
