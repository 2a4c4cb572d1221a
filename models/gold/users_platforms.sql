select
    platform,
    {{ part_of_day('viewed_at') }} as part_of_the_day,
    count(*) as views_count,
    count(distinct user_id) as users
from {{ ref('views') }}
where viewed_at is not null and platform is not null
group by 1, 2
