select
    {{ dbt_utils.generate_surrogate_key(['event', 'entity']) }} as event_type_key,
    event_type,
    event,
    entity,
    description
from {{ ref('event_types') }}
