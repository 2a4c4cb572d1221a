//! `warn_if` and `error_if`: from how many failures on a test warns or fails, as a count or in percent.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `> 10`, `!= 0`, `between 1 and 5`, `>= 0.5%`: a condition on the number of failures, or on their part of the rows.
///
/// dbt has the counts: <https://docs.getdbt.com/reference/resource-configs/severity>.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    comparison: Comparison,
    /// Of the rows that the test looks at.
    percent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Comparison {
    Equal(f64),
    NotEqual(f64),
    Less(f64),
    AtMost(f64),
    More(f64),
    AtLeast(f64),
    Between(f64, f64),
}

impl Default for Threshold {
    /// Any failure.
    fn default() -> Self {
        Self { comparison: Comparison::NotEqual(0.0), percent: false }
    }
}

impl Threshold {
    /// Reads a condition; a number alone means that many or more.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let unreadable = || {
            format!("`{text}` is not a condition on the number of failures; write `> 10`, `>= 1%` or `between 1 and 5`")
        };
        let (body, percent) = (text.replace('%', " "), text.contains('%'));
        let body = body.trim().to_lowercase();
        let number =
            |text: &str| text.trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0).ok_or_else(unreadable);
        let comparison = if let Some(bounds) = body.strip_prefix("between") {
            let (low, high) = bounds.split_once(" and ").ok_or_else(unreadable)?;
            Comparison::Between(number(low)?, number(high)?)
        } else {
            type Make = fn(f64) -> Comparison;
            const SIGNS: &[(&str, Make)] = &[
                (">=", Comparison::AtLeast),
                ("<=", Comparison::AtMost),
                ("!=", Comparison::NotEqual),
                ("<>", Comparison::NotEqual),
                ("==", Comparison::Equal),
                (">", Comparison::More),
                ("<", Comparison::Less),
                ("=", Comparison::Equal),
            ];
            match SIGNS.iter().find_map(|(sign, make)| Some((body.strip_prefix(sign)?, make))) {
                Some((rest, make)) => make(number(rest)?),
                None => Comparison::AtLeast(number(&body)?),
            }
        };
        Ok(Self { comparison, percent })
    }

    /// Whether it is about a part of the rows.
    pub fn is_percent(&self) -> bool {
        self.percent
    }

    /// Whether so many failures meet it. Without rows, failures are none or all of them.
    pub fn is_met(&self, failures: u64, rows: Option<u64>) -> bool {
        let failed = failures as f64;
        let found = match (self.percent, rows) {
            (false, _) => failed,
            (true, Some(rows)) if rows > 0 => failed / rows as f64 * 100.0,
            (true, _) if failures == 0 => 0.0,
            (true, _) => 100.0,
        };
        match self.comparison {
            Comparison::Equal(n) => found == n,
            Comparison::NotEqual(n) => found != n,
            Comparison::Less(n) => found < n,
            Comparison::AtMost(n) => found <= n,
            Comparison::More(n) => found > n,
            Comparison::AtLeast(n) => found >= n,
            Comparison::Between(low, high) => (low..=high).contains(&found),
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.percent { "%" } else { "" };
        match self.comparison {
            Comparison::Equal(n) => write!(f, "= {n}{unit}"),
            Comparison::NotEqual(n) => write!(f, "!= {n}{unit}"),
            Comparison::Less(n) => write!(f, "< {n}{unit}"),
            Comparison::AtMost(n) => write!(f, "<= {n}{unit}"),
            Comparison::More(n) => write!(f, "> {n}{unit}"),
            Comparison::AtLeast(n) => write!(f, ">= {n}{unit}"),
            Comparison::Between(low, high) => write!(f, "between {low}{unit} and {high}{unit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_and_met() {
        let met = |text: &str, failures, rows| Threshold::parse(text).unwrap().is_met(failures, rows);
        assert!(met("> 10", 11, None) && !met(">10", 10, None));
        assert!(met("!= 0", 1, None) && !met("<> 0", 0, None));
        assert!(met("between 2 and 4", 4, None) && !met("Between 2 and 4", 5, None));
        assert!(met(">= 1%", 1, Some(100)) && !met("> 1 %", 1, Some(100)));
        assert!(met("5", 5, None) && !met("5", 4, None), "a number alone is the least number");
        assert!(!met("> 50%", 0, Some(0)) && met("> 50%", 1, None), "no rows, and rows that nobody counted");
        for wrong in ["", "many", "> ten", "> -1", "between 1", "> 1 or 2"] {
            assert!(Threshold::parse(wrong).is_err(), "{wrong}");
        }
        for text in ["> 10", ">= 0.5%", "between 1 and 5", "!= 0"] {
            assert_eq!(Threshold::parse(text).unwrap().to_string(), text);
        }
    }
}
