//! Rows that were quarantined, on their way to be read again: by their texts, as if they stood in their files alone.

use std::fmt;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use datafusion::execution::session_state::SessionState;
use datafusion::execution::{SpillFile, SpillWriter};

use super::bad_rows::BadRow;

/// The bad rows of one file.
#[derive(Clone)]
pub struct Records {
    kept: Arc<dyn SpillFile>,
    from: u64,
    to: u64,
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes {} to {}", self.from, self.to)
    }
}

impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.kept, &other.kept) && self.from == other.from
    }
}

impl Records {
    /// One by one.
    pub(super) fn rows(&self) -> io::Result<impl Iterator<Item = io::Result<BadRow>> + Send + use<>> {
        let path = self.kept.path().ok_or_else(|| io::Error::other("temporary files are not on this machine"))?;
        let mut file = std::fs::File::open(path)?;
        file.seek(SeekFrom::Start(self.from))?;
        let lines = BufReader::new(file.take(self.to - self.from)).lines();
        // The file is there as long as somebody reads it.
        let kept = Arc::clone(&self.kept);
        Ok(lines.map(move |line| {
            let _kept = &kept;
            Ok(serde_json::from_str(&line?)?)
        }))
    }
}

/// Keeps bad rows, file by file.
pub struct Keeper {
    kept: Arc<dyn SpillFile>,
    writer: BufWriter<Box<dyn SpillWriter>>,
    from: u64,
    to: u64,
}

impl Keeper {
    /// None yet.
    ///
    /// # Errors
    /// When there is no place for them.
    pub fn new(session: &SessionState) -> io::Result<Self> {
        let kept = session.runtime_env().disk_manager.create_tmp_file("rows to read again")?;
        let writer = BufWriter::new(kept.open_writer()?);
        Ok(Self { kept, writer, from: 0, to: 0 })
    }

    /// One more of the file at hand.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn add(&mut self, row: &BadRow) -> io::Result<()> {
        let mut line = serde_json::to_vec(row)?;
        line.push(b'\n');
        self.writer.write_all(&line)?;
        self.to += line.len() as u64;
        Ok(())
    }

    /// The rows of the file at hand are all there.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn end_file(&mut self) -> io::Result<Records> {
        self.writer.flush()?;
        let records = Records { kept: Arc::clone(&self.kept), from: self.from, to: self.to };
        self.from = self.to;
        Ok(records)
    }
}
