select * from {{ ref('base_events') }} where next_day > current_timestamp()
