{% materialization audited_table, adapter='snowflake' %}
    {%- call statement('main') -%} create table x as {{ sql }} {%- endcall -%}
    {{ return({'relations': [this]}) }}
{% endmaterialization %}

{% macro grant_select(schemas) %}
    {% for schema in schemas %} grant usage on schema {{ schema }} to role analyst; {% endfor %}
    {% do run_query('commit') %}
{% endmacro %}
