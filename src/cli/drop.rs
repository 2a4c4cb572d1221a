//! `lake drop`: the tables of a target, and none that it did not make.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::args::Global;
use super::build::resume;
use super::environment_args::DropArgs;
use super::printer::{Paint, Printer};
use super::{ExitStatus, Pipeline};
use crate::run::{self, Dropped, Inputs};
use crate::words::{plural, thousands};

pub(super) fn run(global: &Global, args: &DropArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    let choice = pipeline.choose(&args.selection)?;
    let Ok(compiled) = pipeline.compile(printer)? else { return Ok(ExitStatus::Wrong) };
    let names = match args.orphans && args.selection.is_empty() {
        true => BTreeSet::new(),
        false => choice.over(&compiled)?.nodes,
    };
    let (runtime, async_runtime) = compiled.into_runtime()?;
    let inputs = Inputs::new(Arc::clone(&runtime));
    if args.yes {
        // What a crash has left of a burst would be published again.
        async_runtime.block_on(resume(&runtime.lake, printer))?;
    }
    let tables = async_runtime.block_on(run::to_drop(&inputs, &names, args.orphans))?;
    if printer.is_json() {
        printer.json(&serde_json::json!({ "dropped": args.yes, "tables": tables }));
    } else {
        print(&tables, args.yes, printer);
    }
    let some = tables.iter().any(|table| table.left.is_none());
    if !args.yes {
        if some && !args.dry_run {
            printer.failure("nothing was dropped: call it again with --yes");
            return Ok(ExitStatus::Wrong);
        }
        return Ok(ExitStatus::Fine);
    }
    async_runtime.block_on(run::drop_tables(&inputs, &tables))?;
    Ok(ExitStatus::Fine)
}

fn print(tables: &[Dropped], dropped: bool, printer: &Printer) {
    let row = |table: &Dropped| {
        let rows = table.rows.map_or_else(|| "rows unknown".to_owned(), |rows| plural(rows, "row"));
        let size = format!("version {}, {rows}, {} bytes", table.version, thousands(table.bytes));
        let orphan = if table.orphan { ", no model has it" } else { "" };
        let what = match &table.left {
            Some(why) => why.clone(),
            None => format!("{size}{orphan}"),
        };
        let word = if table.left.is_some() { "leave" } else { "drop" };
        vec![word.to_owned(), table.name.to_string(), what]
    };
    let rows: Vec<Vec<String>> = tables.iter().map(row).collect();
    let paint = |table: &Dropped| if table.left.is_some() { Paint::Yellow } else { Paint::Red };
    printer.verdicts(&rows, tables.iter().map(paint));
    let going: Vec<&Dropped> = tables.iter().filter(|table| table.left.is_none()).collect();
    let bytes: u64 = going.iter().map(|table| table.bytes).sum();
    let word = if dropped { "dropped" } else { "to drop" };
    let left = match tables.len() - going.len() {
        0 => String::new(),
        left => format!(", {left} left"),
    };
    printer.note(&format!("{} {word} ({} bytes){left}", plural(going.len() as u64, "table"), thousands(bytes)));
}
