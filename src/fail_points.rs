//! Named moments at which a test kills the program: in debug builds only, so a release has none of it.

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Point {
        name: String,
        hits: AtomicU32,
        /// Sleeps there until it is woken, instead of dying.
        stops: bool,
    }

    static POINT: OnceLock<Point> = OnceLock::new();

    pub(super) fn arm(text: &str) {
        let (text, stops) = text.strip_prefix("stop ").map_or((text, false), |text| (text, true));
        let (name, hits) = text.split_once(':').unwrap_or((text, "1"));
        let hits = AtomicU32::new(hits.parse().unwrap_or(1));
        // Armed once, at the start of the program.
        let _ = POINT.set(Point { name: name.to_owned(), hits, stops });
    }

    pub(super) fn reached(point: &str) {
        let Some(armed) = POINT.get().filter(|armed| armed.name == point) else { return };
        if armed.hits.fetch_sub(1, Ordering::SeqCst) != 1 {
            return;
        }
        if !armed.stops {
            std::process::abort();
        }
        let own = std::process::id().to_string();
        let _ = std::process::Command::new("kill").args(["-STOP", &own]).status();
    }
}

/// Says where to die: `published`, or `published:3` for the third time; with `stop` before it, where to sleep until a
/// signal wakes it. Without effect in a release build.
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
