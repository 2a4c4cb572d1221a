{{ config(unique_key='course_id') }}

select distinct
    course_id,
    trim(title) as title,
    category,
    chapters
from {{ source('bronze', 'courses') }}
