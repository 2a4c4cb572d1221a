//! Which files a model takes in: what is known of each source, what is pending, and whether the old rows of a file can
//! be told apart.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::decide::Counts;
use super::hooks::HookResult;
use super::inputs::{Chosen, Delivery, Inputs};
use super::materialize::Failure;
use super::replay;
use super::world::World;
use crate::bronze::{self, BronzeError, Entry, Listing, Manifest, Pending, Read, Rules, Why, manifest};
use crate::intervals::Intervals;
use crate::names::TableName;
use crate::project::{AfterLoad, Format, Identity, Model, OnRemovedFile, Project, Source};
use crate::tables::Published;
use crate::template::SourceRead;

/// What is known of the files of a source that a model takes in.
pub(super) struct TakenIn {
    pub(super) manifest: Manifest,
    pub(super) listing: Arc<Listing>,
    /// The id of the next batch, which its rows may hold.
    pub(super) batch: i64,
    /// What the next batch does.
    pub(super) pending: Pending,
    /// What that batch and those after it will do.
    pub(super) counts: Counts,
}

pub(super) fn count(pending: &Pending) -> Counts {
    let mut counts = Counts { removed: pending.removed.len(), ..Counts::default() };
    for read in &pending.reads {
        match read.why {
            Why::New => counts.new += 1,
            Why::Changed(_) => counts.changed += 1,
            Why::Again(_) => counts.again += 1,
            Why::Replayed(_) => counts.replayed += 1,
        }
    }
    counts.renamed = pending.relabelled.values().flatten().count();
    // A name that a known content left, with nothing in its place.
    counts.removed += usize::from(counts == Counts::default() && !pending.relabelled.is_empty());
    counts
}

/// What a run remembers of a model between its batches.
#[derive(Default)]
pub(super) struct Progress {
    /// Batches that are published.
    pub(super) batches: usize,
    /// Intervals that are published, of a model that runs in batches.
    pub(super) intervals: Intervals,
    /// Inputs had changed when that model was first looked at.
    pub(super) changed: bool,
    /// Another run published that model meanwhile, from other inputs.
    pub(super) mixed: bool,
    /// The node is about to commit: nothing stops it any more.
    pub(super) publishing: Arc<AtomicBool>,
    /// Its hooks that ran.
    pub(super) hooks: Vec<HookResult>,
    /// Those before it are among them.
    pub(super) began: bool,
    manifests: BTreeMap<TableName, Manifest>,
    hashes: BTreeMap<TableName, BTreeMap<String, String>>,
    redone: BTreeMap<TableName, BTreeSet<String>>,
    /// What is left of a backlog after the batch at hand, and the listing that it is of.
    rest: BTreeMap<TableName, (Arc<Listing>, VecDeque<Read>)>,
}

impl Progress {
    pub(super) fn new(publishing: Arc<AtomicBool>) -> Self {
        Self { publishing, ..Self::default() }
    }

    /// A batch of a source is published: its manifest need not be read again.
    pub(super) fn published(&mut self, source: &TableName, manifest: Manifest, pending: &Pending) {
        self.manifests.insert(source.clone(), manifest);
        self.redone.entry(source.clone()).or_default().extend(pending.repeats().map(|file| file.path.clone()));
    }
}

/// The files of one model.
pub(super) struct Intake<'a> {
    pub(super) inputs: &'a Inputs,
    pub(super) model: &'a Model,
}

impl<'a> Intake<'a> {
    /// Whether everything is to be read again. The batches after the first one only add to it.
    pub(super) fn full_refresh(&self, progress: &Progress) -> bool {
        let asked = self.model.config.full_refresh.unwrap_or(self.inputs.runtime().options.full_refresh);
        progress.batches == 0 && asked && !self.model.config.is_history()
    }

    fn source(&self, name: &TableName) -> &'a Source {
        &self.inputs.runtime().project.sources[name]
    }

    /// The source whose files each have data files of their own, so that their rows can be taken out again.
    pub(super) fn traced(&self) -> Option<&'a TableName> {
        let arrives = |(name, read): &&(TableName, SourceRead)| {
            *read == SourceRead::Changes && self.source(name).format != Format::Delta
        };
        let mut taken = self.model.sources.iter().filter(arrives);
        let (Some((only, _)), None) = (taken.next(), taken.next()) else { return None };
        (self.model.appends() && self.model.ref_reads.is_empty() && self.source(only).ingestion.needs_traces())
            .then_some(only)
    }

    /// What is known, and what is pending.
    pub(super) async fn taken_in(
        &self,
        source: &TableName,
        world: &World,
        progress: &mut Progress,
    ) -> Result<TakenIn, Failure> {
        let runtime = self.inputs.runtime();
        let head = world.head(&manifest::app_id(&self.model.name, source)).await?;
        let manifest = match progress.manifests.remove(source).filter(|kept| kept.head() == head) {
            Some(manifest) if progress.rest.get(source).is_some_and(|(_, rest)| !rest.is_empty()) => {
                return Ok(self.next_batch(source, manifest, progress));
            }
            Some(kept) => kept,
            None => {
                let store = runtime.lake.files_of(&self.model.name);
                match Manifest::read(&store, &self.model.name, source, head).await {
                    // Nothing of it is needed, and this is what mends it.
                    Err(BronzeError::Manifest { .. }) if self.full_refresh(progress) => Manifest::lost(head),
                    manifest => manifest?,
                }
            }
        };
        if self.by_delivery(source) && self.source(source).ingestion.snapshot {
            let taken = self.next_dump(source, manifest).await?;
            self.same_source(source, &taken, world)?;
            return Ok(taken);
        }
        let after = self.begin_after(source, &manifest, progress);
        let mut listing = self.inputs.listing_after(source, after.as_deref()).await?;
        if let Some(after) = &listing.after {
            // A file that could not be read is taken in when it changes, however old its name is.
            let waits = |entry: &(&String, &Entry)| entry.1.bad.is_some() && entry.0 <= after;
            let waiting: Vec<&str> = manifest.files().iter().filter(waits).map(|(path, _)| path.as_str()).collect();
            if !waiting.is_empty() {
                let files = bronze::look_at(self.source(source), &waiting, &runtime.folder).await?;
                let files = files.into_iter().chain(listing.files.iter().cloned()).collect();
                listing = Arc::new(Listing { files, ..listing.as_ref().clone() });
            }
        }
        let batch = manifest.next_id(chrono::Utc::now());
        let mut taken = TakenIn { manifest, listing, batch, pending: Pending::default(), counts: Counts::default() };
        if let Some(replay) = &runtime.options.replay {
            self.same_source(source, &taken, world)?;
            if replay == source {
                let of = (&self.model.name, source);
                taken.pending = replay::pending(self.inputs, of, &taken.manifest, &taken.listing).await?;
                taken.counts = count(&taken.pending);
            }
        } else if self.full_refresh(progress) {
            self.restart(source, &mut taken, !world.exists(), progress).await?;
        } else {
            self.same_source(source, &taken, world)?;
            self.find_pending(source, &mut taken, true, progress).await?;
            if taken.listing.after.is_some() && taken.pending.takes_back() && self.traced().is_none() {
                // The table may have to be rebuilt, and that is about all files.
                taken.listing = self.inputs.listing(source).await?;
                self.find_pending(source, &mut taken, true, progress).await?;
            }
        }
        Ok(taken)
    }

    /// The name that an incremental listing begins after; `None` for all files.
    fn begin_after(&self, source: &TableName, manifest: &Manifest, progress: &Progress) -> Option<String> {
        let options = &self.inputs.runtime().options;
        let lookback = self.source(source).ingestion.incremental_listing?;
        let all = options.full_listing || options.slice.is_some() || options.replay.is_some();
        let all = all || self.full_refresh(progress);
        if all { None } else { manifest.greatest(lookback).map(str::to_owned) }
    }

    /// The batch before is published and nothing else happened: what was found to be pending still is.
    fn next_batch(&self, source: &TableName, manifest: Manifest, progress: &mut Progress) -> TakenIn {
        let (listing, rest) = progress.rest.entry(source.clone()).or_default();
        let pending = Pending::next(rest, &self.batches_of(self.source(source)));
        let (counts, batch) = (count(&pending), manifest.next_id(chrono::Utc::now()));
        TakenIn { manifest, listing: Arc::clone(listing), batch, pending, counts }
    }

    /// Forgets what is known. A table that is replaced as a whole is replaced by all files, so that no reader sees half
    /// of it; one that does not exist yet may begin with some.
    pub(super) async fn restart(
        &self,
        source: &TableName,
        taken: &mut TakenIn,
        is_new: bool,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        taken.manifest = taken.manifest.restarted();
        if self.by_delivery(source) && self.source(source).ingestion.snapshot {
            *taken = self.next_dump(source, std::mem::take(&mut taken.manifest)).await?;
            return Ok(());
        }
        taken.listing = self.inputs.listing(source).await?;
        self.find_pending(source, taken, is_new, progress).await
    }

    async fn find_pending(
        &self,
        source: &TableName,
        taken: &mut TakenIn,
        in_parts: bool,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let ingestion = &self.source(source).ingestion;
        let hashes = progress.hashes.entry(source.clone()).or_default();
        let mut needed = BTreeMap::new();
        if ingestion.identity == Identity::Content {
            let missing = taken.manifest.unfamiliar(&taken.listing).filter(|file| !hashes.contains_key(&file.path));
            let found = bronze::hashes(missing, &self.inputs.runtime().folder).await?;
            hashes.extend(found);
            let unfamiliar = taken.manifest.unfamiliar(&taken.listing);
            needed = unfamiliar.map(|file| (file.path.clone(), hashes[&file.path].clone())).collect();
        }
        let rules = Rules {
            source,
            ingestion,
            slice: self.inputs.runtime().options.slice.as_ref().filter(|_| in_parts),
            hashes: &needed,
            redone: progress.redone.entry(source.clone()).or_default(),
        };
        taken.pending = taken.manifest.pending(&taken.listing, &rules)?;
        taken.counts = count(&taken.pending);
        if ingestion.incremental_listing.is_some() && rules.slice.is_some() {
            self.leaves_no_gap(source, taken)?;
        }
        if in_parts {
            self.in_order(source, &mut taken.pending)?;
        }
        // Tables that are published together have one commit each; a history needs one for each delivery.
        if in_parts && (self.by_delivery(source) || !self.inputs.is_together(&self.model.name)) {
            let rest = taken.pending.cut(&self.batches_of(self.source(source)));
            // Of several files with one content only the first is pending, until it is taken in.
            let rest = if ingestion.identity == Identity::Path { rest } else { VecDeque::new() };
            progress.rest.insert(source.clone(), (Arc::clone(&taken.listing), rest));
        }
        Ok(())
    }

    /// Refuses a slice of new files that would leave earlier ones to a listing that does not look at them any more.
    fn leaves_no_gap(&self, source: &TableName, taken: &TakenIn) -> Result<(), Failure> {
        let greatest = taken.pending.reads.iter().rev().find(|read| read.why == Why::New);
        let Some(greatest) = greatest.map(|read| &read.file.path) else { return Ok(()) };
        let chosen: BTreeSet<&String> = taken.pending.reads.iter().map(|read| &read.file.path).collect();
        let waits = |file: &&bronze::BronzeFile| {
            !taken.manifest.files().contains_key(&file.path) && !chosen.contains(&file.path)
        };
        match taken.listing.files.iter().take_while(|file| file.path < *greatest).find(waits) {
            None => Ok(()),
            Some(waiting) => Err(Failure::text(format!(
                "`{}` of `{source}` waits to be taken in, and a later `incremental_listing` would not see it if `{greatest}` \
                 came first; build without --files, --since and --until",
                waiting.path
            ))),
        }
    }

    /// Whether another run has archived some of these files meanwhile: they are found again by another listing.
    pub(super) async fn moved_meanwhile(&self, chosen: &Chosen) -> bool {
        let mut moved = false;
        for (name, Delivery { files, .. }) in chosen {
            let archives = self.source(name).ingestion.after_load != AfterLoad::Keep;
            if archives && bronze::any_missing(files).await {
                self.inputs.forget_listing(name);
                moved = true;
            }
        }
        moved
    }

    /// Refuses a source that was moved or renamed: its files would all look new, and their rows would double.
    fn same_source(&self, source: &TableName, taken: &TakenIn, world: &World) -> Result<(), Failure> {
        let known = &taken.manifest;
        if let Some(base) = known.base().filter(|base| *base != taken.listing.base) {
            return Err(Failure::text(format!(
                "files of `{source}` were taken in from `{base}` and are now looked for in `{}`; rebuild `{}` with \
                 --full-refresh",
                taken.listing.base, self.model.name
            )));
        }
        let before = world.state().map(|state| state.sources.as_slice());
        let gone =
            before.into_iter().flatten().find(|name| !self.model.sources.iter().any(|(s, _)| s.to_string() == **name));
        match gone {
            Some(gone) if known.head().is_none() => Err(Failure::text(format!(
                "`{source}` takes the place of `{gone}`, whose files `{}` has taken in; rebuild it with --full-refresh",
                self.model.name
            ))),
            _ => Ok(()),
        }
    }

    /// Why the table has to be rebuilt: rows have to go, and nothing tells which ones. `None` if it has not.
    pub(super) fn rebuild(
        &self,
        taken: &BTreeMap<TableName, TakenIn>,
        published: Option<&Published>,
    ) -> Result<Option<String>, Failure> {
        let Some(published) = published.filter(|_| !self.model.config.is_history()) else { return Ok(None) };
        for (source, taken) in taken {
            let untraced = match self.traced() {
                Some(_) => {
                    let there = published.data_files()?;
                    let is_there = |file: &String| there.contains(file);
                    taken.pending.outgoing().any(|rows| !rows.as_ref().is_some_and(|data| data.iter().all(is_there)))
                }
                None => taken.pending.outgoing().next().is_some(),
            };
            if untraced && self.model.appends() && taken.pending.repeats().next().is_some() {
                return Err(self.cannot_repeat(source));
            }
            if !untraced || !taken.pending.takes_back() {
                continue;
            }
            self.can_rebuild(source, taken)?;
            let why = if self.model.appends() {
                "the old rows cannot be told apart"
            } else {
                "a table that merges does not tell which rows came from which file"
            };
            return Ok(Some(format!("files of {source} changed or are gone, and {why}")));
        }
        Ok(None)
    }

    fn cannot_repeat(&self, source: &TableName) -> Failure {
        Failure::text(format!(
            "`{}` appends, and its rows do not tell which file of `{source}` they came from: to read files again would \
             double them; set `on_changed_file: replace` on the source and rebuild once with --full-refresh, or give the \
             model a `unique_key`",
            self.model.name
        ))
    }

    fn can_rebuild(&self, source: &TableName, taken: &TakenIn) -> Result<(), Failure> {
        let why = if self.model.config.full_refresh == Some(false) {
            "its `full_refresh: false` forbids it".to_owned()
        } else if taken.pending.gone > 0 && self.source(source).ingestion.on_removed_file == OnRemovedFile::Keep {
            let gone = taken.pending.gone;
            let files =
                if gone == 1 { "1 file that is gone".to_owned() } else { format!("{gone} files that are gone") };
            format!("it would lose the rows of {files}; --full-refresh does it all the same")
        } else {
            return Ok(());
        };
        Err(Failure::text(format!(
            "files of `{source}` changed or are gone, and `{}` has to be rebuilt to take their old rows out, but {why}",
            self.model.name
        )))
    }
}

/// The files that a batch reads of each source.
pub(super) fn chosen(taken: &BTreeMap<TableName, TakenIn>) -> Chosen {
    let delivery = |taken: &TakenIn| Delivery { batch: Some(taken.batch), files: taken.pending.files() };
    taken.iter().map(|(name, taken)| (name.clone(), delivery(taken))).collect()
}

/// Files of a source that every model that takes them in has published, as they are.
///
/// # Errors
/// When a manifest or the folder cannot be read.
pub(super) async fn loaded_by_all(inputs: &Inputs, source: &TableName) -> Result<Vec<bronze::BronzeFile>, Failure> {
    let runtime = inputs.runtime();
    let listing = inputs.listing(source).await?;
    let mut files: Vec<_> =
        listing.files.iter().filter(|file| !file.archived && file.compacted.is_none()).cloned().collect();
    let mut consumers = 0;
    for model in runtime.project.models.values() {
        if !takes_in(&runtime.project, model, source) {
            continue;
        }
        consumers += 1;
        let manifest = manifest_of(inputs, &model.name, source).await?;
        files
            .retain(|file| manifest.files().get(&file.path).is_some_and(|entry| entry.is(file) && entry.bad.is_none()));
    }
    Ok(if consumers == 0 { Vec::new() } else { files })
}

/// The models that take in the files of a source.
pub fn models_that_take_in(project: &Project, source: &TableName) -> Vec<TableName> {
    project.models.values().filter(|model| takes_in(project, model, source)).map(|model| model.name.clone()).collect()
}

/// Whether a model takes in the files of a source; a Delta table has none that arrive.
pub(super) fn takes_in(project: &Project, model: &Model, source: &TableName) -> bool {
    !model.is_microbatch() && model.arriving(&project.sources).iter().any(|arriving| arriving.name == *source)
}

/// What the published version of a model has taken in from a source.
///
/// # Errors
/// When the table or its manifest cannot be read.
pub(super) async fn manifest_of(inputs: &Inputs, model: &TableName, source: &TableName) -> Result<Manifest, Failure> {
    let Some(published) = inputs.published(model).await? else { return Ok(Manifest::default()) };
    let head = published.transaction(&manifest::app_id(model, source)).await?;
    let store = inputs.runtime().lake.files_of(model);
    Ok(Manifest::read(&store, model, source, head).await?)
}
