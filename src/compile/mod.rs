//! Graph + [`Catalog`] -> [`CompiledProject`]: every model typed, every test planned, before a row moves.
//!
//! Each model's SQL becomes a logical plan over the *schemas* of what it reads, parents first and in
//! parallel where the graph allows. Synchronous and pure. A broken model is reported once; what reads it
//! is left unchecked.

mod changes;
mod contract;
mod errors;
mod exports;
mod facts;
mod fingerprint;
mod history;
mod hooks;
pub mod impact;
mod kept;
mod layout;
mod lineage;
mod lints;
mod microbatch;
mod parts;
mod plain_tests;
mod product;
mod proofs;
mod seeds;
mod sensitive;
mod shape;
pub mod state;
mod strategy;
mod tests;
mod unit_rows;
mod unit_runs;
mod unit_tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::logical_plan::builder::LogicalTableSource;
use rayon::prelude::*;

use crate::catalog::{Catalog, sql_type, stored_schema};
use crate::diagnostics::{Diagnostic, Diagnostics, Id, Severity};
use crate::graph::Graph;
use crate::memo::{Key, KeyMaker, Memo};
use crate::names::TableName;
use crate::project::{Format, Model, Project};
use crate::session::{self, Tables};
use crate::template::{Rendered, SourceRead, source_relation};

pub use facts::{ColumnFacts, Facts};
pub use fingerprint::depends_on_more_than_its_row;
pub use lineage::{ColumnName, Lineage, Use};
pub(crate) use microbatch::cut_by_time;
pub use parts::{Parts, changed as changed_parts, parts};
pub use product::{CompiledModel, CompiledProject, Input};
pub use sensitive::Sensitive;
pub use shape::{ColumnShape, Shape};
pub use tests::{CompiledTest, bound, condition};
pub use unit_rows::{typed_rows, typed_value};
pub use unit_runs::compile_runs;
pub use unit_tests::{
    CompiledUnitTest, compared_columns, input_schema, insert_given, macro_query, plan_rows, unit_plan,
};

/// Compiles every model and test.
pub fn compile(
    project: &Project,
    graph: &Graph,
    catalog: &Catalog,
    session: &SessionState,
    memo: &Memo,
    diagnostics: &mut Diagnostics,
) -> CompiledProject {
    let source_keys = catalog.sources.iter().map(|(name, schema)| (name.clone(), source_key(project, name, schema)));
    let source_keys = source_keys.collect();
    let mut compiler = Compiler { project, session, catalog, memo, source_keys, done: BTreeMap::new() };
    let mut unchecked = Vec::new();
    for level in levels(project, graph) {
        let (ready, waiting): (Vec<&Model>, Vec<&Model>) = level.into_iter().partition(|m| compiler.is_ready(m));
        // What is wrong with the file of a seed has been told.
        let waiting = waiting.into_iter().filter(|model| model.seed.is_none());
        unchecked.extend(waiting.map(|model| model.name.clone()));
        let results: Vec<_> = ready.par_iter().map(|model| compiler.model(model)).collect();
        for (model, result) in ready.into_iter().zip(results) {
            match result {
                Ok((compiled, warnings)) => {
                    diagnostics.extend(warnings);
                    compiler.done.insert(model.name.clone(), compiled);
                }
                Err(problems) => diagnostics.extend(problems),
            }
        }
    }
    let tests = compiler.tests(diagnostics);
    let unit_tests = compiler.unit_tests(diagnostics);
    compiler.check_hooks(diagnostics);
    let mut tests_on: BTreeMap<TableName, Vec<usize>> = BTreeMap::new();
    for (index, test) in tests.iter().enumerate() {
        if let Some(table) = &test.table {
            tests_on.entry(table.clone()).or_default().push(index);
        }
    }
    let sensitive = sensitive::columns(project, graph, &compiler.done);
    diagnostics.extend(sensitive::forbidden(project, &sensitive));
    diagnostics.extend(exports::check(project, &compiler.done, &sensitive));
    diagnostics.extend(sensitive::told_by_tests(&tests, &sensitive));
    let (models, sources) = (compiler.done, catalog.sources.clone());
    CompiledProject { models, tests, tests_on, unit_tests, sources, unchecked, sensitive }
}

/// Models by the length of the longest path from a root: those of one level do not read one another.
fn levels<'a>(project: &'a Project, graph: &Graph) -> Vec<Vec<&'a Model>> {
    let mut depth: HashMap<&TableName, usize> = HashMap::new();
    let mut levels: Vec<Vec<&Model>> = Vec::new();
    for name in graph.order() {
        let Some(model) = project.models.get(name) else { continue };
        let level = graph.parents(name).iter().filter_map(|parent| depth.get(parent)).max().map_or(0, |d| d + 1);
        depth.insert(&model.name, level);
        levels.resize_with(levels.len().max(level + 1), Vec::new);
        levels[level].push(model);
    }
    levels
}

/// Everything about a source that decides how what reads it compiles.
fn source_key(project: &Project, name: &TableName, schema: &SchemaRef) -> Key {
    let declared = project.sources.get(name).map(fingerprint::source);
    let event_time = project.sources.get(name).and_then(|source| source.event_time.as_ref()).map(|(column, _)| column);
    let ingestion = project.sources.get(name).map(|source| &source.ingestion);
    let arrives = ingestion.map(|ingestion| (ingestion.snapshot, ingestion.needs_traces()));
    KeyMaker::new("source").value(&**schema).value(&declared).value(&event_time).value(&arrives).finish()
}

/// The schema that compiling sees of a table.
fn schema_source(schema: &SchemaRef) -> Arc<LogicalTableSource> {
    Arc::new(LogicalTableSource::new(Arc::clone(schema)))
}

struct Compiler<'a> {
    project: &'a Project,
    session: &'a SessionState,
    catalog: &'a Catalog,
    memo: &'a Memo,
    /// What decides what a source gives.
    source_keys: BTreeMap<TableName, Key>,
    done: BTreeMap<TableName, CompiledModel>,
}

impl Compiler<'_> {
    /// The schema of a model or source that has one.
    fn schema_of(&self, name: &TableName) -> Option<&SchemaRef> {
        self.done.get(name).map(|model| &*model.schema).or_else(|| self.catalog.sources.get(name))
    }

    /// Whether everything that a model reads has a schema.
    fn is_ready(&self, model: &Model) -> bool {
        model.seed.as_ref().is_none_or(|seed| self.catalog.seeds.contains_key(&seed.name))
            && model.refs.iter().all(|name| self.done.contains_key(name))
            && model.sources.iter().all(|(name, _)| self.catalog.sources.contains_key(name))
    }

    /// A model in all its variants: as an earlier run typed it, if nothing that decides it has changed.
    fn model(&self, model: &Model) -> Result<(CompiledModel, Vec<Diagnostic>), Vec<Diagnostic>> {
        if let Some(seed) = &model.seed {
            return self.seed(model, seed);
        }
        let made_from = self.key_of_model(model);
        if let Some(kept) = self.memo.get(made_from) {
            return Ok(kept);
        }
        let product = self.type_model(model, made_from)?;
        self.memo.put(made_from, &product);
        Ok(product)
    }

    fn type_model(&self, model: &Model, made_from: Key) -> Result<(CompiledModel, Vec<Diagnostic>), Vec<Diagnostic>> {
        let refused = self.check_changes(model);
        if !refused.is_empty() {
            return Err(refused);
        }
        let visible = self.visible_tables(model);
        let full = self.plan(model, &model.full, &visible)?;
        let queried = self.output_schema(model, &full).map_err(|d| vec![d])?;
        let problems = history::check(model, &self.project.sources, &queried);
        if !problems.is_empty() {
            return Err(problems);
        }
        let schema = history::with_meta(model, &queried);
        let mut warnings = self.check_columns(model, &schema)?;
        warnings.extend(full.warnings);
        let mut volatile = fingerprint::volatile_function(&full.plan);
        if model.timeless.is_some() {
            volatile = Some("run_started_at".to_owned());
        }
        let mut lineage = lineage::of_plan(&full.plan);
        let (mut shape, mut statements) = (full.shape, vec![full.text]);
        let mut facts = facts::of_plan(&full.plan);
        if let Some(rendered) = &model.incremental {
            let mut with_this = visible;
            with_this.insert(model.name.clone(), schema_source(&schema));
            let incremental = self.plan(model, rendered, &with_this)?;
            let own = self.output_schema(model, &incremental).map_err(|d| vec![d])?;
            same_columns(model, &schema, &own).map_err(|d| vec![d])?;
            volatile = volatile.or_else(|| fingerprint::volatile_function(&incremental.plan));
            lineage.merge(lineage::of_plan(&incremental.plan));
            facts = facts.and(&facts::of_plan(&incremental.plan));
            shape.merge(incremental.shape);
            warnings.extend(incremental.warnings);
            statements.push(incremental.text);
        }
        if warnings.iter().any(|d| d.severity == Severity::Error) {
            return Err(warnings);
        }
        // A history has several versions of a row, and a stored column may be of another type than the queried one.
        let facts = if model.config.is_history() {
            Facts::default()
        } else {
            facts.stored_as(full.plan.schema().as_arrow(), &schema).partitioned(&schema, &model.config.partition_by)
        };
        let (inputs, parents) = self.inputs(model);
        volatile = volatile.or_else(|| parents.iter().find_map(|view| view.volatile.clone()));
        refuse_doubling(model, &parents, self.project).map_err(|d| vec![d])?;
        let definition = fingerprint::definition(model, &statements, &parents, self.project);
        if let Some(timeless) = self.timeless_shape(model, &schema) {
            shape = timeless;
        }
        history::add_origins(model, &mut lineage, &mut shape);
        shape.body = state::body(model, &statements);
        let mut compiled = CompiledModel {
            name: model.name.clone(),
            schema: schema.into(),
            inputs,
            definition,
            content: None,
            volatile,
            lineage: lineage.into(),
            shape: shape.into(),
            facts: facts.into(),
            key: Key::default(),
            made_from,
        };
        compiled.key = compiled.key_for_readers(model);
        Ok((compiled, warnings))
    }

    /// Only what the model names with `ref` and `source`: anything else has no edge in the graph.
    fn visible_tables(&self, model: &Model) -> Tables {
        let mut visible = Tables::new();
        for name in &model.refs {
            if let Some(schema) = self.schema_of(name) {
                visible.insert(name.clone(), schema_source(schema));
            }
        }
        for (name, read) in &model.sources {
            if let Some(schema) = self.schema_of(name) {
                visible.insert(source_relation(name, *read), schema_source(schema));
            }
        }
        self.add_ref_reads(model, &mut visible);
        visible
    }

    fn plan(&self, model: &Model, rendered: &Rendered, tables: &Tables) -> Result<Planned, Vec<Diagnostic>> {
        let written = errors::Written::new(rendered, || self.project.trace_model(model, rendered));
        let place = errors::Place::Template(&written);
        let statement = session::parse(&rendered.sql).map_err(|error| vec![errors::syntax(&error, &place)])?;
        let text = fingerprint::canonical(&statement);
        let findings = lints::of_statement(&statement, &written, model.config.contract);
        let plans = session::plan_in_steps(self.session, statement, tables).map_err(|error| {
            let around = errors::Surroundings { visible: tables, project: self.project, own: &model.name };
            errors::plan(&error, &place, &around)
        })?;
        let mut warnings = findings.with_plan(&plans.as_written, &written);
        warnings.extend(contract::nulls(model, &plans.analyzed, &written));
        let warnings = lints::at_levels(model, warnings);
        let shape = shape::of_plan(&plans.as_written, &plans.analyzed);
        Ok(Planned { plan: plans.analyzed, text, shape, warnings })
    }

    /// The shape of a model that shows the clock: as it would be in 1970.
    fn timeless_shape(&self, model: &Model, schema: &SchemaRef) -> Option<Shape> {
        let mut tables = self.visible_tables(model);
        tables.insert(model.name.clone(), schema_source(schema));
        let mut shapes = model.timeless.as_ref()?.iter().filter_map(|sql| {
            let plans = session::plan_in_steps(self.session, session::parse(sql).ok()?, &tables).ok()?;
            Some(shape::of_plan(&plans.as_written, &plans.analyzed))
        });
        let mut all = shapes.next()?;
        shapes.for_each(|shape| all.merge(shape));
        Some(all)
    }

    fn output_schema(&self, model: &Model, planned: &Planned) -> Result<SchemaRef, Diagnostic> {
        let schema: Schema = planned.plan.schema().as_arrow().clone();
        if let Some(twice) = first_duplicate(&schema) {
            return Err(Diagnostic::error(Id::InvalidSql, format!("two columns are called `{twice}`"))
                .at(model.span())
                .help("give one of them another name with `as`"));
        }
        if !model.is_stored() {
            return Ok(Arc::new(schema));
        }
        stored_schema(&schema).map_err(|(column, why)| {
            Diagnostic::error(Id::TypeMismatch, format!("column `{column}` cannot be stored: {why}")).at(model.span())
        })
    }

    /// Columns that settings and YAML name must be there, with the declared types.
    fn check_columns(&self, model: &Model, schema: &SchemaRef) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        let mut problems = Vec::new();
        let config = &model.config;
        let settings = [
            ("unique_key", config.unique_key.iter().collect::<Vec<_>>()),
            ("merge_update_columns", config.merge_update_columns.iter().collect()),
            ("merge_exclude_columns", config.merge_exclude_columns.iter().collect()),
            ("sequence_by", config.sequence_by.iter().collect()),
            ("partition_by", config.partition_by.iter().collect()),
            ("sort_by", config.sort_by.iter().collect()),
            ("zorder_by", config.zorder_by.iter().collect()),
            ("bloom_filter_columns", config.bloom_filter_columns.iter().collect()),
            ("event_time", config.event_time.iter().collect()),
        ];
        for (setting, columns) in settings {
            for column in columns.into_iter().filter(|column| !names.contains(&column.as_str())) {
                let message = format!("`{setting}` names `{column}`, which `{}` does not have", model.name);
                let diagnostic = Diagnostic::error(Id::UnknownColumn, message).at(model.span());
                problems.push(diagnostic.suggest(column, names.iter().copied()));
            }
        }
        for column in model.columns.iter() {
            match schema.field_with_name(&column.name) {
                Err(_) => {
                    let message = format!("`{}` has no column `{}`", model.name, column.name);
                    let diagnostic = Diagnostic::warning(Id::Orphan, message).at(column.span.clone());
                    problems.push(diagnostic.suggest(&column.name, names.iter().copied()));
                }
                Ok(field) => problems.extend(self.check_type(column, field.data_type())),
            }
        }
        problems.extend(strategy::check(model));
        problems.extend(strategy::check_conditions(model, schema, self.session));
        problems.extend(layout::check(model, schema));
        problems.extend(self.check_batches(model, schema));
        if config.contract {
            problems.extend(contract::broken(model, schema));
        }
        if problems.iter().any(|d| d.severity == Severity::Error) { Err(problems) } else { Ok(problems) }
    }

    /// A `data_type` in a model's YAML is a promise.
    fn check_type(&self, column: &crate::project::Column, actual: &DataType) -> Option<Diagnostic> {
        let (text, span) = column.data_type.as_ref()?;
        let declared = match session::parse_data_type(self.session, text) {
            Ok(declared) => declared,
            Err(why) => return Some(Diagnostic::error(Id::InvalidValue, why).at(span.clone())),
        };
        let declared = sql_type(&declared);
        let actual = sql_type(actual);
        (declared != actual).then(|| {
            Diagnostic::error(Id::TypeMismatch, format!("column `{}` is `{actual}`", column.name))
                .at(span.clone())
                .label(format!("declared as `{declared}`"))
                .help(format!("cast it in the model, or declare `{actual}`"))
        })
    }

    /// Tables and files below a model, and the models whose own SQL is part of it: its views.
    fn inputs(&self, model: &Model) -> (BTreeSet<Input>, Vec<&CompiledModel>) {
        let mut inputs: BTreeSet<Input> =
            model.sources.iter().map(|(name, read)| Input::Source(name.clone(), *read)).collect();
        let mut inlined = Vec::new();
        for name in &model.refs {
            if self.project.models[name].is_stored() {
                inputs.insert(Input::Table(name.clone()));
            } else {
                inputs.extend(self.done[name].inputs.iter().cloned().map(Input::whole));
                inlined.push(&self.done[name]);
            }
        }
        (inputs, inlined)
    }
}

/// A typed statement.
struct Planned {
    plan: LogicalPlan,
    text: String,
    shape: Shape,
    warnings: Vec<Diagnostic>,
}

fn first_duplicate(schema: &Schema) -> Option<String> {
    let mut seen = BTreeSet::new();
    schema.fields().iter().map(|f| f.name()).find(|name| !seen.insert(name.to_lowercase())).cloned()
}

/// An append that reads a source through a view would add all of its rows in every run: only sources that the model
/// reads itself are taken in.
fn refuse_doubling(model: &Model, views: &[&CompiledModel], project: &Project) -> Result<(), Diagnostic> {
    if !model.appends() || model.incremental.is_some() {
        return Ok(());
    }
    for (source, read) in &model.sources {
        if *read == SourceRead::Changes && project.sources[source].format == Format::Delta {
            let message = format!("`{}` appends, and reads all of the Delta table `{source}`", model.name);
            return Err(Diagnostic::error(Id::InvalidSql, message)
                .at(model.span())
                .label("every run would add all of its rows again")
                .help("make it a `table`, set a `unique_key`, or filter inside {% if is_incremental() %}"));
        }
    }
    for view in views {
        if let Some(Input::Source(source, _)) = view.inputs.iter().find(|input| matches!(input, Input::Source(..))) {
            let message =
                format!("`{}` appends, and reads all of `{source}` through the view `{}`", model.name, view.name);
            return Err(Diagnostic::error(Id::InvalidSql, message)
                .at(crate::project::ref_span(&model.span(), &view.name))
                .label("every run would add all of its rows again")
                .help(format!(
                    "read source('{}', '{}') in this model, or make `{}` a stored model",
                    source.schema, source.table, view.name
                ))
                .help("or set a `unique_key`, or filter inside {% if is_incremental() %}"));
        }
    }
    Ok(())
}

/// Both variants of an incremental model fill one table.
fn same_columns(model: &Model, full: &SchemaRef, incremental: &SchemaRef) -> Result<(), Diagnostic> {
    for field in full.fields() {
        let message = match incremental.field_with_name(field.name()) {
            Ok(other) if other.data_type() == field.data_type() => continue,
            Ok(other) => format!(
                "column `{}` is `{}` in a first run and `{}` in an incremental one",
                field.name(),
                sql_type(field.data_type()),
                sql_type(other.data_type())
            ),
            Err(_) => format!("column `{}` is missing in an incremental run of `{}`", field.name(), model.name),
        };
        return Err(Diagnostic::error(Id::TypeMismatch, message).at(model.span()));
    }
    match incremental.fields().iter().find(|f| full.field_with_name(f.name()).is_err()) {
        Some(extra) => {
            let message = format!("column `{}` is missing in a first run of `{}`", extra.name(), model.name);
            Err(Diagnostic::error(Id::TypeMismatch, message).at(model.span()))
        }
        None => Ok(()),
    }
}
