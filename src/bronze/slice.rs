//! A part of the files of a source: `--files`, `--since` and `--until`.

use std::sync::LazyLock;

use chrono::{DateTime, Days, Months, NaiveDate, NaiveDateTime, NaiveTime};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use regex::Regex;

use super::BronzeFile;

/// Files by path and by date.
#[derive(Debug, Clone, Default)]
pub struct Slice {
    globs: Option<GlobSet>,
    since: Option<i64>,
    until: Option<i64>,
}

impl Slice {
    /// `globs` match the end of a path, from any folder on; dates are inclusive. `None` if nothing is asked for.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn new(globs: &[String], since: Option<&str>, until: Option<&str>) -> Result<Option<Self>, String> {
        if globs.is_empty() && since.is_none() && until.is_none() {
            return Ok(None);
        }
        let since = since.map(|text| moment("--since", text)).transpose()?.map(|(from, _)| from);
        let until = until.map(|text| moment("--until", text)).transpose()?.map(|(_, to)| to);
        if let (Some(from), Some(to)) = (since, until)
            && to <= from
        {
            return Err("--until is before --since: no file can match".to_owned());
        }
        let globs = if globs.is_empty() { None } else { Some(glob_set(globs)?) };
        Ok(Some(Self { globs, since, until }))
    }

    /// Whether a file below `base` belongs to the slice.
    pub fn contains(&self, base: &str, file: &BronzeFile) -> bool {
        let path = format!("/{}/{}", base.trim_matches('/'), file.path);
        if self.globs.as_ref().is_some_and(|globs| !globs.is_match(&path)) {
            return false;
        }
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        let (from, to) = path_date(&file.path).unwrap_or((file.modified(), file.modified() + 1));
        self.since.is_none_or(|since| to > since) && self.until.is_none_or(|until| from < until)
    }
}

fn glob_set(globs: &[String]) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    for text in globs {
        let anywhere = format!("**/{}", text.trim_start_matches("./").trim_start_matches('/'));
        let glob = GlobBuilder::new(&anywhere).literal_separator(true).build();
        set.add(glob.map_err(|error| format!("--files `{text}` is not a pattern: {}", error.kind()))?);
    }
    set.build().map_err(|error| format!("--files cannot be used: {error}"))
}

/// A day, or a moment: from when on and up to when (exclusive), in microseconds since 1970 (UTC).
fn moment(flag: &str, text: &str) -> Result<(i64, i64), String> {
    if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return days(day, day.checked_add_days(Days::new(1))).ok_or_else(|| format!("{flag} `{text}` is too far away"));
    }
    let formats = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S%.f"];
    let local = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let zoned = DateTime::parse_from_rfc3339(text).ok().map(|at| at.timestamp_micros());
    match zoned.or_else(|| local.map(|at| at.and_utc().timestamp_micros())) {
        Some(at) => Ok((at, at + 1)),
        None => {
            Err(format!("{flag} `{text}` is not a day such as 2024-08-20 or a moment such as 2024-08-20T12:00:00Z"))
        }
    }
}

fn days(from: NaiveDate, to: Option<NaiveDate>) -> Option<(i64, i64)> {
    let micros = |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc().timestamp_micros();
    Some((micros(from), micros(to?)))
}

/// The day or month that a path names: `2024-08-20`, `20240820`, `2024/08/20`, `year=2024/month=8/day=20`; the last one
/// counts.
pub(super) fn path_date(path: &str) -> Option<(i64, i64)> {
    static HIVE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?:^|/)year=(\d{4})/month=(\d{1,2})(?:/day=(\d{1,2}))?(?:/|$)").expect("it is a pattern")
    });
    static PLAIN: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?:^|[^0-9])(\d{4})[-_/.]?(\d{2})[-_/.]?(\d{2})").expect("it is a pattern"));
    let part =
        |found: &regex::Captures<'_>, at: usize| found.get(at).and_then(|text| text.as_str().parse::<u32>().ok());
    let named = |found: regex::Captures<'_>| {
        let (year, month) = (i32::try_from(part(&found, 1)?).ok()?, part(&found, 2)?);
        match part(&found, 3) {
            Some(day) => {
                let day = NaiveDate::from_ymd_opt(year, month, day)?;
                days(day, day.checked_add_days(Days::new(1)))
            }
            None => {
                let first = NaiveDate::from_ymd_opt(year, month, 1)?;
                days(first, first.checked_add_months(Months::new(1)))
            }
        }
    };
    let hive = HIVE.captures_iter(path).filter_map(named).last();
    hive.or_else(|| PLAIN.captures_iter(path).filter_map(named).last())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bronze::listing::tests::file;

    fn found(globs: &[&str], since: Option<&str>, until: Option<&str>, paths: &[&str]) -> Vec<String> {
        let globs: Vec<String> = globs.iter().map(|glob| (*glob).to_owned()).collect();
        let slice = Slice::new(&globs, since, until).unwrap().unwrap();
        let matches = |path: &&&str| slice.contains("data/views", &file(path, 1));
        paths.iter().filter(matches).map(|path| (**path).to_owned()).collect()
    }

    #[test]
    fn patterns_match_from_any_folder_on() {
        let paths = ["2024-08-20.csv", "old/2024-08-21.csv", "2024-09-01.csv"];
        assert_eq!(found(&["views/2024-08-2*"], None, None, &paths), ["2024-08-20.csv"]);
        assert_eq!(found(&["2024-08-2*"], None, None, &paths), ["2024-08-20.csv", "old/2024-08-21.csv"]);
        assert_eq!(found(&["ata/views/*"], None, None, &paths), [""; 0]);
        assert_eq!(found(&["data/views/**"], None, None, &paths), paths);
    }

    #[test]
    fn dates_of_paths_come_before_times_of_files() {
        let paths = [
            "a_20240819T0100.csv",
            "2024-08-20.csv",
            "2024/08/21/x.csv",
            "year=2024/month=8/day=22/x.csv",
            "year=2024/month=9/x.csv",
            "number_123456789.csv",
            "no_date.csv",
        ];
        // Files without a date were modified in November 2023.
        assert_eq!(found(&[], Some("2024-08-20"), Some("2024-08-22"), &paths), paths[1..4]);
        assert_eq!(found(&[], Some("2024-08-31T10:00"), None, &paths), ["year=2024/month=9/x.csv"]);
        assert_eq!(found(&[], Some("2023-11-01"), Some("2023-11-30"), &paths), paths[5..]);
    }

    #[test]
    fn what_cannot_match_is_told() {
        assert!(Slice::new(&[], Some("yesterday"), None).unwrap_err().contains("is not a day"));
        assert!(Slice::new(&[], Some("2024-02-01"), Some("2024-01-01")).unwrap_err().contains("before"));
        assert!(Slice::new(&["a[".to_owned()], None, None).unwrap_err().contains("is not a pattern"));
        assert!(Slice::new(&[], None, None).unwrap().is_none());
    }
}
