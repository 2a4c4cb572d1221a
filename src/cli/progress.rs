//! What a run shows while it goes on: a live line for each running node on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::printer::{Paint, Printer};
use crate::names::TableName;
use crate::run::{Event, ExportResult, NodeResult, Schedule, Status, TestResult, TestStatus};
use crate::words::{plural, thousands};

pub(super) struct Progress<'a> {
    printer: &'a Printer,
    total: usize,
    width: usize,
    live: Option<Live>,
    done: Mutex<usize>,
}

struct Live {
    bars: MultiProgress,
    head: ProgressBar,
    running: Mutex<BTreeMap<TableName, ProgressBar>>,
}

impl<'a> Progress<'a> {
    pub(super) fn new(printer: &'a Printer, schedule: &Schedule) -> Self {
        let total = schedule.steps.len();
        let steps = schedule.steps.iter().map(|step| step.name.as_str());
        let names = steps.chain(schedule.exports.iter().map(|export| export.name.table));
        let width = names.map(|name| name.chars().count()).max().unwrap_or_default();
        let wanted = printer.shows_progress() && std::io::stderr().is_terminal() && std::io::stdout().is_terminal();
        let live = (wanted && total > 0).then(|| {
            let bars = MultiProgress::new();
            let style = ProgressStyle::with_template("{bar:24.cyan/dim} {pos} of {len}  {elapsed}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━━─");
            let head = bars.add(ProgressBar::new(total as u64).with_style(style));
            head.enable_steady_tick(Duration::from_millis(200));
            Live { bars, head, running: Mutex::default() }
        });
        Self { printer, total, width, live, done: Mutex::new(0) }
    }

    pub(super) fn on(&self, event: &Event) {
        match event {
            Event::Started(name) => self.started(name),
            Event::Finished(result) => self.finished(result),
            Event::Exported(result) => self.say(&self.export_line(result)),
            Event::Together(names) => self.say(&format!("published together: {}", listed(names))),
            Event::Withdrawn(names, why) if names.is_empty() => self.say(why),
            Event::Withdrawn(names, why) => {
                let what = self.printer.paint(Paint::Yellow, "not published");
                self.say(&format!("{what}: {}: {why}", listed(names)));
            }
        }
    }

    /// A line about several nodes.
    fn say(&self, line: &str) {
        if !self.printer.shows_progress() {
            return;
        }
        match &self.live {
            Some(live) => {
                let _ = live.bars.println(line);
            }
            None => self.printer.result(line),
        }
    }

    fn started(&self, name: &TableName) {
        let Some(live) = &self.live else { return };
        let style = ProgressStyle::with_template("  {spinner} {msg}  {elapsed}");
        let bar = live.bars.add(ProgressBar::new_spinner());
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_message(name.to_string());
        bar.enable_steady_tick(Duration::from_millis(100));
        live.running.lock().expect("no holder panics").insert(name.clone(), bar);
    }

    fn finished(&self, result: &NodeResult) {
        let mut done = self.done.lock().expect("no holder panics");
        *done += 1;
        if let Some(live) = &self.live {
            if let Some(bar) = live.running.lock().expect("no holder panics").remove(&result.name) {
                bar.finish_and_clear();
                live.bars.remove(&bar);
            }
            live.head.inc(1);
        }
        if !self.printer.shows_progress() {
            return;
        }
        for line in self.lines(result, *done) {
            match &self.live {
                // Through the bars, so that a line never cuts through one.
                Some(live) => {
                    let _ = live.bars.println(line);
                }
                None => self.printer.result(&line),
            }
        }
    }

    fn lines(&self, result: &NodeResult, done: usize) -> Vec<String> {
        let (word, paint) = word(result.status);
        let digits = self.total.to_string().len();
        let count = self.printer.paint(Paint::Dim, &format!("{done:>digits$} of {}", self.total));
        let word = self.printer.paint(paint, &format!("{word:<5}"));
        let name = format!("{:<width$}", result.name.to_string(), width = self.width);
        let mut lines =
            vec![format!("{count}  {word} {}  {}", self.printer.paint(Paint::Bold, &name), self.what(result))];
        for test in result.tests.iter().filter(|test| test.status != TestStatus::Pass) {
            lines.push(self.test_line(test));
        }
        lines
    }

    /// A file that was written beside the tables, or not.
    fn export_line(&self, result: &ExportResult) -> String {
        let (word, paint) = word(result.status);
        let count = self.total.to_string().len() * 2 + " of ".len();
        let head = self.printer.paint(Paint::Dim, &format!("{:<count$}", "export"));
        let name = self.printer.paint(Paint::Bold, &format!("{:<width$}", result.name.table, width = self.width));
        let reason = match result.status {
            Status::Error => result.reason.clone(),
            _ => self.printer.paint(Paint::Dim, &result.reason),
        };
        let what = match (result.rows, result.bytes) {
            (Some(rows), Some(bytes)) => format!(
                "{} to {}, {} bytes, {:.2}s  {reason}",
                plural(rows, "row"),
                result.path,
                thousands(bytes),
                result.seconds
            ),
            _ => reason,
        };
        format!("{head}  {} {name}  {what}", self.printer.paint(paint, &format!("{word:<5}")))
    }

    fn what(&self, result: &NodeResult) -> String {
        let reason = self.printer.paint(Paint::Dim, &result.reason);
        if result.status != Status::Success {
            return if result.status == Status::Error { result.reason.clone() } else { reason };
        }
        let mut parts = vec![result.action.to_owned()];
        parts.extend(result.rows.map(|rows| plural(rows, "row")));
        if result.rows_quarantined > 0 {
            let text = format!("{} quarantined", thousands(result.rows_quarantined));
            parts.push(self.printer.paint(Paint::Yellow, &text));
        }
        if result.files_read > 0 {
            parts.push(format!("from {}", plural(result.files_read as u64, "file")));
        }
        if !result.tests.is_empty() {
            let passed = result.tests.iter().filter(|test| test.status == TestStatus::Pass).count();
            let proved = result.tests.iter().filter(|test| test.proved.is_some()).count();
            let proved = if proved > 0 { format!(" ({proved} proved)") } else { String::new() };
            parts.push(format!("{passed} of {}{proved}", plural(result.tests.len() as u64, "test")));
        }
        if result.action != "view" {
            parts.push(format!("{:.2}s", result.seconds));
        }
        format!("{}  {reason}", parts.join(", "))
    }

    fn test_line(&self, test: &TestResult) -> String {
        test_line(self.printer, test)
    }

    pub(super) fn finish(&self) {
        if let Some(live) = &self.live {
            live.head.finish_and_clear();
        }
    }
}

fn word(status: Status) -> (&'static str, Paint) {
    match status {
        Status::Success => ("ok", Paint::Green),
        Status::Skipped => ("skip", Paint::Cyan),
        Status::Error => ("FAIL", Paint::Red),
        Status::Blocked => ("block", Paint::Yellow),
        Status::Cancelled => ("stop", Paint::Yellow),
    }
}

fn listed(names: &[TableName]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A test that did not pass.
pub(super) fn test_line(printer: &Printer, test: &TestResult) -> String {
    let (word, paint) = match test.status {
        TestStatus::Pass => ("pass", Paint::Green),
        TestStatus::Warn => ("warn", Paint::Yellow),
        TestStatus::Fail => ("FAIL", Paint::Red),
        TestStatus::Error => ("ERROR", Paint::Red),
    };
    let proved = test.proved.as_ref().map(|why| printer.paint(Paint::Dim, &format!("  proved: {why}")));
    let message = test.message.as_deref().map(|message| format!("  {message}")).or(proved).unwrap_or_default();
    let declared =
        test.declared.as_deref().map(|place| printer.paint(Paint::Dim, &format!("  {place}"))).unwrap_or_default();
    format!("        {} {}{message}{declared}", printer.paint(paint, &format!("{word:<5}")), test.name)
}
