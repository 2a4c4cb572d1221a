//! The rows that fail a test, so that somebody can look at them: their key, their rule, the file they came from.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::json::LineDelimitedWriter;
use serde_json::{Map, Value};

use super::inputs::Inputs;
use super::materialize::Failure;
use super::report::FailedRow;
use crate::checks::Check;
use crate::compile::CompiledTest;
use crate::names::TableName;
use crate::project::TestKind;

/// How many failing rows of a test are kept, if it does not say so itself.
const KEPT: u64 = 100;

/// A query of the failing rows that are kept; `None` if none are.
pub(super) fn query(test: &CompiledTest, check: &Check) -> Option<String> {
    let limit = test.config.limit.unwrap_or(KEPT);
    let sql = test.failures_sql();
    let has_rows = !sql.is_empty() && !matches!(check, Check::Shape(_)) && limit > 0;
    let is_kept = test.config.store_failures != Some(false) && has_rows;
    is_kept.then(|| format!("select * from ({sql}) as failing limit {limit}"))
}

/// These rows as they are kept.
pub(super) fn rows(inputs: &Inputs, test: &CompiledTest, batches: &[RecordBatch]) -> Result<Vec<FailedRow>, Failure> {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    let unwritable = |error: datafusion::arrow::error::ArrowError| Failure::text(error.to_string());
    for batch in batches {
        writer.write(batch).map_err(unwritable)?;
    }
    writer.finish().map_err(unwritable)?;
    let text = String::from_utf8_lossy(&writer.into_inner()).into_owned();
    Ok(text.lines().map(|line| row(inputs, test, &masked(inputs, test, line))).collect())
}

/// What stands for a value that is not for everybody.
pub(super) const HIDDEN: &str = "***";

/// A row without the values of sensitive columns: of the tested table, or of the tables that a query of the project's reads.
fn masked(inputs: &Inputs, test: &CompiledTest, line: &str) -> String {
    let compiled = &inputs.runtime().compiled;
    // What is worked out of a sensitive column has a name of its own.
    let own = test.table.as_ref().zip(test.column()).filter(|(table, column)| compiled.is_sensitive(table, column));
    let is_made = |column: &str| own.is_some_and(|(table, _)| !has_column(inputs, table, column));
    let hides = |column: &str| is_made(column) || test.reads.iter().any(|table| compiled.is_sensitive(table, column));
    let Ok(mut row) = serde_json::from_str::<Map<String, Value>>(line) else { return line.to_owned() };
    let mut is_changed = false;
    for (_, value) in row.iter_mut().filter(|(column, value)| !value.is_null() && hides(column)) {
        *value = HIDDEN.into();
        is_changed = true;
    }
    if is_changed { Value::Object(row).to_string() } else { line.to_owned() }
}

fn has_column(inputs: &Inputs, table: &TableName, column: &str) -> bool {
    let compiled = &inputs.runtime().compiled;
    let model = compiled.models.get(table).map(|model| &*model.schema);
    model.or_else(|| compiled.sources.get(table)).is_some_and(|schema| schema.field_with_name(column).is_ok())
}

/// A row, given as JSON, as it is kept.
pub(super) fn row(inputs: &Inputs, test: &CompiledTest, line: &str) -> FailedRow {
    let row: Map<String, Value> = serde_json::from_str(line).unwrap_or_default();
    let keys = keys(inputs, test).into_iter();
    let key: Map<String, Value> = keys.filter_map(|column| Some((column.clone(), row.get(&column)?.clone()))).collect();
    FailedRow {
        node: test.table.as_ref().map(ToString::to_string),
        rule: rule(test),
        key: (!key.is_empty()).then(|| Value::Object(key).to_string()),
        source_file: row.get("_file_path").and_then(Value::as_str).map(str::to_owned),
        source_row: row.get("_row_number").and_then(Value::as_i64),
        row: line.to_owned(),
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
