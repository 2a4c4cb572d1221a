//! Names: what a table, a layer and a model may be called, and how the nearest known name is found.
//!
//! A [`TableName`] is the one address of everything that rows can be read from: a model
//! (`layer.model`) and a source table (`source.table`) alike.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::{LazyLock, Mutex};
use std::{fmt, ptr};

/// `schema.table`: the layer and name of a model, or the source and table of a bronze delivery.
///
/// Each name exists once in a process, and stays: copies cost nothing, and equal ones are found by their address.
#[derive(Clone)]
pub struct TableName(&'static Parts);

/// The parts of a [`TableName`].
pub struct Parts {
    /// The layer of a model, or the name of a source.
    pub schema: &'static str,
    /// The model, or the table of the source.
    pub table: &'static str,
    /// Both, with a dot between.
    text: &'static str,
}

impl Deref for TableName {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        self.0
    }
}

/// All names of this process by their second part, in shards so that threads seldom wait for one another.
static NAMES: LazyLock<[Shard; 16]> = LazyLock::new(Default::default);

/// The schemas among them.
static SCHEMAS: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);

type Shard = Mutex<HashMap<&'static str, Vec<&'static Parts>>>;

fn shard(table: &str) -> &'static Shard {
    let hash = table.bytes().fold(0_usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(usize::from(byte)));
    &NAMES[hash % NAMES.len()]
}

fn schema(name: &str) -> &'static str {
    let mut schemas = SCHEMAS.lock().expect("nobody panics while adding a name");
    if let Some(known) = schemas.get(name) {
        return known;
    }
    let new: &'static str = Box::leak(name.into());
    schemas.insert(new);
    new
}

impl TableName {
    /// Joins the two parts; both were checked with [`check_identifier`] where they were read.
    pub fn new(schema: impl AsRef<str>, table: impl AsRef<str>) -> Self {
        let (schema, table) = (schema.as_ref(), table.as_ref());
        let mut names = shard(table).lock().expect("nobody panics while adding a name");
        let same = names.get(table).into_iter().flatten().find(|parts| parts.schema == schema);
        if let Some(known) = same {
            return Self(known);
        }
        let text: &'static str = Box::leak(format!("{schema}.{table}").into_boxed_str());
        let parts = Parts { schema: self::schema(schema), table: &text[schema.len() + 1..], text };
        let parts: &'static Parts = Box::leak(Box::new(parts));
        names.entry(parts.table).or_default().push(parts);
        Self(parts)
    }

    /// `schema.table`.
    pub fn as_str(&self) -> &'static str {
        self.0.text
    }

    /// The name as SQL, quoted so that letters keep their case: `"silver"."views"`.
    pub fn quoted(&self) -> String {
        format!("\"{}\".\"{}\"", self.schema, self.table)
    }
}

impl PartialEq for TableName {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self.0, other.0)
    }
}

impl Eq for TableName {}

impl PartialOrd for TableName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TableName {
    fn cmp(&self, other: &Self) -> Ordering {
        if self == other {
            return Ordering::Equal;
        }
        let by_schema =
            if ptr::eq(self.schema, other.schema) { Ordering::Equal } else { self.schema.cmp(other.schema) };
        by_schema.then_with(|| self.table.cmp(other.table))
    }
}

impl Hash for TableName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        ptr::hash(self.0, state);
    }
}

impl fmt::Debug for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for TableName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for TableName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Joined;
        impl serde::de::Visitor<'_> for Joined {
            type Value = TableName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name of the form `schema.table`")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<TableName, E> {
                let parts =
                    text.split_once('.').ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))?;
                Ok(TableName::new(parts.0, parts.1))
            }
        }
        deserializer.deserialize_str(Joined)
    }
}

/// Checks that `name` can be a folder, a SQL identifier and a command-line word at once:
/// letters, digits and `_`, not starting with a digit.
///
/// # Errors
/// A phrase that says what is wrong, to follow the name in a diagnostic.
pub fn check_identifier(name: &str) -> Result<(), String> {
    let Some(first) = name.chars().next() else {
        return Err("a name cannot be empty".to_owned());
    };
    if first.is_ascii_digit() {
        return Err("a name cannot start with a digit".to_owned());
    }
    match name.chars().find(|c| !c.is_alphanumeric() && *c != '_') {
        Some(wrong) => Err(format!("a name has letters, digits and `_` only, not `{wrong}`")),
        None => Ok(()),
    }
}

/// The candidate that a mistyped `name` most likely meant, if one is near enough to suggest.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count().max(name.chars().count()) / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_typos_and_refuses_strangers() {
        let known = ["views", "courses", "most_viewed_courses"];
        assert_eq!(nearest("veiws", known), Some("views"));
        assert_eq!(nearest("most_viewed_course", known), Some("most_viewed_courses"));
        assert_eq!(nearest("payments", known), None);
    }

    #[test]
    fn identifiers_say_what_is_wrong() {
        assert!(check_identifier("größe_2").is_ok());
        assert!(check_identifier("2fast").unwrap_err().contains("digit"));
        assert!(check_identifier("a-b").unwrap_err().contains("`-`"));
        assert!(check_identifier("").is_err());
    }
}
