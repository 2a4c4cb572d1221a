//! What becomes of rows that do not fit, where they are no error: NULL, rescued, or left out and kept elsewhere.
//!
//! The fast reader goes on as long as it can. Where it refuses values, the records are looked up for their text; where
//! it gives up, the rest of the file is read record by record.

use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{BooleanArray, StringArray};

use super::careful::{self, Problem, Record, Records, Splitter};
use super::header::{self, Dialect};
use super::layout::Layout;
use super::rescue::Rescue;
use super::rows::BadFile;
use crate::bronze::bad_rows::{BadRow, BadRows};
use crate::bronze::replay;
use crate::names::TableName;
use crate::project::{Format, OnBadRow, SourceOptions};

/// Bytes of text that a batch of records holds at most, and one record more.
const BATCH_BYTES: usize = 16 << 20;

/// Opens the records of a text from its start, and says how many bytes are before it.
pub(super) type Again = Box<dyn Fn() -> io::Result<(Box<dyn BufRead + Send>, u64)> + Send>;

/// Where the bad rows of a scan go.
#[derive(Debug, Clone)]
pub(in crate::bronze) struct Sink {
    pub(in crate::bronze) source: TableName,
    pub(in crate::bronze) rows: Arc<BadRows>,
}

/// Which part of which file rows are from.
pub(super) struct Origin {
    /// As users know it.
    pub(super) shown: String,
    /// Below the folder of the source.
    pub(super) path: String,
    pub(super) format: Format,
    /// Where its records begin.
    pub(super) part: Range<u64>,
    pub(super) again: Again,
}

/// The records of a file, one by one.
pub(super) struct Careful {
    records: Box<dyn Iterator<Item = Result<Record, BadFile>> + Send>,
    /// Read and not yet asked for.
    held: Option<Record>,
    header: Option<String>,
    /// Records before the part that is read.
    base: u64,
    end: u64,
    /// Records of other files stand between these.
    replays: bool,
    /// The header that the splitter knows.
    split_by: Option<Option<String>>,
}

impl Careful {
    pub(super) fn open(origin: &Origin, layout: &Layout) -> Result<Self, BadFile> {
        let (text, before) = (origin.again)()?;
        let mut records = Records::new(text, origin.format, &layout.options);
        let header = if layout.options.header && origin.format.is_delimited() { records.header()? } else { None };
        let start = if origin.part.start == 0 { 0 } else { origin.part.start.saturating_sub(before) };
        let end = origin.part.end.saturating_sub(before);
        let mut base = 0;
        let mut held = None;
        if start > 0 {
            while let Some(record) = records.next()? {
                if record.offset >= start {
                    held = Some(record);
                    break;
                }
                base = record.row;
            }
        }
        let records = Box::new(std::iter::from_fn(move || records.next().transpose()));
        Ok(Self { records, held, header, base, end, replays: false, split_by: None })
    }

    /// Records that were quarantined. What was one then may be several now.
    pub(super) fn replayed(rows: &replay::Records, origin: &Origin, layout: &Layout) -> Result<Self, BadFile> {
        let (format, options) = (origin.format, layout.options.clone());
        let records = rows.rows()?.flat_map(move |row| match row {
            Ok(row) => again(row, format, &options),
            Err(error) => vec![Err(error.into())],
        });
        let records = Box::new(records);
        Ok(Self { records, held: None, header: None, base: 0, end: u64::MAX, replays: true, split_by: None })
    }

    fn next(&mut self) -> Result<Option<Record>, BadFile> {
        let next = match self.held.take() {
            Some(held) => Some(held),
            None => self.records.next().transpose()?,
        };
        Ok(next.filter(|record| record.offset < self.end))
    }

    /// Some of the records after the `given`th of the part.
    fn after(&mut self, given: usize, most: usize) -> Result<Vec<Record>, BadFile> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        while let Some(record) = self.next()? {
            let full = found.len() >= most || bytes >= BATCH_BYTES;
            // What was one record is taken or refused as a whole.
            if full && !found.last().is_some_and(|last| is_same(last, &record)) {
                self.held = Some(record);
                break;
            }
            if self.replays || record.row > self.base + given as u64 {
                bytes += record.text.len();
                found.push(record);
            }
        }
        Ok(found)
    }

    /// These of the records after the `given`th of the part, in order.
    fn look_up(&mut self, given: usize, rows: impl Iterator<Item = usize>) -> Result<Vec<Record>, BadFile> {
        let mut found = Vec::new();
        for row in rows {
            let number = self.base + (given + row) as u64 + 1;
            loop {
                match self.next()? {
                    Some(record) if record.row == number => {
                        found.push(record);
                        break;
                    }
                    Some(record) if record.row < number => {}
                    // The two readers do not agree where records end: the row is known without its text.
                    other => {
                        self.held = other;
                        found.push(Record { row: number, ..Record::default() });
                        break;
                    }
                }
            }
        }
        Ok(found)
    }
}

/// What is wrong with the rows of a batch.
#[derive(Default)]
pub(super) struct Troubles {
    pub(super) rescue: Rescue,
    /// The first problem of each row.
    problems: BTreeMap<usize, Problem>,
    /// The records of the batch, if they are known.
    records: Option<Vec<Record>>,
}

impl Troubles {
    pub(super) fn add(&mut self, row: usize, column: &str, why: impl FnOnce() -> String) {
        self.problems.entry(row).or_insert_with(|| Problem { column: Some(column.to_owned()), why: why() });
    }

    /// Of several records that were one, all are bad if one is.
    fn spread(&mut self) {
        let Some(records) = &self.records else { return };
        let found: Vec<(usize, Problem)> = self.problems.iter().map(|(row, problem)| (*row, problem.clone())).collect();
        for (row, problem) in found {
            let before = (0..row).rev().take_while(|other| is_same(&records[*other], &records[row]));
            let after = (row + 1..records.len()).take_while(|other| is_same(&records[*other], &records[row]));
            for other in before.chain(after) {
                self.problems.entry(other).or_insert_with(|| problem.clone());
            }
        }
    }

    /// The first row that does not fit, by its number in the file.
    pub(super) fn first(&self) -> Option<(usize, String)> {
        let (row, problem) = self.problems.first_key_value()?;
        Some((usize::try_from(self.number(*row)?).ok()?, problem.why.clone()))
    }

    /// How many records there are, if they are known.
    pub(super) fn rows(&self) -> usize {
        self.records.as_ref().map_or(0, Vec::len)
    }

    /// The number of a row, if records say it.
    pub(super) fn number(&self, row: usize) -> Option<u64> {
        Some(self.records.as_ref()?.get(row)?.row)
    }
}

/// Reads the next records one by one: a column for each that is read, as text.
pub(super) fn read(
    careful: &mut Careful,
    splitter: &mut Splitter,
    splitter_of: impl Fn(&Option<String>) -> Result<Splitter, BadFile>,
    (count, given, most): (usize, usize, usize),
) -> Result<Option<(Vec<StringArray>, Troubles)>, BadFile> {
    let records = careful.after(given, most)?;
    if records.is_empty() {
        return Ok(None);
    }
    let mut troubles = Troubles::default();
    let mut rows = Vec::with_capacity(records.len());
    for (at, record) in records.iter().enumerate() {
        let mut lost = record.lost.clone();
        if careful.replays && careful.split_by.as_ref() != Some(&record.header) {
            match splitter_of(&record.header) {
                Ok(found) => {
                    *splitter = found;
                    careful.split_by = Some(record.header.clone());
                }
                Err(bad) => lost = Some(bad.why),
            }
        }
        if let Some(why) = lost {
            troubles.problems.insert(at, Problem { column: None, why });
            rows.push(vec![None; count]);
            continue;
        }
        let fields = splitter.split(record)?;
        fields.surplus.iter().for_each(|(name, text)| troubles.rescue.add(at, name, text));
        troubles.problems.extend(fields.problem.map(|problem| (at, problem)));
        rows.push(fields.texts);
    }
    troubles.records = Some(records);
    Ok(Some((careful::columns(count, rows), troubles)))
}

/// Whether two records are parts of what was one when it was quarantined.
fn is_same(one: &Record, other: &Record) -> bool {
    one.batch.is_some() && (one.row, one.batch) == (other.row, other.batch)
}

/// The records that the text of one is now.
fn again(row: BadRow, format: Format, options: &SourceOptions) -> Vec<Result<Record, BadFile>> {
    let BadRow { row: number, line, text, header, batch, .. } = row;
    let record = Record { row: number.unwrap_or_default(), line, batch, header, ended: true, ..Record::default() };
    let Some(text) = text else {
        return vec![Ok(Record { lost: Some("its text is not known".to_owned()), ..record })];
    };
    if !format.is_delimited() {
        return vec![Ok(Record { text, ..record })];
    }
    let mut records = Records::new(Box::new(io::Cursor::new(text.into_bytes())), format, options);
    let mut found = Vec::new();
    loop {
        match records.next() {
            Ok(Some(Record { text, .. })) => found.push(Ok(Record { text, ..record.clone() })),
            Ok(None) => return found,
            Err(bad) => {
                found.push(Ok(Record { lost: Some(bad.why), ..record }));
                return found;
            }
        }
    }
}

/// The columns that stand below a header.
pub(super) fn names(header: Option<&str>, layout: &Layout, format: Format) -> Result<Vec<String>, BadFile> {
    match header.filter(|_| layout.options.header && format.is_delimited()) {
        None => Ok(layout.columns.fields().iter().map(|field| field.name().clone()).collect()),
        Some(header) => {
            let text = Box::new(io::Cursor::new(header.to_owned().into_bytes()));
            let (names, _) = header::take(text, Dialect::new(&layout.options, format))?;
            header::known_names(&names, layout)
        }
    }
}

/// Tells where the bad rows of a batch go, and says which rows stay in it; `None` if all do.
pub(super) fn sort_out(
    troubles: &mut Troubles,
    (rows, given): (usize, usize),
    layout: &Layout,
    origin: &Origin,
    careful: &mut Option<Careful>,
) -> Result<Option<BooleanArray>, BadFile> {
    if careful.as_ref().is_some_and(|careful| careful.replays) {
        troubles.spread();
    }
    let left_out = layout.options.on_bad_row == OnBadRow::Quarantine && !troubles.problems.is_empty();
    if let Some(sink) = &layout.sink {
        let mut records = Vec::new();
        if left_out {
            records = match &troubles.records {
                Some(records) => troubles.problems.keys().map(|row| records[*row].clone()).collect(),
                None => {
                    if careful.is_none() {
                        *careful = Some(Careful::open(origin, layout)?);
                    }
                    let careful = careful.as_mut().expect("it was just opened");
                    careful.look_up(given, troubles.problems.keys().copied())?
                }
            };
        }
        let header = careful.as_ref().and_then(|careful| careful.header.clone());
        let told: Vec<bool> = (0..records.len())
            .map(|at| at.checked_sub(1).is_none_or(|before| !is_same(&records[before], &records[at])))
            .collect();
        let problems = troubles.problems.iter().enumerate();
        let problems = problems.filter(|(at, _)| told.get(*at).copied().unwrap_or(true));
        let bad = problems.map(|(at, (row, problem))| {
            let place = (given + row) as u64 + 1;
            let record = records.get(at).cloned();
            let batch = record.as_ref().and_then(|record| record.batch);
            let number = record.as_ref().map(|record| record.row);
            let known = number.or((origin.part.start == 0).then_some(place));
            let row = BadRow {
                file: origin.path.clone(),
                row: known,
                line: record.as_ref().and_then(|record| record.line),
                text: record.map(|record| record.text),
                header: header.clone(),
                column: problem.column.clone(),
                reason: problem.why.clone(),
                batch,
            };
            (place, row)
        });
        let bad: Vec<(u64, BadRow)> = bad.collect();
        let whose = (&sink.source, origin.path.as_str(), origin.part.start);
        sink.rows.add(whose, (given + rows) as u64, &bad, left_out)?;
    }
    Ok(left_out.then(|| (0..rows).map(|row| Some(!troubles.problems.contains_key(&row))).collect()))
}

/// How a file's records are split, by the names of its header.
pub(super) fn splitter(layout: &Layout, format: Format, wanted: &[usize], names: &[String]) -> Splitter {
    if !format.is_delimited() {
        return Splitter::objects(layout, wanted);
    }
    let place = |field: &usize| names.iter().position(|name| name == layout.columns.field(*field).name());
    let places = wanted.iter().map(place).collect();
    Splitter::delimited(Dialect::new(&layout.options, format), names.len(), places, header::new_names(names, layout))
}
