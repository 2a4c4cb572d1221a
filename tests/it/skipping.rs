//! Whatever is edited, delivered, packed or written by others: a lake that builds what has to be built holds what one holds
//! that is built from nothing.

use std::process::Command;

use serde_json::Value;

use crate::reader;
use crate::sandbox::{Random, Sandbox};

const PROJECT: &str = "name: sandbox\ntarget: dev\ntargets:\n  dev: { root: lake }\n  fresh: { root: fresh }\nvars: { least: LEAST }\nmodels: { +materialized: table }\n";

const SOURCES: &str = "sources:\n  - name: raw\n    tables:\n      - name: orders\n        path: in/orders/\n        format: csv\n        columns:\n\
    \x20         - { name: id, data_type: bigint }\n          - { name: amount, data_type: bigint }\n          - { name: town, data_type: varchar }\n";

/// Another engine changes a table behind the back of the lake.
const FOREIGN: &str = r#"
import os, sys
from deltalake import DeltaTable
path, what = sys.argv[1:3]
table = DeltaTable(path)
if what == "delete":
    table.delete("id % 2 = 0")
else:
    table.optimize.compact()
os._exit(0)
"#;

const MODELS: [&str; 5] = ["silver.orders", "gold.towns", "gold.large", "gold.both", "gold.last"];

/// The query of a model, in one of its variants.
fn sql(model: &str, variant: u64) -> String {
    match (model, variant) {
        ("silver/orders", 0) => "select id, amount, town from {{ source('raw', 'orders') }}".to_owned(),
        ("silver/orders", 1) => "-- the same\nselect id, amount, town\nfrom {{ source('raw', 'orders') }}".to_owned(),
        ("silver/orders", _) => "select id, abs(amount) as amount, town from {{ source('raw', 'orders') }}".to_owned(),
        ("silver/seen", _) => {
            format!(
                "{{{{ config(materialized='view') }}}} select id, amount + {variant} as amount, town from {{{{ ref('orders') }}}}"
            )
        }
        ("gold/towns", 0) => {
            "with t as (select town, id from {{ ref('orders') }}) select distinct town from t".to_owned()
        }
        ("gold/towns", _) => "select town from {{ ref('orders') }} group by town".to_owned(),
        ("gold/large", _) => format!(
            "select id, {{{{ twice('amount') }}}} as amount from {{{{ ref('seen') }}}} where amount > {{{{ var('least') }}}} + {variant}"
        ),
        ("gold/both", _) => format!(
            "select town as what, 0 as n from {{{{ ref('towns') }}}} union all select cast(count(*) as varchar), {variant} \
             from {{{{ ref('large') }}}} where id in (select id from {{{{ ref('orders') }}}})"
        ),
        ("gold/last", _) => "select max(n) as n, count(*) as rows from {{ ref('both') }}".to_owned(),
        other => unreachable!("{other:?}"),
    }
}

fn lake() -> Sandbox {
    let sandbox = Sandbox::new(&[
        ("project.yml", &PROJECT.replace("LEAST", "0")),
        ("sources.yml", SOURCES),
        ("macros/twice.sql", "{% macro twice(x) %}{{ x }} * 2{% endmacro %}"),
        ("in/orders/0.csv", "id,amount,town\n1,5,Bonn\n2,-7,Ulm\n3,,Bonn\n"),
    ]);
    for model in ["silver/orders", "silver/seen", "gold/towns", "gold/large", "gold/both", "gold/last"] {
        sandbox.write(&format!("models/{model}.sql"), sql(model, 0));
    }
    sandbox
}

fn rows(sandbox: &Sandbox, target: &str) -> Vec<Vec<String>> {
    let of = |model: &&str| {
        let shown = sandbox.json(&["show", "-t", target, "--limit", "0", model]);
        let mut rows: Vec<String> = shown.as_array().unwrap().iter().map(Value::to_string).collect();
        rows.sort();
        rows
    };
    MODELS.iter().map(of).collect()
}

fn disturb(sandbox: &Sandbox, random: &mut Random, python: Option<&std::path::Path>) -> String {
    let file = random.below(3);
    let path = format!("in/orders/{file}.csv");
    match random.below(9) {
        0 | 1 => {
            let rows: String = (0..random.below(5))
                .map(|_| {
                    format!("{},{},{}\n", random.below(9), random.below(20), ["Bonn", "Ulm"][random.below(2) as usize])
                })
                .collect();
            sandbox.write(&path, format!("id,amount,town\n{rows}"));
            format!("{path} = {rows:?}")
        }
        2 if sandbox.path(&path).exists() && file > 0 => {
            std::fs::remove_file(sandbox.path(&path)).unwrap();
            format!("{path} is gone")
        }
        3 | 4 => {
            let model =
                ["silver/orders", "silver/seen", "gold/towns", "gold/large", "gold/both"][random.below(5) as usize];
            let variant = random.below(3);
            sandbox.write(&format!("models/{model}.sql"), sql(model, variant));
            format!("{model} in variant {variant}")
        }
        5 => {
            let least = random.below(8);
            sandbox.write("project.yml", PROJECT.replace("LEAST", &least.to_string()));
            format!("least = {least}")
        }
        6 => {
            let factor = 2 + random.below(2);
            sandbox.write("macros/twice.sql", format!("{{% macro twice(x) %}}{{{{ x }}}} * {factor}{{% endmacro %}}"));
            format!("twice is {factor} times")
        }
        7 => {
            sandbox.ok(&["maintain"]);
            "maintained".to_owned()
        }
        _ => {
            let Some(python) = python else { return "nothing".to_owned() };
            let (model, what) = (
                ["silver/orders", "gold/large"][random.below(2) as usize],
                ["delete", "compact"][random.below(2) as usize],
            );
            let done = Command::new(python)
                .args(["-c", FOREIGN])
                .arg(sandbox.path(&format!("lake/{model}")))
                .arg(what)
                .status();
            assert!(done.unwrap().success());
            format!("another engine: {what} in {model}")
        }
    }
}

#[test]
fn a_build_that_skips_equals_a_build_from_nothing() {
    let rounds: u64 = std::env::var("LAKE_SOAK_ROUNDS").map_or(10, |count| count.parse().unwrap());
    let (mut random, python) = (Random(23), reader::python());
    let sandbox = lake();
    sandbox.ok(&["build"]);
    let (mut skipped, mut unchanged, mut log) = (0, 0, Vec::new());
    for _ in 0..rounds {
        for _ in 0..=random.below(2) {
            log.push(disturb(&sandbox, &mut random, python.as_deref()));
        }
        let report = sandbox.json(&["build"]);
        let nodes = report["nodes"].as_array().unwrap();
        skipped += nodes.iter().filter(|node| node["status"] == "skipped").count();
        unchanged += nodes.iter().filter(|node| node["action"] == "unchanged").count();
        let _ = std::fs::remove_dir_all(sandbox.path("fresh"));
        sandbox.ok(&["build", "-t", "fresh"]);
        assert_eq!(rows(&sandbox, "dev"), rows(&sandbox, "fresh"), "after {log:#?}");
        let again = sandbox.json(&["build"]);
        let idle = |node: &Value| node["status"] == "skipped" || node["action"] == "view";
        assert!(again["nodes"].as_array().unwrap().iter().all(idle), "after {log:#?}: {again:#}");
    }
    assert!(skipped > 0 && (rounds < 10 || unchanged > 0), "{skipped} skipped, {unchanged} unchanged: {log:#?}");
}
