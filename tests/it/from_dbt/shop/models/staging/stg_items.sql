select order_id, drink, cast(quantity as int) as quantity
from {{ source('till', 'items') }}
