{{ config(unique_key=['viewed_at', 'user_id', 'platform', 'course_id', 'chapter_id']) }}

with casted as (
    -- A value that cannot be cast becomes NULL, and a warn test counts it. A column that producers add later is one more here.
    select distinct
        try_cast("timestamp" as timestamp) as viewed_at,
        * exclude ("timestamp") replace (
            try_cast(course_id as bigint) as course_id,
            try_cast(chapter_id as bigint) as chapter_id
        )
    from {{ source('bronze', 'views') }}
)

select
    *,
    cast('{{ run_started_at.strftime("%Y-%m-%d %H:%M:%S") }}' as timestamp) as loaded_at
from casted
