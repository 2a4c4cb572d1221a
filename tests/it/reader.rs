//! Another reader of Delta tables, `deltalake` for Python, finds in every table the rows that `lake` shows.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::materialize::items;
use crate::sandbox::Sandbox;

const PACKAGES: [&str; 2] = ["deltalake==1.6.6", "pyarrow"];

/// Prints a JSON object a row, and an empty line after each table; NULLs are left out, as `lake show` does.
const SCRIPT: &str = r#"
import datetime, decimal, json, os, sys
from deltalake import DeltaTable

def plain(value):
    if isinstance(value, datetime.datetime):
        digits = "milliseconds" if value.microsecond and value.microsecond % 1000 == 0 else "auto"
        return value.isoformat(timespec=digits).replace("+00:00", "Z")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if item is not None}
    return value

for path in sys.argv[2:]:
    table = DeltaTable(path, storage_options=json.loads(sys.argv[1]))
    for batch in table.to_pyarrow_table().to_batches():
        for row in batch.to_pylist():
            print(json.dumps(plain(row)))
    print()
# Arrow's threads may abort an interpreter that ends in the usual way.
sys.stdout.flush()
os._exit(0)
"#;

/// A Python that has `deltalake`: the given one, or a virtual environment that the first test makes.
pub fn python() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("LAKE_TEST_PYTHON") {
        return Some(given.into());
    }
    match python_venv("python-venv", &PACKAGES) {
        Ok(venv) => Some(venv.join("bin/python")),
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "no Python with deltalake: {why}");
            eprintln!("skipped: no Python with deltalake: {why}");
            None
        }
    }
}

/// A virtual environment of Python with these packages, which the first test makes below the target folder.
pub fn python_venv(name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    with_lock(&venv.with_extension("lock"), || make(&venv, packages))?;
    Ok(venv)
}

/// Tests run in processes of their own: one of them makes the environment, and the others wait.
pub fn with_lock<T>(path: &Path, work: impl FnOnce() -> T) -> T {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let lock = File::create(path).unwrap();
    lock.lock().unwrap();
    work()
}

fn make(venv: &Path, packages: &[&str]) -> Result<(), String> {
    let (python, marker) = (venv.join("bin/python"), venv.join("installed"));
    let wanted = packages.join(" ");
    if std::fs::read_to_string(&marker).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(venv))?;
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(packages))?;
    std::fs::write(marker, wanted).map_err(|error| error.to_string())
}

/// What a program printed, or its complaint.
pub fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn sorted(rows: impl Iterator<Item = Value>) -> Vec<String> {
    let mut lines: Vec<String> = rows.map(|row| row.to_string()).collect();
    lines.sort_unstable();
    lines
}

/// The rows of a table in a folder or at a URL such as `s3://lake/silver/views`, read with these storage options.
#[track_caller]
pub fn rows(python: &Path, table: &str, options: &[(String, String)]) -> Vec<Value> {
    rows_of_all(python, &[table.to_owned()], options).remove(0)
}

/// The rows of each of some tables.
#[track_caller]
pub fn rows_of_all(python: &Path, tables: &[String], options: &[(String, String)]) -> Vec<Vec<Value>> {
    let storage: serde_json::Map<_, _> =
        options.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
    let mut command = Command::new(python);
    // Some options are looked for in the environment only.
    command.args(["-c", SCRIPT]).arg(Value::from(storage).to_string()).args(tables).envs(options.iter().cloned());
    let text = run(&mut command).unwrap_or_else(|why| panic!("{tables:?}: {why}"));
    let mut found = vec![Vec::new()];
    for line in text.lines() {
        match line {
            "" => found.push(Vec::new()),
            row => found.last_mut().unwrap().push(serde_json::from_str(row).unwrap()),
        }
    }
    found.pop();
    assert_eq!(found.len(), tables.len(), "{tables:?}");
    found
}

#[track_caller]
pub fn assert_agree(python: &Path, sandbox: &Sandbox, root: &str, model: &str) {
    let folder = sandbox.path(root).join(model.replace('.', "/"));
    let shown = sandbox.json(&["show", model, "--limit", "0"]);
    let shown = shown.as_array().unwrap().clone();
    assert!(!shown.is_empty(), "{model}");
    assert_same(rows(python, folder.to_str().unwrap(), &[]), shown, model);
}

/// The rows that another reader found are those that `lake` showed.
#[track_caller]
pub fn assert_same(theirs: Vec<Value>, ours: Vec<Value>, table: &str) {
    let (theirs, ours) = (sorted(theirs.into_iter()), sorted(ours.into_iter()));
    let other = theirs.iter().zip(&ours).find(|(theirs, ours)| theirs != ours);
    assert!(theirs == ours, "{table}: {} rows and {}, first {other:?}", theirs.len(), ours.len());
}

#[test]
fn another_reader_finds_the_rows_of_the_sample_lake() {
    let Some(python) = python() else { return };
    let sandbox = Sandbox::sample();
    sandbox.ok(&["build"]);
    let late = std::fs::read_to_string(sandbox.path("data/bronze/views/views_2026-03-04_late.csv")).unwrap();
    sandbox.write("data/bronze/views/again.csv", late + "2026-03-08 10:00:00,,web,2,1\n");
    sandbox.ok(&["build"]);
    let gold = ["gold.course_progress", "gold.most_viewed_courses", "gold.users_platforms"];
    for model in ["silver.views", "silver.courses"].into_iter().chain(gold) {
        assert_agree(&python, &sandbox, "data/lake", model);
    }
}

#[test]
fn another_reader_finds_types_partitions_and_columns_that_came_later() {
    let Some(python) = python() else { return };
    let model = |extra: &str| {
        let config = "materialized='incremental', partition_by=['value'], on_schema_change='append_new_columns'";
        format!(
            "{{{{ config({config}) }}}} select id, value, id > 1 as big, cast(id as int) as small, \
             cast(id as decimal(12, 2)) / 4 as share, date '2026-03-01' as day, id / 3.0 as third, \
             [id, null] as list, named_struct('a', id, 'b', value) as pair {extra} \
             from {{{{ source('raw', 'items') }}}}"
        )
    };
    let sandbox = items(&[("models/silver/items.sql", &model(""))]);
    sandbox.write("in/items/odd.csv", "id,value\n3,a b/c=d%20é:?\n4,\n,x\n");
    sandbox.ok(&["build"]);
    assert_agree(&python, &sandbox, "lake", "silver.items");
    sandbox.write("models/silver/items.sql", model(", 'new' as later"));
    sandbox.write("in/items/new.csv", "id,value\n9,a\n");
    sandbox.ok(&["build"]);
    assert_agree(&python, &sandbox, "lake", "silver.items");
}
