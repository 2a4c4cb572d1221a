{# Where a row comes from, as every layer says it: created_at stays what it was when the row was seen first, updated_at
   is that of the last delivery that had it. #}
{% macro lineage(layer) -%}
source_system,
    source_file,
    load_timestamp,
    created_at,
    updated_at,
    '{{ layer }}' as layer
{%- endmacro %}

{# The same of many rows of a table that become one: file and times are those of the last delivery of any of them. #}
{% macro lineage_of_group(layer, table) -%}
max({{ table }}.source_system) as source_system,
    last_value({{ table }}.source_file order by {{ table }}.load_timestamp, {{ table }}.event_at, {{ table }}.source_file) as source_file,
    max({{ table }}.load_timestamp) as load_timestamp,
    min({{ table }}.created_at) as created_at,
    max({{ table }}.updated_at) as updated_at,
    '{{ layer }}' as layer
{%- endmacro %}
