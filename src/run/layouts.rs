//! How the tables of a project are written, as their models say it.

use std::collections::BTreeMap;

use super::materialize::{Failure, Node};
use crate::fail_points;
use crate::names::TableName;
use crate::project::{Model, Project};
use crate::tables::{self, Layout, Published};

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
        target_file_size: config.target_file_size,
        compression: config.compression,
        bloom_filter_columns: config.bloom_filter_columns.clone(),
        properties: config.tblproperties.clone(),
        description: config.persist_docs.relation.then(|| said(&model.description)),
        comments: config.persist_docs.columns.then(comments),
        auto_optimize: config.auto_optimize,
    }
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
