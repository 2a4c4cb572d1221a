//! How many rows there are.

use super::uses::Use;
use super::{Check, Definition, Kind, Subject, needs, takes, value};

pub(super) const TESTS: &[Definition] = &[
    Definition {
        names: &["row_count_between", "expect_table_row_count_to_be_between", "expect_table_row_count_to_equal"],
        subject: Subject::Table,
        parameters: &[
            takes(&["min_value"], Kind::Bound),
            takes(&["max_value"], Kind::Bound),
            takes(&["value"], Kind::Bound),
            takes(&["strictly"], Kind::Flag),
            takes(&["group_by_columns", "group_by"], Kind::Columns),
        ],
        about: "the number of rows lies between two bounds",
        check: |call| {
            let groups = call.columns("group_by_columns");
            if groups.is_empty() {
                let (wrong, expected) = call.outside(&value(0))?;
                return Ok(Check::measure("rows", call.over("count(*)"), wrong, expected));
            }
            let ((wrong, _), columns, rows) = (call.outside("count(*)")?, groups.join(", "), call.rows());
            Ok(Check::query(format!(
                "select {columns}, count(*) as n_records from {rows} group by {columns} having {wrong}"
            )))
        },
    },
    Definition {
        names: &[
            "equal_rowcount",
            "expect_table_row_count_to_equal_other_table",
            "expect_table_row_count_to_equal_other_table_times_factor",
        ],
        subject: Subject::Table,
        parameters: &[
            needs(&["compare_model"], Kind::Table),
            takes(&["factor"], Kind::Number),
            takes(&["group_by_columns", "group_by"], Kind::Columns),
        ],
        about: "there are as many rows as in another table, or some times as many",
        check: |call| {
            let factor = call.sql("factor").map(|factor| format!(" * {factor}")).unwrap_or_default();
            compared(call, &format!("coalesce(own.n_records, 0) <> coalesce(other.n_records, 0){factor}"))
        },
    },
    Definition {
        names: &["row_count_matches_source", "reconciles_with_source"],
        subject: Subject::Table,
        parameters: &[needs(&["source", "compare_model"], Kind::Table)],
        about: "there are as many rows as in the files of a source that the table has taken in",
        check: |call| {
            let source = call.other("source").ok_or("`source` is no table")?;
            let (rows, there) = (call.rows(), source.quoted());
            let sql = format!(
                "select own.n as rows, there.n as rows_in_files from (select count(*) as n from {rows}) as own \
                 cross join (select count(*) as n from {there}) as there"
            );
            Ok(Check::Reconciled { source: source.clone(), sql })
        },
    },
    Definition {
        names: &["fewer_rows_than"],
        subject: Subject::Table,
        parameters: &[needs(&["compare_model"], Kind::Table), takes(&["group_by_columns", "group_by"], Kind::Columns)],
        about: "there are fewer rows than in another table",
        check: |call| compared(call, "coalesce(own.n_records, 0) >= coalesce(other.n_records, 0)"),
    },
    Definition {
        names: &["aggregation_equals_other", "expect_table_aggregation_to_equal_other_table"],
        subject: Subject::Table,
        parameters: &[
            needs(&["expression"], Kind::Sql),
            needs(&["compare_model"], Kind::Table),
            takes(&["compare_expression"], Kind::Sql),
        ],
        about: "an aggregate, such as `sum(amount)`, comes to the same as in another table",
        check: |call| {
            let (rows, own) = (call.rows(), call.text("expression").unwrap_or_default());
            let (to, other) = (other(call)?, call.text("compare_expression").unwrap_or(own));
            Ok(Check::query(format!(
                "select own.value, other.value as value_there from (select {own} as value from {rows}) as own \
                 cross join (select {other} as value from {to}) as other where own.value is distinct from other.value"
            )))
        },
    },
];

fn other(call: &Use<'_>) -> Result<String, String> {
    Ok(call.other("compare_model").ok_or("`compare_model` is no table")?.quoted())
}

/// The counts of both tables, or those of each group, where they are wrong.
fn compared(call: &Use<'_>, wrong: &str) -> Result<Check, String> {
    let (rows, to, groups) = (call.rows(), other(call)?, call.columns("group_by_columns"));
    let (columns, join, shown) = if groups.is_empty() {
        ("1 as every".to_owned(), "own.every = other.every".to_owned(), String::new())
    } else {
        let join: Vec<String> = groups.iter().map(|c| format!("own.{c} is not distinct from other.{c}")).collect();
        let shown: Vec<String> = groups.iter().map(|c| format!("coalesce(own.{c}, other.{c}) as {c}, ")).collect();
        (groups.join(", "), join.join(" and "), shown.concat())
    };
    let by = if groups.is_empty() { String::new() } else { format!(" group by {columns}") };
    Ok(Check::query(format!(
        "select {shown}own.n_records, other.n_records as n_records_there from \
         (select {columns}, count(*) as n_records from {rows}{by}) as own full join \
         (select {columns}, count(*) as n_records from {to}{by}) as other on {join} where {wrong}"
    )))
}
