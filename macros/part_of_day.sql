{# A moment in UTC as the clocks of the declared zone show it #}
{% macro local_time(column) -%}
{%- set zone = var('time_zone') -%}
{%- if zone == 'UTC' -%}
{{ column }}
{%- else -%}
to_local_time(cast({{ column }} as timestamp with time zone) at time zone '{{ zone }}')
{%- endif -%}
{%- endmacro %}

{# By these clocks: morning before noon, afternoon before 17:00, else evening; NULL for an unknown time #}
{% macro part_of_day(column) -%}
case
    when {{ column }} is null then null
    when extract(hour from {{ local_time(column) }}) < 12 then 'morning'
    when extract(hour from {{ local_time(column) }}) < 17 then 'afternoon'
    else 'evening'
end
{%- endmacro %}
