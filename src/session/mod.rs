//! The one place that configures DataFusion, and the one planner of SQL.
//!
//! [`plan`] turns SQL into a logical plan against named table sources. Compiling gives it schemas only;
//! running gives it real tables: the same code, the same answer.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::TableFunctionArgs;
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::common::config::ConfigOptions;
use datafusion::common::file_options::file_type::FileType;
use datafusion::common::{Result, TableReference, plan_err};
use datafusion::datasource::file_format::format_as_file_type;
use datafusion::datasource::provider_as_source;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner};
use datafusion::logical_expr::{AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF};
use datafusion::prelude::{DataFrame, SessionConfig};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::planner::SqlToRel;
use sqlparser::dialect::GenericDialect;

use crate::names::{TableName, nearest};

mod functions;
mod give_back;
mod hashes;
mod heaps;
mod joins;
mod known;
mod masks;
mod memory;
mod one_writer;
mod predicate;
mod repeated;
mod sketch;
mod sketching;
mod spill;
mod usage;

pub use hashes::{hash_function, mix, row_hashes};
pub use known::{Gathering, KnownValues};
pub use masks::is_mask;
use memory::Turns;
pub use memory::{OutOfMemory, collect, nodes_at_once, within_memory};
pub use one_writer::spread;
pub use predicate::predicate;
use repeated::CountRepeated;
pub use sketch::{Lengths, Sketch};
use sketching::ColumnSketch;
use spill::SpillFolder;
pub use spill::leave;
pub use usage::{Usage, usage};

/// How much of the machine a run may use.
#[derive(Debug, Clone, Copy)]
pub struct Resources {
    /// Partitions of a query.
    pub threads: usize,
    /// Bytes that the process should not take more of; `None` is no limit.
    pub memory: Option<usize>,
}

/// A session for a whole run; queries of all nodes share its memory, and spill to a folder below `temporary` that goes with the
/// session.
///
/// # Errors
/// When the engine takes none of that.
pub fn state(resources: Resources, temporary: Option<&Path>) -> Result<SessionState> {
    let mut config = SessionConfig::new().with_target_partitions(resources.threads);
    let options = config.options_mut();
    options.sql_parser.collect_spans = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    options.execution.time_zone = Some("UTC".to_owned());
    // Delta's schema says `string`; one string type everywhere keeps compiled and executed types equal.
    options.execution.parquet.schema_force_view_types = false;
    // deltalake 1.1: IN-list pushdown of a hash join can panic on the dictionary-encoded file column.
    options.optimizer.hash_join_inlist_pushdown_max_size = 0;
    options.optimizer.hash_join_inlist_pushdown_max_distinct_values = 0;
    // Who spills nothing needs no folder; who does is told then why there is none.
    let spill = temporary.and_then(|home| SpillFolder::below(home).ok());
    let runtime = memory::runtime(resources.memory, spill.as_ref())?;
    if let Some(spill) = spill {
        config = config.with_extension(Arc::new(spill));
    }
    let mut builder = SessionStateBuilder::new()
        .with_config(config.with_extension(Arc::new(Turns::default())))
        .with_runtime_env(runtime)
        .with_default_features();
    if let Some(bytes) = resources.memory {
        builder = builder.with_physical_optimizer_rules(memory::optimizer_rules(bytes));
    }
    let mut state = builder.build();
    for function in functions::all().into_iter().chain(masks::all()) {
        state.register_udf(Arc::new(function))?;
    }
    state.register_udaf(Arc::new(AggregateUDF::from(CountRepeated::new(Arc::clone(state.runtime_env())))))?;
    state.register_udaf(Arc::new(AggregateUDF::from(ColumnSketch::new())))?;
    Ok(state)
}

/// The tables that SQL may name.
#[derive(Default, Clone)]
pub struct Tables {
    sources: HashMap<TableName, Arc<dyn TableSource>>,
}

impl Tables {
    /// No tables.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a table known.
    pub fn insert(&mut self, name: TableName, source: Arc<dyn TableSource>) {
        self.sources.insert(name, source);
    }

    /// Names of all known tables.
    pub fn names(&self) -> impl Iterator<Item = &TableName> {
        self.sources.keys()
    }

    /// Makes a table unknown again.
    pub fn remove(&mut self, name: &TableName) -> Option<Arc<dyn TableSource>> {
        self.sources.remove(name)
    }

    /// A known table.
    pub fn get(&self, name: &TableName) -> Option<&Arc<dyn TableSource>> {
        self.sources.get(name)
    }
}

/// Parses one SQL statement.
///
/// # Errors
/// DataFusion's parse error; the place stands in its text.
pub fn parse(sql: &str) -> Result<Statement> {
    let mut statements = DFParserBuilder::new(sql)
        .with_dialect(&GenericDialect {})
        .with_recursion_limit(200)
        .build()?
        .parse_statements()?;
    match (statements.pop_front(), statements.pop_front()) {
        (Some(statement), None) => Ok(statement),
        (None, _) => plan_err!("there is no SQL statement"),
        (Some(_), Some(second)) => plan_err!("expected one SQL statement, found a second one: {second}"),
    }
}

/// The `schema.table` names in a statement.
///
/// # Errors
/// When a name cannot be one of a table.
pub fn tables_of(statement: &Statement) -> Result<Vec<TableName>> {
    let (tables, _) = datafusion::sql::resolve::resolve_table_references(statement, true)?;
    let name = |reference: TableReference| Some(TableName::new(reference.schema()?, reference.table()));
    Ok(tables.into_iter().filter_map(name).collect())
}

/// The moment that `now()` is in a session.
struct Frozen(DateTime<Utc>);

/// A session in which `now()` is always this moment.
pub fn frozen(session: &SessionState, now: DateTime<Utc>) -> SessionState {
    let mut state = session.clone();
    *state.config_mut() = state.config().clone().with_extension(Arc::new(Frozen(now)));
    state
}

/// A session for queries over a few rows: each runs in one piece.
pub fn one_partition(session: &SessionState) -> SessionState {
    let mut state = session.clone();
    *state.config_mut() = state.config().clone().with_target_partitions(1);
    state
}

/// The session for one query: `now()` is the moment at which it starts, unless it is frozen.
pub fn for_query(session: &SessionState) -> SessionState {
    let mut state = session.clone();
    let config = Arc::clone(state.config_options());
    state.execution_props_mut().mark_start_execution(config);
    if let Some(frozen) = state.config().get_extension::<Frozen>() {
        state.execution_props_mut().query_execution_start_time = Some(frozen.0);
    }
    state
}

/// A plan as a query that can be run.
pub fn query(session: &SessionState, plan: LogicalPlan) -> DataFrame {
    DataFrame::new(for_query(session), plan)
}

/// A statement, planned.
pub struct Plans {
    /// As the author wrote it.
    pub as_written: LogicalPlan,
    /// With the casts and rewrites that make it executable.
    pub analyzed: LogicalPlan,
}

/// Plans and analyses one statement; synchronous and without any IO of its own.
///
/// # Errors
/// DataFusion's error, with a span in the SQL where it has one.
pub fn plan_in_steps(session: &SessionState, statement: Statement, tables: &Tables) -> Result<Plans> {
    let catalog = NamedTables { session, tables };
    let as_written = SqlToRel::new_with_options(&catalog, (&session.config_options().sql_parser).into())
        .statement_to_plan(statement)?;
    if let LogicalPlan::Dml(_) | LogicalPlan::Ddl(_) | LogicalPlan::Copy(_) | LogicalPlan::Statement(_) = &as_written {
        return plan_err!("a model is one query: it starts with `select` or `with`");
    }
    let analyzed = session.analyzer().execute_and_check(as_written.clone(), session.config_options(), |_, _| {})?;
    Ok(Plans { as_written, analyzed })
}

/// Plans and analyses one statement, as [`plan_in_steps`] does.
///
/// # Errors
/// As there.
pub fn plan(session: &SessionState, statement: Statement, tables: &Tables) -> Result<LogicalPlan> {
    Ok(plan_in_steps(session, statement, tables)?.analyzed)
}

/// Plans a hook: a query, or a `copy` of one to a file.
///
/// # Errors
/// As [`plan`], and for every other statement.
pub fn plan_hook(session: &SessionState, statement: Statement, tables: &Tables) -> Result<LogicalPlan> {
    let is_query = match &statement {
        Statement::Statement(inner) => matches!(inner.as_ref(), sqlparser::ast::Statement::Query(_)),
        other => matches!(other, Statement::CopyTo(_)),
    };
    if !is_query {
        let text = statement.to_string();
        let word = text.split_whitespace().next().unwrap_or_default().to_lowercase();
        return plan_err!(
            "a hook cannot `{word}`: its SQL is a query or `copy (select ...) to 'file.csv'`, and what changes a table is a model"
        );
    }
    let catalog = NamedTables { session, tables };
    let plan = SqlToRel::new_with_options(&catalog, (&session.config_options().sql_parser).into())
        .statement_to_plan(statement)?;
    session.analyzer().execute_and_check(plan, session.config_options(), |_, _| {})
}

/// Types that people mean when they mistype one.
const COMMON_TYPES: &[&str] = &[
    "bigint",
    "int",
    "smallint",
    "varchar",
    "text",
    "boolean",
    "double",
    "float",
    "decimal",
    "date",
    "timestamp",
    "bytea",
];

/// Whether a type can be written as `text`, and which one it is.
///
/// # Errors
/// Why it is not a type.
pub fn parse_data_type(session: &SessionState, text: &str) -> std::result::Result<DataType, String> {
    // sqlparser 0.62: what follows `>>` belongs to the inner type there, so `struct<a struct<b int>>[]` would be no list.
    let sql = format!("select cast(null as {})", text.replace('>', "> "));
    let unknown = || match nearest(text, COMMON_TYPES.iter().copied()) {
        Some(near) => format!("`{text}` is not a SQL type; did you mean `{near}`?"),
        None => format!("`{text}` is not a SQL type; common ones: {}", COMMON_TYPES.join(", ")),
    };
    let statement = parse(&sql).map_err(|_| unknown())?;
    let plan = plan(session, statement, &Tables::new()).map_err(|_| unknown())?;
    Ok(plan.schema().field(0).data_type().clone())
}

/// DataFusion's view of [`Tables`]; everything else is the session's.
struct NamedTables<'a> {
    session: &'a SessionState,
    tables: &'a Tables,
}

impl ContextProvider for NamedTables<'_> {
    fn get_table_source(&self, reference: TableReference) -> Result<Arc<dyn TableSource>> {
        let known = match reference.schema() {
            Some(schema) => self.tables.get(&TableName::new(schema, reference.table())),
            None => None,
        };
        match known {
            Some(source) => Ok(Arc::clone(source)),
            None => plan_err!("table '{reference}' not found"),
        }
    }

    fn get_table_function_source(&self, name: &str, args: Vec<Expr>) -> Result<Arc<dyn TableSource>> {
        let Some(function) = self.session.table_functions().get(name) else {
            return plan_err!("table function '{name}' not found");
        };
        Ok(provider_as_source(function.create_table_provider_with_args(TableFunctionArgs::new(&args, self.session))?))
    }

    fn get_file_type(&self, extension: &str) -> Result<Arc<dyn FileType>> {
        match self.session.get_file_format_factory(extension) {
            Some(factory) => Ok(format_as_file_type(factory)),
            None => plan_err!("`{extension}` is no format to copy to: csv, json and parquet are"),
        }
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> Result<Arc<dyn TableSource>> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.session.expr_planners()
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.session.scalar_functions().get(name).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.session.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.session.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.session.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.session.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.session.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.session.higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.session.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.session.window_functions().keys().cloned().collect()
    }
}
