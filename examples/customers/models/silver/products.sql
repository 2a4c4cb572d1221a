with documents as ({{ documents() }})

select distinct import_date, product_id, product_name
from ({{ transactions_of('documents') }})
