//! A model that runs in batches: each is staged, audited and published by itself, and replaces its interval.
//!
//! Batches are staged at the same time; one commits after the other, each on top of the newest version, as their
//! intervals have nothing in common. What the table has is a set of intervals in the state of its last commit. The
//! first commit of a run takes all intervals out that the run is about to make, and each commit puts its own in: so
//! whatever does not come to its end is missing, and due in the next run.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;

use super::batch_run::Batches;
use super::batches::{Due, Question, due};
use super::decide::{Action, EMPTIED, changed_input};
use super::inputs::Chosen;
use super::intake::Progress;
use super::materialize::{Failure, Node, Outcome};
use super::world::World;
use crate::compile::cut_by_time;
use crate::intervals::{BatchSize, Intervals};
use crate::project::Materialization;
use crate::session;
use crate::tables::TableState;

/// What to do about a model's batches.
enum Decision {
    Skip(String),
    /// Each by itself, in the table as it is.
    InPlace {
        due: Due,
        done: Intervals,
        /// Inputs have changed.
        changed: bool,
        reason: String,
    },
    /// All together, in place of everything that the table has.
    Anew {
        due: Due,
        reason: String,
    },
}

impl Node<'_> {
    /// Runs the batches that are due.
    pub(super) async fn run_batches(&self, progress: &mut Progress) -> Result<Outcome, Failure> {
        let world = self.look(progress).await?;
        let size = self.model.config.batch_size.unwrap_or(BatchSize::Day);
        match self.decide_batches(&world, size, progress).await? {
            Decision::Skip(reason) => self.skip(&world, reason).await,
            Decision::InPlace { due, done, changed, reason } => {
                let (schema, reshapes) = match &world.published {
                    Some(published) => {
                        self.check_partitions(published)?;
                        self.evolved(&published.schema)?
                    }
                    None => (Arc::clone(&self.compiled.schema), false),
                };
                self.begin_batches(progress).await?;
                let batches = self.batches(&world, size, (schema, reshapes), &due, progress)?;
                match self.is_held() {
                    true => batches.in_place_together(done, reason).await,
                    false => batches.in_place((done, changed), reason, progress).await,
                }
            }
            Decision::Anew { due, reason } => {
                self.begin_batches(progress).await?;
                let schema = (Arc::clone(&self.compiled.schema), false);
                let batches = self.batches(&world, size, schema, &due, progress)?;
                batches.anew(reason).await
            }
        }
    }

    /// What would be done about its batches now.
    pub(super) async fn foresee_batches(&self, world: &World, progress: &mut Progress) -> Result<Action, Failure> {
        let size = self.model.config.batch_size.unwrap_or(BatchSize::Day);
        Ok(match self.decide_batches(world, size, progress).await? {
            Decision::Skip(reason) => Action::Skip(reason),
            Decision::InPlace { reason, .. } => Action::Incremental(reason),
            Decision::Anew { reason, .. } => Action::Full(reason),
        })
    }

    async fn begin_batches(&self, progress: &mut Progress) -> Result<(), Failure> {
        self.inputs.begin(self.model, progress).await?;
        self.inputs.runtime().lake.forget_kept(&self.model.name).await?;
        self.check_columns(&Chosen::new()).await
    }

    fn batches<'a>(
        &'a self,
        world: &'a World,
        size: BatchSize,
        (schema, reshapes): (SchemaRef, bool),
        due: &'a Due,
        progress: &Progress,
    ) -> Result<Batches<'a>, Failure> {
        let incremental = session::parse(&self.model.rendered(true).sql)?;
        let reads_itself = session::tables_of(&incremental)?.contains(&self.model.name);
        Ok(Batches {
            node: self,
            world,
            size,
            column: self.model.config.event_time.as_deref().unwrap_or_default(),
            cut: cut_by_time(&self.inputs.runtime().project, self.model),
            schema,
            reshapes,
            in_order: reads_itself || self.model.config.concurrent_batches == Some(false),
            due: &due.batches,
            publishing: Arc::clone(&progress.publishing),
        })
    }

    async fn decide_batches(
        &self,
        world: &World,
        size: BatchSize,
        progress: &mut Progress,
    ) -> Result<Decision, Failure> {
        let told = self.told_deferred(world);
        Ok(match self.decide_due(world, size, progress).await? {
            Decision::Skip(reason) => Decision::Skip(reason),
            Decision::InPlace { due, done, changed, reason } => {
                Decision::InPlace { due, done, changed, reason: reason + &told }
            }
            Decision::Anew { due, reason } => Decision::Anew { due, reason: reason + &told },
        })
    }

    async fn decide_due(&self, world: &World, size: BatchSize, progress: &mut Progress) -> Result<Decision, Failure> {
        let (options, config) = (&self.inputs.runtime().options, &self.model.config);
        let (now, asked, lookback) = (options.started_at, options.event_time, config.lookback());
        let (begin, nothing) = (config.begin.unwrap_or(now), Intervals::new());
        let not_yet = || Decision::Skip(format!("its first batch begins at {}", size.name(size.floor(begin))));
        let question = Question { size, begin, lookback, now, done: &nothing, changed: true, asked, anew: false };
        self.keeps_history(world)?;
        let Some(published) = &world.published else {
            if world.nothing_to_read {
                return Ok(Decision::Skip("there is nothing to read yet".to_owned()));
            }
            let due = due(&question);
            return Ok(match due.batches.is_empty() {
                true => not_yet(),
                false => Decision::InPlace {
                    reason: format!("first build: {}", due.reason(size)),
                    due,
                    done: nothing,
                    changed: true,
                },
            });
        };
        let why = match self.intake.full_refresh(progress) {
            true => Some("full refresh"),
            false => published.is_emptied().then_some(EMPTIED),
        };
        if let Some(why) = why {
            let due = due(&Question { anew: true, ..question });
            if due.batches.is_empty() {
                return Ok(not_yet());
            }
            return Ok(Decision::Anew { reason: format!("{why}: {}", due.reason(size)), due });
        }
        let known = published.last_known_state().await?;
        let done = known.as_ref().and_then(|state| state.intervals.clone());
        let Some(done) = done else {
            return self.decide_unknown(known.as_ref(), &question);
        };
        let known = known.unwrap_or_default();
        let change = match known.inputs.is_empty() && !world.versions.is_empty() {
            true => Some("runs at the same time had read other versions of its inputs".to_owned()),
            false => changed_input(&known, &world.versions, &BTreeSet::new()),
        };
        let change = change.or_else(|| self.compiled.volatile.as_ref().map(|f| format!("its rows depend on {f}")));
        // After another run came between, what this one owes is what it owed before.
        let changed = change.is_some() || progress.changed;
        progress.mixed |= !progress.intervals.ranges().is_empty() && known.inputs != world.versions;
        let mut due = due(&Question { done: &done, changed, ..question });
        due.batches.retain(|batch| !progress.intervals.covers(*batch));
        if due.batches.is_empty() {
            let hint = if known.definition == self.compiled.definition {
                ""
            } else {
                "; its definition changed, and --full-refresh would apply it to the rows that are there"
            };
            return Ok(Decision::Skip(format!("no batch is due{hint}")));
        }
        let reason = match (asked, change) {
            (Some(_), _) => format!("asked for {}", due.reason(size)),
            (None, Some(change)) => format!("{change}; {}", due.reason(size)),
            (None, None) => due.reason(size),
        };
        Ok(Decision::InPlace { due, done, changed, reason })
    }

    /// A table whose intervals nobody noted.
    fn decide_unknown(&self, known: Option<&TableState>, question: &Question<'_>) -> Result<Decision, Failure> {
        let size = question.size;
        if question.asked.is_some() {
            let due = due(question);
            let reason = format!("asked for {}", due.reason(size));
            return Ok(Decision::InPlace { due, done: Intervals::new(), changed: true, reason });
        }
        let why = match known {
            None => "its last commits were not written by lake, and the intervals that it has are not known",
            Some(state) if state.materialized != Materialization::Incremental.name() => "it was not incremental before",
            Some(_) => "it did not run in batches before",
        };
        if known.is_none() || self.model.config.full_refresh == Some(false) {
            return Err(Failure::text(format!(
                "{why}; --full-refresh rebuilds it, and --event-time-start with --event-time-end runs batches in place"
            )));
        }
        let due = due(&Question { anew: true, ..question.clone() });
        Ok(Decision::Anew { reason: format!("{why}; {}", due.reason(size)), due })
    }
}
