//! What keeps a table quick to read and its folder free of what nobody needs: packing, checkpoints, old files and logs.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use datafusion::execution::session_state::SessionState;
use deltalake::DeltaTable;
use deltalake::kernel::Action;
use deltalake::operations::vacuum::VacuumMode;
use deltalake::protocol::DeltaOperation;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use serde_json::Value;

use super::pack::{DataFile, data_files, one_by_one, rewrite};
use super::stage::{Staged, discard};
use super::upkeep::commit_upkeep;
use super::{Lake, NO_HEAD, Published, TableError};
use crate::fail_points;
use crate::project::{RETENTION, SHORTEST_RETENTION, property_interval};
use crate::stores;

/// Versions since the last checkpoint that are worth another.
const WORTH_A_CHECKPOINT: u64 = 10;

/// Log entries that are read at once.
const AT_ONCE: usize = 16;

/// Files that became others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Packing {
    /// Files that were packed.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files that they became; in a dry run, at least so many.
    pub into: usize,
}

/// Files that were removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Removal {
    /// How many.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Packs small files of a table, and puts rows in Z-order that are not. `keep` files are left as they are. Returns the
/// version that holds them; in a dry run, the published one.
///
/// # Errors
/// [`TableError::Conflict`] when another writer was faster; otherwise the query's or the storage's error.
pub async fn optimize(
    lake: &Lake,
    published: &Published,
    keep: &BTreeSet<String>,
    dry_run: bool,
    session: &SessionState,
) -> Result<Option<(Packing, Published)>, TableError> {
    let fail = |source| TableError::Delta { table: published.name.clone(), source };
    let layout = lake.layout(&published.name);
    let files = data_files(published)?;
    let may = |file: &&DataFile| !keep.contains(&file.path) && !file.has_deleted_rows;
    let zorder_by = layout.zorder_by.join(",");
    let bins = bins(files.iter().filter(may), layout.target(), &zorder_by);
    if bins.is_empty() {
        return Ok(None);
    }
    let mut packing = Packing {
        files: bins.iter().map(Vec::len).sum(),
        bytes: bins.iter().flatten().map(|file| file.size).sum(),
        into: bins.len(),
    };
    if dry_run {
        return Ok(Some((packing, published.clone())));
    }
    let session = if zorder_by.is_empty() { one_by_one(session) } else { session.clone() };
    let mut staged = Staged::nothing(lake, &published.name, &published.schema, published.partition_columns());
    for bin in &bins {
        let written = staged.adds.clone();
        staged = match rewrite(lake, published, bin, staged, &session).await {
            Ok(staged) => staged,
            Err(error) => {
                discard(lake, &published.name, &written).await;
                return Err(error);
            }
        };
    }
    if let Err(error) = same_rows(&bins, &staged) {
        staged.discard(lake).await;
        return Err(error);
    }
    fail_points::reached("packed");
    packing.into = staged.adds.len();
    let snapshot = published.table.snapshot().map_err(fail)?;
    let log = snapshot.log_data();
    let gone = log.iter().filter(|file| staged.packed.contains(file.path().as_ref()));
    let mut actions: Vec<Action> = gone.map(|file| Action::Remove(file.remove_action(false))).collect();
    actions.extend(staged.adds.iter().cloned().map(Action::Add));
    let target_size = i64::try_from(layout.target()).unwrap_or(i64::MAX);
    let operation = DeltaOperation::Optimize { predicate: None, target_size };
    let fresh = commit_upkeep(lake, published, actions, operation, &staged.adds).await?;
    fail_points::reached("optimized");
    Ok(Some((packing, fresh)))
}

/// Not one row more or fewer, or nothing is published.
fn same_rows(bins: &[Vec<&DataFile>], staged: &Staged) -> Result<(), TableError> {
    let rows =
        |add: &deltalake::kernel::Add| Some(u64::try_from(add.get_stats().ok()??.num_records).unwrap_or_default());
    let before: Option<u64> = bins.iter().flatten().map(|file| file.rows).sum();
    let after: Option<u64> = staged.adds.iter().map(rows).sum();
    match (before, after) {
        (Some(before), Some(after)) if before != after => Err(TableError::Rows(format!(
            "table `{}`: {before} rows became {after} when files were packed; nothing was published",
            staged.name
        ))),
        _ => Ok(()),
    }
}

/// Files that belong together. A bin is written as one file, or as some of the target size.
fn bins<'a>(files: impl Iterator<Item = &'a DataFile>, target: u64, zorder_by: &str) -> Vec<Vec<&'a DataFile>> {
    let mut partitions: BTreeMap<_, Vec<&DataFile>> = BTreeMap::new();
    for file in files {
        partitions.entry(&file.partition).or_default().push(file);
    }
    let mut bins = Vec::new();
    for mut files in partitions.into_values() {
        // What came together stays together.
        files.sort_by_key(|file| (file.modified, &file.path));
        if zorder_by.is_empty() {
            files.retain(|file| file.size < target / 2);
            let (mut bin, mut size) = (Vec::new(), 0);
            for file in files {
                if size + file.size > target {
                    bins.push(std::mem::take(&mut bin));
                    size = 0;
                }
                size += file.size;
                bin.push(file);
            }
            bins.push(bin);
        } else {
            let is_in_order = |file: &DataFile| file.zordered.as_deref() == Some(zorder_by);
            files.retain(|file| !is_in_order(file) || file.size < target / 2);
            if files.len() > 1 || files.iter().any(|file| !is_in_order(file)) {
                bins.push(files);
            }
        }
    }
    bins.retain(|bin| bin.len() > 1 || !zorder_by.is_empty());
    bins
}

/// Writes a checkpoint if there were some versions since the last. Tells whether it did, or would.
///
/// # Errors
/// The storage's.
pub async fn checkpoint(published: &Published, dry_run: bool) -> Result<bool, TableError> {
    let fail = |source| TableError::Delta { table: published.name.clone(), source };
    let store = published.table.log_store().object_store(None);
    let last = match store.get(&Path::from_iter(["_delta_log", "_last_checkpoint"])).await {
        Ok(found) => found.bytes().await.ok(),
        Err(_) => None,
    };
    let last = last.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok()?.get("version")?.as_u64());
    // Versions are counted from 0.
    let since = last.map_or(published.version() + 1, |last| published.version().saturating_sub(last));
    if since < WORTH_A_CHECKPOINT {
        return Ok(false);
    }
    if !dry_run {
        deltalake::checkpoints::create_checkpoint(&published.table, None).await.map_err(fail)?;
        fail_points::reached("checkpointed");
    }
    Ok(true)
}

/// Removes the log of versions that are older than the table keeps it; a checkpoint stands for them.
///
/// # Errors
/// The storage's.
pub async fn clean_log(published: &Published) -> Result<usize, TableError> {
    let fail = |source| TableError::Delta { table: published.name.clone(), source };
    if property(published, "delta.enableExpiredLogCleanup").as_deref() == Some("false") {
        return Ok(0);
    }
    deltalake::checkpoints::cleanup_metadata(&published.table, None).await.map_err(fail)
}

fn property(published: &Published, name: &str) -> Option<String> {
    published.table.snapshot().ok()?.metadata().configuration().get(name).cloned()
}

/// How long files are kept that no version needs any more: at least as long as the table promises to readers of older
/// versions, and longer than a build may run.
pub fn retention(published: &Published, wanted: Option<Duration>) -> Duration {
    let promised = property(published, "delta.deletedFileRetentionDuration");
    let promised = promised.and_then(|text| property_interval(&text)).unwrap_or(RETENTION);
    wanted.unwrap_or(promised).max(promised).max(SHORTEST_RETENTION)
}

/// Removes data files that no version needs which was current within the retention: those that were replaced, and those
/// that a crashed run has left. The log is not touched.
///
/// # Errors
/// The storage's.
pub async fn vacuum(published: &Published, retention: Duration, dry_run: bool) -> Result<Removal, TableError> {
    let fail = |source| TableError::Delta { table: published.name.clone(), source };
    let retention = chrono::Duration::from_std(retention).unwrap_or(chrono::Duration::MAX);
    // Its own commits would say nothing that a reader has to know, so it only says which files.
    let plan = published.table.clone().vacuum().with_mode(VacuumMode::Full).with_retention_period(retention);
    let (_, plan) = plan.with_dry_run(true).await.map_err(fail)?;
    let needed = needed(published, Utc::now() - retention).await?;
    let files = plan.files_deleted.into_iter().filter_map(|path| Path::parse(path).ok());
    remove(published, files.filter(|path| !needed.contains(path)).collect(), dry_run).await
}

/// What the newest version holds, which may be a rollback that came after a look at the table; and what was taken away
/// after `cutoff`, which a plan may have for old because it had been taken away once before.
async fn needed(published: &Published, cutoff: DateTime<Utc>) -> Result<HashSet<Path>, TableError> {
    let fail = |source| TableError::Delta { table: published.name.clone(), source };
    let log_store = published.table.log_store();
    let mut now = DeltaTable::new(log_store.clone());
    now.load().await.map_err(fail)?;
    let snapshot = now.snapshot().map_err(fail)?;
    let mut needed: HashSet<Path> =
        snapshot.log_data().iter().filter_map(|file| Path::parse(file.path().as_ref()).ok()).collect();
    let mut removed = snapshot.all_tombstones(&log_store);
    while let Some(file) = removed.try_next().await.map_err(fail)? {
        if file.deletion_timestamp().is_some_and(|at| at >= cutoff.timestamp_millis()) {
            needed.extend(Path::parse(file.path().as_ref()));
        }
    }
    Ok(needed)
}

/// Removes files of a table's folder; those that are gone already do not matter.
///
/// # Errors
/// The storage's.
pub async fn remove(published: &Published, files: Vec<Path>, dry_run: bool) -> Result<Removal, TableError> {
    let store = published.table.log_store().object_store(None);
    let mut removal = Removal::default();
    for path in files {
        let bad = |source| TableError::File { table: published.name.clone(), path: path.to_string(), source };
        let Some(ObjectMeta { size, .. }) = stores::if_there(store.head(&path).await).map_err(bad)? else { continue };
        if !dry_run {
            stores::if_there(store.delete(&path).await).map_err(bad)?;
            fail_points::reached("removed");
        }
        removal.files += 1;
        removal.bytes += size;
    }
    Ok(removal)
}

/// The versions of applications that any commit of the log names: heads of manifests, now or at an earlier version.
///
/// # Errors
/// When the log cannot be read.
pub async fn transactions(published: &Published) -> Result<BTreeMap<String, BTreeSet<i64>>, TableError> {
    let bad = |source| TableError::File { table: published.name.clone(), path: "_delta_log".to_owned(), source };
    let store = published.table.log_store().object_store(None);
    let entries: Vec<_> = store.list(Some(&Path::from("_delta_log"))).try_collect().await.map_err(bad)?;
    let commits = entries.into_iter().map(|entry| entry.location).filter(|path| path.extension() == Some("json"));
    let read = |path: Path| {
        let store = &store;
        async move {
            // Another run cleans the log.
            stores::read_if_there(store, &path).await
        }
    };
    let mut texts = futures::stream::iter(commits.map(read)).buffer_unordered(AT_ONCE);
    let mut found: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    while let Some(text) = texts.try_next().await.map_err(bad)? {
        for line in text.iter().flat_map(|text| text.split(|byte| *byte == b'\n')) {
            let Ok(action) = serde_json::from_slice::<Value>(line) else { continue };
            let transaction = &action["txn"];
            if let (Some(app_id), Some(version)) = (transaction["appId"].as_str(), transaction["version"].as_i64()) {
                // After a rollback to before its first one, an application has none.
                found.entry(app_id.to_owned()).or_default().extend((version != NO_HEAD).then_some(version));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, size: u64, zordered: Option<&str>) -> DataFile {
        DataFile {
            path: path.to_owned(),
            size,
            rows: Some(size),
            modified: 0,
            partition: BTreeMap::from([("day".to_owned(), path.chars().next().map(String::from))]),
            zordered: zordered.map(str::to_owned),
            has_deleted_rows: false,
        }
    }

    fn packed(files: &[DataFile], zorder_by: &str) -> Vec<String> {
        let bins = bins(files.iter(), 100, zorder_by);
        bins.iter().map(|bin| bin.iter().map(|file| file.path.as_str()).collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn small_files_of_a_partition_are_packed_up_to_the_target() {
        let sizes = [("a1", 40), ("a2", 40), ("a3", 30), ("a4", 10), ("a5", 70), ("b1", 10), ("c1", 1), ("c2", 49)];
        let files = sizes.map(|(path, size)| file(path, size, None));
        assert_eq!(packed(&files, ""), ["a1 a2", "a3 a4", "c1 c2"]);
        // What came of it is left alone.
        let files =
            [("a1", 80), ("a3", 40), ("a5", 70), ("b1", 10), ("c1", 50)].map(|(path, size)| file(path, size, None));
        assert!(packed(&files, "").is_empty());
    }

    #[test]
    fn rows_are_put_in_z_order_once() {
        let files =
            [file("a1", 80, None), file("a2", 80, Some("n,m")), file("b1", 10, Some("n,m")), file("c1", 9, Some("n"))];
        assert_eq!(packed(&files, "n,m"), ["a1", "c1"]);
        let small = [file("a1", 10, Some("n,m")), file("a2", 80, Some("n,m")), file("a3", 10, Some("n,m"))];
        assert_eq!(packed(&small, "n,m"), ["a1 a3"]);
    }
}
