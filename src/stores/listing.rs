//! Everything below a folder of a bucket, with several requests at once where there is much.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, Result};

use super::Store;

/// What one request lists, of most stores.
const PAGE: usize = 1_000;
/// Folders that are listed each by itself: more of them are more requests than the whole has pages.
const FOLDERS: usize = 256;
/// Requests under way.
const AT_ONCE: usize = 16;

/// Lists all files below a folder, or those whose paths sort after `offset`, in no order. Where there are more than one
/// request tells, the folders below are listed side by side.
///
/// # Errors
/// Those of the store.
pub async fn list_all(store: &Store, root: &Path, offset: Option<&Path>) -> Result<Vec<ObjectMeta>> {
    let files = store.files();
    let mut stream = match offset {
        Some(offset) => files.list_with_offset(Some(root), offset),
        None => files.list(Some(root)),
    }
    .fuse();
    let mut found: Vec<ObjectMeta> = stream.by_ref().take(PAGE).try_collect().await?;
    if found.len() < PAGE || store.is_local() {
        found.extend(stream.try_collect::<Vec<_>>().await?);
        return Ok(found);
    }
    let folders = files.list_with_delimiter(Some(root)).await?;
    if folders.common_prefixes.len() < 2 || folders.common_prefixes.len() > FOLDERS {
        found.extend(stream.try_collect::<Vec<_>>().await?);
        return Ok(found);
    }
    drop(stream);
    let is_wanted = |file: &ObjectMeta| offset.is_none_or(|offset| file.location > *offset);
    let mut found: Vec<ObjectMeta> = folders.objects.into_iter().filter(is_wanted).collect();
    let each: Vec<_> =
        folders.common_prefixes.into_iter().map(|folder| below(Arc::clone(files), folder, offset.cloned())).collect();
    let parts: Vec<Vec<ObjectMeta>> = futures::stream::iter(each).buffer_unordered(AT_ONCE).try_collect().await?;
    found.extend(parts.into_iter().flatten());
    Ok(found)
}

async fn below(files: Arc<dyn ObjectStore>, folder: Path, offset: Option<Path>) -> Result<Vec<ObjectMeta>> {
    let found = match offset {
        // The offset is in the folder, or after all of it.
        Some(offset) if format!("{folder}/").as_str() <= offset.as_ref() => {
            files.list_with_offset(Some(&folder), &offset)
        }
        _ => files.list(Some(&folder)),
    };
    found.try_collect().await
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use object_store::memory::InMemory;
    use object_store::{ObjectStoreExt, PutPayload};

    use super::*;
    use crate::stores::tests::store_of;

    #[tokio::test]
    async fn folders_listed_side_by_side_are_the_whole() {
        let files: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let mut all = BTreeSet::new();
        for at in 0..3 * PAGE {
            let path = Path::from(format!("in/day={:02}/{at:05}.csv", at % 7));
            all.insert(path.to_string());
            files.put(&path, PutPayload::from_static(b"x")).await.unwrap();
        }
        for path in ["in/a.csv", "in/zz.csv"] {
            all.insert(path.to_owned());
            files.put(&Path::from(path), PutPayload::from_static(b"x")).await.unwrap();
        }
        let store = store_of(files);
        let names =
            |found: Vec<ObjectMeta>| found.into_iter().map(|file| file.location.to_string()).collect::<BTreeSet<_>>();
        let listed = list_all(&store, &Path::from("in"), None).await.unwrap();
        assert_eq!(listed.len(), all.len());
        assert_eq!(names(listed), all);
        let offset = Path::from("in/day=03/01000.csv");
        let after = names(list_all(&store, &Path::from("in"), Some(&offset)).await.unwrap());
        assert_eq!(after, all.into_iter().filter(|path| path.as_str() > offset.as_ref()).collect());
    }
}
