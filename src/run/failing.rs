//! The rows that fail a test, so that somebody can look at them: their key, their rule, the file they came from.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::json::LineDelimitedWriter;
use serde_json::{Map, Value};

use super::inputs::Inputs;
use super::materialize::Failure;
use super::report::FailedRow;
use crate::checks::Check;
use crate::compile::CompiledTest;
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
    Ok(text.lines().map(|line| row(inputs, test, line)).collect())
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
