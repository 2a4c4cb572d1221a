//! `lake test`: unit tests, and data tests over what is published.

use std::sync::Arc;

use super::args::Global;
use super::build::{cost, remember};
use super::pipeline;
use super::printer::{Paint, Printer};
use super::progress::test_line;
use super::retry::called;
use super::test_args::{TestArgs, TestCommand};
use super::{ExitStatus, Pipeline, announce, channels, failures, record, suggest, targets, unit};
use crate::artifacts::{self, RunEvents};
use crate::checks;
use crate::run::{self, Inputs, RunReport, TestStatus};
use crate::words::plural;

pub(super) fn run(global: &Global, args: &TestArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    match &args.command {
        Some(TestCommand::Record(args)) => return record::run(global, args, printer),
        Some(TestCommand::Suggest(args)) => return suggest::run(global, args, printer),
        None => {}
    }
    if args.list {
        list(printer);
        return Ok(ExitStatus::Fine);
    }
    if let Some(name) = &args.failures {
        return failures::run(global, name, printer);
    }
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    run_loaded(pipeline, global, args, printer)
}

/// The same, of a project that is loaded.
pub(super) fn run_loaded(
    pipeline: Pipeline,
    global: &Global,
    args: &TestArgs,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let choice = pipeline.choose(&args.selection)?;
    let Ok(mut compiled) = pipeline.compile(printer)? else { return Ok(ExitStatus::Wrong) };
    compiled.prove = !args.no_prove;
    let selection = choice.over(&compiled)?;
    compiled.deferral = args.defer.open(&compiled.project, selection.nodes.clone())?;
    let (runtime, async_runtime) = compiled.into_runtime()?;
    pipeline::record(&runtime)?;
    let start = std::time::Instant::now();
    let told = printer.stream().map(|events| {
        let declared = &runtime.compiled.tests;
        let tests = declared.iter().filter(|test| selection.contains_test(&test.name)).count();
        let told = RunEvents::new(&runtime, unit::selected(&runtime, &selection) + tests);
        events.write_all(told.begun());
        told
    });
    let unit_tests = unit::run(&runtime, &async_runtime, &selection, false, told.as_ref(), printer);
    artifacts::keep(&runtime.memo, false);
    let inputs = Inputs::new(Arc::clone(&runtime));
    let called = called("test", global, args);
    let announcer = announce::begin(&runtime, &called, printer);
    let show = |result: &run::TestResult| {
        if let (Some(told), Some(events)) = (&told, printer.stream()) {
            events.write_all(told.test(result));
        }
        if printer.shows_progress() {
            printer.result(test_line(printer, result).trim_start());
        }
    };
    let tests = async_runtime.block_on(run::run_tests(&inputs, &selection, &show));
    targets::note_read(&inputs, printer);
    let seconds = start.elapsed().as_secs_f64();
    let report = RunReport { seconds, tests, unit_tests, ..RunReport::begun(&runtime.options) };
    artifacts::write_run_results(&runtime, &report, &called)?;
    announce::finish(announcer, &inputs, &async_runtime, &report, printer);
    async_runtime.block_on(remember(&inputs, &report, &called, printer));
    if let (Some(told), Some(events)) = (&told, printer.stream()) {
        events.write_all(told.finish(&report));
    } else if !printer.is_json() {
        printer.result(&summary(&report, printer));
    }
    if printer.is_json() {
        printer.json(&serde_json::to_value(&report)?);
    }
    channels::finish(&inputs, &async_runtime, &report, &called, None, printer);
    Ok(if report.succeeded() { ExitStatus::Fine } else { ExitStatus::Failed })
}

/// The tests that are built in: their names, what they take, what they say.
fn list(printer: &Printer) {
    if printer.is_json() {
        let tests: Vec<serde_json::Value> = checks::all().map(|test| {
            let parameters = test.parameters.iter().map(|p| serde_json::json!({"names": p.names, "required": p.required}));
            serde_json::json!({"names": test.names, "about": test.about, "parameters": parameters.collect::<Vec<_>>()})
        }).collect();
        printer.json(&tests.into());
        return;
    }
    for test in checks::all() {
        let needed = test.parameters.iter().filter(|parameter| parameter.required).map(|p| p.names[0].to_owned());
        let others =
            test.parameters.iter().filter(|parameter| !parameter.required).map(|p| format!("[{}]", p.names[0]));
        let parameters = needed.chain(others).collect::<Vec<_>>().join(" ");
        let parameters =
            if parameters.is_empty() { parameters } else { format!("  {}", printer.paint(Paint::Cyan, &parameters)) };
        printer.result(&format!("{}{parameters}", printer.paint(Paint::Bold, test.name())));
        printer.result(&format!("    {}", test.about));
        if test.names.len() > 1 {
            printer.result(&printer.paint(Paint::Dim, &format!("    also {}", test.names[1..].join(", "))));
        }
    }
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
    let time = printer.paint(Paint::Dim, &cost(report));
    if parts.is_empty() { format!("{total}  {time}") } else { format!("{total}: {}  {time}", parts.join(", ")) }
}
