select
    count(*) as streams,
    avg(watch_duration_mins) as minutes,
    avg(size_mb) as size_mb,
    avg(perc_watch_stream) as share_of_the_movie
from {{ ref('streams') }}
