//! The lake as it is, for its documentation: published tables with their versions, files of sources, and what earlier
//! runs left. What cannot be read is said, and left out.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::StreamExt;

use super::inputs::Inputs;
use super::recorded::Chronicled;
use super::source_state::{FreshnessResult, source_freshness};
use super::{Failure, TableProfile};
use crate::names::TableName;
use crate::project::{Format, Profile, Source};
use crate::tables::{self, Published, Version};

/// Tables and sources that are looked at at once.
const AT_ONCE: usize = 16;
/// Versions of a table that are told.
const VERSIONS: usize = 30;
/// Files of a source that are told, the newest.
const FILES: usize = 25;
/// A store that does not answer is not waited for any longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The lake as it is.
#[derive(Default)]
pub struct Survey {
    /// Models that have a table.
    pub tables: BTreeMap<TableName, SeenTable>,
    /// Sources of files or of a Delta table.
    pub sources: BTreeMap<TableName, SeenSource>,
    /// What earlier runs left.
    pub recorded: Chronicled,
    /// What could not be read, and why.
    pub problems: Vec<String>,
}

/// A published table.
pub struct SeenTable {
    /// Its newest version.
    pub published: Published,
    /// Its versions, newest first.
    pub versions: Vec<Version>,
    /// What it holds, as far as that is known without a look at its rows.
    pub profile: Option<TableProfile>,
}

/// What a source delivers.
#[derive(Default)]
pub struct SeenSource {
    /// How many files.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
    /// When the newest of them was written.
    pub newest_at: Option<DateTime<Utc>>,
    /// The newest files: path, size, time.
    pub list: Vec<(String, u64, DateTime<Utc>)>,
    /// How fresh it is, if it has limits and that costs no query.
    pub freshness: Option<FreshnessResult>,
    /// Why nothing is known.
    pub error: Option<String>,
}

/// Looks at everything. Nothing is written, and no row of a table is read.
pub async fn survey(inputs: &Arc<Inputs>) -> Survey {
    let (tables, sources) = tokio::join!(all_tables(inputs), all_sources(inputs));
    let (mut tables, mut problems) = tables;
    let published: HashMap<TableName, u64> =
        tables.iter().map(|(name, seen)| (name.clone(), seen.published.version())).collect();
    let mut recorded = match tokio::time::timeout(PATIENCE, inputs.recorded(&published)).await {
        Ok(Ok(recorded)) => recorded,
        Ok(Err(failure)) => {
            problems.push(format!("what earlier runs left cannot be read: {failure}"));
            Chronicled::default()
        }
        Err(_) => {
            problems.push("what earlier runs left cannot be read: the store does not answer".to_owned());
            Chronicled::default()
        }
    };
    for (name, seen) in &mut tables {
        let wanted =
            inputs.runtime().project.models.get(name).is_some_and(|model| model.config.profile != Profile::Off);
        seen.profile = match recorded.profiles.remove(name) {
            Some(kept) => Some(kept),
            None if wanted => inputs.profile_now(name, false).await.ok().flatten(),
            None => None,
        };
    }
    Survey { tables, sources, recorded, problems }
}

async fn all_tables(inputs: &Arc<Inputs>) -> (BTreeMap<TableName, SeenTable>, Vec<String>) {
    let stored = inputs.runtime().project.models.values().filter(|model| model.is_stored());
    let names: Vec<TableName> = stored.map(|model| model.name.clone()).collect();
    // Reading a log is work, so each has a task of its own: all cores take part.
    let look = |name: TableName| {
        let inputs = Arc::clone(inputs);
        tokio::spawn(async move { table(&inputs, &name).await })
    };
    let seen: Vec<_> = futures::stream::iter(names).map(look).buffered(AT_ONCE).collect().await;
    let (mut found, mut problems) = (BTreeMap::new(), Vec::new());
    for seen in seen {
        match seen.unwrap_or_else(|error| Err(format!("a table cannot be looked at: {error}"))) {
            Ok(Some(seen)) => {
                found.insert(seen.published.name.clone(), seen);
            }
            Ok(None) => {}
            Err(problem) => problems.push(problem),
        }
    }
    // A lake that is out of reach has one cause, not one for each table.
    if problems.len() > 3 {
        let more = problems.len() - 3;
        problems.truncate(3);
        problems.push(format!("{more} more tables cannot be read"));
    }
    (found, problems)
}

async fn table(inputs: &Inputs, name: &TableName) -> Result<Option<SeenTable>, String> {
    let looked = async {
        let Some(published) = inputs.published(name).await? else { return Ok::<_, Failure>(None) };
        let versions = tables::history(&inputs.runtime().lake, &published, VERSIONS).await?;
        Ok(Some(SeenTable { published, versions, profile: None }))
    };
    match tokio::time::timeout(PATIENCE, looked).await {
        Ok(Ok(seen)) => Ok(seen),
        Ok(Err(failure)) => Err(format!("`{name}` cannot be read: {failure}")),
        Err(_) => Err(format!("`{name}` cannot be read: the store does not answer")),
    }
}

async fn all_sources(inputs: &Inputs) -> BTreeMap<TableName, SeenSource> {
    let looks: Vec<_> = inputs.runtime().project.sources.values().map(|source| source_of(inputs, source)).collect();
    let seen: Vec<(TableName, SeenSource)> = futures::stream::iter(looks).buffered(AT_ONCE).collect().await;
    seen.into_iter().collect()
}

async fn source_of(inputs: &Inputs, source: &Source) -> (TableName, SeenSource) {
    let looked = tokio::time::timeout(PATIENCE, delivered(inputs, source)).await;
    let failed = |error: String| SeenSource { error: Some(error), ..SeenSource::default() };
    let seen = match looked {
        Ok(Ok(seen)) => seen,
        Ok(Err(failure)) => failed(failure.to_string()),
        Err(_) => failed("the store does not answer".to_owned()),
    };
    (source.name.clone(), seen)
}

async fn delivered(inputs: &Inputs, source: &Source) -> Result<SeenSource, Failure> {
    let mut seen = SeenSource::default();
    if source.format == Format::Delta {
        let table = inputs.delta_source(source).await?;
        (seen.files, seen.bytes, seen.newest_at) = (table.file_count(), table.bytes(), table.committed_at());
    } else {
        let listing = inputs.listing(&source.name).await?;
        let times = || listing.files.iter().map(|file| file.meta.last_modified);
        seen.files = listing.files.len() as u64;
        seen.bytes = listing.files.iter().map(|file| file.meta.size).sum();
        seen.newest_at = times().max();
        let mut newest: Vec<_> = listing.files.iter().collect();
        newest.sort_by(|a, b| b.meta.last_modified.cmp(&a.meta.last_modified).then_with(|| b.path.cmp(&a.path)));
        newest.truncate(FILES);
        seen.list = newest.iter().map(|file| (file.path.clone(), file.meta.size, file.meta.last_modified)).collect();
    }
    // `loaded_at_field` is a query over all files: `lake source freshness` asks it, and writes down what it found.
    if source.ingestion.loaded_at_field.is_none() {
        seen.freshness = source_freshness(inputs, &source.name).await;
    }
    Ok(seen)
}
