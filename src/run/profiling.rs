//! Sketches of all columns of a table: of its rows on their way, of those that were added, or of all of them.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{LogicalPlan, TableSource};
use tokio::sync::mpsc::Sender;

use super::materialize::{Failure, Node};
use super::riding::Riding;
use crate::names::TableName;
use crate::project::Profile;
use crate::session::{self, Sketch, Tables};
use crate::tables::Staged;
use crate::words::quoted;

/// The sketch of each column of a table, in order.
pub(super) type Sketches = Vec<Sketch>;

/// What a build counted of its rows.
#[derive(Debug, Clone)]
pub struct Sketched {
    /// They were added to this version; if to none, they are the table.
    pub(super) added_to: Option<u64>,
    pub(super) columns: Sketches,
}

impl Sketched {
    /// This, after what an earlier batch of the run counted, which became `version`.
    pub(super) fn after(self, earlier: Option<Self>, version: Option<u64>) -> Option<Self> {
        match (self.added_to, earlier) {
            (None, _) => Some(self),
            (Some(base), Some(earlier)) if Some(base) == version => {
                let columns = merged(earlier.columns, &self.columns)?;
                Some(Self { added_to: earlier.added_to, columns })
            }
            (Some(_), None) => Some(self),
            // Something else was published between the two.
            (Some(_), Some(_)) => None,
        }
    }
}

/// Sketches of both; `None` if they do not fit.
pub(super) fn merged(mut own: Sketches, other: &[Sketch]) -> Option<Sketches> {
    if own.len() != other.len() {
        return None;
    }
    for (own, other) in own.iter_mut().zip(other) {
        if !own.fits(other) || own.merge(other).is_err() {
            return None;
        }
    }
    Some(own)
}

/// A query for the sketches of all columns of some rows.
fn query(rows: Arc<dyn TableSource>, session: &SessionState) -> Result<LogicalPlan, Failure> {
    let name = TableName::new("own", "rows");
    let schema = rows.schema();
    let columns = schema.fields().iter().map(|field| format!("column_sketch({})", quoted(field.name())));
    let sql = format!("select {} from own.rows", columns.collect::<Vec<_>>().join(", "));
    let mut tables = Tables::new();
    tables.insert(name, rows);
    Ok(session::plan(session, session::parse(&sql)?, &tables)?)
}

fn read(batches: &[RecordBatch]) -> Option<Sketches> {
    let batch = batches.iter().find(|batch| batch.num_rows() > 0)?;
    batch.columns().iter().map(|column| serde_json::from_str(column.as_string_opt::<i32>()?.value(0)).ok()).collect()
}

/// The sketches of all rows of a table: one scan.
pub(super) async fn sketch(rows: Arc<dyn TableProvider>, session: &SessionState) -> Result<Sketches, Failure> {
    let plan = query(provider_as_source(rows), session)?;
    read(&session::collect(session, plan).await?)
        .ok_or_else(|| Failure::text("the sketches of the columns cannot be read".to_owned()))
}

/// Sketches of rows on their way.
pub(super) struct Profiling<'a> {
    session: &'a SessionState,
    pub(super) riding: Riding,
}

impl<'a> Profiling<'a> {
    pub(super) fn new(session: &'a SessionState, schema: SchemaRef) -> Self {
        Self { session, riding: Riding::new(schema) }
    }

    pub(super) fn begin(&self) -> Option<Sender<RecordBatch>> {
        self.riding.begin(self.session, |rows| query(rows, self.session).ok())
    }

    pub(super) async fn sketched(&self, staged: &Staged) -> Option<Sketched> {
        let columns = read(&self.riding.found(staged).await?)?;
        Some(Sketched { added_to: None, columns })
    }
}

impl Node<'_> {
    /// The rows that a publish adds, if they are to be counted and it takes none away.
    pub(super) fn added_to_profile(&self, staged: &Staged) -> Option<Staged> {
        if self.model.config.profile == Profile::Full { staged.added_only() } else { None }
    }

    /// What was counted of the rows on their way, or else of those that a publish added to a version, if it took none away.
    pub(super) async fn counted(
        &self,
        on_the_way: Option<Sketched>,
        added: Option<Staged>,
        version: Option<u64>,
    ) -> Option<Sketched> {
        if on_the_way.is_some() {
            return on_the_way;
        }
        let session = &self.inputs.runtime().session;
        let (added, version) = added.zip(version)?;
        let rows = Arc::new(ViewTable::new(added.rows_plan().ok()?, None));
        let columns = sketch(rows, session).await.ok()?;
        Some(Sketched { added_to: Some(version), columns })
    }
}
