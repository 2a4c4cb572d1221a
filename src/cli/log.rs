//! Where logs go: lines on standard error for people, events for programs.

use std::fmt::{Debug, Write as _};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

use super::ExitStatus;
use crate::artifacts::{Level, LogEvent};
use crate::session;

/// Writes events, one a line.
#[derive(Debug, Clone)]
pub(super) struct Events {
    invocation_id: Arc<str>,
    beside_data: bool,
    quiet: bool,
}

impl Events {
    /// The events of a call: on standard output, or on standard error `beside_data`.
    pub(super) fn new(invocation_id: &str, beside_data: bool, quiet: bool) -> Self {
        Self { invocation_id: invocation_id.into(), beside_data, quiet }
    }

    /// Whether standard output is for something else.
    pub(super) fn beside_data(&self) -> bool {
        self.beside_data
    }

    /// Writes an event. Whoever reads it has the whole line at once.
    pub(super) fn write(&self, event: &LogEvent) {
        if self.quiet && !event.is_result() {
            return;
        }
        let mut line = event.line(&self.invocation_id);
        line.push('\n');
        // A closed pipe is the reader's wish, not a fault.
        let _ = match self.beside_data {
            true => std::io::stderr().lock().write_all(line.as_bytes()),
            false => {
                let mut out = std::io::stdout().lock();
                out.write_all(line.as_bytes()).and_then(|()| out.flush())
            }
        };
    }

    /// Writes events in their order.
    pub(super) fn write_all(&self, events: impl IntoIterator<Item = LogEvent>) {
        events.into_iter().for_each(|event| self.write(&event));
    }

    /// Tells how the command ended.
    pub(super) fn end(&self, command: &str, status: ExitStatus, took: Duration) {
        let (success, seconds) = (status == ExitStatus::Fine, took.as_secs_f64());
        self.write(&LogEvent::used(command, success, seconds, &session::usage()));
        self.write(&LogEvent::completed(command, success, status.code(), seconds));
    }
}

/// Begins to log: what is worth a warning, and more with each `-v`.
pub(super) fn start(verbose: u8, events: Option<&Events>) {
    let default = match verbose {
        0 => "off,lake=warn",
        1 => "off,lake=info",
        2 => "warn,lake=debug,deltalake_core=info",
        _ => "info,lake=trace",
    };
    let filter = EnvFilter::try_from_env("LAKE_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let logs = tracing_subscriber::registry().with(filter);
    match events {
        Some(events) => logs.with(Notes(events.clone())).init(),
        None => logs.with(fmt::layer().with_writer(std::io::stderr).with_target(verbose > 1)).init(),
    }
}

/// Makes events of what is logged.
struct Notes(Events);

impl<S: Subscriber> Layer<S> for Notes {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let level = match *event.metadata().level() {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            tracing::Level::DEBUG | tracing::Level::TRACE => Level::Debug,
        };
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.write(&LogEvent::note(level, text.0));
    }
}

/// What is logged, as one line: the message, and fields as `name=value`.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let gap = if self.0.is_empty() { "" } else { " " };
        // A text takes everything.
        let _ = match field.name() {
            "message" => write!(self.0, "{gap}{value:?}"),
            name => write!(self.0, "{gap}{name}={value:?}"),
        };
    }
}
