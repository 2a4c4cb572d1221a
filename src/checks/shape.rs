//! What holds for the columns themselves: their names, their types, how many there are. No row is read for it.

use datafusion::arrow::datatypes::Schema;

use super::uses::{Use, plain};
use super::{Check, Definition, Kind, Subject, needs, takes};
use crate::catalog::sql_type;

/// What columns have to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// A column is there.
    Exists {
        /// Its name.
        column: String,
        /// Where it stands, from 1.
        index: Option<u64>,
    },
    /// A column has one of these types.
    Type {
        /// Its name.
        column: String,
        /// SQL types.
        types: Vec<String>,
    },
    /// The columns are these, in any order or in this one.
    Match {
        /// Names.
        columns: Vec<String>,
        /// In this order.
        ordered: bool,
    },
    /// These columns are there.
    Contain(Vec<String>),
    /// None of these columns is there.
    NotContain(Vec<String>),
    /// How many columns there are, at least and at most.
    Count(u64, u64),
}

pub(super) const TESTS: &[Definition] = &[
    Definition {
        names: &["column_exists", "expect_column_to_exist"],
        subject: Subject::Column,
        parameters: &[takes(&["column_index"], Kind::Count)],
        about: "the table has the column",
        check: |call| shape(Shape::Exists { column: own(call), index: call.count("column_index") }),
    },
    Definition {
        names: &["column_type", "expect_column_values_to_be_of_type", "expect_column_values_to_be_in_type_list"],
        subject: Subject::Column,
        parameters: &[needs(&["column_type", "data_type", "column_type_list"], Kind::Values)],
        about: "the column is of a SQL type, or of one of several",
        check: |call| {
            let types = call.list("column_type").iter().filter_map(|one| one.as_str().map(str::to_owned)).collect();
            shape(Shape::Type { column: own(call), types })
        },
    },
    Definition {
        names: &["columns_match", "expect_table_columns_to_match_set"],
        subject: Subject::Table,
        parameters: &[needs(&["column_list", "columns"], Kind::Columns), takes(&["transform"], Kind::Text)],
        about: "the table has these columns and no others",
        check: |call| shape(Shape::Match { columns: call.names("column_list"), ordered: false }),
    },
    Definition {
        names: &["columns_match_in_order", "expect_table_columns_to_match_ordered_list"],
        subject: Subject::Table,
        parameters: &[needs(&["column_list", "columns"], Kind::Columns), takes(&["transform"], Kind::Text)],
        about: "the table has these columns and no others, in this order",
        check: |call| shape(Shape::Match { columns: call.names("column_list"), ordered: true }),
    },
    Definition {
        names: &["columns_contain", "expect_table_columns_to_contain_set"],
        subject: Subject::Table,
        parameters: &[needs(&["column_list", "columns"], Kind::Columns), takes(&["transform"], Kind::Text)],
        about: "the table has these columns, among others",
        check: |call| shape(Shape::Contain(call.names("column_list"))),
    },
    Definition {
        names: &["columns_do_not_contain", "expect_table_columns_to_not_contain_set"],
        subject: Subject::Table,
        parameters: &[needs(&["column_list", "columns"], Kind::Columns), takes(&["transform"], Kind::Text)],
        about: "the table has none of these columns",
        check: |call| shape(Shape::NotContain(call.names("column_list"))),
    },
    Definition {
        names: &[
            "column_count_between",
            "expect_table_column_count_to_be_between",
            "expect_table_column_count_to_equal",
        ],
        subject: Subject::Table,
        parameters: &[
            takes(&["min_value"], Kind::Count),
            takes(&["max_value"], Kind::Count),
            takes(&["value"], Kind::Count),
        ],
        about: "the number of columns lies between two bounds",
        check: |call| {
            let exact = call.count("value");
            let (least, most) = (call.count("min_value").or(exact), call.count("max_value").or(exact));
            if least.is_none() && most.is_none() {
                return Err("`column_count_between` needs `min_value` or `max_value`, or both".to_owned());
            }
            shape(Shape::Count(least.unwrap_or(0), most.unwrap_or(u64::MAX)))
        },
    },
];

fn own(call: &Use<'_>) -> String {
    plain(call.column.unwrap_or_default())
}

fn shape(shape: Shape) -> Result<Check, String> {
    Ok(Check::Shape(shape))
}

impl Shape {
    /// What is wrong with these columns: a line for each. `same` says which type a text means, in one spelling.
    pub fn failures(&self, schema: &Schema, same: impl Fn(&str) -> Option<String>) -> Vec<String> {
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let has = |name: &String| names.iter().any(|known| known.eq_ignore_ascii_case(name));
        let place = |name: &String| names.iter().position(|known| known.eq_ignore_ascii_case(name));
        match self {
            Self::Exists { column, index } => match (place(column), index) {
                (None, _) => vec![format!("there is no column `{column}`")],
                (Some(at), Some(index)) if at as u64 + 1 != *index => {
                    vec![format!("column `{column}` stands at {}, not at {index}", at + 1)]
                }
                _ => Vec::new(),
            },
            Self::Type { column, types } => {
                let Some(at) = place(column) else { return vec![format!("there is no column `{column}`")] };
                let found = sql_type(schema.field(at).data_type());
                let fits = types.iter().any(|one| same(one).as_ref() == Some(&found));
                if fits {
                    Vec::new()
                } else {
                    vec![format!("column `{column}` is {found}, not {}", types.join(" or "))]
                }
            }
            Self::Match { columns, ordered } => {
                let missing =
                    columns.iter().filter(|name| !has(name)).map(|name| format!("there is no column `{name}`"));
                let listed = |name: &&str| columns.iter().any(|known| known.eq_ignore_ascii_case(name));
                let surplus =
                    names.iter().filter(|name| !listed(name)).map(|name| format!("column `{name}` is not in the list"));
                let mut found: Vec<String> = missing.chain(surplus).collect();
                let in_order = columns.iter().zip(&names).all(|(a, b)| a.eq_ignore_ascii_case(b));
                if found.is_empty() && *ordered && !in_order {
                    found.push(format!("the columns stand in another order: {}", names.join(", ")));
                }
                found
            }
            Self::Contain(columns) => {
                columns.iter().filter(|name| !has(name)).map(|name| format!("there is no column `{name}`")).collect()
            }
            Self::NotContain(columns) => {
                columns.iter().filter(|name| has(name)).map(|name| format!("there is a column `{name}`")).collect()
            }
            Self::Count(least, most) => {
                let count = names.len() as u64;
                let fits = (*least..=*most).contains(&count);
                if fits { Vec::new() } else { vec![format!("there are {count} columns")] }
            }
        }
    }
}
