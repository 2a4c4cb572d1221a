//! `lake docs`: lineage as text, and the documentation page.

use std::collections::BTreeMap;
use std::path::Path;

use super::args::{DocsArgs, DocsCommand, Global, LineageFormat};
use super::pipeline::record;
use super::printer::Printer;
use super::{ExitStatus, Pipeline};
use crate::artifacts;
use crate::compile::ColumnName;
use crate::docs::{self, Lineage};
use crate::graph::SelectError;
use crate::names::nearest;
use crate::tables::TableError;

pub(super) fn run(global: &Global, args: &DocsArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    if let Some(DocsCommand::Generate { path }) = &args.command {
        return generate(pipeline, path.as_deref(), printer);
    }
    if let Some(name) = &args.column {
        return column(pipeline, name, printer);
    }
    let choice = pipeline.choose(&args.selection)?;
    let with_columns = args.format == LineageFormat::Openlineage;
    if let (Some(selection), false) = (choice.made(), with_columns) {
        let Ok(pipeline) = pipeline.checked(printer) else { return Ok(ExitStatus::Wrong) };
        show(&Lineage::new(&pipeline.project, &pipeline.graph, selection), args, printer);
        return Ok(ExitStatus::Fine);
    }
    let Ok(compiled) = pipeline.compile(printer)? else { return Ok(ExitStatus::Wrong) };
    let selection = choice.over(&compiled)?;
    if with_columns {
        let (runtime, _) = compiled.into_runtime()?;
        let selected = runtime.project.models.values().filter(|model| selection.contains(&model.name));
        selected.for_each(|model| printer.result(&artifacts::job_event(&runtime, model).to_string()));
        return Ok(ExitStatus::Fine);
    }
    show(&Lineage::new(&compiled.project, &compiled.graph, &selection), args, printer);
    Ok(ExitStatus::Fine)
}

fn show(lineage: &Lineage<'_>, args: &DocsArgs, printer: &Printer) {
    let format = if printer.is_json() { LineageFormat::Json } else { args.format };
    match format {
        LineageFormat::Tree => printer.result(&docs::tree(lineage)),
        LineageFormat::Mermaid => printer.result(&docs::mermaid(lineage)),
        LineageFormat::Dot => printer.result(&docs::dot(lineage)),
        LineageFormat::Json | LineageFormat::Openlineage => printer.json(&docs::json(lineage)),
    }
}

fn column(pipeline: Pipeline, name: &str, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Ok(compiled) = pipeline.compile(printer)? else { return Ok(ExitStatus::Wrong) };
    let compiled = compiled.compiled;
    let models = compiled.models.values().map(|model| (&model.name, &*model.schema));
    let known: Vec<ColumnName> = models
        .chain(&compiled.sources)
        .flat_map(|(table, schema)| {
            let columns = schema.fields().iter().map(|field| field.name().clone());
            columns.map(|column| ColumnName { table: table.clone(), column }).collect::<Vec<_>>()
        })
        .collect();
    let full = |column: &ColumnName| format!("{}.{}", column.table, column.column);
    let Some(found) = known.iter().find(|column| full(column) == name) else {
        let names: Vec<String> = known.iter().map(full).collect();
        let help = nearest(name, names.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
        let help = help.or_else(|| Some("`lake ls --columns` lists all columns".to_owned()));
        return Err(SelectError { message: format!("there is no column `{name}`"), help }.into());
    };
    if printer.is_json() {
        printer.json(&docs::column_json(&compiled, found));
    } else {
        printer.result(&docs::column_tree(&compiled, found));
    }
    Ok(ExitStatus::Fine)
}

fn generate(pipeline: Pipeline, path: Option<&Path>, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Ok(compiled) = pipeline.compile(printer)? else { return Ok(ExitStatus::Wrong) };
    let (runtime, async_runtime) = compiled.into_runtime()?;
    let published = async_runtime.block_on(async {
        let mut found = BTreeMap::new();
        for model in runtime.project.models.values().filter(|model| model.is_stored()) {
            if let Some(table) = runtime.lake.inspect(&model.name).await? {
                found.insert(model.name.clone(), table);
            }
        }
        Ok::<_, TableError>(found)
    })?;
    record(&runtime)?;
    artifacts::write_catalog(&runtime, &published)?;
    let last_run = artifacts::read_run_results(&runtime.folder);
    let html = docs::page(&runtime, &published, last_run.as_ref());
    // A path of the command line is relative to where the command was given.
    let path = path.map(std::path::absolute).transpose()?;
    let written = artifacts::write_page(&runtime.folder, path.as_deref(), &html)?;
    if printer.is_json() {
        printer.json(&serde_json::json!({"path": written}));
    } else {
        printer.result(&format!("wrote {}", written.display()));
    }
    Ok(ExitStatus::Fine)
}
