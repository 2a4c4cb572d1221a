with streams as (
    select user_email, perc_watch_stream, {{ local_day('start_at') }} as day
    from {{ ref('streams') }}
),

week as (
    select
        {% if var('last_day') -%} date '{{ var("last_day") }}' {%- else -%} max(day) {%- endif %} as last_day
    from streams
)

select
    week.last_day - interval '6 days' as first_day,
    week.last_day,
    count(distinct streams.user_email) as users
from week
left join streams
    on streams.day between week.last_day - interval '6 days' and week.last_day
    and streams.perc_watch_stream >= 0.5
group by week.last_day
