//! Delta tables as sources: read whole, at their newest version or at the one that the source asks for.

use std::path::Path;

use datafusion::execution::session_state::SessionState;
use deltalake::{DeltaTableBuilder, DeltaTableError};
use url::Url;

use super::{Published, delta_message, read};
use crate::bronze;
use crate::catalog::Catalog;
use crate::diagnostics::{Diagnostic, Diagnostics, Id};
use crate::paths;
use crate::project::{Format, Project, Source, TimeTravel};

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
    let path = source.path.strip_prefix("file://").unwrap_or(&source.path);
    if path.contains("://") {
        return Err(bad(format!("`{path}` is not on this machine: only folders can be Delta sources")));
    }
    let base = paths::absolute(folder, path).map_err(|error| bad(error.to_string()))?;
    let fail = |error: DeltaTableError| bad(format!("`{path}`: {}", delta_message(&error)));
    let missing = || bad(format!("`{path}` is not a Delta table: it has no `_delta_log`"));
    let url = Url::from_directory_path(&base).map_err(|()| missing())?;
    let log_store =
        DeltaTableBuilder::from_url(url.clone()).and_then(|builder| builder.build_storage()).map_err(fail)?;
    if !base.is_dir() || !log_store.is_delta_table_location().await.map_err(fail)? {
        return Err(missing());
    }
    let builder = DeltaTableBuilder::from_url(url).map_err(fail)?;
    let table = match &source.options.time_travel {
        None => builder,
        Some(TimeTravel::Version(version)) => builder.with_version(*version),
        Some(TimeTravel::Timestamp(moment)) => builder.with_timestamp(*moment),
    };
    let table = table.load().await.map_err(fail)?;
    let schema = read::plain(&table.snapshot().map_err(fail)?.snapshot().arrow_schema());
    Ok(Published { name: source.name.clone(), schema, table, state: None, said: None })
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
