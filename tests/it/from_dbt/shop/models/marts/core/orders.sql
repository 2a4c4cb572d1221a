{{
    config(
        materialized='incremental',
        unique_key='order_id',
        dist='even',
        on_schema_change='append_new_columns'
    )
}}

select
    {{ dbt_utils.generate_surrogate_key(['o.order_id', 'o.ordered_at']) }} as order_key,
    o.order_id,
    o.customer_id,
    s.store,
    o.ordered_at,
    o.total
from {{ ref('stg_orders') }} o
join {{ ref('stores') }} s on s.store_id = o.store_id
{% if is_incremental() %}
where o.ordered_at >= (select max(ordered_at) from {{ this }})
{% endif %}
