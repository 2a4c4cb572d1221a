//! What holds for every row by itself.

use super::uses::{Use, literals, quoted};
use super::{Check, Definition, Kind, Parameter, Subject, needs, takes};
use crate::words::sql_text;

/// Two bounds, of which one may be missing, or one value for both.
const BOUNDS: &[Parameter] = &[
    takes(&["min_value"], Kind::Bound),
    takes(&["max_value"], Kind::Bound),
    takes(&["value"], Kind::Bound),
    takes(&["inclusive"], Kind::Flag),
    takes(&["strictly"], Kind::Flag),
];

const LISTED: &[Parameter] =
    &[needs(&["values", "value_set"], Kind::Values), takes(&["quote", "quote_values"], Kind::Flag)];

const REGEX_LIST: &[Parameter] = &[
    needs(&["regex_list"], Kind::Values),
    takes(&["match_on"], Kind::Word(&["any", "all"])),
    takes(&["is_raw"], Kind::Flag),
    takes(&["flags"], Kind::Text),
];

/// Texts that many look for.
const PRESETS: &[(&str, &str)] = &[
    (
        "email",
        r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)+$",
    ),
    ("uuid", r"^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$"),
    ("url", r"^[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#]+[^\s]*$"),
];

pub(super) const TESTS: &[Definition] = &[
    Definition {
        names: &["not_null", "expect_column_values_to_not_be_null"],
        subject: Subject::Column,
        parameters: &[],
        about: "no value is NULL",
        check: |call| Ok(Check::rows(format!("{} is null", call.column()))),
    },
    Definition {
        names: &["is_null", "expect_column_values_to_be_null"],
        subject: Subject::Column,
        parameters: &[],
        about: "every value is NULL",
        check: |call| Ok(Check::rows(format!("{} is not null", call.column()))),
    },
    Definition {
        names: &["accepted_values", "expect_column_values_to_be_in_set"],
        subject: Subject::Column,
        parameters: LISTED,
        about: "every value is one of a list; NULLs do not count",
        check: |call| Ok(Check::rows(listed(call, "not in"))),
    },
    Definition {
        names: &["not_accepted_values", "expect_column_values_to_not_be_in_set"],
        subject: Subject::Column,
        parameters: LISTED,
        about: "no value is one of a list",
        check: |call| Ok(Check::rows(listed(call, "in"))),
    },
    Definition {
        names: &["accepted_range", "expect_column_values_to_be_between"],
        subject: Subject::Column,
        parameters: BOUNDS,
        about: "every value lies between two bounds; NULLs do not count",
        check: |call| Ok(Check::rows(call.outside(&call.column())?.0)),
    },
    Definition {
        names: &["dates_between"],
        subject: Subject::Column,
        parameters: &[takes(&["min_value"], Kind::Text), takes(&["max_value"], Kind::Text)],
        about: "every date or time lies between two others, written as `2024-01-31`; NULLs do not count",
        check: |call| {
            let column = format!("cast({} as timestamp)", call.column());
            let bounds = [("min_value", "<"), ("max_value", ">")];
            let given = bounds.iter().filter_map(|(name, sign)| Some((call.text(name)?, sign)));
            let wrong: Vec<String> = given
                .map(|(bound, sign)| {
                    // A day without a time means all of it.
                    let is_day = *sign == ">" && bound.len() == 10;
                    let column = if is_day { format!("cast({} as date)", call.column()) } else { column.clone() };
                    format!("{column} {sign} {} {}", if is_day { "date" } else { "timestamp" }, sql_text(bound))
                })
                .collect();
            if wrong.is_empty() {
                return Err("`dates_between` needs `min_value` or `max_value`, or both".to_owned());
            }
            Ok(Check::rows(wrong.join(" or ")))
        },
    },
    Definition {
        names: &["expression_is_true"],
        subject: Subject::Any,
        parameters: &[needs(&["expression"], Kind::Sql)],
        about: "a SQL expression is true; below a column it goes on from the column: `>= 0`",
        check: |call| {
            let subject = call.column.map(|_| format!("{} ", call.column())).unwrap_or_default();
            Ok(Check::rows(format!("not ({subject}{})", call.text("expression").unwrap_or_default())))
        },
    },
    Definition {
        names: &["not_empty_string"],
        subject: Subject::Column,
        parameters: &[takes(&["trim_whitespace"], Kind::Flag)],
        about: "no text is empty; NULLs do not count",
        check: |call| {
            let column = call.column();
            let trims = call.flag("trim_whitespace").unwrap_or(true);
            Ok(Check::rows(if trims { format!("trim({column}) = ''") } else { format!("{column} = ''") }))
        },
    },
    Definition {
        names: &[
            "string_length_between",
            "expect_column_value_lengths_to_be_between",
            "expect_column_value_lengths_to_equal",
        ],
        subject: Subject::Column,
        parameters: BOUNDS,
        about: "the number of characters lies between two bounds; NULLs do not count",
        check: |call| Ok(Check::rows(call.outside(&format!("character_length({})", varchar(call)))?.0)),
    },
    Definition {
        names: &["matches_regex", "expect_column_values_to_match_regex"],
        subject: Subject::Column,
        parameters: &[
            takes(&["regex"], Kind::Text),
            takes(&["preset"], Kind::Word(&["email", "uuid", "url"])),
            takes(&["is_raw"], Kind::Flag),
            takes(&["flags"], Kind::Text),
        ],
        about: "every text matches a regular expression, or is an `email`, a `uuid`, a `url`; NULLs do not count",
        check: |call| Ok(Check::rows(format!("not ({})", matches(call, &pattern(call)?)))),
    },
    Definition {
        names: &["not_matches_regex", "expect_column_values_to_not_match_regex"],
        subject: Subject::Column,
        parameters: &[needs(&["regex"], Kind::Text), takes(&["is_raw"], Kind::Flag), takes(&["flags"], Kind::Text)],
        about: "no text matches a regular expression",
        check: |call| Ok(Check::rows(matches(call, &pattern(call)?))),
    },
    Definition {
        names: &["matches_regex_list", "expect_column_values_to_match_regex_list"],
        subject: Subject::Column,
        parameters: REGEX_LIST,
        about: "every text matches any regular expression of a list, or all; NULLs do not count",
        check: |call| Ok(Check::rows(format!("not ({})", of_list(call)))),
    },
    Definition {
        names: &["not_matches_regex_list", "expect_column_values_to_not_match_regex_list"],
        subject: Subject::Column,
        parameters: REGEX_LIST,
        about: "no text matches any regular expression of a list, or all",
        check: |call| Ok(Check::rows(of_list(call))),
    },
    Definition {
        names: &["matches_like", "expect_column_values_to_match_like_pattern"],
        subject: Subject::Column,
        parameters: &[needs(&["like_pattern"], Kind::Text)],
        about: "every text matches a pattern of SQL's LIKE; NULLs do not count",
        check: |call| Ok(Check::rows(format!("{} not like {}", varchar(call), like(call)))),
    },
    Definition {
        names: &["not_matches_like", "expect_column_values_to_not_match_like_pattern"],
        subject: Subject::Column,
        parameters: &[needs(&["like_pattern"], Kind::Text)],
        about: "no text matches a pattern of SQL's LIKE",
        check: |call| Ok(Check::rows(format!("{} like {}", varchar(call), like(call)))),
    },
    Definition {
        names: &["well_formed_json", "expect_column_values_to_be_json_parseable"],
        subject: Subject::Column,
        parameters: &[],
        about: "every text is JSON; NULLs do not count",
        check: |call| Ok(Check::rows(format!("not is_json({})", varchar(call)))),
    },
    Definition {
        names: &["columns_in_order", "expect_column_pair_values_a_to_be_greater_than_b"],
        subject: Subject::Table,
        parameters: &[
            needs(&["column_A"], Kind::Text),
            needs(&["column_B"], Kind::Text),
            takes(&["or_equal"], Kind::Flag),
        ],
        about: "in every row `column_A` is greater than `column_B`; NULLs do not count",
        check: |call| {
            let sign = if call.flag("or_equal").unwrap_or(false) { "<" } else { "<=" };
            let (a, b) = pair(call);
            Ok(Check::rows(format!("{a} {sign} {b}")))
        },
    },
    Definition {
        names: &["columns_equal", "expect_column_pair_values_to_be_equal"],
        subject: Subject::Table,
        parameters: &[needs(&["column_A"], Kind::Text), needs(&["column_B"], Kind::Text)],
        about: "in every row `column_A` equals `column_B`",
        check: |call| {
            let (a, b) = pair(call);
            Ok(Check::rows(format!("{a} is distinct from {b}")))
        },
    },
    Definition {
        names: &["column_pairs_in_set", "expect_column_pair_values_to_be_in_set"],
        subject: Subject::Table,
        parameters: &[
            needs(&["column_A"], Kind::Text),
            needs(&["column_B"], Kind::Text),
            needs(&["value_pairs_set"], Kind::Values),
        ],
        about: "in every row `column_A` and `column_B` are one of a list of pairs; NULLs do not count",
        check: |call| {
            let (a, b) = pair(call);
            let mut equal = Vec::new();
            for pair in call.list("value_pairs_set") {
                let pair = pair.as_array().filter(|pair| pair.len() == 2);
                let pair = pair.ok_or("`value_pairs_set` is a list of lists of two values each")?;
                let (first, second) = (literals(&pair[..1], false), literals(&pair[1..], false));
                equal.push(format!("({a} = {first} and {b} = {second})"));
            }
            Ok(Check::rows(format!("not ({})", equal.join(" or "))))
        },
    },
    Definition {
        names: &["columns_sum_to", "expect_multicolumn_sum_to_equal"],
        subject: Subject::Table,
        parameters: &[needs(&["column_list"], Kind::Columns), needs(&["sum_total"], Kind::Bound)],
        about: "in every row these columns add up to a number",
        check: |call| {
            let sum = call.columns("column_list").join(" + ");
            Ok(Check::rows(format!("{sum} <> {}", call.sql("sum_total").unwrap_or_default())))
        },
    },
    Definition {
        names: &["unique_within_row", "expect_select_column_values_to_be_unique_within_record"],
        subject: Subject::Table,
        parameters: &[needs(&["column_list"], Kind::Columns)],
        about: "in no row two of these columns are equal; NULLs do not count",
        check: |call| {
            let columns = call.columns("column_list");
            let pairs = columns
                .iter()
                .enumerate()
                .flat_map(|(at, a)| columns[at + 1..].iter().map(move |b| format!("{a} = {b}")));
            let pairs: Vec<String> = pairs.collect();
            if pairs.is_empty() {
                return Err("`column_list` needs two columns or more".to_owned());
            }
            Ok(Check::rows(pairs.join(" or ")))
        },
    },
];

/// The column against the values of the test.
fn listed(call: &Use<'_>, how: &str) -> String {
    let (quote, column) = (call.flag("quote").unwrap_or(true), call.column());
    let tested = if quote { varchar(call) } else { column.clone() };
    format!("{column} is not null and {tested} {how} ({})", literals(call.list("values"), quote))
}

/// The column as text.
fn varchar(call: &Use<'_>) -> String {
    format!("cast({} as varchar)", call.column())
}

fn matches(call: &Use<'_>, pattern: &str) -> String {
    let flags = call.text("flags").map(|flags| format!(", {}", sql_text(flags))).unwrap_or_default();
    format!("regexp_like({}, {}{flags})", varchar(call), sql_text(pattern))
}

fn pattern(call: &Use<'_>) -> Result<String, String> {
    let preset = call.text("preset").and_then(|name| PRESETS.iter().find(|(known, _)| *known == name));
    match (call.text("regex"), preset) {
        (Some(regex), None) => Ok(regex.to_owned()),
        (None, Some((_, regex))) => Ok((*regex).to_owned()),
        _ => Err("`matches_regex` needs a `regex` or a `preset`: email, uuid, url".to_owned()),
    }
}

fn of_list(call: &Use<'_>) -> String {
    let word = if call.text("match_on") == Some("all") { " and " } else { " or " };
    let each = call.list("regex_list").iter().filter_map(|regex| regex.as_str());
    each.map(|regex| matches(call, regex)).collect::<Vec<_>>().join(word)
}

fn like(call: &Use<'_>) -> String {
    sql_text(call.text("like_pattern").unwrap_or_default())
}

fn pair(call: &Use<'_>) -> (String, String) {
    let column = |name| quoted(call.text(name).unwrap_or_default());
    (column("column_A"), column("column_B"))
}
