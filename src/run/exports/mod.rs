//! Exports: the file of a model's rows is written after the model's publish, if anything about it has changed.
//!
//! What a file was made of stands in `_lake/exports/<name>.json` below the lake root. A crash between the file and that note
//! leaves a file that the note does not know: it is written again.

mod encode;

use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

use chrono::{DateTime, Utc};
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::parquet::errors::ParquetError;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};

use self::encode::Encoder;
use super::attempts::Patience;
use super::decide::moved;
use super::defer::shown;
use super::inputs::Inputs;
use super::materialize::Failure;
use super::preview::{Plan, Planned};
use super::report::Status;
use super::schedule::Schedule;
use crate::compile::Input;
use crate::fail_points;
use crate::names::TableName;
use crate::project::{Export, OrderBy};
use crate::session::{self, Tables};
use crate::stores::{self, Store};
use crate::tables::{self, Published, TableError};
use crate::words::quoted;

/// How often an export looks again at what other runs publish and write meanwhile.
const ROUNDS: usize = 5;

/// What happened to an export.
#[derive(Debug, Clone, Serialize)]
pub struct ExportResult {
    /// `export.top_songs_csv`.
    pub name: TableName,
    /// The model.
    pub model: TableName,
    /// How it ended.
    pub status: Status,
    /// Why it was written, skipped or failed.
    pub reason: String,
    /// `csv`, `ndjson`, `parquet`.
    pub format: &'static str,
    /// Where the file is.
    pub path: String,
    /// Rows of the file, if it was written.
    pub rows: Option<u64>,
    /// Its size.
    pub bytes: Option<u64>,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl ExportResult {
    /// Of an export that did not run.
    pub(super) fn new(export: &Export, status: Status, reason: String) -> Self {
        Self {
            name: export.name.clone(),
            model: export.model().clone(),
            status,
            reason,
            format: export.format.name(),
            path: stores::without_secret(&export.path.0),
            rows: None,
            bytes: None,
            started_at: Utc::now(),
            seconds: 0.0,
        }
    }
}

/// What a run would do with an export.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedExport {
    /// `export.top_songs_csv`.
    pub name: TableName,
    /// The model.
    pub model: TableName,
    /// Where the file is.
    pub path: String,
    /// What becomes of it.
    pub plan: Plan,
    /// Why.
    pub reason: String,
}

/// What a file was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// The hash of its declaration.
    definition: String,
    /// Versions of tables, fingerprints of source files, the hash of a view: what decides its rows.
    made_of: BTreeMap<String, String>,
    /// What tells the file from another one in its place.
    stamp: String,
    /// The run that wrote it.
    invocation_id: String,
}

/// What is known before a file is written.
struct Look {
    store: Store,
    path: Path,
    /// The version of a stored model whose rows it would have.
    published: Option<Published>,
    /// What the file would be made of; `None` if there is nothing to read yet.
    made_of: Option<BTreeMap<String, String>>,
    /// What is there now.
    there: Option<ObjectMeta>,
    note: Option<Note>,
}

/// Which version of a table counts.
#[derive(Clone, Copy)]
enum Seen {
    /// The one that the run reads.
    ByRun,
    /// The newest one.
    Now,
}

/// What to do about a file.
enum Need {
    Write(String),
    Skip(String),
}

impl Inputs {
    /// Writes the file of an export, if it is not what it should be.
    #[tracing::instrument(name = "export", skip_all, fields(otel.name = %name))]
    pub(super) async fn export(&self, name: &TableName) -> ExportResult {
        let export = &self.runtime().project.exports[name];
        let (started_at, start) = (Utc::now(), Instant::now());
        let mut patience = Patience::new(self.runtime().options.retries, None);
        let mut result = loop {
            match self.export_once(export).await {
                Ok(result) => break result,
                Err(failure) if patience.again(&failure).await => {}
                Err(failure) => {
                    let why = self.runtime().in_words(&failure, [export.model()]);
                    break ExportResult::new(export, Status::Error, why);
                }
            }
        };
        (result.started_at, result.seconds) = (started_at, start.elapsed().as_secs_f64());
        result
    }

    async fn export_once(&self, export: &Export) -> Result<ExportResult, Failure> {
        let mut done: Option<ExportResult> = None;
        for round in 0..ROUNDS {
            // Of two runs that write at the same time, the one that ends last must not leave older rows.
            let look = self.look_at_export(export, if round == 0 { Seen::ByRun } else { Seen::Now }).await?;
            let reason = match self.needs_export(export, &look) {
                Need::Skip(reason) => {
                    return Ok(done.unwrap_or_else(|| ExportResult::new(export, Status::Skipped, reason)));
                }
                Need::Write(reason) => reason,
            };
            match self.write_export(export, &look).await {
                Ok((rows, bytes)) => {
                    let first = done.take().map_or(reason, |before| before.reason);
                    let written = ExportResult::new(export, Status::Success, first);
                    done = Some(ExportResult { rows: Some(rows), bytes: Some(bytes), ..written });
                }
                // Another run was faster, perhaps with newer rows.
                Err(TableError::File { source, .. }) if is_taken(&source) => {}
                Err(error) => return Err(error.into()),
            }
        }
        done.ok_or_else(|| {
            let path = stores::without_secret(&export.path.0);
            Failure::text(format!("`{path}` is written by other programs again and again"))
        })
    }

    async fn look_at_export(&self, export: &Export, seen: Seen) -> Result<Look, Failure> {
        let runtime = self.runtime();
        let (written, options) = (&export.path.0, &runtime.project.target.storage);
        let (store, path) = Store::find(written, &runtime.folder, options).map_err(|error| {
            Failure::text(format!("`{}` cannot be written to: {error}", stores::without_secret(written)))
        })?;
        let fail = |source| file_error(export, source);
        let there = stores::look(&store, &path).await.map_err(fail)?;
        let note = stores::read_if_there(&runtime.lake.files(), &note_path(export)).await.map_err(fail)?;
        // What cannot be read is as good as not there.
        let note = note.and_then(|text| serde_json::from_slice(&text).ok());
        let model = &runtime.project.models[export.model()];
        let published = match seen {
            _ if !model.is_stored() => None,
            Seen::ByRun => self.published(&model.name).await?,
            Seen::Now => runtime.lake.inspect(&model.name).await?,
        };
        let made_of = if model.is_stored() {
            published.as_ref().map(|published| BTreeMap::from([(model.name.to_string(), version_of(published))]))
        } else {
            Some(self.view_made_of(&model.name).await?)
        };
        Ok(Look { store, path, published, made_of, there, note })
    }

    /// What decides the rows of a view.
    async fn view_made_of(&self, name: &TableName) -> Result<BTreeMap<String, String>, Failure> {
        let Some(compiled) = self.runtime().compiled.models.get(name) else {
            return Err(Failure::text(format!("`{name}` was not checked: something it reads is broken")));
        };
        let mut made_of = BTreeMap::from([(name.to_string(), format!("definition {}", compiled.definition))]);
        for input in &compiled.inputs {
            let (name, state) = match input {
                Input::Table(name) => (name, self.identity_of(name).await?),
                Input::Source(name, _) => (name, self.source_state(name).await?.0),
            };
            made_of.insert(name.to_string(), state);
        }
        Ok(made_of)
    }

    /// The version of a table that a view reads, and which table it is.
    async fn identity_of(&self, name: &TableName) -> Result<String, Failure> {
        let Some(version) = self.version_of(name).await? else { return Ok("absent".to_owned()) };
        let own = self.published(name).await?.and_then(|published| published.table_id());
        Ok(if version.contains(", table ") { version } else { format!("{version}, table {}", own.unwrap_or_default()) })
    }

    fn needs_export(&self, export: &Export, look: &Look) -> Need {
        let runtime = self.runtime();
        let Some(made_of) = &look.made_of else {
            return Need::Skip(format!("{} has no table yet", export.model()));
        };
        let Some(note) = &look.note else { return Need::Write("first export".to_owned()) };
        if note.definition != export.definition() {
            return Need::Write("its definition changed".to_owned());
        }
        if let Some(change) = changed(&note.made_of, made_of) {
            return Need::Write(change);
        }
        match &look.there {
            None => return Need::Write("its file is gone".to_owned()),
            Some(there) if stores::stamp(&look.store, there) != note.stamp => {
                return Need::Write("another program changed its file".to_owned());
            }
            Some(_) => {}
        }
        // Once in a run is enough.
        if note.invocation_id != runtime.options.invocation_id {
            let volatile = runtime.compiled.models.get(export.model()).and_then(|model| model.volatile.as_deref());
            if let Some(why) = volatile.filter(|_| !runtime.project.models[export.model()].is_stored()) {
                return Need::Write(format!("its rows depend on {why}"));
            }
            if runtime.options.force {
                return Need::Write("forced".to_owned());
            }
        }
        let same = made_of.iter().map(|(name, state)| match shown(state) {
            version if version.starts_with("version") => format!("{name} is still at {version}"),
            _ => format!("{name} is as it was"),
        });
        Need::Skip(format!("unchanged: {}", same.collect::<Vec<_>>().join(", ")))
    }

    /// Writes the file, and then notes what it was made of. Returns its rows and bytes.
    async fn write_export(&self, export: &Export, look: &Look) -> Result<(u64, u64), TableError> {
        let runtime = self.runtime();
        let fail = |source| file_error(export, source);
        let query = |failure: Failure| match failure {
            Failure::Table(error) => error,
            other => TableError::Rows(other.to_string()),
        };
        let tables = self.tables_of_export(export, look).await.map_err(query)?;
        let sql = self.rows_of_export(export, look);
        let rows = session::within_memory(&runtime.session, |session: SessionState| {
            let (tables, sql) = (&tables, sql.as_str());
            async move { write_rows(export, look, &session, tables, sql).await }
        })
        .await?;
        fail_points::reached("exported");
        let there = stores::look(&look.store, &look.path).await.map_err(fail)?;
        let there = there.ok_or_else(|| TableError::Rows(format!("`{}` vanished after it was written", look.path)))?;
        let note = Note {
            definition: export.definition(),
            made_of: look.made_of.clone().unwrap_or_default(),
            stamp: stores::stamp(&look.store, &there),
            invocation_id: runtime.options.invocation_id.clone(),
        };
        let text = serde_json::to_vec(&note).unwrap_or_default();
        runtime.lake.files().put(&note_path(export), PutPayload::from(text)).await.map_err(fail)?;
        Ok((rows, there.size))
    }

    /// The table of a model as this lake has it, or what a view reads.
    async fn tables_of_export(&self, export: &Export, look: &Look) -> Result<Tables, Failure> {
        let name = export.model();
        let Some(published) = &look.published else { return self.tables_named(std::slice::from_ref(name)).await };
        let mut tables = Tables::new();
        tables.insert(name.clone(), provider_as_source(tables::table_provider(published).await?));
        Ok(tables)
    }

    fn rows_of_export(&self, export: &Export, look: &Look) -> String {
        let compiled = &self.runtime().compiled.models[export.model()];
        // A table may still have the columns of before.
        let schema = look.published.as_ref().map_or(&*compiled.schema, |published| &published.schema);
        let fields = schema.fields();
        let columns: Vec<&str> = match export.columns.as_slice() {
            [] => fields.iter().map(|field| field.name().as_str()).collect(),
            some => some.iter().map(|(name, _)| name.as_str()).collect(),
        };
        let order: Vec<&OrderBy> = export.order_by.iter().map(|(order, _)| order).collect();
        let mut sorted: Vec<String> = order
            .iter()
            .map(|order| format!("{} {}", quoted(&order.column), if order.descending { "desc" } else { "asc" }))
            .collect();
        if !sorted.is_empty() {
            // Rows that tie in all of these are the same.
            let is_left = |name: &&&str| order.iter().all(|order| order.column != **name);
            let is_plain = |name: &&&str| fields.find(name).is_some_and(|(_, field)| !field.data_type().is_nested());
            let ties = columns.iter().filter(is_left).filter(is_plain);
            sorted.extend(ties.map(|name| format!("{} asc", quoted(name))));
        }
        let listed: Vec<String> = columns.iter().map(|name| quoted(name)).collect();
        let mut sql = format!("select {} from {}", listed.join(", "), export.model().quoted());
        if !sorted.is_empty() {
            let sorted: Vec<String> = sorted.iter().map(|column| format!("{column} nulls last")).collect();
            sql.push_str(&format!(" order by {}", sorted.join(", ")));
        }
        sql
    }

    /// What a run of a schedule would do with its exports, where `planned` is what it would do with its models.
    pub async fn preview_exports(&self, schedule: &Schedule, planned: &[Planned]) -> Vec<PlannedExport> {
        let mut found = Vec::new();
        for step in &schedule.exports {
            let export = &self.runtime().project.exports[&step.name];
            let of_model = planned.iter().find(|planned| planned.name == *export.model()).map(|planned| planned.plan);
            let (plan, reason) = match self.look_at_export(export, Seen::ByRun).await {
                Err(failure) => (Plan::Fail, self.runtime().in_words(&failure, [export.model()])),
                Ok(look) => match (self.needs_export(export, &look), of_model) {
                    (Need::Write(reason), _) => (Plan::Build, reason),
                    (Need::Skip(_), Some(Plan::Build)) if look.note.is_none() => {
                        (Plan::Build, "first export".to_owned())
                    }
                    (Need::Skip(_), Some(Plan::Build | Plan::Maybe)) => {
                        (Plan::Maybe, format!("if {} changes", export.model()))
                    }
                    (Need::Skip(reason), _) => (Plan::Skip, reason),
                },
            };
            let path = stores::without_secret(&export.path.0);
            let (name, model) = (export.name.clone(), export.model().clone());
            found.push(PlannedExport { name, model, path, plan, reason });
        }
        found
    }
}

fn version_of(published: &Published) -> String {
    format!("version {}, table {}", published.rows_since(), published.table_id().unwrap_or_default())
}

/// Another file has come to a place that this one was to take.
fn is_taken(error: &object_store::Error) -> bool {
    use object_store::Error::{AlreadyExists, Precondition};
    matches!(error, AlreadyExists { .. } | Precondition { .. })
}

fn file_error(export: &Export, source: object_store::Error) -> TableError {
    TableError::File { table: export.model().clone(), path: stores::without_secret(&export.path.0), source }
}

fn note_path(export: &Export) -> Path {
    Path::from_iter(["_lake", "exports", &format!("{}.json", export.name.table)])
}

/// The first input that is not what it was, in words.
fn changed(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Option<String> {
    let (name, state) = now.iter().find(|(name, state)| before.get(*name) != Some(state)).or_else(|| {
        // A view that reads less than before has another definition.
        before.iter().find(|(name, _)| !now.contains_key(*name))
    })?;
    Some(match before.get(name) {
        Some(old) if state.starts_with("version") && shown(old) != shown(state) => moved(name, old, state),
        Some(_) if state.starts_with("version") => format!("{name} is another table now"),
        Some(_) if state.starts_with("definition") => format!("{name} has another definition"),
        _ => format!("{name} changed"),
    })
}

async fn write_rows(
    export: &Export,
    look: &Look,
    session: &SessionState,
    tables: &Tables,
    sql: &str,
) -> Result<u64, TableError> {
    let plan = session::plan(session, session::parse(sql)?, tables)?;
    let mut rows = session::query(session, plan).execute_stream().await?;
    let writer = stores::replacing(&look.store, &look.path, look.there.as_ref());
    let fail = |error| write_error(export, error);
    let mut encoder = Encoder::new(&export.format, &rows.schema(), writer).map_err(fail)?;
    let mut count = 0;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        count += batch.num_rows() as u64;
        encoder.write(&batch).await.map_err(fail)?;
    }
    encoder.finish().await.map_err(fail)?;
    Ok(count)
}

/// What the storage says is an error of the file, and anything else of the rows.
fn write_error(export: &Export, error: DataFusionError) -> TableError {
    let error = match error {
        DataFusionError::IoError(error) => error,
        DataFusionError::ParquetError(error) => match *error {
            ParquetError::External(error) => match error.downcast::<io::Error>() {
                Ok(error) => *error,
                Err(other) => return TableError::Query(DataFusionError::External(other)),
            },
            other => return TableError::Query(other.into()),
        },
        other => return TableError::Query(other),
    };
    let other = |source: io::Error| object_store::Error::Generic { store: "file", source: source.into() };
    file_error(export, error.downcast::<object_store::Error>().unwrap_or_else(other))
}
