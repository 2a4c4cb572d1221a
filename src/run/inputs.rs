//! What models read in this run: each source listed once, each table at one version.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock};

use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::LogicalPlan;
use futures::StreamExt;
use futures::future::BoxFuture;
use tokio::sync::OnceCell;

use super::{Runtime, SharedRuntime};
use crate::bronze::{self, BadRows, BronzeError, BronzeFile, Listing};
use crate::exact_files::{empty, rows_of};
use crate::names::{TableName, nearest};
use crate::project::{Format, OnBadRow, OnNewColumn, Source};
use crate::session::{self, Tables};
use crate::tables::{self, Glance, Phase, Published, TableError};
use crate::template::{SourceRead, plain_relation, source_relation};

use super::anomalies::Measured;
use super::materialize::Failure;
use super::quarantine;
use super::reconciled::Holds;
use super::together::Held;
use super::used::SetsRead;
use super::{chronicle, left_out};

/// A source, and the name that an incremental listing of it begins after.
type ListingKey = (TableName, Option<String>);

/// What a newest commit says, asked for once; `None` where that is not enough.
type Glanced = Arc<OnceCell<Option<Arc<Glance>>>>;

/// The world as this run sees it.
pub struct Inputs {
    runtime: SharedRuntime,
    listings: Mutex<HashMap<ListingKey, Arc<OnceCell<Arc<Listing>>>>>,
    deliveries: Mutex<HashMap<TableName, Arc<OnceCell<Arc<Listing>>>>>,
    published: Mutex<HashMap<TableName, Arc<OnceCell<Option<Published>>>>>,
    /// What their newest commits say, of tables that were not loaded for it.
    glances: Mutex<HashMap<TableName, Glanced>>,
    /// Tables of the lake that this run defers to.
    pub(super) of_other: Mutex<BTreeMap<TableName, Arc<OnceCell<Option<Published>>>>>,
    /// Models whose tables are published together with others.
    together: OnceLock<BTreeSet<TableName>>,
    /// Those of them that are staged.
    held: Mutex<BTreeMap<TableName, Arc<Held>>>,
    /// What models read of each table.
    pub(super) sets_read: OnceLock<SetsRead>,
    /// What tests measured in earlier runs.
    measured: OnceCell<Measured>,
    /// The files of sources that tables of this run hold the rows of.
    files_held: Mutex<HashMap<(TableName, TableName), Holds>>,
}

/// Which files of a model's own sources its query reads; others are read whole.
pub(super) type Chosen = BTreeMap<TableName, Delivery>;

/// Files, and the batch of the manifest that takes them in, if one does.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) batch: Option<i64>,
    pub(super) files: Vec<BronzeFile>,
}

impl Inputs {
    /// Nothing is read yet.
    pub fn new(runtime: SharedRuntime) -> Self {
        let listed = runtime.listings.iter();
        let cell = |files: &Arc<Listing>| Arc::new(OnceCell::new_with(Some(Arc::clone(files))));
        let listed = listed.map(|(name, files)| ((name.clone(), None), cell(files)));
        let listings = Mutex::new(listed.collect());
        let (published, deliveries, held) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self {
            listings,
            runtime,
            deliveries,
            published,
            glances: Mutex::default(),
            of_other: Mutex::default(),
            together: OnceLock::new(),
            held,
            sets_read: OnceLock::new(),
            measured: OnceCell::new(),
            files_held: Mutex::default(),
        }
    }

    /// The runtime that these inputs belong to.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Tells those who watch a run what is done for a table from now on.
    pub(super) fn enter(&self, name: &TableName, phase: Phase) {
        self.runtime.lake.gauge(name).iter().for_each(|gauge| gauge.enter(phase));
    }

    /// What tests measured in earlier runs, read at the first call.
    pub(super) async fn measured(&self) -> Result<&Measured, Failure> {
        self.measured.get_or_try_init(|| self.read_measured()).await
    }

    /// The rows of a table that is about to be published are those of these files of a source.
    pub(super) fn set_held(&self, table: &TableName, source: &TableName, files: Holds) {
        self.files_held.lock().expect("no holder panics").insert((table.clone(), source.clone()), files);
    }

    pub(super) fn held_files(&self, table: &TableName, source: &TableName) -> Option<Holds> {
        self.files_held.lock().expect("no holder panics").get(&(table.clone(), source.clone())).cloned()
    }

    /// The files of a source, listed at the first call.
    pub(super) async fn listing(&self, name: &TableName) -> Result<Arc<Listing>, Failure> {
        self.listing_after(name, None).await
    }

    /// The files of a source whose paths sort after one.
    pub(super) async fn listing_after(&self, name: &TableName, after: Option<&str>) -> Result<Arc<Listing>, Failure> {
        let key = (name.clone(), after.map(str::to_owned));
        let cell = Arc::clone(self.listings.lock().expect("no holder panics").entry(key).or_default());
        let source = &self.runtime.project.sources[name];
        let list = || async { bronze::list(source, &self.runtime.folder, after).await.map(Arc::new) };
        Ok(Arc::clone(cell.get_or_try_init(list).await?))
    }

    /// All files of a source, also those that newer deliveries have replaced, listed at the first call.
    pub(super) async fn deliveries(&self, name: &TableName) -> Result<Arc<Listing>, Failure> {
        let cell = Arc::clone(self.deliveries.lock().expect("no holder panics").entry(name.clone()).or_default());
        let source = &self.runtime.project.sources[name];
        let list = || async { bronze::list_deliveries(source, &self.runtime.folder).await.map(Arc::new) };
        Ok(Arc::clone(cell.get_or_try_init(list).await?))
    }

    /// Lists a source again: another run has moved its files.
    pub(super) fn forget_listing(&self, name: &TableName) {
        self.deliveries.lock().expect("no holder panics").remove(name);
        self.listings.lock().expect("no holder panics").retain(|(listed, _), _| listed != name);
    }

    /// Refuses files with columns that their source does not have, if it says so. One that adds them has those of all
    /// files that were there when the project was compiled.
    pub(super) async fn check_columns(&self, name: &TableName, files: &[BronzeFile]) -> Result<(), Failure> {
        let Runtime { project, compiled, session, folder, memo, listings, .. } = self.runtime();
        let (source, schema) = (&project.sources[name], &compiled.sources[name]);
        let looked_at = |file: &&BronzeFile| {
            let known = listings.get(name).and_then(|listing| listing.get(&file.path));
            known.is_some_and(|known| known.meta.size == file.meta.size && known.modified() == file.modified())
        };
        match source.ingestion.on_new_column {
            OnNewColumn::Ignore | OnNewColumn::Rescue => Ok(()),
            OnNewColumn::Fail => Ok(bronze::refuse_new_columns(source, schema, files, session, folder, memo).await?),
            OnNewColumn::Add => {
                let late: Vec<BronzeFile> = files.iter().filter(|file| !looked_at(file)).cloned().collect();
                match bronze::refuse_new_columns(source, schema, &late, session, folder, memo).await {
                    Err(BronzeError::NewColumns { file, .. }) => Err(Failure::text(format!(
                        "`{file}` came with new columns while the project was built: build again"
                    ))),
                    other => Ok(other?),
                }
            }
        }
    }

    /// Before rows of these sources are published: columns that they have are columns that they keep.
    pub(super) async fn remember_columns(&self, source: &TableName) -> Result<(), Failure> {
        let Runtime { project, lake, session, .. } = self.runtime();
        let source = &project.sources[source];
        if source.ingestion.on_new_column == OnNewColumn::Add {
            bronze::remember(&lake.files(), source, &self.source_schema(&source.name), session).await?;
        }
        Ok(())
    }

    /// The version of a Delta source, opened at the first call: all models of a run read the same one.
    pub(super) async fn delta_source(&self, source: &Source) -> Result<Published, Failure> {
        let cell = Arc::clone(self.published.lock().expect("no holder panics").entry(source.name.clone()).or_default());
        let opened = cell
            .get_or_try_init(|| async {
                let opened = tables::open_source(source, &self.runtime.folder).await;
                opened.map(Some).map_err(|error| Failure::text(error.to_string()))
            })
            .await?;
        Ok(opened.clone().expect("a source that is not there is an error"))
    }

    /// What a source holds in this run, as a fingerprint; `None` if nothing.
    pub(super) async fn source_state(&self, name: &TableName) -> Result<(String, bool), Failure> {
        let source = &self.runtime.project.sources[name];
        if source.format == Format::Delta {
            return Ok((format!("version {}", self.delta_source(source).await?.version()), true));
        }
        let listing = self.listing(name).await?;
        Ok((listing.fingerprint(), !listing.files.is_empty()))
    }

    /// The published version of a table, inspected at the first call.
    pub(super) async fn published(&self, name: &TableName) -> Result<Option<Published>, Failure> {
        let cell = Arc::clone(self.published.lock().expect("no holder panics").entry(name.clone()).or_default());
        let published = cell.get_or_try_init(|| self.load(name)).await?;
        Ok(published.clone())
    }

    /// All nodes of a run see one version of a table, whoever looked first, and however closely.
    async fn load(&self, name: &TableName) -> Result<Option<Published>, TableError> {
        let glances = self.glances.lock().expect("no holder panics").get(name).cloned();
        let glance = glances.and_then(|cell| cell.get().cloned()).flatten();
        if let Some(glance) = glance
            && let Ok(published) = self.runtime.lake.inspect_at(name, glance.version).await
        {
            return Ok(Some(published));
        }
        self.runtime.lake.inspect(name).await
    }

    /// A table that was loaded or built before, and whether it is there.
    pub(super) fn loaded(&self, name: &TableName) -> Option<Option<Published>> {
        self.published.lock().expect("no holder panics").get(name).and_then(|cell| cell.get().cloned())
    }

    /// What the newest commit of a table says, read at the first call; `None` where that is not enough.
    pub(super) async fn glance(&self, name: &TableName) -> Option<Arc<Glance>> {
        let cell = Arc::clone(self.glances.lock().expect("no holder panics").entry(name.clone()).or_default());
        cell.get_or_init(|| async { self.runtime.lake.glance(name).await.map(Arc::new) }).await.clone()
    }

    /// Looks at tables of a bucket before the run comes to them: one after the other, each would wait for the answers to a
    /// handful of requests.
    pub(super) async fn look_ahead(self: &Arc<Self>, names: BTreeSet<TableName>) {
        const AT_ONCE: usize = 32;
        if self.runtime.lake.place().store.is_local() {
            return;
        }
        let look = |name: TableName| {
            let inputs = Arc::clone(self);
            // What goes wrong is told when the table is needed, and looked at again.
            tokio::spawn(async move { inputs.known(&name).await.is_ok() })
        };
        futures::stream::iter(names).map(look).buffer_unordered(AT_ONCE).for_each(|_| async {}).await;
    }

    /// Looks again at a table that another run has changed.
    pub(super) fn forget(&self, name: &TableName) {
        self.published.lock().expect("no holder panics").remove(name);
        self.glances.lock().expect("no holder panics").remove(name);
    }

    /// Says which models are published together with others, before the first of them runs.
    pub(super) fn set_together(&self, names: BTreeSet<TableName>) {
        // A run has one schedule.
        let _ = self.together.set(names);
    }

    pub(super) fn is_together(&self, name: &TableName) -> bool {
        self.together.get().is_some_and(|names| names.contains(name))
    }

    /// A table that is staged and waits for others.
    pub(super) fn hold(&self, held: Held) {
        self.held.lock().expect("no holder panics").insert(held.name().clone(), Arc::new(held));
    }

    pub(super) fn held(&self, name: &TableName) -> Option<Arc<Held>> {
        self.held.lock().expect("no holder panics").get(name).cloned()
    }

    pub(super) fn release(&self, name: &TableName) -> Option<Arc<Held>> {
        self.held.lock().expect("no holder panics").remove(name)
    }

    /// This run has published a table.
    pub(super) fn set_published(&self, published: Published) {
        let name = published.name.clone();
        let cell = Arc::new(OnceCell::new_with(Some(Some(published))));
        self.published.lock().expect("no holder panics").insert(name, cell);
    }

    /// The tables that a query over `reads` may name. `chosen` files stand for the whole of their source; `bad_rows`
    /// learns of rows that do not fit.
    pub(super) fn tables<'a>(
        &'a self,
        refs: &'a [TableName],
        sources: &'a [(TableName, SourceRead)],
        chosen: &'a Chosen,
        bad_rows: Option<&'a Arc<BadRows>>,
    ) -> BoxFuture<'a, Result<Tables, Failure>> {
        Box::pin(async move {
            let mut tables = Tables::new();
            for name in refs {
                self.add_model(&mut tables, name, bad_rows).await?;
            }
            for (name, read) in sources {
                let source = &self.runtime.project.sources[name];
                if source.format == Format::Delta {
                    let delta = self.delta_source(source).await?;
                    let rows = rows_of(tables::table_provider(&delta).await?, &self.source_schema(name))?;
                    let table = Arc::new(ViewTable::new(rows, None));
                    tables.insert(source_relation(name, *read), provider_as_source(table));
                    continue;
                }
                let listing;
                let (files, batch) = match (read, chosen.get(name)) {
                    (SourceRead::Changes, Some(delivery)) => (&delivery.files, delivery.batch),
                    _ => {
                        listing = self.listing(name).await?;
                        (&listing.files, None)
                    }
                };
                let schema = self.source_schema(name);
                let folder = &self.runtime.folder;
                let table = bronze::scan(source, &schema, files, folder, batch, bad_rows).await?;
                tables.insert(source_relation(name, *read), provider_as_source(table));
            }
            Ok(tables)
        })
    }

    pub(super) fn source_schema(&self, name: &TableName) -> datafusion::arrow::datatypes::SchemaRef {
        Arc::clone(&self.runtime.compiled.sources[name])
    }

    async fn add_model(
        &self,
        tables: &mut Tables,
        name: &TableName,
        bad_rows: Option<&Arc<BadRows>>,
    ) -> Result<(), Failure> {
        let Some(model) = self.runtime.project.models.get(name) else { return Ok(()) };
        let Some(compiled) = self.runtime.compiled.models.get(name) else {
            return Err(Failure::text(format!("`{name}` does not compile")));
        };
        let provider = if let Some(held) = self.held(name) {
            Arc::clone(&held.future)
        } else if model.is_stored() {
            match self.readable(name).await? {
                Some(published) => tables::table_provider(&published).await?,
                None => empty(Arc::clone(&compiled.schema)),
            }
        } else {
            Arc::new(ViewTable::new(self.view_plan(name, bad_rows).await?, None))
        };
        tables.insert(name.clone(), provider_as_source(provider));
        Ok(())
    }

    /// The query of a view, over what it reads.
    pub(super) async fn view_plan(
        &self,
        name: &TableName,
        bad_rows: Option<&Arc<BadRows>>,
    ) -> Result<LogicalPlan, Failure> {
        let model = &self.runtime.project.models[name];
        let tables = self.tables(&model.refs, &model.sources, &Chosen::new(), bad_rows).await?;
        Ok(session::plan(&self.runtime.session, session::parse(&model.full.sql)?, &tables)?)
    }

    /// Tables for a query that names models and sources freely, as tests do.
    pub(super) async fn tables_named(&self, names: &[TableName]) -> Result<Tables, Failure> {
        let (refs, sources): (Vec<TableName>, Vec<TableName>) =
            names.iter().cloned().partition(|name| self.runtime.project.models.contains_key(name));
        let sources: Vec<_> = sources.into_iter().map(|name| (name, SourceRead::Changes)).collect();
        let mut tables = self.tables(&refs, &sources, &Chosen::new(), None).await?;
        for (name, _) in sources {
            // Outside of a model both ways to read a source are the same rows: one scan serves both names.
            if let Some(scan) = tables.get(&name).cloned() {
                tables.insert(source_relation(&name, SourceRead::All), scan);
            }
        }
        Ok(tables)
    }

    /// Whether there is such a model or source.
    pub(super) fn knows(&self, name: &TableName) -> bool {
        self.runtime.project.models.contains_key(name) || self.runtime.compiled.sources.contains_key(name)
    }

    /// Plans SQL over any tables of the project: `lake show`.
    ///
    /// # Errors
    /// When the SQL does not plan or a table cannot be read.
    pub async fn plan_query(&self, sql: &str) -> Result<LogicalPlan, Failure> {
        let statement = session::parse(sql)?;
        let named = named_tables(&statement)?;
        let names: Vec<TableName> = named.iter().filter(|name| self.knows(name)).cloned().collect();
        let mut tables = self.tables_named(&names).await?;
        self.add_quarantines(&named, &mut tables).await?;
        self.add_chronicles(&named, &mut tables).await?;
        session::plan(&self.runtime.session, statement, &tables).map_err(|error| self.unknown_table(error))
    }

    /// What was left out of each source or model, `quarantine.<source>__<table>`, unless a model has that name.
    async fn add_quarantines(&self, named: &[TableName], tables: &mut Tables) -> Result<(), Failure> {
        let sources = self.runtime.project.sources.values();
        let kept = sources.filter(|source| source.options.on_bad_row == OnBadRow::Quarantine);
        let of_sources = kept.map(|source| quarantine::table_of(&source.name));
        for table in of_sources.chain(left_out::tables(&self.runtime.compiled)) {
            let name = TableName::new("quarantine", table.table);
            if named.contains(&name)
                && tables.get(&name).is_none()
                && let Some(found) = self.runtime.lake.inspect(&table).await?
            {
                tables.insert(name, provider_as_source(tables::table_provider(&found).await?));
            }
        }
        Ok(())
    }

    /// What happened in runs: `_lake.runs` and its kin, once there are any.
    async fn add_chronicles(&self, named: &[TableName], tables: &mut Tables) -> Result<(), Failure> {
        for name in chronicle::tables().filter(|name| named.contains(name)) {
            if let Some(found) = self.runtime.lake.inspect(&name).await? {
                tables.insert(name, provider_as_source(tables::table_provider(&found).await?));
            }
        }
        Ok(())
    }

    /// Says how to name a table that a query of the command line got wrong.
    fn unknown_table(&self, error: datafusion::error::DataFusionError) -> Failure {
        let text = error.find_root().strip_backtrace();
        let missing = text.split_once("table '").and_then(|(_, rest)| rest.split_once("' not found"));
        let Some((name, _)) = missing else { return error.into() };
        let known: Vec<String> = self
            .runtime
            .project
            .models
            .keys()
            .chain(self.runtime.compiled.sources.keys())
            .map(ToString::to_string)
            .collect();
        let same = known.iter().find(|full| full.rsplit('.').next() == Some(name)).map(String::as_str);
        match same.or_else(|| nearest(name, known.iter().map(String::as_str))) {
            Some(near) => Failure::text(format!("there is no table `{name}`; did you mean `{near}`?")),
            None => Failure::text(format!("there is no table `{name}`; `lake ls` lists all")),
        }
    }
}

/// `schema.table` names in a statement.
pub(super) fn named_tables(
    statement: &datafusion::sql::parser::Statement,
) -> Result<Vec<TableName>, datafusion::error::DataFusionError> {
    Ok(session::tables_of(statement)?.iter().map(plain_relation).collect())
}
