-- How much each vehicle reported, the busiest first. The vehicle itself is nobody's business here: its name is a hash.
select
    row_number() over (order by count(*) desc, mask_hash(vehicles.vehicle_id)) as rank,
    mask_hash(vehicles.vehicle_id) as vehicle,
    count(*) as events,
    min(events.event_at) as first_event_at,
    max(events.event_at) as last_event_at,
    {{ lineage_of_group('reporting', 'events') }}
from {{ ref('fact_vehicle_events') }} as events
join {{ ref('dim_vehicle') }} as vehicles on events.vehicle_key = vehicles.vehicle_key
group by mask_hash(vehicles.vehicle_id)
