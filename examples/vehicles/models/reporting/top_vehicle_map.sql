-- The same path as GeoJSON: one feature that any map draws.
select
    'Feature' as type,
    named_struct(
        'type', 'LineString',
        'coordinates', array_agg(make_array(longitude, latitude) order by step)
    ) as geometry,
    named_struct('vehicle', vehicle, 'events', count(*), 'until', max(event_at)) as properties
from {{ ref('top_vehicle_path') }}
group by vehicle
