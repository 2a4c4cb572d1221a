with one_book_a_row as (
    select movie_title, created, updated, rating, content, unnest(books) as book
    from {{ ref('vendor_reviews') }}
    where is_current
)

select
    {{ title_key('movie_title') }} as movie_title,
    created as created_at,
    updated as updated_at,
    {{ title_key("book['metadata']['title']") }} as book_name,
    try_cast(book['metadata']['pages'] as int) as book_pages,
    rating['rate'] as rate,
    rating['label'] as rate_label,
    content['text'] as text
from one_book_a_row
