//! Staging one batch of a model: its query over the files that were chosen, all together or each by itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::logical_expr::LogicalPlan;

use super::evolve::latest_only;
use super::inputs::{Chosen, Delivery};
use super::materialize::{Failure, Mode, Node};
use super::watching::OnTheWay;
use super::world::World;
use crate::bronze::BadRows;
use crate::names::TableName;
use crate::session;
use crate::tables::{self, Published, Staged, Watch};

/// The data files of each source file that was read by itself, by path.
pub(super) type Traces = BTreeMap<String, Vec<String>>;

impl Node<'_> {
    /// Stages what a batch reads.
    pub(super) async fn stage(
        &self,
        world: &World,
        mode: Mode,
        chosen: &Chosen,
        bad_rows: &Arc<BadRows>,
        on_the_way: &OnTheWay<'_>,
    ) -> Result<(Staged, Traces), Failure> {
        if self.model.config.is_history() {
            return Ok((self.stage_history(world, mode, chosen, bad_rows).await?, Traces::new()));
        }
        let runtime = self.inputs.runtime();
        let published = world.published.as_ref();
        let kept = published.filter(|_| mode == Mode::Incremental);
        if let Some(published) = kept {
            self.check_partitions(published)?;
        }
        let (schema, reshapes) = match kept {
            Some(published) => self.evolved(&published.schema)?,
            None => (Arc::clone(&self.compiled.schema), false),
        };
        let (staged, traces) = match self.intake.traced() {
            Some(source) => self.stage_each(world, mode, source, (&schema, bad_rows), on_the_way).await?,
            None => (self.stage_files(world, mode, chosen, (&schema, bad_rows), on_the_way).await?, Traces::new()),
        };
        let staged = tables::place(&runtime.lake, kept, staged, &self.placement(&schema), &runtime.session).await?;
        let outgoing = world.taken.values().flat_map(|taken| taken.pending.outgoing()).flatten().flatten().cloned();
        let staged = self.kept_in_order(kept, staged.removing(outgoing), reshapes).await?;
        Ok((if mode == Mode::Full { staged.replacing_all() } else { staged }, traces))
    }

    /// New files go beside those that are there only if both are partitioned by the same columns.
    pub(super) fn check_partitions(&self, published: &Published) -> Result<(), Failure> {
        let (was, is) = (published.partition_columns(), &self.model.config.partition_by);
        if was == is {
            return Ok(());
        }
        Err(Failure::text(format!(
            "the table is partitioned by ({}) and the model by ({}); rebuild `{}` with --full-refresh",
            was.join(", "),
            is.join(", "),
            self.model.name
        )))
    }

    async fn stage_files(
        &self,
        world: &World,
        mode: Mode,
        chosen: &Chosen,
        (schema, bad_rows): (&SchemaRef, &Arc<BadRows>),
        on_the_way: &OnTheWay<'_>,
    ) -> Result<Staged, Failure> {
        let runtime = self.inputs.runtime();
        let mut plan = self.plan(world, mode, chosen, bad_rows).await?;
        if let Some(sieve) = &on_the_way.sieve {
            plan = sieve.over(plan, &runtime.session)?;
        }
        // A row that is left out takes the place of no other.
        if let Some(column) = self.model.config.sequence_by.as_ref().filter(|_| self.model.merges()) {
            plan = latest_only(plan, &self.model.config.unique_key, column, &runtime.session)?;
        }
        let partition_by = &self.model.config.partition_by;
        let (lake, name, session) = (&runtime.lake, &self.model.name, &runtime.session);
        // One file after the other is no new beginning.
        let watch = self.intake.traced().is_none().then_some(on_the_way as &dyn Watch);
        let staged = tables::stage_watched(lake, name, plan, schema, partition_by, session, watch).await?;
        on_the_way.wrote(&staged);
        Ok(staged)
    }

    /// Every file by itself: its data files hold its rows and no others.
    async fn stage_each(
        &self,
        world: &World,
        mode: Mode,
        source: &TableName,
        (schema, bad_rows): (&SchemaRef, &Arc<BadRows>),
        on_the_way: &OnTheWay<'_>,
    ) -> Result<(Staged, Traces), Failure> {
        let runtime = self.inputs.runtime();
        let (lake, partition_by) = (&runtime.lake, &self.model.config.partition_by);
        let mut all = Staged::nothing(lake, &self.model.name, schema, partition_by);
        let (mut traces, mut failure) = (Traces::new(), None);
        if let Some(sieve) = &on_the_way.sieve {
            sieve.begin();
        }
        for some in world.taken[source].pending.reads.chunks(runtime.options.threads.max(1)) {
            let staged = some.iter().map(|read| async {
                let delivery = Delivery { batch: Some(world.taken[source].batch), files: vec![read.file.clone()] };
                let chosen = Chosen::from([(source.clone(), delivery)]);
                self.stage_files(world, mode, &chosen, (schema, bad_rows), on_the_way).await
            });
            for (read, result) in some.iter().zip(futures::future::join_all(staged).await) {
                match result {
                    Ok(staged) => {
                        traces.insert(read.file.path.clone(), staged.paths());
                        all = all.with(staged);
                    }
                    Err(error) => failure = failure.or(Some(error)),
                }
            }
            if let Some(failure) = failure {
                all.discard(lake).await;
                return Err(failure);
            }
        }
        Ok((all, traces))
    }

    #[tracing::instrument(name = "plan", skip_all)]
    pub(super) async fn plan(
        &self,
        world: &World,
        mode: Mode,
        chosen: &Chosen,
        bad_rows: &Arc<BadRows>,
    ) -> Result<LogicalPlan, Failure> {
        if let Some(seed) = &self.model.seed {
            return self.seed_rows(seed).await;
        }
        let runtime = self.inputs.runtime();
        let rendered = self.model.rendered(mode == Mode::Incremental);
        let mut tables = self.inputs.tables(&self.model.refs, &self.model.sources, chosen, Some(bad_rows)).await?;
        self.add_changes(world, mode, &mut tables).await?;
        if let Some(published) = world.published.as_ref().filter(|_| mode == Mode::Incremental) {
            let own = tables::table_provider(published).await?;
            tables.insert(self.model.name.clone(), datafusion::datasource::provider_as_source(own));
        }
        Ok(session::plan(&runtime.session, session::parse(&rendered.sql)?, &tables)?)
    }
}
