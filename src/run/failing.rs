//! The rows that fail a test, so that somebody can look at them: their key, their rule, the file they came from.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::json::LineDelimitedWriter;
use serde_json::{Map, Value};

use super::inputs::Inputs;
use super::materialize::Failure;
use super::report::FailedRow;
use crate::checks::Check;
use crate::compile::{CompiledProject, CompiledTest};
use crate::names::TableName;
use crate::project::TestKind;
use crate::words::HIDDEN;

/// How many failing rows of a test are kept, if it does not say so itself.
const KEPT: u64 = 100;

/// A query of the failing rows that are kept; `None` if none are.
pub(super) fn query(test: &CompiledTest) -> Option<String> {
    let limit = test.config.limit.unwrap_or(KEPT);
    let sql = test.failures_sql();
    // A test of the columns themselves has no rows.
    let is_kept = test.config.store_failures != Some(false) && !sql.is_empty() && limit > 0;
    is_kept.then(|| format!("select * from ({sql}) as failing limit {limit}"))
}

/// What is known of the failing rows of a test before there are any.
pub(super) struct Failing<'a> {
    pub(super) test: &'a CompiledTest,
    mask: Mask<'a>,
    keys: Vec<String>,
    rule: String,
}

impl<'a> Failing<'a> {
    pub(super) fn new(inputs: &'a Inputs, test: &'a CompiledTest) -> Self {
        let mask = Mask::new(&inputs.runtime().compiled, test);
        Self { test, mask, keys: keys(inputs, test), rule: rule(test) }
    }

    /// These rows as they are kept.
    pub(super) fn rows(&self, batches: &[RecordBatch]) -> Result<Vec<FailedRow>, Failure> {
        let mut writer = LineDelimitedWriter::new(Vec::new());
        let unwritable = |error: datafusion::arrow::error::ArrowError| Failure::text(error.to_string());
        for batch in batches {
            writer.write(batch).map_err(unwritable)?;
        }
        writer.finish().map_err(unwritable)?;
        let text = String::from_utf8_lossy(&writer.into_inner()).into_owned();
        Ok(text.lines().map(|line| self.row(&self.masked(line))).collect())
    }

    /// A row, given as JSON, as it is kept.
    pub(super) fn row(&self, line: &str) -> FailedRow {
        let row: Map<String, Value> = serde_json::from_str(line).unwrap_or_default();
        let value = |column: &String| Some((column.clone(), row.get(column)?.clone()));
        let key: Map<String, Value> = self.keys.iter().filter_map(value).collect();
        FailedRow {
            node: self.test.table.as_ref().map(ToString::to_string),
            rule: self.rule.clone(),
            key: (!key.is_empty()).then(|| Value::Object(key).to_string()),
            source_file: row.get("_file_path").and_then(Value::as_str).map(str::to_owned),
            source_row: row.get("_row_number").and_then(Value::as_i64),
            row: line.to_owned(),
        }
    }

    /// A row without the values of sensitive columns.
    fn masked(&self, line: &str) -> String {
        let Ok(mut row) = serde_json::from_str::<Map<String, Value>>(line) else { return line.to_owned() };
        if self.mask.hide(&mut row) { Value::Object(row).to_string() } else { line.to_owned() }
    }
}

/// Which values of the rows that fail a test are not for everybody.
pub struct Mask<'a> {
    compiled: &'a CompiledProject,
    test: &'a CompiledTest,
    /// What the test works out may be of a sensitive column.
    hides_derived: bool,
}

impl<'a> Mask<'a> {
    /// That of a test.
    pub fn new(compiled: &'a CompiledProject, test: &'a CompiledTest) -> Self {
        Self { compiled, test, hides_derived: compiled.speaks_of_sensitive(test) }
    }

    /// Takes the values of sensitive columns out of a row; whether there were any.
    pub fn hide(&self, row: &mut Map<String, Value>) -> bool {
        if self.compiled.sensitive.is_empty() {
            return false;
        }
        let mut is_changed = false;
        for (_, value) in row.iter_mut().filter(|(column, value)| !value.is_null() && self.hides(column)) {
            *value = HIDDEN.into();
            is_changed = true;
        }
        is_changed
    }

    /// Whether a column of the tested table, or of the tables that a query of the project's reads, is sensitive; a name that
    /// none of them has is worked out.
    fn hides(&self, column: &str) -> bool {
        let Self { compiled, test, hides_derived } = self;
        let has =
            |table: &&TableName| compiled.schema_of(table).is_some_and(|schema| schema.field_with_name(column).is_ok());
        let mut having = test.table.iter().chain(&test.reads).filter(has).peekable();
        if having.peek().is_none() { *hides_derived } else { having.any(|table| compiled.is_sensitive(table, column)) }
    }
}

/// The columns that tell a row of the tested table from others: its `unique_key`, or a column that is tested to be unique.
fn keys(inputs: &Inputs, test: &CompiledTest) -> Vec<String> {
    let runtime = inputs.runtime();
    let Some(table) = &test.table else { return Vec::new() };
    let declared = runtime.project.models.get(table).map(|model| model.config.unique_key.clone()).unwrap_or_default();
    if !declared.is_empty() {
        return declared;
    }
    let mut unique = runtime.compiled.tests_on(table).filter_map(|test| match test.check() {
        Check::Unique { columns, .. } => Some(columns),
        _ => None,
    });
    unique.next().unwrap_or_default()
}

/// What the test says, in words.
fn rule(test: &CompiledTest) -> String {
    let about = match &test.kind {
        TestKind::Generic { test, .. } => test.about.to_owned(),
        TestKind::Custom { name, .. } => name.clone(),
        TestKind::Singular { .. } => "its query returns no row".to_owned(),
    };
    match test.column() {
        Some(column) => format!("{column}: {about}"),
        None => about,
    }
}
