//! Settings of models and seeds: what `config:`, `project.yml` and `config()` in SQL take.

use serde_json::{Map, Value, json};

use super::build::{
    any, any_of, count, flag, map_of, mapping, of, one_of, reference, string, string_or_list, unless_set, words,
};
use crate::diagnostics::Id;
use crate::project::{config, history, layout, microbatch, seeds};

/// A setting: what it means, and its values.
type Setting = (&'static str, Value);

/// All settings of models.
pub(super) fn all_of_models() -> Vec<(&'static str, Setting)> {
    let both_spellings = ["pre-hook", "post-hook"];
    config::CONFIG_KEYS.iter().copied().chain(both_spellings).map(|key| (key, of_models(key))).collect()
}

/// All settings of seeds; `schema` stands in `project.yml` only.
pub(super) fn all_of_seeds(in_project: bool) -> Vec<(&'static str, Setting)> {
    let own = seeds::OWN.iter().filter(|key| in_project || **key != "schema").map(|key| (*key, of_seeds(key)));
    own.chain(seeds::SHARED.iter().map(|key| (*key, of_models(key)))).collect()
}

/// One setting of models.
pub(super) fn of_models(key: &str) -> Setting {
    // Three lists of about one subject each, as one would be longer than a screen.
    let (about, schema) = rows(key).or_else(|| files(key)).or_else(|| run(key)).unwrap_or(("", any()));
    match default_of(key) {
        Some(default) => (about, unless_set(schema, default)),
        None => (about, schema),
    }
}

/// What holds where a setting is not said, as far as that is one word.
fn default_of(key: &str) -> Option<Value> {
    match key {
        // These depend on others, or are told apart from what anybody can say.
        "incremental_strategy" | "contract" | "meta" => None,
        "on_schema_change" => Some("fail".into()),
        "hard_deletes" => Some("ignore".into()),
        "compression" => Some("zstd(1)".into()),
        "lookback" => Some(1.into()),
        "concurrent_batches" | "maintain" => Some(true.into()),
        "audit" => Some("on".into()),
        _ => {
            let all = serde_json::to_value(config::ModelConfig::default()).unwrap_or_default();
            all.get(key).filter(|value| value.is_string() || value.is_boolean()).cloned()
        }
    }
}

/// What decides rows.
fn rows(key: &str) -> Option<Setting> {
    Some(match key {
        "materialized" => ("How its rows are kept", words(config::MATERIALIZATIONS)),
        "incremental_strategy" => ("How new rows are added", words(config::STRATEGIES)),
        "unique_key" => ("Columns that tell rows apart", string_or_list()),
        "merge_update_columns" => ("Of a row that is merged only these columns take new values", string_or_list()),
        "merge_exclude_columns" => ("Of a row that is merged these columns keep their values", string_or_list()),
        "sequence_by" => ("How new a row is: of one key the row with the greatest value counts", string()),
        "delete_when" => ("A condition: a new row that meets it deletes the row of its key", string()),
        "incremental_predicates" => {
            ("With insert_overwrite: the rows of the table that meet all of these are replaced", string_or_list())
        }
        "strategy" => ("How a history tells a new version of a row", words(history::STRATEGIES)),
        "updated_at" => ("The column that says when a row changed", string()),
        "check_cols" => (
            "The columns that tell a new version: `all`, or a list",
            any_of(vec![one_of(&["all"]), json!({"type": "array", "items": string(), "minItems": 1})]),
        ),
        "hard_deletes" => ("What becomes of keys that are gone", words(history::HARD_DELETES)),
        "snapshot_meta_column_names" => {
            let names = history::META.iter().flat_map(|name| [(*name).to_owned(), format!("dbt_{name}")]);
            let names: Map<String, Value> =
                names.map(|name| (name, of(json!({"type": "string", "minLength": 1}), "Its name"))).collect();
            let schema = json!({"type": "object", "properties": names, "additionalProperties": false});
            ("Names of the columns that a history adds", schema)
        }
        "event_time" => ("The column that tells when a row happened: a date or a timestamp, in UTC", string()),
        "batch_size" => ("How long a batch of event time is", words(microbatch::SIZES)),
        "begin" => ("Where time begins for a model in batches: 2026-01-31", string()),
        "lookback" => ("Batches before the current one that run again for rows that came late", count()),
        "concurrent_batches" => ("`false` for one batch after another", flag()),
        "on_schema_change" => {
            ("What to do when its columns are no longer those of its table", words(config::SCHEMA_CHANGES))
        }
        "contract" => {
            let contract = json!({
                "type": "object", "required": ["enforced"],
                "properties": {
                    "enforced": of(flag(), "Whether that is so"), "alias_types": of(any(), "As in dbt; nothing goes by it"),
                },
            });
            ("Its columns are those that YAML declares, no more and no fewer", contract)
        }
        _ => return None,
    })
}

/// What is about the files of its table.
fn files(key: &str) -> Option<Setting> {
    Some(match key {
        "partition_by" => ("Columns that the Delta table is partitioned by", string_or_list()),
        "sort_by" => ("The order of rows in new files", string_or_list()),
        "zorder_by" => ("Rows that are near in all of these columns stand near in files", string_or_list()),
        "target_file_size" => {
            ("Bytes of a data file: 128MB", json!({"type": ["integer", "string"], "examples": ["128MB", "1GB"]}))
        }
        "compression" => {
            let names: Vec<&str> = layout::CODECS.iter().map(|(name, _, _)| *name).collect();
            let pattern = format!("^\\s*({})(\\([0-9]+\\))?\\s*$", any_case(&names));
            let suggested = json!({"enum": names});
            (
                "Of data files; with a level as zstd(9)",
                any_of(vec![suggested, json!({"type": "string", "pattern": pattern})]),
            )
        }
        "bloom_filter_columns" => ("Columns whose values files are asked for one by one", string_or_list()),
        "tblproperties" => {
            let value = json!({"type": ["string", "number", "boolean"]});
            ("Properties of the Delta table", map_of(value))
        }
        "persist_docs" => {
            let properties = json!({
                "relation": of(unless_set(flag(), true), "That of the table"),
                "columns": of(unless_set(flag(), true), "Those of its columns"),
            });
            let docs = json!({"type": "object", "properties": properties, "additionalProperties": false});
            ("Which descriptions are written into the Delta table", docs)
        }
        "auto_optimize" => ("Whether an incremental write packs the small files of its partitions along", flag()),
        "maintain" => ("What `lake maintain` does", maintain()),
        _ => return None,
    })
}

/// What is about runs and people.
fn run(key: &str) -> Option<Setting> {
    let on_off = || json!({"enum": ["on", "off", true, false]});
    Some(match key {
        "tags" => ("For selection: tag:name", string_or_list()),
        "enabled" => ("Whether it is there at all", flag()),
        "full_refresh" => ("`false` protects the table from --full-refresh; `true` always rebuilds it", flag()),
        "owner" => ("Who answers for it", string()),
        "meta" => ("Anything", any()),
        "group" => ("The models that it belongs to", string()),
        "access" => ("Who may read it", words(config::ACCESS)),
        "publish" => ("With the other models of its group, in one burst, or by itself", words(config::PUBLISH)),
        "on_error" => ("What becomes of the models below when it fails", words(config::ON_ERROR)),
        "timeout" => {
            let time = json!({"type": "string", "pattern": "^\\s*[0-9]*[1-9][0-9]*\\s*[smhd]\\s*$"});
            ("How long it may take: 90s, 10m, 2h", any_of(vec![json!({"type": "integer", "minimum": 1}), time]))
        }
        "pre_hook" | "pre-hook" => ("What runs before it is built", hooks()),
        "post_hook" | "post-hook" => ("What runs after it was built", hooks()),
        "audit" => ("`off`: tests run after the publish and only report", on_off()),
        "profile" => {
            let mut profile = words(config::PROFILES);
            if let Some(words) = profile["enum"].as_array_mut() {
                words.push(false.into());
            }
            ("What is kept of each version for people to look at", profile)
        }
        "lints" => {
            let names: Map<String, Value> = Id::lints()
                .map(|name| (name.to_owned(), of(words(config::LINT_LEVELS), first_sentence(name))))
                .collect();
            // Their codes are names, too.
            let codes = json!({"^L[0-9]+$": words(config::LINT_LEVELS)});
            let schema = json!({
                "type": "object", "properties": names, "patternProperties": codes, "additionalProperties": false,
            });
            ("What each warning means here", schema)
        }
        _ => return None,
    })
}

/// What `lake explain` begins with.
fn first_sentence(lint: &str) -> &'static str {
    let page = Id::find(lint).map_or("", Id::page);
    let text = page.lines().skip(1).find(|line| !line.is_empty()).unwrap_or_default();
    text.split_once(". ").map_or(text, |(first, _)| first).trim_end_matches(['.', ':'])
}

/// Settings that only seeds have.
fn of_seeds(key: &str) -> Setting {
    match key {
        "column_types" => ("Types of columns by name", map_of(string())),
        "delimiter" => ("The character between fields", json!({"type": "string", "minLength": 1, "maxLength": 1})),
        "quote_columns" => ("As in dbt; names keep their case here anyway", flag()),
        "schema" => ("The layer of the seeds", string()),
        _ => ("", any()),
    }
}

fn maintain() -> Value {
    let retention = json!({
        "type": "string", "pattern": "^\\s*[0-9]+ +(second|minute|hour|day|week)s?\\s*$", "examples": ["7 days"],
        "description": "How long files are kept that were replaced", "default": "7 days",
    });
    let vacuum = json!({"type": "object", "properties": {"retention": retention}, "additionalProperties": false});
    let properties: Map<String, Value> = layout::MAINTAIN_KEYS
        .iter()
        .map(|key| {
            let schema = if *key == "vacuum" { any_of(vec![flag(), vacuum.clone()]) } else { flag() };
            let about = match *key {
                "optimize" => "Small files of a partition become large ones; rows are put in the order of zorder_by",
                "vacuum" => "Files that no version needs go; time travel ends there",
                "checkpoint" => "The log is summed up if there are ten new versions",
                _ => "Entries of the log go that are older than delta.logRetentionDuration",
            };
            ((*key).to_owned(), of(unless_set(schema, true), about))
        })
        .collect();
    any_of(vec![flag(), json!({"type": "object", "properties": properties, "additionalProperties": false})])
}

/// Hooks: one or a list.
pub(super) fn hooks() -> Value {
    any_of(vec![reference("hook"), json!({"type": "array", "items": reference("hook")})])
}

/// One hook.
pub(super) fn hook() -> Value {
    let words = json!({"type": "array", "items": string(), "minItems": 1});
    let program = any_of(vec![json!({"type": "string", "pattern": "\\S"}), words]);
    let one = |key: &str, value: Value| json!({"type": "object", "properties": {key: value}, "required": [key], "additionalProperties": false});
    let sql = of(string(), "SQL over the lake");
    any_of(vec![
        sql,
        one("sql", of(string(), "SQL over the lake")),
        one("command", of(program, "A line for the shell, or a program and its arguments")),
    ])
}

/// A `config:` block of settings, each also with `+`.
pub(super) fn block(settings: &[(&'static str, Setting)]) -> Value {
    mapping(
        "config of settings",
        "Settings: the nearest wins",
        &[],
        named(settings).iter().map(|(key, v)| (&**key, v.clone())).collect(),
    )
}

fn named(settings: &[(&'static str, Setting)]) -> Vec<(String, Value)> {
    let plain = settings.iter().map(|(key, (about, schema))| ((*key).to_owned(), of(schema.clone(), about)));
    let marked = settings.iter().map(|(key, (about, schema))| (format!("+{key}"), of(schema.clone(), about)));
    plain.chain(marked).collect()
}

/// Settings by folder: a key that is no setting is a folder.
pub(super) fn tree(name: &str, settings: &[(&'static str, Setting)]) -> Value {
    let properties: Map<String, Value> = named(settings).into_iter().collect();
    json!({"title": "group of settings", "type": "object", "properties": properties, "additionalProperties": reference(name)})
}

/// A pattern for words in any case.
fn any_case(words: &[&str]) -> String {
    let letters = |word: &&str| {
        let both = |c: char| match c.is_ascii_alphabetic() {
            true => format!("[{}{}]", c.to_ascii_lowercase(), c.to_ascii_uppercase()),
            false => c.to_string(),
        };
        word.chars().map(both).collect::<String>()
    };
    words.iter().map(letters).collect::<Vec<_>>().join("|")
}
