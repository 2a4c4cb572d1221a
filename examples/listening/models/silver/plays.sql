-- Plays with keys. A day of which anything changed is made anew as a whole, all others are left as they are.
{{ config(incremental_strategy='insert_overwrite', partition_by=['day']) }}

with changed_days as (
    select distinct day from {{ ref('plays_raw', changes=true) }}
)

select
    {{ dbt_utils.generate_surrogate_key(['source_file', 'source_row']) }} as play_id,
    userid,
    played_at,
    -- The file is newest first, so of plays at one second the lower line is the earlier one.
    -source_row as order_in_second,
    {{ song_key() }} as song_key,
    artist_id,
    artist_name,
    track_id,
    track_name,
    day
from {{ ref('plays_raw') }}
where day in (select day from changed_days)
    and userid is not null
    and played_at is not null
