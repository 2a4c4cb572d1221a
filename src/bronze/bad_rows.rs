//! Rows that a batch leaves out: counted, and kept in a file until the batch is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::sync::{Arc, Mutex, MutexGuard};

use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{SpillFile, SpillWriter};
use serde::{Deserialize, Serialize};

use crate::names::TableName;

/// Bad rows that a message names.
const EXAMPLES: usize = 3;

/// A row that does not fit, or a whole file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BadRow {
    /// Below the folder of the source.
    pub file: String,
    /// The record, from 1; a whole file has none.
    pub row: Option<u64>,
    /// Where it begins, if that is known.
    pub line: Option<u64>,
    /// As it stands in the file.
    pub text: Option<String>,
    /// The header that it stands below.
    pub header: Option<String>,
    /// The first column that is wrong.
    pub column: Option<String>,
    /// What is wrong.
    pub reason: String,
    /// The batch that quarantined it, if it is read again.
    pub batch: Option<i64>,
}

/// Bad rows of one batch of one model.
pub struct BadRows {
    runtime: Arc<RuntimeEnv>,
    state: Mutex<State>,
}

impl fmt::Debug for BadRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BadRows")
    }
}

/// A file, and who writes to it.
type Spilled = (Arc<dyn SpillFile>, BufWriter<Box<dyn SpillWriter>>);

#[derive(Default)]
struct State {
    /// Made for the first one.
    kept: Option<Spilled>,
    seen: BTreeMap<(TableName, String, u64), Seen>,
    examples: BTreeMap<TableName, Vec<String>>,
}

/// What was seen of a file, or of a part of it. A query may read it several times: what one reading has told, the
/// others need not tell again.
#[derive(Debug, Default)]
struct Seen {
    rows: u64,
    bad: u64,
    last: u64,
}

impl BadRows {
    /// None yet.
    pub fn new(session: &SessionState) -> Self {
        Self { runtime: Arc::clone(session.runtime_env()), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Those that are kept, one by one.
    ///
    /// # Errors
    /// When they cannot be read again.
    pub(super) fn kept(&self) -> io::Result<Option<impl Iterator<Item = io::Result<(TableName, BadRow)>>>> {
        let mut state = self.state();
        let Some((file, writer)) = &mut state.kept else { return Ok(None) };
        writer.flush()?;
        let path = file.path().ok_or_else(|| io::Error::other("temporary files are not on this machine"))?;
        let lines = BufReader::new(std::fs::File::open(path)?).lines();
        Ok(Some(lines.map(|line| Ok(serde_json::from_str(&line?)?))))
    }

    /// Rows of the part of a file that begins at `part` were read up to the `rows`th; these are bad, each with its
    /// place among them, in order. They are only counted if they are not `kept`.
    pub(super) fn add(
        &self,
        (source, file, part): (&TableName, &str, u64),
        rows: u64,
        bad: &[(u64, BadRow)],
        kept: bool,
    ) -> io::Result<()> {
        let mut state = self.state();
        let State { kept: spilled, seen, examples } = &mut *state;
        let seen = seen.entry((source.clone(), file.to_owned(), part)).or_default();
        seen.rows = seen.rows.max(rows);
        for (at, row) in bad {
            if *at <= seen.last {
                continue;
            }
            (seen.last, seen.bad) = (*at, seen.bad + 1);
            let examples = examples.entry(source.clone()).or_default();
            if examples.len() < EXAMPLES {
                examples.push(example(row));
            }
            if kept {
                let (_, out) = match spilled {
                    Some(spilled) => spilled,
                    None => {
                        let made = self.runtime.disk_manager.create_tmp_file("rows that do not fit")?;
                        let writer = BufWriter::new(made.open_writer()?);
                        spilled.insert((made, writer))
                    }
                };
                serde_json::to_writer(&mut *out, &(source, row))?;
                out.write_all(b"\n")?;
            }
        }
        Ok(())
    }

    /// A whole file is bad.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn add_file(&self, source: &TableName, row: &BadRow) -> io::Result<()> {
        self.add((source, &row.file, 0), 0, &[(u64::MAX, row.clone())], true)
    }

    /// Sources of which a row is bad.
    pub fn sources(&self) -> BTreeSet<TableName> {
        let state = self.state();
        state.seen.iter().filter(|(_, seen)| seen.bad > 0).map(|((name, ..), _)| name.clone()).collect()
    }

    /// How many rows of a source were read, and how many of them are bad.
    pub fn counts(&self, source: &TableName) -> (u64, u64) {
        let state = self.state();
        let of_source = state.seen.iter().filter(|((name, ..), _)| name == source);
        of_source.fold((0, 0), |(rows, bad), (_, seen)| (rows + seen.rows, bad + seen.bad))
    }

    /// The first bad rows of a source, for a message.
    pub fn examples(&self, source: &TableName) -> Vec<String> {
        self.state().examples.get(source).cloned().unwrap_or_default()
    }
}

fn example(row: &BadRow) -> String {
    match (row.line, row.row) {
        (Some(line), _) => format!("`{}` line {line}: {}", row.file, row.reason),
        (None, Some(number)) => format!("`{}` record {number}: {}", row.file, row.reason),
        (None, None) => format!("`{}`: {}", row.file, row.reason),
    }
}
