//! Rows that tests leave out: `on_violation: drop` and `on_violation: quarantine`.
//!
//! The query of the model is filtered by a function that sees each row with the answers of its tests. It keeps what it
//! leaves out, so the query runs once, whatever becomes of its rows.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::json::LineDelimitedWriter;
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{FunctionRegistry, SpillFile, SpillWriter};
use datafusion::logical_expr::{ColumnarValue, LogicalPlan, ScalarFunctionArgs, Signature, Volatility};

use super::fused::Found;
use super::materialize::Failure;
use crate::checks::Check;
use crate::compile::CompiledTest;
use crate::names::TableName;
use crate::project::Violation;
use crate::session::{self, Tables};
use crate::words::quoted;

/// Tests of one model whose failing rows are left out, and what was left out.
pub(super) struct Sieve<'a> {
    table: &'a TableName,
    pub(super) tests: Vec<(&'a CompiledTest, String)>,
    left_out: Arc<LeftOut>,
}

impl<'a> Sieve<'a> {
    /// `None` if no test of the model leaves rows out.
    pub(super) fn new(table: &'a TableName, tests: &[&'a CompiledTest], session: &SessionState) -> Option<Self> {
        let leaves_out =
            |test: &&&CompiledTest| test.config.on_violation.leaves_out() && test.table.as_ref() == Some(table);
        let wrong = |test: &&'a CompiledTest| match test.check() {
            Check::Rows { wrong } => Some((*test, wrong)),
            _ => None,
        };
        let tests: Vec<_> = tests.iter().filter(leaves_out).filter_map(wrong).collect();
        let kept = tests.iter().map(|(test, _)| test.config.on_violation == Violation::Quarantine).collect();
        let left_out = Arc::new(LeftOut::new(kept, session));
        (!tests.is_empty()).then_some(Self { table, tests, left_out })
    }

    /// The rows of a query that pass.
    pub(super) fn over(&self, plan: LogicalPlan, session: &SessionState) -> Result<LogicalPlan, Failure> {
        let schema: SchemaRef = Arc::new(plan.schema().as_arrow().clone());
        let (rows, left_out) = (Arc::clone(&schema), Arc::clone(&self.left_out));
        let passes = session::predicate("passes", Signature::variadic_any(Volatility::Volatile), move |args| {
            left_out.answer(&rows, &args)
        });
        let name = passes.name().to_owned();
        let mut session = session.clone();
        session.register_udf(Arc::new(passes))?;
        let answers = self.tests.iter().map(|(_, wrong)| format!("coalesce({wrong}, false)"));
        let columns = schema.fields().iter().map(|field| quoted(field.name()));
        let arguments: Vec<String> = answers.chain(columns).collect();
        let sql = format!("select * from {} where {name}({})", self.table.quoted(), arguments.join(", "));
        let mut tables = Tables::new();
        tables.insert(self.table.clone(), provider_as_source(Arc::new(ViewTable::new(plan, None))));
        Ok(session::plan(&session, session::parse(&sql)?, &tables)?)
    }

    /// The query runs anew: what it left out before does not count.
    pub(super) fn begin(&self) {
        *self.left_out.state() = State::default();
    }

    /// What each test found, and how many rows there were.
    pub(super) fn found(&self) -> Vec<(&'a CompiledTest, Found)> {
        let state = self.left_out.state();
        let found = |(at, (test, _)): (usize, &(&'a CompiledTest, String))| {
            let failures = state.failed.get(at).copied().unwrap_or_default();
            (*test, Found { failures, rows: Some(state.rows), left_out: true, ..Found::default() })
        };
        self.tests.iter().enumerate().map(found).collect()
    }

    /// How many rows are for the quarantine.
    pub(super) fn rows_quarantined(&self) -> u64 {
        self.left_out.state().quarantined
    }

    /// The file of rows for the quarantine, one JSON object a line, with the test as `test` and the row as `row`.
    pub(super) fn quarantined(&self) -> Result<Option<PathBuf>, Failure> {
        let mut state = self.left_out.state();
        let Some((file, writer)) = &mut state.kept else { return Ok(None) };
        let lost = |why: String| Failure::text(format!("rows for the quarantine: {why}"));
        writer.flush().map_err(|error| lost(error.to_string()))?;
        let path = file.path().ok_or_else(|| lost("temporary files are not on this machine".to_owned()))?;
        Ok(Some(path.to_path_buf()))
    }
}

/// A file, and who writes to it.
type Spilled = (Arc<dyn SpillFile>, BufWriter<Box<dyn SpillWriter>>);

/// What was left out.
struct LeftOut {
    /// Of each test, whether its rows are kept.
    kept: Vec<bool>,
    runtime: Arc<RuntimeEnv>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rows: u64,
    /// Of each test.
    failed: Vec<u64>,
    quarantined: u64,
    kept: Option<Spilled>,
}

impl LeftOut {
    fn new(kept: Vec<bool>, session: &SessionState) -> Self {
        Self { kept, runtime: Arc::clone(session.runtime_env()), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of the answers of the tests and then all columns of the rows: which rows stay.
    fn answer(&self, columns: &SchemaRef, args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays =
            args.args.iter().map(|value| value.to_array(args.number_rows)).collect::<Result<Vec<ArrayRef>>>()?;
        let (wrong, values) = arrays.split_at(self.kept.len());
        let wrong: Vec<BooleanArray> = wrong.iter().map(|wrong| wrong.as_boolean().clone()).collect();
        let rows = RecordBatch::try_new(Arc::clone(columns), values.to_vec())?;
        Ok(ColumnarValue::Array(Arc::new(self.see(&wrong, &rows)?)))
    }

    /// Looks at the answers of the tests; says which rows stay.
    fn see(&self, wrong: &[BooleanArray], rows: &RecordBatch) -> Result<BooleanArray> {
        let mut state = self.state();
        state.rows += rows.num_rows() as u64;
        state.failed.resize(wrong.len(), 0);
        for (at, wrong) in wrong.iter().enumerate() {
            state.failed[at] += wrong.true_count() as u64;
        }
        let is_wrong = |row: usize| wrong.iter().position(|wrong| wrong.value(row));
        let first: Vec<Option<usize>> = (0..rows.num_rows()).map(is_wrong).collect();
        for (at, _) in self.kept.iter().enumerate().filter(|(_, kept)| **kept) {
            let mine: BooleanArray = first.iter().map(|first| Some(*first == Some(at))).collect();
            if mine.true_count() > 0 {
                self.keep(&mut state, at, &filter_record_batch(rows, &mine)?)?;
            }
        }
        Ok(first.iter().map(|first| Some(first.is_none())).collect())
    }

    fn keep(&self, state: &mut State, test: usize, rows: &RecordBatch) -> Result<()> {
        let mut writer = LineDelimitedWriter::new(Vec::new());
        writer.write(rows)?;
        writer.finish()?;
        state.quarantined += rows.num_rows() as u64;
        let lines = writer.into_inner();
        let (_, out) = match &mut state.kept {
            Some(kept) => kept,
            None => {
                let made = self.runtime.disk_manager.create_tmp_file("rows that fail tests")?;
                let writer = BufWriter::new(made.open_writer()?);
                state.kept.insert((made, writer))
            }
        };
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let row = String::from_utf8_lossy(line);
            serde_json::to_writer(&mut *out, &serde_json::json!({"test": test, "row": row}))
                .map_err(|error| DataFusionError::External(error.into()))?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }
}
