//! dbt's language: macros, values, tests of the project's own, documentation, and what packages offer.

use crate::sandbox::Sandbox;
use serde_json::json;

/// A project with `silver.orders`, of three rows.
fn orders(files: &[(&str, &str)]) -> Sandbox {
    let rows = "select * from (values (1, 'web', 10), (2, 'app', 20), (3, 'web', 5)) as t (id, channel, amount)";
    let sandbox = Sandbox::new(&[("models/silver/orders.sql", rows)]);
    for (path, text) in files {
        sandbox.write(path, text);
    }
    sandbox
}

/// What a person sees of a compile.
fn compile(sandbox: &Sandbox) -> String {
    let run = sandbox.lake(&["compile"]);
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    run.stderr
}

/// A project with `silver.orders` and these files, as a person sees its mistakes.
macro_rules! shows {
    ($name:ident, $($path:literal => $text:expr),+ $(,)?) => {
        #[test]
        fn $name() {
            let output = compile(&orders(&[$(($path, $text)),+]));
            crate::sandbox::snapshots().bind(|| insta::assert_snapshot!(concat!("jinja@", stringify!($name)), output));
        }
    };
}

#[test]
fn macros_take_varargs_kwargs_defaults_and_named_arguments() {
    let macros = "
{% macro sum_of(first, scale=1) -%}
    ({{ first }}{% for x in varargs %} + {{ x }}{% endfor %}) * {{ scale }}{% for k, v in kwargs.items() %} + {{ v }}{% endfor %}
{%- endmacro %}
{% macro passes_on() %}{{ sum_of(*varargs, **kwargs) }}{% endmacro %}
{% macro none_given() %}{{ varargs | length }}{{ kwargs | length }}{% endmacro %}";
    let sandbox = orders(&[("macros/sums.sql", macros)]);
    let value = |sql: &str| sandbox.value(sql);
    assert_eq!(value("select {{ sum_of(1, 2, 3, 4) }}"), 16);
    assert_eq!(value("select {{ sum_of(1, scale=5) }}"), 5);
    assert_eq!(value("select {{ sum_of(scale=5, first=2, extra=100) }}"), 110);
    assert_eq!(value("select {{ passes_on(1, 2, 3, extra=100) }}"), 108);
    assert_eq!(value("select '{{ none_given() }}'"), "00");
}

#[test]
fn macros_call_each_other_across_files_and_inside_call_blocks() {
    let sandbox = orders(&[
        ("macros/a.sql", "{% macro outer(n) %}{% call wrap('(') %}{{ inner(n) }}{% endcall %}{% endmacro %}"),
        (
            "macros/b.sql",
            "{% macro inner(n) %}{{ n }} + {{ twice(n) }}{% endmacro %}
{% macro wrap(open) %}{{ open }}{{ caller() }}){% endmacro %}
{% macro each(xs) %}{% for x in xs %}{{ caller(x) }}{{ ', ' if not loop.last }}{% endfor %}{% endmacro %}",
        ),
        (
            "macros/deep/er/c.sql",
            "{% macro twice(n) %}{{ n * 2 }}{% endmacro %}
{% macro factorial(n) %}{{ return(1 if n <= 1 else n * factorial(n - 1)) }}{% endmacro %}",
        ),
    ]);
    assert_eq!(sandbox.value("select {{ outer(5) }} * 2"), 30);
    assert_eq!(
        sandbox.value("select array_to_string([{% call(x) each([1, 2]) %}{{ twice(x) }}{% endcall %}], '-')"),
        "2-4"
    );
    assert_eq!(sandbox.value("select {{ factorial(6) }}"), 720);
}

#[test]
fn return_gives_a_value_and_ends_the_macro() {
    let macros = "
{% macro channels() %}this is not written{{ return(['web', 'app']) }}nor this{% endmacro %}
{% macro settings() %}{% do return({'limit': 2, 'names': channels()}) %}{% endmacro %}
{% macro nothing() %}{{ return(none) }}{% endmacro %}
{% macro first_even(xs) %}{% for x in xs %}{% if x % 2 == 0 %}{{ return(x) }}{% endif %}{% endfor %}{{ return(-1) }}{% endmacro %}
{% macro text() %}a{% endmacro %}
{% macro of_caller() %}{% set got = caller() %}{{ return(got ~ '!') }}{% endmacro %}";
    let sandbox = orders(&[("macros/values.sql", macros)]);
    let sql =
        "{% set cs = channels() %}select {% for c in cs %}'{{ c }}' as {{ c }}, {% endfor %}{{ cs | length }} as n";
    assert_eq!(sandbox.query(sql), [json!({"web": "web", "app": "app", "n": 2})]);
    assert_eq!(sandbox.value("select {{ settings().limit + 1 }}"), 3);
    assert_eq!(sandbox.value("select '{{ settings()['names'][1] }}'"), "app");
    assert_eq!(sandbox.value("select {{ 1 if nothing() is none else 0 }}"), 1);
    assert_eq!(sandbox.value("select {{ first_even([1, 4, 6]) + first_even([1]) }}"), 3);
    assert_eq!(sandbox.value("select '{{ text() ~ text() }}'"), "aa");
    assert_eq!(sandbox.value("select '{% call of_caller() %}x{% endcall %}'"), "x!");
}

#[test]
fn a_folder_of_macros_is_a_package_and_so_is_the_project() {
    let sandbox = orders(&[
        (
            "macros/money/a.sql",
            "{% macro scale() %}100{% endmacro %}{% macro cents(x) %}{{ x }} * {{ scale() }}{% endmacro %}",
        ),
        (
            "macros/units/a.sql",
            "{% macro scale() %}1000{% endmacro %}{% macro grams(x) %}{{ x }} * {{ scale() }}{% endmacro %}",
        ),
        ("macros/own.sql", "{% macro mine() %}7{% endmacro %}"),
    ]);
    // In its own package a bare name means the package's macro.
    assert_eq!(sandbox.value("select {{ money.cents(2) }} + {{ grams(3) }}"), 3200);
    assert_eq!(sandbox.value("select {{ sandbox.mine() }} + {{ mine() }}"), 14);
    let run = sandbox.lake(&["show", "--inline", "select {{ scale() }}"]);
    run.assert_failed(2, "several packages have a macro `scale`");
    run.assert_failed(2, "say which one: money.scale, units.scale");
    sandbox.lake(&["show", "--inline", "select {{ money.cent(1) }}"]).assert_failed(2, "did you mean `money.cents`?");
}

#[test]
fn dispatch_finds_the_macro_of_the_engine_before_the_default() {
    let sandbox = orders(&[(
        "macros/money/a.sql",
        "
{% macro cents(x) %}{{ return(adapter.dispatch('cents', 'money')(x)) }}{% endmacro %}
{% macro default__cents(x) %}{{ x }} * 100{% endmacro %}
{% macro only() %}{{ adapter.dispatch('only', macro_namespace='money')() }}{% endmacro %}
{% macro datafusion__only() %}2{% endmacro %}
{% macro default__only() %}1{% endmacro %}
{% macro nowhere() %}{{ adapter.dispatch('nowhere', 'money')() }}{% endmacro %}",
    )]);
    assert_eq!(sandbox.value("select {{ money.cents(2) }}"), 200);
    assert_eq!(sandbox.value("select {{ money.only() }}"), 2);
    // The project's own goes before the package's.
    sandbox.write("macros/own.sql", "{% macro lake__cents(x) %}{{ x }} * 7{% endmacro %}");
    assert_eq!(sandbox.value("select {{ money.cents(2) }}"), 14);
    let run = sandbox.lake(&["show", "--inline", "select {{ money.nowhere() }}"]);
    run.assert_failed(2, "looked for: lake__nowhere, datafusion__nowhere, default__nowhere, money.lake__nowhere");
}

#[test]
fn a_macro_can_take_over_a_function_and_call_the_one_that_was() {
    let sandbox = orders(&[(
        "macros/ref.sql",
        "{% macro ref(name) %}{{ return(builtins.ref(name | replace('orders_', 'orders'))) }}{% endmacro %}",
    )]);
    assert_eq!(sandbox.value("select count(*) from {{ ref('orders_') }}"), 3);
}

#[test]
fn lists_and_dicts_change_in_place() {
    let sandbox = orders(&[(
        "macros/lists.sql",
        "{% macro squares(n) %}{% set out = [] %}{% for i in range(n) %}{% do out.append(i * i) %}{% endfor %}{{ return(out) }}{% endmacro %}",
    )]);
    let sql = "{% set xs = [3, 1] %}{% do xs.append(2) %}{% do xs.extend([9, 8]) %}{% do xs.remove(9) %}{% do xs.insert(0, 5) %}
{% set d = {'a': {'b': []}} %}{% do d.update({'c': 1}) %}{% do d['a']['b'].append(4) %}{% do d.update(e=2) %}
select '{{ xs | join(',') }}' as xs, {{ xs.pop() }} as last, {{ xs | length }} as n, {{ d.a.b[0] + d.c + d.e }} as d, '{{ (xs + [0]) | sort | join }}' as plus";
    let expected = json!({"xs": "5,3,1,2,8", "last": 8, "n": 4, "d": 7, "plus": "01235"});
    assert_eq!(sandbox.query(sql), [expected]);
    // A value that a macro returned is the caller's own.
    let sql = "{% set xs = squares(3) %}{% do xs.append(7) %}select '{{ xs | join(',') }}', {{ squares(3) | length }}";
    assert_eq!(sandbox.value(sql), "0,1,4,7");
    let sql = "{% set xs = 'a,b'.split(',') %}{% do xs.append('c') %}select 1";
    sandbox.lake(&["show", "--inline", sql]).assert_failed(2, "make one of your own first: `{% set xs = xs | list %}`");
    let sql = "{% set xs = [] %}{% set ys = [xs] %}{% do xs.append(ys) %}select 1";
    sandbox.lake(&["show", "--inline", sql]).assert_failed(2, "cannot be put into itself");
}

#[test]
fn values_turn_into_texts_and_back() {
    let sandbox = orders(&[]);
    let texts = "select '{{ tojson({'b': [1, none], 'a': true}, sort_keys=true) }}' as json,
        '{{ fromjson('{\"a\": [1, 2]}')['a'][1] }}' as from_json, '{{ fromjson('no', 'default') }}' as bad_json,
        '{{ fromyaml('a: {b: 2}').a.b }}' as from_yaml, '{{ toyaml({'a': [1]}) | replace('\\n', '|') }}' as yaml,
        '{{ set([2, 1, 2]) | join(',') }}' as a_set, '{{ set(5, []) | length }}' as no_set,
        '{{ zip([1, 2, 3], ['a', 'b']) | map('join') | join(',') }}' as zipped, '{{ '7' | as_number + 1 }}' as number,
        '{{ project_name }}' as project, {{ 1 if execute else 0 }} as executes";
    let expected = json!({
        "json": "{\"a\": true, \"b\": [1, null]}", "from_json": "2", "bad_json": "default", "from_yaml": "2",
        "yaml": "a:|- 1|", "a_set": "2,1", "no_set": "0", "zipped": "1a,2b", "number": "8", "project": "sandbox",
        "executes": 1,
    });
    assert_eq!(sandbox.query(texts), [expected]);
    sandbox.lake(&["show", "--inline", "select {{ set_strict(5) }}"]).assert_failed(2, "not iterable");
}

#[test]
fn dates_are_moved_and_formatted_as_in_python() {
    let sandbox = orders(&[]);
    let sql = "{% set dt = modules.datetime %}
{% set start = dt.datetime.strptime('2024-02-28', '%Y-%m-%d') %}
{% set end = start + dt.timedelta(days=2, hours=3) - dt.timedelta(minutes=30) %}
select '{{ end }}' as moved, '{{ end.strftime('%d.%m.%Y') }}' as text, {{ (end - start).days }} as days,
    '{{ dt.date(2024, 3, 1) - dt.timedelta(days=1) }}' as leap, {{ 1 if end > start else 0 }} as later,
    '{{ start.date().isoformat() }}' as iso, {{ start.year + 1 - 2 }} as year, '{{ dt.timedelta(hours=30) }}' as delta";
    let expected = json!({
        "moved": "2024-03-01 02:30:00", "text": "01.03.2024", "days": 2, "leap": "2024-02-29", "later": 1,
        "iso": "2024-02-28", "year": 2023, "delta": "1 day, 6:00:00",
    });
    assert_eq!(sandbox.query(sql), [expected]);
    let sql = "select cast('{{ (run_started_at - modules.datetime.timedelta(days=3)).strftime('%Y-%m-%d') }}' as date) < current_date";
    assert_eq!(sandbox.value(sql), true);
    let sql = "{{ modules.datetime.datetime.strptime('soon', '%Y') }}";
    sandbox.lake(&["show", "--inline", sql]).assert_failed(2, "`soon` does not fit the format `%Y`");
}

#[test]
fn expressions_and_combinations_are_pythons() {
    let sandbox = orders(&[]);
    let sql = "{% set re = modules.re %}{% set found = re.search('(?P<y>[0-9]+)-(q[1-4])', 'in 2024-q3') %}
select '{{ found.group('y') ~ found.group(2) }}' as groups, '{{ re.sub('[^a-z]+', '_', 'a b-c') }}' as sub,
    {{ 1 if re.match('b', 'ab') else 0 }} as at_start, '{{ re.findall('[0-9]', 'a1b2') | join }}' as every,
    '{{ re.sub('(a)(b)', '\\\\2\\\\1', 'ab', flags=re.IGNORECASE) }}' as swapped,
    {{ modules.itertools.product([1, 2], ['a', 'b', 'c']) | length }} as pairs,
    {{ modules.itertools.combinations([1, 2, 3], 2) | length }} as choices";
    let expected = json!({
        "groups": "2024q3", "sub": "a_b_c", "at_start": 0, "every": "12", "swapped": "ba", "pairs": 6, "choices": 3,
    });
    assert_eq!(sandbox.query(sql), [expected]);
}

#[test]
fn docs_blocks_are_read_from_markdown() {
    let sandbox = orders(&[
        ("models/docs.md", "# Docs\n{% docs orders %}\nOne row for each *order*.\n{% enddocs %}\n"),
        ("docs/more.md", "{% docs id %}The number of an order.{% enddocs %}"),
        (
            "models/silver/orders.yml",
            "models:\n  - name: orders\n    description: \"{{ doc('orders') }}\"\n    columns:\n      - name: id\n        description: \"{{ doc('id') }} Of {{ var('shop', 'a shop') }}.\"\n",
        ),
    ]);
    sandbox.ok(&["compile"]);
    let manifest = std::fs::read_to_string(sandbox.path(".lake/manifest.json")).unwrap();
    assert!(manifest.contains("One row for each *order*.\""), "{manifest}");
    assert!(manifest.contains("The number of an order. Of a shop."), "{manifest}");
}

shows!(docs_that_are_wrong,
    "models/docs.md" => "{% docs orders %}One{% enddocs %}\n{% docs orders %}Two{% enddocs %}\n{% docs two names %}{% enddocs %}\n{% docs open %}\n",
    "models/silver/orders.yml" => "models:\n  - name: orders\n    description: \"{{ doc('order') }}\"\n    columns:\n      - name: id\n        description: \"{{ doc('nothing') }}\"\n");

#[test]
fn a_generic_test_of_the_project_runs_before_the_publish() {
    let sandbox = orders(&[
        (
            "tests/generic/is_below.sql",
            "{% test is_below(model, column_name, limit, other=none) %}\nselect {{ column_name }} as wrong\nfrom {{ model }}\nwhere {{ column_name }} >= {{ limit }}\n{% if other is not none %}and {{ column_name }} not in (select id from {{ other }}){% endif %}\n{% endtest %}",
        ),
        (
            "macros/tests.sql",
            "{% macro is_odd(c) %}{{ c }} % 2 = 1{% endmacro %}\n{% test has_rows(model, least=1) %}select 1 as few from (select count(*) as n from {{ model }} where {{ is_odd('id') }}) as t where n < {{ least }}{% endtest %}",
        ),
        ("models/gold/g.sql", "{{ config(materialized='table') }}\nselect * from {{ ref('orders') }}"),
        (
            "models/gold/g.yml",
            "models:\n  - name: g\n    data_tests:\n      - has_rows: { arguments: { least: 2 } }\n    columns:\n      - name: amount\n        data_tests:\n          - is_below: { limit: 21, tags: [range] }\n          - is_below: { limit: 15, name: low, config: { severity: warn, where: \"channel = 'app'\" } }\n          - is_below: { limit: 0, name: known, other: ref('orders'), where: id < 1 }\n",
        ),
    ]);
    let report = sandbox.json(&["build"]);
    let tests: Vec<(&str, &str)> = crate::sandbox::node(&report, "gold.g")["tests"]
        .as_array()
        .unwrap_or_else(|| panic!("{report}"))
        .iter()
        .map(|test| (test["name"].as_str().unwrap(), test["status"].as_str().unwrap()))
        .collect();
    let expected = [("is_below_g_amount_21", "pass"), ("low", "warn"), ("known", "pass"), ("has_rows_g_2", "pass")];
    assert_eq!(tests, expected);
    // Rows that fail stop the publish: readers keep the version before.
    sandbox.write(
        "models/gold/g.sql",
        "{{ config(materialized='table') }}\nselect id, channel, amount + 1 as amount from {{ ref('orders') }}",
    );
    let run = sandbox.lake(&["build"]);
    run.assert_failed(1, "is_below_g_amount_21");
    assert_eq!(sandbox.value("select max(amount) from {{ ref('g') }}"), 20);
}

#[test]
fn a_generic_test_takes_over_one_that_is_built_in() {
    let sandbox = orders(&[
        (
            "tests/generic/not_null.sql",
            "{% test not_null(model, column_name) %}select * from {{ model }} where {{ column_name }} = 3{% endtest %}",
        ),
        (
            "models/silver/orders.yml",
            "models:\n  - name: orders\n    columns:\n      - name: id\n        data_tests: [not_null]\n",
        ),
    ]);
    sandbox.lake(&["build"]).assert_failed(1, "1 row fails");
}

shows!(generic_tests_that_are_used_wrongly,
    "tests/generic/is_below.sql" => "{% test is_below(model, column_name, limit) %}\nselect * from {{ model }} where {{ column_name }} >= {{ limit }}\n{% endtest %}",
    "models/silver/orders.yml" => "models:\n  - name: orders\n    data_tests:\n      - is_below: { limit: 1 }\n    columns:\n      - name: id\n        data_tests:\n          - is_below\n          - is_below: { limt: 3, limit: 2 }\n          - is_belo\n          - is_below: { limit: ref('order') }\n");
shows!(mistake_in_the_sql_of_a_generic_test,
    "tests/generic/is_below.sql" => "{% test is_below(model, column_name, limit=1) %}\nselect *\nfrom {{ model }}\nwhere {{ column_name }} >= {{ limit }}\n    and amuont > 0\n{% endtest %}",
    "models/silver/orders.yml" => "models:\n  - name: orders\n    columns:\n      - name: id\n        data_tests: [is_below]\n");
shows!(macros_that_are_called_wrongly,
    "macros/m.sql" => "{% macro pair(a, b) %}{{ a }}{{ b }}{% endmacro %}",
    "models/gold/a.sql" => "select {{ pair(1, 2, 3) }}",
    "models/gold/b.sql" => "select\n    {{ pair(1, c=3) }}",
    "models/gold/c.sql" => "{% call pair(1, 2) %}x{% endcall %}",
    "models/gold/d.sql" => "select {{ pair(1, a=3) }}",
    "models/gold/e.sql" => "select {{ return(1) }}",
    "models/gold/f.sql" => "select {{ pear(1, 2) }}");
shows!(two_macros_of_one_name,
    "macros/a.sql" => "{% macro one() %}1{% endmacro %}",
    "macros/b.sql" => "{% macro two() %}2{% endmacro %}\n{% macro one() %}1{% endmacro %}");
shows!(mistakes_inside_macros_with_varargs,
    "macros/m.sql" => "{# ü #}{% macro add(a) %}{% set xs = [] %}{% do xs.append(varargs) %}\n  {{ xs[0].nothing.more }}\n{% endmacro %}",
    "models/gold/a.sql" => "{% set xs = [] %}{% do xs.append(1) %}\nselect {{ add(1, 2) }}",
    "models/gold/b.sql" => "{% set xs = [] %}{% do xs.append(1) %}\nselect\n    {{ xs | lenght }},\n    id");
shows!(mistake_in_the_sql_of_a_macro_of_a_package,
    "macros/money/m.sql" => "{% macro total() %}\n  sum(amount){% for x in varargs %} + {{ x }}{% endfor %}\n  + nope\n{% endmacro %}",
    "models/gold/a.sql" => "select {{ money.total(1, 2) }} as t from {{ ref('orders') }}");
shows!(mistake_in_sql_after_a_rewrite,
    "models/gold/a.sql" => "{% set xs = [] %}{% do xs.append('id') %}\nselect\n    {{ xs[0] }},\n    nope\nfrom {{ ref('orders') }}");
shows!(questions_to_a_database,
    "models/gold/a.sql" => "{% set rows = run_query('select 1') %}select 1 as a",
    "models/gold/b.sql" => "{% for c in adapter.get_columns_in_relation(ref('orders')) %}{{ c.name }}{% endfor %}",
    "models/gold/c.sql" => "{% call statement('n', fetch_result=True) %}select 1{% endcall %}",
    "models/gold/d.sql" => "select {{ graph.nodes }}",
    "models/gold/e.sql" => "{% set xs = dbt_utils.get_column_values(ref('orders'), 'channel') %}select 1 as a",
    "models/gold/f.sql" => "{% if flags.FULL_REFRESH %}select 1 as a{% endif %}",
    "models/gold/h.sql" => "{% set d = dbt_utils.get_query_results_as_dict('select 1') %}select 1 as a",
    "models/gold/i.sql" => "select {{ dbt_utils.star(ref('orders'), prefix='o_') }} from {{ ref('orders') }}");
shows!(a_warning_of_a_template,
    "macros/m.sql" => "{% macro old(new=none) %}\n  {% if new is none %}{% do exceptions.warn('old() goes') %}{% endif %}\n  {% do exceptions.warn('old() is going away') %}1\n{% endmacro %}",
    "models/gold/a.sql" => "{% if false %}{{ exceptions.warn('never') }}{% endif %}\n{% for x in [1, 2] %}{{ exceptions.warn('this model is old') }}{% endfor %}\nselect {{ old(new=1) }} as one");
shows!(words_of_dbt_that_are_not_here,
    "macros/m.sql" => "{% macro fine() %}1{% endmacro %}",
    "macros/own.sql" => "{% materialization own, default %}{{ return({}) }}{% endmaterialization %}",
    "models/gold/a.sql" => "{% snapshot orders_snapshot %}\nselect 1 as a\n{% endsnapshot %}",
    "models/gold/b.sql" => "{% docs a %}text{% enddocs %}select 1 as a",
    "models/gold/c.sql" => "{{ config(materialized='snapshot') }}select 1 as a",
    "models/gold/d.sql" => "select * from {{ ref('orders', v=2) }}",
    "models/gold/e.sql" => "{% set r = api.Relation.create(schema='a', identifier='b') %}select * from {{ r }}",
    "models/gold/f.sql" => "select {{ elementary.now() }} as a",
    "models/gold/g.sql" => "{% set r = adapter.get_relation(database=none, schema='a', identifier='b') %}select 1 as a",
    "models/gold/h.sql" => "{% for n in graph.nodes.values() | selectattr('resource_type', 'equalto', 'model') %}{{ n.name }}{% endfor %}",
    "models/gold/i.sql" => "{%- call statement('s', fetch_result=True) -%}select 1{%- endcall -%}{% set x = load_result('s') %}select 1 as a",
    "models/gold/j.sql" => "{% set x = load_result('s') %}select 1 as a",
    "models/gold/k.sql" => "select {{ dbt.dat_trunc('day', 'x') }} as a",
    "models/gold/l.sql" => "select {{ context['fien']() }} as a, '{{ context['this'] }}' as b",
    "models/gold/m.sql" => "select '{{ context['this'] }}' as b",
    "models/gold/m.yml" => "models:\n  - name: m\n    latest_version: 2\n    versions: [{ v: 1 }, { v: 2 }]\nsnapshots: []\nsemantic_models: []\n");

#[test]
fn a_macro_is_found_in_the_context_by_a_name_that_is_put_together() {
    let sandbox = orders(&[
        ("macros/a.sql", "{% macro twice(x) %}({{ x }} * 2){% endmacro %}"),
        ("macros/b.sql", "{% macro by_name(name, x) %}{{ context[name ~ 'ice'](x) }}{% endmacro %}"),
        (
            "macros/c.sql",
            "{% macro any_of(name) %}{% set found = context.get(name) %}{{ return(found(4) if found else 0) }}{% endmacro %}",
        ),
    ]);
    assert_eq!(sandbox.value("select {{ context['twice'](1) }}"), 2);
    assert_eq!(sandbox.value("select {{ by_name('tw', 2) }}"), 4);
    assert_eq!(sandbox.value("select {{ any_of('twice') }} + {{ any_of('nothing') }}"), 8);
    assert_eq!(sandbox.value("select '{{ context['target'].name }} {{ context.get('nothing', 'else') }}'"), "dev else");
    sandbox.write("models/gold/me.sql", "select '{{ context.get('this') }}' as me from {{ context['ref']('orders') }}");
    sandbox.ok(&["compile"]);
    let sql = std::fs::read_to_string(sandbox.path(".lake/compiled/models/gold/me.sql")).unwrap();
    assert_eq!(sql, "select '\"gold\".\"me\"' as me from \"silver\".\"orders\"");
}

#[test]
fn dbt_utils_runs() {
    let sandbox = orders(&[("models/silver/refunds.sql", "select 9 as id, 2.5 as amount, 'late' as reason")]);
    let star =
        "select {{ dbt_utils.star(ref('orders'), except=['amount', 'id']) }} from {{ ref('orders') }} where id = 1";
    assert_eq!(sandbox.query(star), [json!({"channel": "web"})]);
    let star = "select {{ dbt_utils.star(ref('orders'), relation_alias='o', except=['id']) }} from {{ ref('orders') }} as o cross join (select 1 as x) as t where o.id = 2";
    assert_eq!(sandbox.query(star), [json!({"channel": "app", "amount": 20})]);
    let union = "{{ dbt_utils.union_relations([ref('orders'), ref('refunds')], exclude=['id']) }}";
    let rows =
        sandbox.query(&format!("select * from ({union}) as u where reason = 'late' or amount = 20 order by amount"));
    let expected = [
        json!({"_dbt_source_relation": "\"silver\".\"refunds\"", "amount": 2.5, "reason": "late"}),
        json!({"_dbt_source_relation": "\"silver\".\"orders\"", "channel": "app", "amount": 20.0}),
    ];
    assert_eq!(rows, expected);
    let pivot = "select {{ dbt_utils.pivot('channel', ['web', 'app'], then_value='amount', prefix='n_') }} from {{ ref('orders') }}";
    assert_eq!(sandbox.query(pivot), [json!({"n_web": 15, "n_app": 20})]);
    let one = "{{ dbt_utils.deduplicate(ref('orders'), 'channel', 'amount desc') }}";
    assert_eq!(
        sandbox.query(&format!("select id from ({one}) as d order by id")),
        [json!({"id": 1}), json!({"id": 2})]
    );
    let days = "{{ dbt_utils.date_spine('day', \"date '2024-02-27'\", \"date '2024-03-02'\") }}";
    assert_eq!(sandbox.value(&format!("select count(*) from ({days}) as d")), 4);
    let key = "select {{ dbt_utils.generate_surrogate_key(['id', 'null']) }} = md5('1-_dbt_utils_surrogate_key_null_') from {{ ref('orders') }} where id = 1";
    assert_eq!(sandbox.value(key), true);
    let small = "select {{ dbt_utils.safe_divide('10', '0') }} as d, {{ dbt_utils.safe_add(['1', 'null']) }} as a,
        {{ dbt_utils.safe_subtract(['5', '2']) }} as s, '{{ dbt_utils.slugify('1st Käse-Box') }}' as g,
        {{ dbt_utils.width_bucket('7', 0, 10, 5) }} as w, round({{ dbt_utils.haversine_distance(0, 0, 0, 90, 'km') }}) as h,
        {{ dbt_utils.get_url_parameter(\"'http://a.b/c?x=1&y=2'\", 'x') }} as p";
    assert_eq!(sandbox.query(small), [json!({"a": 1, "s": 3, "g": "_1st_kse_box", "w": 4, "h": 10008.0, "p": "1"})]);
    let grouped = "select channel, count(*) as n from {{ ref('orders') }} {{ dbt_utils.group_by(1) }} order by 1";
    assert_eq!(sandbox.query(grouped), [json!({"channel": "app", "n": 1}), json!({"channel": "web", "n": 2})]);
}

#[test]
fn dbt_utils_knows_the_columns_that_yaml_tells() {
    let yaml = "models:\n  - name: orders\n    config: { contract: { enforced: true } }\n    columns:\n      - { name: id, data_type: bigint }\n      - { name: channel, data_type: varchar, data_tests: [{ accepted_values: { values: [web, app] } }] }\n      - { name: amount, data_type: bigint }\n";
    let sandbox = orders(&[("models/silver/orders.yml", yaml)]);
    let star = "select {{ dbt_utils.star(ref('orders'), except=['AMOUNT', 'other'], prefix='o_') }} from {{ ref('orders') }} where id = 1";
    assert_eq!(sandbox.query(star), [json!({"o_id": 1, "o_channel": "web"})]);
    let values = "select '{{ dbt_utils.get_column_values(ref('orders'), 'channel') | join('+') }}'";
    assert_eq!(sandbox.value(values), "web+app");
    let long = "{{ dbt_utils.unpivot(ref('orders'), cast_to='bigint', exclude=['id'], remove=['channel']) }}";
    assert_eq!(
        sandbox.query(&format!("select * from ({long}) as u where id = 3")),
        [json!({"id": 3, "field_name": "amount", "value": 5})]
    );
    let union = "{{ dbt_utils.union_relations([ref('orders')], include=['id'], column_override={'id': 'varchar'}, source_column_name=none, where='id = 2') }}";
    assert_eq!(sandbox.query(union), [json!({"id": "2"})]);
}

#[test]
fn macros_across_databases_run() {
    let sandbox = orders(&[]);
    let sql = "select {{ dbt.dateadd('month', 1, \"date '2024-01-31'\") }} = date '2024-02-29' as added,
        {{ dbt.dateadd('hour', 'n', \"timestamp '2024-01-01'\") }} = timestamp '2024-01-01 05:00:00' as added_column,
        {{ dbt.datediff(\"date '2023-12-31'\", \"date '2024-01-01'\", 'year') }} as years,
        {{ datediff(\"timestamp '2024-01-01 23:00:00'\", \"timestamp '2024-01-02 01:00:00'\", 'day') }} as days,
        {{ dbt.datediff(\"date '2024-03-01'\", \"date '2024-02-01'\", 'month') }} as months,
        {{ dbt.last_day(\"date '2024-02-05'\", 'month') }} = date '2024-02-29' as last_day,
        {{ dbt.date_trunc('quarter', \"date '2024-05-05'\") }} = date '2024-04-01' as quarter,
        {{ dbt.safe_cast(\"'x'\", dbt.type_int()) }} as no_number, cast(1 as {{ dbt.type_string() }}) as text,
        {{ dbt.concat([\"'a'\", \"'b'\"]) }} as concat, {{ dbt.split_part(\"'a|b'\", \"'|'\", 2) }} as part,
        {{ dbt.hash(\"'a'\") }} = md5('a') as hash, {{ dbt.current_timestamp() }} > timestamp '2020-01-01' as now
        from (select 5 as n)";
    let expected = json!({
        "added": true, "added_column": true, "years": 1, "days": 1, "months": -1, "last_day": true, "quarter": true,
        "text": "1", "concat": "ab", "part": "b", "hash": true, "now": true,
    });
    assert_eq!(sandbox.query(sql), [expected]);
    let sql = "select {{ dbt.listagg('channel', \"'|'\", 'order by amount') }} as list, {{ dbt.bool_or('amount > 15') }} as any, {{ dbt.any_value('1') }} as one from {{ ref('orders') }}";
    assert_eq!(sandbox.query(sql), [json!({"list": "web|web|app", "any": true, "one": 1})]);
    sandbox
        .lake(&["show", "--inline", "select {{ dbt.dateadd('fortnight', 1, 'now()') }}"])
        .assert_failed(2, "`fortnight` is not a part of a date");
}

#[test]
fn a_package_in_the_project_goes_before_the_one_that_is_built_in() {
    let sandbox = orders(&[("macros/dbt_utils/star.sql", "{% macro star(from) %}1 as one{% endmacro %}")]);
    assert_eq!(sandbox.value("select {{ dbt_utils.star(ref('orders')) }}"), 1);
    assert_eq!(sandbox.value("select {{ dbt_utils.safe_add(['1', '2']) }}"), 3);
}

#[test]
fn odd_templates_end_in_a_message() {
    let sandbox = orders(&[("macros/m.sql", "{% macro forever(n) %}{{ forever(n + 1) }}{% endmacro %}")]);
    for sql in [
        "{{ forever(1) }}",
        "{{ [1, 2",
        "{% set xs = [ %}{% do xs.append(1) %}",
        "{{ 1 + }} timedelta",
        "{% macro x( %}",
        "{{ modules.datetime.timedelta(days=1e300) }}",
        "{{ modules.re.compile('(') }}",
        "{{ adapter.dispatch() }}",
        "{{ modules.itertools.product(range(9999), range(9999)) }}",
        "{{ dbt_utils.star('text') }}",
        "{{ return }} {{ varargs }}",
        "{% call forever %}{% endcall %}",
        "{{ doc() }}",
        "{{ dbt_utils }}{{ nope.x() }}",
    ] {
        let run = sandbox.lake(&["show", "--inline", sql]);
        assert!((1..=2).contains(&run.code) && run.stderr.contains("error"), "{sql}: {}\n{}", run.code, run.stderr);
        assert!(!run.stderr.contains("panicked") && !run.stderr.contains("overflow"), "{sql}: {}", run.stderr);
    }
}
