//! The pages of docs/reference/ are what the program prints of itself.

use std::path::Path;

use crate::sandbox::Sandbox;

#[track_caller]
fn assert_fresh(page: &str) {
    let fresh = Sandbox::empty().ok(&["reference", page]);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/reference/{page}.md"));
    if std::env::var("LAKE_GUIDE").is_ok_and(|value| value == "write") {
        std::fs::write(&path, fresh).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let differ = committed.lines().zip(fresh.lines()).find(|(old, new)| old != new);
    assert!(
        committed == fresh,
        "{} is not what the program says of itself: {differ:?}\nmake it again: LAKE_GUIDE=write cargo test --locked --test it reference::",
        path.display()
    );
}

#[test]
fn commands() {
    assert_fresh("commands");
}

#[test]
fn yaml() {
    assert_fresh("yaml");
}
