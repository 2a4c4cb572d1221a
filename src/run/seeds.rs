//! Seeds in a run: the rows of one file, and nothing that reads a table.

use std::sync::Arc;

use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};

use super::materialize::{Failure, Node};
use crate::bronze;
use crate::names::TableName;
use crate::project::Source;

impl Node<'_> {
    /// The rows of a seed's file.
    pub(super) async fn seed_rows(&self, seed: &Source) -> Result<LogicalPlan, Failure> {
        let schema = Arc::clone(&self.compiled.schema);
        let rows = bronze::seed_rows(seed, &schema, &self.inputs.runtime().folder).await?;
        Ok(LogicalPlanBuilder::scan("seed", provider_as_source(rows), None)?.build()?)
    }

    /// Refuses rows of a file that is not the one that was compiled.
    pub(super) fn check_seed(&self) -> Result<(), Failure> {
        let Some(seed) = &self.model.seed else { return Ok(()) };
        let now = bronze::seed_content(seed, &self.inputs.runtime().folder)?;
        if Some(&now) == self.compiled.content.as_ref() {
            return Ok(());
        }
        Err(Failure::text(format!("`{}` changed while it was read; nothing was published, build again", seed.path)))
    }

    /// A model that reads a seed which nobody has loaded would take it for an empty table.
    pub(super) fn not_loaded(&self, name: &TableName) -> Result<(), Failure> {
        match self.inputs.runtime().project.models.get(name).and_then(|model| model.seed.as_ref()) {
            Some(_) => {
                let hint = self.inputs.in_neither(name);
                let why = format!("it reads the seed `{name}`, which is not loaded: `lake seed` does{hint}");
                Err(Failure::text(why))
            }
            None => Ok(()),
        }
    }
}
