-- Everybody who has a profile or has played a song.
select
    coalesce(profiles.userid, played.userid) as userid,
    profiles.gender,
    profiles.age,
    profiles.country,
    profiles.signed_up_on,
    played.first_played_at
from {{ ref('listeners') }} as profiles
full join (
    select userid, min(played_at) as first_played_at from {{ ref('plays') }} group by userid
) as played on profiles.userid = played.userid
