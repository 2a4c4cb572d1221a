{{ config(severity='warn') }}

-- Streams that trusted.streams leaves out, because the catalogue does not have their movie.

select streams.movie_title, count(*) as streams
from {{ ref('internal_streams') }} as streams
left anti join {{ ref('movies') }} as movies on movies.title = {{ title_key('streams.movie_title') }}
group by streams.movie_title
