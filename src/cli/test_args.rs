//! The arguments of `lake test`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::args::SelectArgs;
use super::environment_args::DeferArgs;

/// What to test.
#[derive(Debug, Args, Clone, Default, Serialize, Deserialize)]
#[command(args_conflicts_with_subcommands = true)]
#[serde(default)]
pub(super) struct TestArgs {
    /// What to do instead of testing.
    #[command(subcommand)]
    #[serde(skip)]
    pub(super) command: Option<TestCommand>,
    /// Which tests, by their names or by what they read.
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) selection: SelectArgs,
    /// Where tables are read.
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) defer: DeferArgs,
    /// Run the tests that the plan of their model proves, too
    #[arg(long)]
    pub(super) no_prove: bool,
    /// Show the rows that failed a test when it last failed: `orders.unique_orders_id`, or the name alone
    #[arg(long, value_name = "MODEL.TEST")]
    #[serde(skip)]
    pub(super) failures: Option<String>,
    /// Show the generic tests that are built in, and what they take
    #[arg(long)]
    #[serde(skip)]
    pub(super) list: bool,
}

impl TestArgs {
    /// Whether tests run.
    pub(super) fn is_a_run(&self) -> bool {
        self.command.is_none() && self.failures.is_none() && !self.list
    }
}

/// Beside testing.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum TestCommand {
    /// Write a unit test of a few real rows; sensitive columns are masked
    Record(RecordArgs),
    /// Suggest tests that the table of a model passes today, as YAML
    Suggest(SuggestArgs),
}

/// What to suggest tests for.
#[derive(Debug, Clone, Args)]
pub(super) struct SuggestArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    pub(super) model: String,
}

/// What to record.
#[derive(Debug, Clone, Args)]
pub(super) struct RecordArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    pub(super) model: String,
    /// Rows of each of its inputs, at most
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(super) rows: usize,
    /// What to call the test [default: the model's name and `_recorded`]
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
    /// A YAML file below models/ to add it to; it is printed if there is none
    #[arg(long, value_name = "FILE")]
    pub(super) output_file: Option<PathBuf>,
}
