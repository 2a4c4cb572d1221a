//! Sensitive columns: how far they travel, what masks them, and where their values do not show.

use serde_json::json;

use crate::sandbox::Sandbox;

const SOURCES: &str = "sources:\n  - name: raw\n    tables:\n      - name: users\n        path: in/users/\n        format: csv\n        columns:\n\
    \x20         - { name: id, data_type: bigint }\n          - { name: email, data_type: varchar, meta: { sensitive: pii } }\n\
    \x20         - { name: card, data_type: varchar, meta: { sensitive: true } }\n          - { name: town, data_type: varchar }\n";

fn lake(gold: &str) -> Sandbox {
    let sandbox = Sandbox::new(&[
        ("sources.yml", SOURCES),
        (
            "models/silver/users.sql",
            "{{ config(materialized='table') }}\nselect id, lower(email) as mail, card, town from {{ source('raw', 'users') }}\n",
        ),
        ("models/gold/people.sql", gold),
        ("in/users/1.csv", "id,email,card,town\n1,Ada@Example.org,4111111111111111,Bonn\n2,,5,Ulm\n"),
    ]);
    sandbox.write(
        "project.yml",
        "name: sandbox\ntargets:\n  dev: { root: lake }\nmodels: { +materialized: table }\nsensitive: { forbid_unmasked_in: [gold] }\n",
    );
    sandbox
}

#[test]
fn an_unmasked_column_breaks_the_compile_with_its_path() {
    let sandbox = lake("select id, mail || '!' as contact, town from {{ ref('users') }} where card is not null\n");
    let run = sandbox.lake(&["compile"]);
    run.assert_failed(2, "sensitive column `contact` of `gold.people` is not masked");
    assert!(run.stderr.contains("raw.users.email -> silver.users.mail -> gold.people.contact"), "{}", run.stderr);
    assert_eq!(run.stderr.matches("L0210").count(), 1, "{}", run.stderr);
    // Said in YAML to tell nothing of it.
    sandbox.write(
        "models/gold/people.yml",
        "models:\n  - name: people\n    columns:\n      - { name: contact, meta: { sensitive: false } }\n",
    );
    sandbox.ok(&["compile"]);
    sandbox.write(
        "project.yml",
        "name: sandbox\ntargets:\n  dev: { root: lake }\nsensitive: { forbid_unmasked_in: [goldd] }\n",
    );
    sandbox.lake(&["compile"]).assert_failed(2, "did you mean `gold`?");
}

#[test]
fn masks_hide_values_and_end_the_path() {
    let sandbox = lake(
        "select id, mask_email(mail) as mail, mask_partial(card) as card, mask_hash(mail) as who, mask_partial(id) as n from {{ ref('users') }}\n",
    );
    sandbox.ok(&["build"]);
    let rows = sandbox.query("select mail, card, length(who) as who, n from gold.people order by id");
    assert_eq!(rows[0], json!({"mail": "***@example.org", "card": "************1111", "who": 32, "n": "*"}));
    assert_eq!(rows[1], json!({"card": "*", "n": "*"}));
    let lineage = sandbox.ok(&["ls", "--columns", "--select", "people"]);
    assert!(lineage.contains("masked from silver.users.mail"), "{lineage}");
}

#[test]
fn failures_do_not_show_what_is_sensitive() {
    let sandbox = lake("select id, town from {{ ref('users') }}\n");
    sandbox.write(
        "models/silver/users.yml",
        "models:\n  - name: users\n    columns:\n      - name: card\n        data_tests: [string_length_between: { min_value: 10, severity: warn }]\n\
         \x20     - name: mail\n        data_tests: [not_null: { severity: warn }, max_between: { max_value: \"'a'\", severity: warn }]\n",
    );
    let built = sandbox.ok(&["build"]);
    assert!(built.contains("max is ***") && !built.contains("ada@example.org"), "{built}");
    let kept = sandbox.query("select \"row\" from _lake.failures order by test");
    assert_eq!(kept.len(), 3, "{kept:#?}");
    for row in &kept {
        let text = row.to_string();
        assert!(!text.contains("ada@") && !text.contains("4111") && !text.contains("\\\"card\\\":\\\"5"), "{text}");
    }
}
