//! Faults of storage, for tests: in debug builds only, so a release has none of it.
//!
//! `LAKE_FAULTS` is a list of `operation kind part-of-path count`, with `;` between them: `put lost _delta_log 1` stores the
//! first file whose path has `_delta_log` in it and says that it failed; `get error parquet 2` fails the first two reads of
//! Parquet files; `list slow . 3` lets the first three lists take a while. `random seed share` fails one request of `share`, by chance,
//! before or after it did what was asked for.

use std::sync::Arc;

use object_store::ObjectStore;

/// Says what is to fail. Without effect in a release build.
pub fn arm(text: &str) {
    #[cfg(debug_assertions)]
    armed::arm(text);
    #[cfg(not(debug_assertions))]
    let _ = text;
}

/// A store with the faults that were asked for.
pub(super) fn wrapped(files: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
    #[cfg(debug_assertions)]
    return armed::wrapped(files);
    #[cfg(not(debug_assertions))]
    files
}

#[cfg(debug_assertions)]
mod armed {
    use std::fmt;
    use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    use std::sync::{Arc, OnceLock};
    use std::time::Duration;

    use async_trait::async_trait;
    use futures::StreamExt;
    use futures::stream::BoxStream;
    use object_store::path::Path;
    use object_store::{
        CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
        PutOptions, PutPayload, PutResult, Result,
    };

    /// How long a slow request takes.
    const SLOW: Duration = Duration::from_millis(300);

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Kind {
        Error,
        Lost,
        Slow,
    }

    #[derive(Debug)]
    struct Fault {
        operation: String,
        kind: Kind,
        part: String,
        left: AtomicU32,
    }

    #[derive(Debug, Default)]
    struct Plan {
        faults: Vec<Fault>,
        /// One of so many requests fails.
        share: Option<u64>,
        state: AtomicU64,
    }

    static PLAN: OnceLock<Plan> = OnceLock::new();

    pub(super) fn arm(text: &str) {
        let mut plan = Plan::default();
        for line in text.split(';') {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["random", seed, share] => {
                    plan.share = share.parse().ok();
                    plan.state = AtomicU64::new(seed.parse().unwrap_or_default());
                }
                [operation, kind, part, count] => {
                    let kind = match *kind {
                        "lost" => Kind::Lost,
                        "slow" => Kind::Slow,
                        _ => Kind::Error,
                    };
                    let (operation, part) = ((*operation).to_owned(), (*part).to_owned());
                    plan.faults.push(Fault { operation, kind, part, left: AtomicU32::new(count.parse().unwrap_or(1)) });
                }
                _ => {}
            }
        }
        // Armed once, at the start of the program.
        let _ = PLAN.set(plan);
    }

    pub(super) fn wrapped(files: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        match PLAN.get() {
            Some(plan) => Arc::new(Faulty { files, plan }),
            None => files,
        }
    }

    impl Plan {
        fn fault(&self, operation: &str, location: Option<&Path>) -> Option<Kind> {
            let path = location.map_or("", |location| location.as_ref());
            for fault in &self.faults {
                let part = if fault.part == "." { "" } else { &fault.part };
                let is_meant = fault.operation == operation && path.contains(part);
                if is_meant
                    && fault.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
                {
                    return Some(fault.kind);
                }
            }
            let share = self.share?;
            let chance = crate::session::mix(self.state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst));
            chance.is_multiple_of(share).then_some(if (chance >> 32).is_multiple_of(2) {
                Kind::Error
            } else {
                Kind::Lost
            })
        }
    }

    fn failed(operation: &str, location: Option<&Path>) -> object_store::Error {
        let path = location.map(ToString::to_string).unwrap_or_default();
        let source = std::io::Error::new(
            std::io::ErrorKind::ConnectionReset,
            format!("{operation} `{path}`: a fault of the test"),
        );
        object_store::Error::Generic { store: "faulty", source: Box::new(source) }
    }

    #[derive(Debug)]
    struct Faulty {
        files: Arc<dyn ObjectStore>,
        plan: &'static Plan,
    }

    impl Faulty {
        /// Runs a request, or fails before or after it.
        async fn run<T>(
            &self,
            operation: &str,
            location: Option<&Path>,
            request: impl Future<Output = Result<T>>,
        ) -> Result<T> {
            match self.plan.fault(operation, location) {
                Some(Kind::Error) => Err(failed(operation, location)),
                Some(Kind::Lost) => {
                    request.await?;
                    Err(failed(operation, location))
                }
                Some(Kind::Slow) => {
                    tokio::time::sleep(SLOW).await;
                    request.await
                }
                None => request.await,
            }
        }
    }

    impl fmt::Display for Faulty {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.files.fmt(f)
        }
    }

    #[async_trait]
    impl ObjectStore for Faulty {
        async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
            self.run("put", Some(location), self.files.put_opts(location, payload, opts)).await
        }

        async fn put_multipart_opts(
            &self,
            location: &Path,
            opts: PutMultipartOptions,
        ) -> Result<Box<dyn MultipartUpload>> {
            self.run("put", Some(location), self.files.put_multipart_opts(location, opts)).await
        }

        async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
            self.run("get", Some(location), self.files.get_opts(location, options)).await
        }

        fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
            self.files.delete_stream(locations)
        }

        fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
            match self.plan.fault("list", prefix) {
                Some(Kind::Error | Kind::Lost) => futures::stream::iter([Err(failed("list", prefix))]).boxed(),
                _ => self.files.list(prefix),
            }
        }

        fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
            match self.plan.fault("list", prefix) {
                Some(Kind::Error | Kind::Lost) => futures::stream::iter([Err(failed("list", prefix))]).boxed(),
                _ => self.files.list_with_offset(prefix, offset),
            }
        }

        async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
            self.run("list", prefix, self.files.list_with_delimiter(prefix)).await
        }

        async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
            self.run("copy", Some(to), self.files.copy_opts(from, to, options)).await
        }
    }
}
