//! Stores: where files are, on this machine or in a bucket, and how to reach them.
//!
//! A lake root and the sources of a project are addresses; [`Store::open`] makes of one what reads and writes there. Whoever
//! holds a [`Store`] need not know of which kind it is, apart from what only folders can do.

mod aws;
mod counted;
mod faults;
mod lease;
mod listing;
mod options;
mod post;
mod presence;
mod probe;
mod remote_file;
mod replace;
mod uploads;
mod written;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path as FilePath;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ClientConfigKey, ObjectMeta, ObjectStore, ObjectStoreScheme};
use url::Url;

use crate::paths;

pub use counted::counted;
pub use faults::arm as arm_faults;
pub use lease::Lease;
pub use listing::list_all;
use options::Own;
pub use options::{StorageOptions, may_hold_a_secret, unknown_option};
pub use post::post;
pub use presence::{if_there, read_if_there};
pub use probe::{Refused, check_conditional_put};
use remote_file::RemoteFile;
pub use replace::{look, replacing, stamp};
use uploads::aborted;
pub use uploads::settled;

/// A request that takes longer than this is tried again: a part of an upload has ten megabytes.
const TIMEOUT: &str = "120s";
/// How long to wait for an answer to a new connection.
const CONNECT_TIMEOUT: &str = "10s";
/// How often, and for how long, a request is tried again.
const RETRIES: usize = 8;
const RETRY_TIMEOUT: Duration = Duration::from_secs(90);

/// A place that cannot be used: its address, and why.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{why}")]
pub struct StoreError {
    why: String,
}

impl StoreError {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into() }
    }
}

/// A file that is read from any place.
pub trait OpenFile: Read + Seek + Send {}

impl<T: Read + Seek + Send> OpenFile for T {}

/// Where files are, and how to reach them; cheap to clone.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// What queries know it by: the same only for the same place with the same options.
    address: ObjectStoreUrl,
    /// What stands before a path, for people: nothing for this machine.
    shown: Option<String>,
    files: Arc<dyn ObjectStore>,
    /// How paths are made of addresses, and which requests are cheap.
    scheme: Scheme,
}

/// The kinds of stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Local,
    S3,
    Azure,
    Gcs,
}

/// A folder of a store.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// The store.
    pub store: Store,
    /// The folder.
    pub path: Path,
}

impl Place {
    /// The files below it, as if it were a store of its own.
    pub fn files(&self) -> Arc<dyn ObjectStore> {
        Arc::new(PrefixStore::new(Arc::clone(self.store.files()), self.path.clone()))
    }

    /// A file or folder below it, by the names on the way there.
    pub fn join(&self, below: &Path) -> Path {
        below.parts().fold(self.path.clone(), |path, part| path.join(part))
    }

    /// Its address, with a `/` at its end.
    pub fn url(&self) -> Option<Url> {
        let base = self.store.0.shown.as_deref().unwrap_or("file://");
        let mut url = Url::parse(&format!("{base}/")).ok()?;
        url.path_segments_mut().ok()?.clear().extend(self.path.parts().map(|part| part.as_ref().to_owned())).push("");
        Some(url)
    }
}

impl PartialEq for Store {
    fn eq(&self, other: &Self) -> bool {
        self.0.address == other.0.address
    }
}

impl Store {
    /// The disks of this machine.
    pub fn local() -> Self {
        static LOCAL: LazyLock<Store> = LazyLock::new(|| {
            Store(Arc::new(Inner {
                address: ObjectStoreUrl::local_filesystem(),
                shown: None,
                files: faults::wrapped(Arc::new(LocalFileSystem::new())),
                scheme: Scheme::Local,
            }))
        });
        LOCAL.clone()
    }

    /// The store of an address, and where in it the address leads. Stores are opened once: they hold connections.
    ///
    /// # Errors
    /// When the address is of no store that is known, carries a secret, or lacks what its store needs.
    pub fn open(url: &Url, options: &StorageOptions) -> Result<(Self, Path), StoreError> {
        static OPEN: LazyLock<Mutex<BTreeMap<String, Store>>> = LazyLock::new(Mutex::default);
        let path = || Path::from_url_path(url.path()).map_err(|error| StoreError::new(error.to_string()));
        let scheme = scheme_of(url)?;
        if scheme == Scheme::Local {
            return Ok((Self::local(), path()?));
        }
        if url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err(StoreError::new(
                "an address has no password and nothing after `?` or `#`: credentials come from the environment, or from \
                 `storage_options` with env_var()",
            ));
        }
        let base = url[..url::Position::BeforePath].to_owned();
        let key = format!("{base} {}", options.fingerprint());
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = open.get(&key) {
            return Ok((store.clone(), path()?));
        }
        let files = match scheme {
            Scheme::S3 => s3(url, options),
            Scheme::Azure => azure(url, options),
            _ => gcs(url, options),
        };
        let files = files.map_err(|error| StoreError::new(message(&error)))?;
        let id = &blake3::hash(key.as_bytes()).to_hex()[..12];
        let address = ObjectStoreUrl::parse(format!("store-{id}://{}", url.host_str().unwrap_or("none")));
        let address = address.map_err(|error| StoreError::new(error.to_string()))?;
        let files = faults::wrapped(aborted(files));
        let store = Self(Arc::new(Inner { address, shown: Some(base), files, scheme }));
        open.insert(key, store.clone());
        Ok((store, path()?))
    }

    /// The store of a folder, file or pattern as users write it, and the path there: an address, or a path below `folder`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn find(text: &str, folder: &FilePath, options: &StorageOptions) -> Result<(Self, Path), StoreError> {
        let text = text.strip_prefix("file://").unwrap_or(text);
        if !text.contains("://") {
            let path = paths::absolute(folder, text).map_err(|error| StoreError::new(error.to_string()))?;
            let path = Path::from_absolute_path(path).map_err(|error| StoreError::new(error.to_string()))?;
            return Ok((Self::local(), path));
        }
        let url = Url::parse(text).map_err(|error| StoreError::new(error.to_string()))?;
        Self::open(&url, options)
    }

    /// It is this machine.
    pub fn is_local(&self) -> bool {
        self.0.scheme == Scheme::Local
    }

    /// What reads and writes files there.
    pub fn files(&self) -> &Arc<dyn ObjectStore> {
        &self.0.files
    }

    /// What queries know it by.
    pub fn address(&self) -> ObjectStoreUrl {
        self.0.address.clone()
    }

    /// Makes it known to the queries of a session.
    pub fn register(&self, runtime: &RuntimeEnv) {
        runtime.register_object_store(self.0.address.as_ref(), Arc::clone(&self.0.files));
    }

    /// A file as users know it: relative to the project where it is inside, or an address.
    pub fn shown(&self, path: &str, folder: &FilePath) -> String {
        if let Some(base) = &self.0.shown {
            return format!("{base}/{}", path.trim_start_matches('/'));
        }
        let absolute = format!("/{}", path.trim_start_matches('/'));
        let relative = FilePath::new(&absolute).strip_prefix(folder).map(|p| p.display().to_string());
        relative.unwrap_or(absolute)
    }

    /// A file for readers that wait for their bytes. What is elsewhere is read a block at a time.
    ///
    /// # Errors
    /// When a file of this machine cannot be opened.
    pub fn reader(&self, file: &ObjectMeta) -> io::Result<Box<dyn OpenFile>> {
        if self.is_local() {
            return Ok(Box::new(File::open(LocalFileSystem::new().path_to_filesystem(&file.location)?)?));
        }
        Ok(Box::new(RemoteFile::new(Arc::clone(&self.0.files), file.clone())))
    }
}

fn scheme_of(url: &Url) -> Result<Scheme, StoreError> {
    let unknown = || {
        StoreError::new(format!(
            "`{}://` is no store that is known: use a folder, file://, s3://, az://, abfss:// or gs://",
            url.scheme()
        ))
    };
    if matches!(url.scheme(), "http" | "https" | "memory") {
        return Err(unknown());
    }
    match ObjectStoreScheme::parse(url) {
        Ok((ObjectStoreScheme::Local, _)) => Ok(Scheme::Local),
        Ok((ObjectStoreScheme::AmazonS3, _)) => Ok(Scheme::S3),
        Ok((ObjectStoreScheme::MicrosoftAzure, _)) => Ok(Scheme::Azure),
        Ok((ObjectStoreScheme::GoogleCloudStorage, _)) => Ok(Scheme::Gcs),
        _ => Err(unknown()),
    }
}

/// An address without what nobody may read: a password before its host, and what stands after `?`.
pub fn without_secret(address: &str) -> String {
    match Url::parse(address) {
        Ok(mut url) if url.password().is_some() || url.query().is_some() => {
            let _ = url.set_password(None);
            url.set_query(None);
            url.to_string()
        }
        _ => address.to_owned(),
    }
}

/// The error at the bottom of a chain of them.
fn deepest<'e>(error: &'e (dyn Error + 'static)) -> &'e (dyn Error + 'static) {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest
}

/// The words of a store's error that say what is wrong.
pub fn message(error: &(dyn Error + 'static)) -> String {
    let (top, root) = (error.to_string(), deepest(error).to_string());
    if top.contains(&root) { top } else { format!("{top}: {root}") }
}

/// What all clients have unless something else is asked for.
fn defaults() -> [(ClientConfigKey, &'static str); 2] {
    [(ClientConfigKey::Timeout, TIMEOUT), (ClientConfigKey::ConnectTimeout, CONNECT_TIMEOUT)]
}

/// A builder with what the environment says, then the options, then the defaults for what neither says.
macro_rules! configured {
    ($builder:ty, $key:ty, $url:expr, $options:expr) => {{
        let mut builder =
            <$builder>::from_env().with_url($url.as_str()).with_retry(Own::of($options).retry(RETRIES, RETRY_TIMEOUT));
        for (key, value) in $options.known::<$key>() {
            builder = builder.with_config(key, value);
        }
        for (key, value) in defaults() {
            let key = <$key>::Client(key);
            if builder.get_config_value(&key).is_none() {
                builder = builder.with_config(key, value);
            }
        }
        builder
    }};
}

fn s3(url: &Url, options: &StorageOptions) -> object_store::Result<Arc<dyn ObjectStore>> {
    let own = Own::of(options);
    let mut builder = configured!(AmazonS3Builder, AmazonS3ConfigKey, url, options);
    let has = |builder: &AmazonS3Builder, key| builder.get_config_value(&key).is_some();
    let is_anonymous = builder.get_config_value(&AmazonS3ConfigKey::SkipSignature).is_some_and(|skip| skip == "true");
    if !is_anonymous && !has(&builder, AmazonS3ConfigKey::AccessKeyId) {
        builder = builder.with_credentials(Arc::new(aws::Chain::new(own.profile())));
    }
    let has_region = has(&builder, AmazonS3ConfigKey::Region) || has(&builder, AmazonS3ConfigKey::DefaultRegion);
    if !has_region
        && !has(&builder, AmazonS3ConfigKey::Endpoint)
        && let Some(region) = aws::region(own.profile())
    {
        builder = builder.with_region(region);
    }
    Ok(Arc::new(builder.build()?))
}

fn azure(url: &Url, options: &StorageOptions) -> object_store::Result<Arc<dyn ObjectStore>> {
    Ok(Arc::new(configured!(MicrosoftAzureBuilder, AzureConfigKey, url, options).build()?))
}

fn gcs(url: &Url, options: &StorageOptions) -> object_store::Result<Arc<dyn ObjectStore>> {
    Ok(Arc::new(configured!(GoogleCloudStorageBuilder, GoogleConfigKey, url, options).build()?))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A bucket that is given.
    pub(crate) fn store_of(files: Arc<dyn ObjectStore>) -> Store {
        let address = ObjectStoreUrl::parse("store-test://bucket").unwrap();
        Store(Arc::new(Inner { address, shown: Some("s3://bucket".to_owned()), files, scheme: Scheme::S3 }))
    }

    fn why(address: &str) -> String {
        let url = Url::parse(address).unwrap();
        Store::open(&url, &StorageOptions::default())
            .map(|(store, _)| store.shown("", FilePath::new("/")))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn addresses_carry_no_secrets_and_are_of_known_stores() {
        assert!(why("s3://key:secret@bucket/lake").contains("env_var()"));
        assert!(why("abfss://lake@account.dfs.core.windows.net/x?sig=abc").contains("env_var()"));
        assert!(why("ftp://host/x").contains("`ftp://` is no store that is known"));
        assert!(why("https://host/x").contains("s3://"));
    }

    #[test]
    fn a_place_with_the_same_options_is_opened_once_and_others_are_kept_apart() {
        let open = |region: &str, path: &str| {
            let options = StorageOptions::from([
                ("region".to_owned(), region.to_owned()),
                ("access_key_id".to_owned(), "a".to_owned()),
                ("secret_access_key".to_owned(), "b".to_owned()),
            ]);
            Store::open(&Url::parse(&format!("s3://bucket/{path}")).unwrap(), &options).unwrap()
        };
        let (one, path) = open("eu-west-1", "a%20b/c/");
        assert_eq!(path.as_ref(), "a b/c");
        let (two, _) = open("eu-west-1", "d");
        assert!(Arc::ptr_eq(one.files(), two.files()) && one == two);
        assert_ne!(open("us-east-1", "d").0, one);
        assert_eq!(one.shown("x/y.csv", FilePath::new("/p")), "s3://bucket/x/y.csv");
        assert_eq!(Store::local().shown("p/x.csv", FilePath::new("/p")), "x.csv");
    }
}
