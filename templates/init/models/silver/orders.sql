{{ config(unique_key='order_id') }}

select order_id, ordered_at, trim(customer) as customer, amount
from {{ source('bronze', 'orders') }}
