//! What earlier runs left in the tables of the lake: `_lake/runs`, `_lake/node_results`, `_lake/test_results`,
//! `_lake/failures`, `_lake/profiles`. The newest runs, as far as people look back.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde_json::{Map, Value};

use super::chronicle::UNIT_TEST;
use super::failing::Mask;
use super::inputs::Inputs;
use super::materialize::Failure;
use super::profiles::{ColumnProfile, TableProfile};
use super::report::{Status, TestStatus};
use crate::compile::CompiledTest;
use crate::names::TableName;
use crate::session;
use crate::words::sql_text;

/// Runs that are looked back at.
const RUNS: usize = 50;
/// Results of nodes and tests that are looked back at: fewer runs of large projects.
const RESULTS: u64 = 60_000;
/// Runs that are looked back at in any case.
const LEAST_RUNS: usize = 3;
/// Failing rows of a test that are shown, and of all tests together.
const ROWS_OF_TEST: usize = 20;
const ROWS_OF_ALL: usize = 2_000;

/// What [`Row::test`] reads.
const TEST_COLUMNS: &str = "test, status, failures, message, proved, seconds";

/// What earlier runs left.
#[derive(Debug, Default)]
pub struct Chronicled {
    /// Runs, oldest first.
    pub runs: Vec<RecordedRun>,
    /// How each unit test ended when it last ran, and when that was.
    pub unit_tests: HashMap<String, (DateTime<Utc>, RecordedTest)>,
    /// The failing rows of each test, of the last run that kept some.
    pub failures: Vec<RecordedFailures>,
    /// The newest profile of each table that is not newer than what is published.
    pub profiles: BTreeMap<TableName, TableProfile>,
}

/// A run.
#[derive(Debug)]
pub struct RecordedRun {
    /// Its id.
    pub id: String,
    /// `build`, `run`, `test`, ...
    pub command: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// How long it took.
    pub seconds: f64,
    /// `success`, `error`, `cancelled`.
    pub status: String,
    /// The version of `lake`.
    pub lake_version: String,
    /// Nodes that were built, skipped, failed, blocked; tests, those that failed, and those that warned.
    pub counts: [u64; 7],
    /// What became of each node.
    pub nodes: Vec<RecordedNode>,
    /// What tests found.
    pub tests: Vec<RecordedTest>,
}

/// What became of a node in a run.
#[derive(Debug)]
pub struct RecordedNode {
    /// `layer.model`.
    pub node: String,
    /// How it ended.
    pub status: Status,
    /// What was done.
    pub action: String,
    /// Why.
    pub reason: String,
    /// Seconds after the start of the run.
    pub start: f64,
    /// How long it took.
    pub seconds: f64,
    /// New rows.
    pub rows: u64,
    /// Bytes of new files.
    pub bytes: u64,
    /// Rows that were left out.
    pub rows_quarantined: u64,
    /// Source files that were read.
    pub files_read: u64,
    /// The published version.
    pub version: Option<u64>,
}

/// What a test found in a run.
#[derive(Debug)]
pub struct RecordedTest {
    /// Its name.
    pub test: String,
    /// How it ended.
    pub status: TestStatus,
    /// Failing rows.
    pub failures: Option<u64>,
    /// What went wrong.
    pub message: Option<String>,
    /// Why it passed without a look at the rows.
    pub proved: Option<String>,
    /// How long it took.
    pub seconds: f64,
}

/// Rows that failed a test.
#[derive(Debug)]
pub struct RecordedFailures {
    /// The test.
    pub test: String,
    /// The run.
    pub run: String,
    /// When it started.
    pub at: DateTime<Utc>,
    /// What the test says, in words.
    pub rule: String,
    /// Rows without values of sensitive columns.
    pub rows: Vec<Map<String, Value>>,
    /// For each of them the source file and its row there, where the table keeps them.
    pub files: Vec<(Option<String>, Option<i64>)>,
}

impl Inputs {
    /// What the newest runs left. `published` says which profiles count.
    pub(super) async fn recorded(&self, published: &HashMap<TableName, u64>) -> Result<Chronicled, Failure> {
        let mut runs = self.recorded_runs().await?;
        let Some(oldest) = runs.iter().map(|run| run.id.clone()).min() else { return Ok(Chronicled::default()) };
        // Ids of runs begin with their time, so the statistics of files tell which of them are too old.
        let since = format!("invocation_id >= {}", sql_text(&oldest));
        let at: HashMap<String, usize> = runs.iter().enumerate().map(|(at, run)| (run.id.clone(), at)).collect();
        self.read_nodes(&since, &at, &mut runs).await?;
        self.read_tests(&since, &at, &mut runs).await?;
        let failures = self.recorded_failures(&since).await?;
        let profiles = self.recorded_profiles(published).await?;
        let unit_tests = self.recorded_unit_tests().await?;
        Ok(Chronicled { runs, unit_tests, failures, profiles })
    }

    async fn recorded_runs(&self) -> Result<Vec<RecordedRun>, Failure> {
        let sql = format!(
            "select invocation_id, command, status, lake_version, cast(started_at as bigint) as started, built, skipped, failed, blocked, tests, \
             tests_failed, tests_warned, seconds from _lake.runs order by started desc limit {RUNS}"
        );
        let mut runs = Vec::new();
        let mut results = 0;
        self.each("runs", &sql, |row| {
            let counts: [u64; 7] = std::array::from_fn(|at| row.count(5 + at));
            let run = RecordedRun {
                id: row.text(0),
                command: row.text(1),
                started_at: row.time(4),
                seconds: row.real(12),
                status: row.text(2),
                lake_version: row.text(3),
                counts,
                nodes: Vec::new(),
                tests: Vec::new(),
            };
            results += counts[..5].iter().sum::<u64>();
            if runs.len() < LEAST_RUNS || results <= RESULTS {
                runs.push(run);
            }
        })
        .await?;
        runs.reverse();
        Ok(runs)
    }

    async fn read_nodes(
        &self,
        since: &str,
        at: &HashMap<String, usize>,
        runs: &mut [RecordedRun],
    ) -> Result<(), Failure> {
        let sql = format!(
            "select invocation_id, node, status, action, reason, cast(started_at as bigint) as started, rows, bytes, rows_quarantined, files_read, \
             version, seconds from _lake.node_results where {since} order by started"
        );
        self.each("node_results", &sql, |row| {
            let Some(run) = at.get(row.word(0)).map(|at| &mut runs[*at]) else { return };
            let start = (row.time(5) - run.started_at).num_microseconds().unwrap_or_default() as f64 / 1e6;
            run.nodes.push(RecordedNode {
                node: row.text(1),
                status: row.status(2).unwrap_or(Status::Error),
                action: row.text(3),
                reason: row.text(4),
                start: start.max(0.0),
                seconds: row.real(11),
                rows: row.count(6),
                bytes: row.count(7),
                rows_quarantined: row.count(8),
                files_read: row.count(9),
                version: row.known(10),
            });
        })
        .await
    }

    async fn read_tests(
        &self,
        since: &str,
        at: &HashMap<String, usize>,
        runs: &mut [RecordedRun],
    ) -> Result<(), Failure> {
        let sql = format!(
            "select {TEST_COLUMNS}, invocation_id from _lake.test_results where {since} and kind is distinct from '{UNIT_TEST}'"
        );
        self.each("test_results", &sql, |row| {
            if let Some(run) = at.get(row.word(6)).map(|at| &mut runs[*at]) {
                run.tests.push(row.test());
            }
        })
        .await
    }

    /// A unit test that passed runs again when something about it changes: that may be long ago.
    async fn recorded_unit_tests(&self) -> Result<HashMap<String, (DateTime<Utc>, RecordedTest)>, Failure> {
        let sql = format!(
            "select {TEST_COLUMNS}, cast(started_at as bigint) as started from _lake.test_results where kind = '{UNIT_TEST}' order by started"
        );
        let mut found = HashMap::new();
        self.each("test_results", &sql, |row| _ = found.insert(row.text(0), (row.time(6), row.test()))).await?;
        Ok(found)
    }

    /// What was kept is masked already; a column that was not sensitive then may be now.
    async fn recorded_failures(&self, since: &str) -> Result<Vec<RecordedFailures>, Failure> {
        let compiled = &self.runtime().compiled;
        let tests: HashMap<&str, &CompiledTest> =
            compiled.tests.iter().map(|test| (test.name.as_str(), test)).collect();
        let sql = format!(
            "select test, invocation_id, cast(started_at as bigint) as started, rule, source_file, source_row, \"row\" from _lake.failures \
             where {since} order by started desc, test"
        );
        let mut masks: HashMap<&str, Mask<'_>> = HashMap::new();
        let mut found: Vec<RecordedFailures> = Vec::new();
        let (mut place, mut rows): (HashMap<String, usize>, usize) = (HashMap::new(), 0);
        self.each("failures", &sql, |row| {
            let Some(test) = tests.get(row.word(0)) else { return };
            let at = *place.entry(row.text(0)).or_insert_with(|| {
                found.push(RecordedFailures {
                    test: row.text(0),
                    run: row.text(1),
                    at: row.time(2),
                    rule: row.text(3),
                    rows: Vec::new(),
                    files: Vec::new(),
                });
                found.len() - 1
            });
            let kept = &mut found[at];
            if kept.run != row.word(1) || kept.rows.len() >= ROWS_OF_TEST || rows >= ROWS_OF_ALL {
                return;
            }
            let Ok(mut values) = serde_json::from_str::<Map<String, Value>>(row.word(6)) else { return };
            masks.entry(&test.name).or_insert_with(|| Mask::new(compiled, test)).hide(&mut values);
            kept.rows.push(values);
            kept.files.push((row.some(4).map(str::to_owned), row.whole(5)));
            rows += 1;
        })
        .await?;
        for failures in &mut found {
            if failures.files.iter().all(|(file, _)| file.is_none()) {
                failures.files.clear();
            }
        }
        Ok(found)
    }

    async fn recorded_profiles(
        &self,
        published: &HashMap<TableName, u64>,
    ) -> Result<BTreeMap<TableName, TableProfile>, Failure> {
        let newest = self.newest_profiles(published).await?;
        if newest.is_empty() {
            return Ok(BTreeMap::new());
        }
        let versions: HashSet<u64> = newest.values().copied().collect();
        let mut versions: Vec<String> = versions.into_iter().map(|version| version.to_string()).collect();
        versions.sort();
        let sql = format!(
            "select node, version, cast(\"at\" as varchar) as made, rows, files, bytes, column_name, data_type, nulls, distinct_values, \
             cast(distinct_is_exact as bigint) as exact, min, max, mean, p05, p25, p50, p75, p95, min_length, max_length, mean_length, \
             top_values, cast(masked as bigint) as hidden from _lake.profiles where version in ({}) order by made",
            versions.join(", ")
        );
        let mut found: BTreeMap<TableName, TableProfile> = BTreeMap::new();
        let names: HashMap<&str, &TableName> = newest.keys().map(|name| (name.as_str(), name)).collect();
        let compiled = &self.runtime().compiled;
        self.each("profiles", &sql, |row| {
            let Some(name) = names.get(row.word(0)).copied().filter(|name| newest[*name] == row.count(1)) else {
                return;
            };
            let profile = found.entry(name.clone()).or_insert_with(|| TableProfile {
                node: row.text(0),
                version: row.count(1),
                at: row.text(2),
                rows: row.count(3),
                files: row.count(4),
                bytes: row.count(5),
                columns: Vec::new(),
            });
            profile.recall(row.profile(), name, compiled);
        })
        .await?;
        Ok(found)
    }

    /// Which version of each table the newest profile is of: that of a later commit that changed no row is none.
    async fn newest_profiles(&self, published: &HashMap<TableName, u64>) -> Result<HashMap<TableName, u64>, Failure> {
        let names: HashMap<&str, &TableName> = published.keys().map(|name| (name.as_str(), name)).collect();
        let mut newest: HashMap<TableName, u64> = HashMap::new();
        self.each("profiles", "select distinct node, version from _lake.profiles", |row| {
            let Some(name) = names.get(row.word(0)).copied() else { return };
            let version = row.count(1);
            if version <= published[name] {
                let known = newest.entry(name.clone()).or_default();
                *known = version.max(*known);
            }
        })
        .await?;
        Ok(newest)
    }

    /// Calls `take` for each row of a query over one of these tables; for none where the table is not there yet.
    pub(super) async fn each(&self, table: &str, sql: &str, mut take: impl FnMut(Row<'_>)) -> Result<(), Failure> {
        let runtime = self.runtime();
        if runtime.lake.inspect(&TableName::new("_lake", table)).await?.is_none() {
            return Ok(());
        }
        let plan = self.plan_query(sql).await?;
        for batch in session::query(&runtime.session, plan).collect().await? {
            (0..batch.num_rows()).for_each(|at| take(Row { batch: &batch, at }));
        }
        Ok(())
    }
}

/// A row of a batch of texts and numbers; what is NULL or of another type is empty.
pub(super) struct Row<'a> {
    batch: &'a RecordBatch,
    at: usize,
}

impl<'a> Row<'a> {
    fn column(&self, column: usize) -> Option<&'a dyn Array> {
        let values = self.batch.column(column);
        (!values.is_null(self.at)).then_some(values.as_ref())
    }

    fn some(&self, column: usize) -> Option<&'a str> {
        let values = self.column(column)?;
        match values.data_type() {
            DataType::Utf8View => Some(values.as_string_view().value(self.at)),
            _ => values.as_string_opt::<i32>().map(|texts| texts.value(self.at)),
        }
    }

    fn word(&self, column: usize) -> &'a str {
        self.some(column).unwrap_or_default()
    }

    pub(super) fn text(&self, column: usize) -> String {
        self.word(column).to_owned()
    }

    /// A word that the run wrote from such a value; `None` if another version of `lake` knows more of them.
    fn status<S: DeserializeOwned>(&self, column: usize) -> Option<S> {
        let word: StrDeserializer<'_, serde::de::value::Error> = self.word(column).into_deserializer();
        S::deserialize(word).ok()
    }

    fn whole(&self, column: usize) -> Option<i64> {
        self.column(column)?.as_primitive_opt::<Int64Type>().map(|numbers| numbers.value(self.at))
    }

    fn known(&self, column: usize) -> Option<u64> {
        self.whole(column).and_then(|number| u64::try_from(number).ok())
    }

    fn count(&self, column: usize) -> u64 {
        self.known(column).unwrap_or_default()
    }

    fn number(&self, column: usize) -> Option<f64> {
        self.column(column)?.as_primitive_opt::<Float64Type>().map(|numbers| numbers.value(self.at))
    }

    fn real(&self, column: usize) -> f64 {
        self.number(column).unwrap_or_default()
    }

    /// Of microseconds since 1970.
    pub(super) fn time(&self, column: usize) -> DateTime<Utc> {
        self.whole(column).and_then(DateTime::from_timestamp_micros).unwrap_or_default()
    }

    /// Of [`TEST_COLUMNS`].
    fn test(&self) -> RecordedTest {
        RecordedTest {
            test: self.text(0),
            status: self.status(1).unwrap_or(TestStatus::Error),
            failures: self.known(2),
            message: self.some(3).map(str::to_owned),
            proved: self.some(4).map(str::to_owned),
            seconds: self.real(5),
        }
    }

    /// In the order of the query of profiles.
    fn profile(&self) -> ColumnProfile {
        let is = |column: usize| self.whole(column).map(|number| number != 0);
        ColumnProfile {
            column_name: self.text(6),
            data_type: self.text(7),
            nulls: self.known(8),
            distinct_values: self.known(9),
            distinct_is_exact: is(10),
            min: self.some(11).map(str::to_owned),
            max: self.some(12).map(str::to_owned),
            mean: self.number(13),
            p05: self.number(14),
            p25: self.number(15),
            p50: self.number(16),
            p75: self.number(17),
            p95: self.number(18),
            min_length: self.known(19),
            max_length: self.known(20),
            mean_length: self.number(21),
            top_values: self.some(22).map(str::to_owned),
            masked: is(23).unwrap_or_default(),
            sketch: None,
        }
    }
}
