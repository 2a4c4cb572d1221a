{# A moment in UTC as the service's own clocks show it #}
{% macro local_time(column) -%}
to_local_time(cast({{ column }} as timestamp with time zone) at time zone '{{ var("time_zone") }}')
{%- endmacro %}

{# The day of a moment on the service's own calendar #}
{% macro local_day(column) -%}
cast({{ local_time(column) }} as date)
{%- endmacro %}

{# Whole minutes between two moments, each of which counts in whole seconds #}
{% macro whole_minutes(start, end) -%}
cast((to_unixtime({{ end }}) - to_unixtime({{ start }})) / 60 as int)
{%- endmacro %}
