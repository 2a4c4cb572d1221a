//! `lake docs serve`: the site on loopback, made again whenever the project or the lake changes.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;

use super::args::Global;
use super::docs::{Page, page};
use super::printer::Printer;
use super::{ExitStatus, Pipeline};
use crate::artifacts::ARTIFACTS_FOLDER;
use crate::docs::{Delivery, Site, serve};
use crate::project::{self, ProjectFiles};

/// How often files are looked at.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) fn run(global: &Global, port: u16, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let before = stamp(&global.project_dir, &[]);
    let Some((first, places)) = make(global, printer)? else { return Ok(ExitStatus::Wrong) };
    let address = (Ipv4Addr::LOCALHOST, port);
    let listener = TcpListener::bind(address)
        .with_context(|| format!("cannot listen on port {port}; --port takes another one, and 0 any that is free"))?;
    let url = format!("http://localhost:{}/", listener.local_addr()?.port());
    let site = Arc::new(Site::new(first.html, first.made));
    if printer.is_json() {
        printer.json(&serde_json::json!({"url": url}));
    } else {
        printer.result(&format!("serving {url}"));
        printer.note("the page follows the project and its runs; Ctrl-C ends it");
    }
    let served = Arc::clone(&site);
    std::thread::Builder::new().name("lake docs serve".to_owned()).spawn(move || serve(&listener, &served))?;
    let known = stamp(&global.project_dir, &places);
    // A file that changed while the first page was made may be missing in it. What changes after this look is not in `known`.
    let is_current = before == stamp(&global.project_dir, &[]);
    follow(global, printer, &site, known.filter(|_| is_current), places)
}

/// Makes the page again after each change since `known`.
fn follow(
    global: &Global,
    printer: &Printer,
    site: &Site,
    mut known: Option<u64>,
    mut places: Vec<PathBuf>,
) -> anyhow::Result<ExitStatus> {
    loop {
        std::thread::sleep(PAUSE);
        let now = stamp(&global.project_dir, &places);
        if now == known {
            continue;
        }
        // Taken before the page is made: what changes meanwhile is a change.
        known = now;
        match make(global, printer) {
            Ok(Some((page, watched))) => {
                // Another target is looked at elsewhere.
                known = known.filter(|_| watched == places);
                places = watched;
                site.replace(page.html, page.made);
                printer.note("the page is new");
            }
            Ok(None) => site.fail("The project does not compile: the terminal of `lake docs serve` says why."),
            Err(error) => {
                printer.error(&error);
                site.fail(&error.to_string());
            }
        }
    }
}

/// The page, and what tells of runs: places whose files change with them.
fn make(global: &Global, printer: &Printer) -> anyhow::Result<Option<(Page, Vec<PathBuf>)>> {
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(None) };
    let folder = pipeline.project.folder.clone();
    let artifacts = folder.join(ARTIFACTS_FOLDER);
    let runs = folder.join(&pipeline.project.target.root).join("_lake").join("runs").join("_delta_log");
    let places = vec![artifacts.join("run_results.json"), artifacts.join("sources.json"), runs];
    let page = page(pipeline, Delivery::Served, printer)?;
    Ok(page.map(|page| (page, places)))
}

/// A hash of which files the project has, with their sizes and times, and of these places.
pub(super) fn stamp(folder: &Path, places: &[PathBuf]) -> Option<u64> {
    let files = project::read(folder).ok()?;
    let mut hasher = DefaultHasher::new();
    for path in paths(&files) {
        look(&files.folder.join(&path)).hash(&mut hasher);
        path.hash(&mut hasher);
    }
    places.iter().for_each(|place| look(place).hash(&mut hasher));
    Some(hasher.finish())
}

fn look(path: &Path) -> Option<(u64, SystemTime)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

fn paths(files: &ProjectFiles) -> Vec<String> {
    let top = [Some(&files.project), files.sources.as_ref(), files.selectors.as_ref()].into_iter().flatten();
    let lists = [
        &files.models,
        &files.properties,
        &files.seeds,
        &files.macros,
        &files.tests,
        &files.fixtures,
        &files.snapshots,
        &files.docs,
    ];
    top.chain(lists.into_iter().flatten()).map(|file| file.path.clone()).collect()
}
