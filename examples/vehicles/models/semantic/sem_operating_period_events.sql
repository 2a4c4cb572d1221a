-- What was planned, and taken back.
select
    event_id,
    event,
    event_at,
    entity_id as operating_period_id,
    organization_id,
    period_start,
    period_finish,
    {{ within_bounds('event_at', 'cast(null as timestamp)') }} as is_within_bounds,
    {{ lineage('semantic') }}
from {{ ref('stg_events') }}
where entity = 'operating_period'
