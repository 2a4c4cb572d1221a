//! Named moments at which a test kills the program: in debug builds only, so a release has none of it.

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static POINT: OnceLock<(String, AtomicU32)> = OnceLock::new();

    pub(super) fn arm(text: &str) {
        let refuses = text.split_once('!').map(|(name, hits)| (format!("{name}!"), hits));
        let (name, hits) = refuses.unwrap_or_else(|| {
            let (name, hits) = text.split_once(':').unwrap_or((text, "1"));
            (name.to_owned(), hits)
        });
        // Armed once, at the start of the program.
        let _ = POINT.set((name, AtomicU32::new(hits.parse().unwrap_or(1))));
    }

    pub(super) fn refuse(point: &str) -> std::io::Result<()> {
        let left = |left: u32| left.checked_sub(1);
        let armed = POINT.get().filter(|(name, _)| name.strip_suffix('!') == Some(point));
        match armed.map(|(_, hits)| hits.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left)) {
            Some(Ok(_)) => Err(std::io::ErrorKind::ResourceBusy.into()),
            _ => Ok(()),
        }
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
