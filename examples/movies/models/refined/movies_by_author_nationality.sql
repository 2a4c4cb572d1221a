with nations as (
    select name as author, unnest(string_to_array(nationalities, ',')) as nationality
    from {{ ref('authors') }}
),

based as (
    select distinct nations.nationality, movie_books.movie_title
    from {{ ref('movie_books') }} as movie_books
    inner join nations on nations.author = movie_books.author
)

select
    based.nationality,
    count(distinct based.movie_title) as movies,
    count(*) as streams
from based
inner join {{ ref('streams') }} as streams on streams.movie_title = based.movie_title
group by based.nationality
