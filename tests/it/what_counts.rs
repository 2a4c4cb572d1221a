//! Rows that must count, and rows that must not, where several features meet: after rollbacks to the beginning, between tables
//! that are published together, in merges of some columns, and where types and settings change.

use serde_json::{Value, json};

use crate::materialize::{SOURCES, items, rows};
use crate::sandbox::{Sandbox, node};

fn runs(sandbox: &Sandbox) -> Vec<String> {
    let runs = sandbox.json(&["history"]);
    runs.as_array().unwrap().iter().map(|run| run["invocation_id"].as_str().unwrap().to_owned()).collect()
}

const TAKEN: &str = "{{ config(materialized='incremental') }} select id, value from {{ source('raw', 'items') }}";

/// A model of `gold` over `silver.items`.
fn over(config: &str, sql: &str) -> Sandbox {
    items(&[
        ("models/silver/items.sql", TAKEN),
        ("models/gold/out.sql", &format!("{{{{ config(materialized='incremental'{config}) }}}} {sql}")),
    ])
}

#[test]
fn what_a_rollback_emptied_is_built_as_for_the_first_time() {
    let whole = "select id, value from {{ ref('items') }}";
    let later = "select id, value from {{ ref('items') }} {% if is_incremental() %} where id > (select max(id) from {{ this }}) {% endif %}";
    let changes = "select id, value from {{ ref('items', changes=true) }}";
    for (config, sql) in [
        ("", whole),
        (", unique_key='id'", later),
        (", unique_key='id', incremental_strategy='delete+insert'", later),
        ("", changes),
    ] {
        let sandbox = over(config, sql);
        sandbox.ok(&["build"]);
        let after = rows(&sandbox, "out");
        assert_eq!(after.len(), 2);
        sandbox.ok(&["rollback", &runs(&sandbox)[0]]);
        assert_eq!(rows(&sandbox, "out").len(), 0);
        // Upkeep leaves it what it is.
        sandbox.ok(&["maintain"]);
        let report = sandbox.json(&["build"]);
        assert_eq!(node(&report, "gold.out")["reason"], "it was rolled back to before its first build", "{report}");
        assert_eq!(rows(&sandbox, "out"), after, "{config} {sql}");
        assert_eq!(node(&sandbox.json(&["build"]), "gold.out")["status"], "skipped", "{config} {sql}");
    }
}

#[test]
fn batches_that_a_rollback_took_away_are_all_due_again() {
    let sandbox = Sandbox::new(&[
        ("seeds/events.csv", "at,value\n2026-01-01,a\n2026-01-03,b\n2026-01-09,c\n"),
        (
            "models/silver/events.sql",
            "{{ config(materialized='table', event_time='at') }} select cast(at as timestamp) as at, value from {{ ref('events_seed') }}",
        ),
        ("models/gold/daily.sql", DAILY),
    ]);
    std::fs::rename(sandbox.path("seeds/events.csv"), sandbox.path("seeds/events_seed.csv")).unwrap();
    sandbox.ok(&["build"]);
    let after = rows(&sandbox, "daily");
    assert_eq!(after.len(), 3);
    sandbox.ok(&["rollback", &runs(&sandbox)[0]]);
    assert_eq!(rows(&sandbox, "daily").len(), 0);
    // Settings that the first build had wrong are those of the next one.
    sandbox.write("models/gold/daily.sql", DAILY.replace("batch_size", "partition_by='value', batch_size"));
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "daily"), after);
    sandbox.ok(&["rollback", &runs(&sandbox)[0]]);
    sandbox.ok(&["build", "--atomic"]);
    assert_eq!(rows(&sandbox, "daily"), after);
}

const DAILY: &str = "{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='at', batch_size='month', begin='2026-01-01') }}
    select at, value from {{ ref('events') }} {% if is_incremental() %} where at > (select max(at) from {{ this }}) {% endif %}";

#[test]
fn a_history_that_a_rollback_emptied_may_become_another() {
    let sql = |more: &str, id: &str| {
        format!(
            "{{{{ config(materialized='scd2', unique_key='id', strategy='check', check_cols='all'{more}) }}}} select {id} as id, value from {{{{ source('raw', 'items') }}}}"
        )
    };
    let sandbox = items(&[("models/silver/items.sql", &sql("", "cast(id as varchar)"))]);
    sandbox.ok(&["build"]);
    sandbox.ok(&["rollback", &runs(&sandbox)[0]]);
    sandbox.write("models/silver/items.sql", sql(", partition_by='value'", "id"));
    sandbox.ok(&["build"]);
    let seen = || sandbox.query("select id, value, is_current from {{ ref('items') }} order by id");
    assert_eq!(seen()[0], json!({"id": 1, "value": "a", "is_current": true}));
    assert_eq!(seen().len(), 2);
    // Back to an empty version is empty, too.
    let id = runs(&sandbox)[0].clone();
    sandbox.ok(&["rollback", &id]);
    let report = sandbox.json(&["build"]);
    assert_eq!(node(&report, "silver.items")["reason"], "it was rolled back to before its first build", "{report}");
    assert_eq!(seen().len(), 2);
}

#[test]
fn a_rollback_to_another_programs_version_knows_no_later_one() {
    let sandbox = over("", "select id, value from {{ ref('items', changes=true) }}");
    sandbox.ok(&["build"]);
    let log = |version: u32| sandbox.path(&format!("lake/gold/out/_delta_log/{version:020}.json"));
    // A commit that says nothing of `lake`.
    let commit = json!({"commitInfo": {"timestamp": 1_767_225_600_000_u64, "operation": "WRITE"}});
    std::fs::write(log(1), commit.to_string()).unwrap();
    sandbox.write("in/items/2.csv", "id,value\n3,c\n");
    sandbox.ok(&["build"]);
    let after = rows(&sandbox, "out");
    assert_eq!(after.len(), 3);
    sandbox.ok(&["rollback", "out", "--to", "1"]);
    assert_eq!(rows(&sandbox, "out").len(), 2);
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "out"), after);
}

#[test]
fn changes_are_read_of_tables_that_are_published_with_their_reader() {
    let merged =
        "{{ config(materialized='incremental', unique_key='id') }} select id, value from {{ source('raw', 'items') }}";
    let log = "{{ config(materialized='incremental') }} select id, value, _change_type as change, _commit_version as version from {{ ref('items', changes=true) }}";
    let sandbox = items(&[("models/silver/items.sql", merged), ("models/gold/log.sql", log)]);
    let seen = || {
        let rows = sandbox.query("select id, value, change, version from gold.log order by version, id, change desc");
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let line = |row: &Value| ["id", "value", "change", "version"].map(|key| text(&row[key])).join(" ");
        rows.iter().map(line).collect::<Vec<_>>()
    };
    let mut expected = vec!["1 a insert 0".to_owned(), "2 b insert 0".to_owned()];
    sandbox.ok(&["build", "--atomic"]);
    assert_eq!(seen(), expected);
    assert_eq!(node(&sandbox.json(&["build"]), "gold.log")["status"], "skipped");
    sandbox.write("in/items/2.csv", "id,value\n2,B\n3,c\n");
    sandbox.ok(&["build", "--atomic"]);
    expected.extend(["2 b update_preimage 1", "2 B update_postimage 1", "3 c insert 1"].map(str::to_owned));
    assert_eq!(seen(), expected);
    sandbox.write("in/items/3.csv", "id,value\n4,d\n");
    sandbox.ok(&["build"]);
    sandbox.write("in/items/4.csv", "id,value\n5,e\n");
    sandbox.ok(&["build", "--atomic"]);
    expected.extend(["4 d insert 2", "5 e insert 3"].map(str::to_owned));
    assert_eq!(seen(), expected);
    assert_eq!(node(&sandbox.json(&["build", "--atomic"]), "gold.log")["status"], "skipped");
}

#[test]
fn changes_of_a_table_that_was_moved_are_not_read_as_inserts() {
    let sandbox = over("", "select id, value from {{ ref('items', changes=true) }}");
    sandbox.ok(&["build"]);
    std::fs::create_dir_all(sandbox.path("models/bronzed")).unwrap();
    std::fs::rename(sandbox.path("models/silver/items.sql"), sandbox.path("models/bronzed/items.sql")).unwrap();
    sandbox.lake(&["build"]).assert_failed(1, "has read the changes of `silver.items`, reads it no more");
    assert_eq!(rows(&sandbox, "out").len(), 2);
    sandbox.ok(&["build", "--full-refresh", "--select", "out"]);
    assert_eq!(rows(&sandbox, "out").len(), 2);
}

/// A source of changes: `id, at, op, value`.
fn feed(config: &str) -> Sandbox {
    let sources = SOURCES.replace(
        "{ name: value, data_type: varchar }]",
        "{ name: at, data_type: int }, { name: op, data_type: varchar }, { name: value, data_type: varchar }]",
    );
    let sql = format!(
        "{{{{ config(materialized='incremental', unique_key='id', {config}) }}}} select * from {{{{ source('raw', 'items') }}}}"
    );
    Sandbox::new(&[("sources.yml", &sources), ("models/silver/items.sql", &sql)])
}

#[test]
fn a_full_refresh_counts_though_the_delivered_rows_are_the_same() {
    let sandbox = feed("delete_when=\"op = 'd'\"");
    sandbox.write("in/items/1.csv", "id,at,op,value\n1,1,D,a\n2,1,I,b\n");
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items").len(), 2);
    let sql = std::fs::read_to_string(sandbox.path("models/silver/items.sql")).unwrap();
    sandbox.write("models/silver/items.sql", sql.replace("'d'", "'D'"));
    sandbox.ok(&["build", "--full-refresh"]);
    assert_eq!(rows(&sandbox, "items").len(), 1);
    // Rows that stand twice, of a table that becomes one that merges.
    let sandbox = items(&[("models/silver/items.sql", TAKEN), ("in/items/2.csv", "id,value\n2,b\n")]);
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items").len(), 3);
    let merged = TAKEN.replace("'incremental'", "'incremental', unique_key='id', sequence_by='value'");
    sandbox.write("models/silver/items.sql", merged);
    sandbox.ok(&["build", "--full-refresh"]);
    assert_eq!(rows(&sandbox, "items").len(), 2);
}

#[test]
fn a_late_row_takes_nothing_back_where_only_some_columns_are_updated() {
    for columns in ["merge_update_columns=['value']", "merge_exclude_columns=['op']"] {
        let sandbox = feed(&format!("sequence_by='at', {columns}"));
        for (file, row) in ["1,1,I,a", "1,5,U,new", "1,3,U,late"].iter().enumerate() {
            sandbox.write(&format!("in/items/{file}.csv"), format!("id,at,op,value\n{row}\n"));
            sandbox.ok(&["build"]);
        }
        assert_eq!(rows(&sandbox, "items"), ["1 5 I new"], "{columns}");
    }
    let sandbox = feed("sequence_by='at', merge_exclude_columns=['at']");
    sandbox.lake(&["compile"]).assert_failed(2, "`merge_exclude_columns` names `at`, which `sequence_by` goes by");
}

#[test]
fn a_row_that_is_left_out_takes_the_place_of_no_other() {
    let sandbox = feed("sequence_by='at'");
    sandbox.write(
        "models/silver/items.yml",
        "models:\n  - name: items\n    columns:\n      - { name: at, data_tests: [{ accepted_range: { max_value: 100, on_violation: quarantine } }] }\n",
    );
    sandbox.write("in/items/1.csv", "id,at,op,value\n1,1,I,a\n1,700,I,b\n2,700,I,c\n");
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items"), ["1 1 I a"]);
    let kept = || sandbox.value("select count(*) as n from quarantine.silver__items");
    assert_eq!(kept(), 2);
    sandbox.ok(&["build", "--full-refresh"]);
    assert_eq!((rows(&sandbox, "items"), kept()), (vec!["1 1 I a".to_owned()], json!(2)));
}

#[test]
fn many_rows_that_are_left_out_are_all_kept() {
    let sandbox = items(&[("models/silver/items.sql", TAKEN)]);
    sandbox.write(
        "models/silver/items.yml",
        "models:\n  - name: items\n    columns:\n      - { name: id, data_tests: [{ accepted_range: { max_value: 2, on_violation: quarantine } }] }\n",
    );
    let many: String = (0..45_000).map(|at| format!("{at},v\n")).collect();
    sandbox.write("in/items/2.csv", format!("id,value\n{many}"));
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items").len(), 5);
    let all = "select count(*) as n, count(distinct \"key\") as keys, count(quarantined_at) as times from quarantine.silver__items";
    assert_eq!(sandbox.query(all)[0]["n"], 44_997);
    let left = std::fs::read_dir(sandbox.path("lake/silver/items/_lake/left_out")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "what was carried over is gone");
}

#[test]
fn nested_values_that_hash_alike_are_other_rows() {
    let sql = |of: &str| {
        format!("{{{{ config(materialized='table') }}}} select id, {of} as v from {{{{ source('raw', 'items') }}}}")
    };
    let alike = [
        (
            "case when id = 1 then [id] end",
            "case when id = 1 then [id] else arrow_cast(make_array(), 'List(Int64)') end",
        ),
        (
            "named_struct('a', value, 'b', nullif(value, value), 'c', value)",
            "named_struct('a', value, 'b', value, 'c', nullif(value, value))",
        ),
    ];
    for (was, is) in alike {
        let sandbox = items(&[("models/silver/items.sql", &sql(was))]);
        sandbox.ok(&["build"]);
        let before = rows(&sandbox, "items");
        sandbox.write("models/silver/items.sql", sql(is));
        let report = sandbox.json(&["build"]);
        assert_eq!(node(&report, "silver.items")["action"], "replace", "{report}");
        assert_ne!(rows(&sandbox, "items"), before);
        sandbox.write("models/silver/items.sql", sql(&format!("case when true then {is} end")));
        assert_eq!(node(&sandbox.json(&["build"]), "silver.items")["action"], "unchanged");
    }
}

#[test]
fn a_wider_column_brings_no_old_row_back() {
    let more = [
        ", incremental_strategy='delete+insert', unique_key='id'",
        ", incremental_strategy='insert_overwrite', partition_by='id'",
        ", unique_key='id'",
        ", unique_key='id', merge_exclude_columns=['value']",
    ];
    for config in more {
        let sql = format!(
            "{{{{ config(materialized='incremental'{config}) }}}} select id, value, cast(n as bigint) as n from {{{{ source('raw', 'items') }}}}"
        );
        let source =
            |kind: &str| SOURCES.replace("varchar }]", &format!("varchar }}, {{ name: n, data_type: {kind} }}]"));
        let sandbox = Sandbox::new(&[
            ("sources.yml", &source("int")),
            ("models/silver/items.sql", &sql.replace("cast(n as bigint) as n", "n")),
            ("in/items/1.csv", "id,value,n\n1,a,1\n2,b,2\n"),
        ]);
        sandbox.ok(&["build"]);
        sandbox.write("in/items/2.csv", "id,value,n\n1,A,9\n");
        sandbox.ok(&["build"]);
        let before = rows(&sandbox, "items");
        sandbox.write("sources.yml", source("bigint"));
        sandbox.write("in/items/3.csv", "id,value,n\n3,c,5000000000\n");
        sandbox.ok(&["build"]);
        let mut after = before.clone();
        after.push("3 c 5000000000".to_owned());
        assert_eq!(rows(&sandbox, "items"), after, "{config}");
    }
}

#[test]
fn a_number_loses_no_digits_unasked() {
    let sql = |of: &str| {
        format!(
            "{{{{ config(materialized='incremental') }}}} select id, {of} as v from {{{{ source('raw', 'items') }}}}"
        )
    };
    let sandbox = items(&[("models/silver/items.sql", &sql("id + 9007199254740992"))]);
    sandbox.ok(&["build"]);
    sandbox.write("models/silver/items.sql", sql("cast(id as double)"));
    sandbox.write("in/items/2.csv", "id,value\n3,c\n");
    sandbox.lake(&["build"]).assert_failed(1, "column `v` was `bigint` and is now `double`; cast it");
}

#[test]
fn an_empty_text_is_null_where_a_table_is_partitioned_by_it() {
    let sql = "{{ config(materialized='table', partition_by='p') }} select id, case when id = 1 then '' else 'x' || value end as p from {{ source('raw', 'items') }}";
    let sandbox = items(&[("models/silver/items.sql", sql)]);
    let tests = |severity: &str| {
        format!(
            "models:\n  - name: items\n    columns:\n      - {{ name: p, data_tests: [{{ not_null: {{ severity: {severity} }} }}] }}\n"
        )
    };
    sandbox.write("models/silver/items.yml", tests("error"));
    sandbox.lake(&["build"]).assert_failed(1, "nothing was published");
    sandbox.write("models/silver/items.yml", tests("warn"));
    sandbox.ok(&["build"]);
    assert_eq!(sandbox.value("select count(*) as n from {{ ref('items') }} where p is null"), 1);
}

#[test]
fn partitions_that_no_reader_could_read_are_refused() {
    let refused = |config: &str, columns: &str, why: &str| {
        let sql = format!(
            "{{{{ config(materialized='table', {config}) }}}} select {columns} from {{{{ source('raw', 'items') }}}}"
        );
        items(&[("models/silver/items.sql", &sql)]).lake(&["compile"]).assert_failed(2, why);
    };
    refused("partition_by='p'", "id, x'41' as p", "`partition_by` of `silver.items` names `p`, which is `bytea`");
    refused("partition_by=['id', 'id']", "id, value", "`partition_by` of `silver.items` names `id` twice");
    refused("partition_by=['id', 'value']", "id, value", "names all of its columns");
}

#[test]
fn a_table_that_was_a_history_is_protected_as_any_other() {
    let sql =
        |config: &str| format!("{{{{ config({config}) }}}} select id, value from {{{{ source('raw', 'items') }}}}");
    let sandbox = items(&[(
        "models/silver/items.sql",
        &sql("materialized='scd2', unique_key='id', strategy='check', check_cols='all'"),
    )]);
    sandbox.ok(&["build"]);
    sandbox.write("models/silver/items.sql", sql("materialized='incremental', full_refresh=false"));
    sandbox.lake(&["build", "--full-refresh"]).assert_failed(1, "holds a history");
    assert_eq!(sandbox.value("select count(valid_from) as n from silver.items"), 2);
}

#[test]
fn a_key_may_have_any_name() {
    let sql = "{{ config(materialized='incremental', unique_key='n_records') }} select id as n_records, value from {{ source('raw', 'items') }}";
    let sandbox = items(&[("models/silver/items.sql", sql)]);
    sandbox.ok(&["build"]);
    sandbox.write("in/items/2.csv", "id,value\n2,B\n");
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "items"), ["1 a", "2 B"]);
}

#[test]
fn a_column_that_comes_later_comes_with_the_delivery_that_brings_it() {
    let files = ["id,name\n1,a\n2,b\n", "id,name\n1,a\n2,B\n", "id,name,city\n1,a,x\n2,B,y\n3,c,\n"];
    for config in ["strategy='check', check_cols='all'", "strategy='check', check_cols=['name']"] {
        let built = |at_once: bool| {
            let sources = "sources:\n  - name: raw\n    root: in\n    tables:\n      - name: people\n        path: people/\n        format: csv\n\
                           \x20       on_new_column: add\n        snapshot: true\n        columns: [{ name: id, data_type: int }]\n";
            let sql = format!(
                "{{{{ config(materialized='scd2', unique_key='id', {config}) }}}} select * from {{{{ source('raw', 'people') }}}}"
            );
            let sandbox = Sandbox::new(&[("sources.yml", sources), ("models/silver/people.sql", &sql)]);
            for (day, file) in files.iter().enumerate() {
                sandbox.write(&format!("in/people/2026-01-0{}.csv", day + 1), file);
                if !at_once {
                    sandbox.ok(&["build"]);
                }
            }
            sandbox.ok(&["build"]);
            assert_eq!(node(&sandbox.json(&["build"]), "silver.people")["status"], "skipped");
            sandbox.query("select id, name, city, is_current from {{ ref('people') }} order by id, valid_from")
        };
        let (one_by_one, at_once) = (built(false), built(true));
        assert_eq!(at_once, one_by_one, "{config}");
        assert_eq!(at_once.iter().filter(|row| row["city"] == "x").count(), 1, "{at_once:?}");
        assert_eq!(at_once.len(), 4, "{config} {at_once:?}");
    }
}

#[test]
fn a_column_that_comes_later_is_there_where_somebody_asks_for_it() {
    let sources = "sources:\n  - name: raw\n    root: in\n    tables:\n      - name: people\n        path: people/\n        format: csv\n\
                   \x20       on_new_column: add\n        snapshot: true\n        columns: [{ name: id, data_type: int }]\n";
    let built = |config: &str, test: &str, atomic: bool| {
        let sql = format!(
            "{{{{ config(materialized='scd2', unique_key='id', strategy='check', check_cols='all'{config}) }}}} select * from {{{{ source('raw', 'people') }}}}"
        );
        let sandbox = Sandbox::new(&[
            ("sources.yml", sources),
            ("models/silver/people.sql", &sql),
            (
                "models/gold/cities.sql",
                "{{ config(materialized='table') }} select distinct city from {{ ref('people') }} where city is not null",
            ),
            ("in/people/2026-01-01.csv", "id,name\n1,a\n"),
            ("in/people/2026-01-02.csv", "id,name\n1,b\n"),
            ("in/people/2026-01-03.csv", "id,name,city\n1,b,x\n"),
        ]);
        if !test.is_empty() {
            sandbox.write("tests/t.sql", test);
        }
        for _ in 0..if atomic { 3 } else { 1 } {
            sandbox.ok(if atomic { &["build", "--atomic"] } else { &["build"] });
        }
        assert_eq!(rows(&sandbox, "cities"), ["x"], "{config} {test} {atomic}");
    };
    built("", "", false);
    built("", "", true);
    built(", on_schema_change='ignore'", "", false);
    built(", on_schema_change='fail'", "", false);
    built(", partition_by='city'", "", false);
    built("", "select * from {{ ref('people') }} where city = 'nowhere'", false);
}
