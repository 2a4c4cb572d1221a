-- What gold has of a customer is what the newest import has of them: nothing twice, nothing lost.
with newest as (
    select customer_id, max(import_date) as import_date
    from {{ ref('customers') }}
    group by customer_id
),

told as (
    select newest.customer_id, count(transactions.transaction_id) as transactions, sum(transactions.amount) as amount
    from newest
    left join {{ ref('transactions') }} as transactions
        on transactions.customer_id = newest.customer_id and transactions.import_date = newest.import_date
    group by newest.customer_id
),

facts as (
    select customer_id, count(*) as transactions, sum(amount) as amount
    from {{ ref('fact_transactions') }}
    group by customer_id
)

select told.customer_id, told.transactions, facts.transactions as in_gold, told.amount, facts.amount as amount_in_gold
from told
left join facts on facts.customer_id = told.customer_id
where told.transactions <> coalesce(facts.transactions, 0) or told.amount is distinct from facts.amount
