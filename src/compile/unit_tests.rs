//! Unit tests: whether what is given and what is expected fit the columns, and the query that a test runs.
//!
//! The same query is planned here, over schemas, and in a run, over rows.

use std::ops::Deref;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::DataFusionError;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, cast, lit};
use datafusion::prelude::Expr;
use datafusion::scalar::ScalarValue;
use rayon::prelude::*;

use super::errors::{self, Place, Surroundings, Written};
use super::tests::without_mistakes;
use super::unit_rows::{typed_rows, typed_value};
use super::{Compiler, schema_source};
use crate::catalog::{CHANGE_COLUMNS, change_fields, changes_schema, sql_type, stored_schema};
use crate::diagnostics::{Diagnostic, Diagnostics, Id, Span};
use crate::exact_files::rows_of;
use crate::memo::{Key, KeyMaker};
use crate::names::TableName;
use crate::project::{MacroCase, ModelCase, Project, RowTable, Rows, UnitSubject, UnitTest};
use crate::session::{self, Tables};
use crate::template::{RefRead, SourceRead, ref_relation, source_relation};

/// A unit test that can run.
#[derive(Debug, Clone)]
pub struct CompiledUnitTest {
    /// As it was declared.
    pub declared: Arc<UnitTest>,
    /// Everything that decides its verdict; `None` if equal models may give other rows.
    pub verdict: Option<Key>,
}

impl Deref for CompiledUnitTest {
    type Target = UnitTest;

    fn deref(&self) -> &UnitTest {
        &self.declared
    }
}

impl Compiler<'_> {
    /// The unit tests that can run: those whose models compiled, and that an earlier run or this one has checked.
    pub(super) fn unit_tests(&self, diagnostics: &mut Diagnostics) -> Vec<CompiledUnitTest> {
        let results: Vec<_> = self
            .project
            .unit_tests
            .par_iter()
            .filter_map(|test| {
                let key = self.key_of_unit_test(test)?;
                let verdict = self.verdict_key(test, key);
                let compiled = CompiledUnitTest { declared: Arc::clone(test), verdict };
                if self.memo.get::<()>(key).is_some() {
                    return Some(Ok(compiled));
                }
                let problems = self.check_unit_test(test);
                if !problems.is_empty() {
                    return Some(Err(problems));
                }
                self.memo.put(key, &());
                Some(Ok(compiled))
            })
            .collect();
        without_mistakes(results, diagnostics)
    }

    /// Everything that decides whether a unit test can run; `None` if something that it is about did not compile.
    fn key_of_unit_test(&self, test: &UnitTest) -> Option<Key> {
        let mut key = KeyMaker::new("checked unit test").key(test.key);
        if let UnitSubject::Model(case) = &test.subject {
            let given = case.runs.iter().flat_map(|run| &run.given).map(|given| &given.input);
            for name in case.chain.iter().map(|link| &link.name).chain(given) {
                key = key.key(self.key_of_table(name)?);
            }
        }
        Some(key.finish())
    }

    /// Everything that decides whether it passes, if that can be known.
    fn verdict_key(&self, test: &UnitTest, checked: Key) -> Option<Key> {
        let mut key = KeyMaker::new("verdict of a unit test").key(checked);
        match &test.subject {
            UnitSubject::Model(case) => {
                for link in &case.chain {
                    let compiled = self.done.get(&link.name).filter(|compiled| compiled.volatile.is_none())?;
                    key = key.key(compiled.made_from);
                }
            }
            // What it wrote may be a function of chance.
            UnitSubject::Macro(_) => return None,
        }
        Some(key.finish())
    }

    fn check_unit_test(&self, test: &UnitTest) -> Vec<Diagnostic> {
        match &test.subject {
            UnitSubject::Model(case) => self.check_model_case(test, case),
            UnitSubject::Macro(cases) => {
                cases.cases.iter().flat_map(|case| check_macro_case(case, self.session, self.project)).collect()
            }
        }
    }

    fn check_model_case(&self, test: &UnitTest, case: &ModelCase) -> Vec<Diagnostic> {
        let mut problems = Vec::new();
        let mut tables = Tables::new();
        for given in case.runs.iter().flat_map(|run| &run.given) {
            let Some(schema) = self.schema_of(&given.input).map(|s| input_schema(self.project, case, &given.input, s))
            else {
                continue;
            };
            problems.extend(self.check_rows(&given.rows, &schema, &format!("`{}`", given.input)));
            insert_given(&mut tables, &given.input, schema_source(&schema));
        }
        for link in case.chain.iter().filter(|link| self.project.models[&link.name].seed.is_some()) {
            if let Some(schema) = self.schema_of(&link.name) {
                insert_given(&mut tables, &link.name, schema_source(schema));
            }
        }
        let is_as_compiled = case.of_table || case.chain.iter().all(|link| link.own.is_none());
        let output = match (is_as_compiled, self.schema_of(&case.model)) {
            (true, Some(schema)) => Ok(Arc::clone(schema)),
            (true, None) => return problems,
            (false, _) => unit_plan(self.project, self.session, (test, case), tables)
                .map(|plan| Arc::new(plan.schema().as_arrow().clone())),
        };
        match output {
            Err(found) => {
                let told = |d: Diagnostic| d.related(test.span.clone(), "with the overrides of this unit test");
                problems.extend(found.into_iter().map(told));
            }
            Ok(schema) => {
                problems.extend(self.check_rows(&case.expect, &schema, &format!("`{}`", case.model)));
                problems.extend(check_tolerance(test, &schema, &case.model));
            }
        }
        problems
    }

    fn check_rows(&self, rows: &Rows, schema: &SchemaRef, whose: &str) -> Vec<Diagnostic> {
        match rows {
            Rows::Table(table) => typed_rows(table, schema, whose).err().unwrap_or_default(),
            Rows::Query { sql, span } => match plan_rows(sql, span, self.session, self.project) {
                Err(problems) => problems,
                Ok(plan) => unfit_columns(plan.schema().as_arrow(), schema, span, whose),
            },
        }
    }
}

/// A query that gives rows: it reads nothing.
///
/// # Errors
/// What is wrong with it.
pub fn plan_rows(
    sql: &str,
    span: &Span,
    session: &SessionState,
    project: &Project,
) -> Result<LogicalPlan, Vec<Diagnostic>> {
    let place = Place::Declaration(span);
    let statement = session::parse(sql).map_err(|error| vec![errors::syntax(&error, &place)])?;
    let (visible, own) = (Tables::new(), TableName::new("unit_tests", "rows"));
    session::plan(session, statement, &visible).map_err(|error| {
        let around = Surroundings { visible: &visible, project, own: &own };
        let mut problems = errors::plan(&error, &place, &around);
        for problem in problems.iter_mut().filter(|problem| problem.id == Id::UnknownTable) {
            problem.help = vec!["rows of a unit test are a query that reads no table: `select 1 as id`".to_owned()];
        }
        problems
    })
}

/// Columns of a query that is to give rows of a table, and that the table does not have or not so.
fn unfit_columns(query: &Schema, schema: &SchemaRef, span: &Span, whose: &str) -> Vec<Diagnostic> {
    let unfit = query.fields().iter().filter_map(|field| match schema.field_with_name(field.name()) {
        Err(_) => {
            let message = format!("{whose} has no column `{}`", field.name());
            let known = schema.fields().iter().map(|field| field.name().as_str());
            Some(Diagnostic::error(Id::UnknownColumn, message).at(span.clone()).suggest(field.name(), known))
        }
        Ok(column) => {
            let can = datafusion::arrow::compute::can_cast_types(field.data_type(), column.data_type());
            (!can).then(|| {
                let (was, is) = (sql_type(field.data_type()), sql_type(column.data_type()));
                let message = format!("column `{}` of {whose} is `{is}`, and this query gives `{was}`", field.name());
                Diagnostic::error(Id::TypeMismatch, message).at(span.clone()).help("cast it in the query")
            })
        }
    });
    unfit.collect()
}

fn check_tolerance(test: &UnitTest, schema: &Schema, model: &TableName) -> Vec<Diagnostic> {
    let unknown = test.tolerance.columns.keys().filter(|name| schema.field_with_name(name).is_err());
    let told = unknown.map(|name| {
        let message = format!("`tolerance` names `{name}`, which `{model}` does not have");
        let known = schema.fields().iter().map(|field| field.name().as_str());
        Diagnostic::error(Id::UnknownColumn, message).at(test.span.clone()).suggest(name, known)
    });
    told.collect()
}

/// The columns of an input as a test gives it: where its changes are read, with those that tell of a change.
pub fn input_schema(project: &Project, case: &ModelCase, name: &TableName, schema: &SchemaRef) -> SchemaRef {
    if case.of_table || !reads_changes(project, case, name) {
        return Arc::clone(schema);
    }
    changes_schema(schema)
}

fn reads_changes(project: &Project, case: &ModelCase, name: &TableName) -> bool {
    let models = case.chain.iter().filter_map(|link| project.unit_model(link));
    models.flat_map(|model| &model.ref_reads).any(|(read, how)| read == name && *how == RefRead::Changes)
}

/// Makes an input known by all names that SQL may have for it.
pub fn insert_given(tables: &mut Tables, name: &TableName, source: Arc<dyn datafusion::logical_expr::TableSource>) {
    let names = [
        name.clone(),
        source_relation(name, SourceRead::All),
        ref_relation(name, RefRead::All),
        ref_relation(name, RefRead::Changes),
    ];
    for name in names {
        tables.insert(name, Arc::clone(&source));
    }
}

/// The query of a test of a model: the models of its chain, one in the other, over the tables that are given.
///
/// # Errors
/// What is wrong with the SQL of one of them.
pub fn unit_plan(
    project: &Project,
    session: &SessionState,
    (test, case): (&UnitTest, &ModelCase),
    mut tables: Tables,
) -> Result<LogicalPlan, Vec<Diagnostic>> {
    let mut last = None;
    for link in &case.chain {
        let (Some(model), Some(rendered)) = (project.unit_model(link), project.unit_sql(case, link)) else { continue };
        if model.seed.is_some() {
            continue;
        }
        let written = Written::new(rendered, || project.trace_unit(test, model, rendered));
        let place = Place::Template(&written);
        let statement = session::parse(&rendered.sql).map_err(|error| vec![errors::syntax(&error, &place)])?;
        let plan = session::plan(session, statement, &tables).and_then(|plan| match model.is_stored() {
            true => as_stored(plan),
            false => Ok(plan),
        });
        let plan = plan.map_err(|error| {
            let around = Surroundings { visible: &tables, project, own: &model.name };
            errors::plan(&error, &place, &around)
        })?;
        if link.name == case.model {
            last = Some(plan);
            break;
        }
        let told = |error: DataFusionError| {
            let around = Surroundings { visible: &tables, project, own: &model.name };
            errors::plan(&error, &place, &around)
        };
        let changes =
            if reads_changes(project, case, &link.name) { Some(with_changes(&plan).map_err(told)?) } else { None };
        let view = |plan| provider_as_source(Arc::new(ViewTable::new(plan, None)));
        insert_given(&mut tables, &link.name, view(plan));
        if let Some(changes) = changes {
            tables.insert(ref_relation(&link.name, RefRead::Changes), view(changes));
        }
    }
    Ok(last.expect("the tested model is the last of its chain"))
}

/// The rows of a query as its table would have them.
fn as_stored(plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    let schema = plan.schema().as_arrow().clone();
    // Columns that cannot be stored have been told.
    let Ok(stored) = stored_schema(&schema) else { return Ok(plan) };
    let same = schema.fields().iter().zip(stored.fields()).all(|(is, stored)| is.data_type() == stored.data_type());
    if same { Ok(plan) } else { rows_of(Arc::new(ViewTable::new(plan, None)), &stored) }
}

/// All rows as inserts.
fn with_changes(plan: &LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    let columns = plan.schema().columns().into_iter().map(Expr::Column);
    let [_, _, time] = change_fields();
    let changes = [
        lit("insert").alias(CHANGE_COLUMNS[0]),
        lit(0_i64).alias(CHANGE_COLUMNS[1]),
        cast(lit(ScalarValue::Null), time.data_type().clone()).alias(CHANGE_COLUMNS[2]),
    ];
    LogicalPlanBuilder::from(plan.clone()).project(columns.chain(changes).collect::<Vec<_>>())?.build()
}

/// The query of one call of a macro: what it wrote, as an expression.
pub fn macro_query(case: &MacroCase) -> String {
    format!("select (\n{}\n) as value", case.sql)
}

fn check_macro_case(case: &MacroCase, session: &SessionState, project: &Project) -> Vec<Diagnostic> {
    let wrote = |d: Diagnostic| d.note(format!("the macro wrote: {}", case.sql)).at(case.span.clone());
    match plan_rows(&macro_query(case), &case.span, session, project) {
        Err(problems) => problems.into_iter().map(wrote).collect(),
        Ok(plan) => {
            let data_type: &DataType = plan.schema().field(0).data_type();
            let Err(value) = typed_value(&case.expect, data_type) else { return Vec::new() };
            let is = sql_type(data_type);
            let span = Span::new(&case.span.file, case.expect.at.0, case.expect.at.1);
            let diagnostic = Diagnostic::error(Id::TypeMismatch, format!("`{value}` is no `{is}`")).at(span);
            vec![diagnostic.label(format!("the macro gives `{is}`")).note(format!("the macro wrote: {}", case.sql))]
        }
    }
}

/// The columns that are compared: those that the expected rows name, or all if they name none.
pub fn compared_columns(rows: &RowTable, schema: &Schema) -> SchemaRef {
    let named = |name: &str| rows.columns.is_empty() || rows.columns.iter().any(|(column, _)| column == name);
    let fields = schema.fields().iter().filter(|field| named(field.name())).cloned();
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
