//! Versions and new rows of a table, sorted by key, folded key by key: only the rows of one key are held, and the batches
//! that they stand in.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use datafusion::arrow::compute::{cast, interleave};
use datafusion::arrow::datatypes::{Int64Type, Schema, SchemaRef};
use datafusion::arrow::row::{OwnedRow, RowConverter, Rows, SortField};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;

use super::versions::{Compare, Old, Rules, Values, Version, next};
use crate::project::HistoryStrategy;

/// How many keys a message names.
const EXAMPLES: usize = 5;

/// Rows after which a batch goes out.
const BATCH_ROWS: usize = 8192;

/// Batches that are held before what was found in them goes out.
const HELD_BATCHES: usize = 8;

/// Columns after those of values, in this order: whether it is a version of before, when it begins (of a new row, its
/// `updated_at`), when it ends, whether it says deleted, its `updated_at`. Times are integers.
pub(super) const HELPERS: [&str; 5] = ["__lake_known", "__lake_at", "__lake_to", "__lake_deleted", "__lake_updated"];

/// What comes out.
#[derive(Debug, Clone)]
pub(super) enum Output {
    /// The keys that change, as they are found by some of the columns.
    Keys,
    /// All versions of every key.
    Versions(Vec<Column>),
}

/// A column of a version.
#[derive(Debug, Clone, Copy)]
pub(super) enum Column {
    /// A value.
    Value(usize),
    /// A value of a column that is new to the table.
    Added(usize),
    From,
    To,
    IsCurrent,
    IsDeleted,
}

/// How to read the rows, and what to make of them.
#[derive(Debug)]
pub(super) struct Layout {
    /// Columns of the key, by position.
    pub(super) key: Vec<usize>,
    /// Columns that tell a version by `check`.
    pub(super) checked: Vec<usize>,
    /// Columns that are new to the table.
    pub(super) added: Vec<usize>,
    /// How many columns hold values.
    pub(super) values: usize,
    /// These are all columns of the table.
    pub(super) complete: bool,
    pub(super) rules: Rules,
    pub(super) output: Output,
    pub(super) schema: SchemaRef,
    pub(super) findings: Findings,
    /// A key has versions that it had not before.
    pub(super) changes: AtomicBool,
}

/// What is wrong with rows, with examples of their keys.
#[derive(Debug, Default)]
pub(super) struct Findings(Mutex<[BTreeSet<String>; 3]>);

/// A kind of [`Findings`].
#[derive(Debug, Clone, Copy)]
pub(super) enum Finding {
    /// Different new rows of one version.
    Duplicate,
    /// New rows without `updated_at`.
    Timeless,
    /// Several versions of before without an end.
    Overlap,
}

impl Findings {
    fn add(&self, finding: Finding, key: String) {
        let mut all = self.0.lock().expect("no holder panics");
        let found = &mut all[finding as usize];
        found.insert(key);
        // The first ones of all partitions, whichever comes first.
        while found.len() > EXAMPLES {
            found.pop_last();
        }
    }

    /// Keys, as text; empty if there are none.
    pub(super) fn examples(&self, finding: Finding) -> String {
        let all = self.0.lock().expect("no holder panics");
        all[finding as usize].iter().cloned().collect::<Vec<_>>().join(", ")
    }
}

/// Folds a stream that is sorted by key, versions of before first, then by time.
pub(super) fn fold(input: SendableRecordBatchStream, layout: Arc<Layout>) -> Result<SendableRecordBatchStream> {
    let schema = Arc::clone(&layout.schema);
    let fold = Fold::new(layout, &input.schema())?;
    let stream = futures::stream::try_unfold((input, Some(fold)), |(mut input, fold)| async move {
        let Some(mut fold) = fold else { return Ok(None) };
        while let Some(batch) = input.next().await {
            if let Some(batch) = fold.push(batch?)? {
                return Ok(Some((batch, (input, Some(fold)))));
            }
        }
        let last = fold.finish()?;
        Ok(Some((last, (input, None))))
    });
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
}

/// A row: its batch, counted from the first one, and its place in it.
type Place = (usize, usize);

struct Held {
    batch: RecordBatch,
    keys: Rows,
    checked: Option<Rows>,
}

/// A row of the output.
struct Out {
    values: Place,
    added: Place,
    from: i64,
    to: Option<i64>,
    deleted: bool,
}

struct Fold {
    layout: Arc<Layout>,
    keys: RowConverter,
    checked: Option<RowConverter>,
    values: RowConverter,
    held: VecDeque<Held>,
    /// Batches that are not held any more.
    passed: usize,
    key: Option<OwnedRow>,
    group: Vec<Place>,
    out: Vec<Out>,
}

impl Fold {
    fn new(layout: Arc<Layout>, input: &Schema) -> Result<Self> {
        let converter = |columns: &mut dyn Iterator<Item = usize>| {
            RowConverter::new(columns.map(|at| SortField::new(input.field(at).data_type().clone())).collect())
        };
        let checks = layout.rules.strategy == HistoryStrategy::Check && !layout.checked.is_empty();
        Ok(Self {
            keys: converter(&mut layout.key.iter().copied())?,
            checked: if checks { Some(converter(&mut layout.checked.iter().copied())?) } else { None },
            values: converter(&mut (0..layout.values))?,
            layout,
            held: VecDeque::new(),
            passed: 0,
            key: None,
            group: Vec::new(),
            out: Vec::new(),
        })
    }

    fn push(&mut self, batch: RecordBatch) -> Result<Option<RecordBatch>> {
        let columns = |at: &[usize]| -> Vec<ArrayRef> { at.iter().map(|at| Arc::clone(batch.column(*at))).collect() };
        let keys = self.keys.convert_columns(&columns(&self.layout.key))?;
        let checked = match &self.checked {
            Some(converter) => Some(converter.convert_columns(&columns(&self.layout.checked))?),
            None => None,
        };
        let (at, rows) = (self.passed + self.held.len(), batch.num_rows());
        self.held.push_back(Held { batch, keys, checked });
        for row in 0..rows {
            let key = self.held.back().expect("it was pushed").keys.row(row);
            if self.key.as_ref().is_none_or(|known| known.row() != key) {
                let key = key.owned();
                self.end_group()?;
                self.key = Some(key);
            }
            self.group.push((at, row));
        }
        let holds_much = self.held.len() > HELD_BATCHES && !self.out.is_empty();
        if self.out.len() < BATCH_ROWS && !holds_much {
            self.let_go();
            return Ok(None);
        }
        self.emit().map(Some)
    }

    fn finish(mut self) -> Result<RecordBatch> {
        self.end_group()?;
        self.emit()
    }

    fn held(&self, (batch, _): Place) -> &Held {
        &self.held[batch - self.passed]
    }

    fn helper(&self, place: Place, helper: usize) -> &ArrayRef {
        self.held(place).batch.column(self.layout.values + helper)
    }

    fn time(&self, place: Place, helper: usize) -> Option<i64> {
        let times = self.helper(place, helper).as_primitive::<Int64Type>();
        times.is_valid(place.1).then(|| times.value(place.1))
    }

    fn flag(&self, place: Place, helper: usize) -> bool {
        let flags = self.helper(place, helper).as_boolean();
        flags.is_valid(place.1) && flags.value(place.1)
    }

    /// All rows of a key are there.
    fn end_group(&mut self) -> Result<()> {
        if self.group.is_empty() {
            return Ok(());
        }
        let group = std::mem::take(&mut self.group);
        let known = group.iter().take_while(|place| self.flag(**place, 0)).count();
        let (old_places, new_places) = group.split_at(known);
        let old: Vec<Old> = old_places
            .iter()
            .map(|place| Old {
                from: self.time(*place, 1).unwrap_or(i64::MIN),
                to: self.time(*place, 2),
                deleted: self.flag(*place, 3),
                updated: self.time(*place, 4),
            })
            .collect();
        if old.iter().filter(|old| old.to.is_none()).count() > 1 {
            self.find(Finding::Overlap, group[0])?;
        }
        let finds_keys = matches!(self.layout.output, Output::Keys);
        let (new_places, is_clear) = self.distinct(new_places)?;
        let new: Vec<Option<i64>> = new_places.iter().map(|place| self.time(*place, 4)).collect();
        if finds_keys && !is_clear {
            self.out.push(Out { values: group[0], added: group[0], from: 0, to: None, deleted: false });
            return Ok(());
        }
        let rows = GroupRows { fold: self, old: old_places, new: &new_places };
        let versions = next(&old, &new, &self.layout.rules, &rows);
        let Some(versions) = versions else {
            if !finds_keys {
                let as_before = old.iter().zip(old_places).map(|(old, place)| Out {
                    values: *place,
                    added: *place,
                    from: old.from,
                    to: old.to,
                    deleted: old.deleted,
                });
                self.out.extend(as_before);
            }
            return Ok(());
        };
        self.layout.changes.store(true, Ordering::Relaxed);
        if finds_keys {
            self.out.push(Out { values: group[0], added: group[0], from: 0, to: None, deleted: false });
            return Ok(());
        }
        self.out.extend(versions.iter().map(|version| {
            let Version { from, to, deleted, .. } = *version;
            let values = match version.values {
                Values::Old(at) => old_places[at],
                Values::New(at) => new_places[at],
            };
            let added = version.added.map_or(values, |at| new_places[at]);
            Out { values, added, from, to, deleted }
        }));
        Ok(())
    }

    /// The new rows of a key, each once; `false` if some of them cannot be told apart by what is known of them here.
    fn distinct(&self, places: &[Place]) -> Result<(Vec<Place>, bool)> {
        let by_time = self.layout.rules.strategy == HistoryStrategy::Timestamp;
        let (mut kept, mut is_clear): (Vec<Place>, bool) = (Vec::new(), true);
        for place in places {
            if by_time && self.time(*place, 4).is_none() {
                self.find(Finding::Timeless, *place)?;
                is_clear = false;
            }
            let Some(last) = kept.last().copied() else {
                kept.push(*place);
                continue;
            };
            if by_time && self.time(last, 4) != self.time(*place, 4) {
                kept.push(*place);
                continue;
            }
            if self.layout.complete && self.is_same(last, *place)? {
                continue;
            }
            is_clear = false;
            if matches!(self.layout.output, Output::Versions(_)) {
                self.find(Finding::Duplicate, *place)?;
            }
        }
        Ok((kept, is_clear))
    }

    /// Whether two rows are the same in all columns.
    fn is_same(&self, a: Place, b: Place) -> Result<bool> {
        let values = |place: Place| -> Result<Rows> {
            let row = self.held(place).batch.slice(place.1, 1);
            Ok(self.values.convert_columns(&row.columns()[..self.layout.values])?)
        };
        Ok(values(a)?.row(0) == values(b)?.row(0))
    }

    fn find(&self, finding: Finding, place: Place) -> Result<()> {
        let batch = &self.held(place).batch;
        let schema = batch.schema();
        let options = FormatOptions::default().with_null("NULL");
        let values: Result<Vec<String>> = self
            .layout
            .key
            .iter()
            .map(|at| {
                let formatter = ArrayFormatter::try_new(batch.column(*at), &options)?;
                Ok(format!("{}={}", schema.field(*at).name(), formatter.value(place.1)))
            })
            .collect();
        self.layout.findings.add(finding, format!("({})", values?.join(", ")));
        Ok(())
    }

    /// Drops the batches that nothing refers to.
    fn let_go(&mut self) {
        let of_group = self.group.first().map(|place| place.0);
        let of_out = self.out.iter().map(|out| out.values.0.min(out.added.0)).min();
        let end = self.passed + self.held.len();
        let first = of_group.unwrap_or(end).min(of_out.unwrap_or(end));
        self.held.drain(..first - self.passed);
        self.passed = first;
    }

    fn emit(&mut self) -> Result<RecordBatch> {
        let out = std::mem::take(&mut self.out);
        if out.is_empty() {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.layout.schema)));
        }
        let columns: Vec<Column> = match &self.layout.output {
            Output::Keys => self.layout.key.iter().map(|at| Column::Value(*at)).collect(),
            Output::Versions(columns) => columns.clone(),
        };
        let schema = &self.layout.schema;
        let arrays: Result<Vec<ArrayRef>> = columns
            .iter()
            .zip(schema.fields())
            .map(|(column, field)| {
                let array: ArrayRef = match column {
                    Column::Value(at) => self.gather(*at, out.iter().map(|out| out.values))?,
                    Column::Added(at) => self.gather(*at, out.iter().map(|out| out.added))?,
                    Column::From => Arc::new(Int64Array::from_iter_values(out.iter().map(|out| out.from))),
                    Column::To => Arc::new(Int64Array::from_iter(out.iter().map(|out| out.to))),
                    Column::IsCurrent => {
                        Arc::new(BooleanArray::from_iter(out.iter().map(|out| Some(out.to.is_none()))))
                    }
                    Column::IsDeleted => Arc::new(BooleanArray::from_iter(out.iter().map(|out| Some(out.deleted)))),
                };
                Ok(if array.data_type() == field.data_type() { array } else { cast(&array, field.data_type())? })
            })
            .collect();
        let batch = RecordBatch::try_new(Arc::clone(schema), arrays?).map_err(DataFusionError::from)?;
        self.let_go();
        Ok(batch)
    }

    fn gather(&self, column: usize, places: impl Iterator<Item = Place>) -> Result<ArrayRef> {
        let arrays: Vec<&dyn Array> = self.held.iter().map(|held| held.batch.column(column).as_ref()).collect();
        let places: Vec<Place> = places.map(|(batch, row)| (batch - self.passed, row)).collect();
        Ok(interleave(&arrays, &places)?)
    }
}

/// The rows of one key, to be compared.
struct GroupRows<'a> {
    fold: &'a Fold,
    old: &'a [Place],
    new: &'a [Place],
}

impl Compare for GroupRows<'_> {
    fn differs(&self, new: usize, old: usize) -> bool {
        let (new, old) = (self.new[new], self.old[old]);
        match (&self.fold.held(new).checked, &self.fold.held(old).checked) {
            (Some(of_new), Some(of_old)) => of_new.row(new.1) != of_old.row(old.1),
            _ => false,
        }
    }

    fn adds(&self, new: usize) -> bool {
        let new = self.new[new];
        self.fold.layout.added.iter().any(|at| self.fold.held(new).batch.column(*at).is_valid(new.1))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{DataType, Field};

    use super::*;
    use crate::project::HardDeletes;

    /// Keys from a number on, each with a version of before and a new row; those of one key differ.
    fn batch(from: i64, changed: i64) -> RecordBatch {
        let keys = || (from..from + 100).flat_map(|key| [key, key]);
        let known = (0..200).map(|at| Some(at % 2 == 0));
        let values = keys().enumerate().map(|(at, key)| if key == changed { at as i64 % 2 } else { 0 });
        let columns: [(&str, ArrayRef); 7] = [
            ("id", Arc::new(Int64Array::from_iter_values(keys()))),
            ("value", Arc::new(Int64Array::from_iter_values(values))),
            (HELPERS[0], Arc::new(BooleanArray::from_iter(known.clone()))),
            (HELPERS[1], Arc::new(Int64Array::from_iter((0..200).map(|at| (at % 2 == 0).then_some(1))))),
            (HELPERS[2], Arc::new(Int64Array::from(vec![None; 200]))),
            (HELPERS[3], Arc::new(BooleanArray::from(vec![false; 200]))),
            (HELPERS[4], Arc::new(Int64Array::from(vec![None; 200]))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
    }

    #[test]
    fn few_batches_are_held_however_few_keys_change() {
        let rules = Rules { strategy: HistoryStrategy::Check, whole: true, deletes: HardDeletes::Ignore, now: 9 };
        let layout = Arc::new(Layout {
            key: vec![0],
            checked: vec![1],
            added: Vec::new(),
            values: 2,
            complete: true,
            rules,
            output: Output::Keys,
            schema: Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)])),
            findings: Findings::default(),
            changes: AtomicBool::default(),
        });
        let first = batch(0, 7);
        let mut fold = Fold::new(layout, &first.schema()).unwrap();
        let (mut found, mut most) = (Vec::new(), 0);
        for at in 0..50 {
            let out = if at == 0 { fold.push(first.clone()) } else { fold.push(batch(at * 100, 4_007)) };
            found.extend(out.unwrap());
            most = most.max(fold.held.len());
        }
        found.push(fold.finish().unwrap());
        let keys: Vec<i64> =
            found.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        assert_eq!(keys, [7, 4_007]);
        assert!(most <= HELD_BATCHES + 1, "{most}");
    }
}
