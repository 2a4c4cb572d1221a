//! State that is lost, cut off, of a newer program or at odds with the log: told in words, made anew or ignored, never trusted.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::materialize::items;
use crate::sandbox::{Sandbox, node};

/// `silver.items` appends files, `gold.total` counts its rows.
fn house() -> Sandbox {
    let taken = "select id, value from {{ source('raw', 'items') }}";
    let sandbox = items(&[
        ("models/silver/items.sql", &format!("{{{{ config(materialized='incremental') }}}} {taken}")),
        ("models/gold/total.sql", "{{ config(materialized='table') }} select count(*) as n from {{ ref('items') }}"),
    ]);
    sandbox.ok(&["build"]);
    sandbox
}

fn only_file(folder: PathBuf) -> PathBuf {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

fn manifest(sandbox: &Sandbox) -> PathBuf {
    only_file(sandbox.path("lake/silver/items/_lake/manifest/raw.items"))
}

/// What the doctor says of a subject.
fn finding(sandbox: &Sandbox, subject: &str) -> Value {
    let report = sandbox.json(&["doctor"]);
    let findings = report["findings"].as_array().unwrap_or_else(|| panic!("{report}"));
    findings.iter().find(|finding| finding["subject"] == subject).cloned().unwrap_or_else(|| panic!("{report}"))
}

#[test]
fn a_manifest_that_is_lost_or_cut_off_is_never_guessed() {
    type Damage = fn(&PathBuf);
    let damages: [(Damage, &str); 3] = [
        (|path| std::fs::remove_file(path).unwrap(), "it is gone; which files were taken in is not known any more"),
        (
            |path| {
                let text = std::fs::read_to_string(path).unwrap();
                std::fs::write(path, &text[..text.len() - 4]).unwrap();
            },
            "which files were taken in is not known any more",
        ),
        (
            |path| {
                let text = std::fs::read_to_string(path).unwrap();
                std::fs::write(path, text.replacen("{\"id\"", "{\"format\":99,\"id\"", 1)).unwrap();
            },
            "a newer `lake` wrote it",
        ),
    ];
    for (damage, told) in damages {
        let sandbox = house();
        let before = sandbox.value("select count(*) from silver.items");
        damage(&manifest(&sandbox));
        sandbox.lake(&["build"]).assert_failed(1, told);
        assert_eq!(sandbox.value("select count(*) from silver.items"), before, "readers keep what they have");
        let found = finding(&sandbox, "silver.items");
        assert_eq!(found["health"], "error", "{found}");
        assert_eq!(found["mend"], "lake build --full-refresh --select silver.items");
        sandbox.ok(&["build", "--full-refresh"]);
        assert_eq!(sandbox.value("select count(*) from silver.items"), before);
        assert_eq!(finding(&sandbox, "silver.items")["health"], "ok");
    }
}

#[test]
fn what_a_newer_lake_says_of_a_table_is_not_trusted() {
    let sandbox = house();
    let path = sandbox.path("lake/gold/total/_delta_log/00000000000000000000.json");
    let lines: Vec<String> = std::fs::read_to_string(&path)
        .unwrap()
        .lines()
        .map(|line| {
            let mut action: Value = serde_json::from_str(line).unwrap();
            if let Some(said) = action.get_mut("commitInfo").and_then(|info| info.get_mut("lake")) {
                said["format"] = json!(99);
            }
            action.to_string()
        })
        .collect();
    std::fs::write(&path, lines.join("\n")).unwrap();
    let found = finding(&sandbox, "gold.total");
    assert_eq!(found["message"], "its newest version was made by a newer `lake`");
    let report = sandbox.json(&["build"]);
    assert_eq!(node(&report, "gold.total")["status"], "success", "{report}");
    assert_eq!(finding(&sandbox, "gold.total")["health"], "ok");
}

#[test]
fn a_log_that_is_cut_off_is_told_with_the_table_and_stops_nothing_else() {
    let sandbox = house();
    let path = sandbox.path("lake/gold/total/_delta_log/00000000000000000000.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &text[..text.len() / 2]).unwrap();
    sandbox.write("in/items/3.csv", "id,value\n9,z\n");
    let run = sandbox.command(&["build"]).env("RUST_BACKTRACE", "1").output().unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert_eq!(run.status.code(), Some(1), "{told}");
    assert!(told.contains("table `gold.total`") && !told.contains("panicked") && !told.contains("futures"), "{told}");
    let report = sandbox.json(&["build"]);
    assert_eq!(node(&report, "silver.items")["status"], "skipped", "{report}");
    assert_eq!(finding(&sandbox, "gold.total")["health"], "error");
}

#[test]
fn the_doctor_says_what_is_wrong_and_changes_nothing() {
    let sandbox = house();
    // A table that no model makes, a file that no version needs, a burst that a crash has cut.
    sandbox.ok(&["build"]);
    std::fs::rename(sandbox.path("models/gold/total.sql"), sandbox.path("models/gold/count.sql")).unwrap();
    let strange = finding(&sandbox, "gold.total");
    assert_eq!(strange["health"], "warn");
    assert_eq!(finding(&sandbox, "gold.count")["message"], "it has not been built yet");
    assert_eq!(finding(&sandbox, "journal")["health"], "ok");
    sandbox.write("lake/_lake/journal/1.json", "{}");
    assert_eq!(finding(&sandbox, "journal")["health"], "warn");
    assert!(sandbox.path("lake/_lake/journal/1.json").exists());
    std::fs::remove_file(sandbox.path("lake/_lake/journal/1.json")).unwrap();
    assert_eq!(finding(&sandbox, "store")["health"], "ok");
    let mut left = std::fs::read_dir(sandbox.path("lake/_lake")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.all(|name| !name.to_string_lossy().starts_with("probe")));
    sandbox.ok(&["doctor"]);
}
