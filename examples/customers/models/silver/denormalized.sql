with documents as ({{ documents() }}),

transactions as ({{ transactions_of('documents') }})

-- A customer without transactions has one row, without a transaction.
select
    documents.import_date,
    documents.customer_id,
    documents.name,
    trim(documents.email) as email,
    documents.signup_date,
    documents.last_purchase,
    documents.total_spent,
    transactions.transaction_id,
    transactions.transaction_date,
    transactions.amount,
    transactions.product_id,
    transactions.product_name
from documents
left join transactions
    on transactions.import_date = documents.import_date and transactions.customer_id = documents.customer_id
