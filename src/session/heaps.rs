//! Keys on disk, in heaps by their hash.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::buffer::Buffer;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{DiskManager, SpillFile, SpillWriter};

use super::hashes::mix;

/// How many heaps there are: one of them fits in memory where all of them are 64 times that.
pub(super) const HEAPS: usize = 64;

/// So many keys are sorted into heaps at a time: what they take is in the cache of a processor.
const AT_ONCE: usize = 1 << 17;

/// A file of keys: each time some were added, those of the first heap, of the second and so on.
pub(super) struct Heaps {
    file: Arc<dyn SpillFile>,
    /// Only its owner asks for it: a lock makes it one that threads may share.
    writer: Mutex<Box<dyn SpillWriter>>,
    /// How many of each heap came each time.
    added: Vec<[u32; HEAPS]>,
}

impl std::fmt::Debug for Heaps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "keys on disk, in {} parts", self.added.len())
    }
}

fn heap_of(key: u64) -> u8 {
    (mix(key) >> 58) as u8
}

impl Heaps {
    /// None yet, in a file of the run's disk space.
    pub(super) fn new(disk: &Arc<DiskManager>) -> Result<Self> {
        let file = disk.create_tmp_file("keys that are looked at for repeats")?;
        let writer = Mutex::new(file.open_writer()?);
        Ok(Self { file, writer, added: Vec::new() })
    }

    /// Adds keys.
    pub(super) fn add(&mut self, keys: &[u64]) -> Result<()> {
        keys.chunks(AT_ONCE).try_for_each(|some| self.add_some(some))
    }

    fn add_some(&mut self, keys: &[u64]) -> Result<()> {
        let heaps: Vec<u8> = keys.iter().map(|key| heap_of(*key)).collect();
        let mut counts = [0; HEAPS];
        heaps.iter().for_each(|heap| counts[usize::from(*heap)] += 1);
        let mut at = [0; HEAPS];
        (1..HEAPS).for_each(|heap| at[heap] = at[heap - 1] + counts[heap - 1]);
        let mut sorted = vec![0; keys.len()];
        for (key, heap) in keys.iter().zip(heaps) {
            let at = &mut at[usize::from(heap)];
            sorted[*at as usize] = *key;
            *at += 1;
        }
        let bytes = Buffer::from_vec::<u64>(sorted);
        self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).write_all(&bytes)?;
        self.added.push(counts);
        Ok(())
    }

    /// No key will be added: from now on they can be read.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).finish()
    }

    /// Reads the keys of one heap.
    pub(super) fn read(&self, heap: usize, into: &mut Vec<u64>) -> Result<()> {
        let mut file = File::open(self.path()?)?;
        let mut start = 0;
        let mut bytes = Vec::new();
        let size = |keys: &[u32]| keys.iter().map(|keys| u64::from(*keys)).sum::<u64>() * size_of::<u64>() as u64;
        for counts in &self.added {
            file.seek(SeekFrom::Start(start + size(&counts[..heap])))?;
            bytes.resize(counts[heap] as usize * size_of::<u64>(), 0);
            file.read_exact(&mut bytes)?;
            into.extend(bytes.as_chunks().0.iter().map(|key| u64::from_ne_bytes(*key)));
            start += size(counts);
        }
        Ok(())
    }

    fn path(&self) -> Result<&Path> {
        let gone = || DataFusionError::Internal("keys were not kept on this machine".to_owned());
        self.file.path().ok_or_else(gone)
    }
}
