//! Alerts: who is told how a run ended. `notifications:` of `project.yml` has the channels.
//!
//! [`of_report`] makes of a run what there is to tell; [`due`] says what of it a channel hears now, beside what it was told before;
//! [`Message`] is that in words, which each kind of channel has a shape for. Nothing here decides how a run ends: what cannot be
//! sent is told by [`tell`].

mod command;
mod deliver;
mod digest;
mod email;
mod happened;
mod message;
mod routing;
mod slack;
mod teams;
mod words;

use std::collections::BTreeSet;
use std::path::Path;

use chrono::{DateTime, Utc};

use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::graph::Graph;
use crate::names::TableName;
use crate::project::{Channel, ChannelType, Occasion, Project, TestSeverity};
use crate::run::{AlertRow, Alerted};

pub use deliver::Sending;
pub use happened::{of_diagnostics, of_freshness, of_report, of_run};
pub use message::Message;
pub use routing::{Alert, Due, due};

/// How a run ended, for a message.
#[derive(Debug, Clone)]
pub struct RunFacts {
    /// The project.
    pub project: String,
    /// The target.
    pub target: String,
    /// Whether commands must name it.
    pub has_targets: bool,
    /// `build`, `test`, ...
    pub command: String,
    /// The id of the run.
    pub invocation_id: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// `success`, `error`, `cancelled`, `invalid`, `died`.
    pub status: &'static str,
    /// Nodes that were built, skipped, failed and blocked.
    pub counts: [usize; 4],
}

/// Something that is not as it should be.
#[derive(Debug, Clone)]
pub struct Problem {
    /// What it is about, for as long as it goes on: `test.not_null_views_user_id`.
    pub subject: String,
    /// `model`, `test`, ...
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// The table that it is about.
    pub node: Option<TableName>,
    /// On which occasion it is told.
    pub event: Occasion,
    /// How bad it is.
    pub severity: TestSeverity,
    /// What is wrong.
    pub message: String,
    /// The file that says so, below the project folder.
    pub file: Option<String>,
    /// The line there.
    pub line: Option<usize>,
    /// Failing rows.
    pub rows: Option<u64>,
    /// Who answers for it.
    pub owners: Vec<String>,
    /// Who answers for what waits for it.
    pub owners_below: Vec<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Tags of what waits for it.
    pub tags_below: Vec<String>,
    /// Tables that were not built because of it.
    pub blocks: Vec<TableName>,
    /// All that it is a matter of, for channels that select.
    pub concerns: BTreeSet<TableName>,
    /// How to look further.
    pub look: Option<String>,
}

impl Problem {
    /// Whether it is about the project as a whole, and thus for everybody.
    fn is_of_all(&self) -> bool {
        matches!(self.kind, "project" | "run" | "hook")
    }
}

/// What a run has shown.
#[derive(Debug, Clone)]
pub struct Happened {
    /// The run itself.
    pub run: RunFacts,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// Subjects that were looked at, and are fine.
    pub fine: BTreeSet<String>,
}

/// What became of one channel.
#[derive(Debug)]
pub struct Outcome {
    /// The channel.
    pub channel: String,
    /// By which way it is reached.
    pub kind: ChannelType,
    /// What it was told, in a few words.
    pub told: String,
    /// Why it could not be told.
    pub error: Option<String>,
}

/// What all channels became, and what to remember of it.
#[derive(Debug, Default)]
pub struct Told {
    /// Channels that were to be told something.
    pub outcomes: Vec<Outcome>,
    /// For `_lake.notifications`.
    pub rows: Vec<AlertRow>,
}

/// A project and who reads whom in it, for channels that select.
pub type World<'a> = (&'a Project, &'a Graph);

/// Tells the channels of a target what has happened, all at once; each within its own time.
pub fn tell(
    channels: &[Channel],
    folder: &Path,
    world: Option<World<'_>>,
    happened: &Happened,
    before: &[Alerted],
) -> Told {
    let now = Utc::now();
    let mut told = Told::default();
    let mut sendings = Vec::new();
    for channel in channels.iter().filter(|channel| channel.is_of(&happened.run.target)) {
        let selected = match routing::selected(channel, world) {
            Ok(selected) => selected,
            Err(error) => {
                told.outcomes.push(outcome(channel, String::new(), Some(error.to_string())));
                continue;
            }
        };
        let due = due(channel, selected.as_ref(), happened, before, now);
        told.rows.extend(due.unheard.iter().map(|over| over.row(channel, &happened.run, now)));
        if due.is_empty() {
            continue;
        }
        match channel.reach() {
            Ok(None) => {}
            Err(error) => remember(channel, happened, &due, Some(error), now, &mut told),
            Ok(Some(reached)) => {
                let message = Message::new(&happened.run, &due, reached.link.as_deref());
                let sending = Sending::start(channel, folder, reached.delivery, message);
                sendings.push((channel, due, sending));
            }
        }
    }
    for (channel, due, sending) in sendings {
        let error = sending.finish().err();
        remember(channel, happened, &due, error, now, &mut told);
    }
    told
}

fn remember(
    channel: &Channel,
    happened: &Happened,
    due: &Due,
    error: Option<String>,
    now: DateTime<Utc>,
    told: &mut Told,
) {
    told.rows.extend(due.rows(channel, &happened.run, error.as_deref(), now));
    told.outcomes.push(outcome(channel, due.in_words(), error));
}

fn outcome(channel: &Channel, told: String, error: Option<String>) -> Outcome {
    Outcome { channel: channel.name.clone(), kind: channel.kind, told, error }
}

/// Sends a message to each of these channels of which nothing is meant.
pub fn tell_test(channels: &[&Channel], folder: &Path, run: &RunFacts) -> Vec<Outcome> {
    let started: Vec<_> = channels
        .iter()
        .map(|channel| match channel.reach() {
            Ok(Some(reached)) => {
                let message = Message::test(run, &channel.name, reached.link.as_deref());
                Ok(Sending::start(channel, folder, reached.delivery, message))
            }
            Ok(None) => Err("it is turned off: its address is empty".to_owned()),
            Err(why) => Err(why),
        })
        .collect();
    let finished = started.into_iter().map(|sending| sending.and_then(Sending::finish).err());
    let each = channels.iter().zip(finished);
    each.map(|(channel, error)| outcome(channel, "a test message".to_owned(), error)).collect()
}

/// Mistakes in what channels select, which only a resolved project shows.
pub fn check(project: &Project, graph: &Graph, diagnostics: &mut Diagnostics) {
    for channel in project.notifications.iter().filter(|channel| !channel.select.is_empty()) {
        if let Err(error) = routing::selected(channel, Some((project, graph))) {
            let id = crate::diagnostics::Id::InvalidValue;
            let mut diagnostic = Diagnostic::error(id, error.message).at(channel.select_span.clone());
            diagnostic.help.extend(error.help);
            diagnostics.push(diagnostic);
        }
    }
}
