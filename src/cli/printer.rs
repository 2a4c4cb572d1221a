//! Where text goes: results to standard output, everything else to standard error.

use std::io::{IsTerminal, Write};

use super::args::{Global, Output};
use super::log::Events;
use crate::artifacts::{Level, LogEvent};
use crate::diagnostics::render::{self, Color};
use crate::diagnostics::{Diagnostics, Severity};

/// Diagnostics that one person reads in one go.
const SHOWN: usize = 50;

/// The one writer of the program.
pub(super) struct Printer {
    /// The id of the call, by which logs, artifacts and tables know it.
    invocation_id: String,
    output: Output,
    /// Programs are told of everything, in events.
    events: Option<Events>,
    quiet: bool,
    color_out: bool,
    color_err: bool,
}

/// A colour of the terminal's own palette.
#[derive(Debug, Clone, Copy)]
pub(super) enum Paint {
    Green,
    Yellow,
    Red,
    Cyan,
    Dim,
    Bold,
}

impl Paint {
    fn code(self) -> &'static str {
        match self {
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Red => "1;31",
            Self::Cyan => "36",
            Self::Dim => "2",
            Self::Bold => "1",
        }
    }
}

/// Rows of a table as lines. Words stand left; the columns of `numbers` stand right.
pub(super) fn aligned(rows: &[Vec<String>], numbers: &[usize]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or_default()).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, width))| match numbers.contains(&at) {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// A text with an ellipsis in place of what is more than so many characters.
pub(super) fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

impl Printer {
    /// The printer of a call; what a command `has_data` for stands alone on standard output.
    pub(super) fn new(global: &Global, has_data: bool) -> Self {
        // https://no-color.org
        let allowed = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let invocation_id = uuid::Uuid::now_v7().to_string();
        let events = global.log.is_json().then(|| Events::new(&invocation_id, has_data, global.quiet));
        let allowed = allowed && events.is_none();
        Self {
            invocation_id,
            output: global.output,
            events,
            quiet: global.quiet,
            color_out: allowed && std::io::stdout().is_terminal(),
            color_err: allowed && std::io::stderr().is_terminal(),
        }
    }

    /// The id of the call.
    pub(super) fn invocation_id(&self) -> &str {
        &self.invocation_id
    }

    /// Where events go, if programs are told of what goes on.
    pub(super) fn events(&self) -> Option<&Events> {
        self.events.as_ref()
    }

    /// Where events go, if nothing else stands on standard output.
    pub(super) fn stream(&self) -> Option<&Events> {
        self.events.as_ref().filter(|events| !events.beside_data())
    }

    /// Lines that begin with a word of a colour of its own.
    pub(super) fn verdicts(&self, rows: &[Vec<String>], paints: impl Iterator<Item = Paint>) {
        for (line, paint) in aligned(rows, &[]).iter().zip(paints) {
            let (first, rest) = line.split_at(line.find(' ').unwrap_or(line.len()));
            self.result(&format!("{}{rest}", self.paint(paint, first)));
        }
    }

    pub(super) fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// Whether lines about progress are wanted.
    pub(super) fn shows_progress(&self) -> bool {
        !self.quiet && !self.is_json() && self.events.is_none()
    }

    /// A line of a result.
    pub(super) fn result(&self, line: &str) {
        if let Some(events) = self.stream() {
            return events.write(&LogEvent::note(Level::Info, line.trim().to_owned()));
        }
        // A closed pipe (`lake ls | head`) is the reader's wish, not a fault.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }

    /// A result for programs.
    pub(super) fn json(&self, value: &serde_json::Value) {
        if let Some(events) = self.stream() {
            return events.write(&LogEvent::report(value));
        }
        self.result(&serde_json::to_string_pretty(value).unwrap_or_default());
    }

    /// A line about what goes on.
    pub(super) fn note(&self, line: &str) {
        if let Some(events) = &self.events {
            events.write(&LogEvent::note(Level::Info, line.to_owned()));
        } else if self.shows_progress() {
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        }
    }

    /// A line about what somebody should look at.
    pub(super) fn warning(&self, text: &str) {
        match &self.events {
            Some(events) => events.write(&LogEvent::note(Level::Warn, text.to_owned())),
            None => self.note(&format!("{}: {text}", self.paint_err(Paint::Yellow, "warning"))),
        }
    }

    /// What stops the program.
    pub(super) fn error(&self, error: &anyhow::Error) {
        if self.is_json() && self.stream().is_none() {
            self.json(&serde_json::json!({"error": format!("{error:#}")}));
        }
        // A failure of a node tells its cause in its own words.
        let mut lines = match error.downcast_ref::<crate::run::Failure>() {
            Some(failure) => failure.to_string(),
            None => format!("{error:#}"),
        };
        if let Some(found) = error.downcast_ref::<crate::graph::SelectError>()
            && let Some(help) = &found.help
        {
            lines.push_str(&format!("\n  = help: {help}"));
        }
        if let Some(found) = error.downcast_ref::<crate::artifacts::StateError>() {
            lines.push_str(&format!("\n  = help: {}", found.help));
        }
        if let Some(crate::project::ReadError::NoProject { .. }) = error.downcast_ref() {
            lines.push_str("\n  = help: go to the project's folder, give --project-dir, or start one with `lake init`");
        }
        match &self.events {
            Some(events) => events.write(&LogEvent::stopped_by(lines)),
            None => self.failure(&lines),
        }
    }

    /// The last line of a program that could not do what it was asked.
    pub(super) fn failure(&self, text: &str) {
        if let Some(events) = &self.events {
            return events.write(&LogEvent::note(Level::Error, text.to_owned()));
        }
        let _ = writeln!(std::io::stderr().lock(), "{}: {text}", self.paint_err(Paint::Red, "error"));
    }

    /// Diagnostics, in the order of the files.
    pub(super) fn diagnostics(&self, diagnostics: &Diagnostics) {
        if let Some(events) = &self.events {
            let list = diagnostics.sorted();
            return list.into_iter().for_each(|diagnostic| events.write(&LogEvent::diagnostic(diagnostic)));
        }
        let color = if self.color_err { Color::Always } else { Color::Never };
        let mut list = diagnostics.sorted();
        list.retain(|diagnostic| !self.quiet || diagnostic.severity == Severity::Error);
        let hidden = list.len().saturating_sub(SHOWN);
        if hidden > 0 {
            list.sort_by_key(|diagnostic| diagnostic.severity);
        }
        for diagnostic in list.iter().take(SHOWN) {
            let _ = writeln!(std::io::stderr().lock(), "{}\n", render::text(diagnostic, color));
        }
        if hidden > 0 {
            let _ = writeln!(std::io::stderr().lock(), "... and {hidden} more; --output json has them all\n");
        }
    }

    pub(super) fn paint(&self, paint: Paint, text: &str) -> String {
        painted(self.color_out, paint, text)
    }

    pub(super) fn paint_err(&self, paint: Paint, text: &str) -> String {
        painted(self.color_err, paint, text)
    }
}

fn painted(on: bool, paint: Paint, text: &str) -> String {
    if on { format!("\u{1b}[{}m{text}\u{1b}[0m", paint.code()) } else { text.to_owned() }
}
