//! After the load: files that every table has taken in move to the archive of their source.
//!
//! A move is one rename, and what is to be moved follows from the manifests alone: a crash between two moves leaves
//! the rest for the next run. A file keeps its modification time, and goes by its old path in every listing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use object_store::ObjectStoreExt;
use object_store::local::LocalFileSystem;

use super::{BronzeError, BronzeFile};
use crate::fail_points;
use crate::names::TableName;

/// Below the archive: files that a newer delivery of the same name took the place of. Not listed.
const REPLACED: &str = "_replaced";

/// Moves files to the folder `to` below the one that they are listed in, and returns how many.
///
/// # Errors
/// The first file that cannot be moved; those before it have been.
pub fn archive(source: &TableName, files: &[&BronzeFile], to: &str, folder: &Path) -> Result<usize, BronzeError> {
    for (done, file) in files.iter().enumerate() {
        let bad = |error: io::Error| BronzeError::Archive {
            source_name: source.clone(),
            file: file.shown(folder),
            why: format!("{error} ({done} of {} were moved)", files.len()),
        };
        move_one(file, to).map_err(bad)?;
        fail_points::reached("archived");
    }
    Ok(files.len())
}

/// Whether any file is no longer where it was listed.
pub async fn any_missing(files: &[BronzeFile]) -> bool {
    for file in files.iter().filter(|file| file.records.is_none()) {
        if matches!(file.store.files().head(&file.stored().location).await, Err(object_store::Error::NotFound { .. })) {
            return true;
        }
    }
    false
}

fn move_one(file: &BronzeFile, to: &str) -> io::Result<()> {
    let from = LocalFileSystem::new().path_to_filesystem(&file.meta.location)?;
    let now = match fs::metadata(&from) {
        Ok(now) => now,
        // Another run was faster.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    // A new delivery under the name of one that was taken in: it waits for the next run.
    if now.len() != file.meta.size || now.modified()? != SystemTime::from(file.meta.last_modified) {
        return Ok(());
    }
    // As many names as the path has, counted from the end, lead from the source's folder to the file.
    let depth = file.path.split('/').count();
    let base = from.ancestors().nth(depth).ok_or_else(|| io::Error::other("it is not below its source's folder"))?;
    let below = from.strip_prefix(base).map_err(io::Error::other)?;
    let target = base.join(to).join(below);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    put_aside(&target, &base.join(to), below, &now)?;
    match rename(&from, &target, now.modified()?) {
        // Another run was faster, between the two looks.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !from.exists() => Ok(()),
        other => other,
    }
}

/// What already has this name in the archive came from an older delivery: it gets a second name, and loses its first one
/// when the new file is put there. So of two runs at the same time neither can take the new file for the old one.
fn put_aside(target: &Path, archive: &Path, below: &Path, new: &fs::Metadata) -> io::Result<()> {
    let Ok(old) = fs::metadata(target) else { return Ok(()) };
    if old.len() == new.len() && old.modified()? == new.modified()? {
        return Ok(());
    }
    let age = old.modified()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut name = below.as_os_str().to_owned();
    name.push(format!(".{}", age.as_micros()));
    let aside = archive.join(REPLACED).join(PathBuf::from(name));
    if let Some(parent) = aside.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::hard_link(target, &aside) {
        // Another run, or one that ended before its rename, did it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // A file system without links.
        Err(error) if error.kind() != io::ErrorKind::NotFound && !aside.exists() => fs::rename(target, aside),
        other => other,
    }
}

/// A rename, or where the archive is another disk: a copy that appears whole, and then the removal.
fn rename(from: &Path, target: &Path, modified: SystemTime) -> io::Result<()> {
    match fs::rename(from, target) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let hidden = target.with_file_name(format!(".{name}.{}", std::process::id()));
            fs::copy(from, &hidden)?;
            let copy = fs::File::options().write(true).open(&hidden)?;
            copy.set_modified(modified)?;
            copy.sync_all()?;
            fs::rename(&hidden, target)?;
            fs::remove_file(from)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::Store;
    use object_store::path::Path as StorePath;

    #[test]
    fn an_archived_file_keeps_its_time_and_the_older_one_of_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in/a b/1.csv");
        let archived = folder.path().join("in/done/a b/1.csv");
        for (day, text) in ["old", "newer"].into_iter().enumerate() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            let modified = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000 + day as u64);
            fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
            let meta = object_store::ObjectMeta {
                location: StorePath::from_absolute_path(&path).unwrap(),
                last_modified: modified.into(),
                size: text.len() as u64,
                e_tag: None,
                version: None,
            };
            let file = BronzeFile::new("a b/1.csv".to_owned(), Store::local(), meta);
            let source = TableName::new("raw", "items");
            assert_eq!(archive(&source, &[&file], "done", folder.path()).unwrap(), 1);
            // Once more, as after a crash: there is nothing left to do.
            assert_eq!(archive(&source, &[&file], "done", folder.path()).unwrap(), 1);
            assert_eq!(fs::read_to_string(&archived).unwrap(), text);
            assert_eq!(fs::metadata(&archived).unwrap().modified().unwrap(), modified);
            assert!(!path.exists());
        }
        let aside = folder.path().join("in/done/_replaced/a b/1.csv.1700000000000000");
        assert_eq!(fs::read_to_string(aside).unwrap(), "old");
    }
}
