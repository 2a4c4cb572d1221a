//! Keys: values that stand once, and values that stand in another table.

use super::uses::{Use, plain, quoted};
use super::{Check, Definition, Kind, Subject, needs, takes, value};

pub(super) const TESTS: &[Definition] = &[
    Definition {
        names: &["unique", "expect_column_values_to_be_unique"],
        subject: Subject::Column,
        parameters: &[],
        about: "no value stands twice; NULLs do not count",
        check: |call| Ok(Check::Unique { columns: vec![plain(call.column.unwrap_or_default())], nulls_count: false }),
    },
    Definition {
        names: &["unique_combination_of_columns", "expect_compound_columns_to_be_unique"],
        subject: Subject::Table,
        parameters: &[
            needs(&["combination_of_columns", "columns", "column_list"], Kind::Columns),
            takes(&["quote_columns"], Kind::Flag),
        ],
        about: "no combination of values stands twice; NULLs count as values",
        check: |call| Ok(Check::Unique { columns: call.names("combination_of_columns"), nulls_count: true }),
    },
    Definition {
        names: &["unique_proportion", "expect_column_proportion_of_unique_values_to_be_between"],
        subject: Subject::Column,
        parameters: &[
            takes(&["min_value", "at_least"], Kind::Number),
            takes(&["max_value", "at_most"], Kind::Number),
            takes(&["strictly"], Kind::Flag),
        ],
        about: "the number of different values, as a part of all values, lies between two bounds",
        check: |call| {
            let (wrong, _) = call.outside("proportion")?;
            let column = call.column();
            Ok(Check::query(format!(
                "select * from (select cast(count(*) as double) / sum(n_records) as proportion from \
                 (select {column}, count(*) as n_records from {} where {column} is not null group by {column})) where {wrong}",
                call.rows()
            )))
        },
    },
    Definition {
        names: &["relationships", "relationships_where"],
        subject: Subject::Column,
        parameters: &[
            needs(&["to"], Kind::Table),
            needs(&["field"], Kind::Text),
            takes(&["from_condition"], Kind::Sql),
            takes(&["to_condition"], Kind::Sql),
        ],
        about: "every value stands in a column of another table; NULLs do not count",
        check: |call| {
            let to = call.other("to").ok_or("`to` is no table")?.clone();
            let field = plain(call.text("field").unwrap_or_default());
            let to_filter = call.text("to_condition").map(str::to_owned);
            Ok(Check::Reference { column: plain(call.column.unwrap_or_default()), to, field, to_filter })
        },
    },
    Definition {
        names: &["cardinality_equality"],
        subject: Subject::Column,
        parameters: &[needs(&["to"], Kind::Table), needs(&["field"], Kind::Text)],
        about: "every value stands as often as in a column of another table",
        check: |call| {
            let (column, rows) = (call.column(), call.rows());
            let (to, field) = other_column(call)?;
            Ok(Check::query(format!(
                "select coalesce(own.value, other.value) as value, own.n_records, other.n_records as n_records_there from \
                 (select {column} as value, count(*) as n_records from {rows} group by {column}) as own full join \
                 (select {field} as value, count(*) as n_records from {to} group by {field}) as other \
                 on own.value is not distinct from other.value where own.n_records is distinct from other.n_records"
            )))
        },
    },
    Definition {
        names: &["equality"],
        subject: Subject::Table,
        parameters: &[needs(&["compare_model"], Kind::Table), takes(&["compare_columns"], Kind::Columns)],
        about: "the table has the rows of another one, in these columns or in all",
        check: |call| {
            let to = call.other("compare_model").ok_or("`compare_model` is no table")?.quoted();
            let columns = call.columns("compare_columns");
            let columns = if columns.is_empty() { "*".to_owned() } else { columns.join(", ") };
            let rows = call.rows();
            Ok(Check::query(format!(
                "(select {columns} from {rows} except select {columns} from {to}) union all \
                 (select {columns} from {to} except select {columns} from {rows})"
            )))
        },
    },
    Definition {
        names: &[
            "distinct_count_between",
            "expect_column_unique_value_count_to_be_between",
            "expect_column_distinct_count_to_equal",
        ],
        subject: Subject::Column,
        parameters: &[
            takes(&["min_value"], Kind::Bound),
            takes(&["max_value"], Kind::Bound),
            takes(&["value"], Kind::Bound),
            takes(&["strictly"], Kind::Flag),
        ],
        about: "the number of different values lies between two bounds",
        check: |call| distinct_count(call, &call.outside("distinct_count")?.0),
    },
    Definition {
        names: &["expect_column_distinct_count_to_be_greater_than"],
        subject: Subject::Column,
        parameters: &[needs(&["value"], Kind::Bound)],
        about: "there are more different values than this",
        check: |call| distinct_count(call, &format!("distinct_count <= {}", call.sql("value").unwrap_or_default())),
    },
    Definition {
        names: &["expect_column_distinct_count_to_be_less_than"],
        subject: Subject::Column,
        parameters: &[needs(&["value"], Kind::Bound)],
        about: "there are fewer different values than this",
        check: |call| distinct_count(call, &format!("distinct_count >= {}", call.sql("value").unwrap_or_default())),
    },
    Definition {
        names: &["expect_column_distinct_count_to_equal_other_table"],
        subject: Subject::Column,
        parameters: &[
            needs(&["to", "compare_model"], Kind::Table),
            needs(&["field", "compare_column_name"], Kind::Text),
        ],
        about: "there are as many different values as in a column of another table",
        check: |call| {
            let (to, field) = other_column(call)?;
            distinct_count(call, &format!("distinct_count <> (select count(distinct {field}) from {to})"))
        },
    },
    Definition {
        names: &["at_least_one"],
        subject: Subject::Column,
        parameters: &[takes(&["group_by_columns"], Kind::Columns)],
        about: "there is at least one value that is not NULL",
        check: |call| {
            let count = format!("count({})", call.column());
            if call.columns("group_by_columns").is_empty() {
                let wrong = format!("{} = 0", value(0));
                return Ok(Check::measure("values", call.over(&count), wrong, "at least 1".to_owned()));
            }
            Ok(grouped(call, &count, "= 0"))
        },
    },
    Definition {
        names: &["not_constant"],
        subject: Subject::Column,
        parameters: &[takes(&["group_by_columns"], Kind::Columns)],
        about: "there are at least two different values",
        check: |call| {
            let column = call.column();
            if call.columns("group_by_columns").is_empty() {
                let values = vec![
                    ("least", call.over(&format!("min({column})"))),
                    ("greatest", call.over(&format!("max({column})"))),
                ];
                let wrong = format!("{} = {}", value(0), value(1));
                return Ok(Check::Measures { values, wrong, expected: "two different values".to_owned(), usual: None });
            }
            Ok(grouped(call, &format!("count(distinct {column})"), "= 1"))
        },
    },
];

fn other_column(call: &Use<'_>) -> Result<(String, String), String> {
    let to = call.other("to").ok_or("`to` is no table")?.quoted();
    Ok((to, quoted(call.text("field").unwrap_or_default())))
}

fn distinct_count(call: &Use<'_>, wrong: &str) -> Result<Check, String> {
    Ok(Check::query(format!(
        "select * from (select count(distinct {}) as distinct_count from {}) where {wrong}",
        call.column(),
        call.rows()
    )))
}

/// Groups in which an aggregate is wrong.
fn grouped(call: &Use<'_>, aggregate: &str, wrong: &str) -> Check {
    let columns = call.columns("group_by_columns").join(", ");
    let rows = call.rows();
    Check::query(format!(
        "select {columns}, {aggregate} as found from {rows} group by {columns} having {aggregate} {wrong}"
    ))
}
