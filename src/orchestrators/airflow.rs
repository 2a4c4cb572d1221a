//! [`Workload`] -> a Python file that is a DAG of Airflow 3.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use super::tasks::{Task, Workload};
use crate::names::TableName;

/// What makes a file known as one that `lake` wrote, and may write again.
pub const MARK: &str = "Written by `lake airflow generate`";

/// When a DAG runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct When {
    /// A preset or cron expression.
    pub time: Option<String>,
    /// When one of the tables that it reads is new.
    pub inputs: bool,
}

/// What a DAG is beside its tasks.
#[derive(Debug, Clone)]
pub struct Dag {
    /// Its id.
    pub id: String,
    /// The name of the project.
    pub project: String,
    /// The command line that writes the file.
    pub call: String,
    /// When it runs.
    pub when: When,
    /// How often a task starts again after it failed.
    pub retries: u32,
    /// The shell command that starts `lake`.
    pub command: String,
    /// Flags of all of its calls.
    pub flags: Vec<String>,
    /// Where the project is: a Python expression.
    pub folder: String,
}

impl Dag {
    /// The file.
    pub fn file(&self, workload: &Workload) -> String {
        let mut file = String::new();
        self.write(workload, &mut file).expect("a string takes what is written to it");
        file
    }

    fn write(&self, workload: &Workload, file: &mut String) -> std::fmt::Result {
        write!(
            file,
            "\"\"\"The lake project `{}` as a DAG of Apache Airflow 3.\n\n\
             {MARK}: change the project and write it again, instead of editing this file.\n\"\"\"\n\n",
            self.project
        )?;
        writeln!(file, "# {}\n", self.call)?;
        self.write_imports(file)?;
        self.write_helpers(file)?;
        writeln!(file, "\n\nwith DAG(")?;
        writeln!(file, "    dag_id={},", text(&self.id))?;
        if self.id == key(&self.project) && self.id != self.project {
            writeln!(file, "    dag_display_name={},", text(&self.project))?;
        }
        self.write_schedule(workload, file)?;
        writeln!(file, "    start_date=datetime(2024, 1, 1, tzinfo=timezone.utc),")?;
        writeln!(file, "    catchup=False,")?;
        writeln!(file, "    max_active_runs=1,")?;
        writeln!(
            file,
            "    default_args={{\"owner\": {}, \"retries\": {}, \"retry_delay\": timedelta(minutes=1)}},",
            text(&self.project),
            self.retries
        )?;
        let mut tags = vec!["lake".to_owned(), self.project.clone()];
        tags.extend(workload.tags.iter().filter(|tag| !tags.contains(tag)).cloned().collect::<Vec<_>>());
        writeln!(file, "    tags={},", list(&tags))?;
        writeln!(file, "    doc_md=__doc__,")?;
        writeln!(file, "):\n    tasks = {{}}")?;
        write_tasks(&workload.tasks, file)?;
        write_order(&workload.tasks, file)
    }

    fn write_imports(&self, file: &mut String) -> std::fmt::Result {
        let by_both = self.when.inputs && self.when.time.is_some();
        let names = [
            ("DAG", true),
            ("Asset", true),
            ("AssetAny", self.when.inputs),
            ("AssetOrTimeSchedule", by_both),
            ("CronTriggerTimetable", by_both),
            ("TaskGroup", true),
        ];
        let names: Vec<&str> = names.into_iter().filter(|(_, used)| *used).map(|(name, _)| name).collect();
        writeln!(file, "import os\nimport shlex")?;
        writeln!(file, "from datetime import datetime, timedelta, timezone\nfrom pathlib import Path\n")?;
        writeln!(file, "from airflow.providers.standard.operators.bash import BashOperator")?;
        writeln!(file, "from airflow.sdk import {}\n", names.join(", "))
    }

    fn write_helpers(&self, file: &mut String) -> std::fmt::Result {
        let (folder, command, flags) = (&self.folder, text(&self.command), list(&self.flags));
        let place = text(&format!("lake://{}/", encoded(&self.project)));
        write!(
            file,
            "# Where the project is on the machines that run tasks.
PROJECT = os.environ.get(\"LAKE_PROJECT_DIR\") or {folder}
# The shell command that starts lake, and what follows each selection.
LAKE = {command}
FLAGS = {flags}


def words(*values):
    \"\"\"Words of a shell command; Airflow reads it as a template first, in which braces have a meaning.\"\"\"
    return shlex.join(values).replace(\"{{\", \"{{{{ '{{' }}}}\")


def table(name):
    \"\"\"The asset of a table: other DAGs can be scheduled by it, or tell that it is new.\"\"\"
    return Asset(name={place} + name, uri={place} + name)


def build(task_id, *select, tests=None, tables=(), **settings):
    \"\"\"A task that builds and tests what is selected, in a process of its own.\"\"\"
    mode = [\"--indirect-selection\", tests] if tests else []
    command = words(\"--project-dir\", PROJECT, \"build\", \"--select\", *select, *mode, *FLAGS)
    return BashOperator(
        task_id=task_id,
        # Without the space, a command that ends in `.sh` would be taken for the name of a file.
        bash_command=f\"{{LAKE}} {{command}} \",
        outlets=[table(name) for name in tables],
        **settings,
    )
"
        )
    }

    fn write_schedule(&self, workload: &Workload, file: &mut String) -> std::fmt::Result {
        let assets = || {
            let inputs: Vec<String> =
                workload.inputs.tables().map(|name| format!("table({})", text(&path(name)))).collect();
            format!("AssetAny({})", inputs.join(", "))
        };
        match (&self.when.time, self.when.inputs) {
            (None, false) => writeln!(file, "    schedule=None,"),
            (Some(time), false) => writeln!(file, "    schedule={},", text(time)),
            (None, true) => writeln!(file, "    schedule={},", assets()),
            (Some(time), true) => writeln!(
                file,
                "    schedule=AssetOrTimeSchedule(\n        timetable=CronTriggerTimetable({}, timezone=\"UTC\"),\n        \
                 assets={},\n    ),",
                text(time),
                assets()
            ),
        }
    }
}

/// The tasks, those of a layer in a group of the interface.
fn write_tasks(tasks: &[Task], file: &mut String) -> std::fmt::Result {
    // A layer whose last task comes early feeds the others.
    let last: BTreeMap<&Option<String>, usize> = tasks.iter().enumerate().map(|(at, task)| (&task.layer, at)).collect();
    let mut layers: Vec<_> = last.into_iter().collect();
    layers.sort_by_key(|(_, last)| *last);
    for (layer, _) in layers {
        let indent = match layer {
            Some(layer) => {
                let shown = display_name("group_display_name", layer);
                writeln!(file, "\n    with TaskGroup({}{shown}):", text(&key(layer)))?;
                "        "
            }
            None => {
                writeln!(file)?;
                "    "
            }
        };
        for task in tasks.iter().filter(|task| task.layer == *layer) {
            write_task(task, indent, file)?;
        }
    }
    Ok(())
}

fn write_task(task: &Task, indent: &str, file: &mut String) -> std::fmt::Result {
    // Airflow puts the name of the group before the id.
    let prefix = task.layer.as_ref().map(|layer| format!("{layer}.")).unwrap_or_default();
    let id = task.id.strip_prefix(&prefix).unwrap_or(&task.id);
    writeln!(file, "{indent}tasks[{}] = build(", text(&task.id))?;
    writeln!(file, "{indent}    {},", text(&key(id)))?;
    for selector in &task.select {
        writeln!(file, "{indent}    {},", text(selector))?;
    }
    if let Some(mode) = task.indirect {
        writeln!(file, "{indent}    tests={},", text(mode))?;
    }
    let tables: Vec<String> = task.tables.iter().map(path).collect();
    match tables.as_slice() {
        [] => {}
        [one] => writeln!(file, "{indent}    tables=[{}],", text(one))?,
        many => {
            writeln!(file, "{indent}    tables=[")?;
            many.iter().try_for_each(|table| writeln!(file, "{indent}        {},", text(table)))?;
            writeln!(file, "{indent}    ],")?;
        }
    }
    if key(id) != id {
        writeln!(file, "{indent}    task_display_name={},", text(id))?;
    }
    if let Some(owner) = &task.owner {
        writeln!(file, "{indent}    owner={},", text(owner))?;
    }
    if !task.description.trim().is_empty() {
        writeln!(file, "{indent}    doc_md={},", text(task.description.trim()))?;
    }
    writeln!(file, "{indent})")
}

fn write_order(tasks: &[Task], file: &mut String) -> std::fmt::Result {
    if tasks.iter().any(|task| !task.after.is_empty()) {
        writeln!(file)?;
    }
    for task in tasks.iter().filter(|task| !task.after.is_empty()) {
        let before: Vec<String> = task.after.iter().map(|at| format!("tasks[{}]", text(&tasks[*at].id))).collect();
        match before.as_slice() {
            [one] => write!(file, "    {one}")?,
            many => write!(file, "    [{}]", many.join(", "))?,
        }
        writeln!(file, " >> tasks[{}]", text(&task.id))?;
    }
    Ok(())
}

/// Where a project is, seen from a file of its own or from anywhere: a Python expression.
pub fn folder(project: &Path, file: &Path) -> String {
    match file.parent().and_then(|parent| parent.strip_prefix(project).ok()) {
        Some(below) => format!("str(Path(__file__).resolve().parents[{}])", below.components().count()),
        None => text(&project.to_string_lossy()),
    }
}

/// `silver/views`, in letters that an address may have.
fn path(table: &TableName) -> String {
    format!("{}/{}", encoded(table.schema), encoded(table.table))
}

fn encoded(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::CONTROLS).to_string()
}

/// A name as an id. Those of tasks travel in the headers of Airflow's own requests (3.3), where other letters than these break
/// it; no name has a hyphen, so no two names have one id.
pub fn key(name: &str) -> String {
    let letter = |c: char| if c.is_ascii() { c.to_string() } else { format!("-u{:x}-", u32::from(c)) };
    name.chars().map(letter).collect()
}

/// How the interface shows what has another id.
fn display_name(argument: &str, name: &str) -> String {
    if key(name) == name { String::new() } else { format!(", {argument}={}", text(name)) }
}

/// A string of Python: those of JSON have the same escapes.
fn text(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

fn list(values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| text(value)).collect();
    format!("[{}]", values.join(", "))
}
