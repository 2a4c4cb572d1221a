select
    movies.title as movie_title,
    lower(trim(streams.user_email)) as user_email,
    streams.size_mb,
    streams.start_at,
    streams.end_at,
    {{ whole_minutes('streams.start_at', 'streams.end_at') }} as watch_duration_mins,
    movies.duration_mins as movie_duration_mins,
    {{ whole_minutes('streams.start_at', 'streams.end_at') }} / cast(movies.duration_mins as double) as perc_watch_stream
from {{ ref('internal_streams') }} as streams
inner join {{ ref('movies') }} as movies on movies.title = {{ title_key('streams.movie_title') }}
