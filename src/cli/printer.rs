//! Where text goes: results to standard output, everything else to standard error.

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use super::args::{Global, Output};
use super::log::Events;
use super::screen::Screen;
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
    /// Where a live board may be drawn.
    screen: Option<Arc<Screen>>,
    quiet: bool,
    out: Painter,
    err: Painter,
}

/// Gives texts colours, or leaves them as they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Painter(bool);

impl Painter {
    pub(super) fn new(on: bool) -> Self {
        Self(on)
    }

    pub(super) fn is_on(self) -> bool {
        self.0
    }

    pub(super) fn paint(self, paint: Paint, text: &str) -> String {
        if self.0 { format!("\u{1b}[{}m{text}\u{1b}[0m", paint.code()) } else { text.to_owned() }
    }
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
        let invocation_id = uuid::Uuid::now_v7().to_string();
        let events = global.log.is_json().then(|| Events::new(&invocation_id, has_data, global.quiet));
        let (on_out, on_err) = (std::io::stdout().is_terminal(), std::io::stderr().is_terminal());
        let painter = |is_terminal| Painter::new(events.is_none() && global.log.use_colors(is_terminal));
        let is_text = events.is_none() && !global.quiet && global.output == Output::Text;
        let live = is_text && on_out && on_err && global.log.draws();
        Self {
            invocation_id,
            output: global.output,
            screen: live.then(|| Arc::new(Screen::new())),
            quiet: global.quiet,
            out: painter(on_out),
            err: painter(on_err),
            events,
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

    /// The terminal, if a live board may be drawn there.
    pub(super) fn screen(&self) -> Option<Arc<Screen>> {
        self.screen.clone()
    }

    /// Colours of standard error.
    pub(super) fn painter_err(&self) -> Painter {
        self.err
    }

    /// A text on standard output, or above what is drawn on the terminal.
    fn write_out(&self, text: &str) {
        if self.screen.as_ref().is_none_or(|screen| !screen.say(text)) {
            // A closed pipe (`lake ls | head`) is the reader's wish, not a fault.
            let _ = writeln!(std::io::stdout().lock(), "{text}");
        }
    }

    /// A text on standard error, or above what is drawn on the terminal.
    fn write_err(&self, text: &str) {
        if self.screen.as_ref().is_none_or(|screen| !screen.say(text)) {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
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
        self.write_out(line);
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
            self.write_err(line);
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

    /// What went wrong beside the result, also where progress is not shown.
    pub(super) fn mishap(&self, text: &str) {
        match &self.events {
            Some(events) => events.write(&LogEvent::mishap(text.to_owned())),
            None => self.write_err(&format!("{}: {text}", self.paint_err(Paint::Yellow, "warning"))),
        }
    }

    /// The last line of a program that could not do what it was asked.
    pub(super) fn failure(&self, text: &str) {
        if let Some(events) = &self.events {
            return events.write(&LogEvent::note(Level::Error, text.to_owned()));
        }
        self.write_err(&format!("{}: {text}", self.paint_err(Paint::Red, "error")));
    }

    /// Diagnostics, in the order of the files.
    pub(super) fn diagnostics(&self, diagnostics: &Diagnostics) {
        if let Some(events) = &self.events {
            let list = diagnostics.sorted();
            return list.into_iter().for_each(|diagnostic| events.write(&LogEvent::diagnostic(diagnostic)));
        }
        let color = if self.err.is_on() { Color::Always } else { Color::Never };
        let mut list = diagnostics.sorted();
        list.retain(|diagnostic| !self.quiet || diagnostic.severity == Severity::Error);
        let hidden = list.len().saturating_sub(SHOWN);
        if hidden > 0 {
            list.sort_by_key(|diagnostic| diagnostic.severity);
        }
        for diagnostic in list.iter().take(SHOWN) {
            self.write_err(&format!("{}\n", render::text(diagnostic, color)));
        }
        if hidden > 0 {
            self.write_err(&format!("... and {hidden} more; --output json has them all\n"));
        }
    }

    pub(super) fn paint(&self, paint: Paint, text: &str) -> String {
        self.out.paint(paint, text)
    }

    pub(super) fn paint_err(&self, paint: Paint, text: &str) -> String {
        self.err.paint(paint, text)
    }
}
