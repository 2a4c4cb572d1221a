with current_authors as (
    select name, birth_date, died_at, nationalities
    from {{ ref('vendor_authors') }}
    where is_current
),

slugs as (
    select name, unnest(nationalities)['slug'] as slug
    from current_authors
),

joined as (
    select name, string_agg(slug, ',' order by slug) as nationalities
    from slugs
    where slug is not null
    group by name
)

-- An author without a nationality, or without a name, stays.
select
    current_authors.name,
    cast(current_authors.birth_date as date) as birth_date,
    cast(current_authors.died_at as date) as died_at,
    joined.nationalities
from current_authors
left join joined on joined.name is not distinct from current_authors.name
