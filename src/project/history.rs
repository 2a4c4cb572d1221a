//! Settings of models that keep a history (`materialized: scd2`), in the words of dbt's snapshots.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::values::word;
use super::{Format, Materialization, Model, ModelConfig, Source};
use crate::diagnostics::{Diagnostic, Diagnostics, Id, SourceFile, Span};
use crate::names::{TableName, nearest};
use crate::template::SourceRead;

/// How a new version of a row is told from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HistoryStrategy {
    /// By a column that says when the row changed.
    Timestamp,
    /// By comparing columns.
    Check,
}

/// The columns that are compared.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckCols {
    /// Every column of the model.
    All,
    /// These.
    Columns(Vec<String>),
}

/// What to do about a key that is current and no longer among the rows of the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HardDeletes {
    /// Nothing.
    #[default]
    Ignore,
    /// Its version ends.
    Invalidate,
    /// Its version ends, and another one says that the row is deleted.
    NewRecord,
}

/// What the columns are called that a history has beside those of its query.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MetaNames {
    /// From when on the version counts.
    pub valid_from: String,
    /// When it ended; NULL for the current one.
    pub valid_to: String,
    /// Whether it is the current one.
    pub is_current: String,
    /// Whether it says that the row is deleted: with `hard_deletes: new_record`.
    pub is_deleted: String,
}

impl Default for MetaNames {
    fn default() -> Self {
        let [valid_from, valid_to, is_current, is_deleted] =
            ["valid_from", "valid_to", "is_current", "is_deleted"].map(str::to_owned);
        Self { valid_from, valid_to, is_current, is_deleted }
    }
}

impl MetaNames {
    /// The columns that the model's table has, in order.
    pub fn of(&self, deletes: HardDeletes) -> Vec<&str> {
        let mut names = vec![self.valid_from.as_str(), &self.valid_to, &self.is_current];
        if deletes == HardDeletes::NewRecord {
            names.push(&self.is_deleted);
        }
        names
    }
}

pub(super) const STRATEGIES: &[(&str, HistoryStrategy)] =
    &[("timestamp", HistoryStrategy::Timestamp), ("check", HistoryStrategy::Check)];
pub(super) const HARD_DELETES: &[(&str, HardDeletes)] =
    &[("ignore", HardDeletes::Ignore), ("invalidate", HardDeletes::Invalidate), ("new_record", HardDeletes::NewRecord)];
/// The names that `snapshot_meta_column_names` may give; dbt puts `dbt_` before its own.
pub(super) const META: [&str; 4] = ["valid_from", "valid_to", "is_current", "is_deleted"];

/// Takes a setting of histories.
pub(super) fn set(config: &mut ModelConfig, key: &str, value: &Value) -> Result<(), String> {
    match key {
        "strategy" => config.strategy = Some(word(key, value, STRATEGIES)?),
        "hard_deletes" => config.hard_deletes = Some(word(key, value, HARD_DELETES)?),
        "updated_at" => match value.as_str() {
            Some(column) => config.updated_at = Some(column.to_owned()),
            None => return Err(format!("`updated_at` takes the name of a column, not {value}")),
        },
        "check_cols" => config.check_cols = Some(check_cols(value)?),
        _ => config.snapshot_meta_column_names = meta_names(value)?,
    }
    Ok(())
}

fn check_cols(value: &Value) -> Result<CheckCols, String> {
    let wrong = || format!("`check_cols` takes `all` or a list of columns, not {value}");
    match value {
        Value::String(all) if all == "all" => Ok(CheckCols::All),
        Value::Array(items) if !items.is_empty() => {
            let names = items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong));
            let names: Vec<String> = names.collect::<Result<_, _>>()?;
            Ok(if names == ["all"] { CheckCols::All } else { CheckCols::Columns(names) })
        }
        Value::String(one) => Err(format!("{}; write check_cols=['{one}']", wrong())),
        _ => Err(wrong()),
    }
}

fn meta_names(value: &Value) -> Result<MetaNames, String> {
    let Some(given) = value.as_object() else {
        return Err(format!(
            "`snapshot_meta_column_names` takes a mapping such as {{ valid_from: since }}, not {value}"
        ));
    };
    let mut names = MetaNames::default();
    for (key, value) in given {
        let Some(name) = value.as_str().filter(|name| !name.is_empty()) else {
            return Err(format!("`snapshot_meta_column_names` gives `{key}` the name {value}; a name is a text"));
        };
        let slot = match key.strip_prefix("dbt_").unwrap_or(key) {
            "valid_from" => &mut names.valid_from,
            "valid_to" => &mut names.valid_to,
            "is_current" => &mut names.is_current,
            "is_deleted" => &mut names.is_deleted,
            other => {
                let help = match nearest(other, META.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known: {}", META.join(", ")),
                };
                return Err(format!("a history has no column `{key}` to rename; {help}"));
            }
        };
        name.clone_into(slot);
    }
    Ok(names)
}

/// Files of dbt's snapshots, which are models here.
pub(super) fn refuse_snapshots(files: &[Arc<SourceFile>], diagnostics: &mut Diagnostics) {
    for file in files {
        if let Err(error) = file.fetch() {
            diagnostics.push(super::files::unreadable(file, &error));
            continue;
        }
        let name = file.path.rsplit('/').next().and_then(|name| name.split('.').next()).unwrap_or_default();
        let message = format!("`{}` is a snapshot of dbt: a history is a model here", file.path);
        let (what, query) = match file.path.ends_with(".sql") {
            true => ("of its query", "select ..."),
            false => ("over its `relation`", "select * from {{ ref('...') }}"),
        };
        let diagnostic = Diagnostic::error(Id::NotSupported, message)
            .at(Span::file_start(file))
            .help(format!("write models/<layer>/{name}.sql {what}, with the settings of the snapshot above it:"))
            .help(format!(
                "{{{{ config(materialized='scd2', unique_key='id', strategy='check', check_cols='all') }}}} {query}"
            ));
        diagnostics.push(diagnostic);
    }
}

impl ModelConfig {
    /// Whether the model keeps a history.
    pub fn is_history(&self) -> bool {
        self.materialized == Materialization::Scd2
    }

    /// What it does about keys that are gone.
    pub fn deletes(&self) -> HardDeletes {
        self.hard_deletes.unwrap_or_default()
    }
}

impl Model {
    /// The sources whose files the model takes in once each: a Delta table has none that arrive.
    pub fn arriving<'a>(&self, sources: &'a BTreeMap<TableName, Source>) -> Vec<&'a Source> {
        let stores_arrivals = matches!(self.config.materialized, Materialization::Incremental | Materialization::Scd2);
        let arrives = |(name, read): &&(TableName, SourceRead)| {
            let source = sources.get(name).filter(|source| source.format != Format::Delta);
            stores_arrivals && *read == SourceRead::Changes && source.is_some()
        };
        self.sources.iter().filter(arrives).filter_map(|(name, _)| sources.get(name)).collect()
    }

    /// Whether every delivery that a history reads is the whole state, so that what is missing is gone.
    pub fn reads_whole_state(&self, sources: &BTreeMap<TableName, Source>) -> bool {
        self.arriving(sources).iter().all(|source| source.ingestion.snapshot)
    }

    /// Whether a history takes in the files of a source delivery by delivery: each is a step of its own.
    pub fn by_delivery(&self, source: &Source) -> bool {
        self.config.is_history() && (source.ingestion.snapshot || self.config.strategy == Some(HistoryStrategy::Check))
    }
}
