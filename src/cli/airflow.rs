//! `lake airflow generate`: the project as a DAG of Airflow.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};

use super::args::{Global, IndirectMode, SelectArgs};
use super::printer::Printer;
use super::{ExitStatus, Pipeline};
use crate::orchestrators::airflow::{self, Dag, MARK, When};
use crate::orchestrators::{Cut, Workload};
use crate::paths;
use crate::run::{self, TestMode};
use crate::words::plural;

/// Airflow's names of schedules.
const PRESETS: [&str; 8] =
    ["@once", "@continuous", "@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly"];

/// Presets that are no times, so that nothing can be added to them.
const NO_TIMES: [&str; 2] = ["@once", "@continuous"];

/// Airflow's limit of names.
const LONGEST_ID: usize = 250;

/// What to do for Airflow.
#[derive(Debug, Subcommand)]
pub(super) enum AirflowCommand {
    /// Write a DAG file for Airflow 3, with a task for each model, layer or group
    Generate(Box<GenerateArgs>),
}

/// The DAG.
#[derive(Debug, Args)]
pub(super) struct GenerateArgs {
    /// Which nodes.
    #[command(flatten)]
    selection: SelectArgs,
    /// What one task builds, in a process of its own
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = By::Node)]
    by: By,
    /// The id of the DAG [default: the name of the project]
    #[arg(long, value_name = "ID")]
    dag_id: Option<String>,
    /// When it runs: a preset such as @hourly, a cron expression (UTC), or none [default: @daily; with --assets: none]
    #[arg(long, value_name = "WHEN")]
    schedule: Option<String>,
    /// Run it when another DAG, or the API, tells that one of its sources is new
    #[arg(long)]
    assets: bool,
    /// How often a task starts again after it failed
    #[arg(long, value_name = "N", default_value_t = 2)]
    retries: u32,
    /// The shell command that starts lake
    #[arg(long, value_name = "COMMAND", default_value = "lake")]
    lake_command: String,
    /// The file, or - to print it [default: dags/ID.py of the project]
    #[arg(long, value_name = "FILE")]
    path: Option<PathBuf>,
}

/// What one task builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// A model, a seed or a history
    Node,
    /// All of a layer
    Layer,
    /// All of a group; a model without one by itself
    Group,
}

pub(super) fn run(global: &Global, command: &AirflowCommand, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let AirflowCommand::Generate(args) = command;
    let when = when(args)?;
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    let choice = pipeline.choose(&args.selection)?;
    let Ok(compiled) = pipeline.compile(printer)? else { return Ok(ExitStatus::Wrong) };
    let selection = choice.over(&compiled)?;
    let (project, graph) = (&compiled.project, &compiled.graph);
    let schedule = run::schedule(project, graph, &compiled.compiled, &selection, TestMode::Gate);
    let cut = match args.by {
        By::Node => Cut::Node,
        By::Layer => Cut::Layer,
        By::Group => Cut::Group,
    };
    let workload = Workload::new((project, graph), &compiled.compiled, &selection, &schedule, cut);
    anyhow::ensure!(!workload.tasks.is_empty(), "nothing is selected that could be built: a DAG needs a task");
    anyhow::ensure!(
        !when.inputs || workload.inputs.tables().next().is_some(),
        "--assets: the selected models read no source and no other model, so there is nothing to wait for"
    );
    let id = dag_id(args.dag_id.as_deref(), &project.name)?;
    let path = match &args.path {
        Some(path) if path == Path::new("-") => None,
        // A path of the command line is relative to where the command was given.
        Some(path) => Some(std::path::absolute(path)?),
        None => Some(project.folder.join("dags").join(format!("{id}.py"))),
    };
    let home = paths::absolute(&project.folder, "")?;
    let dag = Dag {
        id,
        project: project.name.clone(),
        call: call(global, args),
        when,
        retries: args.retries,
        command: args.lake_command.clone(),
        flags: flags(global),
        folder: airflow::folder(&home, &paths::absolute(&home, path.as_deref().unwrap_or(Path::new("/-")))?),
    };
    let file = dag.file(&workload);
    match path {
        None => printer.result(file.trim_end()),
        Some(path) => write(&path, &file, workload.tasks.len(), printer)?,
    }
    Ok(ExitStatus::Fine)
}

/// What `--schedule` and `--assets` say.
fn when(args: &GenerateArgs) -> anyhow::Result<When> {
    let time = match args.schedule.as_deref().map(str::trim) {
        None if args.assets => None,
        None => Some("@daily"),
        Some("none" | "None" | "") => None,
        Some(preset) if PRESETS.contains(&preset) => Some(preset),
        Some(cron) if is_cron(cron) => Some(cron),
        Some(other) => anyhow::bail!(
            "--schedule `{other}` is no schedule of Airflow: write one of {}, a cron expression such as '30 6 * * 1-5', or none",
            PRESETS.join(", ")
        ),
    };
    if let Some(preset) = time.filter(|time| args.assets && NO_TIMES.contains(time)) {
        anyhow::bail!("--schedule {preset} and --assets do not go together: {preset} is no time");
    }
    Ok(When { time: time.map(str::to_owned), inputs: args.assets })
}

/// Whether a text has the five or six fields of a cron expression. Their values are Airflow's business.
fn is_cron(text: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || "*,/-#?".contains(c);
    let fields: Vec<&str> = text.split_whitespace().collect();
    matches!(fields.len(), 5 | 6)
        && fields.iter().all(|field| field.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '*' || c == '?'))
        && fields.iter().all(|field| field.chars().all(known))
}

/// The id of the DAG, which names its file too.
fn dag_id(given: Option<&str>, project: &str) -> anyhow::Result<String> {
    let id = given.map_or_else(|| airflow::key(project), str::to_owned);
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    anyhow::ensure!(
        !id.is_empty() && id.len() <= LONGEST_ID && id.chars().all(fits) && !id.starts_with('.'),
        "--dag-id `{id}` is no id of a DAG: it has the letters a to z, digits, `_`, `-` and `.`, and begins with no dot"
    );
    Ok(id)
}

/// The flags of this call that every task takes over.
fn flags(global: &Global) -> Vec<String> {
    let mut flags = Vec::new();
    if let Some(target) = &global.target {
        flags.extend(["--target".to_owned(), target.clone()]);
    }
    if let Some(vars) = &global.vars {
        flags.extend(["--vars".to_owned(), vars.clone()]);
    }
    if let Some(threads) = global.threads {
        flags.extend(["--threads".to_owned(), threads.to_string()]);
    }
    flags
}

/// The command line that writes the file again, as a comment of one line.
fn call(global: &Global, args: &GenerateArgs) -> String {
    let mut words: Vec<String> = ["lake", "airflow", "generate"].map(str::to_owned).to_vec();
    let mut flag = |name: &str, values: &[String]| {
        if !values.is_empty() {
            words.push(name.to_owned());
            words.extend(values.iter().map(|value| quoted(value)));
        }
    };
    let one = |value: &Option<String>| -> Vec<String> { value.iter().cloned().collect() };
    flag("--select", &args.selection.select);
    flag("--exclude", &args.selection.exclude);
    flag("--selector", &one(&args.selection.selector));
    flag("--state", &one(&args.selection.state.as_ref().map(|state| state.to_string_lossy().into_owned())));
    flag("--resource-type", &args.selection.resource_type.iter().map(name_of).collect::<Vec<_>>());
    flag("--exclude-resource-type", &args.selection.exclude_resource_type.iter().map(name_of).collect::<Vec<_>>());
    if args.selection.indirect_selection != IndirectMode::default() {
        flag("--indirect-selection", &[name_of(&args.selection.indirect_selection)]);
    }
    if args.by != By::Node {
        flag("--by", &[name_of(&args.by)]);
    }
    flag("--dag-id", &one(&args.dag_id));
    flag("--schedule", &one(&args.schedule));
    if args.retries != 2 {
        flag("--retries", &[args.retries.to_string()]);
    }
    if args.lake_command != "lake" {
        flag("--lake-command", std::slice::from_ref(&args.lake_command));
    }
    if args.assets {
        words.push("--assets".to_owned());
    }
    words.extend(flags(global).iter().map(|word| quoted(word)));
    // A comment ends with its line.
    words.join(" ").replace(['\n', '\r'], " ")
}

/// A value as the command line has it.
fn name_of(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./:=,@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Writes the file, unless there is one that somebody else wrote.
fn write(path: &Path, file: &str, tasks: usize, printer: &Printer) -> anyhow::Result<()> {
    let shown = path.display();
    let before = match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("cannot read `{shown}`")),
    };
    let is_ours = before.as_ref().is_none_or(|text| text.is_empty() || text.contains(MARK));
    anyhow::ensure!(is_ours, "`{shown}` is there, and lake did not write it: give --path, or move it away");
    if before.as_deref() != Some(file) {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        }
        fs::write(path, file).with_context(|| format!("cannot write `{shown}`"))?;
    }
    let verb = if before.as_deref() == Some(file) { "unchanged:" } else { "wrote" };
    if printer.is_json() {
        printer.json(&serde_json::json!({"path": path, "tasks": tasks, "changed": verb == "wrote"}));
    } else {
        printer.result(&format!("{verb} {shown}, {}", plural(tasks as u64, "task")));
    }
    Ok(())
}
