//! Numbers and nouns as people read them, names and texts as SQL has them; and what is said of values that are for nobody.

use std::sync::LazyLock;

use regex::Regex;

/// What stands for a value that is not for everybody.
pub const HIDDEN: &str = "***";

/// So much of a value is told.
const SHOWN_CHARS: usize = 100;

/// The text of a value in a message: its beginning, unless nobody may see it.
pub fn shown(text: &str, is_hidden: bool) -> String {
    if is_hidden { HIDDEN.to_owned() } else { text.trim().chars().take(SHOWN_CHARS).collect() }
}

/// Names of types, as Arrow writes them.
static TYPE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(U?Int|Float|Decimal|Date|Time|Utf|Timestamp)\d*(View)?[,.:;]?$").expect("a pattern")
});

/// `1234567` -> `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 row`, `2 rows`.
pub fn plural(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{} {noun}s", thousands(count)) }
}

/// `1234567` -> `1.2 MB`: with as many digits as a person reads.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let (short, unit) = shortened(bytes, &UNITS);
    format!("{short} {unit}")
}

/// `1234567` -> `1.2M`.
pub fn short(number: u64) -> String {
    if number < 10_000 {
        return thousands(number);
    }
    let (short, unit) = shortened(number, &["k", "M", "G", "T"]);
    format!("{short}{unit}")
}

/// A number of at least a thousand in the greatest unit that leaves something before the point.
fn shortened<'a>(number: u64, units: &[&'a str]) -> (String, &'a str) {
    let mut value = number as f64 / 1000.0;
    let mut at = 0;
    // What would be rounded to a thousand is one of the next unit.
    while value >= 999.5 && at + 1 < units.len() {
        value /= 1000.0;
        at += 1;
    }
    (if value < 9.95 { format!("{value:.1}") } else { format!("{value:.0}") }, units[at])
}

/// `3 days 4 hours`, `5 minutes`, `12 seconds`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let parts = [(seconds / 86_400, "day"), (seconds / 3_600 % 24, "hour"), (seconds / 60 % 60, "minute")];
    let parts: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).take(2).map(|(count, noun)| plural(*count, noun)).collect();
    if parts.is_empty() { plural(seconds, "second") } else { parts.join(" ") }
}

/// A name as SQL, in its own case: `"Id"`.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL: `'it''s'`.
pub fn sql_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The words of an error without what may be a value: from the first quote to the last, from the first parenthesis to the last,
/// and words with digits, `=` or `@`. Names in backticks and of types stay.
pub fn without_values(text: &str) -> String {
    let mut plain = text.to_owned();
    // A value may hold such letters itself, so what stands between two values goes with them.
    for (open, close) in [('\'', '\''), ('"', '"'), ('(', ')')] {
        let Some(first) = plain.find(open) else { continue };
        let inner = first + open.len_utf8();
        let last = plain.rfind(close).filter(|last| *last >= inner).unwrap_or(plain.len());
        plain.replace_range(inner..last, HIDDEN);
    }
    let is_value = |word: &str| {
        !word.starts_with('`')
            && !TYPE.is_match(word)
            && word.contains(|c: char| c.is_ascii_digit() || c == '=' || c == '@')
    };
    let words = plain.split(' ').map(|word| if is_value(word) { HIDDEN } else { word });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_read_well() {
        assert_eq!(super::thousands(1_234_567), "1,234,567");
        assert_eq!(super::thousands(999), "999");
        assert_eq!(super::plural(1, "row"), "1 row");
        assert_eq!(super::plural(2000, "row"), "2,000 rows");
        let sizes = [999, 1000, 9_949, 9_951, 999_499, 999_600, 223_000_000, 9_960_000_000].map(super::size);
        assert_eq!(sizes, ["999 B", "1.0 kB", "9.9 kB", "10 kB", "999 kB", "1.0 MB", "223 MB", "10 GB"]);
        assert_eq!([9_999, 10_000, 310_400].map(super::short), ["9,999", "10k", "310k"]);
    }

    #[test]
    fn values_are_taken_out_of_errors() {
        let hidden = super::without_values(
            "Cannot cast string 'Conan O'Brien' to `t1` of (mail=x@y, (n) m), 17 rows, it is \"c",
        );
        assert_eq!(hidden, "Cannot cast string '***' to `t1` of (***), *** rows, it is \"***");
        let types = "Cannot cast string '17' to value of Int64 type";
        assert_eq!(super::without_values(types), types.replace("17", "***"));
    }
}
