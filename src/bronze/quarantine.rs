//! What a batch has left out, noted beside its table before the commit that makes it count.
//!
//! Two tables cannot be committed at once. So a batch first writes a note under an id of its own, and the id stands in
//! the commit of the table, as the `txn` version of an application of its own. The note counts if and only if that
//! commit took place; from then on it says what the quarantine still has to learn, which can be done at any time, and
//! done again.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::listing::PartitionedFile;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload, WriteMultipart};
use serde::{Deserialize, Serialize};

use super::BronzeError;
use super::bad_rows::{BadRow, BadRows};
use crate::exact_files::ExactFiles;
use crate::fail_points;
use crate::names::TableName;
use crate::stores::Place;

/// What one batch of a table means for the quarantine of a source.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Note {
    /// Unique and increasing.
    pub id: i64,
    /// The folder that paths of files are relative to.
    pub folder: String,
    /// The run.
    pub invocation_id: String,
    /// What the table had quarantined before counts no more: everything was read again.
    pub replaces_all: bool,
    /// There are files whose rows from before are superseded.
    pub supersedes: bool,
    /// Rows of this batch and older ones were read again: those that are not told to be `still` bad are replayed.
    pub replays: Option<i64>,
    /// The file of lines, beside the note.
    lines: Option<String>,
}

impl Note {
    /// The name of the file of lines, beside the note.
    pub(super) fn lines_file(&self) -> Option<&str> {
        self.lines.as_deref()
    }
}

/// What a note is made of.
pub struct Draft<'a> {
    /// See [`Note`].
    pub folder: &'a str,
    /// See [`Note`].
    pub invocation_id: &'a str,
    /// See [`Note`].
    pub replaces_all: bool,
    /// Files whose rows from before are superseded.
    pub superseded: BTreeSet<String>,
    /// Files that could not be read before cannot be read as they are now.
    pub still_unreadable: bool,
    /// See [`Note`].
    pub replays: Option<i64>,
    /// Files whose rows were not read again.
    pub kept: BTreeSet<String>,
}

/// A line beside a note.
#[derive(Serialize)]
struct Line<'a> {
    kind: &'static str,
    #[serde(flatten)]
    row: &'a BadRow,
}

/// The `appId` of the `txn` action that holds the id of the newest note.
pub fn app_id(table: &TableName, source: &TableName) -> String {
    format!("lake:quarantine:{table}:{source}")
}

fn folder(source: &TableName) -> Path {
    Path::from_iter(["_lake", "quarantine", &source.to_string()])
}

/// Writes the note of a batch, with what was kept of the rows of a source; `None` if there is nothing to note.
///
/// # Errors
/// When it cannot be written.
pub async fn write(
    store: &Arc<dyn ObjectStore>,
    (table, source): (&TableName, &TableName),
    bad_rows: &BadRows,
    draft: Draft<'_>,
    before: Option<i64>,
) -> Result<Option<Note>, BronzeError> {
    let bad = |why: String| BronzeError::Manifest { table: table.clone(), path: folder(source).to_string(), why };
    let refused =
        |error| BronzeError::ManifestStore { table: table.clone(), path: folder(source).to_string(), source: error };
    let name = format!("{}.rows.json", uuid::Uuid::new_v4());
    let path = folder(source).join(name.as_str());
    let mut lines = Lines { store, path, upload: None };
    for row in bad_rows.kept().map_err(|error| bad(error.to_string()))?.into_iter().flatten() {
        let (of, row) = row.map_err(|error| bad(error.to_string()))?;
        if of == *source {
            let kind = if row.batch.is_some() { "still" } else { "row" };
            lines.write(&Line { kind, row: &row }).await.map_err(refused)?;
        }
    }
    let supersedes = !draft.superseded.is_empty() || draft.still_unreadable;
    for file in draft.superseded {
        let row = BadRow { file, ..BadRow::default() };
        lines.write(&Line { kind: "superseded", row: &row }).await.map_err(refused)?;
    }
    for file in draft.kept {
        let row = BadRow { file, ..BadRow::default() };
        lines.write(&Line { kind: "kept", row: &row }).await.map_err(refused)?;
    }
    let any = lines.finish().await.map_err(refused)?;
    if !any && !draft.replaces_all && draft.replays.is_none() {
        return Ok(None);
    }
    let mut note = Note {
        id: chrono::Utc::now().timestamp_micros().max(before.map_or(0, |id| id + 1)),
        folder: draft.folder.to_owned(),
        invocation_id: draft.invocation_id.to_owned(),
        replaces_all: draft.replaces_all,
        supersedes,
        replays: draft.replays,
        lines: any.then_some(name),
    };
    loop {
        let text = serde_json::to_vec(&note).map_err(|error| bad(error.to_string()))?;
        let path = folder(source).join(format!("{:019}.json", note.id));
        match store.put_opts(&path, PutPayload::from(text), PutMode::Create.into()).await {
            Ok(_) => break,
            Err(object_store::Error::AlreadyExists { .. }) => note.id += 1,
            Err(error) => return Err(refused(error)),
        }
    }
    fail_points::reached("quarantine-noted");
    Ok(Some(note))
}

/// Lines on their way to a file that is made for the first one.
struct Lines<'a> {
    store: &'a Arc<dyn ObjectStore>,
    path: Path,
    upload: Option<WriteMultipart>,
}

impl Lines<'_> {
    async fn write(&mut self, line: &Line<'_>) -> object_store::Result<()> {
        let upload = match &mut self.upload {
            Some(upload) => upload,
            None => self.upload.insert(WriteMultipart::new(self.store.put_multipart(&self.path).await?)),
        };
        let mut text = serde_json::to_vec(line).unwrap_or_default();
        let _ = text.write_all(b"\n");
        upload.wait_for_capacity(4).await?;
        upload.write(&text);
        Ok(())
    }

    async fn finish(self) -> object_store::Result<bool> {
        let Some(upload) = self.upload else { return Ok(false) };
        upload.finish().await?;
        Ok(true)
    }
}

/// Reads the note that a commit names.
///
/// # Errors
/// When it is missing or damaged.
pub async fn read(
    store: &Arc<dyn ObjectStore>,
    (table, source): (&TableName, &TableName),
    id: i64,
) -> Result<Note, BronzeError> {
    let path = folder(source).join(format!("{id:019}.json"));
    let bad = |why: String| BronzeError::Manifest { table: table.clone(), path: path.to_string(), why };
    let refused = |source| BronzeError::ManifestStore { table: table.clone(), path: path.to_string(), source };
    let bytes = store.get(&path).await.map_err(refused)?.bytes().await.map_err(refused)?;
    serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))
}

/// The lines of a note as a table. `place` is where the table of the note lives.
///
/// # Errors
/// When their file is gone.
pub async fn lines(note: &Note, place: &Place, source: &TableName) -> Result<Arc<dyn TableProvider>, BronzeError> {
    let mut files = Vec::new();
    if let Some(lines) = &note.lines {
        let storage = |source_error| BronzeError::Storage { source_name: source.clone(), source: source_error };
        let path = place.join(&folder(source).join(lines.as_str()));
        let meta = place.store.files().head(&path).await.map_err(storage)?;
        files.push(PartitionedFile::new_from_meta(meta));
    }
    let format = Arc::new(JsonFormat::default());
    Ok(Arc::new(ExactFiles::new(place.store.clone(), format, schema(), Vec::new(), files)))
}

fn schema() -> SchemaRef {
    let text = ["kind", "file", "text", "header", "column", "reason"].map(|name| (name, DataType::Utf8));
    let number = ["row", "line", "batch"].map(|name| (name, DataType::Int64));
    let fields = text.into_iter().chain(number).map(|(name, data_type)| Field::new(name, data_type, true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
