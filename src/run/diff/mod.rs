//! Two versions of a table, or the tables of one model in two lakes: what differs in columns, keys and values.
//!
//! The log tells which files both have, and the rows of the others are compared: by a key, where one is known, else as they
//! are, each as often as it stands there. Nothing is held that cannot spill.

mod key;
mod queries;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value;

use super::Runtime;
use super::materialize::Failure;
use crate::catalog::{holds, sql_type, widens};
use crate::compile::impact::What;
use crate::names::TableName;
use crate::tables::{FileDiff, FileSet, Published, compare_files, same_content};
use crate::words::HIDDEN;

use key::find_key;
use queries::Comparison;

/// One of two tables, or versions of one.
pub struct Side {
    /// The target whose lake it is in.
    pub target: String,
    /// The table.
    pub table: Published,
}

/// What is asked for.
pub struct DiffRequest<'a> {
    /// The table before.
    pub before: Side,
    /// The table after.
    pub after: Side,
    /// The columns to tell rows by, if not those that the project names.
    pub key: &'a [String],
    /// How many examples of each kind.
    pub limit: usize,
}

/// What differs between two tables.
#[derive(Debug, Serialize)]
pub struct TableDiff {
    /// The model.
    pub model: TableName,
    /// The table before.
    pub before: SideSize,
    /// The table after.
    pub after: SideSize,
    /// Columns that came, went, or changed their type.
    pub columns: Vec<ColumnDiff>,
    /// How rows were compared.
    pub by: By,
    /// The columns that tell rows apart, if rows were compared by them.
    pub key: Option<DiffKey>,
    /// Why rows were not compared by a key.
    pub no_key: Option<String>,
    /// Keys or rows that only the table after has.
    pub added: u64,
    /// Keys or rows that only the table before has.
    pub removed: u64,
    /// Keys whose other values differ.
    pub changed: u64,
    /// Keys or rows that are the same in both; `None` where shared files have no statistics.
    pub same: Option<u64>,
    /// Keys that stand more than once, in the files that were read. They count nowhere else.
    pub repeated: Repeated,
    /// How many keys have another value, by column: those that have any.
    pub changes: Vec<ColumnRate>,
    /// Columns that were not compared, as values of their types cannot be.
    pub not_compared: Vec<String>,
    /// The first keys or rows of each kind.
    pub examples: Examples,
    /// The files that were read.
    pub read: FileCount,
    /// The files that both have, which were not read.
    pub shared: FileCount,
}

/// How rows were compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// Not at all: both have the same files.
    Files,
    /// Not at all: the sums over all rows are the same, by the commits of both.
    Content,
    /// By a key.
    Key,
    /// As they are, each as often as it stands there.
    Rows,
}

/// Which table, and how large it is.
#[derive(Debug, Serialize)]
pub struct SideSize {
    /// The target whose lake it is in.
    pub target: String,
    /// The Delta version.
    pub version: u64,
    /// Rows, by the statistics of the files; `None` if a file has none.
    pub rows: Option<u64>,
    /// Data files.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
}

/// A column that only one has, or both with other types.
#[derive(Debug, Serialize)]
pub struct ColumnDiff {
    /// Its name.
    pub column: String,
    /// What happened to it.
    #[serde(flatten)]
    pub what: What,
}

/// The columns that tell rows apart.
#[derive(Debug, Clone, Serialize)]
pub struct DiffKey {
    /// Their names.
    pub columns: Vec<String>,
    /// Who says so, in words.
    pub from: String,
    /// Whether no key stands twice in any of the files, as far as is known; else only those that were read were looked at.
    pub is_unique: bool,
}

/// Keys that stand more than once, and what differs in their rows, compared as they are.
#[derive(Debug, Default, Serialize)]
pub struct Repeated {
    /// How many keys.
    pub keys: u64,
    /// Rows of theirs that only the table after has.
    pub added: u64,
    /// Rows of theirs that only the table before has.
    pub removed: u64,
}

/// How often a column changed.
#[derive(Debug, Serialize)]
pub struct ColumnRate {
    /// The column.
    pub column: String,
    /// Keys with another value.
    pub keys: u64,
    /// The part of the keys of both that this is.
    pub rate: Option<f64>,
}

/// Values by column.
pub type Row = serde_json::Map<String, Value>;

/// The first keys or rows of each kind.
#[derive(Debug, Default, Serialize)]
pub struct Examples {
    /// Of those that only the table after has.
    pub added: Vec<Row>,
    /// Of those that only the table before has.
    pub removed: Vec<Row>,
    /// Of keys whose values differ.
    pub changed: Vec<ChangedRow>,
    /// Of keys that stand more than once.
    pub repeated: Vec<RepeatedKey>,
}

/// A key whose values differ.
#[derive(Debug, Serialize)]
pub struct ChangedRow {
    /// Its columns.
    pub key: Row,
    /// The other columns that differ.
    pub columns: IndexMap<String, BeforeAfter>,
}

/// A value before and after.
#[derive(Debug, Serialize)]
pub struct BeforeAfter {
    /// Before.
    pub before: Value,
    /// After.
    pub after: Value,
}

/// A key that stands more than once.
#[derive(Debug, Serialize)]
pub struct RepeatedKey {
    /// Its columns.
    pub key: Row,
    /// Rows before.
    pub before: u64,
    /// Rows after.
    pub after: u64,
}

/// Some files.
#[derive(Debug, Default, Serialize)]
pub struct FileCount {
    /// How many.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
}

impl FileCount {
    fn of(sets: &[&FileSet]) -> Self {
        let sum = |count: fn(&FileSet) -> u64| sets.iter().map(|set| count(set)).sum();
        Self { files: sum(FileSet::count), bytes: sum(FileSet::bytes) }
    }
}

impl Side {
    fn size(&self, own: &FileSet, shared: &FileSet) -> SideSize {
        let rows = own.rows().zip(shared.rows()).map(|(own, shared)| own + shared);
        let FileCount { files, bytes } = FileCount::of(&[own, shared]);
        SideSize { target: self.target.clone(), version: self.table.version(), rows, files, bytes }
    }
}

/// Compares two tables of a model.
///
/// # Errors
/// When a key is asked for that one of them does not have, files of an old version are gone, or a query fails.
pub async fn diff(runtime: &Runtime, asked: &DiffRequest<'_>) -> Result<TableDiff, Failure> {
    let (before, after) = (&asked.before.table, &asked.after.table);
    let files = compare_files(before, after)?;
    let compared = compared_columns(&before.schema, &after.schema);
    let key = find_key(runtime, asked, &compared)?;
    let mut found = TableDiff {
        model: after.name.clone(),
        before: asked.before.size(&files.before, &files.shared),
        after: asked.after.size(&files.after, &files.shared),
        columns: columns(&before.schema, &after.schema),
        by: By::Files,
        key: None,
        no_key: None,
        added: 0,
        removed: 0,
        changed: 0,
        same: None,
        repeated: Repeated::default(),
        changes: Vec::new(),
        not_compared: not_compared(&before.schema, &after.schema),
        examples: Examples::default(),
        read: FileCount::default(),
        shared: FileCount::of(&[&files.shared]),
    };
    if files.before.is_empty() && files.after.is_empty() {
        found.same = files.shared.rows();
        return Ok(found);
    }
    if same_content(before, after) {
        (found.by, found.same) = (By::Content, found.after.rows);
        return Ok(found);
    }
    if compared.fields().is_empty() {
        // No row of one can be one of the other.
        (found.by, found.no_key) = (By::Rows, Some("no column of one is one of the other".to_owned()));
        (found.added, found.removed) = (found.after.rows.unwrap_or_default(), found.before.rows.unwrap_or_default());
        found.same = Some(0);
        return Ok(found);
    }
    found.read = FileCount::of(&[&files.before, &files.after]);
    let hidden = Hidden { runtime, table: &after.name };
    let comparison = Comparison::new(&runtime.session, asked, &files, &compared, &hidden).await?;
    match key {
        Ok(key) => found.by_key(&comparison, key, &files).await?,
        Err(why) => {
            found.no_key = Some(why);
            found.by_rows(&comparison, &files).await?;
        }
    }
    Ok(found)
}

impl TableDiff {
    /// Whether both hold the same rows, in the columns that both have.
    pub fn is_same(&self) -> bool {
        self.added + self.removed + self.changed + self.repeated.added + self.repeated.removed == 0
    }

    async fn by_key(&mut self, comparison: &Comparison<'_>, key: DiffKey, files: &FileDiff) -> Result<(), Failure> {
        let key = DiffKey { is_unique: key.is_unique || files.shared.is_empty(), ..key };
        let keyed = comparison.by(&key.columns);
        self.by = By::Key;
        self.repeated.keys = keyed.count_repeated().await?;
        let repeated = self.repeated.keys > 0;
        if repeated {
            (self.repeated.added, self.repeated.removed) = keyed.repeated_rows().await?;
            self.examples.repeated = keyed.repeated_examples().await?;
        }
        let counts = keyed.counts(repeated).await?;
        (self.added, self.removed, self.changed) = (counts.added, counts.removed, counts.changed);
        let both = files.shared.rows().map(|shared| shared + counts.both);
        self.same = both.map(|both| both - counts.changed);
        let rate = |keys: u64| both.map(|both| keys as f64 / both.max(1) as f64);
        let changes = counts.by_column.into_iter().filter(|(_, keys)| *keys > 0);
        self.changes = changes.map(|(column, keys)| ColumnRate { column, keys, rate: rate(keys) }).collect();
        self.changes.sort_by_key(|change| std::cmp::Reverse(change.keys));
        if self.added > 0 {
            self.examples.added = keyed.only_in_one(queries::AFTER, repeated).await?;
        }
        if self.removed > 0 {
            self.examples.removed = keyed.only_in_one(queries::BEFORE, repeated).await?;
        }
        if self.changed > 0 {
            self.examples.changed = keyed.changed(repeated).await?;
        }
        self.key = Some(key);
        Ok(())
    }

    async fn by_rows(&mut self, comparison: &Comparison<'_>, files: &FileDiff) -> Result<(), Failure> {
        self.by = By::Rows;
        (self.added, self.removed) = comparison.differing_rows().await?;
        self.same = files.before.rows().zip(files.shared.rows()).map(|(own, shared)| {
            // Statistics that another program wrote may be wrong.
            (own + shared).saturating_sub(self.removed)
        });
        if self.added > 0 {
            self.examples.added = comparison.row_examples(queries::AFTER).await?;
        }
        if self.removed > 0 {
            self.examples.removed = comparison.row_examples(queries::BEFORE).await?;
        }
        Ok(())
    }
}

/// Which values are not for everybody.
struct Hidden<'a> {
    runtime: &'a Runtime,
    table: &'a TableName,
}

impl Hidden<'_> {
    fn hides(&self, column: &str) -> bool {
        self.runtime.compiled.hides(self.table, column)
    }

    fn shown(&self, column: &str, value: Value) -> Value {
        if value.is_null() || !self.hides(column) { value } else { HIDDEN.into() }
    }
}

/// Columns that came, went, or changed their type.
fn columns(before: &Schema, after: &Schema) -> Vec<ColumnDiff> {
    let column = |field: &Field, what| ColumnDiff { column: field.name().clone(), what };
    let changed = after.fields().iter().filter_map(|field| match before.field_with_name(field.name()) {
        Err(_) => Some(column(field, What::Added { data_type: sql_type(field.data_type()) })),
        Ok(old) if old.data_type() != field.data_type() => {
            let (before, after) = (sql_type(old.data_type()), sql_type(field.data_type()));
            Some(column(field, What::Retyped { before, after }))
        }
        Ok(_) => None,
    });
    let is_gone = |field: &&std::sync::Arc<Field>| after.field_with_name(field.name()).is_err();
    let gone = before.fields().iter().filter(is_gone);
    let gone = gone.map(|field| column(field, What::Removed { data_type: sql_type(field.data_type()) }));
    changed.chain(gone).collect()
}

/// The columns that both have, with a type that values of both can be compared in.
fn compared_columns(before: &Schema, after: &Schema) -> Schema {
    let common = after.fields().iter().filter_map(|field| {
        let data_type = common_type(before.field_with_name(field.name()).ok()?.data_type(), field.data_type())?;
        Some(Field::new(field.name(), data_type, true))
    });
    Schema::new(common.collect::<Vec<_>>())
}

/// Columns that both have, and that cannot be compared.
fn not_compared(before: &Schema, after: &Schema) -> Vec<String> {
    let compared = compared_columns(before, after);
    let common = after.fields().iter().filter(|field| before.field_with_name(field.name()).is_ok());
    let left = common.filter(|field| compared.field_with_name(field.name()).is_err());
    left.map(|field| field.name().clone()).collect()
}

/// The wider one of two types; of two that do not fit, text. Maps are not compared, nor objects with anything else.
fn common_type(before: &DataType, after: &DataType) -> Option<DataType> {
    let is_map = |data_type: &DataType| matches!(data_type, DataType::Map(..));
    let is_opaque = |data_type: &DataType| data_type.is_nested() || data_type.is_binary();
    match (before, after) {
        (a, b) if holds(a, &is_map) || holds(b, &is_map) => None,
        (a, b) if widens(a, b) => Some(b.clone()),
        (a, b) if widens(b, a) => Some(a.clone()),
        (a, b) if is_opaque(a) || is_opaque(b) => None,
        _ => Some(DataType::Utf8),
    }
}
