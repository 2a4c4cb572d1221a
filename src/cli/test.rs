//! `lake test`: data tests over what is published.

use std::sync::Arc;

use super::args::{Global, SelectArgs};
use super::pipeline::record;
use super::printer::{Paint, Printer, plural};
use super::progress::test_line;
use super::retry::called;
use super::{ExitStatus, Pipeline};
use crate::artifacts;
use crate::run::{self, Inputs, RunReport, TestStatus};

pub(super) fn run(global: &Global, args: &SelectArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    run_loaded(pipeline, global, args, printer)
}

/// The same, of a project that is loaded.
pub(super) fn run_loaded(
    pipeline: Pipeline,
    global: &Global,
    args: &SelectArgs,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let choice = pipeline.choose(args)?;
    let Ok(compiled) = pipeline.compile(printer)? else { return Ok(ExitStatus::Wrong) };
    let selection = choice.over(&compiled)?;
    let (runtime, async_runtime) = compiled.into_runtime()?;
    record(&runtime)?;
    let inputs = Inputs::new(Arc::clone(&runtime));
    let start = std::time::Instant::now();
    let show = |result: &run::TestResult| {
        if printer.shows_progress() {
            printer.result(test_line(printer, result).trim_start());
        }
    };
    let tests = async_runtime.block_on(run::run_tests(&inputs, &selection, &show));
    let seconds = start.elapsed().as_secs_f64();
    let report = RunReport { seconds, tests, ..RunReport::begun(&runtime.options) };
    artifacts::write_run_results(&runtime.folder, &report, &called("test", global, args))?;
    if printer.is_json() {
        printer.json(&serde_json::to_value(&report)?);
    } else {
        printer.result(&summary(&report, printer));
    }
    Ok(if report.succeeded() { ExitStatus::Fine } else { ExitStatus::Failed })
}

fn summary(report: &RunReport, printer: &Printer) -> String {
    let mut parts = Vec::new();
    for (status, word, paint) in [
        (TestStatus::Pass, "passed", Paint::Green),
        (TestStatus::Warn, "warned", Paint::Yellow),
        (TestStatus::Fail, "failed", Paint::Red),
        (TestStatus::Error, "could not run", Paint::Red),
    ] {
        let count = report.tests.iter().filter(|test| test.status == status).count();
        if count > 0 {
            parts.push(printer.paint(paint, &format!("{count} {word}")));
        }
    }
    let total = plural(report.tests.len() as u64, "test");
    let time = printer.paint(Paint::Dim, &format!("in {:.2}s", report.seconds));
    if parts.is_empty() { format!("{total}  {time}") } else { format!("{total}: {}  {time}", parts.join(", ")) }
}
