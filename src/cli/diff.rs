//! `lake diff`: what changed since another compile.

use super::args::{DiffArgs, Global};
use super::printer::Printer;
use super::{ExitStatus, choice};

pub(super) fn run(_global: &Global, args: &DiffArgs, _printer: &Printer) -> anyhow::Result<ExitStatus> {
    choice::state_folder(args.selection.state.as_ref())?;
    Ok(ExitStatus::Fine)
}
