//! Tests that plans prove: what is proved is also found by looking, whatever the query and the rows.

use crate::sandbox::{Random, Sandbox};

/// A table with NULLs and doubles: a key of whole numbers, two numbers, a text.
const BASE: &str = "select * from (values (1, 1, 'a', 5), (2, 1, 'b', null), (3, 2, 'a', 7), (4, null, null, 7), \
                    (4, 2, 'c', -1), (null, 3, 'b', 0)) as t (k, g, s, v)";

/// A random query over columns `k`, `g`, `s`, `v`, of the same names and types.
fn query(random: &mut Random, depth: u64) -> String {
    let from = match random.below(4) {
        0 if depth > 0 => format!("({}) as q", query(random, depth - 1)),
        // Each in parentheses of its own: it may end with a limit.
        1 if depth > 0 => format!("(({}) union all ({})) as q", query(random, depth - 1), query(random, depth - 1)),
        _ => "{{ ref('base') }} as q".to_owned(),
    };
    let number = |random: &mut Random| {
        let options = [
            "q.k",
            "q.g",
            "q.v",
            "coalesce(q.k, 0)",
            "abs(q.v)",
            "7",
            "q.k + q.g",
            "cast(null as bigint)",
            "coalesce(q.g, q.v)",
            "case when q.v > 0 then 1 else 2 end",
            "case when q.v > 0 then 1 end",
            "length(q.s)",
            "coalesce(abs(q.v), 1)",
        ];
        options[random.below(options.len() as u64) as usize]
    };
    let text = |random: &mut Random| {
        let options = [
            "q.s",
            "coalesce(q.s, 'x')",
            "'y'",
            "case when q.v > 0 then 'a' when q.v < 0 then 'b' else 'c' end",
            "case q.k when 1 then 'a' end",
            "upper(q.s)",
            "concat(q.s, 'z')",
            "q.s || 'z'",
            "cast(null as varchar)",
        ];
        options[random.below(options.len() as u64) as usize]
    };
    let filters = [
        "",
        " where q.k is not null",
        " where q.v > 0",
        " where q.s in ('a', 'b')",
        " where q.s = 'a'",
        " where q.g >= 1 and q.g <= 2",
        " where q.k is null or q.v > 1",
        " where q.s <> 'a'",
    ];
    let filter = filters[random.below(filters.len() as u64) as usize];
    match random.below(7) {
        0 => format!("select k, count(*) as g, max(s) as s, sum(v) as v from {from}{filter} group by k"),
        1 => format!("select k, g, min(s) as s, count(distinct v) as v from {from}{filter} group by k, g"),
        2 => format!("select distinct {} as k, q.g, q.s, cast(1 as bigint) as v from {from}{filter}", number(random)),
        3 => {
            let kind = ["inner", "left", "right", "full"][random.below(4) as usize];
            let other = "(select g, max(s) as s, count(*) as n from {{ ref('base') }} group by g) as o";
            let on = ["q.g = o.g", "q.g is not distinct from o.g", "q.k = o.n", "q.g = o.g and q.k = o.n"]
                [random.below(4) as usize];
            format!("select q.k, o.g, o.s, o.n as v from {from} {kind} join {other} on {on}{filter}")
        }
        4 => format!(
            "select q.k, q.g, q.s, row_number() over (partition by q.s order by q.k, q.g, q.v) as v from {from}{filter}"
        ),
        5 => format!("select q.k, q.g, q.s, q.v from {from}{filter} order by 1, 2, 3, 4 limit 3"),
        _ => format!(
            "select {} as k, {} as g, {} as s, {} as v from {from}{filter}",
            number(random),
            number(random),
            text(random),
            number(random)
        ),
    }
}

/// All tests that a plan may prove, of one model.
fn tests(model: &str, random: &mut Random) -> String {
    let low = random.below(3) as i64 - 1;
    let strict = random.below(2) == 0;
    let number = |column: &str| {
        format!(
            "      - name: {column}\n        data_tests:\n          - not_null\n          - unique\n\
             \x20         - accepted_range: {{ min_value: {low}, max_value: 7, inclusive: {strict} }}\n\
             \x20         - accepted_range: {{ min_value: {low} }}\n"
        )
    };
    format!(
        "  - name: {model}\n    data_tests:\n      - unique_combination_of_columns: {{ columns: [k, g] }}\n\
         \x20     - unique_combination_of_columns: {{ columns: [k, g, s, v] }}\n    columns:\n{}{}{}\
         \x20     - name: s\n        data_tests: [not_null, unique, accepted_values: {{ values: [a, b, c] }}, not_accepted_values: {{ values: [c] }}]\n",
        number("k"),
        number("g"),
        number("v")
    )
}

#[test]
fn what_a_plan_proves_is_true() {
    let mut random = Random(0x9e37);
    let sandbox = Sandbox::new(&[("models/silver/base.sql", BASE)]);
    let rounds = std::env::var("LAKE_SOAK_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let models: u64 = rounds.unwrap_or(25);
    let mut yaml = "models:\n".to_owned();
    for at in 0..models {
        let name = format!("m{at:03}");
        let materialized = ["view", "table"][random.below(2) as usize];
        let sql = query(&mut random, 2);
        let all = format!(
            "{{{{ config(materialized='{materialized}') }}}} select cast(k as bigint) as k, cast(g as bigint) as g, s, cast(v as bigint) as v from ({sql}) as m"
        );
        sandbox.write(&format!("models/gold/{name}.sql"), all);
        yaml.push_str(&tests(&name, &mut random));
    }
    sandbox.write("models/tests.yml", yaml);
    sandbox.ok(&["run"]);
    let report = |args: &[&str]| -> serde_json::Value {
        let run = sandbox.lake(args);
        serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{run:#?}"))
    };
    let proved = report(&["test", "--output", "json"]);
    let looked = report(&["test", "--no-prove", "--output", "json"]);
    let list = |report: &serde_json::Value| report["tests"].as_array().unwrap().clone();
    let (proved, looked) = (list(&proved), list(&looked));
    assert_eq!(proved.len(), looked.len());
    let mut count = 0;
    for (with, without) in proved.iter().zip(&looked) {
        assert_eq!(with["name"], without["name"]);
        assert_eq!(with["failures"], without["failures"], "{with:#}\n{without:#}");
        assert_eq!(with["status"], without["status"]);
        assert!(without["proved"].is_null(), "{without:#}");
        count += usize::from(with["proved"].is_string());
    }
    assert!(count as u64 > models, "only {count} of {} are proved", proved.len());
}

#[test]
fn a_proof_says_why() {
    let sandbox = Sandbox::new(&[
        ("models/silver/base.sql", BASE),
        (
            "models/gold/per_group.sql",
            "{{ config(materialized='table') }}\nselect g, count(*) as n, coalesce(max(s), '-') as s from {{ ref('base') }} group by g\n",
        ),
        (
            "models/tests.yml",
            "models:\n  - name: per_group\n    columns:\n      - { name: g, data_tests: [unique] }\n      - { name: n, data_tests: [not_null, accepted_range: { min_value: 0 }] }\n      - { name: s, data_tests: [not_null, unique: { severity: warn }] }\n",
        ),
    ]);
    let built = sandbox.ok(&["build"]);
    assert!(built.contains("4 of 5 tests (4 proved)"), "{built}");
    let told = sandbox.ok(&["test"]);
    for why in ["proved: group by g", "proved: count() is never NULL", "proved: it is at least 0"] {
        assert!(told.contains(why), "{told}");
    }
}
