with documents as ({{ documents() }})

{{ transactions_of('documents') }}
