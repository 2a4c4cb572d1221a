-- Where the busiest vehicle was in the last hour that there is data of.
with busiest as (
    select vehicle, last_event_at from {{ ref('events_per_vehicle') }} where rank = 1
)

select
    row_number() over (order by events.event_at, events.event_id) as step,
    busiest.vehicle,
    events.event_at,
    {{ mask_place('events.latitude') }} as latitude,
    {{ mask_place('events.longitude') }} as longitude
from {{ ref('fact_vehicle_events') }} as events
join {{ ref('dim_vehicle') }} as vehicles on events.vehicle_key = vehicles.vehicle_key
join busiest on mask_hash(vehicles.vehicle_id) = busiest.vehicle
where events.latitude is not null
    and events.event_at > busiest.last_event_at - interval '1 hour'
