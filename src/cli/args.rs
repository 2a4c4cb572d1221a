//! The command line, as clap reads it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use super::airflow::AirflowCommand;
use super::channels::NotifyArgs;
use super::diff_args::DiffArgs;
use super::docs_args::DocsArgs;
use super::environment_args::{CloneArgs, CompileArgs, DeferArgs, DropArgs, PromoteArgs};
use super::log_args::LogArgs;
use super::reference::ReferenceArgs;
use super::schema::SchemaArgs;
use super::test_args::TestArgs;
use super::watch::WatchArgs;
use crate::graph::{Indirect, ResourceType};

/// A compiler for lakehouse pipelines: SQL models in, tested Delta tables out.
#[derive(Debug, Parser)]
#[command(name = "lake", version, max_term_width = 110)]
pub(super) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Command,
    /// Flags of every command.
    #[command(flatten)]
    pub(super) global: Global,
}

/// Flags of every command.
#[derive(Debug, Args, Clone)]
pub(super) struct Global {
    /// The project folder
    #[arg(long, global = true, env = "LAKE_PROJECT_DIR", default_value = ".", value_name = "DIR")]
    pub(super) project_dir: PathBuf,
    /// The target of project.yml to work on
    #[arg(long, short = 't', global = true, env = "LAKE_TARGET", value_name = "NAME")]
    pub(super) target: Option<String>,
    /// Variables as a YAML mapping, over those of project.yml: '{min_views: 3}'
    #[arg(long, global = true, value_name = "YAML")]
    pub(super) vars: Option<String>,
    /// Nodes that run at once [default: of the target, else the number of cores]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) threads: Option<u16>,
    /// Text for people or JSON for programs
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    pub(super) output: Output,
    /// Fail on warnings too, or on breaking changes in `lake diff`
    #[arg(long, alias = "fail-on", global = true, value_enum, value_name = "WHAT")]
    pub(super) deny: Option<Deny>,
    /// What is told while a command goes on.
    #[command(flatten)]
    pub(super) log: LogArgs,
    /// Tell nobody how the run ends: see `notifications` of project.yml
    #[arg(long, global = true)]
    pub(super) no_notify: bool,
    /// The command whose end channels are told
    #[arg(skip)]
    pub(super) watched: Option<&'static str>,
    /// Print results and errors only
    #[arg(long, short, global = true)]
    pub(super) quiet: bool,
    /// Print more; twice for the engine's log
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
}

/// What stops a command beside errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Deny {
    /// Warnings.
    Warnings,
    /// Breaking changes: of `lake diff`.
    Breaking,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a new project that builds at once
    Init(InitArgs),
    /// Run models and their tests; publish what passes
    Build(RunArgs),
    /// Run models without tests; seeds are left as they are
    Run(RunArgs),
    /// Load seeds, the CSV files below seeds/, without tests
    Seed(SeedArgs),
    /// Call the last build, run, seed or test again, for what failed or did not run
    Retry(RetryArgs),
    /// Run unit tests, and test what is published
    Test(TestArgs),
    /// Check every model without running it, and write the compiled SQL
    Compile(CompileArgs),
    /// List models and sources
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Show rows of a model, or of a query over the lake
    Show(ShowArgs),
    /// Say why a model would be built now or skipped, and what the last run did with it
    Why(WhyArgs),
    /// What runs published, or the versions of one table
    History(HistoryArgs),
    /// Take back what a run published, or take a table back to an older version
    Rollback(RollbackArgs),
    /// What the table of a model holds, column by column, and what changed since the version before
    Profile(ProfileArgs),
    /// Look at the files of a source: what is taken in, how fresh they are, what they hold
    Source {
        /// What to look at.
        #[command(subcommand)]
        command: SourceCommand,
    },
    /// Pack small files, remove those that no version needs, sum up logs: by the policy of each model
    Maintain(MaintainArgs),
    /// Show lineage, or write the documentation site
    Docs(DocsArgs),
    /// Print or write JSON Schemas of the YAML files, for editors
    Schema(SchemaArgs),
    /// What differs between two versions of a table, two targets, or since another compile
    Diff(DiffArgs),
    /// Look at project, store and tables for what is wrong, and say how to mend it; nothing is changed
    Doctor,
    /// List the channels that are told how runs end, or send them a test message
    Notify(NotifyArgs),
    /// Explain a diagnostic: lake explain L0102
    Explain {
        /// Its code or name; all of them if none is given
        code: Option<String>,
    },
    /// Build what depends on a source whenever files of it arrive
    Watch(WatchArgs),
    /// Write a DAG for Apache Airflow
    Airflow {
        /// What to write.
        #[command(subcommand)]
        command: AirflowCommand,
    },
    /// Take tables of another target over, without copying what can be shared
    Clone(CloneArgs),
    /// Publish tables of another target as they are, where this one would make the same
    Promote(PromoteArgs),
    /// Drop the tables of a target, and none that it did not make
    Drop(DropArgs),
    /// Remove local artifacts (.lake/); never a table
    Clean(CleanArgs),
    /// Print a page of the reference
    #[command(hide = true)]
    Reference(ReferenceArgs),
}

/// Which nodes.
#[derive(Debug, Args, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct SelectArgs {
    /// Nodes to include: names, globs, methods such as tag:, path:, state:, column:, with +, n+, @, commas to intersect
    #[arg(long, short, num_args = 1.., value_name = "SELECTOR", allow_hyphen_values = false)]
    pub(super) select: Vec<String>,
    /// Nodes to leave out
    #[arg(long, num_args = 1.., value_name = "SELECTOR")]
    pub(super) exclude: Vec<String>,
    /// A selection of selectors.yml, by its name
    #[arg(long, value_name = "NAME", conflicts_with_all = ["select", "exclude"])]
    pub(super) selector: Option<String>,
    /// A folder with the manifest.json and run_results.json that state: and result: look at
    #[arg(long, value_name = "DIR", env = "LAKE_STATE")]
    pub(super) state: Option<PathBuf>,
    /// Nodes of these types only
    #[arg(long, num_args = 1.., value_enum, value_name = "TYPE")]
    pub(super) resource_type: Vec<ResourceKind>,
    /// No nodes of these types
    #[arg(long, num_args = 1.., value_enum, value_name = "TYPE")]
    pub(super) exclude_resource_type: Vec<ResourceKind>,
    /// Which tests come with the selected nodes
    #[arg(long, value_enum, value_name = "MODE", default_value_t = IndirectMode::Eager)]
    pub(super) indirect_selection: IndirectMode,
}

impl SelectArgs {
    /// Whether nothing was asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.select.is_empty() && self.exclude.is_empty() && self.selector.is_none()
    }
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ResourceKind {
    /// Models.
    Model,
    /// Seeds.
    Seed,
    /// Sources.
    Source,
    /// Exposures.
    Exposure,
    /// Exports.
    Export,
    /// Tests.
    Test,
    /// Unit tests.
    #[value(name = "unit_test", alias = "unit-test")]
    UnitTest,
    /// All of them.
    All,
}

impl ResourceKind {
    /// As the selection knows them.
    pub(super) fn types(self) -> Vec<ResourceType> {
        match self {
            Self::Model => vec![ResourceType::Model],
            Self::Seed => vec![ResourceType::Seed],
            Self::Source => vec![ResourceType::Source],
            Self::Exposure => vec![ResourceType::Exposure],
            Self::Export => vec![ResourceType::Export],
            Self::Test => vec![ResourceType::Test],
            Self::UnitTest => vec![ResourceType::UnitTest],
            Self::All => {
                let ends = [Self::Exposure, Self::Export, Self::Test, Self::UnitTest];
                [Self::Model, Self::Seed, Self::Source].into_iter().chain(ends).flat_map(Self::types).collect()
            }
        }
    }
}

/// Which tests come with the selected nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum IndirectMode {
    /// Those that read any of them
    #[default]
    Eager,
    /// Those that read nothing else
    Cautious,
    /// Those that read nothing else but what is above them
    Buildable,
    /// None
    Empty,
}

impl From<IndirectMode> for Indirect {
    fn from(mode: IndirectMode) -> Self {
        match mode {
            IndirectMode::Eager => Self::Eager,
            IndirectMode::Cautious => Self::Cautious,
            IndirectMode::Buildable => Self::Buildable,
            IndirectMode::Empty => Self::Empty,
        }
    }
}

/// What to list.
#[derive(Debug, Args)]
pub(super) struct LsArgs {
    /// Which nodes.
    #[command(flatten)]
    pub(super) selection: SelectArgs,
    /// List the columns of the nodes, with their types
    #[arg(long)]
    pub(super) columns: bool,
}

/// What to run.
#[derive(Debug, Args, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RunArgs {
    /// Which nodes.
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) selection: SelectArgs,
    /// Where tables are read.
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) defer: DeferArgs,
    /// Rebuild incremental models from all files, and load seeds again
    #[arg(long, short)]
    pub(super) full_refresh: bool,
    /// List all files of sources with `incremental_listing`: finds late ones with older names
    #[arg(long)]
    pub(super) full_listing: bool,
    /// Take in these files only, again if they are known: 'views/2024-08-2*' matches from any folder on
    #[arg(long, num_args = 1.., value_name = "GLOB", conflicts_with = "full_refresh")]
    pub(super) files: Vec<String>,
    /// Take in files from this day or moment on only (UTC; by the date in the path, else the time of the file)
    #[arg(long, value_name = "TIME", conflicts_with = "full_refresh")]
    pub(super) since: Option<String>,
    /// Take in files up to this day or moment only, the day included
    #[arg(long, value_name = "TIME", conflicts_with = "full_refresh")]
    pub(super) until: Option<String>,
    /// Of models in batches, run all batches from this day or moment on (UTC), done or not
    #[arg(long, value_name = "TIME", requires = "event_time_end")]
    pub(super) event_time_start: Option<String>,
    /// The day or moment before which those batches end
    #[arg(long, value_name = "TIME", requires = "event_time_start")]
    pub(super) event_time_end: Option<String>,
    /// Publish all tables in one burst, when all have passed their tests; if one fails, none
    #[arg(long)]
    pub(super) atomic: bool,
    /// End the run at the first failure: what runs is stopped, and nothing else starts
    #[arg(long, short = 'x')]
    pub(super) fail_fast: bool,
    /// Run the tests that the plan of their model proves, too
    #[arg(long)]
    pub(super) no_prove: bool,
    /// Build what is unchanged, too; rows that were added are not added again
    #[arg(long)]
    pub(super) force: bool,
    /// Say what would be built, skipped and read, and why, without doing it
    #[arg(long)]
    #[serde(skip)]
    pub(super) dry_run: bool,
}

/// What to take up again.
#[derive(Debug, Args)]
pub(super) struct RetryArgs {
    /// The folder with the run_results.json of the run to take up [default: .lake/]
    #[arg(long, value_name = "DIR")]
    pub(super) state: Option<PathBuf>,
    /// End the run at the first failure
    #[arg(long, short = 'x')]
    pub(super) fail_fast: bool,
}

/// What to load.
#[derive(Debug, Args, Serialize, Deserialize)]
pub(super) struct SeedArgs {
    /// Which seeds.
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) selection: SelectArgs,
    /// Load them again, changed or not
    #[arg(long, short)]
    pub(super) full_refresh: bool,
}

impl From<&SeedArgs> for RunArgs {
    fn from(args: &SeedArgs) -> Self {
        Self { selection: args.selection.clone(), full_refresh: args.full_refresh, ..Self::default() }
    }
}

/// What to show.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The model
    #[arg(value_name = "MODEL", required_unless_present = "inline", conflicts_with = "inline")]
    pub(super) model: Option<String>,
    /// A query over the lake; ref() and source() work
    #[arg(long, value_name = "SQL")]
    pub(super) inline: Option<String>,
    /// Where tables are read.
    #[command(flatten)]
    pub(super) defer: DeferArgs,
    /// The rows as the model's tests last refused to publish them
    #[arg(long, conflicts_with = "inline")]
    pub(super) staged: bool,
    /// Rows to show; 0 for all
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub(super) limit: usize,
}

/// Which model.
#[derive(Debug, Args)]
pub(super) struct WhyArgs {
    /// Where tables are read.
    #[command(flatten)]
    pub(super) defer: DeferArgs,
    /// The model
    #[arg(value_name = "MODEL")]
    pub(super) model: String,
}

/// Whose profile.
#[derive(Debug, Args)]
pub(super) struct ProfileArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    pub(super) model: String,
    /// Read the rows, for distinct and common values, means and quantiles
    #[arg(long)]
    pub(super) full: bool,
    /// The profile as it is kept of this version of the table
    #[arg(long, value_name = "VERSION", conflicts_with = "full")]
    pub(super) version: Option<u64>,
}

/// Whose history.
#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// The model; without one, runs are listed
    #[arg(value_name = "MODEL")]
    pub(super) model: Option<String>,
    /// Versions or runs to list, newest first; 0 for all
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(super) limit: usize,
}

/// What to take back.
#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    /// A run, by its id or the beginning of it; with --to, a model
    #[arg(value_name = "RUN|MODEL")]
    pub(super) what: String,
    /// The version of the model's table to go back to
    #[arg(long, value_name = "VERSION")]
    pub(super) to: Option<u64>,
}

/// What to remove.
#[derive(Debug, Args)]
pub(super) struct CleanArgs {
    /// Instead of .lake/: staged files of all models that tests refused to publish
    #[arg(long)]
    pub(super) staged: bool,
}

/// What to look at.
#[derive(Debug, Subcommand)]
pub(super) enum SourceCommand {
    /// List the files of a source, and which of them each model has taken in
    Files(SourceFilesArgs),
    /// Check how old the newest data of sources is; fails where it is older than `error_after`
    Freshness(SelectArgs),
    /// Write the YAML of a new source, from its files
    Infer(SourceInferArgs),
    /// Take quarantined rows and files of a source again, after a fix; what still does not fit stays
    Replay(SourceReplayArgs),
}

/// Which rows.
#[derive(Debug, Args)]
pub(super) struct SourceReplayArgs {
    /// The source: bronze.views, or views
    #[arg(value_name = "SOURCE")]
    pub(super) source: String,
    /// Into this model only
    #[arg(long, value_name = "MODEL")]
    pub(super) model: Option<String>,
}

/// Which files.
#[derive(Debug, Args)]
pub(super) struct SourceFilesArgs {
    /// The source: bronze.views, or views
    #[arg(value_name = "SOURCE")]
    pub(super) source: String,
    /// As this model knows them only
    #[arg(long, value_name = "MODEL")]
    pub(super) model: Option<String>,
    /// Files that wait for the next build, changed and failed ones too
    #[arg(long)]
    pub(super) pending: bool,
    /// Files whose rows are published
    #[arg(long)]
    pub(super) loaded: bool,
    /// Files that the last build could not read
    #[arg(long)]
    pub(super) failed: bool,
}

/// Where the files are.
#[derive(Debug, Args)]
pub(super) struct SourceInferArgs {
    /// A folder, a pattern or one file, relative to the project
    #[arg(value_name = "PATH")]
    pub(super) path: String,
    /// What to call it [default: the last two folders of the path]
    #[arg(long, value_name = "SOURCE.TABLE")]
    pub(super) name: Option<String>,
    /// Look at files of this format only [default: the one that most files have]
    #[arg(long, value_name = "FORMAT")]
    pub(super) format: Option<String>,
}

/// What to maintain.
#[derive(Debug, Args)]
pub(super) struct MaintainArgs {
    /// Which tables.
    #[command(flatten)]
    pub(super) selection: SelectArgs,
    /// Only say what would be done
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// Where the new project goes.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// The folder; it is made if it does not exist
    #[arg(default_value = ".")]
    pub(super) folder: PathBuf,
    /// Convert the dbt project of this folder, which stays as it is; what could not be converted is told line by line
    #[arg(long, value_name = "DIR")]
    pub(super) from_dbt: Option<PathBuf>,
    /// How the report of --from-dbt is printed
    #[arg(long, value_enum, requires = "from_dbt")]
    pub(super) format: Option<Output>,
}
