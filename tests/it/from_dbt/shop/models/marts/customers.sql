{% set drinks = ['latte', 'tea', 'espresso'] %}

select
    c.customer_id,
    c.name,
    c.dbt_valid_from as since,
    count(distinct o.order_id) as orders,
    {% for drink in drinks -%}
    sum(case when i.drink = '{{ drink }}' then i.quantity else 0 end) as {{ drink }}{{ "," if not loop.last }}
    {% endfor %}
from {{ ref('customers_history') }} c
left join {{ ref('orders') }} o on o.customer_id = c.customer_id
left join {{ ref('stg_items') }} i on i.order_id = o.order_id
where c.dbt_valid_to is null
group by 1, 2, 3
