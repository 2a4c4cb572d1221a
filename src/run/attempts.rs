//! How often a node is tried, and for how long: again after another writer was faster or after storage failed in a way
//! that passes, with pauses that grow; never again after an error of the data.

use std::error::Error;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::materialize::Failure;

/// How often a node starts again after another run was faster.
const CONFLICTS: u32 = 3;

/// The first pause after each kind of failure, and the longest of all.
const AFTER_CONFLICT: Duration = Duration::from_millis(20);
const AFTER_STORAGE: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(20);

/// How often a node whose time is up is asked whether its publish is over.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What is left of a node's attempts and time.
pub(super) struct Patience {
    conflicts: u32,
    failures: u32,
    retries: u32,
    timeout: Option<(Instant, u64)>,
    /// The node is about to commit: it is no longer stopped.
    pub(super) publishing: Arc<AtomicBool>,
}

impl Patience {
    pub(super) fn new(retries: u32, timeout: Option<u64>) -> Self {
        let timeout = timeout.map(|seconds| (Instant::now() + Duration::from_secs(seconds), seconds));
        Self { conflicts: 0, failures: 0, retries, timeout, publishing: Arc::default() }
    }

    /// One attempt, ended when the time is up, unless it is publishing by then: half of a publish is no failure.
    pub(super) async fn limit<T>(&self, attempt: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let Some((deadline, seconds)) = self.timeout else { return attempt.await };
        self.publishing.store(false, Ordering::SeqCst);
        let mut attempt = std::pin::pin!(attempt);
        tokio::select! {
            outcome = &mut attempt => outcome,
            () = tokio::time::sleep_until(deadline) => loop {
                if !self.publishing.load(Ordering::SeqCst) {
                    let after = length(seconds);
                    break Err(Failure::text(format!("it took longer than its `timeout` of {after}")));
                }
                tokio::select! {
                    outcome = &mut attempt => break outcome,
                    () = tokio::time::sleep(LOOK_AGAIN) => {}
                }
            }
        }
    }

    /// Whether to try again after a failure; if so, the pause is over.
    pub(super) async fn again(&mut self, failure: &Failure) -> bool {
        let (count, most, first) = if failure.is_conflict() {
            (&mut self.conflicts, CONFLICTS, AFTER_CONFLICT)
        } else if failure.is_transient() {
            (&mut self.failures, self.retries, AFTER_STORAGE)
        } else {
            return false;
        };
        if *count >= most {
            return false;
        }
        let pause = (first * 2u32.saturating_pow(*count)).min(LONGEST);
        *count += 1;
        tracing::warn!("{failure}: tried again, {count} of {most}");
        tokio::time::sleep(jittered(pause)).await;
        true
    }

    /// A batch is published: the next one is a new matter.
    pub(super) fn renew(&mut self) {
        (self.conflicts, self.failures) = (0, 0);
    }
}

/// Between half of a pause and all of it, so that two writers do not meet again.
fn jittered(pause: Duration) -> Duration {
    let random = u32::from_le_bytes(uuid::Uuid::new_v4().as_bytes()[..4].try_into().unwrap_or_default());
    pause / 2 + (pause / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// `600` -> `10m`.
fn length(seconds: u64) -> String {
    match seconds {
        s if s % 3600 == 0 => format!("{}h", s / 3600),
        s if s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

impl Failure {
    /// Another writer was faster.
    pub(super) fn is_conflict(&self) -> bool {
        use crate::bronze::BronzeError;
        use crate::tables::TableError;
        matches!(self, Self::Table(TableError::Conflict { .. }) | Self::Bronze(BronzeError::BatchExists { .. }))
    }

    /// The storage failed in a way that passes: it was busy, or could not be reached. What is wrong with data, a query, a
    /// permission or a full disk is so the next time, too.
    pub(super) fn is_transient(&self) -> bool {
        let mut next: Option<&(dyn Error + 'static)> = Some(self);
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<io::Error>()
                && passes(error)
            {
                return true;
            }
            next = error.source().or_else(|| inner(error));
        }
        false
    }
}

/// What an error of input or output wraps, which `source` passes over.
fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let inner = error.downcast_ref::<io::Error>()?.get_ref()?;
    Some(inner)
}

fn passes(error: &io::Error) -> bool {
    /// Too many open files, of the process and of the machine: the same numbers on Linux, macOS and BSD.
    const OPEN_FILES: [i32; 2] = [24, 23];
    error.raw_os_error().is_some_and(|code| OPEN_FILES.contains(&code))
        || matches!(
            error.kind(),
            ErrorKind::Interrupted
                | ErrorKind::WouldBlock
                | ErrorKind::TimedOut
                | ErrorKind::ResourceBusy
                | ErrorKind::StaleNetworkFileHandle
                | ErrorKind::ConnectionRefused
                | ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::NotConnected
                | ErrorKind::BrokenPipe
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::NetworkDown
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::TableName;
    use crate::tables::TableError;
    use datafusion::error::DataFusionError;

    fn storage(kind: ErrorKind) -> object_store::Error {
        object_store::Error::Generic { store: "test", source: Box::new(io::Error::from(kind)) }
    }

    #[test]
    fn only_what_passes_is_tried_again() {
        let file = |kind| {
            let (table, path) = (TableName::new("silver", "t"), "a".to_owned());
            Failure::Table(TableError::File { table, path, source: storage(kind) })
        };
        let query = |kind| Failure::from(DataFusionError::ObjectStore(Box::new(storage(kind))));
        let wrapped = |kind| Failure::from(DataFusionError::IoError(io::Error::other(io::Error::from(kind))));
        for kind in [ErrorKind::TimedOut, ErrorKind::ResourceBusy, ErrorKind::ConnectionReset] {
            assert!(file(kind).is_transient() && query(kind).is_transient() && wrapped(kind).is_transient(), "{kind}");
        }
        for kind in [ErrorKind::PermissionDenied, ErrorKind::StorageFull, ErrorKind::NotFound, ErrorKind::InvalidData] {
            assert!(
                !file(kind).is_transient() && !query(kind).is_transient() && !wrapped(kind).is_transient(),
                "{kind}"
            );
        }
        assert!(!Failure::text("timed out".to_owned()).is_transient(), "words are no proof");
        let failure = Failure::from(DataFusionError::IoError(io::Error::from_raw_os_error(24)));
        assert!(failure.is_transient());
    }
}
