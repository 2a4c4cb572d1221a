//! The settings of a model, from `project.yml`, YAML properties and `config()`: the nearest wins.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::durations;
use super::groups::Access;
use super::history::{self, CheckCols, HardDeletes, HistoryStrategy, MetaNames};
use super::hooks::{self, Hook};
use super::layout::{self, Codec, Maintain, PersistDocs};
use super::microbatch;
use super::values::{boolean, on_or_off, text, texts, word};
use super::{absent, table_properties};
use crate::diagnostics::Id;
use crate::intervals::BatchSize;
use crate::names::nearest;
use crate::template::Config;

/// How a model's rows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Materialization {
    /// Replaced as a whole.
    Table,
    /// Not stored: its query stands in for it wherever it is read.
    View,
    /// As a view, and not a node of its own in a run.
    Ephemeral,
    /// New rows are added to what is there.
    Incremental,
    /// Every version of a row is kept, with the time from when to when it counted.
    Scd2,
    /// The rows of a CSV file of the project; no model can be set to it.
    Seed,
}

impl Materialization {
    /// The word of the `materialized` setting.
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::View => "view",
            Self::Ephemeral => "ephemeral",
            Self::Incremental => "incremental",
            Self::Scd2 => "scd2",
            Self::Seed => "seed",
        }
    }
}

/// How new rows of an incremental model are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// As they come.
    Append,
    /// A row with a known `unique_key` takes the place of the old one.
    Merge,
    /// The new rows of a `unique_key` take the place of all old ones; a key may have many rows.
    #[serde(rename = "delete+insert")]
    DeleteInsert,
    /// The partitions that have new rows are replaced.
    #[serde(rename = "insert_overwrite")]
    InsertOverwrite,
    /// Time is cut into batches; each replaces the rows of its own interval.
    Microbatch,
}

/// What to do when an incremental model's columns are no longer those of its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnSchemaChange {
    /// Refuse.
    Fail,
    /// Leave new columns out.
    Ignore,
    /// Widen the table; old rows have NULL there.
    AppendNewColumns,
    /// As that, and columns that the model no longer has go from the table.
    SyncAllColumns,
}

/// What becomes of the models below one that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// They do not run.
    SkipChildren,
    /// They run on its last good version.
    Continue,
}

/// With which others a model is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Publish {
    /// By itself, as soon as its tests have passed.
    Alone,
    /// In one burst with the others of its group, when all have passed.
    Together,
}

/// What is kept of each version of a table for people to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Nothing.
    Off,
    /// What the statistics of its files say: rows, NULLs, least and greatest values.
    Basic,
    /// As that, and different and common values, means, quantiles, lengths: they are counted while the rows are written.
    Full,
}

/// What a warning about a model's SQL means to its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LintLevel {
    /// Nothing.
    Allow,
    /// A warning, as unless set.
    Warn,
    /// An error.
    Deny,
}

/// The settings of one model.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ModelConfig {
    /// `materialized`; `view` unless set, as in dbt.
    pub materialized: Materialization,
    /// `incremental_strategy`; `merge` with a `unique_key`, else `append`.
    pub incremental_strategy: Strategy,
    /// `unique_key`: the columns that tell rows apart.
    pub unique_key: Vec<String>,
    /// `merge_update_columns`: of a known row only these columns take new values.
    pub merge_update_columns: Vec<String>,
    /// `merge_exclude_columns`: of a known row these columns keep their values.
    pub merge_exclude_columns: Vec<String>,
    /// `sequence_by`: of several new rows with one key, the one with the greatest value counts.
    pub sequence_by: Option<String>,
    /// `delete_when`: a condition; a new row that meets it deletes the row of its key.
    pub delete_when: Option<String>,
    /// `incremental_predicates`: conditions; the rows of the table that meet all of them are replaced.
    pub incremental_predicates: Vec<String>,
    /// `strategy`: how a history tells a new version of a row from the one before.
    pub strategy: Option<HistoryStrategy>,
    /// `updated_at`: the column that says when a row changed.
    pub updated_at: Option<String>,
    /// `check_cols`: the columns that tell a new version.
    pub check_cols: Option<CheckCols>,
    /// `hard_deletes`: what becomes of keys that are gone; `ignore` unless set.
    pub hard_deletes: Option<HardDeletes>,
    /// `snapshot_meta_column_names`: names of the columns that a history adds.
    pub snapshot_meta_column_names: MetaNames,
    /// `partition_by`: columns that the Delta table is partitioned by.
    pub partition_by: Vec<String>,
    /// `sort_by`: rows of written files are in this order.
    pub sort_by: Vec<String>,
    /// `zorder_by`: rows that are near each other in all of these columns are near each other in files.
    pub zorder_by: Vec<String>,
    /// `target_file_size`: bytes of a data file; 128 MB unless set.
    pub target_file_size: Option<u64>,
    /// `compression` of data files; `zstd(1)` unless set.
    pub compression: Option<Codec>,
    /// `bloom_filter_columns`: data files tell which values of these columns they do not hold.
    pub bloom_filter_columns: Vec<String>,
    /// `tblproperties` of the Delta table.
    pub tblproperties: BTreeMap<String, String>,
    /// `persist_docs`: which descriptions stand in the Delta table.
    pub persist_docs: PersistDocs,
    /// `auto_optimize`: an incremental run packs small files along; true unless set.
    pub auto_optimize: bool,
    /// `maintain`: what `lake maintain` does.
    pub maintain: Maintain,
    /// `event_time`: the column that tells when a row happened.
    pub event_time: Option<String>,
    /// `batch_size`: how long a batch of event time is.
    pub batch_size: Option<BatchSize>,
    /// `begin`: where time begins for a model in batches.
    pub begin: Option<DateTime<Utc>>,
    /// `lookback`: batches before the current one that run again for rows that came late.
    pub lookback: Option<u32>,
    /// `concurrent_batches`: `false` for one batch after another.
    pub concurrent_batches: Option<bool>,
    /// `on_schema_change`; unset, it is `fail`, apart from columns that a source was asked to add.
    pub on_schema_change: Option<OnSchemaChange>,
    /// `tags`, of all levels.
    pub tags: Vec<String>,
    /// `enabled`.
    pub enabled: bool,
    /// `full_refresh`: `false` protects a table from `--full-refresh`, `true` always rebuilds it.
    pub full_refresh: Option<bool>,
    /// `owner`: who answers for the model.
    pub owner: Option<String>,
    /// `meta`: anything.
    pub meta: serde_json::Value,
    /// `contract: { enforced: true }`: the columns are those that YAML declares, no more and no fewer.
    pub contract: bool,
    /// `group`: the models that it belongs to.
    pub group: Option<String>,
    /// `access`: who may read it; `protected` unless set.
    pub access: Access,
    /// `on_error`: what becomes of the models below when this one fails.
    pub on_error: OnError,
    /// `timeout`: seconds after which the model fails, if it is not publishing already.
    pub timeout: Option<u64>,
    /// `pre_hook`: what runs before it is built.
    pub pre_hook: Vec<Hook>,
    /// `post_hook`: what runs after it was built.
    pub post_hook: Vec<Hook>,
    /// `publish`: with the other models of its group, in one burst, or by itself; unset, as its group says.
    pub publish: Option<Publish>,
    /// `audit: off`: tests run after the publish and only report; those of a contract gate it all the same.
    pub audit: bool,
    /// `profile`: what is kept of each version of the table for people to look at; `basic` unless set.
    pub profile: Profile,
    /// `lints: { unused-cte: allow }`: what each warning means here.
    pub lints: BTreeMap<String, LintLevel>,
}

/// The keys of [`ModelConfig`].
pub const CONFIG_KEYS: &[&str] = &[
    "materialized",
    "incremental_strategy",
    "unique_key",
    "merge_update_columns",
    "merge_exclude_columns",
    "sequence_by",
    "delete_when",
    "incremental_predicates",
    "strategy",
    "updated_at",
    "check_cols",
    "hard_deletes",
    "snapshot_meta_column_names",
    "partition_by",
    "sort_by",
    "zorder_by",
    "target_file_size",
    "compression",
    "bloom_filter_columns",
    "tblproperties",
    "persist_docs",
    "auto_optimize",
    "maintain",
    "event_time",
    "batch_size",
    "begin",
    "lookback",
    "concurrent_batches",
    "on_schema_change",
    "tags",
    "enabled",
    "full_refresh",
    "owner",
    "meta",
    "contract",
    "group",
    "access",
    "publish",
    "on_error",
    "timeout",
    "pre_hook",
    "post_hook",
    "audit",
    "profile",
    "lints",
];

pub(super) const MATERIALIZATIONS: &[(&str, Materialization)] = &[
    ("table", Materialization::Table),
    ("view", Materialization::View),
    ("ephemeral", Materialization::Ephemeral),
    ("incremental", Materialization::Incremental),
    ("scd2", Materialization::Scd2),
];
pub(super) const ACCESS: &[(&str, Access)] =
    &[("private", Access::Private), ("protected", Access::Protected), ("public", Access::Public)];
pub(super) const STRATEGIES: &[(&str, Strategy)] = &[
    ("append", Strategy::Append),
    ("merge", Strategy::Merge),
    ("delete+insert", Strategy::DeleteInsert),
    ("insert_overwrite", Strategy::InsertOverwrite),
    ("microbatch", Strategy::Microbatch),
];
pub(super) const SCHEMA_CHANGES: &[(&str, OnSchemaChange)] = &[
    ("fail", OnSchemaChange::Fail),
    ("ignore", OnSchemaChange::Ignore),
    ("append_new_columns", OnSchemaChange::AppendNewColumns),
    ("sync_all_columns", OnSchemaChange::SyncAllColumns),
];

pub(super) const PUBLISH: &[(&str, Publish)] = &[("alone", Publish::Alone), ("together", Publish::Together)];
pub(super) const ON_ERROR: &[(&str, OnError)] =
    &[("skip_children", OnError::SkipChildren), ("continue", OnError::Continue)];

pub(super) const PROFILES: &[(&str, Profile)] =
    &[("off", Profile::Off), ("basic", Profile::Basic), ("full", Profile::Full)];

pub(super) const LINT_LEVELS: &[(&str, LintLevel)] =
    &[("allow", LintLevel::Allow), ("warn", LintLevel::Warn), ("deny", LintLevel::Deny)];

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            materialized: Materialization::View,
            incremental_strategy: Strategy::Append,
            unique_key: Vec::new(),
            merge_update_columns: Vec::new(),
            merge_exclude_columns: Vec::new(),
            sequence_by: None,
            delete_when: None,
            incremental_predicates: Vec::new(),
            strategy: None,
            updated_at: None,
            check_cols: None,
            hard_deletes: None,
            snapshot_meta_column_names: MetaNames::default(),
            partition_by: Vec::new(),
            sort_by: Vec::new(),
            zorder_by: Vec::new(),
            target_file_size: None,
            compression: None,
            bloom_filter_columns: Vec::new(),
            tblproperties: BTreeMap::new(),
            persist_docs: PersistDocs::default(),
            auto_optimize: true,
            maintain: Maintain::default(),
            event_time: None,
            batch_size: None,
            begin: None,
            lookback: None,
            concurrent_batches: None,
            on_schema_change: None,
            tags: Vec::new(),
            enabled: true,
            full_refresh: None,
            owner: None,
            meta: serde_json::Value::Null,
            contract: false,
            group: None,
            access: Access::Protected,
            publish: None,
            on_error: OnError::SkipChildren,
            timeout: None,
            pre_hook: Vec::new(),
            post_hook: Vec::new(),
            audit: true,
            profile: Profile::Basic,
            lints: BTreeMap::new(),
        }
    }
}

impl ModelConfig {
    /// Builds the settings from values that [`check`] accepted; others are passed over.
    pub(super) fn from_values(values: &Config) -> Self {
        let mut config = Self::default();
        for (key, value) in values {
            let _ = config.set(key, value);
        }
        if !values.contains_key("incremental_strategy") && !config.unique_key.is_empty() {
            config.incremental_strategy = Strategy::Merge;
        }
        config
    }

    fn set(&mut self, key: &str, value: &serde_json::Value) -> Result<(), String> {
        match key {
            "materialized" => self.materialized = word(key, value, MATERIALIZATIONS)?,
            "incremental_strategy" => self.incremental_strategy = word(key, value, STRATEGIES)?,
            "on_schema_change" => self.on_schema_change = Some(word(key, value, SCHEMA_CHANGES)?),
            "unique_key" => self.unique_key = texts(key, value)?,
            "merge_update_columns" => self.merge_update_columns = texts(key, value)?,
            "merge_exclude_columns" => self.merge_exclude_columns = texts(key, value)?,
            "partition_by" => self.partition_by = texts(key, value)?,
            "sort_by" => self.sort_by = texts(key, value)?,
            "zorder_by" => self.zorder_by = texts(key, value)?,
            "target_file_size" => self.target_file_size = Some(layout::file_size(value)?),
            "compression" => self.compression = Some(layout::codec(value)?),
            "bloom_filter_columns" => self.bloom_filter_columns = texts(key, value)?,
            "tblproperties" => self.tblproperties = table_properties::read(value)?,
            "persist_docs" => self.persist_docs = layout::persist_docs(value)?,
            "auto_optimize" => self.auto_optimize = boolean(key, value)?,
            "maintain" => self.maintain = layout::maintain(value)?,
            "event_time" => self.event_time = Some(text(key, value)?),
            key if microbatch::KEYS.contains(&key) => self.set_batches(key, value)?,
            "sequence_by" => self.sequence_by = Some(text(key, value)?),
            "delete_when" => self.delete_when = Some(text(key, value)?),
            "incremental_predicates" => self.incremental_predicates = texts(key, value)?,
            "strategy" | "updated_at" | "check_cols" | "hard_deletes" | "snapshot_meta_column_names" => {
                history::set(self, key, value)?;
            }
            "owner" => self.owner = Some(text(key, value)?),
            "tags" => {
                for tag in texts(key, value)? {
                    if !self.tags.contains(&tag) {
                        self.tags.push(tag);
                    }
                }
            }
            "group" => self.group = Some(text(key, value)?),
            "access" => self.access = word(key, value, ACCESS)?,
            "enabled" => self.enabled = boolean(key, value)?,
            "full_refresh" => self.full_refresh = Some(boolean(key, value)?),
            "meta" => self.meta = value.clone(),
            "contract" => match value.get("enforced").and_then(serde_json::Value::as_bool) {
                Some(enforced) => self.contract = enforced,
                None => return Err(format!("`contract` takes {{ enforced: true }}, not {value}")),
            },
            "publish" => self.publish = Some(word(key, value, PUBLISH)?),
            "on_error" => self.on_error = word(key, value, ON_ERROR)?,
            "timeout" => self.timeout = Some(durations::seconds(key, value)?),
            "pre_hook" | "pre-hook" => self.pre_hook = hooks::read(key, value)?,
            "post_hook" | "post-hook" => self.post_hook = hooks::read(key, value)?,
            "audit" => self.audit = on_or_off(key, value)?,
            // Older YAML reads `off` as false.
            "profile" if value == &serde_json::Value::Bool(false) => self.profile = Profile::Off,
            "profile" => self.profile = word(key, value, PROFILES)?,
            "lints" => self.lints = lints(value)?,
            _ => {
                if let Some(instead) = absent::instead_of_setting(key) {
                    return Err(format!("`{key}` is of dbt and not of lake; {instead}"));
                }
                let help = match nearest(key, CONFIG_KEYS.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known: {}", CONFIG_KEYS.join(", ")),
                };
                return Err(format!("unknown config `{key}`; {help}"));
            }
        }
        Ok(())
    }
}

/// Checks one setting; says in a phrase what is wrong with it, with the remedy after a semicolon.
pub fn check(key: &str, value: &serde_json::Value) -> Result<(), String> {
    ModelConfig::default().set(key, value)
}

fn lints(value: &serde_json::Value) -> Result<BTreeMap<String, LintLevel>, String> {
    let Some(levels) = value.as_object() else {
        return Err(format!("`lints` takes a mapping such as {{ unused-cte: allow }}, not {value}"));
    };
    let mut found = BTreeMap::new();
    for (name, level) in levels {
        let known = Id::find(name).map(Id::name).filter(|name| Id::lints().any(|lint| lint == *name));
        let Some(known) = known else {
            let help = match nearest(name, Id::lints()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known: {}", Id::lints().collect::<Vec<_>>().join(", ")),
            };
            return Err(format!("there is no lint `{name}`; {help}"));
        };
        found.insert(known.to_owned(), word("lints", level, LINT_LEVELS)?);
    }
    Ok(found)
}

/// Lays nearer settings over farther ones; tags, lints, hooks, properties and what `maintain` does add up.
pub(super) fn overlay(base: &mut Config, nearer: &Config) {
    for (key, value) in nearer {
        if hooks::is_key(key) {
            let key = key.replace('-', "_");
            let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
            let mut all = base.get(&key).map(list).unwrap_or_default();
            all.extend(list(value));
            base.insert(key, all.into());
            continue;
        }
        match (key.as_str(), base.get(key)) {
            ("tags", Some(old)) => {
                let mut tags = texts(key, old).unwrap_or_default();
                tags.extend(texts(key, value).unwrap_or_default());
                base.insert(key.clone(), tags.into());
            }
            ("lints" | "tblproperties" | "maintain", Some(serde_json::Value::Object(old))) if value.is_object() => {
                let mut both = old.clone();
                both.extend(value.as_object().cloned().unwrap_or_default());
                base.insert(key.clone(), both.into());
            }
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unknown_and_wrong_settings_say_what_to_do() {
        assert_eq!(
            check("materialised", &json!("table")).unwrap_err(),
            "unknown config `materialised`; did you mean `materialized`?"
        );
        assert!(check("materialized", &json!("tabel")).unwrap_err().contains("did you mean `table`"));
        assert!(check("enabled", &json!("yes")).unwrap_err().contains("true or false"));
    }

    #[test]
    fn the_nearest_wins_and_tags_add_up() {
        let mut base = Config::from_iter([("materialized".into(), json!("table")), ("tags".into(), json!("a"))]);
        overlay(&mut base, &Config::from_iter([("materialized".into(), json!("view")), ("tags".into(), json!(["b"]))]));
        let config = ModelConfig::from_values(&base);
        assert_eq!((config.materialized, config.tags), (Materialization::View, vec!["a".into(), "b".into()]));
    }
}
