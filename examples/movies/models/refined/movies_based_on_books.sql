with streamed as (
    select distinct movie_title from {{ ref('streams') }}
),

with_a_book as (
    select distinct movie_title from {{ ref('movie_books') }}
)

select
    count(*) as streamed_movies,
    count(with_a_book.movie_title) as based_on_a_book,
    count(with_a_book.movie_title) / cast(nullif(count(*), 0) as double) as share
from streamed
left join with_a_book using (movie_title)
