//! How the files of a table are written, and what keeps them in order: settings of models that decide no rows.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::settings::parse_bytes;
use crate::names::nearest;

/// A codec of Parquet, with its level if it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Codec {
    /// Which one.
    pub name: CodecName,
    /// How hard it tries; `None` is its own default.
    pub level: Option<u32>,
}

/// A codec of Parquet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CodecName {
    /// Good and fast.
    Zstd,
    /// Faster, and larger.
    Snappy,
    /// For readers that know nothing else.
    Gzip,
    /// Small, and slow to write.
    Brotli,
    /// The fastest.
    Lz4,
    /// Not compressed.
    None,
}

/// The words for codecs, and the levels that each has.
pub(super) const CODECS: &[(&str, CodecName, Option<RangeInclusive<u32>>)] = &[
    ("zstd", CodecName::Zstd, Some(1..=22)),
    ("snappy", CodecName::Snappy, None),
    ("gzip", CodecName::Gzip, Some(0..=10)),
    ("brotli", CodecName::Brotli, Some(0..=11)),
    ("lz4", CodecName::Lz4, None),
    ("lz4_raw", CodecName::Lz4, None),
    ("none", CodecName::None, None),
    ("uncompressed", CodecName::None, None),
];

/// Which descriptions are written into the table: `persist_docs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersistDocs {
    /// That of the table.
    pub relation: bool,
    /// Those of its columns.
    pub columns: bool,
}

impl Default for PersistDocs {
    fn default() -> Self {
        Self { relation: true, columns: true }
    }
}

/// What `lake maintain` does to a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintain {
    /// Packs small files, and orders rows by `zorder_by`.
    pub optimize: bool,
    /// Removes files that no recent version needs.
    pub vacuum: bool,
    /// How recent; unless set, as the table's property `delta.deletedFileRetentionDuration` says.
    pub retention: Option<Duration>,
    /// Writes a checkpoint of the log.
    pub checkpoint: bool,
    /// Removes the log of versions that are older than `delta.logRetentionDuration`.
    pub log_cleanup: bool,
}

/// How long removed files are kept for readers of older versions, unless set: Delta's own default.
pub const RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// No retention is shorter: a build that still runs has written files which no version names yet.
pub const SHORTEST_RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for Maintain {
    fn default() -> Self {
        Self { optimize: true, vacuum: true, retention: None, checkpoint: true, log_cleanup: true }
    }
}

impl Maintain {
    /// There is nothing to do.
    pub fn is_off(&self) -> bool {
        !self.optimize && !self.vacuum && !self.checkpoint && !self.log_cleanup
    }
}

pub(super) const MAINTAIN_KEYS: &[&str] = &["optimize", "vacuum", "checkpoint", "log_cleanup"];

/// `false`, or `{ optimize: true, vacuum: { retention: 7 days }, checkpoint: true, log_cleanup: true }`.
pub(super) fn maintain(value: &Value) -> Result<Maintain, String> {
    match value {
        Value::Bool(true) => return Ok(Maintain::default()),
        Value::Bool(false) => {
            return Ok(Maintain {
                optimize: false,
                vacuum: false,
                retention: None,
                checkpoint: false,
                log_cleanup: false,
            });
        }
        _ => {}
    }
    let expected = "`maintain` takes false, or a mapping such as { optimize: true, vacuum: { retention: 7 days } }";
    let entries = value.as_object().ok_or_else(|| format!("{expected}, not {value}"))?;
    let mut policy = Maintain::default();
    for (key, value) in entries {
        let switch =
            || value.as_bool().ok_or_else(|| format!("`{key}` of `maintain` takes true or false, not {value}"));
        match key.as_str() {
            "optimize" => policy.optimize = switch()?,
            "checkpoint" => policy.checkpoint = switch()?,
            "log_cleanup" => policy.log_cleanup = switch()?,
            "vacuum" => (policy.vacuum, policy.retention) = vacuum(value)?,
            _ => return Err(unknown(key, "maintain", MAINTAIN_KEYS)),
        }
    }
    Ok(policy)
}

fn vacuum(value: &Value) -> Result<(bool, Option<Duration>), String> {
    if let Some(on) = value.as_bool() {
        return Ok((on, None));
    }
    let entries = value
        .as_object()
        .ok_or_else(|| format!("`vacuum` takes true, false or {{ retention: 7 days }}, not {value}"))?;
    let mut found = None;
    for (key, value) in entries {
        if key != "retention" {
            return Err(unknown(key, "vacuum", &["retention"]));
        }
        let text = value.as_str().unwrap_or_default();
        let retention = duration(text)
            .ok_or_else(|| format!("{value} is not a time for `retention`; write `7 days`, `36 hours` or `2 weeks`"))?;
        if retention < SHORTEST_RETENTION {
            return Err(format!(
                "`retention: {text}` is too short: a build that still runs has files which no version names yet; write \
                 `1 day` or more"
            ));
        }
        found = Some(retention);
    }
    Ok((true, found))
}

/// `7 days`, `36 hours`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.trim().split_once(' ')?;
    let number: u64 = number.parse().ok()?;
    let seconds = match unit.trim().trim_end_matches('s') {
        "second" => 1,
        "minute" => 60,
        "hour" => 60 * 60,
        "day" => 24 * 60 * 60,
        "week" => 7 * 24 * 60 * 60,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

/// `{ relation: true, columns: true }`, as in dbt; here both are on unless set.
pub(super) fn persist_docs(value: &Value) -> Result<PersistDocs, String> {
    let expected = "`persist_docs` takes { relation: true, columns: true }";
    let entries = value.as_object().ok_or_else(|| format!("{expected}, not {value}"))?;
    let mut docs = PersistDocs::default();
    for (key, value) in entries {
        let on =
            value.as_bool().ok_or_else(|| format!("`{key}` of `persist_docs` takes true or false, not {value}"))?;
        match key.as_str() {
            "relation" => docs.relation = on,
            "columns" => docs.columns = on,
            _ => return Err(unknown(key, "persist_docs", &["relation", "columns"])),
        }
    }
    Ok(docs)
}

/// `zstd`, `zstd(9)`, `snappy`.
pub(super) fn codec(value: &Value) -> Result<Codec, String> {
    let text =
        value.as_str().ok_or_else(|| format!("`compression` takes a text such as zstd or zstd(9), not {value}"))?;
    let lower = text.trim().to_lowercase();
    let (word, level) = match lower.strip_suffix(')').and_then(|rest| rest.split_once('(')) {
        Some((word, level)) => (word.trim(), Some(level.trim())),
        None => (lower.as_str(), None),
    };
    let Some((word, name, levels)) = CODECS.iter().find(|(known, _, _)| *known == word) else {
        let help = match nearest(word, CODECS.iter().map(|(known, _, _)| *known)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "known: zstd, snappy, gzip, brotli, lz4, none".to_owned(),
        };
        return Err(format!("`{text}` is not a value of `compression`; {help}"));
    };
    let level = match (level, levels) {
        (None, _) => None,
        (Some(_), None) => return Err(format!("`{word}` has no levels; write `compression: {word}`")),
        (Some(level), Some(levels)) => {
            let level = level.parse().ok().filter(|level| levels.contains(level));
            let wrong = || {
                format!("`{text}` is not a level of `{word}`; levels go from {} to {}", levels.start(), levels.end())
            };
            Some(level.ok_or_else(wrong)?)
        }
    };
    Ok(Codec { name: *name, level })
}

/// An amount of bytes, at least a kilobyte: `128MB`.
pub(super) fn file_size(value: &Value) -> Result<u64, String> {
    let wrong = || format!("{value} is not a `target_file_size`; write an amount such as `128MB` or `1GB`");
    let size = match value {
        Value::Number(number) => number.as_u64().and_then(|bytes| usize::try_from(bytes).ok()),
        Value::String(text) => parse_bytes(text),
        _ => None,
    };
    let size = size.filter(|size| *size >= 1024).ok_or_else(wrong)?;
    Ok(size as u64)
}

fn unknown(key: &str, of: &str, known: &[&str]) -> String {
    let help = match nearest(key, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known: {}", known.join(", ")),
    };
    format!("there is no `{key}` in `{of}`; {help}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn codecs_have_levels_of_their_own() {
        assert_eq!(codec(&json!("zstd(9)")).unwrap(), Codec { name: CodecName::Zstd, level: Some(9) });
        assert_eq!(codec(&json!("SNAPPY")).unwrap(), Codec { name: CodecName::Snappy, level: None });
        assert!(codec(&json!("zstd(99)")).unwrap_err().contains("from 1 to 22"));
        assert!(codec(&json!("snappy(3)")).unwrap_err().contains("no levels"));
        assert!(codec(&json!("zsdt")).unwrap_err().contains("did you mean `zstd`"));
    }

    #[test]
    fn policies_are_switches_and_times() {
        assert!(maintain(&json!(false)).unwrap().is_off());
        let policy = maintain(&json!({"optimize": false, "vacuum": {"retention": "2 weeks"}})).unwrap();
        assert_eq!((policy.optimize, policy.vacuum, policy.retention), (false, true, Some(RETENTION * 2)));
        assert!(maintain(&json!({"vacum": true})).unwrap_err().contains("did you mean `vacuum`"));
        assert!(maintain(&json!({"vacuum": {"retention": "1 hour"}})).unwrap_err().contains("too short"));
        assert!(maintain(&json!({"vacuum": {"retention": 7}})).unwrap_err().contains("7 days"));
    }
}
