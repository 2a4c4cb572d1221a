{# Whole cents as money. #}
{% macro cents_to_money(column) -%}
    {{ return(adapter.dispatch('cents_to_money', 'coffee_shop')(column)) }}
{%- endmacro %}

{% macro default__cents_to_money(column) -%}
    cast({{ column }} as decimal(12, 2)) / 100
{%- endmacro %}

{% macro snowflake__cents_to_money(column) -%}
    {{ column }}::number / 100
{%- endmacro %}

{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ custom_schema_name }}
{%- endmacro %}
