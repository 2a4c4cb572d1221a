//! `lake build`, `lake run` and `lake seed`.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;

use super::args::{Global, RunArgs, SeedArgs};
use super::pipeline::record;
use super::printer::{Paint, Printer};
use super::progress::Progress;
use super::retry::called;
use super::{ExitStatus, Pipeline, announce, channels, plan, signals, unit};
use crate::artifacts::{self, Announcer, RunEvents};
use crate::bronze::Slice;
use crate::intervals::{self, Interval};
use crate::names::TableName;
use crate::run::{self, Failure, Inputs, NodeResult, RunReport, Schedule, SharedRuntime, Status, TestMode, TestStatus};
use crate::session;
use crate::tables::{Gauges, Lake, Resumed};
use crate::words::{plural, size};

/// What a command runs of the selected nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// All, with tests: `build`.
    All,
    /// Models: `run`.
    Models,
    /// Seeds: `seed`.
    Seeds,
}

impl What {
    fn command(self) -> &'static str {
        match self {
            Self::All => "build",
            Self::Models => "run",
            Self::Seeds => "seed",
        }
    }
}

/// Loads seeds.
pub(super) fn seed(global: &Global, args: &SeedArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    run(global, &args.into(), What::Seeds, printer)
}

pub(super) fn run(global: &Global, args: &RunArgs, what: What, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    run_loaded(pipeline, global, args, what, printer)
}

/// The same, of a project that is loaded.
pub(super) fn run_loaded(
    pipeline: Pipeline,
    global: &Global,
    args: &RunArgs,
    what: What,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let slice = Slice::new(&args.files, args.since.as_deref(), args.until.as_deref()).map_err(anyhow::Error::msg)?;
    let event_time = event_time(args.event_time_start.as_deref(), args.event_time_end.as_deref())?;
    let choice = pipeline.choose(&args.selection)?;
    let Ok(mut compiled) = pipeline.compile(printer)? else { return Ok(ExitStatus::Wrong) };
    let mut selection = choice.over(&compiled)?;
    let is_seed = |name: &TableName| compiled.project.models.get(name).is_some_and(|model| model.seed.is_some());
    selection.nodes.retain(|name| what == What::All || is_seed(name) == (what == What::Seeds));
    let mode = if what == What::All { TestMode::Gate } else { TestMode::Off };
    let schedule = run::schedule(&compiled.project, &compiled.graph, &compiled.compiled, &selection, mode);
    let mut schedule = if args.atomic { schedule.all_together() } else { schedule };
    compiled.fail_fast = args.fail_fast;
    compiled.prove = !args.no_prove;
    compiled.force = args.force;
    let own = schedule.steps.iter().map(|step| step.name.clone()).collect();
    compiled.deferral = args.defer.open(&compiled.project, own)?;
    let (runtime, async_runtime) =
        compiled.into_runtime_for(args.full_refresh, args.full_listing, slice, None, event_time)?;
    tell_waiting(&runtime, &schedule, printer);
    if args.dry_run {
        return plan::dry_run(&runtime, &async_runtime, &schedule, printer);
    }
    let unit_tests = if what == What::All { unit::selected(&runtime, &selection) } else { 0 };
    let told = begin_events(&runtime, &schedule, unit_tests, printer);
    if what == What::All {
        schedule.unit_tests = unit::run(&runtime, &async_runtime, &selection, true, told.as_ref(), printer);
    }
    run_schedule(runtime, async_runtime, &schedule, told.as_ref(), &called(what.command(), global, args), printer)
}

/// Tests that are not part of a build say what they wait for.
fn tell_waiting(runtime: &SharedRuntime, schedule: &Schedule, printer: &Printer) {
    let mut by_table: BTreeMap<&TableName, Vec<&str>> = BTreeMap::new();
    for (index, table) in &schedule.waiting_tests {
        by_table.entry(table).or_default().push(&runtime.compiled.tests[*index].name);
    }
    for (table, tests) in by_table {
        let (tests, verb) = match tests.as_slice() {
            [one] => (format!("test {one}"), "waits"),
            [one, rest @ ..] => (format!("test {one} and {} more", rest.len()), "wait"),
            [] => continue,
        };
        printer.note(&format!("{tests} {verb} until `{table}` is built, too: it is made of what this run builds"));
    }
}

/// The events of a run, if programs are told of it; the first ones are written.
pub(super) fn begin_events(
    runtime: &SharedRuntime,
    schedule: &Schedule,
    unit_tests: usize,
    printer: &Printer,
) -> Option<RunEvents> {
    let events = printer.stream()?;
    let told = RunEvents::of_schedule(runtime, schedule, unit_tests);
    events.write_all(told.begun());
    Some(told)
}

/// The part of time whose batches are asked for.
fn event_time(start: Option<&str>, end: Option<&str>) -> anyhow::Result<Option<Interval>> {
    let (Some(start), Some(end)) = (start, end) else { return Ok(None) };
    let moment = |flag: &str, text: &str| {
        intervals::moment(text).ok_or_else(|| {
            anyhow::anyhow!("{flag} `{text}` is not a day such as 2026-01-31 or a moment such as 2026-01-31T12:00:00Z")
        })
    };
    let interval = Interval { start: moment("--event-time-start", start)?, end: moment("--event-time-end", end)? };
    anyhow::ensure!(!interval.is_empty(), "--event-time-start `{start}` is not before --event-time-end `{end}`");
    Ok(Some(interval))
}

/// Runs a schedule, and tells what it did.
pub(super) fn run_schedule(
    runtime: SharedRuntime,
    async_runtime: tokio::runtime::Runtime,
    schedule: &Schedule,
    told: Option<&RunEvents>,
    called: &serde_json::Value,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    record(&runtime)?;
    // A run that is killed leaves this, for `lake retry`.
    artifacts::write_run_results(&runtime, &run::unfinished(&runtime, schedule), called)?;
    let inputs = Arc::new(Inputs::new(Arc::clone(&runtime)));
    async_runtime.block_on(resume(&runtime.lake, printer))?;
    let announcer = announce::begin(&runtime, called, printer);
    let gauges = runtime.lake.gauges();
    let report =
        async_runtime.block_on(execute(Arc::clone(&inputs), schedule, (announcer.as_ref(), told), gauges, printer));
    artifacts::write_run_results(&runtime, &report, called)?;
    announce::finish(announcer, &inputs, &async_runtime, &report, printer);
    async_runtime.block_on(remember(&inputs, &report, called, printer));
    artifacts::keep(&runtime.memo, false);
    match (told, printer.stream()) {
        (Some(told), Some(events)) => {
            remarks(&report, printer);
            events.write_all(told.finish(&report));
        }
        _ if printer.is_json() => {}
        _ => {
            remarks(&report, printer);
            summary(&report, printer);
        }
    }
    if printer.is_json() {
        printer.json(&serde_json::to_value(&report)?);
    }
    channels::finish(&inputs, &async_runtime, &report, called, Some(schedule), printer);
    // What still runs on other threads after a stop must not be waited for.
    async_runtime.shutdown_background();
    Ok(match (report.cancelled, report.succeeded()) {
        (true, _) => ExitStatus::Interrupted,
        (false, true) => ExitStatus::Fine,
        (false, false) => ExitStatus::Failed,
    })
}

/// Adds a run to the tables of what happened. The run is over: that it cannot be noted does not undo it.
pub(super) async fn remember(inputs: &Inputs, report: &RunReport, called: &serde_json::Value, printer: &Printer) {
    // Unit tests alone have nothing to do with the lake.
    if report.nodes.is_empty() && report.tests.is_empty() && report.exports.is_empty() {
        return;
    }
    let command = called["which"].as_str().unwrap_or_default();
    if let Err(failure) = run::chronicle(inputs, report, command).await {
        not_noted(&failure, printer);
    }
}

/// Says that the lake's own tables lack this run, which is no failure of it.
pub(super) fn not_noted(failure: &Failure, printer: &Printer) {
    let text = format!("the run is not noted in the lake's own tables: {failure}");
    match printer.events() {
        Some(_) => printer.warning(&text),
        None => printer.failure(&text),
    }
}

/// Finishes what an earlier run had begun to publish together, and could not.
pub(super) async fn resume(lake: &Lake, printer: &Printer) -> anyhow::Result<()> {
    for resumed in lake.resume().await? {
        resumed_note(&resumed, printer);
    }
    Ok(())
}

fn resumed_note(resumed: &Resumed, printer: &Printer) {
    let listed = |names: &[TableName]| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    printer.note(&format!(
        "finished what run {} had begun to publish together: {}",
        resumed.invocation_id,
        listed(&resumed.published)
    ));
    if !resumed.overtaken.is_empty() {
        printer.failure(&format!(
            "another run has published to {} before that was finished: its rows of run {} are not there",
            listed(&resumed.overtaken),
            resumed.invocation_id
        ));
    }
}

async fn execute(
    inputs: Arc<Inputs>,
    schedule: &Schedule,
    (announcer, told): (Option<&Announcer>, Option<&RunEvents>),
    gauges: &Gauges,
    printer: &Printer,
) -> RunReport {
    let stop = Arc::new(Notify::new());
    let signal = Arc::clone(&stop);
    signals::listen();
    let listener = tokio::spawn(async move {
        signals::asked().await;
        signal.notify_one();
    });
    let progress = Progress::new(printer, schedule, gauges);
    let on_event = |event| {
        announcer.into_iter().for_each(|announcer| announcer.on(&event));
        if let (Some(told), Some(events)) = (told, printer.stream()) {
            events.write_all(told.on(&event));
        }
        progress.on(&event);
    };
    let report = run::execute(inputs, schedule, stop, on_event).await;
    progress.finish();
    listener.abort();
    report
}

/// What is to be said of a run beside its numbers.
fn remarks(report: &RunReport, printer: &Printer) {
    for archive in &report.archived {
        match &archive.error {
            Some(error) => printer.failure(error),
            None => printer.note(&format!(
                "{} of {} {} in {}/",
                plural(archive.files as u64, "file"),
                archive.source,
                archive.action,
                archive.to
            )),
        }
    }
    for hook in report.hooks.iter().filter(|hook| !hook.ok) {
        printer.failure(&format!("{} failed: {}", hook.name, hook.output));
    }
    for node in report.nodes.iter().filter(|node| !node.stale.is_empty()) {
        let stale: Vec<String> = node.stale.iter().map(|name| format!("`{name}`")).collect();
        let what = if stale.len() == 1 { "which" } else { "each of which" };
        printer.warning(&format!(
            "`{}` was built on the last good version of {}, {what} failed in this run",
            node.name,
            stale.join(" and ")
        ));
    }
    let refused: Vec<String> =
        report.nodes.iter().filter(|node| node.refused).map(|node| node.name.to_string()).collect();
    if let Some(first) = refused.first() {
        printer.note(&format!("rows that tests refused are kept: lake show --staged {first}"));
    }
}

fn summary(report: &RunReport, printer: &Printer) {
    let mut parts = Vec::new();
    for (status, word, paint) in [
        (Status::Success, "built", Paint::Green),
        (Status::Skipped, "skipped", Paint::Cyan),
        (Status::Error, "failed", Paint::Red),
        (Status::Blocked, "blocked", Paint::Yellow),
        (Status::Cancelled, "cancelled", Paint::Yellow),
    ] {
        let count = report.count(status);
        if count > 0 {
            parts.push(printer.paint(paint, &format!("{count} {word}")));
        }
    }
    if parts.is_empty() && report.unit_tests.is_empty() && report.exports.is_empty() {
        parts.push("nothing selected".to_owned());
    }
    parts.extend(exported(report, printer));
    parts.extend(unit::count(&report.unit_tests));
    let tests = report.all_tests().count();
    if tests > 0 {
        let failed = report.all_tests().filter(|test| test.blocks()).count();
        let warned = report.all_tests().filter(|test| test.status == TestStatus::Warn).count();
        let mut text = plural(tests as u64, "test");
        for (count, word) in [(failed, "failed"), (warned, "warned")] {
            if count > 0 {
                text.push_str(&format!(", {count} {word}"));
            }
        }
        parts.push(text);
    }
    printer.result(&format!("{}  {}", parts.join(", "), printer.paint(Paint::Dim, &cost(report))));
}

/// `in 0.19s, 29,186 rows, 1.2 MB, 223 MB of memory`.
pub(super) fn cost(report: &RunReport) -> String {
    let sum = |of: fn(&NodeResult) -> Option<u64>| report.nodes.iter().filter_map(of).sum::<u64>();
    let (rows, bytes) = (sum(|node| node.rows), sum(|node| node.bytes));
    let written = match rows + bytes {
        0 => String::new(),
        _ => format!(", {}, {}", plural(rows, "row"), size(bytes)),
    };
    format!("in {:.2}s{written}, {} of memory", report.seconds, size(session::usage().peak_memory))
}

/// `2 exported, 1 export failed`.
fn exported(report: &RunReport, printer: &Printer) -> Vec<String> {
    let count = |status: Status| report.exports.iter().filter(|export| export.status == status).count();
    let mut parts = Vec::new();
    if count(Status::Success) > 0 {
        parts.push(printer.paint(Paint::Green, &format!("{} exported", count(Status::Success))));
    }
    if count(Status::Error) > 0 {
        let failed = plural(count(Status::Error) as u64, "export");
        parts.push(printer.paint(Paint::Red, &format!("{failed} failed")));
    }
    parts
}
