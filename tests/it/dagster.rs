//! `deploy/dagster/definitions.py`: a real Dagster makes assets and checks of a project, and of a run.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::reader::{python_venv, run};
use crate::sandbox::Sandbox;

fn python() -> Option<PathBuf> {
    match python_venv("dagster-venv", &["dagster==1.13.29"]) {
        Ok(venv) => Some(venv.join("bin/python")),
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "no Dagster: {why}");
            eprintln!("skipped: no Dagster: {why}");
            None
        }
    }
}

fn project() -> Sandbox {
    let sandbox = Sandbox::new(&[
        (
            "sources.yml",
            "sources:\n  - { name: raw, root: in, tables: [{ name: orders, path: orders/, format: csv, columns: [{ name: id, data_type: bigint }, { name: amount, data_type: double }] }] }\n",
        ),
        (
            "models/models.yml",
            "models:
  - name: orders
    description: One row an order
    columns:
      - { name: id, data_tests: [not_null, unique] }
      - { name: amount, data_tests: [{ not_null: { severity: warn } }] }
unit_tests:
  - name: totals_add_up
    model: total
    given: [{ input: ref('orders'), rows: [{ id: 1, amount: 2 }, { id: 2, amount: 3 }] }]
    expect: { rows: [{ total: 5 }] }
",
        ),
        (
            "models/silver/orders.sql",
            "{{ config(materialized='table') }} select id, amount from {{ source('raw', 'orders') }}",
        ),
        (
            "models/silver/known.sql",
            "{{ config(materialized='ephemeral') }} select * from {{ ref('orders') }} where amount is not null",
        ),
        (
            "models/gold/total.sql",
            "{{ config(materialized='table') }} select sum(amount) as total from {{ ref('known') }}",
        ),
        ("tests/total_is_positive.sql", "select total from {{ ref('total') }} where total <= 0"),
    ]);
    sandbox.write("models/gold/total.sql", "{{ config(materialized='table') }} select sum(amount) as total from {{ ref('orders') }} where amount is not null");
    sandbox.write(
        "models/gold/more.sql",
        "{{ config(materialized='table') }} select count(*) as n from {{ ref('known') }}",
    );
    sandbox.write("in/orders/1.csv", "id,amount\n1,2\n2,\n");
    sandbox
}

/// Runs of these selections, as Dagster has noted them.
fn dagster(python: &Path, sandbox: &Sandbox, selections: &[Value]) -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(python);
    command.arg(root.join("tests/it/dagster/materialize.py")).arg(root.join("deploy/dagster/definitions.py"));
    command.args(selections.iter().map(Value::to_string));
    command.env("LAKE_PROJECT_DIR", sandbox.path("")).env("LAKE_COMMAND", env!("CARGO_BIN_EXE_lake"));
    command
        .env("DAGSTER_HOME", sandbox.path(""))
        .env("DAGSTER_DISABLE_TELEMETRY", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let text = run(&mut command).unwrap_or_else(|why| panic!("{why}"));
    let line = text.lines().find_map(|line| line.strip_prefix("RESULT ")).unwrap_or_else(|| panic!("{text}"));
    serde_json::from_str(line).unwrap()
}

#[test]
fn models_are_assets_and_tests_are_checks() {
    let Some(python) = python() else { return };
    let sandbox = project();
    let found = dagster(&python, &sandbox, &[json!(null), json!(null), json!(["gold/total"])]);
    assert_eq!(
        found["assets"],
        json!({
            "silver/orders": { "deps": ["raw/orders"], "group": "silver", "doc": "One row an order" },
            "gold/total": { "deps": ["silver/orders"], "group": "gold", "doc": null },
            "gold/more": { "deps": ["silver/orders"], "group": "gold", "doc": null },
            "raw/orders": { "deps": [], "group": null, "doc": null },
        })
    );
    let first = &found["runs"][0];
    assert_eq!(
        *first,
        json!({
            "success": true,
            "assets": {
                "silver/orders": { "version": "0", "rows": 2 },
                "gold/total": { "version": "0", "rows": 1 },
                "gold/more": { "version": "0", "rows": 1 },
            },
            "checks": {
                "silver/orders not_null_orders_id": ["passed", "ERROR"],
                "silver/orders unique_orders_id": ["passed", "ERROR"],
                "silver/orders not_null_orders_amount": ["failed", "WARN"],
                "gold/total totals_add_up": ["passed", "ERROR"],
                "gold/total total_is_positive": ["passed", "ERROR"],
            },
        })
    );
    // Nothing new: the versions are the same, so nothing is stale.
    assert_eq!(found["runs"][1]["assets"]["silver/orders"]["version"], "0", "{found}");
    assert_eq!(found["runs"][2]["success"], true);
    let only: Vec<&String> = found["runs"][2]["assets"].as_object().unwrap().keys().collect();
    assert_eq!(only, ["gold/total"]);
}

#[test]
fn a_test_that_fails_is_a_check_that_failed() {
    let Some(python) = python() else { return };
    let sandbox = project();
    sandbox.write("in/orders/2.csv", "id,amount\n1,5\n");
    let found = dagster(&python, &sandbox, &[json!(null)]);
    let run = &found["runs"][0];
    assert_eq!(run["success"], false);
    assert_eq!(run["checks"]["silver/orders unique_orders_id"], json!(["failed", "ERROR"]), "{run}");
    assert_eq!(run["checks"]["silver/orders not_null_orders_id"], json!(["passed", "ERROR"]), "{run}");
    assert_eq!(run["assets"], json!({}), "nothing was published");
}
