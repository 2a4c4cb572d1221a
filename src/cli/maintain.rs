//! `lake maintain`: tables that stay quick to read, and folders without what nobody needs.

use std::sync::Arc;

use super::args::{Global, MaintainArgs};
use super::build::resume;
use super::printer::{Paint, Printer};
use super::{ExitStatus, Pipeline};
use crate::artifacts::RunEvents;
use crate::run::{self, Inputs, Maintained};
use crate::words::{plural, thousands};

pub(super) fn run(global: &Global, args: &MaintainArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    let choice = pipeline.choose(&args.selection)?;
    let Ok(compiled) = pipeline.compile(printer)? else { return Ok(ExitStatus::Wrong) };
    let selection = choice.over(&compiled)?;
    let (runtime, async_runtime) = compiled.into_runtime()?;
    let inputs = Inputs::new(Arc::clone(&runtime));
    if !args.dry_run {
        // A burst that a crash has cut is whole before anything is packed or taken away.
        async_runtime.block_on(resume(&runtime.lake, printer))?;
    }
    let all = args.selection.is_empty();
    let results = async_runtime.block_on(run::maintain(&inputs, &selection.nodes, all, args.dry_run));
    if let Some(events) = printer.stream() {
        let told = RunEvents::new(&runtime, results.len());
        events.write_all(results.iter().map(|result| told.maintained(result)));
    } else if !printer.is_json() {
        print(&results, args.dry_run, printer);
    }
    if printer.is_json() {
        printer.json(&serde_json::to_value(&results)?);
    }
    let failed = results.iter().any(|result| result.error.is_some());
    Ok(if failed { ExitStatus::Failed } else { ExitStatus::Fine })
}

fn print(results: &[Maintained], dry_run: bool, printer: &Printer) {
    let width = results.iter().map(|result| result.name.len()).max().unwrap_or_default();
    for result in results {
        let (paint, word) = match (&result.error, result.skipped.is_some() || result.is_nothing()) {
            (Some(_), _) => (Paint::Red, "fail"),
            (None, true) => (Paint::Dim, "skip"),
            (None, false) => (Paint::Green, "ok"),
        };
        let line =
            format!("{}  {:<width$}  {}", printer.paint(paint, &format!("{word:<4}")), result.name, told(result));
        printer.result(line.trim_end());
    }
    let freed: u64 = results.iter().map(|result| result.removed.bytes + result.leftovers.bytes).sum();
    let packed: usize = results.iter().map(|result| result.packed.files).sum();
    let tables = plural(results.len() as u64, "table");
    let (packs, frees) = if dry_run { ("would be packed", "would be freed") } else { ("packed", "freed") };
    let files = plural(packed as u64, "file");
    printer.note(&format!("{tables}: {files} {packs}, {} bytes {frees}", thousands(freed)));
}

/// `packed 12 files into 1, removed 30 files (12,345 bytes), checkpoint`.
fn told(result: &Maintained) -> String {
    let mut parts = Vec::new();
    let files = |count: usize, noun: &str| plural(count as u64, noun);
    let packed = result.packed;
    if packed.files > 0 {
        parts.push(format!(
            "packed {} into {} ({} bytes)",
            files(packed.files, "file"),
            packed.into,
            thousands(packed.bytes)
        ));
    }
    for (removed, noun) in [(result.removed, "file"), (result.leftovers, "leftover of manifests")] {
        if removed.files > 0 {
            let noun = if removed.files == 1 {
                noun.to_owned()
            } else {
                noun.replacen("leftover", "leftovers", 1).replacen("file", "files", 1)
            };
            parts.push(format!(
                "removed {} {noun} ({} bytes)",
                thousands(removed.files as u64),
                thousands(removed.bytes)
            ));
        }
    }
    if result.checkpoint {
        parts.push("checkpoint".to_owned());
    }
    if result.log_entries > 0 {
        parts.push(format!("removed {} of the log", files(result.log_entries, "file")));
    }
    if let Some(error) = &result.error {
        parts.push(error.clone());
    }
    match (parts.is_empty(), result.skipped) {
        (true, Some(why)) => why.to_owned(),
        (true, None) => "nothing to do".to_owned(),
        (false, _) => parts.join(", "),
    }
}
