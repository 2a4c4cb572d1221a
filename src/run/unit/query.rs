//! Unit tests that are one query over rows in memory.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::datasource::{MemTable, ViewTable, provider_as_source};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;

use super::diff::{Diff, Values, compare, compare_values};
use super::in_words;
use crate::bronze;
use crate::compile::{
    compared_columns, input_schema, insert_given, macro_query, plan_rows, typed_rows, typed_value, unit_plan,
};
use crate::exact_files::rows_of;
use crate::names::TableName;
use crate::project::{MacroCases, ModelCase, Project, Rows, Tolerance, UnitTest};
use crate::run::{Failure, Runtime};
use crate::session::{self, Tables};

/// Runs the query of a test, and compares its rows.
pub(super) async fn compare_model(
    runtime: &Runtime,
    session: &SessionState,
    test: &UnitTest,
    case: &ModelCase,
) -> Result<Option<Diff>, Failure> {
    let mut tables = Tables::new();
    for given in case.runs.iter().flat_map(|run| &run.given) {
        let Some(schema) = runtime.compiled.schema_of(&given.input) else { continue };
        let schema = input_schema(&runtime.project, case, &given.input, schema);
        let rows = given_rows(&given.rows, &schema, &given.input, session, &runtime.project)?;
        insert_given(&mut tables, &given.input, provider_as_source(rows));
    }
    for link in &case.chain {
        if let Some(rows) = seed_rows(runtime, &link.name).await? {
            insert_given(&mut tables, &link.name, provider_as_source(rows));
        }
    }
    let plan = unit_plan(&runtime.project, session, (test, case), tables).map_err(in_words)?;
    compare_plan(plan, test, case, session, &runtime.project).await
}

/// The rows of a seed, from its file.
pub(super) async fn seed_rows(runtime: &Runtime, name: &TableName) -> Result<Option<Arc<dyn TableProvider>>, Failure> {
    let seed = runtime.project.models.get(name).and_then(|model| model.seed.as_ref());
    let (Some(seed), Some(compiled)) = (seed, runtime.compiled.models.get(name)) else { return Ok(None) };
    Ok(Some(bronze::seed_rows(seed, &compiled.schema, &runtime.folder).await?))
}

/// Compares the rows of a plan with those that the test expects.
pub(super) async fn compare_plan(
    plan: LogicalPlan,
    test: &UnitTest,
    case: &ModelCase,
    session: &SessionState,
    project: &Project,
) -> Result<Option<Diff>, Failure> {
    let output = plan.schema().as_arrow().clone();
    let (columns, expected) = expected(&case.expect, &output, &case.model, session, project).await?;
    let actual = collect(rows_of(Arc::new(ViewTable::new(plan, None)), &columns)?, session).await?;
    let names: Vec<String> = columns.fields().iter().map(|field| field.name().clone()).collect();
    Ok(compare(&names, &expected, &actual, &test.tolerance))
}

/// The compared columns, and the rows that are expected in them.
async fn expected(
    rows: &Rows,
    output: &Schema,
    model: &TableName,
    session: &SessionState,
    project: &Project,
) -> Result<(SchemaRef, Vec<RecordBatch>), Failure> {
    match rows {
        Rows::Table(table) => {
            let columns = compared_columns(table, output);
            let batch = typed_rows(table, &columns, &format!("`{model}`")).map_err(in_words)?;
            Ok((columns, vec![batch]))
        }
        Rows::Query { sql, span } => {
            let plan = plan_rows(sql, span, session, project).map_err(in_words)?;
            let fields =
                plan.schema().fields().iter().filter_map(|field| output.field_with_name(field.name()).ok().cloned());
            let columns = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
            let rows = collect(rows_of(Arc::new(ViewTable::new(plan, None)), &columns)?, session).await?;
            Ok((columns, rows))
        }
    }
}

async fn collect(plan: LogicalPlan, session: &SessionState) -> Result<Vec<RecordBatch>, Failure> {
    Ok(session::query(session, plan).collect().await?)
}

/// Given rows as a table with the columns of `schema`.
pub(super) fn given_rows(
    rows: &Rows,
    schema: &SchemaRef,
    name: &TableName,
    session: &SessionState,
    project: &Project,
) -> Result<Arc<dyn TableProvider>, Failure> {
    match rows {
        Rows::Table(table) => {
            let batch = typed_rows(table, schema, &format!("`{name}`")).map_err(in_words)?;
            Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
        }
        Rows::Query { sql, span } => {
            let plan = plan_rows(sql, span, session, project).map_err(in_words)?;
            let rows = rows_of(Arc::new(ViewTable::new(plan, None)), schema)?;
            Ok(Arc::new(ViewTable::new(rows, None)))
        }
    }
}

/// Evaluates what a macro wrote for each of its cases.
pub(super) async fn compare_macro(
    session: &SessionState,
    test: &UnitTest,
    cases: &MacroCases,
) -> Result<Option<Diff>, Failure> {
    let columns = ["args".to_owned(), "value".to_owned()];
    let mut all: Option<Diff> = None;
    for case in &cases.cases {
        let plan = session::plan(session, session::parse(&macro_query(case))?, &Tables::new())?;
        let data_type = plan.schema().field(0).data_type().clone();
        let expected = typed_value(&case.expect, &data_type)
            .map_err(|value| Failure::text(format!("`{value}` does not fit what the macro gives")))?;
        let batches = collect(plan, session).await?;
        let value = |column: &dyn datafusion::arrow::array::Array| -> Values {
            let shown = datafusion::arrow::util::display::array_value_to_string(column, 0);
            vec![Some(case.arguments.clone()), shown.ok().filter(|_| !column.is_null(0))]
        };
        let actual: Vec<Values> =
            batches.iter().filter(|batch| batch.num_rows() > 0).map(|batch| value(batch.column(0).as_ref())).collect();
        // The arguments tell the cases apart, and are no number that could be near.
        let tolerance = test.tolerance.of("value").map(|near| ("value".to_owned(), near));
        let tolerance = Tolerance { all: None, columns: tolerance.into_iter().collect() };
        if let Some(found) = compare_values(&columns, vec![value(expected.as_ref())], actual, &tolerance) {
            match &mut all {
                Some(all) => all.rows.extend(found.rows),
                None => all = Some(found),
            }
        }
    }
    Ok(all)
}
