//! What a channel is told now: what it listens to, of what it asked for, and not what it knows. Pure.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::digest::digest;
use super::words::{counted, severity};
use super::{Happened, Problem, RunFacts, World};
use crate::graph::{Facts, Request, SelectError, Selection, Wanted};
use crate::project::{Channel, Occasion};
use crate::run::{AlertRow, Alerted};

/// A problem that a channel is told.
#[derive(Debug, Clone)]
pub struct Alert {
    /// The problem.
    pub problem: Problem,
    /// When it was told first: before, if it is a reminder.
    pub since: DateTime<Utc>,
    /// It was told before.
    pub reminder: bool,
}

/// What is over.
#[derive(Debug, Clone)]
pub struct Over {
    /// What it was about.
    pub subject: String,
    /// When it was told first.
    pub since: DateTime<Utc>,
    is_heard: bool,
}

/// What a channel is told.
#[derive(Debug, Clone, Default)]
pub struct Due {
    /// What is wrong, the worst first.
    pub alerts: Vec<Alert>,
    /// What is over.
    pub recovered: Vec<Over>,
    /// What is over, and nobody there wants to know: a new failure of it is news again.
    pub unheard: Vec<Over>,
}

/// What a channel selects; `None` if it does not select.
///
/// # Errors
/// A selector that does not parse, selects nothing, or needs what is not there after a run.
pub(super) fn selected(channel: &Channel, world: Option<World<'_>>) -> Result<Option<Selection>, SelectError> {
    let (Some((project, graph)), false) = (world, channel.select.is_empty()) else { return Ok(None) };
    let request = Request::parse(project, &Wanted { select: &channel.select, ..Wanted::default() })?;
    let needs = request.needs();
    if needs.state || needs.results || needs.freshness || needs.columns {
        let message = format!("channel `{}` selects by what is not known when it is told", channel.name);
        let help = "not for channels: state:, result:, source_status:, column:".to_owned();
        return Err(SelectError { message, help: Some(help) });
    }
    request.evaluate(project, graph, &Facts::default()).map(Some)
}

/// What a channel is told now. `before` is what all channels were told and is not over yet.
pub fn due(
    channel: &Channel,
    selected: Option<&Selection>,
    happened: &Happened,
    before: &[Alerted],
    now: DateTime<Utc>,
) -> Due {
    let known: HashMap<&str, &Alerted> =
        before.iter().filter(|told| told.channel == channel.name).map(|told| (told.subject.as_str(), told)).collect();
    let mut due = Due::default();
    for problem in happened.problems.iter().filter(|problem| hears(channel, selected, problem)) {
        let known = known.get(problem.subject.as_str()).copied();
        let same = known.filter(|told| told.event == problem.event.name() && told.digest == digest(problem));
        if let Some(told) = same {
            let waited = (now - told.at).to_std().unwrap_or_default();
            if channel.remind_after.is_none_or(|pause| waited < pause) {
                continue;
            }
        }
        let since = same.map_or(now, |told| told.since);
        due.alerts.push(Alert { problem: problem.clone(), since, reminder: same.is_some() });
    }
    due.alerts.sort_by_key(|alert| (alert.problem.event, alert.problem.severity as u8));
    let wants = channel.on.contains(&Occasion::Recovery);
    let mut over: Vec<&Alerted> = known.into_values().filter(|told| happened.fine.contains(&told.subject)).collect();
    over.sort_by(|a, b| a.subject.cmp(&b.subject));
    for told in over {
        let over = Over { subject: told.subject.clone(), since: told.since, is_heard: wants };
        if wants { &mut due.recovered } else { &mut due.unheard }.push(over);
    }
    due
}

/// Whether a channel listens to this.
fn hears(channel: &Channel, selected: Option<&Selection>, problem: &Problem) -> bool {
    let fits_severity = channel.severity.is_empty() || channel.severity.contains(&problem.severity);
    if !channel.on.contains(&problem.event) || !fits_severity {
        return false;
    }
    if problem.is_of_all() {
        return true;
    }
    let is_owned =
        |owner: &String| problem.owners.iter().chain(&problem.owners_below).any(|own| own.eq_ignore_ascii_case(owner));
    let is_tagged = |tag: &String| problem.tags.contains(tag) || problem.tags_below.contains(tag);
    let is_selected = |selection: &Selection| {
        let by_test = problem.kind.ends_with("test") && selection.tests.contains(&problem.name);
        by_test || problem.concerns.iter().any(|node| selection.contains(node))
    };
    (channel.owners.is_empty() || channel.owners.iter().any(is_owned))
        && (channel.tags.is_empty() || channel.tags.iter().any(is_tagged))
        && selected.is_none_or(is_selected)
}

impl Due {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.alerts.is_empty() && self.recovered.is_empty()
    }

    /// The occasions, and how many of each, the worst first.
    pub(super) fn counts(&self) -> Vec<(Occasion, usize)> {
        let each = [Occasion::Failure, Occasion::Warning, Occasion::Freshness]
            .map(|occasion| (occasion, self.alerts.iter().filter(|alert| alert.problem.event == occasion).count()));
        let all = each.into_iter().chain([(Occasion::Recovery, self.recovered.len())]);
        all.filter(|(_, count)| *count > 0).collect()
    }

    /// `2 failed, 1 recovered`.
    pub fn in_words(&self) -> String {
        let parts: Vec<String> = self.counts().into_iter().map(|(occasion, count)| counted(occasion, count)).collect();
        parts.join(", ")
    }

    /// What to remember of what was told.
    pub(super) fn rows(
        &self,
        channel: &Channel,
        run: &RunFacts,
        error: Option<&str>,
        now: DateTime<Utc>,
    ) -> Vec<AlertRow> {
        let outcome = if error.is_some() { "failed" } else { "sent" };
        let alerts = self.alerts.iter().map(|alert| AlertRow {
            severity: Some(severity(alert.problem.severity)),
            message: alert.problem.message.clone(),
            digest: digest(&alert.problem),
            event: alert.problem.event.name(),
            ..row(channel, run, &alert.problem.subject, alert.since, now)
        });
        let recovered = self.recovered.iter().map(|over| over.row(channel, run, now));
        let rows = alerts.chain(recovered);
        rows.map(|row| AlertRow { outcome, error: error.map(str::to_owned), ..row }).collect()
    }
}

impl Over {
    /// What to remember of it.
    pub(super) fn row(&self, channel: &Channel, run: &RunFacts, now: DateTime<Utc>) -> AlertRow {
        let outcome = if self.is_heard { "sent" } else { "unheard" };
        AlertRow { outcome, ..row(channel, run, &self.subject, self.since, now) }
    }
}

/// Of a recovery: nothing is wrong.
fn row(channel: &Channel, run: &RunFacts, subject: &str, since: DateTime<Utc>, now: DateTime<Utc>) -> AlertRow {
    AlertRow {
        invocation_id: run.invocation_id.clone(),
        sent_at: now,
        channel: channel.name.clone(),
        subject: subject.to_owned(),
        event: Occasion::Recovery.name(),
        severity: None,
        message: String::new(),
        digest: String::new(),
        since,
        outcome: "sent",
        error: None,
    }
}
