//! Keys on disk, in heaps by their hash.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{DiskManager, SpillFile, SpillWriter};

use super::hashes::mix;

/// How many heaps there are: one of them fits in memory where all of them are 64 times that.
pub(super) const HEAPS: usize = 64;

/// A file of keys: each time some were added, those of the first heap, of the second and so on.
pub(super) struct Heaps {
    file: Arc<dyn SpillFile>,
    /// Only its owner asks for it: a lock makes it one that threads may share.
    writer: Mutex<Box<dyn SpillWriter>>,
    reader: Option<File>,
    /// How many of each heap came each time.
    added: Vec<[usize; HEAPS]>,
}

impl std::fmt::Debug for Heaps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "keys on disk, in {} parts", self.added.len())
    }
}

fn heap_of(key: u64) -> usize {
    (mix(key) >> 58) as usize
}

impl Heaps {
    /// None yet, in a file of the run's disk space.
    pub(super) fn new(disk: &Arc<DiskManager>) -> Result<Self> {
        let file = disk.create_tmp_file("keys that are looked at for repeats")?;
        let writer = Mutex::new(file.open_writer()?);
        Ok(Self { file, writer, reader: None, added: Vec::new() })
    }

    /// Adds keys.
    pub(super) fn add(&mut self, keys: &[u64]) -> Result<()> {
        let mut counts = [0; HEAPS];
        keys.iter().for_each(|key| counts[heap_of(*key)] += 1);
        let mut at = [0; HEAPS];
        (1..HEAPS).for_each(|heap| at[heap] = at[heap - 1] + counts[heap - 1]);
        let mut sorted = vec![0; keys.len()];
        for key in keys {
            let heap = heap_of(*key);
            sorted[at[heap]] = *key;
            at[heap] += 1;
        }
        let bytes: Vec<u8> = sorted.into_iter().flat_map(u64::to_le_bytes).collect();
        self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).write_all(&bytes)?;
        self.added.push(counts);
        Ok(())
    }

    /// Reads the keys of one heap.
    pub(super) fn read(&mut self, heap: usize, into: &mut Vec<u64>) -> Result<()> {
        if self.reader.is_none() {
            self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).finish()?;
            let gone = || DataFusionError::Internal("keys were not kept on this machine".to_owned());
            self.reader = Some(File::open(self.file.path().ok_or_else(gone)?)?);
        }
        let Some(reader) = &mut self.reader else { return Ok(()) };
        let mut start = 0;
        let mut bytes = Vec::new();
        for counts in &self.added {
            let before: usize = counts[..heap].iter().sum();
            reader.seek(SeekFrom::Start(((start + before) * size_of::<u64>()) as u64))?;
            bytes.resize(counts[heap] * size_of::<u64>(), 0);
            reader.read_exact(&mut bytes)?;
            into.extend(bytes.as_chunks().0.iter().map(|key| u64::from_le_bytes(*key)));
            start += counts.iter().sum::<usize>();
        }
        Ok(())
    }
}
