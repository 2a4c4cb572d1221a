-- The songs that were played most in the longest sessions. Of equally often played ones their names decide.
with played as (
    select songs.artist_name, songs.track_name, count(*) as plays, count(distinct sessions.rank) as sessions
    from {{ ref('top_sessions') }} as sessions
    join {{ ref('fact_plays') }} as plays
        on sessions.userid = plays.userid and sessions.session_number = plays.session_number
    join {{ ref('dim_songs') }} as songs on plays.song_key = songs.song_key
    group by songs.artist_name, songs.track_name
),

ranked as (
    select *, row_number() over (order by plays desc, artist_name, track_name) as rank
    from played
)

select rank, artist_name, track_name, plays, sessions
from ranked
where rank <= {{ var('most_played_songs') }}
