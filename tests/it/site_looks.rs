//! What stands beside the text of a page, and what pages say of promises, ages and rows.

use std::time::Duration;

use serde_json::{Value, json};

use crate::sandbox::Sandbox;
use crate::site::{browse, generate, sample};

#[test]
fn a_page_has_a_catalogue_themes_charts_and_both_kinds_of_sql() {
    let sandbox = sample();
    // Another version, and profiles with all that they can have.
    let settings = std::fs::read_to_string(sandbox.path("project.yml")).unwrap();
    sandbox.write("project.yml", settings.replace("silver: {", "silver: { profile: full,"));
    sandbox.write(
        "data/bronze/views/later.csv",
        "timestamp,user_id,platform,course_id,chapter_id\n2026-04-01 09:00:00,u1,web,2,1\n",
    );
    sandbox.lake(&["build"]);
    generate(&sandbox);
    let Some(seen) = browse(&sandbox, "look", &json!("#/model/silver.views")) else { return };
    assert!(seen["themes"][0] != seen["themes"][1] && seen["themes"][0] == seen["themes"][2], "{seen}");
    let tree = |at: usize| seen["tree"][at].as_str().unwrap();
    for name in ["bronze", "silver", "gold", "views", "course_progress", "weekly"] {
        assert!(tree(0).contains(name), "{name}: {}", tree(0));
    }
    assert!(tree(1).contains("course_progress") && !tree(1).contains("users_platforms"), "{}", tree(1));
    let charts: Vec<&str> = seen["charts"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    // Of a profile: the most common values, and quantiles. Of versions: how many rows each has.
    for chart in ["web: ", "median ", "Rows: from 19,628 at version 0"] {
        assert!(charts.iter().any(|label| label.contains(chart)), "{chart}: {charts:#?}");
    }
    let sql = |name: &str| seen["sql"][name].as_str().unwrap();
    assert!(sql("Template").contains("{{ source('bronze', 'views') }}"), "{}", sql("Template"));
    assert!(
        !sql("Compiled").contains("{{") && sql("Compiled").contains("from \"bronze\".\"views\""),
        "{}",
        sql("Compiled")
    );
}

#[test]
fn promises_ages_and_failing_rows_are_shown() {
    let sandbox = Sandbox::new(&[
        (
            "sources.yml",
            "sources:\n  - name: raw\n    tables:\n      - name: orders\n        path: in/\n        format: csv\n\
             \x20       columns: [{ name: id, data_type: bigint }, { name: state, data_type: varchar }]\n\
             \x20       freshness: { warn_after: { count: 1, period: hour }, error_after: { count: 30, period: day } }\n",
        ),
        ("in/1.csv", "id,state\n1,paid\n2,lost\n"),
        (
            "models/silver/orders.sql",
            "{{ config(materialized='table', contract={'enforced': true}) }}\nselect id, state from {{ source('raw', 'orders') }}\n",
        ),
        (
            "models/silver/orders.yml",
            "models:\n  - name: orders\n    columns:\n      - { name: id, data_type: bigint, constraints: [{ type: not_null }] }\n\
             \x20     - { name: state, data_type: varchar, data_tests: [{ accepted_values: { name: states, values: [paid], severity: warn } }] }\n",
        ),
    ]);
    let aged = std::time::SystemTime::now() - Duration::from_secs(3 * 86_400);
    std::fs::File::options().write(true).open(sandbox.path("in/1.csv")).unwrap().set_modified(aged).unwrap();
    sandbox.ok(&["build"]);
    sandbox.lake(&["source", "freshness"]);
    generate(&sandbox);
    let pages = ["#/model/silver.orders", "#/source/raw.orders", "#/health", "#/quality/states"];
    let Some(seen) = browse(&sandbox, "pages", &json!(pages)) else { return };
    let wanted: [&[&str]; 4] = [
        &["contract enforced", "not null"],
        &["Freshness", "warn"],
        &["Warns after", "1 h", "warn"],
        &["lost", "orders.yml"],
    ];
    for (page, texts) in pages.iter().zip(wanted) {
        let text = seen[*page]["text"].as_str().unwrap();
        texts
            .iter()
            .for_each(|part| assert!(text.to_lowercase().contains(&part.to_lowercase()), "{page}: {part}:\n{text}"));
    }
}
