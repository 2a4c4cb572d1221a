//! The lakes of targets: the only place that opens one.

use std::collections::BTreeSet;

use super::environment_args::DeferArgs;
use super::printer::Printer;
use crate::graph::SelectError;
use crate::names::{TableName, nearest};
use crate::project::{Project, Target};
use crate::run::{self, Deferral, Inputs};
use crate::tables::Lake;

/// The lake of a target.
pub(super) fn open(project: &Project, target: &Target) -> anyhow::Result<Lake> {
    Ok(Lake::of(target, &project.folder)?.laid_out(run::layouts(project)))
}

/// A target of the project by its name.
pub(super) fn named(project: &Project, name: &str) -> anyhow::Result<Target> {
    match project.targets.named(name) {
        Ok(Some(target)) => Ok(target),
        Ok(None) => {
            let known: Vec<&str> = project.targets.names().collect();
            let help = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("project.yml has {}", known.join(", ")),
            };
            Err(SelectError { message: format!("there is no target `{name}`"), help: Some(help) }.into())
        }
        Err(why) => anyhow::bail!("the root of target `{name}` cannot be told: {why}"),
    }
}

/// Says which tables were read from another lake.
pub(super) fn note_read(inputs: &Inputs, printer: &Printer) {
    for (name, from) in inputs.read_elsewhere() {
        printer.note(&format!("{name} read from {from}"));
    }
}

impl DeferArgs {
    /// The lake that a run defers to, which reads `own` models as they are in its own lake; `None` if that is the one.
    pub(super) fn open(&self, project: &Project, own: BTreeSet<TableName>) -> anyhow::Result<Option<Deferral>> {
        let Some(name) = &self.defer_to else { return Ok(None) };
        let target = named(project, name)?;
        // LAKE_DEFER_TO may be set for all targets.
        if target.name == project.target.name {
            return Ok(None);
        }
        let lake = open(project, &target)?;
        Ok(Some(Deferral { target: target.name, lake, favored: self.favor_state, own }))
    }
}
