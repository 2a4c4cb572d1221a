//! What a node finds before anything is decided: its table, its inputs, and the files that wait.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::changes::Consumed;
use super::intake::{Progress, TakenIn, takes_in};
use super::materialize::{Failure, Node};
use crate::compile::Input;
use crate::names::TableName;
use crate::tables::{Glance, Published};
use crate::template::SourceRead;

/// What was found of its table and its inputs.
pub(super) struct World {
    pub(super) published: Option<Published>,
    /// In its place, where only the newest commit was looked at.
    pub(super) glance: Option<Arc<Glance>>,
    /// Versions and file lists, by name, as the fingerprint has them.
    pub(super) versions: BTreeMap<String, String>,
    /// Sources whose files it takes in, with what it took in before.
    pub(super) taken: BTreeMap<TableName, TakenIn>,
    pub(super) nothing_to_read: bool,
    /// Models whose changes it reads.
    pub(super) changes: Consumed,
    /// What sets of columns hold of the tables that it reads.
    pub(super) contents: BTreeMap<TableName, BTreeMap<String, String>>,
}

impl World {
    /// Nothing is known of the inputs yet.
    pub(super) fn new(published: Option<Published>) -> Self {
        Self {
            published,
            glance: None,
            versions: BTreeMap::new(),
            taken: BTreeMap::new(),
            nothing_to_read: false,
            changes: Consumed::new(),
            contents: BTreeMap::new(),
        }
    }
}

impl Node<'_> {
    #[tracing::instrument(name = "look", skip_all)]
    pub(super) async fn look(&self, progress: &mut Progress) -> Result<World, Failure> {
        self.look_from(self.settled().await?, progress).await
    }

    /// Looks at the inputs, from a published version on.
    pub(super) async fn look_from(
        &self,
        published: Option<Published>,
        progress: &mut Progress,
    ) -> Result<World, Failure> {
        self.look_into(World::new(published), progress).await
    }

    pub(super) async fn look_into(&self, mut world: World, progress: &mut Progress) -> Result<World, Failure> {
        world.nothing_to_read = !self.compiled.inputs.is_empty();
        if let Some(content) = &self.compiled.content {
            world.versions.insert(self.model.path.clone(), format!("content {content}"));
        }
        for input in &self.compiled.inputs {
            match input {
                Input::Table(name) => {
                    let version = self.inputs.version_of(name).await?;
                    if version.is_none() {
                        self.not_loaded(name)?;
                    }
                    world.nothing_to_read &= version.is_none();
                    if let Some(contents) = self.inputs.contents(name).await? {
                        world.contents.insert(name.clone(), contents);
                    }
                    world.versions.insert(name.to_string(), version.unwrap_or_else(|| "absent".to_owned()));
                }
                Input::Source(name, SourceRead::Changes)
                    if takes_in(&self.inputs.runtime().project, self.model, name) =>
                {
                    let taken = self.intake.taken_in(name, &world, progress).await?;
                    world.nothing_to_read &= taken.pending.reads.is_empty();
                    world.taken.insert(name.clone(), taken);
                }
                Input::Source(name, _) => {
                    let (state, has_rows) = self.inputs.source_state(name).await?;
                    world.nothing_to_read &= !has_rows;
                    world.versions.insert(name.to_string(), state);
                }
            }
        }
        self.look_for_changes(&mut world, progress).await?;
        Ok(world)
    }
}
