//! Templates as people write them in projects and packages of dbt: what they say, and what they are worth.

use crate::sandbox::Sandbox;

const PROJECT: &str = "\
name: shop
targets:
  dev: { root: lake }
vars:
  payment_methods: [credit_card, coupon]
  rates: { eur: 1.5, usd: 1 }
  columns: [{ name: id, type: int }, { name: channel, type: text }]
  start_date: 2024-01-01
";

const MACROS: &str = "
{% macro cents_to_dollars(column_name, scale=2) -%}
  {{ return(adapter.dispatch('cents_to_dollars')(column_name, scale)) }}
{%- endmacro %}
{% macro default__cents_to_dollars(column_name, scale) -%}
    ({{ column_name }} / 100)::numeric(16, {{ scale }})
{%- endmacro %}
{% macro moment(d, tz=none) -%}{%- if tz is none -%}{{ d }}{%- else -%}{{ d }} at time zone '{{ tz }}'{%- endif -%}{%- endmacro %}
{% macro beside(x, d=moment('7')) -%}{{ x }} + {{ d }}{%- endmacro %}
{% macro hash_of(columns) %}
    {%- set out = [] -%}
    {%- for c in columns -%}{%- set _ = out.append(\"cast(\" ~ c ~ \" as \" ~ dbt.type_string() ~ \")\") -%}{%- endfor -%}
    {{ return(dbt.hash(dbt.concat(out))) }}
{% endmacro %}
{% macro limit_in_dev(n=10) %}{%- if target.name == 'dev' -%} limit {{ n }} {%- endif -%}{% endmacro %}
{% macro methods() %}{{ return(var('payment_methods')) }}{% endmacro %}
{% macro tell() %}{% if execute %}{{ log('Running ' ~ this, True) }}{% do log('once more', info=False) %}{% endif %}{% endmacro %}
";

fn shop() -> Sandbox {
    let rows = "select * from (values (1, 'web', 1000), (2, 'app', 250)) as t (id, channel, amount)";
    Sandbox::new(&[("project.yml", PROJECT), ("macros/m.sql", MACROS), ("models/silver/orders.sql", rows)])
}

#[test]
fn idioms_of_packages_give_the_values_that_they_give_in_dbt() {
    let sandbox = shop();
    for (query, expected) in [
        (
            "select cast({{ cents_to_dollars('amount') }} as varchar) from {{ ref('shop', 'orders') }} where id = 2",
            "2.00",
        ),
        ("select cast({{ cents_to_dollars('250', scale=4) }} as varchar)", "2.0000"),
        (
            "{% set ns = namespace(n=0, found=false) %}{% for c in 'ab' %}{% set ns.n = ns.n + 1 %}{% if c == 'b' %}{% set ns.found = true %}{% endif %}{% endfor %}select '{{ ns.n }}{{ ns.found | lower }}'",
            "2true",
        ),
        ("select '{{ var('columns') | map(attribute='name') | join(', ') }}'", "id, channel"),
        (
            "select '{{ var('columns') | selectattr('type', 'equalto', 'int') | map(attribute='name') | list | first }}'",
            "id",
        ),
        (
            "select '{{ var('rates')['eur'] }} {{ var('rates').get('gbp', 7) }} {{ var('rates').keys() | list | sort | join('/') }}'",
            "1.5 7 eur/usd",
        ),
        ("{%- set q -%}select 'x' as a{%- endset -%}with t as ({{ q }}) select a from t", "x"),
        (
            "select '{% for m in methods() -%} {{ m | upper }} {%- if not loop.last -%} , {%- endif -%} {% endfor %}'",
            "CREDIT_CARD,COUPON",
        ),
        ("select cast({{ beside('1') }} as varchar){{ tell() }}", "8"),
        (
            "select {{ hash_of(['id', 'channel']) }} from {{ ref('orders') }} where id = 1",
            "a2dbadc805daf107bf40183185490098",
        ),
        (
            "select channel as {{ adapter.quote('The Channel') }} from {{ ref('orders') }} order by id {{ limit_in_dev(1) }}",
            "web",
        ),
        (
            "select '{{ '%.2f' | format(1.5) }} {{ '{:,}'.format(1234) }} {{ 'a,b'.split(',')[1] }} {{ '{} {}'.format('x', 'y') }}'",
            "1.50 1,234 b x y",
        ),
        ("select cast({{ '5' | as_number }} + {{ '3' | as_native }} as varchar)", "8"),
        (
            "{%- set d = modules.datetime.datetime.strptime(var('start_date') | string, '%Y-%m-%d') + modules.datetime.timedelta(days=30) -%}select '{{ d.strftime('%d.%m.%Y') }}'",
            "31.01.2024",
        ),
        (
            "select 'a' {%- if var('lookback', none) is not none %} nonsense {% endif %}{% if env_var('NO_SUCH', default=none) %} more {% endif %}",
            "a",
        ),
        (
            "{% set a = {'x': [1, 2], 'y': none} %}{% do a.update({'z': 3}) %}{% set e, f = 'p', 'q' %}select '{{ (a['x'] + [3]) | length }}{{ e }}{{ f }}{{ 'null' if a.y is none }}{{ dict(a, w=4).w }}{{ 7 // 2 }}'",
            "3pqnull43",
        ),
        (
            "{% set r = ref('orders') %}select '{{ r.schema }} {{ r.identifier }} {{ r.database or 'none' }}'",
            "silver orders none",
        ),
        ("select {% raw %}'{{ x }}'{% endraw %}", "{{ x }}"),
        (
            "select '{{ ['b', 'a'] | sort(reverse=true) | join }}{{ 'title case' | title }}{{ zzz | default('b') }}'",
            "baTitle Caseb",
        ),
    ] {
        assert_eq!(sandbox.value(query), expected, "{query}");
    }
}

#[test]
fn an_incremental_model_filters_by_what_is_there() {
    let sandbox = shop();
    let model = "{{ config(materialized='incremental', unique_key='id') }}
select id, channel as {{ model.alias }}_channel from {{ ref('orders') }}
{% if is_incremental() %}
where id > (select coalesce(max(id), 0) from {{ this }})
{% endif %}
";
    sandbox.write("models/gold/taken.sql", model);
    sandbox.ok(&["compile"]);
    let sql =
        |file: &str| std::fs::read_to_string(sandbox.path(&format!(".lake/compiled/models/gold/{file}"))).unwrap();
    assert_eq!(sql("taken.sql").trim(), "select id, channel as taken_channel from \"silver\".\"orders\"");
    assert!(sql("taken.incremental.sql").contains("(select coalesce(max(id), 0) from \"gold\".\"taken\")"));
}

#[test]
fn what_minijinja_writes_otherwise_is_said() {
    let sandbox = shop();
    for (query, help) in [
        ("select '{{ '%s-%s' % ('a', 'b') }}'", "'%s of %s' | format(a, b)"),
        ("select '{{ modules.pytz.timezone('Europe/Berlin') }}'", "at time zone"),
        ("select cast(1 as {{ api.Column.translate_type('integer') }})", "of dbt and not of lake"),
        ("select '{{ target.schema }}'", "`this.schema`"),
        ("select {{ dbt_date.today() }}", "macros/dbt_date/"),
    ] {
        sandbox.lake(&["show", "--inline", query]).assert_failed(2, help);
    }
}
