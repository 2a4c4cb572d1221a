//! What is unusual beside a table's own history: how many rows there are, how old the newest is, how values are spread.

use super::unusual::{Direction, Times, Usual};
use super::uses::Use;
use super::{Check, Definition, Kind, Parameter, Subject, needs, takes};
use crate::intervals::BatchSize;

const TIMESTAMP: Parameter = takes(&["timestamp_column"], Kind::Text);
const BUCKET: Parameter = takes(&["time_bucket"], Kind::Period);
const DETECTION: Parameter = takes(&["detection_period"], Kind::Period);
const DELAY: Parameter = takes(&["detection_delay"], Kind::Period);
const SENSITIVITY: Parameter = takes(&["sensitivity", "anomaly_sensitivity"], Kind::Number);
const DIRECTION: Parameter = takes(&["direction", "anomaly_direction"], Kind::Word(&["both", "spike", "drop"]));
const TRAINING: Parameter = takes(&["training_period"], Kind::Period);
const TRAINING_SET: Parameter = takes(&["min_training_set_size"], Kind::Count);
const TRAINING_START: Parameter = takes(&["training_start"], Kind::Text);
const SEASONALITY: Parameter = takes(&["seasonality"], Kind::Word(&["day_of_week"]));

pub(super) const TESTS: &[Definition] = &[
    Definition {
        names: &["volume_anomalies", "volume_anomaly"],
        subject: Subject::Table,
        parameters: &[
            TIMESTAMP,
            BUCKET,
            DETECTION,
            DELAY,
            SENSITIVITY,
            DIRECTION,
            TRAINING,
            TRAINING_SET,
            TRAINING_START,
            SEASONALITY,
        ],
        about: "the number of rows is as usual, beside earlier runs or, with `timestamp_column`, earlier days",
        check: |call| unusual(call, &["rows"], Direction::Both),
    },
    Definition {
        names: &["freshness_anomalies", "freshness_anomaly"],
        subject: Subject::Table,
        parameters: &[
            needs(&["timestamp_column"], Kind::Text),
            SENSITIVITY,
            DIRECTION,
            TRAINING,
            TRAINING_SET,
            TRAINING_START,
            SEASONALITY,
        ],
        about: "the newest row is as old as it usually is when the table is built",
        check: |call| {
            let newest = format!("max(cast({} as timestamp))", super::uses::quoted(text(call, "timestamp_column")));
            let age = format!("(date_part('epoch', now()) - date_part('epoch', {})) / 3600.0", call.over(&newest));
            let usual = usual(call, Direction::Spike)?;
            Ok(Check::Measures {
                values: vec![("age_in_hours", age)],
                wrong: "false".to_owned(),
                expected: String::new(),
                // A minute.
                usual: Some(Usual { least_spread: 1.0 / 60.0, ..usual }),
            })
        },
    },
    Definition {
        names: &["null_rate_anomalies", "null_rate_anomaly"],
        subject: Subject::Column,
        parameters: &[
            TIMESTAMP,
            BUCKET,
            DETECTION,
            DELAY,
            SENSITIVITY,
            DIRECTION,
            TRAINING,
            TRAINING_SET,
            TRAINING_START,
            SEASONALITY,
        ],
        about: "the part of the values that are NULL is as usual",
        check: |call| unusual(call, &["null_percent"], Direction::Both),
    },
    Definition {
        names: &["distribution_anomalies", "distribution_anomaly", "column_anomalies"],
        subject: Subject::Column,
        parameters: &[
            takes(&["measures", "column_anomalies"], Kind::Values),
            TIMESTAMP,
            BUCKET,
            DETECTION,
            DELAY,
            SENSITIVITY,
            DIRECTION,
            TRAINING,
            TRAINING_SET,
            TRAINING_START,
            SEASONALITY,
        ],
        about: "the values of a column are spread as usual: their average, standard deviation and median, if nothing else is said",
        check: |call| {
            let given: Vec<&str> = call.list("measures").iter().filter_map(serde_json::Value::as_str).collect();
            unusual(
                call,
                if given.is_empty() { &["average", "standard_deviation", "median"] } else { &given },
                Direction::Both,
            )
        },
    },
];

/// What can be measured, and the aggregate that does it.
const MEASURES: &[(&str, &str)] = &[
    ("rows", "count(*)"),
    ("null_percent", "avg(case when {} is null then 100.0 else 0.0 end)"),
    ("zero_percent", "avg(case when {} = 0 then 100.0 when {} is not null then 0.0 end)"),
    ("average", "avg({})"),
    ("standard_deviation", "stddev({})"),
    ("median", "approx_median(cast({} as double))"),
    ("min", "min({})"),
    ("max", "max({})"),
    ("sum", "sum({})"),
    ("distinct_count", "approx_distinct({})"),
    ("average_length", "avg(character_length({}))"),
    ("min_length", "min(character_length({}))"),
    ("max_length", "max(character_length({}))"),
];

fn text<'u>(call: &'u Use<'_>, name: &str) -> &'u str {
    call.text(name).unwrap_or_default()
}

/// Measures beside those of earlier runs, or of earlier times.
fn unusual(call: &Use<'_>, names: &[&str], direction: Direction) -> Result<Check, String> {
    let mut values = Vec::new();
    for name in names {
        let Some((name, aggregate)) = MEASURES.iter().find(|(known, _)| known == name) else {
            let known: Vec<&str> = MEASURES.iter().skip(1).map(|(known, _)| *known).collect();
            return Err(format!("`{name}` is not measured; known: {}", known.join(", ")));
        };
        let aggregate = aggregate.replace("{}", &call.column());
        values.push((*name, aggregate));
    }
    // A tenth of a percent: one NULL among many rows is nothing unusual where there was none.
    let least_spread = if names.iter().all(|name| name.ends_with("_percent")) { 0.1 } else { 0.0 };
    let usual = Usual { least_spread, ..usual(call, direction)? };
    let over =
        |(name, aggregate): &(&'static str, String)| (*name, format!("cast({} as double)", call.over(aggregate)));
    if call.text("timestamp_column").is_none() {
        for only in ["time_bucket", "detection_period", "detection_delay"] {
            if call.has(only) {
                return Err(format!(
                    "`{only}` needs `timestamp_column`: without it each run is compared with earlier runs"
                ));
            }
        }
        let values = values.iter().map(over).collect();
        return Ok(Check::Measures { values, wrong: "false".to_owned(), expected: String::new(), usual: Some(usual) });
    }
    let times = times(call, &usual)?;
    let bucket = match times.bucket {
        BatchSize::Hour => "hour",
        BatchSize::Day => "day",
        BatchSize::Month => "month",
        BatchSize::Year => "year",
    };
    let at = format!("cast({} as timestamp)", super::uses::quoted(text(call, "timestamp_column")));
    let measured: Vec<String> =
        values.iter().map(|(name, aggregate)| format!("cast({aggregate} as double) as \"{name}\"")).collect();
    let sql = format!(
        "select date_trunc('{bucket}', {at}) as bucket, {} from {} where {at} >= now() - interval '{} hours' group by 1",
        measured.join(", "),
        call.rows(),
        times.hours(&usual),
    );
    Ok(Check::Series { sql, values: values.into_iter().map(|(name, _)| name).collect(), times, usual })
}

fn usual(call: &Use<'_>, direction: Direction) -> Result<Usual, String> {
    let sensitivity = match call.sql("sensitivity").map(|text| text.parse::<f64>()) {
        None => 3.0,
        Some(Ok(given)) if given > 0.0 => given,
        Some(_) => return Err("`sensitivity` is how many standard deviations are usual: more than 0".to_owned()),
    };
    let since =
        match call.text("training_start") {
            None => None,
            Some(text) => Some(crate::intervals::moment(text).ok_or_else(|| {
                format!("`training_start` is a date or a time, such as `2026-01-31`, and not `{text}`")
            })?),
        };
    Ok(Usual {
        sensitivity,
        direction: match call.text("direction") {
            Some("spike") => Direction::Spike,
            Some("drop") => Direction::Drop,
            Some(_) => Direction::Both,
            None => direction,
        },
        least_values: usize::try_from(call.count("min_training_set_size").unwrap_or(7)).unwrap_or(usize::MAX).max(2),
        training_hours: call.hours("training_period"),
        by_weekday: call.text("seasonality").is_some(),
        since,
        least_spread: 0.0,
    })
}

fn times(call: &Use<'_>, usual: &Usual) -> Result<Times, String> {
    let bucket = match call.period("time_bucket") {
        None => BatchSize::Day,
        Some(("hour", 1)) => BatchSize::Hour,
        Some(("day", 1)) => BatchSize::Day,
        Some(("month", 1)) => BatchSize::Month,
        Some((period, count)) => {
            return Err(format!("`time_bucket` is one hour, one day or one month, and not {count} {period}s"));
        }
    };
    if usual.by_weekday && bucket == BatchSize::Month {
        return Err("`seasonality: day_of_week` needs a `time_bucket` of hours or days".to_owned());
    }
    let days = |days: u64| days * 24;
    let detection =
        call.hours("detection_period").unwrap_or(if bucket == BatchSize::Month { days(31) } else { days(2) });
    let delay = call.hours("detection_delay").unwrap_or_default();
    Ok(Times { bucket, detection_hours: detection, delay_hours: delay })
}
