//! Every generic test that is built in: over a table that passes and one that does not, against a plain SQL count.

use std::collections::BTreeSet;

use crate::sandbox::Sandbox;

/// One test, its arguments, and two tables.
struct Case {
    /// As YAML names it.
    test: &'static str,
    /// A flow mapping.
    arguments: &'static str,
    /// The column that it stands below; empty for a test of the table.
    column: &'static str,
    /// Names of the columns of both tables.
    columns: &'static str,
    good: &'static str,
    bad: &'static str,
    /// SQL that counts what is wrong in `t`.
    plain: &'static str,
}

const fn case(
    test: &'static str,
    arguments: &'static str,
    (column, columns): (&'static str, &'static str),
    (good, bad): (&'static str, &'static str),
    plain: &'static str,
) -> Case {
    Case { test, arguments, column, columns, good, bad, plain }
}

/// The tables that some tests compare with: `four` has the numbers 1 to 4 in `n`, each with a letter in `s`.
const FOUR: &str = "select * from (values (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')) as t (n, s)";

#[rustfmt::skip]
const CASES: &[Case] = &[
    case("not_null", "{}", ("n", "n"), ("(1), (2)", "(1), (null)"), "select count(*) from t where n is null"),
    case("is_null", "{}", ("n", "n"), ("(cast(null as int)), (null)", "(1), (null)"), "select count(*) from t where n is not null"),
    case("unique", "{}", ("n", "n"), ("(1), (2), (null), (null)", "(1), (1), (1), (2), (2)"),
        "select count(*) from (select n from t where n is not null group by n having count(*) > 1)"),
    case("unique_combination_of_columns", "{ combination_of_columns: [n, s] }", ("", "n, s"), ("(1, 'a'), (1, 'b')", "(1, null), (1, null), (2, 'b')"),
        "select count(*) from (select n, s from t group by n, s having count(*) > 1)"),
    case("unique_proportion", "{ at_least: 0.5 }", ("n", "n"), ("(1), (1), (2), (2)", "(1), (1), (1), (2), (2)"),
        "select case when count(distinct n) * 1.0 / count(n) < 0.5 then 1 else 0 end from t"),
    case("accepted_values", "{ values: [a, b] }", ("s", "s"), ("('a'), ('b'), (null)", "('a'), ('x'), ('y')"), "select count(*) from t where s not in ('a', 'b')"),
    case("accepted_values", "{ values: [1, 2], quote: false }", ("n", "n"), ("(1), (2)", "(1), (3)"), "select count(*) from t where n not in (1, 2)"),
    case("not_accepted_values", "{ values: [x, y] }", ("s", "s"), ("('a'), (null)", "('a'), ('x'), ('y')"), "select count(*) from t where s in ('x', 'y')"),
    case("accepted_range", "{ min_value: 1, max_value: 5 }", ("n", "n"), ("(1), (5), (null)", "(0), (1), (6)"), "select count(*) from t where n < 1 or n > 5"),
    case("accepted_range", "{ min_value: 1, inclusive: false }", ("n", "n"), ("(2)", "(1), (2)"), "select count(*) from t where n <= 1"),
    case("accepted_range", "{ max_value: 'm' }", ("n", "n, m"), ("(1, 2)", "(3, 2), (1, 2)"), "select count(*) from t where n > m"),
    case("dates_between", "{ min_value: '2024-01-01', max_value: '2024-01-31' }", ("d", "d"), ("(timestamp '2024-01-31 23:59:59'), (null)", "(timestamp '2023-12-31 23:59:59'), (timestamp '2024-02-01 00:00:00')"),
        "select count(*) from t where d < timestamp '2024-01-01 00:00:00' or d >= timestamp '2024-02-01 00:00:00'"),
    case("relationships", "{ to: ref('four'), field: n }", ("n", "n"), ("(1), (4), (null)", "(1), (5), (5), (6)"), "select count(*) from t where n not in (select n from silver.four)"),
    case("relationships_where", "{ to: ref('four'), field: n, from_condition: 'n < 9', to_condition: 'n > 1' }", ("n", "n"), ("(2), (9)", "(1), (2), (9)"),
        "select count(*) from t where n < 9 and n not in (select n from silver.four where n > 1)"),
    case("expression_is_true", "{ expression: 'n < m' }", ("", "n, m"), ("(1, 2), (null, 1)", "(1, 2), (2, 2)"), "select count(*) from t where not (n < m)"),
    case("expression_is_true", "{ expression: '>= 0' }", ("n", "n"), ("(0)", "(-1), (0)"), "select count(*) from t where n < 0"),
    case("not_constant", "{}", ("n", "n"), ("(1), (2)", "(1), (1)"), "select case when count(distinct n) = 1 then 1 else 0 end from t"),
    case("not_constant", "{ group_by_columns: [s] }", ("n", "n, s"), ("(1, 'a'), (2, 'a')", "(1, 'a'), (1, 'a'), (1, 'b'), (2, 'b')"), "select count(*) from (select s from t group by s having count(distinct n) = 1)"),
    case("at_least_one", "{}", ("n", "n"), ("(1), (null)", "(cast(null as int)), (null)"), "select case when count(n) = 0 then 1 else 0 end from t"),
    case("at_least_one", "{ group_by_columns: [s] }", ("n", "n, s"), ("(1, 'a'), (2, 'b')", "(1, 'a'), (null, 'b')"), "select count(*) from (select s from t group by s having count(n) = 0)"),
    case("not_empty_string", "{}", ("s", "s"), ("('a'), (null)", "('a'), (' '), ('')"), "select count(*) from t where trim(s) = ''"),
    case("not_empty_string", "{ trim_whitespace: false }", ("s", "s"), ("(' ')", "(' '), ('')"), "select count(*) from t where s = ''"),
    case("cardinality_equality", "{ to: ref('four'), field: n }", ("n", "n"), ("(4), (3), (2), (1)", "(1), (1), (2), (3)"),
        "select count(*) from (select n, count(*) as c from t group by n) as a full join (select n, count(*) as c from silver.four group by n) as b on a.n = b.n where a.c is distinct from b.c"),
    case("equality", "{ compare_model: ref('four') }", ("", "n, s"), ("(1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')", "(1, 'a'), (2, 'b'), (3, 'x')"), "select case when count(*) = 3 then 3 else 0 end from t"),
    case("equality", "{ compare_model: ref('four'), compare_columns: [n] }", ("", "n, s"), ("(1, 'x'), (2, 'b'), (3, 'c'), (4, 'd')", "(1, 'a'), (2, 'b'), (3, 'x')"), "select case when count(*) = 3 then 1 else 0 end from t"),
    case("distinct_count_between", "{ min_value: 2, max_value: 3 }", ("n", "n"), ("(1), (1), (2)", "(1), (1)"), "select case when count(distinct n) between 2 and 3 then 0 else 1 end from t"),
    case("expect_column_distinct_count_to_equal", "{ value: 2 }", ("n", "n"), ("(1), (1), (2)", "(1), (2), (3)"), "select case when count(distinct n) = 2 then 0 else 1 end from t"),
    case("expect_column_distinct_count_to_be_greater_than", "{ value: 1 }", ("n", "n"), ("(1), (2)", "(1), (1)"), "select case when count(distinct n) > 1 then 0 else 1 end from t"),
    case("expect_column_distinct_count_to_be_less_than", "{ value: 2 }", ("n", "n"), ("(1), (1)", "(1), (2)"), "select case when count(distinct n) < 2 then 0 else 1 end from t"),
    case("expect_column_distinct_count_to_equal_other_table", "{ compare_model: ref('four'), compare_column_name: n }", ("n", "n"), ("(5), (6), (7), (8)", "(1), (1)"),
        "select case when count(distinct n) = 4 then 0 else 1 end from t"),
    case("string_length_between", "{ min_value: 2, max_value: 3 }", ("s", "s"), ("('ab'), ('äöü'), (null)", "('a'), ('abcd')"), "select count(*) from t where character_length(s) not between 2 and 3"),
    case("expect_column_value_lengths_to_equal", "{ value: 2 }", ("s", "s"), ("('ab')", "('a'), ('ab')"), "select count(*) from t where character_length(s) <> 2"),
    case("matches_regex", "{ regex: '^[a-z]+$' }", ("s", "s"), ("('ab'), (null)", "('a1'), ('')"), "select count(*) from t where not regexp_like(s, '^[a-z]+$')"),
    case("matches_regex", "{ preset: email }", ("s", "s"), ("('a.b+c@d-e.org')", "('a@b'), ('a b@c.de'), ('@c.de')"), "select count(*) from t where s not in ('a.b+c@d-e.org')"),
    case("matches_regex", "{ preset: uuid }", ("s", "s"), ("('0b6ffb24-9a3c-4A52-8dd1-5f2f7b1d1f1a')", "('0b6ffb24-9a3c-4A52-8dd1'), ('x')"), "select count(*) from t where character_length(s) <> 36"),
    case("matches_regex", "{ preset: url }", ("s", "s"), ("('https://a.org/b?c=d#e')", "('a.org'), ('http://'), ('http://a b')"), "select count(*) from t where s not like 'https://a.org%'"),
    case("not_matches_regex", "{ regex: '[0-9]' }", ("s", "s"), ("('ab')", "('a1'), ('b')"), "select count(*) from t where regexp_like(s, '[0-9]')"),
    case("matches_regex_list", "{ regex_list: ['^a', 'z$'] }", ("s", "s"), ("('ab'), ('yz')", "('b'), ('ab')"), "select count(*) from t where s not like 'a%' and s not like '%z'"),
    case("matches_regex_list", "{ regex_list: ['^a', 'z$'], match_on: all }", ("s", "s"), ("('az')", "('b'), ('ab')"), "select count(*) from t where s not like 'a%' or s not like '%z'"),
    case("not_matches_regex_list", "{ regex_list: ['^a', 'z$'] }", ("s", "s"), ("('b')", "('az'), ('ab')"), "select count(*) from t where s like 'a%' or s like '%z'"),
    case("matches_like", "{ like_pattern: 'a%' }", ("s", "s"), ("('ab'), (null)", "('b')"), "select count(*) from t where s not like 'a%'"),
    case("not_matches_like", "{ like_pattern: 'a%' }", ("s", "s"), ("('b'), (null)", "('ab'), ('b')"), "select count(*) from t where s like 'a%'"),
    case("well_formed_json", "{}", ("s", "s"), ("('{\"a\": [1, null]}'), ('1'), (null)", "('{a: 1}'), (''), ('[1')"), "select count(*) from t where s in ('{a: 1}', '', '[1')"),
    case("columns_in_order", "{ column_A: m, column_B: n }", ("", "n, m"), ("(1, 2), (null, 0)", "(1, 1), (2, 1), (1, 2)"), "select count(*) from t where not (m > n)"),
    case("columns_in_order", "{ column_A: m, column_B: n, or_equal: true }", ("", "n, m"), ("(1, 1)", "(1, 1), (2, 1)"), "select count(*) from t where not (m >= n)"),
    case("columns_equal", "{ column_A: m, column_B: n }", ("", "n, m"), ("(1, 1), (null, null)", "(1, null), (1, 2)"), "select count(*) from t where m is distinct from n"),
    case("column_pairs_in_set", "{ column_A: n, column_B: s, value_pairs_set: [[1, a], [2, b]] }", ("", "n, s"), ("(1, 'a'), (2, 'b'), (null, 'a')", "(1, 'b'), (2, 'b')"), "select count(*) from t where n = 1 and s = 'b'"),
    case("columns_sum_to", "{ column_list: [n, m], sum_total: 3 }", ("", "n, m"), ("(1, 2)", "(1, 2), (1, 1)"), "select count(*) from t where n + m <> 3"),
    case("unique_within_row", "{ column_list: [n, m, k] }", ("", "n, m, k"), ("(1, 2, 3), (null, null, 1)", "(1, 2, 1), (1, 1, 1)"), "select count(*) from t where n = m or m = k or n = k"),
    case("mean_between", "{ min_value: 1, max_value: 2 }", ("n", "n"), ("(1), (2), (3), (null)", "(1), (9)"), "select case when avg(n) between 1 and 2 then 0 else 1 end from t"),
    case("median_between", "{ max_value: 2 }", ("n", "n"), ("(1), (2), (9)", "(1), (9), (9)"), "select case when median(n) <= 2 then 0 else 1 end from t"),
    case("stddev_between", "{ max_value: 1 }", ("n", "n"), ("(1), (2)", "(1), (9)"), "select case when stddev(n) <= 1 then 0 else 1 end from t"),
    case("sum_between", "{ value: 3 }", ("n", "n"), ("(1), (2), (null)", "(1), (9)"), "select case when sum(n) = 3 then 0 else 1 end from t"),
    case("min_between", "{ min_value: 1, strictly: true }", ("n", "n"), ("(2), (3)", "(1), (9)"), "select case when min(n) > 1 then 0 else 1 end from t"),
    case("max_between", "{ max_value: 'now()' }", ("d", "d"), ("(timestamp '2024-01-01 00:00:00')", "(timestamp '2124-01-01 00:00:00')"), "select case when max(d) <= now() then 0 else 1 end from t"),
    case("max_between", "{ max_value: 5, group_by: [s] }", ("n", "n, s"), ("(1, 'a')", "(1, 'a'), (6, 'b')"), "select count(*) from (select s from t group by s having max(n) > 5)"),
    case("quantile_between", "{ quantile: 0.9, max_value: 5 }", ("n", "n"), ("(1), (2), (3)", "(9), (9), (1)"), "select case when percentile_cont(n, 0.9) <= 5 then 0 else 1 end from t"),
    case("not_null_proportion", "{ at_least: 0.5 }", ("n", "n"), ("(1), (null)", "(1), (null), (null)"), "select case when count(n) * 1.0 / count(*) >= 0.5 then 0 else 1 end from t"),
    case("within_n_stddevs", "{ sigma_threshold: 1 }", ("n", "n"), ("(1), (1)", "(0), (0), (0), (0), (100)"), "select case when max(n) = 100 then 1 else 0 end from t"),
    case("distinct_values_in_set", "{ value_set: [a, b] }", ("s", "s"), ("('a'), ('a')", "('a'), ('x'), ('x')"), "select count(distinct s) from t where s not in ('a', 'b')"),
    case("distinct_values_contain_set", "{ value_set: [a, b] }", ("s", "s"), ("('a'), ('b'), ('c')", "('a'), ('x')"), "select 2 - count(distinct s) from t where s in ('a', 'b')"),
    case("distinct_values_equal_set", "{ value_set: [1, 2], quote_values: false }", ("n", "n"), ("(1), (2), (2)", "(1), (3)"), "select count(distinct case when n not in (1, 2) then n end) + 2 - count(distinct case when n in (1, 2) then n end) from t"),
    case("most_common_value_in_set", "{ value_set: [a] }", ("s", "s"), ("('a'), ('a'), ('b')", "('a'), ('b'), ('b')"), "select case when sum(case when s = 'b' then 1 else 0 end) > 1 then 1 else 0 end from t"),
    case("row_count_between", "{ min_value: 2, max_value: 3 }", ("", "n"), ("(1), (2)", "(1)"), "select case when count(*) between 2 and 3 then 0 else 1 end from t"),
    case("row_count_between", "{ max_value: 1, group_by: [n] }", ("", "n"), ("(1), (2)", "(1), (1)"), "select count(*) from (select n from t group by n having count(*) > 1)"),
    case("equal_rowcount", "{ compare_model: ref('four') }", ("", "n"), ("(9), (9), (9), (9)", "(1)"), "select case when count(*) = 4 then 0 else 1 end from t"),
    case("equal_rowcount", "{ compare_model: ref('four'), group_by_columns: [n] }", ("", "n"), ("(1), (2), (3), (4)", "(1), (1), (2), (3)"), "select case when count(*) = count(distinct n) then 0 else 2 end from t"),
    case("equal_rowcount", "{ compare_model: ref('four'), factor: 0.5 }", ("", "n"), ("(1), (2)", "(1)"), "select case when count(*) = 2 then 0 else 1 end from t"),
    case("fewer_rows_than", "{ compare_model: ref('four') }", ("", "n"), ("(1), (2), (3)", "(1), (2), (3), (4)"), "select case when count(*) < 4 then 0 else 1 end from t"),
    case("aggregation_equals_other", "{ expression: sum(n), compare_model: ref('four') }", ("", "n"), ("(4), (6)", "(1)"), "select case when sum(n) = 10 then 0 else 1 end from t"),
    case("mutually_exclusive_ranges", "{ lower_bound_column: n, upper_bound_column: m, partition_by: s, gaps: not_allowed }", ("", "n, m, s"), ("(1, 2, 'a'), (2, 3, 'a'), (1, 9, 'b')", "(1, 2, 'a'), (3, 4, 'a'), (1, 9, 'b')"),
        "select case when max(m) = 9 and min(n) = 1 and count(distinct n) = 2 and max(n) = 3 then 1 else 0 end from t"),
    case("mutually_exclusive_ranges", "{ lower_bound_column: n, upper_bound_column: m }", ("", "n, m"), ("(1, 2), (5, 6)", "(1, 6), (5, 6)"), "select case when max(m - n) > 1 then 1 else 0 end from t"),
    case("sequential_values", "{ interval: 2 }", ("n", "n"), ("(5), (1), (3)", "(1), (3), (4)"), "select case when max(n) = 4 then 1 else 0 end from t"),
    case("sequential_values", "{ interval: 1, datepart: day }", ("d", "d"), ("(date '2024-02-28'), (date '2024-02-29')", "(date '2024-02-28'), (date '2024-03-01')"), "select case when max(d) = date '2024-03-01' then 1 else 0 end from t"),
    case("is_increasing", "{ sort_column: n }", ("m", "n, m"), ("(1, 5), (2, 6)", "(1, 5), (2, 5), (3, 4)"), "select count(*) from t where (n = 2 and m = 5) or m = 4"),
    case("is_decreasing", "{ sort_column: n, strictly: false }", ("m", "n, m"), ("(1, 5), (2, 5)", "(1, 5), (2, 6)"), "select count(*) from t where m = 6"),
    case("recency", "{ field: d, datepart: day, interval: 2 }", ("", "d"), ("(now()), (now() - interval '9 day')", "(now() - interval '9 day')"), "select case when max(d) < now() - interval '2 day' then 1 else 0 end from t"),
    case("recency", "{ datepart: quarter, interval: 1, group_by: [s] }", ("d", "d, s"), ("(now(), 'a')", "(now(), 'a'), (now() - interval '1 year', 'b')"), "select count(*) from t where s = 'b'"),
    case("data_for_every_date_part", "{ date_col: d }", ("", "d"), ("(date '2024-01-01'), (date '2024-01-02')", "(date '2024-01-01'), (date '2024-01-04')"), "select case when max(d) = date '2024-01-04' then 2 else 0 end from t"),
    case("column_exists", "{ column_index: 1 }", ("n", "n, s"), ("(1, 'a')", ""), "select 0 from t"),
    case("column_type", "{ column_type: [varchar, text] }", ("s", "s"), ("('a')", "(1)"), "select case when arrow_typeof(max(s)) = 'Utf8' then 0 else 1 end from t"),
    case("columns_match", "{ column_list: [s, n] }", ("", "n, s"), ("(1, 'a')", ""), "select 0 from t"),
    case("columns_match_in_order", "{ column_list: [n, s] }", ("", "n, s"), ("(1, 'a')", ""), "select 0 from t"),
    case("columns_contain", "{ column_list: [s] }", ("", "n, s"), ("(1, 'a')", ""), "select 0 from t"),
    case("columns_do_not_contain", "{ column_list: [x] }", ("", "n, s"), ("(1, 'a')", ""), "select 0 from t"),
    case("column_count_between", "{ value: 2 }", ("", "n, s"), ("(1, 'a')", ""), "select 0 from t"),
];

impl Case {
    fn yaml(&self, model: &str, name: &str) -> String {
        let inner = self.arguments.trim_start_matches('{').trim_end_matches('}').trim();
        let comma = if inner.is_empty() { "" } else { ", " };
        let test = format!("- {}: {{ name: {name}{comma}{inner} }}", self.test);
        match self.column {
            "" => format!("  - name: {model}\n    data_tests:\n      {test}\n"),
            column => format!(
                "  - name: {model}\n    columns:\n      - name: {column}\n        data_tests:\n          {test}\n"
            ),
        }
    }
}

#[test]
fn every_built_in_test_counts_what_plain_sql_counts() {
    let sandbox = Sandbox::new(&[("models/silver/four.sql", FOUR)]);
    let (mut yaml, mut plain) = ("models:\n".to_owned(), Vec::new());
    for (at, case) in CASES.iter().enumerate() {
        for (kind, rows) in [("good", case.good), ("bad", case.bad)] {
            if rows.is_empty() {
                continue;
            }
            let model = format!("{kind}_{at:03}");
            let sql = format!("select * from (values {rows}) as t ({})", case.columns);
            sandbox.write(&format!("models/silver/{model}.sql"), &sql);
            yaml.push_str(&case.yaml(&model, &model));
            plain.push(format!(
                "select '{model}' as test, cast(({}) as bigint) as failures",
                case.plain.replace("from t", &format!("from silver.{model} as t"))
            ));
        }
    }
    sandbox.write("models/tests.yml", &yaml);
    let run = sandbox.lake(&["test", "--output", "json"]);
    let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{run:#?}"));
    let expected = sandbox.query(&format!("{} order by test", plain.join(" union all ")));
    assert_eq!(expected.len(), plain.len());
    for row in expected {
        let name = row["test"].as_str().unwrap();
        let case = &CASES[name[name.len() - 3..].parse::<usize>().unwrap()];
        let found = report["tests"].as_array().unwrap().iter().find(|test| test["name"] == name).unwrap();
        let told = format!("{} {}: {found}", case.test, case.arguments);
        assert_eq!(found["failures"], row["failures"], "{told}");
        let is_good = name.starts_with("good");
        assert_eq!(row["failures"] == 0, is_good, "the plain count is no use: {told}");
        assert_eq!(found["status"], if is_good { "pass" } else { "fail" }, "{told}");
    }
}

#[test]
fn columns_that_are_not_as_declared_fail() {
    let sandbox = Sandbox::new(&[
        ("models/silver/t.sql", "select 1 as n, 'a' as s"),
        (
            "models/silver/t.yml",
            "models:
  - name: t
    columns:
      - name: n
        data_tests: [{ column_exists: { name: place, column_index: 2 } }, { column_type: { name: kind, column_type: varchar } }]
    data_tests:
      - columns_match: { name: all, column_list: [n] }
      - columns_match_in_order: { name: order, column_list: [s, n] }
      - columns_contain: { name: some, column_list: [n, x, y] }
      - columns_do_not_contain: { name: none, column_list: [s, z] }
      - column_count_between: { name: many, min_value: 3 }
",
        ),
    ]);
    let run = sandbox.lake(&["test", "--output", "json"]);
    let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{run:#?}"));
    let told: Vec<String> = report["tests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|test| format!("{} {} {}: {}", test["status"], test["name"], test["failures"], test["message"]))
        .collect();
    crate::sandbox::snapshots().bind(|| insta::assert_snapshot!("generic_tests@columns", told.join("\n")));
    assert!(told.len() == 7 && told.iter().all(|line| line.starts_with("\"fail\"")), "{told:#?}");
}

#[test]
fn every_built_in_test_has_a_case() {
    let tested: BTreeSet<&str> = CASES.iter().map(|case| lake::checks::find(case.test).unwrap().name()).collect();
    // Those need a history or files, and have tests of their own.
    let is_judged = |name: &&str| name.ends_with("_anomalies") || *name == "row_count_matches_source";
    let all: BTreeSet<&str> = lake::checks::all().map(|test| test.name()).filter(|name| !is_judged(name)).collect();
    assert_eq!(tested, all);
}
