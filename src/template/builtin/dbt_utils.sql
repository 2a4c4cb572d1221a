{# What people use daily of the package dbt_utils, as SQL of DataFusion. Columns of a relation are known here where YAML
   tells all of them; elsewhere the SQL says `*`, which is typed later. #}

{% macro generate_surrogate_key(field_list) %}
    {%- set null_value = '' if var('surrogate_key_treat_nulls_as_empty_strings', false) else '_dbt_utils_surrogate_key_null_' -%}
    {%- if field_list is string -%}
        {{ exceptions.raise_compiler_error("generate_surrogate_key() takes a list of columns: ['" ~ field_list ~ "']") }}
    {%- endif -%}
    {%- set fields = [] -%}
    {%- for field in field_list -%}
        {%- do fields.append("coalesce(cast(" ~ field ~ " as varchar), '" ~ null_value ~ "')") -%}
    {%- endfor -%}
    {{ return("md5(" ~ fields | join(" || '-' || ") ~ ")") }}
{% endmacro %}

{# Whether a list of names has one, in letters of any case. #}
{% macro __has(names, name) %}
    {{ return((name | lower) in (names | map('lower') | list)) }}
{% endmacro %}

{% macro star(from, relation_alias=false, except=[], prefix='', suffix='', quote_identifiers=true) %}
    {%- set columns = __columns(from) -%}
    {%- set alias = relation_alias ~ '.' if relation_alias else '' -%}
    {%- set names = [] -%}
    {%- if columns is none -%}
        {%- if prefix or suffix -%}{{ __unknown_columns('star() with a prefix or suffix', from) }}{%- endif -%}
        {%- for name in except -%}{%- do names.append(adapter.quote(name) if quote_identifiers else name) -%}{%- endfor -%}
        {{ return(alias ~ '*' ~ (' except (' ~ names | join(', ') ~ ')' if names else '')) }}
    {%- endif -%}
    {%- for name in columns if not dbt_utils.__has(except, name) -%}
        {%- set column = alias ~ (adapter.quote(name) if quote_identifiers else name) -%}
        {%- set new = prefix ~ name ~ suffix -%}
        {%- do names.append(column ~ (' as ' ~ (adapter.quote(new) if quote_identifiers else new) if prefix or suffix else '')) -%}
    {%- endfor -%}
    {%- if not names -%}{{ exceptions.raise_compiler_error('star() leaves no column of ' ~ from) }}{%- endif -%}
    {{ return(names | join(', ')) }}
{% endmacro %}

{% macro union_relations(relations, column_override=none, include=[], exclude=[], source_column_name='_dbt_source_relation', where=none) %}
    {%- if include and exclude -%}
        {{ exceptions.raise_compiler_error('union_relations() takes `include` or `exclude`, not both') }}
    {%- endif -%}
    {%- set override = column_override or {} -%}
    {%- for relation in relations %}
{% if not loop.first %}union all by name{% endif %}
select
    {%- if source_column_name is not none %} cast('{{ dbt.escape_single_quotes(relation | string) }}' as varchar) as {{ source_column_name }},{% endif %}
    {{ dbt_utils.__union_columns(relation, override, include, exclude) }}
from {{ relation }}
    {%- if where %}
where {{ where }}
    {%- endif %}
    {%- endfor %}
{% endmacro %}

{# The columns that one relation gives to a union. #}
{% macro __union_columns(relation, override, include, exclude) %}
    {%- set columns = __columns(relation) -%}
    {%- set columns = include if columns is none and include else columns -%}
    {%- set casts = [] -%}
    {%- if columns is none -%}
        {%- for name, type in override.items() -%}
            {%- do casts.append('cast(' ~ adapter.quote(name) ~ ' as ' ~ type ~ ') as ' ~ adapter.quote(name)) -%}
        {%- endfor -%}
        {{ return(dbt_utils.star(relation, except=exclude) ~ (' replace (' ~ casts | join(', ') ~ ')' if casts else '')) }}
    {%- endif -%}
    {%- for name in columns if not dbt_utils.__has(exclude, name) and (not include or dbt_utils.__has(include, name)) -%}
        {%- set quoted = adapter.quote(name) -%}
        {%- do casts.append('cast(' ~ quoted ~ ' as ' ~ override[name] ~ ') as ' ~ quoted if name in override else quoted) -%}
    {%- endfor -%}
    {{ return(casts | join(', ')) }}
{% endmacro %}

{% macro pivot(column, values, alias=true, agg='sum', cmp='=', prefix='', suffix='', then_value=1, else_value=0, quote_identifiers=true, distinct=false) %}
    {%- for value in values %}
    {{ agg }}({% if distinct %}distinct {% endif %}case when {{ column }} {{ cmp }} '{{ dbt.escape_single_quotes(value | string) }}' then {{ then_value }} else {{ else_value }} end)
        {%- if alias %} as {{ adapter.quote(prefix ~ value ~ suffix) if quote_identifiers else dbt_utils.slugify(prefix ~ value ~ suffix) }}{% endif %}
        {%- if not loop.last %},{% endif %}
    {%- endfor %}
{% endmacro %}

{% macro unpivot(relation, cast_to='varchar', exclude=[], remove=[], field_name='field_name', value_name='value', quote_identifiers=false) %}
    {%- set columns = __columns(relation) -%}
    {%- if columns is none -%}{{ __unknown_columns('unpivot()', relation) }}{%- endif -%}
    {%- set kept = [] -%}
    {%- set turned = [] -%}
    {%- for name in columns -%}
        {%- if dbt_utils.__has(exclude, name) -%}{%- do kept.append(adapter.quote(name)) -%}
        {%- elif not dbt_utils.__has(remove, name) -%}{%- do turned.append(name) -%}{%- endif -%}
    {%- endfor -%}
    {%- for name in turned %}
{% if not loop.first %}union all{% endif %}
select {% for column in kept %}{{ column }}, {% endfor %}'{{ dbt.escape_single_quotes(name) }}' as {{ field_name }}, cast({{ adapter.quote(name) }} as {{ cast_to }}) as {{ value_name }}
from {{ relation }}
    {%- endfor %}
{% endmacro %}

{% macro get_column_values(table, column, order_by='count(*) desc', max_records=none, default=none, where=none) %}
    {%- if where is not none -%}
        {{ exceptions.raise_compiler_error('get_column_values() with `where` would read the table; list the values in `vars`') }}
    {%- endif -%}
    {%- set values = __accepted_values(table, column) -%}
    {{ return(values[:max_records] if max_records is not none else values) }}
{% endmacro %}

{% macro date_spine(datepart, start_date, end_date) %}{{ return(dbt.date_spine(datepart, start_date, end_date)) }}{% endmacro %}
{% macro generate_series(upper_bound) %}{{ return(dbt.generate_series(upper_bound)) }}{% endmacro %}

{% macro deduplicate(relation, partition_by, order_by) %}
select * except (__row_of_key)
from (
    select *, row_number() over (partition by {{ partition_by }} order by {{ order_by }}) as __row_of_key
    from {{ relation }}
) as numbered
where __row_of_key = 1
{% endmacro %}

{% macro safe_divide(numerator, denominator) %}{{ return('(' ~ numerator ~ ') / nullif((' ~ denominator ~ '), 0)') }}{% endmacro %}
{% macro __safe_list(what, field_list, sign) %}
    {%- if field_list is string -%}
        {{ exceptions.raise_compiler_error(what ~ "() takes a list of columns: ['" ~ field_list ~ "']") }}
    {%- endif -%}
    {%- set fields = [] -%}
    {%- for field in field_list -%}{%- do fields.append('coalesce(' ~ field ~ ', 0)') -%}{%- endfor -%}
    {{ return('(' ~ fields | join(sign) ~ ')') }}
{% endmacro %}
{% macro safe_add(field_list) %}{{ return(dbt_utils.__safe_list('safe_add', field_list, ' + ')) }}{% endmacro %}
{% macro safe_subtract(field_list) %}{{ return(dbt_utils.__safe_list('safe_subtract', field_list, ' - ')) }}{% endmacro %}

{% macro group_by(n) %}{{ return('group by ' ~ range(1, n + 1) | join(', ')) }}{% endmacro %}

{% macro slugify(string) %}
    {%- set slug = modules.re.sub('[ -]+', '_', string | lower) -%}
    {%- set slug = modules.re.sub('[^a-z0-9_]+', '', slug) -%}
    {{ return(modules.re.sub('^([0-9])', '_\\1', slug)) }}
{% endmacro %}

{% macro width_bucket(expr, min_value, max_value, num_buckets) %}
    {%- set position = '(cast(' ~ expr ~ ' as double) - (' ~ min_value ~ ')) / ((' ~ max_value ~ ') - (' ~ min_value ~ ')) * (' ~ num_buckets ~ ')' -%}
case
    when {{ expr }} is null then null
    when {{ expr }} < {{ min_value }} then 0
    when {{ expr }} >= {{ max_value }} then {{ num_buckets }} + 1
    else cast(floor({{ position }}) as bigint) + 1
end
{%- endmacro %}

{% macro haversine_distance(lat1, lon1, lat2, lon2, unit='mi') %}
    {%- set radii = {'mi': 3961, 'km': 6371} -%}
    {%- if unit not in radii -%}
        {{ exceptions.raise_compiler_error("`" ~ unit ~ "` is not a unit of haversine_distance(); known: mi, km") }}
    {%- endif -%}
2 * {{ radii[unit] }} * asin(sqrt(
    power(sin((radians({{ lat2 }}) - radians({{ lat1 }})) / 2), 2)
    + cos(radians({{ lat1 }})) * cos(radians({{ lat2 }})) * power(sin((radians({{ lon2 }}) - radians({{ lon1 }})) / 2), 2)
))
{%- endmacro %}

{% macro get_url_parameter(field, url_parameter) %}{{ return("nullif(split_part(split_part(" ~ field ~ ", '" ~ url_parameter ~ "=', 2), '&', 1), '')") }}{% endmacro %}
{% macro get_url_host(field) %}{{ return("split_part(split_part(regexp_replace(" ~ field ~ ", '^[a-z-]+://', ''), '/', 1), '?', 1)") }}{% endmacro %}
