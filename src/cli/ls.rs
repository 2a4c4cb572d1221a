//! `lake ls`: the selected nodes.

use super::args::{Global, LsArgs};
use super::printer::Printer;
use super::{ExitStatus, Pipeline};
use crate::catalog::sql_type;
use crate::graph::Selection;

pub(super) fn run(global: &Global, args: &LsArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    let selection = pipeline.select(&args.selection)?;
    if args.columns {
        return columns(pipeline, &selection, printer);
    }
    let Ok(pipeline) = pipeline.checked(printer) else { return Ok(ExitStatus::Wrong) };
    let mut nodes = Vec::new();
    for name in pipeline.graph.order().iter().filter(|name| selection.contains(name)) {
        let model = pipeline.project.models.get(name);
        if printer.is_json() {
            let parents: Vec<String> = pipeline.graph.parents(name).iter().map(ToString::to_string).collect();
            nodes.push(match model {
                Some(model) => serde_json::json!({
                    "name": name, "resource_type": "model", "path": model.path, "depends_on": parents,
                    "config": model.config, "description": model.description,
                }),
                None => serde_json::json!({
                    "name": name, "resource_type": "source", "depends_on": parents,
                    "path": pipeline.project.sources[name].path,
                }),
            });
        } else if model.is_some() {
            printer.result(&name.to_string());
        } else {
            printer.result(&format!("source:{name}"));
        }
    }
    let tests: Vec<_> =
        pipeline.project.data_tests.iter().filter(|test| selection.contains_test(&test.name, &test.reads)).collect();
    if printer.is_json() {
        nodes.extend(tests.iter().map(|test| {
            serde_json::json!({
                "name": test.name, "resource_type": "test", "test_type": test.kind.name(), "column": test.column(),
                "depends_on": test.reads, "severity": test.config.severity,
            })
        }));
        printer.json(&serde_json::Value::Array(nodes));
    } else {
        tests.iter().for_each(|test| printer.result(&format!("test:{}", test.name)));
    }
    Ok(ExitStatus::Fine)
}

/// `layer.model.column  type`, a line each.
fn columns(pipeline: Pipeline, selection: &Selection, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Ok(compiled) = pipeline.compile(printer)? else { return Ok(ExitStatus::Wrong) };
    let mut rows = Vec::new();
    for name in compiled.graph.order().iter().filter(|name| selection.contains(name)) {
        let model = compiled.compiled.models.get(name).map(|model| &model.schema);
        let schema = model.or_else(|| compiled.compiled.sources.get(name));
        for field in schema.into_iter().flat_map(|schema| schema.fields()) {
            rows.push((name, field.name(), sql_type(field.data_type())));
        }
    }
    if printer.is_json() {
        let list = rows.iter().map(
            |(table, column, data_type)| serde_json::json!({"table": table, "column": column, "data_type": data_type}),
        );
        printer.json(&list.collect());
        return Ok(ExitStatus::Fine);
    }
    let full: Vec<(String, &String)> =
        rows.iter().map(|(table, column, data_type)| (format!("{table}.{column}"), data_type)).collect();
    let width = full.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    full.iter().for_each(|(name, data_type)| printer.result(&format!("{name:<width$}  {data_type}")));
    Ok(ExitStatus::Fine)
}
