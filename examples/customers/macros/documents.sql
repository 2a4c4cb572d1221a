{# The customers of the documents that are taken in, with the names of silver #}
{% macro documents() -%}
select import_date, id as customer_id, name, email, signup_date, last_purchase, total_spent, transactions
from {{ source('bronze', 'customers') }}
{%- endmacro %}

{# One row for each transaction in these documents; a customer without one has no row here #}
{% macro transactions_of(documents) -%}
select
    import_date,
    customer_id,
    item['transaction_id'] as transaction_id,
    item['date'] as transaction_date,
    item['amount'] as amount,
    item['product_id'] as product_id,
    item['product_name'] as product_name
from (select import_date, customer_id, unnest(transactions) as item from {{ documents }})
where item is not null
{%- endmacro %}
