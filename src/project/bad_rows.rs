//! What a source says of rows that do not fit its columns.

use super::formats::Format;
use super::ingestion::{self, Ingestion};
use super::yaml::{Mapping, Node, Raw, Reader};
use crate::diagnostics::{Diagnostic, Id};

/// What to do about a row that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnBadRow {
    /// Refuse.
    #[default]
    Fail,
    /// NULL for what does not fit.
    Null,
    /// Leave it out, and keep it in the quarantine of the source.
    Quarantine,
}

/// How many rows of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// A number.
    Count(u64),
    /// A part of them, from 0 to 100.
    Percent(f64),
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Limit {
    /// Whether these are too many.
    pub fn is_exceeded(self, bad: u64, rows: u64) -> bool {
        match self {
            Self::Count(count) => bad > count,
            Self::Percent(percent) => bad as f64 > rows as f64 * percent / 100.0,
        }
    }
}

pub(super) const BAD: &[(&str, OnBadRow)] =
    &[("fail", OnBadRow::Fail), ("null", OnBadRow::Null), ("quarantine", OnBadRow::Quarantine)];

/// Takes `on_bad_row:`, and checks what depends on it.
pub(super) fn read(
    table: &mut Mapping<'_>,
    (settings, format): (&Ingestion, Option<Format>),
    reader: &mut Reader<'_>,
) -> OnBadRow {
    let said = ingestion::choice(table, "on_bad_row", "value of `on_bad_row`", BAD, reader);
    let entry = |name: &str| table.entries.iter().find(|(key, _)| key.plain_text() == name);
    // YAML reads the word `null` as nothing at all.
    let null = entry("on_bad_row").is_some_and(|(_, value)| matches!(value.value, Raw::Null));
    let rule = if null { OnBadRow::Null } else { said };
    if let Some((key, _)) = entry("on_bad_row")
        && rule == OnBadRow::Null
        && format.is_some_and(|format| !format.may_be(Format::is_text))
    {
        reader.invalid(&key.span, "values that do not fit become NULL in CSV, TSV and JSON files only");
    }
    if let Some((key, _)) = entry("max_bad_rows")
        && settings.max_bad_rows.is_some()
        && rule == OnBadRow::Fail
    {
        let message = "`max_bad_rows` means nothing where the first bad row fails";
        let diagnostic = Diagnostic::error(Id::MissingKey, message).at(key.span.clone());
        reader.diagnostics.push(diagnostic.help("say `on_bad_row: quarantine`, or `null`"));
    }
    rule
}

/// `100`, or `1%`.
pub(super) fn limit(node: &Node, reader: &mut Reader<'_>) -> Option<Limit> {
    let text = node.plain_text();
    let percent = text.trim().strip_suffix('%').map(|text| text.trim().parse::<f64>());
    match percent {
        Some(Ok(percent)) if (0.0..=100.0).contains(&percent) => return Some(Limit::Percent(percent)),
        None => {
            if let Ok(count) = text.trim().parse() {
                return Some(Limit::Count(count));
            }
        }
        Some(_) => {}
    }
    let diagnostic = Diagnostic::error(Id::InvalidValue, format!("`{text}` is not a number of rows"));
    reader.diagnostics.push(diagnostic.at(node.span.clone()).help("a count such as `100`, or a part such as `1%`"));
    None
}
