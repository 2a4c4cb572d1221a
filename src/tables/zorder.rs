//! Z-order: rows that are near each other in several columns at once stand near each other in files, so that the minima
//! and maxima of files tell most of them from what a query asks for, whichever of the columns it filters by.
//!
//! Each column is cut into ranges of about equally many rows, by a sample; the numbers of the ranges of a row, with their
//! bits interleaved, are its place. So skewed values and columns of any type that can be ordered do not matter.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, UInt32Array, UInt64Array};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{
    ColumnarValue, LogicalPlan, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use futures::StreamExt;

use super::read::exact;
use super::stage::{Staged, write};
use super::{Lake, TableError};
use crate::session;

/// Rows that tell where the ranges of a column end.
const SAMPLE: u64 = 20_000;

/// Bits of the number of a range.
const BITS: usize = 10;

/// The tag of a data file whose rows are in Z-order, with the columns.
pub(super) const TAG: &str = "lake.zorder_by";

/// Writes the rows of staged files once more, in Z-order, as files of their own.
pub(super) async fn staged(lake: &Lake, unordered: Staged, session: &SessionState) -> Result<Staged, TableError> {
    let (plan, rows) = (unordered.rows_plan()?, unordered.rows());
    write_ordered(lake, Staged { adds: Vec::new(), ..unordered }, plan, rows, session).await
}

/// Writes the rows of a plan in Z-order, one partition of the table after another.
pub(super) async fn write_ordered(
    lake: &Lake,
    staged: Staged,
    plan: LogicalPlan,
    rows: u64,
    session: &SessionState,
) -> Result<Staged, TableError> {
    let zorder_by = &lake.layout(&staged.name).zorder_by;
    let columns: Vec<_> =
        zorder_by.iter().filter(|name| staged.schema.field_with_name(name).is_ok()).map(|name| exact(name)).collect();
    let ranges = ranges(plan.clone(), &columns, rows, session).await?;
    let place = ScalarUDF::from(Place { ranges, signature: Signature::variadic_any(Volatility::Immutable) });
    let partitions = staged.partition_by.iter().map(|name| exact(name));
    let order: Vec<_> = partitions.chain([place.call(columns)]).map(|key| key.sort(true, false)).collect();
    let plan = LogicalPlanBuilder::from(plan).sort(order)?.build()?;
    let tag = (TAG.to_owned(), Some(zorder_by.join(",")));
    let mut staged = write(lake, staged, plan, session).await?;
    for add in &mut staged.adds {
        add.tags.get_or_insert_default().extend([tag.clone()]);
    }
    Ok(staged)
}

/// Where the ranges of each column end, as Arrow's row format has values: its bytes sort as the values do.
type Ranges = Vec<Vec<Box<[u8]>>>;

async fn ranges(
    plan: LogicalPlan,
    columns: &[datafusion::logical_expr::Expr],
    rows: u64,
    session: &SessionState,
) -> Result<Arc<Ranges>> {
    let plan = LogicalPlanBuilder::from(plan).project(columns.to_vec())?.build()?;
    let mut stream = session::query(session, plan).execute_stream().await?;
    let step = (rows / SAMPLE).max(1);
    let mut samples: Ranges = vec![Vec::new(); columns.len()];
    let mut seen = 0_u64;
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        let chosen = (0..batch.num_rows()).filter(|row| (seen + *row as u64).is_multiple_of(step));
        let chosen: UInt32Array = chosen.filter_map(|row| u32::try_from(row).ok()).collect::<Vec<_>>().into();
        seen += batch.num_rows() as u64;
        let batch: RecordBatch = take_record_batch(&batch, &chosen)?;
        for (column, sample) in batch.columns().iter().zip(&mut samples) {
            sample.extend(comparable(column)?.iter().map(|row| Box::from(row.as_ref())));
        }
    }
    let most = 1 << bits(columns.len());
    let cut = |mut sample: Vec<Box<[u8]>>| {
        sample.sort_unstable();
        let mut ends: Vec<Box<[u8]>> =
            (1..most).filter_map(|at| sample.get(at * sample.len() / most).cloned()).collect();
        ends.dedup();
        ends
    };
    Ok(Arc::new(samples.into_iter().map(cut).collect()))
}

fn bits(columns: usize) -> usize {
    BITS.min(64 / columns.max(1))
}

fn comparable(column: &ArrayRef) -> Result<datafusion::arrow::row::Rows> {
    let converter = RowConverter::new(vec![SortField::new(column.data_type().clone())])?;
    Ok(converter.convert_columns(std::slice::from_ref(column))?)
}

/// The place of a row on the Z-curve.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Place {
    ranges: Arc<Ranges>,
    signature: Signature,
}

impl ScalarUDFImpl for Place {
    fn name(&self) -> &str {
        "lake_zorder"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::UInt64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let bits = bits(columns.len());
        let mut places = vec![0_u64; args.number_rows];
        for (at, (column, ends)) in columns.iter().zip(self.ranges.iter()).enumerate() {
            for (place, row) in places.iter_mut().zip(comparable(column)?.iter()) {
                let range = ends.partition_point(|end| end.as_ref() <= row.as_ref());
                *place |= spread(range as u64, bits, columns.len()) << (columns.len() - 1 - at);
            }
        }
        let places: ArrayRef = Arc::new(UInt64Array::from(places));
        Ok::<_, DataFusionError>(ColumnarValue::Array(places))
    }
}

/// The lowest bits of a number, with room for those of the other columns between them.
fn spread(number: u64, bits: usize, columns: usize) -> u64 {
    (0..bits).fold(0, |spread, bit| spread | ((number >> bit & 1) << (bit * columns)))
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn bits_of_columns_are_interleaved() {
        let place = |x, y| spread(x, 10, 2) << 1 | spread(y, 10, 2);
        assert_eq!(spread(0b1011, 10, 2), 0b100_0101);
        // The four cells of a square follow each other, and then comes the next square.
        assert_eq!([place(0, 0), place(0, 1), place(1, 0), place(1, 1), place(0, 2)], [0, 1, 2, 3, 4]);
        assert!(place(1023, 1023) > place(1023, 1022) && place(1, 3) < place(3, 0));
    }
}
