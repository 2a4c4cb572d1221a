-- A stream is hit if any moment of it lies in the window; one that ends when the outage begins is not.
with streams as (
    select
        movie_title,
        user_email,
        {{ local_time('start_at') }} as started,
        {{ local_time('end_at') }} as ended
    from {{ ref('streams') }}
)

select
    outages.outage,
    outages.movie_title,
    outages.from_local,
    outages.to_local,
    count(distinct streams.user_email) as users,
    count(streams.user_email) as streams
from {{ ref('outages') }} as outages
left join streams
    on streams.movie_title = {{ title_key('outages.movie_title') }}
    and streams.started < outages.to_local
    and streams.ended > outages.from_local
group by outages.outage, outages.movie_title, outages.from_local, outages.to_local
