//! What differs between two versions of a table, and between the tables of two targets.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::sandbox::{Random, Sandbox, snapshots};

const SOURCES: &str = "sources:
  - name: raw
    root: in
    tables:
      - name: orders
        path: orders/
        format: csv
        columns:
          - { name: id, data_type: bigint }
          - { name: state, data_type: varchar }
          - { name: amount, data_type: double }
";

const PROJECT: &str = "name: sandbox\ntarget: dev\ntargets:\n  dev: { root: lake }\n  prod: { root: prod }\n";

/// `silver.orders` with these settings, over files that `deliver` writes.
fn orders(config: &str) -> Sandbox {
    let sql = format!("{{{{ config({config}) }}}}\nselect id, state, amount from {{{{ source('raw', 'orders') }}}}\n");
    Sandbox::new(&[("project.yml", PROJECT), ("sources.yml", SOURCES), ("models/silver/orders.sql", &sql)])
}

/// One more file, and a build.
fn deliver(sandbox: &Sandbox, rows: &str) {
    let files = std::fs::read_dir(sandbox.path("in/orders")).map_or(0, Iterator::count);
    sandbox.write(&format!("in/orders/{files}.csv"), format!("id,state,amount\n{rows}"));
    sandbox.ok(&["build"]);
}

/// Other rows in the place of all, and a build.
fn replace(sandbox: &Sandbox, rows: &str) {
    sandbox.write("in/orders/0.csv", format!("id,state,amount\n{rows}"));
    sandbox.ok(&["build"]);
}

fn data_files(sandbox: &Sandbox, table: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(sandbox.path(table)).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "parquet")).collect()
}

/// What a person sees, without sizes of files.
fn shown(sandbox: &Sandbox, args: &[&str]) -> String {
    sandbox.ok(&[&["diff", "orders"], args].concat())
}

macro_rules! assert_shows {
    ($name:literal, $text:expr) => {
        let mut settings = snapshots();
        settings.add_filter(r"[\d,]+ bytes", "[size]");
        settings.bind(|| insta::assert_snapshot!(concat!("table_diff@", $name), $text));
    };
}

fn counts(found: &Value) -> [u64; 4] {
    ["added", "removed", "changed", "same"].map(|key| found[key].as_u64().unwrap_or_else(|| panic!("{found}")))
}

#[test]
fn an_append_costs_the_file_that_came() {
    let sandbox = orders("materialized='incremental'");
    sandbox
        .write("models/silver/orders.yml", "models: [{ name: orders, columns: [{ name: id, data_tests: [unique] }] }]");
    deliver(&sandbox, "1,open,1\n2,open,2\n");
    let shared = data_files(&sandbox, "lake/silver/orders");
    deliver(&sandbox, "3,open,3\n,paid,4\n");
    // Whoever reads it fails.
    shared.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let found = sandbox.json(&["diff", "orders", "--versions", "0..1"]);
    assert_eq!((&found["compared"], &found["by"]), (&json!("versions"), &json!("key")), "{found}");
    assert_eq!(found["key"], json!({"columns": ["id"], "from": "unique_orders_id", "is_unique": true}));
    assert_eq!(counts(&found), [2, 0, 0, 2]);
    assert_eq!(found["examples"]["added"], json!([{"id": 3}, {"id": null}]));
    assert_eq!((&found["read"]["files"], &found["shared"]["files"]), (&json!(1), &json!(1)));
    assert_eq!((&found["before"]["rows"], &found["after"]["rows"]), (&json!(2), &json!(4)));
    assert_shows!("an_append", shown(&sandbox, &["--versions", "0.."]));
    // All ways to name the same two versions.
    for versions in [&["--versions", "0"][..], &["--versions", "..1"], &["--versions", ".."], &[]] {
        let again = sandbox.json(&[&["diff", "silver.orders"], versions].concat());
        assert_eq!(again, found, "{versions:?}");
    }
    let same = sandbox.json(&["diff", "orders", "--versions", "1..1"]);
    assert_eq!((&same["by"], &same["read"]["files"], &same["same"]), (&json!("files"), &json!(0), &json!(4)));
}

#[test]
fn what_a_merge_changed_is_told_by_key_and_column() {
    let sandbox = orders("materialized='incremental', unique_key='id'");
    deliver(&sandbox, "1,open,1\n2,open,2\n3,,3\n,open,9\n");
    deliver(&sandbox, "2,paid,2\n3,,3\n4,open,4\n,open,\n");
    let found = sandbox.json(&["diff", "orders"]);
    assert_eq!(found["key"], json!({"columns": ["id"], "from": "unique_key", "is_unique": true}));
    assert_eq!(counts(&found), [1, 0, 2, 2], "{found}");
    let expected = json!([
        {"key": {"id": 2}, "columns": {"state": {"before": "open", "after": "paid"}}},
        {"key": {"id": null}, "columns": {"amount": {"before": 9.0, "after": null}}},
    ]);
    assert_eq!(found["examples"]["changed"], expected);
    let expected = json!([{"column": "state", "keys": 1, "rate": 0.25}, {"column": "amount", "keys": 1, "rate": 0.25}]);
    assert_eq!(found["changes"], expected);
    assert_shows!("a_merge", shown(&sandbox, &[]));
    let backwards = sandbox.json(&["diff", "orders", "--versions", "1..0"]);
    assert_eq!(counts(&backwards), [0, 1, 2, 2], "{backwards}");
    let few = sandbox.json(&["diff", "orders", "--limit", "1"]);
    assert_eq!((few["examples"]["changed"].as_array().unwrap().len(), &few["changed"]), (1, &json!(2)));
    assert!(shown(&sandbox, &["--limit", "0"]).contains("+ 1 added"));
}

#[test]
fn files_that_were_only_packed_hold_the_same_rows() {
    let sandbox = orders("materialized='incremental', unique_key='id'");
    (0..3).for_each(|id| deliver(&sandbox, &format!("{id},open,1\n")));
    sandbox.ok(&["maintain"]);
    let found = sandbox.json(&["diff", "orders", "--versions", "2..3"]);
    assert_eq!((counts(&found), &found["by"]), ([0, 0, 0, 3], &json!("key")), "{found}");
    assert!(shown(&sandbox, &["--versions", "2..3"]).contains("the same rows, by key id"));
}

#[test]
fn columns_that_come_go_and_change_are_told() {
    let sandbox = orders("materialized='table', unique_key='id'");
    deliver(&sandbox, "1,open,1\n2,open,2.5\n");
    sandbox.write(
        "models/silver/orders.sql",
        "{{ config(materialized='table', unique_key='id') }}\nselect cast(id as int) as id, \
         cast(amount as varchar) as amount, 'web' as channel from {{ source('raw', 'orders') }}\n",
    );
    sandbox.ok(&["build"]);
    let found = sandbox.json(&["diff", "orders"]);
    let expected = json!([
        {"column": "id", "change": "retyped", "before": "bigint", "after": "int"},
        {"column": "amount", "change": "retyped", "before": "double", "after": "varchar"},
        {"column": "channel", "change": "added", "data_type": "varchar"},
        {"column": "state", "change": "removed", "data_type": "varchar"},
    ]);
    assert_eq!(found["columns"], expected);
    assert_eq!(counts(&found), [0, 0, 0, 2], "values that read the same are the same: {found}");
    assert_shows!("columns", shown(&sandbox, &[]));
    sandbox.lake(&["diff", "orders", "--key", "state"]).assert_failed(2, "names `state`, which not both");
    // Without a column that both have as a key, rows are compared.
    sandbox.write("models/silver/orders.sql", "{{ config(materialized='table', unique_key='no') }}\nselect 1 as no");
    sandbox.ok(&["build"]);
    let found = sandbox.json(&["diff", "orders", "--versions", "0.."]);
    assert_eq!((&found["by"], &found["key"]), (&json!("rows"), &Value::Null));
    assert_eq!((counts(&found), &found["read"]["files"]), ([1, 2, 0, 0], &json!(0)), "{found}");
    assert_eq!(found["no_key"], "no column of one is one of the other");
    let model = "{{ config(materialized='table', unique_key='no') }}\nselect 1 as no, 'web' as channel";
    sandbox.write("models/silver/orders.sql", model);
    sandbox.ok(&["build"]);
    let found = sandbox.json(&["diff", "orders", "--versions", "1.."]);
    assert_eq!(found["no_key"], "`no`, of its key by unique_key, is not a column of both");
    assert_eq!(counts(&found), [0, 1, 0, 1], "the columns of both are the same: {found}");
}

#[test]
fn without_a_key_rows_are_counted() {
    let sandbox = orders("materialized='table'");
    replace(&sandbox, "1,open,1\n1,open,1\n2,,2\n");
    replace(&sandbox, "1,open,1\n2,,2\n2,,2\n3,it's,3\n");
    let found = sandbox.json(&["diff", "orders"]);
    assert_eq!((&found["by"], counts(&found)), (&json!("rows"), [2, 1, 0, 2]), "{found}");
    let rows = |kind: &str| found["examples"][kind].clone();
    assert_eq!(rows("removed"), json!([{"id": 1, "state": "open", "amount": 1.0}]));
    let expected = json!([{"id": 2, "state": null, "amount": 2.0}, {"id": 3, "state": "it's", "amount": 3.0}]);
    assert_eq!(rows("added"), expected);
    assert_shows!("without_a_key", shown(&sandbox, &[]));
}

#[test]
fn keys_that_stand_twice_are_counted_apart() {
    let sandbox = orders("materialized='table', unique_key='id'");
    replace(&sandbox, "1,open,1\n2,open,2\n2,open,3\n3,open,3\n5,open,5\n5,open,5\n");
    replace(&sandbox, "1,paid,1\n2,open,2\n2,open,4\n4,open,4\n4,open,4\n5,open,5\n5,open,5\n");
    let found = sandbox.json(&["diff", "orders"]);
    assert_eq!(counts(&found), [0, 1, 1, 0], "{found}");
    assert_eq!(found["repeated"], json!({"keys": 3, "added": 3, "removed": 1}));
    let twice = |id: u64, before: u64, after: u64| json!({"key": {"id": id}, "before": before, "after": after});
    assert_eq!(found["examples"]["repeated"], json!([twice(2, 2, 2), twice(4, 0, 2), twice(5, 2, 2)]));
    assert_shows!("repeated_keys", shown(&sandbox, &[]));
    let by_two = sandbox.json(&["diff", "orders", "--key", "id,amount"]);
    assert_eq!((by_two["repeated"]["keys"].as_u64(), counts(&by_two)), (Some(2), [1, 2, 1, 1]), "{by_two}");
    assert!(shown(&sandbox, &["--key", "id,amount"]).contains("(2, 4.0)"));
}

#[test]
fn a_key_that_nothing_proves_says_what_was_not_looked_at() {
    let sandbox = orders("materialized='incremental'");
    deliver(&sandbox, "1,open,1\n");
    deliver(&sandbox, "1,open,1\n2,open,2\n");
    let found = sandbox.json(&["diff", "orders", "--key", "id"]);
    assert_eq!((&found["key"]["is_unique"], &found["added"]), (&json!(false), &json!(2)));
    assert!(shown(&sandbox, &["--key", "id"]).contains("not looked for in the skipped files"));
    assert_eq!(sandbox.json(&["diff", "orders"])["added"], 2);
}

#[test]
fn a_primary_key_of_a_contract_is_a_key() {
    let sandbox = orders("materialized='table'");
    sandbox.write(
        "models/silver/orders.yml",
        "models:\n  - name: orders\n    config: { contract: { enforced: true } }\n    columns:\n\
         \x20     - { name: id, data_type: bigint, constraints: [{ type: primary_key }] }\n\
         \x20     - { name: state, data_type: varchar }\n      - { name: amount, data_type: double }\n",
    );
    replace(&sandbox, "1,open,1\n");
    replace(&sandbox, "1,paid,1\n");
    let found = sandbox.json(&["diff", "orders"]);
    assert_eq!(found["key"], json!({"columns": ["id"], "from": "contract_unique_orders_id", "is_unique": true}));
    assert_eq!(counts(&found), [0, 0, 1, 0], "{found}");
}

#[test]
fn two_targets_are_compared_as_they_are_now() {
    let sandbox = orders("materialized='table', unique_key='id'");
    let targets = ["diff", "orders", "--targets", "dev,prod"];
    replace(&sandbox, "1,open,1\n2,open,2\n");
    sandbox.lake(&targets).assert_failed(2, "`silver.orders` is not built yet in target `prod`");
    sandbox.ok(&["build", "--target", "prod"]);
    // Other files of the same rows: nobody has to read them.
    data_files(&sandbox, "prod/silver/orders").iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let same = sandbox.json(&targets);
    assert_eq!((&same["compared"], &same["by"]), (&json!("targets"), &json!("content")), "{same}");
    assert_eq!((&same["read"]["files"], &same["same"], &same["shared"]["files"]), (&json!(0), &json!(2), &json!(0)));
    assert_shows!("the_same_targets", shown(&sandbox, &targets[2..]));
    std::fs::remove_dir_all(sandbox.path("prod")).unwrap();
    sandbox.ok(&["build", "--target", "prod"]);
    replace(&sandbox, "1,open,1\n2,paid,2\n3,open,3\n");
    let found = sandbox.json(&["diff", "orders", "--targets", "prod,dev"]);
    assert_eq!((counts(&found), &found["before"]["target"]), ([1, 0, 1, 1], &json!("prod")), "{found}");
    assert_shows!("other_targets", shown(&sandbox, &["--targets", "prod,dev"]));
}

#[test]
fn a_copied_table_shares_its_files() {
    let sandbox = orders("materialized='incremental', unique_key='id'");
    deliver(&sandbox, "1,open,1\n");
    for part in ["", "_delta_log"] {
        std::fs::create_dir_all(sandbox.path("prod/silver/orders").join(part)).unwrap();
        for entry in std::fs::read_dir(sandbox.path("lake/silver/orders").join(part)).unwrap().map(Result::unwrap) {
            if entry.path().is_file() {
                let to = sandbox.path("prod/silver/orders").join(part).join(entry.file_name());
                std::fs::hard_link(entry.path(), to).unwrap();
            }
        }
    }
    deliver(&sandbox, "2,open,2\n");
    let found = sandbox.json(&["diff", "orders", "--targets", "prod,dev"]);
    assert_eq!((counts(&found), &found["read"]["files"]), ([1, 0, 0, 1], &json!(1)), "{found}");
    assert_eq!(found["shared"]["files"], 1);
}

#[test]
fn sensitive_values_are_not_shown() {
    let sandbox = orders("materialized='table', unique_key='id'");
    let sources = SOURCES.replace("data_type: varchar }", "data_type: varchar, meta: { sensitive: pii } }");
    sandbox.write("sources.yml", sources);
    replace(&sandbox, "1,secret,1\n2,,2\n");
    replace(&sandbox, "1,hidden,1\n2,hidden,2\n");
    let found = sandbox.json(&["diff", "orders"]);
    let values = |row: usize| found["examples"]["changed"][row]["columns"]["state"].clone();
    assert_eq!(values(0), json!({"before": "***", "after": "***"}));
    assert_eq!(values(1), json!({"before": null, "after": "***"}));
    for args in [&[][..], &["--key", "state"], &["--key", "amount"]] {
        let text = shown(&sandbox, args);
        assert!(!text.contains("secret") && !text.contains("hidden"), "{text}");
    }
    // Of a column that is gone nobody knows what it was.
    sandbox.write("models/silver/orders.sql", "{{ config(materialized='table') }}\nselect 1 as id");
    sandbox.ok(&["build"]);
    let text = shown(&sandbox, &["--versions", "0..1"]);
    assert!(!text.contains("secret") && text.contains("***"), "{text}");
}

#[test]
fn values_of_all_types_compare() {
    let model = |at: u8| {
        format!(
            "{{{{ config(materialized='table', unique_key=['no', 'at']) }}}}\nselect 1 as no, timestamp '2026-01-01 10:00:00' as at, \
             cast({at} as decimal(38, 2)) as price, [1, {at}] as list, named_struct('a', {at}, 'b', cast(null as int)) as object, \
             arrow_cast('{at}', 'Binary') as bytes, {at} = 1 as flag, cast('NaN' as double) as nan, \
             cast(null as varchar) as none, case when {at} = 1 then 'two\nlines' else '' end as text"
        )
    };
    let sandbox = Sandbox::new(&[("models/silver/orders.sql", &model(1))]);
    sandbox.ok(&["build"]);
    sandbox.write("models/silver/orders.sql", model(2));
    sandbox.ok(&["build"]);
    let found = sandbox.json(&["diff", "orders"]);
    assert_eq!(counts(&found), [0, 0, 1, 0], "{found}");
    let example = &found["examples"]["changed"][0];
    assert_eq!(example["key"], json!({"no": 1, "at": "2026-01-01T10:00:00"}));
    let columns: Vec<&String> = example["columns"].as_object().unwrap().keys().collect();
    assert_eq!(columns, ["price", "list", "object", "bytes", "flag", "text"], "{example}");
    assert_eq!(example["columns"]["price"], json!({"before": "1.00", "after": "2.00"}));
    assert_shows!("all_types", shown(&sandbox, &[]));
    sandbox.write("models/silver/orders.sql", model(2).replace(", unique_key=['no', 'at']", ""));
    let rows = sandbox.json(&["diff", "orders"]);
    assert_eq!((&rows["by"], counts(&rows)), (&json!("rows"), [1, 1, 0, 0]), "{rows}");
}

/// A history is compared by the versions of its rows, and rows that go with their key by whole rows.
#[test]
fn a_key_of_a_group_of_rows_is_none() {
    let sandbox = orders("materialized='incremental', incremental_strategy='delete+insert', unique_key='state'");
    deliver(&sandbox, "1,open,1\n2,open,2\n");
    deliver(&sandbox, "3,open,3\n4,paid,4\n");
    let found = sandbox.json(&["diff", "orders"]);
    assert_eq!((&found["by"], counts(&found)), (&json!("rows"), [2, 2, 0, 0]), "{found}");

    let sandbox = orders("materialized='scd2', unique_key='id', strategy='check', check_cols='all'");
    deliver(&sandbox, "1,open,1\n2,open,2\n");
    deliver(&sandbox, "1,paid,1\n");
    let found = sandbox.json(&["diff", "orders"]);
    assert_eq!(found["key"]["columns"], json!(["id", "valid_from"]), "{found}");
    assert_eq!((found["added"].as_u64(), found["changed"].as_u64()), (Some(1), Some(1)), "{found}");
}

#[test]
fn what_cannot_be_compared_says_why() {
    let sandbox = orders("materialized='incremental', unique_key='id'");
    sandbox.write("models/gold/paid.sql", "select * from {{ ref('orders') }}");
    let fails = |args: &[&str], text: &str| sandbox.lake(&[&["diff"], args].concat()).assert_failed(2, text);
    fails(&["orders"], "`silver.orders` is not built yet in target `dev`");
    deliver(&sandbox, "1,open,1\n");
    fails(&["orders"], "there is no version of `silver.orders` before version 0");
    fails(&["orders", "--versions", "0..4"], "has no version 4: it has only 0");
    deliver(&sandbox, "1,paid,1\n");
    fails(&["orders", "--versions", "7.."], "has no version 7: it has 0 to 1");
    fails(&["orders", "--versions", "a..b"], "`a` is not a version: write 3..5, 3.. or ..5");
    fails(&["order"], "did you mean `orders`?");
    fails(&["paid"], "is of materialization `view`: it has no table");
    fails(&["raw.orders"], "is a source: only models have tables");
    fails(&["orders", "--targets", "dev"], "it takes two targets: dev,prod");
    fails(&["orders", "--targets", "dev,prd"], "there is no target `prd`");
    fails(&["orders", "--targets", "dev,prd"], "did you mean `prod`?");
    fails(
        &["orders", "--key", "ids"],
        "`--key` names `ids`, which not both of `silver.orders` have; did you mean `id`?",
    );
    fails(&["orders", "--state", "before"], "a table is compared by --versions or --targets");
    fails(&["--versions", "0..1"], "MODEL");
    fails(&["orders", "--select", "paid"], "cannot be used with");
    std::fs::create_dir(sandbox.path("before")).unwrap();
    fails(&["--state", "before"], "`before/manifest.json` does not exist");
    let old = &data_files(&sandbox, "lake/silver/orders");
    old.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    fails(
        &["orders"],
        "version 0 of `silver.orders` cannot be read any more: a vacuum has taken 1 data file of it away",
    );
}

#[test]
fn a_project_is_compared_with_an_older_compile() {
    let sandbox = orders("materialized='table'");
    sandbox.write("models/gold/states.sql", "select state, count(*) as n from {{ ref('orders') }} group by state");
    sandbox.ok(&["compile"]);
    std::fs::rename(sandbox.path(".lake"), sandbox.path("before")).unwrap();
    let model = std::fs::read_to_string(sandbox.path("models/silver/orders.sql")).unwrap();
    for (sql, class, downstream) in [
        (model.replace("select id", "-- said otherwise\nselect\n  id"), "cosmetic", 0),
        (model.replace("amount from", "amount, 1 as one from"), "additive", 0),
        (model.replace("state,", "upper(state) as state,"), "logic", 1),
        (model.replace("state,", "cast(length(state) as bigint) as state,"), "breaking", 1),
    ] {
        sandbox.write("models/silver/orders.sql", sql);
        let found = sandbox.json(&["diff", "--state", "before"]);
        assert_eq!(found["compared"], "state");
        let classes: Vec<&Value> = found["models"].as_array().unwrap().iter().map(|model| &model["class"]).collect();
        assert!(classes.iter().all(|found| *found == class) && classes.len() <= 1, "{class}: {found}");
        assert_eq!(found["downstream"].as_array().unwrap().len(), downstream, "{class}: {found}");
        let gate = sandbox.lake(&["diff", "--state", "before", "--fail-on", "breaking"]);
        assert_eq!(gate.code, i32::from(class == "breaking"), "{}", gate.stdout);
    }
}

/// Whatever two versions hold, the counts are those of a comparison in memory.
#[test]
fn counts_are_those_of_a_comparison_in_memory() {
    let rounds = std::env::var("LAKE_SOAK_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let mut random = Random(11);
    let sandbox = orders("materialized='table', unique_key='id'");
    let mut rows = |keys: u64| -> Vec<(String, String)> {
        let key = |at: u64| if at == 0 { String::new() } else { at.to_string() };
        (0..random.below(12))
            .map(|_| (key(random.below(keys)), ["", "a", "b"][random.below(3) as usize].to_owned()))
            .collect()
    };
    let mut before = rows(8);
    let text =
        |rows: &[(String, String)]| rows.iter().map(|(id, state)| format!("{id},{state},1\n")).collect::<String>();
    replace(&sandbox, &text(&before));
    for round in 0..rounds {
        // Few keys stand often, many once.
        let after = rows(if round % 2 == 0 { 6 } else { 40 });
        replace(&sandbox, &text(&after));
        let found = sandbox.json(&["diff", "orders"]);
        let mut keys: BTreeMap<&str, [Vec<&str>; 2]> = BTreeMap::new();
        for (side, rows) in [(0, &before), (1, &after)] {
            rows.iter().for_each(|(id, state)| keys.entry(id).or_default()[side].push(state));
        }
        let (mut expected, mut repeated) = ([0; 4], 0);
        for [old, new] in keys.values() {
            match (old.as_slice(), new.as_slice()) {
                ([], [_]) => expected[0] += 1,
                ([_], []) => expected[1] += 1,
                ([old], [new]) if old != new => expected[2] += 1,
                ([_], [_]) => expected[3] += 1,
                _ => repeated += 1,
            }
        }
        if found["by"] == "content" || found["by"] == "files" {
            let sorted = |rows: &[(String, String)]| {
                let mut rows = rows.to_vec();
                rows.sort();
                rows
            };
            assert_eq!(sorted(&before), sorted(&after), "{found}");
        } else {
            assert_eq!((counts(&found), found["repeated"]["keys"].as_u64()), (expected, Some(repeated)), "{found}");
        }
        before = after;
    }
}
