//! What earlier runs worked out: a table from the hash of everything that decides a product to the product.
//!
//! A stage makes a [`Key`] of all that its product depends on. If the table has the key, the product is read instead
//! of made, and is equal by construction. Nothing is ever invalidated: what changed has another key.
//!
//! The file is a log of records, each with its own checksum. A run appends what is new; when most of the log is of no
//! use any more, it is written again. A file that another build of `lake` wrote, or that is damaged, is not used.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::io::Write;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The hash of everything that decides a product.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Key([u8; 16]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The key is a hash already.
impl std::hash::Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from_le_bytes(self.0[..8].try_into().expect("a key has sixteen bytes")));
    }
}

/// Makes a [`Key`]; parts cannot run into one another.
pub struct KeyMaker(blake3::Hasher);

impl KeyMaker {
    /// A key of one kind of product.
    pub fn new(kind: &str) -> Self {
        Self(blake3::Hasher::new()).text(kind)
    }

    /// Adds a text.
    pub fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    /// Adds bytes.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds another key.
    pub fn key(mut self, key: Key) -> Self {
        self.0.update(&key.0);
        self
    }

    /// Adds whatever can be encoded. Maps must have an order.
    pub fn value<T: Serialize>(self, value: &T) -> Self {
        self.bytes(&encode(value))
    }

    /// The key of all parts.
    pub fn finish(self) -> Key {
        Key(self.0.finalize().as_bytes()[..16].try_into().expect("a hash is longer than a key"))
    }
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec(value).expect("a product has no maps with unknown length and no failing parts")
}

/// What products are decoded from.
#[derive(Debug)]
struct Origin {
    /// The project folder, for products that name files.
    folder: Arc<Path>,
    /// The file with all products.
    log: Vec<u8>,
}

thread_local! {
    /// The origin of the product that is being decoded.
    static ORIGIN: RefCell<Arc<Origin>> =
        RefCell::new(Arc::new(Origin { folder: Arc::from(Path::new("")), log: Vec::new() }));
}

/// The project folder of the product that is being decoded.
pub fn folder() -> Arc<Path> {
    ORIGIN.with_borrow(|origin| Arc::clone(&origin.folder))
}

fn decode<T: DeserializeOwned>(origin: &Arc<Origin>, range: Range<usize>) -> Result<T, rmp_serde::decode::Error> {
    ORIGIN.with_borrow_mut(|current| {
        if !Arc::ptr_eq(current, origin) {
            *current = Arc::clone(origin);
        }
    });
    rmp_serde::from_slice(&origin.log[range])
}

/// A part of a product that is decoded when somebody first looks at it.
pub struct Lazy<T> {
    value: OnceLock<T>,
    encoded: Option<(Arc<Origin>, Range<usize>)>,
}

impl<T> From<T> for Lazy<T> {
    fn from(value: T) -> Self {
        Self { value: OnceLock::from(value), encoded: None }
    }
}

impl<T: DeserializeOwned> Deref for Lazy<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.get_or_init(|| {
            let (origin, range) = self.encoded.as_ref().expect("a part has its value or its bytes");
            decode(origin, range.clone()).expect("the checksum of the record was right, so this build wrote it")
        })
    }
}

impl<T: Clone> Clone for Lazy<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), encoded: self.encoded.clone() }
    }
}

impl<T: fmt::Debug + DeserializeOwned> fmt::Debug for Lazy<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.deref().fmt(f)
    }
}

impl<T: Serialize> Serialize for Lazy<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (&self.encoded, self.value.get()) {
            (Some((origin, range)), _) => serializer.serialize_bytes(&origin.log[range.clone()]),
            (None, Some(value)) => serializer.serialize_bytes(&encode(value)),
            (None, None) => unreachable!("a part has its value or its bytes"),
        }
    }
}

impl<'de, T> Deserialize<'de> for Lazy<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = (Arc<Origin>, Range<usize>);

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                let origin = ORIGIN.with_borrow(Arc::clone);
                // The bytes are a part of the log that is being decoded: their address says which.
                let start = (bytes.as_ptr() as usize).wrapping_sub(origin.log.as_ptr() as usize);
                let range = start..start.saturating_add(bytes.len());
                let is_inside = range.end <= origin.log.len();
                Ok(if is_inside { (origin, range) } else { copied(bytes, &origin) })
            }
        }
        let encoded = deserializer.deserialize_bytes(Bytes)?;
        Ok(Self { value: OnceLock::new(), encoded: Some(encoded) })
    }
}

/// Bytes that stand nowhere else.
fn copied(bytes: &[u8], origin: &Origin) -> (Arc<Origin>, Range<usize>) {
    let own = Origin { folder: Arc::clone(&origin.folder), log: bytes.to_vec() };
    (Arc::new(own), 0..bytes.len())
}

/// Key, length, checksum.
const RECORD_HEADER: usize = 16 + 4 + 4;
/// Below this a log is never too long.
const SMALL: usize = 1 << 20;

#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only keys are hashed");
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

struct Record {
    range: Range<usize>,
    used: AtomicBool,
}

/// The table.
pub struct Memo {
    path: Option<PathBuf>,
    origin: Arc<Origin>,
    records: HashMap<Key, Record, BuildHasherDefault<KeyHasher>>,
    /// The log has a tail or a head that cannot be used.
    damaged: bool,
    /// This run has written the file anew: what comes now is appended.
    rewritten: AtomicBool,
    header: Vec<u8>,
    fresh: Mutex<Vec<u8>>,
    made: AtomicUsize,
}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} products in {:?}", self.records.len(), self.path)
    }
}

impl Memo {
    /// A table that remembers nothing.
    pub fn none() -> Self {
        Self {
            path: None,
            origin: Arc::new(Origin { folder: Arc::from(Path::new("")), log: Vec::new() }),
            records: HashMap::default(),
            damaged: false,
            rewritten: AtomicBool::new(false),
            header: Vec::new(),
            fresh: Mutex::default(),
            made: AtomicUsize::new(0),
        }
    }

    /// The table in a file, for products about the project in `folder`. `build` names the program: another one makes
    /// other products.
    pub fn open(path: PathBuf, folder: &Path, build: &str) -> Self {
        let header = KeyMaker::new("lake memo").text(build).value(&folder).finish().0.to_vec();
        let log = std::fs::read(&path).unwrap_or_default();
        let origin = Arc::new(Origin { folder: Arc::from(folder), log });
        let mut memo = Self { path: Some(path), origin, header, ..Self::none() };
        memo.index();
        memo
    }

    fn index(&mut self) {
        let mut at = self.header.len();
        let origin = Arc::clone(&self.origin);
        let log = &origin.log;
        if log.get(..at) != Some(&self.header) {
            self.damaged = true;
            return;
        }
        while let Some((key, range)) = record_at(log, at) {
            at = range.end;
            self.records.insert(key, Record { range, used: AtomicBool::new(false) });
        }
        self.damaged = at != log.len();
    }

    /// The product of a key.
    pub fn get<T: DeserializeOwned>(&self, key: Key) -> Option<T> {
        let record = self.records.get(&key)?;
        let product = decode(&self.origin, record.range.clone()).ok()?;
        record.used.store(true, Ordering::Relaxed);
        Some(product)
    }

    /// Keeps a product.
    pub fn put<T: Serialize>(&self, key: Key, product: &T) {
        if self.path.is_none() {
            return;
        }
        self.made.fetch_add(1, Ordering::Relaxed);
        let body = encode(product);
        let Ok(length) = u32::try_from(body.len()) else { return };
        let mut fresh = self.fresh.lock().expect("nobody panics while adding a record");
        fresh.extend(key.0);
        fresh.extend(length.to_le_bytes());
        fresh.extend(crc32fast::hash(&body).to_le_bytes());
        fresh.extend(body);
    }

    /// How many products were made in this run, and how many were there.
    pub fn counts(&self) -> (usize, usize) {
        let used = self.records.values().filter(|record| record.used.load(Ordering::Relaxed)).count();
        (self.made.load(Ordering::Relaxed), used)
    }

    /// Writes what is new. `complete` says that this run asked for all that is of use, so that the rest may go.
    ///
    /// # Errors
    /// When the file cannot be written: nothing is lost but time.
    pub fn save(&self, complete: bool) -> std::io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let fresh = std::mem::take(&mut *self.fresh.lock().expect("nobody panics while adding a record"));
        let used = || self.records.values().filter(|record| record.used.load(Ordering::Relaxed));
        let live: usize = used().map(|record| record.range.len() + RECORD_HEADER).sum::<usize>() + fresh.len();
        let wasteful = complete && self.origin.log.len() + fresh.len() > SMALL + 2 * live;
        if self.rewritten.load(Ordering::Relaxed) || !self.damaged && !wasteful {
            if fresh.is_empty() {
                return Ok(());
            }
            // One write at the end of the file: records of two runs at once do not mix.
            return std::fs::OpenOptions::new().append(true).open(path)?.write_all(&fresh);
        }
        let mut ranges: Vec<Range<usize>> = match self.damaged && self.records.is_empty() {
            true => Vec::new(),
            false if complete => used().map(|record| record.range.clone()).collect(),
            false => self.records.values().map(|record| record.range.clone()).collect(),
        };
        ranges.sort_by_key(|range| range.start);
        let mut log = self.header.clone();
        ranges.iter().for_each(|range| log.extend(&self.origin.log[range.start - RECORD_HEADER..range.end]));
        log.extend(fresh);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let beside = path.with_extension(format!("{}.tmp", std::process::id()));
        std::fs::write(&beside, log).and_then(|()| std::fs::rename(&beside, path))?;
        self.rewritten.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// The whole and undamaged record at an offset.
fn record_at(log: &[u8], at: usize) -> Option<(Key, Range<usize>)> {
    let header = log.get(at..at + RECORD_HEADER)?;
    let number = |from: usize| u32::from_le_bytes(header[from..from + 4].try_into().expect("four bytes"));
    let start = at + RECORD_HEADER;
    let range = start..start.checked_add(number(16) as usize)?;
    let body = log.get(range.clone())?;
    (crc32fast::hash(body) == number(20)).then(|| (Key(header[..16].try_into().expect("sixteen bytes")), range))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        KeyMaker::new("test").text(text).finish()
    }

    #[test]
    fn products_survive_and_damage_costs_only_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memo");
        let open = || Memo::open(path.clone(), folder.path(), "1");
        let memo = open();
        memo.put(key("a"), &vec![1, 2]);
        memo.save(true).unwrap();
        let memo = open();
        memo.put(key("b"), &Lazy::from("text".to_owned()));
        memo.save(false).unwrap();
        memo.put(key("d"), &4);
        memo.save(false).unwrap();
        assert_eq!(open().get::<i32>(key("d")), Some(4));

        let whole = std::fs::read(&path).unwrap();
        let memo = open();
        assert_eq!(memo.get::<Vec<i32>>(key("a")), Some(vec![1, 2]));
        assert_eq!(*memo.get::<Lazy<String>>(key("b")).unwrap(), "text");
        assert_eq!(memo.get::<String>(key("c")), None);
        assert_eq!(Memo::open(path.clone(), folder.path(), "2").get::<Vec<i32>>(key("a")), None);

        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let memo = open();
            assert!(matches!(memo.get::<Vec<i32>>(key("a")), None | Some(_)));
            memo.put(key("c"), &3);
            memo.save(false).unwrap();
            memo.put(key("e"), &5);
            memo.save(true).unwrap();
            let kept = open();
            assert_eq!((kept.get(key("c")), kept.get(key("e"))), (Some(3), Some(5)), "cut at {cut}");
        }
    }

    #[test]
    fn what_no_run_asks_for_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memo");
        for round in 0..8 {
            let memo = Memo::open(path.clone(), folder.path(), "1");
            memo.put(key(&round.to_string()), &"x".repeat(SMALL));
            memo.save(true).unwrap();
        }
        assert!(std::fs::metadata(&path).unwrap().len() < 4 * SMALL as u64);
    }
}
