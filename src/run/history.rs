//! Models that keep a history: which deliveries they take in, in which order, and what becomes of their versions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::logical_expr::LogicalPlan;

use super::Runtime;
use super::decide::Action;
use super::evolve::{grows, merged_types};
use super::inputs::Chosen;
use super::intake::{Intake, TakenIn, count};
use super::materialize::{Failure, Mode, Node};
use super::world::World;
use crate::bronze::{self, BadRows, BronzeFile, Entry, Manifest, Pending, Read, Why, delivery_time};
use crate::catalog::sql_type;
use crate::compile::{ColumnName, Input};
use crate::names::TableName;
use crate::project::{CheckCols, HardDeletes, HistoryStrategy, Ingestion, OnBadRow, OnChangedFile, Source};
use crate::tables::{self, History, Staged};

impl Node<'_> {
    /// Stages what a delivery adds to the history.
    pub(super) async fn stage_history(
        &self,
        world: &World,
        mode: Mode,
        chosen: &Chosen,
        bad_rows: &Arc<BadRows>,
    ) -> Result<Staged, Failure> {
        let runtime = self.inputs.runtime();
        let (lake, name, session) = (&runtime.lake, &self.model.name, &runtime.session);
        let config = &self.model.config;
        let partition_by = &config.partition_by;
        let mut history = History {
            key: &config.unique_key,
            strategy: config.strategy.unwrap_or(HistoryStrategy::Check),
            updated_at: config.updated_at.as_deref(),
            checked: Vec::new(),
            whole: self.model.reads_whole_state(&runtime.project.sources),
            deletes: config.deletes(),
            has_gaps: false,
            now: self.delivered_at(world),
            names: &config.snapshot_meta_column_names,
        };
        let Some(published) = world.published.as_ref().filter(|_| mode == Mode::Incremental) else {
            let rows = self.delivered(world, mode, chosen, bad_rows).await?;
            let schema = self.without_later_columns(&self.compiled.schema, None, world, chosen).await?;
            let table = (&schema, partition_by.as_slice());
            let staged = tables::first_versions(lake, name, rows, table, &history, session).await?;
            return Ok(if mode == Mode::Full { staged.replacing_all() } else { staged });
        };
        if published.partition_columns() != partition_by {
            let was = published.partition_columns().join(", ");
            let is = partition_by.join(", ");
            return Err(self.not_built_again(&format!("it is partitioned by ({was}) and the model by ({is})")));
        }
        self.refuse_absent(world)?;
        let schema = self.grown(&published.schema)?;
        let schema = self.without_later_columns(&schema, Some(&published.schema), world, chosen).await?;
        let queried = self.queried();
        history.checked = self.checked(&schema, &queried);
        let rows = self.delivered(world, mode, chosen, bad_rows).await?;
        let delivered = tables::stage(lake, name, rows, &queried, &[], session).await?;
        history.has_gaps = self.left_out(bad_rows, world);
        let table = (&schema, partition_by.as_slice());
        let staged = tables::add_versions(lake, published, &delivered, table, &history, session).await;
        delivered.discard(lake).await;
        Ok(staged?)
    }

    /// The rows of a delivery, as a table that is partitioned so would give them back.
    async fn delivered(
        &self,
        world: &World,
        mode: Mode,
        chosen: &Chosen,
        bad_rows: &Arc<BadRows>,
    ) -> Result<LogicalPlan, Failure> {
        let rows = self.plan(world, mode, chosen, bad_rows).await?;
        Ok(tables::without_empty(rows, &self.queried(), &self.model.config.partition_by)?)
    }

    /// The columns of the query, as they are stored.
    fn queried(&self) -> SchemaRef {
        let config = &self.model.config;
        let meta = config.snapshot_meta_column_names.of(config.deletes());
        let fields = self.compiled.schema.fields().iter().filter(|field| !meta.contains(&field.name().as_str()));
        Arc::new(Schema::new(fields.map(|field| field.as_ref().clone()).collect::<Vec<_>>()))
    }

    /// The columns that tell a version by `check`: those that both the query and the table have.
    fn checked<'a>(&'a self, schema: &Schema, queried: &'a SchemaRef) -> Vec<&'a str> {
        let both = |name: &&str| schema.field_with_name(name).is_ok();
        match &self.model.config.check_cols {
            Some(CheckCols::Columns(columns)) => columns.iter().map(String::as_str).filter(both).collect(),
            Some(CheckCols::All) => queried.fields().iter().map(|field| field.name().as_str()).filter(both).collect(),
            None => Vec::new(),
        }
    }

    /// The time of what is delivered: of its files where they come delivery by delivery, else of the run.
    fn delivered_at(&self, world: &World) -> i64 {
        let runtime = self.inputs.runtime();
        let by_delivery = |name: &TableName| self.model.by_delivery(&runtime.project.sources[name]);
        let delivery = world.taken.iter().find(|(name, _)| by_delivery(name));
        let files = delivery.into_iter().flat_map(|(_, taken)| &taken.pending.reads);
        let times = files.map(|read| delivery_time(&read.file.path, read.file.modified()));
        times.max().unwrap_or_else(|| runtime.options.started_at.timestamp_micros())
    }

    /// Whether rows or files of the delivery could not be read.
    fn left_out(&self, bad_rows: &BadRows, world: &World) -> bool {
        self.quarantined(bad_rows) > 0 || world.taken.values().any(|taken| !taken.pending.bad.is_empty())
    }

    /// A table that is not there is not a table without rows: nothing would be left of what is current.
    fn refuse_absent(&self, world: &World) -> Result<(), Failure> {
        if self.model.config.deletes() == HardDeletes::Ignore {
            return Ok(());
        }
        for input in &self.compiled.inputs {
            let name = match input {
                Input::Table(name) | Input::Source(name, _) => name,
            };
            let found = world.versions.get(&name.to_string()).map(String::as_str);
            if found.is_some_and(|found| found == "absent" || found.starts_with("0 files ")) {
                let what = if found == Some("absent") { "has no table" } else { "has no files" };
                return Err(Failure::text(format!(
                    "`{name}` {what}, and `hard_deletes` would end every current version of `{}`; nothing was published",
                    self.model.name
                )));
            }
        }
        Ok(())
    }

    /// The columns of the table after this run: a history keeps what it has.
    fn grown(&self, old: &SchemaRef) -> Result<SchemaRef, Failure> {
        use crate::project::OnSchemaChange::{Fail, Ignore};
        let config = &self.model.config;
        let meta = config.snapshot_meta_column_names.of(config.deletes());
        let mut fields: Vec<Field> = old.fields().iter().map(|field| field.as_ref().clone()).collect();
        for field in self.compiled.schema.fields() {
            let same_letters = |known: &&mut Field| known.name().to_lowercase() == field.name().to_lowercase();
            let is_meta = meta.contains(&field.name().as_str());
            let Some(known) = fields.iter_mut().find(same_letters) else {
                match config.on_schema_change {
                    Some(Fail) if !is_meta => {
                        let what = format!("column `{}` is new, and `on_schema_change` is `fail`", field.name());
                        return Err(self.not_built_again(&what));
                    }
                    Some(Ignore) if !is_meta => {}
                    _ => fields.push(field.as_ref().clone()),
                }
                continue;
            };
            if known.name() != field.name() {
                let what = format!("column `{}` is now spelled `{}`", known.name(), field.name());
                return Err(self.not_built_again(&what));
            }
            let (was, is) = (known.data_type().clone(), field.data_type());
            if !grows(&was, is) {
                let (name, was, is) = (field.name(), sql_type(&was), sql_type(is));
                return Err(self.not_built_again(&format!(
                    "column `{name}` was `{was}` and is now `{is}`; cast it to `{was}` in the model, or"
                )));
            }
            *known = Field::new(field.name(), merged_types(&was, is, false), true);
        }
        let gone = fields.iter().find(|field| self.compiled.schema.field_with_name(field.name()).is_err());
        if let Some(gone) = gone.filter(|_| config.on_schema_change == Some(Fail)) {
            let what = format!("column `{}` is gone, and `on_schema_change` is `fail`", gone.name());
            return Err(self.not_built_again(&what));
        }
        Ok(Arc::new(Schema::new(fields)))
    }

    /// A schema without the columns that a source was asked to add and that none of these files has: they come with the
    /// delivery that brings them, as if each had been built on its day.
    async fn without_later_columns(
        &self,
        schema: &SchemaRef,
        known: Option<&SchemaRef>,
        world: &World,
        chosen: &Chosen,
    ) -> Result<SchemaRef, Failure> {
        use crate::project::OnSchemaChange::{Fail, Ignore};
        let config = &self.model.config;
        let is_last = !world.taken.values().any(|taken| taken.pending.more);
        // Nobody else reads the table before its last delivery, unless it is published with others.
        if is_last || self.is_held() || matches!(config.on_schema_change, Some(Fail | Ignore)) {
            return Ok(Arc::clone(schema));
        }
        let later = self.later_columns(chosen).await?;
        let config = serde_json::to_string(config).unwrap_or_default();
        let is_named = |name: &String| {
            config.contains(&format!("\"{name}\""))
                || self.model.columns.iter().any(|declared| declared.name == *name)
                || self.tests.iter().any(|test| test.failures_sql().contains(name.as_str()))
        };
        let stays = |name: &String| {
            known.is_some_and(|known| known.field_with_name(name).is_ok()) || !later.contains(name) || is_named(name)
        };
        let fields = schema.fields().iter().filter(|field| stays(field.name())).cloned();
        Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
    }

    /// Columns of the model that are made of columns which a source was asked to add, and which these files do not have.
    async fn later_columns(&self, chosen: &Chosen) -> Result<BTreeSet<String>, Failure> {
        let Runtime { project, session, folder, memo, .. } = self.inputs.runtime();
        let mut there = BTreeSet::new();
        for (name, delivery) in chosen {
            let found =
                bronze::undeclared_columns(&project.sources[name], &delivery.files, session, folder, memo).await?;
            there.extend(found.into_iter().map(|column| (name.clone(), column)));
        }
        let lineage = &self.compiled.lineage.columns;
        let is_there = |origin: &ColumnName| {
            !chosen.contains_key(&origin.table) || there.contains(&(origin.table.clone(), origin.column.clone()))
        };
        let later = lineage
            .iter()
            .filter(|(name, made_of)| self.is_added(&self.model.name, name, false) && !made_of.keys().any(is_there));
        Ok(later.map(|(name, _)| name.clone()).collect())
    }

    fn not_built_again(&self, what: &str) -> Failure {
        let link = if what.ends_with(" or") { " " } else { "; set it back, or " };
        Failure::text(format!(
            "{what}{link}begin another history under another name: no run builds `{}` again, for it would lose what it \
             knows",
            self.model.name
        ))
    }

    /// Why an existing table has to be built again for its columns: a history never is.
    pub(super) async fn needs_rebuild(&self, world: &World) -> Result<Option<String>, Failure> {
        if self.model.config.is_history() { Ok(None) } else { self.rebuilt_for(world).await }
    }

    /// What is done, and that it is not what was asked for, if a history was to be built again.
    pub(super) fn told(&self, world: &World, action: Action) -> Action {
        let action = self.with_deferred(world, action);
        if !self.model.config.is_history() || !self.inputs.runtime().options.full_refresh {
            return action;
        }
        let told = |reason: String| format!("{reason}; --full-refresh leaves a history as it is");
        match action {
            Action::Skip(reason) => Action::Skip(told(reason)),
            Action::Incremental(reason) => Action::Incremental(told(reason)),
            Action::Full(reason) => Action::Full(reason),
        }
    }

    /// Refuses to replace a history by something else.
    pub(super) fn keeps_history(&self, world: &World) -> Result<(), Failure> {
        let was_history = world.state().is_some_and(|state| state.materialized == "scd2");
        let full_refresh = self.model.config.full_refresh.unwrap_or(self.inputs.runtime().options.full_refresh);
        if !was_history || self.model.config.is_history() || full_refresh {
            return Ok(());
        }
        let (name, is) = (&self.model.name, self.model.config.materialized.name());
        Err(Failure::text(format!(
            "`{name}` holds a history, and would lose it as `{is}`; {}give it another name",
            match self.model.config.full_refresh {
                Some(_) => "",
                None => "--full-refresh does it all the same, or ",
            }
        )))
    }

    /// Whether a batch says nothing new, so that there is nothing to publish.
    pub(super) fn is_as_before(&self, world: &World, mode: Mode, staged: &Staged) -> bool {
        let sources = &self.inputs.runtime().project.sources;
        let keeps_bad_rows = |name: &TableName| sources[name].options.on_bad_row == OnBadRow::Quarantine;
        self.model.config.is_history()
            && mode == Mode::Incremental
            && staged.is_nothing()
            && world.taken.is_empty()
            && world.published.as_ref().is_some_and(|published| published.schema == staged.schema)
            && !super::quarantine::sources_of(self.inputs, self.model).iter().any(keeps_bad_rows)
    }
}

impl Intake<'_> {
    /// Whether the files of a source come delivery by delivery.
    pub(super) fn by_delivery(&self, source: &TableName) -> bool {
        self.model.by_delivery(&self.inputs.runtime().project.sources[source])
    }

    /// The next delivery of a source whose every delivery is the whole state: all of its files, new or not.
    pub(super) async fn next_dump(&self, name: &TableName, manifest: Manifest) -> Result<TakenIn, Failure> {
        let runtime = self.inputs.runtime();
        let source = &runtime.project.sources[name];
        self.whole_deliveries_only(name)?;
        let listing = self.inputs.deliveries(name).await?;
        let mut dumps: BTreeMap<(i64, &str), Vec<&BronzeFile>> = BTreeMap::new();
        for file in &listing.files {
            dumps.entry(dump_of(file)).or_default().push(file);
        }
        let is_new = |file: &&BronzeFile| match manifest.files().get(&file.path) {
            Some(entry) => !entry.is(file) && source.ingestion.on_changed_file != OnChangedFile::Ignore,
            None => true,
        };
        let mut waiting = dumps.into_iter().filter(|(_, files)| files.iter().any(is_new));
        let mut pending = Pending::default();
        if let Some(((time, _), files)) = waiting.next() {
            let applied = |(path, entry): (&String, &Entry)| delivery_time(path, entry.modified);
            if manifest.files().iter().map(applied).max().is_some_and(|last| last > time) {
                return Err(Failure::text(format!(
                    "`{}` of `{name}` is older than what `{}` knows already: a history takes whole deliveries in order; \
                     move the file away",
                    files[0].path, self.model.name
                )));
            }
            pending.reads = files.into_iter().map(|file| read_of(file, &manifest)).collect();
            pending.more = waiting.next().is_some();
        }
        let batch = manifest.next_id(chrono::Utc::now());
        let counts = count(&pending);
        Ok(TakenIn { manifest, listing: Arc::clone(&listing), batch, pending, counts })
    }

    /// Refuses to take in some files only where each delivery is a step of the history.
    fn whole_deliveries_only(&self, source: &TableName) -> Result<(), Failure> {
        let options = &self.inputs.runtime().options;
        let model = &self.model.name;
        if options.slice.is_some() {
            return Err(Failure::text(format!(
                "`{model}` takes in the deliveries of `{source}` one after another; build it without --files, --since and \
                 --until"
            )));
        }
        if options.replay.as_ref() == Some(source) {
            return Err(Failure::text(format!(
                "`{model}` takes in the deliveries of `{source}` one after another, and quarantined rows would come too \
                 late; deliver them again"
            )));
        }
        Ok(())
    }

    /// How the files of a source are cut into batches: where they are compared, each is a step of the history.
    pub(super) fn batches_of(&self, source: &Source) -> Ingestion {
        let mut ingestion = source.ingestion.clone();
        if self.model.by_delivery(source) {
            ingestion.max_files_per_batch = Some(1);
        }
        ingestion
    }

    /// Files that are compared with what came before them come in the order of their times.
    pub(super) fn in_order(&self, source: &TableName, pending: &mut Pending) -> Result<(), Failure> {
        if self.by_delivery(source) {
            self.whole_deliveries_only(source)?;
            let time = |read: &Read| (delivery_time(&read.file.path, read.file.modified()), read.file.path.clone());
            pending.reads.sort_by_key(time);
        }
        Ok(())
    }
}

/// Which delivery a file is of: files of one day by their paths are one, a file without a date is one of its own.
fn dump_of(file: &BronzeFile) -> (i64, &str) {
    match bronze::is_dated(&file.path) {
        true => (delivery_time(&file.path, file.modified()), ""),
        false => (file.modified(), file.path.as_str()),
    }
}

fn read_of(file: &BronzeFile, manifest: &Manifest) -> Read {
    let known = manifest.files().get(&file.path);
    let why = match known {
        None => Why::New,
        Some(entry) if entry.is(file) => Why::Again(None),
        Some(_) => Why::Changed(None),
    };
    Read { file: file.clone(), why, hash: None, retried: known.is_some_and(|entry| entry.bad.is_some()) }
}
