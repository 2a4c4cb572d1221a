//! `lake build --dry-run` and `lake why`: what a run would do, and why.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};

use super::args::{Global, SelectArgs, WhyArgs};
use super::printer::{Paint, Printer, aligned};
use super::show::named;
use super::{ExitStatus, Pipeline};
use crate::names::TableName;
use crate::run::{self, Failure, Inputs, Plan, Planned, PlannedExport, Reads, Schedule, SharedRuntime, TestMode};
use crate::session;
use crate::words::{plural, sql_text, thousands};

/// Prints what a run of a schedule would do.
pub(super) fn dry_run(
    runtime: &SharedRuntime,
    async_runtime: &tokio::runtime::Runtime,
    schedule: &Schedule,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let inputs = Arc::new(Inputs::new(Arc::clone(runtime)));
    let (planned, exports) = async_runtime.block_on(async {
        let planned = run::preview(&inputs, schedule).await;
        let exports = inputs.preview_exports(schedule, &planned).await;
        (planned, exports)
    });
    let plans = || planned.iter().map(|planned| planned.plan).chain(exports.iter().map(|export| export.plan));
    let fails = plans().any(|plan| plan == Plan::Fail);
    let status = if fails { ExitStatus::Failed } else { ExitStatus::Fine };
    if printer.is_json() {
        printer.json(&serde_json::json!({ "plan": planned, "exports": exports }));
        return Ok(status);
    }
    let models = planned.iter().map(|planned| {
        let reads: Vec<String> = planned.reads.iter().map(read).collect();
        let reads = if reads.is_empty() { String::new() } else { format!("reads {}", reads.join(", ")) };
        let what = if planned.how.is_empty() { planned.materialized } else { planned.how };
        [word(planned.plan), planned.name.as_str(), what, &planned.reason, &reads].map(str::to_owned).to_vec()
    });
    let files = exports.iter().map(|export| {
        let to = if export.plan == Plan::Skip { String::new() } else { format!("writes {}", export.path) };
        [word(export.plan), export.name.table, "export", &export.reason, &to].map(str::to_owned).to_vec()
    });
    let rows: Vec<Vec<String>> = models.chain(files).collect();
    for (line, plan) in aligned(&rows, &[]).iter().zip(plans()) {
        let (first, rest) = line.split_at(line.find(' ').unwrap_or(line.len()));
        printer.result(&format!("{}{rest}", printer.paint(paint(plan), first)));
    }
    let counted = [
        (Plan::Build, "to build"),
        (Plan::Maybe, "may follow"),
        (Plan::Skip, "to skip"),
        (Plan::Fail, "cannot be built"),
    ];
    let counted: Vec<String> = counted
        .into_iter()
        .map(|(plan, what)| (plans().filter(|found| *found == plan).count(), what))
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    printer.note(&counted.join(", "));
    Ok(status)
}

fn word(plan: Plan) -> &'static str {
    match plan {
        Plan::Build => "build",
        Plan::Skip => "skip",
        Plan::Maybe => "maybe",
        Plan::View => "view",
        Plan::Fail => "FAIL",
    }
}

fn paint(plan: Plan) -> Paint {
    match plan {
        Plan::Build => Paint::Green,
        Plan::Maybe => Paint::Yellow,
        Plan::Fail => Paint::Red,
        Plan::Skip | Plan::View => Paint::Dim,
    }
}

fn read(reads: &Reads) -> String {
    let from = reads.from.as_ref().map(|from| format!(" from {from}")).unwrap_or_default();
    format!("{}{from} ({}, {} bytes)", reads.name, plural(reads.files, "file"), thousands(reads.bytes))
}

/// Says why a model would be built now or not, and what the last run did with it.
pub(super) fn why(global: &Global, args: &WhyArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    let name = named(&pipeline.project, &args.model)?.clone();
    anyhow::ensure!(pipeline.project.models.contains_key(&name), "`{name}` is a source: only models are built");
    // Where what it reads may be of another lake, the question is about a run of this model alone.
    let above = if args.defer.defer_to.is_some() { "" } else { "+" };
    let choice = pipeline.choose(&SelectArgs { select: vec![format!("{above}{name}")], ..SelectArgs::default() })?;
    let Ok(mut compiled) = pipeline.compile(printer)? else { return Ok(ExitStatus::Wrong) };
    compiled.deferral = args.defer.open(&compiled.project, [name.clone()].into())?;
    let selection = choice.over(&compiled)?;
    let schedule = run::schedule(&compiled.project, &compiled.graph, &compiled.compiled, &selection, TestMode::Gate);
    let (runtime, async_runtime) = compiled.into_runtime()?;
    let inputs = Arc::new(Inputs::new(Arc::clone(&runtime)));
    let planned = async_runtime.block_on(run::preview(&inputs, &schedule));
    let exports = async_runtime.block_on(inputs.preview_exports(&schedule, &planned));
    let exports: Vec<&PlannedExport> = exports.iter().filter(|export| export.model == name).collect();
    let last = async_runtime.block_on(last_run(&inputs, &runtime, &name))?;
    let Some(own) = planned.iter().find(|planned| planned.name == name) else {
        anyhow::bail!("`{name}` is ephemeral: its SQL is part of what reads it");
    };
    if printer.is_json() {
        let before: Vec<&Planned> = planned
            .iter()
            .filter(|planned| matches!(planned.plan, Plan::Build | Plan::Maybe) && planned.name != name)
            .collect();
        printer.json(&serde_json::json!({ "planned": own, "before": before, "exports": exports, "last_run": last }));
        return Ok(ExitStatus::Fine);
    }
    let verb = match own.plan {
        Plan::Build => "would be built",
        Plan::Skip => "would be skipped",
        Plan::Maybe => "would be built",
        Plan::View => "has no table",
        Plan::Fail => "cannot be built",
    };
    let how = if own.how.is_empty() { String::new() } else { format!(" ({})", own.how) };
    let verb = printer.paint(paint(own.plan), verb);
    printer.result(&format!("{}  {verb}{how}: {}", printer.paint(Paint::Bold, own.name.as_str()), own.reason));
    for reads in own.reads.iter().filter(|_| own.plan == Plan::Build) {
        printer.result(&format!("    reads {}", read(reads)));
        for path in &reads.paths {
            printer.result(&printer.paint(Paint::Dim, &format!("        {path}")));
        }
    }
    chain(&planned, own, 1, printer);
    for export in exports {
        let what = match export.plan {
            Plan::Build => "would be written",
            Plan::Fail => "cannot be written",
            _ => word(export.plan),
        };
        let what = printer.paint(paint(export.plan), what);
        printer.result(&format!("export  {} to {}  {what}: {}", export.name.table, export.path, export.reason));
    }
    if let Some(last) = last {
        printer.result(&format!(
            "last run  {} UTC  {}  {}",
            last.at,
            [last.status, last.action].join(" ").trim_end(),
            last.reason
        ));
    }
    Ok(ExitStatus::Fine)
}

/// What a node waits for, and what these wait for.
fn chain(planned: &[Planned], of: &Planned, depth: usize, printer: &Printer) {
    for before in planned.iter().filter(|planned| of.after.contains(&planned.name)) {
        let word = printer.paint(paint(before.plan), word(before.plan));
        printer.result(&format!("{}{word} {}: {}", "    ".repeat(depth), before.name, before.reason));
        chain(planned, before, depth + 1, printer);
    }
}

/// What became of a model in the last run that had it.
#[derive(serde::Serialize)]
struct LastRun {
    at: String,
    invocation_id: String,
    status: String,
    action: String,
    reason: String,
}

async fn last_run(inputs: &Inputs, runtime: &SharedRuntime, name: &TableName) -> Result<Option<LastRun>, Failure> {
    let sql = format!(
        "select cast(date_trunc('second', cast(started_at as timestamp)) as varchar), invocation_id, status, action, reason \
         from _lake.node_results where node = {} order by started_at desc limit 1",
        sql_text(name.as_str())
    );
    // Before the first run of all there is no such table.
    let Ok(plan) = inputs.plan_query(&sql).await else { return Ok(None) };
    let batches: Vec<RecordBatch> = session::query(&runtime.session, plan).collect().await?;
    let Some(batch) = batches.iter().find(|batch| batch.num_rows() > 0) else { return Ok(None) };
    let text = |column: usize| {
        let values = batch.column(column).as_string_opt::<i32>();
        values.filter(|values| values.is_valid(0)).map(|values| values.value(0).to_owned()).unwrap_or_default()
    };
    Ok(Some(LastRun {
        at: text(0).replace('T', " "),
        invocation_id: text(1),
        status: text(2),
        action: text(3),
        reason: text(4),
    }))
}
