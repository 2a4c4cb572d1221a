-- An event of a vehicle.
select
    event_id,
    cast(to_char(event_at, '%Y%m%d') as int) as date_key,
    {{ dbt_utils.generate_surrogate_key(['vehicle_id', 'organization_id']) }} as vehicle_key,
    {{ dbt_utils.generate_surrogate_key(['organization_id']) }} as organization_key,
    {{ dbt_utils.generate_surrogate_key(['event', "'vehicle'"]) }} as event_type_key,
    event_at,
    latitude,
    longitude,
    located_at,
    {{ lineage('dwh') }}
from {{ ref('sem_vehicle_events') }}
