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

/// The words of an error without what may be a value: quoted, in parentheses, with digits, `=` or `@`. Names in backticks stay.
pub(super) fn without_values(text: &str) -> String {
    let (mut plain, mut end) = (String::new(), None);
    for c in text.chars() {
        match (end, c) {
            (Some(awaited), _) if c == awaited => end = None,
            (Some(_), _) => continue,
            (None, '\'' | '"') => end = Some(c),
            (None, '(') => end = Some(')'),
            (None, _) => {}
        }
        plain.push(c);
        if end.is_some() {
            plain.push_str("***");
        }
    }
    let is_value =
        |word: &str| !word.starts_with('`') && word.contains(|c: char| c.is_ascii_digit() || c == '=' || c == '@');
    let words = plain.split(' ').map(|word| if is_value(word) { "***" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::{cut, without_values};

    #[test]
    fn values_are_taken_out_of_errors() {
        let hidden = without_values("Cannot cast string 'a b' to `t1` of (mail=x@y, n), 17 rows, it's \"c");
        assert_eq!(hidden, "Cannot cast string '***' to `t1` of (***), *** rows, it'***");
    }

    #[test]
    fn what_is_cut_has_the_length_that_is_allowed() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("äöüß", 3).chars().count(), 3);
        assert_eq!(cut("", 3), "");
    }
}
