//! Keys of dbt's YAML that mean nothing here, and what to write instead.

const KEYS: &[(&str, &str)] = &[
    (
        "versions",
        "each version is a model of its own, in a file of its own: name it `orders_v2`, and say ref('orders_v2')",
    ),
    (
        "latest_version",
        "each version is a model of its own: let a model `orders` say `select * from {{ ref('orders_v2') }}`",
    ),
    (
        "snapshots",
        "write a model, models/<layer>/<name>.sql, with config(materialized='scd2') and the `unique_key`, `strategy` and \
         other settings of the snapshot: `select * from {{ ref('x') }}` for `relation: ref('x')`",
    ),
    ("semantic_models", "there is no semantic layer: write what it would compute as a model"),
    ("metrics", "there is no semantic layer: write what it would compute as a model"),
    ("saved_queries", "there is no semantic layer: write what it would compute as a model"),
    ("store_failures_as", "failing rows are kept in the table `_lake/failures`: write `store_failures: true`"),
    ("macros", "describe a macro in a comment above it: {# ... #}"),
    ("analyses", "write it as an ephemeral model, or ask it with `lake show --inline`"),
];

/// Settings of models that mean nothing here, and what to write instead.
const SETTINGS: &[(&str, &str)] = &[
    ("alias", "the name of the file is the name of the table"),
    ("schema", "the folder below models/ is the schema"),
    ("database", "the `root` of the target in project.yml is where all tables are"),
    ("indexes", "Delta tables have no indexes: see `partition_by`, `zorder_by` and `bloom_filter_columns`"),
    ("cluster_by", "write `zorder_by`, or `partition_by`"),
    ("sort", "write `sort_by`"),
    ("invalidate_hard_deletes", "write `hard_deletes: invalidate`"),
    ("target_schema", "the folder below models/ is the schema"),
    ("target_database", "the `root` of the target in project.yml is where all tables are"),
    ("dbt_valid_to_current", "`valid_to` is NULL in the current version: say coalesce(valid_to, ...) where it is read"),
    ("dist", "write `partition_by`"),
    ("file_format", "every table is a Delta table"),
    ("optimize_write", "write `target_file_size`"),
    ("liquid_clustered_by", "write `zorder_by`"),
];

/// What to write instead of a setting, if it is one of them.
pub fn instead_of_setting(key: &str) -> Option<&'static str> {
    SETTINGS.iter().find(|(known, _)| *known == key).map(|(_, instead)| *instead)
}

/// What to write instead of a key, if it is one of them.
pub fn instead_of(key: &str) -> Option<&'static str> {
    KEYS.iter().find(|(known, _)| *known == key).map(|(_, instead)| *instead)
}
