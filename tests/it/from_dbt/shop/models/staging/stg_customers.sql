{{ config(schema='stg', alias='customers_clean') }}

-- names as the till has them
select
    id as customer_id,
    name,
    city,
    cast(updated_at as timestamp) as updated_at
from {{ source('till', 'customers') }}
