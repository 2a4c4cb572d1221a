//! `lake docs`: lineage as text, and the documentation site.

use std::path::Path;
use std::sync::Arc;

use super::args::Global;
use super::docs_args::{DocsArgs, DocsCommand, LineageFormat};
use super::pipeline::record;
use super::printer::Printer;
use super::{ExitStatus, Pipeline, docs_serve};
use crate::artifacts;
use crate::compile::ColumnName;
use crate::docs::{self, Delivery, Lineage};
use crate::graph::SelectError;
use crate::names::nearest;
use crate::run::{self, Inputs};

pub(super) fn run(global: &Global, args: &DocsArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    if let Some(DocsCommand::Serve { port }) = &args.command {
        return docs_serve::run(global, *port, printer);
    }
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    if let Some(DocsCommand::Generate { path }) = &args.command {
        return generate(pipeline, path.as_deref(), printer);
    }
    if let Some(name) = &args.column {
        return column(pipeline, name, args.format, printer);
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

fn column(pipeline: Pipeline, name: &str, format: LineageFormat, printer: &Printer) -> anyhow::Result<ExitStatus> {
    if format == LineageFormat::Openlineage {
        let message = "events of OpenLineage are about whole tables, with the lineage of all their columns".to_owned();
        let help = Some("give --select in place of --column, or another --format".to_owned());
        return Err(SelectError { message, help }.into());
    }
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
    match format {
        _ if printer.is_json() => printer.json(&docs::column_json(&compiled, found)),
        LineageFormat::Tree => printer.result(&docs::column_tree(&compiled, found)),
        LineageFormat::Mermaid => printer.result(&docs::column_mermaid(&compiled, found)),
        LineageFormat::Dot => printer.result(&docs::column_dot(&compiled, found)),
        LineageFormat::Json | LineageFormat::Openlineage => printer.json(&docs::column_json(&compiled, found)),
    }
    Ok(ExitStatus::Fine)
}

fn generate(pipeline: Pipeline, path: Option<&Path>, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let folder = pipeline.project.folder.clone();
    let Some(page) = page(pipeline, Delivery::File, printer)? else { return Ok(ExitStatus::Wrong) };
    // A path of the command line is relative to where the command was given.
    let path = path.map(std::path::absolute).transpose()?;
    let written = artifacts::write_page(&folder, path.as_deref(), &page.html)?;
    if printer.is_json() {
        printer.json(&serde_json::json!({"path": written}));
    } else {
        printer.result(&format!("wrote {}", written.display()));
    }
    Ok(ExitStatus::Fine)
}

/// A page that was made.
pub(super) struct Page {
    pub(super) html: String,
    /// In milliseconds since 1970, as it stands in its data.
    pub(super) made: i64,
}

/// The page of a project with what is known of its lake; `None` if it does not compile.
pub(super) fn page(pipeline: Pipeline, delivery: Delivery, printer: &Printer) -> anyhow::Result<Option<Page>> {
    let Ok(compiled) = pipeline.compile(printer)? else { return Ok(None) };
    let (runtime, async_runtime) = compiled.into_runtime()?;
    let inputs = Arc::new(Inputs::new(Arc::clone(&runtime)));
    let mut survey = super::pipeline::timed("survey", || async_runtime.block_on(run::survey(&inputs)));
    for source in runtime.project.sources.values().filter(|source| source.ingestion.loaded_at_field.is_some()) {
        if let Some(seen) = survey.sources.get_mut(&source.name) {
            seen.freshness = artifacts::read_freshness(&runtime.folder, source);
        }
    }
    for problem in &survey.problems {
        printer.note(&format!("warning: {problem}"));
    }
    record(&runtime)?;
    let published = survey.tables.iter().map(|(name, seen)| (name.clone(), seen.published.clone())).collect();
    artifacts::write_catalog(&runtime, &published)?;
    let html = super::pipeline::timed("page", || docs::page(&runtime, &survey, delivery))?;
    Ok(Some(Page { html, made: runtime.options.started_at.timestamp_millis() }))
}
