-- Views that have a time and a known course are all in gold.
select silver.n as in_silver, gold.n as in_gold
from (
    select count(*) as n
    from {{ ref('views') }} as views
    join {{ ref('courses') }} as courses on courses.course_id = views.course_id
    where views.viewed_at is not null
) as silver
cross join (select coalesce(sum(views_count), 0) as n from {{ ref('most_viewed_courses') }}) as gold
where silver.n <> gold.n and {{ var('min_views') }} <= 1
