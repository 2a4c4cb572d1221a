//! Time in batches: intervals of hours, days, months and years, in UTC.

use std::fmt;

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike, Utc};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How long a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchSize {
    /// From one full hour to the next.
    Hour,
    /// From midnight to midnight.
    Day,
    /// A calendar month.
    Month,
    /// A calendar year.
    Year,
}

impl BatchSize {
    /// The start of the batch that a moment belongs to.
    pub fn floor(self, at: DateTime<Utc>) -> DateTime<Utc> {
        let day = at.date_naive();
        let (day, hour) = match self {
            Self::Hour => (Some(day), at.hour()),
            Self::Day => (Some(day), 0),
            Self::Month => (day.with_day(1), 0),
            Self::Year => (NaiveDate::from_ymd_opt(day.year(), 1, 1), 0),
        };
        let time = NaiveTime::from_hms_opt(hour, 0, 0).unwrap_or_default();
        day.map_or(at, |day| day.and_time(time).and_utc())
    }

    /// The end of the batch that starts at a moment; the last moment of all if there is no later one.
    fn next(self, start: DateTime<Utc>) -> DateTime<Utc> {
        let next = match self {
            Self::Hour => start.checked_add_signed(TimeDelta::hours(1)),
            Self::Day => start.checked_add_days(Days::new(1)),
            Self::Month => start.checked_add_months(Months::new(1)),
            Self::Year => start.checked_add_months(Months::new(12)),
        };
        next.unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// The first start of a batch that is not before a moment.
    pub fn ceil(self, at: DateTime<Utc>) -> DateTime<Utc> {
        let floor = self.floor(at);
        if floor == at { at } else { self.next(floor) }
    }

    /// The start of the batch that is `count` batches before the one that starts at a moment.
    pub fn before(self, start: DateTime<Utc>, count: u32) -> DateTime<Utc> {
        let earlier = match self {
            Self::Hour => start.checked_sub_signed(TimeDelta::hours(i64::from(count))),
            Self::Day => start.checked_sub_days(Days::new(u64::from(count))),
            Self::Month => start.checked_sub_months(Months::new(count)),
            Self::Year => count.checked_mul(12).and_then(|months| start.checked_sub_months(Months::new(months))),
        };
        earlier.unwrap_or(DateTime::<Utc>::MIN_UTC)
    }

    /// All batches that have a part in an interval, the earliest first.
    pub fn batches(self, whole: Interval) -> Vec<Interval> {
        let (mut batches, mut start) = (Vec::new(), self.floor(whole.start));
        while start < whole.end {
            let end = self.next(start);
            batches.push(Interval { start, end });
            start = end;
        }
        batches
    }

    /// The name of the batch that starts at a moment: `2026-01-31`, `2026-01-31T05`, `2026-01`, `2026`.
    pub fn name(self, start: DateTime<Utc>) -> String {
        let format = match self {
            Self::Hour => "%Y-%m-%dT%H",
            Self::Day => "%Y-%m-%d",
            Self::Month => "%Y-%m",
            Self::Year => "%Y",
        };
        start.format(format).to_string()
    }

    /// The names of batches in order: `2026-01-01 .. 2026-01-03, 2026-01-07`.
    pub fn names(self, batches: &[Interval]) -> String {
        const MOST: usize = 4;
        let mut runs: Vec<(Interval, Interval)> = Vec::new();
        for batch in batches {
            match runs.last_mut() {
                Some((_, last)) if last.end == batch.start => *last = *batch,
                _ => runs.push((*batch, *batch)),
            }
        }
        let name = |(first, last): &(Interval, Interval)| match first == last {
            true => self.name(first.start),
            false => format!("{} .. {}", self.name(first.start), self.name(last.start)),
        };
        let mut names: Vec<String> = runs.iter().take(MOST).map(name).collect();
        if runs.len() > MOST {
            names.push(format!("and others up to {}", self.name(runs[runs.len() - 1].1.start)));
        }
        names.join(", ")
    }
}

/// A part of time: `start` belongs to it, `end` does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// The first moment.
    pub start: DateTime<Utc>,
    /// The first moment after it.
    pub end: DateTime<Utc>,
}

impl Interval {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.end <= self.start
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |moment: DateTime<Utc>| moment.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
        write!(f, "{} up to {}", at(self.start), at(self.end))
    }
}

/// Parts of time, kept as few ranges: ten years of hours without a gap are one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Intervals(Vec<Interval>);

impl From<Interval> for Intervals {
    fn from(interval: Interval) -> Self {
        let mut intervals = Self::default();
        intervals.add(interval);
        intervals
    }
}

impl Intervals {
    /// Nothing is in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// The ranges, the earliest first; none touches another.
    pub fn ranges(&self) -> &[Interval] {
        &self.0
    }

    /// Whether all of an interval is in it.
    pub fn covers(&self, interval: Interval) -> bool {
        interval.is_empty() || self.0.iter().any(|range| range.start <= interval.start && interval.end <= range.end)
    }

    /// Whether a moment is in it.
    pub fn contains(&self, at: DateTime<Utc>) -> bool {
        self.0.iter().any(|range| range.start <= at && at < range.end)
    }

    /// Puts an interval in.
    pub fn add(&mut self, interval: Interval) {
        if interval.is_empty() {
            return;
        }
        let mut joined = interval;
        self.0.retain(|range| {
            let touches = range.start <= joined.end && joined.start <= range.end;
            if touches {
                joined = Interval { start: range.start.min(joined.start), end: range.end.max(joined.end) };
            }
            !touches
        });
        let at = self.0.partition_point(|range| range.start < joined.start);
        self.0.insert(at, joined);
    }

    /// Takes an interval out.
    pub fn remove(&mut self, interval: Interval) {
        let rest = |range: &Interval| {
            let left = Interval { end: range.end.min(interval.start), ..*range };
            let right = Interval { start: range.start.max(interval.end), ..*range };
            [left, right].into_iter().filter(|part| !part.is_empty())
        };
        if !interval.is_empty() {
            self.0 = self.0.iter().flat_map(rest).collect();
        }
    }
}

impl Serialize for Intervals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.iter().map(|range| (range.start, range.end)).collect::<Vec<_>>().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Intervals {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut all = Self::new();
        for (start, end) in Vec::<(DateTime<Utc>, DateTime<Utc>)>::deserialize(deserializer)? {
            if end <= start {
                return Err(D::Error::custom(format!("an interval that starts at {start} cannot end at {end}")));
            }
            all.add(Interval { start, end });
        }
        Ok(all)
    }
}

/// A day, or a moment; in UTC unless it says otherwise.
pub fn moment(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some(day.and_time(NaiveTime::MIN).and_utc());
    }
    let local = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S%.f"];
    if let Some(at) = local.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok()) {
        return Some(at.and_utc());
    }
    let zoned = ["%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z"];
    let text = text.strip_suffix(['Z', 'z']).map_or_else(|| text.to_owned(), |plain| format!("{plain}+00:00"));
    let zoned = zoned.iter().find_map(|format| DateTime::parse_from_str(&text, format).ok());
    zoned.map(|at| at.with_timezone(&Utc))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn at(text: &str) -> DateTime<Utc> {
        moment(text).unwrap()
    }

    pub(crate) fn between(start: &str, end: &str) -> Interval {
        Interval { start: at(start), end: at(end) }
    }

    #[test]
    fn moments_are_in_utc() {
        let noon = at("2026-01-31T12:00:00Z");
        for text in
            ["2026-01-31 12:00", "2026-01-31T13:00:00+01:00", "2026-01-31 07:00:00.000-0500", "2026-01-31T12:00Z"]
        {
            assert_eq!(at(text), noon, "{text}");
        }
        assert_eq!(at("2026-01-31"), at("2026-01-31 00:00:00"));
        assert!(["", "2026-13-01", "yesterday", "2026"].iter().all(|text| moment(text).is_none()));
    }

    #[test]
    fn batches_follow_the_calendar() {
        use BatchSize::{Day, Hour, Month, Year};
        let leap = at("2024-02-29 23:30");
        let starts: Vec<_> = [Hour, Day, Month, Year].iter().map(|size| size.name(size.floor(leap))).collect();
        assert_eq!(starts, ["2024-02-29T23", "2024-02-29", "2024-02", "2024"]);
        assert_eq!(Month.ceil(leap), at("2024-03-01"));
        assert_eq!(Day.ceil(at("2024-03-01")), at("2024-03-01"));
        assert_eq!(Month.before(at("2024-03-01"), 2), at("2024-01-01"));
        let days = Day.batches(between("2024-02-28 12:00", "2024-03-01 00:00"));
        assert_eq!(Day.names(&days), "2024-02-28 .. 2024-02-29");
        assert_eq!(Hour.batches(between("2024-02-29", "2024-03-01")).len(), 24);
        assert_eq!(Day.names(&[days[0], between("2024-03-02", "2024-03-03")]), "2024-02-28, 2024-03-02");
    }

    #[test]
    fn intervals_are_few_ranges() {
        let mut all = Intervals::new();
        for day in BatchSize::Day.batches(between("2016-01-01", "2026-01-01")).into_iter().rev() {
            all.add(day);
        }
        assert_eq!(all.ranges(), [between("2016-01-01", "2026-01-01")]);
        all.remove(between("2020-01-01", "2020-01-02"));
        assert_eq!(all.ranges().len(), 2);
        assert!(!all.covers(between("2019-12-31", "2020-01-02")) && all.covers(between("2020-01-02", "2025-01-02")));
        assert!(!all.contains(at("2020-01-01")) && all.contains(at("2020-01-02")));
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<Intervals>(&text).unwrap(), all);
        all.add(between("2020-01-01", "2020-01-02"));
        assert_eq!(all.ranges().len(), 1);
        assert!(serde_json::from_str::<Intervals>(r#"[["2020-01-02T00:00:00Z","2020-01-01T00:00:00Z"]]"#).is_err());
    }
}
