//! Lakes and sources in buckets: every way to make a table gives there what it gives in a folder, other readers agree, a store
//! that cannot hold a lake is refused, and answers that are lost are neither forgotten nor repeated.

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::every_way::{deliver, house, lines};
use crate::reader::{self, python};
use crate::sandbox::Sandbox;
use crate::services::{self, Call, Fault, Server, block_on};

/// The house of all ways whose sources and tables are in a bucket.
fn in_bucket(server: &Server, root: &str) -> Sandbox {
    let mut sandbox = house();
    let sources = std::fs::read_to_string(sandbox.path("sources.yml")).unwrap();
    sandbox.write("sources.yml", sources.replace("root: in", &format!("root: {root}/in")));
    sandbox.write("project.yml", format!("name: sandbox\ntargets:\n  dev: {{ root: \"{root}/tables\" }}\n"));
    sandbox.environment(&server.env);
    sandbox
}

/// Puts what was delivered to the folder `in` of a sandbox into the bucket.
fn upload(sandbox: &Sandbox, store: &dyn ObjectStore) {
    for entry in std::fs::read_dir(sandbox.path("in/items")).unwrap().map(|entry| entry.unwrap()) {
        let path = Path::from(format!("here/in/items/{}", entry.file_name().to_str().unwrap()));
        let bytes = std::fs::read(entry.path()).unwrap();
        block_on(async {
            // As producers do: what is there is not put again.
            if store.head(&path).await.is_err() {
                store.put(&path, bytes.into()).await.unwrap();
            }
        });
    }
}

/// Builds after each delivery come to the same rows in a bucket as in a folder, and with nothing new do nothing.
fn every_way_in_a_bucket(server: &Server) {
    let (remote, local) = (in_bucket(server, &format!("{}/here", server.url)), house());
    let store = server.store();
    for number in 0..3 {
        deliver(&[&remote, &local], number);
        upload(&remote, &store);
        let args: &[&str] = if number == 1 { &["build", "--atomic"] } else { &["build"] };
        remote.ok(args);
        local.ok(args);
        assert_eq!(lines(&remote), lines(&local), "delivery {number}");
    }
    let again = remote.json(&["build"]);
    let is_done = |node: &serde_json::Value| node["status"] == "skipped" || node["action"] == "view";
    assert!(again["nodes"].as_array().unwrap().iter().all(is_done), "{again}");
    let quarantined = remote.value("select count(*) from quarantine.raw__items");
    assert_eq!(quarantined, local.value("select count(*) from quarantine.raw__items"));
    assert!(remote.ok(&["history", "silver.latest"]).lines().count() > 3);
    // Nothing is written beside the bucket, and nothing of the lock of a burst stays.
    assert!(!remote.path("lake").exists() && !remote.path("tables").exists());
    let python = python().unwrap();
    for model in ["appended", "latest"] {
        let table = format!("{}/here/tables/silver/{model}", server.url);
        let theirs = reader::rows(&python, &table, &server.env).len() as u64;
        assert_eq!(remote.value(&format!("select count(*) from silver.{model}")), theirs, "{model}");
    }
}

#[test]
fn s3_holds_a_lake() {
    let Some(server) = services::s3() else { return };
    every_way_in_a_bucket(&server);
}

#[test]
fn azure_holds_a_lake() {
    let Some(server) = services::azure() else { return };
    every_way_in_a_bucket(&server);
}

/// The Python reader of this test knows no other address of Google than the real one, so it is left out.
#[test]
fn google_cloud_storage_holds_a_lake_whose_lists_have_pages() {
    let stub = services::gcs();
    stub.pages_of(3);
    let (remote, local) = (in_bucket(&stub.server, &format!("{}/here", stub.server.url)), house());
    for number in 0..2 {
        deliver(&[&remote, &local], number);
        upload(&remote, &stub.server.store());
        remote.ok(&["build"]);
        local.ok(&["build"]);
        assert_eq!(lines(&remote), lines(&local), "delivery {number}");
    }
}

const ITEMS: &str = "sources:\n  - name: raw\n    root: \"{{ env_var('SOURCES') }}\"\n    tables:\n      - { name: items, path: items/, format: csv, columns: [{ name: id, data_type: bigint }, { name: value, data_type: varchar }] }\n";

/// `silver.items` appends files, `gold.total` counts them.
fn small(root: &str, sources: &str) -> Sandbox {
    let mut sandbox = Sandbox::new(&[
        ("sources.yml", ITEMS),
        (
            "models/silver/items.sql",
            "{{ config(materialized='incremental') }} select id, value from {{ source('raw', 'items') }}",
        ),
        ("models/gold/total.sql", "{{ config(materialized='table') }} select count(*) as n from {{ ref('items') }}"),
        (
            "models/silver/items.yml",
            "models:\n  - name: items\n    columns: [{ name: id, data_tests: [unique, not_null] }]\n",
        ),
    ]);
    sandbox.write("project.yml", format!("name: sandbox\ntargets:\n  dev: {{ root: \"{root}\", retries: 5 }}\n"));
    sandbox.environment(&[("SOURCES".to_owned(), sources.to_owned())]);
    sandbox
}

#[test]
fn a_store_that_ignores_conditions_is_refused_before_anything_is_written() {
    let Some(server) = services::s3_without_conditions() else { return };
    let mut sandbox = small(&format!("{}/tables", server.url), "in");
    sandbox.environment(&server.env);
    sandbox.write("in/items/1.csv", "id,value\n1,a\n");
    let run = sandbox.lake(&["build"]);
    run.assert_failed(2, "ignores conditional puts");
    assert!(run.stderr.contains("s3://lake/tables"), "{}", run.stderr);
    let left = block_on(async { server.store().list_with_delimiter(None).await.unwrap() });
    assert!(left.objects.is_empty(), "{left:?}");
}

#[test]
fn text_of_a_bucket_is_read_in_parts_and_mistakes_name_their_line() {
    let Some(server) = services::s3() else { return };
    let mut sandbox = small("lake", &format!("{}/in", server.url));
    sandbox.environment(&server.env);
    let store = server.store();
    let put = |name: &str, text: String| {
        block_on(async { store.put(&Path::from(format!("in/items/{name}")), text.into()).await.unwrap() })
    };
    // More than one block of a request, and enough that several partitions read it.
    let rows: String = (0..900_000).map(|id| format!("{id},value of {id}\n")).collect();
    put("1.csv", format!("id,value\n{rows}"));
    sandbox.ok(&["build"]);
    assert_eq!(sandbox.value("select n from gold.total"), 900_000);
    assert_eq!(
        sandbox.value("select count(distinct value) from silver.items where value = 'value of ' || id"),
        900_000
    );
    put("2.csv", "id,value\n900001,a\nmany,b\n".to_owned());
    sandbox
        .lake(&["build"])
        .assert_failed(1, "`s3://lake/in/items/2.csv`: line 3 (row 2): column `id`: `many` is not a bigint");
    put("2.csv", "id,value\n900001,a\n".to_owned());
    sandbox.ok(&["build"]);
    assert_eq!(sandbox.value("select n from gold.total"), 900_001);
    sandbox.write("sources.yml", ITEMS.replace("path: items/", "path: nothing/"));
    sandbox.lake(&["build"]).assert_failed(1, "`s3://lake/in/nothing` does not exist");
}

#[test]
fn two_builds_of_one_bucket_lose_nothing() {
    let Some(server) = services::s3() else { return };
    let build = || {
        let mut sandbox = small(&format!("{}/tables", server.url), &format!("{}/in", server.url));
        sandbox.environment(&server.env);
        sandbox
    };
    let (one, two) = (build(), build());
    for number in 0..3 {
        let path = Path::from(format!("in/items/{number}.csv"));
        block_on(async { server.store().put(&path, format!("id,value\n{number},a\n").into()).await.unwrap() });
        let mut first = one.start(&["build", "--atomic"]);
        let mut second = two.start(&["build", "--atomic"]);
        first.wait().unwrap();
        second.wait().unwrap();
    }
    one.ok(&["build"]);
    assert_eq!(one.value("select count(*) from silver.items"), 3);
    assert_eq!(one.value("select n from gold.total"), 3);
}

/// What a build with faults leaves, and builds after it make of it, is what builds without faults make.
fn with_faults(faults: &str) -> (i32, String) {
    let sandbox = small("lake", "in");
    sandbox.write("in/items/1.csv", "id,value\n1,a\n2,b\n");
    sandbox.ok(&["build"]);
    sandbox.write("in/items/2.csv", "id,value\n3,a\n");
    let run = sandbox.command(&["build"]).env("LAKE_FAULTS", faults).output().unwrap();
    sandbox.ok(&["build"]);
    assert_eq!(sandbox.value("select count(*) from silver.items"), 3, "{faults}");
    assert_eq!(sandbox.value("select count(distinct id) from silver.items"), 3, "{faults}");
    assert_eq!(sandbox.value("select n from gold.total"), 3, "{faults}");
    let text = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    (run.status.code().unwrap(), text)
}

#[test]
fn a_commit_whose_answer_is_lost_is_neither_repeated_nor_forgotten() {
    let sandbox = small("lake", "in");
    sandbox.write("in/items/1.csv", "id,value\n1,a\n2,b\n");
    let commit = "silver/items/_delta_log/00000000000000000000.json";
    let run = sandbox.command(&["build"]).env("LAKE_FAULTS", format!("put lost {commit} 1")).output().unwrap();
    assert!(run.status.success(), "{run:?}");
    let versions = std::fs::read_dir(sandbox.path("lake/silver/items/_delta_log")).unwrap();
    let versions = versions.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|end| end == "json"));
    assert_eq!(versions.count(), 1);
    assert_eq!(sandbox.value("select count(*) from silver.items"), 2);
    // Lost once more when files are added to it, and when it is made anew.
    for fault in ["put lost silver/items/_delta_log/00000000000000000001.json 1", "put lost gold/total/_delta_log 1"] {
        let (code, text) = with_faults(fault);
        assert_eq!(code, 0, "{fault}: {text}");
    }
}

#[test]
fn a_commit_to_a_bucket_whose_answer_is_lost_is_not_repeated() {
    let stub = services::gcs();
    let (mut sandbox, store) = (small("gs://lake/tables", "gs://lake/in"), stub.server.store());
    sandbox.environment(&stub.server.env);
    let put = |name: &str, text: &str| {
        let (path, text) = (Path::from(format!("in/items/{name}")), text.to_owned());
        block_on(async { store.put(&path, text.into()).await.unwrap() });
    };
    put("1.csv", "id,value\n1,a\n2,b\n");
    sandbox.ok(&["build"]);
    put("2.csv", "id,value\n3,c\n");
    // The client asks again by itself, and is told that somebody was there before.
    let is_commit = |call: &Call| call.method == "PUT" && call.key.contains("_delta_log/0000000000000000000");
    let mut lost = 0;
    stub.fail(move |call| {
        lost += u32::from(is_commit(call));
        (is_commit(call) && lost % 2 == 1).then_some(Fault::LostAnswer)
    });
    sandbox.ok(&["build"]);
    assert!(stub.calls().iter().filter(|call| is_commit(call)).count() >= 4);
    assert_eq!(sandbox.value("select count(*) from silver.items"), 3);
    assert_eq!(sandbox.value("select n from gold.total"), 3);
    // Some of all requests fail, and the answers to some are cut off: what the client does not make good the next build does.
    put("3.csv", "id,value\n4,d\n");
    stub.fail(|call| match call.number % 23 {
        0 => Some(Fault::LostAnswer),
        7 => Some(Fault::Unavailable),
        15 => Some(Fault::CutAnswer),
        _ => None,
    });
    sandbox.lake(&["build"]);
    stub.fail(|_| None);
    sandbox.ok(&["build"]);
    assert_eq!(sandbox.value("select count(*) from silver.items"), 4);
    assert_eq!(sandbox.value("select count(distinct id) from silver.items"), 4);
    assert_eq!(sandbox.value("select n from gold.total"), 4);
}

#[test]
fn storage_that_fails_for_a_while_is_tried_again() {
    for fault in [
        "put error silver/items/part 1",
        "put error _delta_log 2",
        "put error manifest 1",
        "put lost manifest 1",
        "list error _delta_log 1",
        "get slow parquet 3; list slow . 3",
    ] {
        let (code, text) = with_faults(fault);
        assert_eq!(code, 0, "{fault}: {text}");
    }
}

#[test]
fn whatever_fails_the_next_build_makes_it_good() {
    let rounds = std::env::var("LAKE_SOAK_FAULTS").map_or(6, |count| count.parse().unwrap());
    let mut failed = 0;
    for seed in 0..rounds {
        let (code, text) = with_faults(&format!("random {seed} {}", 12 + seed % 20));
        assert!(code == 0 || code == 1 || code == 2, "{text}");
        assert!(!text.contains("panicked"), "{text}");
        failed += u32::from(code != 0);
    }
    println!("{failed} of {rounds} builds failed");
}

#[test]
fn a_bucket_that_cannot_be_reached_is_told_in_words() {
    let sandbox = small("s3://lake/tables", "in");
    sandbox.write("in/items/1.csv", "id,value\n1,a\n");
    let project = "name: sandbox\ntargets:\n  dev: { root: \"s3://lake/tables\", storage_options: { endpoint: \"http://127.0.0.1:9\", allow_http: true, region: us-east-1, max_retries: 1, skip_signature: true } }\n";
    sandbox.write("project.yml", project);
    let run = sandbox.lake(&["build"]);
    run.assert_failed(2, "lake root `s3://lake/tables/` cannot be used");
    for (options, wrong) in [
        ("{ regoin: x }", "`regoin` is no option of a store, did you mean `region`?"),
        ("{ secret_access_key: hush-hush }", "`secret_access_key` may be a secret"),
    ] {
        sandbox.write(
            "project.yml",
            format!("name: sandbox\ntargets:\n  dev: {{ root: \"s3://lake\", storage_options: {options} }}\n"),
        );
        let run = sandbox.lake(&["compile"]);
        run.assert_failed(2, wrong);
        assert!(!run.stderr.contains("hush-hush"), "{}", run.stderr);
    }
    sandbox.write("project.yml", "name: sandbox\ntargets:\n  dev: { root: \"s3://key:hush@lake/x\" }\n");
    let run = sandbox.lake(&["build"]);
    run.assert_failed(2, "an address has no password");
    assert!(!run.stderr.contains("hush"), "{}", run.stderr);
}

#[test]
fn targets_of_one_bucket_hand_tables_to_each_other() {
    let Some(server) = services::s3() else { return };
    let mut sandbox = small("unused", &format!("{}/in", server.url));
    sandbox.environment(&server.env);
    let root = |name: &str| format!("  {name}: {{ root: \"{}/{name}\" }}\n", server.url);
    sandbox.write("project.yml", format!("name: sandbox\ntarget: dev\ntargets:\n{}{}", root("dev"), root("prod")));
    let put = |name: &str, text: &str| {
        let (path, text) = (Path::from(format!("in/items/{name}")), text.to_owned());
        block_on(async { server.store().put(&path, text.into()).await.unwrap() });
    };
    put("1.csv", "id,value\n1,a\n2,b\n");
    sandbox.ok(&["build", "--target", "prod"]);
    // A model of dev reads what only prod has.
    sandbox.ok(&["build", "--select", "total", "--defer-to", "prod"]);
    assert_eq!(sandbox.value("select n from gold.total"), 2);
    // The store copies, and nothing is made anew.
    let cloned = sandbox.ok(&["clone", "--from", "prod", "--to", "dev", "--select", "items"]);
    assert!(cloned.contains("copied"), "{cloned}");
    let report = sandbox.json(&["build", "--select", "items"]);
    assert_eq!(report["nodes"][0]["status"], "skipped", "{report}");
    put("2.csv", "id,value\n3,c\n");
    sandbox.ok(&["build"]);
    assert_eq!(sandbox.value("select n from gold.total"), 3);
    let same = sandbox.ok(&["diff", "items", "--targets", "prod,dev", "--key", "id"]);
    assert!(same.contains("1 added"), "{same}");
    sandbox.ok(&["promote", "--from", "dev", "--to", "prod"]);
    let report = sandbox.json(&["build", "--target", "prod"]);
    let is_skipped = |node: &serde_json::Value| node["status"] == "skipped";
    assert!(report["nodes"].as_array().unwrap().iter().all(is_skipped), "{report}");
    let same = sandbox.ok(&["diff", "items", "--targets", "prod,dev", "--key", "id"]);
    assert!(same.contains("same"), "{same}");
}
