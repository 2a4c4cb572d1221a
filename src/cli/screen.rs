//! The region at the foot of a terminal that is drawn again and again, while lines go by above it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use console::{Term, measure_text_width, truncate_str};
use tracing_subscriber::fmt::MakeWriter;

/// A terminal that is not so wide has a neighbour that says so.
const USUAL: (usize, usize) = (24, 80);

/// What a terminal writes at the cursor when keys are pressed: `^C`.
const ECHO: usize = 2;

/// The terminal of the program.
pub(super) struct Screen {
    terminal: Term,
    /// The lines of the region as they were drawn; `None` while there is none.
    region: Mutex<Option<Vec<String>>>,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { terminal: Term::stderr(), region: Mutex::default() }
    }

    /// How many lines and columns there are.
    pub(super) fn size(&self) -> (usize, usize) {
        let usual = |(rows, columns): (u16, u16)| (usize::from(rows), usize::from(columns));
        // A terminal that does not know its size says that it has none.
        self.terminal.size_checked().map(usual).filter(|(rows, columns)| *rows > 0 && *columns > 0).unwrap_or(USUAL)
    }

    /// How much of a line can be seen on a terminal of so many columns.
    pub(super) fn room(columns: usize) -> usize {
        columns.saturating_sub(1 + ECHO)
    }

    /// Draws the region, in place of the one that is there. Lines are cut where the terminal ends.
    pub(super) fn draw(&self, lines: Vec<String>) {
        let mut region = self.region.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = self.fitting(lines);
        if region.as_ref() == Some(&lines) {
            return;
        }
        let mut text = self.away(region.as_deref());
        text.push_str(&lines.join("\n"));
        self.write(&text);
        *region = Some(lines);
    }

    /// Prints lines above the region; says whether there is one.
    pub(super) fn say(&self, text: &str) -> bool {
        let region = self.region.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lines) = region.as_deref() else { return false };
        self.write(&format!("{}{text}\n{}", self.away(Some(lines)), lines.join("\n")));
        true
    }

    /// Takes the region away.
    pub(super) fn clear(&self) {
        let mut region = self.region.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lines) = region.take() {
            self.write(&self.away(Some(&lines)));
        }
    }

    /// What takes a region away: the cursor stands at the end of its last line.
    fn away(&self, lines: Option<&[String]>) -> String {
        let Some(lines) = lines.filter(|lines| !lines.is_empty()) else { return String::new() };
        let (height, width) = self.size();
        // A terminal that became narrower has put what no longer fits into lines of its own.
        let rows: usize = lines.iter().map(|line| measure_text_width(line).max(1).div_ceil(width)).sum();
        match rows.min(height).saturating_sub(1) {
            0 => "\r\u{1b}[J".to_owned(),
            up => format!("\r\u{1b}[{up}A\u{1b}[J"),
        }
    }

    /// The last lines that there is room for, each on one row.
    fn fitting(&self, mut lines: Vec<String>) -> Vec<String> {
        let (height, width) = self.size();
        let room = height.saturating_sub(1).max(1);
        lines.drain(..lines.len().saturating_sub(room));
        lines.iter().map(|line| truncate_str(line, Self::room(width), "…").into_owned()).collect()
    }

    /// All at once, so that nobody sees half of it. A terminal that is gone is no fault.
    fn write(&self, text: &str) {
        let mut out = io::stderr().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// Writes what is logged above the region.
#[derive(Clone)]
pub(super) struct Above(pub(super) Option<Arc<Screen>>);

impl<'a> MakeWriter<'a> for Above {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Above {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        if self.0.as_ref().is_none_or(|screen| !screen.say(text.trim_end_matches('\n'))) {
            io::stderr().lock().write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}
