//! `lake reference`: the pages of docs/reference/, from what the program itself reads. Hidden: it is for those who work
//! on `lake`.

use clap::builder::StyledStr;
use clap::{Arg, ArgAction, Args, Command, CommandFactory, ValueEnum};

use super::ExitStatus;
use super::args::{Cli, SelectArgs};
use super::environment_args::DeferArgs;
use super::printer::Printer;
use crate::docs;

/// `lake reference`
#[derive(Debug, Args)]
pub(super) struct ReferenceArgs {
    /// The page
    #[arg(value_enum)]
    page: Page,
}

/// A page.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Page {
    /// Commands, flags and variables of the environment
    Commands,
    /// Files of YAML and their keys
    Yaml,
}

pub(super) fn run(args: &ReferenceArgs, printer: &Printer) -> ExitStatus {
    let text = match args.page {
        Page::Commands => commands(),
        Page::Yaml => docs::yaml_reference(),
    };
    printer.result(text.trim_end());
    ExitStatus::Fine
}

const HEAD: &str = "# Commands

Every command and flag, made from what `lake COMMAND --help` prints.

Exit codes: 0 fine; 1 a node or a test failed; 2 the project or the call is wrong; 130 stopped by Ctrl-C (`lake watch` and
`lake docs serve` end with 0 then: that is how they end).
";

/// Variables that are read outside of the flags.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("NO_COLOR", "Any value: no colours (https://no-color.org)"),
    ("TERM=dumb, CI", "No live board: a line for each node"),
    ("DBT_LOG_FORMAT", "As `LAKE_LOG_FORMAT`, for programs that call dbt"),
    ("LAKE_LOG", "What is logged, as `RUST_LOG` elsewhere: `info,lake=debug`; in place of `-v`"),
    (
        "OPENLINEAGE_URL, OPENLINEAGE_ENDPOINT, OPENLINEAGE_API_KEY, OPENLINEAGE_NAMESPACE",
        "Go before `openlineage:` of project.yml",
    ),
    ("OPENLINEAGE_DISABLED", "`true`: no events are sent"),
    (
        "OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, TRACEPARENT",
        "Traces, of a `lake` that was built with `--features otel`: where they go, and the span that a run is a part of; with the other variables of OpenTelemetry's exporter",
    ),
    ("HTTPS_PROXY, NO_PROXY", "The way to object stores, and to channels that are told of failures"),
    ("AWS_*, AZURE_*, GOOGLE_*", "Credentials of object stores, as the tools of each cloud read them"),
];

/// The page of all commands.
fn commands() -> String {
    let mut root = Cli::command();
    root.build();
    let mut text = HEAD.to_owned();
    text.push_str("\n## Flags of every command\n\n");
    table(&mut text, root.get_arguments().filter(|argument| argument.is_global_set()));
    for (title, shared) in groups() {
        text.push_str(&format!("\n## {title}\n\n"));
        table(&mut text, shared.get_arguments());
    }
    for command in root.get_subcommands() {
        one(&mut text, command, "lake");
    }
    text.push_str("\n## Environment\n\n| variable | meaning |\n| --- | --- |\n");
    for (name, flag) in variables(&root) {
        text.push_str(&format!("| `{name}` | As `{flag}` |\n"));
    }
    for (name, about) in ENVIRONMENT {
        let names: Vec<String> = name.split(", ").map(|name| format!("`{name}`")).collect();
        text.push_str(&format!("| {} | {about} |\n", names.join(", ")));
    }
    text
}

/// Flags that several commands share, told once.
fn groups() -> Vec<(&'static str, Command)> {
    vec![
        ("Flags of a selection", SelectArgs::augment_args(Command::new("lake"))),
        ("Flags of reading from another target", DeferArgs::augment_args(Command::new("lake"))),
    ]
}

fn one(text: &mut String, command: &Command, parent: &str) {
    if command.is_hide_set() || command.get_name() == "help" {
        return;
    }
    let name = format!("{parent} {}", command.get_name());
    text.push_str(&format!("\n## {name}\n\n{}.\n", escaped(&styled(command.get_about()))));
    let aliases: Vec<String> = command.get_visible_aliases().map(|alias| format!("`{parent} {alias}`")).collect();
    if !aliases.is_empty() {
        text.push_str(&format!("\nAlso {}.\n", aliases.join(", ")));
    }
    let usage = command.clone().render_usage().to_string();
    let usage: Vec<&str> =
        usage.trim_start_matches("Usage:").lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    text.push_str(&format!("\n```text\n{}\n```\n", usage.join("\n")));
    let own = command.get_arguments().filter(|argument| !argument.is_global_set() && argument.get_id() != "help");
    let mut rest: Vec<&Arg> = own.collect();
    let mut links = Vec::new();
    for (title, shared) in groups() {
        let of_group = |argument: &Arg| shared.get_arguments().any(|known| known.get_id() == argument.get_id());
        if shared.get_arguments().all(|known| rest.iter().any(|argument| argument.get_id() == known.get_id())) {
            rest.retain(|argument| !of_group(argument));
            links.push(format!("[{}](#{})", title.to_lowercase(), title.to_lowercase().replace(' ', "-")));
        }
    }
    if !rest.is_empty() {
        text.push('\n');
        table(text, rest.into_iter());
    }
    if !links.is_empty() {
        text.push_str(&format!("\nAnd the {}.\n", links.join(", the ")));
    }
    for inner in command.get_subcommands() {
        one(text, inner, &name);
    }
}

fn table<'a>(text: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    text.push_str("| argument | default | meaning |\n| --- | --- | --- |\n");
    for argument in arguments.filter(|argument| !argument.is_hide_set()) {
        let mut about = styled(argument.get_help());
        // Some defaults are told in words.
        let mut default = String::new();
        if let Some((before, told)) = about.clone().split_once(" [default: ") {
            default = told.trim_end_matches(']').to_owned();
            before.clone_into(&mut about);
        }
        let given: Vec<String> =
            argument.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
        if takes_value(argument) && !given.is_empty() {
            default = given.join(" ");
        }
        if let Some(variable) = argument.get_env() {
            about.push_str(&format!("; or `{}` of the environment", variable.to_string_lossy()));
        }
        about.push_str(&words(argument));
        text.push_str(&format!("| {} | {} | {} |\n", spelling(argument), escaped(&default), escaped(&about)));
    }
}

/// The words that an argument takes, with what each means.
fn words(argument: &Arg) -> String {
    if !takes_value(argument) {
        return String::new();
    }
    let words = argument.get_possible_values();
    let words = words.iter().filter(|word| !word.is_hide_set()).map(|word| {
        let about = styled(word.get_help());
        let about = about.trim_end_matches('.');
        if about.is_empty() {
            format!("<br>`{}`", word.get_name())
        } else {
            format!("<br>`{}`: {about}", word.get_name())
        }
    });
    words.collect()
}

fn takes_value(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::Set | ArgAction::Append)
}

/// `` `--target <NAME>`, `-t` ``.
fn spelling(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    let value: String = match takes_value(argument) {
        true => names.iter().map(|name| format!(" {name}")).collect(),
        false => String::new(),
    };
    let Some(long) = argument.get_long() else {
        return format!("`{}`", value.trim_start().replace('|', "` or `"));
    };
    let mut all = vec![format!("`--{long}{value}`")];
    all.extend(argument.get_short().map(|short| format!("`-{short}`")));
    all.extend(argument.get_visible_aliases().into_iter().flatten().map(|alias| format!("`--{alias}`")));
    all.join(", ")
}

/// Flags that the environment can set, each once.
fn variables(root: &Command) -> Vec<(String, String)> {
    fn walk(command: &Command, found: &mut Vec<(String, String)>) {
        for argument in command.get_arguments() {
            let (Some(variable), Some(long)) = (argument.get_env(), argument.get_long()) else { continue };
            let pair = (variable.to_string_lossy().into_owned(), format!("--{long}"));
            if !found.contains(&pair) {
                found.push(pair);
            }
        }
        command.get_subcommands().for_each(|inner| walk(inner, found));
    }
    let mut found = Vec::new();
    walk(root, &mut found);
    found
}

fn styled(text: Option<&StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default().trim_end_matches('.').to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ").replace("*.", "\\*.")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `--help` says nothing about.
    fn silent(command: &Command, parent: &str, found: &mut Vec<String>) {
        let name = format!("{parent} {}", command.get_name());
        if command.get_about().is_none() {
            found.push(name.clone());
        }
        for argument in command.get_arguments().filter(|argument| argument.get_help().is_none()) {
            found.push(format!("{name}: {}", argument.get_id()));
        }
        for argument in command.get_arguments().filter(|argument| takes_value(argument)) {
            let words = argument.get_possible_values();
            let silent = words.iter().filter(|word| word.get_help().is_none() && !word.is_hide_set());
            found.extend(silent.map(|word| format!("{name}: {}: {}", argument.get_id(), word.get_name())));
        }
        command.get_subcommands().for_each(|inner| silent(inner, &name, found));
    }

    #[test]
    fn every_command_flag_and_word_is_described() {
        let mut found = Vec::new();
        silent(&Cli::command(), "", &mut found);
        assert_eq!(found, [""; 0], "write a doc comment on each of these");
    }
}
