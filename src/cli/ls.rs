//! `lake ls`: the selected nodes.

use std::collections::BTreeMap;

use super::args::{Global, LsArgs};
use super::pipeline::Compiled;
use super::printer::{Paint, Printer};
use super::{ExitStatus, Pipeline};
use crate::artifacts;
use crate::catalog::sql_type;
use crate::compile::{ColumnName, Lineage, Use};
use crate::graph::{Graph, Selection};
use crate::project::Project;

pub(super) fn run(global: &Global, args: &LsArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    let choice = pipeline.choose(&args.selection)?;
    if let (Some(selection), false) = (choice.made(), args.columns) {
        let Ok(pipeline) = pipeline.checked(printer) else { return Ok(ExitStatus::Wrong) };
        list(&pipeline.project, &pipeline.graph, selection, printer);
        return Ok(ExitStatus::Fine);
    }
    let Ok(compiled) = pipeline.compile(printer)? else { return Ok(ExitStatus::Wrong) };
    let selection = choice.over(&compiled)?;
    if args.columns {
        columns(&compiled, &selection, printer);
    } else {
        list(&compiled.project, &compiled.graph, &selection, printer);
    }
    Ok(ExitStatus::Fine)
}

fn list(project: &Project, graph: &Graph, selection: &Selection, printer: &Printer) {
    let mut nodes = Vec::new();
    for name in graph.order().iter().filter(|name| selection.contains(name)) {
        let (model, exposure) = (project.models.get(name), project.exposures.get(name));
        let export = project.exports.get(name);
        if printer.is_json() {
            let parents: Vec<String> = graph.parents(name).iter().map(ToString::to_string).collect();
            nodes.push(match (model, exposure) {
                (Some(model), _) => serde_json::json!({
                    "name": name, "resource_type": model.resource_type(), "path": model.path, "depends_on": parents,
                    "config": model.config, "description": model.description,
                }),
                (None, Some(exposure)) => artifacts::exposure_json(exposure),
                (None, None) if export.is_some() => export.map(artifacts::export_json).unwrap_or_default(),
                (None, None) => serde_json::json!({
                    "name": name, "resource_type": "source", "depends_on": parents,
                    "path": project.sources[name].path,
                }),
            });
        } else if model.is_some() {
            printer.result(&name.to_string());
        } else if exposure.is_some() {
            printer.result(&format!("exposure:{}", name.table));
        } else if export.is_some() {
            printer.result(&format!("export:{}", name.table));
        } else {
            printer.result(&format!("source:{name}"));
        }
    }
    let mut listed = graph.order().iter().filter(|name| selection.contains(name)).count();
    let tests: Vec<_> = project.data_tests.iter().filter(|test| selection.contains_test(&test.name)).collect();
    let units: Vec<_> = project.unit_tests.iter().filter(|test| selection.contains_test(&test.name)).collect();
    if printer.is_json() {
        nodes.extend(tests.iter().map(|test| {
            serde_json::json!({
                "name": test.name, "resource_type": "test", "test_type": test.kind.name(), "column": test.column(),
                "depends_on": test.reads, "severity": test.config.severity,
            })
        }));
        nodes.extend(units.iter().map(|test| artifacts::unit_test_json(test)));
        printer.json(&serde_json::Value::Array(nodes));
    } else {
        tests.iter().for_each(|test| printer.result(&format!("test:{}", test.name)));
        units.iter().for_each(|test| printer.result(&format!("unit_test:{}", test.name)));
    }
    listed += tests.len() + units.len();
    if listed == 0 {
        printer.note("nothing selected");
    }
}

/// `layer.model.column  type  where it comes from`, a line each; `layer.model.*` for what decides the rows.
fn columns(compiled: &Compiled, selection: &Selection, printer: &Printer) {
    let (mut rows, none) = (Vec::new(), Lineage::default());
    for name in compiled.graph.order().iter().filter(|name| selection.contains(name)) {
        let model = compiled.compiled.models.get(name);
        let schema = compiled.compiled.schema_of(name);
        let lineage = model.map_or(&none, |model| &model.lineage);
        for field in schema.into_iter().flat_map(|schema| schema.fields()) {
            let made = lineage.columns.get(field.name()).cloned().unwrap_or_default();
            rows.push((name, field.name().as_str(), sql_type(field.data_type()), made));
        }
        if !lineage.filters.is_empty() {
            let filters = lineage.filters.iter().map(|column| (column.clone(), Use::Filter)).collect();
            rows.push((name, "*", String::new(), filters));
        }
    }
    if printer.is_json() {
        let list = rows.iter().map(|(table, column, data_type, made)| {
            let from = made
                .iter()
                .map(|(from, how)| serde_json::json!({"table": from.table, "column": from.column, "use": how}));
            let data_type = Some(data_type).filter(|text| !text.is_empty());
            let from: Vec<_> = from.collect();
            serde_json::json!({"table": table, "column": column, "data_type": data_type, "comes_from": from})
        });
        printer.json(&list.collect());
        return;
    }
    let full: Vec<String> = rows.iter().map(|(table, column, ..)| format!("{table}.{column}")).collect();
    let width = full.iter().map(|name| name.chars().count()).max().unwrap_or_default();
    let type_width = rows.iter().map(|(_, _, data_type, _)| data_type.chars().count()).max().unwrap_or_default();
    for (name, (_, _, data_type, made)) in full.iter().zip(&rows) {
        let from = printer.paint(Paint::Dim, &comes_from(made));
        let line = format!("{name:<width$}  {data_type:<type_width$}  {from}");
        printer.result(line.trim_end());
    }
}

/// `copied from silver.orders.id`, `derived from ...`, `filtered by ...`.
fn comes_from(made: &BTreeMap<ColumnName, Use>) -> String {
    let uses = [
        (Use::Copied, "copied from"),
        (Use::Masked, "masked from"),
        (Use::Derived, "derived from"),
        (Use::Filter, "filtered by"),
    ];
    let parts = uses.iter().filter_map(|(how, words)| {
        let named: Vec<String> = made
            .iter()
            .filter(|(_, used)| *used == how)
            .map(|(column, _)| format!("{}.{}", column.table, column.column))
            .collect();
        (!named.is_empty()).then(|| format!("{words} {}", named.join(", ")))
    });
    parts.collect::<Vec<_>>().join("; ")
}
