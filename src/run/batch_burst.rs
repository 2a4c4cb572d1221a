//! Batches in one commit, so that nobody sees a part of them: where the table is made anew, or published together with
//! others.

use std::sync::Arc;

use datafusion::catalog::TableProvider;

use super::batch_run::Batches;
use super::batches::counts;
use super::materialize::{Failure, Outcome};
use super::report::Status;
use crate::fail_points;
use crate::intervals::Intervals;
use crate::tables::{self, Published, Staged};

impl Batches<'_> {
    /// In place of everything that the table has.
    pub(super) async fn anew(&self, reason: String) -> Result<Outcome, Failure> {
        let mut done = Intervals::new();
        let staged = self.stage_all(None, &mut done).await?.replacing_all();
        self.publish_all(staged, done, "replace", reason).await
    }

    /// In place of what the table has of their intervals.
    pub(super) async fn in_place_together(&self, mut done: Intervals, reason: String) -> Result<Outcome, Failure> {
        let runtime = self.node.inputs.runtime();
        let published = self.world.published.as_ref();
        self.due.iter().for_each(|batch| done.remove(*batch));
        let mut staged = self.stage_all(published, &mut done).await?;
        if let Some(published) = published {
            let mut replaced = Intervals::new();
            self.due.iter().for_each(|batch| replaced.add(*batch));
            let place = (self.column, &replaced);
            staged = tables::replace_intervals(&runtime.lake, published, staged, place, &runtime.session).await?;
            staged = self.reshaped(published, staged).await?;
        }
        let action = if published.is_some() { "microbatch" } else { "create" };
        self.publish_all(staged, done, action, reason).await
    }

    /// The rows of all batches, each of which sees those before it if it has to.
    async fn stage_all(&self, published: Option<&Published>, done: &mut Intervals) -> Result<Staged, Failure> {
        let (node, runtime) = (self.node, self.node.inputs.runtime());
        let mut all = Staged::nothing(&runtime.lake, &node.model.name, &self.schema, &node.model.config.partition_by);
        let mut staged_of = Intervals::new();
        for some in self.due.chunks(self.width()) {
            let own = self.own(published, &all, &staged_of).await?;
            let staged = some.iter().map(|batch| self.stage(*batch, own.clone()));
            let mut failure = None;
            for (batch, result) in some.iter().zip(futures::future::join_all(staged).await) {
                match result {
                    Ok(staged) => {
                        all = all.with(staged);
                        staged_of.add(*batch);
                        done.add(counts(*batch, runtime.options.started_at));
                    }
                    Err(error) => {
                        failure.get_or_insert((*batch, error));
                    }
                }
            }
            if let Some((batch, why)) = failure {
                all.discard(&runtime.lake).await;
                let (batch, why) = (self.size.name(batch.start), runtime.in_words(&why, [&node.model.name]));
                return Err(Failure::text(format!("batch {batch} failed: {why}; nothing was published")));
            }
        }
        fail_points::reached("staged");
        Ok(all)
    }

    /// Its own table as the next batches see it; `None` if there is none.
    async fn own(
        &self,
        published: Option<&Published>,
        all: &Staged,
        staged_of: &Intervals,
    ) -> Result<Option<Arc<dyn TableProvider>>, Failure> {
        Ok(match published {
            Some(published) if self.in_order && !staged_of.ranges().is_empty() => {
                Some(tables::with_intervals(published, all, (self.column, staged_of)).await?)
            }
            Some(published) => Some(tables::table_provider(published).await?),
            None if self.in_order && !staged_of.ranges().is_empty() => Some(tables::future_table(None, all).await?),
            None => None,
        })
    }

    async fn publish_all(
        &self,
        staged: Staged,
        done: Intervals,
        action: &'static str,
        reason: String,
    ) -> Result<Outcome, Failure> {
        let (node, published) = (self.node, self.world.published.as_ref());
        let mut outcome = Outcome::new(Status::Success, action, reason);
        (outcome.rows, outcome.bytes) = (Some(staged.rows()), Some(staged.bytes()));
        let (staged, commit, tests) = match self.audited(published, staged, (done, false)).await {
            Err(Failure::Refused(why)) => return Err(Failure::Refused(format!("{why}; nothing was published"))),
            audited => audited?,
        };
        outcome.tests = tests;
        if node.is_held() {
            outcome.version = Some(node.hold(published, staged, &commit).await?);
            outcome.tests.extend(node.audit_held().await?);
        } else {
            let fresh = self.publish_as(published, staged, &commit).await?;
            outcome.version = Some(fresh.version());
            outcome.tests.extend(node.audit_after(&fresh).await?);
        }
        Ok(outcome)
    }
}
