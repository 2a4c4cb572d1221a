//! Row counts beside those of the files that a table has taken in.

use std::collections::{BTreeMap, BTreeSet};

use super::audit::Audit;
use super::fused::Found;
use super::inputs::{Chosen, Delivery, Inputs};
use super::intake::{TakenIn, manifest_of, takes_in};
use super::materialize::{Failure, Node};
use crate::bronze::{BronzeFile, Entry};
use crate::checks::Check;
use crate::names::TableName;
use crate::session;
use crate::template::SourceRead;
use crate::words::{plural, thousands};

/// The files of a source that a table holds the rows of.
pub(super) type Holds = BTreeSet<String>;

impl Audit<'_> {
    /// How many rows a table has more or less than the files that it has taken in.
    pub(super) async fn reconciled(&self, table: &TableName, source: &TableName, sql: &str) -> Result<Found, Failure> {
        let files = self.inputs.files_held(table, source).await?;
        let (count, sources) = (files.len(), [(source.clone(), SourceRead::Changes)]);
        let chosen = Chosen::from([(source.clone(), Delivery { batch: None, files })]);
        let mut tables = self.tables(std::slice::from_ref(table)).await?;
        let of_source = self.inputs.tables(&[], &sources, &chosen, None).await?;
        if let Some(rows) = of_source.get(source) {
            tables.insert(source.clone(), rows.clone());
        }
        let session = &self.inputs.runtime().session;
        let plan = session::plan(session, session::parse(sql)?, &tables)?;
        let batches = session::collect(session, plan).await?;
        let (own, there) = (super::fused::count(&batches, "rows")?, super::fused::count(&batches, "rows_in_files")?);
        let told = format!(
            "{}, and {} in the {} that it has taken in",
            plural(own, "row"),
            thousands(there),
            plural(count as u64, "file")
        );
        let failures = own.abs_diff(there);
        let told = if failures == 0 { Vec::new() } else { vec![told] };
        Ok(Found { failures, rows: Some(there), told, ..Found::default() })
    }
}

impl Node<'_> {
    /// Whether a test compares the rows with those of the files of a source.
    pub(super) fn reconciles(&self, source: &TableName) -> bool {
        self.tests.iter().any(|test| matches!(test.check(), Check::Reconciled { source: of, .. } if of == *source))
    }
}

impl Inputs {
    /// Notes which files the rows of a table that is about to be published come from.
    pub(super) fn note_held(&self, table: &TableName, source: &TableName, taken: &TakenIn, chosen: &Chosen) {
        // What the batch makes of files: some are gone with their rows, some have another name.
        let change = taken.pending.change(&BTreeMap::new());
        let known = taken.manifest.files().iter().filter(|(path, _)| !change.contains_key(*path));
        let changed = change.iter().filter_map(|(path, entry)| Some((path, entry.as_ref()?)));
        let held = known.chain(changed).filter(|(_, entry)| is_held(entry)).map(|(path, _)| path.clone());
        let new = chosen.get(source).into_iter().flat_map(|delivery| &delivery.files).map(|file| file.path.clone());
        self.set_held(table, source, held.chain(new).collect());
    }

    /// The files that a table holds the rows of: those of its manifest, or all there are if it is made of all.
    async fn files_held(&self, table: &TableName, source: &TableName) -> Result<Vec<BronzeFile>, Failure> {
        let runtime = self.runtime();
        let listing = self.listing(source).await?;
        let model = runtime.project.models.get(table).filter(|model| takes_in(&runtime.project, model, source));
        if model.is_none() {
            return Ok(listing.files.clone());
        }
        let held = match self.held_files(table, source) {
            Some(held) => held,
            None => {
                let manifest = manifest_of(self, table, source).await?;
                manifest.files().iter().filter(|(_, entry)| is_held(entry)).map(|(path, _)| path.clone()).collect()
            }
        };
        let files: Vec<BronzeFile> = listing.files.iter().filter(|file| held.contains(&file.path)).cloned().collect();
        if files.len() < held.len() {
            let gone = held.len() - files.len();
            return Err(Failure::text(format!(
                "{} that `{table}` has taken in of `{source}` {} gone: the rows cannot be counted again",
                plural(gone as u64, "file"),
                if gone == 1 { "is" } else { "are" }
            )));
        }
        Ok(files)
    }
}

/// Whether rows of a file were taken in.
fn is_held(entry: &Entry) -> bool {
    entry.bad.is_none()
}
