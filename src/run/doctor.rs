//! `lake doctor`: what is wrong with a lake, and how to mend it. Nothing is changed.

use std::collections::BTreeSet;
use std::time::Instant;

use futures::StreamExt;
use serde::Serialize;

use super::inputs::Inputs;
use super::intake::manifest_of;
use super::maintain::{Maintained, maintain};
use crate::names::TableName;
use crate::project::Model;
use crate::tables::Published;
use crate::words::{plural, thousands};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Nothing is wrong.
    Ok,
    /// It works, and could be better.
    Warn,
    /// Something does not work, or will not.
    Error,
}

/// What was looked at, and what is to be said of it.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// `store`, `journal`, or a table.
    pub subject: String,
    /// How bad it is.
    pub health: Health,
    /// What was found.
    pub message: String,
    /// What mends it.
    pub mend: Option<String>,
}

impl Finding {
    fn new(subject: impl ToString, health: Health, message: impl Into<String>, mend: Option<String>) -> Self {
        Self { subject: subject.to_string(), health, message: message.into(), mend }
    }
}

/// Looks at the store, at what crashes have left, and at every table: its log, its manifests, and the files beside it.
pub async fn examine(inputs: &Inputs) -> Vec<Finding> {
    let runtime = inputs.runtime();
    let mut findings = vec![store(inputs).await];
    if findings[0].health == Health::Error {
        return findings;
    }
    findings.push(journal(inputs).await);
    let stored: Vec<&Model> = runtime.project.models.values().filter(|model| model.is_stored()).collect();
    let each = stored.iter().map(|model| table(inputs, model));
    let tables: Vec<Vec<Finding>> =
        futures::stream::iter(each).buffered(runtime.options.threads.max(1)).collect().await;
    findings.extend(tables.into_iter().flatten());
    let names: BTreeSet<TableName> = stored.iter().map(|model| model.name.clone()).collect();
    let broken: BTreeSet<&String> =
        findings.iter().filter(|finding| finding.health == Health::Error).map(|finding| &finding.subject).collect();
    let mut maintained = maintain(inputs, &names, true, true).await;
    // What cannot be read is told already.
    maintained.retain(|one| !broken.contains(&one.name));
    findings.extend(care(&maintained));
    findings.extend(strangers(inputs, &names).await);
    findings
}

/// Whether the store of the root can be written to, keeps conditional puts, and how fast it answers.
async fn store(inputs: &Inputs) -> Finding {
    let lake = &inputs.runtime().lake;
    let start = Instant::now();
    match lake.probe().await {
        Ok(()) => {
            let millis = start.elapsed().as_secs_f64() * 1000.0;
            let message = format!("{}: takes files, and keeps conditional puts ({millis:.0} ms)", lake.root());
            Finding::new("store", Health::Ok, message, None)
        }
        Err(error) => {
            let mend = "check the `root` and `storage_options` of the target, and who may write there";
            Finding::new("store", Health::Error, error.to_string(), Some(mend.to_owned()))
        }
    }
}

/// Commits that a crash has left undone.
async fn journal(inputs: &Inputs) -> Finding {
    match inputs.runtime().lake.unfinished().await {
        Ok(0) => Finding::new("journal", Health::Ok, "no burst of commits is unfinished", None),
        Ok(count) => {
            let message = format!("{} unfinished: some of their tables are published", plural(count as u64, "burst"));
            Finding::new("journal", Health::Warn, message, Some("`lake build` finishes it first".to_owned()))
        }
        Err(error) => Finding::new("journal", Health::Error, error.to_string(), None),
    }
}

/// What is wrong with the table of a model; one finding that says so if nothing is.
async fn table(inputs: &Inputs, model: &Model) -> Vec<Finding> {
    let name = &model.name;
    let published = match inputs.runtime().lake.inspect(name).await {
        Ok(Some(published)) => published,
        Ok(None) => {
            let mend = Some(format!("lake build --select {name}"));
            return vec![Finding::new(name, Health::Warn, "it has not been built yet", mend)];
        }
        Err(error) => {
            let mend = format!("restore its files, or take its folder away and run `lake build --select {name}`");
            return vec![Finding::new(name, Health::Error, error.to_string(), Some(mend))];
        }
    };
    let mut findings = vec![];
    findings.extend(state(name, &published));
    findings.extend(manifests(inputs, model, &published).await);
    if let Ok(Some(_)) = inputs.runtime().lake.kept(name).await {
        let mend = format!("lake show --staged {name}, or `lake clean --staged`");
        let message = "rows that its tests refused are kept beside it";
        findings.push(Finding::new(name, Health::Warn, message, Some(mend)));
    }
    if findings.is_empty() {
        let rows = published.rows().map_or_else(String::new, |rows| format!(", {}", plural(rows, "row")));
        let message = format!("version {}, {}{rows}", published.version(), plural(published.file_count(), "file"));
        findings.push(Finding::new(name, Health::Ok, message, None));
    }
    findings
}

/// Whether `lake` knows how the newest version came to be.
fn state(name: &TableName, published: &Published) -> Option<Finding> {
    if published.state.is_some() {
        return None;
    }
    let message = if published.is_of_newer_lake() {
        "its newest version was made by a newer `lake`"
    } else {
        "its newest version was made by another program: nothing is known of how it came to be"
    };
    let mend = format!("update `lake`, or let `lake build --select {name}` make it anew");
    Some(Finding::new(name, Health::Warn, message, Some(mend)))
}

/// Manifests that cannot be followed, or that name files that the table does not have.
async fn manifests(inputs: &Inputs, model: &Model, published: &Published) -> Vec<Finding> {
    let name = &model.name;
    let mend = || Some(format!("lake build --full-refresh --select {name}"));
    let Ok(files) = published.data_files() else { return Vec::new() };
    let mut findings = Vec::new();
    for source in model.arriving(&inputs.runtime().project.sources) {
        match manifest_of(inputs, name, &source.name).await {
            Err(failure) => findings.push(Finding::new(name, Health::Error, failure.to_string(), mend())),
            Ok(manifest) => {
                let data = manifest.files().values().filter_map(|entry| entry.data.as_ref()).flatten();
                let lost = data.filter(|path| !files.contains(*path)).count();
                if lost > 0 {
                    let message = format!(
                        "its manifest of `{}` names {} that its log does not have: another program wrote them anew",
                        source.name,
                        plural(lost as u64, "data file")
                    );
                    findings.push(Finding::new(name, Health::Warn, message, mend()));
                }
            }
        }
    }
    findings
}

/// What `lake maintain` would do, if it is much.
fn care(maintained: &[Maintained]) -> Option<Finding> {
    let (mut files, mut bytes, mut packed, mut failed) = (0, 0, 0, Vec::new());
    for one in maintained {
        files += one.removed.files + one.leftovers.files;
        bytes += one.removed.bytes + one.leftovers.bytes;
        packed += one.packed.files;
        failed.extend(one.error.as_ref().map(|error| format!("{}: {error}", one.name)));
    }
    let mend = Some("lake maintain".to_owned());
    if let Some(why) = failed.first() {
        return Some(Finding::new("care", Health::Error, format!("not everything can be maintained: {why}"), mend));
    }
    let mut parts = Vec::new();
    if files > 0 {
        let of = plural(files as u64, "file");
        parts.push(format!("{of} ({} bytes) that no version and no running build needs", thousands(bytes)));
    }
    if packed > 0 {
        parts.push(format!("{} that could be packed", plural(packed as u64, "small file")));
    }
    (!parts.is_empty()).then(|| Finding::new("care", Health::Warn, parts.join(", "), mend))
}

/// Tables below the root that no model makes; what `lake` itself keeps there is in a folder of its own.
async fn strangers(inputs: &Inputs, models: &BTreeSet<TableName>) -> Vec<Finding> {
    let runtime = inputs.runtime();
    let found = match runtime.lake.tables().await {
        Ok(found) => found,
        Err(error) => return vec![Finding::new("root", Health::Error, error.to_string(), None)],
    };
    found
        .into_iter()
        .filter(|name| !models.contains(name))
        .map(|name| {
            let message = "no model of the project makes it: it is as old as its last build";
            let mend = "take its folder away if nobody reads it, or name a model like it";
            Finding::new(name, Health::Warn, message, Some(mend.to_owned()))
        })
        .collect()
}
