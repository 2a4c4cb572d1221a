//! `--select` and `--exclude`: names, methods, neighbours, unions and intersections.

use std::collections::BTreeSet;

use crate::sandbox::Sandbox;

/// `bronze.in` and `bronze.other` -> `silver.base` and `silver.side` -> `gold.mid` -> `gold.top`, `gold.leaf`.
fn project() -> Sandbox {
    let sources = "sources:
  - name: bronze
    tables:
      - { name: in, path: in, format: csv, tags: [raw], columns: [{ name: id, data_type: bigint }] }
      - { name: other, path: other, format: csv, columns: [{ name: id, data_type: bigint }] }
";
    let yaml = "models:
  - name: top
    config: { tags: [daily, finance] }
    columns: [{ name: id, data_tests: [not_null: { name: top_filled }] }]
";
    Sandbox::new(&[
        ("sources.yml", sources),
        ("models/silver/base.sql", "select id from {{ source('bronze', 'in') }}"),
        ("models/silver/side.sql", "{{ config(tags='daily') }} select id from {{ source('bronze', 'other') }}"),
        ("models/gold/mid.sql", "select b.id from {{ ref('base') }} b join {{ ref('side') }} s on b.id = s.id"),
        ("models/gold/top.sql", "{{ config(materialized='table') }} select id from {{ ref('mid') }}"),
        ("models/gold/reports/leaf.sql", "{{ config(materialized='incremental') }} select id from {{ ref('mid') }}"),
        ("models/gold/models.yml", yaml),
    ])
}

/// The models and sources that `ls` lists.
#[track_caller]
fn listed(sandbox: &Sandbox, args: &[&str]) -> BTreeSet<String> {
    let list = sandbox.json(&[&["ls"], args].concat());
    let nodes = list.as_array().unwrap_or_else(|| panic!("{list}")).iter();
    nodes.filter(|node| node["resource_type"] != "test").map(|node| node["name"].as_str().unwrap().to_owned()).collect()
}

/// Each selector lists exactly these nodes, in any order.
#[track_caller]
fn assert_selects(cases: &[(&str, &str)]) {
    let sandbox = project();
    for (selector, expected) in cases {
        let expected: BTreeSet<String> = expected.split_whitespace().map(str::to_owned).collect();
        assert_eq!(listed(&sandbox, &["--select", selector]), expected, "{selector}");
    }
}

#[test]
fn everything_is_selected_unless_something_is_named() {
    let all = "bronze.in bronze.other silver.base silver.side gold.mid gold.top gold.leaf";
    let all: BTreeSet<String> = all.split_whitespace().map(str::to_owned).collect();
    assert_eq!(listed(&project(), &[]), all);
}

#[test]
fn names_are_short_or_full_or_patterns() {
    assert_selects(&[
        ("base", "silver.base"),
        ("silver.base", "silver.base"),
        ("silver", "silver.base silver.side"),
        ("silver.*", "silver.base silver.side"),
        ("*id*", "gold.mid silver.side"),
        ("[st]?d?", "silver.side"),
    ]);
}

#[test]
fn a_pattern_for_names_does_not_mean_the_folder_of_all_models() {
    assert_selects(&[
        ("m*", "gold.mid"),
        ("*.top", "gold.top"),
        ("*l*", "silver.base silver.side gold.mid gold.top gold.leaf"),
    ]);
}

#[test]
fn methods_look_at_tags_paths_sources_and_settings() {
    assert_selects(&[
        ("tag:daily", "silver.side gold.top"),
        ("tag:fin*", "gold.top"),
        ("tag:raw", "bronze.in"),
        ("path:models/gold", "gold.mid gold.top gold.leaf"),
        ("path:models/gold/reports", "gold.leaf"),
        ("path:models/silver/base.sql", "silver.base"),
        ("models/silver/*.sql", "silver.base silver.side"),
        ("path:models/**/leaf.sql", "gold.leaf"),
        ("source:bronze.in", "bronze.in"),
        ("source:bronze", "bronze.in bronze.other"),
        ("source:bronze.other+", "bronze.other silver.side gold.mid gold.top gold.leaf"),
        ("config.materialized:table", "gold.top"),
        ("config.materialized:view", "silver.base silver.side gold.mid"),
        ("config.tags:finance", "gold.top"),
        ("resource_type:source", "bronze.in bronze.other"),
        ("file:leaf.sql", "gold.leaf"),
    ]);
}

#[test]
fn plus_and_at_widen_along_the_graph() {
    assert_selects(&[
        ("+mid", "bronze.in bronze.other silver.base silver.side gold.mid"),
        ("base+", "silver.base gold.mid gold.top gold.leaf"),
        ("1+top", "gold.mid gold.top"),
        ("2+top", "silver.base silver.side gold.mid gold.top"),
        ("base+1", "silver.base gold.mid"),
        ("1+mid+1", "silver.base silver.side gold.mid gold.top gold.leaf"),
        ("+base+", "bronze.in silver.base gold.mid gold.top gold.leaf"),
        ("@base", "bronze.in bronze.other silver.base silver.side gold.mid gold.top gold.leaf"),
        ("@top", "bronze.in bronze.other silver.base silver.side gold.mid gold.top"),
        ("+tag:daily", "bronze.in bronze.other silver.base silver.side gold.mid gold.top"),
    ]);
}

#[test]
fn spaces_unite_and_commas_intersect() {
    assert_selects(&[
        ("base top", "silver.base gold.top"),
        ("tag:daily,gold.*", "gold.top"),
        ("+top,silver", "silver.base silver.side"),
        ("tag:daily,silver base", "silver.side silver.base"),
        ("base,top", ""),
    ]);
    let sandbox = project();
    let expected = BTreeSet::from(["gold.top".to_owned(), "silver.base".to_owned()]);
    assert_eq!(listed(&sandbox, &["--select", "base", "top"]), expected);
    assert_eq!(listed(&sandbox, &["--select", "base", "--select", "top"]), expected);
}

#[test]
fn what_is_excluded_is_left_out() {
    let sandbox = project();
    let expected = BTreeSet::from(["gold.top".to_owned(), "gold.leaf".to_owned()]);
    assert_eq!(listed(&sandbox, &["--select", "base+", "--exclude", "base", "mid"]), expected);
    let models = listed(&sandbox, &["--exclude", "source:*", "config.materialized:view"]);
    assert_eq!(models, expected);
}

#[test]
fn a_test_is_listed_with_its_model_and_by_its_name() {
    let sandbox = project();
    assert_eq!(sandbox.ok(&["ls", "--select", "top"]), "gold.top\ntest:top_filled\n");
    assert_eq!(sandbox.ok(&["ls", "--select", "top_filled"]), "test:top_filled\n");
    assert_eq!(sandbox.ok(&["ls", "--select", "test_name:not_null"]), "test:top_filled\n");
    assert_eq!(sandbox.ok(&["ls", "--select", "base"]), "silver.base\n");
}

#[test]
fn a_selector_that_matches_nothing_is_a_mistake_with_a_suggestion() {
    let sandbox = project();
    for (selector, help) in [
        ("bas", "did you mean `base`?"),
        ("gold.tpo", "did you mean `gold.top`?"),
        ("tag:dialy", "did you mean `tag:daily`?"),
        ("bronze.in", "write `source:bronze.in`"),
        ("nothing_like_it", "`lake ls` lists all models"),
        ("base nothing_like_it", "`nothing_like_it` matches nothing"),
    ] {
        for command in ["ls", "build", "test"] {
            sandbox.lake(&[command, "--select", selector]).assert_failed(2, help);
        }
    }
    sandbox.lake(&["ls", "--exclude", "bas"]).assert_failed(2, "matches nothing");
    assert!(!sandbox.path("lake").exists());
}

#[test]
fn a_selector_that_does_not_parse_says_why() {
    let sandbox = project();
    for (selector, why) in [
        ("tags:daily", "did you mean `tag:`?"),
        ("whatever:x", "unknown selector method `whatever`"),
        ("config:table", "needs a key"),
        ("@base+", "mixes `@` with `+`"),
        ("tag:", "names nothing"),
        ("base,", "names nothing"),
        ("a[b", "is not a pattern"),
    ] {
        sandbox.lake(&["ls", "--select", selector]).assert_failed(2, why);
    }
}
