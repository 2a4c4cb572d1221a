//! The stages of the program, one method each.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use datafusion::execution::session_state::SessionState;
use tokio::runtime;

use super::args::{Deny, Global};
use super::printer::Printer;
use super::{channels, targets};
use crate::alerts;
use crate::artifacts;
use crate::bronze::{self, Listings, Slice};
use crate::compile::{self, CompiledProject};
use crate::diagnostics::{Diagnostics, Severity};
use crate::graph::{self, Graph};
use crate::intervals::Interval;
use crate::memo::Memo;
use crate::names::TableName;
use crate::project::{self, LoadOptions, Project};
use crate::run::{Deferral, RunOptions, Runtime, SharedRuntime};
use crate::session::{self, Resources};
use crate::tables;
use crate::words::plural;

/// How often a node starts again after its storage failed, unless the target says it.
const RETRIES: u32 = 3;

/// A project on its way from files to a run.
pub(crate) struct Pipeline {
    pub(super) project: Project,
    pub(super) graph: Graph,
    options: LoadOptions,
    diagnostics: Diagnostics,
    threads: Option<usize>,
    deny_warnings: bool,
    /// The command whose end channels are told.
    watched: Option<&'static str>,
    memo: Memo,
}

/// A project that compiled.
pub(super) struct Compiled {
    pub(super) project: Project,
    pub(super) graph: Graph,
    pub(super) compiled: CompiledProject,
    pub(super) session: SessionState,
    options: LoadOptions,
    pub(super) async_runtime: runtime::Runtime,
    /// Warnings; they have been shown already, except to programs.
    pub(super) diagnostics: Diagnostics,
    threads: usize,
    /// End a run at the first failure.
    pub(super) fail_fast: bool,
    /// Tests that plans prove are not run.
    pub(super) prove: bool,
    /// What is unchanged is built, too.
    pub(super) force: bool,
    /// The lake of another target, for tables that are not here.
    pub(super) deferral: Option<Deferral>,
    watched: Option<&'static str>,
    memo: Memo,
    listings: Listings,
}

/// The project is wrong, and every mistake has been reported.
#[derive(Debug)]
pub(super) struct Reported;

impl Pipeline {
    /// Files -> project -> graph.
    pub(super) fn load(global: &Global, printer: &Printer) -> anyhow::Result<Result<Self, Reported>> {
        let options = LoadOptions {
            target: global.target.clone(),
            vars: parse_vars(global.vars.as_deref())?,
            environment: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            run_started_at: chrono::Utc::now(),
            invocation_id: printer.invocation_id().to_owned(),
        };
        let mut diagnostics = Diagnostics::new();
        let files = timed("read", || project::read(&global.project_dir))?;
        let memo = timed("remember", || artifacts::open_memo(&files.folder, &build_stamp()));
        let Some(project) = timed("load", || project::load(&files, &options, &memo, &mut diagnostics)) else {
            report(&diagnostics, printer);
            if let Some(command) = global.watched {
                channels::not_loaded(&files, &options, &diagnostics, command, printer);
            }
            return Ok(Err(Reported));
        };
        let graph = timed("resolve", || graph::resolve(&project, &mut diagnostics));
        alerts::check(&project, &graph, &mut diagnostics);
        let threads = global.threads.map(usize::from);
        let deny_warnings = global.deny == Some(Deny::Warnings);
        let watched = global.watched;
        Ok(Ok(Self { project, graph, options, diagnostics, threads, deny_warnings, watched, memo }))
    }

    /// The facts of a run that did not happen, for alerts.
    pub(super) fn facts(&self, command: &str) -> alerts::RunFacts {
        alerts::of_run(&self.project, &self.options.invocation_id, self.options.run_started_at, command)
    }

    /// Whether models are missing because they are wrong, which is told; for what looks at tables all the same.
    pub(super) fn is_incomplete(&self, printer: &Printer) -> bool {
        // For a program there is one answer: that to what was asked.
        if self.diagnostics.has_errors() && !printer.is_json() {
            report(&self.diagnostics, printer);
        }
        self.diagnostics.has_errors()
    }

    /// Stops here if anything is wrong so far.
    pub(super) fn checked(self, printer: &Printer) -> Result<Self, Reported> {
        report(&self.diagnostics, printer);
        if self.diagnostics.has_errors() { Err(Reported) } else { Ok(self) }
    }

    /// Graph -> catalog -> compiled project.
    pub(super) fn compile(mut self, printer: &Printer) -> anyhow::Result<Result<Compiled, Reported>> {
        let (threads, session, async_runtime) = self.engine()?;
        let (catalog, listings) = timed("inspect", || {
            async_runtime.block_on(async {
                let (project, diagnostics) = (&self.project, &mut self.diagnostics);
                // A root that cannot be used is told when it is.
                let lake = targets::open(project, &project.target).ok().map(|lake| lake.files());
                let (mut catalog, listings) =
                    bronze::inspect(project, lake.as_ref(), &session, &self.memo, diagnostics).await;
                tables::inspect_sources(project, &session, &mut catalog, diagnostics).await;
                catalog.seeds = bronze::inspect_seeds(project, &session, &self.memo, diagnostics).await;
                (catalog, listings)
            })
        });
        let compiled = timed("compile", || {
            compile::compile(&self.project, &self.graph, &catalog, &session, &self.memo, &mut self.diagnostics)
        });
        timed("keep", || artifacts::keep(&self.memo, !self.diagnostics.has_errors()));
        report(&self.diagnostics, printer);
        let warnings = self.diagnostics.count(Severity::Warning);
        let is_wrong = self.diagnostics.has_errors() || self.deny_warnings && warnings > 0;
        if is_wrong {
            let mut summary = format!("could not compile `{}`: {}", self.project.name, self.mistakes());
            if !compiled.unchecked.is_empty() {
                let names: Vec<String> = compiled.unchecked.iter().map(ToString::to_string).collect();
                summary.push_str(&format!("; not checked because of them: {}", names.join(", ")));
            }
            printer.failure(&summary);
        }
        let (watched, denied) = (self.watched, self.deny_warnings);
        let compiled = self.compiled(compiled, listings, (threads, session, async_runtime));
        if is_wrong {
            if let Some(command) = watched {
                channels::not_compiled(compiled, command, denied, printer);
            }
            return Ok(Err(Reported));
        }
        Ok(Ok(compiled))
    }

    /// The project without a look at its SQL: for what is about the lake alone.
    pub(super) fn uncompiled(self) -> anyhow::Result<Compiled> {
        let engine = self.engine()?;
        Ok(self.compiled(CompiledProject::default(), Listings::default(), engine))
    }

    /// Threads, DataFusion, and what waits for IO.
    fn engine(&self) -> anyhow::Result<Engine> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.threads.or(self.project.target.threads).unwrap_or(cores);
        let resources = Resources { threads, memory: self.project.target.memory };
        let session = session::state(resources, Some(&std::env::temp_dir()))?;
        let async_runtime = runtime::Builder::new_multi_thread()
            .enable_all()
            .worker_threads(threads.max(2))
            .thread_stack_size(super::STACK)
            .build()
            .context("cannot start the async runtime")?;
        Ok((threads, session, async_runtime))
    }

    fn compiled(self, compiled: CompiledProject, listings: Listings, engine: Engine) -> Compiled {
        let (threads, session, async_runtime) = engine;
        Compiled {
            project: self.project,
            graph: self.graph,
            compiled,
            session,
            options: self.options,
            async_runtime,
            diagnostics: self.diagnostics,
            threads,
            fail_fast: false,
            prove: true,
            force: false,
            deferral: None,
            watched: self.watched,
            memo: self.memo,
            listings,
        }
    }
}

impl Compiled {
    /// The facts of a run that did not happen, for alerts.
    pub(super) fn facts(&self, command: &str) -> alerts::RunFacts {
        alerts::of_run(&self.project, &self.options.invocation_id, self.options.run_started_at, command)
    }
}

/// What runs queries.
type Engine = (usize, SessionState, runtime::Runtime);

impl Pipeline {
    fn mistakes(&self) -> String {
        let errors = self.diagnostics.count(Severity::Error);
        let warnings = self.diagnostics.count(Severity::Warning);
        match (errors, self.deny_warnings && warnings > 0) {
            (0, _) => format!("{}, and --deny warnings", plural(warnings as u64, "warning")),
            (_, true) => format!("{}, {}", plural(errors as u64, "error"), plural(warnings as u64, "warning")),
            (_, false) => plural(errors as u64, "error"),
        }
    }
}

impl Compiled {
    /// Everything that a run reads, and the async runtime that it runs on.
    pub(super) fn into_runtime(self) -> anyhow::Result<(SharedRuntime, runtime::Runtime)> {
        self.into_runtime_for(false, false, None, None, None)
    }

    /// As [`Self::into_runtime`], for a run that rebuilds all, lists all files, reads some files only, or quarantined rows
    /// of a source.
    pub(super) fn into_runtime_for(
        self,
        full_refresh: bool,
        full_listing: bool,
        slice: Option<Slice>,
        replay: Option<TableName>,
        event_time: Option<Interval>,
    ) -> anyhow::Result<(SharedRuntime, runtime::Runtime)> {
        let lake = targets::open(&self.project, &self.project.target)?;
        let options = RunOptions {
            full_refresh,
            force: self.force,
            full_listing,
            slice,
            replay,
            event_time,
            fail_fast: self.fail_fast,
            notify: self.watched.is_some(),
            prove: self.prove,
            retries: self.project.target.retries.map_or(RETRIES, |count| u32::try_from(count).unwrap_or(u32::MAX)),
            threads: self.threads,
            nodes_at_once: session::nodes_at_once(Resources {
                threads: self.threads,
                memory: self.project.target.memory,
            }),
            started_at: self.options.run_started_at,
            invocation_id: self.options.invocation_id,
        };
        let folder = self.project.folder.clone();
        let runtime = Runtime {
            project: self.project,
            graph: self.graph,
            compiled: self.compiled,
            lake,
            session: self.session,
            memo: self.memo,
            listings: self.listings,
            folder,
            deferral: self.deferral,
            options,
        };
        Ok((Arc::new(runtime), self.async_runtime))
    }
}

/// Writes what other programs and the next run read of a compiled project.
pub(super) fn record(runtime: &Runtime) -> anyhow::Result<()> {
    timed("manifest", || artifacts::write_manifest(runtime))?;
    artifacts::keep(&runtime.memo, false);
    Ok(())
}

fn report(diagnostics: &Diagnostics, printer: &Printer) {
    if printer.events().is_some() {
        printer.diagnostics(diagnostics);
    }
    if printer.stream().is_some() {
        return;
    }
    if printer.is_json() && diagnostics.has_errors() {
        let list: Vec<_> = diagnostics.sorted().into_iter().map(crate::diagnostics::render::json).collect();
        printer.json(&serde_json::json!({"diagnostics": list}));
    } else if !printer.is_json() && printer.events().is_none() {
        printer.diagnostics(diagnostics);
    }
}

/// Tells this program from every other build of it.
fn build_stamp() -> String {
    let program = std::env::current_exe().and_then(std::fs::metadata);
    let stamp = program.and_then(|metadata| Ok((metadata.len(), metadata.modified()?)));
    format!("{} {stamp:?}", env!("CARGO_PKG_VERSION"))
}

/// Runs a stage and logs how long it took: shown with `-v`.
pub(super) fn timed<T>(stage: &str, run: impl FnOnce() -> T) -> T {
    let start = std::time::Instant::now();
    let product = tracing::info_span!("stage", otel.name = stage).in_scope(run);
    tracing::info!("{stage}: {:.1} ms", start.elapsed().as_secs_f64() * 1000.0);
    product
}

/// `--vars '{min_views: 3}'`.
fn parse_vars(text: Option<&str>) -> anyhow::Result<BTreeMap<String, serde_json::Value>> {
    match text {
        None => Ok(BTreeMap::new()),
        Some(text) => project::parse_vars(text)
            .map_err(|why| anyhow::anyhow!("--vars takes a YAML mapping such as '{{min_views: 3}}': {why}")),
    }
}
