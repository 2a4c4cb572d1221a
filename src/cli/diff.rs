//! `lake diff`: what differs between two versions of a table, or between the tables of two targets.

use serde::Serialize;
use serde_json::Value;

use super::args::Global;
use super::diff_args::{DiffArgs, Versions};
use super::printer::{Paint, Printer, aligned, cut};
use super::profile::with_table;
use super::{ExitStatus, Pipeline, diff_state, targets};
use crate::compile::impact::What;
use crate::graph::SelectError;
use crate::names::TableName;
use crate::run::{self, By, ChangedRow, ColumnDiff, ColumnRate, DiffRequest, RepeatedKey, Row, Side, TableDiff};
use crate::tables::{Lake, Published, existing_version};
use crate::words::{plural, thousands};

/// Characters of a value that are shown.
const LONGEST: usize = 32;

/// Values of one row that changed and are shown; the others are only counted.
const SHOWN: usize = 4;

/// A comparison for programs, and what was compared: `versions`, `targets`, `state`.
#[derive(Serialize)]
pub(super) struct Told<'a, T> {
    pub(super) compared: &'static str,
    #[serde(flatten)]
    pub(super) what: &'a T,
}

pub(super) fn run(global: &Global, args: &DiffArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Some(model) = &args.model else { return diff_state::run(global, &args.selection, printer) };
    if args.selection.state.is_some() && args.versions.is_none() && args.targets.is_none() {
        let message = "a table is compared by --versions or --targets, and --state is about the project".to_owned();
        let help = format!("`lake diff {model} --versions ..`, or `lake diff --select {model} --state DIR`");
        return Err(SelectError { message, help: Some(help) }.into());
    }
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    let name = with_table(&pipeline.project, model)?;
    let mut lakes: Vec<(String, Lake)> = Vec::new();
    for target in args.targets.as_ref().map_or(&[][..], |targets| targets.as_slice()) {
        let lake = targets::open(&pipeline.project, &targets::named(&pipeline.project, target)?)?;
        lakes.push((target.clone(), lake));
    }
    let Ok(compiled) = pipeline.compile(printer)? else { return Ok(ExitStatus::Wrong) };
    let (runtime, async_runtime) = compiled.into_runtime()?;
    let found = async_runtime.block_on(async {
        let (before, after) = match lakes.as_slice() {
            [one, other] => (current(one, &name).await?, current(other, &name).await?),
            _ => {
                let own = (runtime.project.target.name.clone(), runtime.lake.clone());
                two_versions(&own, &name, args.versions.unwrap_or_default()).await?
            }
        };
        let asked = DiffRequest { before, after, key: &args.key, limit: args.limit };
        anyhow::Ok(run::diff(&runtime, &asked).await?)
    })?;
    let compared = if args.targets.is_some() { "targets" } else { "versions" };
    if printer.is_json() {
        printer.json(&serde_json::to_value(Told { compared, what: &found })?);
    } else {
        View { printer, found: &found, is_of_targets: args.targets.is_some() }.show();
    }
    Ok(ExitStatus::Fine)
}

/// The table of a target as it is now.
async fn current((target, lake): &(String, Lake), name: &TableName) -> anyhow::Result<Side> {
    match lake.inspect(name).await? {
        Some(table) => Ok(Side { target: target.clone(), table }),
        None => Err(SelectError {
            message: format!("`{name}` is not built yet in target `{target}`"),
            help: Some(format!("`lake build --select {name} --target {target}` builds it")),
        }
        .into()),
    }
}

async fn two_versions(own: &(String, Lake), name: &TableName, versions: Versions) -> anyhow::Result<(Side, Side)> {
    let (target, lake) = own;
    let newest = current(own, name).await?.table;
    let to = versions.to.unwrap_or_else(|| newest.version());
    let Some(from) = versions.from.or_else(|| to.checked_sub(1)) else {
        anyhow::bail!("there is no version of `{name}` before version 0");
    };
    let (before, after) = (existing_version(lake, &newest, from).await?, existing_version(lake, &newest, to).await?);
    let side = |table: Published| Side { target: target.clone(), table };
    Ok((side(before), side(after)))
}

/// The colour of a sign.
pub(super) fn paint(sign: &str) -> Paint {
    match sign {
        "+" => Paint::Green,
        "-" => Paint::Red,
        _ => Paint::Yellow,
    }
}

/// What happened to a column, in words.
pub(super) fn happened(what: &What) -> String {
    match what {
        What::Removed { .. } => "removed".to_owned(),
        What::Retyped { before, after } => format!("{before} → {after}"),
        What::Nullable => "may be NULL now".to_owned(),
        What::Values => "values may change".to_owned(),
        What::Added { .. } => "added".to_owned(),
    }
}

struct View<'a> {
    printer: &'a Printer,
    found: &'a TableDiff,
    is_of_targets: bool,
}

impl View<'_> {
    fn print(&self, line: &str) {
        self.printer.result(line.trim_end());
    }

    fn dim(&self, text: &str) -> String {
        if text.is_empty() { String::new() } else { self.printer.paint(Paint::Dim, text) }
    }

    fn show(&self) {
        let found = self.found;
        let sides = match self.is_of_targets {
            true => self.sides().join(" → "),
            false => format!("version {} → {}", found.before.version, found.after.version),
        };
        self.print(&format!("{}  {sides}", self.printer.paint(Paint::Bold, &found.model.to_string())));
        self.print(&format!("    rows  {}", row_counts(found.before.rows, found.after.rows)));
        self.columns(&found.columns);
        for column in &found.not_compared {
            self.print(&format!(
                "    {}",
                self.dim(&format!("{column} is not compared: values of its type cannot be"))
            ));
        }
        self.print("");
        match found.by {
            By::Files => {
                let shared = files(found.shared.files);
                return self.print(&format!("the same rows: both have the same {shared}, and none was read"));
            }
            By::Content => {
                return self.print("the same rows, by the sums over all of them in both logs; no file was read");
            }
            By::Key => self.by_key(),
            By::Rows => self.by_rows(),
        }
        self.what_was_read();
    }

    fn sides(&self) -> [String; 2] {
        let (before, after) = (&self.found.before, &self.found.after);
        match self.is_of_targets {
            true => [before, after].map(|side| format!("{} (version {})", side.target, side.version)),
            false => [before, after].map(|side| format!("version {}", side.version)),
        }
    }

    fn columns(&self, columns: &[ColumnDiff]) {
        let width = columns.iter().map(|change| change.column.chars().count()).max().unwrap_or_default();
        for ColumnDiff { column, what } in columns {
            let (sign, what) = match what {
                What::Added { data_type } => ("+", data_type.clone()),
                What::Removed { data_type } => ("-", data_type.clone()),
                what => ("~", happened(what)),
            };
            self.print(&format!("    {} {column:<width$}  {what}", self.printer.paint(paint(sign), sign)));
        }
    }

    /// What was compared, and whether all of it is the same.
    fn heading(&self, how: &str) {
        let is_same = if self.found.is_same() { "the same rows, " } else { "" };
        self.print(&format!("{is_same}{how}"));
    }

    /// `    + 12 added  4, 5, ...`, for each kind of which there are some.
    fn counts(&self, counts: &[(&str, u64, &str, String)]) {
        let shown: Vec<_> = counts.iter().filter(|(_, count, ..)| *count > 0).collect();
        let head = |count: u64, word: &str| format!("{} {word}", thousands(count));
        let width =
            shown.iter().map(|(_, count, word, _)| head(*count, word).chars().count()).max().unwrap_or_default();
        for (sign, count, word, note) in shown {
            let sign = self.printer.paint(paint(sign), sign);
            self.print(&format!("    {sign} {:<width$}  {}", head(*count, word), self.dim(note)));
        }
    }

    fn by_key(&self) {
        let found = self.found;
        let Some(key) = &found.key else { return };
        self.heading(&format!("by key {} {}", key.columns.join(", "), self.dim(&format!("({})", key.from))));
        let keys = |rows: &[Row], count: u64| {
            let shown: Vec<String> = rows.iter().map(one_key).collect();
            let more = if !shown.is_empty() && count > shown.len() as u64 { ", ..." } else { "" };
            shown.join(", ") + more
        };
        let of_both = found.same.map_or_else(String::new, |same| {
            let both = same + found.changed;
            format!("of {} in both, {}", thousands(both), percent(found.changed as f64 / both.max(1) as f64))
        });
        self.counts(&[
            ("+", found.added, "added", keys(&found.examples.added, found.added)),
            ("-", found.removed, "removed", keys(&found.examples.removed, found.removed)),
            ("~", found.changed, "changed", of_both),
        ]);
        self.changed_rows(&found.examples.changed);
        self.rates(&found.changes);
        self.repeated();
    }

    fn changed_rows(&self, rows: &[ChangedRow]) {
        let cells = rows.iter().map(|row| {
            let change = |(column, values): (&String, &run::BeforeAfter)| {
                format!("{column}: {} → {}", shown(&values.before), shown(&values.after))
            };
            let mut changes: Vec<String> = row.columns.iter().take(SHOWN).map(change).collect();
            changes.extend(row.columns.len().checked_sub(SHOWN + 1).map(|more| format!("and {} more", more + 1)));
            vec![one_key(&row.key), changes.join(", ")]
        });
        aligned(&cells.collect::<Vec<_>>(), &[]).iter().for_each(|line| self.print(&format!("        {line}")));
        if self.found.changed > rows.len() as u64 && !rows.is_empty() {
            self.print("        ...");
        }
    }

    fn rates(&self, rates: &[ColumnRate]) {
        if rates.is_empty() {
            return;
        }
        self.print("");
        self.print("values that changed");
        let cells = rates.iter().map(|rate| {
            vec![rate.column.clone(), plural(rate.keys, "key"), rate.rate.map(percent).unwrap_or_default()]
        });
        for line in aligned(&cells.collect::<Vec<_>>(), &[1, 2]) {
            self.print(&format!("    {} {line}", self.printer.paint(paint("~"), "~")));
        }
    }

    fn repeated(&self) {
        let repeated = &self.found.repeated;
        if repeated.keys == 0 {
            return;
        }
        self.print("");
        let verb = if repeated.keys == 1 { "stands" } else { "stand" };
        let differ = match (repeated.added, repeated.removed) {
            (0, 0) => "the same rows in both".to_owned(),
            (added, removed) => format!("{} added, {} removed", plural(added, "row"), thousands(removed)),
        };
        let sign = self.printer.paint(Paint::Yellow, "!");
        let keys = plural(repeated.keys, "key");
        self.print(&format!("{sign} {keys} {verb} more than once and are counted apart, by whole rows: {differ}"));
        for RepeatedKey { key, before, after } in &self.found.examples.repeated {
            self.print(&format!("        {}  {} → {}", one_key(key), plural(*before, "row"), thousands(*after)));
        }
    }

    fn by_rows(&self) {
        let found = self.found;
        self.heading(&format!(
            "by whole rows {}",
            self.dim(&format!("({})", found.no_key.as_deref().unwrap_or_default()))
        ));
        let [before, after] = self.sides();
        self.counts(&[
            ("+", found.added, "added", format!("only in {after}")),
            ("-", found.removed, "removed", format!("only in {before}")),
        ]);
        let signed = |sign: &'static str, rows: &'_ [Row]| -> Vec<(&'static str, Row)> {
            rows.iter().map(|row| (sign, row.clone())).collect()
        };
        let rows = [signed("+", &found.examples.added), signed("-", &found.examples.removed)].concat();
        let Some((_, first)) = rows.first() else { return };
        let head: Vec<String> = first.keys().cloned().collect();
        let cells = rows.iter().map(|(_, row)| row.values().map(shown).collect());
        let table: Vec<Vec<String>> = std::iter::once(head).chain(cells).collect();
        let lines = aligned(&table, &[]);
        self.print(&format!("          {}", self.dim(&lines[0])));
        for ((sign, _), line) in rows.iter().zip(&lines[1..]) {
            self.print(&format!("        {} {line}", self.printer.paint(paint(sign), sign)));
        }
    }

    fn what_was_read(&self) {
        let TableDiff { read, shared, .. } = self.found;
        let size = |count: &run::FileCount| format!("{}, {} bytes", files(count.files), thousands(count.bytes));
        self.print("");
        let skipped = match shared.files {
            0 => String::new(),
            _ => format!("; skipped {}, which both have", size(shared)),
        };
        self.print(&self.dim(&format!("read {}{skipped}", size(read))));
        if self.found.key.as_ref().is_some_and(|key| !key.is_unique) {
            let note = "keys of the rows that were read were not looked for in the skipped files: no test says that they are unique";
            self.print(&self.dim(note));
        }
    }
}

/// `1,000 → 1,010 (+10)`.
fn row_counts(before: Option<u64>, after: Option<u64>) -> String {
    let count = |rows: Option<u64>| rows.map_or_else(|| "?".to_owned(), thousands);
    let by = match before.zip(after) {
        Some((before, after)) if before == after => return thousands(after),
        Some((before, after)) if before < after => format!(" (+{})", thousands(after - before)),
        Some((before, after)) => format!(" (-{})", thousands(before - after)),
        None => String::new(),
    };
    format!("{} → {}{by}", count(before), count(after))
}

fn files(count: u64) -> String {
    plural(count, "file")
}

/// The values of a key: one by itself, several in parentheses.
fn one_key(key: &Row) -> String {
    let values: Vec<String> = key.values().map(shown).collect();
    if values.len() == 1 { values.concat() } else { format!("({})", values.join(", ")) }
}

/// A value on one line; an empty text is told from nothing.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => return "NULL".to_owned(),
        Value::String(text) if text.is_empty() || text == "NULL" || text.trim() != text => format!("'{text}'"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    cut(&text.replace('\n', "\\n"), LONGEST)
}

/// `0.1 %`, of a part of one.
fn percent(rate: f64) -> String {
    if rate > 0.0 && rate < 0.001 { "<0.1 %".to_owned() } else { format!("{:.1} %", rate * 100.0) }
}
