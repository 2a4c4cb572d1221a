select
    courses.title as course,
    views.course_id,
    {{ part_of_day('views.viewed_at') }} as part_of_the_day,
    count(*) as views_count,
    count(distinct views.user_id) as users
from {{ ref('views') }} as views
join {{ ref('courses') }} as courses on courses.course_id = views.course_id
where views.viewed_at is not null
group by 1, 2, 3
having count(*) >= {{ var('min_views') }}
