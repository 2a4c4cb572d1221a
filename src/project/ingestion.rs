//! How the files of a source are taken in: what a changed, removed or renamed file means, how a backlog is split,
//! what happens to files afterwards, and when a source counts as stale.

use super::bad_rows::{self, Limit};
use super::settings::bytes;
use super::yaml::{Mapping, Node, Raw, Reader};
use crate::diagnostics::{Diagnostic, Id};

/// How the files of a source are taken in.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ingestion {
    /// What to do about a file that was taken in and has changed since.
    pub on_changed_file: OnChangedFile,
    /// What to do about a file that was taken in and is gone.
    pub on_removed_file: OnRemovedFile,
    /// What to do about columns of files that are not declared.
    pub on_new_column: OnNewColumn,
    /// What makes a file the same file.
    pub identity: Identity,
    /// Every delivery is the whole data set: only the newest one counts.
    pub snapshot: bool,
    /// Names sort by time, so a listing begins this many names before the greatest that was taken in.
    pub incremental_listing: Option<u64>,
    /// A backlog of more files is committed in several batches.
    pub max_files_per_batch: Option<u64>,
    /// The same, by bytes; a single larger file is a batch of its own.
    pub max_bytes_per_batch: Option<u64>,
    /// What happens to files when all models have taken them in.
    pub after_load: AfterLoad,
    /// When the source counts as stale.
    pub freshness: Option<Freshness>,
    /// An expression over its columns: when a row was loaded. File times, if there is none.
    pub loaded_at_field: Option<String>,
    /// A batch with more rows that do not fit fails.
    pub max_bad_rows: Option<Limit>,
}

impl Ingestion {
    /// Whether it says anything of single files.
    pub(super) fn is_about_files(&self) -> bool {
        let (freshness, loaded_at_field) = (self.freshness.clone(), self.loaded_at_field.clone());
        *self != Self { freshness, loaded_at_field, ..Self::default() }
    }

    /// Whether the rows of single files may have to be taken out of a table again.
    pub fn needs_traces(&self) -> bool {
        self.on_changed_file == OnChangedFile::Replace || self.on_removed_file == OnRemovedFile::DeleteRows
    }
}

/// What to do about a file that was taken in and has changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnChangedFile {
    /// Refuse.
    #[default]
    Fail,
    /// Its new rows take the place of those that came from its old self.
    Replace,
    /// Take it in again, beside its old rows; right for a model that merges on a key.
    Append,
    /// Keep the old rows.
    Ignore,
}

/// What to do about a file that was taken in and is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnRemovedFile {
    /// Keep its rows.
    #[default]
    Keep,
    /// Take its rows out of the table.
    DeleteRows,
    /// Refuse.
    Fail,
}

/// What to do about columns of files that are not declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnNewColumn {
    /// They are not read.
    #[default]
    Ignore,
    /// The source has them from now on, in the type that their values have.
    Add,
    /// What stands in them goes into `_rescued_data`.
    Rescue,
    /// Refuse the file.
    Fail,
}

/// What makes a file the same file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Identity {
    /// Its path; it changed if its size or modification time is another.
    #[default]
    Path,
    /// A hash of its bytes: a renamed file is known, a copy is not taken in twice.
    Content,
}

/// What happens to files when all models have taken them in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AfterLoad {
    /// They stay.
    #[default]
    Keep,
    /// They move to a folder below the source's own, where they are still found.
    Archive {
        /// Relative to the folder of the source.
        to: String,
    },
    /// Their rows move into few Parquet files in a folder below the source's own, from where they are read.
    Compact {
        /// Relative to the folder of the source.
        to: String,
        /// Bytes after which another file begins.
        target_size: u64,
    },
}

/// When a source counts as stale, as in dbt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Freshness {
    /// Warn when the newest data is older.
    pub warn_after: Option<Age>,
    /// Fail when the newest data is older.
    pub error_after: Option<Age>,
    /// Only rows that match count.
    pub filter: Option<String>,
}

/// An age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Age {
    /// How many.
    pub count: u64,
    /// Of what.
    pub period: Period,
}

impl Age {
    /// In seconds.
    pub fn seconds(self) -> u64 {
        let period = match self.period {
            Period::Minute => 60,
            Period::Hour => 3_600,
            Period::Day => 86_400,
        };
        self.count.saturating_mul(period)
    }
}

/// What ages are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// Minutes.
    Minute,
    /// Hours.
    Hour,
    /// Days.
    Day,
}

pub(super) const CHANGED: &[(&str, OnChangedFile)] = &[
    ("fail", OnChangedFile::Fail),
    ("replace", OnChangedFile::Replace),
    ("append", OnChangedFile::Append),
    ("ignore", OnChangedFile::Ignore),
];
pub(super) const REMOVED: &[(&str, OnRemovedFile)] =
    &[("keep", OnRemovedFile::Keep), ("delete_rows", OnRemovedFile::DeleteRows), ("fail", OnRemovedFile::Fail)];
pub(super) const NEW_COLUMNS: &[(&str, OnNewColumn)] = &[
    ("ignore", OnNewColumn::Ignore),
    ("add", OnNewColumn::Add),
    ("rescue", OnNewColumn::Rescue),
    ("fail", OnNewColumn::Fail),
];
pub(super) const IDENTITIES: &[(&str, Identity)] = &[("path", Identity::Path), ("content", Identity::Content)];
pub(super) const PERIODS: &[(&str, Period)] =
    &[("minute", Period::Minute), ("hour", Period::Hour), ("day", Period::Day)];

/// Names below the greatest one that a listing looks at again: files of several writers arrive out of order.
const LOOKBACK: u64 = 1000;

/// What a source says for all its tables.
#[derive(Debug, Clone, Default)]
pub(super) struct Defaults {
    freshness: Option<Freshness>,
    loaded_at_field: Option<String>,
}

/// Takes the keys that a source may say for all its tables.
pub(super) fn defaults(source: &mut Mapping<'_>, reader: &mut Reader<'_>) -> Defaults {
    Defaults {
        freshness: source.take("freshness").and_then(|node| freshness(node, reader)),
        loaded_at_field: source.take("loaded_at_field").and_then(|node| reader.text(node)),
    }
}

/// Takes the keys of a table of a source.
pub(super) fn read(table: &mut Mapping<'_>, defaults: &Defaults, reader: &mut Reader<'_>) -> Ingestion {
    let on_changed_file = choice(table, "on_changed_file", "value of `on_changed_file`", CHANGED, reader);
    let snapshot = table.take("snapshot").and_then(|node| reader.boolean(node)).unwrap_or_default();
    let removed_node = table.take("on_removed_file");
    let mut on_removed_file = choice(table, "on_removed_file", "value of `on_removed_file`", REMOVED, reader);
    if snapshot && let Some(node) = removed_node.filter(|_| on_removed_file != OnRemovedFile::DeleteRows) {
        let message = "the rows of an older delivery go when a newer one is there: that is what `snapshot` means";
        let diagnostic = Diagnostic::error(Id::InvalidValue, message).at(node.span.clone());
        reader.diagnostics.push(diagnostic.help("leave `on_removed_file` out, or say `delete_rows`"));
    }
    if snapshot {
        on_removed_file = OnRemovedFile::DeleteRows;
    }
    let on_new_column = choice(table, "on_new_column", "value of `on_new_column`", NEW_COLUMNS, reader);
    let identity = table.take("identity");
    let identity_span = identity.map(|node| node.span.clone());
    let identity = identity.and_then(|node| reader.choice(node, "value of `identity`", IDENTITIES)).unwrap_or_default();
    if let Some(span) = identity_span.filter(|_| snapshot && identity == Identity::Content) {
        let message = "a delivery that is as an older one would not count, and all that came between would stay";
        let diagnostic = Diagnostic::error(Id::InvalidValue, message).at(span);
        reader.diagnostics.push(
            diagnostic.help("leave `identity` out: with `snapshot` a delivery under another name is another one"),
        );
    }
    let incremental_listing = table.take("incremental_listing").map(|node| (lookback(node, reader), node));
    let max_files_per_batch = table.take("max_files_per_batch").and_then(|node| at_least_one(node, reader));
    let max_bytes_per_batch = table.take("max_bytes_per_batch").and_then(|node| bytes(node, reader));
    let after_load = table.take("after_load").map(|node| after_load(node, reader)).unwrap_or_default();
    // `freshness: null` on a table says that the source's own is not meant for it.
    let silenced =
        table.entries.iter().any(|(key, value)| key.plain_text() == "freshness" && matches!(value.value, Raw::Null));
    let own = table.take("freshness").and_then(|node| freshness(node, reader));
    let loaded_at_field = table.take("loaded_at_field").and_then(|node| reader.text(node));
    let loaded_at_field = loaded_at_field.or_else(|| defaults.loaded_at_field.clone());
    let freshness = own.or_else(|| defaults.freshness.clone().filter(|_| !silenced));
    if loaded_at_field.is_none() && freshness.as_ref().is_some_and(|freshness| freshness.filter.is_some()) {
        let message = "a `filter` of rows says nothing about the times of files";
        let diagnostic = Diagnostic::error(Id::MissingKey, message).at(table.span.clone());
        reader.diagnostics.push(diagnostic.help("give `loaded_at_field`, an expression over the columns"));
    }
    let ingestion = Ingestion {
        on_changed_file,
        on_removed_file,
        on_new_column,
        identity,
        snapshot,
        incremental_listing: incremental_listing.and_then(|(lookback, _)| lookback),
        max_files_per_batch,
        max_bytes_per_batch: max_bytes_per_batch.map(|bytes| bytes as u64),
        after_load,
        freshness,
        loaded_at_field,
        max_bad_rows: table.take("max_bad_rows").and_then(|node| bad_rows::limit(node, reader)),
    };
    if let Some((Some(_), node)) = incremental_listing {
        refuse_what_needs_all_names(&ingestion, node, reader);
    }
    ingestion
}

/// `true`, `false` or `{lookback: 500}`.
fn lookback(node: &Node, reader: &mut Reader<'_>) -> Option<u64> {
    if matches!(node.value, Raw::Scalar(_)) {
        return reader.boolean(node)?.then_some(LOOKBACK);
    }
    let mut mapping = reader.mapping(node, "value of `incremental_listing`")?;
    let names = mapping.take("lookback").map_or(Some(LOOKBACK), |node| reader.count(node));
    mapping.finish(reader);
    names
}

/// Settings that are about files whose names an incremental listing does not look at.
fn refuse_what_needs_all_names(ingestion: &Ingestion, node: &Node, reader: &mut Reader<'_>) {
    let needs_all = if ingestion.snapshot {
        ("snapshot: true", "it compares each delivery with all that was there")
    } else if ingestion.on_removed_file != OnRemovedFile::Keep {
        ("on_removed_file", "a file that is gone is only missed in a listing of all files")
    } else if ingestion.identity == Identity::Content {
        ("identity: content", "whether an older name is still there is only known from a listing of all files")
    } else if ingestion.on_new_column == OnNewColumn::Add {
        ("on_new_column: add", "the columns of all files are looked at in every run")
    } else if ingestion.after_load != AfterLoad::Keep {
        ("after_load", "what was moved is listed below the source, and its names do not sort by time among the others")
    } else {
        return;
    };
    let (setting, why) = needs_all;
    let message = format!("`incremental_listing` does not go together with `{setting}`: {why}");
    let diagnostic = Diagnostic::error(Id::InvalidValue, message).at(node.span.clone());
    reader.diagnostics.push(diagnostic.help("leave one of the two out"));
}

pub(super) fn choice<T: Copy + Default>(
    table: &mut Mapping<'_>,
    key: &'static str,
    what: &str,
    choices: &[(&str, T)],
    reader: &mut Reader<'_>,
) -> T {
    table.take(key).and_then(|node| reader.choice(node, what, choices)).unwrap_or_default()
}

fn at_least_one(node: &Node, reader: &mut Reader<'_>) -> Option<u64> {
    let count = reader.count(node)?;
    if count == 0 {
        reader.invalid(&node.span, "a batch has at least one file");
        return None;
    }
    Some(count)
}

/// Bytes of a compacted file, where nothing is said.
const TARGET_SIZE: u64 = 256 << 20;

/// `keep`, `{archive: {to: processed/}}`, or `{compact: {to: compacted/}}`.
fn after_load(node: &Node, reader: &mut Reader<'_>) -> AfterLoad {
    if matches!(node.value, Raw::Scalar(_)) {
        reader.choice(
            node,
            "value of `after_load`: `keep`, or a mapping such as { archive: { to: processed/ } }",
            &[("keep", ())],
        );
        return AfterLoad::Keep;
    }
    let Some(mut mapping) = reader.mapping(node, "value of `after_load`") else { return AfterLoad::Keep };
    let compact = mapping.take("compact");
    let archive = if compact.is_some() { mapping.take("archive") } else { mapping.require("archive", reader) };
    mapping.finish(reader);
    match (archive, compact) {
        (Some(_), Some(compact)) => {
            reader.invalid(&compact.span, "files are archived or compacted, not both");
            AfterLoad::Keep
        }
        (None, Some(node)) => {
            let Some(mut compact) = reader.mapping(node, "group of compact settings") else { return AfterLoad::Keep };
            let to = folder_below(&mut compact, reader);
            if let Some(node) = compact.take("format") {
                reader.choice(node, "format of compacted files", &[("parquet", ())]);
            }
            let target_size = compact.take("target_size").and_then(|node| bytes(node, reader));
            compact.finish(reader);
            let target_size = target_size.map_or(TARGET_SIZE, |bytes| bytes as u64);
            to.map_or(AfterLoad::Keep, |to| AfterLoad::Compact { to, target_size })
        }
        (Some(node), None) => {
            let Some(mut archive) = reader.mapping(node, "group of archive settings") else { return AfterLoad::Keep };
            let to = folder_below(&mut archive, reader);
            archive.finish(reader);
            to.map_or(AfterLoad::Keep, |to| AfterLoad::Archive { to })
        }
        (None, None) => AfterLoad::Keep,
    }
}

/// `to`, a folder below the source's own.
fn folder_below(mapping: &mut Mapping<'_>, reader: &mut Reader<'_>) -> Option<String> {
    let node = mapping.require("to", reader)?;
    let to = reader.text(node)?;
    let folder = to.trim_start_matches("./").trim_end_matches('/');
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if folder.starts_with('/') || folder.contains("://") || !folder.split('/').all(plain) {
        let diagnostic = Diagnostic::error(Id::InvalidValue, format!("`{to}` is not a folder below the source's own"))
            .at(node.span.clone())
            .help("name one relative to the folder of `path`, such as `processed/`");
        reader.diagnostics.push(diagnostic);
        return None;
    }
    Some(folder.to_owned())
}

fn freshness(node: &Node, reader: &mut Reader<'_>) -> Option<Freshness> {
    let mut mapping = reader.mapping(node, "freshness")?;
    let says_when = mapping.take("warn_after").or(mapping.take("error_after")).is_some();
    let warn_after = mapping.take("warn_after").and_then(|node| age(node, reader));
    let error_after = mapping.take("error_after").and_then(|node| age(node, reader));
    let filter = mapping.take("filter").and_then(|node| reader.text(node));
    let span = mapping.span.clone();
    mapping.finish(reader);
    if !says_when {
        let diagnostic = Diagnostic::error(Id::MissingKey, "this freshness has neither `warn_after` nor `error_after`")
            .at(span)
            .help("for example: freshness: { warn_after: { count: 1, period: day } }");
        reader.diagnostics.push(diagnostic);
        return None;
    }
    Some(Freshness { warn_after, error_after, filter })
}

fn age(node: &Node, reader: &mut Reader<'_>) -> Option<Age> {
    let mut mapping = reader.mapping(node, "freshness limit")?;
    let count = mapping.require("count", reader).and_then(|node| reader.count(node));
    let period = mapping.require("period", reader).and_then(|node| reader.choice(node, "period", PERIODS));
    mapping.finish(reader);
    Some(Age { count: count?, period: period? })
}
