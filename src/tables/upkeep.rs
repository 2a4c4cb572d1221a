//! Commits that change no row: what they leave as it was is told in words that the next build understands.

use deltalake::kernel::transaction::CommitBuilder;
use deltalake::kernel::{Action, Add};
use deltalake::protocol::DeltaOperation;

use super::publish::{once, settled};
use super::{Lake, Published, ROWS_SINCE, STATE_KEY, TableError};

/// One commit on top of `published` with the state of that version: for every reader the rows are what they were, so
/// nothing is built again for it. `adds` are taken away if they will never be published.
///
/// # Errors
/// [`TableError::Conflict`] when another writer was faster; otherwise the storage's error.
pub(super) async fn commit_upkeep(
    lake: &Lake,
    published: &Published,
    actions: Vec<Action>,
    operation: DeltaOperation,
    adds: &[Add],
) -> Result<Published, TableError> {
    let fail = |source| TableError::Delta { table: published.name.clone(), source };
    let id = uuid::Uuid::new_v4().to_string();
    // A version that `lake` did not write is not made one that it did.
    let state = published.said.clone().map(|mut said| {
        said["commit_id"] = id.clone().into();
        said[ROWS_SINCE] = published.rows_since().into();
        (STATE_KEY.to_owned(), said)
    });
    let properties = once().with_metadata(state.into_iter().chain([("lakeUpkeep".to_owned(), id.clone().into())]));
    let snapshot = published.table.snapshot().map_err(fail)?;
    let committed = CommitBuilder::from(properties)
        .with_actions(actions)
        .build(Some(snapshot.snapshot()), published.table.log_store(), operation)
        .await;
    let committed = committed.map(|_| ()).map_err(fail);
    settled(lake, (&published.name, published.version() + 1), &id, committed, adds).await
}
