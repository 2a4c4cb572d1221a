//! Unit tests of models and macros: what passes, what fails and how that looks, and what builds, selections and
//! artifacts make of it.

use serde_json::{Value, json};

use crate::sandbox::{Sandbox, node, snapshots};

const SOURCES: &str = "\
sources:
  - name: bronze
    tables:
      - name: views
        path: bronze/views/
        format: csv
        columns:
          - { name: user_id, data_type: bigint }
          - { name: platform, data_type: varchar }
          - { name: viewed_at, data_type: timestamp }
      - name: courses
        path: bronze/courses/
        format: csv
        columns:
          - { name: course_id, data_type: bigint }
          - { name: price, data_type: 'decimal(10,2)' }
";

const VIEWS: &str = "\
{{ config(materialized='table') }}
select user_id, lower(platform) as platform, viewed_at, {{ part_of_day('viewed_at') }} as part
from {{ source('bronze', 'views') }}
where user_id is not null
";

const PLATFORMS: &str = "\
select platform, count(*) as views, count(distinct user_id) as users, avg(user_id) as middle
from {{ ref('views') }}
group by 1
having count(*) >= {{ var('min_views') }}
";

const PART_OF_DAY: &str = "\
{% macro part_of_day(column, noon=12) -%}
case when {{ column }} is null then null when extract(hour from {{ column }}) < {{ noon }} then 'am' else 'pm' end
{%- endmacro %}
";

/// A project with `silver.views` and `gold.platforms`, whose source has one file, and these unit tests.
fn project(unit_tests: &str) -> Sandbox {
    let sandbox = Sandbox::new(&[
        ("sources.yml", SOURCES),
        ("models/silver/views.sql", VIEWS),
        ("models/gold/platforms.sql", PLATFORMS),
        ("macros/part_of_day.sql", PART_OF_DAY),
        ("bronze/views/1.csv", "user_id,platform,viewed_at\n1,WEB,2024-01-31 10:00:00\n2,tv,2024-01-31 20:00:00\n"),
        ("bronze/courses/1.csv", "course_id,price\n1,9.90\n"),
        ("models/tests.yml", unit_tests),
    ]);
    let settings = "name: sandbox\ntargets:\n  dev: { root: lake }\nvars: { min_views: 1 }\n";
    sandbox.write("project.yml", settings);
    sandbox
}

fn statuses(report: &Value) -> Vec<(String, String)> {
    let tests = report["unit_tests"].as_array().unwrap_or_else(|| panic!("{report}"));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    tests.iter().map(|test| (text(&test["name"]), text(&test["status"]))).collect()
}

#[track_caller]
fn all_pass(sandbox: &Sandbox, count: usize) {
    let report = sandbox.json(&["test", "--select", "test_type:unit"]);
    let found = statuses(&report);
    assert_eq!(found.len(), count, "{report:#}");
    assert!(found.iter().all(|(_, status)| status == "pass"), "{report:#}");
}

const PASSING: &str = "\
unit_tests:
  - name: texts_are_lower_case
    description: letters of any case are one platform
    model: views
    given:
      - input: source('bronze', 'views')
        rows:
          - { user_id: 1, platform: WEB, viewed_at: 2024-01-31 10:00:00 }
          - { user_id: 2, platform: Tv }
          - { platform: nobody }
    expect:
      rows:
        - { user_id: 2, platform: tv, part: null }
        - { user_id: 1, platform: web, part: am }
  - name: as_csv
    model: silver.views
    given:
      - input: source('bronze', 'views')
        format: csv
        rows: |
          user_id,platform
          1,\"WEB, or so\"
          ,gone
    expect:
      format: csv
      rows: |
        platform,user_id
        \"web, or so\",1
  - name: as_sql
    model: views
    given:
      - input: source('bronze', 'views')
        format: sql
        rows: select 1 as user_id, 'A' as platform union all select 2, 'B'
    expect:
      format: sql
      rows: select 2 as user_id, 'b' as platform union all select 1, 'a'
  - name: with_fixtures
    model: views
    given:
      - { input: \"source('bronze', 'views')\", format: csv, fixture: some_views }
    expect: { format: sql, fixture: lower_views }
  - name: nothing_of_nothing
    model: views
    given:
      - { input: \"source('bronze', 'views')\", rows: [] }
    expect: { rows: [] }
";

#[test]
fn rows_are_given_and_expected_in_any_format() {
    let sandbox = project(PASSING);
    sandbox.write("tests/fixtures/some_views.csv", "user_id,platform,viewed_at\n7,X,2024-01-31 10:00:00\n");
    sandbox.write("tests/fixtures/lower_views.sql", "select 7 as user_id, 'x' as platform");
    all_pass(&sandbox, 5);
    // Fixtures are no tests, and what is known from an earlier run is the same.
    all_pass(&sandbox, 5);
    assert!(!sandbox.path("lake").exists(), "unit tests need no tables");
    sandbox.write("tests/fixtures/lower_views.sql", "select 8 as user_id, 'x' as platform");
    let report = sandbox.json(&["test", "--select", "with_fixtures"]);
    assert_eq!(statuses(&report), [("with_fixtures".to_owned(), "fail".to_owned())]);
}

const FAILING: &str = "\
unit_tests:
  - name: platforms_are_counted
    model: platforms
    given:
      - input: ref('views')
        rows:
          - { user_id: 1, platform: web }
          - { user_id: 1, platform: web }
          - { user_id: 2, platform: tv }
          - { user_id: 2, platform: ios }
    expect:
      rows:
        - { platform: web, views: 2, users: 2 }
        - { platform: tv, views: 1, users: 1 }
        - { platform: android, views: 5, users: 4 }
        - { platform: null, views: 2, users: 3 }
  - name: parts_of_a_day
    macro: part_of_day
    cases:
      - { args: [\"timestamp '2024-01-31 10:00:00'\"], expect: am }
      - { args: { column: \"timestamp '2024-01-31 10:00:00'\", noon: 9 }, expect: am }
      - { args: [\"cast(null as timestamp)\"], expect: '' }
";

#[test]
fn rows_may_be_merged_from_an_anchor() {
    let sandbox = Sandbox::new(&[
        ("models/gold/total.sql", "select count(*) as n, sum(n) as total from {{ ref('numbers') }}"),
        ("models/gold/numbers.sql", "{{ config(materialized='table') }} select 1 as n, 'a' as name"),
        (
            "models/gold/units.yml",
            "unit_tests:
  - name: merged
    model: total
    given:
      - input: ref('numbers')
        rows: [&row { n: 20, name: x }, { <<: *row, name: y }, { <<: *row }]
    expect: { rows: [{ n: 3, total: 60 }] }
",
        ),
    ]);
    sandbox.ok(&["test", "--select", "test_type:unit"]);
}

#[test]
fn a_failure_shows_row_by_row_what_was_expected_and_what_came() {
    let sandbox = project(FAILING);
    let run = sandbox.lake(&["test"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    snapshots().bind(|| insta::assert_snapshot!("unit_tests@diff", run.stdout));
    let report = sandbox.json(&["test", "--select", "unit_test:platforms_are_counted"]);
    let test = &report["unit_tests"][0];
    assert_eq!(test["failures"], 4);
    assert_eq!(test["diff"]["columns"], json!(["platform", "views", "users"]));
    assert_eq!(test["diff"]["rows"][0]["differs"], json!([2]));
    assert_eq!((&test["path"], &test["line"]), (&json!("models/tests.yml"), &json!(2)));
}

#[test]
fn models_between_what_is_given_and_the_tested_one_run_for_real() {
    let sandbox = project(
        "\
unit_tests:
  - name: from_the_source
    model: gold.platforms
    given:
      - input: source('bronze', 'views')
        rows:
          - { user_id: 1, platform: WEB }
          - { user_id: 3, platform: web }
          - { platform: web }
    expect:
      rows:
        - { platform: web, views: 2, users: 2, middle: 2 }
",
    );
    all_pass(&sandbox, 1);
    // A fault of a model between is found, and told by its own rows.
    sandbox.write("models/silver/views.sql", VIEWS.replace("lower(platform)", "platform"));
    let report = sandbox.json(&["test", "--select", "test_type:unit"]);
    assert_eq!(report["unit_tests"][0]["failures"], 3, "{report:#}");
}

#[test]
fn seeds_that_are_not_given_are_those_of_the_project() {
    let sandbox = project(
        "\
unit_tests:
  - name: names_of_platforms
    model: named
    given:
      - { input: ref('views'), rows: [{ platform: tv }, { platform: web }] }
    expect: { rows: [{ name: Television }] }
",
    );
    sandbox.write("seeds/names.csv", "platform,name\ntv,Television\n");
    let sql = "select name from {{ ref('views') }} join {{ ref('names') }} using (platform)";
    sandbox.write("models/gold/named.sql", sql);
    all_pass(&sandbox, 1);
}

#[test]
fn variables_macros_environment_and_clock_can_be_others() {
    let sandbox = project(
        "\
unit_tests:
  - name: overridden
    model: told
    overrides:
      now: 2024-02-29T10:00:00Z
      vars: { min_views: 7 }
      env_vars: { REGION: eu }
      macros: { part_of_day: \"'noon'\" }
    given:
      - { input: ref('views'), rows: [{ user_id: 1 }] }
    expect:
      rows:
        - { today: 2024-02-29, at: 2024-02-29 10:00:00, started: 2024-02-29, yesterday: 2024-02-28, least: 7,
            region: eu, part: noon }
  - name: not_overridden
    model: told
    given:
      - { input: ref('views'), rows: [{ user_id: 1, viewed_at: 2024-01-31 10:00:00 }] }
    expect: { rows: [{ least: 1, region: none, part: am }] }
",
    );
    sandbox.write(
        "models/gold/told.sql",
        "select current_date as today, cast(now() as timestamp) as at, \
         '{{ run_started_at.strftime('%Y-%m-%d') }}' as started, \
         '{{ (modules.datetime.datetime.now() - modules.datetime.timedelta(days=1)).strftime('%Y-%m-%d') }}' as yesterday, \
         {{ var('min_views') }} as least, '{{ env_var('REGION', 'none') }}' as region, \
         {{ part_of_day('viewed_at') }} as part from {{ ref('views') }}",
    );
    all_pass(&sandbox, 2);
}

#[test]
fn an_incremental_run_reads_the_table_that_is_given_as_this() {
    let sandbox = project(
        "\
unit_tests:
  - name: first_run
    model: latest
    given:
      - { input: ref('views'), rows: [{ user_id: 1, viewed_at: 2024-01-01 }, { user_id: 2, viewed_at: 2024-01-03 }] }
    expect: { rows: [{ user_id: 1 }, { user_id: 2 }] }
  - name: later_run
    model: latest
    overrides: { macros: { is_incremental: true } }
    given:
      - { input: ref('views'), rows: [{ user_id: 1, viewed_at: 2024-01-01 }, { user_id: 2, viewed_at: 2024-01-03 }] }
      - { input: this, rows: [{ user_id: 9, viewed_at: 2024-01-02 }] }
    expect: { rows: [{ user_id: 2 }] }
",
    );
    sandbox.write(
        "models/gold/latest.sql",
        "{{ config(materialized='incremental', unique_key='user_id') }} select user_id, viewed_at from {{ ref('views') }} \
         {% if is_incremental() %} where viewed_at > (select max(viewed_at) from {{ this }}) {% endif %}",
    );
    all_pass(&sandbox, 2);
}

#[test]
fn numbers_may_be_near_where_a_tolerance_says_so() {
    let near = |tolerance: &str, expected: &str| {
        let text = format!(
            "unit_tests:\n  - name: near\n    model: platforms\n    {tolerance}\n    given:\n      \
             - {{ input: ref('views'), rows: [{{ user_id: 1, platform: a }}, {{ user_id: 2, platform: a }}] }}\n    \
             expect: {{ rows: [{{ platform: a, middle: {expected} }}] }}\n"
        );
        let report = project(&text).json(&["test", "--select", "near"]);
        report["unit_tests"][0]["status"].as_str().unwrap_or_else(|| panic!("{report:#}")).to_owned()
    };
    assert_eq!(near("tolerance: 0.01", "1.505"), "pass");
    assert_eq!(near("tolerance: { middle: 0.01 }", "1.505"), "pass");
    assert_eq!(near("tolerance: { views: 0.01 }", "1.505"), "fail");
    assert_eq!(near("tolerance: 0.001", "1.505"), "fail");
}

#[test]
fn a_model_whose_unit_test_fails_is_not_built_nor_what_reads_it() {
    let sandbox = project(
        "\
unit_tests:
  - name: wrong
    model: views
    given: [{ input: \"source('bronze', 'views')\", rows: [{ user_id: 1 }] }]
    expect: { rows: [{ user_id: 2 }] }
",
    );
    let report = sandbox.json(&["build"]);
    assert_eq!(node(&report, "silver.views")["status"], "error");
    let reason = node(&report, "silver.views")["reason"].as_str().unwrap();
    assert!(reason.contains("unit test `wrong` failed"), "{reason}");
    assert_eq!(node(&report, "gold.platforms")["status"], "blocked");
    assert!(!sandbox.path("lake/silver").exists());
    // `run` is without tests, and a retry runs the test again.
    sandbox.ok(&["run"]);
    assert_eq!(sandbox.lake(&["build"]).code, 1);
    sandbox.write("models/tests.yml", "");
    sandbox.ok(&["build"]);
}

#[test]
fn a_macro_whose_unit_test_fails_stops_the_models_that_use_it() {
    let sandbox = project(
        "\
unit_tests:
  - name: wrong
    macro: part_of_day
    cases: [{ args: [cast(null as timestamp)], expect: am }]
",
    );
    let report = sandbox.json(&["build"]);
    assert_eq!(node(&report, "silver.views")["status"], "error", "{report:#}");
    assert_eq!(node(&report, "gold.platforms")["status"], "blocked");
}

#[test]
fn unit_tests_are_selected_by_their_names_their_type_and_their_model() {
    let sandbox = project(&FAILING.replace("model: platforms", "config: { tags: [slow] }\n    model: platforms"));
    let listed = |args: &[&str]| {
        let mut all = vec!["ls"];
        all.extend(args);
        sandbox.ok(&all).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (counted, parts) = ("unit_test:platforms_are_counted", "unit_test:parts_of_a_day");
    assert_eq!(listed(&["--resource-type", "unit_test"]), [counted, parts]);
    assert_eq!(listed(&["--select", "test_type:unit"]), [counted, parts]);
    assert_eq!(listed(&["--select", "unit_test:parts*"]), [parts]);
    assert_eq!(listed(&["--select", "tag:slow"]), [counted]);
    assert_eq!(listed(&["--select", "platforms"]), ["gold.platforms", counted]);
    assert_eq!(listed(&["--select", "views"]), ["silver.views"]);
    assert_eq!(
        listed(&["--select", "+platforms_are_counted", "--resource-type", "model"]),
        ["silver.views", "gold.platforms"]
    );
    assert!(!listed(&["--exclude-resource-type", "unit_test"]).iter().any(|line| line.starts_with("unit_test")));
    sandbox.lake(&["test", "--select", "test_type:data"]).assert_failed(2, "matches nothing");
}

#[test]
fn artifacts_have_unit_tests_and_a_change_of_one_is_seen() {
    let sandbox = project(PASSING);
    sandbox.write("tests/fixtures/some_views.csv", "user_id,platform\n7,X\n");
    sandbox.write("tests/fixtures/lower_views.sql", "select 7 as user_id, 'x' as platform");
    sandbox.ok(&["build"]);
    let read = |name: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(sandbox.path(".lake").join(name)).unwrap()).unwrap()
    };
    let manifest = read("manifest.json");
    let units = manifest["unit_tests"].as_object().unwrap();
    let (id, test) = units.iter().find(|(_, test)| test["name"] == "as_csv").unwrap();
    assert_eq!((&test["model"], &test["resource_type"]), (&json!("views"), &json!("unit_test")), "{id}");
    let results = read("run_results.json");
    let ids = results["results"].as_array().unwrap().iter().map(|result| result["unique_id"].as_str().unwrap());
    assert_eq!(ids.filter(|id| units.contains_key(*id)).count(), 5, "{results}");
    std::fs::rename(sandbox.path(".lake"), sandbox.path("before")).unwrap();
    // A test that stands elsewhere is the same test; another value is another test.
    let changed = PASSING.replace("unit_tests:\n", "# moved\nunit_tests:\n").replace("platform: Tv", "platform: TV");
    sandbox.write("models/tests.yml", changed);
    let listed = sandbox.ok(&["ls", "--select", "state:modified", "--state", "before"]);
    assert_eq!(listed, "unit_test:texts_are_lower_case\n");
}

#[test]
fn names_of_tests_and_places_of_mistakes() {
    let sandbox = project(
        "\
unit_tests:
  - name: a
    model: veiws
    expect: { rows: [] }
  - name: a
    model: views
    expect: { rows: [] }
  - name: b
    model: views
    given:
      - { input: ref('platforms'), rows: [] }
      - input: source('bronze', 'views')
        rows:
          - { user_id: one, plattform: web }
    expect:
      rows:
        - { user_id: 1, part: am, parts: am }
  - name: c
    model: platforms
    expect: { rows: [] }
  - name: d
    model: views
    given:
      - { input: \"source('bronze', 'views')\", rows: [], fixture: x }
    expect: { format: csv, rows: \"id,id\\n1,2,3\" }
  - name: e
    macro: part_of_dya
    cases: []
  - name: f
    macro: part_of_day
    overrides: { macros: { parts_of_day: x } }
    cases:
      - { args: [\"now()\"], expect: am, given: [] }
      - { args: [\"no_column\"], expect: am }
      - { args: { columns: x }, expect: am }
  - name: g
    given: []
",
    );
    let run = sandbox.lake(&["compile"]);
    assert_eq!(run.code, 2);
    snapshots().bind(|| insta::assert_snapshot!("unit_tests@mistakes", run.stderr));
}

#[test]
fn what_does_not_fit_the_columns_is_told_where_it_stands() {
    let sandbox = project(
        "\
unit_tests:
  - name: a
    model: views
    tolerance: { user: 1 }
    given:
      - input: source('bronze', 'views')
        rows:
          - { user_id: one, plattform: web }
    expect:
      rows:
        - { user_id: 1, part: am, parts: am }
  - name: b
    model: views
    given:
      - input: source('bronze', 'views')
        format: csv
        rows: |
          user_id,viewed_at
          1,2024-01-31 10:00:00
          2,yesterday
    expect:
      format: sql
      rows: select 1 as user_id, 2 as nobody
  - name: c
    macro: part_of_day
    cases:
      - { args: [\"no_column\"], expect: am }
  - name: d
    macro: part_of_day
    cases:
      - { args: [\"timestamp '2024-01-31'\", [1]], expect: am }
  - name: e
    model: views
    overrides: { macros: { part_of_day: no_such_column } }
    given: [{ input: \"source('bronze', 'views')\", format: csv, fixture: bad }]
    expect: { rows: [] }
  - name: f
    model: views
    given: [{ input: \"source('bronze', 'views')\", format: sql, rows: select 1 as user_id from nowhere.else }]
    expect: { rows: [] }
",
    );
    sandbox.write("tests/fixtures/bad.csv", "user_id,platform\n1,a\nx,b\n");
    let run = sandbox.lake(&["compile"]);
    assert_eq!(run.code, 2);
    snapshots().bind(|| insta::assert_snapshot!("unit_tests@unfit", run.stderr));
}
