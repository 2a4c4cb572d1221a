//! A compile that uses what earlier ones worked out says and writes exactly what a cold one does.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;

use crate::sandbox::Sandbox;

const PROJECT: &str = "name: sandbox\ntarget: dev\ntargets:\n  dev: { root: lake }\n  prod: { root: prod }\nvars: { least: 10, idle: 1 }\n";
const SOURCES: &str = "sources:\n  - name: raw\n    root: in\n    tables:\n      - name: orders\n        path: orders/\n        format: csv\n        columns:\n          - { name: id, data_type: bigint, description: \"{{ doc('id') }}\" }\n          - { name: customer, data_type: varchar }\n          - { name: amount, data_type: double }\n";

/// What the files of the project may say, the first of each to begin with.
const FILES: &[(&str, &[&str])] = &[
    (
        "project.yml",
        &[
            PROJECT,
            "name: sandbox\ntarget: dev\ntargets:\n  dev: { root: lake }\n  prod: { root: prod }\nvars: { least: 20, idle: 1 }\n",
            "name: sandbox\ntarget: prod\ntargets:\n  dev: { root: lake }\n  prod: { root: prod }\nvars: { least: 10, idle: 2 }\nmodels: { gold: { materialized: table, tags: [g] } }\n",
        ],
    ),
    (
        "sources.yml",
        &[
            SOURCES,
            "sources:\n  - name: raw\n    root: in\n    tables:\n      - name: orders\n        path: orders/\n        format: csv\n        columns:\n          - { name: id, data_type: varchar }\n          - { name: customer, data_type: varchar }\n          - { name: amount, data_type: double }\n",
        ],
    ),
    (
        "macros/money.sql",
        &[
            "{% macro cents(column) %}round({{ column }}, 2){% endmacro %}\n{% macro idle() %}1{% endmacro %}\n",
            "{# why #}\n\n{% macro cents(column) %}round({{ column }}, 2){% endmacro %}\n",
            "{% macro cents(column) %}round({{ column }}, {{ var('digits', 3) }}){% endmacro %}\n",
            "{% macro cents(column) %}round({{ column }}, nosuch){% endmacro %}\n",
            "{% macro cents(column) %}{{ half(column) }}{% endmacro %}\n",
        ],
    ),
    (
        "macros/half.sql",
        &[
            "",
            "{% macro half(column) %}{{ column }} / 2{% endmacro %}\n",
            "{% macro cents(x) %}{{ x }}{% endmacro %}\n",
        ],
    ),
    ("models/notes.md", &["{% docs id %}The key.{% enddocs %}\n", "{% docs id %}Another text.{% enddocs %}\n", ""]),
    (
        "models/silver/orders.sql",
        &[
            "select id, customer, {{ cents('amount') }} as amount from {{ source('raw', 'orders') }}\n",
            "-- a remark\nselect id, customer, {{ cents('amount') }} as amount from {{ source('raw', 'orders') }}\n",
            "select id, customer, {{ cents('amount') }} as amount, 1 as more from {{ source('raw', 'orders') }}\n",
            "{{ config(materialized='incremental', unique_key='id') }}\nselect id, customer, amount from {{ source('raw', 'orders') }} {% if is_incremental() %} where id > 5 {% endif %}\n",
            "select id, custmer, amount from {{ source('raw', 'orders') }}\n",
            "select 1 as id, 'a' as customer, {{ env_var('RATE', '1') }} as amount\n",
        ],
    ),
    (
        "models/silver/orders.yml",
        &[
            "models:\n  - name: orders\n    description: \"{{ doc('id') }} {{ var('least') }}\"\n    columns:\n      - { name: id, data_tests: [not_null, unique] }\n      - { name: customer, data_tests: [{ accepted_values: { values: [a, b] } }] }\n",
            "models:\n  - name: orders\n    columns:\n      - { name: id, data_tests: [not_null] }\n      - { name: gone, data_tests: [not_null] }\n",
            "models:\n  - name: orders\n    config: { tags: [x], materialized: table }\n    columns:\n      - { name: id, data_tests: [is_even, { relationships: { to: ref('sums'), field: customer } }] }\n",
            "models:\n  - name: nobody\n",
            "models: [\n",
            "",
        ],
    ),
    (
        "models/gold/sums.sql",
        &[
            "select customer, sum(amount) as total, count(*) as n from {{ ref('orders') }} group by customer\n",
            "with unused as (select 1 as a) select customer, sum(amount) as total from {{ ref('orders') }} group by customer\n",
            "select customer, sum(amount) as total, max(more) as n from {{ ref('orders') }} group by customer\n",
            "select customer, total from {{ ref('nosuch') }}\n",
            "",
        ],
    ),
    (
        "models/gold/top.sql",
        &[
            "{{ config(materialized='table') }}\nselect customer from {{ ref('sums') }} where total > {{ var('least') }}\n",
            "select customer, now() as at from {{ ref('sums') }}\n",
            "select customer, '{{ run_started_at.year }}' as at from {{ ref('sums') }}\n",
            "select * from {{ ref('sums') }} join {{ ref('orders') }} using (customer)\n",
        ],
    ),
    ("models/other/sums.sql", &["", "", "", "select 1 as customer\n"]),
    (
        "models/gold/values.sql",
        &[
            "",
            "{% for v in dbt_utils.get_column_values(ref('orders'), 'customer') %}select '{{ v }}' as v {% if not loop.last %}union all {% endif %}{% endfor %}\n",
        ],
    ),
    (
        "tests/totals.sql",
        &["select * from {{ ref('sums') }} where total < 0\n", "select * from {{ ref('sums') }} where n < 0\n", ""],
    ),
    (
        "tests/generic/even.sql",
        &[
            "{% test is_even(model, column_name) %}select * from {{ model }} where {{ column_name }} % 2 = 1{% endtest %}\n",
            "{% test is_even(model, column_name) %}select * from {{ model }} where {{ column_name }} % 2 <> {{ var('rest', 0) }}{% endtest %}\n",
            "",
        ],
    ),
];

/// One edit: a file gets another of its texts (an empty one: it goes), and how the next compile is called.
#[derive(Debug, Clone)]
struct Edit {
    file: usize,
    text: usize,
    call: usize,
    is_quick: bool,
}

const CALLS: &[(&[&str], &str)] = &[
    (&["compile"], ""),
    (&["compile"], ""),
    (&["compile", "--vars", "{least: 5}"], ""),
    (&["compile", "--target", "prod"], ""),
    (&["compile"], "7"),
];

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let edit = (0..FILES.len(), 0..6usize, 0..CALLS.len(), prop::bool::weighted(0.2));
    prop::collection::vec(edit.prop_map(|(file, text, call, is_quick)| Edit { file, text, call, is_quick }), 3..9)
}

fn apply(sandbox: &Sandbox, file: usize, text: usize) {
    let (path, texts) = FILES[file];
    match texts[text % texts.len()] {
        "" => drop(std::fs::remove_file(sandbox.path(path))),
        text => sandbox.write(path, text),
    }
}

/// What a compile says and leaves, without times.
#[derive(Debug, PartialEq)]
struct Outcome {
    code: i32,
    said: String,
    manifest: Option<Value>,
    sql: BTreeMap<String, String>,
}

fn compile(sandbox: &Sandbox, call: usize) -> Outcome {
    let (args, rate) = CALLS[call];
    let mut command = sandbox.command(args);
    if !rate.is_empty() {
        command.env("RATE", rate);
    }
    let output = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let said = said.lines().filter(|line| !line.contains(" compiled in ")).collect::<Vec<_>>().join("\n");
    let code = output.status.code().unwrap_or(-1);
    if code != 0 {
        return Outcome { code, said, manifest: None, sql: BTreeMap::new() };
    }
    let text = std::fs::read(sandbox.path(".lake/manifest.json")).unwrap();
    let mut manifest: Value = serde_json::from_slice(&text).unwrap();
    let mut sql = BTreeMap::new();
    let nodes = manifest["nodes"].as_object().unwrap().iter();
    for (name, node) in nodes.filter(|(_, node)| node["resource_type"] == "model") {
        let path = Path::new(".lake/compiled").join(node["original_file_path"].as_str().unwrap());
        sql.insert(name.clone(), std::fs::read_to_string(sandbox.path(path.to_str().unwrap())).unwrap());
    }
    // The year does not change between two compiles; the moment and the id of the run do.
    manifest["metadata"] = Value::Null;
    Outcome { code, said, manifest: Some(manifest), sql }
}

fn cold(sandbox: &Sandbox, call: usize) -> Outcome {
    let (own, aside) = (sandbox.path(".lake"), sandbox.path(".kept"));
    let had = own.exists();
    if had {
        std::fs::rename(&own, &aside).unwrap();
    }
    let outcome = compile(sandbox, call);
    let _ = std::fs::remove_dir_all(&own);
    if had {
        std::fs::rename(&aside, &own).unwrap();
    }
    outcome
}

fn cases() -> u32 {
    std::env::var("LAKE_EDIT_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_edits_compile_as_if_it_were_the_first_time(edits in edits()) {
        let sandbox = Sandbox::empty();
        (0..FILES.len()).for_each(|file| apply(&sandbox, file, 0));
        std::thread::sleep(Duration::from_millis(30));
        compile(&sandbox, 0);
        for edit in edits {
            apply(&sandbox, edit.file, edit.text);
            if !edit.is_quick {
                std::thread::sleep(Duration::from_millis(30));
            }
            prop_assert_eq!(compile(&sandbox, edit.call), cold(&sandbox, edit.call), "{:?}", edit);
        }
    }
}

/// How many products the last compile made, as `-v` tells it.
fn made(sandbox: &Sandbox) -> u64 {
    let run = sandbox.lake(&["-v", "compile"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let line =
        run.stderr.lines().find(|line| line.contains("products made")).unwrap_or_else(|| panic!("{}", run.stderr));
    let before = line.split(" products made").next().unwrap();
    before.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

fn settled() -> Sandbox {
    let sandbox = Sandbox::empty();
    (0..FILES.len()).for_each(|file| apply(&sandbox, file, 0));
    std::thread::sleep(Duration::from_millis(30));
    assert!(made(&sandbox) > 10);
    assert_eq!(made(&sandbox), 0, "nothing changed");
    sandbox
}

#[test]
fn only_what_changed_is_read_and_compiled_again() {
    let sandbox = settled();
    let manifest = || std::fs::metadata(sandbox.path(".lake/manifest.json")).unwrap().modified().unwrap();
    let before = manifest();
    assert_eq!(made(&sandbox), 0);
    assert_eq!(manifest(), before, "the manifest is left alone");

    sandbox.write("models/gold/top.sql", "select customer from {{ ref('sums') }} where total > 1\n");
    std::thread::sleep(Duration::from_millis(30));
    // The text, its types, and the two records of what was written.
    assert!(made(&sandbox) <= 4);
    assert_ne!(manifest(), before);

    let (path, texts) = FILES[2];
    sandbox.write(path, format!("{{# why #}}\n{}", texts[0]));
    std::thread::sleep(Duration::from_millis(30));
    let by_macro = made(&sandbox);
    assert!((1..=5).contains(&by_macro), "only the one model that reaches the macro: {by_macro}");
}

#[test]
fn a_damaged_memory_is_no_memory() {
    let sandbox = settled();
    let path = sandbox.path(".lake/memo");
    let mut bytes = std::fs::read(&path).unwrap();
    for at in (0..bytes.len()).step_by(97) {
        bytes[at] ^= 0x5a;
    }
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(compile(&sandbox, 0), cold(&sandbox, 0));
    assert!(sandbox.lake(&["build"]).code < 2);
}
