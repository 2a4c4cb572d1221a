//! `examples/customers`: one nested JSON document a day.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Example, warnings};
use crate::sandbox::{names, node};

const SILVER: [&str; 5] = ["customers", "transactions", "products", "denormalized", "sanitation"];

/// A document as it is in the folder of its day.
fn document(example: &Example, path: &str) -> Value {
    let text = std::fs::read_to_string(example.sandbox.path(&format!("data/{path}/customers.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn deliver(example: &Example, day: &str, document: &Value) {
    example.sandbox.write(&format!("data/bronze/{day}/customers.json"), document.to_string());
}

/// The late document is delivered.
fn deliver_late(example: &Example) {
    deliver(example, "2024-03-03", &document(example, "late/2024-03-03"));
}

/// What all documents say of customers, in the order of their days.
fn customers(example: &Example) -> Vec<(String, Value)> {
    let days = names(&example.sandbox.path("data/bronze"));
    let of = |day: String| {
        let found = document(example, &format!("bronze/{day}"))["customers"].as_array().unwrap().clone();
        found.into_iter().map(move |customer| (day.clone(), customer))
    };
    days.into_iter().flat_map(of).collect()
}

fn transactions(customer: &Value) -> usize {
    customer["transactions"].as_array().map_or(0, Vec::len)
}

#[track_caller]
fn assert_silver_is_what_was_delivered(example: &Example) {
    let all = customers(example);
    let rows = all.len() as u64;
    let sold: usize = all.iter().map(|(_, customer)| transactions(customer)).sum();
    let denormalized: usize = all.iter().map(|(_, customer)| transactions(customer).max(1)).sum();
    let found = example.counts(SILVER);
    assert_eq!(
        [found[0], found[1], found[3], found[4]],
        [rows, sold as u64, denormalized as u64, rows],
        "customers, transactions, denormalized, sanitation"
    );
    let days = "select count(distinct import_date) as n from {{ ref('customers') }}";
    assert_eq!(example.value(days), names(&example.sandbox.path("data/bronze")).len());
}

/// Gold has every transaction once, as the newest document has it, and of each customer the newest address as the current one.
#[track_caller]
fn assert_gold_is_what_was_delivered(example: &Example) {
    let (mut newest, mut sold) = (BTreeMap::new(), BTreeMap::new());
    for (_, customer) in customers(example) {
        for transaction in customer["transactions"].as_array().into_iter().flatten() {
            let cents = (transaction["amount"].as_f64().unwrap() * 100.0).round() as u64;
            sold.insert(transaction["transaction_id"].as_str().unwrap().to_owned(), cents);
        }
        newest.insert(customer["id"].as_u64().unwrap(), customer);
    }
    let facts = "select transaction_id, cast(amount * 100 as bigint) as cents from {{ ref('fact_transactions') }}";
    let found = example.query(facts);
    let by_id: BTreeMap<String, u64> = found
        .iter()
        .map(|row| (row["transaction_id"].as_str().unwrap().to_owned(), row["cents"].as_u64().unwrap()))
        .collect();
    assert_eq!((found.len(), by_id), (sold.len(), sold));
    let current = "select customer_id, email from {{ ref('dimension_customers') }} where is_current";
    let found = example.query(current);
    assert_eq!(found.len(), newest.len());
    for row in found {
        assert_eq!(row["email"], newest[&row["customer_id"].as_u64().unwrap()]["email"], "{row}");
    }
}

/// Addresses of a customer with their days.
fn versions(example: &Example, customer: u64) -> Vec<String> {
    let sql = format!(
        "select email, valid_from, valid_to from {{{{ ref('dimension_customers') }}}} where customer_id = {customer} order by valid_from"
    );
    let text = |value: &Value| value.as_str().unwrap_or("now").to_owned();
    example
        .query(&sql)
        .iter()
        .map(|row| format!("{} {}..{}", text(&row["email"]), text(&row["valid_from"]), text(&row["valid_to"])))
        .collect()
}

#[test]
fn documents_are_built_from_nothing_and_again() {
    let example = Example::copy("customers");
    example.assert_generated("data");
    let report = example.build(&[]);
    assert_silver_is_what_was_delivered(&example);
    assert_gold_is_what_was_delivered(&example);
    let broken = warnings(&report, "silver.sanitation");
    assert_eq!(broken.len(), 4, "each rule is broken by somebody: {broken:?}");
    for (rule, count) in broken {
        let column = rule.trim_start_matches("rule_");
        let sql = format!("select count(*) as n from {{{{ ref('sanitation') }}}} where not {column}");
        assert_eq!(example.value(&sql), count, "the table says what the test says: {rule}");
    }
    // An apostrophe, and amounts that add up.
    let names =
        "select count(*) as n from {{ ref('dimension_customers') }} where name like '%D''Angelo' and is_current";
    assert_ne!(example.value(names), 0);
    let sums = "select count(*) as n from {{ ref('sanitation') }} where customer_id = 1 and not total_adds_up";
    assert_eq!(example.value(sums), 0);
    // Who never bought is there.
    let idle = "select count(*) as n from {{ ref('dimension_customers') }} as c \
                left anti join {{ ref('fact_transactions') }} as f on f.customer_id = c.customer_id where c.is_current";
    assert!(example.value(idle).as_u64().unwrap() >= 8);
    example.assert_rests();
}

#[test]
fn an_earlier_day_that_comes_late_takes_its_place() {
    let example = Example::copy("customers");
    example.build(&[]);
    let two = |example: &Example| versions(example, 2);
    assert_eq!(two(&example), ["customer2@example.com 2024-03-01..now"]);
    deliver_late(&example);
    let report = example.build(&[]);
    for model in SILVER {
        assert_eq!(node(&report, &format!("silver.{model}"))["files_read"], 1, "{model}");
    }
    let expected = [
        "customer2@example.com 2024-03-01..2024-03-03",
        "two.new@example.com 2024-03-03..2024-03-04",
        "customer2@example.com 2024-03-04..now",
    ];
    assert_eq!(two(&example), expected);
    assert_eq!(
        versions(&example, 3),
        ["customer3@example.com 2024-03-01..2024-03-03", "three.moved@example.com 2024-03-03..now"]
    );
    assert_silver_is_what_was_delivered(&example);
    assert_gold_is_what_was_delivered(&example);
    // The order of deliveries does not matter.
    let in_order = Example::copy("customers");
    deliver_late(&in_order);
    in_order.build(&[]);
    for model in ["dimension_customers", "fact_transactions", "dimension_products"] {
        let all = |example: &Example| {
            let rows = example.query(&format!("select * from {{{{ ref('{model}') }}}}"));
            let mut lines: Vec<String> = rows.iter().map(Value::to_string).collect();
            lines.sort_unstable();
            lines
        };
        assert_eq!(all(&example), all(&in_order), "{model}");
    }
    example.assert_rests();
    example.assert_read_by_others();
}

#[test]
fn a_day_is_loaded_again_corrected_and_withdrawn() {
    let example = Example::copy("customers");
    deliver_late(&example);
    example.build(&[]);
    let counts = || example.counts(SILVER);
    let before = counts();
    // By hand: the same day again, and a range of days.
    example.build(&["--files", "2024-03-04/*"]);
    example.build(&["--since", "2024-03-02", "--until", "2024-03-04"]);
    assert_eq!(counts(), before);
    assert_gold_is_what_was_delivered(&example);
    // The newest day is corrected: a customer's address, an amount, a transaction that was none, a customer too many.
    let mut corrected = document(&example, "bronze/2024-03-06");
    let list = corrected["customers"].as_array_mut().unwrap();
    let with = list.iter().position(|customer| transactions(customer) > 1).unwrap();
    let of = list[with]["id"].as_u64().unwrap();
    list[with]["transactions"].as_array_mut().unwrap().pop();
    list[with]["transactions"][0]["amount"] = json!(1.1);
    list[with]["email"] = json!("corrected@example.com");
    let newest_only = list.iter().rposition(|customer| transactions(customer) == 0).unwrap();
    let gone = list.remove(newest_only)["id"].as_u64().unwrap();
    deliver(&example, "2024-03-06", &corrected);
    let report = example.build(&[]);
    assert_eq!(node(&report, "silver.customers")["files_read"], 1);
    assert_silver_is_what_was_delivered(&example);
    assert_gold_is_what_was_delivered(&example);
    assert!(versions(&example, of).last().unwrap().starts_with("corrected@example.com 2024-03-06"));
    assert_eq!(versions(&example, gone), Vec::<String>::new(), "no document has the customer any more");
    // A day is withdrawn.
    std::fs::remove_file(example.sandbox.path("data/bronze/2024-03-06/customers.json")).unwrap();
    std::fs::remove_dir(example.sandbox.path("data/bronze/2024-03-06")).unwrap();
    example.build(&[]);
    assert_silver_is_what_was_delivered(&example);
    assert_gold_is_what_was_delivered(&example);
    example.assert_rests();
    example.assert_read_by_others();
}

#[test]
fn a_document_that_breaks_the_rules_is_not_published() {
    let example = Example::copy("customers");
    example.build(&[]);
    let before = example.count("customers");
    let mut wrong = document(&example, "bronze/2024-03-06");
    for customer in wrong["customers"].as_array_mut().unwrap() {
        customer["email"] = json!("nobody");
    }
    deliver(&example, "2024-03-07", &wrong);
    example.lake(&["build"]).assert_failed(1, "rule_email_is_well_formed");
    // Nothing of the day is there, in no table.
    let newest = SILVER.map(|model| format!("select max(import_date) as day from {{{{ ref('{model}') }}}}"));
    let days = format!("select cast(max(day) as varchar) as day from ({})", newest.join(" union all "));
    assert_eq!(example.value(&days), "2024-03-06");
    // A document that is cut off says where, and stops nothing that was published.
    let text = wrong.to_string();
    example.sandbox.write("data/bronze/2024-03-07/customers.json", &text[..text.len() / 2]);
    example.lake(&["build"]).assert_failed(1, "2024-03-07/customers.json");
    assert_eq!(example.count("customers"), before);
    // The next delivery of the day is well.
    deliver(&example, "2024-03-07", &document(&example, "bronze/2024-03-06"));
    example.build(&[]);
    assert_silver_is_what_was_delivered(&example);
    assert_gold_is_what_was_delivered(&example);
}

#[test]
fn environments_are_apart() {
    let example = Example::copy("customers");
    example.build(&[]);
    example.sandbox.ok(&["promote", "--from", "dev", "--to", "prod"]);
    let prod = Example { sandbox: example.sandbox, ..Example::copy("customers").at("prod", "data/lake_prod") };
    deliver_late(&prod);
    assert_eq!(versions(&prod, 2), ["customer2@example.com 2024-03-01..now"]);
    prod.build(&[]);
    assert_eq!(versions(&prod, 2).len(), 3);
    prod.assert_rests();
}
