//! `lake clean`: local artifacts away, or staged files that were never published. Tables are never touched.

use anyhow::Context;

use super::args::{CleanArgs, Global};
use super::history::runtime;
use super::printer::Printer;
use super::{ExitStatus, Pipeline, targets};
use crate::artifacts::ARTIFACTS_FOLDER;
use crate::words::plural;

pub(super) fn run(global: &Global, args: &CleanArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    if args.staged {
        return staged(global, printer);
    }
    // Only a project's own folder is cleaned: somebody may have called from elsewhere.
    let files = crate::project::read(&global.project_dir)?;
    let folder = files.folder.join(ARTIFACTS_FOLDER);
    if folder.is_dir() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove `{}`", folder.display()))?;
        printer.note(&format!("removed {}", folder.display()));
    } else {
        printer.note("nothing to clean");
    }
    Ok(ExitStatus::Fine)
}

/// What audits refused, of all models of the project.
fn staged(global: &Global, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    let lake = targets::open(&pipeline.project, &pipeline.project.target)?;
    let async_runtime = runtime()?;
    let mut cleaned = 0;
    for model in pipeline.project.models.values().filter(|model| model.is_stored()) {
        cleaned += usize::from(async_runtime.block_on(lake.forget_kept(&model.name))? > 0);
    }
    printer.note(&match cleaned {
        0 => "nothing is staged".to_owned(),
        _ => format!("removed what was staged of {}", plural(cleaned as u64, "model")),
    });
    Ok(ExitStatus::Fine)
}
