//! How the tables of a project are written, as their models say it.

use std::collections::BTreeMap;

use super::materialize::{Failure, Node};
use crate::fail_points;
use crate::names::TableName;
use crate::project::{Materialization, Model, Project, Strategy};
use crate::tables::{self, Layout, Published};

/// Bytes of a data file of a table whose files are written again for a few rows of theirs.
const BYTES_IF_REWRITTEN: u64 = 32 * 1024 * 1024;

/// The layouts of all stored models and seeds.
pub fn layouts(project: &Project) -> BTreeMap<TableName, Layout> {
    let stored = project.models.values().filter(|model| model.is_stored());
    stored.map(|model| (model.name.clone(), layout(model))).collect()
}

fn layout(model: &Model) -> Layout {
    let config = &model.config;
    let said = |text: &str| text.trim().to_owned();
    let comments = || model.columns.iter().map(|column| (column.name.clone(), said(&column.description))).collect();
    Layout {
        sort_by: config.sort_by.clone(),
        zorder_by: config.zorder_by.clone(),
        target_file_size: config.target_file_size.or_else(|| is_rewritten_by_key(model).then_some(BYTES_IF_REWRITTEN)),
        compression: config.compression,
        bloom_filter_columns: config.bloom_filter_columns.clone(),
        properties: config.tblproperties.clone(),
        description: config.persist_docs.relation.then(|| said(&model.description)),
        comments: config.persist_docs.columns.then(comments),
        auto_optimize: config.auto_optimize,
    }
}

/// Whether new rows replace old ones wherever these are: then files are written again that hold a few of them.
fn is_rewritten_by_key(model: &Model) -> bool {
    let config = &model.config;
    let incremental = config.materialized == Materialization::Incremental;
    model.merges() || config.is_history() || incremental && config.incremental_strategy == Strategy::DeleteInsert
}

impl Node<'_> {
    /// Brings what the log says of a table up to date, if nothing else is to be done. Returns the version, and what it
    /// is about.
    pub(super) async fn describe(&self, published: &Published) -> Result<Option<(u64, &'static str)>, Failure> {
        let Some((fresh, what)) = tables::describe(&self.inputs.runtime().lake, published).await? else {
            return Ok(None);
        };
        fail_points::reached("described");
        let version = fresh.version();
        self.inputs.set_published(fresh);
        Ok(Some((version, what)))
    }
}
