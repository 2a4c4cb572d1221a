{{
    config(
        materialized='scd2',
        unique_key=['movie_title', 'created'],
        strategy='check',
        check_cols=['rating', 'content', 'books', 'updated'],
        hard_deletes='invalidate'
    )
}}

-- By `check`, not by `timestamp`: `updated` is before `created` in half of the reviews, so nothing can be told from it.
with one_movie_a_row as (
    select content, rating, books, unnest(movies) as movie, updated, created
    from {{ source('vendor', 'reviews') }}
)

select movie['title'] as movie_title, created, updated, rating, content, books
from one_movie_a_row
where movie['title'] <> '{{ var("sentinel_movie") }}'
