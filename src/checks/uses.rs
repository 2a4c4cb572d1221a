//! One use of a generic test: its arguments, and how they become SQL.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Check, GenericTest};
use crate::names::TableName;
use crate::words::sql_text;

/// An argument as YAML gives it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Argument {
    /// A text, a number, a boolean, or a list of them.
    Value(serde_json::Value),
    /// Another table.
    Table(TableName),
}

/// The arguments of one use, under our names of the parameters.
pub type Arguments = BTreeMap<String, Argument>;

/// One use of a generic test.
#[derive(Debug)]
pub struct Use<'a> {
    /// Which test.
    pub test: GenericTest,
    /// The tested table.
    pub table: &'a TableName,
    /// The tested column.
    pub column: Option<&'a str>,
    /// Rows to look at: a SQL condition.
    pub filter: Option<&'a str>,
    /// What YAML gives it.
    pub arguments: &'a Arguments,
}

impl Use<'_> {
    /// What is checked.
    ///
    /// # Errors
    /// What is wrong with the arguments together.
    pub fn check(&self) -> Result<Check, String> {
        match (self.test.check)(self)? {
            Check::Rows { wrong } => Ok(Check::Rows { wrong: self.filtered(wrong) }),
            other => Ok(other),
        }
    }

    fn filtered(&self, wrong: String) -> String {
        match self.filter {
            Some(filter) => format!("({wrong}) and ({filter})"),
            None => wrong,
        }
    }

    /// The tested column as SQL; the caller's subject is a column.
    pub(super) fn column(&self) -> String {
        quoted(self.column.unwrap_or_default())
    }

    /// The rows to look at, to stand behind `from`.
    pub(super) fn rows(&self) -> String {
        match self.filter {
            Some(filter) => format!("(select * from {} where {filter}) as tested", self.table.quoted()),
            None => format!("{} as tested", self.table.quoted()),
        }
    }

    /// An aggregate over the rows to look at.
    pub(super) fn over(&self, aggregate: &str) -> String {
        match self.filter {
            Some(filter) => format!("{aggregate} filter (where {filter})"),
            None => aggregate.to_owned(),
        }
    }

    fn value(&self, name: &str) -> Option<&serde_json::Value> {
        match self.arguments.get(name) {
            Some(Argument::Value(value)) => Some(value),
            _ => None,
        }
    }

    /// A number, or the SQL of a text.
    pub(super) fn sql(&self, name: &str) -> Option<String> {
        self.value(name).map(|value| match value {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.value(name).and_then(serde_json::Value::as_str)
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.value(name).and_then(serde_json::Value::as_bool)
    }

    pub(super) fn count(&self, name: &str) -> Option<u64> {
        self.value(name).and_then(serde_json::Value::as_u64)
    }

    pub(super) fn list(&self, name: &str) -> &[serde_json::Value] {
        match self.value(name) {
            Some(serde_json::Value::Array(items)) => items,
            _ => &[],
        }
    }

    /// Names of columns, as the table has them.
    pub(super) fn names(&self, name: &str) -> Vec<String> {
        self.list(name).iter().filter_map(|item| item.as_str()).map(plain).collect()
    }

    /// Names of columns as SQL.
    pub(super) fn columns(&self, name: &str) -> Vec<String> {
        self.names(name).iter().map(|column| quoted(column)).collect()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.arguments.contains_key(name)
    }

    /// A length of time: its unit, and how many.
    pub(super) fn period(&self, name: &str) -> Option<(&str, u64)> {
        let value = self.value(name)?;
        Some((value["period"].as_str()?, value["count"].as_u64()?))
    }

    /// A length of time in hours.
    pub(super) fn hours(&self, name: &str) -> Option<u64> {
        let (period, count) = self.period(name)?;
        let hours = match period {
            "hour" => 1,
            "day" => 24,
            "week" => 7 * 24,
            _ => 31 * 24,
        };
        Some(count.saturating_mul(hours))
    }

    pub(super) fn other(&self, name: &str) -> Option<&TableName> {
        match self.arguments.get(name) {
            Some(Argument::Table(table)) => Some(table),
            _ => None,
        }
    }

    /// `subject` is below `min_value` or above `max_value`, as SQL, and in words what was expected. `value` is both.
    ///
    /// # Errors
    /// When there is no bound.
    pub(super) fn outside(&self, subject: &str) -> Result<(String, String), String> {
        if let Some(exact) = self.sql("value") {
            return Ok((format!("{subject} <> {exact}"), exact));
        }
        let inclusive = self.flag("inclusive").unwrap_or(true) && !self.flag("strictly").unwrap_or(false);
        let (below, above) = if inclusive { ("<", ">") } else { ("<=", ">=") };
        let (least, most) = if inclusive { ("at least", "at most") } else { ("more than", "less than") };
        let bounds = [("min_value", below, least), ("max_value", above, most)];
        let given: Vec<_> =
            bounds.iter().filter_map(|(name, sign, word)| Some((self.sql(name)?, sign, word))).collect();
        if given.is_empty() {
            return Err(format!("`{}` needs `min_value` or `max_value`, or both", self.test.name()));
        }
        let wrong: Vec<String> = given.iter().map(|(bound, sign, _)| format!("{subject} {sign} {bound}")).collect();
        let words: Vec<String> = given.iter().map(|(bound, _, word)| format!("{word} {bound}")).collect();
        Ok((wrong.join(" or "), words.join(" and ")))
    }
}

/// A column as YAML names it: letters keep their case.
pub(super) fn quoted(column: &str) -> String {
    crate::words::quoted(&plain(column))
}

/// The name of a column, without the quotes that dbt users write around it.
pub(super) fn plain(column: &str) -> String {
    column.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(column).to_owned()
}

/// Values as SQL, with commas between; `quote` makes texts of all.
pub(super) fn literals(values: &[serde_json::Value], quote: bool) -> String {
    let literal = |value: &serde_json::Value| match value {
        serde_json::Value::String(value) => sql_text(value),
        other if quote => sql_text(&other.to_string()),
        other => other.to_string(),
    };
    values.iter().map(literal).collect::<Vec<_>>().join(", ")
}
