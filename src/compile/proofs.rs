//! Tests that the plan of their model proves: they hold whatever the tables hold, so nobody has to look.

use std::collections::BTreeSet;

use datafusion::arrow::datatypes::Schema;
use serde_json::Value;

use super::facts::{ColumnFacts, Facts};
use super::{CompiledProject, CompiledTest};
use crate::checks::{Argument, Arguments, Check};
use crate::project::TestKind;

impl CompiledProject {
    /// Why every table that the plan of its model makes passes a test; `None` if the plan does not say so.
    pub fn proof(&self, test: &CompiledTest) -> Option<String> {
        let model = self.models.get(test.table.as_ref()?)?;
        let place = |name: &str| model.schema.fields().iter().position(|field| field.name() == name);
        if let Check::Unique { columns, .. } = test.check() {
            let columns: BTreeSet<usize> = columns.iter().filter_map(|column| place(column)).collect();
            return unique(&model.facts, &columns, &model.schema);
        }
        let TestKind::Generic { test: generic, column: Some(column), arguments } = &test.kind else { return None };
        let facts = model.facts.columns.get(place(column)?)?;
        match generic.name() {
            "not_null" => facts.not_null.clone(),
            "accepted_values" => listed(facts, arguments, true),
            "not_accepted_values" => listed(facts, arguments, false),
            "accepted_range" => in_range(facts, arguments),
            _ => None,
        }
    }
}

fn unique(facts: &Facts, columns: &BTreeSet<usize>, schema: &Schema) -> Option<String> {
    let (key, why) = facts.keys.iter().find(|(key, _)| key.is_subset(columns))?;
    let names: Vec<&str> = key.iter().map(|at| schema.field(*at).name().as_str()).collect();
    Some(format!("{why} {}", names.join(", ")).trim_end().to_owned())
}

/// All values that a column can have are in a list, or none is.
fn listed(facts: &ColumnFacts, arguments: &Arguments, inside: bool) -> Option<String> {
    let values = facts.values.as_ref()?;
    let Some(Argument::Value(Value::Array(list))) = arguments.get("values") else { return None };
    let list: BTreeSet<String> =
        list.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect();
    let holds = if inside { values.is_subset(&list) } else { values.is_disjoint(&list) };
    let shown: Vec<&str> = values.iter().take(8).map(String::as_str).collect();
    let more = if values.len() > shown.len() { ", ..." } else { "" };
    holds.then(|| match shown.is_empty() {
        true => "its only value is NULL".to_owned(),
        false => format!("its only values are {}{more}", shown.join(", ")),
    })
}

/// The bounds of a column lie within those of a test.
fn in_range(facts: &ColumnFacts, arguments: &Arguments) -> Option<String> {
    let given = |name: &str| match arguments.get(name) {
        Some(Argument::Value(value)) => Some(value.as_f64()),
        _ => None,
    };
    let flag = |name: &str, default: bool| match arguments.get(name) {
        Some(Argument::Value(Value::Bool(flag))) => *flag,
        _ => default,
    };
    if arguments.contains_key("value") {
        return None;
    }
    let inclusive = flag("inclusive", true) && !flag("strictly", false);
    let mut why = Vec::new();
    if let Some(bound) = given("min_value") {
        let (bound, least) = (bound?, facts.least?);
        if !(least > bound || inclusive && least == bound) {
            return None;
        }
        why.push(format!("at least {least}"));
    }
    if let Some(bound) = given("max_value") {
        let (bound, most) = (bound?, facts.most?);
        if !(most < bound || inclusive && most == bound) {
            return None;
        }
        why.push(format!("at most {most}"));
    }
    Some(format!("it is {}", why.join(" and ")))
}
