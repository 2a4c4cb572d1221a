-- Every transaction that an import has stands in gold, once, with the amount that the newest of these imports has.
with told as (
    select
        transaction_id,
        amount,
        row_number() over (partition by transaction_id order by import_date desc) as place
    from {{ ref('transactions') }}
)

select
    coalesce(told.transaction_id, facts.transaction_id) as transaction_id,
    told.amount,
    facts.amount as amount_in_gold
from (select transaction_id, amount from told where place = 1) as told
full join {{ ref('fact_transactions') }} as facts on facts.transaction_id = told.transaction_id
where told.amount is distinct from facts.amount
