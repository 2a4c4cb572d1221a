-- How far each user has come in each course. Only pairs of which anything changed are counted again, and a pair that
-- has no view any more goes.
{{ config(materialized='incremental', unique_key=['user_id', 'course_id'], delete_when='chapters is null or chapters_viewed = 0') }}

with touched as (
    select user_id, course_id from {{ ref('views', changes=true) }}
    union
    -- Another number of chapters is another share for everybody in the course.
    select views.user_id, views.course_id
    from {{ ref('courses', changes=true) }} as changed
    join {{ ref('views') }} as views on views.course_id = changed.course_id
)

select
    touched.user_id,
    touched.course_id,
    courses.title,
    count(distinct views.chapter_id) as chapters_viewed,
    courses.chapters,
    least(1.0, count(distinct views.chapter_id) * 1.0 / courses.chapters) as progress,
    min(views.viewed_at) as first_viewed_at,
    max(views.viewed_at) as last_viewed_at
from touched
left join {{ ref('courses') }} as courses on courses.course_id = touched.course_id
left join {{ ref('views') }} as views
    on views.user_id = touched.user_id and views.course_id = touched.course_id and views.chapter_id is not null
where touched.user_id is not null and touched.course_id is not null
group by touched.user_id, touched.course_id, courses.title, courses.chapters
