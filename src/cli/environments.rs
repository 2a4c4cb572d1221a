//! `lake clone` and `lake promote`: tables of one target in another, without computing them.

use std::sync::Arc;

use super::args::Global;
use super::build::{not_noted, resume};
use super::environment_args::{CloneArgs, PromoteArgs};
use super::printer::{Paint, Printer};
use super::{ExitStatus, Pipeline, targets};
use crate::artifacts::RunEvents;
use crate::names::TableName;
use crate::run::{self, Inputs, NodeResult, Other, RunReport, Status, Taking, Wanted};
use crate::words::plural;

pub(super) fn clone(global: &Global, args: &CloneArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    take_over(global, args, Wanted { taking: Taking::Clone, atomic: false, dry_run: args.dry_run }, printer)
}

pub(super) fn promote(global: &Global, args: &PromoteArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let wanted = Wanted { taking: Taking::Promote, atomic: args.atomic, dry_run: args.tables.dry_run };
    take_over(global, &args.tables, wanted, printer)
}

fn take_over(global: &Global, args: &CloneArgs, wanted: Wanted, printer: &Printer) -> anyhow::Result<ExitStatus> {
    // The project is that of the target which gets the tables: it decides what they have to be.
    let global = Global { target: args.to.clone().or_else(|| global.target.clone()), ..global.clone() };
    let Ok(pipeline) = Pipeline::load(&global, printer)? else { return Ok(ExitStatus::Wrong) };
    let from = targets::named(&pipeline.project, &args.from)?;
    let to = &pipeline.project.target;
    anyhow::ensure!(from.name != to.name, "--from and --to are both `{}`: name two targets", to.name);
    let other = Other { lake: targets::open(&pipeline.project, &from)?, target: from.name };
    let choice = pipeline.choose(&args.selection)?;
    let Ok(compiled) = pipeline.compile(printer)? else { return Ok(ExitStatus::Wrong) };
    let selection = choice.over(&compiled)?;
    let is_wanted = |name: &&TableName| {
        selection.contains(name) && compiled.project.models.get(*name).is_some_and(|model| model.is_stored())
    };
    let names: Vec<TableName> = compiled.graph.order().iter().filter(is_wanted).cloned().collect();
    let (runtime, async_runtime) = compiled.into_runtime()?;
    anyhow::ensure!(
        other.lake.root() != runtime.lake.root(),
        "targets `{}` and `{}` have one root, {}: there is nothing to take over",
        other.target,
        runtime.project.target.name,
        runtime.lake.root()
    );
    let inputs = Inputs::new(Arc::clone(&runtime));
    if !wanted.dry_run {
        async_runtime.block_on(resume(&runtime.lake, printer))?;
    }
    let (report, failure) = async_runtime.block_on(run::take_over(&inputs, &other, &names, wanted));
    if let Some(failure) = failure {
        not_noted(&failure, printer);
    }
    if let Some(events) = printer.stream() {
        events.write_all(RunEvents::new(&runtime, report.nodes.len()).finish(&report));
    } else if !printer.is_json() {
        print(&report, wanted, printer);
    }
    if printer.is_json() {
        printer.json(&serde_json::to_value(&report)?);
    }
    Ok(if report.succeeded() { ExitStatus::Fine } else { ExitStatus::Failed })
}

fn print(report: &RunReport, wanted: Wanted, printer: &Printer) {
    let word = |node: &NodeResult| match node.status {
        Status::Success => ("ok", Paint::Green),
        Status::Skipped => ("skip", Paint::Cyan),
        Status::Blocked => ("block", Paint::Yellow),
        Status::Error | Status::Cancelled => ("FAIL", Paint::Red),
    };
    let row = |node: &NodeResult| {
        let rows = node.rows.map(|rows| plural(rows, "row")).unwrap_or_default();
        let what = match node.status {
            Status::Success if rows.is_empty() => node.reason.clone(),
            Status::Success => format!("{rows}, {}", node.reason),
            _ => node.reason.clone(),
        };
        vec![word(node).0.to_owned(), node.name.to_string(), what]
    };
    let rows: Vec<Vec<String>> = report.nodes.iter().map(row).collect();
    printer.verdicts(&rows, report.nodes.iter().map(|node| word(node).1));
    let done = match (wanted.taking, wanted.dry_run) {
        (Taking::Clone, false) => "cloned",
        (Taking::Clone, true) => "would be cloned",
        (Taking::Promote, false) => "promoted",
        (Taking::Promote, true) => "would be promoted",
    };
    let counts = [
        (Status::Success, done),
        (Status::Skipped, "skipped"),
        (Status::Error, "refused"),
        (Status::Blocked, "blocked"),
    ];
    let counts: Vec<String> = counts
        .iter()
        .map(|(status, word)| (report.count(*status), word))
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let counts = if counts.is_empty() { "nothing selected".to_owned() } else { counts.join(", ") };
    printer.result(&format!("{counts}  {}", printer.paint(Paint::Dim, &format!("in {:.2}s", report.seconds))));
}
