//! What a run has shown: what is wrong, and what was looked at and is fine.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use super::{Happened, Problem, RunFacts};
use crate::compile::CompiledTest;
use crate::diagnostics::{Diagnostics, Severity};
use crate::names::TableName;
use crate::project::{Model, Occasion, Project, TestSeverity};
use crate::run::{FreshnessResult, FreshnessStatus, NodeResult, RunReport, Runtime, Status, TestResult, TestStatus};
use crate::words::{duration, plural};

/// Mistakes of a project that are told one by one.
const MISTAKES: usize = 5;

/// The facts of a run on a loaded project, before anything has happened.
pub fn of_run(project: &Project, invocation_id: &str, started_at: DateTime<Utc>, command: &str) -> RunFacts {
    RunFacts {
        project: project.name.clone(),
        target: project.target.name.clone(),
        has_targets: project.targets.names().count() > 1,
        command: command.to_owned(),
        invocation_id: invocation_id.to_owned(),
        started_at,
        seconds: (Utc::now() - started_at).num_milliseconds() as f64 / 1000.0,
        status: "success",
        counts: [0; 4],
    }
}

/// What a run did, and how fresh the sources are that it looked at.
pub fn of_report(runtime: &Runtime, report: &RunReport, command: &str) -> Happened {
    let status = match (report.cancelled, report.succeeded()) {
        (true, _) => "cancelled",
        (false, true) => "success",
        (false, false) => "error",
    };
    let counts = [Status::Success, Status::Skipped, Status::Error, Status::Blocked].map(|status| report.count(status));
    let run =
        RunFacts { status, counts, ..of_run(&runtime.project, &report.invocation_id, report.started_at, command) };
    // It compiled, and ran.
    let fine = ["project".to_owned(), "run".to_owned()].into();
    let mut happened = Happened { run, problems: Vec::new(), fine };
    let looking = Looking::new(runtime, report, &happened.run);
    for node in &report.nodes {
        looking.node(node, &mut happened);
        node.tests.iter().for_each(|test| looking.test(test, Some(node), &mut happened));
    }
    report.tests.iter().for_each(|test| looking.test(test, None, &mut happened));
    looking.unit_tests(&mut happened);
    looking.rest(&mut happened);
    // Of several hooks of one name one may be fine.
    let Happened { problems, fine, .. } = &mut happened;
    problems.iter().for_each(|problem| drop(fine.take(&problem.subject)));
    happened
}

/// Adds how fresh sources are.
pub fn of_freshness(runtime: &Runtime, results: &[FreshnessResult], happened: &mut Happened) {
    for result in results {
        let (project, name) = (&runtime.project, &result.source);
        let subject = format!("source.{name}");
        let severity = match result.status {
            FreshnessStatus::Pass => {
                happened.fine.insert(subject);
                continue;
            }
            FreshnessStatus::Warn => TestSeverity::Warn,
            FreshnessStatus::Error | FreshnessStatus::RuntimeError => TestSeverity::Error,
        };
        let limit = match severity {
            TestSeverity::Warn => result.criteria.warn_after.map(|age| ("warns", age)),
            TestSeverity::Error => result.criteria.error_after.map(|age| ("fails", age)),
        };
        let limit = limit.map(|(word, age)| format!(", {word} after {}", duration(age.seconds() as f64)));
        let message = match &result.error {
            Some(error) => error.clone(),
            None => format!("{} old{}", duration(result.age().unwrap_or_default()), limit.unwrap_or_default()),
        };
        let readers: Vec<&TableName> = runtime.graph.children(name);
        let owners = readers.iter().filter_map(|reader| project.models.get(*reader));
        let source = project.sources.get(name);
        let look = happened.run.with_target(&format!("lake source freshness --select source:{name}"));
        happened.problems.push(Problem {
            node: Some(name.clone()),
            event: Occasion::Freshness,
            file: source.map(|source| source.span.file.path.clone()),
            line: source.map(|source| source.span.position().0),
            owners_below: unique(owners.flat_map(|model| owners_of(project, model))),
            tags: source.map(|source| source.tags.clone()).unwrap_or_default(),
            concerns: readers.into_iter().chain([name]).cloned().collect(),
            look: Some(look),
            ..Problem::new(subject, "source", name.as_str(), severity, message)
        });
    }
}

/// What a project that does not compile has to say.
pub fn of_diagnostics(run: RunFacts, diagnostics: &Diagnostics, denied: bool) -> Happened {
    let list = diagnostics.sorted();
    let counts = |diagnostic: &&&crate::diagnostics::Diagnostic| denied || diagnostic.severity == Severity::Error;
    let mistakes: Vec<_> = list.iter().filter(counts).collect();
    let mut lines = vec![format!("the project does not compile: {}", plural(mistakes.len() as u64, "mistake"))];
    lines.extend(mistakes.iter().take(MISTAKES).map(|diagnostic| match &diagnostic.span {
        Some(span) => format!("{}: {}", span.place(), diagnostic.message),
        None => diagnostic.message.clone(),
    }));
    if mistakes.len() > MISTAKES {
        lines.push(format!("and {} more", mistakes.len() - MISTAKES));
    }
    let first = mistakes.iter().find_map(|diagnostic| diagnostic.span.as_ref());
    let problem = Problem {
        file: first.map(|span| span.file.path.clone()),
        line: first.map(|span| span.position().0),
        look: Some(run.with_target("lake compile")),
        ..Problem::new("project".to_owned(), "project", &run.project, TestSeverity::Error, lines.join("\n"))
    };
    Happened { run: RunFacts { status: "invalid", ..run }, problems: vec![problem], fine: BTreeSet::new() }
}

impl Happened {
    /// Of a run that did not come to its end, and why.
    pub fn died(run: RunFacts, why: String) -> Self {
        let name = format!("lake {}", run.command);
        let message = format!("the run did not come to its end: {why}");
        let problem = Problem::new("run".to_owned(), "run", &name, TestSeverity::Error, message);
        Self { run: RunFacts { status: "died", ..run }, problems: vec![problem], fine: BTreeSet::new() }
    }
}

impl RunFacts {
    /// A command that works on the target of the run.
    pub(super) fn with_target(&self, command: &str) -> String {
        if self.has_targets { format!("{command} --target {}", self.target) } else { command.to_owned() }
    }
}

impl Problem {
    /// A failure that is about nothing in particular.
    fn new(subject: String, kind: &'static str, name: &str, severity: TestSeverity, message: String) -> Self {
        Self {
            subject,
            kind,
            name: name.to_owned(),
            node: None,
            event: Occasion::Failure,
            severity,
            message,
            file: None,
            line: None,
            rows: None,
            owners: Vec::new(),
            owners_below: Vec::new(),
            tags: Vec::new(),
            tags_below: Vec::new(),
            blocks: Vec::new(),
            concerns: BTreeSet::new(),
            look: None,
        }
    }
}

/// Who answers for a model: its owner, and the owner of its group.
fn owners_of(project: &Project, model: &Model) -> Vec<String> {
    let group = model.config.group.as_ref().and_then(|group| project.groups.get(group));
    let of_group = group.into_iter().flat_map(|group| [group.owner.name.clone(), group.owner.email.clone()]);
    model.config.owner.clone().into_iter().chain(of_group.flatten()).collect()
}

fn unique(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    texts.for_each(|text| {
        if !found.contains(&text) {
            found.push(text)
        }
    });
    found
}

/// A run that is looked through.
struct Looking<'a> {
    runtime: &'a Runtime,
    report: &'a RunReport,
    run: RunFacts,
    declared: HashMap<&'a str, &'a CompiledTest>,
    blocked: BTreeSet<&'a TableName>,
    /// Those of them that read nothing that failed, and are published together with something that did.
    beside: BTreeSet<&'a TableName>,
}

impl<'a> Looking<'a> {
    fn new(runtime: &'a Runtime, report: &'a RunReport, run: &RunFacts) -> Self {
        let declared = runtime.compiled.tests.iter().map(|test| (test.name.as_str(), test)).collect();
        let of = |status| report.nodes.iter().filter(move |node| node.status == status).map(|node| &node.name);
        let (blocked, beside) = (of(Status::Blocked).collect(), BTreeSet::new());
        let mut looking = Self { runtime, report, run: run.clone(), declared, blocked, beside };
        let below: BTreeSet<&TableName> = of(Status::Error).flat_map(|name| looking.below(name)).collect();
        looking.beside = &looking.blocked - &below;
        looking
    }

    /// Tables that were not built because this one failed.
    fn blocks(&self, name: &TableName) -> Vec<TableName> {
        self.below(name).union(&self.beside).map(|name| (*name).clone()).collect()
    }

    /// Blocked tables that read this one, or what reads it.
    fn below(&self, name: &TableName) -> BTreeSet<&'a TableName> {
        let (mut found, mut pending) = (BTreeSet::new(), vec![name.clone()]);
        while let Some(next) = pending.pop() {
            for child in self.runtime.graph.children(&next) {
                if let Some(blocked) = self.blocked.get(child)
                    && found.insert(*blocked)
                {
                    pending.push(child.clone());
                }
            }
        }
        found
    }

    /// What is known of a problem of a table, whatever it is.
    fn about(&self, name: &TableName, problem: Problem, stops: bool) -> Problem {
        let model = self.runtime.project.models.get(name);
        let blocks = if stops { self.blocks(name) } else { Vec::new() };
        let all = blocks.iter().chain([name]).cloned();
        let mut concerns: BTreeSet<TableName> = all.collect();
        concerns.extend(problem.concerns.iter().cloned());
        let project = &self.runtime.project;
        let waiting = || blocks.iter().filter_map(|blocked| project.models.get(blocked));
        let of_model = model.into_iter().flat_map(|model| owners_of(project, model));
        let owners = unique(problem.owners.iter().cloned().chain(of_model));
        let owners_below = unique(waiting().flat_map(|model| owners_of(project, model)));
        let of_source = project.sources.get(name).map(|source| &source.tags);
        let of_table = model.map(|model| &model.config.tags).into_iter().chain(of_source).flatten();
        let tags = unique(problem.tags.iter().chain(of_table).cloned());
        let tags_below = unique(waiting().flat_map(|model| model.config.tags.iter().cloned()));
        Problem { node: Some(name.clone()), owners, owners_below, tags, tags_below, blocks, concerns, ..problem }
    }

    /// Its tests stopped it, and they tell it.
    fn is_refused(&self, node: &NodeResult) -> bool {
        let unit_tests = self.report.unit_tests.iter();
        let by_unit_test = unit_tests.clone().any(|test| test.blocks() && test.refuses.contains(&node.name));
        by_unit_test || node.tests.iter().any(TestResult::blocks)
    }

    fn node(&self, node: &NodeResult, happened: &mut Happened) {
        let Some(model) = self.runtime.project.models.get(&node.name) else { return };
        let kind = model.resource_type();
        let (subject, stale) = (format!("{kind}.{}", node.name), format!("stale.{}", node.name));
        match node.status {
            Status::Success | Status::Skipped => {
                happened.fine.insert(subject);
                if node.stale.is_empty() {
                    happened.fine.insert(stale);
                    return;
                }
                let names: Vec<&str> = node.stale.iter().map(|name| name.as_str()).collect();
                let message = format!("built on the last good version of {}", names.join(" and "));
                let problem = Problem::new(stale, kind, node.name.as_str(), TestSeverity::Warn, message);
                let problem = Problem { event: Occasion::Warning, file: Some(model.path.clone()), ..problem };
                happened.problems.push(self.about(&node.name, problem, false));
            }
            Status::Error if !self.is_refused(node) => {
                let problem = Problem::new(subject, kind, node.name.as_str(), TestSeverity::Error, node.reason.clone());
                let look = self.run.with_target(&format!("lake why {}", node.name));
                let problem = Problem { file: Some(model.path.clone()), look: Some(look), ..problem };
                happened.problems.push(self.about(&node.name, problem, true));
            }
            Status::Error | Status::Blocked | Status::Cancelled => {}
        }
    }

    fn test(&self, test: &TestResult, node: Option<&NodeResult>, happened: &mut Happened) {
        let subject = format!("test.{}", test.name);
        let (event, severity) = match test.status {
            TestStatus::Pass => {
                happened.fine.insert(subject);
                return;
            }
            TestStatus::Warn => (Occasion::Warning, TestSeverity::Warn),
            TestStatus::Fail | TestStatus::Error => (Occasion::Failure, TestSeverity::Error),
        };
        let declared = self.declared.get(test.name.as_str());
        let of_test = declared.and_then(|test| test.table.clone().or_else(|| test.reads.first().cloned()));
        let message = match (&test.message, test.failures) {
            (Some(message), _) => message.clone(),
            (None, Some(1)) => "1 row fails".to_owned(),
            (None, Some(count)) => format!("{} fail", plural(count, "row")),
            (None, None) => "it fails".to_owned(),
        };
        let place = test.declared.as_deref().and_then(|place| place.rsplit_once(':'));
        let look = self.run.with_target(&format!("lake test --failures {}", test.name));
        let problem = Problem {
            event,
            file: place.map(|(file, _)| file.to_owned()),
            line: place.and_then(|(_, line)| line.parse().ok()),
            rows: test.failures,
            owners: declared.and_then(|test| test.config.owner.clone()).into_iter().collect(),
            tags: declared.map(|test| test.config.tags.clone()).unwrap_or_default(),
            concerns: declared.map(|test| test.reads.iter().cloned().collect()).unwrap_or_default(),
            look: Some(look),
            ..Problem::new(subject, "test", &test.name, severity, message)
        };
        let stops = node.is_some_and(|node| node.status == Status::Error) && test.blocks();
        let table = node.filter(|_| stops).map(|node| node.name.clone()).or(of_test);
        happened.problems.push(match table {
            Some(table) => self.about(&table, problem, stops),
            None => problem,
        });
    }

    fn unit_tests(&self, happened: &mut Happened) {
        for test in &self.report.unit_tests {
            let subject = format!("unit_test.{}", test.name);
            if !test.blocks() {
                happened.fine.insert(subject);
                continue;
            }
            let message = test.message.clone().unwrap_or_else(|| match test.failures {
                Some(count) => format!("{} not as expected", plural(count, "row")),
                None => "its rows are not as expected".to_owned(),
            });
            let look = self.run.with_target(&format!("lake test --select {}", test.name));
            let problem = Problem {
                file: Some(test.path.clone()),
                line: test.line,
                look: Some(look),
                ..Problem::new(subject, "unit_test", &test.name, TestSeverity::Error, message)
            };
            happened.problems.push(match &test.model {
                Some(model) => self.about(model, problem, true),
                None => problem,
            });
        }
    }

    /// Exports, hooks, and files that did not move.
    fn rest(&self, happened: &mut Happened) {
        for export in &self.report.exports {
            let subject = format!("export.{}", export.name.table);
            match export.status {
                Status::Success | Status::Skipped => {
                    happened.fine.insert(subject);
                }
                Status::Error => {
                    let name = export.name.table;
                    let problem = Problem::new(subject, "export", name, TestSeverity::Error, export.reason.clone());
                    let declared = self.runtime.project.exports.get(&export.name);
                    let problem = Problem {
                        file: declared.map(|export| export.span.file.path.clone()),
                        line: declared.map(|export| export.span.position().0),
                        tags: declared.map(|export| export.tags.clone()).unwrap_or_default(),
                        ..problem
                    };
                    happened.problems.push(self.about(&export.model, problem, false));
                }
                Status::Blocked | Status::Cancelled => {}
            }
        }
        for hook in &self.report.hooks {
            let subject = format!("hook.{}", hook.name);
            if hook.ok {
                happened.fine.insert(subject);
                continue;
            }
            let output = hook.output.clone();
            happened.problems.push(Problem::new(subject, "hook", &hook.name, TestSeverity::Error, output));
        }
        for archive in &self.report.archived {
            let subject = format!("after_load.{}", archive.source);
            match &archive.error {
                None => {
                    happened.fine.insert(subject);
                }
                Some(error) => {
                    let name = archive.source.as_str();
                    let problem = Problem::new(subject, "source", name, TestSeverity::Error, error.clone());
                    happened.problems.push(self.about(&archive.source, problem, false));
                }
            }
        }
    }
}
