//! What lets somebody in is printed and written nowhere: secrets are planted wherever one can be given, and everything that
//! the program prints, writes to its folder and puts into the bucket is searched for them.

use std::path::Path;

use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::sandbox::Sandbox;
use crate::services::{self, block_on};

const CANARY: &str = "CANARY";

const MODELS: [(&str, &str); 4] = [
    (
        "models/silver/items.sql",
        "{{ config(materialized='incremental', unique_key='id') }} select id, value, '{{ target.name }}' as made_for from {{ source('raw', 'items') }}",
    ),
    ("models/gold/total.sql", "{{ config(materialized='table') }} select count(*) as n from {{ ref('items') }}"),
    (
        "models/gold/total.yml",
        "models:\n  - name: total\n    columns: [{ name: n, data_tests: [{ accepted_values: { values: [7], quote: false, config: { severity: warn, store_failures: true } } }] }]\n",
    ),
    ("models/gold/hooked.sql", "{{ config(materialized='table', post_hook=[{'command': ['true']}]) }} select 1 as one"),
];

fn sources(root: &str) -> String {
    format!(
        "sources:\n  - name: raw\n    root: \"{root}\"\n    tables:\n      - {{ name: items, path: items/, format: csv, on_bad_row: quarantine, columns: [{{ name: id, data_type: bigint }}, {{ name: value, data_type: varchar }}] }}\n"
    )
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// All that a program can be told of stores by its environment.
fn planted() -> Vec<(String, String)> {
    variables(&[
        ("AWS_SECRET_ACCESS_KEY", "CANARY-aws-secret"),
        ("AWS_ACCESS_KEY_ID", "CANARY-aws-id"),
        ("AWS_SESSION_TOKEN", "CANARY-aws-token"),
        ("AZURE_STORAGE_ACCOUNT_KEY", "Q0FOQVJZCANARY=="),
        ("AZURE_STORAGE_SAS_KEY", "sv=1&sig=CANARY-azure-sas"),
        ("AZURE_STORAGE_CLIENT_SECRET", "CANARY-azure-client"),
        ("DBT_ENV_SECRET_TOKEN", "CANARY-dbt"),
    ])
}

fn assert_clean(what: &str, bytes: &[u8]) {
    let found = bytes.windows(CANARY.len()).position(|window| window == CANARY.as_bytes());
    if let Some(at) = found {
        let around = &bytes[at.saturating_sub(200)..(at + 60).min(bytes.len())];
        panic!("{what} has a secret: {}", String::from_utf8_lossy(around));
    }
}

/// Everything in a folder; what the test wrote itself has no secrets in it.
fn search(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            search(&entry);
        } else {
            assert_clean(&entry.display().to_string(), &std::fs::read(&entry).unwrap());
        }
    }
}

/// Runs each command twice, for people and for programs, with all that the log can say.
fn run_all(sandbox: &Sandbox, commands: &[&[&str]]) -> Vec<i32> {
    let mut codes = Vec::new();
    for command in commands {
        for output in ["text", "json"] {
            let args: Vec<&str> = command.iter().copied().chain(["-vv", "--output", output]).collect();
            let run = sandbox.lake(&args);
            assert_clean(&format!("the output of {args:?}"), run.stdout.as_bytes());
            assert_clean(&format!("what {args:?} says"), run.stderr.as_bytes());
            assert!(!run.stderr.contains("panicked"), "{args:?}: {}", run.stderr);
            codes.push(run.code);
        }
    }
    search(&sandbox.path(""));
    codes
}

const COMMANDS: [&[&str]; 10] = [
    &["compile"],
    &["build"],
    &["build", "--full-refresh"],
    &["test"],
    &["docs", "generate"],
    &["show", "total"],
    &["why", "items"],
    &["history"],
    &["doctor"],
    &["maintain"],
];

#[test]
fn a_run_that_goes_well_writes_no_secret() {
    let stub = services::gcs();
    let mut sandbox = Sandbox::new(&MODELS);
    sandbox.write("sources.yml", sources("gs://lake/in"));
    let project = "name: sandbox\ntarget: dev\ntargets:\n  dev:\n    root: gs://lake/tables\n    storage_options: { service_account_key: \"{{ env_var('DBT_ENV_SECRET_ACCOUNT') }}\" }\n  other: { root: \"s3://lake/x\", storage_options: { secret_access_key: \"{{ env_var('AWS_SECRET_ACCESS_KEY') }}\" } }\n";
    sandbox.write("project.yml", project);
    let account = stub.server.env.iter().find(|(name, _)| name == "GOOGLE_SERVICE_ACCOUNT_KEY").unwrap();
    let account = account.1.replace("\"private_key_id\":\"\"", "\"private_key_id\":\"CANARY-google\"");
    assert!(account.contains(CANARY));
    sandbox.environment(&planted());
    sandbox.environment(&[("DBT_ENV_SECRET_ACCOUNT".to_owned(), account)]);
    let store = stub.server.store();
    block_on(async {
        let text = "id,value\n1,a\nmany,b\n";
        store.put(&object_store::path::Path::from("in/items/1.csv"), text.into()).await.unwrap();
    });
    let codes = run_all(&sandbox, &COMMANDS);
    assert!(codes.iter().all(|code| *code == 0), "{codes:?}");
    block_on(async {
        let objects: Vec<_> = store.list(None).try_collect().await.unwrap();
        assert!(objects.len() > 10, "{}", objects.len());
        for object in objects {
            let bytes = store.get(&object.location).await.unwrap().bytes().await.unwrap();
            assert_clean(object.location.as_ref(), &bytes);
        }
    });
}

#[test]
fn a_run_that_is_let_nowhere_tells_no_secret() {
    let Some(server) = services::s3() else { return };
    let mut sandbox = Sandbox::new(&MODELS);
    sandbox.write("sources.yml", sources("in"));
    sandbox.write("in/items/1.csv", "id,value\n1,a\n");
    sandbox.environment(&server.env);
    // Over those that would let it in.
    sandbox.environment(&planted());
    let target = |root: &str, options: &str| {
        format!(
            "name: sandbox\ntargets:\n  dev: {{ root: \"{root}\", storage_options: {{ max_retries: 0{options} }} }}\n"
        )
    };
    let wrong = [
        target("s3://lake/tables", ""),
        target("s3://lake/tables", ", secret_access_key: \"{{ env_var('DBT_ENV_SECRET_TOKEN') }}\""),
        target("az://lake/tables", ", account_name: acme, endpoint: \"http://127.0.0.1:9\", allow_http: true"),
        target("s3://lake/tables", ", endpoint: \"http://127.0.0.1:9\""),
    ];
    for project in wrong {
        sandbox.write("project.yml", project);
        let codes = run_all(&sandbox, &[&["build"], &["doctor"], &["history"]]);
        assert!(codes.iter().all(|code| *code != 0), "{codes:?}");
    }
}

#[test]
fn secrets_are_for_targets_only() {
    let mut sandbox =
        Sandbox::new(&[("models/silver/a.sql", "select '{{ env_var('DBT_ENV_SECRET_TOKEN') }}' as token")]);
    sandbox.environment(&planted());
    let run = sandbox.lake(&["compile"]);
    run.assert_failed(2, "`DBT_ENV_SECRET_TOKEN` is a secret");
    run_all(&sandbox, &[&["compile"]]);
}
