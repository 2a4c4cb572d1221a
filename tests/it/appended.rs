//! Keys, references and row counts of tables that grow: what is added is looked at, and nothing that it breaks gets in.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::sandbox::{Random, Sandbox, node};

const SOURCES: &str = "sources:\n  - name: raw\n    tables:\n      - name: orders\n        path: in/orders/\n        format: csv\n        columns:\n\
    \x20         - { name: id, data_type: bigint }\n          - { name: buyer, data_type: bigint }\n\
    \x20     - name: buyers\n        path: in/buyers/\n        format: csv\n        columns:\n          - { name: id, data_type: bigint }\n";

fn orders(config: &str, tests: &str) -> Sandbox {
    let orders = format!("{{{{ config({config}) }}}}\nselect id, buyer from {{{{ source('raw', 'orders') }}}}\n");
    let sandbox = Sandbox::new(&[
        ("sources.yml", SOURCES),
        ("models/silver/orders.sql", &orders),
        (
            "models/silver/buyers.sql",
            "{{ config(materialized='table') }}\nselect id from {{ source('raw', 'buyers') }}\n",
        ),
        ("models/silver/orders.yml", &format!("models:\n  - name: orders\n{tests}")),
        ("in/buyers/1.csv", "id\n1\n2\n3\n4\n5\n"),
    ]);
    sandbox.order(0, "1,1\n2,2\n3,\n");
    sandbox.ok(&["build"]);
    sandbox
}

impl Sandbox {
    fn order(&self, file: usize, rows: &str) {
        self.write(&format!("in/orders/{file:03}.csv"), format!("id,buyer\n{rows}"));
    }

    fn built(&self) -> (i32, Value) {
        let run = self.lake(&["build", "--output", "json"]);
        (run.code, serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{run:#?}")))
    }
}

fn proved(report: &Value, name: &str) -> String {
    let tests = node(report, "silver.orders")["tests"].as_array().unwrap();
    let found = tests.iter().find(|test| test["name"] == name).unwrap_or_else(|| panic!("{report:#}"));
    assert_eq!(found["status"], "pass", "{found}");
    found["proved"].as_str().unwrap_or_default().to_owned()
}

const KEYS: &str = "    columns:\n      - name: id\n        data_tests: [{ unique: { name: once } }, { not_null: { name: there } }]\n\
    \x20     - name: buyer\n        data_tests: [{ relationships: { name: known, to: ref('buyers'), field: id } }]\n";

const APPEND: &str = "materialized='incremental', incremental_strategy='append'";

#[test]
fn a_key_that_comes_again_is_not_added() {
    let sandbox = orders(APPEND, KEYS);
    sandbox.order(1, "4,5\n5,\n");
    let (code, report) = sandbox.built();
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(proved(&report, "there"), "by the statistics of 1 file");
    for (rows, message) in [
        ("6,1\n6,1\n", "once (1 value stands more than once"),
        ("2,1\n9,1\n", "once (1 value stands more than once"),
        ("10,6\n11,7\n12,\n", "known (2 rows have no match in silver.buyers.id"),
        (",1\n", "there (1 row fails"),
    ] {
        sandbox.order(2, rows);
        sandbox.lake(&["build"]).assert_failed(1, message);
        assert_eq!(sandbox.value("select count(*) as n from silver.orders"), 5, "{rows}");
    }
    sandbox.order(2, "6,1\n");
    sandbox.ok(&["build"]);
    assert_eq!(sandbox.value("select count(*) as n from silver.orders"), 6);
}

#[test]
fn a_reference_is_looked_at_again_when_the_other_table_changed() {
    let sandbox = orders(APPEND, KEYS);
    sandbox.write("in/buyers/1.csv", "id\n2\n3\n4\n5\n");
    sandbox.order(1, "4,5\n");
    sandbox.lake(&["build"]).assert_failed(1, "known (1 row has no match");
    assert_eq!(sandbox.value("select count(*) as n from silver.orders"), 3);
}

/// Buyers that come, by an append or in a table made anew, and go with a full refresh: an order gets in if its buyer is known,
/// and none while a buyer of an order is gone.
#[test]
fn references_hold_while_the_other_table_grows_and_are_looked_at_when_it_loses_rows() {
    for buyers in [APPEND, "materialized='table'"] {
        let (mut random, sandbox) = (Random(5), orders(APPEND, KEYS));
        let sql = format!("{{{{ config({buyers}) }}}}\nselect id from {{{{ source('raw', 'buyers') }}}}\n");
        sandbox.write("models/silver/buyers.sql", &sql);
        sandbox.ok(&["build", "--full-refresh"]);
        let (mut known, mut orders) = ((1..=5).collect::<BTreeSet<u64>>(), BTreeSet::from([1, 2]));
        for round in 1..14 {
            let buyer = 1 + random.below(12);
            if random.below(3) > 0 {
                let came = 1 + random.below(12);
                sandbox.write(&format!("in/buyers/{:02}.csv", round + 1), format!("id\n{came}\n"));
                known.insert(came);
            } else if random.below(3) == 0 {
                // All deliveries but the first are withdrawn.
                for file in 2..30 {
                    let _ = std::fs::remove_file(sandbox.path(&format!("in/buyers/{file:02}.csv")));
                }
                known = (1..=5).collect();
                sandbox.ok(&["run", "--select", "buyers", "--full-refresh"]);
            }
            sandbox.order(round, &format!("{},{buyer}\n", 100 + round));
            let is_right = orders.iter().chain([&buyer]).all(|buyer| known.contains(buyer));
            let run = sandbox.lake(&["build"]);
            assert_eq!(run.code == 0, is_right, "{buyers}, round {round}: {buyer} of {known:?}, {orders:?}: {run:#?}");
            if is_right {
                orders.insert(buyer);
            } else {
                std::fs::remove_file(sandbox.path(&format!("in/orders/{round:03}.csv"))).unwrap();
            }
        }
    }
}

#[test]
fn nulls_are_no_keys_unless_several_columns_make_one() {
    let combined =
        "    data_tests: [{ unique_combination_of_columns: { name: once, combination_of_columns: [id, buyer] } }]\n";
    let sandbox = orders(APPEND, combined);
    sandbox.order(1, "1,2\n,\n");
    sandbox.ok(&["build"]);
    sandbox.order(2, ",\n");
    sandbox.lake(&["build"]).assert_failed(1, "1 combination stands more than once");
    let alone = "    columns:\n      - name: buyer\n        data_tests: [{ unique: { name: once } }]\n";
    let sandbox = orders(APPEND, alone);
    sandbox.order(1, "4,\n5,\n");
    sandbox.ok(&["build"]);
}

#[test]
fn a_merge_keeps_its_key_unique() {
    let sandbox = orders("materialized='incremental', unique_key='id'", KEYS);
    sandbox.order(1, "2,5\n4,\n");
    let (code, report) = sandbox.built();
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(proved(&report, "once"), "a merge keeps one row of each unique_key, and no key was there twice before");
    sandbox.order(2, "2,1\n");
    let run = sandbox.json(&["build", "--no-prove"]);
    assert_eq!(proved(&run, "once"), "");
    assert_eq!(sandbox.value("select count(distinct id) - count(*) as n from silver.orders"), 0);
}

/// Random deliveries of keys: those that are taken in are those that a simple set takes.
#[test]
fn exactly_the_deliveries_with_new_keys_get_in() {
    let mut random = Random(11);
    let sandbox = orders(APPEND, KEYS);
    let mut held: BTreeSet<u64> = [1, 2, 3].into();
    let mut refused = 0;
    for delivery in 1..20 {
        let keys: Vec<u64> = (0..=random.below(6)).map(|_| random.below(60)).collect();
        let unique: BTreeSet<u64> = keys.iter().copied().collect();
        let is_new = unique.len() == keys.len() && unique.is_disjoint(&held);
        let rows: String = keys.iter().map(|key| format!("{key},1\n")).collect();
        sandbox.order(delivery, &rows);
        let run = sandbox.lake(&["build"]);
        assert_eq!(run.code == 0, is_new, "{keys:?} to {held:?}: {run:#?}");
        if is_new {
            held.extend(unique);
        } else {
            refused += 1;
            std::fs::remove_file(sandbox.path(&format!("in/orders/{delivery:03}.csv"))).unwrap();
        }
        assert_eq!(sandbox.value("select count(*) as n from silver.orders"), held.len());
    }
    assert!(refused > 3 && held.len() > 5, "{refused} {held:?}");
}

#[test]
fn a_custom_test_that_is_a_plain_condition_shares_the_scan() {
    let sandbox = orders(APPEND, "    description: Orders\n");
    let tests = "    data_tests:\n      - { even_buyer: { name: even, on_violation: drop } }\n";
    sandbox.write("models/silver/orders.yml", format!("models:\n  - name: orders\n{tests}"));
    sandbox.write(
        "tests/generic/even_buyer.sql",
        "{% test even_buyer(model) %}\nselect id, buyer from {{ model }} where buyer % 2 = 1 and buyer > 2 -- odd ones\n{% endtest %}\n",
    );
    sandbox.order(1, "4,3\n5,4\n6,5\n");
    let (code, report) = sandbox.built();
    assert_eq!(code, 0, "{report:#}");
    let test = &node(&report, "silver.orders")["tests"][0];
    assert_eq!((&test["status"], &test["message"]), (&json!("warn"), &json!("2 of 3 rows left out (66.67 %)")));
    assert_eq!(sandbox.value("select count(*) as n from silver.orders"), 4);
    // One that is more than a condition leaves nothing out.
    sandbox.write(
        "tests/generic/even_buyer.sql",
        "{% test even_buyer(model) %}\nselect buyer from {{ model }} group by buyer having count(*) > 9\n{% endtest %}\n",
    );
    sandbox.lake(&["compile"]).assert_failed(2, "cannot leave rows out: the test is not about each row by itself");
}

#[test]
fn rows_are_reconciled_with_the_files_that_were_taken_in() {
    let tests = "    data_tests: [{ row_count_matches_source: { name: all, source: \"source('raw', 'orders')\" } }]\n";
    for config in [APPEND, "materialized='table'"] {
        let sandbox = orders(config, tests);
        sandbox.order(1, "4,1\n5,2\n");
        sandbox.ok(&["build"]);
        // What has not been taken in does not count, where that is known.
        sandbox.order(2, "6,1\n");
        let run = sandbox.lake(&["test"]);
        assert_eq!(run.code == 0, config == APPEND, "{config}: {run:#?}");
        sandbox.ok(&["build"]);
        // A condition that loses rows is seen before anybody reads the table.
        let lossy = format!(
            "{{{{ config({config}) }}}}\nselect id, buyer from {{{{ source('raw', 'orders') }}}} where buyer is not null\n"
        );
        sandbox.write("models/silver/orders.sql", lossy);
        sandbox
            .lake(&["build", "--full-refresh"])
            .assert_failed(1, "all (5 rows, and 6 in the 3 files that it has taken in");
        assert_eq!(sandbox.value("select count(*) as n from silver.orders"), 6);
    }
}

#[test]
fn rows_that_go_with_their_file_are_not_missed() {
    let tests = "    data_tests: [{ row_count_matches_source: { name: all, source: \"source('raw', 'orders')\" } }]\n";
    let sandbox = Sandbox::new(&[
        (
            "sources.yml",
            &SOURCES.replacen(
                "format: csv\n",
                "format: csv\n        on_removed_file: delete_rows\n        identity: content\n",
                1,
            ),
        ),
        (
            "models/silver/orders.sql",
            &format!("{{{{ config({APPEND}) }}}}\nselect id, buyer from {{{{ source('raw', 'orders') }}}}\n"),
        ),
        ("models/silver/orders.yml", &format!("models:\n  - name: orders\n{tests}")),
    ]);
    (0..3).for_each(|file| sandbox.order(file, &format!("{file},1\n")));
    sandbox.ok(&["build"]);
    // One file goes, one has another name, one comes.
    std::fs::remove_file(sandbox.path("in/orders/000.csv")).unwrap();
    std::fs::rename(sandbox.path("in/orders/001.csv"), sandbox.path("in/orders/renamed.csv")).unwrap();
    sandbox.order(3, "3,1\n4,1\n");
    let (code, report) = sandbox.built();
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(sandbox.value("select count(*) as n from silver.orders"), 4);
    sandbox.ok(&["test"]);
}

#[test]
fn a_row_count_is_compared_with_files_that_a_table_reads() {
    for (source, told) in [
        ("ref('buyers')", "`silver.buyers` is a model: `equal_rowcount` compares two tables"),
        ("source('raw', 'buyers')", "`silver.orders` does not read `raw.buyers` itself"),
    ] {
        let sandbox = Sandbox::new(&[
            ("sources.yml", SOURCES),
            ("models/silver/buyers.sql", "select id from {{ source('raw', 'buyers') }}\n"),
            ("models/silver/orders.sql", "select id from {{ source('raw', 'orders') }}\n"),
            (
                "models/silver/orders.yml",
                &format!(
                    "models:\n  - name: orders\n    data_tests: [{{ row_count_matches_source: {{ source: \"{source}\" }} }}]\n"
                ),
            ),
        ]);
        sandbox.lake(&["compile"]).assert_failed(2, told);
    }
}
