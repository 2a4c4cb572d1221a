//! The lakes below `examples/`: each is copied, built from nothing, built again, and given what comes later.

mod courses;
mod customers;
mod listening;
mod movies;
mod vehicles;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::reader;
use crate::sandbox::{Run, Sandbox, names};

/// A copy of `examples/<name>`, and the folder of the tables that its target has.
pub struct Example {
    pub sandbox: Sandbox,
    name: &'static str,
    target: Option<&'static str>,
    root: &'static str,
}

impl Example {
    /// The lake as it is committed: its default target has its tables in `data/lake`.
    pub fn copy(name: &'static str) -> Self {
        Self { sandbox: Sandbox::example(name), name, target: None, root: "data/lake" }
    }

    /// The same with another target.
    pub fn at(mut self, target: &'static str, root: &'static str) -> Self {
        (self.target, self.root) = (Some(target), root);
        self
    }

    fn arguments<'a>(&self, args: &[&'a str]) -> Vec<&'a str> {
        args.iter().copied().chain(self.target.into_iter().flat_map(|target| ["--target", target])).collect()
    }

    /// A command, which may fail.
    pub fn lake(&self, args: &[&str]) -> Run {
        self.sandbox.lake(&self.arguments(args))
    }

    /// A command, which must succeed, and what it printed.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        self.sandbox.ok(&self.arguments(args))
    }

    /// The report of a `lake build` with these flags, which must succeed.
    #[track_caller]
    pub fn build(&self, flags: &[&str]) -> Value {
        let args = [&["build", "--output", "json"], flags].concat();
        serde_json::from_str(&self.ok(&args)).unwrap()
    }

    /// The rows of a query.
    #[track_caller]
    pub fn query(&self, sql: &str) -> Vec<Value> {
        let shown = self.ok(&["show", "--inline", sql, "--limit", "0", "--output", "json"]);
        serde_json::from_str(&shown).unwrap_or_else(|error| panic!("{error}: {shown}"))
    }

    /// The one value of a query.
    #[track_caller]
    pub fn value(&self, sql: &str) -> Value {
        let rows = self.query(sql);
        let row = rows.first().and_then(Value::as_object).unwrap_or_else(|| panic!("no row: {sql}"));
        row.values().next().cloned().unwrap_or_default()
    }

    /// How many rows a model has.
    #[track_caller]
    pub fn count(&self, model: &str) -> u64 {
        self.counts([model])[0]
    }

    /// How many rows each of some models has, by one query.
    #[track_caller]
    pub fn counts<const N: usize>(&self, models: [&str; N]) -> [u64; N] {
        let each =
            models.map(|model| format!("select '{model}' as model, count(*) as n from {{{{ ref('{model}') }}}}"));
        let rows = self.query(&each.join(" union all "));
        let of = |model: &str| rows.iter().find(|row| row["model"] == model).and_then(|row| row["n"].as_u64());
        models.map(|model| of(model).unwrap_or_else(|| panic!("{model}: {rows:?}")))
    }

    /// Builds once more: every table is skipped, and has no new version.
    #[track_caller]
    pub fn assert_rests(&self) {
        let before = self.versions();
        let report = self.build(&[]);
        let nodes = report["nodes"].as_array().unwrap();
        // A view is nothing but a name.
        let is_busy = |node: &&Value| node["status"] != "skipped" && node["action"] != "view";
        let busy: Vec<&Value> = nodes.iter().filter(is_busy).collect();
        assert!(busy.is_empty() && !nodes.is_empty(), "{busy:#?}");
        assert_eq!(self.versions(), before);
    }

    /// How many commits each table has, by its folder.
    fn versions(&self) -> BTreeMap<String, usize> {
        let commits = |table: &str| {
            let log = names(&self.sandbox.path(self.root).join(table).join("_delta_log"));
            log.iter().filter(|name| name.ends_with(".json")).count()
        };
        self.tables().into_iter().map(|table| (table.clone(), commits(&table))).collect()
    }

    /// The tables of the lake as `layer/model`.
    fn tables(&self) -> Vec<String> {
        let root = self.sandbox.path(self.root);
        let layers = names(&root).into_iter().filter(|layer| !layer.starts_with('_'));
        let of = |layer: String| names(&root.join(&layer)).into_iter().map(move |name| format!("{layer}/{name}"));
        layers.flat_map(of).filter(|table| root.join(table).join("_delta_log").is_dir()).collect()
    }

    /// Another reader of Delta tables finds in all of them the rows that `lake` shows.
    #[track_caller]
    pub fn assert_read_by_others(&self) {
        let Some(python) = reader::python() else { return };
        let tables = self.tables();
        assert!(!tables.is_empty(), "no table in {}", self.root);
        let root = self.sandbox.path(self.root);
        let folders: Vec<String> = tables.iter().map(|table| root.join(table).to_str().unwrap().to_owned()).collect();
        for (table, theirs) in tables.iter().zip(reader::rows_of_all(&python, &folders, &[])) {
            let shown = self.ok(&["show", &table.replace('/', "."), "--limit", "0", "--output", "json"]);
            reader::assert_same(theirs, serde_json::from_str(&shown).unwrap(), table);
        }
    }

    /// `data/generate.py` makes exactly the look-alike data that is committed in this folder.
    #[track_caller]
    pub fn assert_generated(&self, folder: &str) {
        let made = tempfile::tempdir().unwrap();
        let mut generate = Command::new("python3");
        generate.arg(self.sandbox.path("data/generate.py")).arg(made.path());
        reader::run(&mut generate).unwrap_or_else(|why| panic!("generate.py of {}: {why}", self.name));
        for name in names(made.path()) {
            assert_same_files(&made.path().join(&name), &self.sandbox.path(folder).join(&name));
        }
    }
}

#[track_caller]
fn assert_same_files(one: &Path, other: &Path) {
    if one.is_dir() {
        assert_eq!(names(one), names(other), "{} and {}", one.display(), other.display());
        names(one).iter().for_each(|name| assert_same_files(&one.join(name), &other.join(name)));
    } else {
        assert!(std::fs::read(one).unwrap() == std::fs::read(other).unwrap(), "{} differs", other.display());
    }
}

/// The tests of a node that warned, with how many rows failed.
pub fn warnings(report: &Value, node_name: &str) -> BTreeMap<String, u64> {
    let tests = crate::sandbox::node(report, node_name)["tests"].as_array().cloned().unwrap_or_default();
    let warned = tests.iter().filter(|test| test["status"] == "warn");
    warned.map(|test| (test["name"].as_str().unwrap().to_owned(), test["failures"].as_u64().unwrap())).collect()
}
