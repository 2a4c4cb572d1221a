//! `lake source`: the files of a source, and how fresh it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;

use super::args::{Global, SelectArgs, SourceCommand, SourceFilesArgs, SourceReplayArgs};
use super::printer::{Paint, Printer};
use super::{ExitStatus, Pipeline, build, channels, infer};
use crate::artifacts::{self, RunEvents};
use crate::graph::SelectError;
use crate::names::{TableName, nearest};
use crate::run::{self, FileState, FreshnessResult, FreshnessStatus, Inputs, Intake, TestMode};
use crate::words::{duration, thousands};

/// Sources that are looked at at once.
const AT_ONCE: usize = 4;

pub(super) fn run(global: &Global, command: &SourceCommand, printer: &Printer) -> anyhow::Result<ExitStatus> {
    match command {
        SourceCommand::Files(args) => files(global, args, printer),
        SourceCommand::Freshness(args) => freshness(global, args, printer),
        SourceCommand::Infer(args) => infer::run(global, args, printer),
        SourceCommand::Replay(args) => replay(global, args, printer),
    }
}

fn replay(global: &Global, args: &SourceReplayArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    let source = find("source", &args.source, pipeline.project.sources.keys())?;
    let model = args.model.as_ref().map(|name| find("model", name, pipeline.project.models.keys())).transpose()?;
    let mut models = run::models_that_take_in(&pipeline.project, &source);
    models.retain(|name| model.as_ref().is_none_or(|only| only == name));
    if models.is_empty() {
        let message = match model {
            Some(model) => format!("`{model}` does not take in files of `{source}`"),
            None => format!("no incremental model takes in files of `{source}`"),
        };
        return Err(SelectError { message, help: None }.into());
    }
    let select = SelectArgs { select: models.iter().map(ToString::to_string).collect(), ..SelectArgs::default() };
    let choice = pipeline.choose(&select)?;
    let Ok(compiled) = pipeline.compile(printer)? else { return Ok(ExitStatus::Wrong) };
    let selection = choice.over(&compiled)?;
    let mode = TestMode::Gate;
    let schedule = run::schedule(&compiled.project, &compiled.graph, &compiled.compiled, &selection, mode);
    let (runtime, async_runtime) = compiled.into_runtime_for(false, false, None, Some(source), None)?;
    let called = serde_json::json!({"which": "source replay", "source": args.source, "model": args.model});
    let told = build::begin_events(&runtime, &schedule, 0, printer);
    build::run_schedule(runtime, async_runtime, &schedule, told.as_ref(), &called, printer)
}

fn files(global: &Global, args: &SourceFilesArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    let source = find("source", &args.source, pipeline.project.sources.keys())?;
    let model = args.model.as_ref().map(|name| find("model", name, pipeline.project.models.keys())).transpose()?;
    let Ok(compiled) = pipeline.compile(printer)? else { return Ok(ExitStatus::Wrong) };
    let (runtime, async_runtime) = compiled.into_runtime()?;
    let inputs = Inputs::new(Arc::clone(&runtime));
    let failed = artifacts::read_failed_files(&runtime.folder);
    let mut states = async_runtime.block_on(run::source_files(&inputs, &source, model.as_ref(), &failed))?;
    let wanted = |state: &FileState| match state.state {
        Intake::Loaded => args.loaded,
        Intake::Pending | Intake::Changed => args.pending,
        Intake::Failed => args.failed || args.pending,
        Intake::Removed => false,
    };
    let any = args.loaded || args.pending || args.failed;
    states.retain(|state| !any || wanted(state));
    if printer.is_json() {
        printer.json(&serde_json::to_value(&states)?);
    } else {
        print_files(&states, &source, any, printer);
    }
    Ok(ExitStatus::Fine)
}

/// `loaded  silver.views  2024-08-20.csv  1,234 bytes  2026-11-21 08:27:05`.
fn print_files(states: &[FileState], source: &TableName, filtered: bool, printer: &Printer) {
    let width = |text: &dyn Fn(&FileState) -> String| {
        states.iter().map(|state| text(state).chars().count()).max().unwrap_or_default()
    };
    let (model_width, path_width) = (width(&|state| state.model.to_string()), width(&|state| state.path.clone()));
    let size_width = width(&|state| thousands(state.size));
    let mut counts: BTreeMap<Intake, u64> = BTreeMap::new();
    for state in states {
        *counts.entry(state.state).or_default() += 1;
        let paint = match state.state {
            Intake::Loaded => Paint::Green,
            Intake::Pending | Intake::Changed => Paint::Yellow,
            Intake::Removed => Paint::Dim,
            Intake::Failed => Paint::Red,
        };
        let time = state.loaded_at.map(|at| at.format("loaded %Y-%m-%d %H:%M:%S").to_string());
        let place = state.archived.then(|| "archived".to_owned());
        let notes: Vec<String> = [time, place, state.error.clone()].into_iter().flatten().collect();
        let line = format!(
            "{}  {:<model_width$}  {:<path_width$}  {:>size_width$} bytes  {}",
            printer.paint(paint, &format!("{:<7}", word(state.state))),
            state.model.to_string(),
            state.path,
            thousands(state.size),
            notes.join(", "),
        );
        printer.result(line.trim_end());
    }
    let parts: Vec<String> =
        counts.iter().map(|(state, count)| format!("{} {}", thousands(*count), word(*state))).collect();
    printer.note(&match (parts.is_empty(), filtered) {
        (false, _) => parts.join(", "),
        (true, true) => "no such files".to_owned(),
        (true, false) => format!("`{source}` has no files, or no incremental model takes them in"),
    });
}

fn word(state: Intake) -> &'static str {
    match state {
        Intake::Loaded => "loaded",
        Intake::Pending => "pending",
        Intake::Changed => "changed",
        Intake::Removed => "removed",
        Intake::Failed => "failed",
    }
}

/// A source or model by its full name, or by the part after the dot if only one has it.
fn find<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a TableName>) -> anyhow::Result<TableName> {
    let known: Vec<&TableName> = known.collect();
    let full = known.iter().find(|known| known.to_string() == name);
    let short: Vec<_> = known.iter().filter(|known| known.table == name).collect();
    match (full, short.as_slice()) {
        (Some(found), _) => Ok((**found).clone()),
        (None, [only]) => Ok((**only).clone()),
        (None, several) => {
            let message = match several.is_empty() {
                true => format!("there is no {what} `{name}`"),
                false => format!(
                    "there are several: {}",
                    several.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
                ),
            };
            let names: Vec<String> =
                known.iter().flat_map(|known| [known.to_string(), known.table.to_owned()]).collect();
            let help = nearest(name, names.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
            Err(SelectError { message, help: help.filter(|_| several.is_empty()) }.into())
        }
    }
}

fn freshness(global: &Global, args: &SelectArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    let choice = pipeline.choose(args)?;
    let Ok(compiled) = pipeline.compile(printer)? else { return Ok(ExitStatus::Wrong) };
    let selection = choice.over(&compiled)?;
    let (runtime, async_runtime) = compiled.into_runtime()?;
    let start = std::time::Instant::now();
    let inputs = Inputs::new(Arc::clone(&runtime));
    let chosen: Vec<TableName> =
        runtime.project.sources.keys().filter(|name| selection.contains(name)).cloned().collect();
    let looks: Vec<_> = chosen.iter().map(|name| run::source_freshness(&inputs, name)).collect();
    let results: Vec<Option<FreshnessResult>> =
        async_runtime.block_on(futures::stream::iter(looks).buffered(AT_ONCE).collect());
    let results: Vec<FreshnessResult> = results.into_iter().flatten().collect();
    let written = artifacts::write_freshness(&runtime, &results, start.elapsed().as_secs_f64())?;
    if let Some(events) = printer.stream() {
        let told = RunEvents::new(&runtime, results.len());
        let facts = written["results"].as_array().into_iter().flatten();
        events.write_all(results.iter().zip(facts).map(|(result, facts)| told.freshness(result, facts)));
    } else if !printer.is_json() {
        print_freshness(&results, printer);
    }
    if printer.is_json() {
        printer.json(&written);
    }
    channels::freshness(&inputs, &async_runtime, &results, printer);
    let stale =
        |result: &FreshnessResult| matches!(result.status, FreshnessStatus::Error | FreshnessStatus::RuntimeError);
    Ok(if results.iter().any(stale) { ExitStatus::Failed } else { ExitStatus::Fine })
}

fn print_freshness(results: &[FreshnessResult], printer: &Printer) {
    let width = results.iter().map(|result| result.source.to_string().chars().count()).max().unwrap_or_default();
    for result in results {
        let (paint, word) = match result.status {
            FreshnessStatus::Pass => (Paint::Green, "pass"),
            FreshnessStatus::Warn => (Paint::Yellow, "warn"),
            FreshnessStatus::Error => (Paint::Red, "stale"),
            FreshnessStatus::RuntimeError => (Paint::Red, "error"),
        };
        let text = match (&result.error, result.age()) {
            (Some(error), _) => error.clone(),
            (None, age) => format!("{} old", duration(age.unwrap_or_default())),
        };
        let limits = [("warns", result.criteria.warn_after), ("fails", result.criteria.error_after)];
        let limits: Vec<String> = limits
            .iter()
            .filter_map(|(word, limit)| limit.map(|limit| format!("{word} after {}", duration(limit.seconds() as f64))))
            .collect();
        let limits = printer.paint(Paint::Dim, &limits.join(", "));
        let status = printer.paint(paint, &format!("{word:<5}"));
        printer.result(&format!("{status}  {:<width$}  {text}  {limits}", result.source.to_string()));
    }
    if results.is_empty() {
        printer.note(
            "no selected source says what is fresh: give it `freshness: { warn_after: { count: 1, period: day } }`",
        );
    }
}
