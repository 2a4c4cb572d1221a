//! The queries of a comparison, over the rows of the files that only one of two tables has.

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type, Schema};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use indexmap::IndexMap;
use serde_json::Value;

use super::{BeforeAfter, ChangedRow, DiffRequest, Hidden, RepeatedKey, Row};
use crate::exact_files::rows_of;
use crate::names::TableName;
use crate::run::materialize::Failure;
use crate::session::{self, OutOfMemory, Tables};
use crate::tables::FileDiff;
use crate::words::quoted;

/// What queries call the rows of each side.
pub(super) const BEFORE: &str = "diff.before";
pub(super) const AFTER: &str = "diff.after";

/// The rows to compare.
pub(super) struct Comparison<'a> {
    session: &'a SessionState,
    hidden: &'a Hidden<'a>,
    tables: Tables,
    columns: Vec<String>,
    limit: usize,
}

/// The same, by the columns that tell rows apart.
pub(super) struct Keyed<'a> {
    all: &'a Comparison<'a>,
    key: &'a [String],
    /// The other columns.
    values: Vec<&'a String>,
}

/// How many keys are what.
pub(super) struct Counts {
    pub(super) added: u64,
    pub(super) removed: u64,
    pub(super) both: u64,
    /// Of those of both.
    pub(super) changed: u64,
    pub(super) by_column: Vec<(String, u64)>,
}

impl<'a> Comparison<'a> {
    /// Both sides in the columns and types of `compared`.
    pub(super) async fn new(
        session: &'a SessionState,
        asked: &DiffRequest<'_>,
        files: &FileDiff,
        compared: &Schema,
        hidden: &'a Hidden<'a>,
    ) -> Result<Self, Failure> {
        let mut tables = Tables::new();
        for (name, side, files) in [("before", &asked.before, &files.before), ("after", &asked.after, &files.after)] {
            let rows = rows_of(side.table.rows_in(files).await?, compared)?;
            let rows = provider_as_source(std::sync::Arc::new(ViewTable::new(rows, None)));
            tables.insert(TableName::new("diff", name), rows);
        }
        let columns = compared.fields().iter().map(|field| field.name().clone()).collect();
        Ok(Self { session, hidden, tables, columns, limit: asked.limit })
    }

    pub(super) fn by(&'a self, key: &'a [String]) -> Keyed<'a> {
        Keyed { all: self, key, values: self.columns.iter().filter(|column| !key.contains(column)).collect() }
    }

    async fn rows(&self, sql: &str) -> Result<Vec<RecordBatch>, DataFusionError> {
        let plan = session::plan(self.session, session::parse(sql)?, &self.tables)?;
        session::collect(self.session, plan).await
    }

    /// The first rows of a query by some columns; if there is no memory to find the first ones beside its joins, any.
    async fn examples(&self, sql: &str, order: &str) -> Result<Vec<RecordBatch>, DataFusionError> {
        if self.limit == 0 {
            return Ok(Vec::new());
        }
        match self.rows(&format!("{sql} order by {order} limit {}", self.limit)).await {
            Err(error) if error.is_out_of_memory() => self.rows(&format!("{sql} limit {}", self.limit)).await,
            found => found,
        }
    }

    /// The numbers of the one row of a query.
    async fn numbers(&self, sql: &str) -> Result<Vec<u64>, Failure> {
        let batches = self.rows(sql).await?;
        let Some(batch) = batches.iter().find(|batch| batch.num_rows() > 0) else { return Ok(Vec::new()) };
        batch.columns().iter().map(|column| number(column, 0)).collect()
    }

    /// Rows that one side has more of than the other, and how many more.
    fn differing(&self, before: &str, after: &str) -> String {
        let columns = list(&self.columns);
        format!(
            "select {columns}, sum(__lake_n) as __lake_n from (select {columns}, 1 as __lake_n from {after} union all \
             select {columns}, -1 as __lake_n from {before}) as __lake_both group by {columns} having sum(__lake_n) <> 0"
        )
    }

    /// How many rows only the second side has, and only the first.
    async fn count_differing(&self, before: &str, after: &str) -> Result<(u64, u64), Failure> {
        let sql = format!(
            "select coalesce(sum(__lake_n) filter (where __lake_n > 0), 0), \
             coalesce(-sum(__lake_n) filter (where __lake_n < 0), 0) from ({}) as __lake_differing",
            self.differing(before, after)
        );
        let numbers = self.numbers(&sql).await?;
        Ok((numbers[0], numbers[1]))
    }

    pub(super) async fn differing_rows(&self) -> Result<(u64, u64), Failure> {
        self.count_differing(BEFORE, AFTER).await
    }

    /// The first rows that one side has more of.
    pub(super) async fn row_examples(&self, side: &str) -> Result<Vec<Row>, Failure> {
        let sign = if side == AFTER { ">" } else { "<" };
        let columns = list(&self.columns);
        let differing = self.differing(BEFORE, AFTER);
        let sql = format!("select {columns} from ({differing}) as __lake_differing where __lake_n {sign} 0");
        let names: Vec<&String> = self.columns.iter().collect();
        Ok(rows_in(&self.examples(&sql, &columns).await?).map(|(batch, row)| self.row(batch, row, 0, &names)).collect())
    }

    /// The values of some columns that stand one after the other.
    fn row(&self, batch: &RecordBatch, row: usize, first: usize, names: &[&String]) -> Row {
        let cells = names.iter().enumerate().map(|(at, name)| {
            let value = cell(batch.column(first + at), row);
            ((*name).clone(), self.hidden.shown(name, value))
        });
        cells.collect()
    }
}

impl Keyed<'_> {
    fn keys(&self, table: &str) -> String {
        self.key.iter().map(|column| format!("{table}.{}", quoted(column))).collect::<Vec<_>>().join(", ")
    }

    /// NULL equals NULL.
    fn same_key(&self, one: &str, other: &str) -> String {
        let same = self.key.iter().map(|column| {
            let column = quoted(column);
            format!("({one}.{column} is not distinct from {other}.{column})")
        });
        same.collect::<Vec<_>>().join(" and ")
    }

    /// Keys that stand more than once on one side.
    fn repeated(&self) -> String {
        let keys = list(self.key);
        format!(
            "select {keys}, sum(__lake_b) as __lake_b, sum(__lake_a) as __lake_a from \
             (select {keys}, 1 as __lake_b, 0 as __lake_a from {BEFORE} union all \
             select {keys}, 0 as __lake_b, 1 as __lake_a from {AFTER}) as __lake_both \
             group by {keys} having sum(__lake_b) > 1 or sum(__lake_a) > 1"
        )
    }

    /// The rows of one side whose keys stand more than once, or those of all other keys.
    fn rows_of(&self, side: &str, is_repeated: bool) -> String {
        let join = if is_repeated { "semi" } else { "anti" };
        let on = self.same_key("own", "again");
        format!("(select own.* from {side} as own left {join} join ({}) as again on {on})", self.repeated())
    }

    /// The rows of one side with keys that stand once.
    fn once(&self, side: &str, are_some_repeated: bool) -> String {
        if are_some_repeated { self.rows_of(side, false) } else { side.to_owned() }
    }

    pub(super) async fn count_repeated(&self) -> Result<u64, Failure> {
        let sql = format!("select count(*) from ({}) as __lake_repeated", self.repeated());
        Ok(self.all.numbers(&sql).await?[0])
    }

    /// How many rows of repeated keys only the second side has, and only the first.
    pub(super) async fn repeated_rows(&self) -> Result<(u64, u64), Failure> {
        let (before, after) = (self.rows_of(BEFORE, true), self.rows_of(AFTER, true));
        self.all.count_differing(&format!("{before} as b"), &format!("{after} as a")).await
    }

    pub(super) async fn repeated_examples(&self) -> Result<Vec<RepeatedKey>, Failure> {
        let batches = self.all.examples(&self.repeated(), &list(self.key)).await?;
        let example = |(batch, row): (&RecordBatch, usize)| {
            let width = self.key.len();
            let (before, after) = (number(batch.column(width), row)?, number(batch.column(width + 1), row)?);
            Ok(RepeatedKey { key: self.key_in(batch, row), before, after })
        };
        rows_in(&batches).map(example).collect()
    }

    pub(super) async fn counts(&self, are_some_repeated: bool) -> Result<Counts, Failure> {
        const BOTH: &str = "b.__lake_in is not null and a.__lake_in is not null";
        let mut counted = vec![
            "b.__lake_in is null".to_owned(),
            "a.__lake_in is null".to_owned(),
            BOTH.to_owned(),
            format!("{BOTH} and ({})", self.any_differs()),
        ];
        counted.extend(self.values.iter().map(|column| format!("{BOTH} and {}", differs(column))));
        // Names, since two conditions may be the same.
        let counted = counted.iter().enumerate();
        let counted: Vec<String> =
            counted.map(|(at, condition)| format!("count(*) filter (where {condition}) as __lake_n{at}")).collect();
        let sql = format!(
            "select {} from (select *, true as __lake_in from {} as own) as b \
             full join (select *, true as __lake_in from {} as own) as a on {}",
            counted.join(", "),
            self.once(BEFORE, are_some_repeated),
            self.once(AFTER, are_some_repeated),
            self.same_key("b", "a"),
        );
        let numbers = self.all.numbers(&sql).await?;
        let by_column = self.values.iter().map(|name| (*name).clone()).zip(numbers[4..].iter().copied()).collect();
        Ok(Counts { added: numbers[0], removed: numbers[1], both: numbers[2], changed: numbers[3], by_column })
    }

    fn any_differs(&self) -> String {
        if self.values.is_empty() {
            return "false".to_owned();
        }
        self.values.iter().map(|column| differs(column)).collect::<Vec<_>>().join(" or ")
    }

    /// The first keys that only one side has.
    pub(super) async fn only_in_one(&self, side: &str, are_some_repeated: bool) -> Result<Vec<Row>, Failure> {
        let other = if side == AFTER { BEFORE } else { AFTER };
        let keys = self.keys("own");
        let sql = format!(
            "select {keys} from {} as own left anti join {} as other on {}",
            self.once(side, are_some_repeated),
            self.once(other, are_some_repeated),
            self.same_key("own", "other"),
        );
        let batches = self.all.examples(&sql, &keys).await?;
        Ok(rows_in(&batches).map(|(batch, row)| self.key_in(batch, row)).collect())
    }

    /// The first keys with other values.
    pub(super) async fn changed(&self, are_some_repeated: bool) -> Result<Vec<ChangedRow>, Failure> {
        let keys = self.keys("a");
        let mut selected: Vec<String> = vec![keys.clone()];
        for (at, column) in self.values.iter().enumerate() {
            let (differs, column) = (differs(column), quoted(column));
            selected.push(format!("b.{column} as __lake_b{at}, a.{column} as __lake_a{at}, {differs} as __lake_d{at}"));
        }
        let sql = format!(
            "select {} from {} as b inner join {} as a on {} where {}",
            selected.join(", "),
            self.once(BEFORE, are_some_repeated),
            self.once(AFTER, are_some_repeated),
            self.same_key("b", "a"),
            self.any_differs(),
        );
        let batches = self.all.examples(&sql, &keys).await?;
        Ok(rows_in(&batches).map(|(batch, row)| self.changed_row(batch, row)).collect())
    }

    fn changed_row(&self, batch: &RecordBatch, row: usize) -> ChangedRow {
        let mut columns = IndexMap::new();
        for (at, name) in self.values.iter().enumerate() {
            let first = self.key.len() + at * 3;
            let shown = |at: usize| self.all.hidden.shown(name, cell(batch.column(at), row));
            if batch.column(first + 2).as_boolean().value(row) {
                columns.insert((*name).clone(), BeforeAfter { before: shown(first), after: shown(first + 1) });
            }
        }
        ChangedRow { key: self.key_in(batch, row), columns }
    }

    fn key_in(&self, batch: &RecordBatch, row: usize) -> Row {
        self.all.row(batch, row, 0, &self.key.iter().collect::<Vec<_>>())
    }
}

/// NULL is a value as any other.
fn differs(column: &str) -> String {
    let column = quoted(column);
    format!("(b.{column} is distinct from a.{column})")
}

fn list(columns: &[String]) -> String {
    columns.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(", ")
}

fn rows_in(batches: &[RecordBatch]) -> impl Iterator<Item = (&RecordBatch, usize)> {
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)))
}

/// A count that a query came to.
fn number(column: &dyn Array, row: usize) -> Result<u64, Failure> {
    let numbers = cast(column, &DataType::Int64).map_err(DataFusionError::from)?;
    Ok(u64::try_from(numbers.as_primitive::<Int64Type>().value(row)).unwrap_or_default())
}

/// A value as JSON: numbers and truth values as such, all else as text.
fn cell(column: &dyn Array, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    let text = array_value_to_string(column, row).unwrap_or_default();
    let number = match column.data_type() {
        DataType::Boolean => Some(Value::Bool(text == "true")),
        data_type if data_type.is_integer() => text.parse::<i64>().ok().map(Value::from),
        // Not what is no number of JSON: infinity, and what is no number.
        data_type if data_type.is_floating() => {
            text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from)
        }
        _ => None,
    };
    number.unwrap_or(Value::String(text))
}
