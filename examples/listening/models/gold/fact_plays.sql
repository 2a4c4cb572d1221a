-- Every play with its session. The order of a user's plays is total: by time, at one second by the
-- file, and of two files (a streaming writer has none of its own) by what names a play.
{{ config(partition_by=['day']) }}

with ordered as (
    select
        *,
        lag(played_at) over (partition by userid order by played_at, day, order_in_second, play_id) as previous_at
    from {{ ref('plays') }}
),

numbered as (
    select
        *,
        sum(case when {{ begins_session('previous_at', 'played_at') }} then 1 else 0 end) over (
            partition by userid
            order by played_at, day, order_in_second, play_id
            rows between unbounded preceding and current row
        ) as session_number
    from ordered
)

select
    play_id,
    userid,
    song_key,
    played_at,
    cast(session_number as bigint) as session_number,
    row_number() over (
        partition by userid, session_number
        order by played_at, day, order_in_second, play_id
    ) as track_number,
    day
from numbered
