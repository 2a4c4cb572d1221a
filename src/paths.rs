//! Paths: absolute and without dots, so that stores accept them and messages are short.

use std::io;
use std::path::{Component, Path, PathBuf};

/// `path` below `base`, absolute, with `.` and `..` resolved by name: the file system is not asked.
///
/// # Errors
/// When the current folder is not known.
pub fn absolute(base: &Path, path: impl AsRef<Path>) -> io::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for part in std::path::absolute(base.join(path))?.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_resolved() {
        let base = Path::new("/a/b");
        assert_eq!(absolute(base, "./c/../d/").unwrap(), Path::new("/a/b/d"));
        assert_eq!(absolute(base, "../../../x").unwrap(), Path::new("/x"));
        assert_eq!(absolute(base, "/y").unwrap(), Path::new("/y"));
    }
}
