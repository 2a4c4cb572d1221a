//! What holds between rows that follow each other, and between rows and the clock.

use super::uses::{Use, quoted};
use super::{Check, Definition, Kind, Subject, needs, takes, value};
use crate::words::sql_text;

const PARTS: &[&str] = &["second", "minute", "hour", "day", "week", "month", "quarter", "year"];

pub(super) const TESTS: &[Definition] = &[
    Definition {
        names: &["mutually_exclusive_ranges"],
        subject: Subject::Table,
        parameters: &[
            needs(&["lower_bound_column"], Kind::Text),
            needs(&["upper_bound_column"], Kind::Text),
            takes(&["partition_by"], Kind::Columns),
            takes(&["gaps"], Kind::Word(&["allowed", "not_allowed", "required"])),
            takes(&["zero_length_range_allowed"], Kind::Flag),
        ],
        about: "the ranges between two columns do not overlap; gaps between them are `allowed`, `not_allowed` or `required`",
        check: |call| Ok(Check::query(overlapping(call))),
    },
    Definition {
        names: &["sequential_values"],
        subject: Subject::Column,
        parameters: &[
            takes(&["interval"], Kind::Number),
            takes(&["datepart"], Kind::Word(PARTS)),
            takes(&["group_by_columns"], Kind::Columns),
        ],
        about: "every value follows on the one before it, in steps of `interval`: 1, if nothing else is said",
        check: |call| {
            let (column, step) = (call.column(), call.sql("interval").unwrap_or_else(|| "1".to_owned()));
            let step = call.text("datepart").map_or(step.clone(), |part| interval(&step, part));
            let before = lag(call, &column, &column);
            Ok(Check::query(format!("{before} where previous is not null and {column} <> previous + {step}")))
        },
    },
    Definition {
        names: &["is_increasing", "expect_column_values_to_be_increasing"],
        subject: Subject::Column,
        parameters: &[
            takes(&["sort_column"], Kind::Text),
            takes(&["strictly"], Kind::Flag),
            takes(&["group_by_columns", "group_by"], Kind::Columns),
        ],
        about: "no value is less than the one before it, in the order of another column",
        check: |call| Ok(Check::query(against_order(call, ">"))),
    },
    Definition {
        names: &["is_decreasing", "expect_column_values_to_be_decreasing"],
        subject: Subject::Column,
        parameters: &[
            takes(&["sort_column"], Kind::Text),
            takes(&["strictly"], Kind::Flag),
            takes(&["group_by_columns", "group_by"], Kind::Columns),
        ],
        about: "no value is greater than the one before it, in the order of another column",
        check: |call| Ok(Check::query(against_order(call, "<"))),
    },
    Definition {
        names: &["recency", "expect_row_values_to_have_recent_data", "expect_grouped_row_values_to_have_recent_data"],
        subject: Subject::Any,
        parameters: &[
            takes(&["field", "timestamp_column"], Kind::Text),
            needs(&["datepart"], Kind::Word(PARTS)),
            needs(&["interval"], Kind::Count),
            takes(&["ignore_time_component"], Kind::Flag),
            takes(&["group_by_columns", "group_by"], Kind::Columns),
        ],
        about: "the newest row is not older than an interval",
        check: recency,
    },
    Definition {
        names: &["data_for_every_date_part", "expect_row_values_to_have_data_for_every_n_datepart"],
        subject: Subject::Any,
        parameters: &[
            takes(&["date_col", "field"], Kind::Text),
            takes(&["date_part", "datepart"], Kind::Word(PARTS)),
            takes(&["interval"], Kind::Count),
            takes(&["test_start_date"], Kind::Text),
            takes(&["test_end_date"], Kind::Text),
        ],
        about: "there is a row for every day, or for every interval of another length, from the first to the last",
        check: |call| {
            let field = field(call, "date_col")?;
            let part = call.text("date_part").unwrap_or("day");
            let step = interval(&call.count("interval").unwrap_or(1).to_string(), part);
            let bound = |name: &str, aggregate: &str| match call.text(name) {
                Some(day) => format!("date_trunc('{part}', cast({} as timestamp))", sql_text(day)),
                None => format!("{aggregate}(date_trunc('{part}', cast({field} as timestamp)))"),
            };
            let (first, last) = (bound("test_start_date", "min"), bound("test_end_date", "max"));
            let rows = call.rows();
            Ok(Check::query(format!(
                "select due.moment from (select unnest(generate_series(first, last, {step})) as moment from \
                 (select {first} as first, {last} as last from {rows}) as bounds where first is not null) as due \
                 left join (select distinct date_trunc('{part}', cast({field} as timestamp)) as moment from {rows}) as found \
                 on due.moment = found.moment where found.moment is null"
            )))
        },
    },
];

/// The column that a test of a table is about: its own, or the one that it names.
fn field(call: &Use<'_>, name: &str) -> Result<String, String> {
    let named = call.text(name).map(quoted).or_else(|| call.column.map(quoted));
    named.ok_or_else(|| format!("`{}` needs `{name}`, or stands below a column", call.test.name()))
}

fn interval(count: &str, part: &str) -> String {
    match part {
        // DataFusion knows no quarters.
        "quarter" => format!("interval '{} month'", count.parse::<u64>().unwrap_or(1) * 3),
        _ => format!("interval '{count} {part}'"),
    }
}

/// All rows, each with the value before it as `previous`.
fn lag(call: &Use<'_>, column: &str, order: &str) -> String {
    let groups = call.columns("group_by_columns");
    let partition = if groups.is_empty() { String::new() } else { format!("partition by {} ", groups.join(", ")) };
    format!(
        "select * from (select *, lag({column}) over ({partition}order by {order}) as previous from {}) as in_order",
        call.rows()
    )
}

fn against_order(call: &Use<'_>, sign: &str) -> String {
    let column = call.column();
    let order = call.text("sort_column").map_or_else(|| column.clone(), quoted);
    let sign = if call.flag("strictly").unwrap_or(true) { sign.to_owned() } else { format!("{sign}=") };
    format!("{} where not ({column} {sign} previous)", lag(call, &column, &order))
}

fn recency(call: &Use<'_>) -> Result<Check, String> {
    let field = field(call, "field")?;
    let count = call.count("interval").unwrap_or_default();
    let part = call.text("datepart").unwrap_or("day");
    let newest = format!("max(cast({field} as timestamp))");
    let due = format!("now() - {}", interval(&count.to_string(), part));
    let whole_days = call.flag("ignore_time_component").unwrap_or(false);
    let as_compared = |sql: &str| match whole_days {
        true => format!("cast({sql} as date)"),
        false => format!("cast({sql} as timestamp)"),
    };
    let is_old = |newest: &str| format!("coalesce({} < {}, true)", as_compared(newest), as_compared(&due));
    let groups = call.columns("group_by_columns");
    if groups.is_empty() {
        let expected = format!("within {count} {part}{}", if count == 1 { "" } else { "s" });
        return Ok(Check::measure("newest", call.over(&newest), is_old(&value(0)), expected));
    }
    let (columns, rows) = (groups.join(", "), call.rows());
    Ok(Check::query(format!(
        "select * from (select {columns}, {newest} as newest from {rows} group by {columns}) as groups where {}",
        is_old("newest")
    )))
}

/// The ranges that touch the next one as they should not, or end before they begin.
fn overlapping(call: &Use<'_>) -> String {
    let column = |name| quoted(call.text(name).unwrap_or_default());
    let (lower, upper) = (column("lower_bound_column"), column("upper_bound_column"));
    let touches = match call.text("gaps") {
        Some("not_allowed") => "=",
        Some("required") => "<",
        _ => "<=",
    };
    let length = if call.flag("zero_length_range_allowed").unwrap_or(false) { "<=" } else { "<" };
    let groups = call.columns("partition_by");
    let partition = if groups.is_empty() { String::new() } else { format!("partition by {} ", groups.join(", ")) };
    let window = format!("over ({partition}order by {lower}, {upper})");
    format!(
        "select * from (select *, lead({lower}) {window} as next_lower_bound, \
         row_number() over ({partition}order by {lower} desc, {upper} desc) = 1 as is_last from {}) as ranges \
         where not coalesce({lower} {length} {upper}, false) \
         or not coalesce({upper} {touches} next_lower_bound, is_last, false)",
        call.rows()
    )
}
