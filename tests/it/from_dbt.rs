//! `lake init --from-dbt`: a dbt project becomes one of `lake`, and what could not be converted is told line by line.

use std::path::{Path, PathBuf};

use lake::from_dbt::{DbtFile, convert};

use crate::sandbox::{Random, Sandbox, names, snapshots};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/from_dbt").join(name)
}

/// Copies the dbt project of a shop into a folder of a sandbox.
pub fn copy_shop(sandbox: &Sandbox, to: &str) {
    copy(&fixture("shop"), sandbox, to);
}

fn copy(from: &Path, sandbox: &Sandbox, to: &str) {
    for name in names(from) {
        let (from, to) = (from.join(&name), format!("{to}/{name}"));
        if from.is_dir() {
            copy(&from, sandbox, &to);
        } else {
            sandbox.write(&to, std::fs::read(&from).unwrap());
        }
    }
}

/// All files below a folder with their texts, as one text.
fn texts(sandbox: &Sandbox, folder: &str) -> String {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<(String, String)>) {
        for name in names(folder).into_iter().filter(|name| !name.starts_with('.')) {
            let path = folder.join(&name);
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                let shown = path.strip_prefix(root).unwrap().display().to_string();
                found.push((shown, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    let root = sandbox.path(folder);
    walk(&root, &root, &mut found);
    found.iter().map(|(path, text)| format!("==> {path} <==\n{text}\n")).collect()
}

#[test]
fn a_shop_is_converted_and_builds() {
    let sandbox = Sandbox::empty();
    copy_shop(&sandbox, "dbt");
    let before = texts(&sandbox, "dbt");
    let report = sandbox.ok(&["init", "--from-dbt", "dbt", "shop"]);
    assert_eq!(texts(&sandbox, "dbt"), before, "the dbt project stays as it is");
    snapshots().bind(|| {
        insta::assert_snapshot!("from_dbt@shop_report", report);
        insta::assert_snapshot!("from_dbt@shop_files", texts(&sandbox, "shop"));
    });
    let shop = |args: &[&str]| sandbox.lake(&[args, &["--project-dir", "shop"]].concat());
    let compiled = shop(&["compile"]);
    assert_eq!(compiled.code, 0, "{}{}", compiled.stdout, compiled.stderr);
    let built = shop(&["build"]);
    assert_eq!(built.code, 0, "{}{}", built.stdout, built.stderr);
    assert!(built.stdout.contains("0 failed") || !built.stdout.contains("FAIL"), "{}", built.stdout);
    let rows =
        shop(&["show", "--inline", "select * from {{ ref('customers') }} order by customer_id", "--output", "json"]);
    let rows: serde_json::Value = serde_json::from_str(&rows.stdout).unwrap_or_else(|_| panic!("{}", rows.stderr));
    assert_eq!(
        rows,
        serde_json::json!([
            {"customer_id": 1, "name": "Ada", "since": "2026-01-01T09:00:00", "orders": 2, "latte": 3, "tea": 1, "espresso": 0},
            {"customer_id": 2, "name": "Grace", "since": "2026-01-01T10:00:00", "orders": 2, "latte": 0, "tea": 1, "espresso": 2},
            {"customer_id": 3, "name": "Edsger", "since": "2026-01-02T11:00:00", "orders": 0, "latte": 0, "tea": 0, "espresso": 0},
        ])
    );
    let again = shop(&["build"]);
    assert!(
        again.code == 0 && again.stdout.contains("skip  core.orders") || again.stdout.contains("skip  marts.orders"),
        "{}",
        again.stdout
    );
    assert!(sandbox.path("shop/data/lake/snapshots/customers_history/_delta_log").is_dir());
}

#[test]
fn what_cannot_be_converted_is_told_line_by_line() {
    let sandbox = Sandbox::empty();
    copy(&fixture("warehouse"), &sandbox, "dbt");
    let report = sandbox.ok(&["init", "--from-dbt", "dbt", "new"]);
    snapshots().bind(|| {
        insta::assert_snapshot!("from_dbt@warehouse_report", report);
        insta::assert_snapshot!("from_dbt@warehouse_files", texts(&sandbox, "new"));
    });
    let json = sandbox.json(&["init", "--from-dbt", "dbt", "other"]);
    let findings = json["findings"].as_array().unwrap();
    let shown = report
        .lines()
        .filter(|line| line.starts_with("todo  ") || line.starts_with("look  ") || line.starts_with("done  "));
    let of_compile = json["compile"].as_array().unwrap().len();
    assert_eq!(findings.len() + of_compile, shown.count());
    assert!(findings.iter().all(|finding| finding["line"].as_u64().unwrap() > 0 && finding["action"] != ""), "{json}");
    let also = sandbox.ok(&["init", "--from-dbt", "dbt", "third", "--format", "json"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&also).unwrap()["findings"], json["findings"]);
}

#[test]
fn nothing_is_overwritten_and_nothing_else_is_a_dbt_project() {
    let sandbox = Sandbox::empty();
    copy_shop(&sandbox, "dbt");
    sandbox.lake(&["init", "--from-dbt", "dbt", "dbt"]).assert_failed(2, "files that would be overwritten");
    sandbox.lake(&["init", "--from-dbt", "nowhere", "new"]).assert_failed(2, "nowhere");
    sandbox.write("empty/readme.md", "nothing");
    sandbox.lake(&["init", "--from-dbt", "empty", "new"]).assert_failed(2, "there is no dbt_project.yml");
    sandbox.write("empty/dbt_project.yml", "name: [a\n");
    sandbox.lake(&["init", "--from-dbt", "empty", "new"]).assert_failed(2, "dbt_project.yml");
    sandbox.write("empty/dbt_project.yml", "name: my-shop\n");
    sandbox.lake(&["init", "--from-dbt", "empty", "new"]).assert_failed(2, "letters, digits and `_`");
    assert!(!sandbox.path("new").exists());
}

/// The files of a dbt project, as the conversion takes them.
fn files(folder: &Path, root: &Path, found: &mut Vec<DbtFile>) {
    for name in names(folder) {
        let path = folder.join(&name);
        if path.is_dir() {
            files(&path, root, found);
        } else {
            let shown = path.strip_prefix(root).unwrap().display().to_string();
            found.push(DbtFile { path: shown, text: Some(std::fs::read_to_string(&path).unwrap()) });
        }
    }
}

#[test]
fn damaged_files_are_converted_or_refused() {
    const PIECES: &[&str] = &[
        "{", "}", "[", "]", "'", "\"", "{{ ", " }}", "{% ", " %}", "macro a", "\n", "\n  ", "- ", ": ", "&a ", "*a",
        "é", "(",
    ];
    let mut random = Random(7);
    for name in ["shop", "warehouse"] {
        let mut all = Vec::new();
        files(&fixture(name), &fixture(name), &mut all);
        for _ in 0..150 {
            let mut damaged = all.clone();
            for _ in 0..6 {
                let at = random.below(damaged.len() as u64) as usize;
                let Some(text) = &mut damaged[at].text else { continue };
                let mut place = || {
                    let place = random.below(text.len() as u64 + 1) as usize;
                    (0..=place).rev().find(|place| text.is_char_boundary(*place)).unwrap()
                };
                let (from, to) = (place(), place());
                match random.below(3) {
                    0 => text.insert_str(from, PIECES[random.below(PIECES.len() as u64) as usize]),
                    1 if from <= to && to - from < 40 => text.replace_range(from..to, ""),
                    _ => {
                        let piece = text[from..].chars().take(30).collect::<String>();
                        text.insert_str(to, &piece);
                    }
                }
            }
            // It says something sensible or why it does not; it does not panic.
            if let Ok(conversion) = convert(&damaged, "../dbt/") {
                assert!(conversion.files.contains_key("project.yml"));
            }
        }
    }
}
