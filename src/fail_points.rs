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
        let refuses = text.split_once('!').map(|(name, hits)| (format!("{name}!"), hits));
        let (name, hits) = refuses.unwrap_or_else(|| {
            let (name, hits) = text.split_once(':').unwrap_or((text, "1"));
            (name.to_owned(), hits)
        });
        let hits = AtomicU32::new(hits.parse().unwrap_or(1));
        // Armed once, at the start of the program.
        let _ = POINT.set(Point { name, hits, stops });
    }

    pub(super) fn refuse(point: &str) -> std::io::Result<()> {
        let left = |left: u32| left.checked_sub(1);
        let armed = POINT.get().filter(|armed| armed.name.strip_suffix('!') == Some(point));
        match armed.map(|armed| armed.hits.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left)) {
            Some(Ok(_)) => Err(std::io::ErrorKind::ResourceBusy.into()),
            _ => Ok(()),
        }
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

/// A call of the storage: with `name!2` armed, the first two of that name fail as a busy storage would.
///
/// # Errors
/// As armed; never in a release build.
#[inline]
pub fn refuse(point: &str) -> std::io::Result<()> {
    #[cfg(debug_assertions)]
    return armed::refuse(point);
    #[cfg(not(debug_assertions))]
    {
        let _ = point;
        Ok(())
    }
}

/// A moment of the ingest path; the program may end here as if it were killed.
#[inline]
pub fn reached(point: &str) {
    #[cfg(debug_assertions)]
    armed::reached(point);
    #[cfg(not(debug_assertions))]
    let _ = point;
}
