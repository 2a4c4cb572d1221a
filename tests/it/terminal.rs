//! What a user or a script meets: output, exit codes, artifacts, targets, and commands beside `build`.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::materialize::{items, rows};
use crate::sandbox::{Run, Sandbox};

const COPY: &str = "{{ config(materialized='table') }} select id, value from {{ source('raw', 'items') }}";
const TESTS: &str = "models: [{ name: copy, columns: [{ name: id, data_tests: [not_null] }] }]";

/// A source, a table with a test, and a view below it.
fn project() -> Sandbox {
    items(&[
        ("models/silver/copy.sql", COPY),
        ("models/silver/copy.yml", TESTS),
        ("models/gold/ids.sql", "select id from {{ ref('copy') }}"),
    ])
}

fn artifact(sandbox: &Sandbox, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(sandbox.path(".lake").join(name)).unwrap()).unwrap()
}

/// Runs in another folder than the project's.
fn elsewhere(sandbox: &Sandbox, folder: &Path, args: &[&str]) -> Run {
    let output = sandbox.command(args).current_dir(folder).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[test]
fn every_command_prints_json_on_request() {
    let sandbox = project();
    let build = sandbox.json(&["build"]);
    assert_eq!((build["nodes"].as_array().unwrap().len(), &build["cancelled"]), (2, &Value::Bool(false)));
    assert_eq!(sandbox.json(&["run"])["nodes"][0]["status"], "skipped");
    assert_eq!(sandbox.json(&["test"])["tests"][0]["name"], "not_null_copy_id");
    assert_eq!(sandbox.json(&["ls"]).as_array().unwrap().len(), 4);
    assert_eq!(sandbox.json(&["show", "ids"]).as_array().unwrap().len(), 2);
    assert_eq!(sandbox.json(&["docs"])["edges"].as_array().unwrap().len(), 2);
    let compiled = sandbox.json(&["compile"]);
    assert!(compiled["nodes"].to_string().contains("compiled_code"), "{compiled}");
    assert!(sandbox.json(&["docs", "generate"])["path"].as_str().unwrap().ends_with("index.html"));
}

#[test]
fn mistakes_are_json_on_request_too() {
    let sandbox = project();
    assert!(sandbox.json(&["ls", "--select", "nope"])["error"].as_str().unwrap().contains("nope"));
    sandbox.write("models/silver/copy.sql", "select nope from {{ source('raw', 'items') }}");
    let found = sandbox.lake(&["build", "--output", "json"]);
    let values = serde_json::Deserializer::from_str(&found.stdout).into_iter::<Value>();
    let values: Vec<Value> = values.map(Result::unwrap).collect();
    assert_eq!((found.code, values.len()), (2, 1), "one JSON value: {}", found.stdout);
    assert!(values[0]["diagnostics"][0].to_string().contains("nope"), "{}", found.stdout);
}

#[test]
fn results_go_to_stdout_and_everything_else_to_stderr() {
    let sandbox = project();
    let built = sandbox.lake(&["build"]);
    assert!(built.stdout.contains("silver.copy") && built.stdout.contains("2 built"), "{}", built.stdout);
    assert_eq!(built.stderr, "");
    sandbox.write("models/silver/copy.yml", "models: [{ name: copy, columns: [{ name: nothing }] }]");
    let listed = sandbox.lake(&["compile"]);
    assert!(listed.code == 0 && listed.stdout.is_empty(), "{}", listed.stdout);
    assert!(listed.stderr.contains("warning") && listed.stderr.contains("copy.yml:1"), "{}", listed.stderr);
    sandbox.write("models/silver/copy.sql", "select nope from {{ source('raw', 'items') }}");
    let wrong = sandbox.lake(&["build"]);
    assert_eq!((wrong.code, wrong.stdout.as_str()), (2, ""));
    assert!(wrong.stderr.contains("nope") && wrong.stderr.contains("models/silver/copy.sql:1"), "{}", wrong.stderr);
}

#[test]
fn quiet_leaves_the_summary() {
    let sandbox = project();
    let built = sandbox.lake(&["build", "-q"]);
    let lines: Vec<&str> = built.stdout.lines().collect();
    assert_eq!((lines.len(), built.stderr.as_str()), (1, ""), "{built:?}");
    assert!(lines[0].starts_with("2 built, 1 test"), "{built:?}");
    assert_eq!(sandbox.lake(&["test", "-q"]).stdout.lines().count(), 1);
}

#[test]
fn exit_codes_tell_failures_from_mistakes() {
    let sandbox = project();
    assert_eq!(sandbox.lake(&["build"]).code, 0);
    sandbox.write("in/items/2.csv", "id,value\n,none\n");
    assert_eq!(sandbox.lake(&["build"]).code, 1);
    assert_eq!(sandbox.lake(&["build", "--no-such-flag"]).code, 2);
    assert_eq!(sandbox.lake(&["show", "cpy"]).code, 2);
    sandbox.lake(&["show", "cpy"]).assert_failed(2, "did you mean `copy`?");
    sandbox.lake(&["build", "--vars", "[1]"]).assert_failed(2, "--vars takes a YAML mapping");
    sandbox.write("project.yml", "name: [\n");
    assert_eq!(sandbox.lake(&["ls"]).code, 2);
    Sandbox::empty().lake(&["build"]).assert_failed(2, "lake init");
}

#[test]
fn lineage_comes_as_mermaid_dot_and_json() {
    let sandbox = project();
    let mermaid = sandbox.ok(&["docs", "--format", "mermaid"]);
    assert!(mermaid.starts_with("flowchart LR\n") && mermaid.contains("silver__copy --> gold__ids"), "{mermaid}");
    let dot = sandbox.ok(&["docs", "--format", "dot"]);
    assert!(dot.starts_with("digraph") && dot.contains("\"raw.items\" -> \"silver.copy\";"), "{dot}");
    let json: Value = serde_json::from_str(&sandbox.ok(&["docs", "--format", "json", "--select", "copy+"])).unwrap();
    assert_eq!((json["nodes"].as_array().unwrap().len(), json["edges"].as_array().unwrap().len()), (2, 1));
}

#[test]
fn the_documentation_is_one_page_that_loads_nothing() {
    let sandbox = project();
    sandbox.write("models/silver/copy.yml", "models: [{ name: copy, description: 'A </script> & <b>copy</b>' }]");
    sandbox.ok(&["build"]);
    sandbox.ok(&["docs", "generate", "--path", "site/page.html"]);
    let page = std::fs::read_to_string(sandbox.path("site/page.html")).unwrap();
    assert!(page.contains("silver.copy") && page.contains("\\u003c/script> & \\u003cb>copy"), "the data is not inside");
    assert!(!page.contains("__LAKE_DATA__"));
    let squeezed: String = page.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    for loading in ["src=\"http", "src=\"//", "href=\"http", "@import", "url(http", "<link rel=\"stylesheet"] {
        assert!(!squeezed.contains(loading), "{loading}");
    }
    assert_eq!(std::fs::read_dir(sandbox.path("site")).unwrap().count(), 1);
}

#[test]
fn a_new_project_builds_at_once_and_is_never_overwritten() {
    let sandbox = Sandbox::empty();
    sandbox.ok(&["init", "my shop"]);
    let folder = sandbox.path("my shop");
    let built = elsewhere(&sandbox, &folder, &["build"]);
    assert!(built.code == 0 && built.stdout.contains("2 built"), "{built:?}");
    let again = elsewhere(&sandbox, &folder, &["build", "-q"]);
    assert!(again.stdout.starts_with("2 skipped"), "{again:?}");
    sandbox.lake(&["init", "my shop"]).assert_failed(2, "is a project already");
    sandbox.write("other/models/silver/orders.sql", "select 1 as mine");
    sandbox.lake(&["init", "other"]).assert_failed(2, "models/silver/orders.sql");
    assert!(!sandbox.path("other/project.yml").exists());
}

#[test]
fn a_closed_pipe_is_no_crash() {
    let sandbox = project();
    for args in [&["ls"][..], &["build"], &["show", "copy"], &["docs"], &["--help"]] {
        let mut command = sandbox.command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("panicked") && output.status.code() != Some(101), "{args:?}: {stderr}");
    }
}

#[test]
fn artifacts_say_what_is_and_what_was_done() {
    let sandbox = project();
    sandbox.ok(&["build"]);
    let manifest = artifact(&sandbox, "manifest.json");
    assert_eq!(manifest["nodes"]["model.sandbox.copy"]["columns"]["id"]["data_type"], "bigint");
    assert_eq!(manifest["parent_map"]["model.sandbox.ids"][0], "model.sandbox.copy");
    let results = artifact(&sandbox, "run_results.json");
    assert_eq!(
        (&results["results"][0]["unique_id"], &results["results"][0]["status"]),
        (&"model.sandbox.copy".into(), &"success".into())
    );
    sandbox.ok(&["compile"]);
    let sql = std::fs::read_to_string(sandbox.path(".lake/compiled/models/gold/ids.sql")).unwrap();
    assert!(sql.contains("silver") && !sql.contains("{{"), "{sql}");
    let left: Vec<_> = std::fs::read_dir(sandbox.path(".lake")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".tmp")), "{left:?}");
}

#[test]
fn a_project_is_built_from_any_folder() {
    let (sandbox, other) = (project(), Sandbox::empty());
    let folder = sandbox.path("");
    let built = elsewhere(&sandbox, &other.path(""), &["build", "--project-dir", folder.to_str().unwrap()]);
    assert_eq!(built.code, 0, "{built:?}");
    let relative = elsewhere(&sandbox, &sandbox.path("models"), &["build", "-q", "--project-dir", ".."]);
    assert!(relative.stdout.starts_with("1 built, 1 skipped"), "{relative:?}");
    assert_eq!(std::fs::read_dir(other.path("")).unwrap().count(), 0);
    assert!(!sandbox.path("models/lake").exists() && sandbox.path("lake/silver/copy").is_dir());
}

#[test]
fn each_target_has_a_lake_of_its_own() {
    let sandbox = project();
    let targets = "targets:\n  dev: { root: lake }\n  prod: { root: '{{ env_var(\"ROOT\", \"production\") }}' }\n";
    sandbox.write("project.yml", format!("name: sandbox\ntarget: dev\n{targets}"));
    sandbox.ok(&["build", "--target", "prod"]);
    assert!(sandbox.path("production/silver/copy").is_dir() && !sandbox.path("lake").exists());
    let run = sandbox.command(&["build", "-t", "prod"]).env("ROOT", "elsewhere").output().unwrap();
    assert!(run.status.success() && sandbox.path("elsewhere/silver/copy").is_dir());
    sandbox.lake(&["build", "--target", "prd"]).assert_failed(2, "did you mean `prod`?");
}

#[test]
fn a_lake_that_cannot_be_written_fails_with_the_name_of_the_table() {
    let sandbox = project();
    sandbox.write("afile", "in the way");
    for root in ["afile/lake", "/proc/lake"] {
        sandbox.write("project.yml", format!("name: sandbox\ntargets:\n  dev: {{ root: {root} }}\n"));
        let run = sandbox.lake(&["build"]);
        run.assert_failed(1, "silver.copy");
        run.assert_failed(1, root);
        assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    }
}

#[test]
fn a_query_reads_models_and_sources() {
    let sandbox = project();
    sandbox.ok(&["build"]);
    let sql =
        "select c.id, i.value from {{ ref('copy') }} c join {{ source('raw', 'items') }} i on c.id = i.id order by 1";
    let shown = sandbox.ok(&["show", "--inline", sql, "--limit", "1"]);
    assert!(shown.contains("| 1  | a     |") && !shown.contains("| 2"), "{shown}");
    assert_eq!(
        (rows(&sandbox, "raw.items"), rows(&sandbox, "silver.copy")),
        (rows(&sandbox, "copy"), rows(&sandbox, "items"))
    );
    sandbox.lake(&["show", "--inline", "select * from {{ ref('cpy') }}"]).assert_failed(2, "did you mean `copy`?");
    sandbox.lake(&["show", "--inline", "select nope from {{ ref('copy') }}"]).assert_failed(2, "nope");
}
