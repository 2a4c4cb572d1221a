with seen as (
    select organization_id, event_at, {{ lineage('dwh') }} from {{ ref('sem_vehicle_events') }}
    union all by name
    select organization_id, event_at, {{ lineage('dwh') }} from {{ ref('sem_operating_period_events') }}
)

select
    {{ dbt_utils.generate_surrogate_key(['organization_id']) }} as organization_key,
    organization_id,
    {{ lineage_of_group('dwh', 'seen') }}
from seen
group by organization_id
