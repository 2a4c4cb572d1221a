//! `lake airflow generate`: the file is what a real Airflow imports, runs, and stops where a test fails.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::reader::{python_venv, run};
use crate::sandbox::{Sandbox, snapshots};

/// Imports the files of a folder with Airflow, and prints what it found.
const SCRIPT: &str = include_str!("airflow/read_dags.py");

/// Airflow with the packages that it was tested with; pip alone would take newer ones, which it may not know.
fn airflow() -> Option<PathBuf> {
    let constraints = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/airflow/constraints.txt");
    match python_venv("airflow-venv", &["apache-airflow==3.3.2", "--constraint", constraints.to_str().unwrap()]) {
        Ok(venv) => Some(venv.join("bin")),
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "no Airflow: {why}");
            eprintln!("skipped: no Airflow: {why}");
            None
        }
    }
}

/// Names, texts and dependencies that are easily got wrong.
fn shop() -> Sandbox {
    let table = |sql: &str| format!("{{{{ config(materialized='table') }}}} {sql}");
    let sandbox = Sandbox::new(&[
        ("project.yml", "name: shop\ntargets:\n  dev: { root: lake }\nmodels:\n  silver: { tags: [nightly] }\n"),
        (
            "sources.yml",
            "sources:
  - name: raw
    root: in
    tables:
      - { name: orders, path: orders/, format: csv, columns: [{ name: id, data_type: bigint }, { name: customer, data_type: varchar }, { name: amount, data_type: double }] }
      - { name: customers, path: customers/, format: csv, columns: [{ name: customer, data_type: varchar }] }
",
        ),
        (
            "models/models.yml",
            r#"groups:
  - { name: pair, owner: { name: Ann }, config: { publish: together } }
models:
  - name: orders
    columns:
      - name: id
        data_tests: [not_null, unique]
      - name: customer
        data_tests: [{ relationships: { to: ref('customers'), field: customer } }]
  - name: sums
    description: "It's \"quoted\" \\ {{ '{{ braces }}' }}\n\nmore: readme.md"
    config: { owner: bob }
    data_tests: [{ unique: { column_name: customer } }]
  - { name: left_one, config: { group: pair } }
  - { name: right_one, config: { group: pair } }
"#,
        ),
        (
            "models/silver/orders.sql",
            "{{ config(materialized='incremental') }} select id, customer, amount from {{ source('raw', 'orders') }}",
        ),
        ("models/silver/recent.sql", "select * from {{ ref('orders') }} where id > 0"),
    ]);
    for (path, sql) in [
        ("silver/customers", "select customer from {{ source('raw', 'customers') }}"),
        (
            "gold/sums",
            "select c.customer, sum(amount) as amount from {{ ref('customers') }} c join {{ ref('recent') }} r on c.customer = r.customer group by 1",
        ),
        ("gold/sh", "select count(*) as n from {{ ref('sums') }}"),
        ("gold/größe", "select count(*) as n from {{ ref('sh') }}"),
        ("gold/left_one", "select 1 as one"),
        ("gold/right_one", "select 2 as two"),
    ] {
        sandbox.write(&format!("models/{path}.sql"), table(sql));
    }
    sandbox.write("tests/no_sums_without_orders.sql", "select s.customer from {{ ref('sums') }} s left join {{ ref('orders') }} o on s.customer = o.customer where o.id is null");
    sandbox.write("in/orders/1.csv", "id,customer,amount\n1,a,2\n2,b,3\n");
    sandbox.write("in/customers/1.csv", "customer\na\nb\n");
    sandbox
}

/// A program of Airflow, with a home of its own in the sandbox and no network.
fn call(bin: &Path, sandbox: &Sandbox, program: &str, args: &[&str]) -> Output {
    let mut command = Command::new(bin.join(program));
    command.args(args).current_dir(sandbox.path("")).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.env("HOME", sandbox.path("")).env("AIRFLOW_HOME", sandbox.path("airflow"));
    command.env("AIRFLOW__CORE__LOAD_EXAMPLES", "False").env("AIRFLOW__CORE__DAGS_FOLDER", sandbox.path("dags"));
    command.env("AIRFLOW__LOGGING__COLORED_CONSOLE_LOG", "False");
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// How often each node was built and skipped, by the lake's own tables.
fn counts(sandbox: &Sandbox) -> Vec<String> {
    let rows = sandbox.query(
        "select node, sum(case when status = 'success' then 1 else 0 end) as built, sum(case when status = 'skipped' then 1 else 0 end) as skipped, \
         sum(case when status = 'error' then 1 else 0 end) as failed from _lake.node_results group by 1 order by 1",
    );
    rows.iter().map(|row| format!("{} {} {} {}", row["node"], row["built"], row["skipped"], row["failed"])).collect()
}

#[test]
fn airflow_imports_runs_and_stops() {
    let Some(bin) = airflow() else { return };
    let sandbox = shop();
    let lake = env!("CARGO_BIN_EXE_lake");
    let generate = |args: &[&str]| {
        let mut all = vec!["airflow", "generate", "--lake-command", lake, "--retries", "0"];
        all.extend(args);
        sandbox.ok(&all);
    };
    generate(&["--schedule", "none", "--vars", "{deep: {deeper: {a: \"it's\"}}}"]);
    generate(&["--dag-id", "layers", "--by", "layer", "--assets", "--schedule", "@hourly"]);
    generate(&["--dag-id", "groups", "--by", "group"]);
    generate(&["--dag-id", "gold", "--select", "gold", "--exclude", "test_type:data", "--assets"]);
    let found = call(&bin, &sandbox, "python", &["-c", SCRIPT, sandbox.path("dags").to_str().unwrap()]);
    let result = text(&found);
    let line = result.lines().find_map(|line| line.strip_prefix("RESULT ")).unwrap_or_else(|| panic!("{result}"));
    let project = sandbox.path("");
    let line = line.replace(project.to_str().unwrap().trim_end_matches('/'), "[project]").replace(lake, "lake");
    let found: Value = serde_json::from_str(&line).unwrap();
    snapshots().bind(|| insta::assert_json_snapshot!("airflow_found", found));

    let migrated = call(&bin, &sandbox, "airflow", &["db", "migrate"]);
    assert!(migrated.status.success(), "{}", text(&migrated));
    let test = || call(&bin, &sandbox, "airflow", &["dags", "test", "shop"]);
    let first = test();
    assert!(first.status.success(), "{}", text(&first));
    let nodes =
        ["gold.größe", "gold.left_one", "gold.right_one", "gold.sh", "gold.sums", "silver.customers", "silver.orders"];
    let all = |counts: &str| nodes.map(|node| format!("\"{node}\" {counts}")).to_vec();
    assert_eq!(counts(&sandbox), all("1 0 0"), "{}", text(&first));
    assert_eq!(sandbox.value("select sum(amount) from gold.sums"), 5.0);

    // What is unchanged is skipped. A row that a test refuses: its task fails, and what reads it does not run.
    sandbox.write("in/orders/2.csv", "id,customer,amount\n1,a,2\n");
    let second = test();
    assert_eq!(second.status.code(), Some(1), "{}", text(&second));
    let expected = nodes.map(|node| match node {
        "gold.left_one" | "gold.right_one" | "silver.customers" => format!("\"{node}\" 1 1 0"),
        "silver.orders" => format!("\"{node}\" 1 0 1"),
        _ => format!("\"{node}\" 1 0 0"),
    });
    assert_eq!(counts(&sandbox), expected, "{}", text(&second));
}

#[test]
fn the_file_is_one_that_people_read() {
    let sandbox = shop();
    sandbox.ok(&["airflow", "generate", "--target", "dev"]);
    let file = std::fs::read_to_string(sandbox.path("dags/shop.py")).unwrap();
    snapshots().bind(|| insta::assert_snapshot!("airflow_dag", file));
    assert!(sandbox.ok(&["airflow", "generate", "--target", "dev"]).starts_with("unchanged:"));
    // Somebody else's file stays.
    sandbox.write("dags/shop.py", "print('mine')\n");
    sandbox.lake(&["airflow", "generate"]).assert_failed(2, "lake did not write it");
    assert_eq!(std::fs::read_to_string(sandbox.path("dags/shop.py")).unwrap(), "print('mine')\n");
    assert!(sandbox.ok(&["airflow", "generate", "--path", "-"]).contains("with DAG("));
}

#[test]
fn layers_that_wait_for_one_another_are_one_task() {
    let sandbox = shop();
    sandbox.write("models/silver/late.sql", "{{ config(materialized='table') }} select n from {{ ref('sh') }}");
    let file = sandbox.ok(&["airflow", "generate", "--by", "layer", "--path", "-"]);
    assert!(file.contains("\"silver-gold\"") || file.contains("\"gold-silver\""), "{file}");
    assert!(!file.contains(">>"), "{file}");
}

#[test]
fn what_cannot_be_a_dag_is_refused() {
    let sandbox = shop();
    for (args, why) in [
        (&["--schedule", "daily"][..], "`daily` is no schedule of Airflow"),
        (&["--schedule", "0 0 * *"], "is no schedule of Airflow"),
        (&["--schedule", "@once", "--assets"], "@once is no time"),
        (&["--dag-id", "a b"], "`a b` is no id of a DAG"),
        (&["--select", "recent"], "nothing is selected that could be built"),
        (&["--select", "left_one", "--assets"], "there is nothing to wait for"),
    ] {
        let mut all = vec!["airflow", "generate"];
        all.extend(args);
        sandbox.lake(&all).assert_failed(2, why);
    }
    sandbox.write("models/gold/sh.sql", "select nope from {{ ref('sums') }}");
    sandbox.lake(&["airflow", "generate"]).assert_failed(2, "nope");
    assert!(!sandbox.path("dags").exists());
}

/// Each test of the project is part of exactly one task, whatever a task is.
#[test]
fn no_test_is_lost_or_run_twice() {
    let sandbox = shop();
    let all: Vec<String> = sandbox.ok(&["ls", "--resource-type", "test"]).lines().map(str::to_owned).collect();
    for by in ["node", "layer", "group"] {
        sandbox.ok(&["airflow", "generate", "--by", by]);
        let file = sandbox.path("dags/shop.py");
        // What `build` is called with, without Airflow.
        let script = format!(
            "import json, re, shlex, sys, types\n\
             class Any:\n    def __init__(self, *a, **k): self.k = k\n    def __enter__(self): return self\n    def __exit__(self, *a): pass\n    \
             def __rshift__(self, o): return o\n    def __rrshift__(self, o): return o\n\
             calls = []\n\
             class Bash(Any):\n    def __init__(self, *a, **k): calls.append(shlex.split(k['bash_command'].replace(\"{{{{ '{{' }}}}\", '{{')))\n\
             for name in ['airflow', 'airflow.providers', 'airflow.providers.standard', 'airflow.providers.standard.operators', 'airflow.providers.standard.operators.bash', 'airflow.sdk']:\n    sys.modules[name] = types.ModuleType(name)\n\
             sys.modules['airflow.providers.standard.operators.bash'].BashOperator = Bash\n\
             for name in ['DAG', 'Asset', 'TaskGroup']: setattr(sys.modules['airflow.sdk'], name, Any)\n\
             exec(compile(open({file:?}, encoding='utf-8').read(), {file:?}, 'exec'), {{'__file__': {file:?}, '__doc__': ''}})\n\
             print(json.dumps(calls))"
        );
        let calls = run(Command::new("python3").args(["-c", &script])).unwrap();
        let calls: Vec<Vec<String>> = serde_json::from_str(&calls).unwrap();
        let mut found = Vec::new();
        for call in &calls {
            let at = call.iter().position(|word| word == "build").unwrap();
            let mut args = vec!["ls", "--resource-type", "test"];
            args.extend(call[at + 1..].iter().map(String::as_str));
            found.extend(sandbox.ok(&args).lines().map(str::to_owned));
        }
        found.sort_unstable();
        let mut expected = all.clone();
        expected.sort_unstable();
        assert_eq!(found, expected, "{by}");
    }
}
