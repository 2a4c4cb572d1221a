//! JSON Schemas of the YAML files: an editor accepts what `lake` accepts, and refuses what it refuses.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::artifacts::{python, shop};
use crate::reader::run;
use crate::sandbox::Sandbox;

const SCRIPT: &str = include_str!("artifacts/check_yaml.py");

/// What is wrong with each of these files by its schema.
fn check(python: &Path, schemas: &Path, files: &[(&str, PathBuf)]) -> Vec<Vec<String>> {
    let mut command = Command::new(python);
    command.args(["-c", SCRIPT]);
    for (kind, path) in files {
        command.arg(schemas.join(format!("{kind}.json"))).arg(path);
    }
    let found: Value = serde_json::from_str(&run(&mut command).unwrap_or_else(|why| panic!("{why}"))).unwrap();
    let texts =
        |value: &Value| value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect();
    files.iter().map(|(_, path)| texts(&found[path.to_str().unwrap()])).collect()
}

/// All YAML files of a project, with the name of the schema of each.
fn yaml_files(folder: &Path) -> Vec<(&'static str, PathBuf)> {
    let (mut found, mut pending) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = pending.pop() {
        for path in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_str().unwrap();
            match name {
                _ if path.is_dir() => pending.push(path),
                "project.yml" => found.push(("project", path)),
                "sources.yml" => found.push(("sources", path)),
                "selectors.yml" => found.push(("selectors", path)),
                _ if name.ends_with(".yml") => found.push(("models", path)),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

#[track_caller]
fn assert_accepted(python: &Path, sandbox: &Sandbox) {
    sandbox.ok(&["compile"]);
    sandbox.ok(&["schema", "--write"]);
    let files = yaml_files(&sandbox.path(""));
    for ((_, path), wrong) in files.iter().zip(check(python, &sandbox.path(".lake/schemas"), &files)) {
        assert_eq!(wrong, [""; 0], "{}", path.display());
    }
}

#[test]
fn what_lake_accepts_is_valid() {
    let Some(python) = python() else { return };
    assert_accepted(&python, &Sandbox::sample());
    assert_accepted(&python, &shop());
    let all = shop();
    all.write("project.yml", ALL_SETTINGS);
    all.write("models/more.yml", MORE);
    all.write("models/silver/times.sql", "select id, at from {{ ref('orders') }}");
    all.write("selectors.yml", SELECTORS);
    all.write("sources.yml", MORE_SOURCES);
    assert_accepted(&python, &all);
}

const ALL_SETTINGS: &str = "name: shop
version: 1
target: dev
targets:
  dev: { root: lake, threads: 2, memory: 1.5GB, retries: 0 }
  prod:
    root: \"{{ env_var('ROOT', 's3://shop/prod') }}\"
    storage_options: { region: eu-west-1, max_retries: 8, secret_access_key: \"{{ env_var('KEY', '') }}\" }
vars: { least: 1, list: [a, b], nested: { a: 1 } }
maintain: { vacuum: { retention: 14 days } }
sensitive: { forbid_unmasked_in: seeds }
on-run-start: select 1
on-run-end:
  - { sql: select 2 }
  - { command: [\"true\", x] }
models:
  +tags: all
  lints: { unused-cte: allow, L0401: deny }
  silver:
    +contract: { enforced: false }
    tblproperties: { delta.logRetentionDuration: interval 60 days, team: web }
    compression: ZSTD(9)
    target_file_size: 128MB
    orders: { on_schema_change: sync_all_columns, audit: off, profile: full, timeout: 10m, full_refresh: false }
  gold:
    persist_docs: { relation: true, columns: false }
    +meta: { anything: [1, 2] }
    kept: { hard_deletes: new_record, snapshot_meta_column_names: { dbt_valid_from: since, valid_to: until } }
    sums: { pre-hook: [select 1, { command: \"true\" }], post_hook: { sql: select 3 }, on_error: continue, publish: alone }
seeds:
  +delimiter: \",\"
  regions: { column_types: { id: bigint }, quote_columns: false }
";

const MORE: &str = "version: 2
models:
  - name: times
    config:
      materialized: incremental
      incremental_strategy: microbatch
      event_time: at
      batch_size: day
      begin: 2026-01-01
      lookback: 2
      concurrent_batches: false
      sort_by: id
      bloom_filter_columns: [id]
    columns:
      - name: id
        data_tests:
          - not_null
          - dbt_utils.not_constant
          - unique: { config: { severity: WARN, error_if: '>10', limit: 5 } }
          - accepted_values: { arguments: { values: [1, 2, three], quote: false }, name: ids }
          - is_even: { severity: warn }
          - test_name: not_null
            name: twice
    data_tests:
      - dbt_utils.expression_is_true: { expression: id > 0, where: id < 10 }
      - recency: { field: at, datepart: day, interval: 9999 }
";

const SELECTORS: &str = "selectors:
  - name: nightly
    default: \"{{ target.name == 'prod' }}\"
    definition: +tag:nightly,silver.*
  - name: all
    definition:
      intersection:
        - tag: all
        - { method: config.materialized, value: table, parents: true, parents_depth: 1, indirect_selection: eager }
        - union: [gold.*, { method: selector, value: nightly }]
        - exclude: [{ tag: old }]
";

const MORE_SOURCES: &str = "sources:
  - name: raw
    root: in
    tags: daily
    freshness: { error_after: { count: 3, period: hour } }
    tables:
      - name: orders
        path: [orders/*.csv]
        format: csv
        options: { header: true, quote: false, null_values: [NULL, n/a], delimiter: \",\", skip_lines: 0, time_zone: Europe/Berlin }
        on_bad_row: null
        max_bad_rows: 5%
        on_changed_file: replace
        after_load: keep
        metadata_columns: [_file_path]
        columns:
          - { name: id, data_type: bigint, tests: [unique] }
          - { name: customer, data_type: varchar }
          - { name: amount, data_type: double }
          - { name: at, data_type: timestamp, format: [\"%Y-%m-%dT%H:%M:%S\", epoch_s], time_zone: Europe/Berlin }
      - name: empty
        path: empty/
        format: auto
        freshness: null
        partition_columns: [dt, { name: hour, data_type: int }]
        incremental_listing: { lookback: 10 }
        after_load: keep
        columns: [{ name: id, data_type: bigint }]
";

#[test]
fn what_lake_refuses_is_not_valid() {
    let Some(python) = python() else { return };
    let sandbox = shop();
    sandbox.ok(&["schema", "--write"]);
    let model = |settings: &str| format!("models:\n  - name: sums\n    config: {{ {settings} }}\n");
    let test =
        |test: &str| format!("models:\n  - name: sums\n    columns: [{{ name: total, data_tests: [{test}] }}]\n");
    let source = |key: &str| {
        format!(
            "sources:\n  - name: other\n    tables: [{{ name: x, path: x/, format: csv, columns: [{{ name: a }}], {key} }}]\n"
        )
    };
    let project =
        |key: &str| format!("name: shop\ntargets: {{ dev: {{ root: lake }} }}\nvars: {{ least: 1 }}\n{key}\n");
    let cases = [
        ("project", project("target: { a: b }")),
        ("project", project("modles: {}")),
        ("project", project("models: { +materialized: tabel }")),
        ("project", project("models: { gold: { +materialised: table } }")),
        ("project", "name: shop\n".to_owned()),
        ("models", "model: []\n".to_owned()),
        ("models", model("incremental_strategy: upsert")),
        ("models", model("uniqe_key: id")),
        ("models", model("enabled: \"yes\"")),
        ("models", model("timeout: soon")),
        ("models", model("compression: zsdt")),
        ("models", model("maintain: { vacum: true }")),
        ("models", model("pre_hook: { comand: x }")),
        ("models", model("lints: { no-such: deny }")),
        ("models", model("contract: true")),
        ("models", test("accepted_values: { value: [1] }")),
        ("models", test("not_null: { severity: fatal }")),
        ("models", test("unique: { limit: many }")),
        ("models", "exposures: [{ name: x, type: board, owner: { name: a } }]\n".to_owned()),
        ("models", "exposures: [{ name: x, type: ml, owner: {} }]\n".to_owned()),
        ("models", "groups: [{ name: x }]\n".to_owned()),
        ("models", "unit_tests: [{ name: x, model: sums, given: [] }]\n".to_owned()),
        ("models", "unit_tests: [{ name: x, model: sums, expect: { row: [] } }]\n".to_owned()),
        ("models", source("on_bad_row: skip")),
        ("models", source("option: {}")),
        ("models", source("options: { headers: true }")),
        ("models", source("freshness: { warn_after: { count: 1, period: year } }")),
        ("models", source("after_load: { archive: {} }")),
        ("selectors", "selectors: [{ name: a, definition: { tagg: x } }]\n".to_owned()),
        ("selectors", "selectors: [{ name: a, definition: { union: [] } }]\n".to_owned()),
    ];
    let files: Vec<(&str, PathBuf)> = cases
        .iter()
        .enumerate()
        .map(|(at, (kind, text))| {
            let name = format!("cases/{at}.yml");
            sandbox.write(&name, text);
            (*kind, sandbox.path(&name))
        })
        .collect();
    let found = check(&python, &sandbox.path(".lake/schemas"), &files);
    for ((kind, text), wrong) in cases.iter().zip(found) {
        assert!(!wrong.is_empty(), "the schema of {kind} accepts:\n{text}");
        let broken = shop();
        let path = match *kind {
            "project" => "project.yml",
            "selectors" => "selectors.yml",
            // What it says of `sums` is said once.
            _ => "models/all.yml",
        };
        broken.write(path, text);
        assert_eq!(broken.lake(&["compile"]).code, 2, "lake accepts:\n{text}");
    }
}

#[test]
fn a_new_project_has_schemas_where_its_files_look_for_them() {
    let sandbox = Sandbox::empty();
    sandbox.ok(&["init", "new"]);
    let files = yaml_files(&sandbox.path("new"));
    assert_eq!(files.len(), 4);
    for (kind, path) in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let header = text.lines().next().unwrap().strip_prefix("# yaml-language-server: $schema=").unwrap();
        let schema = path.parent().unwrap().join(header);
        let written: Value = serde_json::from_slice(&std::fs::read(&schema).unwrap()).unwrap();
        let printed: Value = serde_json::from_str(&sandbox.ok(&["schema", kind])).unwrap();
        assert_eq!(written, printed);
    }
    sandbox.lake(&["schema"]).assert_failed(2, "lake schema <FILE>");
    sandbox.lake(&["schema", "tables"]).assert_failed(2, "project, sources, models, selectors");
}
