//! The last events of a run: what it came to, in numbers.

use serde_json::{Map, Value, json};

use super::of_run::big;
use super::{Level, LogEvent};
use crate::run::{NodeResult, RunReport, Status, TestStatus};
use crate::session;
use crate::words::plural;

/// The statistics of a run, and its end.
pub(super) fn summary(report: &RunReport) -> [LogEvent; 2] {
    let tests = |status| {
        let of_data = report.all_tests().filter(|test| test.status == status).count();
        of_data + report.unit_tests.iter().filter(|test| test.status == status).count()
    };
    let exports = |status| report.exports.iter().filter(|export| export.status == status).count();
    let both = |status| report.count(status) + exports(status);
    let pass = tests(TestStatus::Pass) + both(Status::Success);
    let errors = tests(TestStatus::Fail) + tests(TestStatus::Error) + both(Status::Error);
    let skipped = both(Status::Blocked) + both(Status::Cancelled);
    let (unchanged, warnings) = (both(Status::Skipped), tests(TestStatus::Warn));
    let errors = errors + report.hooks.iter().filter(|hook| !hook.ok).count();
    let stats = [
        ("pass", pass),
        ("warn", warnings),
        ("error", errors),
        ("skip", skipped),
        ("no-op", unchanged),
        ("total", pass + warnings + errors + skipped + unchanged),
    ];
    let line: Vec<String> = stats.iter().map(|(word, count)| format!("{}={count}", big(word))).collect();
    let counts: Map<String, Value> = stats.iter().map(|(word, count)| ((*word).to_owned(), (*count).into())).collect();
    let sum = |of: fn(&NodeResult) -> Option<u64>| report.nodes.iter().filter_map(of).sum::<u64>();
    let lake = json!({
        "seconds": report.seconds,
        "rows": sum(|node| node.rows),
        "bytes": sum(|node| node.bytes),
        "peak_memory": session::usage().peak_memory,
        "stats": counts,
        "succeeded": report.succeeded(),
        "archived": report.archived,
    });
    let data = json!({
        "num_errors": errors, "num_warnings": warnings, "num_partial_success": 0,
        "keyboard_interrupt": report.cancelled, "lake": lake,
    });
    let message = match (report.cancelled, errors, warnings) {
        (true, ..) => "Stopped before the end".to_owned(),
        (false, 0, 0) => "Completed".to_owned(),
        (false, 0, _) => format!("Completed with {}", plural(warnings as u64, "warning")),
        (false, _, 0) => format!("Completed with {}", plural(errors as u64, "error")),
        (false, ..) => {
            format!("Completed with {} and {}", plural(errors as u64, "error"), plural(warnings as u64, "warning"))
        }
    };
    [
        LogEvent::new("StatsLine", "Z023", Level::Info, line.join(" "), json!({"stats": counts})),
        LogEvent::new("EndOfRunSummary", "Z030", Level::Info, message, data),
    ]
}
