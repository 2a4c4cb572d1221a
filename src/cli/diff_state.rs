//! `lake diff --state`: what changed since another compile, and what it means for what reads it.

use super::args::{Deny, Global, SelectArgs};
use super::choice::state_folder;
use super::diff::{Told, happened, paint};
use super::printer::{Paint, Printer};
use super::{ExitStatus, Pipeline};
use crate::artifacts;
use crate::compile::Use;
use crate::compile::impact::{Affected, AffectedRead, Change, Class, Impact, Node, What, impact};
use crate::compile::state;
use crate::names::TableName;
use crate::project::{EXPORT_SCHEMA, EXPOSURE_SCHEMA};
use crate::words::plural;

pub(super) fn run(global: &Global, args: &SelectArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let before = artifacts::read_picture(state_folder(args.state.as_ref())?)?;
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    let choice = pipeline.choose(args)?;
    let Ok(compiled) = pipeline.compile(printer)? else { return Ok(ExitStatus::Wrong) };
    let now = state::picture(&compiled.project, &compiled.compiled);
    let mut impact = impact(&before, &now, &compiled.graph);
    let selection = choice.over(&compiled)?;
    // What is gone cannot be selected: it is told unless something is asked for.
    let everything = args.is_empty();
    let shown = |name: &TableName| selection.contains(name);
    impact.models.retain(|change| shown(&change.name));
    impact.sources.retain(|change| shown(&change.name));
    impact.new.retain(|node| shown(&node.name));
    impact.removed.retain(|_| everything);
    impact.downstream.retain(|affected| shown(&affected.name));
    impact.new_tests.retain(|test| selection.contains_test(test));
    impact.changed_tests.retain(|test| selection.contains_test(test));
    impact.removed_tests.retain(|_| everything);
    if printer.is_json() {
        printer.json(&serde_json::to_value(Told { compared: "state", what: &impact })?);
    } else {
        View { printer }.show(&impact);
    }
    let breaking = impact.is_breaking();
    Ok(if breaking && global.deny == Some(Deny::Breaking) { ExitStatus::Failed } else { ExitStatus::Fine })
}

/// One line of a table: a sign, a name, what happened, and who reads it.
struct Line {
    sign: &'static str,
    paint: Paint,
    name: String,
    what: String,
    note: String,
}

struct View<'a> {
    printer: &'a Printer,
}

impl View<'_> {
    fn show(&self, impact: &Impact) {
        let models = impact.models.iter().map(|change| (change, false));
        let mut changes: Vec<(&Change, bool)> =
            impact.sources.iter().map(|change| (change, true)).chain(models).collect();
        changes.sort_by_key(|(change, _)| change.class);
        changes.into_iter().for_each(|(change, is_source)| self.change(change, is_source));
        self.nodes("new", Paint::Green, &impact.new, "read by");
        self.nodes("removed", Paint::Red, &impact.removed, "was read by");
        let tests = [("+", &impact.new_tests), ("~", &impact.changed_tests), ("-", &impact.removed_tests)];
        if tests.iter().any(|(_, names)| !names.is_empty()) {
            self.print(&self.printer.paint(Paint::Bold, "tests"));
            for (sign, names) in tests {
                names
                    .iter()
                    .for_each(|name| self.print(&format!("    {} {name}", self.printer.paint(paint(sign), sign))));
            }
            self.print("");
        }
        if !impact.downstream.is_empty() {
            self.print(&self.printer.paint(Paint::Bold, "affected downstream"));
            self.downstream(&impact.downstream);
            self.print("");
        }
        self.print(&self.summary(impact));
    }

    fn dim(&self, text: &str) -> String {
        if text.is_empty() { String::new() } else { self.printer.paint(Paint::Dim, text) }
    }

    fn print(&self, line: &str) {
        self.printer.result(line.trim_end());
    }

    fn change(&self, change: &Change, is_source: bool) {
        let (word, paint) = class(change.class);
        let kind = if is_source { "source " } else { "" };
        let head = format!(
            "{}  {kind}{}",
            self.printer.paint(paint, word),
            self.printer.paint(Paint::Bold, &name(&change.name))
        );
        let moved = change.moved_from.as_ref().map(|old| format!("  was {}", name(old))).unwrap_or_default();
        self.print(&format!("{head}{}", self.dim(&moved)));
        let mut lines: Vec<Line> = change.columns.iter().map(column_line).collect();
        if change.rows && !is_source {
            lines.push(told("rows", "may differ", "what filters, joins or groups them changed"));
        }
        if is_source && change.aspects.iter().any(|aspect| *aspect != "config") {
            lines.push(told("rows", "may differ", "its format, columns or path changed"));
        }
        lines.extend(change.settings.iter().map(|setting| {
            told(&setting.setting, &format!("{} → {}", plain(&setting.before), plain(&setting.after)), "")
        }));
        lines.extend(change.contract.as_ref().map(|why| Line { paint: Paint::Red, ..told("contract", "broken", why) }));
        if lines.is_empty() {
            self.print(&format!("    {}", quiet_reason(&change.aspects)));
        }
        self.lines(&lines, "    ");
        self.print("");
    }

    fn lines(&self, lines: &[Line], indent: &str) {
        let width =
            |text: fn(&Line) -> &String| lines.iter().map(|line| text(line).chars().count()).max().unwrap_or_default();
        let (names, whats) = (width(|line| &line.name), width(|line| &line.what));
        for Line { sign, paint, name, what, note } in lines {
            let sign = self.printer.paint(*paint, sign);
            let gap = if names > 0 { "  " } else { "" };
            let note = self.dim(note);
            self.print(&format!("{indent}{sign} {name:<names$}{gap}{what:<whats$}  {note}"));
        }
    }

    fn nodes(&self, word: &str, paint: Paint, nodes: &[Node], readers: &str) {
        if nodes.is_empty() {
            return;
        }
        let full = |node: &Node| match node.resource_type.as_str() {
            "source" => format!("source {}", node.name),
            _ => name(&node.name),
        };
        let width = nodes.iter().map(|node| full(node).chars().count()).max().unwrap_or_default();
        for node in nodes {
            let mut about = Vec::new();
            if !matches!(node.resource_type.as_str(), "exposure" | "export") {
                about.push(plural(node.columns as u64, "column"));
            }
            if !node.read_by.is_empty() {
                about.push(format!("{readers} {}", names(&node.read_by, SHOWN)));
            }
            let about = self.dim(&about.join(", "));
            self.print(&format!("{}  {:<width$}  {about}", self.printer.paint(paint, word), full(node)));
        }
        self.print("");
    }

    /// Nodes that differ in nothing but rows are told in one line if they are many.
    fn downstream(&self, downstream: &[Affected]) {
        let rows_only: Vec<TableName> = downstream
            .iter()
            .filter(|affected| affected.reads.is_empty())
            .map(|affected| affected.name.clone())
            .collect();
        let many = rows_only.len() > SHOWN;
        for affected in downstream.iter().filter(|affected| !many || !affected.reads.is_empty()) {
            self.affected(affected);
        }
        if many {
            self.print(&format!("  rows may differ in {}", names(&rows_only, SHOWN)));
        }
    }

    fn affected(&self, affected: &Affected) {
        self.print(&format!("  {}", name(&affected.name)));
        let is_model = affected.resource_type == "model";
        let mut lines: Vec<Line> = affected.reads.iter().map(|read| read_line(read, is_model)).collect();
        if !affected.rows_of.is_empty() {
            lines.push(told("rows", "may differ", &format!("as those of {}", names(&affected.rows_of, SHOWN))));
        }
        self.lines(&lines, "    ");
    }

    fn summary(&self, impact: &Impact) -> String {
        let mut parts = Vec::new();
        for wanted in [Class::Breaking, Class::Logic, Class::Additive, Class::Cosmetic] {
            let (word, paint) = class(wanted);
            let count = impact.models.iter().chain(&impact.sources).filter(|change| change.class == wanted).count();
            if count > 0 {
                parts.push(self.printer.paint(paint, &format!("{count} {word}")));
            }
        }
        for (count, word) in [(impact.new.len(), "new"), (impact.removed.len(), "removed")] {
            if count > 0 {
                parts.push(format!("{count} {word}"));
            }
        }
        let tests = impact.new_tests.len() + impact.changed_tests.len() + impact.removed_tests.len();
        if tests > 0 {
            parts.push(format!("{} changed", plural(tests as u64, "test")));
        }
        if parts.is_empty() {
            return "nothing changed".to_owned();
        }
        match impact.downstream.len() {
            0 => parts.join(", "),
            count => format!("{}; {count} affected downstream", parts.join(", ")),
        }
    }
}

fn class(class: Class) -> (&'static str, Paint) {
    match class {
        Class::Breaking => ("breaking", Paint::Red),
        Class::Logic => ("logic", Paint::Yellow),
        Class::Additive => ("additive", Paint::Green),
        Class::Cosmetic => ("cosmetic", Paint::Dim),
    }
}

fn column_line(change: &crate::compile::impact::ColumnChange) -> Line {
    let (sign, what) = match &change.what {
        What::Removed { data_type } => ("-", data_type.clone()),
        What::Added { data_type } => ("+", data_type.clone()),
        what => ("~", happened(what)),
    };
    let note = match (&change.what, change.read_by.as_slice()) {
        (What::Added { .. }, []) => String::new(),
        (_, []) => "nothing reads it".to_owned(),
        (What::Removed { .. }, readers) => format!("was read by {}", names(readers, SHOWN)),
        (_, readers) => format!("read by {}", names(readers, SHOWN)),
    };
    Line { sign, paint: paint(sign), name: change.column.clone(), what, note }
}

/// `user_id  copied from silver.views.user_id  bigint → varchar`.
fn read_line(read: &AffectedRead, is_model: bool) -> Line {
    let from = format!("{}.{}", read.column.table, read.column.column);
    let (name, how) = match read.how {
        _ if !is_model => (from.clone(), String::new()),
        Use::Copied => (read.into.join(", "), format!("copied from {from}")),
        Use::Masked => (read.into.join(", "), format!("masked from {from}")),
        Use::Derived => (read.into.join(", "), format!("derived from {from}")),
        Use::Filter => ("rows".to_owned(), format!("filtered by {from}")),
    };
    let sign = if matches!(read.what, What::Removed { .. }) { "-" } else { "~" };
    let what = happened(&read.what);
    match is_model {
        true => Line { sign, paint: paint(sign), name, what: how, note: what },
        false => Line { sign, paint: paint(sign), name, what, note: String::new() },
    }
}

fn told(name: &str, what: &str, note: &str) -> Line {
    Line { sign: "~", paint: Paint::Yellow, name: name.to_owned(), what: what.to_owned(), note: note.to_owned() }
}

/// What to say of a change that changes no column, row or setting.
fn quiet_reason(aspects: &[&str]) -> &'static str {
    match aspects {
        ["macros"] => "a macro that it calls changed, and its SQL did not",
        ["vars"] => "a variable that it reads changed, and its SQL did not",
        ["contract"] => "its contract changed",
        aspects if aspects.contains(&"body") => "other SQL of the same meaning",
        _ => "its SQL is the same",
    }
}

fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "none".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(items) if items.is_empty() => "none".to_owned(),
        serde_json::Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// A node as people call it.
fn name(table: &TableName) -> String {
    match table.schema {
        EXPOSURE_SCHEMA | EXPORT_SCHEMA => format!("{} {}", table.schema, table.table),
        _ => table.to_string(),
    }
}

/// Names that one line shows.
const SHOWN: usize = 4;

/// The first few names, and how many more there are.
fn names(tables: &[TableName], shown: usize) -> String {
    let list: Vec<String> = tables.iter().take(shown).map(name).collect();
    if tables.len() > shown {
        return format!("{} and {} more", list.join(", "), tables.len() - shown);
    }
    list.join(", ")
}
