//! What changed in a table between two of its versions.
//!
//! The log tells which files came and which went. Where none went, the rows of those that came are the change. Else it is
//! the difference of the rows of both, counted: a row that was only written again cancels out, whoever wrote it and why.
//! That needs nothing but the files of both versions, so it holds for any table, also for what was written before
//! anybody asked, and costs as much as the files that were written again.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::datasource::provider_as_source;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{LogicalPlanBuilder, lit};
use deltalake::DeltaTable;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::files::{DataFile, files_table};
use super::read::{exact, view};
use super::{Lake, Published, Staged, TableError, delta_message, read};
use crate::catalog::{CHANGE_COLUMNS, change_fields, changes_schema};
use crate::exact_files::{empty, rows_of};
use crate::names::TableName;
use crate::session::{self, Tables};
use crate::stores::Place;
use crate::words::quoted;

/// A question for what changed.
#[derive(Debug, Clone, Copy)]
pub struct Changes<'a> {
    /// The last version that is known; `None` if nothing is.
    pub since: Option<u64>,
    /// The columns that tell rows apart, if some do: a row that goes and one that comes are an update.
    pub key: &'a [String],
    /// The columns of the table as its readers see them.
    pub schema: &'a SchemaRef,
}

impl Published {
    /// The identity of the table, which another table in its place does not have.
    pub fn table_id(&self) -> Option<String> {
        self.table.snapshot().ok().map(|snapshot| snapshot.metadata().id().to_owned())
    }

    /// What changed since a version, up to this one, in the columns of [`changes_schema`].
    ///
    /// # Errors
    /// When the older version cannot be read any more, or the storage's.
    pub async fn changes(
        &self,
        lake: &Lake,
        asked: Changes<'_>,
        session: &SessionState,
    ) -> Result<Arc<dyn TableProvider>, TableError> {
        Version::of(self)?.changes((lake, &self.name, Some(self)), asked, session).await
    }

    /// Fails in words where files of an older version are gone.
    async fn are_there(&self, files: &[DataFile]) -> Result<(), TableError> {
        match self.gone(files.iter().map(|file| &file.path)).await?.is_empty() {
            true => Ok(()),
            false => Err(gone(&self.name, self.version(), "files of it were vacuumed")),
        }
    }

    /// The version that added each file, and when it was committed, as far as the log still tells.
    async fn commits_since(&self, since: u64) -> Result<HashMap<String, (i64, Option<DateTime<Utc>>)>, TableError> {
        let fail = |source| TableError::Delta { table: self.name.clone(), source };
        let log_store = self.table.log_store();
        let mut found = HashMap::new();
        for version in since + 1..=self.version() {
            let Some(entry) = log_store.read_commit_entry(version).await.map_err(fail)? else { continue };
            let lines = entry.split(|byte| *byte == b'\n');
            let actions: Vec<Value> = lines.filter_map(|line| serde_json::from_slice(line).ok()).collect();
            let info = actions.iter().find_map(|action| action.get("commitInfo"));
            let at = info.and_then(|info| info["inCommitTimestamp"].as_i64().or(info["timestamp"].as_i64()));
            let commit = (i64::try_from(version).unwrap_or(i64::MAX), at.and_then(DateTime::from_timestamp_millis));
            for path in actions.iter().filter_map(|action| action.get("add")?.get("path")?.as_str()) {
                found.insert(percent_decode_str(path).decode_utf8_lossy().into_owned(), commit);
            }
        }
        Ok(found)
    }
}

/// What will have changed since a version of `published`, once `staged` is published as another one.
///
/// # Errors
/// As [`Published::changes`].
pub async fn future_changes(
    lake: &Lake,
    (published, staged, version): (Option<&Published>, &Staged, u64),
    asked: Changes<'_>,
    session: &SessionState,
) -> Result<Arc<dyn TableProvider>, TableError> {
    let kept = match published.filter(|_| !staged.replaces_all) {
        Some(published) => published.files_at(|path| !staged.removed.contains(path))?,
        None => Vec::new(),
    };
    let future = Version {
        place: &staged.place,
        schema: &staged.schema,
        partition_by: &staged.partition_by,
        files: kept.into_iter().chain(staged.adds.iter().map(DataFile::from)).collect(),
        number: version,
        committed_at: Some(Utc::now()),
    };
    future.changes((lake, &staged.name, published), asked, session).await
}

/// A version of a table by its files: one that is published, or one that will be.
struct Version<'a> {
    place: &'a Place,
    schema: &'a SchemaRef,
    partition_by: &'a [String],
    files: Vec<DataFile>,
    number: u64,
    committed_at: Option<DateTime<Utc>>,
}

impl<'a> Version<'a> {
    fn of(published: &'a Published) -> Result<Self, TableError> {
        Ok(Self {
            place: &published.place,
            schema: &published.schema,
            partition_by: published.partition_columns(),
            files: published.files()?,
            number: published.version(),
            committed_at: published.committed_at(),
        })
    }

    /// What changed up to this version of a table. What is published of it knows when files came.
    async fn changes(
        &self,
        (lake, name, published): (&Lake, &TableName, Option<&Published>),
        asked: Changes<'_>,
        session: &SessionState,
    ) -> Result<Arc<dyn TableProvider>, TableError> {
        let schema = changes_schema(asked.schema);
        let now = (i64::try_from(self.number).unwrap_or(i64::MAX), self.committed_at);
        let Some(since) = asked.since else { return self.came(&self.files, &schema, |_| now) };
        if since == self.number {
            return Ok(empty(schema));
        }
        let old = lake.version_of(name, since).await?;
        let before = Version::of(&old)?;
        let known: BTreeSet<&String> = before.files.iter().map(|file| &file.path).collect();
        let paths: BTreeSet<&String> = self.files.iter().map(|file| &file.path).collect();
        let went: Vec<DataFile> = before.files.iter().filter(|file| !paths.contains(&file.path)).cloned().collect();
        let new: Vec<DataFile> = self.files.iter().filter(|file| !known.contains(&file.path)).cloned().collect();
        if went.is_empty() {
            let commits = match published {
                Some(published) => published.commits_since(since).await?,
                None => HashMap::new(),
            };
            return self.came(&new, &schema, |file| commits.get(&file.path).copied().unwrap_or(now));
        }
        old.are_there(&went).await?;
        let mut tables = Tables::new();
        for (name, of, files) in [("came", self, &new), ("went", &before, &went)] {
            let rows = rows_of(of.only(files, &[], |_| Vec::new())?, asked.schema)?;
            tables.insert(TableName::new("changes", name), provider_as_source(view(rows)));
        }
        let difference = session::plan(session, session::parse(&difference(asked.schema, asked.key))?, &tables)?;
        let label = |at: usize, value: ScalarValue| lit(value).alias(CHANGE_COLUMNS[at]);
        let columns = asked.schema.fields().iter().map(|field| exact(field.name()));
        let columns = columns
            .chain([exact(CHANGE_COLUMNS[0])])
            .chain([label(1, ScalarValue::Int64(Some(now.0))), label(2, timestamp(now.1))]);
        let labelled = LogicalPlanBuilder::from(difference).project(columns.collect::<Vec<_>>())?.build()?;
        Ok(view(rows_of(view(labelled), &schema)?))
    }

    /// Rows of files as rows that came.
    fn came(
        &self,
        files: &[DataFile],
        schema: &SchemaRef,
        commit: impl Fn(&DataFile) -> (i64, Option<DateTime<Utc>>),
    ) -> Result<Arc<dyn TableProvider>, TableError> {
        let table = self.only(files, &change_fields(), |file| {
            let (version, at) = commit(file);
            vec![ScalarValue::from("insert"), ScalarValue::Int64(Some(version)), timestamp(at)]
        })?;
        Ok(view(rows_of(table, schema)?))
    }

    fn only(
        &self,
        files: &[DataFile],
        labels: &[Field],
        label: impl Fn(&DataFile) -> Vec<ScalarValue>,
    ) -> Result<Arc<dyn TableProvider>, TableError> {
        Ok(Arc::new(files_table(self.place, files, self.schema, self.partition_by, labels, label)?))
    }
}

impl Lake {
    /// An older version of a table.
    async fn version_of(&self, name: &TableName, version: u64) -> Result<Published, TableError> {
        let fail = |source| TableError::Delta { table: name.clone(), source };
        let mut table = DeltaTable::new(self.log_store(name));
        table.load_version(version).await.map_err(|error| gone(name, version, &delta_message(&error)))?;
        let schema = read::plain(&table.snapshot().map_err(fail)?.snapshot().arrow_schema());
        let place = self.place_of(name);
        Ok(Published { name: name.clone(), place, schema, table, state: None, said: None })
    }
}

fn gone(name: &TableName, version: u64, why: &str) -> TableError {
    TableError::Rows(format!(
        "what changed in `{name}` since its version {version} cannot be told any more: {why}; --full-refresh reads all of it \
         again"
    ))
}

fn timestamp(at: Option<DateTime<Utc>>) -> ScalarValue {
    ScalarValue::TimestampMicrosecond(at.map(|at| at.timestamp_micros()), Some("UTC".into()))
}

/// The rows of `changes.came` that `changes.went` has not, and those that it has more of, each as often.
fn difference(schema: &Schema, key: &[String]) -> String {
    let list = |names: &mut dyn Iterator<Item = &String>| names.map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    let columns = list(&mut schema.fields().iter().map(|field| field.name()));
    let counted = format!(
        "select {columns}, sum(__lake_n) as __lake_n from (select {columns}, 1 as __lake_n from changes.came \
         union all select {columns}, -1 as __lake_n from changes.went) as both group by {columns} having sum(__lake_n) <> 0"
    );
    let each =
        format!("select {columns}, __lake_n, unnest(range(0, abs(__lake_n))) as __lake_i from ({counted}) as counted");
    let change = match key.is_empty() {
        true => "case when __lake_n > 0 then 'insert' else 'delete' end".to_owned(),
        false => {
            let key = list(&mut key.iter());
            format!(
                "case when __lake_n > 0 and min(__lake_n) over (partition by {key}) < 0 then 'update_postimage' \
                 when __lake_n > 0 then 'insert' \
                 when max(__lake_n) over (partition by {key}) > 0 then 'update_preimage' else 'delete' end"
            )
        }
    };
    format!("select {columns}, {change} as \"{}\" from ({each}) as each", CHANGE_COLUMNS[0])
}
