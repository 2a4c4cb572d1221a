//! All that looks at the rows of a build on their way into its table, instead of reading them again.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use tokio::sync::mpsc::Sender;

use super::audit::Seen;
use super::fused::Fusion;
use super::profiling::{Profiling, Sketched};
use super::riding::Riding;
use super::sieve::Sieve;
use crate::tables::{Staged, Watch};

/// Tests that watch a table on its way.
pub(super) struct Watching<'a> {
    fusion: Fusion<'a>,
    riding: Riding,
}

impl<'a> Watching<'a> {
    /// The rows will have the columns of `schema`.
    pub(super) fn new(fusion: Fusion<'a>, schema: SchemaRef) -> Self {
        Self { fusion, riding: Riding::new(schema) }
    }

    /// What each test found in the rows of `staged`; nothing, if they did not see exactly these.
    async fn seen(&self, staged: &Staged) -> Seen {
        let batches = self.riding.found(staged).await;
        let found = batches.and_then(|batches| self.fusion.found(&batches).ok()).unwrap_or_default();
        self.fusion.tests.iter().zip(found).map(|(shared, found)| (shared.test.name.clone(), found)).collect()
    }

    /// A query over the rows that are about to be written.
    fn begin(&self) -> Option<Sender<RecordBatch>> {
        self.riding.begin(&self.fusion.session, |rows| {
            let plan = self.fusion.plan(rows).ok()?;
            self.fusion.reads_once(&plan).then_some(plan)
        })
    }
}

/// All that looks at the rows of a build on their way into its table.
#[derive(Default)]
pub(super) struct OnTheWay<'a> {
    /// Tests that see them as they are written.
    pub(super) watching: Option<Watching<'a>>,
    /// Tests that leave some of them out.
    pub(super) sieve: Option<Sieve<'a>>,
    /// What is counted for people to look at.
    pub(super) profiling: Option<Profiling<'a>>,
    /// If the rows are all that the table will hold: the sets of columns that others read.
    pub(super) sums: Option<Vec<Vec<String>>>,
}

impl OnTheWay<'_> {
    /// The rows that were seen last are those of these files.
    pub(super) fn wrote(&self, staged: &Staged) {
        if let Some(watching) = &self.watching {
            watching.riding.wrote(staged);
        }
        if let Some(profiling) = &self.profiling {
            profiling.riding.wrote(staged);
        }
    }

    /// What each test found in the rows of `staged`.
    pub(super) async fn seen(&self, staged: &Staged) -> Seen {
        let mut seen = match &self.watching {
            Some(watching) => watching.seen(staged).await,
            None => Seen::new(),
        };
        if let Some(sieve) = &self.sieve {
            seen.extend(sieve.found().into_iter().map(|(test, found)| (test.name.clone(), found)));
        }
        seen
    }

    /// The sketches of the columns of `staged`.
    pub(super) async fn sketched(&self, staged: &Staged) -> Option<Sketched> {
        self.profiling.as_ref()?.sketched(staged).await
    }
}

impl Watch for OnTheWay<'_> {
    fn begin(&self) -> Vec<Sender<RecordBatch>> {
        if let Some(sieve) = &self.sieve {
            sieve.begin();
        }
        let tests = self.watching.as_ref().and_then(Watching::begin);
        let profile = self.profiling.as_ref().and_then(Profiling::begin);
        tests.into_iter().chain(profile).collect()
    }

    fn sums(&self) -> Option<Vec<Vec<String>>> {
        self.sums.clone()
    }
}
