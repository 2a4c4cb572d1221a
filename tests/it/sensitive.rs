//! Sensitive columns: how far they travel, what masks them, and where their values do not show.

use serde_json::{Value, json};

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

/// What a run tells of its nodes: on the terminal, in its tables and in its artifacts.
fn told(sandbox: &Sandbox, arguments: &[&str]) -> String {
    let run = sandbox.lake(arguments);
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    let kept = sandbox.query("select reason from _lake.node_results");
    let artifact = std::fs::read_to_string(sandbox.path(".lake/run_results.json")).unwrap();
    format!("{}{}{kept:?}{artifact}", run.stdout, run.stderr)
}

#[test]
fn errors_do_not_tell_values() {
    let sandbox = lake("select cast(mail as bigint) as n from {{ ref('users') }}\n");
    sandbox.write("project.yml", "name: sandbox\ntargets:\n  dev: { root: lake }\nmodels: { +materialized: table }\n");
    let text = told(&sandbox, &["build"]);
    assert!(text.contains("Cannot cast string '***' to value of Int64 type") && !text.contains("ada@"), "{text}");
    // Through a view, which the query of the table works out.
    sandbox
        .write("models/gold/seen.sql", "{{ config(materialized='view') }} select card, town from {{ ref('users') }}\n");
    sandbox.write("models/gold/people.sql", "select cast(card as date) as day from {{ ref('seen') }}\n");
    let text = told(&sandbox, &["build"]);
    assert!(text.contains("'***'") && !text.contains("4111"), "{text}");
    // What has nothing to do with it says what is wrong.
    sandbox.write("models/gold/people.sql", "select cast(town as bigint) as n from {{ ref('towns') }}\n");
    sandbox.write("models/gold/towns.sql", "select town from {{ ref('users') }}\n");
    let text = told(&sandbox, &["build"]);
    assert!(text.contains("'Bonn'") || text.contains("'Ulm'"), "{text}");
    // Keys, where they are told to find a row by.
    sandbox.write(
        "models/gold/people.sql",
        "{{ config(materialized='incremental', incremental_strategy='merge', unique_key='mail') }}\n\
         select upper('kk') as mail, id, lower(card) as card from {{ ref('users') }}\n",
    );
    sandbox.write(
        "models/gold/people.yml",
        "models:\n  - name: people\n    columns: [{ name: mail, meta: { sensitive: true } }]\n",
    );
    let text = told(&sandbox, &["build"]);
    assert!(
        text.contains("several new rows have one unique key: (***)")
            && !text.contains("mail=")
            && !text.contains("(KK)"),
        "{text}"
    );
}

#[test]
fn wrong_rows_of_files_do_not_tell_values() {
    let sandbox = lake("select id from {{ ref('users') }}\n");
    let bigint = |name: &str| format!("{{ name: {name}, data_type: bigint");
    sandbox.write("sources.yml", SOURCES.replace("{ name: card, data_type: varchar", &bigint("card")));
    sandbox.write("in/users/1.csv", "id,email,card,town\n1,a,4111-1111,Bonn\n");
    let text = told(&sandbox, &["build"]);
    assert!(text.contains("line 2 (row 1): column `card`: `***` is not a bigint") && !text.contains("4111"), "{text}");
    sandbox.write("in/users/1.csv", "id,email,card,town\nx7,a,4111,Bonn\n");
    let text = told(&sandbox, &["build"]);
    assert!(text.contains("column `id`: `x7` is not a bigint"), "{text}");
    sandbox.write("seeds/cards.csv", "card,n\n4111,x\n");
    sandbox.write(
        "seeds/cards.yml",
        "seeds:\n  - name: cards\n    columns: [{ name: n, data_type: bigint, meta: { sensitive: true } }]\n",
    );
    sandbox.lake(&["seed"]).assert_failed(2, "column `n`: `***` is not a bigint");
}

/// Every file below a folder that has a text, in any case.
fn files_with(folder: &std::path::Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                pending.push(path);
            } else if String::from_utf8_lossy(&std::fs::read(&path).unwrap()).to_lowercase().contains(text) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[test]
fn no_output_of_a_run_has_a_value() {
    let sandbox = lake("select id, cast(mail as bigint) as n, cast(card as bigint) as m from {{ ref('users') }}\n");
    sandbox.write(
        "project.yml",
        "name: sandbox\ntargets:\n  dev: { root: lake }\nmodels: { +profile: full, +materialized: table }\n",
    );
    sandbox.write(
        "in/users/1.csv",
        "id,email,card,town\n1,Canary@x.example,4-CANARY-4,Bonn\n2,Canary@y.example,4-CANARY-4,Ulm\n3,,5-canary-5,\n",
    );
    sandbox.write(
        "models/silver/users.yml",
        "models:
  - name: users
    columns:
      - name: mail
        data_tests:
          - not_null: { severity: warn }
          - unique: { severity: warn }
          - accepted_values: { values: [a], severity: warn }
          - max_between: { max_value: \"'a'\", severity: warn }
      - name: card
        data_tests: [{ unique: { severity: warn } }, { string_length_between: { max_value: 3, severity: warn } }]
      - name: town
        data_tests: [{ not_null: { severity: warn } }]
    data_tests:
      - is_shouted: { severity: warn }
      - expression_is_true: { expression: length(mail) < 3, severity: warn }
",
    );
    // What is worked out has a name of its own.
    sandbox.write(
        "tests/generic/is_shouted.sql",
        "{% test is_shouted(model) %}select id, upper(mail) as shout, count(*) over () as n from {{ model }}{% endtest %}",
    );
    sandbox.write(
        "tests/aliases.sql",
        "{{ config(severity='warn') }}\nselect lower(card) as c, town from {{ ref('users') }} where mail is not null\n",
    );
    let runs = [
        sandbox.lake(&["build", "--log-format", "json"]),
        sandbox.lake(&["test"]),
        sandbox.lake(&["test", "--failures", "aliases"]),
        sandbox.lake(&["profile", "users"]),
        sandbox.lake(&["test", "suggest", "users"]),
        sandbox.lake(&["build", "--force", "-vv"]),
        sandbox.lake(&["docs", "generate"]),
    ];
    assert_eq!(runs[0].code, 1, "the casts fail: {}", runs[0].stdout);
    for run in &runs {
        let text = format!("{}{}", run.stdout, run.stderr).to_lowercase();
        let line = text.lines().find(|line| line.contains("canary"));
        assert!(line.is_none(), "{}", line.unwrap_or_default());
    }
    assert!(runs[2].stdout.contains("Bonn") && runs[2].stdout.contains("***"), "{}", runs[2].stdout);
    assert_eq!(files_with(&sandbox.path(".lake"), "canary"), [""; 0]);
    for table in ["runs", "node_results", "test_results", "failures", "profiles"] {
        let rows = sandbox.query(&format!("select * from _lake.{table}"));
        assert!(!rows.is_empty(), "{table}");
        let told = rows.iter().map(Value::to_string).find(|row| row.to_lowercase().contains("canary"));
        assert!(told.is_none(), "{table}: {}", told.unwrap_or_default());
    }
    // Its own table has what it has.
    assert_eq!(sandbox.value("select count(*) from silver.users where mail like 'canary%'"), 2);
}

#[test]
fn what_a_test_would_tell_by_itself_is_refused() {
    let sandbox = lake("select id, town from {{ ref('users') }}\n");
    let counted_by = |how: &str| {
        let test = format!(
            "unique_combination_of_columns: {{ combination_of_columns: [id, card], config: {{ fail_calc: \"{how}\" }} }}"
        );
        sandbox
            .write("models/silver/users.yml", format!("models:\n  - name: users\n    data_tests:\n      - {test}\n"));
        sandbox.lake(&["compile"])
    };
    let refused = "would tell by its `fail_calc` values of sensitive column `card`";
    counted_by("max(card)").assert_failed(2, refused);
    assert_eq!(counted_by("count(distinct id)").code, 0);
    // What a query of the project's works out may be of the column.
    let largest = |how: &str| {
        let config = format!("{{{{ config(fail_calc='{how}') }}}}");
        sandbox.write("tests/largest.sql", format!("{config} select max(card) as largest from {{{{ ref('users') }}}}"));
        sandbox.lake(&["compile"])
    };
    largest("max(largest)").assert_failed(2, refused);
    assert_eq!(largest("count(*)").code, 0);
}
