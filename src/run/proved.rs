//! Tests that nobody has to run: the plan that made the rows proves them, or the statistics of the files do.

use std::collections::BTreeMap;

use super::audit::Seen;
use super::fused::Found;
use super::inputs::Inputs;
use super::materialize::{Failure, Mode, Node};
use super::world::World;
use crate::checks::Check;
use crate::compile::CompiledTest;
use crate::names::TableName;
use crate::project::Materialization;
use crate::tables::Known;

impl Node<'_> {
    /// The gates that hold for the table as it will be. What an incremental model adds passes by the plan; what its table
    /// holds must have passed before, and a plan says nothing of keys of rows that came at different times.
    pub(super) async fn proved(&self, world: &World, mode: Mode) -> Result<Seen, Failure> {
        let is_whole = mode == Mode::Full || world.published.is_none();
        let passed = world.published.as_ref().and_then(|published| published.state.as_ref()).map(|state| &state.tests);
        let mut proved = Seen::new();
        for test in self.gates() {
            let Some(found) = proof(self.inputs, test) else { continue };
            let holds = is_whole && !self.model.config.is_history()
                || !matches!(test.check(), Check::Unique { .. })
                    && test.config.allows_nothing()
                    && passed.and_then(|passed| passed.get(&test.name)) == Some(&self.stamp(test).await?);
            if holds {
                proved.insert(test.name.clone(), found);
            }
        }
        Ok(proved)
    }
}

/// The tests that hold for published tables: where the plan that made all of a table is that of today.
pub(super) async fn proved(inputs: &Inputs, tests: &[&CompiledTest]) -> Seen {
    let (mut proved, mut statistics) = (Seen::new(), BTreeMap::new());
    for test in tests {
        if let Some(found) = proof(inputs, test)
            && is_made_by_its_plan(inputs, test).await
        {
            proved.insert(test.name.clone(), found);
        } else if let (Some(table), Check::Rows { .. }) = (&test.table, test.check()) {
            if !statistics.contains_key(table) {
                statistics.insert(table, known_of(inputs, table).await);
            }
            let known = statistics.get(table).and_then(Option::as_ref);
            let found = known.and_then(|known| known_to_hold(inputs, test, known));
            proved.extend(found.map(|found| (test.name.clone(), found)));
        }
    }
    proved
}

/// What the statistics say of a published table.
async fn known_of(inputs: &Inputs, table: &TableName) -> Option<Known> {
    let model = inputs.runtime().project.models.get(table)?;
    let published = inputs.readable(table).await.ok().flatten().filter(|_| model.is_stored())?;
    Known::of(Some(&published), None).ok().flatten()
}

/// Whether the statistics of files say that no row of theirs fails a test.
pub(super) fn known_to_hold(inputs: &Inputs, test: &CompiledTest, known: &Known) -> Option<Found> {
    let (runtime, table) = (inputs.runtime(), test.table.as_ref()?);
    let Check::Rows { wrong } = test.check() else { return None };
    let holds = runtime.options.prove && known.excludes(table, &wrong, &runtime.session);
    let files = known.file_count();
    let reason = format!("by the statistics of {files} {}", if files == 1 { "file" } else { "files" });
    holds.then(|| Found { proved: Some(reason), ..Found::default() })
}

async fn is_made_by_its_plan(inputs: &Inputs, test: &CompiledTest) -> bool {
    let runtime = inputs.runtime();
    let Some(table) = &test.table else { return false };
    let (Some(model), Some(compiled)) = (runtime.project.models.get(table), runtime.compiled.models.get(table)) else {
        return false;
    };
    match model.config.materialized {
        Materialization::View | Materialization::Ephemeral => true,
        Materialization::Table => {
            let published = inputs.readable(table).await.ok().flatten();
            let state = published.as_ref().and_then(|published| published.state.as_ref());
            state.is_some_and(|state| state.definition == compiled.definition)
        }
        _ => false,
    }
}

fn proof(inputs: &Inputs, test: &CompiledTest) -> Option<Found> {
    let runtime = inputs.runtime();
    let reason = runtime.compiled.proof(test).filter(|_| runtime.options.prove)?;
    Some(Found { proved: Some(reason), ..Found::default() })
}
