//! `lake retry`: the last command again, for what failed or did not run.

use serde_json::{Value, json};

use super::args::{Global, RetryArgs, RunArgs, SeedArgs, SelectArgs};
use super::printer::Printer;
use super::test_args::TestArgs;
use super::{ExitStatus, Pipeline, build, test};
use crate::artifacts::{self, ARTIFACTS_FOLDER, StateError};
use crate::words::plural;

/// What a command was called with, as `run_results.json` keeps it: dbt's `args`.
pub(super) fn called(which: &str, global: &Global, args: &impl serde::Serialize) -> Value {
    let mut called = json!({"which": which, "target": global.target, "vars": global.vars});
    if let (Some(called), Ok(Value::Object(args))) = (called.as_object_mut(), serde_json::to_value(args)) {
        called.extend(args);
    }
    called
}

pub(super) fn run(global: &Global, args: &RetryArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let folder = match &args.state {
        Some(folder) => folder.clone(),
        None => crate::project::read(&global.project_dir)?.folder.join(ARTIFACTS_FOLDER),
    };
    let last = artifacts::read_last_run(&folder)?;
    let called = &last.args;
    let which = called["which"].as_str().unwrap_or_default();
    // The flags of this call win over those of the last one.
    let text = |key: &str| called[key].as_str().map(str::to_owned);
    let global = Global {
        target: global.target.clone().or_else(|| text("target")),
        vars: global.vars.clone().or_else(|| text("vars")),
        ..global.clone()
    };
    let Ok(pipeline) = Pipeline::load(&global, printer)? else { return Ok(ExitStatus::Wrong) };
    let (names, gone) = last.undone(&pipeline.project);
    if gone > 0 {
        printer.note(&format!("{} of the last run no longer in the project", plural(gone as u64, "node")));
    }
    if names.is_empty() {
        printer.note(&format!("nothing to retry: `lake {which}` left nothing undone"));
        return Ok(ExitStatus::Fine);
    }
    let again = |selection: &SelectArgs| SelectArgs { select: names.clone(), selector: None, ..selection.clone() };
    let unreadable = |_| damaged(which);
    match which {
        "build" | "run" => {
            let mut before: RunArgs = serde_json::from_value(called.clone()).map_err(unreadable)?;
            before.selection = again(&before.selection);
            before.fail_fast |= args.fail_fast;
            let what = if which == "build" { build::What::All } else { build::What::Models };
            build::run_loaded(pipeline, &global, &before, what, printer)
        }
        "seed" => {
            let mut before: SeedArgs = serde_json::from_value(called.clone()).map_err(unreadable)?;
            before.selection = again(&before.selection);
            build::run_loaded(pipeline, &global, &(&before).into(), build::What::Seeds, printer)
        }
        "test" => {
            let mut before: TestArgs = serde_json::from_value(called.clone()).map_err(unreadable)?;
            before.selection = again(&before.selection);
            test::run_loaded(pipeline, &global, &before, printer)
        }
        "source replay" => anyhow::bail!("the last run was `lake source replay`: call it again, it takes what is left"),
        _ => Err(damaged(which).into()),
    }
}

fn damaged(which: &str) -> StateError {
    StateError {
        message: format!("the last run, `{which}`, cannot be called again from its run_results.json"),
        help: "it was written by another version of lake, or edited: call the command itself".to_owned(),
    }
}
