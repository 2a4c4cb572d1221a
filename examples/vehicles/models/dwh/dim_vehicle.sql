-- A vehicle and its organisation: when it came, when it left, when it was heard of.
select
    {{ dbt_utils.generate_surrogate_key(['vehicle_id', 'organization_id']) }} as vehicle_key,
    vehicle_id,
    {{ dbt_utils.generate_surrogate_key(['organization_id']) }} as organization_key,
    min(case when event = 'register' then event_at end) as registered_at,
    max(case when event = 'deregister' then event_at end) as deregistered_at,
    min(event_at) as first_seen_at,
    max(event_at) as last_seen_at,
    coalesce(
        max(case when event = 'deregister' then event_at end) < max(case when event <> 'deregister' then event_at end),
        true
    ) and count(case when event <> 'deregister' then 1 end) > 0 as is_in_fleet,
    {{ lineage_of_group('dwh', 'events') }}
from {{ ref('sem_vehicle_events') }} as events
group by vehicle_id, organization_id
