//! Removing the tables of an environment, and no other's.

use std::collections::BTreeSet;

use serde::Serialize;

use super::take::whose;
use crate::names::TableName;
use crate::run::chronicle::chronicle;
use crate::run::inputs::Inputs;
use crate::run::materialize::Failure;
use crate::run::report::{NodeResult, RunReport, Status};
use crate::run::{left_out, quarantine};

/// A table that is dropped, or left.
#[derive(Debug, Clone, Serialize)]
pub struct Dropped {
    /// The table.
    pub name: TableName,
    /// No model of the project has a table of this name.
    pub orphan: bool,
    /// Its newest version.
    pub version: u64,
    /// Rows, as far as its log tells.
    pub rows: Option<u64>,
    /// Bytes of its data files.
    pub bytes: u64,
    /// Why it is left.
    pub left: Option<String>,
}

/// What there is to drop: tables of these models; with `orphans`, also those that no model of the project has. A table
/// that this environment did not make is left.
///
/// # Errors
/// When the lake cannot be read.
pub async fn to_drop(inputs: &Inputs, names: &BTreeSet<TableName>, orphans: bool) -> Result<Vec<Dropped>, Failure> {
    let runtime = inputs.runtime();
    let is_stored = |name: &TableName| runtime.project.models.get(name).is_some_and(|model| model.is_stored());
    let mut wanted: BTreeSet<TableName> = names.iter().filter(|name| is_stored(name)).cloned().collect();
    if orphans {
        wanted.extend(runtime.lake.tables().await?.into_iter().filter(|name| !is_stored(name)));
    }
    let owner = runtime.owner();
    let mut found = Vec::new();
    for name in wanted {
        let Some(published) = inputs.published(&name).await? else { continue };
        let made_by = published.made_by().await?.0;
        let left = (made_by.as_ref() != Some(&owner)).then(|| whose(made_by.as_ref(), &owner.target));
        let (version, rows, bytes) = (published.version(), published.rows(), published.bytes());
        found.push(Dropped { orphan: !is_stored(&name), name, version, rows, bytes, left });
    }
    Ok(found)
}

/// Drops tables, and what is quarantined of them. The run is noted in the lake's own tables, which stay.
///
/// # Errors
/// The storage's; what was dropped by then is gone.
pub async fn drop_tables(inputs: &Inputs, tables: &[Dropped]) -> Result<RunReport, Failure> {
    let runtime = inputs.runtime();
    let mut report = RunReport::begun(&runtime.options);
    for table in tables.iter().filter(|table| table.left.is_none()) {
        let name = &table.name;
        runtime.lake.drop_table(name).await?;
        crate::fail_points::reached("dropped");
        inputs.forget(name);
        for source in runtime.project.sources.keys() {
            quarantine::undo(inputs, (name, source), None).await?;
        }
        runtime.lake.drop_table(&left_out::table_of(name)).await?;
        let Some(model) = runtime.project.models.get(name) else { continue };
        let mut result = NodeResult::new(model, Status::Success, "drop", format!("version {}", table.version));
        (result.rows, result.bytes) = (table.rows, Some(table.bytes));
        report.nodes.push(result);
    }
    chronicle(inputs, &report, "drop").await?;
    Ok(report)
}
