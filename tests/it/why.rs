//! What a run would do and why: `lake build --dry-run`, `lake why`, and the reasons of a build.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::sandbox::{Random, Sandbox, node};

const PROJECT: &str = "name: sandbox\ntargets: { dev: { root: lake } }\nvars: { least: 0 }\n";

const SOURCES: &str = "sources:\n  - name: raw\n    tables:\n      - name: orders\n        path: in/orders/\n        format: csv\n        columns:\n\
    \x20         - { name: id, data_type: bigint }\n          - { name: amount, data_type: double }\n";

/// Orders that are added, a view of them, two tables above it.
fn lake() -> Sandbox {
    Sandbox::new(&[
        ("project.yml", PROJECT),
        ("sources.yml", SOURCES),
        ("macros/cents.sql", "{% macro cents(x) %}cast({{ x }} * 100 as bigint){% endmacro %}"),
        (
            "models/silver/orders.sql",
            "{{ config(materialized='incremental', incremental_strategy='append') }}\nselect id, amount\nfrom {{ source('raw', 'orders') }}\n",
        ),
        ("models/silver/paid.sql", "select * from {{ ref('orders') }}\nwhere amount > {{ var('least') }}\n"),
        (
            "models/gold/total.sql",
            "{{ config(materialized='table') }}\nselect\n  sum({{ cents('amount') }}) as cents\nfrom {{ ref('paid') }}\n",
        ),
        ("models/gold/ids.sql", "{{ config(materialized='table') }}\nselect distinct id from {{ ref('orders') }}\n"),
        ("in/orders/1.csv", "id,amount\n1,1.5\n2,2\n"),
    ])
}

fn plans(sandbox: &Sandbox) -> BTreeMap<String, (String, String)> {
    let told = sandbox.json(&["build", "--dry-run"]);
    let of = |planned: &Value| {
        let text = |key: &str| planned[key].as_str().unwrap().to_owned();
        (text("name"), (text("plan"), text("reason")))
    };
    told["plan"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn a_dry_run_says_what_a_run_does_and_writes_nothing() {
    let sandbox = lake();
    let first = plans(&sandbox);
    assert_eq!(first["silver.orders"], ("build".to_owned(), "first build".to_owned()));
    assert_eq!(first["gold.total"].0, "build");
    assert_eq!(first["silver.paid"].0, "view");
    assert!(!sandbox.path("lake").exists(), "nothing was written");
    sandbox.ok(&["build"]);
    assert!(plans(&sandbox).values().all(|(plan, _)| plan == "skip" || plan == "view"));
    sandbox.write("in/orders/2.csv", "id,amount\n3,1\n");
    let told = sandbox.json(&["build", "--dry-run"]);
    let orders = told["plan"].as_array().unwrap().iter().find(|planned| planned["name"] == "silver.orders").unwrap();
    assert_eq!((&orders["plan"], &orders["how"]), (&json!("build"), &json!("incremental")));
    assert_eq!(orders["reads"][0], json!({"name": "raw.orders", "files": 1, "bytes": 14, "paths": ["2.csv"]}));
    let found = plans(&sandbox);
    assert_eq!(found["gold.total"], ("maybe".to_owned(), "if silver.orders changes".to_owned()));
    let text = sandbox.ok(&["build", "--dry-run"]);
    assert!(text.contains("build  silver.orders") && text.contains("reads raw.orders (1 file, 14 bytes)"), "{text}");
    assert_eq!(sandbox.value("select count(*) as n from silver.orders"), 2);
}

#[test]
fn a_build_says_what_changed_in_a_definition() {
    let sandbox = lake();
    sandbox.ok(&["build"]);
    let reason = |name: &str| node(&sandbox.json(&["build"]), name)["reason"].as_str().unwrap().to_owned();
    let total = std::fs::read_to_string(sandbox.path("models/gold/total.sql")).unwrap();
    sandbox.write("models/gold/total.sql", total.replace("  sum(", "  1 + sum("));
    assert_eq!(reason("gold.total"), "its definition changed: models/gold/total.sql:3");
    sandbox.write("macros/cents.sql", "{% macro cents(x) %}cast(round({{ x }} * 100) as bigint){% endmacro %}");
    assert!(reason("gold.total").starts_with("its definition changed: macro cents"));
    sandbox.write("project.yml", PROJECT.replace("least: 0", "least: 1"));
    assert!(reason("gold.total").starts_with("its definition changed: the view silver.paid"));
    sandbox
        .write("project.yml", PROJECT.replace("least: 0", "least: 1") + "models: { gold: { +unique_key: [cents] } }\n");
    sandbox.write(
        "models/gold/ids.sql",
        "{{ config(materialized='table', unique_key='id') }}\nselect distinct id from {{ ref('orders') }}\n",
    );
    let told = reason("gold.total");
    assert!(told.contains("setting unique_key"), "{told}");
    // A comment is no change.
    sandbox.write(
        "models/gold/ids.sql",
        "{{ config(materialized='table', unique_key='id') }}\n-- all\nselect distinct id from {{ ref('orders') }}\n",
    );
    assert!(reason("gold.ids").starts_with("unchanged"));
}

#[test]
fn why_tells_the_next_build_and_the_last() {
    let sandbox = lake();
    let first = sandbox.ok(&["why", "total"]);
    assert!(first.contains("gold.total  would be built (full): first build") && !first.contains("last run"), "{first}");
    sandbox.ok(&["build"]);
    let skipped = sandbox.ok(&["why", "gold.total"]);
    assert!(skipped.contains("would be skipped: unchanged: silver.orders is still at version 0"), "{skipped}");
    assert!(skipped.contains("success create  first build"), "{skipped}");
    sandbox.write("in/orders/2.csv", "id,amount\n3,1\n");
    let text = sandbox.ok(&["why", "orders"]);
    assert!(
        text.contains("would be built (incremental): new: 1 file in raw.orders") && text.contains("2.csv"),
        "{text}"
    );
    let chain = sandbox.ok(&["why", "total"]);
    assert!(chain.contains("if silver.orders changes\n    build silver.orders: new: 1 file in raw.orders"), "{chain}");
    let told = sandbox.json(&["why", "total"]);
    assert_eq!((&told["planned"]["plan"], &told["last_run"]["status"]), (&json!("maybe"), &json!("success")));
    assert_eq!(told["before"][0]["name"], "silver.orders");
    assert!(sandbox.ok(&["why", "paid"]).contains("has no table"));
    sandbox.lake(&["why", "raw.orders"]).assert_failed(2, "is a source");
    sandbox.lake(&["why", "totals"]).assert_failed(2, "did you mean `total`?");
}

#[test]
fn force_builds_what_is_unchanged_and_adds_nothing_twice() {
    let sandbox = lake();
    sandbox.ok(&["build"]);
    let report = sandbox.json(&["build", "--force"]);
    assert_eq!(node(&report, "gold.ids")["action"], "unchanged");
    assert_eq!(node(&report, "gold.ids")["reason"], "forced; its rows are what they were");
    assert_eq!(node(&report, "silver.orders")["status"], "skipped");
    assert_eq!(sandbox.value("select count(*) as n from silver.orders"), 2);
}

/// Whatever is edited and delivered: what is foreseen takes place.
#[test]
fn what_is_foreseen_takes_place() {
    let mut random = Random(5);
    let sandbox = lake();
    sandbox.ok(&["build"]);
    for round in 0..12 {
        match random.below(6) {
            0 => sandbox.write(&format!("in/orders/{}.csv", 10 + round), format!("id,amount\n{round},{round}\n")),
            1 => sandbox.write("project.yml", PROJECT.replace("least: 0", &format!("least: {}", random.below(3)))),
            2 => sandbox.write(
                "models/gold/ids.sql",
                format!("{{{{ config(materialized='table') }}}}\nselect distinct id + {} as id from {{{{ ref('orders') }}}}\n", random.below(2)),
            ),
            3 => sandbox.write("models/silver/paid.sql", format!("select * from {{{{ ref('orders') }}}} where amount > {{{{ var('least') }}}} - {}\n", random.below(2))),
            _ => {}
        }
        let foreseen = plans(&sandbox);
        let report = sandbox.json(&["build"]);
        for (name, (plan, why)) in foreseen {
            let (status, reason) = (&node(&report, &name)["status"], &node(&report, &name)["reason"]);
            let expected: &[&str] = match plan.as_str() {
                "build" => &["success"],
                "skip" => &["skipped"],
                "maybe" => &["success", "skipped"],
                _ => continue,
            };
            assert!(expected.iter().any(|word| status == word), "{round}: {name} {plan} ({why}): {status} ({reason})");
        }
    }
}
