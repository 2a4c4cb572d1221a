//! Which batches of a model are due: a pure function of what is known, and the reason in words.

use chrono::{DateTime, SubsecRound, Utc};

use crate::intervals::{BatchSize, Interval, Intervals};

/// What the decision is made of.
#[derive(Debug, Clone)]
pub(super) struct Question<'a> {
    pub(super) size: BatchSize,
    pub(super) begin: DateTime<Utc>,
    pub(super) lookback: u32,
    /// When the run started.
    pub(super) now: DateTime<Utc>,
    /// What the table has.
    pub(super) done: &'a Intervals,
    /// Inputs may have other rows than those that the table was made from.
    pub(super) changed: bool,
    /// The batches that were asked for by `--event-time-start` and `--event-time-end`.
    pub(super) asked: Option<Interval>,
    /// The table is made anew.
    pub(super) anew: bool,
}

/// Batches to run, the earliest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Due {
    pub(super) batches: Vec<Interval>,
    /// How many of them are there because the table lacks them though it has later ones.
    pub(super) missing: usize,
}

impl Due {
    /// `2 batches: 2026-01-01 .. 2026-01-02, one was missing`.
    pub(super) fn reason(&self, size: BatchSize) -> String {
        let noun = if self.batches.len() == 1 { "batch" } else { "batches" };
        let missing = match self.missing {
            0 => String::new(),
            1 if self.batches.len() == 1 => ", it was missing".to_owned(),
            1 => ", one was missing".to_owned(),
            some => format!(", {some} were missing"),
        };
        format!("{} {noun}: {}{missing}", self.batches.len(), size.names(&self.batches))
    }
}

/// As in dbt, the batch of this moment and `lookback` batches before it run again when inputs have changed, and what was
/// asked for always runs. Beyond dbt, whatever the table lacks since `begin` is due. A batch that ran before its end
/// counts up to the moment of that run only, so it is due once more after its end.
pub(super) fn due(question: &Question<'_>) -> Due {
    let Question { size, begin, lookback, now, done, changed, asked, anew } = question.clone();
    if let Some(asked) = asked {
        return Due { batches: size.batches(asked), missing: 0 };
    }
    let end = size.ceil(now);
    let all = Interval { start: size.floor(begin), end };
    if anew {
        return Due { batches: size.batches(all), missing: 0 };
    }
    // On the stroke of an hour no batch is open, and the last one has just ended.
    let window = size.before(end, lookback.saturating_add(1));
    let last = done.ranges().last().map(|range| range.end);
    let (mut batches, mut missing) = (Vec::new(), 0);
    for batch in size.batches(all) {
        let lacks = if batch.end <= now { !done.covers(batch) } else { !done.contains(batch.start) };
        if lacks || changed && batch.start >= window {
            missing += usize::from(!done.contains(batch.start) && last.is_some_and(|last| batch.end < last));
            batches.push(batch);
        }
    }
    Due { batches, missing }
}

/// The part of a batch that counts as done when it ran in a run that started at `now`.
pub(super) fn counts(batch: Interval, now: DateTime<Utc>) -> Interval {
    let first = batch.start + chrono::TimeDelta::microseconds(1);
    Interval { start: batch.start, end: batch.end.min(now.trunc_subsecs(6).max(first)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intervals::tests::{at, between};

    fn ask<'a>(done: &'a Intervals, now: &str) -> Question<'a> {
        let (size, begin, now) = (BatchSize::Day, at("2026-01-01"), at(now));
        Question { size, begin, lookback: 1, now, done, changed: false, asked: None, anew: false }
    }

    fn names(question: &Question<'_>) -> String {
        let due = due(question);
        if due.batches.is_empty() { "nothing".to_owned() } else { due.reason(question.size) }
    }

    #[test]
    fn what_is_due_follows_from_what_is_done() {
        let nothing = Intervals::new();
        let now = "2026-01-05 12:00";
        assert_eq!(names(&ask(&nothing, now)), "5 batches: 2026-01-01 .. 2026-01-05");
        assert_eq!(names(&ask(&nothing, "2025-12-31")), "nothing");
        let mut done = Intervals::new();
        done.add(between("2026-01-01", now));
        assert_eq!(names(&ask(&done, now)), "nothing");
        assert_eq!(names(&ask(&done, "2026-01-05 13:00")), "nothing");
        // Inputs changed: the open batch, and one before it.
        let changed = Question { changed: true, ..ask(&done, "2026-01-05 13:00") };
        assert_eq!(names(&changed), "2 batches: 2026-01-04 .. 2026-01-05");
        assert_eq!(names(&Question { lookback: 0, ..changed.clone() }), "1 batch: 2026-01-05");
        assert_eq!(names(&Question { lookback: u32::MAX, ..changed }), "5 batches: 2026-01-01 .. 2026-01-05");
        // The day has passed: what was open is run to its end, whatever the lookback is.
        assert_eq!(names(&Question { lookback: 0, ..ask(&done, "2026-01-06 00:00") }), "1 batch: 2026-01-05");
        assert_eq!(names(&ask(&done, "2026-01-06 00:01")), "2 batches: 2026-01-05 .. 2026-01-06");
        done.remove(between("2026-01-02", "2026-01-03"));
        assert_eq!(names(&ask(&done, now)), "1 batch: 2026-01-02, it was missing");
        let changed = Question { changed: true, ..ask(&done, now) };
        assert_eq!(names(&changed), "3 batches: 2026-01-02, 2026-01-04 .. 2026-01-05, one was missing");
        // An earlier beginning is a gap like any other.
        let earlier = Question { begin: at("2025-12-30 10:00"), ..ask(&done, now) };
        assert_eq!(names(&earlier), "3 batches: 2025-12-30 .. 2025-12-31, 2026-01-02, 3 were missing");
        let asked = Question { asked: Some(between("2026-01-01 12:00", "2026-01-03")), ..earlier };
        assert_eq!(names(&asked), "2 batches: 2026-01-01 .. 2026-01-02");
        assert_eq!(names(&Question { anew: true, ..ask(&done, now) }), "5 batches: 2026-01-01 .. 2026-01-05");
    }

    #[test]
    fn other_sizes_find_what_is_missing_too() {
        let mut done = Intervals::new();
        done.add(between("2026-01-01", "2026-01-02 05:00"));
        let hourly = Question { size: BatchSize::Hour, ..ask(&done, "2026-01-02 07:30") };
        assert_eq!(names(&hourly), "3 batches: 2026-01-02T05 .. 2026-01-02T07");
        let monthly = Question { size: BatchSize::Month, ..ask(&done, "2026-02-02") };
        assert_eq!(names(&monthly), "2 batches: 2026-01 .. 2026-02");
    }

    #[test]
    fn an_open_batch_counts_up_to_its_run() {
        let day = between("2026-01-05", "2026-01-06");
        assert_eq!(counts(day, at("2026-01-07")), day);
        assert_eq!(counts(day, at("2026-01-05 12:00")), between("2026-01-05", "2026-01-05 12:00"));
        assert!(!counts(day, at("2026-01-04")).is_empty());
    }
}
