//! A project in a temporary folder, and the real program to run on it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// A temporary project.
pub struct Sandbox {
    dir: TempDir,
    /// What the program finds in its environment.
    variables: Vec<(String, String)>,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Sandbox {
    /// An empty folder.
    pub fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), variables: Vec::new() }
    }

    /// A project with one target, and these files.
    pub fn new(files: &[(&str, &str)]) -> Self {
        let sandbox = Self::empty();
        sandbox.write("project.yml", "name: sandbox\ntargets:\n  dev: { root: lake }\n");
        for (path, text) in files {
            sandbox.write(path, text);
        }
        sandbox
    }

    /// The sample lake of the repository, without what builds have made of it.
    pub fn sample() -> Self {
        let sandbox = Self::empty();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for part in ["project.yml", "sources.yml", "models", "macros", "data/bronze"] {
            copy(&root.join(part), &sandbox.path(part));
        }
        for test in std::fs::read_dir(root.join("tests")).unwrap().map(|entry| entry.unwrap().path()) {
            if test.extension().is_some_and(|extension| extension == "sql") {
                copy(&test, &sandbox.path("tests").join(test.file_name().unwrap()));
            }
        }
        sandbox
    }

    /// A lake of `examples/`, without what builds have made of it.
    pub fn example(name: &str) -> Self {
        let sandbox = Self::empty();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
        let built = |name: &str| name == ".lake" || name.starts_with("lake");
        for part in names(&root).into_iter().filter(|part| part != "data" && !built(part)) {
            copy(&root.join(&part), &sandbox.path(&part));
        }
        for part in names(&root.join("data")).into_iter().filter(|part| !built(part)) {
            copy(&root.join("data").join(&part), &sandbox.path("data").join(&part));
        }
        sandbox
    }

    /// Adds to the environment of the program.
    pub fn environment(&mut self, variables: &[(String, String)]) {
        self.variables.extend(variables.iter().cloned());
    }

    /// A path in the folder.
    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Writes a file, with the folders above it.
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// The program, ready to start in the folder.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lake"));
        command.args(args).current_dir(self.dir.path()).env_clear().env("NO_COLOR", "1").stdin(Stdio::null());
        command.envs(self.variables.iter().cloned());
        command
    }

    /// Runs the program to its end.
    pub fn lake(&self, args: &[&str]) -> Run {
        finished(&self.command(args).output().unwrap())
    }

    /// Runs the program, which must succeed, and returns what it printed.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let run = self.lake(args);
        assert_eq!(run.code, 0, "lake {args:?}\n{}\n{}", run.stdout, run.stderr);
        run.stdout
    }

    /// Runs the program with `--output json` and parses what it printed.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let mut args = args.to_vec();
        args.extend(["--output", "json"]);
        let run = self.lake(&args);
        serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}\n{}\n{}", run.stdout, run.stderr))
    }

    /// Starts the program and leaves it running.
    pub fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// The rows of a query, as JSON objects.
    #[track_caller]
    pub fn query(&self, sql: &str) -> Vec<serde_json::Value> {
        let rows = self.json(&["show", "--inline", sql, "--limit", "0"]);
        rows.as_array().unwrap_or_else(|| panic!("{rows}")).clone()
    }

    /// The one value of a query.
    #[track_caller]
    pub fn value(&self, sql: &str) -> serde_json::Value {
        let rows = self.query(sql);
        let row = rows.first().unwrap_or_else(|| panic!("no row: {sql}"));
        row.as_object().unwrap().values().next().cloned().unwrap_or_default()
    }
}

impl Run {
    /// The status and reason of a node, from a report.
    #[track_caller]
    pub fn assert_failed(&self, code: i32, text: &str) {
        let all = format!("{}\n{}", self.stdout, self.stderr);
        assert!(
            self.code == code && all.contains(text),
            "expected exit {code} and `{text}`, found {}:\n{all}",
            self.code
        );
    }
}

/// A node of a report by name.
#[track_caller]
pub fn node<'a>(report: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    let nodes = report["nodes"].as_array().unwrap_or_else(|| panic!("no report: {report}"));
    nodes.iter().find(|node| node["name"] == name).unwrap_or_else(|| panic!("no `{name}` in {report}"))
}

/// How snapshots of what a person sees are kept; times are left out.
pub fn snapshots() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.add_filter(r"in \d+\.\d+s(, [\d,]+ rows?, [\d.]+ [kMG]?B)?(, [\d.]+ [kMG]B of memory)?", "in [time]");
    settings
}

/// Numbers that look random and are the same in every run of the test.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// A moment of a build that takes this long, or just after it.
    pub fn moment(&mut self, whole: Duration) -> Duration {
        Duration::from_millis(self.below(whole.as_millis() as u64 * 11 / 10 + 1))
    }
}

/// What a command printed and how it ended, where something other than the program itself started it.
pub fn finished(output: &Output) -> Run {
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// What stands in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap();
    }
}
