//! The live board of a run: what runs, how far it is, what has failed. It is drawn again ten times a second at the foot of
//! the terminal; what has ended goes by above it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use console::{Alignment, measure_text_width, pad_str};

use super::printer::{Paint, Painter};
use super::screen::Screen;
use crate::names::TableName;
use crate::run::{NodeResult, Status, TestResult, TestStatus};
use crate::session;
use crate::tables::{Gauge, Gauges, Phase};
use crate::words::{short, size, thousands};

/// How often it is drawn.
const TICK: Duration = Duration::from_millis(100);
/// Over how long rows a second are counted.
const WINDOW: Duration = Duration::from_secs(3);
/// Failures that stay in sight.
const FAILURES: usize = 5;
/// Cells of the bar where there is room for it, and the fewest that say something.
const BAR: usize = 24;
const LEAST_BAR: usize = 8;
/// Narrower terminals get shorter numbers.
const NARROW: usize = 70;
const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/// A board, and the thread that draws it.
pub(super) struct Board {
    shared: Arc<Shared>,
    drawing: Option<JoinHandle<()>>,
}

struct Shared {
    screen: Arc<Screen>,
    gauges: Gauges,
    state: Mutex<State>,
    /// Something is new, or it is over.
    woken: Condvar,
}

/// What is on the board.
struct State {
    painter: Painter,
    total: usize,
    start: Instant,
    running: Vec<Running>,
    ended: usize,
    ok: usize,
    warned: usize,
    failed: usize,
    skipped: usize,
    failures: Vec<String>,
    frame: usize,
    over: bool,
}

/// A node that runs.
struct Running {
    name: TableName,
    gauge: Arc<Gauge>,
    start: Instant,
    /// When there were how many rows.
    seen: VecDeque<(Instant, u64)>,
    phase: Phase,
}

impl Board {
    /// Begins to draw.
    pub(super) fn new(screen: Arc<Screen>, painter: Painter, gauges: Gauges, total: usize) -> Self {
        let state = State {
            painter,
            total,
            start: Instant::now(),
            running: Vec::new(),
            ended: 0,
            ok: 0,
            warned: 0,
            failed: 0,
            skipped: 0,
            failures: Vec::new(),
            frame: 0,
            over: false,
        };
        let shared = Arc::new(Shared { screen, gauges, state: Mutex::new(state), woken: Condvar::new() });
        let drawn = Arc::clone(&shared);
        // Without a thread there is no board, and nothing else is lost.
        let drawing = std::thread::Builder::new().name("board".to_owned()).spawn(move || draw(&drawn)).ok();
        Self { shared, drawing }
    }

    /// A node starts.
    pub(super) fn started(&self, name: &TableName) {
        let gauge = self.shared.gauges.watch(name);
        let (start, seen) = (Instant::now(), VecDeque::new());
        self.shared.state().running.push(Running { name: name.clone(), gauge, start, seen, phase: Phase::Looking });
    }

    /// A node has ended.
    pub(super) fn finished(&self, result: &NodeResult) {
        self.shared.gauges.forget(&result.name);
        let mut state = self.shared.state();
        state.running.retain(|running| running.name != result.name);
        state.ended += 1;
        let failing: Vec<&TestResult> = result.tests.iter().filter(|test| test.blocks()).collect();
        state.warned += result.tests.iter().filter(|test| test.status == TestStatus::Warn).count();
        match result.status {
            Status::Success => state.ok += 1,
            Status::Skipped | Status::Blocked | Status::Cancelled => state.skipped += 1,
            Status::Error => state.failed += 1,
        }
        if result.status == Status::Error {
            state.failures.push(format!("{}  {}", result.name, first_line(&result.reason)));
        } else {
            // Its tests do not stand in its way.
            let told =
                failing.iter().map(|test| format!("{}  {}", test.name, test.message.as_deref().unwrap_or("fails")));
            state.failures.extend(told);
        }
    }

    /// Something beside the nodes has failed.
    pub(super) fn failed(&self, what: &str) {
        let mut state = self.shared.state();
        state.failed += 1;
        state.failures.push(first_line(what).to_owned());
    }

    /// Takes the board away, and says what failed, if the lines that told it may be out of sight.
    pub(super) fn end(&mut self) -> Vec<String> {
        self.stop();
        let state = self.shared.state();
        let (height, _) = self.shared.screen.size();
        if state.ended + 1 < height { Vec::new() } else { state.pinned(height / 2) }
    }

    fn stop(&mut self) {
        self.shared.state().over = true;
        self.shared.woken.notify_all();
        if let Some(drawing) = self.drawing.take() {
            // If it panicked there is nothing to draw any more.
            let _ = drawing.join();
        }
        self.shared.screen.clear();
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Draws until it is over.
fn draw(shared: &Shared) {
    let mut state = shared.state();
    while !state.over {
        state.frame += 1;
        let lines = state.lines(shared.screen.size(), Instant::now());
        // Whoever has something to tell need not wait for the terminal.
        drop(state);
        shared.screen.draw(lines);
        state = shared.state();
        if !state.over {
            state = shared.woken.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    /// What there is to see on a terminal of so many lines and columns.
    fn lines(&mut self, (height, width): (usize, usize), now: Instant) -> Vec<String> {
        let failures = self.pinned(FAILURES);
        // One line for the counts, one that stays free for what goes by.
        let room = height.saturating_sub(failures.len() + 2).max(1);
        let spinner = SPINNER[self.frame % SPINNER.len()];
        let widest = self.running.iter().map(|running| measure_text_width(running.name.as_str())).max();
        let names = widest.unwrap_or_default().min((width * 2 / 5).max(12));
        let (painter, all) = (self.painter, self.running.len());
        let shown = if all > room { room.saturating_sub(1) } else { all };
        let mut lines: Vec<String> = Vec::new();
        for (at, running) in self.running.iter_mut().enumerate() {
            running.look(now);
            if at < shown {
                let name = pad_str(running.name.as_str(), names, Alignment::Left, Some("…")).into_owned();
                let (spinner, name) =
                    (painter.paint(Paint::Cyan, &spinner.to_string()), painter.paint(Paint::Bold, &name));
                lines.push(format!("  {spinner} {name} {}", running.told(now, width, painter)));
            }
        }
        if all > shown {
            lines.push(painter.paint(Paint::Dim, &format!("    and {} more", all - shown)));
        }
        lines.extend(failures);
        lines.push(self.counts(width, now));
        lines
    }

    /// The first failures, and how many more there are.
    fn pinned(&self, most: usize) -> Vec<String> {
        let word = self.painter.paint(Paint::Red, "FAIL");
        let more = self.failures.len().saturating_sub(most);
        let mut lines: Vec<String> =
            self.failures.iter().take(most).map(|failure| format!("  {word}  {failure}")).collect();
        if more > 0 {
            lines.push(self.painter.paint(Paint::Red, &format!("  and {more} more")));
        }
        lines
    }

    /// `14 of 30  ok 12  warn 1  fail 1  skip 1  12s  310 MB`, after a bar where there is room for one.
    fn counts(&self, width: usize, now: Instant) -> String {
        let beside = format!("{}  {}", elapsed(now - self.start), size(session::usage().peak_memory));
        let beside = self.painter.paint(Paint::Dim, &beside);
        let line = |with_zeros: bool| {
            let mut text = format!("{} of {}", self.ended, self.total);
            for (count, word, paint) in [
                (self.ok, "ok", Paint::Green),
                (self.warned, "warn", Paint::Yellow),
                (self.failed, "fail", Paint::Red),
                (self.skipped, "skip", Paint::Cyan),
            ] {
                if count > 0 || with_zeros {
                    let paint = if count > 0 { paint } else { Paint::Dim };
                    text.push_str(&format!("  {}", self.painter.paint(paint, &format!("{word} {count}"))));
                }
            }
            format!("{text}  {beside}")
        };
        let room = Screen::room(width);
        let whole = Some(line(true)).filter(|line| measure_text_width(line) <= room);
        let text = whole.unwrap_or_else(|| line(false));
        let cells = room.saturating_sub(measure_text_width(&text) + 1).min(BAR);
        if cells < LEAST_BAR {
            return text;
        }
        let done = (self.ended * cells).checked_div(self.total).unwrap_or(cells).min(cells);
        let (done, left) = ("━".repeat(done), "─".repeat(cells - done));
        format!("{}{} {text}", self.painter.paint(Paint::Cyan, &done), self.painter.paint(Paint::Dim, &left))
    }
}

impl Running {
    /// Looks how far it is.
    fn look(&mut self, now: Instant) {
        let shown = self.gauge.shown();
        if shown.phase != self.phase {
            // Rows that are read are not those that are written.
            self.phase = shown.phase;
            self.seen.clear();
        }
        self.seen.push_back((now, shown.rows));
        while self.seen.len() > 2 && self.seen.front().is_some_and(|(then, _)| now - *then > WINDOW) {
            self.seen.pop_front();
        }
    }

    /// `12s  writing  1,234,567 rows  310k/s  45 MB`.
    fn told(&self, now: Instant, width: usize, painter: Painter) -> String {
        let shown = self.gauge.shown();
        let is_narrow = width < NARROW;
        let (time, phase) = (elapsed(now - self.start), shown.phase.word());
        let mut text = if is_narrow { format!("{time} {phase}") } else { format!("{time:>5}  {phase:<10}") };
        if shown.rows > 0 {
            let rows = if is_narrow { short(shown.rows) } else { thousands(shown.rows) };
            let noun = if shown.rows == 1 { "row" } else { "rows" };
            text.push_str(&if is_narrow { format!(" {rows} {noun}") } else { format!("  {rows:>13} {noun:<4}") });
            let rate = if matches!(shown.phase, Phase::Reading | Phase::Writing) { self.rate() } else { 0 };
            if rate > 0 {
                text.push_str(&format!("  {:>6}/s", short(rate)));
            }
        }
        if shown.bytes > 0 {
            text.push_str(&format!("  {}", size(shown.bytes)));
        }
        painter.paint(Paint::Dim, &text)
    }

    fn rate(&self) -> u64 {
        let (Some((then, before)), Some((now, rows))) = (self.seen.front(), self.seen.back()) else { return 0 };
        let seconds = (*now - *then).as_secs_f64();
        if seconds > 0.0 { (rows.saturating_sub(*before) as f64 / seconds) as u64 } else { 0 }
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// `4s`, `2m05s`, `1h02m`.
fn elapsed(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            painter: Painter::new(false),
            total: 30,
            start: Instant::now(),
            running: Vec::new(),
            ended: 14,
            ok: 12,
            warned: 1,
            failed: 7,
            skipped: 1,
            failures: (1..=7).map(|at| format!("silver.m{at}  no")).collect(),
            frame: 0,
            over: false,
        }
    }

    fn running(count: usize) -> Vec<Running> {
        let one = |at| Running {
            name: TableName::new("silver", format!("a_model_with_a_long_name_{at}")),
            gauge: Gauges::default().watch(&TableName::new("silver", "x")),
            start: Instant::now(),
            seen: VecDeque::new(),
            phase: Phase::Looking,
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn failures_stay_and_the_rest_is_counted() {
        let lines = state().lines((24, 100), Instant::now());
        assert_eq!(lines[0], "  FAIL  silver.m1  no");
        assert_eq!(lines[5], "  and 2 more");
        assert!(lines[6].starts_with("━━━━━━━━━━━───────────── 14"), "{lines:?}");
        assert!(lines[6].contains("14 of 30  ok 12  warn 1  fail 7  skip 1  0s  "), "{lines:?}");
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let mut state = State { running: running(40), failures: Vec::new(), ..state() };
        let lines = state.lines((12, 80), Instant::now());
        assert_eq!(lines.len(), 11, "{lines:#?}");
        assert_eq!(lines[9], "    and 31 more");
        assert!(lines[0].contains("silver.a_model_with_a_long_name…    0s  looking"), "{lines:#?}");
        let narrow = state.lines((12, 40), Instant::now());
        assert!(narrow[0].starts_with("  ⠋ silver.a_model_… "), "{narrow:#?}");
        assert!(narrow.last().is_some_and(|line| line.starts_with("14 of 30  ok 12  warn 1")), "{narrow:#?}");
    }

    #[test]
    fn times_read_well() {
        assert_eq!([3, 125, 3_720].map(|seconds| elapsed(Duration::from_secs(seconds))), ["3s", "2m05s", "1h02m"]);
    }
}
