//! Column lineage, read off the typed plans.

use std::collections::BTreeSet;

use crate::sandbox::Sandbox;

const SOURCES: &str = "\
sources:
  - name: raw
    tables:
      - name: orders
        path: in/orders/
        format: csv
        columns:
          - { name: id, data_type: bigint }
          - { name: customer, data_type: varchar }
          - { name: amount, data_type: double }
          - { name: state, data_type: varchar }
      - name: people
        path: in/people/
        format: csv
        columns:
          - { name: name, data_type: varchar }
          - { name: country, data_type: varchar }
";

/// The lineage of a model over `raw.orders` and `raw.people`: `column <- table.column (use)`, and what filters.
fn lineage(sql: &str) -> BTreeSet<String> {
    let sandbox = Sandbox::new(&[("sources.yml", SOURCES), ("models/gold/g.sql", sql)]);
    let nodes = sandbox.json(&["compile", "--select", "g"]);
    let lineage = &nodes["nodes"][0]["lineage"];
    let mut found = BTreeSet::new();
    for (column, sources) in lineage["columns"].as_object().unwrap_or_else(|| panic!("{nodes}")) {
        for source in sources.as_array().unwrap() {
            let part = |key: &str| source[key].as_str().unwrap().to_owned();
            found.insert(format!("{column} <- {}.{} ({})", part("table"), part("column"), part("use")));
        }
    }
    for filter in lineage["filters"].as_array().unwrap() {
        found.insert(format!("where {}.{}", filter["table"].as_str().unwrap(), filter["column"].as_str().unwrap()));
    }
    found
}

#[track_caller]
fn assert_lineage(sql: &str, expected: &[&str]) {
    assert_eq!(lineage(sql), expected.iter().map(ToString::to_string).collect(), "{sql}");
}

const ORDERS: &str = "{{ source('raw', 'orders') }}";

#[test]
fn columns_are_copied_derived_or_used_to_filter() {
    assert_lineage(
        &format!(
            "select id, amount * 2 as twice, customer || state as both, 1 as one from {ORDERS} where state = 'paid'"
        ),
        &[
            "id <- raw.orders.id (copied)",
            "twice <- raw.orders.amount (derived)",
            "both <- raw.orders.customer (derived)",
            "both <- raw.orders.state (derived)",
            "where raw.orders.state",
        ],
    );
}

#[test]
fn lineage_goes_through_ctes_joins_and_aggregates() {
    assert_lineage(
        &format!(
            "with paid as (select customer, amount as value from {ORDERS}), \
             sums as (select customer as who, sum(value) as total from paid group by customer) \
             select people.country, sums.total from sums join {{{{ source('raw', 'people') }}}} as people on people.name = sums.who"
        ),
        &[
            "country <- raw.people.country (copied)",
            "total <- raw.orders.amount (derived)",
            "where raw.orders.customer",
            "where raw.people.name",
        ],
    );
}

#[test]
fn lineage_goes_through_windows_unions_and_subqueries() {
    assert_lineage(
        &format!("select id, row_number() over (partition by customer order by amount) as n from {ORDERS}"),
        &["id <- raw.orders.id (copied)", "n <- raw.orders.customer (derived)", "n <- raw.orders.amount (derived)"],
    );
    assert_lineage(
        &format!(
            "select customer as name from {ORDERS} union all select upper(name) from {{{{ source('raw', 'people') }}}}"
        ),
        &["name <- raw.orders.customer (copied)", "name <- raw.people.name (derived)"],
    );
    assert_lineage(
        &format!(
            "select id from {ORDERS} where customer in (select name from {{{{ source('raw', 'people') }}}} where country = 'x')"
        ),
        &[
            "id <- raw.orders.id (copied)",
            "where raw.orders.customer",
            "where raw.people.country",
            "where raw.people.name",
        ],
    );
}

#[test]
fn lineage_goes_through_structs_lists_and_recursion() {
    assert_lineage(
        &format!("select s['a'] as a from (select named_struct('a', id, 'b', state) as s from {ORDERS})"),
        &["a <- raw.orders.id (copied)"],
    );
    assert_lineage(
        &format!(
            "with made as (select named_struct('a', named_struct('b', upper(state), 'c', id), 'd', amount) as s from {ORDERS}) \
             select s['a']['b'] as b, s['a'] as whole, s from made where s['d'] > 1"
        ),
        &[
            "b <- raw.orders.state (derived)",
            "whole <- raw.orders.id (derived)",
            "whole <- raw.orders.state (derived)",
            "s <- raw.orders.amount (derived)",
            "s <- raw.orders.id (derived)",
            "s <- raw.orders.state (derived)",
            "where raw.orders.amount",
        ],
    );
    assert_lineage(
        &format!("select id, unnest(string_to_array(customer, ' ')) as word from {ORDERS}"),
        &["id <- raw.orders.id (copied)", "word <- raw.orders.customer (derived)"],
    );
    assert_lineage(
        &format!(
            "with recursive steps as (select id, 1 as n from {ORDERS} union all select id, n + 1 from steps where n < 3) \
             select id, n from steps"
        ),
        &["id <- raw.orders.id (copied)"],
    );
}

#[test]
fn what_cuts_rows_off_decides_them() {
    assert_lineage(
        &format!("select id from {ORDERS} order by amount desc limit 10"),
        &["id <- raw.orders.id (copied)", "where raw.orders.amount"],
    );
    assert_lineage(&format!("select id from {ORDERS} order by amount desc"), &["id <- raw.orders.id (copied)"]);
    assert_lineage(
        &format!(
            "with latest as (select *, row_number() over (partition by customer order by id desc) as n from {ORDERS}) \
             select amount from latest where n = 1"
        ),
        &["amount <- raw.orders.amount (copied)", "where raw.orders.customer", "where raw.orders.id"],
    );
    assert_lineage(
        &format!("select distinct on (customer) customer, id from {ORDERS} order by customer, amount"),
        &[
            "customer <- raw.orders.customer (copied)",
            "id <- raw.orders.id (copied)",
            "where raw.orders.customer",
            "where raw.orders.amount",
        ],
    );
}

#[test]
fn lineage_goes_through_lateral_unnest_and_case() {
    assert_lineage(
        &format!(
            "with words as (select id, unnest(string_to_array(customer, ' ')) as word from {ORDERS}) select word, id from words where word <> ''"
        ),
        &["id <- raw.orders.id (copied)", "word <- raw.orders.customer (derived)", "where raw.orders.customer"],
    );
    assert_lineage(
        &format!(
            "select case when state = 'paid' then amount end as paid, (select max(name) from {{{{ source('raw', 'people') }}}}) as last from {ORDERS}"
        ),
        &[
            "paid <- raw.orders.amount (derived)",
            "paid <- raw.orders.state (derived)",
            "last <- raw.people.name (derived)",
        ],
    );
    assert_lineage(
        &format!(
            "select a.id, b.amount from {ORDERS} as a left join (select id, sum(amount) as amount from {ORDERS} group by id) as b using (id)"
        ),
        &["id <- raw.orders.id (copied)", "amount <- raw.orders.amount (derived)", "where raw.orders.id"],
    );
}

#[test]
fn a_column_is_followed_up_and_down_across_models() {
    let sandbox = Sandbox::new(&[
        ("sources.yml", SOURCES),
        ("models/silver/orders.sql", "select id, amount, state from {{ source('raw', 'orders') }}"),
        ("models/gold/sums.sql", "select state, sum(amount) as total from {{ ref('orders') }} group by state"),
        ("models/gold/top.sql", "select state from {{ ref('sums') }} where total > 10"),
    ]);
    let tree = sandbox.ok(&["docs", "--column", "silver.orders.amount"]);
    let expected = "\
silver.orders.amount
comes from
└─ raw.orders.amount  (copied)
reaches
└─ gold.sums.total  (derived)
   └─ gold.top.*  (filter)
";
    assert_eq!(tree, expected);
    let chart = |format: &str| sandbox.ok(&["docs", "--column", "gold.sums.total", "--format", format]);
    let expected = "\
flowchart LR
    subgraph gold__sums[\"gold.sums\"]
        c0([\"total\"])
    end
    subgraph gold__top[\"gold.top\"]
        c1[\"*\"]
    end
    subgraph raw__orders[\"raw.orders\"]
        c2[\"amount\"]
    end
    subgraph silver__orders[\"silver.orders\"]
        c3[\"amount\"]
        c4[\"state\"]
    end
    c3 -->|derived| c0
    c4 -->|filter| c0
    c2 -->|copied| c3
    c0 -->|filter| c1
";
    assert_eq!(chart("mermaid"), expected);
    let dot = chart("dot");
    for part in ["c3 -> c0 [label=\"derived\"];", "subgraph \"cluster_gold.sums\"", "c0 [label=\"total\", style=bold];"]
    {
        assert!(dot.contains(part), "{dot}");
    }
    let json: serde_json::Value = serde_json::from_str(&chart("json")).unwrap();
    assert_eq!(json["upstream"].as_array().unwrap().len(), 3, "{json}");
    let wrong = ["docs", "--column", "gold.sums.total", "--format", "openlineage"];
    sandbox.lake(&wrong).assert_failed(2, "give --select in place of --column");
    sandbox.lake(&["docs", "--column", "gold.sums.total", "--exclude", "top"]).assert_failed(2, "cannot be used with");
    let edges = sandbox.json(&["docs", "--column", "raw.orders.amount"]);
    assert_eq!(edges["downstream"].as_array().unwrap().len(), 3, "{edges}");
    sandbox.lake(&["docs", "--column", "gold.sums.totl"]).assert_failed(2, "did you mean `gold.sums.total`?");
    let columns = sandbox.ok(&["ls", "--columns", "--select", "gold"]);
    let expected = "\
gold.sums.state  varchar  copied from silver.orders.state
gold.sums.total  double   derived from silver.orders.amount
gold.sums.*               filtered by silver.orders.state
gold.top.state   varchar  copied from gold.sums.state
gold.top.*                filtered by gold.sums.total
";
    assert_eq!(columns, expected);
    let list = sandbox.json(&["ls", "--columns", "--select", "top"]);
    let filter = serde_json::json!([{"table": "gold.sums", "column": "total", "use": "filter"}]);
    assert_eq!((&list[1]["column"], &list[1]["comes_from"]), (&"*".into(), &filter));
}
