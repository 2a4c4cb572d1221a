//! `lake docs`: lineage as text, and the documentation page.

use std::collections::BTreeMap;
use std::path::Path;

use super::args::{DocsArgs, DocsCommand, Global, LineageFormat};
use super::printer::Printer;
use super::{ExitStatus, Pipeline};
use crate::artifacts;
use crate::docs::{self, Lineage};
use crate::tables::TableError;

pub(super) fn run(global: &Global, args: &DocsArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    if let Some(DocsCommand::Generate { path }) = &args.command {
        return generate(pipeline, path.as_deref(), printer);
    }
    let selection = pipeline.select(&args.selection)?;
    let Ok(pipeline) = pipeline.checked(printer) else { return Ok(ExitStatus::Wrong) };
    let lineage = Lineage::new(&pipeline.project, &pipeline.graph, &selection);
    let format = if printer.is_json() { LineageFormat::Json } else { args.format };
    match format {
        LineageFormat::Tree => printer.result(&docs::tree(&lineage)),
        LineageFormat::Mermaid => printer.result(&docs::mermaid(&lineage)),
        LineageFormat::Dot => printer.result(&docs::dot(&lineage)),
        LineageFormat::Json => printer.json(&docs::json(&lineage)),
    }
    Ok(ExitStatus::Fine)
}

fn generate(pipeline: Pipeline, path: Option<&Path>, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Ok(compiled) = pipeline.compile(printer)? else { return Ok(ExitStatus::Wrong) };
    let (runtime, async_runtime) = compiled.into_runtime(false)?;
    let published = async_runtime.block_on(async {
        let mut found = BTreeMap::new();
        for model in runtime.project.models.values().filter(|model| model.is_stored()) {
            if let Some(table) = runtime.lake.inspect(&model.name).await? {
                found.insert(model.name.clone(), table);
            }
        }
        Ok::<_, TableError>(found)
    })?;
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
