{{ config(unique_key='product_id', delete_when='product_name is null') }}

with touched as (
    select distinct product_id from {{ ref('products', changes=true) }}
),

told as (
    select *, row_number() over (partition by product_id order by import_date desc, product_name) as place
    from {{ ref('products') }}
    where product_id in (select product_id from touched)
)

select touched.product_id, told.product_name
from touched
left join told on told.product_id = touched.product_id and told.place = 1
