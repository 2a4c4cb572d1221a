{# dbt's cross-database macros, as SQL of DataFusion. #}

{% macro type_string() %}{{ return('varchar') }}{% endmacro %}
{% macro type_timestamp() %}{{ return('timestamp') }}{% endmacro %}
{% macro type_int() %}{{ return('int') }}{% endmacro %}
{% macro type_bigint() %}{{ return('bigint') }}{% endmacro %}
{% macro type_float() %}{{ return('double') }}{% endmacro %}
{% macro type_numeric() %}{{ return('decimal(28, 6)') }}{% endmacro %}
{% macro type_boolean() %}{{ return('boolean') }}{% endmacro %}

{% macro current_timestamp() %}{{ return('now()') }}{% endmacro %}

{% macro date(year, month, day) %}{{ return('make_date(' ~ year ~ ', ' ~ month ~ ', ' ~ day ~ ')') }}{% endmacro %}

{% macro date_trunc(datepart, date) %}{{ return("date_trunc('" ~ datepart | lower ~ "', " ~ date ~ ")") }}{% endmacro %}

{# How many of which unit of an interval a part of a date is. #}
{% macro __part(datepart) %}
    {%- set parts = {
        'year': (12, 'month'), 'quarter': (3, 'month'), 'month': (1, 'month'), 'week': (7, 'day'), 'day': (1, 'day'),
        'hour': (1, 'hour'), 'minute': (1, 'minute'), 'second': (1, 'second'), 'millisecond': (1, 'millisecond'),
        'microsecond': (1, 'microsecond')
    } -%}
    {%- set part = datepart | lower -%}
    {%- if part not in parts -%}
        {{ exceptions.raise_compiler_error("`" ~ datepart ~ "` is not a part of a date; known: " ~ parts | join(', ')) }}
    {%- endif -%}
    {{ return(parts[part]) }}
{% endmacro %}

{% macro dateadd(datepart, interval, from_date_or_timestamp) %}
    {%- set count, unit = dbt.__part(datepart) -%}
    {%- set number = interval | string | trim -%}
    {%- if modules.re.fullmatch('[+-]?[0-9]+', number) -%}
        {{ return("(" ~ from_date_or_timestamp ~ " + interval '" ~ (number | int) * count ~ " " ~ unit ~ "')") }}
    {%- endif -%}
    {{ return("(" ~ from_date_or_timestamp ~ " + cast(concat(cast(" ~ count ~ " * (" ~ interval ~ ") as bigint), ' " ~ unit ~ "') as interval))") }}
{% endmacro %}

{# How many borders of a part of a date lie between two dates. #}
{% macro datediff(first_date, second_date, datepart) %}
    {%- set part = datepart | lower -%}
    {%- set seconds = {'week': 604800, 'day': 86400, 'hour': 3600, 'minute': 60, 'second': 1} -%}
    {%- set months = {'year': 12, 'quarter': 3, 'month': 1} -%}
    {%- if part in seconds -%}
        {%- set moment = "date_part('epoch', date_trunc('" ~ part ~ "', cast({} as timestamp)))" -%}
        {{ return("cast((" ~ moment.format(second_date) ~ " - " ~ moment.format(first_date) ~ ") / " ~ seconds[part] ~ " as bigint)") }}
    {%- elif part in months -%}
        {%- set moment = "(date_part('year', date_trunc('" ~ part ~ "', cast({} as timestamp))) * 12 + date_part('month', date_trunc('" ~ part ~ "', cast({} as timestamp))))" -%}
        {{ return("cast((" ~ moment.format(second_date, second_date) ~ " - " ~ moment.format(first_date, first_date) ~ ") / " ~ months[part] ~ " as bigint)") }}
    {%- endif -%}
    {{ exceptions.raise_compiler_error("`" ~ datepart ~ "` is not a part of a date that datediff knows; known: " ~ (seconds | list + months | list) | join(', ')) }}
{% endmacro %}

{% macro last_day(date, datepart) %}
    {{ return("cast(" ~ dbt.dateadd('day', -1, dbt.dateadd(datepart, 1, dbt.date_trunc(datepart, date))) ~ " as date)") }}
{% endmacro %}

{% macro date_spine(datepart, start_date, end_date) %}
    {%- set count, unit = dbt.__part(datepart) -%}
select date_{{ datepart }}
from (
    select unnest(generate_series(cast({{ start_date }} as timestamp), cast({{ end_date }} as timestamp), interval '{{ count }} {{ unit }}')) as date_{{ datepart }}
) as spine
where date_{{ datepart }} < cast({{ end_date }} as timestamp)
{%- endmacro %}

{% macro generate_series(upper_bound) %}select unnest(generate_series(1, {{ upper_bound }})) as generated_number{% endmacro %}

{% macro concat(fields) %}{{ return(fields | join(' || ')) }}{% endmacro %}
{% macro hash(field) %}{{ return('md5(cast(' ~ field ~ ' as varchar))') }}{% endmacro %}
{% macro length(expression) %}{{ return('length(' ~ expression ~ ')') }}{% endmacro %}
{% macro position(substring_text, string_text) %}{{ return('strpos(' ~ string_text ~ ', ' ~ substring_text ~ ')') }}{% endmacro %}
{% macro replace(field, old_chars, new_chars) %}{{ return('replace(' ~ field ~ ', ' ~ old_chars ~ ', ' ~ new_chars ~ ')') }}{% endmacro %}
{% macro right(string_text, length_expression) %}{{ return('right(' ~ string_text ~ ', ' ~ length_expression ~ ')') }}{% endmacro %}
{% macro split_part(string_text, delimiter_text, part_number) %}{{ return('split_part(' ~ string_text ~ ', ' ~ delimiter_text ~ ', ' ~ part_number ~ ')') }}{% endmacro %}
{% macro escape_single_quotes(expression) %}{{ return(expression | replace("'", "''")) }}{% endmacro %}
{% macro string_literal(value) %}{{ return("'" ~ value ~ "'") }}{% endmacro %}

{% macro cast(field, type) %}{{ return('cast(' ~ field ~ ' as ' ~ type ~ ')') }}{% endmacro %}
{% macro safe_cast(field, type) %}{{ return('try_cast(' ~ field ~ ' as ' ~ type ~ ')') }}{% endmacro %}
{% macro cast_bool_to_text(field) %}{{ return('cast(' ~ field ~ ' as varchar)') }}{% endmacro %}
{% macro equals(expr1, expr2) %}{{ return('(' ~ expr1 ~ ' is not distinct from ' ~ expr2 ~ ')') }}{% endmacro %}

{% macro any_value(expression) %}{{ return('any_value(' ~ expression ~ ')') }}{% endmacro %}
{% macro bool_or(expression) %}{{ return('bool_or(' ~ expression ~ ')') }}{% endmacro %}
{% macro listagg(measure, delimiter_text="','", order_by_clause=none, limit_num=none) %}
    {%- set list = 'array_agg(' ~ measure ~ (' ' ~ order_by_clause if order_by_clause else '') ~ ')' -%}
    {%- set list = 'array_slice(' ~ list ~ ', 1, ' ~ limit_num ~ ')' if limit_num else list -%}
    {{ return('array_to_string(' ~ list ~ ', ' ~ delimiter_text ~ ')') }}
{% endmacro %}

{% macro array_construct(inputs=[], data_type='int') %}
    {{ return('make_array(' ~ inputs | join(', ') ~ ')' if inputs else 'cast(make_array() as ' ~ data_type ~ '[])') }}
{% endmacro %}
{% macro array_append(array, new_element) %}{{ return('array_append(' ~ array ~ ', ' ~ new_element ~ ')') }}{% endmacro %}
{% macro array_concat(array_1, array_2) %}{{ return('array_concat(' ~ array_1 ~ ', ' ~ array_2 ~ ')') }}{% endmacro %}

{% macro except() %}{{ return('except') }}{% endmacro %}
{% macro intersect() %}{{ return('intersect') }}{% endmacro %}
