-- A row for each day that an event can have.
with days as (
    {{ dbt_utils.date_spine('day', "cast('" ~ var('events_from') ~ "' as date)", "cast('" ~ var('events_until') ~ "' as date)") }}
)

select
    cast(to_char(date_day, '%Y%m%d') as int) as date_key,
    cast(date_day as date) as day,
    cast(extract(isodow from date_day) as int) as day_of_week,
    cast(extract(week from date_day) as int) as week,
    cast(extract(month from date_day) as int) as month,
    cast(extract(year from date_day) as int) as year,
    extract(isodow from date_day) >= 6 as is_weekend
from days
