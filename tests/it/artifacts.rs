//! What others read of `.lake/`: valid by the schemas that dbt publishes, and read by programs that read dbt's.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::reader::{python_venv, run};
use crate::sandbox::Sandbox;

/// dbt writes its schemas from these classes; the parser is what other programs read artifacts with.
const PACKAGES: [&str; 4] =
    ["dbt-core==1.11.16", "dbt-artifacts-parser==0.15.0", "jsonschema==4.26.0", "openlineage-python==1.54.0"];

/// Validates files of a folder by dbt's schemas, reads them as others do, and prints what it found.
const SCRIPT: &str = include_str!("artifacts/check_artifacts.py");

pub fn python() -> Option<PathBuf> {
    match python_venv("artifacts-venv", &PACKAGES) {
        Ok(venv) => Some(venv.join("bin/python")),
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "no Python with dbt's schemas: {why}");
            eprintln!("skipped: no Python with dbt's schemas: {why}");
            None
        }
    }
}

/// What the readers found in these files of `.lake/`, or their complaint.
fn read(python: &PathBuf, sandbox: &Sandbox, files: &[&str]) -> Result<Value, String> {
    let text = run(Command::new(python).args(["-c", SCRIPT]).arg(sandbox.path(".lake")).args(files))?;
    Ok(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

const PROJECT: &str = "name: shop
targets:
  dev: { root: lake }
vars: { least: 1 }
on-run-start: [\"select 1\", { command: \"true\" }]
on-run-end: [\"select 2\"]
models:
  silver: { tags: [silver] }
";

const SOURCES: &str = "sources:
  - name: raw
    root: in
    tables:
      - name: orders
        path: orders/
        format: csv
        description: As they come
        tags: [daily]
        freshness: { warn_after: { count: 1, period: day }, error_after: { count: 30, period: day } }
        columns:
          - { name: id, data_type: bigint, data_tests: [not_null] }
          - { name: customer, data_type: varchar, meta: { sensitive: true } }
          - { name: amount, data_type: double }
          - { name: at, data_type: timestamp }
      - name: empty
        path: empty/
        format: csv
        freshness: { warn_after: { count: 1, period: hour } }
        columns: [{ name: id, data_type: bigint }]
";

const PROPERTIES: &str = "groups:
  - name: sales
    owner: { name: Sales, email: sales@shop.example }
models:
  - name: orders
    description: |
      One row an *order*.
    config:
      contract: { enforced: true }
      group: sales
      access: public
      meta: { cost: low }
      owner: ann
      pre_hook: \"select 3\"
    columns:
      - { name: id, data_type: bigint, description: Its number, constraints: [{ type: not_null }, { type: unique }] }
      - { name: customer, data_type: varchar, meta: { sensitive: true } }
      - name: amount
        data_type: double
        constraints: [{ type: check, expression: amount > -1000 }]
        data_tests:
          - is_even: { severity: warn, description: Cents are even }
          - accepted_values: { values: [10, 20], quote: false, severity: warn, where: id < 3, warn_if: '> 100', tags: [nightly] }
      - { name: at, data_type: timestamp }
  - name: sums
    data_tests:
      - relationships: { column_name: customer, to: ref('orders'), field: customer }
      - unique_combination_of_columns: { combination_of_columns: [customer, total] }
seeds:
  - name: regions
    description: Where customers are
exposures:
  - name: weekly
    type: dashboard
    label: Every week
    url: https://shop.example/weekly
    maturity: high
    owner: { email: ann@shop.example }
    depends_on: [ref('sums'), \"source('raw', 'orders')\"]
unit_tests:
  - name: sums_add_up
    model: sums
    description: Two of one customer
    given:
      - input: ref('orders')
        rows: [{ id: 1, customer: a, amount: 2 }, { id: 2, customer: a, amount: 3 }]
    expect: { rows: [{ customer: a, total: 5 }] }
  - name: half_halves
    macro: half
    cases:
      - { args: ['4'], expect: 2 }
";

pub fn shop() -> Sandbox {
    let sandbox = Sandbox::new(&[
        ("project.yml", PROJECT),
        ("sources.yml", SOURCES),
        (
            "models/silver/orders.sql",
            "{{ config(materialized='incremental', unique_key='id', partition_by=['customer']) }}\nselect id, customer, amount, at from {{ source('raw', 'orders') }}\n",
        ),
        (
            "models/silver/web/seen.sql",
            "{{ config(materialized='view') }} select id, {{ half('amount') }} as half from {{ ref('orders') }}\n",
        ),
        (
            "models/gold/sums.sql",
            "{{ config(materialized='table') }}\nselect customer, sum(amount) as total from {{ ref('orders') }} where amount > {{ var('least') }} group by customer\n",
        ),
        (
            "models/gold/kept.sql",
            "{{ config(materialized='scd2', unique_key='id', strategy='check', check_cols='all') }} select id, half from {{ ref('seen') }}\n",
        ),
        ("models/gold/once.sql", "{{ config(materialized='ephemeral') }} select * from {{ ref('regions') }}\n"),
        (
            "models/gold/where.sql",
            "{{ config(materialized='table') }} select o.id, r.name from {{ ref('orders') }} o cross join {{ ref('once') }} r\n",
        ),
        ("models/all.yml", PROPERTIES),
        ("seeds/regions.csv", "id,name\n1,north\n"),
        ("macros/money.sql", "{# cents #}\n{% macro half(x) %}({{ x }} / 2){% endmacro %}\n"),
        ("models/notes.md", "{% docs money %}In *euros*.{% enddocs %}\n"),
        ("tests/few.sql", "select * from {{ ref('sums') }} where total > 1000"),
        (
            "tests/generic/is_even.sql",
            "{% test is_even(model, column_name) %}select * from {{ model }} where {{ column_name }} % 2 = 1{% endtest %}",
        ),
        (
            "selectors.yml",
            "selectors:\n  - name: nightly\n    description: At night\n    definition:\n      union: [{ method: tag, value: silver, children: true }, 'gold.*']\n",
        ),
        ("in/orders/1.csv", "id,customer,amount,at\n1,a,10,2026-01-01T00:00:00\n2,b,21,2026-01-02T00:00:00\n"),
    ]);
    std::fs::create_dir_all(sandbox.path("in/empty")).unwrap();
    sandbox
}

#[test]
fn every_artifact_is_valid_by_the_schemas_of_dbt() {
    let Some(python) = python() else { return };
    let sandbox = shop();
    let built = sandbox.lake(&["build"]);
    assert_eq!(built.code, 0, "{}{}", built.stdout, built.stderr);
    sandbox.ok(&["docs", "generate"]);
    sandbox.lake(&["source", "freshness"]);
    let found = read(&python, &sandbox, &["manifest", "run_results", "catalog", "sources"])
        .unwrap_or_else(|why| panic!("{why}"));
    let statuses = &found["run_results"];
    assert_eq!(statuses["model.shop.orders"], "success", "{statuses}");
    assert_eq!(statuses["seed.shop.regions"], "success");
    assert_eq!(statuses["operation.shop.shop-on-run-start-1"], "success");
    assert_eq!(statuses["unit_test.shop.sums.sums_add_up"], "pass");
    assert_eq!(statuses["unit_test.shop.half.half_halves"], "pass");
    assert_eq!(statuses["test.shop.few"], "pass");
    let of = |test: &str| {
        let by_id = statuses.as_object().unwrap();
        by_id
            .iter()
            .find(|(id, _)| id.starts_with(&format!("test.shop.{test}.")))
            .unwrap_or_else(|| panic!("{test}: {statuses}"))
            .1
    };
    assert_eq!((of("is_even_orders_amount"), of("contract_not_null_orders_id")), (&json!("warn"), &json!("pass")));
    assert_eq!(found["sources"], json!({"source.shop.raw.empty": "error", "source.shop.raw.orders": "pass"}));
    assert_eq!(
        found["catalog"]["model.shop.sums"],
        json!({"type": "table", "columns": ["customer", "total"], "rows": 2})
    );
    assert_eq!(found["catalog"]["source.shop.raw.orders"]["type"], "external");
    assert_eq!(found["catalog"]["model.shop.seen"], json!({"type": "view", "columns": ["id", "half"], "rows": null}));
    let parents = &found["parents"];
    assert_eq!(parents["model.shop.sums"], json!(["model.shop.orders"]));
    assert_eq!(parents["exposure.shop.weekly"], json!(["model.shop.sums", "source.shop.raw.orders"]));
    assert_eq!(parents["unit_test.shop.sums.sums_add_up"], json!(["model.shop.sums"]));

    // Nothing to do, and something that fails: dbt's words for both.
    sandbox.ok(&["build"]);
    let found = read(&python, &sandbox, &["manifest", "run_results"]).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(found["run_results"]["model.shop.sums"], "no-op", "{found}");
    sandbox.write("in/orders/2.csv", "id,customer,amount,at\n3,c,-5000,2026-01-02T00:00:00\n");
    assert_eq!(sandbox.lake(&["build"]).code, 1);
    let found = read(&python, &sandbox, &["run_results"]).unwrap_or_else(|why| panic!("{why}"));
    let statuses = &found["run_results"];
    assert_eq!((&statuses["model.shop.orders"], &statuses["model.shop.sums"]), (&json!("error"), &json!("skipped")));
}

#[test]
fn entries_of_the_manifest_say_what_dbt_says() {
    let sandbox = shop();
    sandbox.ok(&["compile"]);
    let manifest: Value = serde_json::from_slice(&std::fs::read(sandbox.path(".lake/manifest.json")).unwrap()).unwrap();
    let orders = &manifest["nodes"]["model.shop.orders"];
    let expected = json!({
        "schema": "silver", "name": "orders", "resource_type": "model", "package_name": "shop",
        "path": "silver/orders.sql", "original_file_path": "models/silver/orders.sql",
        "fqn": ["shop", "silver", "orders"], "patch_path": "shop://models/all.yml", "access": "public",
        "relation_name": "\"silver\".\"orders\"", "group": "sales", "tags": ["silver"], "meta": {"cost": "low"},
        "sources": [["raw", "orders"]], "refs": [], "primary_key": ["id"],
        "depends_on": {"macros": [], "nodes": ["source.shop.raw.orders"]},
        "description": "One row an *order*.\n",
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(orders[key], *value, "{key}");
    }
    assert_eq!(orders["config"]["pre-hook"][0]["sql"], "select 3");
    assert_eq!(orders["config"]["contract"]["enforced"], true);
    assert_eq!(orders["columns"]["id"]["data_type"], "bigint");
    assert_eq!(orders["columns"]["customer"]["meta"], json!({"sensitive": true}));
    assert_eq!(orders["columns"]["amount"]["constraints"][0]["expression"], "amount > -1000");
    assert_eq!(manifest["nodes"]["model.shop.seen"]["fqn"], json!(["shop", "silver", "web", "seen"]));
    assert_eq!(manifest["nodes"]["model.shop.seen"]["depends_on"]["macros"], json!(["macro.shop.half"]));
    assert_eq!(manifest["macros"]["macro.shop.half"]["macro_sql"], "{% macro half(x) %}({{ x }} / 2){% endmacro %}");
    assert_eq!(manifest["docs"]["doc.shop.money"]["block_contents"], "In *euros*.");
    assert!(manifest["docs"]["doc.dbt.__overview__"]["block_contents"].is_string(), "the first page of dbt's site");
    assert_eq!(manifest["group_map"]["sales"], json!(["model.shop.orders"]));
    assert_eq!(manifest["sources"]["source.shop.raw.orders"]["freshness"]["error_after"]["period"], "day");
    let tests: Vec<&Value> =
        manifest["nodes"].as_object().unwrap().values().filter(|n| n["resource_type"] == "test").collect();
    let values = tests.iter().find(|test| test["test_metadata"]["name"] == "accepted_values").unwrap();
    assert_eq!(values["test_metadata"]["kwargs"]["values"], json!([10, 20]));
    assert_eq!((&values["config"]["where"], &values["config"]["warn_if"]), (&json!("id < 3"), &json!("> 100")));
    assert_eq!((&values["attached_node"], &values["column_name"]), (&json!("model.shop.orders"), &json!("amount")));
    let below = manifest["child_map"]["model.shop.sums"].as_array().unwrap();
    assert!(below.contains(&json!("exposure.shop.weekly")) && below.contains(&json!("test.shop.few")), "{below:?}");
}

#[test]
fn the_check_refuses_what_dbt_would_not_write() {
    let Some(python) = python() else { return };
    let sandbox = shop();
    sandbox.ok(&["compile"]);
    let path = sandbox.path(".lake/manifest.json");
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    manifest["nodes"]["model.shop.sums"]["colour"] = json!("green");
    std::fs::write(&path, manifest.to_string()).unwrap();
    let why = read(&python, &sandbox, &["manifest"]).unwrap_err();
    assert!(why.contains("model.shop.sums"), "{why}");
}
