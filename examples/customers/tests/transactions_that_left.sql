{{ config(severity='warn') }}

-- A document has all transactions of a customer. One that the customer's newest document lacks stays in gold, and is told.
with newest as (
    select customer_id, max(import_date) as import_date
    from {{ ref('customers') }}
    group by customer_id
)

select facts.transaction_id, facts.customer_id, newest.import_date
from {{ ref('fact_transactions') }} as facts
inner join newest on newest.customer_id = facts.customer_id
left anti join {{ ref('transactions') }} as told
    on told.transaction_id = facts.transaction_id and told.import_date = newest.import_date
