//! [`CompiledProject`] -> [`RunReport`]: what to do, in which order, and doing it.
//!
//! [`schedule`] is pure: order and tests. [`execute`] runs nodes as their parents finish; each node is
//! decided (`decide`), executed, staged, audited and published in `materialize`.

mod after_load;
mod alerted;
mod anomalies;
mod appended;
mod attempts;
mod audit;
mod batch_burst;
mod batch_run;
mod batches;
mod board;
mod changes;
mod chronicle;
mod commit;
mod confidential;
mod decide;
mod defer;
mod diff;
mod doctor;
mod environments;
mod evolve;
mod execute;
mod exports;
mod failing;
mod fused;
mod gate;
mod glance;
mod history;
mod hooks;
mod inputs;
mod intake;
mod layouts;
mod left_out;
mod maintain;
mod materialize;
mod microbatch;
mod own_tables;
mod preview;
mod profiles;
mod profiling;
mod proved;
mod quarantine;
mod reconciled;
mod recorded;
mod references;
mod replay;
mod report;
mod riding;
mod schedule;
mod seeds;
mod sieve;
mod source_state;
mod staging;
mod survey;
mod together;
mod unit;
mod used;
mod watching;
mod world;

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::execution::session_state::SessionState;

use crate::bronze::{Listings, Slice};
use crate::compile::CompiledProject;
use crate::graph::Graph;
use crate::intervals::Interval;
use crate::memo::Memo;
use crate::names::TableName;
use crate::project::Project;
use crate::tables::{Lake, Owner};

pub use alerted::{AlertRow, Alerted, alerted, note_alerts};
pub use audit::run_tests;
pub use chronicle::chronicle;
pub use defer::Deferral;
pub use diff::{
    BeforeAfter, By, ChangedRow, ColumnDiff, ColumnRate, DiffRequest, FileCount, RepeatedKey, Row, Side, TableDiff,
    diff,
};
pub use doctor::{Finding, Health, examine};
pub use environments::{Dropped, Other, Taking, Wanted, drop_tables, take_over, to_drop};
pub use execute::{Event, execute, unfinished};
pub use exports::{ExportResult, PlannedExport};
pub use failing::Mask;
pub use hooks::HookResult;
pub(crate) use hooks::{Running, drain};
pub use inputs::Inputs;
pub use intake::models_that_take_in;
pub use layouts::layouts;
pub use maintain::{Maintained, maintain};
pub use materialize::Failure;
pub use preview::{Plan, Planned, Reads, preview};
pub use profiles::{ColumnProfile, TableProfile};
pub use profiling::Sketched;
pub use recorded::{Chronicled, RecordedFailures, RecordedNode, RecordedRun, RecordedTest};
pub use report::{ArchiveResult, FailedRow, NodeResult, RunReport, Status, TestResult, TestStatus};
pub use schedule::{ExportStep, Schedule, Step, TestMode, schedule};
pub use source_state::{FileState, FreshnessResult, FreshnessStatus, Intake, source_files, source_freshness};
pub use survey::{SeenSource, SeenTable, Survey, survey};
pub use unit::{Diff, DiffKind, DiffRow, Recorded, UnitTestResult, Values, record, run_unit_tests};

/// Everything a run reads and none of it changes.
pub struct Runtime {
    /// The project.
    pub project: Project,
    /// Who reads whom.
    pub graph: Graph,
    /// Typed models.
    pub compiled: CompiledProject,
    /// Where tables live.
    pub lake: Lake,
    /// DataFusion, with the memory of the whole run.
    pub session: SessionState,
    /// What earlier runs worked out.
    pub memo: Memo,
    /// Files that were listed when the project was inspected, of sources that add new columns.
    pub listings: Listings,
    /// The project folder.
    pub folder: PathBuf,
    /// Another lake, whose tables stand in for those that this one lacks.
    pub deferral: Option<Deferral>,
    /// What the call asked for.
    pub options: RunOptions,
}

impl Runtime {
    /// Who makes tables in this run.
    pub fn owner(&self) -> Owner {
        Owner { project: self.project.name.clone(), target: self.project.target.name.clone() }
    }
}

/// What the call asked for.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Rebuild incremental models from all files.
    pub full_refresh: bool,
    /// Build what is unchanged, too.
    pub force: bool,
    /// List all files of a source, where names that sort after the known ones would do.
    pub full_listing: bool,
    /// Of the files that models take in: these only, known or not.
    pub slice: Option<Slice>,
    /// Nothing but what is quarantined of this source is taken in.
    pub replay: Option<TableName>,
    /// Of models that run in batches: the batches of this interval, done or not.
    pub event_time: Option<Interval>,
    /// End the run at the first failure.
    pub fail_fast: bool,
    /// Channels are told how it ends.
    pub notify: bool,
    /// Tests that the plan of their model proves are not run.
    pub prove: bool,
    /// How often a node starts again after its storage failed in a way that passes.
    pub retries: u32,
    /// Partitions of a query, batches of a model and tables under care that run at once.
    pub threads: usize,
    /// Nodes that run at once.
    pub nodes_at_once: usize,
    /// When the run started.
    pub started_at: chrono::DateTime<chrono::Utc>,
    /// The id of the run.
    pub invocation_id: String,
}

/// A shared [`Runtime`].
pub type SharedRuntime = Arc<Runtime>;
