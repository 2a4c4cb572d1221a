//! Unit tests of the table that several runs make.

use crate::sandbox::Sandbox;

const SOURCES: &str = "\
sources:
  - name: bronze
    tables:
      - name: orders
        path: bronze/orders/
        format: csv
        columns:
          - { name: id, data_type: bigint }
          - { name: amount, data_type: bigint }
          - { name: op, data_type: varchar }
          - { name: at, data_type: timestamp }
      - name: people
        path: bronze/people/
        format: csv
        snapshot: true
        columns:
          - { name: id, data_type: bigint }
          - { name: city, data_type: varchar }
";

/// What the unit test of one model comes to.
#[track_caller]
fn passes(model: &str, test: &str) {
    let sandbox = Sandbox::new(&[("sources.yml", SOURCES), ("models/silver/m.sql", model), ("models/m.yml", test)]);
    let run = sandbox.lake(&["test"]);
    assert_eq!(run.code, 0, "{}\n{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("1 passed"), "{}", run.stdout);
    let left = sandbox.path(".lake/unit_tests");
    assert!(!left.exists(), "nothing of the runs stays");
    assert!(!sandbox.path("lake").exists(), "the lake is not touched");
}

fn runs(runs: &str, expect: &str) -> String {
    format!("unit_tests:\n  - name: after_all\n    model: m\n    runs:\n{runs}    expect:\n      rows:\n{expect}")
}

const ORDERS: &str = "select id, amount, op, at from {{ source('bronze', 'orders') }}";

#[test]
fn an_append_adds_what_each_run_delivers() {
    let model = format!("{{{{ config(materialized='incremental', incremental_strategy='append') }}}} {ORDERS}");
    let given = "      - given: [{ input: \"source('bronze', 'orders')\", rows: [{ id: 1 }, { id: 2 }] }]\n      \
                 - given: []\n      - given: [{ input: \"source('bronze', 'orders')\", rows: [{ id: 1 }] }]\n";
    passes(&model, &runs(given, "        - { id: 1 }\n        - { id: 1 }\n        - { id: 2 }\n"));
}

#[test]
fn a_merge_keeps_the_newest_row_of_each_key_and_remembers_deletes() {
    let model = format!(
        "{{{{ config(materialized='incremental', unique_key='id', sequence_by='at', delete_when=\"op = 'D'\") }}}} {ORDERS}"
    );
    let given = "      \
      - given: [{ input: \"source('bronze', 'orders')\", rows: [{ id: 1, amount: 5, at: 2024-01-02 }, { id: 2, amount: 6, at: 2024-01-02 }] }]
      - given: [{ input: \"source('bronze', 'orders')\", rows: [{ id: 1, amount: 4, at: 2024-01-01 }, { id: 2, op: D, at: 2024-01-03 }] }]
      - given: [{ input: \"source('bronze', 'orders')\", rows: [{ id: 2, amount: 9, at: 2024-01-01 }, { id: 3, amount: 7, at: 2024-01-01 }] }]
";
    passes(&model, &runs(given, "        - { id: 1, amount: 5 }\n        - { id: 3, amount: 7 }\n"));
}

#[test]
fn other_strategies_replace_what_they_should() {
    let given = "      \
      - given: [{ input: \"source('bronze', 'orders')\", rows: [{ id: 1, amount: 1, op: a }, { id: 1, amount: 2, op: a }, { id: 2, amount: 3, op: b }] }]
      - given: [{ input: \"source('bronze', 'orders')\", rows: [{ id: 1, amount: 9, op: b }] }]
";
    let insert = format!(
        "{{{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key='id') }}}} {ORDERS}"
    );
    passes(&insert, &runs(given, "        - { id: 1, amount: 9 }\n        - { id: 2, amount: 3 }\n"));
    let overwrite = format!(
        "{{{{ config(materialized='incremental', incremental_strategy='insert_overwrite', partition_by=['op']) }}}} {ORDERS}"
    );
    passes(&overwrite, &runs(given, "        - { amount: 1 }\n        - { amount: 2 }\n        - { amount: 9 }\n"));
}

#[test]
fn a_history_has_every_version_with_the_times_of_the_runs() {
    let model = "{{ config(materialized='scd2', unique_key='id', strategy='check', check_cols='all', \
                 hard_deletes='invalidate') }} select id, city from {{ source('bronze', 'people') }}";
    let given = "      \
      - now: 2024-01-01T08:00:00Z
        given: [{ input: \"source('bronze', 'people')\", rows: [{ id: 1, city: Rome }, { id: 2, city: Oslo }] }]
      - now: 2024-01-02T08:00:00Z
        given: [{ input: \"source('bronze', 'people')\", rows: [{ id: 1, city: Bern }] }]
";
    let expect = "        \
        - { id: 1, city: Rome, valid_from: 2024-01-01T08:00:00Z, valid_to: 2024-01-02T08:00:00Z, is_current: false }
        - { id: 1, city: Bern, valid_from: 2024-01-02T08:00:00Z, valid_to: null, is_current: true }
        - { id: 2, city: Oslo, valid_from: 2024-01-01T08:00:00Z, valid_to: 2024-01-02T08:00:00Z, is_current: false }
";
    passes(model, &runs(given, expect));
}

#[test]
fn batches_run_up_to_the_clock_of_each_run() {
    let model = format!(
        "{{{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='at', batch_size='day', \
         begin='2024-01-01', lookback=0) }}}} {ORDERS}"
    );
    let given = "      \
      - now: 2024-01-02T12:00:00Z
        given: [{ input: \"source('bronze', 'orders')\", rows: [{ id: 1, at: 2024-01-01 10:00:00 }, { id: 2, at: 2024-01-02 10:00:00 }, { id: 3, at: 2024-01-03 10:00:00 }] }]
      - now: 2024-01-03T12:00:00Z
        given: []
";
    passes(&model, &runs(given, "        - { id: 1 }\n        - { id: 2 }\n        - { id: 3 }\n"));
}

#[test]
fn tables_between_run_for_real_and_given_ones_are_as_each_run_says() {
    let sandbox = Sandbox::new(&[
        ("sources.yml", SOURCES),
        ("models/silver/a.sql", &format!("{{{{ config(materialized='table') }}}} {ORDERS}")),
        ("models/silver/b.sql", "select id, amount * 2 as amount from {{ ref('a') }}"),
        (
            "models/gold/c.sql",
            "{{ config(materialized='incremental', unique_key='id') }} select id, amount, '{{ run_started_at.date() }}' as day \
             from {{ ref('b') }} {% if is_incremental() %} where amount > 2 {% endif %}",
        ),
        (
            "models/t.yml",
            "\
unit_tests:
  - name: through_a_view
    model: c
    runs:
      - now: 2024-01-01
        given: [{ input: ref('a'), rows: [{ id: 1, amount: 1 }, { id: 2, amount: 1 }] }]
      - now: 2024-01-02
        given: [{ input: ref('a'), rows: [{ id: 1, amount: 5 }, { id: 2, amount: 1 }] }]
      - now: 2024-01-03
    expect:
      rows:
        - { id: 1, amount: 10, day: 2024-01-03 }
        - { id: 2, amount: 2, day: 2024-01-01 }
",
        ),
    ]);
    let run = sandbox.lake(&["test"]);
    assert_eq!(run.code, 0, "{}\n{}", run.stdout, run.stderr);
}

#[test]
fn a_run_that_fails_is_told_with_its_number() {
    let model = format!("{{{{ config(materialized='incremental', unique_key='id') }}}} {ORDERS}");
    let given = "      - given: [{ input: \"source('bronze', 'orders')\", rows: [{ id: 1 }] }]\n      \
                 - given: [{ input: \"source('bronze', 'orders')\", rows: [{ id: 1, amount: 1 }, { id: 1, amount: 2 }] }]\n";
    let test = runs(given, "        - { id: 1 }\n");
    let sandbox = Sandbox::new(&[("sources.yml", SOURCES), ("models/silver/m.sql", &model), ("models/m.yml", &test)]);
    sandbox.lake(&["test"]).assert_failed(1, "run 2: `silver.m`: several new rows have one unique key: (id=1)");
}
