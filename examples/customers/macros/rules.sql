{# The rules of business. Each is a column of silver.sanitation, and a test of that column. They hold where there is nothing to judge. #}

{% macro bought_after_signup(last_purchase='last_purchase', signup_date='signup_date') -%}
coalesce({{ last_purchase }} > {{ signup_date }}, {{ last_purchase }} is null)
{%- endmacro %}

{% macro last_purchase_is_last(last_purchase='last_purchase', last_transaction='last_transaction') -%}
coalesce({{ last_purchase }} >= {{ last_transaction }}, {{ last_transaction }} is null)
{%- endmacro %}

{% macro total_adds_up(total_spent='total_spent', sum_of_amounts='sum_of_amounts') -%}
coalesce({{ total_spent }} = coalesce({{ sum_of_amounts }}, 0), false)
{%- endmacro %}

{% macro email_is_well_formed(email='email') -%}
coalesce(regexp_like({{ email }}, '^[^@[:space:]]+@[^@[:space:].]+([.][^@[:space:].]+)+$'), false)
{%- endmacro %}
