//! When a value is unusual beside earlier ones: by its distance from their median, in spreads that a few outliers do not move.

use chrono::{DateTime, Datelike, TimeDelta, Utc};

use crate::intervals::{BatchSize, Interval};

/// What counts as usual.
#[derive(Debug, Clone, PartialEq)]
pub struct Usual {
    /// So many standard deviations from the median are usual.
    pub sensitivity: f64,
    /// Which side of the median can be unusual.
    pub direction: Direction,
    /// With fewer values before it nothing is unusual.
    pub least_values: usize,
    /// How long values count, if that is said.
    pub training_hours: Option<u64>,
    /// Values are compared with those of the same weekday.
    pub by_weekday: bool,
    /// Values from before do not count.
    pub since: Option<DateTime<Utc>>,
    /// No spread is less than this, in the unit of the values.
    pub least_spread: f64,
}

/// Which side of what is usual is unusual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// More and less.
    Both,
    /// More.
    Spike,
    /// Less.
    Drop,
}

/// Values by time, instead of by run.
#[derive(Debug, Clone, PartialEq)]
pub struct Times {
    /// The part of time that has one value.
    pub bucket: BatchSize,
    /// How far back values are judged.
    pub detection_hours: u64,
    /// How late rows may come.
    pub delay_hours: u64,
}

/// A value at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The moment.
    pub at: DateTime<Utc>,
    /// The value.
    pub value: f64,
}

/// What a value is beside earlier ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Judged {
    /// As usual.
    Usual,
    /// There are too few values to say: so many.
    Learning(usize),
    /// What would have been usual, and how many spreads the value is away from the median.
    Unusual {
        /// The least usual value.
        least: f64,
        /// The greatest usual value.
        greatest: f64,
        /// Distance from the median, in spreads.
        score: f64,
    },
}

/// So many values of earlier runs count, if no time is said.
const RUNS: usize = 30;

/// So long values by time count, if nothing is said: two weeks.
const TRAINING_HOURS: u64 = 14 * 24;

/// The median of distances, times this, is the standard deviation of values that are normally distributed.
const OF_MEDIAN: f64 = 1.4826;

/// The same for the mean of distances.
const OF_MEAN: f64 = 1.2533;

/// No spread is less than this part of the median: a count that never changed may change a little.
const LEAST_PART: f64 = 0.01;

impl Usual {
    /// Judges a value beside earlier ones.
    pub fn judge(&self, history: &[Point], now: Point) -> Judged {
        let mut values: Vec<&Point> = history.iter().filter(|point| self.counts(point, now)).collect();
        values.sort_by_key(|point| point.at);
        if self.training_hours.is_none() {
            values.drain(..values.len().saturating_sub(RUNS));
        }
        if values.len() < self.least_values {
            return Judged::Learning(values.len());
        }
        let values: Vec<f64> = values.iter().map(|point| point.value).collect();
        let middle = median(values.clone());
        let distances: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
        let mut spread = OF_MEDIAN * median(distances.clone());
        if spread == 0.0 {
            // More than half of the values are the same.
            spread = OF_MEAN * distances.iter().sum::<f64>() / distances.len() as f64;
        }
        let spread = spread.max(self.least_spread).max(middle.abs() * LEAST_PART).max(f64::MIN_POSITIVE);
        let score = (now.value - middle) / spread;
        let is_unusual = match self.direction {
            Direction::Both => score.abs() > self.sensitivity,
            Direction::Spike => score > self.sensitivity,
            Direction::Drop => score < -self.sensitivity,
        };
        let around = self.sensitivity * spread;
        match is_unusual {
            true => Judged::Unusual { least: middle - around, greatest: middle + around, score },
            false => Judged::Usual,
        }
    }

    fn counts(&self, point: &Point, now: Point) -> bool {
        let oldest = self.training_hours.and_then(|hours| {
            let weeks = if self.by_weekday { 7 } else { 1 };
            TimeDelta::try_hours(i64::try_from(hours.saturating_mul(weeks)).ok()?).map(|time| now.at - time)
        });
        point.at < now.at
            && point.value.is_finite()
            && self.since.is_none_or(|since| point.at >= since)
            && oldest.is_none_or(|oldest| point.at >= oldest)
            && (!self.by_weekday || point.at.weekday() == now.at.weekday())
    }
}

impl Times {
    /// How far back rows are read, from now on.
    pub(super) fn hours(&self, usual: &Usual) -> u64 {
        let training = usual.training_hours.unwrap_or(TRAINING_HOURS);
        let training = if usual.by_weekday { training.saturating_mul(7) } else { training };
        // The part of time at either end is a part only.
        let bucket = if self.bucket == BatchSize::Month { 31 * 24 } else { 24 };
        training.saturating_add(self.detection_hours).saturating_add(self.delay_hours).saturating_add(2 * bucket)
    }

    /// Judges the last values of a series, those of its full parts of time. A time without a row has no value, or zero
    /// where rows are counted.
    pub fn judge(
        &self,
        usual: &Usual,
        series: &[Point],
        counts_rows: bool,
        now: DateTime<Utc>,
    ) -> Vec<(Interval, Point, Judged)> {
        let usual = Usual { training_hours: Some(usual.training_hours.unwrap_or(TRAINING_HOURS)), ..usual.clone() };
        let back = |hours: u64| TimeDelta::try_hours(i64::try_from(hours).unwrap_or(i64::MAX)).unwrap_or_default();
        let end = self.bucket.floor(now - back(self.delay_hours));
        let judged_from = self.bucket.floor(end - back(self.detection_hours)).min(self.bucket.before(end, 1));
        let Some(first) = series.iter().map(|point| point.at).min() else { return Vec::new() };
        let mut points = Vec::new();
        for part in self.bucket.batches(Interval { start: first.max(end - back(self.hours(&usual))), end }) {
            let value = series.iter().find(|point| point.at == part.start).map(|point| point.value);
            if let Some(value) = value.or(counts_rows.then_some(0.0)) {
                points.push((part, Point { at: part.start, value }));
            }
        }
        let (history, judged): (Vec<_>, Vec<_>) = points.into_iter().partition(|(part, _)| part.start < judged_from);
        let history: Vec<Point> = history.into_iter().map(|(_, point)| point).collect();
        judged.into_iter().map(|(part, point)| (part, point, usual.judge(&history, point))).collect()
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => 0.0,
        length if length % 2 == 1 => values[half],
        _ => f64::midpoint(values[half - 1], values[half]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Usual = Usual {
        sensitivity: 3.0,
        direction: Direction::Both,
        least_values: 7,
        training_hours: None,
        by_weekday: false,
        since: None,
        least_spread: 0.0,
    };

    fn day(day: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(day * 86_400, 0).unwrap()
    }

    fn days(values: &[f64]) -> Vec<Point> {
        values.iter().enumerate().map(|(at, value)| Point { at: day(at as i64), value: *value }).collect()
    }

    fn judged(usual: &Usual, history: &[f64], value: f64) -> Judged {
        usual.judge(&days(history), Point { at: day(history.len() as i64), value })
    }

    #[test]
    fn an_outlier_in_the_history_hides_no_other() {
        let history = [100.0, 103.0, 98.0, 5000.0, 101.0, 99.0, 102.0, 100.0];
        assert_eq!(judged(&USUAL, &history, 104.0), Judged::Usual);
        assert!(matches!(judged(&USUAL, &history, 130.0), Judged::Unusual { score, .. } if score > 3.0));
        let Judged::Unusual { least, greatest, score } = judged(&USUAL, &history, 10.0) else { panic!() };
        assert!(score < -3.0 && least < 100.0 && greatest > 100.0 && greatest < 120.0, "{least} to {greatest}");
    }

    #[test]
    fn few_values_are_no_history_and_what_never_changed_may_change_a_little() {
        assert_eq!(judged(&USUAL, &[1.0; 6], 100.0), Judged::Learning(6));
        assert_eq!(judged(&USUAL, &[100.0; 7], 103.0), Judged::Usual);
        assert!(matches!(judged(&USUAL, &[100.0; 7], 104.0), Judged::Unusual { .. }));
        assert!(matches!(judged(&USUAL, &[0.0; 7], 0.05), Judged::Unusual { .. }));
        assert_eq!(judged(&Usual { least_spread: 0.1, ..USUAL }, &[0.0; 7], 0.05), Judged::Usual);
    }

    #[test]
    fn a_direction_looks_at_one_side() {
        let history = [100.0; 9];
        let of = |direction, value| judged(&Usual { direction, ..USUAL }, &history, value) != Judged::Usual;
        assert!(of(Direction::Spike, 200.0) && !of(Direction::Spike, 0.0));
        assert!(of(Direction::Drop, 0.0) && !of(Direction::Drop, 200.0));
    }

    #[test]
    fn weekdays_are_compared_with_their_like() {
        // Day 0 is a Thursday; Saturdays and Sundays are quiet.
        let quiet = |at: i64| matches!(at % 7, 2 | 3);
        let history: Vec<f64> = (0..70).map(|at| if quiet(at) { 10.0 } else { 100.0 }).collect();
        let weekly = Usual { by_weekday: true, ..USUAL };
        let on = |at: i64, value| weekly.judge(&days(&history), Point { at: day(at), value });
        assert_eq!(on(72, 10.0), Judged::Usual);
        assert!(matches!(on(72, 100.0), Judged::Unusual { .. }));
        assert!(matches!(on(74, 10.0), Judged::Unusual { .. }));
    }

    #[test]
    fn what_came_before_a_start_does_not_count() {
        let mut history = days(&[10.0; 30]);
        history.extend((30..37).map(|at| Point { at: day(at), value: 500.0 }));
        let usual = Usual { since: Some(day(30)), ..USUAL };
        assert_eq!(usual.judge(&history, Point { at: day(37), value: 500.0 }), Judged::Usual);
        assert!(matches!(USUAL.judge(&history, Point { at: day(37), value: 500.0 }), Judged::Unusual { .. }));
    }

    #[test]
    fn a_day_without_rows_is_a_day_of_none() {
        let times = Times { bucket: BatchSize::Day, detection_hours: 48, delay_hours: 0 };
        let mut series = days(&[100.0; 20]);
        series.remove(18);
        // The twentieth day is not over yet.
        let found = times.judge(&USUAL, &series, true, day(20) + TimeDelta::hours(5));
        let unusual: Vec<_> = found.iter().filter(|(_, _, judged)| *judged != Judged::Usual).collect();
        assert_eq!(found.len(), 2);
        assert_eq!((unusual.len(), unusual[0].0.start, unusual[0].1.value), (1, day(18), 0.0));
        // Where no rows are counted it has no value.
        assert_eq!(times.judge(&USUAL, &series, false, day(20)).len(), 1);
        assert!(times.judge(&USUAL, &[], true, day(20)).is_empty());
    }
}
