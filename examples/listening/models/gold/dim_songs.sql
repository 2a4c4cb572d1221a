-- Songs, with the ids that some of their plays knew.
select
    song_key,
    artist_name,
    track_name,
    max(artist_id) as artist_id,
    max(track_id) as track_id,
    count(*) as plays
from {{ ref('plays') }}
group by song_key, artist_name, track_name
