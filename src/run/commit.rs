//! What a commit says of the version that it makes.

use std::collections::BTreeMap;

use super::Runtime;
use super::changes::table_ids;
use super::materialize::{Failure, Mode, Node};
use super::report::TestResult;
use super::world::World;
use crate::bronze::{Change, manifest};
use crate::compile::{CompiledTest, Input, parts};
use crate::names::TableName;
use crate::tables::{self, Commit, Phase, Published, Staged, TableState};
use crate::template::SourceRead;

/// What a test reads beside the table that it is about.
pub(super) enum StampPart {
    /// A view, with its definition; what it reads follows.
    View(TableName, String),
    /// A table or a source.
    Input(Input),
}

/// What a test's pass is bound to, in the order of its stamp.
pub(super) fn parts_of_stamp(runtime: &Runtime, test: &CompiledTest, own: &TableName) -> Vec<StampPart> {
    let mut parts = Vec::new();
    for name in test.reads.iter().filter(|name| *name != own) {
        match runtime.compiled.models.get(name).filter(|_| !runtime.project.models[name].is_stored()) {
            Some(view) => {
                parts.push(StampPart::View(name.clone(), view.definition.clone()));
                parts.extend(view.inputs.iter().cloned().map(StampPart::Input));
            }
            None if runtime.project.models.contains_key(name) => {
                parts.push(StampPart::Input(Input::Table(name.clone())));
            }
            None => parts.push(StampPart::Input(Input::Source(name.clone(), SourceRead::All))),
        }
    }
    parts
}

/// The test itself, and what it has read beside its table, in one text.
pub(super) struct Stamp(pub(super) String);

impl Stamp {
    pub(super) fn new(test: &CompiledTest) -> Self {
        Self(test.fingerprint())
    }

    pub(super) fn view(&mut self, name: &TableName, definition: &str) {
        self.0.push_str(&format!(" {name}={definition}"));
    }

    /// A table at a version, as commits have it among their inputs.
    pub(super) fn table(&mut self, name: &TableName, version: Option<&str>) {
        self.0.push_str(&Self::of_table(name, version));
    }

    /// What it says of a table.
    pub(super) fn of_table(name: &TableName, version: Option<&str>) -> String {
        let version = version.map(|version| version.trim_start_matches("version "));
        let version = version.map_or_else(|| "None".to_owned(), |version| format!("Some({version})"));
        format!(" {name}@{version}")
    }

    /// The version of the only other table that a test had read when it passed with a stamp.
    pub(super) fn version_in(stamp: &str, test: &CompiledTest, other: &TableName) -> Option<u64> {
        let read = stamp.strip_prefix(&test.fingerprint())?;
        let version: u64 = read.rsplit_once("Some(")?.1.strip_suffix(')')?.parse().ok()?;
        (read == Self::of_table(other, Some(&version.to_string()))).then_some(version)
    }

    pub(super) fn source(&mut self, name: &TableName, state: &str) {
        self.0.push_str(&format!(" {name}@{state}"));
    }
}

impl Node<'_> {
    /// What a test's pass is worth: it holds for this test, and for the other tables that it reads as they were.
    pub(super) async fn stamp(&self, test: &CompiledTest) -> Result<String, Failure> {
        let mut stamp = Stamp::new(test);
        for part in parts_of_stamp(self.inputs.runtime(), test, &self.model.name) {
            match part {
                StampPart::View(name, definition) => stamp.view(&name, &definition),
                StampPart::Input(Input::Table(name)) => {
                    stamp.table(&name, self.inputs.version_of(&name).await?.as_deref());
                }
                StampPart::Input(Input::Source(name, _)) => {
                    stamp.source(&name, &self.inputs.source_state(&name).await?.0);
                }
            }
        }
        Ok(stamp.0)
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
        let (owner, origin) = match &world.published {
            Some(published) => published.made_by().await?,
            None => (Some(runtime.owner()), None),
        };
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
                owner,
                origin,
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
        self.inputs.enter(&self.model.name, Phase::Publishing);
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
            // What is known of rows that are gone counts, too.
            && staged.heads.is_empty()
            && published.schema == staged.schema
            && published.partition_columns() == self.model.config.partition_by
    }
}
