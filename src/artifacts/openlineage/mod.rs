//! OpenLineage: what a run reads and makes, told to others while it goes on, and the same without a run.
//!
//! A run is a job with a run of its own; each node that runs is another, whose parent it is. Tests of a node are a third
//! kind, with the node's table as what they read.

mod datasets;
mod transport;

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::moment;
use crate::compile::CompiledTest;
use crate::names::TableName;
use crate::project::Model;
use crate::run::{Event, NodeResult, RunReport, Runtime, SharedRuntime, Status, TableProfile, TestResult, TestStatus};

use transport::Transport;

/// Who makes these events.
const PRODUCER: &str = concat!("https://crates.io/crates/lake/", env!("CARGO_PKG_VERSION"));

/// The specification.
const SPECIFICATION: &str = "https://openlineage.io/spec";

/// A facet of this version and name.
fn facet(schema: &str, content: Value) -> Value {
    let name = schema.rsplit('/').next().unwrap_or(schema);
    let mut facet = content;
    facet["_producer"] = PRODUCER.into();
    facet["_schemaURL"] = format!("{SPECIFICATION}/facets/{schema}.json#/$defs/{name}").into();
    facet
}

/// What becomes of a job.
#[derive(Debug, Clone, Copy)]
enum State {
    Start,
    Complete,
    Fail,
    Abort,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Start => "START",
            Self::Complete => "COMPLETE",
            Self::Fail => "FAIL",
            Self::Abort => "ABORT",
        }
    }
}

/// Tells of one run.
pub struct Announcer {
    runtime: SharedRuntime,
    transport: Transport,
    namespace: String,
    /// The job of the whole run.
    job: String,
    run: Uuid,
    /// The runs of the nodes that have started.
    nodes: Mutex<HashMap<TableName, Uuid>>,
}

/// A job and its run, before anything is said of them.
struct Told<'a> {
    state: State,
    at: DateTime<Utc>,
    run: Uuid,
    job: &'a str,
    kind: &'static str,
}

impl Announcer {
    /// Begins to tell of a run, if anybody is to be told.
    ///
    /// # Errors
    /// Why nobody can be told, in words.
    pub fn begin(runtime: &SharedRuntime, command: &str) -> Result<Option<Self>, String> {
        let Some(settings) = runtime.project.openlineage.resolve()? else { return Ok(None) };
        let announcer = Self {
            runtime: SharedRuntime::clone(runtime),
            transport: Transport::start(&runtime.folder, &settings),
            namespace: settings.namespace,
            job: format!("{}.{command}", runtime.project.name),
            run: runtime.options.invocation_id.parse().unwrap_or_else(|_| Uuid::now_v7()),
            nodes: Mutex::default(),
        };
        announcer.of_run(State::Start, runtime.options.started_at, None);
        Ok(Some(announcer))
    }

    /// Tells what happens.
    pub fn on(&self, event: &Event) {
        match event {
            Event::Started(name) => self.started(name),
            Event::Finished(result) => self.finished(result),
            Event::Exported(_) | Event::Together(_) | Event::Withdrawn(..) => {}
        }
    }

    /// Tells how the run ended, with what is known of the tables that it made; says what could not be told.
    pub fn finish(self, report: &RunReport, profiles: &[(TableName, TableProfile)]) -> Vec<String> {
        let profiles: BTreeMap<&TableName, &TableProfile> =
            profiles.iter().map(|(name, profile)| (name, profile)).collect();
        for node in report.nodes.iter().filter(|node| !node.tests.is_empty()) {
            self.tested(&node.name, &node.tests, profiles.get(&node.name).copied());
        }
        self.tested_alone(&report.tests);
        let state = match (report.cancelled, report.succeeded()) {
            (true, _) => State::Abort,
            (false, true) => State::Complete,
            (false, false) => State::Fail,
        };
        let failed: Vec<&str> =
            report.nodes.iter().filter(|n| n.status == Status::Error).map(|n| n.name.as_str()).collect();
        let message = (!failed.is_empty()).then(|| format!("failed: {}", failed.join(", ")));
        self.of_run(state, Utc::now(), message.as_deref());
        self.transport.finish()
    }

    fn of_run(&self, state: State, at: DateTime<Utc>, error: Option<&str>) {
        let told = Told { state, at, run: self.run, job: &self.job, kind: "JOB" };
        self.send(told, Map::new(), Map::new(), error, (Vec::new(), Vec::new()));
    }

    fn run_of(&self, name: &TableName) -> Uuid {
        let mut nodes = self.nodes.lock().expect("no holder panics");
        *nodes.entry(name.clone()).or_insert_with(Uuid::now_v7)
    }

    fn started(&self, name: &TableName) {
        let Some(model) = self.runtime.project.models.get(name) else { return };
        let at = Utc::now();
        self.of_node(model, State::Start, at, (None, Map::new()), None);
    }

    fn finished(&self, node: &NodeResult) {
        let Some(model) = self.runtime.project.models.get(&node.name) else { return };
        let end = node.started_at + chrono::Duration::microseconds((node.seconds * 1e6) as i64);
        let statistics = facet("1-0-2/OutputStatisticsOutputDatasetFacet", statistics(node));
        let of_output = [("outputStatistics".to_owned(), statistics)].into_iter().collect();
        match node.status {
            Status::Success => self.of_node(model, State::Complete, end, (node.version, of_output), None),
            // A look at what has not changed is a run, too, and its START has been told.
            Status::Skipped => self.of_node(model, State::Complete, end, (node.version, Map::new()), None),
            Status::Error => self.of_node(model, State::Fail, end, (None, Map::new()), Some(&node.reason)),
            Status::Cancelled => self.of_node(model, State::Abort, end, (None, Map::new()), None),
            // It never started.
            Status::Blocked => {}
        }
    }

    fn of_node(
        &self,
        model: &Model,
        state: State,
        at: DateTime<Utc>,
        (version, of_output): (Option<u64>, Map<String, Value>),
        error: Option<&str>,
    ) {
        let runtime = &self.runtime;
        let job = job_name(runtime, &model.name);
        let parents = runtime.graph.parents(&model.name);
        let inputs = parents.into_iter().map(|name| datasets::input(runtime, name, Map::new())).collect();
        let outputs = vec![datasets::output(runtime, model, version, of_output)];
        let told = Told { state, at, run: self.run_of(&model.name), job: &job, kind: "MODEL" };
        self.send(told, sql(model), self.parent(), error, (inputs, outputs));
    }

    /// Tests of a table: what they found stands with the table that they read.
    fn tested(&self, name: &TableName, tests: &[TestResult], profile: Option<&TableProfile>) {
        let declared: HashMap<&str, &CompiledTest> =
            self.runtime.compiled.tests_on(name).map(|test| (test.name.as_str(), test)).collect();
        let assertions: Vec<Value> =
            tests.iter().map(|test| assertion(test, declared.get(test.name.as_str()).copied())).collect();
        let assertions = facet("1-1-0/DataQualityAssertionsDatasetFacet", json!({ "assertions": assertions }));
        let mut of_input: Map<String, Value> = [("dataQualityAssertions".to_owned(), assertions)].into_iter().collect();
        if let Some(profile) = profile {
            let metrics = facet("1-0-3/DataQualityMetricsInputDatasetFacet", metrics(profile));
            of_input.insert("dataQualityMetrics".to_owned(), metrics);
        }
        let (job, run) = (format!("{}.tests", job_name(&self.runtime, name)), Uuid::now_v7());
        let failed = tests.iter().any(TestResult::blocks);
        let end = if failed { State::Fail } else { State::Complete };
        for state in [State::Start, end] {
            let inputs = vec![datasets::input(&self.runtime, name, of_input.clone())];
            let told = Told { state, at: Utc::now(), run, job: &job, kind: "TEST" };
            self.send(told, Map::new(), self.parent(), None, (inputs, Vec::new()));
        }
    }

    /// Tests that ran beside nodes, by the tables that they are about.
    fn tested_alone(&self, tests: &[TestResult]) {
        let mut by_table: BTreeMap<TableName, Vec<TestResult>> = BTreeMap::new();
        for test in tests {
            let declared = self.runtime.compiled.tests.iter().find(|declared| declared.name == test.name);
            let table = declared.and_then(|test| test.table.clone().or_else(|| test.reads.first().cloned()));
            table.into_iter().for_each(|table| by_table.entry(table).or_default().push(test.clone()));
        }
        by_table.iter().for_each(|(table, tests)| self.tested(table, tests, None));
    }

    fn parent(&self) -> Map<String, Value> {
        let (run, job) = (json!({"runId": self.run}), json!({"namespace": self.namespace, "name": self.job}));
        let root = json!({"run": run, "job": job});
        let parent = facet("1-2-0/ParentRunFacet", json!({"run": run, "job": job, "root": root}));
        [("parent".to_owned(), parent)].into_iter().collect()
    }

    fn send(
        &self,
        told: Told<'_>,
        mut of_job: Map<String, Value>,
        mut of_run: Map<String, Value>,
        error: Option<&str>,
        (inputs, outputs): (Vec<Value>, Vec<Value>),
    ) {
        of_job.insert("jobType".to_owned(), job_type(told.kind));
        let engine = json!({"version": env!("CARGO_PKG_VERSION"), "name": "lake"});
        of_run.insert("processing_engine".to_owned(), facet("1-1-1/ProcessingEngineRunFacet", engine));
        if let Some(message) = error {
            let error = json!({"message": message, "programmingLanguage": "SQL"});
            of_run.insert("errorMessage".to_owned(), facet("1-0-1/ErrorMessageRunFacet", error));
        }
        self.transport.send(json!({
            "eventType": told.state.word(),
            "eventTime": moment(told.at),
            "producer": PRODUCER,
            "schemaURL": format!("{SPECIFICATION}/2-0-2/OpenLineage.json#/$defs/RunEvent"),
            "run": {"runId": told.run, "facets": of_run},
            "job": {"namespace": self.namespace, "name": told.job, "facets": of_job},
            "inputs": inputs,
            "outputs": outputs,
        }));
    }
}

fn job_name(runtime: &Runtime, name: &TableName) -> String {
    format!("{}.{name}", runtime.project.name)
}

fn job_type(kind: &str) -> Value {
    let content = json!({"processingType": "BATCH", "integration": "LAKE", "jobType": kind});
    facet("2-0-4/JobTypeJobFacet", content)
}

fn sql(model: &Model) -> Map<String, Value> {
    if model.seed.is_some() {
        return Map::new();
    }
    let query = json!({"query": model.full.sql, "dialect": "datafusion"});
    [("sql".to_owned(), facet("1-1-0/SQLJobFacet", query))].into_iter().collect()
}

fn statistics(node: &NodeResult) -> Value {
    let mut found = Map::new();
    found.extend(node.rows.map(|rows| ("rowCount".to_owned(), rows.into())));
    found.extend(node.bytes.map(|bytes| ("size".to_owned(), bytes.into())));
    Value::Object(found)
}

fn assertion(result: &TestResult, declared: Option<&CompiledTest>) -> Value {
    let mut found = json!({
        "assertion": declared.map_or("test", |test| test.kind.name()),
        "success": matches!(result.status, TestStatus::Pass),
        "severity": result.severity,
        "name": result.name,
    });
    if let Some(column) = declared.and_then(|test| test.column()) {
        found["column"] = column.into();
    }
    if let Some(failures) = result.failures {
        found["expected"] = "0".into();
        found["actual"] = failures.to_string().into();
    }
    found
}

/// What is known of the rows of a table.
fn metrics(profile: &TableProfile) -> Value {
    let columns = profile.columns.iter().map(|column| {
        let number = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<f64>().ok());
        let mut found = Map::new();
        found.extend(column.nulls.map(|nulls| ("nullCount".to_owned(), nulls.into())));
        found.extend(column.distinct_values.map(|count| ("distinctCount".to_owned(), count.into())));
        found.extend(column.nulls.map(|nulls| ("count".to_owned(), profile.rows.saturating_sub(nulls).into())));
        found.extend(number(&column.min).map(|least| ("min".to_owned(), json!(least))));
        found.extend(number(&column.max).map(|greatest| ("max".to_owned(), json!(greatest))));
        (column.column_name.clone(), Value::Object(found))
    });
    let columns: Map<String, Value> = columns.collect();
    json!({"rowCount": profile.rows, "bytes": profile.bytes, "fileCount": profile.files, "columnMetrics": columns})
}

/// What a model reads and makes, without a run: an event about its job.
pub fn job_event(runtime: &Runtime, model: &Model) -> Value {
    let namespace = runtime.project.openlineage.resolve().ok().flatten().map(|settings| settings.namespace);
    let mut of_job = sql(model);
    of_job.insert("jobType".to_owned(), job_type("MODEL"));
    let parents = runtime.graph.parents(&model.name);
    let inputs: Vec<Value> = parents.into_iter().map(|name| datasets::input(runtime, name, Map::new())).collect();
    json!({
        "eventTime": moment(runtime.options.started_at),
        "producer": PRODUCER,
        "schemaURL": format!("{SPECIFICATION}/2-0-2/OpenLineage.json#/$defs/JobEvent"),
        "job": {
            "namespace": namespace.unwrap_or_else(|| runtime.project.name.clone()),
            "name": job_name(runtime, &model.name),
            "facets": of_job,
        },
        "inputs": inputs,
        "outputs": [datasets::output(runtime, model, None, Map::new())],
    })
}
