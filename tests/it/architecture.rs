//! The one-way flow of `src/lib.rs`, checked: a module imports only what stands before it, and each heavy dependency
//! has one home.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules in the order data flows.
const FLOW: &[&str] = &[
    "names",
    "words",
    "paths",
    "intervals",
    "memo",
    "fail_points",
    "diagnostics",
    "catalog",
    "session",
    "stores",
    "exact_files",
    "checks",
    "template",
    "project",
    "from_dbt",
    "graph",
    "compile",
    "bronze",
    "tables",
    "run",
    "artifacts",
    "alerts",
    "docs",
    "orchestrators",
    "cli",
];

const HOMES: &[(&str, &[&str])] = &[
    ("minijinja::", &["template"]),
    ("serde_yaml::", &["project"]),
    ("petgraph::", &["graph"]),
    ("deltalake::", &["tables"]),
    ("clap::", &["cli"]),
    ("console::", &["cli"]),
    ("opentelemetry", &["cli"]),
    ("annotate_snippets::", &["diagnostics"]),
    ("rayon::", &["project", "compile", "artifacts", "session", "cli"]),
    ("notify::", &["cli"]),
    ("rmp_serde::", &["memo"]),
    ("aws_config::", &["stores"]),
    ("lettre::", &["alerts"]),
    ("reqwest::", &["stores"]),
    ("std::env::", &["cli"]),
    ("std::fs::", &["memo", "diagnostics", "session", "stores", "project", "artifacts", "bronze", "cli"]),
];

#[test]
fn modules_import_only_what_stands_before_them() {
    for (at, module) in FLOW.iter().enumerate() {
        for (path, text) in module_files(module) {
            for used in text.split("crate::").skip(1).map(first_segment) {
                let allowed = FLOW[..=at].contains(&used);
                assert!(allowed, "{}: `{module}` must not import `{used}`", path.display());
            }
        }
    }
}

#[test]
fn each_heavy_dependency_has_one_home() {
    for module in FLOW {
        for (path, text) in module_files(module) {
            for (dependency, homes) in HOMES {
                let at_home = homes.contains(module);
                assert!(
                    at_home || !text.contains(dependency),
                    "{}: `{dependency}` belongs in {homes:?}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn every_module_is_in_the_flow_and_no_file_is_too_long() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(&source).unwrap().map(|entry| entry.unwrap().path()) {
        let stem = entry.file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(FLOW.contains(&stem.as_str()) || matches!(stem.as_str(), "lib" | "main"), "{stem} is not in the flow");
    }
    for (path, text) in rust_files(source) {
        let lines = text.lines().count();
        assert!(lines <= 520, "{}: {lines} lines", path.display());
    }
}

fn first_segment(rest: &str) -> &str {
    &rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())]
}

fn module_files(module: &str) -> Vec<(PathBuf, String)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let file = source.join(format!("{module}.rs"));
    if file.is_file() {
        vec![(file.clone(), fs::read_to_string(file).unwrap())]
    } else {
        rust_files(source.join(module))
    }
}

fn rust_files(folder: PathBuf) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(rust_files(path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}
