//! Named moments at which a test kills the program: in debug builds only, so a release has none of it.

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static POINT: OnceLock<(String, AtomicU32)> = OnceLock::new();

    pub(super) fn arm(text: &str) {
        let (name, hits) = text.split_once(':').unwrap_or((text, "1"));
        // Armed once, at the start of the program.
        let _ = POINT.set((name.to_owned(), AtomicU32::new(hits.parse().unwrap_or(1))));
    }

    pub(super) fn reached(point: &str) {
        if let Some((name, hits)) = POINT.get()
            && name == point
            && hits.fetch_sub(1, Ordering::SeqCst) == 1
        {
            std::process::abort();
        }
    }
}

/// Says where to die: `published`, or `published:3` for the third time. Without effect in a release build.
pub fn arm(text: &str) {
    #[cfg(debug_assertions)]
    armed::arm(text);
    #[cfg(not(debug_assertions))]
    let _ = text;
}

/// A moment of the ingest path; the program may end here as if it were killed.
#[inline]
pub fn reached(point: &str) {
    #[cfg(debug_assertions)]
    armed::reached(point);
    #[cfg(not(debug_assertions))]
    let _ = point;
}
