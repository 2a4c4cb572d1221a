//! `lake clean`: local artifacts away. Tables are never touched.

use anyhow::Context;

use super::ExitStatus;
use super::args::Global;
use super::printer::Printer;
use crate::artifacts::ARTIFACTS_FOLDER;

pub(super) fn run(global: &Global, printer: &Printer) -> anyhow::Result<ExitStatus> {
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
