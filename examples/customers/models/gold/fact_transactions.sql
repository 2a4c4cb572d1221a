{{ config(unique_key='transaction_id', delete_when='customer_id is null') }}

-- A transaction stands in every later document of its customer. It is told by the newest import that has it, and gone when
-- no import has it any more. Only transactions of imports that are new or corrected are looked at.
with touched as (
    select distinct transaction_id from {{ ref('transactions', changes=true) }}
),

told as (
    select *, row_number() over (partition by transaction_id order by import_date desc) as place
    from {{ ref('transactions') }}
    where transaction_id in (select transaction_id from touched)
)

select
    touched.transaction_id,
    told.customer_id,
    told.product_id,
    told.transaction_date,
    told.amount
from touched
left join told on told.transaction_id = touched.transaction_id and told.place = 1
