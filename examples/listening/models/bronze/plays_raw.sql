-- The plays of each delivered day, as they came, kept under their day.
{{ config(partition_by=['day']) }}

select
    userid,
    "timestamp" as played_at,
    artist_id,
    artist_name,
    track_id,
    track_name,
    day,
    _file_path as source_file,
    _row_number as source_row
from {{ source('inbox', 'plays') }}
