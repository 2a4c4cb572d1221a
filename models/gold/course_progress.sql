-- How far each user has come in each course.
select
    views.user_id,
    views.course_id,
    courses.title,
    count(distinct views.chapter_id) as chapters_viewed,
    courses.chapters,
    least(1.0, count(distinct views.chapter_id) * 1.0 / courses.chapters) as progress,
    min(views.viewed_at) as first_viewed_at,
    max(views.viewed_at) as last_viewed_at
from {{ ref('views') }} as views
join {{ ref('courses') }} as courses on courses.course_id = views.course_id
where views.user_id is not null and views.chapter_id is not null
group by views.user_id, views.course_id, courses.title, courses.chapters
