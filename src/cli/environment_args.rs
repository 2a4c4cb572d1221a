//! The arguments of commands that look at two targets: `--defer-to`, and `lake clone`, `promote` and `drop`.

use clap::Args;
use serde::{Deserialize, Serialize};

use super::args::SelectArgs;

/// Where tables are read that the own target lacks.
#[derive(Debug, Args, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct DeferArgs {
    /// Read models that are not selected and have no table in this target from the lake of another one
    #[arg(long, value_name = "TARGET", env = "LAKE_DEFER_TO")]
    pub(super) defer_to: Option<String>,
    /// With --defer-to: read models that are not selected from there even if they have a table here
    #[arg(long, requires = "defer_to")]
    pub(super) favor_state: bool,
}

/// What to compile.
#[derive(Debug, Args)]
pub(super) struct CompileArgs {
    /// Which nodes.
    #[command(flatten)]
    pub(super) selection: SelectArgs,
    /// Where tables are read.
    #[command(flatten)]
    pub(super) defer: DeferArgs,
}

/// What to clone.
#[derive(Debug, Args)]
pub(super) struct CloneArgs {
    /// The target whose tables are taken
    #[arg(long, value_name = "TARGET")]
    pub(super) from: String,
    /// The target that gets them [default: --target]
    #[arg(long, value_name = "TARGET")]
    pub(super) to: Option<String>,
    /// Which tables.
    #[command(flatten)]
    pub(super) selection: SelectArgs,
    /// Only say what would be done
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// What to promote.
#[derive(Debug, Args)]
pub(super) struct PromoteArgs {
    /// From where to where, and which tables.
    #[command(flatten)]
    pub(super) tables: CloneArgs,
    /// Publish all tables in one burst; if one is refused, none
    #[arg(long)]
    pub(super) atomic: bool,
}

/// What to drop.
#[derive(Debug, Args)]
pub(super) struct DropArgs {
    /// Which tables; those of all models if nothing is selected.
    #[command(flatten)]
    pub(super) selection: SelectArgs,
    /// Drop tables of models that are no longer in the project; without a selection, these alone
    #[arg(long)]
    pub(super) orphans: bool,
    /// Drop what is listed
    #[arg(long, conflicts_with = "dry_run")]
    pub(super) yes: bool,
    /// Only list what would be dropped
    #[arg(long)]
    pub(super) dry_run: bool,
}
