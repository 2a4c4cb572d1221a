//! `lake compile`: every model checked, nothing run.

use std::sync::Arc;

use super::args::Global;
use super::environment_args::CompileArgs;
use super::pipeline::{record, timed};
use super::printer::Printer;
use super::{ExitStatus, Pipeline};
use crate::artifacts::{self, LogEvent, RunEvents};
use crate::diagnostics::render;
use crate::graph::Selection;
use crate::run::{Inputs, SharedRuntime};
use crate::session;
use crate::words::plural;

pub(super) fn run(global: &Global, args: &CompileArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let start = std::time::Instant::now();
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    let choice = pipeline.choose(&args.selection)?;
    let Ok(mut compiled) = pipeline.compile(printer)? else { return Ok(ExitStatus::Wrong) };
    let selection = choice.over(&compiled)?;
    let warnings: Vec<_> = compiled.diagnostics.sorted().into_iter().map(render::json).collect();
    compiled.deferral = args.defer.open(&compiled.project, selection.nodes.clone())?;
    let (runtime, async_runtime) = compiled.into_runtime()?;
    let written = timed("write", || artifacts::write_compiled_sql(&runtime, &selection))?;
    record(&runtime)?;
    let (made, kept) = runtime.memo.counts();
    tracing::info!("{made} products made, {kept} known from earlier runs");
    let selected: Vec<_> = runtime.project.models.values().filter(|model| selection.contains(&model.name)).collect();
    note_deferred(&runtime, &async_runtime, &selection, printer)?;
    if printer.is_json() {
        let nodes: Vec<_> = selected.iter().map(|model| artifacts::model_json(&runtime, model)).collect();
        printer.json(&serde_json::json!({"nodes": nodes, "diagnostics": warnings}));
        return Ok(ExitStatus::Fine);
    }
    if let Some(events) = printer.stream() {
        events.write_all(RunEvents::new(&runtime, 0).begun());
        events.write(&LogEvent::written("CompiledSQL", &written.to_string_lossy()));
    }
    if let ([only], false) = (selected.as_slice(), args.selection.select.is_empty())
        && only.seed.is_none()
    {
        printer.result(only.full.sql.trim());
    }
    let tests = plural(runtime.compiled.tests.len() as u64, "test");
    printer.note(&format!(
        "{} and {tests} compiled in {:.2}s; SQL is in {}",
        plural(runtime.compiled.models.len() as u64, "model"),
        start.elapsed().as_secs_f64(),
        written.display()
    ));
    // The process ends here: a large project need not be taken apart.
    session::leave(&runtime.session);
    std::mem::forget(runtime);
    Ok(ExitStatus::Fine)
}

/// Says where a run of the selected models would read those that are not selected.
fn note_deferred(
    runtime: &SharedRuntime,
    async_runtime: &tokio::runtime::Runtime,
    selection: &Selection,
    printer: &Printer,
) -> anyhow::Result<()> {
    let Some(deferral) = &runtime.deferral else { return Ok(()) };
    let inputs = Inputs::new(Arc::clone(runtime));
    for (name, from) in async_runtime.block_on(inputs.deferred_inputs(&selection.nodes))? {
        match from {
            Some(from) => printer.note(&format!("{name} would be read from {from}")),
            None if selection.contains(&name) => {}
            None => {
                let own = &runtime.project.target.name;
                printer.note(&format!("{name} is neither in {own} nor in {}", deferral.target));
            }
        }
    }
    Ok(())
}
