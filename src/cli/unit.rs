//! Unit tests on the terminal: a line each, and for one that failed its rows, cell by cell.

use tokio::runtime;

use super::printer::{Paint, Printer, cut};
use crate::artifacts::RunEvents;
use crate::graph::Selection;
use crate::run::{self, Diff, DiffKind, DiffRow, SharedRuntime, TestStatus, UnitTestResult};
use crate::words::plural;

/// Rows of a diff that one person reads in one go.
const SHOWN: usize = 20;
/// A longer value is cut where it is as expected.
const LONGEST: usize = 60;

/// Runs the selected unit tests, and shows how each ended. A build shows those that failed, and runs none again that
/// passed and is as it was.
pub(super) fn run(
    runtime: &SharedRuntime,
    async_runtime: &runtime::Runtime,
    selection: &Selection,
    is_build: bool,
    told: Option<&RunEvents>,
    printer: &Printer,
) -> Vec<UnitTestResult> {
    let show = |result: &UnitTestResult| {
        if let (Some(told), Some(events)) = (told, printer.stream()) {
            events.write_all(told.unit_test(result));
        }
        if printer.shows_progress() && (!is_build || result.blocks()) {
            lines(result, printer).iter().for_each(|line| printer.result(line));
        }
    };
    let start = std::time::Instant::now();
    let results = async_runtime.block_on(run::run_unit_tests(runtime, selection, is_build, &show));
    tracing::info!("unit tests: {:.1} ms", start.elapsed().as_secs_f64() * 1000.0);
    results
}

/// How many unit tests are selected.
pub(super) fn selected(runtime: &SharedRuntime, selection: &Selection) -> usize {
    runtime.compiled.unit_tests.iter().filter(|test| selection.contains_test(&test.name)).count()
}

/// `3 unit tests, 1 failed`; nothing if there are none.
pub(super) fn count(results: &[UnitTestResult]) -> Option<String> {
    let failed = results.iter().filter(|result| result.blocks()).count();
    let all = plural(results.len() as u64, "unit test");
    match (results.len(), failed) {
        (0, _) => None,
        (_, 0) => Some(all),
        _ => Some(format!("{all}, {failed} failed")),
    }
}

fn lines(result: &UnitTestResult, printer: &Printer) -> Vec<String> {
    let (word, paint) = match result.status {
        TestStatus::Pass | TestStatus::Warn => ("pass", Paint::Green),
        TestStatus::Fail => ("FAIL", Paint::Red),
        TestStatus::Error => ("ERROR", Paint::Red),
    };
    let word = printer.paint(paint, &format!("{word:<5}"));
    let model = result.model.as_ref().map(ToString::to_string);
    let subject = model.or_else(|| Some(format!("macro {}", result.macro_name.as_ref()?))).unwrap_or_default();
    let subject = printer.paint(Paint::Dim, &subject);
    let Some(message) = &result.message else { return vec![format!("{word} {}  {subject}", result.name)] };
    let place = printer.paint(Paint::Dim, &format!("{}:{}", result.path, result.line.unwrap_or(1)));
    let mut lines = vec![format!("{word} {}  {subject}  {message}  {place}", result.name)];
    if let Some(diff) = &result.diff {
        lines.extend(table(diff, printer));
        lines.push(String::new());
    }
    lines
}

/// The rows of a diff under the names of their columns.
fn table(diff: &Diff, printer: &Printer) -> Vec<String> {
    let shown = &diff.rows[..diff.rows.len().min(SHOWN)];
    let cells: Vec<Vec<Shown>> = shown.iter().map(|row| cells_of(row, diff.columns.len())).collect();
    let width = |at: usize| {
        let widest = cells.iter().map(|row| row[at].width()).max().unwrap_or_default();
        widest.max(diff.columns[at].chars().count())
    };
    let widths: Vec<usize> = (0..diff.columns.len()).map(width).collect();
    let heading: Vec<String> =
        diff.columns.iter().zip(&widths).map(|(name, width)| format!("{name:<width$}")).collect();
    let mut lines = vec![printer.paint(Paint::Dim, format!("          {}", heading.join("  ")).trim_end())];
    for (row, cells) in shown.iter().zip(cells) {
        let (mark, paint, word) = match row.kind() {
            DiffKind::Differs => ("~", Paint::Yellow, ""),
            DiffKind::Missing => ("-", Paint::Red, "missing"),
            DiffKind::Unexpected => ("+", Paint::Green, "unexpected"),
        };
        let cells = cells.into_iter().zip(&widths).map(|(cell, width)| cell.painted(*width, row.kind(), printer));
        let cells = cells.collect::<Vec<_>>().join("  ");
        let line = format!("        {} {cells}", printer.paint(paint, mark));
        lines.push(match word {
            "" => line.trim_end().to_owned(),
            word => format!("{line}  {}", printer.paint(paint, word)),
        });
    }
    if diff.rows.len() > shown.len() {
        lines.push(format!("        ... and {} more; --output json has them all", diff.rows.len() - shown.len()));
    }
    if diff.count(DiffKind::Differs) > 0 {
        lines.push(printer.paint(Paint::Dim, "        expected → actual"));
    }
    lines
}

/// A cell on its way to the terminal.
enum Shown {
    One(String),
    Both(String, String),
}

impl Shown {
    fn width(&self) -> usize {
        match self {
            Self::One(text) => text.chars().count(),
            Self::Both(expected, actual) => expected.chars().count() + 3 + actual.chars().count(),
        }
    }

    fn painted(self, width: usize, kind: DiffKind, printer: &Printer) -> String {
        let rest = " ".repeat(width.saturating_sub(self.width()));
        let text = match self {
            Self::Both(expected, actual) => {
                format!("{} → {}", printer.paint(Paint::Red, &expected), printer.paint(Paint::Green, &actual))
            }
            Self::One(text) => match kind {
                DiffKind::Differs => text,
                DiffKind::Missing => printer.paint(Paint::Red, &text),
                DiffKind::Unexpected => printer.paint(Paint::Green, &text),
            },
        };
        text + &rest
    }
}

fn cells_of(row: &DiffRow, columns: usize) -> Vec<Shown> {
    let value = |values: &Option<run::Values>, at: usize| values.as_ref().and_then(|values| values[at].clone());
    let cell = |at: usize| {
        let (expected, actual) = (value(&row.expected, at), value(&row.actual, at));
        if row.differs.contains(&at) {
            return Shown::Both(shown(expected), shown(actual));
        }
        Shown::One(cut(&shown(if row.expected.is_some() { expected } else { actual }), LONGEST))
    };
    (0..columns).map(cell).collect()
}

/// NULL is told from a text of these letters, and an empty text from nothing.
fn shown(value: Option<String>) -> String {
    match value {
        None => "NULL".to_owned(),
        Some(text) if text.is_empty() || text == "NULL" || text.trim() != text => format!("'{text}'"),
        Some(text) => text.replace('\n', "\\n"),
    }
}
