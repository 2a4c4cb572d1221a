//! Data tests -> SQL that counts or finds the rows that are wrong, typed like every model.

use std::ops::Deref;
use std::sync::Arc;

use rayon::prelude::*;

use super::errors::{self, Place, Written};
use super::plain_tests::plain_condition;
use super::{Compiler, schema_source};
use crate::checks::{self, Check, Shape};
use crate::diagnostics::{Diagnostic, Diagnostics, Id};
use crate::memo::Key;
use crate::names::TableName;
use crate::project::{DataTest, TestKind, Violation};
use crate::session::{self, Tables};
use crate::template::{SourceRead, source_relation};
use crate::words::quoted;

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

impl CompiledTest {
    /// A query whose rows are the failures.
    pub fn failures_sql(&self) -> String {
        let table = self.table.as_ref().map(TableName::quoted).unwrap_or_default();
        if let TestKind::Custom { rendered: Some(rendered), .. } = &self.kind {
            return session::parse(&rendered.sql).map_or_else(|_| rendered.sql.clone(), |parsed| parsed.to_string());
        }
        match self.check() {
            Check::Rows { wrong } => format!("select * from {table} where {wrong}"),
            Check::Measures { values, wrong, usual, .. } => {
                let inner: Vec<String> = values.iter().map(|(name, sql)| format!("{sql} as \"{name}\"")).collect();
                if usual.is_some() {
                    // Earlier runs say whether it fails.
                    return format!("select {} from {table}", inner.join(", "));
                }
                let names: Vec<String> = values.iter().map(|(name, _)| quoted(name)).collect();
                let (inner, wrong) = (inner.join(", "), bound(&wrong, &names));
                format!("select * from (select {inner} from {table}) as measured where {wrong}")
            }
            Check::Unique { columns, nulls_count } => {
                let list = columns.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(", ");
                let some = (!nulls_count).then(|| format!("{} is not null", quoted(&columns[0])));
                let filter = condition([some.as_deref(), self.config.filter.as_deref()]);
                format!("select {list}, count(*) as n_records from {table}{filter} group by {list} having count(*) > 1")
            }
            Check::Reference { column, to, field, to_filter } => {
                let (column, field, to) = (quoted(&column), quoted(&field), to.quoted());
                let some = format!("{column} is not null");
                let filter = condition([Some(some.as_str()), self.config.filter.as_deref()]);
                let to_filter = condition([to_filter.as_deref()]);
                format!(
                    "select child.value as {column} from (select {column} as value from {table}{filter}) as child \
                     left join (select distinct {field} as value from {to}{to_filter}) as parent \
                     on child.value = parent.value where parent.value is null"
                )
            }
            Check::Shape(_) => String::new(),
            Check::Reconciled { sql, .. } => format!("select * from ({sql}) as counted where rows <> rows_in_files"),
            Check::Query { sql } | Check::Series { sql, .. } => sql,
        }
    }

    /// What is run.
    pub fn check(&self) -> Check {
        match &self.kind {
            // Printed from its syntax tree: a comment at its end would swallow what is put around it.
            TestKind::Singular { rendered } | TestKind::Custom { rendered: Some(rendered), .. } => {
                let Ok(parsed) = session::parse(&rendered.sql) else {
                    return Check::Query { sql: rendered.sql.clone() };
                };
                match self.table.as_ref().and_then(|table| plain_condition(&parsed, table)) {
                    Some(wrong) => Check::Rows { wrong },
                    None => Check::Query { sql: parsed.to_string() },
                }
            }
            _ => self.declared.check().unwrap_or(Check::Query { sql: String::new() }),
        }
    }

    /// Hash of what is tested: a test that changed has not passed yet.
    pub fn fingerprint(&self) -> String {
        let config = &self.config;
        let counts = format!("{:?} {} {} {:?}", config.severity, config.warn_if, config.error_if, config.fail_calc);
        let usual = match self.check() {
            Check::Measures { usual: Some(usual), .. } => format!("{usual:?}"),
            Check::Series { times, usual, .. } => format!("{times:?} {usual:?}"),
            _ => String::new(),
        };
        let text = format!("{} {counts} {:?} {}{usual}", self.name, config.on_violation, self.failures_sql());
        blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
    }
}

/// The condition of a check of measures, with these names for their values.
pub fn bound(wrong: &str, names: &[String]) -> String {
    let bind = |text: String, (at, name): (usize, &String)| text.replace(&checks::value(at), name);
    names.iter().enumerate().fold(wrong.to_owned(), bind)
}

/// ` where (a) and (b)`, or nothing without a condition.
pub fn condition<const N: usize>(conditions: [Option<&str>; N]) -> String {
    let given: Vec<String> = conditions.into_iter().flatten().map(|condition| format!("({condition})")).collect();
    if given.is_empty() { String::new() } else { format!(" where {}", given.join(" and ")) }
}

/// Those that compiled; what is wrong with the others is told.
pub(super) fn without_mistakes<T>(results: Vec<Result<T, Vec<Diagnostic>>>, diagnostics: &mut Diagnostics) -> Vec<T> {
    let compiled =
        results.into_iter().filter_map(|result| result.map_err(|problems| diagnostics.extend(problems)).ok());
    compiled.collect()
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
        without_mistakes(results, diagnostics)
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
        if let Some(why) = self.cannot_reconcile(test) {
            return Err(vec![Diagnostic::error(Id::InvalidTest, why).at((*test.span).clone())]);
        }
        let own = test.table.clone().unwrap_or_else(|| TableName::new("tests", test.name.clone()));
        if let Some(why) = self.cannot_leave_out(&compiled) {
            let message = format!("`on_violation` of `{}` cannot leave rows out: {why}", test.name);
            return Err(vec![Diagnostic::error(Id::InvalidTest, message).at((*test.span).clone())]);
        }
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
        if let Some(Check::Shape(shape)) = test.check() {
            return self.types_exist(&shape, test).map(|()| compiled);
        }
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

impl Compiler<'_> {
    /// Why the failing rows of a test cannot be left out, if they are to be.
    fn cannot_leave_out(&self, test: &CompiledTest) -> Option<&'static str> {
        if !test.config.on_violation.leaves_out() {
            return None;
        }
        if !matches!(test.check(), Check::Rows { .. }) {
            return Some("the test is not about each row by itself");
        }
        let Some(model) = test.table.as_ref().and_then(|table| self.project.models.get(table)) else {
            return Some("a source is only read; see its `on_bad_row`");
        };
        let replaces = |(name, read): &(TableName, SourceRead)| {
            let source = self.project.sources.get(name);
            *read == SourceRead::Changes && source.is_some_and(|source| source.ingestion.needs_traces())
        };
        match () {
            () if !model.is_stored() => Some("the model has no table; write the condition into its query"),
            () if model.config.is_history() => Some("a history takes a row that is not there for a deleted one"),
            () if model.is_microbatch() => Some("the model is built in batches; write the condition into its query"),
            () if test.config.on_violation == Violation::Quarantine && model.sources.iter().any(replaces) => {
                Some("rows of changed files are replaced, and the quarantine would keep those of before; write `drop`")
            }
            () => None,
        }
    }

    /// Why the rows of a table cannot be compared with those of files, if they are to be.
    fn cannot_reconcile(&self, test: &DataTest) -> Option<String> {
        let Some(Check::Reconciled { source, .. }) = test.check() else { return None };
        let table = test.table.as_ref()?;
        let Some(declared) = self.project.sources.get(&source) else {
            return Some(format!("`{source}` is a model: `equal_rowcount` compares two tables"));
        };
        let reads = self.project.models.get(table).is_some_and(|model| model.sources.iter().any(|(n, _)| *n == source));
        if !reads {
            return Some(format!("`{table}` does not read `{source}` itself: test the model that does"));
        }
        let is_delta = declared.format == crate::project::Format::Delta;
        is_delta.then(|| format!("`{source}` is a Delta table and has no files of its own: write `equal_rowcount`"))
    }

    /// The types that a test of columns names are types.
    fn types_exist(&self, shape: &Shape, test: &DataTest) -> Result<(), Vec<Diagnostic>> {
        let Shape::Type { types, .. } = shape else { return Ok(()) };
        let wrong = types.iter().filter_map(|text| session::parse_data_type(self.session, text).err());
        let wrong: Vec<Diagnostic> =
            wrong.map(|message| Diagnostic::error(Id::InvalidTest, message).at((*test.span).clone())).collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

/// Whether a test cannot fail to plan: it is about columns that exist, and has no SQL of the user's. Most tests are
/// such, and need no planner.
fn stands_by_itself(test: &DataTest, tables: &Tables) -> bool {
    let columns: Vec<String> = match test.check() {
        Some(Check::Unique { columns, .. }) => columns,
        Some(Check::Rows { .. }) if test.kind.name() == "not_null" => {
            test.column().map(str::to_owned).into_iter().collect()
        }
        _ => return false,
    };
    let schema = test.table.as_ref().and_then(|table| tables.get(table)).map(|source| source.schema());
    test.config.filter.is_none()
        && schema.is_some_and(|schema| columns.iter().all(|name| schema.field_with_name(name).is_ok()))
}
