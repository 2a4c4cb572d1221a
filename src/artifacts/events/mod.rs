//! What a command tells programs while it goes on: one JSON object a line, in the shapes of dbt's structured logs.
//!
//! Names, codes and fields are dbt's where it has such an event. What it has no field for stands in `data.lake`, in the
//! shapes of `--output json`.

mod beside;
mod node_info;
mod of_run;
mod summary;

use chrono::Utc;
use serde::Serialize;
use serde_json::{Value, json};

use super::moment;
use crate::diagnostics::{Diagnostic, Severity, render};
use crate::session::Usage;

pub use of_run::RunEvents;

/// The version of the shape, as dbt counts it.
const LOG_VERSION: u64 = 3;

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For programs.
    Debug,
    /// What goes on.
    Info,
    /// What somebody should look at.
    Warn,
    /// What failed.
    Error,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub struct LogEvent {
    name: &'static str,
    code: &'static str,
    level: Level,
    message: String,
    data: Value,
    /// It is told to those who want to hear of results and errors only.
    is_result: bool,
}

impl LogEvent {
    fn new(name: &'static str, code: &'static str, level: Level, message: String, data: Value) -> Self {
        let is_result = level == Level::Error || matches!(name, "EndOfRunSummary" | "CommandCompleted" | "Report");
        Self { name, code, level, message, data, is_result }
    }

    /// The first of a command.
    pub fn begun() -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let data = json!({"version": format!("={version}"), "log_version": LOG_VERSION});
        Self::new("MainReportVersion", "A001", Level::Info, format!("Running with lake={version}"), data)
    }

    /// A line for people.
    pub fn note(level: Level, message: String) -> Self {
        let data = json!({"msg": message});
        Self::new("Note", "Z050", level, message, data)
    }

    /// What went wrong beside the result.
    pub fn mishap(message: String) -> Self {
        Self { is_result: true, ..Self::note(Level::Warn, message) }
    }

    /// What stops the command.
    pub fn stopped_by(message: String) -> Self {
        let data = json!({"exc": message});
        Self::new("MainEncounteredError", "Z002", Level::Error, message, data)
    }

    /// A mistake in the project.
    pub fn diagnostic(diagnostic: &Diagnostic) -> Self {
        let level = match diagnostic.severity {
            Severity::Error => Level::Error,
            Severity::Warning => Level::Warn,
        };
        let place = diagnostic.span.as_ref().map(|span| {
            let (line, column) = span.position();
            (span.file.path.clone(), line, column)
        });
        let message = match &place {
            Some((file, line, column)) => format!("{file}:{line}:{column}: {}", diagnostic.message),
            None => diagnostic.message.clone(),
        };
        let (file, line, column) = place.map_or((None, None, None), |(f, l, c)| (Some(f), Some(l), Some(c)));
        let data = json!({"file": file, "line": line, "column": column, "lake": render::json(diagnostic)});
        Self::new("Diagnostic", diagnostic.id.code(), level, message, data)
    }

    /// What the command prints with `--output json`.
    pub fn report(report: &Value) -> Self {
        Self::new("Report", "R001", Level::Info, "The whole report".to_owned(), json!({"lake": report}))
    }

    /// What was written for other programs.
    pub fn written(kind: &str, path: &str) -> Self {
        let data = json!({"artifact_type": kind, "artifact_path": path});
        Self::new("ArtifactWritten", "P001", Level::Debug, format!("Wrote {kind} to {path}"), data)
    }

    /// What the process used until its end.
    pub fn used(command: &str, success: bool, seconds: f64, used: &Usage) -> Self {
        let data = json!({
            "command_name": command,
            "command_success": success,
            "command_wall_clock_time": seconds,
            "process_user_time": used.user_seconds,
            "process_kernel_time": used.kernel_seconds,
            // dbt has it as the machine tells it: in kilobytes.
            "process_mem_max_rss": used.peak_memory / 1024,
            "lake": {"peak_memory": used.peak_memory},
        });
        let message = format!("`lake {command}` used at most {} bytes of memory", used.peak_memory);
        Self::new("ResourceReport", "Z051", Level::Debug, message, data)
    }

    /// The last of a command.
    pub fn completed(command: &str, success: bool, exit_code: u8, seconds: f64) -> Self {
        let now = moment(Utc::now());
        let data = json!({
            "command": command, "success": success, "completed_at": now, "elapsed": seconds,
            "lake": {"exit_code": exit_code},
        });
        let word = if success { "succeeded" } else { "failed" };
        let message = format!("`lake {command}` {word} after {seconds:.2} seconds");
        Self::new("CommandCompleted", "Q039", Level::Debug, message, data)
    }

    /// Whether it is told to those who want to hear of results and errors only.
    pub fn is_result(&self) -> bool {
        self.is_result
    }

    /// The event on a line of its own.
    pub fn line(&self, invocation_id: &str) -> String {
        let thread = std::thread::current();
        let event = json!({
            "info": {
                "name": self.name,
                "code": self.code,
                "level": self.level,
                "msg": self.message,
                "ts": moment(Utc::now()),
                "invocation_id": invocation_id,
                "pid": std::process::id(),
                "thread": thread.name().unwrap_or("lake"),
                "category": "",
                "extra": {},
            },
            "data": self.data,
        });
        event.to_string()
    }
}
