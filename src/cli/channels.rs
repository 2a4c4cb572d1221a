//! Alerts: channels are told how a run ended, and `lake notify` says whether they can be.
//!
//! They never decide how a run ends: what cannot be sent is a warning.

use std::collections::BTreeSet;

use chrono::Utc;
use clap::Args;
use futures::StreamExt;
use serde_json::json;
use tokio::runtime;

use super::args::Global;
use super::pipeline::Compiled;
use super::printer::{Paint, Printer};
use super::{ExitStatus, Pipeline};
use crate::alerts::{self, Happened, Outcome, RunFacts, Told};
use crate::diagnostics::Diagnostics;
use crate::graph::SelectError;
use crate::names::{TableName, nearest};
use crate::project::{self, Channel, LoadOptions, Occasion, ProjectFiles, TestSeverity};
use crate::run::{self, FreshnessResult, Inputs, RunReport, Schedule, SharedRuntime};

/// Sources that are looked at at once.
const AT_ONCE: usize = 4;

/// `lake notify`
#[derive(Debug, Args)]
pub(super) struct NotifyArgs {
    /// Send a test message to this channel, or to all of the target
    #[arg(long, value_name = "CHANNEL", num_args = 0..=1)]
    test: Option<Option<String>>,
}

/// Lists channels, or sends test messages.
pub(super) fn run(global: &Global, args: &NotifyArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    let Ok(pipeline) = pipeline.checked(printer) else { return Ok(ExitStatus::Wrong) };
    let project = &pipeline.project;
    let target = &project.target.name;
    if project.notifications.is_empty() {
        printer.note("project.yml has no channels: see `notifications:` in docs/alerts.md");
        return Ok(ExitStatus::Fine);
    }
    let Some(which) = &args.test else {
        list(&project.notifications, target, printer);
        return Ok(ExitStatus::Fine);
    };
    let mut channels: Vec<&Channel> = match which {
        Some(name) => vec![named(&project.notifications, name)?],
        None => project.notifications.iter().filter(|channel| channel.is_of(target)).collect(),
    };
    if which.is_none() {
        channels.retain(|channel| !is_off(channel));
    }
    if channels.is_empty() {
        printer.note(&format!("no channel is told of runs on target `{target}`: see `lake notify`"));
    }
    let facts = pipeline.facts("notify");
    let outcomes = alerts::tell_test(&channels, &project.folder, &facts);
    if printer.is_json() {
        let each = outcomes.iter().map(|outcome| {
            json!({"channel": outcome.channel, "type": outcome.kind.name(), "sent": outcome.error.is_none(), "error": outcome.error})
        });
        printer.json(&each.collect());
    } else {
        let (rows, paints): (Vec<_>, Vec<_>) = outcomes.iter().map(tested).unzip();
        printer.verdicts(&rows, paints.into_iter());
    }
    let failed = outcomes.iter().any(|outcome| outcome.error.is_some());
    Ok(if failed { ExitStatus::Failed } else { ExitStatus::Fine })
}

fn tested(outcome: &Outcome) -> (Vec<String>, Paint) {
    let (word, paint) = if outcome.error.is_some() { ("failed", Paint::Red) } else { ("sent", Paint::Green) };
    let why = outcome.error.clone().unwrap_or_default();
    (vec![word.to_owned(), outcome.channel.clone(), outcome.kind.name().to_owned(), why], paint)
}

fn named<'a>(channels: &'a [Channel], name: &str) -> Result<&'a Channel, SelectError> {
    channels.iter().find(|channel| channel.name == name).ok_or_else(|| {
        let known: Vec<&str> = channels.iter().map(|channel| channel.name.as_str()).collect();
        let help = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("project.yml has {}", known.join(", ")),
        };
        SelectError { message: format!("there is no channel `{name}`"), help: Some(help) }
    })
}

/// `ready  oncall  slack  failure, recovery`.
fn list(channels: &[Channel], target: &str, printer: &Printer) {
    let states = channels.iter().map(|channel| match (channel.is_of(target), channel.reach()) {
        (false, _) => ("other", Paint::Dim, format!("not for target `{target}`")),
        (true, Ok(Some(_))) => ("ready", Paint::Green, String::new()),
        (true, Ok(None)) => ("off", Paint::Dim, "its address is empty".to_owned()),
        (true, Err(why)) => ("error", Paint::Red, why),
    });
    let states: Vec<_> = states.collect();
    let on = |channel: &Channel| channel.on.iter().map(|occasion| occasion.name()).collect::<Vec<_>>();
    if printer.is_json() {
        let each = channels.iter().zip(&states).map(|(channel, (state, _, why))| {
            let why = Some(why).filter(|why| !why.is_empty());
            json!({"channel": channel.name, "type": channel.kind.name(), "on": on(channel), "state": state, "reason": why})
        });
        printer.json(&each.collect());
        return;
    }
    let rows: Vec<Vec<String>> = channels
        .iter()
        .zip(&states)
        .map(|(channel, (state, _, why))| {
            let words = [*state, &channel.name, channel.kind.name(), &on(channel).join(", "), why.as_str()];
            words.map(str::to_owned).to_vec()
        })
        .collect();
    printer.verdicts(&rows, states.iter().map(|(_, paint, _)| *paint));
}

/// Tells how a run ended. With a schedule, the sources are looked at that it reads.
pub(super) fn finish(
    inputs: &Inputs,
    async_runtime: &runtime::Runtime,
    report: &RunReport,
    called: &serde_json::Value,
    schedule: Option<&Schedule>,
    printer: &Printer,
) {
    let runtime = inputs.runtime();
    let channels = of_target(&runtime.project.notifications, &runtime.project.target.name);
    if !runtime.options.notify || channels.is_empty() {
        return;
    }
    let command = called["which"].as_str().unwrap_or("run");
    let mut happened = alerts::of_report(runtime, report, command);
    if let Some(schedule) = schedule
        && channels.iter().any(|channel| channel.on.contains(&Occasion::Freshness))
    {
        let results = async_runtime.block_on(look(inputs, schedule));
        alerts::of_freshness(runtime, &results, &mut happened);
    }
    tell(inputs, async_runtime, &channels, &happened, printer);
}

/// Tells how fresh sources are.
pub(super) fn freshness(
    inputs: &Inputs,
    async_runtime: &runtime::Runtime,
    results: &[FreshnessResult],
    printer: &Printer,
) {
    let runtime = inputs.runtime();
    let channels = of_target(&runtime.project.notifications, &runtime.project.target.name);
    if !runtime.options.notify || channels.is_empty() {
        return;
    }
    let mut happened = alerts::of_report(runtime, &RunReport::begun(&runtime.options), "source freshness");
    alerts::of_freshness(runtime, results, &mut happened);
    if happened.problems.iter().any(|problem| problem.severity == TestSeverity::Error) {
        happened.run.status = "error";
    }
    tell(inputs, async_runtime, &channels, &happened, printer);
}

/// Sources that the steps of a run read, where that takes neither a query over all files nor a listing that the run saves.
async fn look(inputs: &Inputs, schedule: &Schedule) -> Vec<FreshnessResult> {
    let runtime = inputs.runtime();
    let parents = schedule.steps.iter().flat_map(|step| runtime.graph.parents(&step.name));
    let read: BTreeSet<&TableName> = parents.collect();
    let is_cheap = |name: &&TableName| {
        let ingestion = runtime.project.sources.get(*name).map(|source| &source.ingestion);
        ingestion.is_some_and(|how| how.loaded_at_field.is_none() && how.incremental_listing.is_none())
    };
    let looks: Vec<_> = read.into_iter().filter(is_cheap).map(|name| run::source_freshness(inputs, name)).collect();
    let results: Vec<_> = futures::stream::iter(looks).buffered(AT_ONCE).collect().await;
    results.into_iter().flatten().collect()
}

/// Tells that a project does not compile.
pub(super) fn not_compiled(mut compiled: Compiled, command: &str, denied: bool, printer: &Printer) {
    let diagnostics = std::mem::take(&mut compiled.diagnostics);
    let happened = |facts: RunFacts| alerts::of_diagnostics(facts, &diagnostics, denied && !diagnostics.has_errors());
    without_run(compiled, command, happened, printer);
}

/// Tells that a run did not come to its end.
pub(super) fn died(global: &Global, command: &str, error: &anyhow::Error, printer: &Printer) {
    let why = match error.downcast_ref::<run::Failure>() {
        Some(failure) => failure.to_string(),
        None => format!("{error:#}"),
    };
    // It has loaded before, or it cannot be read at all.
    let Ok(Ok(pipeline)) = Pipeline::load(&Global { watched: None, ..global.clone() }, printer) else { return };
    if pipeline.project.notifications.is_empty() {
        return;
    }
    let Ok(compiled) = pipeline.uncompiled() else { return };
    without_run(compiled, command, |facts| Happened::died(facts, why), printer);
}

fn without_run(compiled: Compiled, command: &str, happened: impl FnOnce(RunFacts) -> Happened, printer: &Printer) {
    let project = &compiled.project;
    let channels = of_target(&project.notifications, &project.target.name);
    if channels.is_empty() {
        return;
    }
    let folder = project.folder.clone();
    let happened = happened(compiled.facts(command));
    match compiled.into_runtime() {
        Ok((runtime, async_runtime)) => {
            let inputs = Inputs::new(SharedRuntime::clone(&runtime));
            tell(&inputs, &async_runtime, &channels, &happened, printer);
            async_runtime.shutdown_background();
        }
        // A lake that cannot be reached remembers nothing.
        Err(_) => show(&alerts::tell(&channels, &folder, None, &happened, &[]), printer),
    }
}

/// Tells that a project cannot even be loaded, if its channels can be read.
pub(super) fn not_loaded(
    files: &ProjectFiles,
    options: &LoadOptions,
    diagnostics: &Diagnostics,
    command: &str,
    printer: &Printer,
) {
    let Some((project, target, channels)) = project::channels_alone(files, options) else { return };
    let facts = RunFacts {
        project,
        target,
        has_targets: false,
        command: command.to_owned(),
        invocation_id: options.invocation_id.clone(),
        started_at: options.run_started_at,
        seconds: (Utc::now() - options.run_started_at).num_milliseconds() as f64 / 1000.0,
        status: "invalid",
        counts: [0; 4],
    };
    let happened = alerts::of_diagnostics(facts, diagnostics, false);
    show(&alerts::tell(&channels, &files.folder, None, &happened, &[]), printer);
}

/// Channels that are told of runs on a target, and are not turned off by the environment.
fn of_target(channels: &[Channel], target: &str) -> Vec<Channel> {
    let is_on = |channel: &&Channel| channel.is_of(target) && !is_off(channel);
    channels.iter().filter(is_on).cloned().collect()
}

fn is_off(channel: &Channel) -> bool {
    matches!(channel.reach(), Ok(None))
}

/// Tells what is new beside what the lake remembers, and lets it remember that.
fn tell(
    inputs: &Inputs,
    async_runtime: &runtime::Runtime,
    channels: &[Channel],
    happened: &Happened,
    printer: &Printer,
) {
    let runtime = inputs.runtime();
    let before = async_runtime.block_on(run::alerted(inputs)).unwrap_or_else(|failure| {
        printer.mishap(&format!("what channels were told cannot be read, so all is told: {failure}"));
        Vec::new()
    });
    let world = Some((&runtime.project, &runtime.graph));
    let told = alerts::tell(channels, &runtime.folder, world, happened, &before);
    if !told.rows.is_empty()
        && let Err(failure) = async_runtime.block_on(run::note_alerts(inputs, &told.rows))
    {
        printer.mishap(&format!("what channels were told is not noted in the lake, so it is told again: {failure}"));
    }
    show(&told, printer);
}

fn show(told: &Told, printer: &Printer) {
    for outcome in &told.outcomes {
        let channel = format!("{} ({})", outcome.channel, outcome.kind.name());
        match &outcome.error {
            None => printer.note(&format!("told {channel}: {}", outcome.told)),
            Some(why) => printer.mishap(&format!("could not tell {channel}: {why}")),
        }
    }
}
