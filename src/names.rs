//! Names: what a table, a layer and a model may be called, and how the nearest known name is found.
//!
//! A [`TableName`] is the one address of everything that rows can be read from: a model
//! (`layer.model`) and a source table (`source.table`) alike.

use std::fmt;

/// `schema.table`: the layer and name of a model, or the source and table of a bronze delivery.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// The layer of a model, or the name of a source.
    pub schema: String,
    /// The model, or the table of the source.
    pub table: String,
}

impl TableName {
    /// Joins the two parts; both were checked with [`check_identifier`] where they were read.
    pub fn new(schema: impl Into<String>, table: impl Into<String>) -> Self {
        Self { schema: schema.into(), table: table.into() }
    }

    /// The name as SQL, quoted so that letters keep their case: `"silver"."views"`.
    pub fn quoted(&self) -> String {
        format!("\"{}\".\"{}\"", self.schema, self.table)
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

impl serde::Serialize for TableName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
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
