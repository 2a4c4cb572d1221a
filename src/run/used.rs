//! Columns that nobody reads change nothing: what a model reads of its inputs, as the engine plans it, and what that held.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{LogicalPlan, TableSource};

use super::defer::origin;
use super::glance::Known;
use super::inputs::Inputs;
use super::materialize::{Failure, Node};
use super::world::World;
use crate::compile::{ColumnName, CompiledModel, Input};
use crate::names::TableName;
use crate::project::{Materialization, Model};
use crate::session::{self, Tables};
use crate::tables::{ReadColumns, TableState, columns_key};
use crate::template::source_relation;

/// So many sets of columns are summed up for those who read a table. Where there are more, it is one: of all that anybody
/// reads. Each costs as much as a column.
const MOST: usize = 3;

/// The sets of columns that models read, by table.
pub(super) type SetsRead = BTreeMap<TableName, BTreeSet<Vec<String>>>;

impl Inputs {
    /// The sets of columns of a table that stored models read, apart from all of them.
    pub(super) fn read_of(&self, table: &TableName) -> Vec<Vec<String>> {
        let all = self.runtime().compiled.schema_of(table).map_or(0, |schema| schema.fields().len());
        let sets = self.sets_read.get_or_init(|| self.find_sets_read());
        let Some(sets) = sets.get(table) else { return Vec::new() };
        let some: Vec<Vec<String>> = sets.iter().filter(|set| set.len() < all).cloned().collect();
        if some.len() <= MOST {
            return some;
        }
        let any: BTreeSet<String> = some.into_iter().flatten().collect();
        if any.len() < all { vec![any.into_iter().collect()] } else { Vec::new() }
    }

    /// What all models read of each table: looked for once in a run.
    fn find_sets_read(&self) -> SetsRead {
        let mut sets = SetsRead::new();
        for model in self.runtime().compiled.models.values() {
            for (table, columns) in self.columns_of(model) {
                sets.entry(table.clone()).or_default().insert(columns.into_iter().collect());
            }
        }
        sets
    }

    /// The columns of each table that a model reads, through views.
    fn columns_of<'a>(&'a self, model: &'a CompiledModel) -> BTreeMap<&'a TableName, BTreeSet<String>> {
        let compiled = &self.runtime().compiled;
        let tables = model.inputs.iter().filter_map(Input::table).map(|name| (name, BTreeSet::new()));
        let (mut found, mut seen): (BTreeMap<_, BTreeSet<String>>, _) = (tables.collect(), BTreeSet::new());
        let mut pending: Vec<&ColumnName> = all_read(model).collect();
        while let Some(column) = pending.pop() {
            if !seen.insert(column) {
                continue;
            }
            if let Some(columns) = found.get_mut(&column.table) {
                columns.insert(column.column.clone());
            } else if let Some(view) = compiled.models.get(&column.table).filter(|view| self.is_view(&view.name)) {
                pending.extend(view.lineage.columns.get(&column.column).into_iter().flat_map(BTreeMap::keys));
                pending.extend(&view.lineage.filters);
            }
        }
        found
    }

    fn is_view(&self, name: &TableName) -> bool {
        self.runtime().project.models.get(name).is_some_and(|model| !model.is_stored())
    }

    /// The columns of each stored table that the engine reads for a model: no other column can change its rows.
    fn planned_columns(&self, model: &Model) -> Option<BTreeMap<TableName, BTreeSet<String>>> {
        let session = &self.runtime().session;
        let plan = self.schema_plan(model).ok()?;
        let plan = session.optimize(&plan).ok()?;
        let mut found: BTreeMap<TableName, BTreeSet<String>> = BTreeMap::new();
        let walked = plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node
                && let Some(schema) = scan.table_name.schema()
            {
                let columns = found.entry(TableName::new(schema, scan.table_name.table())).or_default();
                columns.extend(scan.projected_schema.fields().iter().map(|field| field.name().clone()));
                let filters = scan
                    .filters
                    .iter()
                    .flat_map(|filter| filter.column_refs().into_iter().cloned().collect::<Vec<_>>());
                columns.extend(filters.map(|column| column.name));
            }
            Ok(TreeNodeRecursion::Continue)
        });
        walked.is_ok().then_some(found)
    }

    /// The query of a model over tables without rows; views are looked through.
    fn schema_plan(&self, model: &Model) -> Result<LogicalPlan, datafusion::error::DataFusionError> {
        let (runtime, mut tables) = (self.runtime(), Tables::new());
        let bare = |schema: &datafusion::arrow::datatypes::SchemaRef| -> Arc<dyn TableSource> {
            provider_as_source(Arc::new(EmptyTable::new(Arc::clone(schema))))
        };
        for name in &model.refs {
            let Some(read) = runtime.project.models.get(name) else { continue };
            let source = match read.is_stored() {
                true => runtime.compiled.schema_of(name).map(&bare),
                false => Some(provider_as_source(Arc::new(ViewTable::new(self.schema_plan(read)?, None)))),
            };
            if let Some(source) = source {
                tables.insert(name.clone(), source);
            }
        }
        for (name, read) in &model.sources {
            if let Some(schema) = runtime.compiled.sources.get(name) {
                tables.insert(source_relation(name, *read), bare(schema));
            }
        }
        session::plan(&runtime.session, session::parse(&model.full.sql)?, &tables)
    }
}

/// All columns that decide the rows of a model, one step up.
fn all_read(model: &CompiledModel) -> impl Iterator<Item = &ColumnName> {
    model.lineage.columns.values().flat_map(BTreeMap::keys).chain(&model.lineage.filters)
}

impl Inputs {
    /// What sets of columns hold of a table as this run sees it, if its last commit says so.
    pub(super) async fn contents(&self, name: &TableName) -> Result<Option<BTreeMap<String, String>>, Failure> {
        if let Some(held) = self.held(name) {
            return Ok(Some(held.projections()).filter(|contents| !contents.is_empty()));
        }
        let known = match self.deferred(name).await? {
            Some(other) => Some(Known::Loaded(Box::new(other))),
            None => self.known(name).await?,
        };
        let state = known.as_ref().and_then(Known::state);
        Ok(state.map(|state| state.projections.clone()).filter(|contents| !contents.is_empty()))
    }
}

impl Node<'_> {
    /// What this build reads of tables, and what that holds: for those that say it of a set that has all of these columns.
    pub(super) fn reads(&self, world: &World) -> BTreeMap<String, ReadColumns> {
        let is_made_anew = self.model.config.materialized == Materialization::Table && self.model.seed.is_none();
        if !is_made_anew || world.contents.is_empty() {
            return BTreeMap::new();
        }
        let Some(planned) = self.inputs.planned_columns(self.model) else { return BTreeMap::new() };
        let read = |(name, contents): (&TableName, &BTreeMap<String, String>)| {
            let used: Vec<String> = planned.get(name)?.iter().cloned().collect();
            let (key, content) = contents.iter().find(|(key, _)| has_all(key, &used))?;
            Some((name.to_string(), ReadColumns { of: key.clone(), content: content.clone() }))
        };
        world.contents.iter().filter_map(read).collect()
    }

    /// Inputs whose version is another one, and whose columns that were read hold what they held.
    pub(super) fn as_they_were(&self, world: &World) -> BTreeSet<String> {
        let Some(state) = world.state() else { return BTreeSet::new() };
        let from = |versions: &BTreeMap<String, String>, name: &String| {
            versions.get(name).and_then(|version| origin(version)).map(str::to_owned)
        };
        let mut same = as_they_were(state, &world.contents);
        // A table of one lake is not one of another, whatever both hold.
        same.retain(|name| from(&state.inputs, name) == from(&world.versions, name));
        same
    }
}

/// Whether a set of columns, as it stands in a commit, has all of these.
fn has_all(key: &str, used: &[String]) -> bool {
    let set: Vec<String> = serde_json::from_str(key).unwrap_or_default();
    debug_assert_eq!(columns_key(&set), key);
    used.iter().all(|column| set.contains(column))
}

fn as_they_were(state: &TableState, contents: &BTreeMap<TableName, BTreeMap<String, String>>) -> BTreeSet<String> {
    let same = |(name, now): (&TableName, &BTreeMap<String, String>)| {
        let read = state.read.get(name.as_str())?;
        (now.get(&read.of) == Some(&read.content)).then(|| name.to_string())
    };
    contents.iter().filter_map(same).collect()
}
