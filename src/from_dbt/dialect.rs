//! SQL of other engines that DataFusion does not have, and what to write instead.

use std::sync::LazyLock;

use regex::Regex;

/// Functions by name.
const FUNCTIONS: &[(&[&str], &str)] = &[
    (&["iff", "if"], "write `case when ... then ... else ... end`"),
    (&["getdate", "sysdate", "sysdatetime"], "write `now()`"),
    (
        &["dateadd", "date_add", "date_sub", "timestamp_add", "timestamp_sub"],
        "write {{ dbt.dateadd('day', 1, 'x') }}, or `x + interval '1 day'`",
    ),
    (&["datediff", "date_diff", "timestamp_diff"], "write {{ dbt.datediff('a', 'b', 'day') }}"),
    (&["timestamp_trunc", "datetime_trunc"], "write `date_trunc('month', x)`"),
    (&["last_day"], "write {{ dbt.last_day('x', 'month') }}"),
    (
        &["dayofweek", "dayofyear", "weekofyear", "year", "month", "quarter", "hour", "minute"],
        "write `extract(year from x)`, or `extract(dow from x)`",
    ),
    (&["epoch"], "write `extract(epoch from x)`"),
    (&["convert_timezone"], "write `x at time zone 'Europe/Berlin'`"),
    (&["strftime", "format_date", "format_timestamp", "date_format"], "write `to_char(x, '%Y-%m-%d')`"),
    (&["date_from_parts", "datefromparts"], "write `make_date(2026, 1, 31)`"),
    (&["try_to_date", "date"], "write `try_cast(x as date)`, or `cast(x as date)`"),
    (&["datetime", "timestamp", "to_timestamp_ntz"], "write `cast(x as timestamp)`"),
    (&["to_varchar", "to_json_string"], "write `cast(x as varchar)`"),
    (
        &["to_number", "to_decimal", "to_numeric", "try_to_number", "try_to_decimal", "to_double"],
        "write `try_cast(x as decimal(38, 6))`",
    ),
    (&["to_boolean"], "write `cast(x as boolean)`"),
    (&["safe_divide", "div0"], "write {{ dbt_utils.safe_divide('a', 'b') }}"),
    (&["zeroifnull"], "write `coalesce(x, 0)`"),
    (&["isnull"], "write `coalesce(x, y)`"),
    (&["decode"], "write `case x when ... then ... else ... end`"),
    (&["len"], "write `length(x)`"),
    (&["charindex"], "write `strpos(text, part)`: the text stands first"),
    (&["startswith"], "write `starts_with(x, y)`"),
    (&["endswith"], "write `ends_with(x, y)`"),
    (&["regexp_substr", "regexp_extract"], "write `regexp_match(x, 'pattern')[1]`"),
    (&["regexp_contains", "rlike"], "write `regexp_like(x, 'pattern')`"),
    (&["split", "string_split"], "write `string_to_array(x, ',')`"),
    (&["listagg", "group_concat"], "write `string_agg(x, ',')`"),
    (&["list"], "write `array_agg(x)`"),
    (&["approx_count_distinct"], "write `approx_distinct(x)`"),
    (&["countif", "count_if"], "write `count(*) filter (where ...)`"),
    (&["sumif"], "write `sum(x) filter (where ...)`"),
    (&["boolor_agg", "logical_or"], "write `bool_or(x)`"),
    (&["booland_agg", "logical_and"], "write `bool_and(x)`"),
    (&["max_by", "min_by"], "write `first_value(x order by y desc)`"),
    (&["ratio_to_report"], "write `x / sum(x) over (...)`"),
    (&["generate_array"], "write `generate_series(1, 10)`"),
    (&["array_size"], "write `array_length(x)`"),
    (&["object_construct"], "write `named_struct('a', 1)`"),
    (&["hash", "farm_fingerprint"], "write `md5(x)`"),
    (&["sha2"], "write `encode(sha256(x), 'hex')`"),
    (&["generate_uuid", "gen_random_uuid", "uuid_string", "newid"], "write `uuid()`"),
    (
        &[
            "parse_json",
            "try_parse_json",
            "json_extract",
            "json_extract_scalar",
            "json_extract_path_text",
            "json_value",
            "json_query",
            "get_json_object",
            "get_path",
        ],
        "there is no JSON in SQL: a source of JSON files has its fields as typed columns, `payload['field']`",
    ),
    (
        &["read_csv", "read_csv_auto", "read_parquet", "read_json", "read_json_auto"],
        "declare the files as a source in YAML, and write {{ source('name', 'table') }}",
    ),
];

/// Types that are written in a cast.
const TYPES: &[(&[&str], &str)] = &[
    (&["number"], "write `decimal(38, 0)`"),
    (&["int64", "integer64"], "write `bigint`"),
    (&["float64"], "write `double`"),
    (&["bignumeric"], "write `decimal(38, 9)`"),
    (&["datetime", "timestamp_ntz", "timestamp_ltz", "timestamp_tz"], "write `timestamp`"),
    (
        &["variant", "object", "json", "jsonb", "super"],
        "there is no such type: a source of JSON files has its fields as typed columns",
    ),
    (&["geography", "geometry"], "there is no such type"),
];

static CALL: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)\b([a-z_][a-z0-9_]*)\s*\(").expect("a regular expression"));
static CAST: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)(?:::\s*|\bcast\s*\([^()]*\bas\s+)([a-z_][a-z0-9_]*)").expect("a regular expression")
});
static PATH: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)[a-z_][a-z0-9_]*:[a-z_\[][a-z0-9_]*").expect("a regular expression"));
static WORDS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)(\b(?:lateral\s+flatten|localtimestamp|pivot\s*\(|unpivot\s*\()|//)")
        .expect("a regular expression")
});
static FROM: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"(?i)\b(?:from|join)\s+([a-z_"`][\w"`$-]*(?:\.["`\w$-]+)+)"#).expect("a regular expression")
});

/// What is of another engine in SQL, whose texts and comments are blanked: where it is, what it is, and what to write.
pub(super) fn foreign(sql: &str) -> Vec<(usize, String, String)> {
    let mut found = Vec::new();
    let instead = |list: &[(&[&str], &str)], name: &str| {
        list.iter().find(|(names, _)| names.contains(&name)).map(|(_, instead)| (*instead).to_owned())
    };
    for name in CALL.captures_iter(sql).filter_map(|captures| captures.get(1)) {
        let lower = name.as_str().to_lowercase();
        let before = sql[..name.start()].trim_end().to_lowercase();
        // `cast(x as timestamp(3))` is a type; `decode(x, 'hex')` is one that DataFusion has.
        let is_known = before.ends_with(" as") || before.ends_with("::") || before.ends_with('.');
        if is_known || (lower == "decode" && commas(&sql[name.end()..]) < 2) {
            continue;
        }
        if let Some(instead) = instead(FUNCTIONS, &lower) {
            found.push((name.start(), format!("function `{lower}`"), instead));
        }
    }
    for name in CAST.captures_iter(sql).filter_map(|captures| captures.get(1)) {
        let lower = name.as_str().to_lowercase();
        if let Some(instead) = instead(TYPES, &lower) {
            found.push((name.start(), format!("type `{lower}`"), instead));
        }
    }
    for path in PATH.find_iter(sql) {
        let text = path.as_str();
        if !text.contains("::") && !sql[..path.start()].ends_with(':') {
            let instead =
                "there is no JSON in SQL: a source of JSON files has its fields as typed columns, `payload['field']`";
            found.push((path.start(), format!("path `{text}` into JSON"), instead.to_owned()));
        }
    }
    for word in WORDS.find_iter(sql) {
        let text = word.as_str().to_lowercase();
        let (what, instead) = match text.as_str() {
            "//" => ("operator `//`", "write `floor(a / b)`"),
            "localtimestamp" => ("`localtimestamp`", "write `now()`"),
            _ if text.starts_with("unpivot") => ("`unpivot`", "write {{ dbt_utils.unpivot(...) }}"),
            _ if text.starts_with("pivot") => {
                ("`pivot`", "write {{ dbt_utils.pivot(...) }}, or `sum(x) filter (where ...)`")
            }
            _ => ("`lateral flatten`", "write `unnest(x)`"),
        };
        found.push((word.start(), what.to_owned(), instead.to_owned()));
    }
    found
}

/// Commas between the arguments of a call, whose opening bracket comes first.
fn commas(sql: &str) -> usize {
    let (mut depth, mut found) = (0, 0);
    for letter in sql.chars() {
        match letter {
            '(' => depth += 1,
            ')' if depth == 1 => break,
            ')' => depth -= 1,
            ',' if depth == 1 => found += 1,
            _ => {}
        }
    }
    found
}

/// Tables that SQL names with a schema, and not through Jinja.
pub(super) fn tables(sql: &str) -> Vec<(usize, String)> {
    let found = FROM.captures_iter(sql).filter_map(|captures| {
        let (whole, table) = (captures.get(0)?, captures.get(1)?);
        let before = sql[..whole.start()].trim_end();
        let is_distinct = before.to_lowercase().ends_with("distinct");
        // `extract(year from a.b)` reads no table.
        let open = before.rfind('(').filter(|open| !before[*open..].contains(')'));
        let function = open.map(|open| before[..open].trim_end().to_lowercase());
        let is_call = function.is_some_and(|text| {
            ["extract", "trim", "substring", "overlay", "position"].iter().any(|name| text.ends_with(name))
        });
        (!is_distinct && !is_call).then(|| (table.start(), table.as_str().replace(['"', '`'], "")))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(sql: &str) -> Vec<String> {
        foreign(sql).into_iter().map(|(_, what, _)| what).collect()
    }

    #[test]
    fn functions_and_types_of_other_engines_are_found() {
        assert_eq!(
            found("select iff(a, 1, 2), length(b), c::number, cast(d as int64)").join(" "),
            "function `iff` type `number` type `int64`"
        );
        assert_eq!(found("select a::int, x:y.z, 1 as number, b // 2").join(" "), "path `x:y` into JSON operator `//`");
        assert_eq!(found("select * from t, lateral flatten(input => t.x)").join(" "), "`lateral flatten`");
        assert!(found("select a as datetime, coalesce(b, 0) from t").is_empty());
    }

    #[test]
    fn tables_with_a_schema_are_found() {
        let names = |sql: &str| tables(sql).into_iter().map(|(_, name)| name).collect::<Vec<_>>().join(" ");
        assert_eq!(names("select * from raw.orders o join \"db\".\"s\".t on true"), "raw.orders db.s.t");
        assert_eq!(
            names("select extract(year from o.at), trim(both from o.x) from orders o where a is distinct from o.b"),
            ""
        );
    }
}
