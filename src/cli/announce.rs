//! Events of OpenLineage around a run. They never decide how it ends: what cannot be told is a warning.

use tokio::runtime;

use super::printer::Printer;
use crate::artifacts::Announcer;
use crate::run::{Inputs, RunReport, SharedRuntime, Status};

/// Begins to tell of a run, if the project or the environment says to whom.
pub(super) fn begin(runtime: &SharedRuntime, called: &serde_json::Value, printer: &Printer) -> Option<Announcer> {
    let command = called["which"].as_str().unwrap_or("run");
    match Announcer::begin(runtime, command) {
        Ok(announcer) => announcer,
        Err(why) => {
            warn(&why, printer);
            None
        }
    }
}

/// Tells how a run ended, with what is known of the tables that it made.
pub(super) fn finish(
    announcer: Option<Announcer>,
    inputs: &Inputs,
    async_runtime: &runtime::Runtime,
    report: &RunReport,
    printer: &Printer,
) {
    let Some(announcer) = announcer else { return };
    let profiles = async_runtime.block_on(async {
        let mut found = Vec::new();
        let built = report.nodes.iter().filter(|node| node.status == Status::Success && node.version.is_some());
        for node in built {
            // A table that cannot be read has been told by the run.
            if let Ok(Some(profile)) = inputs.profile_now(&node.name, false).await {
                found.push((node.name.clone(), profile));
            }
        }
        found
    });
    announcer.finish(report, &profiles).iter().for_each(|problem| warn(problem, printer));
}

fn warn(problem: &str, printer: &Printer) {
    printer.warning(&format!("not all events of OpenLineage could be sent: {problem}"));
}
