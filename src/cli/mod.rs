//! The command line: read, load, resolve, inspect, compile, schedule, execute, report.
//!
//! Every command is the beginning of that line, stopped at its own point: `Pipeline` has one method for each
//! stage, and a command calls as many as it needs.

mod airflow;
mod announce;
mod args;
mod board;
mod build;
mod channels;
mod choice;
mod clean;
mod compile;
mod diff;
mod diff_args;
mod diff_state;
mod docs;
mod docs_args;
mod docs_serve;
mod doctor;
mod drop;
mod environment_args;
mod environments;
mod explain;
mod failures;
mod from_dbt;
mod history;
mod infer;
mod init;
mod log;
mod log_args;
mod ls;
mod maintain;
mod pipeline;
mod plan;
mod printer;
mod profile;
mod progress;
mod record;
mod reference;
mod retry;
mod schema;
mod screen;
mod show;
mod signals;
mod source;
mod suggest;
mod targets;
mod test;
mod test_args;
#[cfg(feature = "otel")]
mod traces;
mod unit;
mod watch;
mod watched;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command, SourceCommand};
pub(crate) use pipeline::Pipeline;
use printer::Printer;

use crate::artifacts::LogEvent;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExitStatus {
    /// All is well.
    Fine,
    /// A node or a test failed.
    Failed,
    /// The project or the call is wrong.
    Wrong,
    /// Stopped by the user.
    Interrupted,
}

impl ExitStatus {
    /// The exit code.
    fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Failed => 1,
            Self::Wrong => 2,
            Self::Interrupted => 130,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}

/// Stack of every thread: SQL made by loops nests deeply, and so do the planners that walk it. Only what is used is
/// backed by memory.
const STACK: usize = 256 << 20;

/// Runs the program and returns its exit code.
pub fn main() -> ExitCode {
    // Only fails if a pool exists already, and none does.
    let _ = rayon::ThreadPoolBuilder::new().stack_size(STACK).build_global();
    let program = std::thread::Builder::new().name("lake".to_owned()).stack_size(STACK).spawn(start);
    match program.map(std::thread::JoinHandle::join) {
        Ok(Ok(code)) => code,
        // The panic has been printed.
        Ok(Err(_)) => ExitCode::from(101),
        Err(_) => start(),
    }
}

fn start() -> ExitCode {
    if let Ok(faults) = std::env::var("LAKE_FAULTS") {
        crate::stores::arm_faults(&faults);
    }
    if let Ok(point) = std::env::var("LAKE_FAIL_POINT") {
        crate::fail_points::arm(&point);
    }
    let mut cli = Cli::parse();
    cli.global.watched = if cli.global.no_notify { None } else { watched(&cli.command) };
    let printer = Printer::new(&cli.global, cli.command.has_data());
    let logs = log::start(cli.global.verbose, &printer);
    let start = std::time::Instant::now();
    printer.events().into_iter().for_each(|events| events.write(&LogEvent::begun()));
    let ended = log::Logs::span(cli.command.name(), &printer).in_scope(|| run(&cli, &printer));
    let status = ended.unwrap_or_else(|error| {
        printer.error(&error);
        if let Some(command) = cli.global.watched {
            channels::died(&cli.global, command, &error, &printer);
        }
        ExitStatus::Wrong
    });
    logs.end(&printer);
    printer.events().into_iter().for_each(|events| events.end(cli.command.name(), status, start.elapsed()));
    status.into()
}

fn run(cli: &Cli, printer: &Printer) -> anyhow::Result<ExitStatus> {
    if cli.global.deny == Some(args::Deny::Breaking) && !matches!(cli.command, Command::Diff(_)) {
        anyhow::bail!("--deny breaking is for `lake diff`: no other command compares with another compile");
    }
    match &cli.command {
        Command::Init(args) => match &args.from_dbt {
            Some(dbt) => from_dbt::run(&cli.global, dbt, args, printer),
            None => init::run(args, printer),
        },
        Command::Build(args) => build::run(&cli.global, args, build::What::All, printer),
        Command::Run(args) => build::run(&cli.global, args, build::What::Models, printer),
        Command::Seed(args) => build::seed(&cli.global, args, printer),
        Command::Retry(args) => retry::run(&cli.global, args, printer),
        Command::Test(args) => test::run(&cli.global, args, printer),
        Command::Compile(args) => compile::run(&cli.global, args, printer),
        Command::Ls(args) => ls::run(&cli.global, args, printer),
        Command::Show(args) => show::run(&cli.global, args, printer),
        Command::Why(args) => plan::why(&cli.global, args, printer),
        Command::History(args) => history::history(&cli.global, args, printer),
        Command::Rollback(args) => history::rollback(&cli.global, args, printer),
        Command::Profile(args) => profile::run(&cli.global, args, printer),
        Command::Source { command } => source::run(&cli.global, command, printer),
        Command::Maintain(args) => maintain::run(&cli.global, args, printer),
        Command::Schema(args) => schema::run(&cli.global, args, printer),
        Command::Docs(args) => docs::run(&cli.global, args, printer),
        Command::Diff(args) => diff::run(&cli.global, args, printer),
        Command::Doctor => doctor::run(&cli.global, printer),
        Command::Notify(args) => channels::run(&cli.global, args, printer),
        Command::Explain { code } => explain::run(code.as_deref(), printer),
        Command::Watch(args) => watch::run(&cli.global, args, printer),
        Command::Airflow { command } => airflow::run(&cli.global, command, printer),
        Command::Clone(args) => environments::clone(&cli.global, args, printer),
        Command::Promote(args) => environments::promote(&cli.global, args, printer),
        Command::Drop(args) => drop::run(&cli.global, args, printer),
        Command::Clean(args) => clean::run(&cli.global, args, printer),
        Command::Reference(args) => Ok(reference::run(args, printer)),
    }
}

/// The name of a command whose end channels are told.
fn watched(command: &Command) -> Option<&'static str> {
    match command {
        Command::Build(args) if !args.dry_run => Some("build"),
        Command::Run(args) if !args.dry_run => Some("run"),
        Command::Seed(_) => Some("seed"),
        Command::Retry(_) => Some("retry"),
        Command::Test(args) if args.is_a_run() => Some("test"),
        Command::Source { command: SourceCommand::Freshness(_) } => Some("source freshness"),
        Command::Source { command: SourceCommand::Replay(_) } => Some("source replay"),
        _ => None,
    }
}
