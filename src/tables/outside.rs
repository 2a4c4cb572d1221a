//! Delta tables as sources: read whole, at their newest version or at the one that the source asks for.

use std::path::Path;

use datafusion::execution::session_state::SessionState;
use deltalake::{DeltaTable, DeltaTableError};

use super::{Published, delta_message, log_store, read};
use crate::bronze;
use crate::catalog::Catalog;
use crate::diagnostics::{Diagnostic, Diagnostics, Id};
use crate::project::{Format, Project, Source, TimeTravel};
use crate::stores::{Place, Store};

/// A Delta table that cannot be a source: its name, and why.
#[derive(Debug, thiserror::Error)]
#[error("source `{source_name}`: {why}")]
pub struct OutsideError {
    source_name: crate::names::TableName,
    why: String,
}

/// The version of a Delta source that a run reads.
///
/// # Errors
/// When there is no table, or none at that version.
pub async fn open_source(source: &Source, folder: &Path) -> Result<Published, OutsideError> {
    let bad = |why: String| OutsideError { source_name: source.name.clone(), why };
    let path = &source.path;
    let fail = |error: DeltaTableError| bad(format!("`{path}`: {}", delta_message(&error)));
    let missing = || bad(format!("`{path}` is not a Delta table: it has no `_delta_log`"));
    let found = Store::find(path, folder, &source.storage);
    let (store, folder) = found.map_err(|error| bad(format!("`{path}`: {error}")))?;
    let place = Place { store, path: folder };
    let url = place.url().ok_or_else(missing)?;
    let log_store = log_store(&place, &url);
    if !log_store.is_delta_table_location().await.map_err(fail)? {
        return Err(missing());
    }
    let mut table = DeltaTable::new(log_store);
    match &source.options.time_travel {
        None => table.load().await,
        Some(TimeTravel::Version(version)) => table.load_version(*version).await,
        Some(TimeTravel::Timestamp(moment)) => table.load_with_datetime(*moment).await,
    }
    .map_err(fail)?;
    let schema = read::plain(&table.snapshot().map_err(fail)?.snapshot().arrow_schema());
    Ok(Published { name: source.name.clone(), place, schema, table, state: None, said: None })
}

/// The schemas of Delta sources.
pub async fn inspect_sources(
    project: &Project,
    session: &SessionState,
    catalog: &mut Catalog,
    diagnostics: &mut Diagnostics,
) {
    for source in project.sources.values().filter(|source| source.format == Format::Delta) {
        // Types that are all declared are known without looking.
        if catalog.sources.contains_key(&source.name) {
            continue;
        }
        match open_source(source, &project.folder).await {
            Ok(found) => {
                let schema = bronze::declared_over(source, &found.schema, session);
                catalog.sources.insert(source.name.clone(), schema);
            }
            Err(error) => {
                diagnostics.push(Diagnostic::error(Id::SourceFiles, error.to_string()).at(source.path_span.clone()));
            }
        }
    }
}
