//! Nodes that have nothing to do, as the newest commits of their tables and of those that they read say by themselves.
//!
//! The question is the same as for any node, and so is the answer (`decide`); only where the facts come from is shorter. A
//! node for which they do not suffice is looked at as if nobody had glanced at it.

use std::sync::Arc;

use super::decide::Action;
use super::inputs::Inputs;
use super::intake::Progress;
use super::left_out;
use super::materialize::{Failure, Node, Outcome};
use super::quarantine::sources_of;
use super::report::Status;
use super::world::World;
use crate::bronze::quarantine;
use crate::names::TableName;
use crate::project::Materialization;
use crate::tables::{Glance, Published, TableState};

/// What is known of a table: its log, or its newest commit.
pub(super) enum Known {
    Loaded(Box<Published>),
    Glanced(Arc<Glance>),
}

impl Known {
    pub(super) fn rows_since(&self) -> u64 {
        match self {
            Self::Loaded(published) => published.rows_since(),
            Self::Glanced(glance) => glance.rows_since(),
        }
    }

    pub(super) fn state(&self) -> Option<&TableState> {
        match self {
            Self::Loaded(published) => published.state.as_ref(),
            Self::Glanced(glance) => Some(&glance.state),
        }
    }
}

impl Inputs {
    /// A table of this lake, as far as its version and state go; `None` if there is none. One that was loaded or built is
    /// known by that.
    pub(super) async fn known(&self, name: &TableName) -> Result<Option<Known>, Failure> {
        if let Some(loaded) = self.loaded(name) {
            return Ok(loaded.map(|table| Known::Loaded(Box::new(table))));
        }
        match self.glance(name).await {
            Some(glance) => Ok(Some(Known::Glanced(glance))),
            None => Ok(self.published(name).await?.map(|table| Known::Loaded(Box::new(table)))),
        }
    }
}

impl World {
    /// Whether the table is there.
    pub(super) fn exists(&self) -> bool {
        self.published.is_some() || self.glance.is_some()
    }

    /// What the published version says of itself.
    pub(super) fn state(&self) -> Option<&TableState> {
        let loaded = self.published.as_ref().and_then(|published| published.state.as_ref());
        loaded.or(self.glance.as_ref().map(|glance| &glance.state))
    }

    /// The head of an application in its log.
    pub(super) async fn head(&self, app_id: &str) -> Result<Option<i64>, Failure> {
        match (&self.published, &self.glance) {
            (Some(published), _) => Ok(published.transaction(app_id).await?),
            (None, glance) => Ok(glance.as_ref().and_then(|glance| glance.transaction(app_id))),
        }
    }
}

impl Node<'_> {
    /// Why nothing is to be done, if the newest commits tell; with what was found.
    pub(super) async fn at_a_glance(&self) -> Option<(String, World)> {
        if !self.may_be_glanced_at() || self.inputs.loaded(&self.model.name).is_some() {
            return None;
        }
        let glance = self.inputs.glance(&self.model.name).await?;
        let layout = self.inputs.runtime().lake.layout(&self.model.name);
        if self.has_left_rows_out(&glance) || !glance.is_described(layout) {
            return None;
        }
        let mut progress = Progress::default();
        if self.intake.full_refresh(&progress) {
            return None;
        }
        let world = World { glance: Some(Arc::clone(&glance)), ..World::new(None) };
        // What fails is told by the closer look.
        let world = self.look_into(world, &mut progress).await.ok()?;
        let Ok(Action::Skip(reason)) = self.decide(&world, &progress) else { return None };
        let has_passed = self.passed_all(&glance).await.is_ok_and(|passed| passed);
        has_passed.then_some((reason, world))
    }

    /// A node that is left as it is.
    pub(super) async fn skip_at_a_glance(&self) -> Option<Outcome> {
        let (reason, world) = self.at_a_glance().await?;
        let mut outcome = Outcome::new(Status::Skipped, "", reason);
        outcome.version = world.glance.map(|glance| glance.version);
        Some(outcome)
    }

    /// Whether its facts are versions, states and lists of files alone: nothing of another lake, of changes, or of tables
    /// that wait for others is read.
    fn may_be_glanced_at(&self) -> bool {
        let (runtime, config) = (self.inputs.runtime(), &self.model.config);
        matches!(config.materialized, Materialization::Table | Materialization::Incremental)
            && !self.model.is_microbatch()
            && self.reads_changes().next().is_none()
            && runtime.deferral.is_none()
            && runtime.options.replay.is_none()
            && !self.is_held()
            && !left_out::has_quarantine(&runtime.compiled, &self.model.name)
    }

    /// Whether rows of it are or were quarantined: whether the quarantine has them by now, the commit alone does not tell.
    fn has_left_rows_out(&self, glance: &Glance) -> bool {
        let own = &self.model.name;
        let of_source = |source| glance.transaction(&quarantine::app_id(own, source)).is_some();
        glance.transaction(&left_out::app_id(own)).is_some()
            || sources_of(self.inputs, self.model).iter().any(of_source)
    }

    /// Whether a version has passed all tests that this run has for it.
    async fn passed_all(&self, glance: &Glance) -> Result<bool, Failure> {
        for test in &self.tests {
            let passed = match self.is_gate(test) {
                true => glance.state.tests.get(&test.name) == Some(&self.stamp(test).await?),
                false => {
                    let key = self.pass((glance.version, Some(&glance.state)), test).await?;
                    self.inputs.runtime().memo.get::<bool>(key).is_some()
                }
            };
            if !passed {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
