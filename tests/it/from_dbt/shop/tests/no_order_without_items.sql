{{ config(severity='warn', alias='orders_without_items') }}
select o.order_id
from {{ ref('orders') }} o
left join {{ ref('stg_items') }} i on i.order_id = o.order_id
where i.order_id is null
