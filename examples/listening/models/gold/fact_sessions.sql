-- What a user played without a pause of more than twenty minutes.
select
    userid,
    session_number,
    min(played_at) as started_at,
    max(played_at) as last_played_at,
    count(*) as tracks,
    count(distinct song_key) as songs
from {{ ref('fact_plays') }}
group by userid, session_number
