//! Small pieces of what alerts say.

use chrono::{DateTime, Utc};

use crate::project::{Occasion, TestSeverity};

/// The word of `severity`.
pub(super) fn severity(severity: TestSeverity) -> &'static str {
    match severity {
        TestSeverity::Error => "error",
        TestSeverity::Warn => "warn",
    }
}

/// What an occasion is called where several of it stand.
pub(super) fn heading(occasion: Occasion) -> &'static str {
    match occasion {
        Occasion::Failure => "Failed",
        Occasion::Warning => "Warned",
        Occasion::Freshness => "Stale",
        Occasion::Recovery => "Recovered",
    }
}

/// `2 failed`, as a part of a title.
pub(super) fn counted(occasion: Occasion, count: usize) -> String {
    let word = match occasion {
        Occasion::Failure => "failed",
        Occasion::Warning => "warned",
        Occasion::Freshness => "stale",
        Occasion::Recovery => "recovered",
    };
    format!("{count} {word}")
}

/// A text with an ellipsis in place of what is more than so many characters.
pub(super) fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest.saturating_sub(1)) {
        Some((at, last)) if at + last.len_utf8() < text.len() => format!("{}…", &text[..at]),
        _ => text.to_owned(),
    }
}

/// `2026-11-22 09:00 UTC`.
pub(super) fn moment(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn what_is_cut_has_the_length_that_is_allowed() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("äöüß", 3).chars().count(), 3);
        assert_eq!(cut("", 3), "");
    }
}
