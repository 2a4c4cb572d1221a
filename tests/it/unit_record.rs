//! `lake test record`: what it writes passes, and tells no secret.

use crate::sandbox::Sandbox;

fn project() -> Sandbox {
    Sandbox::new(&[
        (
            "sources.yml",
            "\
sources:
  - name: bronze
    tables:
      - name: orders
        path: bronze/orders/
        format: csv
        columns:
          - { name: id, data_type: bigint }
          - { name: email, data_type: varchar, meta: { sensitive: true } }
          - { name: amount, data_type: double }
          - { name: at, data_type: timestamp }
      - name: people
        path: bronze/people/
        format: csv
        columns:
          - { name: mail, data_type: varchar }
          - { name: city, data_type: varchar }
          - { name: unused, data_type: varchar }
",
        ),
        (
            "models/gold/spent.sql",
            "{{ config(materialized='table') }}\nselect o.email, p.city, sum(o.amount) / {{ var('parts', 3) }} as spent, \
             max(now()) as asked_at\nfrom {{ source('bronze', 'orders') }} o join {{ source('bronze', 'people') }} p \
             on o.email = p.mail where o.at > timestamp '2020-01-01' group by 1, 2\n",
        ),
        (
            "bronze/orders/1.csv",
            "id,email,amount,at\n1,nobody@x.y,1,2024-01-01\n2,ada@x.y,0.1,2024-01-01\n3,ada@x.y,0.2,2024-01-02\n4,bob@x.y,5,\n",
        ),
        ("bronze/people/1.csv", "mail,city,unused\nada@x.y,London,z\nbob@x.y,Paris,z\neve@x.y,Rome,z\n"),
    ])
}

#[test]
fn what_is_recorded_passes_and_sensitive_values_are_masked_on_both_sides_of_a_join() {
    let sandbox = project();
    let yaml = sandbox.ok(&["test", "record", "spent", "--rows", "5"]);
    assert!(!yaml.contains("@x.y"), "{yaml}");
    assert!(!yaml.contains("unused"), "only columns that are read are recorded: {yaml}");
    assert!(!yaml.contains("Rome"), "only rows that match are recorded: {yaml}");
    assert!(yaml.contains("city: \"London\""), "{yaml}");
    sandbox.ok(&["test", "record", "spent", "--output-file", "models/recorded.yml"]);
    sandbox.ok(&["test", "record", "gold.spent", "--output-file", "models/recorded.yml"]);
    let run = sandbox.lake(&["test"]);
    assert!(run.code == 0 && run.stdout.contains("2 passed"), "{}\n{}", run.stdout, run.stderr);
    let report = sandbox.json(&["test"]);
    let names: Vec<_> = report["unit_tests"].as_array().unwrap().iter().map(|test| test["name"].clone()).collect();
    assert_eq!(names, ["spent_recorded_2", "spent_recorded"]);
}

#[test]
fn a_model_that_gives_other_rows_each_time_is_not_recorded() {
    let sandbox = project();
    sandbox.write("models/gold/dice.sql", "select random() as n, * from {{ source('bronze', 'people') }}");
    sandbox.write("models/gold/later.sql", "select * from {{ ref('spent') }}");
    sandbox.lake(&["test", "record", "later"]).assert_failed(2, "what `gold.later` reads has no rows: build it first");
    sandbox.lake(&["test", "record", "dice"]).assert_failed(2, "gives other rows each time, by random()");
}
