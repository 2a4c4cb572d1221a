//! What a commit says of the version that it makes.

use std::collections::BTreeMap;

use super::changes::table_ids;
use super::materialize::{Failure, Mode, Node, World};
use super::report::TestResult;
use crate::bronze::{Change, manifest};
use crate::compile::{CompiledTest, Input, parts};
use crate::names::TableName;
use crate::tables::{self, Commit, Published, Staged, TableState};
use crate::template::SourceRead;

impl Node<'_> {
    /// What a test's pass is worth: it holds for this test, and for the other tables that it reads as they were.
    pub(super) async fn stamp(&self, test: &CompiledTest) -> Result<String, Failure> {
        let runtime = self.inputs.runtime();
        let mut stamp = test.fingerprint();
        for name in test.reads.iter().filter(|name| **name != self.model.name) {
            let view = runtime.compiled.models.get(name).filter(|_| !runtime.project.models[name].is_stored());
            let below = match view {
                Some(view) => {
                    stamp.push_str(&format!(" {name}={}", view.definition));
                    view.inputs.clone()
                }
                None if runtime.project.models.contains_key(name) => [Input::Table(name.clone())].into(),
                None => [Input::Source(name.clone(), SourceRead::All)].into(),
            };
            for input in below {
                stamp.push_str(&match input {
                    Input::Table(name) => {
                        let version = self.inputs.version_of(&name).await?;
                        format!(" {name}@{version:?}")
                    }
                    Input::Source(name, _) => format!(" {name}@{}", self.inputs.source_state(&name).await?.0),
                });
            }
        }
        Ok(stamp)
    }

    /// Writes the manifest batches and says what the commit records.
    pub(super) async fn commit(
        &self,
        world: &World,
        mode: Mode,
        changes: &BTreeMap<TableName, Change>,
        tests: &[TestResult],
    ) -> Result<(Commit, BTreeMap<TableName, i64>), Failure> {
        let runtime = self.inputs.runtime();
        let mut batches = BTreeMap::new();
        let store = runtime.lake.files_of(&self.model.name);
        for (source, taken) in &world.taken {
            let change = &changes[source];
            if mode == Mode::Incremental && change.is_empty() {
                continue;
            }
            let (id, base) = (taken.batch, &taken.listing.base);
            taken.manifest.write(&store, &self.model.name, source, id, change, base).await?;
            batches.insert(source.clone(), id);
        }
        let mut transactions: Vec<(String, i64)> =
            batches.iter().map(|(source, id)| (manifest::app_id(&self.model.name, source), *id)).collect();
        transactions.extend(self.consumed(world));
        let ran: BTreeMap<&str, bool> = tests.iter().map(|t| (t.name.as_str(), !t.blocks())).collect();
        let mut passed = BTreeMap::new();
        for test in self.tests.iter().filter(|test| ran.get(test.name.as_str()) == Some(&true)) {
            passed.insert(test.name.clone(), self.stamp(test).await?);
        }
        let commit = Commit {
            state: TableState {
                definition: self.compiled.definition.clone(),
                materialized: self.model.config.materialized.name().to_owned(),
                inputs: world.versions.clone(),
                tests: passed,
                volatile: self.compiled.volatile.is_some(),
                sources: world.taken.keys().map(ToString::to_string).collect(),
                intervals: None,
                consumed: table_ids(&world.changes),
                parts: parts(&runtime.project, self.model, &runtime.compiled.models),
                content: None,
                projections: BTreeMap::new(),
                read: self.reads(world),
                invocation_id: runtime.options.invocation_id.clone(),
            },
            transactions,
            id: uuid::Uuid::new_v4().to_string(),
        };
        Ok((commit, batches))
    }

    /// Publishes what is staged. A table that was made anew and holds what it held before stays as it is, and so does what
    /// reads it: says whether that is so.
    pub(super) async fn publish(
        &self,
        published: Option<&Published>,
        staged: Staged,
        commit: &Commit,
    ) -> Result<(Published, bool), Failure> {
        let lake = &self.inputs.runtime().lake;
        let same = published.filter(|published| self.holds_the_same(published, &staged));
        match same {
            Some(published) => Ok((tables::publish_same(lake, published, staged, commit).await?, true)),
            None => Ok((tables::publish(lake, published, staged, commit).await?, false)),
        }
    }

    fn holds_the_same(&self, published: &Published, staged: &Staged) -> bool {
        let before = published.state.as_ref().and_then(|state| state.content.as_deref());
        before.is_some()
            && before == staged.content()
            && published.schema == staged.schema
            && published.partition_columns() == self.model.config.partition_by
    }
}
