//! Where queries put what memory has no room for: a folder that goes with its process, also with one that was killed.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use datafusion::execution::session_state::SessionState;

/// What the names of these folders begin with.
const PREFIX: &str = "lake-spill-";

/// Locked as long as the process lives. It takes this name when it is locked, so no folder is taken for a dead one's on its way.
const LOCK: &str = "lock";

/// A folder of which nobody knows whose it is, because its process ended before it had a lock.
const ABANDONED: Duration = Duration::from_hours(24);

/// A folder of this process, below the one for temporary files.
pub(super) struct SpillFolder {
    path: PathBuf,
    /// The system takes the lock away when the process ends, in whatever way.
    _lock: File,
}

impl SpillFolder {
    /// Makes a folder, and takes those away whose processes are gone.
    ///
    /// # Errors
    /// When nothing can be written there.
    pub(super) fn below(home: &Path) -> io::Result<Self> {
        sweep(home);
        let path = home.join(format!("{PREFIX}{}", uuid::Uuid::new_v4().simple()));
        // What is spilled are rows: they are for nobody else.
        DirBuilder::new().mode(0o700).create(&path)?;
        let unlocked = path.join("unlocked");
        let lock = File::create_new(&unlocked)?;
        lock.lock()?;
        fs::rename(unlocked, path.join(LOCK))?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn remove(&self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Takes away what a session has spilled, where the process is about to end without taking the session apart.
pub fn leave(session: &SessionState) {
    if let Some(folder) = session.config().get_extension::<SpillFolder>() {
        folder.remove();
    }
}

impl Drop for SpillFolder {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Takes folders of dead processes away. What cannot be looked at is somebody else's.
fn sweep(home: &Path) {
    let Ok(entries) = fs::read_dir(home) else { return };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        // A link is no folder of this program's.
        if is_ours && entry.file_type().is_ok_and(|kind| kind.is_dir()) && is_dead(&entry.path()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_dead(folder: &Path) -> bool {
    match File::open(folder.join(LOCK)) {
        Ok(lock) => lock.try_lock().is_ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let age = fs::metadata(folder).and_then(|metadata| metadata.modified()).map(|time| time.elapsed());
            age.is_ok_and(|age| age.is_ok_and(|age| age > ABANDONED))
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_dead_processes_go_and_others_stay() {
        let home = tempfile::tempdir().unwrap();
        let alive = SpillFolder::below(home.path()).unwrap();
        let folder = |name: &str| {
            let path = home.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let (dead, on_its_way, other) = (folder("lake-spill-dead"), folder("lake-spill-new"), folder("somebody's"));
        fs::write(dead.join(LOCK), "").unwrap();
        fs::write(dead.join("rows"), "much").unwrap();
        fs::write(other.join(LOCK), "").unwrap();
        let old = folder("lake-spill-old");
        File::open(&old).unwrap().set_modified(std::time::SystemTime::now() - 2 * ABANDONED).unwrap();
        let next = SpillFolder::below(home.path()).unwrap();
        assert!(next.path().exists());
        assert!(!dead.exists() && !old.exists());
        assert!(alive.path().join(LOCK).exists() && on_its_way.exists() && other.exists());
        let path = alive.path().to_owned();
        drop(alive);
        assert!(!path.exists());
    }
}
