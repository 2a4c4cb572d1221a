//! Running unit tests: each is a query over rows in memory, or runs that fill a table in a lake of its own.
//!
//! No table of the real lake is read. Tests run at the same time, as many as there are threads.

mod diff;
mod joins;
mod mask;
mod query;
mod record;
mod runs;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use datafusion::execution::session_state::SessionState;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::report::TestStatus;
use super::{Failure, Runtime, SharedRuntime};
use crate::compile::CompiledUnitTest;
use crate::diagnostics::Diagnostic;
use crate::graph::Selection;
use crate::memo::KeyMaker;
use crate::names::TableName;
use crate::project::{UnitSubject, UnitTest};
use crate::session;

pub use diff::{Diff, DiffKind, DiffRow, Values};
pub use record::{Recorded, record};

/// The result of a unit test.
#[derive(Debug, Clone, Serialize)]
pub struct UnitTestResult {
    /// Its name.
    pub name: String,
    /// `unit_test`.
    pub resource_type: &'static str,
    /// The model that it tests.
    pub model: Option<TableName>,
    /// The macro that it tests.
    #[serde(rename = "macro")]
    pub macro_name: Option<String>,
    /// How it ended.
    pub status: TestStatus,
    /// Rows that are not as expected.
    pub failures: Option<u64>,
    /// What went wrong.
    pub message: Option<String>,
    /// The rows that are not as expected.
    pub diff: Option<Diff>,
    /// It passed in an earlier run, and nothing that decides it has changed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unchanged: bool,
    /// The build before said the same of it.
    #[serde(skip)]
    pub said_before: bool,
    /// The models that are not built when it fails: the one that it tests, or those that use the macro.
    #[serde(skip)]
    pub refuses: Vec<TableName>,
    /// Where it is declared.
    pub path: String,
    /// The line there, if it did not pass.
    pub line: Option<usize>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl UnitTestResult {
    /// Whether the model must not be built.
    pub fn blocks(&self) -> bool {
        matches!(self.status, TestStatus::Fail | TestStatus::Error)
    }
}

/// Runs the selected unit tests; results come in the order of their declarations. With `trusting`, a test that has
/// passed before is not run again while nothing that decides it has changed.
#[tracing::instrument(name = "unit tests", skip_all)]
pub async fn run_unit_tests(
    runtime: &SharedRuntime,
    selection: &Selection,
    trusting: bool,
    on_result: &(dyn Fn(&UnitTestResult) + Sync),
) -> Vec<UnitTestResult> {
    let selected = runtime.compiled.unit_tests.iter().filter(|test| selection.contains_test(&test.name));
    let selected: Arc<[CompiledUnitTest]> = selected.cloned().collect();
    // A few rows are not worth a second partition.
    let session = Arc::new(session::one_partition(&runtime.session));
    let (next, (done, mut ended)) = (Arc::new(AtomicUsize::new(0)), mpsc::unbounded_channel());
    let mut workers = JoinSet::new();
    for _ in 0..runtime.options.threads.max(1) {
        let (runtime, session, selected) = (Arc::clone(runtime), Arc::clone(&session), Arc::clone(&selected));
        let (next, done) = (Arc::clone(&next), done.clone());
        workers.spawn(async move {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(test) = selected.get(at) else { return };
                // Nobody listens only if another worker panicked.
                let _ = done.send((at, run_one(&runtime, &session, test, trusting).await));
            }
        });
    }
    drop(done);
    let (mut results, mut early) = (Vec::with_capacity(selected.len()), BTreeMap::new());
    while let Some((at, result)) = ended.recv().await {
        early.insert(at, result);
        while let Some(result) = early.remove(&results.len()) {
            on_result(&result);
            results.push(result);
        }
    }
    while let Some(worker) = workers.join_next().await {
        if let Err(error) = worker
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    results
}

async fn run_one(runtime: &Runtime, session: &SessionState, test: &CompiledUnitTest, trusting: bool) -> UnitTestResult {
    let start = Instant::now();
    if trusting && test.verdict.is_some_and(|key| runtime.memo.get::<()>(key).is_some()) {
        return UnitTestResult { unchanged: true, ..result(runtime, test, Ok(None), start) };
    }
    let frozen = test.overrides.now.map(|now| session::frozen(session, now));
    let session = frozen.as_ref().unwrap_or(session);
    let found = match &test.subject {
        UnitSubject::Model(case) if case.of_table => runs::compare_table(runtime, session, test, case).await,
        UnitSubject::Model(case) => query::compare_model(runtime, session, test, case).await,
        UnitSubject::Macro(cases) => query::compare_macro(session, test, cases).await,
    };
    if let (Ok(None), Some(key)) = (&found, test.verdict) {
        runtime.memo.put(key, &());
    }
    let said_before = trusting && found.as_ref().is_ok_and(|diff| says_again(runtime, test, diff.is_none()));
    UnitTestResult { said_before, ..result(runtime, test, found, start) }
}

/// Remembers what a build says of a test, and tells whether the build before said it, too.
fn says_again(runtime: &Runtime, test: &CompiledUnitTest, passes: bool) -> bool {
    let key = KeyMaker::new("what was said of a unit test").text(&test.name).finish();
    let before = runtime.memo.get::<bool>(key);
    if before != Some(passes) {
        runtime.memo.put(key, &passes);
    }
    before == Some(passes)
}

fn result(runtime: &Runtime, test: &UnitTest, found: Result<Option<Diff>, Failure>, start: Instant) -> UnitTestResult {
    let (status, message, diff) = match found {
        Ok(None) => (TestStatus::Pass, None, None),
        Ok(Some(diff)) => (TestStatus::Fail, Some(summary(&diff)), Some(diff)),
        Err(failure) => (TestStatus::Error, Some(failure.to_string()), None),
    };
    let macro_name = match &test.subject {
        UnitSubject::Macro(cases) => Some(cases.name.clone()),
        UnitSubject::Model(_) => None,
    };
    UnitTestResult {
        name: test.name.clone(),
        resource_type: "unit_test",
        model: test.model().cloned(),
        macro_name,
        status,
        failures: diff.as_ref().map(|diff| diff.rows.len() as u64).or_else(|| message.is_none().then_some(0)),
        message,
        diff,
        unchanged: false,
        said_before: false,
        refuses: if status == TestStatus::Pass { Vec::new() } else { refused(runtime, test) },
        path: test.span.file.path.clone(),
        line: (status != TestStatus::Pass).then(|| test.span.position().0),
        seconds: start.elapsed().as_secs_f64(),
    }
}

/// The models that depend on what a test tests.
fn refused(runtime: &Runtime, test: &UnitTest) -> Vec<TableName> {
    match &test.subject {
        UnitSubject::Model(case) => vec![case.model.clone()],
        UnitSubject::Macro(cases) => {
            let name = cases.name.rsplit('.').next().unwrap_or(&cases.name);
            let uses = |text: &str| runtime.project.macros.reached(text).contains_key(name);
            let models = runtime.project.models.values().filter(|model| model.seed.is_none());
            models.filter(|model| uses(model.file.text())).map(|model| model.name.clone()).collect()
        }
    }
}

/// `1 row differs, 2 rows are missing`.
fn summary(diff: &Diff) -> String {
    let kinds = [
        (DiffKind::Differs, "differs", "differ"),
        (DiffKind::Missing, "is missing", "are missing"),
        (DiffKind::Unexpected, "is unexpected", "are unexpected"),
    ];
    let counts = kinds.into_iter().map(|(kind, one, many)| (diff.count(kind), one, many));
    let parts = counts.filter(|(count, ..)| *count > 0).map(|(count, one, many)| match count {
        1 => format!("1 row {one}"),
        _ => format!("{count} rows {many}"),
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// Mistakes that compiling would have told, in words.
fn in_words(problems: Vec<Diagnostic>) -> Failure {
    Failure::text(problems.into_iter().map(|problem| problem.message).collect::<Vec<_>>().join("; "))
}
