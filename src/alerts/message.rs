//! One message: what a channel is told of one run, as JSON for programs and as sections for people.

use std::fmt::Write;

use serde_json::{Value, json};

use super::routing::{Alert, Due, Over};
use super::words::{cut, heading, moment, severity};
use super::{Problem, RunFacts};
use crate::project::Occasion;

/// Alerts of a section that people are shown.
const SHOWN: usize = 15;
/// Tables of a list that people are shown.
const LISTED: usize = 10;
/// Characters of what went wrong that people are shown, and programs.
const SHORT: usize = 500;
const LONG: usize = 4_000;

/// What a channel is told.
#[derive(Debug, Clone)]
pub struct Message {
    /// In one line.
    pub title: String,
    /// The run, in one line.
    pub about: String,
    /// What is told, the worst first.
    pub(super) sections: Vec<Section>,
    /// What to do, in commands.
    pub(super) look: Vec<String>,
    /// Where it leads to.
    pub(super) link: Option<String>,
    /// For programs.
    pub(super) json: Value,
    /// For the environment of a program.
    pub(super) environment: Vec<(&'static str, String)>,
}

/// What is told on one occasion.
#[derive(Debug, Clone)]
pub(super) struct Section {
    pub(super) occasion: Option<Occasion>,
    pub(super) title: &'static str,
    pub(super) entries: Vec<Entry>,
    /// How many there are beside.
    pub(super) more: usize,
}

/// One alert, for people.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The name of a test or a table.
    pub(super) name: String,
    /// `test of silver.views, owner anna`.
    pub(super) about: String,
    /// What is wrong.
    pub(super) text: String,
    /// Where it is declared, which tables wait for it, how to look further: each a line.
    pub(super) place: Option<String>,
    pub(super) waits: Option<String>,
    pub(super) look: Option<String>,
}

impl Message {
    /// What is due, of this run.
    pub fn new(run: &RunFacts, due: &Due, link: Option<&str>) -> Self {
        let title = format!("lake {}: {}", place(run), due.in_words());
        let sections = due.counts().into_iter().map(|(occasion, _)| section(occasion, due)).collect();
        let is_a_build = matches!(run.command.as_str(), "build" | "run" | "seed" | "test");
        let is_over = matches!(run.status, "error" | "cancelled") && is_a_build;
        let look = if is_over { vec![run.with_target("lake retry")] } else { Vec::new() };
        let events: Vec<&str> = due.counts().iter().map(|(occasion, _)| occasion.name()).collect();
        let alerts: Vec<Value> = due.alerts.iter().map(alert).chain(due.recovered.iter().map(recovered)).collect();
        Self::of(run, title, sections, look, link, (&events, alerts, false))
    }

    /// A message of which nothing is meant, for a newcomer to see that it arrives.
    pub fn test(run: &RunFacts, channel: &str, link: Option<&str>) -> Self {
        let title = format!("lake {}: a test message", place(run));
        let text = format!("Channel `{channel}` works: it will be told how runs end.");
        let entry =
            Entry { name: channel.to_owned(), about: String::new(), text, place: None, waits: None, look: None };
        let section = Section { occasion: None, title: "Test", entries: vec![entry], more: 0 };
        Self::of(run, title, vec![section], Vec::new(), link, (&["test"], Vec::new(), true))
    }

    fn of(
        run: &RunFacts,
        title: String,
        sections: Vec<Section>,
        look: Vec<String>,
        link: Option<&str>,
        (events, alerts, test): (&[&str], Vec<Value>, bool),
    ) -> Self {
        let [built, skipped, failed, blocked] = run.counts;
        let json = json!({
            "version": 1, "test": test, "title": title,
            "project": run.project, "target": run.target, "command": run.command, "invocation_id": run.invocation_id,
            "started_at": run.started_at, "seconds": run.seconds, "lake_version": env!("CARGO_PKG_VERSION"),
            "status": run.status,
            "counts": { "built": built, "skipped": skipped, "failed": failed, "blocked": blocked },
            "events": events, "alerts": alerts, "look": look, "link": link,
        });
        let environment = vec![
            ("LAKE_EVENTS", events.join(",")),
            ("LAKE_TARGET", run.target.clone()),
            ("LAKE_STATUS", run.status.to_owned()),
            ("LAKE_INVOCATION_ID", run.invocation_id.clone()),
        ];
        let about = format!("lake {}, {}, run {}", run.command, moment(run.started_at), run.invocation_id);
        Self { title, about, sections, look, link: link.map(str::to_owned), json, environment }
    }

    /// For people without any markup.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}\n{}\n", self.title, self.about);
        for section in &self.sections {
            let _ = write!(text, "\n{}\n", section.title);
            for entry in &section.entries {
                let _ = write!(text, "- {}", entry.name);
                if !entry.about.is_empty() {
                    let _ = write!(text, " ({})", entry.about);
                }
                let _ = writeln!(text, ": {}", entry.text.replace('\n', "\n    "));
                for line in entry.lines() {
                    let _ = writeln!(text, "    {line}");
                }
            }
            if let Some(more) = section.more() {
                let _ = writeln!(text, "{more}");
            }
        }
        for line in self.look.iter().chain(&self.link) {
            let _ = write!(text, "\n{line}\n");
        }
        text
    }
}

impl Entry {
    /// What stands below it.
    pub(super) fn lines(&self) -> impl Iterator<Item = &String> {
        self.place.iter().chain(&self.waits).chain(&self.look)
    }
}

impl Section {
    /// How many there are beside, in words.
    pub(super) fn more(&self) -> Option<String> {
        (self.more > 0).then(|| format!("and {} more: see _lake.notifications", self.more))
    }
}

/// `courses (prod)`.
fn place(run: &RunFacts) -> String {
    format!("{} ({})", run.project, run.target)
}

fn section(occasion: Occasion, due: &Due) -> Section {
    let alerts = due.alerts.iter().filter(|alert| alert.problem.event == occasion).map(entry);
    let over = due.recovered.iter().filter(|_| occasion == Occasion::Recovery).map(entry_of_over);
    let mut entries: Vec<Entry> = alerts.chain(over).collect();
    let more = entries.len().saturating_sub(SHOWN);
    entries.truncate(SHOWN);
    Section { occasion: Some(occasion), title: heading(occasion), entries, more }
}

fn entry(alert: &Alert) -> Entry {
    let problem = &alert.problem;
    let mut about = vec![match &problem.node {
        Some(node) if node.as_str() != problem.name => format!("{} of {node}", said(problem.kind)),
        _ => said(problem.kind).to_owned(),
    }];
    if !problem.owners.is_empty() {
        about.push(format!("owner {}", problem.owners.join(", ")));
    }
    if alert.reminder {
        about.push(format!("since {}", moment(alert.since)));
    }
    Entry {
        name: problem.name.clone(),
        about: about.join(", "),
        text: cut(&problem.message, SHORT),
        place: file_and_line(problem),
        waits: waiting(problem),
        look: problem.look.clone(),
    }
}

fn file_and_line(problem: &Problem) -> Option<String> {
    let file = problem.file.as_ref()?;
    Some(problem.line.map_or_else(|| file.clone(), |line| format!("{file}:{line}")))
}

fn waiting(problem: &Problem) -> Option<String> {
    let names: Vec<&str> = problem.blocks.iter().take(LISTED).map(|name| name.as_str()).collect();
    let more = problem.blocks.len() - names.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!names.is_empty()).then(|| format!("not built because of it: {}{more}", names.join(", ")))
}

fn entry_of_over(over: &Over) -> Entry {
    let (kind, name) = kind_and_name(&over.subject);
    let text = format!("in order again, was not since {}", moment(over.since));
    Entry { name: name.to_owned(), about: said(kind).to_owned(), text, place: None, waits: None, look: None }
}

/// `unit_test` -> `unit test`.
fn said(kind: &str) -> &str {
    match kind {
        "unit_test" => "unit test",
        "stale" => "model",
        "after_load" => "source",
        other => other,
    }
}

/// `test.not_null_id` -> `test`, `not_null_id`.
fn kind_and_name(subject: &str) -> (&str, &str) {
    subject.split_once('.').unwrap_or((subject, subject))
}

fn alert(alert: &Alert) -> Value {
    let problem = &alert.problem;
    json!({
        "event": problem.event, "id": problem.subject, "kind": problem.kind, "name": problem.name,
        "node": problem.node.as_ref().map(|node| node.as_str()), "severity": severity(problem.severity),
        "message": cut(&problem.message, LONG), "file": problem.file, "line": problem.line, "rows": problem.rows,
        "owners": problem.owners, "tags": problem.tags,
        "blocks": problem.blocks.iter().map(|name| name.as_str()).collect::<Vec<_>>(),
        "since": alert.since, "reminder": alert.reminder, "look": problem.look,
    })
}

fn recovered(over: &Over) -> Value {
    let (kind, name) = kind_and_name(&over.subject);
    let kind = said(kind).replace(' ', "_");
    json!({"event": Occasion::Recovery, "id": over.subject, "kind": kind, "name": name, "since": over.since})
}
