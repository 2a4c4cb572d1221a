//! A correct table, corrupted in a hundred ways: one cell, one row, one key. Every declared test counts what a plain look at
//! the rows counts, and no corruption goes unseen.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::sandbox::{Random, Sandbox};

/// Ways to corrupt it.
const WAYS: u64 = 100;

const COLUMNS: [&str; 8] = ["id", "customer", "state", "amount", "email", "placed", "shipped", "note"];

/// An order, as it stands in its file; an empty cell is NULL.
type Row = [String; 8];

fn correct() -> Vec<Row> {
    let row = |id: usize| {
        [
            id.to_string(),
            (id % 10 + 1).to_string(),
            ["open", "paid", "sent"][id % 3].to_owned(),
            (id * 30).to_string(),
            format!("a{id}@example.org"),
            format!("2024-01-{id:02}"),
            format!("2024-02-{id:02}"),
            format!("{{\"n\": {id}}}"),
        ]
    };
    (1..=28).map(row).collect()
}

/// Corrupts one cell, one row or one key; says how.
fn corrupt(rows: &mut Vec<Row>, random: &mut Random) -> String {
    let at = random.below(rows.len() as u64) as usize;
    let mut set = |column: &str, value: String| {
        let place = COLUMNS.iter().position(|name| *name == column).unwrap();
        let said = format!("{column} of row {at}: `{}` -> `{value}`", rows[at][place]);
        rows[at][place] = value;
        said
    };
    match random.below(14) {
        0 => set(["id", "customer", "state", "amount"][random.below(4) as usize], String::new()),
        1 => set("state", ["lost", "Open", "open ", "unknown"][random.below(4) as usize].to_owned()),
        2 => set("amount", ["0", "-1", "841", "1000000"][random.below(4) as usize].to_owned()),
        3 => set("customer", ["0", "11", "-3"][random.below(3) as usize].to_owned()),
        4 => set("email", ["nobody", "a@b", "@example.org", " "][random.below(4) as usize].to_owned()),
        5 => set("shipped", "2023-12-31".to_owned()),
        6 => set("placed", ["2025-01-01", "2023-12-31"][random.below(2) as usize].to_owned()),
        7 => set("note", ["{", "nul", "{'n': 1}", "[1,]"][random.below(4) as usize].to_owned()),
        8 => set("id", ["0", "29", "-5", "1000"][random.below(4) as usize].to_owned()),
        9 => {
            let twin = (at + 1) % rows.len();
            rows[at][0] = rows[twin][0].clone();
            format!("the id of row {twin} in row {at}")
        }
        10 => {
            let copy = rows[at].clone();
            rows.push(copy);
            format!("row {at} twice")
        }
        11 => {
            rows.remove(at);
            format!("no row {at}")
        }
        12 => {
            let twin = (at + 10) % rows.len();
            (rows[at][1], rows[at][5]) = (rows[twin][1].clone(), rows[twin][5].clone());
            format!("customer and day of row {twin} in row {at}")
        }
        _ => {
            let amount: i64 = rows[at][3].parse().unwrap();
            rows[at][3] = (amount % 840 + 1).to_string();
            format!("one more in row {at}")
        }
    }
}

/// A test: where it stands, what it says in YAML, and what a plain look at the rows counts.
type Rule = (&'static str, &'static str, fn(&[Row]) -> u64);

fn cells(rows: &[Row], column: usize) -> Vec<&str> {
    rows.iter().map(|row| row[column].as_str()).collect()
}

fn numbers(rows: &[Row], column: usize) -> Vec<i64> {
    cells(rows, column).into_iter().filter_map(|cell| cell.parse().ok()).collect()
}

fn count<T>(values: &[T], wrong: impl Fn(&T) -> bool) -> u64 {
    values.iter().filter(|value| wrong(value)).count() as u64
}

fn repeated<T: Ord>(values: Vec<T>) -> u64 {
    let mut counts: BTreeMap<T, u64> = BTreeMap::new();
    values.into_iter().for_each(|value| *counts.entry(value).or_default() += 1);
    counts.values().filter(|count| **count > 1).count() as u64
}

const RULES: &[Rule] = &[
    ("id", "not_null", |rows| count(&cells(rows, 0), |cell| cell.is_empty())),
    ("customer", "not_null", |rows| count(&cells(rows, 1), |cell| cell.is_empty())),
    ("state", "not_null", |rows| count(&cells(rows, 2), |cell| cell.is_empty())),
    ("amount", "not_null", |rows| count(&cells(rows, 3), |cell| cell.is_empty())),
    ("id", "unique", |rows| repeated(numbers(rows, 0))),
    ("id", "sequential_values", |rows| {
        let mut ids = numbers(rows, 0);
        ids.sort();
        ids.windows(2).filter(|pair| pair[1] != pair[0] + 1).count() as u64
    }),
    ("state", "accepted_values: { values: [open, paid, sent] }", |rows| {
        count(&cells(rows, 2), |cell| !cell.is_empty() && !["open", "paid", "sent"].contains(cell))
    }),
    ("state", "string_length_between: { value: 4 }", |rows| {
        count(&cells(rows, 2), |cell| !cell.is_empty() && cell.len() != 4)
    }),
    ("amount", "accepted_range: { min_value: 1, max_value: 840 }", |rows| {
        count(&numbers(rows, 3), |amount| !(1..=840).contains(amount))
    }),
    ("amount", "sum_between: { value: 12180 }", |rows| u64::from(numbers(rows, 3).iter().sum::<i64>() != 12180)),
    ("customer", "relationships: { to: ref('customers'), field: id }", |rows| {
        count(&numbers(rows, 1), |customer| !(1..=10).contains(customer))
    }),
    ("email", "matches_regex: { preset: email }", |rows| {
        count(&cells(rows, 4), |cell| {
            let parts = cell.split_once('@');
            !cell.is_empty() && !parts.is_some_and(|(name, host)| !name.is_empty() && host.contains('.'))
        })
    }),
    ("email", "not_empty_string", |rows| count(&cells(rows, 4), |cell| !cell.is_empty() && cell.trim().is_empty())),
    ("placed", "dates_between: { min_value: '2024-01-01', max_value: '2024-12-31' }", |rows| {
        count(&cells(rows, 5), |day| !("2024-01-01"..="2024-12-31").contains(day))
    }),
    ("note", "well_formed_json", |rows| {
        count(&cells(rows, 7), |cell| !cell.is_empty() && serde_json::from_str::<Value>(cell).is_err())
    }),
    ("", "unique_combination_of_columns: { columns: [customer, placed] }", |rows| {
        repeated(rows.iter().map(|row| (row[1].clone(), row[5].clone())).collect())
    }),
    ("", "expression_is_true: { expression: placed <= shipped }", |rows| {
        rows.iter().filter(|row| row[5] > row[6]).count() as u64
    }),
    ("", "row_count_between: { value: 28 }", |rows| u64::from(rows.len() != 28)),
];

/// All tests of a table, each by the number of its rule.
fn yaml(model: &str) -> String {
    let mut text = format!("  - name: {model}\n    data_tests:\n");
    let named = |at: usize, test: &str| {
        let (name, arguments) = test.split_once(": {").map_or((test, " }"), |(name, rest)| (name, rest));
        let comma = if arguments == " }" { "" } else { "," };
        format!("{name}: {{ name: {model}_{at}{comma}{arguments}")
    };
    for (at, (_, test, _)) in RULES.iter().enumerate().filter(|(_, rule)| rule.0.is_empty()) {
        text.push_str(&format!("      - {}\n", named(at, test)));
    }
    text.push_str("    columns:\n");
    for column in COLUMNS {
        let of_column = RULES.iter().enumerate().filter(|(_, rule)| rule.0 == column);
        let tests: String = of_column.map(|(at, rule)| format!("          - {}\n", named(at, rule.1))).collect();
        if !tests.is_empty() {
            text.push_str(&format!("      - name: {column}\n        data_tests:\n{tests}"));
        }
    }
    text
}

fn csv(rows: &[Row]) -> String {
    // An empty cell is NULL where it is not quoted.
    let quoted = |cell: &String| match cell.as_str() {
        "" => String::new(),
        cell => format!("\"{}\"", cell.replace('"', "\"\"")),
    };
    let line = |row: &Row| row.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n";
    format!("{}\n{}", COLUMNS.join(","), rows.iter().map(line).collect::<String>())
}

#[test]
fn every_corruption_is_seen_by_the_tests_that_claim_to_see_it() {
    let sandbox = Sandbox::empty();
    sandbox.write("project.yml", "name: sandbox\ntargets:\n  dev: { root: lake }\nmodels: { +materialized: table }\n");
    sandbox.write("models/silver/customers.sql", "select unnest(generate_series(1, 10)) as id");
    let (mut random, mut tables, mut said) = (Random(0x51ed), vec![correct()], vec!["nothing".to_owned()]);
    for _ in 0..WAYS {
        let mut rows = correct();
        said.push(corrupt(&mut rows, &mut random));
        tables.push(rows);
    }
    let types = ["bigint", "bigint", "varchar", "bigint", "varchar", "date", "date", "varchar"];
    let columns: String = COLUMNS
        .iter()
        .zip(types)
        .map(|(name, kind)| format!("          - {{ name: {name}, data_type: {kind} }}\n"))
        .collect();
    let (mut sources, mut tests) = ("sources:\n  - name: raw\n    tables:\n".to_owned(), "models:\n".to_owned());
    for (at, rows) in tables.iter().enumerate() {
        sandbox.write(&format!("in/t{at}/1.csv"), csv(rows));
        sandbox.write(&format!("models/silver/t{at}.sql"), format!("select * from {{{{ source('raw', 't{at}') }}}}"));
        sources.push_str(&format!(
            "      - name: t{at}\n        path: in/t{at}/\n        format: csv\n        columns:\n{columns}"
        ));
        tests.push_str(&yaml(&format!("t{at}")));
    }
    sandbox.write("sources.yml", sources);
    sandbox.write("models/tests.yml", tests);
    // Built with its tests, and tested after a build without: over the stream, and over the files.
    let built = sandbox.lake(&["build", "--output", "json"]);
    sandbox.ok(&["run"]);
    let tested = sandbox.lake(&["test", "--output", "json"]);
    let mut seen_rules = BTreeSet::new();
    for run in [built, tested] {
        let report: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{run:#?}"));
        let of_nodes = report["nodes"].as_array().unwrap().iter().flat_map(|node| node["tests"].as_array().unwrap());
        let all = of_nodes.chain(report["tests"].as_array().unwrap());
        let found: BTreeMap<&str, u64> =
            all.map(|test| (test["name"].as_str().unwrap(), test["failures"].as_u64().unwrap())).collect();
        for (at, (rows, said)) in tables.iter().zip(&said).enumerate() {
            let mut seen = 0;
            for (number, (column, test, plain)) in RULES.iter().enumerate() {
                let (failures, truth) = (found[format!("t{at}_{number}").as_str()], plain(rows));
                assert_eq!(failures, truth, "t{at}, {said}: {test} of `{column}`");
                seen += failures;
                if failures > 0 {
                    seen_rules.insert(number);
                }
            }
            assert_eq!(seen > 0, at > 0, "t{at}, {said}");
        }
    }
    let unused: Vec<&str> = (0..RULES.len()).filter(|at| !seen_rules.contains(at)).map(|at| RULES[at].1).collect();
    assert!(unused.is_empty(), "no corruption was for {unused:?}");
}
