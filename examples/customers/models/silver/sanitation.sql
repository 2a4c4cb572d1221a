with documents as ({{ documents() }}),

transactions as ({{ transactions_of('documents') }}),

sums as (
    select import_date, customer_id, max(transaction_date) as last_transaction, sum(amount) as sum_of_amounts
    from transactions
    group by import_date, customer_id
)

select
    documents.import_date,
    documents.customer_id,
    {{ bought_after_signup() }} as bought_after_signup,
    {{ last_purchase_is_last() }} as last_purchase_is_last,
    {{ total_adds_up() }} as total_adds_up,
    {{ email_is_well_formed('trim(email)') }} as email_is_well_formed
from documents
left join sums on sums.import_date = documents.import_date and sums.customer_id = documents.customer_id
