{{ config(materialized='view', contract={'enforced': false}) }}

-- A movie is based on a book if a review names the two together.
select distinct reviews.movie_title, books.name as book_name, books.author
from {{ ref('reviews') }} as reviews
inner join {{ ref('movies') }} as movies on movies.title = reviews.movie_title
inner join {{ ref('books') }} as books on books.name = reviews.book_name
