//! Tombstones: the keys that a merge has deleted, and how new each delete was, so that a late, older row of such a key
//! does not come back.
//!
//! They are Parquet files beside the table, `_lake/tombstones/<id>/`, all of them in each set. The set that counts is the
//! one that the version of the table's `txn` action `lake:tombstones:<table>` names, so it becomes valid in the same
//! commit as the rows. Other sets are of crashed runs, or old.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::{JoinType, NullEquality};
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;

use super::merge::Merge;
use super::read::{exact, named};
use super::stage::{Staged, write_beside};
use super::{Lake, Published, TableError};
use crate::exact_files::{ExactFiles, rows_of};
use crate::names::TableName;

/// The `txn` application of a table's tombstones. Its versions are names of folders below `_lake/tombstones`.
pub fn app_id(table: &TableName) -> String {
    format!("lake:tombstones:{table}")
}

fn folder(id: i64) -> Path {
    Path::from_iter(["_lake", "tombstones", &id.to_string()])
}

/// The columns of a tombstone: the key, and how new it is.
fn columns(merge: &Merge<'_>) -> Vec<String> {
    merge.key.iter().map(String::as_str).chain(merge.sequence_by).map(str::to_owned).collect()
}

fn schema(staged: &Staged, merge: &Merge<'_>) -> SchemaRef {
    let fields = columns(merge);
    let fields = fields.iter().filter_map(|name| staged.schema.field_with_name(name).ok());
    Arc::new(Schema::new(fields.cloned().collect::<Vec<Field>>()))
}

/// The tombstones of a published table; `None` if it has none, or needs none.
pub(super) async fn read(
    lake: &Lake,
    published: Option<&Published>,
    staged: &Staged,
    merge: &Merge<'_>,
) -> Result<Option<LogicalPlan>, TableError> {
    let (Some(published), Some(_), Some(_)) = (published, merge.sequence_by, merge.delete_when) else {
        return Ok(None);
    };
    let Some(id) = published.transaction(&app_id(&published.name)).await? else { return Ok(None) };
    let fail = |source| TableError::File { table: staged.name.clone(), path: folder(id).to_string(), source };
    let store = lake.files_of(&staged.name);
    let found: Vec<_> = store.list(Some(&folder(id))).try_collect().await.map_err(fail)?;
    if found.is_empty() {
        return Ok(None);
    }
    let files = found.into_iter().map(|mut meta| {
        meta.location = staged.place.join(&meta.location);
        PartitionedFile::new_from_meta(meta)
    });
    let schema = schema(staged, merge);
    let format = Arc::new(ParquetFormat::default());
    let table = ExactFiles::new(staged.place.store.clone(), format, Arc::clone(&schema), Vec::new(), files.collect());
    Ok(Some(rows_of(Arc::new(table), &schema)?))
}

/// Writes the set that is valid after a merge of `staged`, of whose rows those with `gone` are deletes: the old ones of
/// keys that got no row, and the new ones. Says which head the commit has to set.
pub(super) async fn write(
    lake: &Lake,
    old: Option<LogicalPlan>,
    staged: &Staged,
    gone: Expr,
    merge: &Merge<'_>,
    session: &SessionState,
) -> Result<HashMap<String, i64>, TableError> {
    if merge.sequence_by.is_none() {
        return Ok(HashMap::new());
    }
    let columns: Vec<Expr> = columns(merge).iter().map(|name| exact(name)).collect();
    let deleted = LogicalPlanBuilder::from(staged.rows_plan()?).filter(gone)?.project(columns)?.build()?;
    let all = match old {
        None => deleted,
        Some(old) => {
            let keys: Vec<Expr> = merge.key.iter().map(|name| exact(name)).collect();
            let new = LogicalPlanBuilder::from(staged.rows_plan()?).project(keys)?.build()?;
            let on = |table: &str| -> Vec<datafusion::common::Column> {
                merge.key.iter().map(|name| datafusion::common::Column::new(Some(table), name)).collect()
            };
            let kept = LogicalPlanBuilder::from(named(old, "old")?).join_detailed(
                named(new, "new")?,
                JoinType::LeftAnti,
                (on("old"), on("new")),
                None,
                NullEquality::NullEqualsNull,
            )?;
            kept.union(deleted)?.build()?
        }
    };
    let id = free_id(lake, staged).await?;
    write_beside(lake, &staged.name, &folder(id), all, &schema(staged, merge), session).await?;
    Ok([(app_id(&staged.name), id)].into())
}

/// An id that no set has, whatever the clock says.
async fn free_id(lake: &Lake, staged: &Staged) -> Result<i64, TableError> {
    let store = lake.files_of(&staged.name);
    let mut id = chrono::Utc::now().timestamp_micros();
    loop {
        let fail = |source| TableError::File { table: staged.name.clone(), path: folder(id).to_string(), source };
        if store.list(Some(&folder(id))).try_next().await.map_err(fail)?.is_none() {
            return Ok(id);
        }
        id += 1;
    }
}
