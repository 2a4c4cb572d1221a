//! Mistakes in a project, as a person sees them. Each case is a project with one mistake or a few, and a snapshot.

use crate::sandbox::Sandbox;

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
";

const VIEWS: &str = "select user_id, platform, viewed_at\nfrom {{ source('bronze', 'views') }}\n";

/// Compiles a project with `silver.views` and these files, and returns what a person sees.
fn compile(files: &[(&str, &str)]) -> String {
    let sandbox = Sandbox::new(&[("sources.yml", SOURCES), ("models/silver/views.sql", VIEWS)]);
    for (path, text) in files {
        sandbox.write(path, text);
    }
    let run = sandbox.lake(&["compile"]);
    let expected = i32::from(run.stderr.contains("error")) * 2;
    assert_eq!(run.code, expected, "{}", run.stderr);
    assert_eq!(run.stdout, "", "diagnostics belong on standard error");
    assert!(!run.stderr.contains("panicked") && !run.stderr.contains("DataFusion"), "{}", run.stderr);
    run.stderr
}

macro_rules! shows {
    ($name:ident, $($path:literal => $text:expr),+ $(,)?) => {
        #[test]
        fn $name() {
            let output = compile(&[$(($path, $text)),+]);
            crate::sandbox::snapshots().bind(|| insta::assert_snapshot!(concat!("diagnostics@", stringify!($name)), output));
        }
    };
}

shows!(a_unit_test_without_what_its_model_reads,
    "models/gold/g.sql" => "select count(*) as n from {{ ref('views') }}",
    "models/t.yml" => "unit_tests:\n  - name: t\n    model: g\n    expect: { rows: [{ n: 0 }] }\n");
shows!(unknown_refs_are_all_reported,
    "models/gold/g.sql" => "select *\nfrom {{ ref('veiws') }}\njoin {{ ref('payments') }} using (user_id)\n");
shows!(ref_of_a_source, "models/silver/views.sql" => "select 1 as a from {{ ref('views') }}",
    "models/silver/other.sql" => "select * from {{ source('bronze', 'veiws') }}");
shows!(cycle,
    "models/gold/a.sql" => "select * from {{ ref('c') }}",
    "models/gold/b.sql" => "select * from {{ ref('a') }}",
    "models/gold/c.sql" => "select user_id\nfrom {{ ref('views') }} join {{ ref('b') }} using (user_id)");
shows!(a_model_that_reads_itself, "models/gold/g.sql" => "select * from {{ ref('g') }}");
shows!(unknown_column_inside_a_loop,
    "models/gold/g.sql" => "select\n{% for c in ['platform', 'platfrom'] %}\n    views.{{ c }} as {{ c }}_name,\n{% endfor %}\n    1 as one\nfrom {{ ref('views') }} as views\n");
shows!(descendants_of_a_broken_model_are_not_checked,
    "models/gold/g.sql" => "select user from {{ ref('views') }}",
    "models/gold/h.sql" => "select nonsense from {{ ref('g') }}");
shows!(types_that_do_not_fit, "models/gold/g.sql" => "select\n    user_id + platform as sum\nfrom {{ ref('views') }}\n");
shows!(argument_of_the_wrong_type, "models/gold/g.sql" => "select\n    sum(platform) as total\nfrom {{ ref('views') }}\n");
shows!(unknown_function, "models/gold/g.sql" => "select uper(platform) as p from {{ ref('views') }}");
shows!(sql_that_does_not_parse, "models/gold/g.sql" => "select user_id\nform {{ ref('views') }} where (\n");
shows!(two_statements, "models/gold/g.sql" => "select 1 as a;\nselect 2 as b");
shows!(not_a_query, "models/gold/g.sql" => "create table x as select 1 as a");
shows!(table_without_ref, "models/gold/g.sql" => "select user_id\nfrom silver.views\n");
shows!(column_outside_group_by,
    "models/gold/g.sql" => "select user_id, platform, count(*) as n\nfrom {{ ref('views') }}\ngroup by user_id\n");
shows!(two_columns_of_one_name, "models/gold/g.sql" => "select user_id, platform as user_id from {{ ref('views') }}");
shows!(a_type_that_delta_cannot_hold,
    "models/gold/g.sql" => "{{ config(materialized='table') }}\nselect viewed_at - viewed_at as gap, cast('10:00' as time) as t from {{ ref('views') }}");
shows!(undefined_in_a_template, "models/gold/g.sql" => "select {{ user_id }} from {{ ref('views') }}");
shows!(template_that_does_not_parse, "models/gold/g.sql" => "select {% if true %} user_id from {{ ref('views') }}");
shows!(mistake_inside_a_macro,
    "macros/money.sql" => "{# cents #}\n{% macro cents(column) %}\n  ({{ column.amount.value }} / 100)\n{% endmacro %}\n",
    "models/gold/g.sql" => "select {{ cents('a') }} as x from {{ ref('views') }}");
shows!(mistake_in_sql_of_a_macro,
    "macros/money.sql" => "{# euro #}\n{% macro euro(column) -%}\n    round({{ column }} / 100, 2) + bonus\n{%- endmacro %}\n",
    "macros/all.sql" => "{% macro all_euro(columns) %}\n  {%- for column in columns %}\n  {{ euro(column) | trim }} as {{ column }}_euro,\n  {%- endfor %}\n{% endmacro %}\n",
    "models/gold/direct.sql" => "select\n    {{ euro('user_id') }} as euro,\n    {{ euro('platfrom') }} as other\nfrom {{ ref('views') }}",
    "models/gold/nested.sql" => "select\n    {{ all_euro(['user_id']) }}\n    1 as one\nfrom {{ ref('views') }}",
    "models/gold/passed.sql" => "select {{ euro('userid') }} as euro from {{ ref('views') }}");
shows!(mistake_in_the_body_of_a_call,
    "macros/only.sql" => "{% macro only_web() %}\nselect * from (\n  {{ caller() }}\n) as t where platform = 'web'\n{% endmacro %}\n",
    "models/gold/g.sql" => "{% call only_web() %}\n  select platform, user from {{ ref('views') }}\n{% endcall %}");
shows!(mistake_two_macros_deep,
    "macros/a.sql" => "{% macro outer(x) %}\n  {%- set y = inner(x) -%}\n  {{ y }}\n{% endmacro %}\n{% macro inner(x) %}{{ x + nothing }}{% endmacro %}\n",
    "models/gold/g.sql" => "select {{ outer(1) }} as x from {{ ref('views') }}",
    "models/gold/h.sql" => "select\n  {{ outer(2) }} as x from {{ ref('views') }}");
shows!(mistake_of_an_incremental_run_in_a_macro,
    "macros/a.sql" => "{% macro new_rows() %}\n  {% if is_incremental() %}\n    where viewed > (select max(viewed_at) from {{ this }})\n  {% endif %}\n{% endmacro %}\n",
    "models/gold/g.sql" => "{{ config(materialized='incremental') }}\nselect viewed_at from {{ ref('views') }}\n{{ new_rows() }}\n");
shows!(a_template_without_an_end,
    "models/gold/g.sql" => "{% for i in range(99999) %}\n  {% for j in range(99999) %}{% set x = i * j %}{% endfor %}\n{% endfor %}\nselect 1 as one");
shows!(yaml_that_unfolds_without_an_end,
    "models/gold/g.yml" => "a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c]\ne: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d]\nf: &f [*e, *e, *e, *e, *e, *e, *e, *e, *e]\n");
shows!(a_macro_that_calls_itself,
    "macros/a.sql" => "{% macro again(n) %}{{ again(n + 1) }}{% endmacro %}\n",
    "models/gold/g.sql" => "select {{ again(1) }} as x");
shows!(warning_in_sql_of_a_macro,
    "macros/a.sql" => "{% macro helper() %}\nunused as (select 1 as one)\n{% endmacro %}\n",
    "models/gold/g.sql" => "with {{ helper() }}\nselect 1 as one",
    "models/gold/h.sql" => "with {{ helper() }}\nselect 2 as two");
shows!(hooks_that_cannot_run,
    "models/gold/g.sql" => "{{ config(materialized='table', pre_hook=\"copy (select plaform from {{ ref('views') }}) to 'x.csv'\", post_hook=\"delete from {{ this }}\") }}\nselect user_id from {{ ref('views') }}",
    "models/gold/h.sql" => "{{ config(materialized='table', post_hook={'comand': 'ls'}) }}\nselect 1 as one",
    "models/gold/i.sql" => "{{ config(materialized='table', post_hook={'command': 'ls {{ nothing.here }}'}) }}\nselect 1 as one",
    "project.yml" => "name: sandbox\ntargets:\n  dev: { root: lake, retries: some }\non-run-start: [1]\non-run-end: copy (select * from {{ ref('veiws') }}) to 'x.csv'\n");
shows!(settings_of_a_run_that_are_wrong,
    "models/gold/g.sql" => "{{ config(timeout='soon', on_error='ignore', audit='maybe') }}\nselect user_id from {{ ref('views') }}",
    "models/gold/g.yml" => "models:\n  - name: g\n    config: { timeout: 0s, on_error: skip, audit: 1 }\n");
shows!(a_template_that_measures_a_macro,
    "macros/a.sql" => "{% macro name() %}platfrom{% endmacro %}\n",
    "models/gold/g.sql" => "select {{ name() }}{% if name() == 'platfrom' %} as p{% endif %} from {{ ref('views') }}");
shows!(missing_variable, "models/gold/g.sql" => "select {{ var('min_views') }} as x from {{ ref('views') }}");
shows!(unknown_config, "models/gold/g.sql" => "{{ config(materialised='table') }}\nselect user_id from {{ ref('views') }}");
shows!(wrong_config, "models/gold/g.sql" => "{{ config(materialized='tabel') }}\nselect user_id from {{ ref('views') }}");
shows!(unknown_unique_key,
    "models/gold/g.sql" => "{{ config(materialized='incremental', unique_key='userid') }}\nselect user_id from {{ ref('views') }}");
shows!(variants_that_differ,
    "models/gold/g.sql" => "{{ config(materialized='incremental') }}\nselect user_id{% if is_incremental() %}, platform{% endif %}\nfrom {{ ref('views') }}");
shows!(bad_keys_in_project_yml,
    "project.yml" => "name: sandbox\ntargtes: {}\ntargets:\n  dev: { rot: lake }\nmodels:\n  silvr: { materialized: table }\n  silver: { +materialised: table }\n");
shows!(yaml_that_does_not_parse, "project.yml" => "name: sandbox\ntargets:\n  dev: { root: lake\n");
shows!(empty_project_yml, "project.yml" => "# nothing yet\n");
shows!(bad_sources,
    "sources.yml" => "sources:\n  - name: bronze\n    tables:\n      - name: views\n        path: bronze/\n        format: excel\n      - name: 2nd\n        path: bronze/\n        format: csv\n      - name: third\n        format: csv\n        colums: []\n");
shows!(incremental_listings_that_cannot_work,
    "sources.yml" => "\
sources:
  - name: bronze
    tables:
      - { name: views, path: bronze/views/, format: csv, columns: [{ name: user_id }, { name: platform }, { name: viewed_at }], incremental_listing: { lookback: 10, days: 3 } }
      - name: removed
        path: bronze/removed/
        format: csv
        columns: [{ name: a }]
        incremental_listing: true
        on_removed_file: delete_rows
      - { name: dumps, path: bronze/dumps/, format: csv, columns: [{ name: a }], snapshot: true, incremental_listing: true }
      - { name: dumped, path: bronze/dumped/, format: csv, columns: [{ name: a }], snapshot: true, identity: content }
      - { name: renamed, path: bronze/renamed/, format: csv, columns: [{ name: a }], identity: content, incremental_listing: { lookback: 5 } }
      - name: archived
        path: bronze/archived/
        format: csv
        columns: [{ name: a }]
        incremental_listing: yes please
        after_load: { archive: { to: done/ } }
      - { name: moved, path: bronze/moved/, format: csv, columns: [{ name: a }], incremental_listing: true, after_load: { archive: { to: done/ } } }
      - { name: delta, path: bronze/delta/, format: delta, incremental_listing: true }
      - { name: grows, path: bronze/grows/, format: csv, columns: [{ name: a }], on_new_column: add, incremental_listing: true }
");
shows!(bad_source_type,
    "sources.yml" => "sources:\n  - name: bronze\n    tables:\n      - name: views\n        path: bronze/\n        format: csv\n        columns:\n          - { name: user_id, data_type: bigintt }\n");
shows!(bad_options_of_sources,
    "sources.yml" => "\
sources:
  - name: bronze
    tables:
      - name: views
        path: bronze/
        format: csv
        options: { encoding: utf8x, compression: gzp, record_path: a, delimiter: ',,', time_zone: Europe/Berln }
        metadata_columns: [_file_nam, _row_number, _row_number]
        partition_columns: [{ name: dt, data_type: dat }, { name: hour, format: '%Q' }]
        path_pattern: 'views_{day:%Y%m%d}_{shop:intt}.csv'
        columns:
          - { name: user_id, data_type: bigint }
          - { name: platform, data_type: varchar, formt: x }
          - { name: viewed_at, data_type: timestamp, format: dd.mm.yyyy, time_zone: Mars }
      - name: more
        path: bronze/
        format: parquet
        options: { quote: '\"', encoding: latin1 }
        version: 3
      - name: table
        path: bronze/
        format: delta
        version: 3
        timestamp: yesterday
        metadata_columns: [_file_name]
      - name: twice
        path: bronze/
        format: csv
        options: { delimiter: '|', quote: '|', decimal_separator: ',', thousands_separator: ',' }
        partition_columns: [user_id]
        columns: [{ name: user_id, data_type: bigint }]
");
shows!(options_that_do_not_fit,
    "sources.yml" => "\
sources:
  - name: bronze
    tables:
      - name: views
        path: bronze/
        format: csv
        encoding: latin1
        columns:
          - { name: user_id, data_type: bigint, format: '%Y' }
          - { name: platform, data_type: varchar, time_zone: UTC }
          - { name: viewed_at, data_type: timestamp }
");
shows!(bad_properties,
    "models/silver/silver.yml" => "models:\n  - name: view\n  - name: views\n    columns:\n      - name: userid\n      - name: user_id\n        data_type: varchar\n        data_tests:\n          - not_nul\n          - accepted_values: { value: [1] }\n          - relationships: { to: ref('x'), field: a }\n");
shows!(test_on_a_column_that_does_not_exist,
    "models/silver/silver.yml" => "models:\n  - name: views\n    data_tests:\n      - unique_combination_of_columns: { combination_of_columns: [user_id, platfrom] }\n      - expression_is_true: { expression: user_id > }\n");
shows!(tests_that_lack_what_they_need,
    "models/silver/silver.yml" => "models:
  - name: views
    data_tests:
      - quantile_between: { column_name: user_id, quantile: 1.5, min_value: 1 }
      - mean_between: { column_name: user_id }
      - is_increasing: { sort_column: viewed_at }
      - column_count_between
      - column_pairs_in_set: { column_A: user_id, column_B: platform, value_pairs_set: [1, 2] }
      - unique_within_row: { column_list: [user_id] }
      - volume_anomalies: { timestamp_column: viewed_at, time_bucket: { period: month, count: 1 }, seasonality: day_of_week }
    columns:
      - name: viewed_at
        data_tests:
          - dates_between
          - not_null: { severity: fatal }
          - not_null: { name: some, limit: many }
      - name: platform
        data_tests:
          - matches_regex
          - column_type: { column_type: wordy }
          - accepted_values: { values: [a], on_violation: ignore }
          - unique: { on_violation: drop }
");
shows!(rows_that_cannot_be_left_out,
    "models/silver/seen.sql" => "{{ config(materialized='view') }} select * from {{ ref('views') }}",
    "models/silver/known.sql" => "{{ config(materialized='scd2', unique_key='user_id', strategy='check', check_cols='all') }} select user_id, platform from {{ ref('views') }}",
    "models/silver/daily.sql" => "{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='viewed_at', batch_size='day', begin='2024-01-01') }} select viewed_at, user_id from {{ ref('views') }}",
    "models/silver/all.yml" => "models:
  - name: seen
    columns: [{ name: user_id, data_tests: [{ not_null: { on_violation: drop } }] }]
  - name: known
    columns: [{ name: user_id, data_tests: [{ not_null: { on_violation: quarantine } }] }]
  - name: daily
    columns: [{ name: user_id, data_tests: [{ not_null: { on_violation: drop } }] }]
sources:
  - name: bronze
    tables:
      - name: seen
        path: bronze/views/
        format: csv
        columns: [{ name: a, data_tests: [{ not_null: { on_violation: drop } }] }]
");
shows!(two_models_of_one_name, "models/gold/views.sql" => "select 1 as one");
shows!(a_model_outside_a_layer, "models/lost.sql" => "select 1 as one");
shows!(singular_test_with_a_mistake, "tests/t.sql" => "select *\nfrom {{ ref('views') }}\nwhere usr_id is null");
shows!(inferred_source_without_a_folder,
    "sources.yml" => "sources:\n  - name: bronze\n    tables:\n      - name: views\n        path: nowhere/\n        format: csv\n");
shows!(nothing_wrong, "models/gold/g.sql" => "select user_id from {{ ref('views') }}");

shows!(bad_exposures,
    "models/gold/e.yml" => "exposures:\n  - name: weekly\n    type: dashbord\n    owner: { name: Ada }\n    depends_on: [ref('veiws')]\n  - name: daily\n    type: notebook\n    owner: { team: x }\n    depends_on:\n      - ref('veiws')\n      - source('bronze', 'view')\n      - views\n    maturty: high\n  - name: month ly\n    type: ml\n  - { name: twice, type: ml, owner: { name: a }, depends_on: [ref('veiws')] }\n  - { name: twice, type: ml, owner: { email: a } }\n");
shows!(groups_and_access,
    "models/silver/views.yml" => "models:\n  - name: views\n    access: private\n    config: { group: core }\ngroups:\n  - name: core\n    owner: { email: core@example.com }\n  - name: core\n  - { name: nobody, owner: {} }\nexposures:\n  - { name: weekly, type: dashboard, owner: { name: a }, depends_on: [ref('views')] }\n",
    "models/gold/a.sql" => "{{ config(group='core') }} select user_id from {{ ref('views') }}",
    "models/gold/b.sql" => "{{ config(group='cor') }}\nselect user_id from {{ ref('views') }}",
    "models/gold/c.sql" => "{{ config(access='publik') }} select 1 as one",
    "models/gold/d.sql" => "{{ config(materialized='ephemeral', access='public') }} select 1 as one");
shows!(bad_selectors,
    "selectors.yml" => "selectors:\n  - name: a\n    definition: { tga: x }\n  - name: b\n    definition: { method: selector, value: aa }\n  - name: c\n    definition: { method: tag, value: x, parent: true, parents_depth: two }\n  - definition: x\n  - name: d\n    default: maybe\n    definition: { union: [] }\n  - name: e\n    default: true\n    definition: [x]\n  - name: f\n    definition: { method: tag, value: x, childrens_parents: true, parents: true }\n");

shows!(warnings_of_valid_sql,
    "models/gold/g.sql" => "with unused as (select 1 as one),\nviews as (select * from {{ ref('views') }})\nselect a.user_id\nfrom views as a, views as b\n",
    "models/gold/h.sql" => "select user_id\nfrom {{ ref('views') }}\nwhere user_id not in (select user_id from {{ ref('views') }} where platform = 'web')\n    and user_id not in (select user_id from {{ ref('views') }} where user_id is not null)\n    and platform > user_id\n");
shows!(unions_of_columns_in_another_order,
    "macros/m.sql" => "{% macro web(order) %}select {{ order }} from {{ ref('views') }} where platform = 'web'{% endmacro %}",
    "models/gold/g.sql" => "select user_id, v.platform, 'seen' as kind from {{ ref('views') }} as v\nunion all\nselect user_id, 'known' as Kind, platform\nfrom {{ ref('views') }}\nunion all select user_id, 'web' as platform, kind from (select 'x' as kind, 1 as user_id)\n",
    "models/gold/h.sql" => "select * from (\n    {{ web('user_id, platform') }}\n    union\n    {{ web('platform, user_id') }}\n)\n",
    "models/gold/i.sql" => "select user_id, platform from {{ ref('views') }}\nunion all by name\nselect platform, user_id from {{ ref('views') }}\nunion all\nselect user_id as other, platform as name from {{ ref('views') }}\n");
shows!(values_without_a_type_in_common,
    "models/gold/g.sql" => "select\n    coalesce(max(viewed_at), '1900-01-01') as newest\nfrom {{ ref('views') }}\n");
shows!(settings_of_dbt_that_are_not_here,
    "models/gold/g.sql" => "{{ config(alias='h', post_hook='grant select') }}select 1 as a");
shows!(broken_contract,
    "models/gold/g.sql" => "{{ config(contract={'enforced': true}) }}\nselect user_id, platform from {{ ref('views') }}",
    "models/gold/g.yml" => "models:\n  - name: g\n    columns:\n      - { name: user_id, data_type: int }\n      - { name: viewed_at, data_type: timestamp }\n");

shows!(names_that_hide_others,
    "models/gold/by_day.sql" => "select\n    date_trunc('day', viewed_at) as viewed_at,\n    count(*) as views\nfrom {{ ref('views') }}\ngroup by viewed_at\n",
    "models/gold/web.sql" => "select user_id, upper(platform) as platform\nfrom {{ ref('views') }}\nwhere user_id > 3 and platform = 'WEB'\n",
    "models/gold/nested.sql" => "with web as (select * from {{ ref('views') }}),\nall_views as (\n    with web as (select user_id from web where platform = 'web')\n    select user_id from web\n)\nselect user_id from all_views\n");
shows!(names_that_hide_nothing,
    "models/gold/a.sql" => "with views as (select * from {{ ref('views') }})\nselect cast(user_id as int) as user_id, coalesce(platform, 'none') as platform, date_trunc('day', viewed_at) as day\nfrom views where platform = 'web' and user_id > 1 group by user_id, platform, day\n",
    "models/gold/b.sql" => "select upper(v.platform) as platform from {{ ref('views') }} as v where v.platform = 'web' group by 1\n");
shows!(stars_in_a_contract,
    "models/gold/g.sql" => "{{ config(contract={'enforced': true}) }}\nwith v as (\n    select *\n    from {{ ref('views') }}\n), only as (select user_id from v)\nselect v.*, only.user_id as other from v join only using (user_id)\n",
    "models/gold/h.sql" => "{{ config(contract={'enforced': true}) }}\nwith v as (select user_id from {{ ref('views') }})\nselect * from v\n",
    "models/gold/g.yml" => "models:\n  - name: g\n    columns:\n      - { name: user_id, data_type: bigint }\n      - { name: platform, data_type: varchar }\n      - { name: viewed_at, data_type: timestamp }\n      - { name: other, data_type: bigint }\n  - name: h\n    columns:\n      - { name: user_id, data_type: bigint }\n");
shows!(limits_without_an_order,
    "models/gold/g.sql" => "select user_id from {{ ref('views') }}\nlimit 10\n",
    "models/gold/h.sql" => "select user_id from {{ ref('views') }} as v\nwhere exists (select 1 from {{ ref('views') }} as w where w.user_id = v.user_id limit 1)\norder by user_id, platform limit 10\n",
    "models/gold/i.sql" => "select count(*) as n from {{ ref('views') }} limit 1");
shows!(comparisons_of_text,
    "models/gold/g.sql" => "select a.user_id\nfrom {{ ref('views') }} as a\njoin {{ ref('views') }} as b on a.user_id = b.platform\nwhere a.platform in (1, 2)\n    and a.platform between b.user_id and 7\n    and a.user_id = '1'\n");
shows!(nulls_that_a_contract_forbids,
    "models/gold/g.sql" => "{{ config(contract={'enforced': true}) }}\nwith joined as (\n    select a.user_id, b.platform, b.viewed_at, cast(null as bigint) as score\n    from {{ ref('views') }} as a left join {{ ref('views') }} as b on a.user_id = b.user_id\n    where b.viewed_at is not null\n)\nselect user_id, platform, viewed_at, score from joined\n",
    "models/gold/g.yml" => "models:\n  - name: g\n    columns:\n      - { name: score, data_type: bigint, constraints: [{ type: not_null }] }\n      - { name: viewed_at, data_type: timestamp, constraints: [{ type: not_null }] }\n      - { name: user_id, data_type: bigint, constraints: [{ type: primary_key }] }\n      - { name: platform, data_type: varchar, constraints: [{ type: not_null }] }\n");
shows!(constraints_that_are_wrong,
    "models/gold/g.sql" => "select user_id from {{ ref('views') }}",
    "models/gold/g.yml" => "models:\n  - name: g\n    columns:\n      - name: user_id\n        constraints:\n          - type: not_nul\n          - type: check\n          - type: not_null\n          - { typ: unique }\n");
shows!(lints_that_do_not_exist,
    "models/gold/g.sql" => "{{ config(lints={'unused-ct': 'allow'}) }}\nselect user_id from {{ ref('views') }}",
    "models/gold/h.sql" => "{{ config(lints={'unused-cte': 'forbid'}) }}\nselect user_id from {{ ref('views') }}");
shows!(mistakes_in_both_sides_of_a_union,
    "models/gold/g.sql" => "select usr_id from {{ ref('views') }}\nunion all\nselect user_di from {{ ref('views') }}\n");

#[test]
fn a_lint_is_allowed_or_denied_where_its_owner_says_so() {
    let unused = "with unused as (select 1 as one) select 2 as two";
    let sandbox = Sandbox::new(&[("models/gold/g.sql", unused), ("models/silver/s.sql", unused)]);
    let found = sandbox.json(&["compile"]);
    assert_eq!(found["diagnostics"].as_array().unwrap().len(), 2);
    let project = "name: sandbox\ntargets:\n  dev: { root: lake }\nmodels:\n  +lints: { unused-cte: deny }\n  silver: { lints: { L0401: allow } }\n";
    sandbox.write("project.yml", project);
    let run = sandbox.lake(&["compile"]);
    run.assert_failed(2, "error[L0401]");
    assert!(run.stderr.contains("models/gold/g.sql:1:6") && !run.stderr.contains("models/silver"), "{}", run.stderr);
    sandbox.write("models/gold/g.sql", format!("{{{{ config(lints={{'unused-cte': 'allow'}}) }}}}\n{unused}"));
    assert_eq!(sandbox.lake(&["compile", "--deny", "warnings"]).code, 0);
}

#[test]
fn warnings_stop_only_who_asks() {
    let unused = "with unused as (select 1 as one) select 2 as two";
    let sandbox = Sandbox::new(&[("models/gold/g.sql", unused)]);
    assert_eq!(sandbox.lake(&["compile"]).code, 0);
    sandbox.lake(&["compile", "--deny", "warnings"]).assert_failed(2, "1 warning, and --deny warnings");
}

#[test]
fn every_code_can_be_explained() {
    let sandbox = Sandbox::empty();
    for line in sandbox.ok(&["explain"]).lines() {
        let code = line.split_whitespace().next().unwrap();
        let page = sandbox.ok(&["explain", &code.to_lowercase()]);
        assert!(page.starts_with(&format!("## {code}")) && page.contains("**What to do.**"), "{page}");
        let examples: Vec<&str> = page.split("```").collect();
        assert!(examples.len() >= 3 && examples.len() % 2 == 1, "{code} has no example:\n{page}");
    }
    sandbox.lake(&["explain", "unknown-reff"]).assert_failed(2, "did you mean `unknown-ref`?");
}

#[test]
fn diagnostics_are_json_for_programs() {
    let sandbox = Sandbox::new(&[("models/gold/g.sql", "select nope from {{ ref('veiws') }}")]);
    let report = sandbox.json(&["compile"]);
    let first = &report["diagnostics"][0];
    assert_eq!(first["id"], "unknown-ref");
    assert_eq!(first["location"]["path"], "models/gold/g.sql");
    assert_eq!((&first["location"]["line"], &first["location"]["column"]), (&1.into(), &21.into()));
}

#[test]
fn a_folder_without_a_project_says_what_to_do() {
    let run = Sandbox::empty().lake(&["build"]);
    run.assert_failed(2, "no project found");
    run.assert_failed(2, "lake init");
}

// -- seeds --

shows!(a_seed_with_a_row_too_long,
    "seeds/countries.csv" => "code,name\nDE,Germany\nFR,France,Paris\n");

shows!(a_seed_with_a_value_that_does_not_fit,
    "seeds/countries.csv" => "code,people\nDE,83\nFR,many\n",
    "seeds/seeds.yml" => "seeds:\n  - name: countries\n    config: { column_types: { people: bigint } }\n");

shows!(seeds_without_rows_or_with_bad_names,
    "seeds/empty.csv" => "",
    "seeds/nameless.csv" => "a,,b\n1,2,3\n",
    "seeds/two words.csv" => "a\n1\n",
    "seeds/web/views.csv" => "a\n1\n");

shows!(settings_of_seeds_that_are_wrong,
    "project.yml" => "name: sandbox\ntargets:\n  dev: { root: lake }\nseeds:\n  +delimiter: ';;'\n  geo: { +shema: raw }\n",
    "seeds/countries.csv" => "code,name\nDE,Germany\n",
    "seeds/seeds.yml" => "\
seeds:
  - name: countries
    config: { schema: raw, column_types: { nam: varchar, code: txt }, materialized: table }
    columns: [{ name: cod }]
  - name: countrys
  - name: views
");

shows!(a_seed_described_as_a_model,
    "seeds/countries.csv" => "code,name\nDE,Germany\n",
    "models/countries.yml" => "models:\n  - name: countries\n");

// -- incremental strategies --

const INCREMENTAL: &str = "{{ config(materialized='incremental', SETTINGS) }}\nselect user_id, platform, viewed_at from {{ source('bronze', 'views') }}\n";

#[test]
fn strategies_that_lack_what_they_need() {
    let cases = [
        "incremental_strategy='delete+insert'",
        "incremental_strategy='insert_overwrite'",
        "incremental_strategy='insert_overwrite', partition_by='platform', unique_key='user_id'",
        "incremental_strategy='insert_overwrite', incremental_predicates='platfrom = 1'",
        "incremental_strategy='insert_overwrite', incremental_predicates=['user_id', 'platform =']",
        "incremental_predicates='true', unique_key='user_id'",
        "incremental_strategy='insert_overwrit'",
        "unique_key='user_id', merge_update_columns=['platfrom']",
        "unique_key='user_id', merge_update_columns=['platform'], merge_exclude_columns=['viewed_at']",
        "merge_exclude_columns=['viewed_at']",
        "incremental_strategy='delete+insert', unique_key='user_id', merge_update_columns='platform'",
        "delete_when='true'",
        "unique_key='user_id', delete_when='user_id'",
        "unique_key='user_id', delete_when='opp = 1'",
        "unique_key='user_id', delete_when='user_id ='",
    ];
    let shown = cases.map(|settings| {
        format!(
            "-- {settings}\n{}",
            compile(&[("models/silver/views.sql", &INCREMENTAL.replace("SETTINGS", settings))])
        )
    });
    crate::sandbox::snapshots().bind(|| {
        insta::assert_snapshot!("diagnostics@strategies_that_lack_what_they_need", shown.join("\n"));
    });
}

// -- files of tables --

#[test]
fn layouts_that_cannot_work() {
    let cases = [
        "sort_by=['viewd_at']",
        "sort_by='user_id', zorder_by=['user_id', 'viewed_at']",
        "partition_by='platform', zorder_by=['platform', 'user_id']",
        "target_file_size='big'",
        "compression='zstd(40)'",
        "compression='snapy'",
        "bloom_filter_columns='platfrom'",
        "tblproperties={'delta.logRetentionDuraton': 'interval 3 days'}",
        "tblproperties={'delta.logRetentionDuration': '3 days'}",
        "tblproperties={'delta.enableDeletionVectors': true}",
        "tblproperties={'delta.dataSkippingStatsColumns': 'user_id, platfrom'}",
        "sort_by='viewed_at', tblproperties={'delta.dataSkippingNumIndexedCols': 2}",
        "persist_docs={'relations': true}",
        "maintain={'optimise': false}",
        "maintain={'vacuum': {'retention': '1 hour'}}",
        "maintain={'vacuum': {'retention': '2 days'}}",
        "on_schema_change='sync_columns'",
        "auto_optimize='yes'",
    ];
    let shown = cases.map(|settings| {
        format!(
            "-- {settings}\n{}",
            compile(&[("models/silver/views.sql", &INCREMENTAL.replace("SETTINGS", settings))])
        )
    });
    crate::sandbox::snapshots().bind(|| {
        insta::assert_snapshot!("diagnostics@layouts_that_cannot_work", shown.join("\n"));
    });
}

shows!(layouts_of_a_project_that_are_wrong,
    "project.yml" => "name: sandbox\ntargets:\n  dev: { root: lake }\nmaintain: { vacuum: 7 }\nmodels:\n  silver:\n    tblproperties: { delta.checkpointInterval: 0 }\n    maintain: { vacum: false }\n");

// -- batches --

const BATCHES: &str = "{{ config(materialized='incremental', incremental_strategy='microbatch', SETTINGS) }}\nselect user_id, platform, viewed_at from {{ ref('raw') }}\n";

#[test]
fn batches_that_cannot_be_made() {
    let whole = "event_time='viewed_at', batch_size='day', begin='2026-01-01'";
    let cases = [
        ("lookback=2".to_owned(), "event_time='viewed_at'"),
        (whole.replace("'day'", "'week'"), "event_time='viewed_at'"),
        (whole.replace("2026-01-01", "last week"), "event_time='viewed_at'"),
        (format!("{whole}, lookback=-1"), "event_time='viewed_at'"),
        (whole.replace("viewed_at", "viewed"), "event_time='viewed_at'"),
        (whole.replace("viewed_at", "platform"), "event_time='platform'"),
        (format!("{whole}, unique_key='user_id'"), "event_time='viewed_at'"),
        (whole.to_owned(), "tags='a'"),
    ];
    let shown = cases.map(|(settings, raw)| {
        let raw =
            format!("{{{{ config(materialized='table', {raw}) }}}} select * from {{{{ source('bronze', 'views') }}}}");
        let model = BATCHES.replace("SETTINGS", &settings);
        format!("-- {settings}\n{}", compile(&[("models/silver/raw.sql", &raw), ("models/silver/batches.sql", &model)]))
    });
    crate::sandbox::snapshots().bind(|| {
        insta::assert_snapshot!("diagnostics@batches_that_cannot_be_made", shown.join("\n"));
    });
}

shows!(settings_of_batches_elsewhere,
    "models/silver/views.sql" => "{{ config(materialized='table', lookback=3, event_time='viewed') }}\nselect viewed_at from {{ source('bronze', 'views') }}",
    "models/silver/hours.sql" => "{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='day', batch_size='hour', begin='2026-01-01') }}\nselect cast(viewed_at as date) as day, '{{ model.batch.id }}' as b from {{ source('bronze', 'views') }}");

shows!(batches_over_sources,
    "sources.yml" => &SOURCES.replace("        columns:\n", "        on_bad_row: quarantine\n        config: { event_time: platform }\n        columns:\n"),
    "models/silver/hours.sql" => "{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='day', batch_size='hour', begin='2026-01-01') }}\nselect cast(viewed_at as date) as day from {{ source('bronze', 'views') }}");

shows!(changes_that_nobody_can_read,
    "models/gold/view.sql" => "select * from {{ ref('stored', changes=true) }}",
    "models/gold/of_view.sql" => "{{ config(materialized='incremental') }}\nselect * from {{ ref('views', changes=true) }}",
    "models/gold/batches.sql" => "{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='viewed_at', batch_size='day', begin='2026-01-01') }}\nselect * from {{ ref('stored', changes=true) }}",
    "models/gold/typo.sql" => "{{ config(materialized='incremental') }}\nselect * from {{ ref('stored', change=true) }}",
    "models/gold/column.sql" => "{{ config(materialized='incremental') }}\nselect user_id, _change from {{ ref('stored', changes=true) }}",
    "models/gold/taken.sql" => "{{ config(materialized='incremental') }}\nselect * from {{ ref('named', changes=true) }}",
    "models/silver/named.sql" => "{{ config(materialized='table') }}\nselect 1 as _change_type",
    "models/silver/stored.sql" => "{{ config(materialized='table') }}\nselect * from {{ ref('views') }}",
    "tests/t.sql" => "select * from {{ ref('stored', changes=true) }}");
