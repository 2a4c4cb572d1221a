//! Files written again with the same rows: small ones as larger ones, and all of them when columns change.
//!
//! What takes their place is marked in the log as no change of rows, so whoever follows the changes of a table passes
//! it over.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use datafusion::execution::session_state::SessionState;
use deltalake::kernel::LogicalFileView;

use super::read::{Files, scan};
use super::stage::{Staged, or_discard, write};
use super::{Lake, Published, TableError, zorder};
use crate::exact_files::rows_of;

/// So many files of about one size are packed: a row is written again a few times in its life, as in a log-structured
/// merge, and not with every write.
const TIER_FILES: usize = 8;

/// The greatest file of the first tier; each tier is [`TIER_FILES`] times as large as the one before.
const FIRST_TIER_BYTES: u64 = 512 * 1024;

/// So many target sizes are packed along with one write at most: the rest waits for the next.
const MOST_TARGETS: u64 = 2;

/// The partition values of a file, in order.
type Partition = BTreeMap<String, Option<String>>;

/// A published data file, as packing sees it.
pub(super) struct DataFile {
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) rows: Option<u64>,
    pub(super) modified: i64,
    pub(super) partition: Partition,
    /// The columns that its rows are in Z-order of.
    pub(super) zordered: Option<String>,
    /// Another program has marked rows of it as deleted.
    pub(super) has_deleted_rows: bool,
}

/// The data files of a version.
pub(super) fn data_files(published: &Published) -> Result<Vec<DataFile>, TableError> {
    let fail = |source| TableError::Delta { table: published.name.clone(), source };
    let snapshot = published.table.snapshot().map_err(fail)?;
    Ok(snapshot.log_data().iter().map(|file| data_file(&file)).collect())
}

#[allow(deprecated, reason = "nothing else tells the tags of a file")]
fn data_file(file: &LogicalFileView) -> DataFile {
    let tags = file.add_action().tags;
    DataFile {
        path: file.path().into_owned(),
        size: u64::try_from(file.size()).unwrap_or_default(),
        rows: file.num_records().map(|rows| rows as u64),
        modified: file.modification_time(),
        partition: file.partition_values_map().into_iter().collect(),
        zordered: tags.and_then(|tags| tags.get(zorder::TAG).cloned().flatten()),
        has_deleted_rows: file.deletion_vector_descriptor().is_some(),
    }
}

/// Writes published files again, as files with the columns of `into`, which they are added to.
pub(super) async fn rewrite(
    lake: &Lake,
    published: &Published,
    files: &[&DataFile],
    into: Staged,
    session: &SessionState,
) -> Result<Staged, TableError> {
    if files.is_empty() {
        return Ok(into);
    }
    let paths: BTreeSet<String> = files.iter().map(|file| file.path.clone()).collect();
    let rows = rows_of(scan(published, Files::Only(&paths), false).await?, &into.schema)?;
    let layout = lake.layout(&into.name);
    let empty = Staged::nothing(lake, &into.name, &into.schema, &into.partition_by);
    let written = match files.iter().map(|file| file.rows).sum::<Option<u64>>() {
        Some(count) if !layout.zorder_by.is_empty() => zorder::write_ordered(lake, empty, rows, count, session).await?,
        _ => write(lake, empty, layout.sorted(rows, &into.partition_by)?, session).await?,
    };
    let mut into = into;
    into.adds.extend(written.adds.into_iter().map(|add| deltalake::kernel::Add { data_change: false, ..add }));
    into.removed.extend(paths.iter().cloned());
    into.packed.extend(paths);
    Ok(into)
}

/// Writes all files that stay with the columns of the staged ones: a reader must not find a column in them that has
/// gone, nor one of a narrower type.
///
/// # Errors
/// The query's, or the storage's; staged files are taken away.
pub async fn reshape(
    lake: &Lake,
    published: &Published,
    staged: Staged,
    session: &SessionState,
) -> Result<Staged, TableError> {
    or_discard(lake, staged, async |staged| {
        let files = data_files(published)?;
        let stay: Vec<&DataFile> = files.iter().filter(|file| !staged.removed.contains(&file.path)).collect();
        rewrite(lake, published, &stay, staged, session).await
    })
    .await
}

/// Packs small files of the partitions that staged rows go to along with them.
///
/// # Errors
/// The query's, or the storage's; staged files are taken away.
pub async fn pack_along(
    lake: &Lake,
    published: &Published,
    staged: Staged,
    session: &SessionState,
) -> Result<Staged, TableError> {
    let layout = lake.layout(&staged.name);
    let adds_rows = staged.adds.iter().any(|add| add.data_change);
    if !layout.auto_optimize || staged.replaces_all || !adds_rows {
        return Ok(staged);
    }
    let touched: HashSet<Partition> =
        staged.adds.iter().map(|add| add.partition_values.clone().into_iter().collect()).collect();
    or_discard(lake, staged, async |staged| {
        let files = data_files(published)?;
        let stays = |file: &&DataFile| !staged.removed.contains(&file.path) && !file.has_deleted_rows;
        let near = files.iter().filter(stays).filter(|file| touched.contains(&file.partition));
        let full = full_tiers(near, layout.target());
        rewrite(lake, published, &full, staged, &one_by_one(session)).await
    })
    .await
}

/// Files of tiers that are full, in each partition.
fn full_tiers<'a>(files: impl Iterator<Item = &'a DataFile>, target: u64) -> Vec<&'a DataFile> {
    let mut tiers: BTreeMap<(&Partition, u32), Vec<&DataFile>> = BTreeMap::new();
    for file in files.filter(|file| file.size < target / 2) {
        tiers.entry((&file.partition, tier(file.size))).or_default().push(file);
    }
    let (mut chosen, mut bytes) = (Vec::new(), 0);
    for mut tier in tiers.into_values().filter(|tier| tier.len() >= TIER_FILES) {
        tier.sort_by_key(|file| file.modified);
        let mut left = target;
        let fit = tier.into_iter().take_while(|file| {
            let fits = file.size <= left;
            left = left.saturating_sub(file.size);
            fits
        });
        let fit: Vec<&DataFile> = fit.collect();
        bytes += fit.iter().map(|file| file.size).sum::<u64>();
        if fit.len() > 1 && bytes <= target * MOST_TARGETS {
            chosen.extend(fit);
        }
    }
    chosen
}

fn tier(size: u64) -> u32 {
    (size / FIRST_TIER_BYTES + 1).ilog(TIER_FILES as u64) + u32::from(size >= FIRST_TIER_BYTES)
}

/// A query has one stream of rows, so that each partition gets one file.
pub(super) fn one_by_one(session: &SessionState) -> SessionState {
    let mut session = session.clone();
    session.config_mut().options_mut().execution.target_partitions = 1;
    session
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(size: u64, at: usize) -> DataFile {
        DataFile {
            path: at.to_string(),
            size,
            rows: None,
            modified: at as i64,
            partition: Partition::new(),
            zordered: None,
            has_deleted_rows: false,
        }
    }

    #[test]
    fn files_stay_few_and_rows_are_seldom_written_again() {
        const TARGET: u64 = 128 << 20;
        let (mut files, mut rewritten, each) = (Vec::new(), 0, 20_000);
        for at in 0..5_000 {
            let packed: Vec<String> = full_tiers(files.iter(), TARGET).iter().map(|file| file.path.clone()).collect();
            let size: u64 = files.iter().filter(|file| packed.contains(&file.path)).map(|file| file.size).sum();
            files.retain(|file| !packed.contains(&file.path));
            rewritten += size;
            files.extend((size > 0).then(|| file(size, at + 10_000)));
            files.push(file(each, at));
            assert!(files.len() < 50, "{} files", files.len());
        }
        assert!(rewritten < 5 * 5_000 * each, "{rewritten}");
        assert_eq!(files.iter().map(|file| file.size).sum::<u64>(), 5_000 * each);
    }

    #[test]
    fn large_files_and_files_of_other_partitions_are_left_alone() {
        let mut files: Vec<DataFile> = (0..7).map(|at| file(1000, at)).collect();
        files.push(DataFile { partition: [("day".to_owned(), None)].into(), ..file(1000, 7) });
        files.extend((8..20).map(|at| file(100 << 20, at)));
        assert!(full_tiers(files.iter(), 128 << 20).is_empty());
        files.push(file(10, 20));
        assert_eq!(full_tiers(files.iter(), 128 << 20).len(), 8);
    }
}
