//! `--select` and `--exclude`: names, methods, neighbours, unions and intersections.

use std::collections::BTreeSet;

use crate::sandbox::Sandbox;

/// `bronze.in` and `bronze.other` -> `silver.base` and `silver.side` -> `gold.mid` -> `gold.top`, `gold.leaf`.
/// `exposure.weekly` reads `gold.top`; `gold.mid` is of group `core`.
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
  - name: mid
    access: public
    config: { group: core }
  - name: leaf
    data_tests:
      - relationships: { name: leaf_in_side, column_name: id, to: ref('side'), field: id, severity: warn, tags: [slow] }
groups:
  - { name: core, owner: { name: Core team } }
exposures:
  - name: weekly
    type: dashboard
    owner: { email: ada@example.com }
    depends_on:
      - ref('top')
      - source('bronze', 'other')
    tags: [board]
";
    let selectors = "selectors:
  - name: nightly
    description: What runs at night
    definition: 'tag:daily,gold.*'
  - name: all_but_top
    definition:
      union:
        - method: fqn
          value: mid
          children: true
          children_depth: 1
        - resource_type: source
        - exclude: [top, 'source:bronze.in']
  - name: both
    definition:
      intersection: [{ tag: daily }, { path: models/silver }]
  - name: built_on
    definition: { method: selector, value: nightly, parents: true, parents_depth: 1 }
  - name: quiet
    definition: { method: fqn, value: leaf, indirect_selection: cautious }
";
    Sandbox::new(&[
        ("sources.yml", sources),
        ("selectors.yml", selectors),
        ("models/silver/base.sql", "select id from {{ source('bronze', 'in') }}"),
        ("models/silver/side.sql", "{{ config(tags='daily') }} select id from {{ source('bronze', 'other') }}"),
        ("models/gold/mid.sql", "select b.id from {{ ref('base') }} b join {{ ref('side') }} s on b.id = s.id"),
        ("models/gold/top.sql", "{{ config(materialized='table') }} select id from {{ ref('mid') }}"),
        (
            "models/gold/reports/leaf.sql",
            "{{ config(materialized='incremental', unique_key='id') }} select id from {{ ref('mid') }}",
        ),
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
    let all = "bronze.in bronze.other silver.base silver.side gold.mid gold.top gold.leaf exposure.weekly";
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
        ("path:models/gold", "gold.mid gold.top gold.leaf exposure.weekly"),
        ("path:models/gold/reports", "gold.leaf"),
        ("path:models/silver/base.sql", "silver.base"),
        ("models/silver/*.sql", "silver.base silver.side"),
        ("path:models/**/leaf.sql", "gold.leaf"),
        ("source:bronze.in", "bronze.in"),
        ("source:bronze", "bronze.in bronze.other"),
        ("source:bronze.other+", "bronze.other silver.side gold.mid gold.top gold.leaf exposure.weekly"),
        ("config.materialized:table", "gold.top"),
        ("config.materialized:view", "silver.base silver.side gold.mid"),
        ("config.tags:finance", "gold.top"),
        ("resource_type:source", "bronze.in bronze.other"),
        ("resource_type:exposure", "exposure.weekly"),
        ("exposure:weekly", "exposure.weekly"),
        ("exposure:*", "exposure.weekly"),
        ("tag:board", "exposure.weekly"),
        ("group:core", "gold.mid"),
        ("access:public", "gold.mid"),
        ("access:protected", "silver.base silver.side gold.top gold.leaf"),
        ("config.group:core", "gold.mid"),
        ("file:leaf.sql", "gold.leaf"),
    ]);
}

#[test]
fn plus_and_at_widen_along_the_graph() {
    assert_selects(&[
        ("+mid", "bronze.in bronze.other silver.base silver.side gold.mid"),
        ("base+", "silver.base gold.mid gold.top gold.leaf exposure.weekly"),
        ("+exposure:weekly", "bronze.in bronze.other silver.base silver.side gold.mid gold.top exposure.weekly"),
        ("1+exposure:weekly", "bronze.other gold.top exposure.weekly"),
        ("1+top_filled", "gold.top"),
        ("2+leaf_in_side", "silver.side bronze.other gold.leaf gold.mid"),
        ("1+top", "gold.mid gold.top"),
        ("2+top", "silver.base silver.side gold.mid gold.top"),
        ("base+1", "silver.base gold.mid"),
        ("1+mid+1", "silver.base silver.side gold.mid gold.top gold.leaf"),
        ("+base+", "bronze.in silver.base gold.mid gold.top gold.leaf exposure.weekly"),
        ("@base", "bronze.in bronze.other silver.base silver.side gold.mid gold.top gold.leaf exposure.weekly"),
        ("@top", "bronze.in bronze.other silver.base silver.side gold.mid gold.top exposure.weekly"),
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
    assert_eq!(listed(&sandbox, &["--select", "base+", "--exclude", "base", "mid", "exposure:*"]), expected);
    let models = listed(&sandbox, &["--exclude", "source:*", "config.materialized:view", "exposure:weekly"]);
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
        ("group:cor", "did you mean `group:core`?"),
        ("weekly", "write `exposure:weekly`"),
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
        ("state:modfied", "did you mean `state:modified`?"),
        ("state:modified.colour", "there is no state `modified.colour`"),
        ("result:broken", "known: success, error"),
        ("tag.x:daily", "write `tag:daily`"),
        ("metric:revenue", "selector method `metric` is of dbt and not of lake"),
        ("version:latest", "select the files of each by name"),
        ("unit_test:x", "matches nothing"),
        ("source_status:fresh", "did you mean `source_status:fresher`?"),
        ("source_status:fresher", "no --state was given"),
        ("selector:nigthly", "did you mean `nightly`?"),
        ("column:gold.top.idd", "did you mean `column:gold.top.id`?"),
    ] {
        sandbox.lake(&["ls", "--select", selector]).assert_failed(2, why);
    }
}

#[test]
fn selectors_of_the_project_have_names() {
    let sandbox = project();
    for (name, expected) in [
        ("nightly", "gold.top"),
        ("all_but_top", "gold.mid gold.leaf bronze.other"),
        ("both", "silver.side"),
        ("built_on", "gold.top gold.mid"),
    ] {
        let expected: BTreeSet<String> = expected.split_whitespace().map(str::to_owned).collect();
        assert_eq!(listed(&sandbox, &["--selector", name]), expected, "{name}");
        assert_eq!(listed(&sandbox, &["--select", &format!("selector:{name}")]), expected, "{name}");
    }
    let widened = listed(&sandbox, &["--select", "1+selector:nightly", "--exclude", "selector:nightly"]);
    assert_eq!(widened, BTreeSet::from(["gold.mid".to_owned()]));
    assert_eq!(sandbox.ok(&["ls", "--selector", "quiet"]), "gold.leaf\n");
    sandbox.lake(&["ls", "--selector", "nigthly"]).assert_failed(2, "did you mean `nightly`?");
    sandbox.lake(&["ls", "--selector", "nightly", "--select", "top"]).assert_failed(2, "cannot be used with");
}

#[test]
fn a_default_selector_stands_in_where_a_command_says_nothing() {
    let sandbox = project();
    let file = "selectors:\n  - name: usual\n    default: \"{{ target.name == 'dev' }}\"\n    definition: silver\n";
    sandbox.write("selectors.yml", file);
    let names = |list: &[&str]| list.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    assert_eq!(listed(&sandbox, &[]), names(&["silver.base", "silver.side"]));
    assert_eq!(listed(&sandbox, &["--select", "top"]), names(&["gold.top"]));
    assert!(listed(&sandbox, &["--exclude", "silver"]).contains("gold.top"));
    sandbox.write("project.yml", "name: sandbox\ntargets:\n  prod: { root: lake }\n");
    assert!(listed(&sandbox, &[]).contains("gold.top"));
}

#[test]
fn a_selector_that_builds_on_itself_is_a_mistake() {
    let sandbox = project();
    sandbox.write(
        "selectors.yml",
        "selectors:\n  - name: a\n    definition: 'selector:b'\n  - name: b\n    definition: { method: selector, value: a }\n",
    );
    sandbox.lake(&["ls", "--selector", "a"]).assert_failed(2, "selector `a` is defined by itself: `a` -> `b` -> `a`");
}

#[test]
fn types_of_nodes_are_kept_or_left_out() {
    let sandbox = project();
    let everything = |args: &[&str]| sandbox.ok(&[&["ls"], args].concat());
    assert_eq!(
        everything(&["--resource-type", "exposure", "test"]),
        "exposure:weekly\ntest:top_filled\ntest:leaf_in_side\n"
    );
    assert_eq!(everything(&["--select", "+exposure:weekly", "--resource-type", "exposure"]), "exposure:weekly\n");
    let rest = everything(&["--select", "@top", "--exclude-resource-type", "test", "source", "exposure"]);
    let rest: BTreeSet<&str> = rest.lines().collect();
    assert_eq!(rest, BTreeSet::from(["silver.base", "silver.side", "gold.mid", "gold.top"]));
}

#[test]
fn tests_come_with_their_nodes_as_asked() {
    let sandbox = project();
    let tests = |args: &[&str]| {
        let list = sandbox.json(&[&["ls"], args].concat());
        let tests = list.as_array().unwrap().iter().filter(|node| node["resource_type"] == "test");
        tests.map(|test| test["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // `leaf_in_side` reads gold.leaf and silver.side; silver.side is above gold.leaf.
    for (select, mode, expected) in [
        ("leaf", "eager", vec!["leaf_in_side"]),
        ("leaf", "cautious", vec![]),
        ("leaf", "buildable", vec!["leaf_in_side"]),
        ("side", "buildable", vec![]),
        ("leaf side", "cautious", vec!["leaf_in_side"]),
        ("leaf side", "empty", vec![]),
        ("leaf leaf_in_side", "empty", vec!["leaf_in_side"]),
        ("leaf,side", "eager", vec!["leaf_in_side"]),
    ] {
        assert_eq!(tests(&["--select", select, "--indirect-selection", mode]), expected, "{select} {mode}");
    }
    // As in dbt: what comes with an excluded node goes with it.
    assert!(tests(&["--select", "leaf", "side", "--exclude", "side"]).is_empty());
    assert_eq!(tests(&["--select", "tag:slow"]), ["leaf_in_side"]);
    assert_eq!(tests(&["--select", "config.severity:warn"]), ["leaf_in_side"]);
    assert_eq!(tests(&["--select", "resource_type:test"]), ["top_filled", "leaf_in_side"]);
}

#[test]
fn a_column_selects_what_it_reaches_and_what_feeds_it() {
    let sandbox = project();
    sandbox.write("models/gold/top.sql", "select id, 1 as one from {{ ref('mid') }}");
    sandbox.write("models/gold/last.sql", "select one from {{ ref('top') }} where id > 3");
    for (selector, expected) in [
        ("column:gold.top.one", "gold.top"),
        ("column:gold.top.one+", "gold.top gold.last"),
        ("+column:gold.top.one", "gold.top"),
        ("+column:gold.last.one", "gold.last gold.top"),
        ("1+column:gold.leaf.id", "gold.leaf gold.mid"),
        ("column:bronze.other.id+", "bronze.other silver.side gold.mid"),
        ("column:bronze.in.id+", "bronze.in silver.base gold.mid gold.leaf gold.top gold.last"),
        ("column:silver.*.id+1", "silver.base silver.side gold.mid"),
        ("column:bronze.in.id+,config.materialized:incremental", "gold.leaf"),
    ] {
        let expected: BTreeSet<String> = expected.split_whitespace().map(str::to_owned).collect();
        assert_eq!(listed(&sandbox, &["--select", selector]), expected, "{selector}");
    }
}

#[test]
fn exposures_are_shown_in_lineage_and_manifest() {
    let sandbox = project();
    let tree = sandbox.ok(&["docs", "--select", "1+exposure:weekly"]);
    assert!(tree.contains("gold.top  (table)\n└─ exposure.weekly  (exposure)"), "{tree}");
    assert!(sandbox.ok(&["docs", "--format", "mermaid"]).contains("exposure__weekly([\"exposure.weekly\"])"));
    sandbox.ok(&["compile"]);
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(sandbox.path(".lake/manifest.json")).unwrap()).unwrap();
    let weekly = &manifest["exposures"]["exposure.sandbox.weekly"];
    let reads = &weekly["depends_on"]["nodes"][0];
    assert_eq!((&weekly["type"], reads), (&"dashboard".into(), &"model.sandbox.top".into()), "{weekly}");
    assert_eq!(manifest["groups"]["group.sandbox.core"]["owner"]["name"], "Core team");
    assert_eq!(manifest["child_map"]["model.sandbox.top"][0], "exposure.sandbox.weekly");
}
