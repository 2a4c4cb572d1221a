//! What the result of a test means: severities, limits, rows that are left out, and what is remembered of it.

use serde_json::{Value, json};

use crate::sandbox::{Run, Sandbox, node};
use crate::services;

const ORDERS: &str = "{{ config(materialized='table', unique_key='id') }}\n\
    select id, amount, state, _file_path, _row_number from {{ source('raw', 'orders') }}\n";

const SOURCES: &str = "sources:\n  - name: raw\n    tables:\n      - name: orders\n        path: in/orders/\n        format: csv\n\
    \x20       metadata_columns: [_file_path, _row_number]\n        columns:\n          - { name: id, data_type: bigint }\n\
    \x20         - { name: amount, data_type: bigint }\n          - { name: state, data_type: varchar }\n";

/// Ten orders: amounts 1 to 8, one that is negative, one that is not there.
fn orders(tests: &str) -> Sandbox {
    let rows: String = (1..=8).map(|id| format!("{id},{id},open\n")).collect();
    let csv = format!("id,amount,state\n{rows}9,-9,open\n10,,closed\n");
    let yaml = format!("models:\n  - name: orders\n    columns:\n      - name: amount\n        data_tests:\n{tests}");
    Sandbox::new(&[
        ("sources.yml", SOURCES),
        ("models/silver/orders.sql", ORDERS),
        ("models/silver/orders.yml", &yaml),
        ("in/orders/1.csv", &csv),
    ])
}

fn report(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{run:#?}"))
}

fn test<'a>(report: &'a Value, name: &str) -> &'a Value {
    let of_nodes = report["nodes"].as_array().into_iter().flatten().flat_map(|node| node["tests"].as_array().unwrap());
    let mut all = of_nodes.chain(report["tests"].as_array().unwrap());
    all.find(|test| test["name"] == name).unwrap_or_else(|| panic!("{report:#}"))
}

#[test]
fn severity_and_limits_say_what_failures_mean() {
    let cases = [
        ("", "fail", "1 row fails"),
        ("severity: warn", "warn", "1 row fails"),
        ("error_if: '> 1'", "warn", "1 row fails"),
        ("error_if: '> 1', warn_if: '> 1'", "pass", "1 row fails"),
        ("error_if: '>= 10%'", "fail", "1 of 10 rows fails (10.00 %, error_if >= 10%)"),
        ("error_if: '> 10%'", "warn", "1 of 10 rows fails (10.00 %)"),
        ("error_if: '>= 10%', where: id > 5", "fail", "1 of 5 rows fails (20.00 %, error_if >= 10%)"),
        ("config: { severity: warn, warn_if: '> 10 %' }", "pass", "1 of 10 rows fails (10.00 %)"),
        ("where: id < 5", "pass", ""),
        ("on_violation: warn", "warn", "1 row fails"),
        ("fail_calc: sum(id), error_if: '> 9'", "warn", "9 rows fail"),
    ];
    let yaml: String = cases
        .iter()
        .enumerate()
        .map(|(at, (config, ..))| {
            let comma = if config.is_empty() { "" } else { ", " };
            format!("          - accepted_range: {{ name: t{at}, min_value: 0{comma}{config} }}\n")
        })
        .collect();
    let sandbox = orders(&yaml);
    sandbox.ok(&["run"]);
    let report = report(&sandbox.lake(&["test", "--output", "json"]));
    for (at, (config, status, message)) in cases.iter().enumerate() {
        let found = test(&report, &format!("t{at}"));
        assert_eq!(found["status"], *status, "{config}: {found}");
        assert_eq!(found["message"].as_str().unwrap_or_default(), *message, "{config}: {found}");
        let declared = (*status != "pass").then(|| format!("models/silver/orders.yml:{}", at + 6));
        assert_eq!(found["declared"], json!(declared), "{config}");
    }
}

#[test]
fn what_a_test_is_told_may_be_a_template() {
    let sandbox = orders(
        "          - accepted_range: { name: known, min_value: \"{{ var('least', 0) }}\", warn_if: '> 0', error_if: \"> {{ var('known_flaws') }}\" }
          - not_null: { name: filled, severity: \"{{ 'warn' if target.name == 'dev' else 'error' }}\", where: \"state <> '{{ var('done', 'closed') }}'\" }
          - accepted_values: { name: some, values: [1, \"{{ var('second', 2) }}\"], quote: false, enabled: \"{{ var('all', false) }}\" }\n",
    );
    sandbox.ok(&["run", "--vars", "{known_flaws: 1}"]);
    let tested = |vars: &str| report(&sandbox.lake(&["test", "--output", "json", "--vars", vars]));
    let statuses = |vars: &str| {
        let report = tested(vars);
        ["known", "filled"].map(|name| test(&report, name)["status"].as_str().unwrap().to_owned())
    };
    assert_eq!(statuses("{known_flaws: 1}"), ["warn", "pass"]);
    assert_eq!(statuses("{known_flaws: 0}"), ["fail", "pass"]);
    assert_eq!(statuses("{known_flaws: 0, least: -9, done: no}"), ["pass", "warn"]);
    assert_eq!(tested("{known_flaws: 1}")["tests"].as_array().unwrap().len(), 2);
    let all = tested("{known_flaws: 1, all: true, second: 3}");
    assert_eq!(test(&all, "some")["failures"], 7);
    let wrong = sandbox.lake(&["compile"]);
    wrong.assert_failed(2, "`known_flaws`");
    wrong.assert_failed(2, "models/silver/orders.yml:6:");
}

#[test]
fn a_test_that_does_not_gate_is_told_after_the_publish() {
    let sandbox = orders(
        "          - accepted_range: { min_value: 0, audit: false }\n          - not_null: { severity: warn }\n",
    );
    let run = sandbox.lake(&["build", "--output", "json"]);
    let report = report(&run);
    assert_eq!(run.code, 1);
    let orders = node(&report, "silver.orders");
    assert_eq!((&orders["status"], &orders["version"]), (&json!("success"), &json!(0)), "{orders:#}");
    assert_eq!(test(&report, "accepted_range_orders_amount_0")["status"], "fail");
    assert_eq!(sandbox.value("select count(*) as n from silver.orders"), 10);
}

#[test]
fn failing_rows_are_kept_with_their_key_and_their_file() {
    let sandbox =
        orders("          - accepted_range: { min_value: 3 }\n          - not_null: { severity: warn, limit: 0 }\n");
    sandbox.lake(&["build"]).assert_failed(1, "models/silver/orders.yml:6");
    let kept = sandbox.query("select * from _lake.failures order by key");
    assert_eq!(kept.len(), 3);
    assert_eq!(kept[0]["key"], r#"{"id":1}"#);
    assert_eq!(kept[2]["key"], r#"{"id":9}"#);
    assert_eq!((&kept[2]["source_file"], &kept[2]["source_row"]), (&json!("in/orders/1.csv"), &json!(9)));
    assert_eq!(kept[2]["declared"], "models/silver/orders.yml:6");
    let row: Value = serde_json::from_str(kept[2]["row"].as_str().unwrap()).unwrap();
    assert_eq!((&row["amount"], &row["state"]), (&json!(-9), &json!("open")));
    let shown = sandbox.ok(&["test", "--failures", "orders.accepted_range_orders_amount_3"]);
    assert!(shown.contains("-9") && shown.contains("in/orders/1.csv") && shown.contains("orders.yml:6"), "{shown}");
    sandbox.lake(&["test", "--failures", "accepted_range_orders_amont_3"]).assert_failed(2, "did you mean");
}

#[test]
fn runs_and_their_results_are_tables_of_the_lake() {
    let sandbox =
        orders("          - accepted_range: { min_value: 0, owner: ann }\n          - not_null: { severity: warn }\n");
    sandbox.lake(&["build"]).assert_failed(1, "nothing was published");
    sandbox.ok(&["run"]);
    sandbox.lake(&["test"]).assert_failed(1, "");
    let runs = sandbox.query(
        "select command, status, built, failed, tests, tests_failed, tests_warned from _lake.runs order by started_at",
    );
    assert_eq!(
        runs,
        [
            json!({"command": "build", "status": "error", "built": 0, "failed": 1, "tests": 2, "tests_failed": 1, "tests_warned": 1}),
            json!({"command": "run", "status": "success", "built": 1, "failed": 0, "tests": 0, "tests_failed": 0, "tests_warned": 0}),
            json!({"command": "test", "status": "error", "built": 0, "failed": 0, "tests": 2, "tests_failed": 1, "tests_warned": 1}),
        ]
    );
    let nodes = sandbox.query("select node, status, rows, version from _lake.node_results order by started_at");
    assert_eq!(nodes[1], json!({"node": "silver.orders", "status": "success", "rows": 10, "version": 0}));
    let tests = sandbox.query("select kind, node, column_name, status, failures, owner from _lake.test_results order by started_at, kind limit 1");
    assert_eq!(
        tests,
        [
            json!({"kind": "accepted_range", "node": "silver.orders", "column_name": "amount", "status": "fail", "failures": 1, "owner": "ann"})
        ]
    );
    assert_eq!(sandbox.query("select distinct lake_version from _lake.runs").len(), 1);
}

#[test]
fn rows_that_fail_are_left_out_or_quarantined() {
    let sandbox = orders(
        "          - accepted_range: { min_value: 0, on_violation: quarantine }\n          - not_null: { on_violation: drop }\n",
    );
    let report = sandbox.json(&["build"]);
    assert_eq!(test(&report, "accepted_range_orders_amount_0")["message"], "1 of 10 rows in quarantine (10.00 %)");
    assert_eq!(test(&report, "not_null_orders_amount")["message"], "1 of 10 rows left out (10.00 %)");
    assert_eq!(node(&report, "silver.orders")["rows_quarantined"], 1);
    assert_eq!(sandbox.value("select count(*) as n from silver.orders"), 8);
    let kept = sandbox.query("select test, key, source_file, source_row, \"row\" from quarantine.silver__orders");
    assert_eq!(kept.len(), 1);
    assert_eq!((&kept[0]["key"], &kept[0]["source_row"]), (&json!(r#"{"id":9}"#), &json!(9)));
    // A table that is made anew has a quarantine that is made anew.
    sandbox.write("in/orders/1.csv", "id,amount,state\n1,1,open\n2,-2,open\n3,-3,open\n");
    sandbox.ok(&["build"]);
    let kept = sandbox.query("select key from quarantine.silver__orders order by key");
    assert_eq!(kept, [json!({"key": r#"{"id":2}"#}), json!({"key": r#"{"id":3}"#})]);
    sandbox.write("in/orders/1.csv", "id,amount,state\n1,1,open\n");
    sandbox.ok(&["build"]);
    assert!(sandbox.query("select key from quarantine.silver__orders").is_empty());
}

#[test]
fn what_increments_leave_out_adds_up() {
    let sandbox = orders("          - accepted_range: { min_value: 0, on_violation: quarantine, error_if: '> 50%' }\n");
    let model = ORDERS.replace("materialized='table', unique_key='id'", "materialized='incremental'");
    sandbox.write("models/silver/orders.sql", model);
    sandbox.ok(&["build"]);
    sandbox.write("in/orders/2.csv", "id,amount,state\n11,11,open\n12,-12,open\n");
    sandbox.ok(&["build"]);
    assert_eq!(sandbox.value("select count(*) as n from silver.orders"), 10);
    assert_eq!(sandbox.value("select count(*) as n from quarantine.silver__orders"), 2);
    // More than half of a delivery is no longer an exception.
    sandbox.write("in/orders/3.csv", "id,amount,state\n13,-13,open\n14,-14,open\n15,1,open\n");
    sandbox.lake(&["build"]).assert_failed(1, "2 of 3 rows in quarantine (66.67 %, error_if > 50%)");
    assert_eq!(sandbox.value("select count(*) as n from silver.orders"), 10);
    assert_eq!(sandbox.value("select count(*) as n from quarantine.silver__orders"), 2);
}

#[test]
fn a_rollback_takes_rows_out_of_the_quarantine() {
    let sandbox = orders("          - accepted_range: { min_value: 0, on_violation: quarantine }\n");
    let model = ORDERS.replace("materialized='table', unique_key='id'", "materialized='incremental'");
    sandbox.write("models/silver/orders.sql", model);
    let left_out = || -> Vec<Value> {
        let rows = sandbox.query("select \"row\" from quarantine.silver__orders order by 1");
        let id = |row: &Value| serde_json::from_str::<Value>(row["row"].as_str().unwrap()).unwrap()["id"].clone();
        rows.iter().map(id).collect()
    };
    sandbox.write("in/orders/2.csv", "id,amount,state\n");
    std::fs::rename(sandbox.path("in/orders/1.csv"), sandbox.path("first.csv")).unwrap();
    sandbox.ok(&["build"]);
    for (file, id) in [(3, 11), (4, 12)] {
        sandbox.write(&format!("in/orders/{file}.csv"), format!("id,amount,state\n{id},-1,open\n2{id},1,open\n"));
        sandbox.ok(&["build"]);
    }
    assert_eq!(left_out(), [11, 12]);
    // What came since is not there any more, and does not come again.
    for (version, file, expected) in [(1, 4, vec![11]), (0, 3, vec![])] {
        sandbox.ok(&["rollback", "orders", "--to", &version.to_string()]);
        std::fs::remove_file(sandbox.path(&format!("in/orders/{file}.csv"))).unwrap();
        sandbox.ok(&["build"]);
        assert_eq!(left_out(), expected, "version {version}");
    }
    sandbox.write("in/orders/5.csv", "id,amount,state\n13,-1,open\n");
    sandbox.ok(&["build"]);
    assert_eq!(left_out(), [13]);
}

#[test]
fn only_rows_by_themselves_can_be_left_out() {
    let sandbox = orders(
        "          - unique: { on_violation: drop }\n          - mean_between: { min_value: 0, on_violation: quarantine }\n",
    );
    let run = sandbox.lake(&["compile"]);
    run.assert_failed(2, "the test is not about each row by itself");
    assert_eq!(run.stderr.matches("cannot leave rows out").count(), 2, "{run:#?}");
}

#[test]
fn an_append_is_tested_by_its_new_rows() {
    let sandbox = orders("          - not_null\n");
    let model = ORDERS.replace("materialized='table', unique_key='id'", "materialized='incremental'");
    sandbox.write("models/silver/orders.sql", model);
    sandbox.write("models/silver/orders.yml", "models:\n  - name: orders\n    columns:\n      - name: amount\n        data_tests: [accepted_range: { min_value: -9 }]\n");
    sandbox.ok(&["build"]);
    // What is not there cannot be read.
    let folder = sandbox.path("lake/silver/orders");
    for file in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_some_and(|extension| extension == "parquet") {
            std::fs::remove_file(file).unwrap();
        }
    }
    sandbox.write("in/orders/2.csv", "id,amount,state\n11,-11,open\n12,12,open\n");
    sandbox.lake(&["build"]).assert_failed(1, "1 row fails");
    sandbox.write("in/orders/2.csv", "id,amount,state\n11,11,open\n12,12,open\n");
    let report = sandbox.json(&["build"]);
    assert_eq!(test(&report, "accepted_range_orders_amount_9")["status"], "pass");
    assert_eq!(node(&report, "silver.orders")["rows"], 2);
    // A condition on the clock is one on every row.
    sandbox.write("models/silver/orders.yml", "models:\n  - name: orders\n    data_tests: [expression_is_true: { expression: \"length(state) < date_part('year', now())\" }]\n");
    sandbox.write("in/orders/3.csv", "id,amount,state\n13,13,open\n");
    sandbox.lake(&["build"]).assert_failed(1, "parquet");
}

#[test]
fn runs_at_the_same_time_are_all_noted() {
    let sandbox = orders("          - not_null: { severity: warn }\n");
    sandbox.ok(&["build"]);
    let mut running: Vec<_> = (0..6).map(|_| sandbox.start(&["test"])).collect();
    running.iter_mut().for_each(|run| assert!(run.wait().unwrap().success()));
    for (table, rows) in [("runs", 7), ("test_results", 7), ("failures", 7)] {
        let found = sandbox.query(&format!("select * from _lake.{table}"));
        assert_eq!(found.len(), rows, "{table}: {found:#?}");
    }
}

/// References in a circle, to some rows only, of other types, and to a table that has no test of its own.
#[test]
fn references_are_told_alike_whether_their_keys_are_gathered_or_asked_for() {
    let values = |rows: &str| format!("{{{{ config(materialized='table') }}}}\nselect * from (values {rows})");
    let yaml = "models:
  - name: people
    columns:
      - { name: id, data_tests: [unique, not_null] }
      - name: team
        data_tests: [{ relationships: { name: known_team, to: ref('teams'), field: id } }]
      - name: town
        data_tests:
          - relationships: { name: known_town, to: ref('towns'), field: name }
          - relationships: { name: big_town, to: ref('towns'), field: name, to_condition: people > 100 }
  - name: teams
    columns:
      - name: lead
        data_tests:
          - relationships: { name: known_lead, to: ref('people'), field: id }
          - relationships: { name: lead_as_text, to: ref('people'), field: text, where: lead < 9 }
";
    let people =
        "(1, '1', 10, 'A'), (2, '2', 20, 'B'), (3, '3', null, 'C'), (4, '4', 40, null)) as t(id, text, team, town";
    let sandbox = Sandbox::new(&[
        ("models/silver/people.sql", &values(people)),
        ("models/silver/teams.sql", &values("(10, 1), (20, 7), (30, null)) as t(id, lead")),
        ("models/silver/towns.sql", &values("('A', 500), ('B', 50)) as t(name, people")),
        ("models/silver/all.yml", yaml),
    ]);
    sandbox.ok(&["run"]);
    let told = sandbox.lake(&["test", "--output", "json"]);
    let told = report(&told);
    let failures = |name: &str| test(&told, name)["failures"].as_u64();
    // Team 40 is none, town C is none, and of the towns of A and B only one is big.
    assert_eq!((failures("known_team"), failures("known_town"), failures("big_town")), (Some(1), Some(1), Some(2)));
    assert_eq!((failures("known_lead"), failures("lead_as_text")), (Some(1), Some(1)));
    // One test alone, in whose table nothing else is looked at.
    let alone = report(&sandbox.lake(&["test", "--select", "big_town", "--output", "json"]));
    assert_eq!(test(&alone, "big_town")["failures"], 2);
}

#[test]
fn what_unit_tests_say_is_noted_once() {
    let half = |by: &str| format!("{{% macro half(x) %}}({{{{ x }}}} / {by}){{% endmacro %}}");
    let sandbox = Sandbox::new(&[
        ("models/gold/halves.sql", "{{ config(materialized='table') }} select {{ half('8') }} as n"),
        ("macros/half.sql", &half("2")),
        (
            "models/gold/units.yml",
            "unit_tests:\n  - { name: halves, macro: half, cases: [{ args: ['4'], expect: 2 }] }\n  - { name: eight, model: halves, given: [], expect: { rows: [{ n: 4 }] } }\n",
        ),
    ]);
    let said = |test: &str| {
        let rows = sandbox.query(&format!(
            "select status from _lake.test_results where kind = 'unit_test' and test = '{test}' order by started_at"
        ));
        rows.iter().map(|row| row["status"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    sandbox.ok(&["build"]);
    // The macro may give another value each time, so it is tried each time.
    sandbox.ok(&["build"]);
    sandbox.ok(&["build"]);
    assert_eq!((said("halves"), said("eight")), (vec!["pass".to_owned()], vec!["pass".to_owned()]));
    sandbox.write("macros/half.sql", half("4"));
    assert_eq!(sandbox.lake(&["build"]).code, 1);
    sandbox.write("macros/half.sql", half("2"));
    // Nothing is to be built, and it is news that they pass.
    sandbox.ok(&["build"]);
    sandbox.ok(&["build"]);
    assert_eq!(said("halves"), ["pass", "fail", "pass"]);
}

#[test]
fn lake_test_reads_each_table_at_most_once() {
    let stub = services::gcs();
    let values = |rows: &str| format!("{{{{ config(materialized='table') }}}} select * from (values {rows})");
    let mut sandbox = Sandbox::new(&[
        ("models/silver/people.sql", &values("(1, 'a', 10), (2, 'b', 20), (3, 'c', 20)) as t(id, name, team")),
        ("models/silver/teams.sql", &values("(10, 1), (20, 2)) as t(id, lead")),
        (
            "models/silver/all.yml",
            "models:
  - name: people
    columns:
      - { name: id, data_tests: [unique, not_null] }
      - { name: name, data_tests: [not_null, { accepted_values: { values: [a, b, c] } }, { string_length_between: { max_value: 3 } }] }
      - { name: team, data_tests: [{ relationships: { to: ref('teams'), field: id } }, { max_between: { max_value: 90 } }] }
  - name: teams
    columns:
      - { name: id, data_tests: [unique] }
      - { name: lead, data_tests: [{ relationships: { to: ref('people'), field: id } }] }
",
        ),
    ]);
    sandbox.environment(&stub.server.env);
    sandbox
        .write("project.yml", format!("name: sandbox\ntargets: {{ dev: {{ root: \"{}/lake\" }} }}\n", stub.server.url));
    sandbox.ok(&["build"]);
    // Requests for files of data, by file.
    let asked = |args: &[&str]| {
        stub.fail(|_| None);
        sandbox.ok(args);
        let mut files: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
        let of_data =
            |key: &String| key.contains("/silver/") && key.ends_with(".parquet") && !key.contains("_delta_log");
        for call in stub.calls().into_iter().filter(|call| call.method == "GET" && of_data(&call.key)) {
            *files.entry(call.key).or_default() += 1;
        }
        files
    };
    // What one test of each table asks for.
    let mut once = asked(&["test", "--no-prove", "--select", "unique_people_id"]);
    once.extend(asked(&["test", "--no-prove", "--select", "unique_teams_id"]));
    assert_eq!(once.len(), 2, "{once:?}");
    let tested = asked(&["test", "--no-prove"]);
    // Nine ask for no more.
    assert!(tested.len() == 2 && tested.iter().all(|(file, count)| *count <= once[file]), "{tested:?} {once:?}");
}

#[test]
fn how_many_failing_rows_are_kept_is_said() {
    let sandbox = Sandbox::new(&[
        (
            "models/silver/t.sql",
            "{{ config(materialized='table') }} select cast(value as int) as n from generate_series(1, 150)",
        ),
        (
            "models/silver/t.yml",
            "models:
  - name: t
    columns:
      - name: n
        data_tests:
          - accepted_range: { name: two, max_value: 0, limit: 2, severity: warn }
          - accepted_range: { name: not_kept, max_value: 1, store_failures: false, severity: warn }
          - accepted_range: { name: usual, max_value: 2, severity: warn, on_violation: warn }
",
        ),
    ]);
    let report = sandbox.json(&["build"]);
    let kept = |test: &str| sandbox.value(&format!("select count(*) from _lake.failures where test = '{test}'"));
    assert_eq!((kept("two"), kept("not_kept"), kept("usual")), (2.into(), 0.into(), 100.into()));
    // All are counted all the same.
    let tests = &node(&report, "silver.t")["tests"];
    let counts: Vec<_> = tests.as_array().unwrap().iter().map(|test| test["failures"].as_u64().unwrap()).collect();
    assert_eq!(counts.iter().sum::<u64>(), 150 + 149 + 148, "{counts:?}");
    // Each of these tables has one commit of the run.
    for table in ["runs", "node_results", "test_results", "failures", "profiles"] {
        let log = std::fs::read_dir(sandbox.path(&format!("lake/_lake/{table}/_delta_log"))).unwrap();
        let commits =
            log.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".json")).count();
        assert_eq!(commits, 1, "{table}");
    }
}
