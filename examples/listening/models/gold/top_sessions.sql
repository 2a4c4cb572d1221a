-- The longest sessions. Of equally long ones the user and the number decide, so nothing is left to luck.
with ranked as (
    select *, row_number() over (order by tracks desc, userid, session_number) as rank
    from {{ ref('fact_sessions') }}
)

select rank, userid, session_number, tracks, started_at, last_played_at
from ranked
where rank <= {{ var('longest_sessions') }}
