//! Data tests -> SQL that counts or finds the rows that are wrong, typed like every model.

use std::ops::Deref;
use std::sync::Arc;

use rayon::prelude::*;

use super::errors::{self, Place, Written};
use super::{Compiler, schema_source};
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::memo::Key;
use crate::names::TableName;
use crate::project::{DataTest, TestKind};
use crate::session::{self, Tables};
use crate::template::{SourceRead, source_relation};

/// A test that compiled.
#[derive(Debug, Clone)]
pub struct CompiledTest {
    /// As it was declared.
    declared: Arc<DataTest>,
    /// What decided all of this.
    pub key: Key,
}

impl Deref for CompiledTest {
    type Target = DataTest;

    fn deref(&self) -> &DataTest {
        &self.declared
    }
}

/// How failures are found.
#[derive(Debug, Clone)]
pub enum Check {
    /// A condition that is true for each wrong row of the test's table: many share one scan.
    Rows {
        /// SQL over the columns of the table.
        wrong: String,
    },
    /// A query whose rows are the failures.
    Query {
        /// SQL.
        sql: String,
    },
}

impl CompiledTest {
    /// A query whose rows are the failures.
    pub fn failures_sql(&self) -> String {
        match (self.check(), &self.table) {
            (Check::Rows { wrong }, Some(table)) => format!("select * from {} where {wrong}", table.quoted()),
            (Check::Rows { wrong }, None) => format!("select 1 where {wrong}"),
            (Check::Query { sql }, _) => sql,
        }
    }

    /// What is run.
    pub fn check(&self) -> Check {
        check(&self.declared)
    }

    /// Hash of what is tested: a test that changed has not passed yet.
    pub fn fingerprint(&self) -> String {
        let text = format!("{} {:?} {}", self.name, self.config.severity, self.failures_sql());
        blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
    }
}

impl Compiler<'_> {
    /// Plans every test whose tables compiled, unless an earlier run has planned it.
    pub(super) fn tests(&self, diagnostics: &mut Diagnostics) -> Vec<CompiledTest> {
        let results: Vec<_> = self
            .project
            .data_tests
            .par_iter()
            .filter_map(|test| {
                let key = self.key_of_test(test)?;
                let compiled = CompiledTest { declared: Arc::clone(test), key };
                if self.memo.get::<()>(key).is_some() {
                    return Some(Ok(compiled));
                }
                Some(self.plan_test(test, compiled).inspect(|_| self.memo.put(key, &())))
            })
            .collect();
        let mut compiled = Vec::with_capacity(results.len());
        for result in results {
            match result {
                Ok(test) => compiled.push(test),
                Err(problems) => diagnostics.extend(problems),
            }
        }
        compiled
    }

    fn plan_test(&self, test: &DataTest, compiled: CompiledTest) -> Result<CompiledTest, Vec<Diagnostic>> {
        let Self { project, session, .. } = self;
        let mut visible = Tables::new();
        for name in &test.reads {
            if let Some(schema) = self.schema_of(name) {
                for relation in [name.clone(), source_relation(name, SourceRead::All)] {
                    visible.insert(relation, schema_source(schema));
                }
            }
        }
        let own = test.table.clone().unwrap_or_else(|| TableName::new("tests", test.name.clone()));
        if stands_by_itself(test, &visible) {
            return Ok(compiled);
        }
        let written = match &test.kind {
            TestKind::Singular { rendered } => Some(Written::new(rendered, || project.trace_test(rendered))),
            TestKind::Custom { name, call, rendered: Some(rendered) } => {
                Some(Written::new(rendered, move || project.trace_generic_test(name, call, rendered)))
            }
            _ => None,
        };
        let place = written.as_ref().map_or(Place::Declaration(&test.span), Place::Template);
        let sql = match &test.kind {
            // As the author wrote it, so that places are true.
            TestKind::Singular { rendered } | TestKind::Custom { rendered: Some(rendered), .. } => rendered.sql.clone(),
            _ => compiled.failures_sql(),
        };
        // A mistake in a generic test shows who uses it so.
        let told = |found: Vec<Diagnostic>| match &test.kind {
            TestKind::Custom { .. } => {
                found.into_iter().map(|d| d.related((*test.span).clone(), "used here")).collect()
            }
            _ => found,
        };
        let statement = session::parse(&sql).map_err(|error| told(vec![errors::syntax(&error, &place)]))?;
        session::plan(session, statement, &visible).map_err(|error| {
            let around = errors::Surroundings { visible: &visible, project, own: &own };
            told(errors::plan(&error, &place, &around))
        })?;
        Ok(compiled)
    }
}

/// Whether a test cannot fail to plan: it is about columns that exist, and has no SQL of the user's. Most tests are
/// such, and need no planner.
fn stands_by_itself(test: &DataTest, tables: &Tables) -> bool {
    let columns: Vec<&String> = match &test.kind {
        TestKind::NotNull { column } | TestKind::Unique { column } => vec![column],
        TestKind::UniqueCombination { columns } => columns.iter().collect(),
        _ => return false,
    };
    let schema = test.table.as_ref().and_then(|table| tables.get(table)).map(|source| source.schema());
    test.config.filter.is_none()
        && schema.is_some_and(|schema| columns.iter().all(|name| schema.field_with_name(name).is_ok()))
}

fn check(test: &DataTest) -> Check {
    let table = test.table.as_ref().map(TableName::quoted).unwrap_or_default();
    let filter = test.config.filter.as_ref();
    let and_filter = filter.map(|filter| format!(" and ({filter})")).unwrap_or_default();
    let rows = |wrong: String| Check::Rows { wrong: format!("{wrong}{and_filter}") };
    match &test.kind {
        TestKind::NotNull { column } => rows(format!("{} is null", quoted(column))),
        TestKind::AcceptedValues { column, values, quote } => {
            let column = quoted(column);
            let list: Vec<String> = values.iter().map(|value| literal(value, *quote)).collect();
            let tested = if *quote { format!("cast({column} as varchar)") } else { column.clone() };
            rows(format!("({column} is not null and {tested} not in ({}))", list.join(", ")))
        }
        TestKind::ExpressionIsTrue { expression, column } => {
            let subject = column.as_ref().map(|c| format!("{} ", quoted(c))).unwrap_or_default();
            rows(format!("not ({subject}{expression})"))
        }
        TestKind::Unique { column } => {
            let column = quoted(column);
            query(format!(
                "select {column}, count(*) as n_records from {table} where {column} is not null{and_filter} \
                 group by {column} having count(*) > 1"
            ))
        }
        TestKind::UniqueCombination { columns } => {
            let list: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
            let list = list.join(", ");
            let filter = filter.map(|filter| format!(" where {filter}")).unwrap_or_default();
            query(format!(
                "select {list}, count(*) as n_records from {table}{filter} group by {list} having count(*) > 1"
            ))
        }
        TestKind::Relationships { column, to, field } => {
            let (column, field, to) = (quoted(column), quoted(field), to.quoted());
            query(format!(
                "select child.value as {column} from (select {column} as value from {table} \
                 where {column} is not null{and_filter}) as child \
                 left join (select distinct {field} as value from {to}) as parent on child.value = parent.value \
                 where parent.value is null"
            ))
        }
        // Printed from its syntax tree: a comment at its end would swallow what is put around it.
        TestKind::Custom { rendered: None, .. } => query(String::new()),
        TestKind::Singular { rendered } | TestKind::Custom { rendered: Some(rendered), .. } => {
            query(session::parse(&rendered.sql).map_or_else(|_| rendered.sql.clone(), |parsed| parsed.to_string()))
        }
    }
}

fn query(sql: String) -> Check {
    Check::Query { sql }
}

/// A column as YAML names it: letters keep their case.
fn quoted(column: &str) -> String {
    let plain = column.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(column);
    format!("\"{}\"", plain.replace('"', "\"\""))
}

fn literal(value: &serde_json::Value, quote: bool) -> String {
    let text = match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if quote || value.is_string() { format!("'{}'", text.replace('\'', "''")) } else { text }
}
