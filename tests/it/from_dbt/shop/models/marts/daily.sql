select
    {{ dbt.date_trunc('day', 'o.ordered_at') }} as day,
    sum(i.quantity * d.price) as listed
from {{ ref('coffee_shop', 'orders') }} o
join {{ ref('stg_items') }} i on i.order_id = o.order_id
join {{ ref('drinks') }} d on d.drink = i.drink
group by 1
