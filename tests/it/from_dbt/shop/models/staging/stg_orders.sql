with source as (

    select * from {{ source('till', 'orders') }}

)

select
    cast(id as bigint) as order_id,
    customer_id,
    store_id,
    cast(ordered_at as timestamp) as ordered_at,
    {{ cents_to_money('total_cents') }} as total
from source
where total_cents >= {{ var('least_total') }} * 100
