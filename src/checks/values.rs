//! What holds for the values of a column together: their mean, their sum, the values that there are.

use super::uses::{Use, literals};
use super::{Check, Definition, Kind, Parameter, Subject, needs, takes, value};

const GROUPED_BOUNDS: &[Parameter] = &[
    takes(&["min_value"], Kind::Bound),
    takes(&["max_value"], Kind::Bound),
    takes(&["value"], Kind::Bound),
    takes(&["inclusive"], Kind::Flag),
    takes(&["strictly"], Kind::Flag),
    takes(&["group_by_columns", "group_by"], Kind::Columns),
];

const VALUE_SET: &[Parameter] =
    &[needs(&["value_set", "values"], Kind::Values), takes(&["quote_values", "quote"], Kind::Flag)];

pub(super) const TESTS: &[Definition] = &[
    Definition {
        names: &["mean_between", "expect_column_mean_to_be_between"],
        subject: Subject::Column,
        parameters: GROUPED_BOUNDS,
        about: "the mean of all values lies between two bounds",
        check: |call| measured(call, "mean", &format!("avg({})", call.column())),
    },
    Definition {
        names: &["median_between", "expect_column_median_to_be_between"],
        subject: Subject::Column,
        parameters: GROUPED_BOUNDS,
        about: "the median of all values lies between two bounds",
        check: |call| measured(call, "median", &format!("median({})", call.column())),
    },
    Definition {
        names: &["stddev_between", "expect_column_stdev_to_be_between"],
        subject: Subject::Column,
        parameters: GROUPED_BOUNDS,
        about: "the standard deviation of all values lies between two bounds",
        check: |call| measured(call, "stddev", &format!("stddev({})", call.column())),
    },
    Definition {
        names: &["sum_between", "expect_column_sum_to_be_between"],
        subject: Subject::Column,
        parameters: GROUPED_BOUNDS,
        about: "the sum of all values lies between two bounds",
        check: |call| measured(call, "sum", &format!("sum({})", call.column())),
    },
    Definition {
        names: &["min_between", "expect_column_min_to_be_between"],
        subject: Subject::Column,
        parameters: GROUPED_BOUNDS,
        about: "the least value lies between two bounds",
        check: |call| measured(call, "min", &format!("min({})", call.column())),
    },
    Definition {
        names: &["max_between", "expect_column_max_to_be_between"],
        subject: Subject::Column,
        parameters: GROUPED_BOUNDS,
        about: "the greatest value lies between two bounds",
        check: |call| measured(call, "max", &format!("max({})", call.column())),
    },
    Definition {
        names: &["quantile_between", "expect_column_quantile_values_to_be_between"],
        subject: Subject::Column,
        parameters: &[
            needs(&["quantile"], Kind::Number),
            takes(&["min_value"], Kind::Bound),
            takes(&["max_value"], Kind::Bound),
            takes(&["value"], Kind::Bound),
            takes(&["strictly"], Kind::Flag),
            takes(&["group_by_columns", "group_by"], Kind::Columns),
        ],
        about: "a quantile of all values (0.5 is the median) lies between two bounds",
        check: |call| {
            let quantile = call.sql("quantile").unwrap_or_default();
            if !quantile.parse::<f64>().is_ok_and(|quantile| (0.0..=1.0).contains(&quantile)) {
                return Err(format!("`quantile` lies between 0 and 1, and is {quantile}"));
            }
            measured(call, "quantile", &format!("percentile_cont({}, {quantile})", call.column()))
        },
    },
    Definition {
        names: &["not_null_proportion"],
        subject: Subject::Column,
        parameters: &[
            takes(&["min_value", "at_least"], Kind::Number),
            takes(&["max_value", "at_most"], Kind::Number),
            takes(&["group_by_columns"], Kind::Columns),
        ],
        about: "the part of the values that are not NULL lies between two bounds",
        check: |call| {
            let column = call.column();
            measured(call, "proportion", &format!("avg(case when {column} is null then 0.0 else 1.0 end)"))
        },
    },
    Definition {
        names: &["within_n_stddevs", "expect_column_values_to_be_within_n_stdevs"],
        subject: Subject::Column,
        parameters: &[takes(&["sigma_threshold"], Kind::Number)],
        about: "no value is further from the mean than some standard deviations: 3, if nothing else is said",
        check: |call| {
            let (column, rows) = (call.column(), call.rows());
            let sigma = call.sql("sigma_threshold").unwrap_or_else(|| "3".to_owned());
            Ok(Check::query(format!(
                "select tested.* from {rows} cross join \
                 (select avg({column}) as mean, stddev({column}) as spread from {rows}) as known \
                 where abs({column} - known.mean) > {sigma} * known.spread"
            )))
        },
    },
    Definition {
        names: &["distinct_values_in_set", "expect_column_distinct_values_to_be_in_set"],
        subject: Subject::Column,
        parameters: VALUE_SET,
        about: "every value that there is stands in a list",
        check: |call| Ok(Check::query(distinct_values(call, Missing::List))),
    },
    Definition {
        names: &["distinct_values_contain_set", "expect_column_distinct_values_to_contain_set"],
        subject: Subject::Column,
        parameters: VALUE_SET,
        about: "every value of a list is there",
        check: |call| Ok(Check::query(distinct_values(call, Missing::Table))),
    },
    Definition {
        names: &["distinct_values_equal_set", "expect_column_distinct_values_to_equal_set"],
        subject: Subject::Column,
        parameters: VALUE_SET,
        about: "the values that there are are those of a list",
        check: |call| {
            let (surplus, missing) = (distinct_values(call, Missing::List), distinct_values(call, Missing::Table));
            Ok(Check::query(format!("{surplus} union all {missing}")))
        },
    },
    Definition {
        names: &["most_common_value_in_set", "expect_column_most_common_value_to_be_in_set"],
        subject: Subject::Column,
        parameters: &[
            needs(&["value_set", "values"], Kind::Values),
            takes(&["top_n"], Kind::Count),
            takes(&["quote_values", "quote"], Kind::Flag),
        ],
        about: "the values that stand most often are of a list",
        check: |call| {
            let (column, rows, top) = (call.column(), call.rows(), call.count("top_n").unwrap_or(1));
            let tested = as_listed(call, "value");
            let values = literals(call.list("value_set"), quotes(call));
            Ok(Check::query(format!(
                "select * from (select {column} as value, count(*) as n_records from {rows} group by {column} \
                 order by count(*) desc, {column} limit {top}) where {tested} not in ({values})"
            )))
        },
    },
];

/// An aggregate between bounds, over all rows or in each group.
fn measured(call: &Use<'_>, what: &'static str, aggregate: &str) -> Result<Check, String> {
    let groups = call.columns("group_by_columns");
    if groups.is_empty() {
        let (wrong, expected) = call.outside(&value(0))?;
        return Ok(Check::measure(what, call.over(aggregate), wrong, expected));
    }
    let (wrong, _) = call.outside(what)?;
    let (columns, rows) = (groups.join(", "), call.rows());
    Ok(Check::query(format!(
        "select * from (select {columns}, {aggregate} as {what} from {rows} group by {columns}) where {wrong}"
    )))
}

fn quotes(call: &Use<'_>) -> bool {
    call.flag("quote_values").unwrap_or(true)
}

/// A value as it compares with those of the list.
fn as_listed(call: &Use<'_>, column: &str) -> String {
    if quotes(call) { format!("cast({column} as varchar)") } else { column.to_owned() }
}

/// Where a value is missing.
enum Missing {
    /// It is in the table, and not in the list.
    List,
    /// It is in the list, and not in the table.
    Table,
}

/// Values of the table that are not in the list, or the other way round.
fn distinct_values(call: &Use<'_>, missing: Missing) -> String {
    let (column, rows) = (call.column(), call.rows());
    let tested = as_listed(call, &column);
    let values = literals(call.list("value_set"), quotes(call));
    match missing {
        Missing::List => format!(
            "select distinct {tested} as value, 'not in the list' as what from {rows} \
             where {column} is not null and {tested} not in ({values})"
        ),
        Missing::Table => {
            let listed = call
                .list("value_set")
                .iter()
                .map(|one| format!("({})", literals(std::slice::from_ref(one), quotes(call))));
            let listed: Vec<String> = listed.collect();
            format!(
                "select listed.value, 'not in the table' as what from (values {}) as listed (value) \
                 left join (select distinct {tested} as value from {rows}) as found on listed.value = found.value \
                 where found.value is null",
                listed.join(", ")
            )
        }
    }
}
