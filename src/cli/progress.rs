//! What a run shows while it goes on: a line for each node that ended, and below them a live board on a terminal.

use std::sync::Mutex;

use super::board::Board;
use super::printer::{Paint, Printer};
use crate::names::TableName;
use crate::run::{Event, ExportResult, NodeResult, Schedule, Status, TestResult, TestStatus};
use crate::tables::Gauges;
use crate::words::{plural, thousands};

pub(super) struct Progress<'a> {
    printer: &'a Printer,
    total: usize,
    width: usize,
    board: Option<Board>,
    done: Mutex<usize>,
}

impl<'a> Progress<'a> {
    pub(super) fn new(printer: &'a Printer, schedule: &Schedule, gauges: &Gauges) -> Self {
        let total = schedule.steps.len();
        let steps = schedule.steps.iter().map(|step| step.name.as_str());
        let names = steps.chain(schedule.exports.iter().map(|export| export.name.table));
        let width = names.map(|name| name.chars().count()).max().unwrap_or_default();
        let screen = printer.screen().filter(|_| total > 0);
        let board = screen.map(|screen| Board::new(screen, printer.painter_err(), gauges.clone(), total));
        Self { printer, total, width, board, done: Mutex::new(0) }
    }

    pub(super) fn on(&self, event: &Event) {
        match event {
            Event::Started(name) => self.started(name),
            Event::Finished(result) => self.finished(result),
            Event::Exported(result) => {
                if let (Some(board), Status::Error) = (&self.board, result.status) {
                    board.failed(&format!("{}  {}", result.name, result.reason));
                }
                self.say(&self.export_line(result));
            }
            Event::Together(names) => self.say(&format!("published together: {}", listed(names))),
            Event::Withdrawn(names, why) if names.is_empty() => self.say(why),
            Event::Withdrawn(names, why) => {
                let what = self.printer.paint(Paint::Yellow, "not published");
                self.say(&format!("{what}: {}: {why}", listed(names)));
            }
        }
    }

    fn say(&self, line: &str) {
        if self.printer.shows_progress() {
            self.printer.result(line);
        }
    }

    fn started(&self, name: &TableName) {
        self.board.iter().for_each(|board| board.started(name));
    }

    fn finished(&self, result: &NodeResult) {
        let mut done = self.done.lock().expect("no holder panics");
        *done += 1;
        self.board.iter().for_each(|board| board.finished(result));
        if self.printer.shows_progress() {
            self.lines(result, *done).iter().for_each(|line| self.printer.result(line));
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

    /// Takes the board away; what failed is told once more where it may have gone out of sight.
    pub(super) fn finish(self) {
        let Some(mut board) = self.board else { return };
        board.end().iter().for_each(|failure| self.printer.result(failure));
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
