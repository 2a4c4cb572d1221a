{# morning before noon, afternoon before 17:00, else evening; NULL for an unknown time #}
{% macro part_of_day(column) -%}
case
    when {{ column }} is null then null
    when extract(hour from {{ column }}) < 12 then 'morning'
    when extract(hour from {{ column }}) < 17 then 'afternoon'
    else 'evening'
end
{%- endmacro %}
