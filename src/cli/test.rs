//! `lake test`: unit tests, and data tests over what is published.

use std::sync::Arc;

use super::args::{Global, SelectArgs, TestArgs, TestCommand};
use super::pipeline;
use super::printer::{Paint, Printer, plural};
use super::progress::test_line;
use super::retry::called;
use super::{ExitStatus, Pipeline, record, unit};
use crate::artifacts;
use crate::run::{self, Inputs, RunReport, TestStatus};

pub(super) fn run(global: &Global, args: &TestArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    if let Some(TestCommand::Record(args)) = &args.command {
        return record::run(global, args, printer);
    }
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    run_loaded(pipeline, global, &args.selection, printer)
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
    pipeline::record(&runtime)?;
    let start = std::time::Instant::now();
    let unit_tests = unit::run(&runtime, &async_runtime, &selection, false, printer);
    artifacts::keep(&runtime.memo, false);
    let inputs = Inputs::new(Arc::clone(&runtime));
    let show = |result: &run::TestResult| {
        if printer.shows_progress() {
            printer.result(test_line(printer, result).trim_start());
        }
    };
    let tests = async_runtime.block_on(run::run_tests(&inputs, &selection, &show));
    let seconds = start.elapsed().as_secs_f64();
    let report = RunReport { seconds, tests, unit_tests, ..RunReport::begun(&runtime.options) };
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
        let statuses = report.tests.iter().map(|test| test.status).chain(report.unit_tests.iter().map(|t| t.status));
        let count = statuses.filter(|ended| *ended == status).count();
        if count > 0 {
            parts.push(printer.paint(paint, &format!("{count} {word}")));
        }
    }
    let total = plural((report.tests.len() + report.unit_tests.len()) as u64, "test");
    let time = printer.paint(Paint::Dim, &format!("in {:.2}s", report.seconds));
    if parts.is_empty() { format!("{total}  {time}") } else { format!("{total}: {}  {time}", parts.join(", ")) }
}
