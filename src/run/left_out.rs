//! The quarantine of a model: the rows that its tests left out, as a Delta table `_lake/quarantine/<layer>__<model>`.
//!
//! Two tables cannot be committed at once. So the rows are first written beside the table of the model, under an id that
//! its commit names as the `txn` version of an application of its own: they count if and only if that commit took place.
//! What the commit says is then carried over, right away or before the next build of the model.

use std::collections::BTreeSet;

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::datasource::provider_as_source;
use futures::TryStreamExt;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use super::failing::Failing;
use super::inputs::Inputs;
use super::materialize::{Failure, Mode, Node};
use super::own_tables::{self, ATTEMPTS, columns};
use super::sieve::Sieve;
use crate::catalog::utc;
use crate::compile::{CompiledProject, CompiledTest};
use crate::fail_points;
use crate::names::TableName;
use crate::project::{Model, Violation};
use crate::session::{self, Tables};
use crate::stores;
use crate::tables::{self, Commit, Lake, Prepared, Published, Staged, TableError};

/// Where the quarantine of a model is.
pub(super) fn table_of(model: &TableName) -> TableName {
    TableName::new("_lake/quarantine", format!("{}__{}", model.schema, model.table))
}

/// The quarantines of all models that have one.
pub(super) fn tables(compiled: &CompiledProject) -> BTreeSet<TableName> {
    let quarantines = |test: &&CompiledTest| test.config.on_violation == Violation::Quarantine;
    compiled.tests.iter().filter(quarantines).filter_map(|test| test.table.as_ref().map(table_of)).collect()
}

/// Whether rows that tests leave out of a model are kept.
pub(super) fn has_quarantine(compiled: &CompiledProject, model: &TableName) -> bool {
    let is_kept = |test: &CompiledTest| test.config.on_violation == Violation::Quarantine;
    compiled.tests.iter().any(|test| test.table.as_ref() == Some(model) && is_kept(test))
}

/// The application whose head says which note counts.
pub(super) fn app_id(model: &TableName) -> String {
    format!("lake:left_out:{model}")
}

fn note_path(id: i64) -> Path {
    Path::from_iter(["_lake", "left_out", &format!("{id}.jsonl")])
}

/// Where the rows of a note are, of which there may be as many as there are of the table.
fn rows_path(id: i64) -> Path {
    Path::from_iter(["_lake", "left_out", &format!("{id}.rows.jsonl")])
}

/// Rows of a note that are in memory at once.
const ROWS_AT_ONCE: usize = 20_000;

/// What a note says.
#[derive(Serialize, Deserialize)]
struct Header {
    /// What was left out before counts no more: all rows were made anew.
    replaces_all: bool,
    invocation_id: String,
    at: chrono::DateTime<chrono::Utc>,
}

/// A row of the quarantine.
#[derive(Serialize, Deserialize)]
struct Line {
    test: String,
    rule: String,
    key: Option<String>,
    source_file: Option<String>,
    source_row: Option<i64>,
    row: String,
    #[serde(default)]
    invocation_id: String,
    #[serde(default)]
    quarantined_at: Option<chrono::DateTime<chrono::Utc>>,
}

fn schema() -> SchemaRef {
    columns(&[
        ("test", DataType::Utf8),
        ("rule", DataType::Utf8),
        ("key", DataType::Utf8),
        ("source_file", DataType::Utf8),
        ("source_row", DataType::Int64),
        ("row", DataType::Utf8),
        ("invocation_id", DataType::Utf8),
        ("quarantined_at", utc()),
    ])
}

impl Node<'_> {
    /// Writes what a build leaves out beside its table, and says what its commit has to name.
    pub(super) async fn note_left_out(
        &self,
        published: Option<&Published>,
        mode: Mode,
        sieve: Option<&Sieve<'_>>,
    ) -> Result<Option<(String, i64)>, Failure> {
        let runtime = self.inputs.runtime();
        let app = app_id(&self.model.name);
        let before = match published {
            Some(published) => published.transaction(&app).await?,
            None => None,
        };
        let file = sieve.map(Sieve::quarantined).transpose()?.flatten();
        // A table that is made anew takes back what it had left out.
        let takes_back = before.is_some() && mode == Mode::Full;
        if file.is_none() && !takes_back {
            return Ok(None);
        }
        let header = Header {
            replaces_all: mode == Mode::Full,
            invocation_id: runtime.options.invocation_id.clone(),
            at: chrono::Utc::now(),
        };
        let text = serde_json::to_string(&header).unwrap_or_default() + "\n";
        let store = runtime.lake.files_of(&self.model.name);
        let mut id = before.unwrap_or_default().max(header.at.timestamp_micros()) + 1;
        let fail =
            |path: Path, source| TableError::File { table: self.model.name.clone(), path: path.to_string(), source };
        loop {
            let payload = PutPayload::from(text.clone().into_bytes());
            match store.put_opts(&note_path(id), payload, PutMode::Create.into()).await {
                Ok(_) => break,
                // Another run's.
                Err(object_store::Error::AlreadyExists { .. }) => id += 1,
                Err(error) => return Err(fail(note_path(id), error).into()),
            }
        }
        if let (Some(file), Some(sieve)) = (file, sieve) {
            let writer = BufWriter::new(store, rows_path(id));
            let written = self.write_left_out(sieve, &file, writer).await;
            written.map_err(|error| {
                fail(rows_path(id), object_store::Error::Generic { store: "quarantine", source: error.into() })
            })?;
        }
        Ok(Some((app, id)))
    }

    /// Writes what a sieve has put aside, as rows of the quarantine.
    async fn write_left_out(
        &self,
        sieve: &Sieve<'_>,
        file: &std::path::Path,
        mut writer: BufWriter,
    ) -> std::io::Result<()> {
        let tests: Vec<_> = sieve.tests.iter().map(|(test, _)| Failing::new(self.inputs, test)).collect();
        let mut lines = BufReader::new(File::open(file).await?).lines();
        while let Some(line) = lines.next_line().await? {
            let line: Value = serde_json::from_str(&line).unwrap_or_default();
            let failing = line["test"].as_u64().and_then(|at| tests.get(usize::try_from(at).ok()?));
            let (Some(failing), Some(row)) = (failing, line["row"].as_str()) else { continue };
            let failed = failing.row(row);
            let line = Line {
                test: failing.test.name.clone(),
                rule: failed.rule,
                key: failed.key,
                source_file: failed.source_file,
                source_row: failed.source_row,
                row: failed.row,
                invocation_id: String::new(),
                quarantined_at: None,
            };
            writer.write_all(serde_json::to_string(&line)?.as_bytes()).await?;
            writer.write_all(b"\n").await?;
        }
        writer.shutdown().await
    }
}

/// Carries over what the last commit of a model says of its quarantine, if that is not done.
pub(super) async fn settle(inputs: &Inputs, model: &Model, published: &Published) -> Result<(), Failure> {
    let runtime = inputs.runtime();
    let app = app_id(&model.name);
    let head = published.transaction(&app).await?;
    if head.is_none() && !has_quarantine(&runtime.compiled, &model.name) {
        return Ok(());
    }
    for _ in 0..ATTEMPTS {
        let current = runtime.lake.inspect(&table_of(&model.name)).await?;
        let done = match &current {
            Some(current) => current.transaction(&app).await?,
            None => None,
        };
        let settled = match (&current, head) {
            _ if done == head => return Ok(()),
            // Another run went on, or a rollback went back.
            (Some(current), head) if done > head => {
                let now = runtime.lake.inspect(&model.name).await?;
                let went_on = match &now {
                    Some(now) => now.transaction(&app).await? >= done,
                    None => true,
                };
                if went_on {
                    return Ok(());
                }
                take_back(inputs, model, current, head).await
            }
            (current, Some(head)) => carry_over(inputs, model, current.as_ref(), head).await,
            (_, None) => return Ok(()),
        };
        match settled {
            Err(Failure::Table(TableError::Conflict { .. })) => tokio::task::yield_now().await,
            outcome => return outcome,
        }
    }
    Err(Failure::Table(TableError::Conflict { table: table_of(&model.name) }))
}

/// Makes a quarantine what it was at the head that a rollback of its model went back to.
async fn take_back(inputs: &Inputs, model: &Model, current: &Published, head: Option<i64>) -> Result<(), Failure> {
    let runtime = inputs.runtime();
    let (lake, session, name, app) = (&runtime.lake, &runtime.session, table_of(&model.name), app_id(&model.name));
    let then = match head {
        Some(head) => tables::version_at_head(lake, current, &app, head).await?,
        None => None,
    };
    let mut rows = Tables::new();
    let before = tables::table_provider(then.as_ref().unwrap_or(current)).await?;
    rows.insert(TableName::new("q", "before"), provider_as_source(before));
    // Where the log of the quarantine no longer tells, what came later is known by its time: the head has that of its note.
    let sql = format!(
        "select * from q.before where quarantined_at <= arrow_cast({}, 'Timestamp(Microsecond, Some(\"UTC\"))')",
        head.unwrap_or(-1)
    );
    let plan = session::plan(session, session::parse(&sql)?, &rows)?;
    let staged = tables::stage(lake, &name, plan, &schema(), &[], session).await?.replacing_all();
    let transactions = vec![(app, head.unwrap_or(tables::NO_HEAD))];
    let commit = Commit::of_run(&runtime.options.invocation_id, transactions);
    Ok(tables::publish(lake, Some(current), staged, &commit).await.map(|_| ())?)
}

/// Makes the quarantine of a model the one that another lake has of it.
pub(super) async fn bring(inputs: &Inputs, from: &Lake, model: &TableName) -> Result<(), Failure> {
    let runtime = inputs.runtime();
    let (lake, app, name) = (&runtime.lake, app_id(model), table_of(model));
    let Some(there) = from.inspect(&name).await? else { return Ok(()) };
    for _ in 0..ATTEMPTS {
        let over = lake.inspect(&name).await?;
        let done = match &over {
            Some(over) => over.transaction(&app).await?,
            None => None,
        };
        if done.is_some() && done == there.transaction(&app).await? {
            return Ok(());
        }
        let arrived = tables::bring((from, &there), (lake, over.as_ref()), [app.clone()].into()).await?;
        let commit = Commit::of_run(&runtime.options.invocation_id, Vec::new());
        let made = async {
            let prepared = Prepared::taking_over(lake, &there, over.as_ref(), &arrived, &commit).await?;
            prepared.write(lake).await
        };
        match made.await {
            Err(TableError::Conflict { .. }) => tokio::task::yield_now().await,
            Ok(()) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::Table(TableError::Conflict { table: name }))
}

async fn carry_over(inputs: &Inputs, model: &Model, current: Option<&Published>, head: i64) -> Result<(), Failure> {
    let runtime = inputs.runtime();
    let (lake, session, name) = (&runtime.lake, &runtime.session, table_of(&model.name));
    let store = lake.files_of(&model.name);
    let (table, path) = (model.name.clone(), note_path(head));
    let fail = |source| TableError::File { table: table.clone(), path: path.to_string(), source };
    // Else it was carried over once, and somebody has removed the quarantine since.
    let Some(bytes) = stores::read_if_there(&store, &path).await.map_err(&fail)? else { return Ok(()) };
    let damaged = |error: serde_json::Error| Failure::text(format!("`{path}` of table `{table}` is damaged: {error}"));
    let (header, rest) = bytes.split_at(bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len()));
    let header: Header = serde_json::from_slice(header).map_err(damaged)?;
    let stage = async |lines: Vec<String>| -> Result<Staged, Failure> {
        let line = |line: &String| -> Result<Line, Failure> {
            let line: Line = serde_json::from_str(line).map_err(damaged)?;
            Ok(Line { invocation_id: header.invocation_id.clone(), quarantined_at: Some(header.at), ..line })
        };
        let rows: Vec<Line> = lines.iter().filter(|line| !line.is_empty()).map(line).collect::<Result<_, _>>()?;
        own_tables::stage(inputs, &name, &schema(), &rows).await
    };
    // A note of an earlier release holds its rows itself.
    let mut staged = stage(String::from_utf8_lossy(rest).lines().map(str::to_owned).collect()).await?;
    if let Some(rows) = stores::if_there(store.get(&rows_path(head)).await).map_err(&fail)? {
        let rows = rows.into_stream().map_err(std::io::Error::other).into_async_read();
        let mut chunks = futures::AsyncBufReadExt::lines(rows).try_chunks(ROWS_AT_ONCE);
        while let Some(lines) = chunks.try_next().await.map_err(|error| Failure::text(error.1.to_string()))? {
            staged = staged.with(stage(lines).await?);
        }
    }
    let staged = match current {
        _ if header.replaces_all => staged.replacing_all(),
        Some(current) => tables::pack_along(lake, current, staged, session).await?,
        None => staged,
    };
    let commit = Commit::of_run(&header.invocation_id, vec![(app_id(&model.name), head)]);
    tables::publish(lake, current, staged, &commit).await?;
    fail_points::reached("left-out");
    // What is carried over is no longer needed; that it cannot be removed does no harm.
    let _ = store.delete(&rows_path(head)).await;
    let _ = store.delete(&path).await;
    Ok(())
}
