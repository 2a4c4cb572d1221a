//! The flags that say how a command tells what it does.

use clap::{Args, ValueEnum};

use super::args::{Command, SourceCommand};

/// How a command tells what it does.
#[derive(Debug, Args, Clone, Default)]
pub(super) struct LogArgs {
    /// Lines for people, or events for programs, one JSON object a line [default: text]
    #[arg(long, global = true, env = "LAKE_LOG_FORMAT", value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Colours wherever output goes [default: on a terminal, unless NO_COLOR is set]
    #[arg(long, alias = "color", global = true, overrides_with = "no_use_colors")]
    use_colors: bool,
    /// No colours
    #[arg(long, alias = "no-color", global = true)]
    no_use_colors: bool,
    /// Lines as nodes end, without the live board on a terminal
    #[arg(long, global = true, env = "LAKE_NO_PROGRESS", value_parser = clap::builder::FalseyValueParser::new())]
    no_progress: bool,
}

/// The form of logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// For people.
    #[value(alias = "default", alias = "debug")]
    Text,
    /// For programs: dbt's structured logs.
    Json,
}

impl LogArgs {
    /// Whether programs are to be told. Those that call dbt ask for it in the environment, by dbt's own name.
    pub(super) fn is_json(&self) -> bool {
        match self.log_format {
            Some(format) => format == LogFormat::Json,
            None => std::env::var_os("DBT_LOG_FORMAT").is_some_and(|format| format == "json"),
        }
    }
}

/// Whether a variable of the environment has a value.
fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

impl LogArgs {
    /// Whether texts that go to a terminal, or not to one, have colours.
    pub(super) fn use_colors(&self, is_terminal: bool) -> bool {
        // https://no-color.org
        !self.no_use_colors && (self.use_colors || is_terminal && !is_set("NO_COLOR") && !is_dumb())
    }

    /// Whether a board may be drawn on a terminal: its writer can move, and nobody keeps what it shows as a log.
    pub(super) fn draws(&self) -> bool {
        !self.no_progress && !is_dumb() && !is_set("CI")
    }
}

impl Command {
    /// The word by which it is called.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Init(_) => "init",
            Self::Build(_) => "build",
            Self::Run(_) => "run",
            Self::Seed(_) => "seed",
            Self::Retry(_) => "retry",
            Self::Test(_) => "test",
            Self::Compile(_) => "compile",
            Self::Ls(_) => "ls",
            Self::Show(_) => "show",
            Self::Why(_) => "why",
            Self::History(_) => "history",
            Self::Rollback(_) => "rollback",
            Self::Profile(_) => "profile",
            Self::Source { command: SourceCommand::Files(_) } => "source files",
            Self::Source { command: SourceCommand::Freshness(_) } => "source freshness",
            Self::Source { command: SourceCommand::Infer(_) } => "source infer",
            Self::Source { command: SourceCommand::Replay(_) } => "source replay",
            Self::Maintain(_) => "maintain",
            Self::Docs(_) => "docs",
            Self::Schema(_) => "schema",
            Self::Diff(_) => "diff",
            Self::Doctor => "doctor",
            Self::Explain { .. } => "explain",
            Self::Watch(_) => "watch",
            Self::Notify(_) => "notify",
            Self::Reference(_) => "reference",
            Self::Airflow { .. } => "airflow generate",
            Self::Clone(_) => "clone",
            Self::Promote(_) => "promote",
            Self::Drop(_) => "drop",
            Self::Clean(_) => "clean",
        }
    }

    /// Whether it is called for what it prints: then events go to standard error.
    pub(super) fn has_data(&self) -> bool {
        match self {
            Self::Build(args) | Self::Run(args) => args.dry_run,
            Self::Test(args) => args.command.is_some() || args.list || args.failures.is_some(),
            Self::Source { command } => matches!(command, SourceCommand::Files(_) | SourceCommand::Infer(_)),
            Self::Init(_) | Self::Seed(_) | Self::Retry(_) | Self::Compile(_) | Self::Rollback(_) => false,
            Self::Maintain(_) | Self::Clone(_) | Self::Promote(_) | Self::Drop(_) | Self::Clean(_) => false,
            Self::Watch(_) | Self::Notify(_) => false,
            Self::Airflow { .. } | Self::Reference(_) => true,
            Self::Ls(_) | Self::Show(_) | Self::Why(_) | Self::History(_) | Self::Profile(_) => true,
            Self::Docs(_) | Self::Schema(_) | Self::Diff(_) | Self::Doctor | Self::Explain { .. } => true,
        }
    }
}
