//! `tblproperties`: properties of Delta tables, checked where `lake` knows them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::layout::duration;
use crate::names::nearest;

/// What a property takes.
#[derive(Clone, Copy)]
enum Kind {
    Switch,
    /// A whole number from 1 on.
    Count,
    /// A whole number, or -1 for all.
    Index,
    /// `interval 7 days`.
    Interval,
    /// Names of columns, with commas between them.
    Columns,
    Word(&'static [&'static str]),
    /// It cannot be set, and what to do instead.
    Refused(&'static str),
}

const FILES: &str = "write `target_file_size`";
const PACKING: &str = "write `auto_optimize: true` and run `lake maintain`";
const PROTOCOL: &str = "leave it out: lake chooses the protocol, by what a table needs";

/// Properties of Delta (its documentation, "Delta table properties reference").
const KNOWN: &[(&str, Kind)] = &[
    ("delta.appendOnly", Kind::Refused("a full refresh replaces rows; set `full_refresh: false` to protect a table")),
    ("delta.autoOptimize.autoCompact", Kind::Refused(PACKING)),
    ("delta.autoOptimize.optimizeWrite", Kind::Refused(PACKING)),
    ("delta.checkpoint.writeStatsAsJson", Kind::Switch),
    ("delta.checkpoint.writeStatsAsStruct", Kind::Switch),
    ("delta.checkpointInterval", Kind::Count),
    ("delta.checkpointPolicy", Kind::Word(&["classic"])),
    ("delta.columnMapping.mode", Kind::Refused("leave it out: columns are written under their own names")),
    ("delta.compression.codec", Kind::Refused("write `compression`")),
    ("delta.dataSkippingNumIndexedCols", Kind::Index),
    ("delta.dataSkippingStatsColumns", Kind::Columns),
    ("delta.deletedFileRetentionDuration", Kind::Interval),
    ("delta.enableChangeDataFeed", Kind::Refused("leave it out: lake writes no change files")),
    ("delta.enableDeletionVectors", Kind::Refused("leave it out: files are written again without the rows that go")),
    ("delta.enableExpiredLogCleanup", Kind::Switch),
    ("delta.enableTypeWidening", Kind::Refused("leave it out: files of a narrower type are written again")),
    ("delta.isolationLevel", Kind::Word(&["Serializable", "WriteSerializable", "SnapshotIsolation"])),
    ("delta.logRetentionDuration", Kind::Interval),
    ("delta.minReaderVersion", Kind::Refused(PROTOCOL)),
    ("delta.minWriterVersion", Kind::Refused(PROTOCOL)),
    ("delta.parquet.compression.codec", Kind::Refused("write `compression`")),
    ("delta.randomizeFilePrefixes", Kind::Refused("leave it out: lake names files itself")),
    (
        "delta.setTransactionRetentionDuration",
        Kind::Refused("leave it out: transactions tell which files were taken in, and must not expire"),
    ),
    ("delta.targetFileSize", Kind::Refused(FILES)),
    ("delta.tuneFileSizesForRewrites", Kind::Refused(FILES)),
];

/// Reads `tblproperties: { delta.logRetentionDuration: interval 60 days, team: web }`.
pub(super) fn read(value: &Value) -> Result<BTreeMap<String, String>, String> {
    let expected = "`tblproperties` takes a mapping such as { delta.logRetentionDuration: interval 60 days }";
    let entries = value.as_object().ok_or_else(|| format!("{expected}, not {value}"))?;
    let mut found = BTreeMap::new();
    for (key, value) in entries {
        let text = match value {
            Value::String(text) => text.trim().to_owned(),
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            _ => return Err(format!("property `{key}` takes a text, a number, true or false, not {value}")),
        };
        check(key, &text)?;
        found.insert(key.clone(), text);
    }
    Ok(found)
}

fn check(key: &str, text: &str) -> Result<(), String> {
    if key.starts_with("lake.") {
        return Err(format!("property `{key}` is lake's own; choose a name that does not begin with `lake.`"));
    }
    if !key.to_lowercase().starts_with("delta.") {
        return Ok(());
    }
    if key.starts_with("delta.constraints.") {
        return Err(format!("`{key}` cannot be set; write a data test, or a constraint of a contract"));
    }
    if key.starts_with("delta.feature.") {
        return Err(format!("`{key}` cannot be set; {PROTOCOL}"));
    }
    let Some((_, kind)) = KNOWN.iter().find(|(known, _)| *known == key) else {
        let settable = KNOWN.iter().filter(|(_, kind)| !matches!(kind, Kind::Refused(_))).map(|(known, _)| *known);
        let help = match nearest(key, settable.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known: {}", settable.collect::<Vec<_>>().join(", ")),
        };
        return Err(format!("there is no Delta property `{key}`; {help}"));
    };
    let wrong = |takes: &str| Err(format!("property `{key}` takes {takes}, not `{text}`"));
    match kind {
        Kind::Refused(instead) => Err(format!("`{key}` cannot be set; {instead}")),
        Kind::Switch if !matches!(text, "true" | "false") => wrong("true or false"),
        Kind::Count if text.parse::<u64>().unwrap_or(0) == 0 => wrong("a whole number from 1 on"),
        Kind::Index if text.parse::<i64>().unwrap_or(-2) < -1 => wrong("a whole number, or -1 for all columns"),
        Kind::Interval if interval(text).is_none() => wrong("a time such as `interval 7 days`"),
        Kind::Columns if columns(text).is_empty() => wrong("names of columns with commas between them"),
        Kind::Word(words) if !words.contains(&text) => wrong(&words.join(" or ")),
        _ => Ok(()),
    }
}

/// `interval 7 days`.
pub fn interval(text: &str) -> Option<Duration> {
    duration(text.strip_prefix("interval ")?)
}

/// `id, "first name"`: names of columns, without quotes.
pub fn columns(text: &str) -> Vec<String> {
    let names = text.split(',').map(|name| name.trim().trim_matches(['`', '"']).to_owned());
    names.filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn properties_of_delta_are_checked_and_others_are_free() {
        let read = |key: &str, value: Value| read(&json!({ key: value }));
        assert_eq!(read("team", json!("web")).unwrap()["team"], "web");
        assert_eq!(read("delta.checkpointInterval", json!(10)).unwrap()["delta.checkpointInterval"], "10");
        for (key, value, why) in [
            ("delta.logRetentionDuratoin", json!("x"), "did you mean `delta.logRetentionDuration`"),
            ("delta.logRetentionDuration", json!("30 days"), "interval 7 days"),
            ("delta.checkpointInterval", json!(0), "from 1 on"),
            ("delta.setTransactionRetentionDuration", json!("interval 1 days"), "transactions"),
            ("delta.constraints.positive", json!("x > 0"), "data test"),
            ("lake.own", json!(1), "lake's own"),
            ("team", json!([1]), "takes a text"),
        ] {
            assert!(read(key, value).unwrap_err().contains(why), "{key}");
        }
    }
}
