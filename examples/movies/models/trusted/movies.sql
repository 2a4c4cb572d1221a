select
    {{ title_key('title') }} as title,
    title as display_title,
    duration_mins,
    original_language,
    size_mb
from {{ ref('internal_movies') }}
