//! `lake compile`: every model checked, nothing run.

use super::args::{Global, SelectArgs};
use super::pipeline::{record, timed};
use super::printer::Printer;
use super::{ExitStatus, Pipeline};
use crate::artifacts;
use crate::diagnostics::render;
use crate::words::plural;

pub(super) fn run(global: &Global, args: &SelectArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let start = std::time::Instant::now();
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    let choice = pipeline.choose(args)?;
    let Ok(compiled) = pipeline.compile(printer)? else { return Ok(ExitStatus::Wrong) };
    let selection = choice.over(&compiled)?;
    let warnings: Vec<_> = compiled.diagnostics.sorted().into_iter().map(render::json).collect();
    let (runtime, _async_runtime) = compiled.into_runtime()?;
    let written = timed("write", || artifacts::write_compiled_sql(&runtime, &selection))?;
    record(&runtime)?;
    let (made, kept) = runtime.memo.counts();
    tracing::info!("{made} products made, {kept} known from earlier runs");
    let selected: Vec<_> = runtime.project.models.values().filter(|model| selection.contains(&model.name)).collect();
    if printer.is_json() {
        let nodes: Vec<_> = selected.iter().map(|model| artifacts::model_json(&runtime, model)).collect();
        printer.json(&serde_json::json!({"nodes": nodes, "diagnostics": warnings}));
        return Ok(ExitStatus::Fine);
    }
    if let ([only], false) = (selected.as_slice(), args.select.is_empty())
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
    std::mem::forget(runtime);
    Ok(ExitStatus::Fine)
}
