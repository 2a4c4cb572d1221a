-- What vehicles did. Events of wrong clocks go into quarantine by a test; those without a place stay.
select
    event_id,
    event,
    event_at,
    entity_id as vehicle_id,
    organization_id,
    latitude,
    longitude,
    located_at,
    {{ within_bounds('event_at', 'located_at') }} as is_within_bounds,
    {{ lineage('semantic') }}
from {{ ref('stg_events') }}
where entity = 'vehicle'
