//! Taking quarantined rows again: `lake source replay`.
//!
//! A replay is a batch like any other, of the rows that the quarantine has and files that could not be read. Its note
//! says which older rows it has read, so they count as replayed if and only if its commit took place.

use std::collections::BTreeSet;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::datasource::provider_as_source;
use futures::StreamExt;

use super::inputs::Inputs;
use super::materialize::Failure;
use super::quarantine::table_of;
use crate::bronze::replay::Keeper;
use crate::bronze::{BadRow, BronzeFile, Listing, Manifest, Pending, Read, Why};
use crate::names::TableName;
use crate::project::OnChangedFile;
use crate::session::{self, Tables};
use crate::tables;

/// What a model has quarantined of a source, as a batch.
pub(super) async fn pending(
    inputs: &Inputs,
    (model, source): (&TableName, &TableName),
    manifest: &Manifest,
    listing: &Listing,
) -> Result<Pending, Failure> {
    let runtime = inputs.runtime();
    let mut pending = Pending::default();
    let Some(quarantine) = runtime.lake.inspect(&table_of(source)).await? else { return Ok(pending) };
    let rule = runtime.project.sources[source].ingestion.on_changed_file;
    let table = provider_as_source(tables::table_provider(&quarantine).await?);
    let mut known = Tables::new();
    known.insert(TableName::new("q", "current"), table);
    let sql = format!(
        "select file_path, row_number, line, raw_text, header, batch_id from q.current \
         where model = '{model}' and replayed_at is null order by file_path, batch_id, row_number nulls first"
    );
    let plan = session::plan(&runtime.session, session::parse(&sql)?, &known)?;
    let mut batches = session::query(&runtime.session, plan).execute_stream().await?;
    let disk = |error: std::io::Error| Failure::text(format!("rows to read again cannot be kept: {error}"));
    let mut keeper = Keeper::new(&runtime.session).map_err(disk)?;
    let folder = format!("{}/", listing.base.trim_end_matches('/'));
    let (mut at_hand, mut kept): (Option<String>, BTreeSet<String>) = (None, BTreeSet::new());
    while let Some(batch) = batches.next().await {
        for mut row in rows(&batch?) {
            row.file = row.file.strip_prefix(&folder).unwrap_or(&row.file).to_owned();
            if at_hand.as_ref() != Some(&row.file) {
                end_file(&mut pending, at_hand.take(), &mut keeper, (manifest, listing)).map_err(disk)?;
            }
            let entry = manifest.files().get(&row.file);
            if row.row.is_none()
                && let (Some(entry), Some(file)) = (entry, listing.get(&row.file))
            {
                // A file that could not be read is read again, as if it had changed.
                let fresh = entry.data.as_ref().is_some_and(Vec::is_empty) || rule != OnChangedFile::Replace;
                let why = if fresh { Why::New } else { Why::Changed(entry.data.clone()) };
                let known = pending.reads.iter().any(|read| read.file.path == row.file);
                if entry.bad.is_some() && !known {
                    let hash = entry.hash.clone();
                    pending.reads.push(Read { file: file.clone(), why, hash, retried: true });
                }
            }
            if entry.is_none_or(|entry| entry.bad.is_some()) {
                kept.insert(row.file);
                continue;
            }
            keeper.add(&row).map_err(disk)?;
            at_hand = Some(row.file);
        }
    }
    end_file(&mut pending, at_hand, &mut keeper, (manifest, listing)).map_err(disk)?;
    pending.kept = kept;
    Ok(pending)
}

fn end_file(
    pending: &mut Pending,
    path: Option<String>,
    keeper: &mut Keeper,
    (manifest, listing): (&Manifest, &Listing),
) -> std::io::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let Some(entry) = manifest.files().get(&path) else { return Ok(()) };
    let there = listing.get(&path).filter(|file| entry.is(file)).cloned();
    let mut file = there.unwrap_or_else(|| BronzeFile::remembered(&path, entry, listing));
    (file.records, file.compacted) = (Some(keeper.end_file()?), None);
    pending.reads.push(Read { file, why: Why::Replayed(entry.clone()), hash: None, retried: false });
    Ok(())
}

fn rows(batch: &RecordBatch) -> Vec<BadRow> {
    let text = |column: usize, row: usize| {
        let texts = batch.column(column).as_string::<i32>();
        texts.is_valid(row).then(|| texts.value(row).to_owned())
    };
    let number = |column: usize, row: usize| {
        let numbers = batch.column(column).as_primitive::<Int64Type>();
        numbers.is_valid(row).then(|| numbers.value(row))
    };
    let count = |column: usize, row: usize| number(column, row).and_then(|number| u64::try_from(number).ok());
    (0..batch.num_rows())
        .map(|row| BadRow {
            file: text(0, row).unwrap_or_default(),
            row: count(1, row),
            line: count(2, row),
            text: text(3, row),
            header: text(4, row),
            batch: number(5, row),
            ..BadRow::default()
        })
        .collect()
}
