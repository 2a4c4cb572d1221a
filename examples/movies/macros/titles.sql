{# What titles of all systems have in common: the service writes them in title case, the vendor in upper case #}
{% macro title_key(column) -%}
lower(trim({{ column }}))
{%- endmacro %}
