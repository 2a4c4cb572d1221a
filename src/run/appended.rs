//! Keys and references of rows that are added to a table: the new ones are looked at, and of the others as little as is needed.

use std::sync::Arc;

use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::TableSource;

use super::audit::Seen;
use super::commit::Stamp;
use super::fused::Found;
use super::materialize::{Failure, Node};
use crate::checks::Check;
use crate::compile::CompiledTest;
use crate::names::TableName;
use crate::session::{self, Tables};
use crate::tables::{self, Published, Staged};
use crate::words::quoted;

impl Node<'_> {
    /// What is known of tests of keys and references that the published version has passed. One that may fail is left to the
    /// scan of all rows, which counts.
    pub(super) async fn of_new_keys(&self, published: Option<&Published>, staged: &Staged) -> Result<Seen, Failure> {
        let mut seen = Seen::new();
        let Some(published) = published.filter(|_| !staged.replaces_all) else { return Ok(seen) };
        for test in self.gates() {
            let own = test.table.as_ref() == Some(&self.model.name);
            let check = test.check();
            let is_of_keys = matches!(check, Check::Unique { .. } | Check::Reference { .. });
            if !own || !is_of_keys || test.config.filter.is_some() {
                continue;
            }
            let holds_for_old_rows = match &check {
                Check::Reference { to, .. } => self.has_kept_references(published, test, to).await?,
                _ => self.has_passed(published, test).await?,
            };
            if !holds_for_old_rows {
                continue;
            }
            let found = match check {
                Check::Unique { columns, .. } if self.merges_by(&columns) => {
                    let reason = "a merge keeps one row of each unique_key, and no key was there twice before";
                    Some(Found { proved: Some(reason.to_owned()), ..Found::default() })
                        .filter(|_| self.inputs.runtime().options.prove)
                }
                Check::Unique { columns, nulls_count } => match staged.added_only() {
                    Some(added) => {
                        let stays = self.stays_unique(published, &added, &columns, nulls_count).await?;
                        stays.then(Found::default)
                    }
                    None => None,
                },
                Check::Reference { column, to, field, to_filter: None } if to != self.model.name => {
                    self.all_are_known(staged, &column, &to, &field).await?.then(Found::default)
                }
                _ => None,
            };
            seen.extend(found.map(|found| (test.name.clone(), found)));
        }
        Ok(seen)
    }

    /// Whether no row of the published version failed a test that is the same today, with the same other tables.
    pub(super) async fn has_passed(&self, published: &Published, test: &CompiledTest) -> Result<bool, Failure> {
        let Some(state) = &published.state else { return Ok(false) };
        Ok(test.config.allows_nothing() && state.tests.get(&test.name) == Some(&self.stamp(test).await?))
    }

    /// Whether no reference of the published version failed, and the other table has lost no row since: it is the version
    /// that the test has seen, or has all files of that one.
    async fn has_kept_references(
        &self,
        published: &Published,
        test: &CompiledTest,
        to: &TableName,
    ) -> Result<bool, Failure> {
        if self.has_passed(published, test).await? {
            return Ok(true);
        }
        let passed = published.state.as_ref().and_then(|state| state.tests.get(&test.name));
        let Some(seen) = passed.and_then(|passed| Stamp::version_in(passed, test, to)) else { return Ok(false) };
        if !test.config.allows_nothing() || self.inputs.runtime().deferral.is_some() || self.inputs.held(to).is_some() {
            return Ok(false);
        }
        let Some(now) = self.inputs.published(to).await? else { return Ok(false) };
        // Its log may have been cleaned: then nobody can tell.
        let Ok(then) = self.inputs.runtime().lake.inspect_at(to, seen).await else { return Ok(false) };
        Ok(then.table_id() == now.table_id() && tables::compare_files(&then, &now)?.before.is_empty())
    }

    /// Whether rows are merged by some of these columns.
    fn merges_by(&self, columns: &[String]) -> bool {
        let key = &self.model.config.unique_key;
        self.model.merges() && !key.is_empty() && key.iter().all(|column| columns.contains(column))
    }

    /// Whether no new key stands twice, or among the files that stay: those of them are read that may hold one.
    async fn stays_unique(
        &self,
        published: &Published,
        staged: &Staged,
        columns: &[String],
        nulls_count: bool,
    ) -> Result<bool, Failure> {
        let session = &self.inputs.runtime().session;
        let mut tables = Tables::new();
        tables.insert(new_rows(), rows_of(staged)?);
        let list: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
        let list = list.join(", ");
        let some = if nulls_count { String::new() } else { format!(" where {list} is not null") };
        if self.has_rows(&tables, &format!("select 1 from new.rows{some} group by {list} having count(*) > 1")).await? {
            return Ok(false);
        }
        let Some(old) = tables::files_with_keys(published, staged, columns, session).await? else { return Ok(true) };
        tables.insert(TableName::new("old", "rows"), provider_as_source(old));
        let same = if nulls_count { "is not distinct from" } else { "=" };
        let same: Vec<String> =
            columns.iter().map(|column| quoted(column)).map(|c| format!("(n.{c} {same} o.{c})")).collect();
        let sql = format!("select 1 from new.rows as n inner join old.rows as o on {}", same.join(" and "));
        Ok(!self.has_rows(&tables, &sql).await?)
    }

    /// Whether all new values stand in a column of another table.
    async fn all_are_known(&self, staged: &Staged, column: &str, to: &TableName, field: &str) -> Result<bool, Failure> {
        let mut tables = self.inputs.tables_named(std::slice::from_ref(to)).await?;
        tables.insert(new_rows(), rows_of(staged)?);
        let (column, field, to) = (quoted(column), quoted(field), to.quoted());
        let sql = format!(
            "select 1 from (select distinct {column} as value from new.rows where {column} is not null) as child \
             left anti join {to} as parent on child.value = parent.{field}"
        );
        Ok(!self.has_rows(&tables, &sql).await?)
    }

    async fn has_rows(&self, tables: &Tables, sql: &str) -> Result<bool, Failure> {
        let session = &self.inputs.runtime().session;
        let plan = session::plan(session, session::parse(&format!("{sql} limit 1"))?, tables)?;
        let batches = session::collect(session, plan).await?;
        Ok(batches.iter().any(|batch| batch.num_rows() > 0))
    }
}

/// What queries call the new rows.
fn new_rows() -> TableName {
    TableName::new("new", "rows")
}

fn rows_of(staged: &Staged) -> Result<Arc<dyn TableSource>, Failure> {
    Ok(provider_as_source(Arc::new(ViewTable::new(staged.rows_plan()?, None))))
}
