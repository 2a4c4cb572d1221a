//! `lake test --failures`: the rows that failed a test when it last failed.

use std::io::Cursor;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::json::ReaderBuilder;
use datafusion::arrow::json::reader::infer_json_schema;
use datafusion::arrow::util::display::FormatOptions;
use datafusion::arrow::util::pretty::pretty_format_batches_with_options;
use serde_json::Value;

use super::args::Global;
use super::printer::{Paint, Printer};
use super::{ExitStatus, Pipeline};
use crate::graph::SelectError;
use crate::names::nearest;
use crate::project::{DataTest, Project};
use crate::run::{Failure, Inputs, Mask};
use crate::session;
use crate::words::sql_text;

pub(super) fn run(global: &Global, name: &str, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    let test = named(&pipeline.project, name)?.name.clone();
    let Ok(compiled) = pipeline.compile(printer)? else { return Ok(ExitStatus::Wrong) };
    let (runtime, async_runtime) = compiled.into_runtime()?;
    let inputs = Inputs::new(Arc::clone(&runtime));
    let test_text = sql_text(&test);
    let sql = format!(
        "select cast(started_at as varchar) as at, rule, declared, \"key\", source_file, source_row, \"row\" from _lake.failures \
         where test = {test_text} and started_at = (select max(started_at) from _lake.failures where test = {test_text})"
    );
    let found: Result<Vec<RecordBatch>, Failure> = async_runtime.block_on(async {
        let plan = inputs.plan_query(&sql).await?;
        Ok(session::query(&runtime.session, plan).collect().await?)
    });
    // Before the first failure of all there is no such table.
    let found = found.unwrap_or_default();
    let mut rows: Vec<Value> = found.iter().flat_map(values).collect();
    // A column that was not sensitive when they were kept may be now.
    if let Some(test) = runtime.compiled.tests.iter().find(|known| known.name == test) {
        let mask = Mask::new(&runtime.compiled, test);
        for row in &mut rows {
            for part in ["key", "row"] {
                row[part].as_object_mut().map(|values| mask.hide(values));
            }
        }
    }
    if printer.is_json() {
        printer.json(&Value::Array(rows));
        return Ok(ExitStatus::Fine);
    }
    let Some(first) = rows.first() else {
        printer.note(&format!("no row that failed `{test}` is kept"));
        return Ok(ExitStatus::Fine);
    };
    let text = |key: &str| first[key].as_str().unwrap_or_default().to_owned();
    printer.result(&format!("{}  {}", printer.paint(Paint::Bold, &test), printer.paint(Paint::Dim, &text("declared"))));
    printer.result(&format!("{}, in the run of {}", text("rule"), text("at")));
    printer.result(&table(&rows)?);
    Ok(ExitStatus::Fine)
}

/// A test by its name, or by that of its table and its own.
fn named<'a>(project: &'a Project, name: &str) -> anyhow::Result<&'a DataTest> {
    let full = |test: &DataTest| {
        test.table.as_ref().map(|table| [format!("{table}.{}", test.name), format!("{}.{}", table.table, test.name)])
    };
    let is_it = |test: &&Arc<DataTest>| {
        test.name == name || full(test).is_some_and(|names| names.iter().any(|full| full == name))
    };
    if let Some(test) = project.data_tests.iter().find(is_it) {
        return Ok(test);
    }
    let names = project.data_tests.iter().map(|test| test.name.as_str());
    let own = name.rsplit('.').next().unwrap_or(name);
    let help = nearest(own, names).map(|near| format!("did you mean `{near}`?"));
    Err(SelectError { message: format!("there is no test `{name}`"), help }.into())
}

/// The rows of a batch of texts and numbers.
fn values(batch: &RecordBatch) -> Vec<Value> {
    let cell = |column: &str, row: usize| {
        let values = batch.column_by_name(column)?;
        if values.is_null(row) {
            return None;
        }
        match values.as_string_opt::<i32>() {
            Some(texts) => Some(Value::from(texts.value(row))),
            None => Some(Value::from(values.as_primitive::<datafusion::arrow::datatypes::Int64Type>().value(row))),
        }
    };
    let inner = |column: &str, row: usize| {
        let text = cell(column, row)?;
        serde_json::from_str::<Value>(text.as_str()?).ok()
    };
    (0..batch.num_rows())
        .map(|row| {
            serde_json::json!({
                "at": cell("at", row), "rule": cell("rule", row), "declared": cell("declared", row),
                "key": inner("key", row), "source_file": cell("source_file", row), "source_row": cell("source_row", row),
                "row": inner("row", row),
            })
        })
        .collect()
}

/// The failing rows as a table of their own columns.
fn table(rows: &[Value]) -> anyhow::Result<String> {
    let lines: String = rows.iter().map(|row| format!("{}\n", row["row"])).collect();
    let (schema, _) = infer_json_schema(Cursor::new(&lines), None)?;
    let reader = ReaderBuilder::new(Arc::new(schema)).build(Cursor::new(&lines))?;
    let batches: Vec<RecordBatch> = reader.collect::<Result<_, _>>()?;
    let options = FormatOptions::default().with_null("NULL");
    Ok(pretty_format_batches_with_options(&batches, &options)?.to_string())
}
